// The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt): a proxy in front of
// another says before a connection's first byte who the client is. Read from whom it is expected
// of, written to destinations with trafficPolicy.proxyProtocol. Without I/O; any thread.
#pragma once
#include "core/addr.h"
#include <stdint.h>

#define PROXYPROTO_V1_MAX 107u          // of a line with its CRLF
#define PROXYPROTO_V2_MAX (16u * 1024u) // behind the first 16 bytes: addresses and TLVs
#define PROXYPROTO_WRITE_MAX 108u       // of what we write

enum proxyproto_version { PROXYPROTO_NONE, PROXYPROTO_V1, PROXYPROTO_V2 };

struct proxyproto_reader {
    // Results, of an OK. Not given: UNKNOWN, LOCAL or what is not TCP over IP; the connection is
    // then its own client's.
    bool given;
    struct addr source, destination; // the client, and whom it has connected to

    // Progress:
    uint8_t bytes[PROXYPROTO_V1_MAX];
    uint8_t len;
    uint16_t skip; // of the header, and of no use to us
    enum err state;
};

void proxyproto_reader_init(struct proxyproto_reader *r);
// Takes the header's bytes off `in`, which may come in pieces of any size. OK: it is complete and
// what is left is the client's; MORE; ERR_SYNTAX: no header, or a bad one; ERR_LIMIT: too long.
// The last three leave nothing of use in `in`; an error stays.
enum err proxyproto_feed(struct proxyproto_reader *r, struct slice *in) must_use;

// A header that says so, of version 1 or 2; UNKNOWN, or one without addresses, where they are not
// both of IPv4 or both of IPv6. Returns its length.
size_t proxyproto_write(enum proxyproto_version version, const struct addr *source,
                        const struct addr *destination, char out[PROXYPROTO_WRITE_MAX]);
