// How much memory this process may use and how much it uses: the tighter of its control group's
// limit (version 2, or 1) and RLIMIT_AS (against mapped memory). Against the group's limit stands
// the greater of resident memory and what the group is charged with less its inactive page cache,
// which can be taken back: that has the kernel's buffers of our sockets too. Control thread.
#pragma once
#include <stdint.h>

#define MEMORY_PATH_MAX 1024

struct memory_use {
    uint64_t used_bytes, limit_bytes; // limit 0: there is none
};

struct memory_cgroup {
    uint64_t limit_bytes; // the tightest from its own group up; 0 = there is none
    uint32_t version;
    char folder[MEMORY_PATH_MAX]; // of its own group's files; "" = they are not there
};

// cgroup_file: /proc/self/cgroup; mount: /sys/fs/cgroup (tests have their own).
void memory_cgroup_find(const char *cgroup_file, const char *mount, struct memory_cgroup *out);
// RLIMIT_AS is asked for each time, the control group's limit is what the caller found at start.
void memory_read(const struct memory_cgroup *g, struct memory_use *out);
// The share in permille, of what is left when `reserve_bytes` of the used can be used again.
uint32_t memory_permille(const struct memory_use *m, uint64_t reserve_bytes);
