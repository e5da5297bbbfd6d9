// What one compilation carries from stage to stage. Control thread only. `out` is the snapshot's
// arena (without a limit: exhaustion aborts), `scratch` dies with the compilation.
#pragma once
#include "route/route.h"

struct registry;

struct regex_entry {     // an expression of this compilation, shared by all rules with its text
    struct regex *regex; // NULL: it does not compile, and that was reported
    struct regex_entry *next;
};

struct compile {
    const struct model *m;
    const struct compile_options *options;
    struct arena *out;
    struct arena scratch;
    struct findings *findings;
    struct route_config *rc;
    struct registry *registry;
    struct map regexes; // pattern -> struct regex_entry *
    struct regex_entry *regex_list;
    struct map blocks;           // see compile_routes.c
    struct map gateway_services; // "ns/name" of a Gateway -> struct vs_list *
    struct {                     // the file name copied last: documents of one file come together
        const char *from, *copy;
    } file;
};

// ---- text
struct slice compile_lower(struct arena *a, struct slice s); // a lower-case copy
struct slice compile_text(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct pos compile_pos(struct compile *c, struct pos pos); // with its file name in `out`

// labels ⊆ of
bool labels_subset(const struct label_map *labels, const struct label_map *of);

// The weight of one destination among `count` whose weights add up to `total`, divided so that
// the sum of all is one number of 32 bits; 0: it is no target. Alone, a destination gets everything
// whatever it weighs.
uint32_t compile_weight(int32_t weight, uint32_t count, uint64_t total);

// The regular expression for `pattern`, NULL after a finding that quotes RE2.
struct regex *compile_regex(struct compile *c, struct slice pattern, struct pos pos,
                            const struct metadata *object, const char *field);

// ---- stages, in their order
void compile_clusters(struct compile *c);  // fills rc->clusters and registry
void compile_listeners(struct compile *c); // fills rc->listeners

// The cluster a destination names, with `listener_port` where neither it nor a single-port service
// says which; *name is Istio's name for it even when there is none.
const struct cluster_config *compile_destination(struct compile *c, const struct destination *d,
                                                 struct slice ns, uint32_t listener_port, bool udp,
                                                 struct slice *name);
