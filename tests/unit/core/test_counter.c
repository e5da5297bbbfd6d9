#include "core/counter.h"
#include "test.h"

TEST(counter_table_is_complete)
{
    for (int i = 0; i < COUNTER_COUNT; i++) {
        EXPECT(counter_name((enum counter_id)i)[0] != '\0');
        EXPECT(counter_help((enum counter_id)i)[0] != '\0');
        EXPECT(counter_kind((enum counter_id)i) == 'C' || counter_kind((enum counter_id)i) == 'G');
    }
    EXPECT_STR(counter_name(COUNTER_loop_turns), "loop_turns");
    EXPECT_EQ(counter_kind(COUNTER_buffers_out), 'G');
}

TEST(histogram_bounds_are_inclusive)
{
    static struct histogram h;
    histogram_record(&h, 500000); // 0.5 ms
    histogram_record(&h, 500001);
    histogram_record(&h, 3600000000000ull);
    histogram_record(&h, UINT64_MAX / 2);
    EXPECT_EQ(counter_read(&h.bucket[0]), 1);
    EXPECT_EQ(counter_read(&h.bucket[1]), 1);
    EXPECT_EQ(counter_read(&h.bucket[18]), 1);
    EXPECT_EQ(counter_read(&h.bucket[19]), 1);
}
