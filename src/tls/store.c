// The contexts of a configuration. Owns a reference of each shared object (certificate, CAs,
// context), which is destroyed with the last store that holds it, and the texts of its listing. An
// object is found again by the SHA-256 of all it was made of. Control thread.
#include "core/check.h"
#include "tls/store_internal.h"
#include <stdlib.h>

static void keep_files(struct loading *l)
{
    uint32_t n = 0;
    for (const struct credential_file *f = l->sources.first_file; f; f = f->next)
        n++;
    l->s->files = arena_array(&l->s->arena, const char *, n);
    l->s->file_signs = arena_array(&l->s->arena, uint64_t, n);
    for (const struct credential_file *f = l->sources.first_file; f; f = f->next) {
        l->s->file_signs[l->s->file_count] = f->sign;
        l->s->files[l->s->file_count++] = arena_dup(&l->s->arena, f->path).ptr;
    }
}

static struct tls_store *store_create(void)
{
    struct tls_store *s = calloc(1, sizeof(*s));
    check(s);
    arena_init(&s->arena, 0);
    map_init(&s->shared, NULL, 0);
    map_init(&s->servers, NULL, 0);
    map_init(&s->clients, NULL, 0);
    map_init(&s->server_by_ask, NULL, 0);
    map_init(&s->rows_by_name, NULL, 0);
    return s;
}

struct tls_store *tls_store_load(const struct tls_store *previous, const struct model *m,
                                 const struct tls_store_options *options, struct findings *findings)
{
    struct loading l = {.s = store_create(),
                        .previous = previous,
                        .options = options,
                        .identity = options->identity ? options->identity : "/etc/certs",
                        .findings = findings};
    arena_init(&l.scratch, 0);
    credential_sources_init(&l.sources, m, options->mount ? options->mount : "/etc/istio",
                            &l.scratch);
    store_load_servers(&l, m);
    store_load_clients(&l, m);
    keep_files(&l);
    credential_sources_fini(&l.sources);
    arena_fini(&l.scratch);
    return l.s;
}

void tls_store_destroy(struct tls_store *s)
{
    if (!s)
        return;
    struct map_entry *e;
    for (uint32_t i = 0; map_next(&s->shared, &i, &e);)
        store_put(e->value);
    map_fini(&s->shared);
    map_fini(&s->servers);
    map_fini(&s->clients);
    map_fini(&s->server_by_ask);
    map_fini(&s->rows_by_name);
    free(s->rows);
    arena_fini(&s->arena);
    free(s);
}

static struct tls_ctx *ctx_at(const struct map *m, const void *address)
{
    const struct shared *o = map_get(m, (struct slice){(const char *)&address, sizeof(address)});
    return o ? o->ctx : NULL;
}

struct tls_ctx *tls_store_server(const struct tls_store *s, const struct server *server)
{
    return ctx_at(&s->servers, server);
}

struct tls_ctx *tls_store_client(const struct tls_store *s, const struct client_tls *tls)
{
    return ctx_at(&s->clients, tls);
}

uint32_t tls_store_file_count(const struct tls_store *s)
{
    return s->file_count;
}

const char *const *tls_store_files(const struct tls_store *s)
{
    return s->files;
}

bool tls_store_files_changed(const struct tls_store *s)
{
    for (uint32_t i = 0; i < s->file_count; i++)
        if (credential_file_sign(s->files[i]) != s->file_signs[i])
            return true;
    return false;
}

uint32_t tls_store_row_count(const struct tls_store *s)
{
    return s->row_count;
}

const struct tls_store_row *tls_store_row(const struct tls_store *s, uint32_t i)
{
    check(i < s->row_count);
    return &s->rows[i];
}
