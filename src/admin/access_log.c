// The access log. Owns one ring of bytes for each worker, the writer thread and its file.
//
// A worker formats a line into its scratch and copies it into its ring; `head` is written by that
// worker alone, `tail` by the writer alone (a single-producer, single-consumer ring), so there is
// no lock on the data path. The writer looks every WRITE_EVERY_MS, sooner when a ring is half full.
// A line that finds no room is dropped and counted: a disk that stalls never stalls a request.
#include "admin/access_log.h"
#include "admin/access_log_format.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/log.h"
#include "proxy/flow_end.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RING_BYTES (1u << 20) // a power of two
#define LINE_BYTES (64u << 10)
#define WRITE_EVERY_MS 100
#define STOP_WAIT_S 2 // for a writer that hangs in write(2)

struct line_ring {                      // of one worker
    _Alignas(64) _Atomic uint64_t head; // bytes ever put in
    _Atomic uint64_t dropped;
    char *data, *scratch;
    _Alignas(64) _Atomic uint64_t tail; // bytes ever taken out
};

struct access_log {
    struct log_format *format;
    char *path; // NULL: standard output
    int fd, wake_fd;
    uint32_t workers;
    struct line_ring *rings;
    _Atomic uint64_t wall_offset_ns;  // wall clock minus monotonic clock
    _Atomic bool stop, reopen, awake; // awake: the writer has been told already
    _Atomic uint64_t write_errors;    // lines of writes that failed
    // The writer's: what it took last ended inside a line; what it wrote last has lost its end.
    bool mid_line, broken_line;
    struct log_limit complaint;
    pthread_t writer;
};

// ---- a worker's side

static bool put(struct line_ring *r, const char *line, size_t len, bool *half_full)
{
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint64_t used = head - atomic_load_explicit(&r->tail, memory_order_acquire);
    if (len > RING_BYTES - used)
        return false;
    size_t at = (size_t)(head & (RING_BYTES - 1)), first = RING_BYTES - at;
    if (first > len)
        first = len;
    memcpy(r->data + at, line, first);
    memcpy(r->data, line + first, len - first);
    atomic_store_explicit(&r->head, head + len, memory_order_release);
    *half_full = used + len > RING_BYTES / 2;
    return true;
}

static void wake_writer(struct access_log *l)
{
    uint64_t one = 1;
    if (write(l->wake_fd, &one, sizeof(one)) < 0)
        return; // it looks by itself soon enough
}

static uint64_t wall_clock(const struct access_log *l, uint64_t ns)
{
    return ns + atomic_load_explicit(&l->wall_offset_ns, memory_order_relaxed);
}

static void log_line(struct access_log *l, struct line_ring *r, const struct text *line)
{
    bool half_full = false;
    if (line->overflow || !put(r, line->data, line->len, &half_full)) {
        uint64_t n = atomic_load_explicit(&r->dropped, memory_order_relaxed);
        atomic_store_explicit(&r->dropped, n + 1, memory_order_relaxed);
    }
    if (half_full && !atomic_load_explicit(&l->awake, memory_order_relaxed)) {
        atomic_store_explicit(&l->awake, true, memory_order_relaxed);
        wake_writer(l);
    }
}

void access_log_exchange(void *access_log, uint32_t worker, const struct exchange *x)
{
    struct access_log *l = access_log;
    struct line_ring *r = &l->rings[worker];
    struct text line;
    text_init_fixed(&line, r->scratch, LINE_BYTES);
    log_format_write(l->format, x, wall_clock(l, x->start_ns), &line);
    log_line(l, r, &line);
}

void access_log_flow(void *access_log, uint32_t worker, const struct proxy_flow_end *f)
{
    struct access_log *l = access_log;
    struct line_ring *r = &l->rings[worker];
    struct text line;
    text_init_fixed(&line, r->scratch, LINE_BYTES);
    log_format_write_flow(l->format, f, wall_clock(l, f->start_ns), &line);
    log_line(l, r, &line);
}

// ---- the writer

static uint64_t count_lines(const struct iovec *iov, int n)
{
    uint64_t lines = 0;
    for (int i = 0; i < n; i++) {
        const char *p = iov[i].iov_base, *end = p + iov[i].iov_len;
        while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
            lines++;
            p++;
        }
    }
    return lines;
}

static void complain(struct access_log *l, const char *what)
{
    if (log_allow(&l->complaint, clock_monotonic_ns(), 1))
        log_error("access_log_failed", "path=%s what=%s reason=\"%s\"", l->path ? l->path : "-",
                  what, strerror(errno));
}

// What is written next must not continue a line whose end was lost.
static bool mend_line(struct access_log *l)
{
    if (l->broken_line && write(l->fd, "\n", 1) == 1)
        l->broken_line = false;
    return !l->broken_line;
}

// Takes out at most what one write(2) accepts. False: nothing was there, or it cannot be written.
static bool write_some(struct access_log *l, struct line_ring *r)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint64_t len = atomic_load_explicit(&r->head, memory_order_acquire) - tail;
    if (len == 0)
        return false;
    size_t at = (size_t)(tail & (RING_BYTES - 1));
    size_t first = RING_BYTES - at < len ? RING_BYTES - at : (size_t)len;
    struct iovec iov[2] = {{r->data + at, first}, {r->data, (size_t)len - first}};
    ssize_t n = mend_line(l) ? writev(l->fd, iov, iov[1].iov_len ? 2 : 1) : -1;
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0) {
        // A full disk or a reader that has gone: these lines are lost, later ones may not be.
        complain(l, "write");
        uint64_t lines = count_lines(iov, 2);
        atomic_fetch_add_explicit(&l->write_errors, lines, memory_order_relaxed);
        n = (ssize_t)len;
        l->broken_line |= l->mid_line;
    }
    l->mid_line = r->data[(tail + (uint64_t)n - 1) & (RING_BYTES - 1)] != '\n';
    atomic_store_explicit(&r->tail, tail + (uint64_t)n, memory_order_release);
    return true;
}

// A FIFO that nobody reads is refused (ENXIO), not waited for; once open, writing may block, in the
// writer's thread only.
static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644);
    if (fd >= 0)
        fcntl(fd, F_SETFL, O_APPEND);
    return fd;
}

static void reopen_file(struct access_log *l)
{
    if (!l->path || !atomic_exchange(&l->reopen, false))
        return;
    int fd = open_file(l->path);
    if (fd < 0) {
        complain(l, "reopen");
        return; // the old file is better than none
    }
    close(l->fd);
    l->fd = fd;
}

static void update_clock(struct access_log *l)
{
    atomic_store_explicit(&l->wall_offset_ns, clock_realtime_ns() - clock_monotonic_ns(),
                          memory_order_relaxed);
}

static void *writer_main(void *arg)
{
    struct access_log *l = arg;
    struct pollfd p = {l->wake_fd, POLLIN, 0};
    for (;;) {
        bool stopping = atomic_load(&l->stop); // read before the rings: their last lines count
        uint64_t ignored;
        atomic_store(&l->awake, false);
        reopen_file(l);
        update_clock(l);
        for (uint32_t i = 0; i < l->workers; i++)
            while (write_some(l, &l->rings[i]))
                ;
        if (stopping)
            return NULL;
        if (poll(&p, 1, WRITE_EVERY_MS) > 0 && read(l->wake_fd, &ignored, sizeof(ignored)) < 0)
            continue;
    }
}

// ---- life

static enum err choose_format(const struct access_log_config *cfg, struct log_format **out,
                              char *error, size_t cap)
{
    if (cfg->format == ACCESS_LOG_JSON) {
        *out = log_format_istio_json();
        return OK;
    }
    const char *text = cfg->format == ACCESS_LOG_CUSTOM ? cfg->custom : access_log_istio_text;
    return log_format_compile(text, out, error, cap);
}

static enum err open_files(struct access_log *l, const char *path, char *error, size_t cap)
{
    bool standard = strcmp(path, "-") == 0;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->fd = standard ? STDOUT_FILENO : open_file(path);
    if (!standard) {
        l->path = strdup(path);
        check(l->path);
    }
    if (l->fd >= 0 && l->wake_fd >= 0)
        return OK;
    snprintf(error, cap, "the access log %s cannot be opened: %s", path, strerror(errno));
    return ERR_IO;
}

static void make_rings(struct access_log *l)
{
    l->rings = aligned_alloc(64, sizeof(*l->rings) * l->workers);
    check(l->rings);
    memset(l->rings, 0, sizeof(*l->rings) * l->workers);
    for (uint32_t i = 0; i < l->workers; i++) {
        l->rings[i].data = malloc(RING_BYTES);
        l->rings[i].scratch = malloc(LINE_BYTES);
        check(l->rings[i].data && l->rings[i].scratch);
    }
}

static void release(struct access_log *l)
{
    for (uint32_t i = 0; l->rings && i < l->workers; i++) {
        free(l->rings[i].data);
        free(l->rings[i].scratch);
    }
    free(l->rings);
    if (l->path && l->fd >= 0)
        close(l->fd);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    free(l->path);
    log_format_destroy(l->format);
    free(l);
}

enum err access_log_create(const struct access_log_config *cfg, struct access_log **out,
                           char *error, size_t cap)
{
    struct access_log *l = calloc(1, sizeof(*l));
    check(l);
    l->workers = cfg->workers;
    l->fd = l->wake_fd = -1;
    enum err e = choose_format(cfg, &l->format, error, cap);
    if (e == OK)
        e = open_files(l, cfg->path, error, cap);
    if (e == OK) {
        make_rings(l);
        update_clock(l);
        check(pthread_create(&l->writer, NULL, writer_main, l) == 0);
    } else {
        release(l);
        l = NULL;
    }
    *out = l;
    return e;
}

void access_log_destroy(struct access_log *l)
{
    struct timespec until;
    if (!l)
        return;
    atomic_store(&l->stop, true);
    wake_writer(l);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_WAIT_S;
    if (pthread_timedjoin_np(l->writer, NULL, &until) == 0)
        release(l); // else it hangs in write(2): its memory goes with the process
}

void access_log_reopen(struct access_log *l)
{
    atomic_store(&l->reopen, true);
    wake_writer(l);
}

uint64_t access_log_dropped(const struct access_log *l)
{
    uint64_t n = atomic_load_explicit(&l->write_errors, memory_order_relaxed);
    for (uint32_t i = 0; i < l->workers; i++)
        n += atomic_load_explicit(&l->rings[i].dropped, memory_order_relaxed);
    return n;
}
