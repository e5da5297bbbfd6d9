// The control loop. Owns nothing; what it drives is borrowed. The main thread, which is the
// control thread: the only one that loads, publishes and reclaims.
#include "admin/control.h"
#include "admin/text.h"
#include "core/clock.h"
#include "core/log.h"
#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define IDLE_MS 1000
#define MEMORY_MS 100 // while there is a limit on memory
#define DRAIN_MS 20
#define FINDINGS_LOGGED 100
#define DISTURBED_MAX 5 // then what was read is taken as it is: somebody never stops writing
#define FINDING_BYTES (64u * 1024u)

struct control {
    struct control_config cfg;
    bool was_polling;
    bool reload_wanted; // by SIGHUP
    uint32_t disturbed; // times in a row
    bool ending, ended;
    uint64_t drain_until_ns;
};

static uint64_t now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

void control_signals(sigset_t *out)
{
    static const int list[] = {SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    sigemptyset(out);
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        sigaddset(out, list[i]);
}

// ---- reload

// One line, by one write(2): as `sluice analyze` prints it, FILE:LINE:COL: error: OBJECT: MESSAGE.
static void log_finding(const struct finding *f)
{
    bool error = f->severity == SEVERITY_ERROR;
    struct text line;
    if (!log_enabled(error ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN))
        return;
    text_init(&line, FINDING_BYTES);
    text_puts(&line, f->pos.file ? f->pos.file : "");
    if (f->pos.file && f->pos.line)
        text_printf(&line, ":%u:%u", f->pos.line, f->pos.column);
    text_puts(&line, f->pos.file ? ": " : "");
    text_puts(&line, error ? "error: " : "warning: ");
    text_puts(&line, f->object);
    text_puts(&line, f->object[0] ? ": " : "");
    text_puts(&line, f->message);
    if (f->code)
        text_printf(&line, " [%s]", f->code);
    for (size_t i = 0; i < line.len; i++) // a document's value must not forge a second line
        if ((unsigned char)line.data[i] < 0x20)
            line.data[i] = ' ';
    text_char(&line, '\n');
    if (write(STDERR_FILENO, line.data, line.len) < 0)
        log_error("finding_not_written", "reason=\"%s\"", strerror(errno));
    text_fini(&line);
}

static void log_of_severity(const struct findings *f, enum severity severity, uint32_t *left)
{
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->items[i].severity != severity)
            continue;
        if (*left == 0)
            return;
        (*left)--;
        log_finding(&f->items[i]);
    }
}

void control_log_findings(const struct findings *f, uint32_t limit)
{
    uint32_t left = limit;
    log_of_severity(f, SEVERITY_ERROR, &left);
    log_of_severity(f, SEVERITY_WARNING, &left);
    if (f->errors + f->warnings > limit)
        log_warn("config_findings_cut", "shown=%u errors=%u warnings=%u hint=\"sluice analyze\"",
                 limit, f->errors, f->warnings);
}

enum log_level control_served_level(uint32_t errors)
{
    return errors ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
}

const char *control_served_hint(uint32_t errors)
{
    return errors ? " text=\"in service, but for what the errors above name\"" : "";
}

static bool disturbed(void *control)
{
    struct control *c = control;
    bool again = c->disturbed < DISTURBED_MAX && watch_disturbed(c->cfg.watch, now_ms());
    c->disturbed = again ? c->disturbed + 1 : 0;
    return again;
}

void control_note_nothing_served(const struct snapshot *s)
{
    if (s->routes.listener_count == 0)
        log_warn("nothing_served", "text=\"no Gateway among the documents opens a port for this "
                                   "node: no client is served\"");
}

// The files that the configuration in service names for TLS. Those that are new to the watch may
// have changed between being read and being watched.
static void follow_tls_files(struct control *c)
{
    const struct snapshot *s = atomic_load(&c->cfg.runtime->current);
    if (!s || !watch_follow(c->cfg.watch, tls_store_files(s->tls), tls_store_file_count(s->tls)))
        return;
    if (tls_store_files_changed(s->tls))
        watch_mark(c->cfg.watch, now_ms());
}

static void reload(struct control *c, const char *reason)
{
    struct runtime *rt = c->cfg.runtime;
    struct findings findings;
    findings_init(&findings);
    uint64_t began = clock_monotonic_ns();
    watch_begin_read(c->cfg.watch);
    enum err e = runtime_load(rt, &findings);
    double ms = (double)(clock_monotonic_ns() - began) / 1e6;
    if (e == MORE) {
        log_debug("reload_postponed", "reason=%s text=\"a document was being written\"", reason);
        findings_fini(&findings);
        return;
    }
    control_log_findings(&findings, FINDINGS_LOGGED);
    const struct snapshot *s = atomic_load(&rt->current);
    if (e == OK)
        log_event(control_served_level(findings.errors), "reload",
                  "reason=%s ms=%.1f generation=%llu listeners=%u routes=%u clusters=%u errors=%u "
                  "warnings=%u%s",
                  reason, ms, (unsigned long long)s->generation, s->routes.listener_count,
                  s->routes.route_count, s->routes.clusters.count, findings.errors,
                  findings.warnings, control_served_hint(findings.errors));
    if (e == OK) {
        follow_tls_files(c);
        control_note_nothing_served(s);
    } else {
        log_error("reload_refused",
                  "reason=%s ms=%.1f errors=%u text=\"the configuration in service is kept\"",
                  reason, ms, findings.errors);
    }
    findings_fini(&findings);
}

// ---- end

static void begin_end(struct control *c, uint32_t signal_number)
{
    if (c->ending) { // told twice
        c->ended = true;
        return;
    }
    c->ending = true;
    c->drain_until_ns = clock_monotonic_ns() + c->cfg.drain_time_ns;
    log_info("draining", "signal=%s connections=%llu seconds=%.1f",
             signal_number == SIGTERM ? "SIGTERM" : "SIGINT",
             (unsigned long long)runtime_counter(c->cfg.runtime, COUNTER_downstream_cx_active),
             (double)c->cfg.drain_time_ns / 1e9);
    runtime_drain(c->cfg.runtime);
}

static void check_drained(struct control *c)
{
    if (!c->ending || c->ended)
        return;
    if (runtime_drained(c->cfg.runtime)) {
        c->ended = true;
    } else if (clock_monotonic_ns() >= c->drain_until_ns) {
        log_warn("drain_time_over", "connections=%llu",
                 (unsigned long long)runtime_counter(c->cfg.runtime, COUNTER_downstream_cx_active));
        c->ended = true;
    }
}

// ---- the loop

static void take_signal(struct control *c, uint32_t number)
{
    switch (number) {
    case SIGHUP:
        c->reload_wanted = true;
        break;
    case SIGUSR1:
        if (c->cfg.access_log)
            access_log_reopen(c->cfg.access_log);
        log_info("access_log_reopened", "on=%s", c->cfg.access_log ? "yes" : "no");
        break;
    case SIGUSR2:
        log_warn("signal_ignored",
                 "signal=SIGUSR2 text=\"handing over to a new binary is not served yet\"");
        break;
    default:
        begin_end(c, number);
    }
}

static void take_signals(struct control *c)
{
    struct signalfd_siginfo si;
    while (read(c->cfg.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        take_signal(c, si.ssi_signo);
}

static void note_watch_mode(struct control *c)
{
    if (watch_is_polling(c->cfg.watch) && !c->was_polling)
        log_warn("watch_polling",
                 "text=\"inotify is not available or out of watches "
                 "(fs.inotify.max_user_watches); files are looked at once a second\"");
    c->was_polling = watch_is_polling(c->cfg.watch);
}

static void follow_documents(struct control *c)
{
    watch_step(c->cfg.watch, now_ms());
    bool changed = watch_changed(c->cfg.watch, now_ms());
    note_watch_mode(c);
    if (c->ending)
        return;
    if (atomic_load(&c->cfg.runtime->draining)) { // told so on the admin port: no listener is left
        if (changed || c->reload_wanted)
            log_info("reload_ignored", "text=\"the gateway is draining\"");
        c->reload_wanted = false;
        return;
    }
    if (c->reload_wanted)
        reload(c, "signal");
    else if (changed)
        reload(c, "changed");
    c->reload_wanted = false;
}

static int wait_ms(const struct control *c)
{
    const struct runtime *rt = c->cfg.runtime;
    int limit = c->ending ? DRAIN_MS : atomic_load(&rt->memory_limit_bytes) ? MEMORY_MS : IDLE_MS;
    if (rt->retired && (int)rt->reclaim_wait_ms < limit)
        limit = (int)rt->reclaim_wait_ms;
    return watch_wait_ms(c->cfg.watch, now_ms(), limit);
}

int control_run(const struct control_config *cfg)
{
    struct control c = {.cfg = *cfg};
    note_watch_mode(&c);
    follow_tls_files(&c);
    cfg->runtime->cfg.disturbed = disturbed;
    cfg->runtime->cfg.disturbed_arg = &c;
    while (!c.ended) {
        int fds[2] = {cfg->signal_fd, watch_fd(cfg->watch)}; // poll ignores -1
        if (admin_poll(cfg->admin, wait_ms(&c), fds, 2) & 1u)
            take_signals(&c);
        follow_documents(&c);
        runtime_reclaim(cfg->runtime);
        runtime_watch_memory(cfg->runtime);
        runtime_turn_tickets(cfg->runtime);
        check_drained(&c);
    }
    cfg->runtime->cfg.disturbed = NULL;
    return 0;
}
