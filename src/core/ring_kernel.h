// What ring.c, ring_probe.c and bufring.c share behind the door: the only header besides
// those files that may name liburing.
#pragma once
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct ring_kernel {
    struct io_uring u;
    uint32_t recv_turn_bytes; // cap of one multishot receive's turn, 0 = the kernel has none
};

// How receive bundles behave on the running kernel, tried once per process.
struct bundle_probe {
    bool works;
    bool eof_consumes; // the completion at the end of a stream takes a buffer out of the ring
};
void ring_probe_bundles(struct bundle_probe *out);
// For what only its version tells: the running kernel is this one or a later one.
bool ring_probe_kernel(unsigned major, unsigned minor);
