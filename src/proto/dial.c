// From what a cluster says of its endpoint to a connection that is being made. Owns nothing.
#include "proto/dial.h"
#include <errno.h>

// In clear text, in front of the filter's first words too.
static bool queue_header(const struct dial *d, struct tcp *t)
{
    return !d->header_len ||
           bufq_append(t->filter ? &t->wire : &t->out, (struct slice){d->header, d->header_len});
}

static void give_up(struct tcp *t)
{
    bufq_clear(&t->out);
    bufq_clear(&t->wire);
}

int dial_start(const struct dial *d, struct tcp *t)
{
    int rc = -EMFILE;
    if (tls_filter_connect(&d->tls, t) && queue_header(d, t))
        rc = tcp_connect(t, d->to);
    if (rc == 0)
        tcp_set_keepalive(t, &d->keepalive);
    else
        give_up(t);
    return rc;
}
