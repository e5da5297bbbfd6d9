// A client's connection as the handler and the log know it, whatever codec speaks on it. It is made
// where connections are accepted, given to a codec, and ends with its transport. Worker's thread.
#pragma once
#include "core/addr.h"
#include "core/tcp.h"

struct tls_conn;
struct downstream;

struct downstream_ops {
    // Ends keep-alive: an idle connection closes after grace_ns, or when it has carried one more
    // request; a busy one with the first response whose head can say so, or after a grace behind
    // the last. True: it closes now.
    bool (*drain)(struct downstream *d, uint64_t grace_ns);
    void (*close)(struct downstream *d); // at once; on_closed follows
};

struct downstream {
    struct worker *worker;
    struct tcp *tcp;
    const struct downstream_ops *ops; // of whoever reads the connection now
    void *codec;                      // and its object
    struct list_node link;            // of its maker
    struct addr peer, local;          // the client, and whom it has connected to
    struct addr *direct; // who has connected to us, where that is a proxy; NULL: the peer
    char peer_ip[46];
    uint8_t peer_ip_len;
    // Connections to destinations that are told who this client is, and that serve nobody else
    // (upstream/conn_pool). Before the connection ends: conn_pool_client_gone.
    struct list_node own_upstreams;
    const struct tls_conn *tls; // NULL: in clear text
    // Of x-forwarded-client-cert, its maker's; empty: the client has shown no certificate.
    struct slice client_cert;
    // The connection is gone: the memory is its maker's again.
    void (*on_closed)(struct downstream *d);
};

static inline struct slice downstream_ip(const struct downstream *d)
{
    return (struct slice){d->peer_ip, d->peer_ip_len};
}
void downstream_learn_peer(struct downstream *d, int fd);
void downstream_learn_local(struct downstream *d, int fd);
// The client is another one: who has connected is a proxy, and says so.
void downstream_set_client(struct downstream *d, const struct addr *peer, const struct addr *local);
void downstream_fini(struct downstream *d);
// Who has connected to us: the client, or a proxy that speaks for it.
static inline const struct addr *downstream_direct(const struct downstream *d)
{
    return d->direct ? d->direct : &d->peer;
}
// Our own end of it, asked for once, where it is needed (logs, destinationSubnets), of an open
// connection.
const struct addr *downstream_local(struct downstream *d);
