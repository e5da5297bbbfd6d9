// Messages to a worker. Producers push on a lock-free stack; the worker takes all of it with one
// exchange and turns it round. Invariant: whoever finds the stack empty writes the eventfd,
// so a sleeping worker has a wake-up pending whenever the stack is not empty.
#include "core/mailbox.h"
#include "core/check.h"
#include "core/ring.h"
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

// The delivery itself is mailbox_drain's, later in the same turn; this only resets the eventfd,
// which multishot poll would otherwise report at every arming.
static void on_wake(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct mailbox *m = container_of(op, struct mailbox, poll);
    uint64_t ignored;
    (void)bid;
    if (read(m->event_fd, &ignored, sizeof(ignored)) < 0)
        check(errno == EAGAIN || errno == EINTR);
    if (!(flags & OP_MORE) && res != -ECANCELED && !m->stopping)
        ring_poll_multishot(m->ring, &m->poll, m->event_fd, POLLIN);
}

enum err mailbox_init(struct mailbox *m, void *worker)
{
    *m = (struct mailbox){.worker = worker, .poll = {.done = on_wake}};
    m->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return m->event_fd < 0 ? ERR_IO : OK;
}

void mailbox_fini(struct mailbox *m)
{
    check(!m->poll.inflight);
    if (m->event_fd >= 0)
        close(m->event_fd);
    m->event_fd = -1;
}

void mailbox_start(struct mailbox *m, struct ring *r)
{
    m->ring = r;
    ring_poll_multishot(r, &m->poll, m->event_fd, POLLIN);
}

void mailbox_send(struct mailbox *m, struct message *msg)
{
    struct message *head = atomic_load_explicit(&m->head, memory_order_relaxed);
    do {
        msg->next = head;
        // Release: the message's content is seen by the worker that takes it.
    } while (!atomic_compare_exchange_weak_explicit(&m->head, &head, msg, memory_order_release,
                                                    memory_order_relaxed));
    if (head)
        return; // somebody else's wake-up is on its way
    uint64_t one = 1;
    while (write(m->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

void mailbox_drain(struct mailbox *m)
{
    if (!atomic_load_explicit(&m->head, memory_order_relaxed))
        return;
    struct message *newest = atomic_exchange_explicit(&m->head, NULL, memory_order_acquire);
    struct message *oldest = NULL;
    while (newest) {
        struct message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct message *next = oldest->next; // deliver may free it
        oldest->deliver(oldest, m->worker);
        oldest = next;
    }
}

void mailbox_stop(struct mailbox *m)
{
    m->stopping = true;
    if (m->poll.inflight)
        ring_cancel(m->ring, &m->poll);
}
