// From what a cluster says of its endpoint to a connection that is being made. Owns nothing.
#include "proto/dial.h"
#include <errno.h>

int dial_start(const struct dial *d, struct tcp *t)
{
    if (!tls_filter_connect(&d->tls, t))
        return -EMFILE;
    int rc = tcp_connect(t, d->to);
    if (rc == 0)
        tcp_set_keepalive(t, &d->keepalive);
    return rc;
}
