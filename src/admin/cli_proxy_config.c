// `sluice proxy-config`: asks the running gateway's admin port, which writes the tables itself.
// A blocking HTTP/1.0 client of a few lines. Main thread.
#include "admin/cli.h"
#include "admin/text.h"
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_MAX_BYTES (512u << 20)
#define TIMEOUT_S 10

static int dial(const struct addr *a)
{
    struct timeval limit = {TIMEOUT_S, 0};
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, &a->sa, a->len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static bool read_all(int fd, struct text *out)
{
    char buf[16384];
    ssize_t n;
    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
        text_put(out, (struct slice){buf, (size_t)n});
    return n == 0 && !out->overflow;
}

static bool ask(int fd, const char *listing, bool json, struct text *out)
{
    char request[128];
    int n = snprintf(request, sizeof(request), "GET /%s%s HTTP/1.0\r\n\r\n", listing,
                     json ? "" : "?format=text");
    return send(fd, request, (size_t)n, MSG_NOSIGNAL) == n && read_all(fd, out);
}

// The body of a 200; false with a sentence for anything else.
static bool take_body(const struct text *answer, struct slice *body)
{
    struct slice all = {answer->data, answer->len};
    const char *end = answer->len ? memmem(all.ptr, all.len, "\r\n\r\n", 4) : NULL;
    if (!end || !slice_has_prefix(all, SLICE("HTTP/1."))) {
        fprintf(stderr, "sluice: what answers there is not a gateway's admin port\n");
        return false;
    }
    *body = slice_from(all, (size_t)(end - all.ptr) + 4);
    if (all.len > 12 && memcmp(all.ptr + 9, "200", 3) == 0)
        return true;
    fprintf(stderr, "sluice: the gateway answered %.3s: %.*s", all.ptr + 9, SLICE_FMT(*body));
    return false;
}

int cli_proxy_config(const struct cli_options *o)
{
    char where[ADDR_TEXT_MAX];
    struct text answer;
    struct slice body;
    int status = CLI_EXIT_FAILED;
    text_init(&answer, ANSWER_MAX_BYTES);
    size_t n = addr_format(&o->admin, where, sizeof(where), true);
    int fd = dial(&o->admin);
    if (fd < 0 || !ask(fd, o->listing, o->json, &answer)) {
        fprintf(stderr,
                "sluice: cannot ask the gateway at %.*s: %s (is `sluice run` up, and is this its "
                "--admin?)\n",
                (int)n, where, strerror(errno));
    } else if (take_body(&answer, &body)) {
        fwrite(body.ptr, 1, body.len, stdout);
        status = CLI_EXIT_OK;
    }
    if (fd >= 0)
        close(fd);
    text_fini(&answer);
    return status;
}
