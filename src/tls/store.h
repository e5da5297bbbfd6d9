// All TLS contexts of a configuration: resolves what its Gateways and DestinationRules name, parses
// it and makes the contexts. One credential that cannot be used breaks only what names it: its
// context is NULL and a finding says why. A store is made anew for each load and keeps of the one
// before it every context, certificate and CA bundle whose settings and bytes are the same, so that
// tickets, sessions and connections outlive a reload. Control thread; the contexts are for all.
#pragma once
#include "config/finding.h"
#include "config/model.h"
#include "tls/ctx.h"

struct tls_store;
struct tls_tickets;

struct tls_store_options {
    const char *mount;    // where Secrets would be mounted; NULL = "/etc/istio"
    const char *identity; // folder with cert-chain.pem, key.pem and root-cert.pem, the gateway's
                          // own identity for ISTIO_MUTUAL; NULL = "/etc/certs"
    const char
        *system_ca; // bundle to verify destinations with that name no CA; NULL = the system's
    struct tls_tickets *tickets; // of all servers, lives longer than they; NULL = each has its own
    struct slice http_alpn;      // of HTTPS servers; empty = "h2,http/1.1"
    int64_t now_s;               // seconds since the epoch, for warnings of expiry
};

// Never NULL. `previous` may be NULL and stays whole: its owner destroys it once the new one is in
// use, or the new one if it is not taken. Findings: an error for what leaves a server or
// destination without context (a server whose settings are as before then keeps the context it had,
// and a warning says so), a warning for a certificate that has expired or is not valid yet (it
// is served, as by Istio) and for curves that are not known.
struct tls_store *tls_store_load(const struct tls_store *previous, const struct model *m,
                                 const struct tls_store_options *options,
                                 struct findings *findings);
void tls_store_destroy(struct tls_store *s);

// Borrowed from the store; NULL where there is none (no TLS to terminate, or a credential is
// broken). By the address of the model's struct, so only while the model lives.
struct tls_ctx *tls_store_server(const struct tls_store *s, const struct server *server);
// With credentials of ISTIO_MUTUAL or of the settings. NULL for mode DISABLE too.
struct tls_ctx *tls_store_client(const struct tls_store *s, const struct client_tls *tls);

// Files that the configuration names, whether they could be read or not: when one changes, appears
// or disappears, it is to be loaded again. NUL-terminated.
uint32_t tls_store_file_count(const struct tls_store *s);
const char *const *tls_store_files(const struct tls_store *s);
// Whether one of them is not what it was when it was read.
bool tls_store_files_changed(const struct tls_store *s);

// A line of `proxy-config secrets`.
struct tls_store_row {
    const char *name; // "kubernetes://a", "kubernetes://a-cacert", "file-cert:…~…", "file-root:…",
                      // "default", "ROOTCA"
    bool is_ca;
    bool loaded;        // the rest is there
    bool valid;         // at the time of the load
    const char *serial; // hexadecimal
    int64_t not_before_s, not_after_s;
};
uint32_t tls_store_row_count(const struct tls_store *s);
const struct tls_store_row *tls_store_row(const struct tls_store *s, uint32_t i);
