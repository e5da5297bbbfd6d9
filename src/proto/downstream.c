// The facts of a client's connection. Owns nothing.
#include "proto/downstream.h"
#include "core/ring.h"

static void take(struct addr *to, const struct sockaddr_storage *ss, socklen_t len)
{
    if (len > sizeof(struct sockaddr_un))
        return;
    memcpy(to, ss, len);
    to->len = len;
}

void downstream_learn_peer(struct downstream *d, int fd)
{
    char ip[ADDR_TEXT_MAX];
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (ring_getpeername(fd, &ss, &len) == 0)
        take(&d->peer, &ss, len);
    size_t n = addr_format(&d->peer, ip, sizeof(ip), false);
    d->peer_ip_len = (uint8_t)(n < sizeof(d->peer_ip) ? n : 0);
    memcpy(d->peer_ip, ip, d->peer_ip_len);
}

void downstream_learn_local(struct downstream *d, int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (ring_getsockname(fd, &ss, &len) == 0)
        take(&d->local, &ss, len);
}

const struct addr *downstream_local(struct downstream *d)
{
    if (d->tcp && d->local.sa.sa_family == AF_UNSPEC)
        downstream_learn_local(d, d->tcp->fd);
    return &d->local;
}
