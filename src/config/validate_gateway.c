// The rules of a Gateway (validation.go, ValidateGateway). Owns nothing. Control thread.
#include "config/names.h"
#include "config/rules.h"
#include "config/validate.h"
#include "core/map.h"

static const char *const mode_names[] = {"PASSTHROUGH",      "SIMPLE",       "MUTUAL",
                                         "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"};

static void check_host_name(struct reader *r, struct pos pos, struct slice name)
{
    if (!slice_eq(name, SLICE("*")) && slice_find(name, '.') < 0)
        rule_error(r, pos, "short names (non FQDN) are not allowed");
    const char *error = wildcard_domain_error(r->arena, name);
    if (error && !is_ip_address(name))
        rule_error(r, pos, "%s", error);
    check_partial_wildcard(r, pos, name, true);
}

// [ns/]dnsName
static void check_host(struct reader *r, const struct string_item *host)
{
    ptrdiff_t slash = slice_find(host->text, '/');
    if (slash < 0) {
        check_host_name(r, host->pos, host->text);
        return;
    }
    struct slice ns = {host->text.ptr, (size_t)slash};
    struct slice name = slice_from(host->text, (size_t)slash + 1);
    if (ns.len == 0 || name.len == 0)
        rule_error(r, host->pos, "config namespace and dnsName in host entry cannot be empty");
    if (!slice_eq(ns, SLICE("*")) && !slice_eq(ns, SLICE(".")) && !is_dns_label(ns))
        rule_error(r, host->pos, "invalid namespace value \"%.*s\" in gateway", SLICE_FMT(ns));
    check_host_name(r, host->pos, name);
}

// As Go prints the message.
static const char *describe_port(struct arena *a, const struct server_port *p)
{
    const char *number = p->number ? arena_printf(a, "number:%u", p->number) : "";
    return arena_printf(a, "%s%sprotocol:\"%.*s\"", number, p->number ? " " : "",
                        SLICE_FMT(p->protocol_text));
}

static bool check_server_port(struct reader *r, const struct load_options *options,
                              const struct server *s)
{
    const struct server_port *p = &s->port;
    uint32_t errors = r->findings->errors;
    if (!p->pos.line) {
        rule_missing(r, s->pos, "port is required");
        return false;
    }
    if (p->protocol == PROTO_UNKNOWN && !(r->partial && !p->protocol_text.len))
        rule_error(
            r, p->protocol_pos.line ? p->protocol_pos : p->pos,
            "invalid protocol \"%.*s\", supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, "
            "MONGO, REDIS, MYSQL, TCP",
            SLICE_FMT(p->protocol_text));
    if (p->number > 0 || !has_unix_prefix(s->bind))
        check_port(r, p->number_pos.line ? p->number_pos : p->pos, p->number);
    if (p->target_port > 0)
        rule_lenient(r, options, p->target_port_pos,
                     options->strict ? "targetPort has no impact on Gateways"
                                     : "targetPort has no impact on Gateways, it is ignored");
    if (p->name.len == 0)
        rule_missing(r, p->pos, "port name must be set: %s", describe_port(r->arena, p));
    return r->findings->errors == errors;
}

static void check_bind(struct reader *r, const struct server *s)
{
    if (has_unix_prefix(s->bind)) {
        if (s->port.protocol == PROTO_UDP)
            rule_error(r, s->bind_pos,
                       "a server of protocol UDP cannot be bound to a unix domain "
                       "socket");
        check_unix_address(r, s->bind_pos, slice_from(s->bind, sizeof("unix://") - 1));
        if (s->port.number)
            rule_error(r, s->port.number_pos,
                       "port number must be 0 for unix domain socket: %s name:\"%.*s\"",
                       describe_port(r->arena, &s->port), SLICE_FMT(s->port.name));
    } else if (s->bind.len && !is_ip_address(s->bind)) {
        rule_error(r, s->bind_pos, "%.*s is not a valid IP", SLICE_FMT(s->bind));
    }
}

// ---- tls

static void check_ciphers(struct reader *r, const struct server_tls *t)
{
    for (uint32_t i = 0; i < t->cipher_suites.count && i < 64; i++) {
        const struct string_item *it = &t->cipher_suites.items[i];
        if (!cipher_suite_is_known(it->text))
            rule_warning(r, it->pos, "ignoring invalid cipher suites: [%.*s]", SLICE_FMT(it->text));
        else if (string_list_repeats(&t->cipher_suites, i))
            rule_warning(r, it->pos, "ignoring duplicate cipher suites: [%.*s]",
                         SLICE_FMT(it->text));
    }
}

static bool is_old(enum tls_protocol version)
{
    return version == TLS_PROTO_1_0 || version == TLS_PROTO_1_1;
}

// Below TLS 1.2 there are the suites with CBC and SHA-1 only, and none of them is served unasked.
static bool has_old_cipher(const struct server_tls *t)
{
    for (uint32_t i = 0; i < t->cipher_suites.count; i++) {
        struct slice name = t->cipher_suites.items[i].text;
        if (cipher_suite_is_known(name) && slice_has_suffix(name, SLICE("-SHA")))
            return true;
    }
    return false;
}

// Istio looks whether there is a list at all, and at minProtocolVersion only.
static void check_old_versions(struct reader *r, const struct server_tls *t)
{
    if ((!is_old(t->min_version) && !is_old(t->max_version)) || has_old_cipher(t))
        return;
    const char *lost =
        is_old(t->max_version) ? "no client can connect" : "clients below TLSV1_2 cannot connect";
    if (t->cipher_suites.count == 0)
        rule_warning(r, t->pos,
                     "TLS version below TLSV1_2 require setting compatible ciphers as by default "
                     "they no longer include compatible ciphers. Without them %s",
                     lost);
    else
        rule_warning(r, t->pos,
                     "none of the cipherSuites is for a TLS version below TLSV1_2 (those are the "
                     "ones that end in -SHA): %s",
                     lost);
}

static void check_istio_mutual(struct reader *r, const struct load_options *options,
                               const struct server_tls *t)
{
    const struct {
        bool given;
        const char *what;
    } fields[] = {
        {t->server_certificate.len > 0, "server certificate"},
        {t->private_key.len > 0, "private key"},
        {t->ca_certificates.len > 0, "CA bundle"},
        {t->certificate_count > 0, "tlsCertificates"},
        {t->credential_names.count > 0, "credentialNames"},
    };
    for (uint32_t i = 0; i < COUNT_OF(fields); i++)
        if (fields[i].given)
            rule_error(r, t->pos, "ISTIO_MUTUAL TLS cannot have associated %s", fields[i].what);
    if (t->credential_name.len)
        rule_lenient(r, options, t->credential_pos,
                     options->strict
                         ? "ISTIO_MUTUAL TLS cannot have associated credentialName"
                         : "ISTIO_MUTUAL TLS cannot have associated credentialName in Istio; here "
                           "that secret is the gateway's identity");
}

static void check_certificate(struct reader *r, struct pos pos, const char *prefix,
                              struct slice certificate, struct slice key)
{
    if (!certificate.len)
        rule_missing(r, pos, "%s requires a server certificate", prefix);
    if (!key.len)
        rule_missing(r, pos, "%s requires a private key", prefix);
}

static void check_certificate_files(struct reader *r, const struct server_tls *t)
{
    bool simple = t->mode == TLS_SIMPLE;
    const char *prefix = simple ? "SIMPLE TLS" : "MUTUAL TLS";
    if (!simple && !t->ca_certificates.len)
        rule_missing(r, t->pos, "%s requires a client CA bundle", prefix);
    if (t->certificate_count > 2)
        rule_warning(r, t->pos, "%s can support up to 2 server certificates", prefix);
    for (uint32_t i = 0; i < t->certificate_count; i++)
        check_certificate(r, t->certificates[i].pos, prefix, t->certificates[i].server_certificate,
                          t->certificates[i].private_key);
    if (!t->certificate_count)
        check_certificate(r, t->pos, prefix, t->server_certificate, t->private_key);
}

static void check_tls(struct reader *r, const struct load_options *options,
                      const struct server_tls *t)
{
    bool passes = t->mode == TLS_PASSTHROUGH || t->mode == TLS_AUTO_PASSTHROUGH;
    bool credential = t->credential_name.len || t->credential_names.count;
    bool files = t->server_certificate.len && t->private_key.len;
    check_ciphers(r, t);
    check_old_versions(r, t);
    if (rule_said_by_schema(r, t->mode_pos))
        return; // what it is to be is not known
    if (t->mode == TLS_ISTIO_MUTUAL) {
        check_istio_mutual(r, options, t);
        return;
    }
    if (passes && (t->ca_crl.len || t->server_certificate.len || t->private_key.len ||
                   t->ca_certificates.len || t->certificate_count || credential))
        rule_warning(r, t->pos, "%s mode does not use certificates, they will be ignored",
                     mode_names[t->mode]);
    if (files + (t->credential_name.len > 0) + (t->credential_names.count > 0) +
            (t->certificate_count > 0) >
        1)
        rule_error(r, t->pos,
                   "only one of credential_name, credential_names, server_certificate/private_key, "
                   "tls_certificates should be specified");
    if (t->mode == TLS_SIMPLE && t->subject_alt_names.count)
        rule_warning(r, t->subject_alt_names.items[0].pos,
                     "subjectAltNames has no effect in SIMPLE mode: no client certificate is asked "
                     "for");
    if (passes || credential) {
        if (t->ca_crl.len && t->credential_name.len)
            rule_lenient(r, options, t->pos,
                         "CRL is not supported with credentialName. CRL has to be specified in the "
                         "credential");
        return;
    }
    check_certificate_files(r, t);
    if (t->ca_crl.len && t->mode == TLS_SIMPLE)
        rule_error(r, t->pos, "CRL is not supported with SIMPLE TLS");
}

static void check_tls_fits_protocol(struct reader *r, const struct server *s)
{
    const struct server_tls *t = s->tls;
    bool tls = s->port.protocol == PROTO_HTTPS || s->port.protocol == PROTO_TLS;
    if (tls && !t)
        rule_missing(r, s->pos, "server must have TLS settings for HTTPS/TLS protocols");
    if (tls || !t)
        return;
    if (!server_protocol_is_http(s->port.protocol))
        rule_error(r, t->pos, "server cannot have TLS settings for non HTTPS/TLS ports");
    else if ((t->mode != TLS_PASSTHROUGH && t->mode != TLS_AUTO_PASSTHROUGH) ||
             t->ca_certificates.len || t->private_key.len || t->server_certificate.len)
        rule_error(r, t->pos, "server cannot have TLS settings for plain text HTTP ports");
}

static void check_server(struct reader *r, const struct load_options *options,
                         const struct server *s)
{
    if (s->hosts.count == 0)
        rule_missing(r, s->pos, "server config must contain at least one host");
    for (uint32_t i = 0; i < s->hosts.count; i++)
        check_host(r, &s->hosts.items[i]);
    bool port_is_good = check_server_port(r, options, s);
    check_bind(r, s);
    if (s->tls)
        check_tls(r, options, s->tls);
    if (port_is_good)
        check_tls_fits_protocol(r, s);
    if (s->tls && s->tls->https_redirect && !server_protocol_is_http(s->port.protocol))
        rule_warning(r, s->tls->pos, "tls.httpsRedirect should only be used with http servers");
}

static void check_unique_port_names(struct reader *r, const struct gateway *g)
{
    struct map seen;
    map_init(&seen, NULL, g->server_count);
    for (uint32_t i = 0; i < g->server_count; i++) {
        const struct server_port *p = &g->servers[i].port;
        if (p->pos.line && map_put(&seen, p->name, g->servers))
            rule_error(r, p->name_pos.line ? p->name_pos : p->pos,
                       "port names in servers must be unique: duplicate name %.*s",
                       SLICE_FMT(p->name));
    }
    map_fini(&seen);
}

void validate_gateway(struct reader *r, const struct load_options *options, const void *object)
{
    const struct gateway *g = object;
    if (g->meta.name.len && !is_dns_label(g->meta.name))
        rule_error(r, g->meta.name_pos, "invalid gateway name: \"%.*s\"", SLICE_FMT(g->meta.name));
    if (g->server_count == 0)
        rule_missing(r, g->meta.pos, "gateway must have at least one server");
    for (uint32_t i = 0; i < g->server_count; i++)
        check_server(r, options, &g->servers[i]);
    check_unique_port_names(r, g);
}
