// What reading a request head costs: three heads (what curl sends, what a browser sends, one with
// large cookies and many fields), each by the parser as it is built for this machine, by the same
// source without vector instructions, and as a connection does it, which copies the head out of its
// receive buffer first; turn and turn about in one run. Best of many rounds: nanoseconds a head,
// and instructions where the kernel lets them be counted.
//   h1_parse
#include "proto/h1_parse.h"
#include "proto/h1_headbuf.h"
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The parser once more, in plain C and under other names.
#define H1_PLAIN
#define h1_find_head_end plain_find_head_end
#define h1_parse_request plain_parse_request
#define h1_parse_response plain_parse_response
#define h1_parse_trailers plain_parse_trailers
const char *h1_find_head_end(const char *, size_t, size_t *);
enum err h1_parse_request(char *, size_t, size_t *, struct head *, struct h1_message *);
enum err h1_parse_response(char *, size_t, size_t *, struct slice, struct head *,
                           struct h1_message *);
enum err h1_parse_trailers(char *, size_t, size_t *, struct head *, struct h1_message *);
#include "proto/h1_parse.c"
#undef h1_find_head_end
#undef h1_parse_request

typedef enum err parse_fn(char *, size_t, size_t *, struct head *, struct h1_message *);

#define ROUNDS 400u
#define HEADS 2000u // in a round

static const char small[] = "GET /productpage HTTP/1.1\r\nHost: bookinfo.com\r\n"
                            "User-Agent: curl/8.11.0\r\nAccept: */*\r\n\r\n";

static const char browser[] =
    "GET /productpage?u=normal HTTP/1.1\r\nHost: bookinfo.com:31110\r\nConnection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    "sec-ch-ua: \"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n"
    "sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36\r\n"
    "Accept: "
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n"
    "Sec-Fetch-Dest: document\r\nReferer: http://bookinfo.com:31110/login\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-DE,de;q=0.9,en-US;q=0.8\r\n"
    "Cookie: session=eyJ1c2VyIjoiamFzb24ifQ.Zx1Yag.4mXH3kq8J0V1vZ8Q2cY3pR7nT5w; theme=dark\r\n\r\n";

static char *large(size_t *len)
{
    char *text = malloc(16384);
    size_t n = (size_t)sprintf(text, "GET /%0200d HTTP/1.1\r\nHost: bookinfo.com\r\n", 7);
    for (int i = 0; i < 60; i++)
        n += (size_t)sprintf(text + n, "X-Application-Field-%d: value of field %d\r\n", i, i);
    n += (size_t)sprintf(text + n, "Cookie: id=%04000d\r\n\r\n", 7);
    *len = n;
    return text;
}

static enum err collected(char *data, size_t len, size_t *scanned, struct head *h,
                          struct h1_message *m)
{
    static char arena[EXCHANGE_BLOCK_BYTES];
    static struct exchange x;
    struct h1_headbuf b = {0};
    x.arena_cur = arena;
    x.arena_end = arena + sizeof(arena);
    (void)scanned;
    if (h1_headbuf_fill(&b, NULL, &x, (struct slice){data, len}) != len)
        abort();
    enum err e = h1_parse_request(b.base, b.len, &b.scanned, h, m);
    h1_headbuf_keep(&b, &x, m->head_len);
    return e;
}

// ---- counting

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int instruction_counter(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE,
                                   .size = sizeof(attr),
                                   .config = PERF_COUNT_HW_INSTRUCTIONS,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static uint64_t instructions(int fd)
{
    uint64_t n = 0;
    return fd >= 0 && read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

struct variant {
    const char *name;
    parse_fn *parse;
    uint64_t best_ns, best_instructions;
};

static void round_of(struct variant *v, char *data, size_t len, int fd)
{
    static struct head h;
    struct h1_message m;
    uint64_t counted = instructions(fd), begin = now_ns();
    for (uint32_t i = 0; i < HEADS; i++) {
        size_t scanned = 0;
        head_reset(&h);
        if (v->parse(data, len, &scanned, &h, &m) != OK || m.head_len != len)
            abort();
    }
    uint64_t ns = now_ns() - begin, n = instructions(fd) - counted;
    v->best_ns = ns < v->best_ns ? ns : v->best_ns;
    v->best_instructions = n < v->best_instructions ? n : v->best_instructions;
}

static void bench(const char *what, const char *text, size_t len, int fd)
{
    struct variant variants[] = {{"as built", h1_parse_request, UINT64_MAX, UINT64_MAX},
                                 {"plain C", plain_parse_request, UINT64_MAX, UINT64_MAX},
                                 {"collected", collected, UINT64_MAX, UINT64_MAX}};
    char *data = malloc(len);
    if (!data)
        abort();
    memcpy(data, text, len);
    for (uint32_t r = 0; r < ROUNDS; r++)
        for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++)
            round_of(&variants[i], data, len, fd);
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        printf("%-8s %5zu bytes  %-9s %8.1f ns a head", what, len, variants[i].name,
               (double)variants[i].best_ns / HEADS);
        if (fd >= 0)
            printf(" %8.0f instructions", (double)variants[i].best_instructions / HEADS);
        printf("\n");
    }
    free(data);
}

int main(void)
{
    int fd = instruction_counter();
    size_t large_len;
    char *large_text = large(&large_len);
    bench("small", small, sizeof(small) - 1, fd);
    bench("browser", browser, sizeof(browser) - 1, fd);
    bench("large", large_text, large_len, fd);
    free(large_text);
    return 0;
}
