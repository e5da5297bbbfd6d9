// Two proofs of the grace period: all interleavings of a small model, and threads.
#include "core/rcu.h"
#include "test.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

// --- The model -------------------------------------------------------------------------------
// Two workers and a writer as explicit state machines over shared memory with a store buffer for
// each thread (x86's TSO; the strongest reordering that the orders in rcu.c must survive there).
// A worker: online, read the pointer, use it, quiescent, read, use, offline; twice. The writer:
// publishes objects 1 and 2 in turn and frees the one before when every slot has passed. The
// search visits every reachable state and looks for a worker that uses a freed object.

enum { WORKERS = 2, OBJECTS = 3, BUFFER = 3 };
enum { AT_EPOCH, AT_POINTER, AT_SLOT, AT_COUNT = AT_SLOT + WORKERS };

struct thread_state {
    uint8_t pc, reg, held; // held: 0 = none, else object + 1
    uint8_t buffered; // entries in the store buffer
    uint8_t where[BUFFER], what[BUFFER];
};

struct state {
    uint8_t memory[AT_COUNT];
    uint8_t freed; // bit per object
    struct thread_state t[WORKERS + 1];
};

struct model {
    bool fence_online; // rule 1; without it the model must fail
    bool drop_at_quiescent; // without it the worker keeps what it read before, and must fail
};

static uint8_t load(const struct state *s, int thread, uint8_t where)
{
    const struct thread_state *t = &s->t[thread];
    for (int i = t->buffered - 1; i >= 0; i--) // its own stores first
        if (t->where[i] == where)
            return t->what[i];
    return s->memory[where];
}

static bool store(struct state *s, int thread, uint8_t where, uint8_t what)
{
    struct thread_state *t = &s->t[thread];
    if (t->buffered == BUFFER)
        return false;
    t->where[t->buffered] = where;
    t->what[t->buffered++] = what;
    return true;
}

static void drain_one(struct state *s, int thread)
{
    struct thread_state *t = &s->t[thread];
    s->memory[t->where[0]] = t->what[0];
    t->buffered--;
    for (int i = 0; i < t->buffered; i++) {
        t->where[i] = t->where[i + 1];
        t->what[i] = t->what[i + 1];
    }
    t->where[t->buffered] = t->what[t->buffered] = 0; // canonical
}

// One instruction of a worker; false when it cannot run now. *bad is set by a use after free.
static bool step_worker(const struct model *m, struct state *s, int i, bool *bad)
{
    struct thread_state *t = &s->t[i];
    uint8_t slot = (uint8_t)(AT_SLOT + i);
    switch (t->pc % 10) {
    case 0: // rcu_online
        if (t->pc >= 20)
            return false; // twice round is enough
        t->reg = load(s, i, AT_EPOCH);
        break;
    case 1:
        if (!store(s, i, slot, t->reg))
            return false;
        break;
    case 2:
        if (m->fence_online && t->buffered)
            return false; // a fence waits for the buffer
        break;
    case 3:
    case 6: // reads the published pointer
        if (m->drop_at_quiescent || !t->held)
            t->held = (uint8_t)(load(s, i, AT_POINTER) + 1);
        break;
    case 4:
    case 7:
    case 8: // uses it
        *bad |= (s->freed >> (t->held - 1)) & 1;
        break;
    case 5: // rcu_quiescent: an acquire load and a release store, plain on this machine
        if (!store(s, i, slot, load(s, i, AT_EPOCH)))
            return false;
        break;
    case 9: // rcu_offline
        t->held = 0;
        if (!store(s, i, slot, 0))
            return false;
        break;
    }
    t->pc++;
    return true;
}

static bool step_writer(struct state *s)
{
    const int i = WORKERS;
    struct thread_state *t = &s->t[i];
    uint8_t round = t->pc / 5; // publishes object round + 1, frees object round
    if (round == OBJECTS - 1)
        return false;
    switch (t->pc % 5) {
    case 0:
        if (!store(s, i, AT_POINTER, (uint8_t)(round + 1)))
            return false;
        break;
    case 1: // rcu_advance: a locked instruction, so the buffer is empty around it
        if (t->buffered)
            return false;
        t->reg = ++s->memory[AT_EPOCH];
        break;
    case 2:
    case 3: { // rcu_passed, one slot after the other; a failed look is looked again
        uint8_t e = load(s, i, (uint8_t)(AT_SLOT + t->pc % 5 - 2));
        if (e != 0 && e < t->reg)
            return false;
        break;
    }
    case 4:
        s->freed |= (uint8_t)(1 << round);
        break;
    }
    t->pc++;
    return true;
}

#define SEEN_BITS 20
static struct state *seen;
static uint32_t seen_count;
static struct state *stack;
static uint32_t stack_count, stack_cap;

static bool visit(const struct state *s)
{
    static const struct state empty;
    const uint8_t *b = (const uint8_t *)s;
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ b[i]) * 1099511628211ull;
    for (uint32_t at = (uint32_t)(h >> 20);; at++) {
        struct state *slot = &seen[at & ((1u << SEEN_BITS) - 1)];
        if (memcmp(slot, s, sizeof(*s)) == 0)
            return false;
        if (memcmp(slot, &empty, sizeof(empty)) != 0)
            continue;
        *slot = *s;
        seen_count++;
        break;
    }
    if (stack_count == stack_cap) {
        stack_cap = stack_cap ? stack_cap * 2 : 1024;
        stack = realloc(stack, stack_cap * sizeof(*stack));
    }
    stack[stack_count++] = *s;
    return true;
}

// Returns whether some interleaving uses a freed object.
static bool explore(const struct model *m)
{
    struct state start = {.memory = {[AT_EPOCH] = 1}};
    bool bad = false;
    seen = calloc(1u << SEEN_BITS, sizeof(*seen));
    seen_count = stack_count = 0;
    visit(&start);
    while (stack_count && !bad && seen_count < (1u << SEEN_BITS) / 2) {
        struct state s = stack[--stack_count];
        for (int i = 0; i <= WORKERS; i++) {
            struct state n = s;
            if (i < WORKERS ? step_worker(m, &n, i, &bad) : step_writer(&n))
                visit(&n);
            if (s.t[i].buffered) { // the memory system may act at any time
                n = s;
                drain_one(&n, i);
                visit(&n);
            }
        }
    }
    EXPECT(bad || stack_count == 0); // searched to the end
    free(seen);
    free(stack);
    stack = NULL;
    stack_cap = 0;
    return bad;
}

TEST(rcu_model_no_reader_holds_a_freed_object)
{
    EXPECT(!explore(&(struct model){.fence_online = true, .drop_at_quiescent = true}));
    EXPECT(seen_count > 10000); // it did search
    printf("  %u states\n", seen_count);
}

TEST(rcu_model_fails_without_the_fence)
{
    EXPECT(explore(&(struct model){.fence_online = false, .drop_at_quiescent = true}));
}

TEST(rcu_model_fails_when_a_pointer_is_kept_over_quiescent)
{
    EXPECT(explore(&(struct model){.fence_online = true, .drop_at_quiescent = false}));
}

// --- Threads ---------------------------------------------------------------------------------

#define THREADS 3
#define SWAPS 3000

struct object {
    uint64_t a, b; // equal while alive
};

static struct rcu rcu;
static _Atomic(struct object *) published;
static _Atomic bool stop;
static _Atomic uint64_t wrong, reads;

static void read_some(void)
{
    uint64_t n = 0;
    for (int i = 0; i < 20; i++) {
        struct object *o = atomic_load_explicit(&published, memory_order_acquire);
        n += o->a != o->b;
    }
    atomic_fetch_add(&wrong, n);
    atomic_fetch_add(&reads, 20);
}

static void *reader(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (uint32_t turn = 0; !atomic_load(&stop); turn++) {
        rcu_online(&rcu, id);
        for (uint32_t i = 0; i < turn % 4 + 1; i++) {
            read_some();
            rcu_quiescent(&rcu, id);
        }
        read_some();
        rcu_offline(&rcu, id);
    }
    return NULL;
}

TEST(rcu_threads_see_living_objects)
{
    pthread_t t[THREADS];
    rcu_init(&rcu, THREADS);
    atomic_store(&stop, false);
    struct object *o = malloc(sizeof(*o));
    *o = (struct object){1, 1};
    atomic_store(&published, o);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, reader, (void *)i);
    while (atomic_load(&reads) < 1000) // or the swaps are over before anybody reads
        sched_yield();
    for (uint64_t n = 2; n < SWAPS; n++) {
        struct object *new = malloc(sizeof(*new));
        *new = (struct object){n, n};
        struct object *old = atomic_exchange(&published, new);
        uint64_t epoch = rcu_advance(&rcu);
        while (!rcu_passed(&rcu, epoch))
            sched_yield();
        old->b = 0; // a reader that still looks sees it, and so do the sanitizers
        free(old);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    EXPECT_EQ(atomic_load(&wrong), 0);
    EXPECT(atomic_load(&reads) > 0);
    free(atomic_load(&published));
}
