// bench-backend: the upstream of every measurement. Answers each HTTP/1.1 request, whatever it
// asks for, with the same 200 and a body of --bytes bytes, and keeps the connection. It shares a
// core with the client, so it does nothing else: requests with a body are not understood. With
// --certificate and --key it speaks TLS.
// A connection is closed when its receive has ended and no send is in flight; until then its
// descriptor, which names it in the completions, cannot be given to another.
#include <getopt.h>
#include <stddef.h>

#include "load.h"
#include "tls.h"

enum { OP_ACCEPT, OP_RECV, OP_SEND };

struct connection {
    unsigned owed;    // requests read and not yet answered
    unsigned matched; // bytes of CRLFCRLF seen at the end of the last buffer
    bool sending, ended;
    struct tls tls;
    char *records; // being sent
};

enum { RECORDS_MAX = 1 << 16 };

static struct io_uring ring;
static struct buffers buffers;
static struct connection *connections; // by descriptor
static size_t connections_max;
static char *response;
static size_t response_len;
static SSL_CTX *tls_context; // NULL: clear text

static uint64_t tag(int op, int fd)
{
    return (uint64_t)op << 32 | (uint32_t)fd;
}

static void response_build(long bytes)
{
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
                     "content-length: %ld\r\n\r\n",
                     bytes);
    response_len = (size_t)n + (size_t)bytes;
    response = must_calloc(1, response_len);
    memcpy(response, head, (size_t)n);
    char *body = body_new((size_t)bytes);
    memcpy(response + n, body, (size_t)bytes);
    free(body);
}

static void send_start(int fd, const char *bytes, size_t len)
{
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_send(sqe, fd, bytes, len, MSG_WAITALL | MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, tag(OP_SEND, fd));
    connections[fd].sending = true;
}

// One answer, or nothing if all are given.
static void answer(int fd)
{
    struct connection *c = &connections[fd];
    if (c->owed == 0)
        return;
    c->owed--;
    if (tls_context == NULL)
        send_start(fd, response, response_len);
    else if (SSL_write(c->tls.ssl, response, (int)response_len) <= 0)
        c->owed = 0; // the receive ends too
}

static void send_records(int fd)
{
    struct connection *c = &connections[fd];
    size_t n = tls_take(&c->tls, c->records, RECORDS_MAX);
    if (n > 0)
        send_start(fd, c->records, n);
}

// Counts the heads that end in this buffer.
static unsigned heads(struct connection *c, const char *p, size_t len)
{
    static const char end[] = "\r\n\r\n";
    const char *stop = p + len, *hit;
    unsigned n = 0;
    while (c->matched > 0 && p < stop) { // an end that lies across two buffers
        c->matched = *p == end[c->matched] ? c->matched + 1 : 0;
        p++;
        if (c->matched == 4) {
            c->matched = 0;
            n++;
            break;
        }
    }
    while ((hit = memmem(p, (size_t)(stop - p), end, 4)) != NULL) {
        p = hit + 4;
        n++;
    }
    for (unsigned k = 3; k > 0; k--)
        if (stop - p >= (ptrdiff_t)k && memcmp(stop - k, end, k) == 0) {
            c->matched = k;
            break;
        }
    return n;
}

static void finish(int fd)
{
    if (tls_context != NULL)
        tls_free(&connections[fd].tls);
    free(connections[fd].records);
    close(fd);
}

// Ciphertext: the handshake, and the requests in it.
static void decrypt(struct connection *c, const char *p, size_t len)
{
    char plain[4096];
    int n;
    BIO_write(c->tls.in, p, (int)len);
    while ((n = SSL_read(c->tls.ssl, plain, sizeof plain)) > 0)
        c->owed += heads(c, plain, (size_t)n);
}

static void advance(int fd)
{
    struct connection *c = &connections[fd];
    if (c->sending)
        return;
    answer(fd);
    if (tls_context != NULL)
        send_records(fd);
    if (!c->sending && c->ended)
        finish(fd);
}

static void on_accept(const struct io_uring_cqe *cqe)
{
    int fd = cqe->res;
    if (fd < 0)
        return;
    if ((size_t)fd >= connections_max) {
        close(fd);
        return;
    }
    connections[fd] = (struct connection){0};
    if (tls_context != NULL) {
        connections[fd].tls = tls_new(tls_context, NULL);
        connections[fd].records = must_calloc(1, RECORDS_MAX);
    }
    arm_recv(&ring, fd, true, tag(OP_RECV, fd));
}

static void on_recv(int fd, const struct io_uring_cqe *cqe)
{
    struct connection *c = &connections[fd];
    if (cqe->res > 0) {
        unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        if (tls_context == NULL)
            c->owed += heads(c, buffer_at(&buffers, id), (size_t)cqe->res);
        else
            decrypt(c, buffer_at(&buffers, id), (size_t)cqe->res);
        buffers_give(&buffers, id);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        if (cqe->res > 0 || cqe->res == -ENOBUFS)
            arm_recv(&ring, fd, true, tag(OP_RECV, fd));
        else
            c->ended = true;
    }
    advance(fd);
}

static void on_send(int fd, const struct io_uring_cqe *cqe)
{
    struct connection *c = &connections[fd];
    c->sending = false;
    if (cqe->res < 0)
        c->owed = 0; // the receive ends too
    advance(fd);
}

static void serve(int listener)
{
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, tag(OP_ACCEPT, listener));
    for (;;) {
        unsigned head, n = 0;
        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            int op = (int)(cqe->user_data >> 32), fd = (int)(uint32_t)cqe->user_data;
            n++;
            if (op == OP_ACCEPT)
                on_accept(cqe);
            else if (op == OP_RECV)
                on_recv(fd, cqe);
            else
                on_send(fd, cqe);
        }
        io_uring_cq_advance(&ring, n);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'},        {"bytes", 1, NULL, 'b'},
                                            {"cpu", 1, NULL, 'c'},         {"key", 1, NULL, 'k'},
                                            {"certificate", 1, NULL, 'C'}, {0}};
    const char *certificate = NULL, *key = NULL;
    unsigned port = 0;
    long bytes = 1024;
    int cpu = -1;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p')
            port = (unsigned)number(optarg, 0, 65535);
        else if (o == 'b')
            bytes = number(optarg, 0, 1 << 30);
        else if (o == 'c')
            cpu = (int)number(optarg, 0, CPU_SETSIZE - 1);
        else if (o == 'C')
            certificate = optarg;
        else if (o == 'k')
            key = optarg;
        else
            return 2;
    }
    if (certificate != NULL)
        tls_context = tls_server_ctx(certificate, key);
    pin_cpu(cpu);
    connections_max = raise_nofile();
    connections = must_calloc(connections_max, sizeof *connections);
    response_build(bytes);
    ring_init(&ring);
    buffers_init(&buffers, &ring, 256, 4096);
    serve(listen_and_tell(port));
}
