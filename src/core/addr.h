// Socket addresses in and out of text.
#pragma once
#include "core/err.h"
#include "core/slice.h"
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t len; // 0 = unset
};

#define ADDR_TEXT_MAX 128

// ip: IPv4, IPv6 (brackets allowed) or unix://PATH, unix://@ABSTRACT (port ignored). No names.
enum err addr_parse(struct slice ip, uint16_t port, struct addr *out) must_use;
// "127.0.0.1:80", "[::1]:80"
enum err addr_parse_port(struct slice ip_port, struct addr *out) must_use;
uint16_t addr_port(const struct addr *a);
size_t addr_format(const struct addr *a, char *buf, size_t cap, bool with_port); // length
bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_is_loopback(const struct addr *a);
// "10.0.0.0/8" or a plain address.
struct addr_prefix {
    struct addr addr;
    uint8_t bits;
};
enum err addr_prefix_parse(struct slice text, struct addr_prefix *out) must_use;
bool addr_prefix_contains(const struct addr_prefix *p, const struct addr *a);
