// Lint of DestinationRules and Services (IST0118, 0128, 0129, 0173, 0174). Reads the indexes.
// Control thread.
#include "config/analysis.h"
#include "config/names.h"

static const char *const tls_modes[] = {"DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"};

static bool verifies_nothing(const struct destination_rule *d, const struct client_tls *t)
{
    return t && (t->mode == CLIENT_TLS_SIMPLE || t->mode == CLIENT_TLS_MUTUAL) &&
           !t->ca_certificates.len && !(t->credential_name.len && d->workload_selector.count);
}

static void check_verification(struct analysis *a, const struct destination_rule *d)
{
    const struct traffic_policy *p = d->traffic_policy;
    const struct metadata *m = &d->meta;
    if (!p)
        return;
    if (verifies_nothing(d, p->tls))
        finding_add(a->findings, SEVERITY_WARNING, "IST0128", p->tls->pos, m,
                    "DestinationRule %.*s/%.*s in namespace %.*s has TLS mode set to %s but no "
                    "caCertificates are set to validate server identity for host: %.*s",
                    SLICE_FMT(m->ns), SLICE_FMT(m->name), SLICE_FMT(m->ns), tls_modes[p->tls->mode],
                    SLICE_FMT(d->host));
    for (uint32_t i = 0; i < p->port_level_count; i++) {
        const struct port_traffic_policy *port = &p->port_level[i];
        if (verifies_nothing(d, port->tls))
            finding_add(a->findings, SEVERITY_WARNING, "IST0129", port->tls->pos, m,
                        "DestinationRule %.*s/%.*s in namespace %.*s has TLS mode set to %s but no "
                        "caCertificates are set to validate server identity for host: %.*s at port "
                        "number:%u",
                        SLICE_FMT(m->ns), SLICE_FMT(m->name), SLICE_FMT(m->ns),
                        tls_modes[port->tls->mode], SLICE_FMT(d->host), port->port);
    }
}

// What to do where a Service has its addresses from Endpoints that name no Pod: subsets are by
// Pods' labels.
static const char *subset_hint(struct analysis *a, const struct kube_service *s)
{
    const struct kube_endpoints *e =
        s ? map_get(&a->endpoints,
                    analysis_key(a, "%.*s/%.*s", SLICE_FMT(s->meta.ns), SLICE_FMT(s->meta.name)))
          : NULL;
    for (uint32_t i = 0; e && i < e->address_count; i++)
        if (!e->addresses[i].target_pod.len)
            return " Endpoints have no labels: add targetRef and a Pod to each address, or use a "
                   "ServiceEntry with labelled endpoints.";
    return "";
}

void analyze_destination_rules(struct analysis *a)
{
    for (uint32_t i = 0; i < a->m->destination_rules_count; i++) {
        const struct destination_rule *d = a->m->destination_rules[i];
        struct slice fqdn = host_fqdn(&a->scratch, d->host, d->meta.ns);
        check_verification(a, d);
        if (analysis_is_broken(a, "host %.*s", SLICE_FMT(fqdn)))
            continue;
        const struct host_entry *e = analysis_host(a, fqdn);
        if (!e) {
            const char *elsewhere = analysis_other_service(a, d->host, d->meta.ns);
            finding_add(a->findings, SEVERITY_WARNING, "IST0174", d->host_pos, &d->meta,
                        "The host %.*s defined in the DestinationRule does not match any services "
                        "in the mesh%s",
                        SLICE_FMT(d->host), *elsewhere ? elsewhere : ".");
            continue;
        }
        for (uint32_t k = 0; k < d->subset_count; k++)
            if (!analysis_has_workload(a, &d->subsets[k].labels))
                finding_add(a->findings, SEVERITY_ERROR, "IST0173", d->subsets[k].pos, &d->meta,
                            "The Subset %.*s defined in the DestinationRule does not select any "
                            "pods. Which may lead to 503 UH (NoHealthyUpstream).%s",
                            SLICE_FMT(d->subsets[k].name), subset_hint(a, e->service));
    }
}

// ---- IST0118: <protocol>[-suffix], or appProtocol; some ports are known to be TCP

static bool names_protocol(const struct kube_service_port *p)
{
    struct slice name = p->app_protocol.len ? p->app_protocol : p->name;
    if (slice_eq(p->protocol, SLICE("UDP")) || slice_has_prefix(name, SLICE("kubernetes.io/")) ||
        slice_has_prefix_nocase(name, SLICE("grpc-web")))
        return true;
    ptrdiff_t dash = slice_find(name, '-');
    if (dash >= 0)
        name.len = (size_t)dash;
    return server_protocol_parse(name) != PROTO_UNKNOWN || p->port == 25 || p->port == 53 ||
           p->port == 3306 || p->port == 27017;
}

void analyze_services(struct analysis *a)
{
    for (uint32_t i = 0; i < a->m->services_count; i++) {
        const struct kube_service *s = a->m->services[i];
        for (uint32_t k = 0; k < s->port_count; k++) {
            const struct kube_service_port *p = &s->ports[k];
            if (names_protocol(p))
                continue;
            struct slice target = p->target_port_name.len ? p->target_port_name
                                                          : analysis_key(a, "%u", p->target_port);
            finding_add(a->findings, SEVERITY_INFO, "IST0118", p->pos, &s->meta,
                        "Port name %.*s (port: %u, targetPort: %.*s) doesn't follow the naming "
                        "convention of Istio port.",
                        SLICE_FMT(p->name), p->port, SLICE_FMT(target));
        }
    }
}
