// The checks that several kinds share, with Istio's texts (pkg/config/validation/agent). Each adds
// its findings to the reader.
#pragma once
#include "config/load.h"
#include "config/schema.h"

// IST0106 and IST0133, SchemaValidationError and SchemaWarning.
void rule_error(struct reader *r, struct pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Whether the schema had something to say about what stands there.
bool rule_said_by_schema(const struct reader *r, struct pos pos);
// The same of a field that is not there.
void rule_missing(struct reader *r, struct pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void rule_warning(struct reader *r, struct pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// What today's Istio refuses and Sluice accepts: a warning, an error with --strict.
void rule_lenient(struct reader *r, const struct load_options *options, struct pos pos,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

bool is_dns_label(struct slice s); // letters, digits and inner dashes, 1..63
bool is_ip_address(struct slice s);
bool has_unix_prefix(struct slice s); // unix://

// NULL, or what is wrong, in the reader's arena.
const char *fqdn_error(struct arena *a, struct slice name);
const char *wildcard_domain_error(struct arena *a, struct slice name);

void check_port(struct reader *r, struct pos pos, uint32_t number);
void check_duration(struct reader *r, struct pos pos, uint64_t ns); // DURATION_UNSET passes
void check_labels(struct reader *r, const struct label_map *labels);
// Of workloads; `without` is the warning of one without labels.
void check_selector(struct reader *r, struct pos pos, const struct label_map *labels,
                    const char *without);
void check_subnet(struct reader *r, const struct string_item *subnet);
void check_unix_address(struct reader *r, struct pos pos, struct slice path); // behind unix://
void check_gateway_names(struct reader *r, const struct string_list *names);
enum export_to_of { EXPORT_PLAIN, EXPORT_SERVICE_ENTRY, EXPORT_RULE_WITH_SELECTOR };
void check_export_to(struct reader *r, const struct string_list *list, enum export_to_of of);
// `where` is the field, for the message; `text` of a regex match or rewrite.
void check_regex(struct reader *r, const struct load_options *options, struct pos pos,
                 struct slice text, const char *where);
void check_partial_wildcard(struct reader *r, struct pos pos, struct slice host, bool is_error);
