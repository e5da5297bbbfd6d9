// Listening sockets. A listener belongs to its worker and is in one of three states: accepting
// (the multishot accept is in flight), paused (it is not, or its cancellation is under way;
// the timer may be armed to go on), closing. Re-arming happens in accept_arm only.
//
// Closing a listening socket resets what it has not accepted, requests included that were sent to
// it already. So a closing listener first lingers: a filter drops new SYNs, whose senders try
// again a second later and find the next owner of the address, or are refused; handshakes under way
// are completed and accepted.
#include "core/listener.h"
#include "core/log.h"
#include "core/worker.h"
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>

#define RETRY_NS (10 * NS_PER_MS)
// More than any queue holds: connections that come as fast as they are accepted must end too.
#define LAST_LOOK_MAX 65536

static int set_flag(int fd, int level, int name)
{
    int one = 1;
    return ring_setsockopt(fd, level, name, &one, sizeof(one));
}

static int configure(int fd, const struct addr *addr, bool shared)
{
    if (addr->sa.sa_family == AF_UNIX)
        return 0;
    int rc = set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
    if (rc == 0 && shared)
        rc = set_flag(fd, SOL_SOCKET, SO_REUSEPORT);
    // "[::]:80" must not take IPv4's port too: a second listener may name it.
    if (rc == 0 && addr->sa.sa_family == AF_INET6)
        rc = set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    return rc;
}

int listener_open(const struct addr *addr, int backlog)
{
    int fd = ring_socket(addr->sa.sa_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    int rc = configure(fd, addr, true);
    if (rc == 0)
        rc = ring_bind_listen(fd, &addr->sa, addr->len, backlog);
    if (rc < 0) {
        ring_close(fd);
        return rc;
    }
    return fd;
}

int listener_probe(const struct addr *addr)
{
    if (addr->sa.sa_family == AF_UNIX)
        return 0;
    int fd = ring_socket(addr->sa.sa_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    int rc = configure(fd, addr, false);
    if (rc == 0)
        rc = ring_bind(fd, &addr->sa, addr->len);
    ring_close(fd);
    return rc;
}

static const struct explanation {
    int error;
    bool elsewhere; // another port is a way out as well
    const char *wrong, *remedy;
} explanations[] = {
    {EACCES, true,
     "the port is privileged (below net.ipv4.ip_unprivileged_port_start, 1024 as a rule) and this "
     "process may not bind it",
     "grant CAP_NET_BIND_SERVICE (AmbientCapabilities= in the systemd unit)"},
    {EADDRINUSE, true, "another process has the port", "end it (ss -ltunp names it)"},
    {EADDRNOTAVAIL, false, "this machine has no such address",
     "name one that it has (ip address shows them)"},
    {EMFILE, false, "too few open files are allowed",
     "allow more (ulimit -n, LimitNOFILE= in the systemd unit)"},
};

void listener_explain(const struct addr *addr, int error, const char *elsewhere,
                      char out[LISTENER_EXPLAIN_MAX])
{
    char text[ADDR_TEXT_MAX];
    size_t n = addr_format(addr, text, sizeof(text), true);
    const struct explanation *e = NULL;
    for (size_t i = 0; i < sizeof(explanations) / sizeof(explanations[0]); i++)
        if (explanations[i].error == error && addr->sa.sa_family != AF_UNIX)
            e = &explanations[i];
    snprintf(out, LISTENER_EXPLAIN_MAX, "%.*s: %s: %s%s%s", (int)n, text,
             e ? e->wrong : strerror(error), e ? e->remedy : "", e && e->elsewhere ? ", or " : "",
             !e || e->elsewhere ? elsewhere : "");
}

static void accept_arm(struct listener *l)
{
    if (!l->accept.inflight && !l->paused && (!l->closing || l->lingering))
        ring_accept_multishot(&l->worker->ring, &l->accept, l->fd);
}

// A SYN has the flag without ACK; byte 13 of the TCP header, where a socket's filter begins.
static void drop_new_handshakes(int fd)
{
    static const uint32_t flags_at = 13, syn_ack = 0x12, syn = 0x02, whole = UINT32_MAX;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, flags_at),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, syn_ack),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, syn, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, whole),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    // Without it (a kernel that has none) the last look into the queue has to do.
    (void)!ring_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static void finish_close(struct listener *l)
{
    int fd;
    timer_cancel(&l->worker->timers, &l->resume);
    for (int i = 0; i < LAST_LOOK_MAX && (fd = ring_accept(l->fd)) >= 0; i++)
        l->on_accept(l, fd);
    ring_close(l->fd);
    l->fd = -1;
    if (l->on_closed)
        l->on_closed(l);
}

// Descriptors or memory ran out: the pending connections stay in the kernel's queue meanwhile.
static void back_off(struct listener *l, int error)
{
    static _Thread_local struct log_limit limit;
    worker_count(l->worker, accept_paused);
    l->paused = true;
    timer_arm(&l->worker->timers, &l->resume, l->worker->now_ns + RETRY_NS);
    if (log_allow(&limit, l->worker->now_ns, 1))
        log_warn("accept_paused", "worker=%u error=%d", l->worker->cfg.id, error);
}

static void on_accepted(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct listener *l = container_of(op, struct listener, accept);
    (void)bid;
    if (res >= 0)
        l->on_accept(l, res);
    else if (!l->closing && (res == -EMFILE || res == -ENFILE || res == -ENOBUFS || res == -ENOMEM))
        back_off(l, -res);
    // Others concern a connection that is gone already (ECONNABORTED and its kin).
    if (flags & OP_MORE)
        return;
    if (l->closing && !l->lingering)
        finish_close(l);
    else if (res >= 0 || !l->closing) // out of descriptors: the last look tries once more
        accept_arm(l);
}

static void on_resume_timer(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    listener_resume(container_of(t, struct listener, resume));
}

static void on_close_timer(struct timer *t, uint64_t now_ns)
{
    struct listener *l = container_of(t, struct listener, resume);
    (void)now_ns;
    l->lingering = false;
    if (l->accept.inflight)
        ring_cancel(&l->worker->ring, &l->accept);
    else
        finish_close(l);
}

void listener_start(struct listener *l, struct worker *w, int fd)
{
    l->worker = w;
    l->fd = fd;
    l->accept = (struct op){.done = on_accepted};
    l->paused = l->closing = l->lingering = false;
    timer_init(&l->resume, on_resume_timer);
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    memset(&l->addr, 0, sizeof(l->addr));
    if (ring_getsockname(fd, &ss, &len) >= 0 && len <= sizeof(l->addr.un)) {
        memcpy(&l->addr.sa, &ss, len);
        l->addr.len = len;
    }
    accept_arm(l);
}

void listener_pause(struct listener *l)
{
    if (l->closing) // the timer may be the close's
        return;
    timer_cancel(&l->worker->timers, &l->resume); // the owner's wish outlives a back-off
    if (l->paused)
        return;
    l->paused = true;
    if (l->accept.inflight)
        ring_cancel(&l->worker->ring, &l->accept);
}

void listener_resume(struct listener *l)
{
    if (!l->paused || l->closing)
        return;
    l->paused = false;
    timer_cancel(&l->worker->timers, &l->resume);
    accept_arm(l);
}

// on_closed never comes from inside this call.
void listener_close(struct listener *l, uint64_t linger_ns)
{
    if (l->closing && (!l->lingering || linger_ns > 0))
        return;
    timer_cancel(&l->worker->timers, &l->resume);
    if (!l->closing) {
        if (l->addr.sa.sa_family != AF_UNIX)
            drop_new_handshakes(l->fd);
        timer_init(&l->resume, on_close_timer);
        l->closing = l->lingering = true;
        l->paused = false;
        accept_arm(l);
    }
    timer_arm(&l->worker->timers, &l->resume, l->worker->now_ns + linger_ns);
}
