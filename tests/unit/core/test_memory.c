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

static struct memory_cgroup find(const char *cgroup)
{
    char own[512];
    struct memory_cgroup g;
    write_file("cgroup", cgroup);
    snprintf(own, sizeof(own), "%s/cgroup", root);
    memory_cgroup_find(own, root, &g);
    return g;
}

static uint64_t limit(const char *cgroup)
{
    return find(cgroup).limit_bytes;
}

static uint64_t used(const char *cgroup)
{
    struct memory_cgroup g = find(cgroup);
    struct memory_use m;
    memory_read(&g, &m);
    return m.used_bytes;
}

TEST(memory_limit_is_the_tightest_on_the_way_up)
{
    static const char *const folders[] = {"a", "a/b", "memory", "memory/x"};
    static const char *const files[] = {"memory.max",
                                        "a/memory.max",
                                        "a/b/memory.max",
                                        "memory/memory.limit_in_bytes",
                                        "memory/x/memory.limit_in_bytes",
                                        "cgroup"};
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

// Far more than this process has resident.
#define TB "000000000000"

static void remove_all(const char *const *names, int count)
{
    for (int i = count - 1; i >= 0; i--)
        if (unlink(in_root(names[i])) != 0)
            rmdir(in_root(names[i]));
    rmdir(root);
}

static void new_root(void)
{
    memset(root + strlen(root) - 6, 'X', 6);
    REQUIRE(mkdtemp(root) != NULL);
}

TEST(memory_of_a_version_2_group_is_what_it_is_charged_less_inactive_pages)
{
    static const char *const names[] = {"cgroup",           "a",          "a/memory.max",
                                        "a/memory.current", "a/b",        "a/b/memory.current",
                                        "a/b/memory.stat",  "memory.max", "memory.current"};
    new_root();
    mkdir(in_root("a"), 0755);
    mkdir(in_root("a/b"), 0755);
    write_file("a/memory.max", "9" TB "\n");
    write_file("a/memory.current", "8" TB "\n"); // of others as well
    uint64_t resident = used("0::/a/b\n");
    EXPECT(resident > 100000 && resident < 1000000000000);
    write_file("a/b/memory.current", "5" TB "\n");
    EXPECT_EQ(used("0::/a/b\n"), 5000000000000);
    write_file("a/b/memory.stat", "anon 1\nfile 7" TB "\nsock 3\ninactive_file 2" TB "\nslab 9\n");
    EXPECT_EQ(used("0::/a/b\n"), 3000000000000);
    write_file("a/b/memory.stat", "inactive_file 6" TB "\n"); // read a moment later
    EXPECT(used("0::/a/b\n") < 1000000000000);
    write_file("memory.max", "4" TB "\n"); // a container: its own group is the mount's root
    write_file("memory.current", "1" TB "\n");
    EXPECT_EQ(used("0::/not/here\n"), 1000000000000);
    EXPECT_EQ(used("0::/\n"), 1000000000000);
    remove_all(names, 9);
}

TEST(memory_of_a_version_1_group_is_what_it_is_charged_less_inactive_pages)
{
    static const char *const names[] = {"cgroup",
                                        "memory",
                                        "memory/x",
                                        "memory/x/memory.limit_in_bytes",
                                        "memory/x/memory.usage_in_bytes",
                                        "memory/x/memory.stat"};
    new_root();
    mkdir(in_root("memory"), 0755);
    mkdir(in_root("memory/x"), 0755);
    write_file("memory/x/memory.usage_in_bytes", "5" TB "\n");
    EXPECT(used("4:memory:/x\n") < 1000000000000); // without a limit nobody asks
    write_file("memory/x/memory.limit_in_bytes", "9" TB "\n");
    EXPECT_EQ(used("5:cpu:/x\n4:memory:/x\n0::/\n"), 5000000000000);
    write_file("memory/x/memory.stat", "inactive_file 1" TB "\ntotal_inactive_file 4" TB "\n");
    EXPECT_EQ(used("5:cpu:/x\n4:memory:/x\n0::/\n"), 1000000000000);
    remove_all(names, 6);
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
    struct memory_cgroup g = {.limit_bytes = 1ull << 40};
    struct memory_use m;
    memory_read(&g, &m);
    EXPECT(m.used_bytes > 100000 && m.limit_bytes >= m.used_bytes);
}
