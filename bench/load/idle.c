// bench-idle: opens --conns keep-alive connections to --port (--tls: in TLS), has each do one
// request, tells `ready N`, and holds them until its standard input ends. The memory rows read the
// gateway's size before and after. Blocking calls, one connection after the other: nothing here is
// measured. The first that fails ends the opening.
#include <getopt.h>

#include "load.h"
#include "tls.h"

struct connection {
    int fd;
    SSL *ssl; // NULL: clear text
};

static ssize_t take(const struct connection *c, char *to, size_t cap)
{
    return c->ssl ? SSL_read(c->ssl, to, (int)cap) : recv(c->fd, to, cap, 0);
}

static ssize_t give(const struct connection *c, const char *from, size_t len)
{
    return c->ssl ? SSL_write(c->ssl, from, (int)len) : send(c->fd, from, len, MSG_NOSIGNAL);
}

// Reads one answer; true if it is a 200 and complete.
static bool answer_read(const struct connection *c)
{
    char buf[65536];
    size_t have = 0;
    const char *end = NULL, *length;
    while (end == NULL) {
        ssize_t n = take(c, buf + have, sizeof buf - 1 - have);
        if (n <= 0)
            return false;
        have += (size_t)n;
        buf[have] = '\0';
        end = strstr(buf, "\r\n\r\n");
    }
    length = strcasestr(buf, "\r\ncontent-length:");
    if (strncmp(buf, "HTTP/1.1 200", 12) != 0 || length == NULL || length > end)
        return false;
    long left = strtol(length + 17, NULL, 10) - (buf + have - (end + 4));
    while (left > 0) {
        ssize_t n = take(c, buf, sizeof buf);
        if (n <= 0)
            return false;
        left -= n;
    }
    return left == 0;
}

static bool shake(struct connection *c, SSL_CTX *tls, const char *host)
{
    c->ssl = SSL_new(tls);
    return c->ssl && SSL_set_fd(c->ssl, c->fd) && SSL_set_tlsext_host_name(c->ssl, host) &&
           SSL_connect(c->ssl) == 1;
}

static bool open_one(unsigned port, const char *request, SSL_CTX *tls, const char *host)
{
    struct sockaddr_in a = loopback(port);
    struct timeval limit = {.tv_sec = 10};
    struct connection c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (c.fd < 0)
        return false;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return connect(c.fd, (struct sockaddr *)&a, sizeof a) == 0 && (!tls || shake(&c, tls, host)) &&
           give(&c, request, strlen(request)) > 0 && answer_read(&c);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'},
                                            {"conns", 1, NULL, 'n'},
                                            {"host", 1, NULL, 'h'},
                                            {"path", 1, NULL, 'q'},
                                            {"cpu", 1, NULL, 'c'},
                                            {"tls", 0, NULL, 't'},
                                            {0}};
    unsigned port = 0;
    SSL_CTX *tls = NULL;
    long conns = 1000, good = 0;
    const char *host = "bench.example", *path = "/";
    char request[4096], byte;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p')
            port = (unsigned)number(optarg, 1, 65535);
        else if (o == 'n')
            conns = number(optarg, 1, 1 << 20);
        else if (o == 'h')
            host = optarg;
        else if (o == 'q')
            path = optarg;
        else if (o == 't')
            tls = tls_client_ctx();
        else if (o == 'c')
            pin_cpu((int)number(optarg, 0, CPU_SETSIZE - 1));
        else
            return 2;
    }
    raise_nofile();
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: %s\r\n\r\n", path, host);
    while (good < conns && open_one(port, request, tls, host))
        good++;
    printf("ready %ld\n", good);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return good == conns ? 0 : 1;
}
