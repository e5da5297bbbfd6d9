// The plain system calls behind ring.h's door: creating, binding and closing sockets. They
// never block. Owns nothing; any thread.
#include "core/ring.h"
#include <errno.h>
#include <unistd.h>

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

int ring_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    return result(bind(fd, addr, len));
}

int ring_bind_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog)
{
    int rc = ring_bind(fd, addr, len);
    return rc < 0 ? rc : result(listen(fd, backlog));
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

void ring_shutdown(int fd, int how)
{
    shutdown(fd, how);
}

// close(2) frees the descriptor even when it reports an error; trying again would hit another's.
void ring_close(int fd)
{
    close(fd);
}
