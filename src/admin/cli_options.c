// Parses the command line by one table of flags. Owns nothing; strings are argv's or the arena's.
#include "admin/cli.h"
#include "admin/listings.h"
#include "config/text.h"
#include "core/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *const cli_command_names[CLI_COMMANDS + 1] = {
    "run", "analyze", "proxy-config", "explain", "version", "help", NULL};

struct parse {
    struct cli_options *o;
    char *error;
    size_t cap;
    const char *flag; // being looked at, as typed
    bool ns_unused;   // a -n without a -f behind it
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parse *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->error, p->cap, fmt, ap);
    va_end(ap);
    return false;
}

static const char *nearest_word(const char *word, const char *const *list)
{
    struct nearest n = {.word = slice_of(word)};
    for (; *list; list++)
        nearest_offer(&n, *list);
    return n.best;
}

// ---- values

bool cli_parse_duration(const char *text, uint64_t *out_ns)
{
    uint64_t seconds;
    if (!slice_to_u64(slice_of(text), &seconds))
        return duration_parse(slice_of(text), out_ns) && *out_ns <= 86400 * NS_PER_S;
    *out_ns = seconds * NS_PER_S;
    return seconds <= 86400;
}

static bool set_addr(struct parse *p, const char *v, const char *default_ip, struct addr *out)
{
    uint64_t port;
    memset(out, 0, sizeof(*out));
    if (strcmp(v, "0") == 0 || strcmp(v, "off") == 0)
        return true;
    enum err e;
    if (slice_has_prefix(slice_of(v), SLICE("localhost:"))) {
        default_ip = "127.0.0.1";
        v += strlen("localhost:");
    }
    if (slice_to_u64(slice_of(v), &port) && port <= UINT16_MAX)
        e = addr_parse(slice_of(default_ip), (uint16_t)port, out);
    else
        e = addr_parse_port(slice_of(v), out);
    return e == OK || fail(p, "%s: '%s' is neither a port nor ADDRESS:PORT", p->flag, v);
}

static bool set_admin(struct parse *p, const char *v)
{
    return set_addr(p, v, "127.0.0.1", &p->o->admin);
}

static bool set_status(struct parse *p, const char *v)
{
    return set_addr(p, v, "0.0.0.0", &p->o->status);
}

static bool set_metrics(struct parse *p, const char *v)
{
    return set_addr(p, v, "0.0.0.0", &p->o->metrics);
}

static bool set_ns(struct parse *p, const char *v)
{
    size_t n = strspn(v, "abcdefghijklmnopqrstuvwxyz0123456789-");
    p->o->ns = v;
    p->ns_unused = true;
    return (n > 0 && n < 64 && !v[n]) ||
           fail(p, "%s: '%s' is no namespace (a-z, 0-9 and -, at most 63)", p->flag, v);
}

// Grows an arena array by one; old copies stay in the arena, which is as short as a command line.
// NOLINTBEGIN(bugprone-macro-parentheses): type is a type
#define APPEND(o, array, count, type, value)                       \
    do {                                                           \
        type *grown = arena_array(&(o)->arena, type, (count) + 1); \
        if (count)                                                 \
            memcpy(grown, array, sizeof(type) * (count));          \
        grown[(count)++] = value;                                  \
        (array) = grown;                                           \
    } while (0)
// NOLINTEND(bugprone-macro-parentheses)

static bool set_file(struct parse *p, const char *v)
{
    struct cli_options *o = p->o;
    struct load_input in = {o->ns ? o->ns : "default", v};
    p->ns_unused = false;
    if (access(v, R_OK) != 0)
        return fail(p, "%s %s: it does not exist or cannot be read", p->flag, v);
    APPEND(o, o->inputs, o->input_count, struct load_input, in);
    return true;
}

static bool set_labels(struct parse *p, const char *v)
{
    struct slice rest = slice_of(v), part;
    while (slice_split(&rest, ',', &part)) {
        ptrdiff_t eq = slice_find(part, '=');
        if (eq <= 0)
            return fail(p, "%s: '%.*s' is not KEY=VALUE", p->flag, SLICE_FMT(part));
        struct label l = {.key = {part.ptr, (size_t)eq}, .value = slice_from(part, (size_t)eq + 1)};
        APPEND(p->o, p->o->labels.items, p->o->labels.count, struct label, l);
    }
    return true;
}

static bool set_workers(struct parse *p, const char *v)
{
    uint64_t n;
    if (!slice_to_u64(slice_of(v), &n) || n < 1 || n > RCU_MAX_WORKERS)
        return fail(p, "%s: '%s' is not a number from 1 to %d", p->flag, v, RCU_MAX_WORKERS);
    p->o->workers = (uint32_t)n;
    return true;
}

static bool set_duration(struct parse *p, const char *v, uint64_t *ns)
{
    return cli_parse_duration(v, ns) ||
           fail(p, "%s: '%s' is not a duration such as 30s or 1m30s", p->flag, v);
}

static bool set_drain_time(struct parse *p, const char *v)
{
    return set_duration(p, v, &p->o->drain_time_ns);
}

static bool set_timeout(struct parse *p, const char *v, uint64_t *ns)
{
    return set_duration(p, v, ns) && (*ns > 0 || fail(p, "%s: it cannot be 0", p->flag));
}

static bool set_head_timeout(struct parse *p, const char *v)
{
    return set_timeout(p, v, &p->o->head_timeout_ns);
}

static bool set_idle_timeout(struct parse *p, const char *v)
{
    return set_timeout(p, v, &p->o->idle_timeout_ns);
}

static bool set_stall_timeout(struct parse *p, const char *v)
{
    return set_timeout(p, v, &p->o->stall_timeout_ns);
}

static bool set_udp_idle_timeout(struct parse *p, const char *v)
{
    return set_timeout(p, v, &p->o->udp_idle_timeout_ns);
}

static bool set_udp_sessions(struct parse *p, const char *v)
{
    uint64_t n;
    if (!slice_to_u64(slice_of(v), &n) || n < 1 || n > INT32_MAX)
        return fail(p, "%s: '%s' is not a number from 1 to %d", p->flag, v, INT32_MAX);
    p->o->udp_sessions = (uint32_t)n;
    return true;
}

static bool set_log_level(struct parse *p, const char *v)
{
    return log_parse_level(slice_of(v), &p->o->log_level) == OK ||
           fail(p, "%s: '%s' is none of debug, info, warn, error, off", p->flag, v);
}

static bool set_ktls(struct parse *p, const char *v)
{
    static const char *const names[] = {"auto", "on", "off"}; // in enum ktls_mode's order
    for (int i = 0; i < 3; i++) {
        if (strcmp(v, names[i]) == 0) {
            p->o->ktls = (enum ktls_mode)i;
            return true;
        }
    }
    return fail(p, "%s: '%s' is none of auto, on, off", p->flag, v);
}

static bool set_auto_passthrough_alpn(struct parse *p, const char *v)
{
    p->o->any_alpn = strcmp(v, "any") == 0;
    return p->o->any_alpn || strcmp(v, "istio") == 0 ||
           fail(p, "%s: '%s' is none of istio, any", p->flag, v);
}

static bool set_proxy_protocol(struct parse *p, const char *v)
{
    struct slice rest = slice_of(v), part;
    while (slice_split(&rest, ',', &part)) {
        struct addr_prefix one;
        if (addr_prefix_parse(part, &one) != OK)
            return fail(p, "%s: '%.*s' is neither an address nor ADDRESS/BITS", p->flag,
                        SLICE_FMT(part));
        APPEND(p->o, p->o->proxy_sources, p->o->proxy_source_count, struct addr_prefix, one);
    }
    return p->o->proxy_source_count > 0 || fail(p, "%s: an address is needed", p->flag);
}

static bool set_identity(struct parse *p, const char *v)
{
    p->o->identity = v;
    return *v || fail(p, "%s: a folder is needed", p->flag);
}

static bool set_l4_stats(struct parse *p, const char *v)
{
    struct slice rest = slice_of(v), part;
    memset(p->o->look_at, 0, sizeof(p->o->look_at));
    if (strcmp(v, "none") == 0)
        return true;
    while (slice_split(&rest, ',', &part)) {
        enum l4_protocol protocol = l4_protocol_parse(part);
        if (protocol == L4_PLAIN)
            return fail(p, "%s: '%.*s' is none of mongo, mysql, redis", p->flag, SLICE_FMT(part));
        p->o->look_at[protocol] = true;
    }
    return *v || fail(p, "%s: it is mongo, mysql, redis, several of them, or none", p->flag);
}

static bool set_no_http3(struct parse *p, const char *v)
{
    (void)v;
    return p->o->no_http3 = true;
}

static bool set_strict(struct parse *p, const char *v)
{
    (void)v;
    return p->o->strict = true;
}

static bool set_access_log(struct parse *p, const char *v)
{
    p->o->access_log = v;
    return *v || fail(p, "%s: a file name or - (standard output) is needed", p->flag);
}

static bool set_access_log_format(struct parse *p, const char *v)
{
    p->o->access_log_format = strcmp(v, "text") == 0   ? ACCESS_LOG_TEXT
                              : strcmp(v, "json") == 0 ? ACCESS_LOG_JSON
                                                       : ACCESS_LOG_CUSTOM;
    p->o->access_log_custom = v;
    return p->o->access_log_format != ACCESS_LOG_CUSTOM || strchr(v, '%') ||
           fail(p, "%s: '%s' is neither text, json, nor a format with %%OPERATORS%%", p->flag, v);
}

static bool set_output(struct parse *p, const char *v)
{
    p->o->json = strcmp(v, "json") == 0;
    return p->o->json || strcmp(v, "text") == 0 || strcmp(v, "short") == 0 ||
           fail(p, "%s: '%s' is neither json nor text", p->flag, v);
}

static bool set_host(struct parse *p, const char *v)
{
    p->o->host = v;
    return *v || fail(p, "%s: the host is empty", p->flag);
}

// Empty is a client that names no server.
static bool set_sni(struct parse *p, const char *v)
{
    p->o->sni = v;
    return true;
}

static bool set_path(struct parse *p, const char *v)
{
    p->o->path = v;
    return *v == '/' || fail(p, "%s: '%s' does not begin with /", p->flag, v);
}

static bool set_method(struct parse *p, const char *v)
{
    p->o->method = v;
    return *v || fail(p, "%s: the method is empty", p->flag);
}

static bool set_port(struct parse *p, const char *v)
{
    uint64_t n;
    if (!slice_to_u64(slice_of(v), &n) || n < 1 || n > UINT16_MAX)
        return fail(p, "%s: '%s' is not a port", p->flag, v);
    p->o->port = (uint32_t)n;
    return true;
}

static bool set_header(struct parse *p, const char *v)
{
    struct cli_options *o = p->o;
    ptrdiff_t colon = slice_find(slice_of(v), ':');
    if (colon <= 0)
        return fail(p, "%s: '%s' is not NAME:VALUE", p->flag, v);
    char *name = arena_strdup(&o->arena, v);
    for (char *c = name; c < name + colon; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c | 0x20);
    struct route_header h = {{name, (size_t)colon}, slice_trim(slice_of(v + colon + 1))};
    APPEND(o, o->headers, o->header_count, struct route_header, h);
    return true;
}

// ---- the table of flags

#define FOR(command) (1u << CLI_##command)
#define FOR_DOCUMENTS (FOR(RUN) | FOR(ANALYZE) | FOR(EXPLAIN))

static const struct flag {
    const char *name, *letter; // letter: "-n" or NULL
    uint32_t commands;
    bool alone; // takes no value
    bool (*set)(struct parse *p, const char *value);
} flags[] = {
    {"--namespace", "-n", FOR_DOCUMENTS, false, set_ns},
    {"--filename", "-f", FOR_DOCUMENTS, false, set_file},
    {"--labels", NULL, FOR_DOCUMENTS, false, set_labels},
    {"--strict", NULL, FOR_DOCUMENTS, true, set_strict},
    {"--workers", NULL, FOR(RUN), false, set_workers},
    {"--admin", NULL, FOR(RUN) | FOR(PROXY_CONFIG), false, set_admin},
    {"--status-port", NULL, FOR(RUN), false, set_status},
    {"--metrics-port", NULL, FOR(RUN), false, set_metrics},
    {"--no-http3", NULL, FOR(RUN), true, set_no_http3},
    {"--ktls", NULL, FOR(RUN), false, set_ktls},
    {"--auto-passthrough-alpn", NULL, FOR(RUN), false, set_auto_passthrough_alpn},
    {"--identity", NULL, FOR(RUN), false, set_identity},
    {"--l4-stats", NULL, FOR(RUN), false, set_l4_stats},
    {"--proxy-protocol", NULL, FOR(RUN), false, set_proxy_protocol},
    {"--drain-time", NULL, FOR(RUN), false, set_drain_time},
    {"--head-timeout", NULL, FOR(RUN), false, set_head_timeout},
    {"--idle-timeout", NULL, FOR(RUN), false, set_idle_timeout},
    {"--stall-timeout", NULL, FOR(RUN), false, set_stall_timeout},
    {"--udp-idle-timeout", NULL, FOR(RUN), false, set_udp_idle_timeout},
    {"--udp-sessions", NULL, FOR(RUN), false, set_udp_sessions},
    {"--log-level", NULL, FOR(RUN), false, set_log_level},
    {"--access-log", NULL, FOR(RUN), false, set_access_log},
    {"--access-log-format", NULL, FOR(RUN), false, set_access_log_format},
    {"--output", "-o", FOR(ANALYZE) | FOR(PROXY_CONFIG) | FOR(EXPLAIN), false, set_output},
    {"--host", NULL, FOR(EXPLAIN), false, set_host},
    {"--path", NULL, FOR(EXPLAIN), false, set_path},
    {"--sni", NULL, FOR(EXPLAIN), false, set_sni},
    {"--port", NULL, FOR(EXPLAIN), false, set_port},
    {"--method", NULL, FOR(EXPLAIN), false, set_method},
    {"--header", "-H", FOR(EXPLAIN), false, set_header},
};
#define FLAGS (sizeof(flags) / sizeof(flags[0]))

static bool unknown_flag(struct parse *p, struct slice name)
{
    const char *list[2 * FLAGS + 2];
    size_t n = 0;
    char word[64];
    snprintf(word, sizeof(word), "%.*s", SLICE_FMT(name));
    for (size_t i = 0; i < FLAGS; i++) {
        if (!(flags[i].commands & (1u << p->o->command)))
            continue;
        list[n++] = flags[i].name;
        if (slice_eq(name, slice_of(flags[i].name)))
            list[n++] = flags[i].name;
    }
    list[n++] = "--help";
    list[n] = NULL;
    const char *near = name.len > 2 ? nearest_word(word, list) : NULL;
    const char *command = cli_command_names[p->o->command];
    if (near)
        return fail(p, "unknown flag %s; did you mean %s?", word, near);
    return fail(p, "unknown flag %s; see sluice %s --help", word, command);
}

static const struct flag *find_flag(const struct parse *p, struct slice name)
{
    for (size_t i = 0; i < FLAGS; i++)
        if ((flags[i].commands & (1u << p->o->command)) &&
            (slice_eq(name, slice_of(flags[i].name)) ||
             (flags[i].letter && slice_eq(name, slice_of(flags[i].letter)))))
            return &flags[i];
    return NULL;
}

// One flag, as "--name value", "--name=value", "-n value" or "-nvalue". Returns how many
// arguments it took, 0 on an error.
static int parse_flag(struct parse *p, char **args, int left)
{
    struct slice name = slice_of(args[0]);
    const char *value = NULL;
    ptrdiff_t eq = slice_find(name, '=');
    if (name.ptr[1] == '-' && eq > 0) {
        value = name.ptr + eq + 1;
        name.len = (size_t)eq;
    } else if (name.ptr[1] != '-' && name.len > 2) {
        value = name.ptr + 2;
        name.len = 2;
    }
    const struct flag *f = find_flag(p, name);
    if (!f)
        return unknown_flag(p,
                            slice_of(args[0]).len > 2 && name.len == 2 ? slice_of(args[0]) : name);
    p->flag = f->letter && name.len == 2 ? f->letter : f->name;
    if (f->alone && value)
        return fail(p, "%s takes no value", p->flag);
    int taken = 1;
    if (!f->alone && !value) {
        if (left < 2)
            return fail(p, "%s needs a value", p->flag);
        value = args[1];
        taken = 2;
    }
    return f->set(p, value) ? taken : 0;
}

// ---- commands

static bool parse_listing(struct parse *p, const char *word)
{
    static const char *const aliases[][2] = {{"listener", "listeners"}, {"l", "listeners"},
                                             {"route", "routes"},       {"r", "routes"},
                                             {"cluster", "clusters"},   {"c", "clusters"},
                                             {"endpoint", "endpoints"}, {"ep", "endpoints"},
                                             {"secret", "secrets"},     {"s", "secrets"}};
    const char *list[LISTING_COUNT + 1] = {NULL};
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        if (strcmp(word, aliases[i][0]) == 0)
            word = aliases[i][1];
    for (uint32_t i = 0; i < LISTING_COUNT; i++) {
        list[i] = listing_names[i];
        if (strcmp(word, listing_names[i]) == 0)
            p->o->listing = listing_names[i];
    }
    if (p->o->listing)
        return true;
    const char *near = nearest_word(word, list);
    return fail(
        p, "proxy-config: '%s' is none of listeners, routes, clusters, endpoints, secrets%s%s%s",
        word, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static bool parse_command(struct parse *p, const char *word)
{
    struct cli_options *o = p->o;
    if (strcmp(word, "pc") == 0)
        word = "proxy-config"; // istioctl's short form
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        word = "help";
    if (strcmp(word, "--version") == 0)
        word = "version";
    for (int i = 0; i < CLI_COMMANDS; i++) {
        if (strcmp(word, cli_command_names[i]) == 0) {
            o->command = (enum cli_command)i;
            return true;
        }
    }
    const char *near = nearest_word(word, cli_command_names);
    return fail(p, "unknown command '%s'; %s%s%s", word,
                near ? "did you mean " : "see sluice --help", near ? near : "", near ? "?" : "");
}

static void set_defaults(struct cli_options *o)
{
    memset(o, 0, sizeof(*o));
    arena_init(&o->arena, 0);
    o->command = o->help_for = CLI_COMMANDS;
    o->drain_time_ns = 30 * NS_PER_S;
    o->look_at[L4_MONGO] = true; // as Istio does
    o->log_level = LOG_LEVEL_INFO;
    o->method = "GET";
    if (addr_parse_port(SLICE("127.0.0.1:15000"), &o->admin) != OK ||
        addr_parse_port(SLICE("0.0.0.0:15021"), &o->status) != OK ||
        addr_parse_port(SLICE("0.0.0.0:15090"), &o->metrics) != OK)
        abort(); // constants
}

static bool check_complete(struct parse *p)
{
    const struct cli_options *o = p->o;
    const char *command = cli_command_names[o->command];
    bool documents =
        o->command == CLI_RUN || o->command == CLI_ANALYZE || o->command == CLI_EXPLAIN;
    if (documents && o->input_count == 0)
        return fail(p, "%s: no documents: give at least one -f FILE or FOLDER", command);
    if (documents && p->ns_unused)
        return fail(p, "%s: -n %s has no -f behind it: it is for the documents that follow",
                    command, o->ns);
    if (o->access_log_custom && !o->access_log)
        return fail(p, "--access-log-format needs --access-log: a file, or - for standard output");
    if (o->command == CLI_PROXY_CONFIG && !o->listing)
        return fail(p,
                    "proxy-config: say which: listeners, routes, clusters, endpoints or secrets");
    if (o->command == CLI_PROXY_CONFIG && o->admin.len == 0)
        return fail(p, "proxy-config: --admin needs the address of the gateway's admin port");
    if (o->command == CLI_EXPLAIN && (!o->host || !o->path))
        return fail(p, "explain: --host and --path are needed");
    return true;
}

static bool parse_word(struct parse *p, const char *word)
{
    struct cli_options *o = p->o;
    if (o->command == CLI_PROXY_CONFIG && !o->listing)
        return parse_listing(p, word);
    if (o->command == CLI_HELP && o->help_for == CLI_COMMANDS) {
        bool ok = parse_command(p, word);
        o->help_for = o->command;
        o->command = CLI_HELP;
        return ok;
    }
    return fail(p, "%s: '%s' is not expected here (a file is given with -f)",
                cli_command_names[o->command], word);
}

static bool parse_all(struct parse *p, int argc, char **argv)
{
    if (argc < 2) {
        p->o->command = CLI_HELP;
        return true;
    }
    if (!parse_command(p, argv[1]))
        return false;
    for (int i = 2; i < argc;) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            p->o->help_for = p->o->command;
            p->o->command = CLI_HELP;
            return true;
        }
        if (argv[i][0] == '-' && argv[i][1]) {
            int taken = parse_flag(p, argv + i, argc - i);
            if (!taken)
                return false;
            i += taken;
        } else if (!parse_word(p, argv[i++])) {
            return false;
        }
    }
    return p->o->command == CLI_HELP || check_complete(p);
}

enum err cli_parse(int argc, char **argv, struct cli_options *out, char *error, size_t cap)
{
    struct parse p = {.o = out, .error = error, .cap = cap};
    set_defaults(out);
    error[0] = '\0';
    return parse_all(&p, argc, argv) ? OK : ERR_INVALID;
}

void cli_options_fini(struct cli_options *o)
{
    arena_fini(&o->arena);
}
