// Limits as control groups of both versions write them, in a folder of the test's own.
#include "core/memory.h"
#include "test.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/sluice-memory-XXXXXX";
static char path_buf[512];

static const char *in_root(const char *name)
{
    snprintf(path_buf, sizeof(path_buf), "%s/%s", root, name);
    return path_buf;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(in_root(name), "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        test_fail(__FILE__, __LINE__, "cannot write %s", path_buf);
}

static uint64_t limit(const char *cgroup)
{
    char own[512];
    write_file("cgroup", cgroup);
    snprintf(own, sizeof(own), "%s/cgroup", root);
    return memory_cgroup_limit(own, root);
}

TEST(memory_limit_is_the_tightest_on_the_way_up)
{
    static const char *const folders[] = {"a", "a/b", "memory", "memory/x"};
    static const char *const files[] = {"memory.max", "a/memory.max", "a/b/memory.max",
                                        "memory/memory.limit_in_bytes",
                                        "memory/x/memory.limit_in_bytes", "cgroup"};
    REQUIRE(mkdtemp(root) != NULL);
    for (int i = 0; i < 4; i++)
        mkdir(in_root(folders[i]), 0755);
    EXPECT_EQ(limit("0::/a/b\n"), 0);
    write_file("a/b/memory.max", "max\n");
    EXPECT_EQ(limit("0::/a/b\n"), 0);
    write_file("a/memory.max", "3000000\n");
    EXPECT_EQ(limit("0::/a/b\n"), 3000000);
    write_file("a/b/memory.max", "2000000\n");
    EXPECT_EQ(limit("0::/a/b\n"), 2000000);
    EXPECT_EQ(limit("0::/not/here\n"), 0);
    write_file("memory.max", "5000000\n"); // a container: its own group is the mount's root
    EXPECT_EQ(limit("0::/not/here\n"), 5000000);
    write_file("memory/memory.limit_in_bytes", "9223372036854771712\n");
    EXPECT_EQ(limit("9:name=systemd:/\n4:memory:/x\n3:cpuset:/\n"), 0);
    write_file("memory/x/memory.limit_in_bytes", "4000000\n");
    EXPECT_EQ(limit("9:name=systemd:/\n4:memory:/x\n3:cpuset:/\n"), 4000000);
    EXPECT_EQ(limit("rubbish\n"), 0);
    for (int i = 0; i < 6; i++)
        unlink(in_root(files[i]));
    for (int i = 3; i >= 0; i--)
        rmdir(in_root(folders[i]));
    rmdir(root);
}

TEST(memory_share_leaves_out_what_can_be_used_again)
{
    struct memory_use m = {980, 1000};
    EXPECT_EQ(memory_permille(&m, 0), 980);
    EXPECT_EQ(memory_permille(&m, 100), 880);
    EXPECT_EQ(memory_permille(&m, 5000), 0);
    m.used_bytes = 2000;
    EXPECT_EQ(memory_permille(&m, 0), 1000);
    m.limit_bytes = 0;
    EXPECT_EQ(memory_permille(&m, 0), 0);
}

TEST(memory_of_this_process_is_read)
{
    struct memory_use m;
    memory_read(1ull << 40, &m);
    EXPECT(m.used_bytes > 100000 && m.limit_bytes >= m.used_bytes);
}
