// Gateway: the tables of its messages. Control thread.
#include "config/kind.h"
#include "config/names.h"
#include "config/validate.h"

static const struct enum_value tls_modes[] = {
    {"PASSTHROUGH", TLS_PASSTHROUGH},
    {"SIMPLE", TLS_SIMPLE},
    {"MUTUAL", TLS_MUTUAL},
    {"AUTO_PASSTHROUGH", TLS_AUTO_PASSTHROUGH},
    {"ISTIO_MUTUAL", TLS_ISTIO_MUTUAL},
    {"OPTIONAL_MUTUAL", TLS_OPTIONAL_MUTUAL},
};
ENUM_TYPE(tls_mode_type, "istio.networking.v1alpha3.ServerTLSSettings.TLSmode", tls_modes);

static const struct enum_value tls_protocols[] = {
    {"TLS_AUTO", TLS_PROTO_AUTO}, {"TLSV1_0", TLS_PROTO_1_0}, {"TLSV1_1", TLS_PROTO_1_1},
    {"TLSV1_2", TLS_PROTO_1_2},   {"TLSV1_3", TLS_PROTO_1_3},
};
ENUM_TYPE(tls_protocol_type, "istio.networking.v1alpha3.ServerTLSSettings.TLSProtocol",
          tls_protocols);

static const struct field certificate_fields[] = {
    F("serverCertificate", FIELD_STRING, struct tls_certificate, server_certificate),
    F("privateKey", FIELD_STRING, struct tls_certificate, private_key),
    F("caCertificates", FIELD_STRING, struct tls_certificate, ca_certificates),
};
MESSAGE(certificate, "istio.networking.v1alpha3.ServerTLSSettings.TLSCertificate",
        struct tls_certificate, certificate_fields, pos);

#define T struct server_tls
static const struct field tls_fields[] = {
    F("httpsRedirect", FIELD_BOOL, T, https_redirect),
    {"mode", FIELD_ENUM, offsetof(T, mode), 0, offsetof(T, mode_pos), NO_OFFSET, &tls_mode_type},
    F("serverCertificate", FIELD_STRING, T, server_certificate),
    F("privateKey", FIELD_STRING, T, private_key),
    F("caCertificates", FIELD_STRING, T, ca_certificates),
    F("caCrl", FIELD_STRING, T, ca_crl),
    F_POS("credentialName", FIELD_STRING, T, credential_name, credential_pos),
    F_POS("credentialNames", FIELD_STRINGS, T, credential_names, credential_pos),
    F("caCertCredentialName", FIELD_STRING, T, ca_cert_credential_name),
    F_LIST("tlsCertificates", T, certificates, certificate_count, certificate),
    F("subjectAltNames", FIELD_STRINGS, T, subject_alt_names),
    F("verifyCertificateSpki", FIELD_STRINGS, T, verify_certificate_spki),
    F("verifyCertificateHash", FIELD_STRINGS, T, verify_certificate_hash),
    F_CHILD("minProtocolVersion", FIELD_ENUM, T, min_version, tls_protocol_type),
    F_CHILD("maxProtocolVersion", FIELD_ENUM, T, max_version, tls_protocol_type),
    F("cipherSuites", FIELD_STRINGS, T, cipher_suites),
    F("ecdhCurves", FIELD_STRINGS, T, ecdh_curves),
    F("insecureSkipVerify", FIELD_BOOL, T, insecure_skip_verify),
};
#undef T
MESSAGE(tls, "istio.networking.v1alpha3.ServerTLSSettings", struct server_tls, tls_fields, pos);

#define T struct server_port
static const struct field port_fields[] = {
    F_POS("number", FIELD_U32, T, number, number_pos),
    F_POS("protocol", FIELD_STRING, T, protocol_text, protocol_pos),
    F_POS("name", FIELD_STRING, T, name, name_pos),
    F_POS("targetPort", FIELD_U32, T, target_port, target_port_pos),
};
#undef T
MESSAGE(port, "istio.networking.v1alpha3.Port", struct server_port, port_fields, pos);

#define T struct server
static const struct field server_fields[] = {
    F_INLINE_AT("port", T, port, port),
    F_POS("bind", FIELD_STRING, T, bind, bind_pos),
    F("hosts", FIELD_STRINGS, T, hosts),
    F_CHILD("tls", FIELD_MESSAGE, T, tls, tls),
    F("defaultEndpoint", FIELD_STRING, T, default_endpoint),
    F_POS("name", FIELD_STRING, T, name, name_pos),
};
#undef T
MESSAGE(server, "istio.networking.v1alpha3.Server", struct server, server_fields, pos);

static const struct field spec_fields[] = {
    F_LIST("servers", struct gateway, servers, server_count, server),
    F_POS("selector", FIELD_STRING_MAP, struct gateway, selector, selector_pos),
};
MESSAGE_NO_POS(spec, "istio.networking.v1alpha3.Gateway", struct gateway, spec_fields);
ISTIO_DOCUMENT(document, "Gateway", struct gateway, spec);

static void finish(struct reader *r, void *object)
{
    struct gateway *g = object;
    (void)r;
    for (uint32_t i = 0; i < g->server_count; i++)
        g->servers[i].port.protocol = server_protocol_parse(g->servers[i].port.protocol_text);
}

const struct kind kind_gateway = {
    .name = "Gateway",
    .group = "networking.istio.io",
    .document = &document,
    .size = sizeof(struct gateway),
    .list = offsetof(struct model, gateways),
    .finish = finish,
    .validate = validate_gateway,
};
