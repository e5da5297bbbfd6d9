// Time is virtual: it moves by `turn` with each pick, and an item of weight w has a turn every
// total / w of it, each beginning where the one before ended. Of those whose turn has begun the one
// that must end first is picked, so that heavy items come early and never twice too soon.
// Invariants: an index is in exactly one heap; remainders are carried, so that w turns take exactly
// `total` and the order repeats.
#include "upstream/wrr.h"
#include "core/check.h"
#include <stdbool.h>
#include <stdlib.h>

// A pick is so many units of time, since turns need not begin at whole picks; fewer where times
// would not fit.
#define TURN 4096u
#define MOST_TIME (1ull << 60)

// Times wrap round: they are compared by their distance.
static bool before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

static bool sooner(const struct wrr *w, const uint32_t *heap, uint32_t a, uint32_t b)
{
    const struct wrr_item *x = &w->items[a], *y = &w->items[b];
    uint64_t at = heap == w->due ? x->deadline : x->start;
    uint64_t bt = heap == w->due ? y->deadline : y->start;
    return at == bt ? a < b : before(at, bt);
}

static void push(const struct wrr *w, uint32_t *heap, uint32_t *count, uint32_t item)
{
    uint32_t at = (*count)++;
    while (at > 0 && sooner(w, heap, item, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static uint32_t pop(const struct wrr *w, uint32_t *heap, uint32_t *count)
{
    uint32_t first = heap[0], item = heap[--*count], at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= *count)
            break;
        if (child + 1 < *count && sooner(w, heap, heap[child + 1], heap[child]))
            child++;
        if (!sooner(w, heap, heap[child], item))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return first;
}

static void set_deadline(const struct wrr *w, struct wrr_item *i)
{
    uint64_t length = w->total * w->turn;
    uint64_t rest = i->rest + length % i->weight;
    i->deadline = i->start + length / i->weight + (rest >= i->weight);
    i->rest = (uint32_t)(rest >= i->weight ? rest - i->weight : rest);
}

static void place(struct wrr *w, uint32_t item)
{
    if (before(w->now, w->items[item].start))
        push(w, w->later, &w->later_count, item);
    else
        push(w, w->due, &w->due_count, item);
}

static void collect_due(struct wrr *w)
{
    while (w->later_count && !before(w->now, w->items[w->later[0]].start))
        push(w, w->due, &w->due_count, pop(w, w->later, &w->later_count));
}

struct wrr *wrr_create(uint32_t count)
{
    check(count > 0);
    struct wrr *w = calloc(1, sizeof(*w));
    check(w);
    w->count = count;
    w->items = calloc(count, sizeof(*w->items));
    w->due = calloc(count, sizeof(*w->due));
    w->later = calloc(count, sizeof(*w->later));
    check(w->items && w->due && w->later);
    return w;
}

void wrr_destroy(struct wrr *w)
{
    if (!w)
        return;
    free(w->items);
    free(w->due);
    free(w->later);
    free(w);
}

// How long until its next turn begins, in turns of its own; negative when it has been waiting.
static double turns_ahead(const struct wrr *w, const struct wrr_item *i)
{
    return (double)(int64_t)(i->start - w->now) * i->weight / ((double)w->total * (double)w->turn);
}

// What some were ahead is what others were behind; with those that are gone or new it is not any
// more. Moving `now` by the sum mends that, and leaves the order among those that stay.
void wrr_start(struct wrr *w, const struct wrr *old, const uint32_t *from)
{
    double sum = 0;
    for (uint32_t i = 0; i < w->count; i++)
        w->total += w->items[i].weight;
    w->turn = TURN;
    while (w->turn > 1 && w->total > MOST_TIME / w->turn)
        w->turn /= 2;
    for (uint32_t i = 0; i < w->count; i++) {
        struct wrr_item *item = &w->items[i];
        double ahead = old && from[i] != UINT32_MAX ? turns_ahead(old, &old->items[from[i]]) : 0;
        sum += ahead;
        item->start =
            (uint64_t)(int64_t)(ahead * (double)w->total * (double)w->turn / item->weight);
        set_deadline(w, item);
    }
    w->now = (uint64_t)(int64_t)(sum * (double)w->turn);
    for (uint32_t i = 0; i < w->count; i++)
        place(w, i);
}

uint32_t wrr_next(struct wrr *w)
{
    collect_due(w);
    if (w->due_count == 0) { // only by rounding, after a change
        w->now = w->items[w->later[0]].start;
        collect_due(w);
    }
    uint32_t picked = pop(w, w->due, &w->due_count);
    struct wrr_item *item = &w->items[picked];
    item->start = item->deadline;
    set_deadline(w, item);
    w->now += w->turn;
    place(w, picked);
    return picked;
}
