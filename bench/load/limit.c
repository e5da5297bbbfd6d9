// bench-limit: what BoringSSL alone does in a CPU-second, which is the most that a gateway on it
// can.
// --work seal: bytes sealed with AES-128-GCM, 16 KiB at a time; handshake, resume: handshakes of
// TLS 1.3 in memory, of which only the server's half is counted. Prints one JSON object.
#include <getopt.h>
#include <openssl/aead.h>

#include "load.h"
#include "tls.h"

enum { RECORD = 16384 };

static SSL_SESSION *session;

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seal_rate(double seconds)
{
    static uint8_t plain[RECORD], sealed[RECORD + 64], key[16], nonce[12], head[5];
    EVP_AEAD_CTX *aead = EVP_AEAD_CTX_new(EVP_aead_aes_128_gcm(), key, sizeof key, 0);
    double from = cpu_s(), bytes = 0;
    size_t len;
    if (aead == NULL)
        die("AEAD", ENOMEM);
    while (cpu_s() - from < seconds) {
        for (int i = 0; i < 64; i++, bytes += RECORD) {
            nonce[11]++;
            if (!EVP_AEAD_CTX_seal(aead, sealed, &len, sizeof sealed, nonce, sizeof nonce, plain,
                                   sizeof plain, head, sizeof head))
                die("seal", EINVAL);
        }
    }
    double spent = cpu_s() - from;
    EVP_AEAD_CTX_free(aead);
    return bytes / spent;
}

static int on_session(SSL *ssl, SSL_SESSION *new)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = new;
    return 1;
}

static void carry(struct tls *from, struct tls *to)
{
    char bytes[16384];
    size_t n;
    while ((n = tls_take(from, bytes, sizeof bytes)) > 0)
        BIO_write(to->in, bytes, (int)n);
}

// One handshake and a byte to the client, which makes it read the tickets; the server's CPU time.
static double shake(SSL_CTX *server_ctx, SSL_CTX *client_ctx, bool resume)
{
    double from = cpu_s(), spent;
    struct tls server = tls_new(server_ctx, NULL);
    spent = cpu_s() - from;
    struct tls client = tls_new(client_ctx, "bench.example");
    bool may_resume = resume && session != NULL;
    char byte;
    if (may_resume)
        SSL_set_session(client.ssl, session);
    while (SSL_in_init(server.ssl)) {
        SSL_do_handshake(client.ssl);
        carry(&client, &server);
        from = cpu_s();
        SSL_do_handshake(server.ssl);
        spent += cpu_s() - from;
        carry(&server, &client);
    }
    from = cpu_s();
    SSL_write(server.ssl, "x", 1);
    spent += cpu_s() - from;
    carry(&server, &client);
    if (SSL_read(client.ssl, &byte, 1) != 1 || (may_resume && !SSL_session_reused(server.ssl)))
        die("handshake", EPROTO);
    from = cpu_s();
    tls_free(&server);
    spent += cpu_s() - from;
    tls_free(&client);
    return spent;
}

static double shake_rate(double seconds, const char *certificate, const char *key, bool resume)
{
    SSL_CTX *server = tls_server_ctx(certificate, key), *client = tls_client_ctx();
    double spent = 0, n = 0;
    SSL_CTX_sess_set_new_cb(client, on_session);
    shake(server, client, resume);
    for (; spent < seconds; n++)
        spent += shake(server, client, resume);
    return n / spent;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"work", 1, NULL, 'w'}, {"seconds", 1, NULL, 's'}, {"certificate", 1, NULL, 'C'},
        {"key", 1, NULL, 'k'},  {"cpu", 1, NULL, 'c'},     {0}};
    const char *work = "seal", *certificate = NULL, *key = NULL;
    double seconds = 1;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'w')
            work = optarg;
        else if (o == 's')
            seconds = atof(optarg);
        else if (o == 'C')
            certificate = optarg;
        else if (o == 'k')
            key = optarg;
        else if (o == 'c')
            pin_cpu((int)number(optarg, 0, CPU_SETSIZE - 1));
        else
            return 2;
    }
    bool seal = strcmp(work, "seal") == 0;
    if (!seal && (certificate == NULL || key == NULL))
        die("--certificate and --key", EINVAL);
    printf("{\"work\": \"%s\", \"per_cpu_s\": %.1f}\n", work,
           seal ? seal_rate(seconds)
                : shake_rate(seconds, certificate, key, strcmp(work, "resume") == 0));
    return 0;
}
