// bench-idle: opens --conns keep-alive connections to --port, has each do one request, tells
// `ready N`, and holds them until its standard input ends. The memory rows read the gateway's
// size before and after. Blocking calls, one connection after the other: nothing here is measured.
// The first that fails ends the opening.
#include <getopt.h>

#include "load.h"

// Reads one answer; true if it is a 200 and complete.
static bool answer_read(int fd)
{
    char buf[65536];
    size_t have = 0;
    const char *end = NULL, *length;
    while (end == NULL) {
        ssize_t n = recv(fd, buf + have, sizeof buf - 1 - have, 0);
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
        ssize_t n = recv(fd, buf, sizeof buf, 0);
        if (n <= 0)
            return false;
        left -= n;
    }
    return left == 0;
}

static bool open_one(unsigned port, const char *request)
{
    struct sockaddr_in a = loopback(port);
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
           send(fd, request, strlen(request), MSG_NOSIGNAL) > 0 && answer_read(fd);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'}, {"conns", 1, NULL, 'n'},
                                            {"host", 1, NULL, 'h'}, {"path", 1, NULL, 'q'},
                                            {"cpu", 1, NULL, 'c'},  {0}};
    unsigned port = 0;
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
        else if (o == 'c')
            pin_cpu((int)number(optarg, 0, CPU_SETSIZE - 1));
        else
            return 2;
    }
    raise_nofile();
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: %s\r\n\r\n", path, host);
    while (good < conns && open_one(port, request))
        good++;
    printf("ready %ld\n", good);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return good == conns ? 0 : 1;
}
