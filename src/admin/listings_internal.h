// What listings.c and listings_json.c share. Not for anyone else.
#pragma once
#include "admin/listings.h"

void listing_json_listeners(struct text *out, const struct snapshot *s);
void listing_json_routes(struct text *out, const struct snapshot *s);
void listing_json_clusters(struct text *out, const struct snapshot *s);
void listing_json_endpoints(struct text *out, const struct snapshot *s);
void listing_json_secrets(struct text *out, const struct snapshot *s);
