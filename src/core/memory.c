// Reads /proc and the control group's files. Owns nothing. Control thread.
#include "core/memory.h"
#include "core/slice.h"
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// Version 1 says "no limit" with a number near 2^63, version 2 with "max".
#define NO_LIMIT (1ull << 60)

static uint64_t limit_of(const char *path)
{
    unsigned long long v = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu", &v) != 1 || v >= NO_LIMIT)
        v = 0;
    fclose(f);
    return v;
}

// The tightest limit from that group up to the root of the mount. Inside a container the path may
// be the host's, which is not there: then the mount's own file is the container's.
static uint64_t tightest(const char *mount, char *group, const char *file)
{
    char path[1024];
    uint64_t least = 0;
    for (;;) {
        snprintf(path, sizeof(path), "%s%s/%s", mount, group, file);
        uint64_t v = limit_of(path);
        if (v && (!least || v < least))
            least = v;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

uint64_t memory_cgroup_limit(const char *cgroup_file, const char *mount)
{
    char line[512], v1[600];
    uint64_t limit = 0;
    FILE *f = fopen(cgroup_file, "re");
    if (!f)
        return 0;
    snprintf(v1, sizeof(v1), "%s/memory", mount);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        char *first = strchr(line, ':'), *path = first ? strchr(first + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        uint64_t v = 0;
        if (first[1] == '\0')
            v = tightest(mount, path, "memory.max");
        else if (strcmp(first + 1, "memory") == 0)
            v = tightest(v1, path, "memory.limit_in_bytes");
        if (v && (!limit || v < limit))
            limit = v;
    }
    fclose(f);
    return limit;
}

void memory_read(uint64_t cgroup_limit_bytes, struct memory_use *out)
{
    unsigned long long mapped = 0, resident = 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct rlimit l;
    FILE *f = fopen("/proc/self/statm", "re");
    *out = (struct memory_use){0, 0};
    if (!f)
        return;
    if (fscanf(f, "%llu %llu", &mapped, &resident) == 2)
        *out = (struct memory_use){resident * page, cgroup_limit_bytes};
    fclose(f);
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
