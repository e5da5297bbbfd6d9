// The rules of one http route of a VirtualService.
#pragma once
#include "config/load.h"
#include "config/schema.h"

void validate_http_route(struct reader *r, const struct load_options *options,
                         const struct http_route *h, bool in_delegate, const char *mesh);
void check_destination(struct reader *r, const struct destination *d);
// "@request.auth.claims.x" or "@request.auth.claims[x]": a claim of the JWT, not a header.
bool is_jwt_claim(struct slice header);
bool is_header_name(struct slice s); // a token (RFC 9110 section 5.6.2), not empty
// The rules of header operations, with Istio's texts, and one of ours: what frames a message or
// belongs to a connection is not set by a document.
void check_header_operations(struct reader *r, const struct headers *h);
