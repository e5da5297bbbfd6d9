// How much memory this process may use and how much it uses: the tighter of its control group's
// limit (version 2, or 1; against resident memory, for the page cache can be taken back) and
// RLIMIT_AS (against mapped memory). Control thread.
#pragma once
#include <stdint.h>

struct memory_use {
    uint64_t used_bytes, limit_bytes; // limit 0: there is none
};

// cgroup_file: /proc/self/cgroup; mount: /sys/fs/cgroup (tests have their own).
uint64_t memory_cgroup_limit(const char *cgroup_file, const char *mount);
// RLIMIT_AS is asked for each time, the control group's limit is what the caller found at start.
void memory_read(uint64_t cgroup_limit_bytes, struct memory_use *out);
// The share in permille, of what is left when `reserve_bytes` of the used can be used again.
uint32_t memory_permille(const struct memory_use *m, uint64_t reserve_bytes);
