// What contexts are made of: certificates and CAs, each parsed once for all that name it, found
// again in the next load, and listed. The store owns a reference of each. Control thread.
#include "core/check.h"
#include "tls/store_internal.h"
#include <stdlib.h>

void store_complain(struct loading *l, const struct subject *who)
{
    finding_add(l->findings, SEVERITY_ERROR, NULL, who->pos, who->meta, "%s", l->why);
}

// ---- shared objects

void store_put(struct shared *o)
{
    if (--o->references > 0)
        return;
    switch ((enum shared_kind)o->key[0]) {
    case SHARED_CERT:
        cert_destroy(o->cert);
        break;
    case SHARED_TRUST:
        tls_trust_put(o->trust);
        break;
    case SHARED_CTX:
        tls_ctx_put(o->ctx);
        break;
    }
    free(o);
}

struct slice store_key(const uint8_t key[33])
{
    return (struct slice){(const char *)key, 33};
}

// One that this store or the one before it has; held by this one then.
struct shared *store_find(struct loading *l, const uint8_t key[33])
{
    struct shared *o = map_get(&l->s->shared, store_key(key));
    if (o || !l->previous)
        return o;
    o = map_get(&l->previous->shared, store_key(key));
    if (o) {
        o->references++;
        (void)map_put(&l->s->shared, store_key(o->key), o);
    }
    return o;
}

struct shared *store_add(struct loading *l, const uint8_t key[33])
{
    struct shared *o = calloc(1, sizeof(*o));
    check(o);
    memcpy(o->key, key, sizeof(o->key));
    o->references = 1;
    (void)map_put(&l->s->shared, store_key(o->key), o);
    return o;
}

void store_hash(SHA256_CTX *sha, struct slice text)
{
    uint64_t n = text.len; // first, so that no two lists of texts look alike
    SHA256_Update(sha, &n, sizeof(n));
    SHA256_Update(sha, text.ptr, text.len);
}

void store_hash_list(SHA256_CTX *sha, const struct string_list *list)
{
    uint64_t n = list->count;
    SHA256_Update(sha, &n, sizeof(n));
    for (uint32_t i = 0; i < list->count; i++)
        store_hash(sha, list->items[i].text);
}

void store_key_finish(SHA256_CTX *sha, enum shared_kind kind, uint8_t key[33])
{
    key[0] = (uint8_t)kind;
    SHA256_Final(key + 1, sha);
}

void store_hash_peer(SHA256_CTX *sha, const struct tls_peer_settings *p, const struct shared *trust)
{
    uint8_t flag = p->insecure_skip_verify;
    store_hash(sha, trust ? store_key(trust->key) : (struct slice){NULL, 0});
    store_hash_list(sha, &p->names);
    store_hash_list(sha, &p->spki_pins);
    store_hash_list(sha, &p->hash_pins);
    SHA256_Update(sha, &flag, 1);
}

// ---- the listing

static struct tls_store_row *row_add(struct loading *l, const char *name, bool is_ca)
{
    struct tls_store *s = l->s;
    if (map_get(&s->rows_by_name, slice_of(name)))
        return NULL;
    if (s->row_count == s->row_cap) {
        s->row_cap = s->row_cap ? s->row_cap * 2 : 16;
        s->rows = realloc(s->rows, sizeof(*s->rows) * s->row_cap);
        check(s->rows);
    }
    struct tls_store_row *r = &s->rows[s->row_count++];
    *r =
        (struct tls_store_row){.name = arena_strdup(&s->arena, name), .is_ca = is_ca, .serial = ""};
    (void)map_put(&s->rows_by_name, slice_of(r->name), s);
    return r;
}

static void row_fill(struct loading *l, struct tls_store_row *r, const char *serial, int64_t from,
                     int64_t until)
{
    if (!r)
        return;
    r->loaded = true;
    r->serial = arena_strdup(&l->s->arena, serial);
    r->not_before_s = from;
    r->not_after_s = until;
    r->valid = from <= l->options->now_s && l->options->now_s <= until;
}

void store_row_of_cert(struct loading *l, const char *name, const struct cert *c)
{
    struct tls_store_row *r = row_add(l, name, false);
    if (c)
        row_fill(l, r, cert_serial(c), cert_not_before_s(c), cert_not_after_s(c));
}

static void row_of_trust(struct loading *l, const char *name, const struct tls_trust *t)
{
    struct tls_store_row *r = row_add(l, name, true);
    if (t)
        row_fill(l, r, tls_trust_serial(t), tls_trust_not_before_s(t), tls_trust_not_after_s(t));
}

// ---- parsing what was found

static void prefix_why(struct loading *l, const char *from)
{
    char reason[WHY_CAP];
    snprintf(reason, sizeof(reason), "%s", l->why);
    snprintf(l->why, sizeof(l->why), "%s: %.*s", from, (int)sizeof(l->why) / 2, reason);
}

static void warn_of_dates(struct loading *l, const struct subject *who, const struct credential *c,
                          const struct cert *cert)
{
    if (cert_covers(cert, l->options->now_s, l->why, sizeof(l->why)))
        return;
    finding_add(l->findings, SEVERITY_WARNING, NULL, who->pos, who->meta, "%s: %s", c->from,
                l->why);
}

// The certificate with its key; NULL after a finding.
static struct shared *parse_cert(struct loading *l, const struct subject *who,
                                 const struct credential *c)
{
    SHA256_CTX sha;
    uint8_t key[33];
    SHA256_Init(&sha);
    store_hash(&sha, c->chain);
    store_hash(&sha, c->key);
    store_key_finish(&sha, SHARED_CERT, key);
    struct shared *o = store_find(l, key);
    struct cert *cert = o ? o->cert : NULL;
    if (!o && cert_parse(c->chain, c->key, &cert, l->why, sizeof(l->why)) != OK) {
        prefix_why(l, c->from);
        store_complain(l, who);
        return NULL;
    }
    if (!o) {
        o = store_add(l, key);
        o->cert = cert;
    }
    warn_of_dates(l, who, c, o->cert);
    return o;
}

static struct shared *parse_trust(struct loading *l, const struct subject *who,
                                  const struct credential_ca *c)
{
    SHA256_CTX sha;
    uint8_t key[33];
    SHA256_Init(&sha);
    store_hash(&sha, c->ca);
    store_hash(&sha, c->crl);
    store_key_finish(&sha, SHARED_TRUST, key);
    struct shared *o = store_find(l, key);
    if (o)
        return o;
    struct tls_trust *t;
    if (tls_trust_create(c->ca, c->crl, &t, l->why, sizeof(l->why)) != OK) {
        prefix_why(l, c->from);
        store_complain(l, who);
        return NULL;
    }
    o = store_add(l, key);
    o->trust = t;
    return o;
}

// What was found (`e` tells whether), parsed and listed.
struct shared *store_take_cert(struct loading *l, const struct subject *who, enum err e,
                               const struct credential *c)
{
    if (e != OK)
        store_complain(l, who);
    struct shared *o = e == OK ? parse_cert(l, who, c) : NULL;
    store_row_of_cert(l, c->row, o ? o->cert : NULL);
    return o;
}

struct shared *store_take_trust(struct loading *l, const struct subject *who, enum err e,
                                const struct credential_ca *c)
{
    if (e != OK)
        store_complain(l, who);
    struct shared *o = e == OK ? parse_trust(l, who, c) : NULL;
    row_of_trust(l, c->row, o ? o->trust : NULL);
    return o;
}

// ---- the gateway's own identity

static struct slice identity_path(struct loading *l, const char *file)
{
    return slice_of(arena_printf(&l->scratch, "%s/%s", l->identity, file));
}

enum err store_own_identity(struct loading *l, struct credential *out)
{
    enum err e = credential_from_files(&l->sources, identity_path(l, "cert-chain.pem"),
                                       identity_path(l, "key.pem"), out, l->why, sizeof(l->why));
    out->row = "default";
    if (e != OK)
        prefix_why(l, "the gateway's own identity");
    return e;
}

enum err store_own_root(struct loading *l, struct credential_ca *out)
{
    enum err e = credential_ca_from_files(&l->sources, identity_path(l, "root-cert.pem"),
                                          (struct slice){NULL, 0}, out, l->why, sizeof(l->why));
    out->row = "ROOTCA";
    if (e != OK)
        prefix_why(l, "the gateway's own identity");
    return e;
}
