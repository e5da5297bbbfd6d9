// Shared rules. Owns nothing; messages are written into the findings' arena, intermediate texts
// into the model's. Control thread.
#include "config/rules.h"
#include <arpa/inet.h>
#include <stdio.h>

#define VA_FINDING(severity, code)                                                             \
    do {                                                                                       \
        va_list ap;                                                                            \
        va_start(ap, fmt);                                                                     \
        finding_vadd(r->findings, (severity), (code), schema_pos(r, pos), r->object, fmt, ap); \
        va_end(ap);                                                                            \
    } while (0)

#define MOST_SAID 1000u // findings of the schema that a rule is held against

bool rule_said_by_schema(const struct reader *r, struct pos pos)
{
    uint32_t end = r->first_finding + MOST_SAID;
    end = end < r->findings->count ? end : r->findings->count;
    for (uint32_t i = r->first_finding; r->partial && i < end; i++) {
        const struct finding *f = &r->findings->items[i];
        if (!f->code && f->pos.line == pos.line && f->pos.column == pos.column)
            return true;
    }
    return false;
}

void rule_error(struct reader *r, struct pos pos, const char *fmt, ...)
{
    if (!rule_said_by_schema(r, pos))
        VA_FINDING(SEVERITY_ERROR, "IST0106");
}

void rule_missing(struct reader *r, struct pos pos, const char *fmt, ...)
{
    if (!r->partial)
        VA_FINDING(SEVERITY_ERROR, "IST0106");
}

void rule_warning(struct reader *r, struct pos pos, const char *fmt, ...)
{
    VA_FINDING(SEVERITY_WARNING, "IST0133");
}

void rule_lenient(struct reader *r, const struct load_options *options, struct pos pos,
                  const char *fmt, ...)
{
    VA_FINDING(options->strict ? SEVERITY_ERROR : SEVERITY_WARNING, "IST0106");
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_dns_label(struct slice s)
{
    if (s.len < 1 || s.len > 63 || !is_alnum(s.ptr[0]) || !is_alnum(s.ptr[s.len - 1]))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-')
            return false;
    return true;
}

// (\*|(\*|\*-)?LABEL)
static bool is_wildcard_label(struct slice s)
{
    if (s.len > 63)
        return false;
    if (s.len && s.ptr[0] == '*') {
        if (s.len == 1)
            return true;
        s = slice_from(s, s.ptr[1] == '-' ? 2 : 1);
    }
    return is_dns_label(s);
}

bool is_ip_address(struct slice s)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[16];
    if (s.len == 0 || s.len >= sizeof(text))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

bool has_unix_prefix(struct slice s)
{
    return slice_has_prefix(s, SLICE("unix://"));
}

// strconv.Atoi: a sign is a number too.
static bool is_all_numeric(struct slice s)
{
    if (s.len && (s.ptr[0] == '+' || s.ptr[0] == '-'))
        s = slice_from(s, 1);
    uint64_t v;
    return slice_to_u64(s, &v);
}

static const char *labels_error(struct arena *a, struct slice domain)
{
    struct slice rest = domain, label, last = domain;
    for (size_t i = domain.len; i > 0; i--) {
        if (domain.ptr[i - 1] == '.') {
            last = slice_from(domain, i);
            break;
        }
    }
    if (is_all_numeric(last))
        return arena_printf(a,
                            "domain name \"%.*s\" invalid (top level domain \"%.*s\" cannot be "
                            "all-numeric)",
                            SLICE_FMT(domain), SLICE_FMT(last));
    while (slice_split(&rest, '.', &label)) {
        if (label.len == 0 && !rest.ptr)
            break; // "istio.io." is unambiguous
        if (!is_dns_label(label))
            return arena_printf(a, "domain name \"%.*s\" invalid (label \"%.*s\" invalid)",
                                SLICE_FMT(domain), SLICE_FMT(label));
    }
    return NULL;
}

static const char *length_error(struct arena *a, struct slice name)
{
    if (name.len > 255)
        return arena_printf(a, "domain name \"%.*s\" too long (max 255)", SLICE_FMT(name));
    return name.len ? NULL : "empty domain name not allowed";
}

const char *fqdn_error(struct arena *a, struct slice name)
{
    const char *error = length_error(a, name);
    return error ? error : labels_error(a, name);
}

const char *wildcard_domain_error(struct arena *a, struct slice name)
{
    const char *error = length_error(a, name);
    struct slice rest = name, first;
    if (error)
        return error;
    (void)slice_split(&rest, '.', &first);
    if (!is_wildcard_label(first))
        return arena_printf(a, "domain name \"%.*s\" invalid (label \"%.*s\" invalid)",
                            SLICE_FMT(name), SLICE_FMT(first));
    return rest.ptr ? labels_error(a, rest) : NULL;
}

void check_port(struct reader *r, struct pos pos, uint32_t number)
{
    if (number == 0)
        rule_missing(r, pos, "port number 0 must be in the range 1..65535");
    else if (number > 65535)
        rule_error(r, pos, "port number %u must be in the range 1..65535", number);
}

void check_duration(struct reader *r, struct pos pos, uint64_t ns)
{
    if (ns == DURATION_UNSET)
        return;
    if (ns < 1000000)
        rule_error(r, pos, "duration must be greater than 1ms");
    else if (ns % 1000000)
        rule_error(r, pos, "only durations to ms precision are supported");
}

// (?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]
static bool is_qualified_name(struct slice s)
{
    if (s.len == 0 || !is_alnum(s.ptr[0]) || !is_alnum(s.ptr[s.len - 1]))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_' && s.ptr[i] != '.')
            return false;
    return true;
}

static void check_label_key(struct reader *r, const struct label *l)
{
    ptrdiff_t slash = slice_find(l->key, '/');
    struct slice name = slash < 0 ? l->key : slice_from(l->key, (size_t)slash + 1);
    struct slice rest = {l->key.ptr, slash < 0 ? 0 : (size_t)slash}, part;
    bool good = is_qualified_name(name) && (slash < 0 || rest.len > 0);
    while (good && slash >= 0 && slice_split(&rest, '.', &part))
        good = is_dns_label(part);
    if (!good)
        rule_error(r, l->pos, "invalid tag key: \"%.*s\"", SLICE_FMT(l->key));
    else if (slash > 253)
        rule_error(r, l->pos, "invalid tag key: \"%.*s\" (DNS prefix is too long)",
                   SLICE_FMT(l->key));
    else if (name.len > 63)
        rule_error(r, l->pos, "invalid tag key: \"%.*s\" (name is too long)", SLICE_FMT(l->key));
}

void check_labels(struct reader *r, const struct label_map *labels)
{
    for (uint32_t i = 0; i < labels->count; i++) {
        const struct label *l = &labels->items[i];
        check_label_key(r, l);
        if (l->value.len && !is_qualified_name(l->value))
            rule_error(r, l->pos, "invalid tag value: \"%.*s\"", SLICE_FMT(l->value));
    }
}

void check_selector(struct reader *r, struct pos pos, const struct label_map *labels,
                    const char *without)
{
    for (uint32_t i = 0; i < labels->count; i++) {
        const struct label *l = &labels->items[i];
        if (!l->key.len)
            rule_error(r, l->pos, "empty key is not supported in selector: \"=%.*s\"",
                       SLICE_FMT(l->value));
        if (slice_find(l->key, '*') >= 0 || slice_find(l->value, '*') >= 0)
            rule_error(r, l->pos, "wildcard is not supported in selector: \"%.*s=%.*s\"",
                       SLICE_FMT(l->key), SLICE_FMT(l->value));
    }
    if (!labels->count && !r->partial)
        rule_warning(r, pos, "%s", without);
}

void check_subnet(struct reader *r, const struct string_item *subnet)
{
    struct slice s = subnet->text;
    ptrdiff_t slash = slice_find(s, '/');
    if (slash < 0) {
        if (!is_ip_address(s))
            rule_error(r, subnet->pos, "%.*s is not a valid IP", SLICE_FMT(s));
        return;
    }
    struct slice address = {s.ptr, (size_t)slash};
    uint64_t bits = 999;
    uint64_t most = slice_find(address, ':') >= 0 ? 128 : 32;
    if (!is_ip_address(address) || !slice_to_u64(slice_from(s, (size_t)slash + 1), &bits) ||
        bits > most)
        rule_error(r, subnet->pos, "%.*s is not a valid CIDR block", SLICE_FMT(s));
}

void check_unix_address(struct reader *r, struct pos pos, struct slice path)
{
    if (path.len == 0)
        rule_error(r, pos, "unix address must not be empty");
    else if (path.ptr[0] != '@' && (path.ptr[0] != '/' || path.ptr[path.len - 1] == '/'))
        rule_error(r, pos, "%.*s is not an absolute path to a file", SLICE_FMT(path));
}

static void check_legacy_gateway_name(struct reader *r, const struct string_item *it)
{
    struct slice rest = it->text, name, ns = {NULL, 0};
    (void)slice_split(&rest, '.', &name);
    if (rest.ptr && slice_split(&rest, '.', &ns))
        rule_warning(r, it->pos,
                     "using legacy gatewayName format \"%.*s\"; prefer the <namespace>/<name> "
                     "format: \"%.*s/%.*s\"",
                     SLICE_FMT(it->text), SLICE_FMT(ns), SLICE_FMT(name));
    const char *error = fqdn_error(r->arena, it->text);
    if (error)
        rule_error(r, it->pos, "%s", error);
}

void check_gateway_names(struct reader *r, const struct string_list *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        const struct string_item *it = &names->items[i];
        struct slice name = it->text, ns;
        if (slice_find(name, '/') < 0) {
            check_legacy_gateway_name(r, it);
            continue;
        }
        (void)slice_split(&name, '/', &ns);
        if (ns.len == 0 || name.len == 0)
            rule_error(r, it->pos, "config namespace and gateway name cannot be empty");
        // "./name" is refused by Istio's validation but understood by its resolver
        if (!is_dns_label(ns) && !slice_eq(ns, SLICE(".")))
            rule_error(r, it->pos, "invalid value for namespace: \"%.*s\"", SLICE_FMT(ns));
        if (!is_dns_label(name))
            rule_error(r, it->pos, "invalid value for gateway name: \"%.*s\"", SLICE_FMT(name));
    }
}

// `.` is the object's own namespace.
static struct slice export_key(const struct reader *r, struct slice entry)
{
    return slice_eq(entry, SLICE(".")) ? r->object->ns : entry;
}

static bool exports_to(const struct reader *r, const struct string_list *list, uint32_t before,
                       struct slice key)
{
    for (uint32_t i = 0; i < before; i++)
        if (slice_eq(export_key(r, list->items[i].text), key))
            return true;
    return false;
}

static void check_export_entry(struct reader *r, const struct string_list *list, uint32_t i,
                               enum export_to_of of)
{
    const struct string_item *it = &list->items[i];
    struct slice key = export_key(r, it->text);
    bool none = slice_eq(it->text, SLICE("~")), all = slice_eq(it->text, SLICE("*"));
    if (exports_to(r, list, i, key) && !slice_eq(key, it->text))
        rule_error(r, it->pos, "duplicate entries in exportTo: . and current namespace %.*s",
                   SLICE_FMT(key));
    else if (exports_to(r, list, i, key))
        rule_error(r, it->pos, "duplicate entries in exportTo for entry %.*s", SLICE_FMT(it->text));
    else if (none && of != EXPORT_SERVICE_ENTRY)
        rule_error(r, it->pos, "exportTo ~ (none) is not allowed for Istio configuration objects");
    else if (!none && !all && !is_dns_label(key))
        rule_error(r, it->pos, "only .,*, or a valid DNS 1123 label is allowed as exportTo entry");
    if (list->count > 1 && all)
        rule_error(r, it->pos,
                   "cannot have both public (*) and non-public exportTo values for a resource");
    if (list->count > 1 && none && of == EXPORT_SERVICE_ENTRY)
        rule_error(r, it->pos, "cannot export service entry to no one (~) and someone");
}

#define MOST_EXPORTS 256u // each is compared with those before it

void check_export_to(struct reader *r, const struct string_list *list, enum export_to_of of)
{
    uint32_t count = list->count < MOST_EXPORTS ? list->count : MOST_EXPORTS;
    for (uint32_t i = 0; i < count; i++)
        check_export_entry(r, list, i, of);
    if (of != EXPORT_RULE_WITH_SELECTOR || !count)
        return;
    if (!exports_to(r, list, count, r->object->ns))
        rule_error(r, list->items[0].pos,
                   "destination rule with workload selector cannot have exportTo beyond current "
                   "namespace");
    else if (count > 1)
        rule_error(r, list->items[1].pos,
                   "destination rule with workload selector cannot have multiple entries in "
                   "exportTo");
}

void check_regex(struct reader *r, const struct load_options *options, struct pos pos,
                 struct slice text, const char *where)
{
    char why[256];
    if (text.len == 0)
        rule_error(r, pos, "\"%s\": regex string match should not be empty", where);
    else if (text.len > 1024)
        rule_error(r, pos, "\"%s\": regex is too large, max length allowed is 1024", where);
    else if (options->regex_is_valid && !options->regex_is_valid(text, why, sizeof(why)))
        rule_error(
            r, pos,
            "\"%s\": error parsing regexp: %s: `%.*s`; Istio uses RE2 style regex-based match "
            "(https://github.com/google/re2/wiki/Syntax)",
            where, why, SLICE_FMT(text));
}

void check_partial_wildcard(struct reader *r, struct pos pos, struct slice host, bool is_error)
{
    if (slice_find(host, '*') < 0 || host.len == 1 || slice_has_prefix(host, SLICE("*.")))
        return;
    if (is_error)
        rule_error(r, pos, "partial wildcard \"%.*s\" not allowed", SLICE_FMT(host));
    else
        rule_warning(r, pos, "partial wildcard \"%.*s\" not allowed", SLICE_FMT(host));
}
