// bench-splice: the bare limit of bulk. Pairs every client connection with an upstream connection
// of its own and moves bytes through a pipe for each direction by splice(2), until there is nothing
// to read or no room to write; edge-triggered epoll tells when to go on.
//
// Each pair has two legs; the pipe of a leg holds what was read from it and waits for the other.
#include <fcntl.h>
#include <getopt.h>
#include <sys/epoll.h>

#include "load.h"

enum { PIPE_BYTES = 1 << 20, EVENTS = 256 };

struct leg {
    struct leg *other;
    int fd, in, out; // the pipe's ends
    size_t piped;
    bool ended;    // FIN was read
    bool finished; // and sent on
};

static int epoll;
static struct sockaddr_in upstream;
static struct leg *dead[EVENTS * 2]; // first legs of pairs to free when the turn is over
static unsigned dead_count;

static bool failed(ssize_t n)
{
    return n < 0 && errno != EAGAIN && errno != EINTR;
}

static void pair_close(struct leg *l)
{
    for (int i = 0; i < 2; i++, l = l->other) {
        if (l->fd < 0)
            return;
        close(l->fd);
        close(l->in);
        close(l->out);
        l->fd = -1;
    }
    dead[dead_count++] = l < l->other ? l : l->other;
}

// From `l` to its other: false when the pair has failed.
static bool pump(struct leg *l)
{
    const unsigned flags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;
    for (bool moved = true; moved;) {
        moved = false;
        if (!l->ended && l->piped < PIPE_BYTES) {
            ssize_t n = splice(l->fd, NULL, l->in, NULL, PIPE_BYTES - l->piped, flags);
            if (failed(n))
                return false;
            l->ended = n == 0;
            l->piped += n > 0 ? (size_t)n : 0;
        }
        if (l->piped > 0) {
            ssize_t n = splice(l->out, NULL, l->other->fd, NULL, l->piped, flags);
            if (failed(n))
                return false;
            l->piped -= n > 0 ? (size_t)n : 0;
            moved = n > 0;
        }
    }
    if (l->ended && l->piped == 0 && !l->finished) {
        shutdown(l->other->fd, SHUT_WR);
        l->finished = true;
    }
    return true;
}

static void watch(struct leg *l)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = l};
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC) < 0)
        die("pipe", errno);
    l->out = pipe_fds[0];
    l->in = pipe_fds[1];
    fcntl(l->in, F_SETPIPE_SZ, PIPE_BYTES);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, l->fd, &e) < 0)
        die("epoll_ctl", errno);
}

static void on_accept(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct leg *pair = must_calloc(2, sizeof *pair);
        pair[0] = (struct leg){.other = &pair[1], .fd = fd};
        pair[1] = (struct leg){.other = &pair[0]};
        pair[1].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (pair[1].fd < 0)
            die("socket", errno);
        set_nodelay(pair[1].fd);
        if (connect(pair[1].fd, (struct sockaddr *)&upstream, sizeof upstream) < 0 &&
            errno != EINPROGRESS)
            die("connect", errno);
        watch(&pair[1]);
        watch(&pair[0]);
    }
}

static void on_event(struct leg *l, uint32_t events)
{
    if (l->fd < 0)
        return;
    bool ok = !(events & EPOLLERR) && pump(l) && pump(l->other);
    if (!ok || (l->finished && l->other->finished))
        pair_close(l);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", 1, NULL, 'p'}, {"upstream", 1, NULL, 'u'}, {"cpu", 1, NULL, 'c'}, {0}};
    unsigned port = 0, target = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p')
            port = (unsigned)number(optarg, 0, 65535);
        else if (o == 'u')
            target = (unsigned)number(optarg, 1, 65535);
        else if (o == 'c')
            pin_cpu((int)number(optarg, 0, CPU_SETSIZE - 1));
        else
            return 2;
    }
    upstream = loopback(target);
    raise_nofile();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_and_tell(port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    fcntl(listener, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) < 0)
        die("epoll_ctl", errno);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                on_accept(listener);
            else
                on_event(events[i].data.ptr, events[i].events);
        }
        for (; dead_count > 0; dead_count--)
            free(dead[dead_count - 1]);
    }
}
