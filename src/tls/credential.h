// Where the bytes of certificates, keys, CAs and CRLs come from: files, the Secrets and ConfigMaps
// of the documents, by Istio's names of keys and its order of precedence
// (pilot/pkg/credentials/kube). One of these serves one load; each file is read once. Control
// thread.
//
// A credentialName is `name`, `ns/name`, or one of these with `kubernetes://` or
// `kubernetes-gateway://` before it; `sds://name` is `name`, as in Istio without such a server. A
// name without namespace is looked for where the Gateway or DestinationRule is, then in
// istio-system, then in any other, in document order: which one Istio means depends on where its
// proxy runs. A DestinationRule's, which does not say which Gateway's proxy it is for, is looked
// for there first (store_client.c).
#pragma once
#include "config/model.h"
#include "core/err.h"
#include "core/map.h"
#include "core/slice.h"

struct credential_sources {
    const struct model *m;
    const char *mount; // where Kubernetes would have mounted Secrets: "/etc/istio"
    struct arena *arena;
    struct map files;               // path -> struct credential_file
    struct map secrets, configmaps; // name -> the first struct credential_object of it
    struct credential_file *first_file, **last_file;
};

struct credential_file { // in the order they were asked for
    struct credential_file *next;
    struct slice path;
    char *bytes; // NULL = could not be read
    size_t len;
    int error;     // errno
    uint64_t sign; // before it was read
};

// Of what stat(2) knows of a file; 0 = it is not there. Another one means that it was changed.
uint64_t credential_file_sign(const char *path);

struct credential {
    struct slice chain, key, ocsp;
    const char *from; // names it in messages: "secret istio-system/a", "/a/tls.crt"
    const char *row;  // and in listings, as istioctl has it: "kubernetes://a"
};
struct credential_ca {
    struct slice ca, crl;
    const char *from, *row;
};

// `arena` holds what is found out; the model and it must outlive what is returned.
void credential_sources_init(struct credential_sources *s, const struct model *m, const char *mount,
                             struct arena *arena);
void credential_sources_fini(struct credential_sources *s); // forgets the files' bytes

// All of these: OK, or ERR_NOT_FOUND or ERR_INVALID with the reason in `why`. Texts may be
// anything; they are not looked into.

// A file that the documents name; when there is none, `<mount>/<secret>/<key>` is that key of
// Secret
// `<secret>` or `istio-<secret>`, as Istio's own gateways mount theirs.
enum err credential_read(struct credential_sources *s, struct slice path, struct slice *out,
                         char *why, size_t why_cap) must_use;
enum err credential_from_files(struct credential_sources *s, struct slice chain, struct slice key,
                               struct credential *out, char *why, size_t why_cap) must_use;
// `crl` may be empty.
enum err credential_ca_from_files(struct credential_sources *s, struct slice ca, struct slice crl,
                                  struct credential_ca *out, char *why, size_t why_cap) must_use;
// `cert` and `key`, else `tls.crt`, `tls.key` and `tls.ocsp-staple`.
enum err credential_from_secret(struct credential_sources *s, struct slice name, struct slice ns,
                                struct credential *out, char *why, size_t why_cap) must_use;
// Of Secret `<name>-cacert`, else of Secret `<name>`: `cacert` and `crl`, else `ca.crt` and
// `ca.crl`.
enum err credential_ca_from_secret(struct credential_sources *s, struct slice name, struct slice ns,
                                   struct credential_ca *out, char *why, size_t why_cap) must_use;
// caCertCredentialName: the same keys of the Secret, else of the ConfigMap, of that very name;
// `configmap://ns/name` is the ConfigMap.
enum err credential_ca_named(struct credential_sources *s, struct slice name, struct slice ns,
                             struct credential_ca *out, char *why, size_t why_cap) must_use;
// Whether Secret `name`, or its `-cacert`, is in that namespace; not of a name that says another.
bool credential_is_in(const struct credential_sources *s, struct slice name, struct slice ns);
bool credential_is_builtin(struct slice name); // `builtin://`: the workload's own
