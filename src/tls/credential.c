// Finds the bytes of credentials. Owns the files' bytes until credential_sources_fini; those of
// Secrets and ConfigMaps are the model's. Control thread.
#include "tls/credential.h"
#include "core/check.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/mem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (4u << 20) // a bundle of CAs has 250 KB
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

struct credential_object { // a Secret or ConfigMap
    struct credential_object *next;
    const struct metadata *meta;
    const struct label_map *data;
};

__attribute__((format(printf, 4, 5))) static enum err refuse(enum err e, char *why, size_t cap,
                                                             const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, cap, fmt, ap);
    va_end(ap);
    return e;
}

// ---- files

static bool read_all(int fd, struct credential_file *f)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return false;
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : S_ISREG(st.st_mode) ? EFBIG : EINVAL;
        return false;
    }
    size_t cap = (size_t)st.st_size + 1; // one more, to see that it has not grown
    char *bytes = malloc(cap);
    check(bytes);
    ssize_t n = 1;
    while (f->len < cap && (n = read(fd, bytes + f->len, cap - f->len)) > 0)
        f->len += (size_t)n;
    if (n < 0 || f->len == cap) {
        errno = n < 0 ? errno : EAGAIN;
        OPENSSL_cleanse(bytes, f->len);
        free(bytes);
        f->len = 0;
        return false;
    }
    f->bytes = bytes;
    return true;
}

uint64_t credential_file_sign(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return 0;
    uint64_t facts[] = {st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                        (uint64_t)st.st_mtim.tv_nsec};
    return slice_hash((struct slice){(const char *)facts, sizeof(facts)}) | 1u;
}

static struct credential_file *open_file(struct credential_sources *s, struct slice path)
{
    struct credential_file *f = map_get(&s->files, path);
    if (f)
        return f;
    f = arena_new(s->arena, struct credential_file);
    f->path = arena_dup(s->arena, path);
    f->sign = credential_file_sign(f->path.ptr);
    int fd = -1;
    errno = ENOENT;
    if (memchr(path.ptr, '\0', path.len) == NULL) // not blocking: it may be a pipe
        fd = open(f->path.ptr, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || !read_all(fd, f))
        f->error = errno;
    if (fd >= 0)
        close(fd);
    (void)map_put(&s->files, f->path, f);
    *s->last_file = f;
    s->last_file = &f->next;
    return f;
}

static void add_object(struct arena *arena, struct map *by_name, const struct metadata *meta,
                       const struct label_map *data)
{
    struct credential_object *o = arena_new(arena, struct credential_object);
    *o = (struct credential_object){.meta = meta, .data = data};
    struct credential_object *first = map_get(by_name, meta->name);
    if (!first) {
        (void)map_put(by_name, meta->name, o);
        return;
    }
    while (first->next)
        first = first->next;
    first->next = o;
}

void credential_sources_init(struct credential_sources *s, const struct model *m, const char *mount,
                             struct arena *arena)
{
    *s = (struct credential_sources){.m = m, .mount = mount, .arena = arena};
    s->last_file = &s->first_file;
    map_init(&s->files, arena, 0);
    map_init(&s->secrets, arena, m->secrets_count);
    map_init(&s->configmaps, arena, m->configmaps_count);
    for (uint32_t i = 0; i < m->secrets_count; i++)
        add_object(arena, &s->secrets, &m->secrets[i]->meta, &m->secrets[i]->data);
    for (uint32_t i = 0; i < m->configmaps_count; i++)
        add_object(arena, &s->configmaps, &m->configmaps[i]->meta, &m->configmaps[i]->data);
}

void credential_sources_fini(struct credential_sources *s)
{
    for (struct credential_file *f = s->first_file; f; f = f->next) {
        if (f->bytes)
            OPENSSL_cleanse(f->bytes, f->len);
        free(f->bytes);
        f->bytes = NULL;
    }
}

// ---- objects

static struct slice value_of(const struct credential_object *o, const char *key)
{
    for (uint32_t i = 0; i < o->data->count; i++)
        if (slice_eq(o->data->items[i].key, slice_of(key)))
            return o->data->items[i].value;
    return (struct slice){NULL, 0};
}

static bool has_key(const struct credential_object *o, const char *key)
{
    for (uint32_t i = 0; i < o->data->count; i++)
        if (slice_eq(o->data->items[i].key, slice_of(key)))
            return true;
    return false;
}

struct reference {
    bool configmap, invalid;
    struct slice ns, name; // ns empty = not given
};

static bool cut_prefix(struct slice *s, const char *prefix)
{
    if (!slice_has_prefix(*s, slice_of(prefix)))
        return false;
    *s = slice_from(*s, strlen(prefix));
    return true;
}

static struct reference parse_reference(struct slice text)
{
    struct reference r = {0};
    if (cut_prefix(&text, "configmap://"))
        r.configmap = true;
    else if (cut_prefix(&text, "invalid://"))
        r.invalid = true;
    else if (!cut_prefix(&text, "kubernetes-gateway://") && !cut_prefix(&text, "kubernetes://"))
        (void)cut_prefix(&text, "sds://");
    ptrdiff_t slash = slice_find(text, '/');
    r.name = slash < 0 ? text : slice_from(text, (size_t)slash + 1);
    if (slash >= 0)
        r.ns = (struct slice){text.ptr, (size_t)slash};
    return r;
}

bool credential_is_builtin(struct slice name)
{
    return slice_has_prefix(name, SLICE("builtin://"));
}

static const struct credential_object *find_in(const struct map *by_name, struct slice name,
                                               struct slice ns, struct slice near)
{
    const struct credential_object *first = map_get(by_name, name), *system = NULL;
    for (const struct credential_object *o = first; o; o = o->next) {
        if (slice_eq(o->meta->ns, ns.len ? ns : near))
            return o;
        if (!system && slice_eq(o->meta->ns, SLICE("istio-system")))
            system = o;
    }
    if (ns.len)
        return NULL;
    return system ? system : first;
}

bool credential_is_in(const struct credential_sources *s, struct slice name, struct slice ns)
{
    struct reference r = parse_reference(name);
    if (r.ns.len || r.invalid || r.configmap)
        return false;
    struct slice ca = slice_of(arena_printf(s->arena, "%.*s-cacert", SLICE_FMT(r.name)));
    return find_in(&s->secrets, r.name, ns, ns) || find_in(&s->secrets, ca, ns, ns);
}

static int compare_keys(const void *a, const void *b)
{
    return slice_cmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

// The first three keys, sorted, and how many more, as Istio says it.
static const char *found_keys(struct credential_sources *s, const struct credential_object *o)
{
    const char *out = "";
    uint32_t n = o->data->count;
    if (n == 0)
        return out;
    struct label *sorted = arena_array(s->arena, struct label, n);
    memcpy(sorted, o->data->items, sizeof(*sorted) * n);
    qsort(sorted, n, sizeof(*sorted), compare_keys);
    for (uint32_t i = 0; i < n && i < 3; i++)
        out = arena_printf(s->arena, "%s%s%.*s", out, i ? ", " : "", SLICE_FMT(sorted[i].key));
    return n < 3 ? out : arena_printf(s->arena, "%s, and %u more...", out, n - 3);
}

static enum err not_found(struct slice name, struct slice ns, struct slice near, const char *what,
                          char *why, size_t cap)
{
    struct slice shown = ns.len ? ns : near;
    return refuse(ERR_NOT_FOUND, why, cap, "%s %.*s/%.*s not found", what, SLICE_FMT(shown),
                  SLICE_FMT(name));
}

static const char *name_of(struct credential_sources *s, const char *what,
                           const struct credential_object *o)
{
    return arena_printf(s->arena, "%s %.*s/%.*s", what, SLICE_FMT(o->meta->ns),
                        SLICE_FMT(o->meta->name));
}

// ---- certificates and keys

static bool extract_pair(const struct credential_object *o, struct credential *out)
{
    out->chain = value_of(o, "cert");
    out->key = value_of(o, "key");
    if (out->chain.len && out->key.len)
        return true;
    out->chain = value_of(o, "tls.crt");
    out->key = value_of(o, "tls.key");
    out->ocsp = value_of(o, "tls.ocsp-staple");
    return out->chain.len && out->key.len;
}

enum err credential_from_secret(struct credential_sources *s, struct slice name, struct slice ns,
                                struct credential *out, char *why, size_t why_cap)
{
    static const char *const pairs[][2] = {{"cert", "key"}, {"tls.crt", "tls.key"}};
    struct reference r = parse_reference(name);
    *out =
        (struct credential){.row = arena_printf(s->arena, "kubernetes://%.*s", SLICE_FMT(r.name))};
    out->from = arena_printf(s->arena, "secret %.*s", SLICE_FMT(name));
    if (r.invalid || r.configmap)
        return refuse(ERR_INVALID, why, why_cap, "%.*s is not the name of a Secret",
                      SLICE_FMT(name));
    const struct credential_object *o = find_in(&s->secrets, r.name, r.ns, ns);
    if (!o)
        return not_found(r.name, r.ns, ns, "secret", why, why_cap);
    out->from = name_of(s, "secret", o);
    if (extract_pair(o, out))
        return OK;
    for (uint32_t i = 0; i < COUNT_OF(pairs); i++)
        if (has_key(o, pairs[i][0]) && has_key(o, pairs[i][1]))
            return refuse(ERR_INVALID, why, why_cap,
                          "%s: found keys \"%s\" and \"%s\", but they were empty", out->from,
                          pairs[i][0], pairs[i][1]);
    return refuse(ERR_INVALID, why, why_cap,
                  "%s: found secret, but didn't have expected keys (cert and key) or (tls.crt and "
                  "tls.key); found: %s",
                  out->from, found_keys(s, o));
}

// ---- CAs

static enum err extract_ca(struct credential_sources *s, const struct credential_object *o,
                           const char *what, struct credential_ca *out, char *why, size_t cap)
{
    static const char *const keys[][2] = {{"cacert", "crl"}, {"ca.crt", "ca.crl"}};
    out->from = name_of(s, what, o);
    for (uint32_t i = 0; i < COUNT_OF(keys); i++) {
        out->ca = value_of(o, keys[i][0]);
        out->crl = value_of(o, keys[i][1]);
        if (out->ca.len)
            return OK;
    }
    for (uint32_t i = 0; i < COUNT_OF(keys); i++)
        if (has_key(o, keys[i][0]))
            return refuse(ERR_INVALID, why, cap, "%s: found key \"%s\", but it was empty",
                          out->from, keys[i][0]);
    return refuse(ERR_INVALID, why, cap,
                  "%s: found secret, but didn't have expected keys cacert or ca.crt; found: %s",
                  out->from, found_keys(s, o));
}

enum err credential_ca_from_secret(struct credential_sources *s, struct slice name, struct slice ns,
                                   struct credential_ca *out, char *why, size_t why_cap)
{
    struct reference r = parse_reference(name);
    if (r.configmap)
        return credential_ca_named(s, name, ns, out, why, why_cap);
    struct slice own = slice_of(arena_printf(s->arena, "%.*s-cacert", SLICE_FMT(r.name)));
    *out = (struct credential_ca){
        .row = arena_printf(s->arena, "kubernetes://%.*s-cacert", SLICE_FMT(r.name))};
    out->from = arena_printf(s->arena, "secret %.*s", SLICE_FMT(name));
    if (r.invalid)
        return refuse(ERR_INVALID, why, why_cap, "%.*s is not the name of a Secret",
                      SLICE_FMT(name));
    // Istio has both in one namespace, its proxy's.
    const struct credential_object *same = find_in(&s->secrets, r.name, r.ns, ns);
    const struct credential_object *o = find_in(&s->secrets, own, same ? same->meta->ns : r.ns, ns);
    o = o ? o : same;
    if (!o)
        return not_found(r.name, r.ns, ns, "secret", why, why_cap);
    return extract_ca(s, o, "secret", out, why, why_cap);
}

enum err credential_ca_named(struct credential_sources *s, struct slice name, struct slice ns,
                             struct credential_ca *out, char *why, size_t why_cap)
{
    struct reference r = parse_reference(name);
    *out = (struct credential_ca){.row = arena_printf(s->arena, "%s://%.*s",
                                                      r.configmap ? "configmap" : "kubernetes",
                                                      SLICE_FMT(r.name))};
    out->from = arena_printf(s->arena, "%.*s", SLICE_FMT(name));
    if (r.invalid)
        return refuse(ERR_INVALID, why, why_cap, "%.*s is not the name of a Secret",
                      SLICE_FMT(name));
    const struct credential_object *o = r.configmap ? NULL : find_in(&s->secrets, r.name, r.ns, ns);
    if (o)
        return extract_ca(s, o, "secret", out, why, why_cap);
    o = find_in(&s->configmaps, r.name, r.ns, ns);
    if (!o)
        return not_found(r.name, r.ns, ns, r.configmap ? "configmap" : "secret", why, why_cap);
    return extract_ca(s, o, "configmap", out, why, why_cap);
}

// ---- files, or what would be mounted there

// <mount>/<secret>/<key>
static bool split_mounted(const struct credential_sources *s, struct slice path,
                          struct slice *secret, struct slice *key)
{
    if (!cut_prefix(&path, s->mount) || !cut_prefix(&path, "/"))
        return false;
    ptrdiff_t slash = slice_find(path, '/');
    if (slash <= 0)
        return false;
    *secret = (struct slice){path.ptr, (size_t)slash};
    *key = slice_from(path, (size_t)slash + 1);
    return key->len > 0 && slice_find(*key, '/') < 0;
}

static struct slice mounted(struct credential_sources *s, struct slice secret, struct slice key)
{
    const char *prefixes[] = {"", "istio-"}; // istio-ingressgateway-certs is ingressgateway-certs
    const struct slice none = {NULL, 0};
    for (uint32_t i = 0; i < COUNT_OF(prefixes); i++) {
        const char *name = arena_printf(s->arena, "%s%.*s", prefixes[i], SLICE_FMT(secret));
        const struct credential_object *o =
            find_in(&s->secrets, slice_of(name), none, SLICE("istio-system"));
        if (!o)
            continue;
        struct slice value = value_of(o, arena_dup(s->arena, key).ptr);
        if (value.len)
            return value;
    }
    return none;
}

enum err credential_read(struct credential_sources *s, struct slice path, struct slice *out,
                         char *why, size_t why_cap)
{
    struct slice secret = {NULL, 0}, key = {NULL, 0};
    const struct credential_file *f = open_file(s, path);
    *out = (struct slice){f->bytes, f->len};
    if (f->bytes)
        return OK;
    if (f->error != ENOENT || !split_mounted(s, path, &secret, &key))
        return refuse(f->error == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, why, why_cap, "%.*s: %s",
                      SLICE_FMT(path), strerror(f->error));
    *out = mounted(s, secret, key);
    if (out->len)
        return OK;
    return refuse(ERR_NOT_FOUND, why, why_cap,
                  "%.*s: %s, and neither Secret %.*s nor istio-%.*s has the key %.*s",
                  SLICE_FMT(path), strerror(f->error), SLICE_FMT(secret), SLICE_FMT(secret),
                  SLICE_FMT(key));
}

enum err credential_from_files(struct credential_sources *s, struct slice chain, struct slice key,
                               struct credential *out, char *why, size_t why_cap)
{
    *out = (struct credential){
        .from = arena_dup(s->arena, chain).ptr,
        .row = arena_printf(s->arena, "file-cert:%.*s~%.*s", SLICE_FMT(chain), SLICE_FMT(key))};
    enum err e = credential_read(s, chain, &out->chain, why, why_cap);
    return e == OK ? credential_read(s, key, &out->key, why, why_cap) : e;
}

enum err credential_ca_from_files(struct credential_sources *s, struct slice ca, struct slice crl,
                                  struct credential_ca *out, char *why, size_t why_cap)
{
    *out = (struct credential_ca){.from = arena_dup(s->arena, ca).ptr,
                                  .row = arena_printf(s->arena, "file-root:%.*s", SLICE_FMT(ca))};
    enum err e = credential_read(s, ca, &out->ca, why, why_cap);
    return e == OK && crl.len ? credential_read(s, crl, &out->crl, why, why_cap) : e;
}
