// Old snapshots are looked at less and less often while something holds them.
#include "core/check.h"
#include "proxy/runtime.h"
#include "test.h"
#include <stdlib.h>

static struct snapshot *make(void)
{
    struct snapshot *s = aligned_alloc(64, (sizeof(*s) + 63u) & ~(size_t)63u);
    check(s);
    memset(s, 0, sizeof(*s));
    arena_init(&s->arena, 0);
    return s;
}

TEST(reclaim_backs_off_while_a_snapshot_is_pinned)
{
    static struct runtime rt;
    rcu_init(&rt.rcu, 1);
    stat_registry_init(&rt.stats);
    rt.worker_count = 1;
    struct snapshot *s = make();
    snapshot_pin(s, 0);
    s->retire_epoch = rcu_advance(&rt.rcu);
    rt.retired = s;
    atomic_store(&rt.snapshots_alive, 2);
    static const uint32_t waits[] = {20, 40, 80, 160, 320, 640, 1000, 1000};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        runtime_reclaim(&rt);
        EXPECT_EQ(rt.reclaim_wait_ms, waits[i]);
        EXPECT(rt.retired == s);
    }
    snapshot_unpin(s, 0);
    runtime_reclaim(&rt);
    EXPECT(rt.retired == NULL);
    EXPECT_EQ(atomic_load(&rt.snapshots_alive), 1);
    stat_registry_fini(&rt.stats);
}
