// What listings.c, listings_json.c and explain_json.c share. Not for anyone else.
#pragma once
#include "admin/listings.h"

#define LISTING_TIME_MAX 40 // "2026-11-25T20:14:54Z"

const char *listing_secret_type(const struct tls_store_row *r);
const char *listing_secret_status(const struct tls_store_row *r);
size_t listing_secret_time(int64_t at_s, char out[LISTING_TIME_MAX]); // not terminated; its length

void listing_json_listeners(struct text *out, const struct snapshot *s);
void listing_json_routes(struct text *out, const struct snapshot *s);
void listing_json_clusters(struct text *out, const struct snapshot *s);
void listing_json_endpoints(struct text *out, const struct snapshot *s);
void listing_json_secrets(struct text *out, const struct snapshot *s);
// One of them.
void listing_json_route(struct text *out, const struct route *r);
void listing_json_relay(struct text *out, const struct l4_rule *r);
