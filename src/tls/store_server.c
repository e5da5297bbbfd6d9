// Contexts of servers that end TLS. Owns nothing; what it makes is the store's. Control thread.
#include "tls/store_internal.h"
#include "tls/ticket.h"

static bool terminates(const struct server *s)
{
    return s->tls && (s->port.protocol == PROTO_HTTPS || s->port.protocol == PROTO_TLS) &&
           s->tls->mode != TLS_PASSTHROUGH && s->tls->mode != TLS_AUTO_PASSTHROUGH;
}

// A Secret that a Gateway names: that there is none, `analyze` says in the same words.
static enum err secret_of(struct loading *l, const struct subject *who, struct slice name,
                          struct credential *out, bool *said)
{
    if (credential_is_builtin(name))
        return store_own_identity(l, out);
    enum err e =
        credential_from_secret(&l->sources, name, who->meta->ns, out, l->why, sizeof(l->why));
    *said = e == ERR_NOT_FOUND;
    if (*said)
        finding_add(l->findings, SEVERITY_ERROR, "IST0101", who->pos, who->meta,
                    "Referenced credentialName not found: \"%.*s\"", SLICE_FMT(name));
    return e;
}

static struct shared *cert_of_secret(struct loading *l, const struct subject *who,
                                     struct slice name, struct slice *ocsp)
{
    struct credential c;
    bool said = false;
    enum err e = secret_of(l, who, name, &c, &said);
    *ocsp = c.ocsp;
    if (!said)
        return store_take_cert(l, who, e, &c);
    store_row_of_cert(l, c.row, NULL);
    return NULL;
}

static struct shared *cert_of_files(struct loading *l, const struct subject *who,
                                    struct slice chain, struct slice key)
{
    struct credential c;
    return store_take_cert(
        l, who, credential_from_files(&l->sources, chain, key, &c, l->why, sizeof(l->why)), &c);
}

static struct shared *cert_of_identity(struct loading *l, const struct subject *who)
{
    struct credential c;
    return store_take_cert(l, who, store_own_identity(l, &c), &c);
}

struct identities {
    struct shared *certs[TLS_IDENTITIES_MAX];
    struct slice ocsp[TLS_IDENTITIES_MAX];
    uint32_t count;
    bool complete; // none of those named is missing
};

static void identity_add(struct identities *ids, struct shared *o, struct slice ocsp)
{
    if (!o)
        ids->complete = false;
    else if (ids->count < TLS_IDENTITIES_MAX) {
        ids->certs[ids->count] = o;
        ids->ocsp[ids->count++] = ocsp;
    }
}

static uint32_t at_most(uint32_t n)
{
    return n < TLS_IDENTITIES_MAX ? n : TLS_IDENTITIES_MAX;
}

static void server_identities(struct loading *l, struct subject who, const struct server_tls *t,
                              struct identities *ids)
{
    struct slice ocsp = {NULL, 0}, none = ocsp;
    struct pos here = who.pos;
    ids->complete = true;
    for (uint32_t i = 0; i < at_most(t->credential_names.count); i++) {
        who.pos = t->credential_names.items[i].pos;
        struct shared *o = cert_of_secret(l, &who, t->credential_names.items[i].text, &ocsp);
        identity_add(ids, o, ocsp);
    }
    for (uint32_t i = 0; i < at_most(t->certificate_count); i++) {
        const struct tls_certificate *c = &t->certificates[i];
        who.pos = c->pos;
        identity_add(ids, cert_of_files(l, &who, c->server_certificate, c->private_key), none);
    }
    who.pos = t->credential_name.len ? t->credential_pos : here;
    if (t->credential_names.count || t->certificate_count)
        return;
    if (t->credential_name.len) {
        struct shared *o = cert_of_secret(l, &who, t->credential_name, &ocsp);
        identity_add(ids, o, ocsp);
    } else if (t->mode == TLS_ISTIO_MUTUAL) {
        identity_add(ids, cert_of_identity(l, &who), none);
    } else {
        identity_add(ids, cert_of_files(l, &who, t->server_certificate, t->private_key), none);
    }
}

// CAs of clients; a caCrl beside a credential counts where that has none.
static struct shared *server_trust(struct loading *l, struct subject who,
                                   const struct server_tls *t)
{
    struct credential_ca c = {0};
    struct slice name =
        t->credential_names.count ? t->credential_names.items[0].text : t->credential_name;
    enum err e;
    if (t->ca_cert_credential_name.len)
        e = credential_ca_named(&l->sources, t->ca_cert_credential_name, who.meta->ns, &c, l->why,
                                sizeof(l->why));
    else if (credential_is_builtin(name) || (!name.len && t->mode == TLS_ISTIO_MUTUAL))
        e = store_own_root(l, &c);
    else if (name.len)
        e = credential_ca_from_secret(&l->sources, name, who.meta->ns, &c, l->why, sizeof(l->why));
    else
        e = credential_ca_from_files(&l->sources, t->ca_certificates, t->ca_crl, &c, l->why,
                                     sizeof(l->why));
    if (e == OK && !c.crl.len && t->ca_crl.len)
        e = credential_read(&l->sources, t->ca_crl, &c.crl, l->why, sizeof(l->why));
    return store_take_trust(l, &who, e, &c);
}

static void warn_of_curves(struct loading *l, const struct subject *who,
                           const struct string_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!tls_curve_is_known(list->items[i].text))
            finding_add(l->findings, SEVERITY_WARNING, NULL, list->items[i].pos, who->meta,
                        "ignoring unknown ecdh curves: [%.*s]", SLICE_FMT(list->items[i].text));
}

static void key_of_server(const struct tls_server_settings *s, const struct identities *ids,
                          const struct shared *trust, uint8_t key[33])
{
    SHA256_CTX sha;
    uint32_t numbers[] = {FOR_SERVER, s->min_version, s->max_version, s->client_auth, ids->count};
    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof(numbers));
    store_hash(&sha, s->name);
    for (uint32_t i = 0; i < ids->count; i++) {
        store_hash(&sha, store_key(ids->certs[i]->key));
        store_hash(&sha, ids->ocsp[i]);
    }
    store_hash_list(&sha, &s->cipher_suites);
    store_hash_list(&sha, &s->ecdh_curves);
    store_hash(&sha, s->alpn);
    store_hash_peer(&sha, &s->peer, trust);
    store_key_finish(&sha, SHARED_CTX, key);
}

// What the documents say of a server's TLS, whatever the credentials they name hold.
static struct slice ask_of_server(struct loading *l, const struct tls_server_settings *s,
                                  const struct server_tls *t)
{
    uint8_t *key = arena_alloc(&l->s->arena, 33);
    SHA256_CTX sha;
    uint32_t numbers[] = {t->mode, s->min_version, s->max_version, t->certificate_count};
    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof(numbers));
    store_hash(&sha, s->name);
    store_hash(&sha, t->credential_name);
    store_hash_list(&sha, &t->credential_names);
    store_hash(&sha, t->server_certificate);
    store_hash(&sha, t->private_key);
    for (uint32_t i = 0; i < t->certificate_count; i++) {
        store_hash(&sha, t->certificates[i].server_certificate);
        store_hash(&sha, t->certificates[i].private_key);
    }
    store_hash(&sha, t->ca_cert_credential_name);
    store_hash(&sha, t->ca_certificates);
    store_hash(&sha, t->ca_crl);
    store_hash_list(&sha, &s->cipher_suites);
    store_hash_list(&sha, &s->ecdh_curves);
    store_hash(&sha, s->alpn);
    store_hash_peer(&sha, &s->peer, NULL);
    store_key_finish(&sha, SHARED_CTX, key);
    return store_key(key);
}

static void use_for_server(struct loading *l, const struct server *server, struct slice ask,
                           struct shared *o)
{
    const struct server **address = arena_new(&l->s->arena, const struct server *);
    *address = server;
    (void)map_put(&l->s->servers, (struct slice){(const char *)address, sizeof(*address)}, o);
    (void)map_put(&l->s->server_by_ask, ask, o);
}

// A credential broken by a change breaks nothing that was whole before: a server that asks for what
// it asked for goes on with what it had.
static void keep_server(struct loading *l, const struct subject *who, const struct server *server,
                        struct slice ask)
{
    const struct shared *had = l->previous ? map_get(&l->previous->server_by_ask, ask) : NULL;
    if (!had)
        return;
    use_for_server(l, server, ask, store_find(l, had->key));
    finding_add(l->findings, SEVERITY_WARNING, NULL, who->pos, who->meta,
                "server %.*s: the credential that was in service is kept",
                SLICE_FMT(server->port.name));
}

static bool make_server(struct loading *l, const struct subject *who, const struct server *server,
                        struct slice ask, const struct tls_server_settings *s,
                        const uint8_t key[33])
{
    struct shared *o = store_find(l, key);
    if (!o) {
        struct tls_ctx *ctx;
        if (tls_ctx_create_server(s, &ctx, l->why, sizeof(l->why)) != OK) {
            store_complain(l, who);
            return false;
        }
        if (l->options->tickets)
            tls_tickets_attach(l->options->tickets, ctx);
        o = store_add(l, key);
        o->ctx = ctx;
    }
    use_for_server(l, server, ask, o);
    return true;
}

static void load_server(struct loading *l, const struct gateway *g, const struct server *server)
{
    static const enum tls_client_auth auths[] = {[TLS_SIMPLE] = TLS_CLIENT_AUTH_NONE,
                                                 [TLS_MUTUAL] = TLS_CLIENT_AUTH_REQUIRED,
                                                 [TLS_ISTIO_MUTUAL] = TLS_CLIENT_AUTH_REQUIRED,
                                                 [TLS_OPTIONAL_MUTUAL] = TLS_CLIENT_AUTH_OPTIONAL};
    const struct server_tls *t = server->tls;
    const struct subject who = {&g->meta, t->pos};
    struct identities ids = {0};
    bool http = server->port.protocol == PROTO_HTTPS;
    struct tls_server_settings s = {
        .name = slice_of(arena_printf(&l->scratch, "%.*s/%.*s/%.*s", SLICE_FMT(g->meta.ns),
                                      SLICE_FMT(g->meta.name), SLICE_FMT(server->port.name))),
        .min_version = t->min_version,
        .max_version = t->max_version,
        .cipher_suites = t->cipher_suites,
        .ecdh_curves = t->ecdh_curves,
        .alpn = http && l->options->http_alpn.len ? l->options->http_alpn : SLICE("h2,http/1.1"),
        .client_auth = auths[t->mode],
        .peer = {.names = t->subject_alt_names,
                 .spki_pins = t->verify_certificate_spki,
                 .hash_pins = t->verify_certificate_hash,
                 .insecure_skip_verify = t->insecure_skip_verify},
    };
    struct shared *trust = NULL;
    warn_of_curves(l, &who, &t->ecdh_curves);
    server_identities(l, who, t, &ids);
    if (s.client_auth != TLS_CLIENT_AUTH_NONE) {
        trust = server_trust(l, who, t);
        ids.complete = ids.complete && trust;
    }
    struct slice ask = ask_of_server(l, &s, t);
    if (!ids.complete || ids.count == 0) {
        keep_server(l, &who, server, ask);
        return;
    }
    s.identity_count = ids.count;
    for (uint32_t i = 0; i < ids.count; i++)
        s.identities[i] = (struct tls_identity){ids.certs[i]->cert, ids.ocsp[i]};
    s.peer.trust = trust ? trust->trust : NULL;
    uint8_t key[33];
    key_of_server(&s, &ids, trust, key);
    if (!make_server(l, &who, server, ask, &s, key))
        keep_server(l, &who, server, ask);
}

void store_load_servers(struct loading *l, const struct model *m)
{
    for (uint32_t i = 0; i < m->gateways_count; i++)
        for (uint32_t k = 0; k < m->gateways[i]->server_count; k++)
            if (terminates(&m->gateways[i]->servers[k]))
                load_server(l, m->gateways[i], &m->gateways[i]->servers[k]);
}
