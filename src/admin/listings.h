// What is being served, for people and programs: the published snapshot as JSON, or as the tables
// that `istioctl proxy-config` prints. Control thread (it is the one that replaces snapshots).
#pragma once
#include "admin/text.h"
#include "proxy/snapshot.h"

enum listing {
    LISTING_LISTENERS,
    LISTING_ROUTES,
    LISTING_CLUSTERS,
    LISTING_ENDPOINTS,
    LISTING_SECRETS,
    LISTING_COUNT
};

extern const char *const listing_names[LISTING_COUNT];

// snapshot NULL: nothing is published yet; the listing is empty.
void listing_write_table(enum listing which, const struct snapshot *s, struct text *out);
void listing_write_json(enum listing which, const struct snapshot *s, struct text *out);
// Everything in one JSON object, keyed by the listings' names.
void listing_write_dump(const struct snapshot *s, struct text *out);
