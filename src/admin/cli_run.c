// `sluice run`: checks the machine, starts the workers, puts the first configuration into
// service and hands over to the control loop; in the end stops everything. Main thread.
#include "admin/cli.h"
#include "admin/control.h"
#include "core/check.h"
#include "core/selfcheck.h"
#include "route/regex.h"
#include "tls/cert.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SELFCHECK_CONNECTIONS 10000 // what a machine should be able to carry without being asked

struct run {
    const struct cli_options *o;
    struct runtime *runtime;
    struct access_log *access_log;
    struct admin *admin;
    struct watch *watch;
    uint32_t workers;
    int signal_fd;
    uint32_t errors, warnings; // found by the first load
};

// What is missing is said as a sentence of its own too, whatever the log level.
static bool machine_is_fit(const struct run *r)
{
    struct selfcheck c;
    selfcheck_run(&c, &(struct selfcheck_wants){.connections = SELFCHECK_CONNECTIONS,
                                                .workers = r->workers,
                                                .ktls = r->o->ktls,
                                                .no_udp = r->o->no_http3});
    selfcheck_log(&c);
    for (uint32_t i = 0; i < c.count; i++)
        if (c.items[i].status == SELFCHECK_MISSING)
            fprintf(stderr, "sluice: cannot run here: %s\n", c.items[i].text);
    return selfcheck_passed(&c);
}

// Before any thread exists, so that all of them inherit the mask.
static bool take_over_signals(struct run *r)
{
    sigset_t set;
    control_signals(&set);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return false;
    r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signal_fd < 0)
        log_error("start_failed", "what=signalfd reason=\"%s\"", strerror(errno));
    return r->signal_fd >= 0;
}

static bool open_access_log(struct run *r)
{
    char error[256];
    const struct cli_options *o = r->o;
    if (!o->access_log)
        return true;
    struct access_log_config cfg = {o->access_log, o->access_log_format, o->access_log_custom,
                                    r->workers};
    if (access_log_create(&cfg, &r->access_log, error, sizeof(error)) == OK)
        return true;
    fprintf(stderr, "sluice: %s\n", error);
    return false;
}

static bool start_workers(struct run *r)
{
    const struct cli_options *o = r->o;
    struct runtime_config cfg = {
        .inputs = o->inputs,
        .input_count = o->input_count,
        .load = {.strict = o->strict,
                 .labels = o->labels,
                 .regex_is_valid = regex_is_valid,
                 .credential_is_valid = cert_is_valid},
        .labels = o->labels,
        .workers = r->workers,
        .drain_time_ns = o->drain_time_ns,
        .any_alpn = o->any_alpn,
        .identity = o->identity,
        .look_at = {[L4_MONGO] = o->look_at[L4_MONGO],
                    [L4_MYSQL] = o->look_at[L4_MYSQL],
                    [L4_REDIS] = o->look_at[L4_REDIS]},
        .proxy_sources = o->proxy_sources,
        .proxy_source_count = o->proxy_source_count,
        .ktls = o->ktls == KTLS_ON,
        .head_timeout_ns = o->head_timeout_ns,
        .idle_timeout_ns = o->idle_timeout_ns,
        .stall_timeout_ns = o->stall_timeout_ns,
        .udp_idle_timeout_ns = o->udp_idle_timeout_ns,
        .max_udp_sessions = o->udp_sessions,
        .on_exchange_end = r->access_log ? access_log_exchange : NULL,
        .on_flow_end = r->access_log ? access_log_flow : NULL,
        .on_end_arg = r->access_log,
    };
    return runtime_start(r->runtime, &cfg) == OK;
}

// The admin side, then the documents: what either lacks is told together.
static bool start_serving(struct run *r)
{
    struct admin_config cfg = {r->o->admin, r->o->status, r->o->metrics, r->access_log};
    struct findings findings;
    findings_init(&findings);
    uint32_t unreachable = admin_create(r->runtime, &cfg, &findings, &r->admin);
    enum err e = runtime_load(r->runtime, &findings);
    findings_print(&findings, stderr);
    uint32_t reasons = e != OK ? findings.errors : unreachable;
    if (reasons)
        fprintf(stderr, "sluice: not started: %u error%s\n", reasons, reasons == 1 ? "" : "s");
    r->errors = findings.errors;
    r->warnings = findings.warnings;
    findings_fini(&findings);
    return reasons == 0;
}

static int serve(struct run *r)
{
    const struct snapshot *s = atomic_load(&r->runtime->current);
    log_event(control_served_level(r->errors), "ready",
              "workers=%u listeners=%u routes=%u clusters=%u ms=%.1f errors=%u warnings=%u%s",
              r->runtime->worker_count, s->routes.listener_count, s->routes.route_count,
              s->routes.clusters.count, (double)s->built_ns / 1e6, r->errors, r->warnings,
              control_served_hint(r->errors));
    control_note_nothing_served(s);
    struct control_config cfg = {r->runtime, r->admin,     r->access_log,
                                 r->watch,   r->signal_fd, r->o->drain_time_ns};
    return control_run(&cfg);
}

int cli_run(const struct cli_options *o)
{
    struct run r = {.o = o, .signal_fd = -1};
    int status = CLI_EXIT_FAILED;
    log_set_level(o->log_level);
    r.workers = o->workers ? o->workers : worker_cpu_count();
    r.runtime = aligned_alloc(64, (sizeof(*r.runtime) + 63u) & ~(size_t)63u);
    check(r.runtime);
    r.watch = watch_create(o->inputs, o->input_count, false);
    if (machine_is_fit(&r) && take_over_signals(&r) && open_access_log(&r)) {
        if (start_workers(&r)) {
            if (start_serving(&r))
                status = serve(&r);
        }
        admin_destroy(r.admin);
        runtime_stop(r.runtime);
    }
    watch_destroy(r.watch);
    access_log_destroy(r.access_log); // after the workers, whose last lines it writes
    if (r.signal_fd >= 0)
        close(r.signal_fd);
    free(r.runtime);
    if (status == CLI_EXIT_OK)
        log_info("stopped", "status=%d", status);
    return status;
}
