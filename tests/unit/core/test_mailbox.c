#include "core/mailbox.h"
#include "core/list.h"
#include "core/ring.h"
#include "core/worker.h"
#include "test.h"
#include <stdlib.h>

#define SENDERS 3
#define EACH 20000

struct numbered {
    struct message m;
    uint32_t sender, number;
};

static struct worker worker;
static uint32_t next_number[SENDERS];
static uint32_t delivered, disordered;

static void deliver(struct message *m, void *w)
{
    struct numbered *n = container_of(m, struct numbered, m);
    disordered += n->number != next_number[n->sender]++;
    if (++delivered == SENDERS * EACH)
        worker_request_stop(w);
    free(n);
}

static void *sender(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (uint32_t i = 0; i < EACH; i++) {
        struct numbered *n = malloc(sizeof(*n));
        *n = (struct numbered){.m.deliver = deliver, .sender = id, .number = i};
        mailbox_send(&worker.mailbox, &n->m);
    }
    return NULL;
}

TEST(mailbox_delivers_all_in_each_senders_order)
{
    pthread_t t[SENDERS];
    struct worker_config cfg = {.cpu = -1, .recv_buffers = 16};
    delivered = disordered = 0;
    memset(next_number, 0, sizeof(next_number));
    REQUIRE(worker_init(&worker, &cfg) == OK);
    REQUIRE(worker_start(&worker) == OK);
    for (uintptr_t i = 0; i < SENDERS; i++)
        pthread_create(&t[i], NULL, sender, (void *)i);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(t[i], NULL);
    worker_join(&worker); // the last message asks for it
    EXPECT_EQ(delivered, SENDERS * EACH);
    EXPECT_EQ(disordered, 0);
    worker_fini(&worker);
}
