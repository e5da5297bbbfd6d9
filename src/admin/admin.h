// The admin side, on the control thread: small HTTP/1.1 servers for listings, metrics and
// readiness. Never touches a worker's data other than counters and the published snapshot.
//
//   admin port      / /listeners /routes /clusters /endpoints /secrets (JSON, ?format=text for
//                   tables) /config_dump /ready /stats/prometheus, POST /drain
//   status port     /healthz/ready /healthz/live
//   metrics port    /stats/prometheus /metrics
#pragma once
#include "core/addr.h"
#include "core/err.h"
#include "proxy/runtime.h"

struct admin;
struct access_log;

struct admin_config {
    struct addr admin, status, metrics;  // len 0 = off
    const struct access_log *access_log; // for its counter; may be NULL
};

// Binds the sockets (port 0 = any; the port bound is logged: event=listening name=admin addr=…).
// Returns how many of them cannot be had, each a finding; 0 is success, *out is NULL otherwise.
uint32_t admin_create(struct runtime *rt, const struct admin_config *cfg, struct findings *findings,
                      struct admin **out) must_use;
void admin_destroy(struct admin *a);
// Serves what is ready within timeout_ms, then returns: the control thread's poll step. extra_fds
// (inotify, signalfd) are polled too; returns a bit mask of those that are readable.
uint32_t admin_poll(struct admin *a, int timeout_ms, const int *extra_fds, uint32_t extra_count);
