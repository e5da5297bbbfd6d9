// Contexts of destinations. Owns nothing; what it makes is the store's. Control thread.
#include "config/names.h"
#include "tls/store_internal.h"
#include <unistd.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static enum err system_ca(struct loading *l, struct credential_ca *out)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine
        "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
        "/etc/ssl/ca-bundle.pem",             // openSUSE
        "/etc/ssl/cert.pem",
    };
    const char *path = l->options->system_ca;
    for (uint32_t i = 0; !path && i < COUNT_OF(places); i++)
        if (access(places[i], R_OK) == 0)
            path = places[i];
    path = path ? path : places[0];
    return credential_ca_from_files(&l->sources, slice_of(path), (struct slice){NULL, 0}, out,
                                    l->why, sizeof(l->why));
}

// Istio's kubernetes://name is a Secret of its proxy's namespace.
static struct slice namespace_of(const struct loading *l, const struct subject *who,
                                 struct slice name)
{
    return credential_is_in(&l->sources, name, l->proxy_ns) ? l->proxy_ns : who->meta->ns;
}

static struct shared *client_trust(struct loading *l, const struct subject *who,
                                   const struct client_tls *t)
{
    struct credential_ca c;
    enum err e;
    if (t->mode == CLIENT_TLS_ISTIO_MUTUAL || credential_is_builtin(t->credential_name))
        e = store_own_root(l, &c);
    else if (t->credential_name.len)
        e = credential_ca_from_secret(&l->sources, t->credential_name,
                                      namespace_of(l, who, t->credential_name), &c, l->why,
                                      sizeof(l->why));
    else if (t->ca_certificates.len && !slice_eq(t->ca_certificates, SLICE("system")))
        e = credential_ca_from_files(&l->sources, t->ca_certificates, t->ca_crl, &c, l->why,
                                     sizeof(l->why));
    else
        e = system_ca(l, &c);
    if (e == OK && !c.crl.len && t->ca_crl.len)
        e = credential_read(&l->sources, t->ca_crl, &c.crl, l->why, sizeof(l->why));
    return store_take_trust(l, who, e, &c);
}

static struct shared *client_identity(struct loading *l, const struct subject *who,
                                      const struct client_tls *t)
{
    struct credential c;
    enum err e;
    if (t->mode == CLIENT_TLS_ISTIO_MUTUAL || credential_is_builtin(t->credential_name))
        e = store_own_identity(l, &c);
    else if (t->credential_name.len)
        e = credential_from_secret(&l->sources, t->credential_name,
                                   namespace_of(l, who, t->credential_name), &c, l->why,
                                   sizeof(l->why));
    else
        e = credential_from_files(&l->sources, t->client_certificate, t->private_key, &c, l->why,
                                  sizeof(l->why));
    return store_take_cert(l, who, e, &c);
}

static void key_of_client(const struct tls_client_settings *s, const struct shared *identity,
                          const struct shared *trust, uint8_t key[33])
{
    SHA256_CTX sha;
    uint32_t numbers[] = {FOR_CLIENT, s->check_host};
    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof(numbers));
    store_hash(&sha, identity ? store_key(identity->key) : (struct slice){NULL, 0});
    store_hash(&sha, s->sni);
    store_hash_peer(&sha, &s->peer, trust);
    store_key_finish(&sha, SHARED_CTX, key);
}

static void make_client(struct loading *l, const struct subject *who, const struct client_tls *t,
                        const struct tls_client_settings *s, const uint8_t key[33])
{
    struct shared *o = store_find(l, key);
    if (!o) {
        struct tls_ctx *ctx;
        if (tls_ctx_create_client(s, &ctx, l->why, sizeof(l->why)) != OK) {
            store_complain(l, who);
            return;
        }
        o = store_add(l, key);
        o->ctx = ctx;
    }
    const struct client_tls **address = arena_new(&l->s->arena, const struct client_tls *);
    *address = t;
    (void)map_put(&l->s->clients, (struct slice){(const char *)address, sizeof(*address)}, o);
}

static struct slice lower(struct loading *l, struct slice host)
{
    char *copy = arena_alloc(&l->scratch, host.len + 1);
    for (size_t i = 0; i < host.len; i++)
        copy[i] =
            (char)(host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? host.ptr[i] | 0x20 : host.ptr[i]);
    return (struct slice){copy, host.len};
}

// Whose subjectAltNames the destination is checked for, in every mode, where the rule has none. A
// short host is of the rule's namespace.
static const struct service_entry *entry_of(struct loading *l, const struct destination_rule *d)
{
    return map_get(&l->entries, lower(l, host_fqdn(&l->scratch, d->host, d->meta.ns)));
}

static void load_client(struct loading *l, const struct destination_rule *d,
                        const struct client_tls *t)
{
    if (!t || t->mode == CLIENT_TLS_DISABLE)
        return;
    const struct subject who = {&d->meta, t->pos};
    struct tls_client_settings s = {
        .sni = t->sni,
        .check_host = t->mode != CLIENT_TLS_ISTIO_MUTUAL,
        .peer = {.names = t->subject_alt_names,
                 .insecure_skip_verify = t->insecure_skip_verify == 1},
    };
    const struct service_entry *entry = entry_of(l, d);
    if (!s.peer.names.count && entry)
        s.peer.names = entry->subject_alt_names;
    bool shows = t->mode != CLIENT_TLS_SIMPLE;
    struct shared *identity = shows ? client_identity(l, &who, t) : NULL;
    struct shared *trust = s.peer.insecure_skip_verify ? NULL : client_trust(l, &who, t);
    if ((shows && !identity) || (!s.peer.insecure_skip_verify && !trust))
        return;
    s.identity.cert = identity ? identity->cert : NULL;
    s.peer.trust = trust ? trust->trust : NULL;
    uint8_t key[33];
    key_of_client(&s, identity, trust, key);
    make_client(l, &who, t, &s, key);
}

static void load_policy(struct loading *l, const struct destination_rule *d,
                        const struct traffic_policy *p)
{
    if (!p)
        return;
    load_client(l, d, p->tls);
    for (uint32_t i = 0; i < p->port_level_count; i++)
        load_client(l, d, p->port_level[i].tls);
}

static void load_rule(struct loading *l, const struct destination_rule *d)
{
    load_policy(l, d, d->traffic_policy);
    for (uint32_t i = 0; i < d->subset_count; i++)
        load_policy(l, d, d->subsets[i].traffic_policy);
}

static void index_entries(struct loading *l, const struct model *m)
{
    map_init(&l->entries, &l->scratch, m->service_entries_count);
    for (uint32_t i = m->service_entries_count; i-- > 0;) { // the first one wins
        struct service_entry *e = m->service_entries[i];
        for (uint32_t k = 0; e->subject_alt_names.count && k < e->hosts.count; k++)
            (void)map_put(&l->entries, lower(l, e->hosts.items[k].text), e);
    }
}

static bool has_label(const struct label_map *of, const struct label *one)
{
    for (uint32_t i = 0; i < of->count; i++)
        if (slice_eq(of->items[i].key, one->key) && slice_eq(of->items[i].value, one->value))
            return true;
    return false;
}

// The Service of the gateway's own Pods: what it selects by, the Gateway does too.
static bool is_of_gateway(const struct kube_service *s, const struct gateway *g)
{
    for (uint32_t i = 0; i < s->selector.count; i++)
        if (!has_label(&g->selector, &s->selector.items[i]))
            return false;
    return s->selector.count > 0;
}

static struct slice find_proxy(const struct model *m)
{
    for (uint32_t i = 0; i < m->gateways_count; i++)
        for (uint32_t k = 0; k < m->services_count; k++)
            if (is_of_gateway(m->services[k], m->gateways[i]))
                return m->services[k]->meta.ns;
    return SLICE("istio-system");
}

void store_load_clients(struct loading *l, const struct model *m)
{
    l->proxy_ns = find_proxy(m);
    index_entries(l, m);
    for (uint32_t i = 0; i < m->destination_rules_count; i++)
        load_rule(l, m->destination_rules[i]);
}
