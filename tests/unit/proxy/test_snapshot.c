// Pins are counted per worker and seen by the control thread.
#include "proxy/snapshot.h"
#include "test.h"

TEST(snapshot_is_pinned_while_any_worker_holds_it)
{
    static struct snapshot s;
    EXPECT(!snapshot_pinned(&s, 4));
    snapshot_pin(&s, 2);
    snapshot_pin(&s, 2);
    EXPECT(snapshot_pinned(&s, 4));
    EXPECT(!snapshot_pinned(&s, 2));
    snapshot_unpin(&s, 2);
    EXPECT(snapshot_pinned(&s, 4));
    snapshot_unpin(&s, 2);
    EXPECT(!snapshot_pinned(&s, 4));
}
