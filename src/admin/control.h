// The control thread's loop, between start and stop of a running gateway: signals, changed
// documents, reloads, reclaiming snapshots, draining, and the admin servers' turn.
#pragma once
#include "admin/access_log.h"
#include "admin/admin.h"
#include "admin/watch.h"
#include "proxy/runtime.h"
#include <signal.h>

struct control_config {
    struct runtime *runtime;
    struct admin *admin;
    struct access_log *access_log; // may be NULL
    struct watch *watch;           // made before the first load, so that no change falls between
    int signal_fd;
    uint64_t drain_time_ns;
};

void control_signals(sigset_t *out); // what signal_fd is to report, blocked in all threads
// Returns once the gateway has drained (or was told a second time to end): 0.
int control_run(const struct control_config *cfg);
// A warning where nothing is listened on; after each load.
void control_note_nothing_served(const struct snapshot *s);
// How a line tells of a configuration that went into service, whatever errors were found.
enum log_level control_served_level(uint32_t errors);
const char *control_served_hint(uint32_t errors); // " text=…", "" where there is none
// Findings on standard error as `sluice analyze` prints them, errors first, at most `limit` of
// them; infos are left out.
void control_log_findings(const struct findings *f, uint32_t limit);
