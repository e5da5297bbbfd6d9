// Reads and writes PROXY headers. Nothing behind the header is ever taken: version 1 ends with its
// line's LF, version 2 says how long it is. Of what is read only the part with the addresses is
// kept. Owns nothing.
#include "proto/proxyproto.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_LEN 12u
#define V2_HEAD 16u
#define V2_INET 12u // the addresses' bytes, by family
#define V2_INET6 36u
#define V2_UNIX 216u
#define V2_LOCAL 0x20u // version and command
#define V2_PROXY 0x21u
#define V2_TCP4 0x11u // family and transport
#define V2_TCP6 0x21u

_Static_assert(V2_HEAD + V2_INET6 <= PROXYPROTO_V1_MAX, "one buffer is for both versions");
_Static_assert(PROXYPROTO_V2_MAX <= UINT16_MAX, "skip holds it");

void proxyproto_reader_init(struct proxyproto_reader *r)
{
    memset(r, 0, sizeof(*r));
    r->state = MORE;
}

// ---- version 1

static bool read_port(struct slice text, uint16_t *out)
{
    uint64_t n;
    if (!slice_to_u64(text, &n) || n > UINT16_MAX || (text.len > 1 && text.ptr[0] == '0'))
        return false;
    *out = (uint16_t)n;
    return true;
}

static bool read_address(struct slice text, int family, struct addr *out)
{
    char ip[INET6_ADDRSTRLEN];
    if (text.len >= sizeof(ip))
        return false;
    memcpy(ip, text.ptr, text.len);
    ip[text.len] = '\0';
    memset(out, 0, sizeof(*out));
    out->sa.sa_family = (sa_family_t)family;
    out->len = family == AF_INET ? sizeof(out->in) : sizeof(out->in6);
    void *to = family == AF_INET ? (void *)&out->in.sin_addr : (void *)&out->in6.sin6_addr;
    return strlen(ip) == text.len && inet_pton(family, ip, to) == 1;
}

static void set_port(struct addr *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET)
        a->in.sin_port = htons(port);
    else
        a->in6.sin6_port = htons(port);
}

// The next part up to a space; the last one has none behind it.
static bool part(struct slice *rest, bool last, struct slice *out)
{
    ptrdiff_t space = slice_find(*rest, ' ');
    if ((space < 0) != last)
        return false;
    *out = (struct slice){rest->ptr, last ? rest->len : (size_t)space};
    *rest = last ? (struct slice){rest->ptr + rest->len, 0} : slice_from(*rest, (size_t)space + 1);
    return out->len > 0;
}

// "TCP4 SOURCE DESTINATION PORT PORT" or "UNKNOWN" and anything.
static bool read_line(struct proxyproto_reader *r, struct slice line)
{
    struct slice p[4];
    uint16_t from, to;
    bool v4 = slice_has_prefix(line, SLICE("TCP4 "));
    if (slice_eq(line, SLICE("UNKNOWN")) || slice_has_prefix(line, SLICE("UNKNOWN ")))
        return true;
    if (!v4 && !slice_has_prefix(line, SLICE("TCP6 ")))
        return false;
    line = slice_from(line, 5);
    for (int i = 0; i < 4; i++)
        if (!part(&line, i == 3, &p[i]))
            return false;
    int family = v4 ? AF_INET : AF_INET6;
    if (!read_address(p[0], family, &r->source) || !read_address(p[1], family, &r->destination) ||
        !read_port(p[2], &from) || !read_port(p[3], &to))
        return false;
    set_port(&r->source, from);
    set_port(&r->destination, to);
    return r->given = true;
}

static enum err v1_byte(struct proxyproto_reader *r)
{
    static const char begin[] = "PROXY ";
    uint32_t at = r->len - 1u;
    uint8_t c = r->bytes[at];
    if (at < sizeof(begin) - 1)
        return c == (uint8_t)begin[at] ? MORE : ERR_SYNTAX;
    if (r->bytes[at - 1] == '\r')
        return c == '\n' && read_line(r, (struct slice){(char *)r->bytes + 6, at - 7u})
                   ? OK
                   : ERR_SYNTAX;
    if (c == '\n' || c == '\0')
        return ERR_SYNTAX;
    return r->len < PROXYPROTO_V1_MAX ? MORE : ERR_LIMIT;
}

// ---- version 2

static uint32_t address_bytes(uint8_t family)
{
    static const uint8_t bytes[] = {0, V2_INET, V2_INET6, V2_UNIX};
    return bytes[family];
}

static enum err v2_head(struct proxyproto_reader *r)
{
    uint8_t command = r->bytes[12], family = r->bytes[13] >> 4, transport = r->bytes[13] & 15;
    uint32_t len = (uint32_t)r->bytes[14] << 8 | r->bytes[15];
    if ((command != V2_LOCAL && command != V2_PROXY) || family > 3 || transport > 2)
        return ERR_SYNTAX;
    if (command == V2_PROXY && len < address_bytes(family))
        return ERR_SYNTAX;
    if (len > PROXYPROTO_V2_MAX)
        return ERR_LIMIT;
    r->skip = (uint16_t)len;
    return len ? MORE : OK;
}

// Which of the bytes that are left hold addresses that we take.
static uint32_t v2_wanted(const struct proxyproto_reader *r)
{
    if (r->bytes[12] != V2_PROXY)
        return 0;
    return r->bytes[13] == V2_TCP4 ? V2_INET : r->bytes[13] == V2_TCP6 ? V2_INET6 : 0;
}

static void v2_take(struct proxyproto_reader *r)
{
    const uint8_t *p = r->bytes + V2_HEAD;
    struct addr *both[] = {&r->source, &r->destination};
    bool v4 = r->bytes[13] == V2_TCP4;
    size_t n = v4 ? 4 : 16;
    for (int i = 0; i < 2; i++) {
        struct addr *a = both[i];
        uint16_t port =
            (uint16_t)(p[2 * n + 2u * (unsigned)i] << 8 | p[2 * n + 2u * (unsigned)i + 1]);
        a->sa.sa_family = v4 ? AF_INET : AF_INET6;
        a->len = v4 ? sizeof(a->in) : sizeof(a->in6);
        memcpy(v4 ? (void *)&a->in.sin_addr : (void *)&a->in6.sin6_addr, p + n * (unsigned)i, n);
        set_port(a, port);
    }
    r->given = true;
}

static enum err v2_byte(struct proxyproto_reader *r)
{
    uint32_t at = r->len - 1u;
    if (at < SIGNATURE_LEN)
        return r->bytes[at] == (uint8_t)SIGNATURE[at] ? MORE : ERR_SYNTAX;
    if (at < V2_HEAD - 1)
        return MORE;
    if (at == V2_HEAD - 1)
        return v2_head(r);
    r->skip--;
    if (at == V2_HEAD + v2_wanted(r) - 1)
        v2_take(r);
    return r->skip ? MORE : OK;
}

// ---- both

// What is not kept is passed over in one step.
static enum err skip(struct proxyproto_reader *r, struct slice *in)
{
    size_t n = in->len < r->skip ? in->len : r->skip;
    *in = slice_from(*in, n);
    r->skip = (uint16_t)(r->skip - n);
    return r->skip ? MORE : OK;
}

enum err proxyproto_feed(struct proxyproto_reader *r, struct slice *in)
{
    while (r->state == MORE && in->len > 0) {
        bool v2 = r->len > 0 && r->bytes[0] != 'P';
        if (v2 && r->len >= V2_HEAD && r->len == V2_HEAD + v2_wanted(r)) {
            r->state = skip(r, in);
            continue;
        }
        r->bytes[r->len++] = (uint8_t)in->ptr[0];
        *in = slice_from(*in, 1);
        r->state = r->bytes[0] == 'P' ? v1_byte(r) : v2_byte(r);
    }
    return r->state;
}

// ---- writing

static bool pair_of(const struct addr *a, const struct addr *b, int family)
{
    return a->len > 0 && b->len > 0 && a->sa.sa_family == family && b->sa.sa_family == family;
}

static size_t write_v1(const struct addr *source, const struct addr *destination, char *out)
{
    char from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
    bool v4 = pair_of(source, destination, AF_INET);
    if (!v4 && !pair_of(source, destination, AF_INET6)) {
        memcpy(out, "PROXY UNKNOWN\r\n", 15);
        return 15;
    }
    from[addr_format(source, from, sizeof(from) - 1, false)] = '\0';
    to[addr_format(destination, to, sizeof(to) - 1, false)] = '\0';
    return (size_t)snprintf(out, PROXYPROTO_WRITE_MAX, "PROXY %s %s %s %u %u\r\n",
                            v4 ? "TCP4" : "TCP6", from, to, addr_port(source),
                            addr_port(destination));
}

static size_t write_v2(const struct addr *source, const struct addr *destination, char *out)
{
    const struct addr *both[] = {source, destination};
    bool v4 = pair_of(source, destination, AF_INET);
    bool v6 = pair_of(source, destination, AF_INET6);
    size_t n = v4 ? 4 : v6 ? 16 : 0, len = v4 ? V2_INET : v6 ? V2_INET6 : 0;
    memcpy(out, SIGNATURE, SIGNATURE_LEN);
    out[12] = V2_PROXY;
    out[13] = (char)(v4 ? V2_TCP4 : v6 ? V2_TCP6 : 0);
    out[14] = 0;
    out[15] = (char)len;
    char *p = out + V2_HEAD;
    for (size_t i = 0; n > 0 && i < 2; i++) {
        const struct addr *a = both[i];
        uint16_t port = addr_port(a);
        memcpy(p + n * i, v4 ? (const void *)&a->in.sin_addr : (const void *)&a->in6.sin6_addr, n);
        p[2 * n + 2 * i] = (char)(port >> 8);
        p[2 * n + 2 * i + 1] = (char)port;
    }
    return V2_HEAD + len;
}

size_t proxyproto_write(enum proxyproto_version version, const struct addr *source,
                        const struct addr *destination, char out[PROXYPROTO_WRITE_MAX])
{
    return version == PROXYPROTO_V1 ? write_v1(source, destination, out)
                                    : write_v2(source, destination, out);
}
