// The plain system calls behind ring.h's door: creating, binding and closing sockets. They
// never block. Owns nothing; any thread.
#include "core/ring.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tls.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

static int result(int rc)
{
    return rc < 0 ? -errno : rc;
}

int ring_socket(int family, int type)
{
    return result(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

int ring_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return result(setsockopt(fd, level, name, value, len));
}

int ring_unsent(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) < 0 ? 0 : n;
}

int ring_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    return result(bind(fd, addr, len));
}

int ring_bind_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog)
{
    int rc = ring_bind(fd, addr, len);
    return rc < 0 ? rc : result(listen(fd, backlog));
}

int ring_connect_datagrams(int fd, const struct sockaddr *addr, socklen_t len)
{
    return result(connect(fd, addr, len));
}

int ring_getsockname(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
    return result(getsockname(fd, (struct sockaddr *)addr, len));
}

int ring_getpeername(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
    return result(getpeername(fd, (struct sockaddr *)addr, len));
}

int ring_accept(int listen_fd)
{
    return result(accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

int ring_recv_record(int fd, uint8_t *type, void *buf, size_t cap)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(1)];
    struct iovec iov = {buf, cap};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    int rc = result((int)recvmsg(fd, &m, MSG_DONTWAIT));
    if (rc < 0)
        return rc;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_level != SOL_TLS || c->cmsg_type != TLS_GET_RECORD_TYPE)
        return -EPROTO;
    memcpy(type, CMSG_DATA(c), 1);
    return rc;
}

void ring_shutdown(int fd, int how)
{
    shutdown(fd, how);
}

int ring_pipe(int fd[2], uint32_t bytes)
{
    if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) < 0)
        return -errno;
    int room = fcntl(fd[1], F_SETPIPE_SZ, bytes);
    return room < 0 ? fcntl(fd[1], F_GETPIPE_SZ) : room;
}

ssize_t ring_splice(int from, int to, size_t most)
{
    ssize_t n = splice(from, NULL, to, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    return n < 0 ? -errno : n;
}

// close(2) frees the descriptor even when it reports an error; trying again would hit another's.
void ring_close(int fd)
{
    close(fd);
}
