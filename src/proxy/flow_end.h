// What there is to say of a relayed connection that has ended, or of one that no chain or rule was
// for: for the log. Everything in it is valid during the call only. Worker's thread.
#pragma once
#include "proto/downstream.h"

struct proxy_flow_end {
    const struct downstream *conn;       // its addresses
    uint64_t start_ns, end_ns;           // worker clock
    uint64_t bytes_received, bytes_sent; // from and to the client, inside TLS where that ends here
    uint32_t response_flags;             // enum response_flag
    uint32_t tries;
    const char *details;           // Envoy's RESPONSE_CODE_DETAILS; NULL: none
    const char *termination;       // why we ended it; NULL: we did not
    const char *transport_failure; // why TLS with the upstream has failed; NULL: it has not
    struct slice cluster_name;     // empty: no rule
    struct slice upstream_host;    // "10.0.0.1:9080", the last one tried
    struct slice server_name;      // of the ClientHello
    struct addr upstream_local;    // our end of the connection to it; len 0: none was made
};
