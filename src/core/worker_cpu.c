// How many CPUs this process may use, and which. Owns nothing; start-up only.
#include "core/slice.h"
#include "core/worker.h"
#include <sched.h>
#include <stdio.h>

int worker_nth_cpu(uint32_t n)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((unsigned)cpu, &set) && n-- == 0)
            return cpu;
    return -1;
}

// CPUs' worth of quota in a cpu.max file ("max 100000" or "150000 100000"), rounded up; 0 = none.
static uint32_t quota_of(const char *path)
{
    unsigned long long quota, period;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int n = fscanf(f, "%llu %llu", &quota, &period);
    fclose(f);
    if (n != 2 || period == 0)
        return 0;
    return (uint32_t)((quota + period - 1) / period);
}

// The tightest quota from the process's cgroup (version 2) up to the root.
static uint32_t cgroup_quota(void)
{
    char line[512], path[600];
    uint32_t least = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f)) {
        struct slice s = slice_of(line);
        if (!slice_has_prefix(s, SLICE("0::")))
            continue;
        line[strcspn(line, "\n")] = '\0';
        for (char *dir = line + 3;; *strrchr(dir, '/') = '\0') {
            snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", dir);
            uint32_t q = quota_of(path);
            if (q && (!least || q < least))
                least = q;
            if (!strrchr(dir, '/'))
                break;
        }
    }
    fclose(f);
    return least;
}

uint32_t worker_cpu_count(void)
{
    cpu_set_t set;
    uint32_t n = 1, quota = cgroup_quota();
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        n = (uint32_t)CPU_COUNT(&set);
    return quota && quota < n ? quota : n;
}
