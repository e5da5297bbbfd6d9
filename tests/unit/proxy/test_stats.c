// Numbers of names are stable; entries appear when first used and are seen by the reader.
#include "proxy/stats.h"
#include "test.h"

TEST(stats_numbers_are_stable)
{
    struct stat_registry r;
    stat_registry_init(&r);
    uint32_t a = stat_register(&r, STAT_CLUSTER, SLICE("a")),
             b = stat_register(&r, STAT_ROUTE, SLICE("a"));
    EXPECT(a != b);
    for (int i = 0; i < 1000; i++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "n%d", i);
        stat_register(&r, STAT_ROUTE, (struct slice){name, (size_t)n});
    }
    EXPECT_EQ(stat_register(&r, STAT_CLUSTER, SLICE("a")), a);
    EXPECT_EQ(stat_register(&r, STAT_ROUTE, SLICE("a")), b);
    EXPECT_EQ(r.count, 1002);
    stat_registry_fini(&r);
}

TEST(stats_entries_are_made_on_first_use)
{
    struct stat_table *t = stat_table_create();
    EXPECT(stat_peek(t, 70) == NULL);
    counter_add(&stat_get(t, 70)->rq_total, 3);
    EXPECT_EQ(counter_read(&stat_peek(t, 70)->rq_total), 3);
    EXPECT(stat_peek(t, 64) != NULL);
    EXPECT(stat_peek(t, 63) == NULL);
    EXPECT(stat_get(t, STAT_CHUNK * STAT_CHUNKS) == NULL);
    stat_table_destroy(t);
}

static bool held(void *table, uint32_t id)
{
    return stat_is_held(table, id);
}

static void forget(void *table, uint32_t id)
{
    stat_clear(table, id);
}

TEST(stats_of_names_that_are_gone_are_forgotten_and_their_numbers_used_again)
{
    struct stat_registry r;
    struct stat_table *t = stat_table_create();
    stat_registry_init(&r);
    stat_registry_begin(&r);
    uint32_t kept = stat_register(&r, STAT_ROUTE, SLICE("kept"));
    uint32_t gone = stat_register(&r, STAT_ROUTE, SLICE("gone"));
    counter_add(&stat_get(t, kept)->rq_total, 1);
    counter_add(&stat_get(t, gone)->rq_total, 2);
    stat_registry_begin(&r);
    EXPECT_EQ(stat_register(&r, STAT_ROUTE, SLICE("kept")), kept);
    EXPECT(stat_current(&r, kept) && !stat_current(&r, gone));
    EXPECT_EQ(counter_read(&stat_get(t, gone)->rq_total), 2); // somebody may still count
    stat_registry_collect(&r, held, forget, t);
    EXPECT_EQ(counter_read(&stat_get(t, kept)->rq_total), 1);
    EXPECT_EQ(counter_read(&stat_get(t, gone)->rq_total), 0);
    stat_registry_begin(&r);
    EXPECT_EQ(stat_register(&r, STAT_CLUSTER, SLICE("new")), gone);
    EXPECT_EQ(r.names[gone].born, 3);
    EXPECT_EQ(r.count, 2);
    stat_registry_collect(&r, held, forget, t); // "kept" goes
    EXPECT_EQ(stat_register(&r, STAT_ROUTE, SLICE("kept")), kept);
    stat_registry_fini(&r);
    stat_table_destroy(t);
}

TEST(stats_of_a_name_that_is_held_stay_until_it_is_released)
{
    struct stat_registry r;
    struct stat_table *t = stat_table_create();
    stat_registry_init(&r);
    stat_registry_begin(&r);
    uint32_t gone = stat_register(&r, STAT_ROUTE, SLICE("gone"));
    struct stat_entry *e = stat_get(t, gone);
    counter_add(&e->rq_active, 1);
    stat_hold(e);
    stat_registry_begin(&r);
    stat_registry_collect(&r, held, forget, t);
    EXPECT_EQ(counter_read(&e->rq_active), 1);
    EXPECT(stat_register(&r, STAT_ROUTE, SLICE("new")) != gone);
    stat_release(e);
    stat_registry_collect(&r, held, forget, t);
    EXPECT_EQ(counter_read(&e->rq_active), 0);
    EXPECT_EQ(stat_register(&r, STAT_ROUTE, SLICE("newer")), gone);
    stat_registry_fini(&r);
    stat_table_destroy(t);
}
