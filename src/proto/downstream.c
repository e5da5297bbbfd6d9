// The facts of a client's connection. Owns `direct`.
#include "proto/downstream.h"
#include "core/ring.h"
#include <stdlib.h>

static void take(struct addr *to, const struct sockaddr_storage *ss, socklen_t len)
{
    if (len > sizeof(struct sockaddr_un))
        return;
    memcpy(to, ss, len);
    to->len = len;
}

static void write_ip(struct downstream *d)
{
    char ip[ADDR_TEXT_MAX];
    size_t n = addr_format(&d->peer, ip, sizeof(ip), false);
    d->peer_ip_len = (uint8_t)(n < sizeof(d->peer_ip) ? n : 0);
    memcpy(d->peer_ip, ip, d->peer_ip_len);
}

void downstream_learn_peer(struct downstream *d, int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (ring_getpeername(fd, &ss, &len) == 0)
        take(&d->peer, &ss, len);
    write_ip(d);
}

void downstream_set_client(struct downstream *d, const struct addr *peer, const struct addr *local)
{
    if (!d->direct)
        d->direct = malloc(sizeof(*d->direct)); // without it the log names the client alone
    if (d->direct)
        *d->direct = d->peer;
    d->peer = *peer;
    d->local = *local;
    write_ip(d);
}

void downstream_fini(struct downstream *d)
{
    free(d->direct);
    d->direct = NULL;
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
