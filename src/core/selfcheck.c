// The start-up self-check. Each check asks the kernel by trying, and words what it found for
// somebody who has never heard of io_uring. Owns nothing.
#include "core/selfcheck.h"
#include "core/check.h"
#include "core/log.h"
#include "core/ring.h"
#include "core/udp.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

__attribute__((format(printf, 4, 5))) static void
add(struct selfcheck *c, const char *name, enum selfcheck_status status, const char *fmt, ...)
{
    check(c->count < SELFCHECK_MAX);
    struct selfcheck_item *i = &c->items[c->count++];
    i->name = name;
    i->status = status;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(i->text, sizeof(i->text), fmt, ap);
    va_end(ap);
}

static void check_kernel(struct selfcheck *c)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2) {
        add(c, "kernel", SELFCHECK_NOTE, "The kernel does not tell its version; going on.");
        return;
    }
    if (major > 6 || (major == 6 && minor >= 1))
        add(c, "kernel", SELFCHECK_OK, "Linux %u.%u.", major, minor);
    else
        add(c, "kernel", SELFCHECK_MISSING,
            "Linux %u.%u is too old: 6.1 or newer is needed (Debian 12, RHEL 10, Ubuntu 24.04 or "
            "later have it). Update the kernel of the host; a newer container image does not help.",
            major, minor);
}

// -1 where the file is absent (kernels before 6.6 have no such switch).
static int read_sysctl(const char *path)
{
    int v = -1;
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    if (fscanf(f, "%d", &v) != 1)
        v = -1;
    fclose(f);
    return v;
}

static void explain_forbidden(char *out, size_t cap)
{
    int disabled = read_sysctl("/proc/sys/kernel/io_uring_disabled");
    if (disabled > 0)
        snprintf(out, cap,
                 "io_uring is switched off on this machine (kernel.io_uring_disabled = %d). Allow "
                 "it with: sysctl kernel.io_uring_disabled=0%s",
                 disabled,
                 disabled == 1 ? ", or add this process's group to kernel.io_uring_group." : ".");
    else
        snprintf(out, cap,
                 "The container's seccomp profile forbids io_uring. Run with a profile that allows "
                 "io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt "
                 "seccomp=FILE; Kubernetes: securityContext.seccompProfile).");
}

void selfcheck_explain_start(int error, char *out, size_t cap)
{
    static const char *const sentences[] = {
        [ENOSYS] = "This kernel was built without io_uring, or a container sandbox hides it. Use a "
                   "kernel with CONFIG_IO_URING, or a runtime other than gVisor.",
        [ENOMEM] = "There is not enough lockable memory for io_uring. Raise it: ulimit -l "
                   "unlimited, or LimitMEMLOCK=infinity in the systemd unit; or start fewer "
                   "workers.",
        [EMFILE] = "Too few open files are allowed. Raise it: ulimit -n 65536, or "
                   "LimitNOFILE=1048576 in the systemd unit; or start fewer workers.",
        [ENFILE] = "The whole machine has too many open files. Raise it: sysctl fs.file-max.",
        [EAGAIN] = "Too few threads are allowed. Raise it: ulimit -u, or TasksMax= in the systemd "
                   "unit, or the container's pids limit; or start fewer workers.",
    };
    if (error == EPERM || error == EACCES)
        explain_forbidden(out, cap);
    else if (error > 0 && (size_t)error < sizeof(sentences) / sizeof(sentences[0]) &&
             sentences[error])
        snprintf(out, cap, "%s", sentences[error]);
    else
        snprintf(out, cap, "io_uring cannot be set up: %s.", strerror(error));
}

static void check_ring(struct selfcheck *c)
{
    struct ring_features f;
    ring_probe(&f);
    if (f.setup_errno) {
        char text[sizeof(c->items[0].text)];
        selfcheck_explain_start(f.setup_errno, text, sizeof(text));
        add(c, "io_uring", SELFCHECK_MISSING, "%s", text);
        return;
    }
    if (f.missing) {
        add(c, "io_uring", SELFCHECK_MISSING,
            "The kernel's io_uring lacks %s. Update the kernel to 6.1 or newer.", f.missing);
        return;
    }
    add(c, "io_uring", SELFCHECK_OK, "All that is needed works.");
    if (!f.recv_bundle)
        add(c, "receive_bundles", SELFCHECK_NOTE,
            "The kernel cannot fill several buffers with one completion (6.10 can): large bodies "
            "cost more CPU. Nothing else changes.");
    if (!f.multishot_recv_limit)
        add(c, "receive_fairness", SELFCHECK_NOTE,
            "The kernel cannot limit what one connection receives at a time (6.17 can): a "
            "very fast sender may delay others a little.");
}

uint64_t selfcheck_connection_files(uint64_t open_files, uint32_t workers)
{
    uint64_t own = 64 + 8ull * workers;
    return open_files > own + 32 ? open_files - own : 32;
}

uint64_t selfcheck_connections(uint64_t open_files, uint32_t workers)
{
    return selfcheck_connection_files(open_files, workers) / 4 * 3;
}

static void check_descriptors(struct selfcheck *c, const struct selfcheck_wants *wants)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return;
    if (l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &l) < 0)
            getrlimit(RLIMIT_NOFILE, &l);
    }
    unsigned long long have = l.rlim_cur, enough = selfcheck_connections(have, wants->workers);
    if (have < 256)
        add(c, "open_files", SELFCHECK_MISSING,
            "Only %llu open files are allowed, too few for any traffic. Raise it: ulimit -n 65536, "
            "or LimitNOFILE=1048576 in the systemd unit.",
            have);
    else if (enough < wants->connections)
        add(c, "open_files", SELFCHECK_NOTE,
            "%llu open files are allowed, which is enough for %llu client connections; more are "
            "refused. Raise it: LimitNOFILE=1048576 in the systemd unit, or ulimit -n.",
            have, enough);
    else
        add(c, "open_files", SELFCHECK_OK,
            "%llu open files are allowed, enough for %llu client connections.", have, enough);
}

// Queues of a worker count against RLIMIT_MEMLOCK, which is each user's, not each process's; with
// CAP_IPC_LOCK (root, as a rule) nothing counts. About 256 KiB a worker with the default sizes.
static void check_locked_memory(struct selfcheck *c, uint32_t workers)
{
    struct rlimit l;
    unsigned long long need = (workers ? workers : 1u) * 256ull;
    if (getrlimit(RLIMIT_MEMLOCK, &l) < 0 || l.rlim_cur == RLIM_INFINITY)
        return;
    unsigned long long have = l.rlim_cur / 1024;
    if (have >= need)
        add(c, "locked_memory", SELFCHECK_OK, "%llu KiB of memory may be locked.", have);
    else
        add(c, "locked_memory", SELFCHECK_NOTE,
            "%llu KiB of memory may be locked; the queues of %u workers take %llu, unless the "
            "process has CAP_IPC_LOCK. Raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity in "
            "the systemd unit.",
            have, workers ? workers : 1u, need);
}

// ENOENT: no such protocol and no module for it; ENOTCONN: there is, and it wants a connection.
static void check_ktls(struct selfcheck *c, enum ktls_mode wanted)
{
    if (wanted == KTLS_OFF)
        return;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    bool have = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0 || errno == ENOTCONN;
    close(fd);
    if (have)
        add(c, "ktls", SELFCHECK_OK, "The kernel can encrypt TLS records%s.",
            wanted == KTLS_ON ? "" : "; --ktls on asks it to");
    else if (wanted == KTLS_ON)
        add(c, "ktls", SELFCHECK_NOTE,
            "--ktls on cannot be had: the kernel has no TLS record layer, so records are encrypted "
            "in user space. To have it: modprobe tls (CONFIG_TLS).");
    else
        add(c, "ktls", SELFCHECK_NOTE,
            "The kernel has no TLS record layer: records are encrypted in user space, which is "
            "fine without an offloading network card. To have it: modprobe tls, and --ktls on.");
}

static void check_udp(struct selfcheck *c)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 1200, one = 1;
    if (fd < 0)
        return;
    bool gso = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) == 0;
    bool gro = setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) == 0;
    close(fd);
    if (gso && gro)
        add(c, "udp_offload", SELFCHECK_OK, "UDP segmentation and receive offload work.");
    else
        add(c, "udp_offload", SELFCHECK_NOTE,
            "UDP %s offload is not available (Linux 4.18 and 5.0 brought them; some sandboxes "
            "hide them): HTTP/3 works, at several times the CPU.",
            gso   ? "receive"
            : gro ? "segmentation"
                  : "segmentation and receive");
}

void selfcheck_run(struct selfcheck *c, const struct selfcheck_wants *wants)
{
    c->count = 0;
    check_kernel(c);
    check_descriptors(c, wants); // before anything that opens some
    check_ring(c);
    check_locked_memory(c, wants->workers);
    check_ktls(c, wants->ktls);
    if (!wants->no_udp)
        check_udp(c);
}

bool selfcheck_passed(const struct selfcheck *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->items[i].status == SELFCHECK_MISSING)
            return false;
    return true;
}

static const char *const status_words[] = {"ok", "note", "missing"};

void selfcheck_print(const struct selfcheck *c, FILE *out)
{
    for (uint32_t i = 0; i < c->count; i++)
        fprintf(out, "%-7s %s: %s\n", status_words[c->items[i].status], c->items[i].name,
                c->items[i].text);
}

void selfcheck_log(const struct selfcheck *c)
{
    static const enum log_level levels[] = {LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR};
    for (uint32_t i = 0; i < c->count; i++) {
        const struct selfcheck_item *item = &c->items[i];
        log_event(levels[item->status], "selfcheck", "item=%s status=%s text=\"%s\"", item->name,
                  status_words[item->status], item->text);
    }
}
