// Reads /proc and the control group's files. Owns nothing. Control thread.
#include "core/memory.h"
#include "core/slice.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

// Version 1 says "no limit" with a number near 2^63, version 2 with "max".
#define NO_LIMIT (1ull << 60)
#define FILE_PATH_MAX (MEMORY_PATH_MAX + 32)

// The two versions' names for the same.
struct group_files {
    const char *limit, *usage;
    const char *inactive; // in memory.stat; version 1: with the groups below, as usage has them
};
static const struct group_files version1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                            "total_inactive_file "};
static const struct group_files version2 = {"memory.max", "memory.current", "inactive_file "};

static const struct group_files *files_of(const struct memory_cgroup *g)
{
    return g->version == 1 ? &version1 : &version2;
}

// As much of the file as fits; empty when there is none.
static struct slice read_file(const char *path, char *buf, size_t cap)
{
    size_t len = 0;
    ssize_t n = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return (struct slice){buf, 0};
    while (n > 0 && len < cap) {
        n = read(fd, buf + len, cap - len);
        if (n > 0)
            len += (size_t)n;
    }
    close(fd);
    return (struct slice){buf, len};
}

// The number that `text` begins with.
static bool leading_number(struct slice text, uint64_t *out)
{
    size_t n = 0;
    while (n < text.len && text.ptr[n] >= '0' && text.ptr[n] <= '9')
        n++;
    return slice_to_u64((struct slice){text.ptr, n}, out);
}

static bool number_in(const char *path, uint64_t *out)
{
    char buf[64];
    return leading_number(read_file(path, buf, sizeof(buf)), out);
}

// ---- the group

static uint64_t limit_of(const char *path)
{
    uint64_t v = 0;
    return number_in(path, &v) && v < NO_LIMIT ? v : 0;
}

// The tightest limit from that group up to the root of the mount. Inside a container the path may
// be the host's, which is not there: then the mount's own file is the container's.
static uint64_t tightest(const char *mount, struct slice group, const char *file)
{
    char path[FILE_PATH_MAX];
    uint64_t least = 0;
    for (;;) {
        snprintf(path, sizeof(path), "%s%.*s/%s", mount, SLICE_FMT(group), file);
        uint64_t v = limit_of(path);
        if (v && (!least || v < least))
            least = v;
        if (group.len == 0)
            return least;
        size_t slash = group.len - 1; // the path begins with one
        while (slash > 0 && group.ptr[slash] != '/')
            slash--;
        group.len = slash;
    }
}

// Whose use is asked for: this process's own group, or the mount's root where that is not there.
// Not that of a group above, in which others' use counts as well.
static bool take_folder(struct memory_cgroup *g, const char *mount, struct slice group)
{
    char path[FILE_PATH_MAX];
    uint64_t v;
    int n = snprintf(g->folder, sizeof(g->folder), "%s%.*s", mount, SLICE_FMT(group));
    snprintf(path, sizeof(path), "%s/%s", g->folder, files_of(g)->usage);
    if (n > 0 && (size_t)n < sizeof(g->folder) && number_in(path, &v))
        return true;
    g->folder[0] = '\0';
    return false;
}

static void take_group(struct memory_cgroup *out, uint32_t version, const char *mount,
                       struct slice group)
{
    struct memory_cgroup g = {.version = version};
    g.limit_bytes = tightest(mount, group, files_of(&g)->limit);
    if (!g.limit_bytes || (out->limit_bytes && out->limit_bytes <= g.limit_bytes))
        return;
    if (!take_folder(&g, mount, group))
        take_folder(&g, mount, (struct slice){group.ptr, 0});
    *out = g;
}

// A line of /proc/self/cgroup: HIERARCHY:CONTROLLERS:PATH.
static void take_line(struct memory_cgroup *out, const char *mount, struct slice line)
{
    char v1[MEMORY_PATH_MAX];
    struct slice hierarchy, controllers;
    if (!slice_split(&line, ':', &hierarchy) || !slice_split(&line, ':', &controllers) || !line.ptr)
        return;
    if (slice_eq(line, SLICE("/")))
        line.len = 0;
    snprintf(v1, sizeof(v1), "%s/memory", mount);
    if (controllers.len == 0)
        take_group(out, 2, mount, line);
    else if (slice_eq(controllers, SLICE("memory")))
        take_group(out, 1, v1, line);
}

void memory_cgroup_find(const char *cgroup_file, const char *mount, struct memory_cgroup *out)
{
    char buf[8192];
    struct slice text = read_file(cgroup_file, buf, sizeof(buf)), line;
    *out = (struct memory_cgroup){0};
    while (slice_split(&text, '\n', &line))
        take_line(out, mount, line);
}

// ---- use

static uint64_t inactive_file(const struct memory_cgroup *g)
{
    char path[FILE_PATH_MAX], buf[8192];
    struct slice name = slice_of(files_of(g)->inactive), line;
    uint64_t v = 0;
    snprintf(path, sizeof(path), "%s/memory.stat", g->folder);
    struct slice text = read_file(path, buf, sizeof(buf));
    while (slice_split(&text, '\n', &line))
        if (slice_has_prefix(line, name) && leading_number(slice_from(line, name.len), &v))
            return v;
    return 0;
}

// What the kernel counts for the group and cannot take back at once: also socket buffers, page
// tables and other memory of its own, which are nobody's resident pages.
static uint64_t group_use(const struct memory_cgroup *g)
{
    char path[FILE_PATH_MAX];
    uint64_t use = 0;
    snprintf(path, sizeof(path), "%s/%s", g->folder, files_of(g)->usage);
    if (!g->limit_bytes || !g->folder[0] || !number_in(path, &use))
        return 0;
    uint64_t cached = inactive_file(g);
    return use > cached ? use - cached : 0;
}

static bool read_statm(uint64_t *mapped, uint64_t *resident)
{
    char buf[128];
    struct slice text = read_file("/proc/self/statm", buf, sizeof(buf)), first;
    return slice_split(&text, ' ', &first) && text.ptr && leading_number(first, mapped) &&
           leading_number(text, resident);
}

void memory_read(const struct memory_cgroup *g, struct memory_use *out)
{
    uint64_t mapped = 0, resident = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct rlimit l;
    *out = (struct memory_use){0, 0};
    if (!read_statm(&mapped, &resident))
        return;
    uint64_t counted = group_use(g);
    resident *= page;
    *out = (struct memory_use){counted > resident ? counted : resident, g->limit_bytes};
    if (getrlimit(RLIMIT_AS, &l) < 0 || l.rlim_cur == RLIM_INFINITY || l.rlim_cur == 0)
        return;
    struct memory_use as = {mapped * page, l.rlim_cur};
    if (memory_permille(&as, 0) > memory_permille(out, 0))
        *out = as;
}

uint32_t memory_permille(const struct memory_use *m, uint64_t reserve_bytes)
{
    if (!m->limit_bytes || m->used_bytes <= reserve_bytes)
        return 0;
    uint64_t used = m->used_bytes - reserve_bytes;
    return used >= m->limit_bytes ? 1000 : (uint32_t)(used * 1000 / m->limit_bytes);
}
