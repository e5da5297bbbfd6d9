// Socket addresses in and out of text. Pure; any thread.
#include "core/addr.h"
#include <arpa/inet.h>
#include <stdio.h>

static enum err parse_unix(struct slice path, struct addr *out)
{
    bool abstract = path.len && path.ptr[0] == '@';
    // A path name is NUL-terminated inside sun_path, an abstract name begins with NUL instead.
    if (path.len < (abstract ? 2u : 1u) || path.len > sizeof(out->un.sun_path) - 1 ||
        slice_find(path, '\0') >= 0)
        return ERR_SYNTAX;
    out->un.sun_family = AF_UNIX;
    memcpy(out->un.sun_path, path.ptr, path.len);
    if (abstract)
        out->un.sun_path[0] = '\0';
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + (abstract ? 0 : 1));
    return OK;
}

enum err addr_parse(struct slice ip, uint16_t port, struct addr *out)
{
    char text[INET6_ADDRSTRLEN + 1];
    memset(out, 0, sizeof(*out));
    if (slice_has_prefix(ip, SLICE("unix://")))
        return parse_unix(slice_from(ip, 7), out);
    if (ip.len > 2 && ip.ptr[0] == '[' && ip.ptr[ip.len - 1] == ']') {
        ip = (struct slice){ip.ptr + 1, ip.len - 2};
        if (slice_find(ip, ':') < 0)
            return ERR_SYNTAX; // brackets are for IPv6
    }
    if (ip.len == 0 || ip.len >= sizeof(text) || slice_find(ip, '\0') >= 0)
        return ERR_SYNTAX;
    memcpy(text, ip.ptr, ip.len);
    text[ip.len] = '\0';
    if (inet_pton(AF_INET, text, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        out->len = sizeof(out->in);
        return OK;
    }
    if (inet_pton(AF_INET6, text, &out->in6.sin6_addr) == 1) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = htons(port);
        out->len = sizeof(out->in6);
        return OK;
    }
    memset(out, 0, sizeof(*out));
    return ERR_SYNTAX;
}

enum err addr_parse_port(struct slice ip_port, struct addr *out)
{
    memset(out, 0, sizeof(*out));
    if (slice_has_prefix(ip_port, SLICE("unix://")))
        return addr_parse(ip_port, 0, out);
    size_t colon = ip_port.len;
    while (colon > 0 && ip_port.ptr[colon - 1] != ':')
        colon--;
    uint64_t port;
    if (colon == 0 || !slice_to_u64(slice_from(ip_port, colon), &port) || port > UINT16_MAX)
        return ERR_SYNTAX;
    struct slice host = {ip_port.ptr, colon - 1};
    // Without brackets an IPv6 address and a port cannot be told apart.
    if (host.len && host.ptr[0] != '[' && slice_find(host, ':') >= 0)
        return ERR_SYNTAX;
    return addr_parse(host, (uint16_t)port, out);
}

uint16_t addr_port(const struct addr *a)
{
    if (a->len == 0)
        return 0;
    if (a->sa.sa_family == AF_INET)
        return ntohs(a->in.sin_port);
    if (a->sa.sa_family == AF_INET6)
        return ntohs(a->in6.sin6_port);
    return 0;
}

static size_t format_unix(const struct addr *a, char *buf, size_t cap)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t n = a->len > head ? a->len - head : 0;
    if (n == 0)
        return (size_t)snprintf(buf, cap, "unix://");
    if (a->un.sun_path[0] == '\0')
        return (size_t)snprintf(buf, cap, "unix://@%.*s", (int)(n - 1), a->un.sun_path + 1);
    return (size_t)snprintf(buf, cap, "unix://%.*s", (int)n, a->un.sun_path);
}

static size_t format_ip(const struct addr *a, char *buf, size_t cap, bool with_port)
{
    char ip[INET6_ADDRSTRLEN];
    bool v6 = a->sa.sa_family == AF_INET6;
    const void *bytes = v6 ? (const void *)&a->in6.sin6_addr : (const void *)&a->in.sin_addr;
    if (!inet_ntop(a->sa.sa_family, bytes, ip, sizeof(ip)))
        return (size_t)snprintf(buf, cap, "unknown");
    if (!with_port)
        return (size_t)snprintf(buf, cap, "%s", ip);
    return (size_t)snprintf(buf, cap, v6 ? "[%s]:%u" : "%s:%u", ip, addr_port(a));
}

size_t addr_format(const struct addr *a, char *buf, size_t cap, bool with_port)
{
    size_t n;
    if (cap == 0)
        return 0;
    if (a->len == 0)
        n = (size_t)snprintf(buf, cap, "unset");
    else if (a->sa.sa_family == AF_UNIX)
        n = format_unix(a, buf, cap);
    else
        n = format_ip(a, buf, cap, with_port);
    return n < cap ? n : cap - 1;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    if (a->len == 0 || b->len == 0)
        return a->len == b->len;
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    switch (a->sa.sa_family) {
    case AF_INET:
        return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    case AF_INET6:
        return a->in6.sin6_port == b->in6.sin6_port &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
               memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
    default:
        return a->len == b->len && memcmp(&a->un, &b->un, a->len) == 0;
    }
}

// The address bytes in network order. A v4-mapped IPv6 address is its IPv4 address, so that a
// dual-stack listener and a prefix of either family agree.
static uint32_t ip_bytes(const struct addr *a, const uint8_t **bytes)
{
    if (a->len == 0)
        return 0;
    if (a->sa.sa_family == AF_INET) {
        *bytes = (const uint8_t *)&a->in.sin_addr;
        return 4;
    }
    if (a->sa.sa_family != AF_INET6)
        return 0;
    *bytes = (const uint8_t *)&a->in6.sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
        *bytes += 12;
        return 4;
    }
    return 16;
}

bool addr_is_loopback(const struct addr *a)
{
    const uint8_t *b;
    switch (ip_bytes(a, &b)) {
    case 4:
        return b[0] == 127;
    case 16:
        return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
    default:
        return a->len != 0 && a->sa.sa_family == AF_UNIX;
    }
}

enum err addr_prefix_parse(struct slice text, struct addr_prefix *out)
{
    ptrdiff_t slash = slice_find(text, '/');
    struct slice ip = {text.ptr, slash < 0 ? text.len : (size_t)slash};
    enum err e = addr_parse(ip, 0, &out->addr);
    if (e != OK)
        return e;
    const uint8_t *bytes;
    if (ip_bytes(&out->addr, &bytes) == 0)
        return ERR_SYNTAX;
    uint64_t max = out->addr.sa.sa_family == AF_INET ? 32 : 128, bits = max;
    if (slash >= 0 && (!slice_to_u64(slice_from(text, (size_t)slash + 1), &bits) || bits > max))
        return ERR_SYNTAX;
    if (max == 128 && ip_bytes(&out->addr, &bytes) == 4) { // ::ffff:10.0.0.0/104 means 10/8
        if (bits < 96)
            return ERR_SYNTAX;
        bits -= 96;
    }
    out->bits = (uint8_t)bits;
    return OK;
}

bool addr_prefix_contains(const struct addr_prefix *p, const struct addr *a)
{
    const uint8_t *x, *y;
    uint32_t n = ip_bytes(&p->addr, &x);
    if (n == 0 || ip_bytes(a, &y) != n)
        return false;
    uint32_t whole = p->bits / 8, rest = p->bits % 8;
    if (memcmp(x, y, whole) != 0)
        return false;
    return rest == 0 || (x[whole] ^ y[whole]) >> (8 - rest) == 0;
}
