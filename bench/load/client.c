// bench-client: HTTP/1.1 load. Without --rate it is a closed loop: each connection asks again as
// soon as its answer is complete. With --rate R requests are due at fixed times, R a second, and
// latency counts from the time a request was due, so that a stalled server is charged for all the
// requests it kept from being sent. --close makes a connection for every request. --tls speaks
// TLS 1.3 with X25519 and AES-128-GCM; with --resume too, one session is got first and resumed by
// all the other connections: one that is not is an error. Every answer must be a 200 with the
// --bytes that the backend sends; whatever else is an error, and so is an answer that has not come
// two seconds after the end. Prints one JSON object.
//
// Connections are slots: a slot's generation goes up with every new socket, and completions of an
// older generation are ignored, so that closing needs no waiting.
#include <getopt.h>

#include "load.h"
#include "tls.h"

enum { OP_CONNECT, OP_RECV, OP_SEND };
enum { HEAD_MAX = 8192, OUT_MAX = 4096, SUB = 128, SUB_BITS = 7, ERRORS_MAX = 1000 };
static const uint64_t grace_ns = 2000000000u;

enum error {
    CONNECT,
    SOCKET,
    TLS,
    RESUMPTION,
    STATUS,
    LENGTH,
    CONTENT,
    MALFORMED,
    UNANSWERED,
    ERROR_KINDS
};
static const char *const error_names[] = {"connect", "socket",  "tls",       "resumption", "status",
                                          "length",  "content", "malformed", "unanswered"};

struct slot {
    char *head; // a head that came in pieces
    char *out;  // --tls: what is being sent; nothing more is before an answer to it came
    struct tls tls;
    uint64_t started_ns, body_left;
    size_t head_len;
    uint32_t generation;
    int fd;
    bool connected, shaken, asking, last; // last: the server said `connection: close`
};

static struct {
    unsigned port, conns, rate, buffer;
    double seconds;
    long bytes;
    const char *host, *path;
    int cpu;
    bool close, tls, resume;
} arg = {.conns = 64,
         .seconds = 5,
         .bytes = 1024,
         .host = "bench.example",
         .path = "/",
         .cpu = -1,
         .buffer = 4096};

static struct io_uring ring;
static struct buffers buffers;
static struct sockaddr_in target;
static struct slot *slots;
static unsigned *idle, idle_count; // connected slots that wait for a request to be due
static char request[4096], *expected;
static size_t request_len;
static SSL_CTX *tls_context;
static SSL_SESSION *session; // --resume
static uint64_t now, end_ns, due_ns, first_ns, sent;

static struct {
    uint64_t responses, reconnects, errors[ERROR_KINDS], error_total;
    uint64_t histogram[64 * SUB], max_ns;
    int bad_status, bad_errno;
} count;

static void slot_open(struct slot *s);

static uint64_t tag(const struct slot *s, int op)
{
    return (uint64_t)op << 62 | (uint64_t)(s->generation & 0x3fffffff) << 32 |
           (uint64_t)(s - slots);
}

// ---------------------------------------------------------------------- latency, within 1/128

static unsigned bucket(uint64_t ns)
{
    if (ns < SUB)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return (shift + 1) * SUB + (unsigned)((ns >> shift) & (SUB - 1));
}

static double bucket_us(unsigned i)
{
    unsigned shift = i < SUB ? 0 : i / SUB - 1;
    uint64_t low = i < SUB ? i : (uint64_t)(SUB + i % SUB) << shift;
    return ((double)low + (double)(1ull << shift) / 2) / 1000;
}

static double percentile(double p)
{
    uint64_t seen = 0, wanted = (uint64_t)((double)count.responses * p);
    for (unsigned i = 0; i < 64 * SUB; i++)
        if ((seen += count.histogram[i]) > wanted)
            return bucket_us(i);
    return (double)count.max_ns / 1000;
}

// ------------------------------------------------------------------------------- connections

static void slot_drop(struct slot *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->generation++;
    if (arg.tls)
        tls_free(&s->tls);
    s->connected = s->shaken = s->asking = s->last = false;
    s->head_len = s->body_left = 0;
    for (unsigned i = 0; i < idle_count; i++)
        if (idle[i] == (unsigned)(s - slots))
            idle[i--] = idle[--idle_count];
}

// The receive holds the socket open: end it, too.
static void slot_reopen(struct slot *s)
{
    if (!arg.close && s->fd >= 0)
        shutdown(s->fd, SHUT_RDWR);
    slot_drop(s);
    if (now < end_ns && count.error_total < ERRORS_MAX)
        slot_open(s);
}

static void slot_fail(struct slot *s, enum error kind, int error)
{
    count.errors[kind]++;
    count.error_total++;
    if (error != 0)
        count.bad_errno = error;
    slot_reopen(s);
}

static void slot_open(struct slot *s)
{
    struct linger reset = {.l_onoff = 1}; // leaves no port in TIME_WAIT
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        die("socket", errno);
    set_nodelay(s->fd);
    if (arg.close)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    s->started_ns = now;
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_connect(sqe, s->fd, (struct sockaddr *)&target, sizeof target);
    io_uring_sqe_set_data64(sqe, tag(s, OP_CONNECT));
}

static void slot_send(struct slot *s, const char *bytes, size_t len)
{
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_send(sqe, s->fd, bytes, len, MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, tag(s, OP_SEND));
}

// --tls: what there is to be sent.
static void slot_flush(struct slot *s)
{
    size_t n = tls_take(&s->tls, s->out, OUT_MAX);
    if (n == OUT_MAX)
        die("TLS output", EMSGSIZE);
    if (n > 0)
        slot_send(s, s->out, n);
}

static void slot_ask(struct slot *s, uint64_t started_ns)
{
    if (!arg.tls) {
        slot_send(s, request, request_len);
    } else {
        if (SSL_write(s->tls.ssl, request, (int)request_len) <= 0)
            die("SSL_write", EIO);
        slot_flush(s);
    }
    s->asking = true;
    s->started_ns = started_ns;
    sent++;
}

// The slot has no request: it asks, or waits until one is due, or has done its share.
static void slot_next(struct slot *s)
{
    if (now >= end_ns)
        return;
    if (arg.rate == 0)
        slot_ask(s, arg.close ? s->started_ns : now);
    else
        idle[idle_count++] = (unsigned)(s - slots);
}

static void ask_due(void)
{
    while (arg.rate != 0 && idle_count > 0 && due_ns <= now && due_ns < end_ns) {
        slot_ask(&slots[idle[--idle_count]], due_ns);
        due_ns = first_ns + (uint64_t)((double)sent * 1e9 / arg.rate);
    }
}

static void slot_answered(struct slot *s)
{
    uint64_t took = now - s->started_ns;
    count.responses++;
    count.histogram[bucket(took)]++;
    if (took > count.max_ns)
        count.max_ns = took;
    s->asking = false;
    if (arg.close) {
        slot_reopen(s);
    } else if (s->last) {
        count.reconnects++;
        slot_reopen(s);
    } else {
        slot_next(s);
    }
}

// ----------------------------------------------------------------------------------- answers

static bool is_field(const char *line, size_t len, const char *name, size_t name_len)
{
    return len > name_len && (line[0] | 0x20) == name[0] && line[name_len] == ':' &&
           strncasecmp(line, name, name_len) == 0;
}

// Takes a complete head: false if the answer is not the one expected.
static bool head_take(struct slot *s, const char *p, size_t len)
{
    const char *stop = p + len, *line = memchr(p, '\n', len);
    long length = -1;
    int status = len > 12 && memcmp(p, "HTTP/1.1 ", 9) == 0 ? atoi(p + 9) : 0;
    if (status != 200) {
        count.bad_status = status;
        slot_fail(s, status == 0 ? MALFORMED : STATUS, 0);
        return false;
    }
    while (line != NULL && ++line < stop) {
        const char *next = memchr(line, '\n', (size_t)(stop - line));
        size_t n = (size_t)((next == NULL ? stop : next) - line);
        if (is_field(line, n, "content-length", 14))
            length = strtol(line + 15, NULL, 10);
        else if (is_field(line, n, "connection", 10))
            s->last = memmem(line, n, "close", 5) != NULL;
        line = next;
    }
    if (length != arg.bytes) {
        slot_fail(s, LENGTH, 0);
        return false;
    }
    s->body_left = (uint64_t)length;
    return true;
}

// Finds the end of the head: what of `p` belongs to it, or 0 if there is more to come.
static size_t head_feed(struct slot *s, const char *p, size_t len)
{
    const char *end;
    if (s->head_len == 0) {
        end = memmem(p, len, "\r\n\r\n", 4);
        if (end != NULL)
            return head_take(s, p, (size_t)(end - p) + 2) ? (size_t)(end - p) + 4 : 0;
    }
    size_t old = s->head_len, take = len < HEAD_MAX - old ? len : HEAD_MAX - old;
    if (s->head == NULL)
        s->head = must_calloc(1, HEAD_MAX);
    memcpy(s->head + old, p, take);
    s->head_len += take;
    end = memmem(s->head, s->head_len, "\r\n\r\n", 4);
    if (end == NULL) {
        if (s->head_len == HEAD_MAX)
            slot_fail(s, MALFORMED, 0);
        return 0;
    }
    size_t used = (size_t)(end - s->head) + 4 - old;
    s->head_len = 0;
    return head_take(s, s->head, used + old - 2) ? used : 0;
}

static void feed(struct slot *s, const char *p, size_t len)
{
    if (!s->asking) {
        slot_fail(s, MALFORMED, 0);
        return;
    }
    if (s->body_left == 0) {
        size_t used = head_feed(s, p, len);
        if (used == 0)
            return;
        p += used;
        len -= used;
    }
    if (len > s->body_left) {
        slot_fail(s, LENGTH, 0);
        return;
    }
    if (memcmp(p, expected + ((size_t)arg.bytes - s->body_left), len) != 0) {
        slot_fail(s, CONTENT, 0);
        return;
    }
    s->body_left -= len;
    if (s->body_left == 0)
        slot_answered(s);
}

// --------------------------------------------------------------------------------------- TLS

static void tls_begin(struct slot *s)
{
    s->tls = tls_new(tls_context, arg.host);
    if (s->out == NULL)
        s->out = must_calloc(1, OUT_MAX);
    if (session != NULL)
        SSL_set_session(s->tls.ssl, session);
    SSL_do_handshake(s->tls.ssl);
    slot_flush(s);
}

// The first session is for all other connections, which wait for it.
static int on_session(SSL *ssl, SSL_SESSION *new)
{
    (void)ssl;
    if (!arg.resume || session != NULL)
        return 0;
    session = new;
    for (unsigned i = 1; i < arg.conns; i++)
        slot_open(&slots[i]);
    return 1;
}

// False if the slot has failed.
static bool tls_shake(struct slot *s)
{
    int rc = SSL_do_handshake(s->tls.ssl);
    if (rc != 1 && tls_waits(&s->tls, rc))
        return true;
    if (rc != 1 || SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(s->tls.ssl)) !=
                       SSL_CIPHER_AES_128_GCM_SHA256) {
        slot_fail(s, TLS, 0);
        return false;
    }
    if (session != NULL && !SSL_session_reused(s->tls.ssl)) {
        slot_fail(s, RESUMPTION, 0);
        return false;
    }
    s->shaken = true;
    slot_next(s);
    slot_flush(s);
    return true;
}

static void tls_feed(struct slot *s, const char *p, size_t len)
{
    static char plain[SSL3_RT_MAX_PLAIN_LENGTH];
    uint32_t generation = s->generation;
    BIO_write(s->tls.in, p, (int)len);
    if (!s->shaken && !tls_shake(s))
        return;
    while (s->shaken) {
        int n = SSL_read(s->tls.ssl, plain, sizeof plain);
        if (n <= 0 && tls_waits(&s->tls, n))
            return;
        if (n <= 0) {
            slot_fail(s, TLS, 0);
            return;
        }
        feed(s, plain, (size_t)n);
        if (s->generation != generation)
            return;
    }
}

// ------------------------------------------------------------------------------- completions

static void on_connect(struct slot *s, int res)
{
    if (res < 0) {
        slot_fail(s, CONNECT, -res);
        return;
    }
    s->connected = true;
    arm_recv(&ring, s->fd, !arg.close, tag(s, OP_RECV));
    if (arg.tls)
        tls_begin(s);
    else
        slot_next(s);
}

static void on_recv(struct slot *s, const struct io_uring_cqe *cqe)
{
    uint32_t generation = s->generation;
    unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    if (cqe->res > 0) {
        (arg.tls ? tls_feed : feed)(s, buffer_at(&buffers, id), (size_t)cqe->res);
    } else if (cqe->res != -ENOBUFS) {
        if (s->asking) {
            slot_fail(s, SOCKET, -cqe->res);
        } else {
            count.reconnects++;
            slot_reopen(s);
        }
    }
    if (s->generation == generation && !(cqe->flags & IORING_CQE_F_MORE))
        arm_recv(&ring, s->fd, !arg.close, tag(s, OP_RECV));
}

static void dispatch(const struct io_uring_cqe *cqe)
{
    struct slot *s = &slots[(uint32_t)cqe->user_data];
    int op = (int)(cqe->user_data >> 62);
    if (tag(s, op) == cqe->user_data) {
        if (op == OP_CONNECT)
            on_connect(s, cqe->res);
        else if (op == OP_RECV)
            on_recv(s, cqe);
        else if (cqe->res < 0)
            slot_fail(s, SOCKET, -cqe->res);
    }
    if (cqe->flags & IORING_CQE_F_BUFFER)
        buffers_give(&buffers, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
}

// --------------------------------------------------------------------------------------- run

static unsigned asking(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < arg.conns; i++)
        n += slots[i].asking;
    return n;
}

static void turn(uint64_t until_ns)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    uint64_t wait = until_ns > now ? until_ns - now : 0;
    struct __kernel_timespec t = {(long long)(wait / 1000000000u), (long long)(wait % 1000000000u)};
    io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &t, NULL);
    now = now_ns();
    io_uring_for_each_cqe(&ring, head, cqe)
    {
        dispatch(cqe);
        n++;
    }
    io_uring_cq_advance(&ring, n);
}

static void measure(void)
{
    now = first_ns = now_ns();
    end_ns = now + (uint64_t)(arg.seconds * 1e9);
    due_ns = now;
    for (unsigned i = 0; i < (arg.resume ? 1 : arg.conns); i++)
        slot_open(&slots[i]);
    while (now < end_ns && count.error_total < ERRORS_MAX) {
        ask_due();
        turn(arg.rate != 0 && idle_count > 0 && due_ns < end_ns ? due_ns : end_ns);
    }
    while (now < end_ns + grace_ns && count.error_total < ERRORS_MAX && asking() > 0)
        turn(end_ns + grace_ns);
    if (count.error_total < ERRORS_MAX) { // else they had no time to answer
        count.errors[UNANSWERED] += asking();
        count.error_total += asking();
    }
}

static void print(uint64_t elapsed_ns)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                 (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    double s = (double)elapsed_ns / 1e9;
    printf("{\"responses\": %lu, \"seconds\": %.3f, \"rate\": %.1f, \"cpu_s\": %.3f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
           "\"reconnects\": %lu, \"bad_status\": %d, \"errno\": \"%s\", \"errors\": %lu",
           count.responses, s, (double)count.responses / s, cpu, percentile(.5), percentile(.99),
           percentile(.999), (double)count.max_ns / 1000, count.reconnects, count.bad_status,
           count.bad_errno ? strerror(count.bad_errno) : "", count.error_total);
    for (int i = 0; i < ERROR_KINDS; i++)
        printf(", \"%s\": %lu", error_names[i], count.errors[i]);
    printf("}\n");
}

static void take_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'},
                                            {"conns", 1, NULL, 'n'},
                                            {"seconds", 1, NULL, 's'},
                                            {"host", 1, NULL, 'h'},
                                            {"path", 1, NULL, 'q'},
                                            {"bytes", 1, NULL, 'b'},
                                            {"rate", 1, NULL, 'r'},
                                            {"close", 0, NULL, 'k'},
                                            {"tls", 0, NULL, 't'},
                                            {"resume", 0, NULL, 'R'},
                                            {"cpu", 1, NULL, 'c'},
                                            {"buffer", 1, NULL, 'f'},
                                            {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'p':
            arg.port = (unsigned)number(optarg, 1, 65535);
            break;
        case 'n':
            arg.conns = (unsigned)number(optarg, 1, 20000);
            break;
        case 's':
            arg.seconds = atof(optarg);
            break;
        case 'h':
            arg.host = optarg;
            break;
        case 'q':
            arg.path = optarg;
            break;
        case 'b':
            arg.bytes = number(optarg, 1, 1 << 30);
            break;
        case 'r':
            arg.rate = (unsigned)number(optarg, 1, 10000000);
            break;
        case 'k':
            arg.close = true;
            break;
        case 't':
            arg.tls = true;
            break;
        case 'R':
            arg.tls = arg.resume = true;
            break;
        case 'c':
            arg.cpu = (int)number(optarg, 0, CPU_SETSIZE - 1);
            break;
        case 'f':
            arg.buffer = (unsigned)number(optarg, 512, 1 << 20);
            break;
        default:
            exit(2);
        }
    }
    if (arg.port == 0 || (arg.close && arg.rate != 0)) {
        fprintf(stderr, "--port is needed; --close and --rate exclude each other\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    take_arguments(argc, argv);
    pin_cpu(arg.cpu);
    raise_nofile();
    prctl(PR_SET_TIMERSLACK, 1);
    target = loopback(arg.port);
    request_len = (size_t)snprintf(request, sizeof request,
                                   "GET %s HTTP/1.1\r\nhost: %s\r\nuser-agent: sluice-bench\r\n"
                                   "accept: */*\r\n%s\r\n",
                                   arg.path, arg.host, arg.close ? "connection: close\r\n" : "");
    if (request_len >= sizeof request)
        die("request", EMSGSIZE);
    expected = body_new((size_t)arg.bytes);
    slots = must_calloc(arg.conns, sizeof *slots);
    idle = must_calloc(arg.conns, sizeof *idle);
    for (unsigned i = 0; i < arg.conns; i++)
        slots[i].fd = -1;
    if (arg.tls) {
        tls_context = tls_client_ctx();
        SSL_CTX_sess_set_new_cb(tls_context, on_session);
    }
    ring_init(&ring);
    buffers_init(&buffers, &ring, arg.conns * 2, arg.buffer);
    measure();
    print(now - first_ns);
    return count.error_total == 0 ? 0 : 1;
}
