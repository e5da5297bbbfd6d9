// Messages to a worker from any thread: a lock-free multi-producer stack that the worker takes
// whole, in order of arrival, once per turn; an eventfd wakes it when it sleeps.
#pragma once
#include "core/err.h"
#include "core/op.h"
#include <stdatomic.h>
#include <stdbool.h>

struct ring;

struct message {
    struct message *next;
    void (*deliver)(struct message *m, void *worker); // runs on the worker; owns m from then on
};

struct mailbox {
    _Atomic(struct message *) head;
    int event_fd;
    struct op poll;
    struct ring *ring;
    void *worker;
    bool stopping;
};

enum err mailbox_init(struct mailbox *m, void *worker) must_use;
void mailbox_fini(struct mailbox *m);
void mailbox_start(struct mailbox *m, struct ring *r);     // on the worker's thread
void mailbox_send(struct mailbox *m, struct message *msg); // any thread
void mailbox_drain(struct mailbox *m);                     // the worker, once per turn
void mailbox_stop(struct mailbox *m); // cancels the poll; its op completes later
