// Intrusive doubly linked circular list. The head is a node of its own.
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *next, *prev;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void list_init(struct list_node *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list_node *head)
{
    return head->next == head;
}

// A node that list_init or list_remove touched last is not linked.
static inline bool list_linked(const struct list_node *n)
{
    return n->next != n;
}

static inline void list_insert_tail(struct list_node *head, struct list_node *n)
{
    n->prev = head->prev;
    n->next = head;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): list_init ran before
    head->prev->next = n;
    head->prev = n;
}

static inline void list_insert_head(struct list_node *head, struct list_node *n)
{
    n->next = head->next;
    n->prev = head;
    head->next->prev = n;
    head->next = n;
}

static inline void list_remove(struct list_node *n)
{
    n->next->prev = n->prev;
    n->prev->next = n->next;
    n->next = n->prev = n;
}

static inline struct list_node *list_pop_head(struct list_node *head)
{
    struct list_node *n = head->next;
    if (n == head)
        return NULL;
    list_remove(n);
    return n;
}

// Moves all of `from` to the end of `to`; `from` is empty afterwards.
static inline void list_splice_tail(struct list_node *to, struct list_node *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

// NOLINTBEGIN(bugprone-macro-parentheses): pos and tmp are names
#define list_for_each(pos, head) \
    for (struct list_node *pos = (head)->next; pos != (head); pos = pos->next)
#define list_for_each_safe(pos, tmp, head)                                      \
    for (struct list_node *pos = (head)->next, *tmp = pos->next; pos != (head); \
         pos = tmp, tmp = pos->next)
// NOLINTEND(bugprone-macro-parentheses)
