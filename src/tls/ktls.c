// The kernel's record layer: keys into socket options, and what the kernel hands back. Owns no
// more than the note of what it has refused. Worker's thread, but for that note.
//
// Invariant: a sequence number is used once. So each direction changes hands between two records:
// receiving when all that came has been opened, sending when the wire is empty and sent; BoringSSL
// neither opens nor seals in a direction that is gone, and what it still writes is dropped
// (bio_write in conn.c), after ktls_alert has seen it.
#include "tls/ktls.h"
#include "core/log.h"
#include "core/ring.h"
#include "tls/conn_parts.h"
#include <errno.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <stdatomic.h>
#include <string.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

// --- what the kernel has refused ---

#define NO_MODULE (1u << 31)

static _Atomic uint32_t refused; // NO_MODULE, bits of cipher_bit: by all connections of the process

// 0: kTLS does not know it.
static uint32_t cipher_bit(const struct tls_conn *c)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
    int nid = cipher ? SSL_CIPHER_get_cipher_nid(cipher) : NID_undef;
    uint32_t bit = nid == NID_aes_128_gcm         ? 1
                   : nid == NID_aes_256_gcm       ? 2
                   : nid == NID_chacha20_poly1305 ? 4
                                                  : 0;
    int version = SSL_version(c->ssl);
    return version == TLS1_3_VERSION ? bit : version == TLS1_2_VERSION ? bit << 3 : 0;
}

bool ktls_may_take(const struct tls_conn *c)
{
    uint32_t bit = cipher_bit(c), no = atomic_load_explicit(&refused, memory_order_relaxed);
    return bit && !(no & (bit | NO_MODULE));
}

// Once for each thing that is missing, however many workers and connections find it out. That there
// is no module the self-check has said.
static void note_refusal(const struct tls_conn *c, uint32_t what, int error)
{
    uint32_t before = atomic_fetch_or_explicit(&refused, what, memory_order_relaxed);
    if ((before & what) || what == NO_MODULE)
        return;
    log_warn("ktls_refused", "version=%s cipher=%s reason=\"%s\" text=\"not asked again\"",
             SSL_get_version(c->ssl), SSL_CIPHER_standard_name(SSL_get_current_cipher(c->ssl)),
             strerror(error));
}

// --- keys into socket options ---

union crypto {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes128;
    struct tls12_crypto_info_aes_gcm_256 aes256;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

// Each of the structures has the fields under its own sizes.
#define FILL(to, keys, sequence)                                                          \
    do {                                                                                  \
        memcpy((to)->key, (keys)->key, sizeof((to)->key));                                \
        memcpy((to)->salt, (keys)->iv, sizeof((to)->salt));                               \
        memcpy((to)->iv, (keys)->version == TLS1_3_VERSION ? (keys)->iv + 4 : (sequence), \
               sizeof((to)->iv));                                                         \
        memcpy((to)->rec_seq, (sequence), sizeof((to)->rec_seq));                         \
    } while (0)

// In TLS 1.2 the second part of a GCM record's nonce travels in it; BoringSSL counts there, and so
// does the kernel, from what it is given.
static socklen_t fill(union crypto *to, const struct record_keys *keys)
{
    uint8_t sequence[8];
    for (int i = 0; i < 8; i++)
        sequence[i] = (uint8_t)(keys->sequence >> (56 - 8 * i));
    *to = (union crypto){.info.version =
                             keys->version == TLS1_3_VERSION ? TLS_1_3_VERSION : TLS_1_2_VERSION};
    if (keys->cipher_nid == NID_aes_128_gcm) {
        to->info.cipher_type = TLS_CIPHER_AES_GCM_128;
        FILL(&to->aes128, keys, sequence);
        return sizeof(to->aes128);
    }
    if (keys->cipher_nid == NID_aes_256_gcm) {
        to->info.cipher_type = TLS_CIPHER_AES_GCM_256;
        FILL(&to->aes256, keys, sequence);
        return sizeof(to->aes256);
    }
    to->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
    memcpy(to->chacha.key, keys->key, sizeof(to->chacha.key));
    memcpy(to->chacha.iv, keys->iv, sizeof(to->chacha.iv));
    memcpy(to->chacha.rec_seq, sequence, sizeof(to->chacha.rec_seq));
    return sizeof(to->chacha);
}

// 0 or -errno.
static int set_keys(const struct tls_conn *c, int fd, int direction)
{
    struct record_keys keys;
    union crypto crypto;
    int rc = -EINVAL;
    if (record_export(c->ssl, direction == TLS_TX, &keys)) {
        socklen_t len = fill(&crypto, &keys);
        rc = ring_setsockopt(fd, SOL_TLS, direction, &crypto, len);
        OPENSSL_cleanse(&crypto, sizeof(crypto));
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    ERR_clear_error();
    return rc;
}

// --- the hand-over ---

// The protocol without keys leaves the bytes as they are, so there is nothing to undo when keys are
// refused.
enum ktls_result ktls_take_receiving(struct tls_conn *c, int fd)
{
    int rc = ring_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
    if (rc == -ENOENT)
        note_refusal(c, NO_MODULE, -rc);
    if (rc < 0)
        return KTLS_REFUSED;
    rc = set_keys(c, fd, TLS_RX);
    if (rc == -ENOENT || rc == -EINVAL)
        note_refusal(c, cipher_bit(c), -rc);
    if (rc < 0)
        return KTLS_REFUSED;
    c->kernel_rx = true;
    return KTLS_TAKEN;
}

enum ktls_result ktls_take_sending(struct tls_conn *c, int fd)
{
    if (set_keys(c, fd, TLS_TX) < 0)
        return KTLS_REFUSED;
    c->kernel_tx = true;
    return KTLS_TAKEN;
}

// --- what comes back ---

// BoringSSL has the new keys already.
static enum tls_read change_keys(struct tls_conn *c, int fd)
{
    if (set_keys(c, fd, TLS_RX) < 0) {
        (void)SSL_send_fatal_alert(c->ssl, SSL_AD_INTERNAL_ERROR);
        ERR_clear_error();
        tls_conn_fail(c, TLS_FAIL_KEY_CHANGE);
        return TLS_FAILED;
    }
    return TLS_MORE;
}

enum tls_read ktls_control(struct tls_conn *c, int fd, uint8_t type, struct slice bytes,
                           bool data_came)
{
    struct record none = {0};
    struct tls_plain plain;
    if (c->failure != TLS_FAIL_NONE)
        return TLS_FAILED;
    if (data_came)
        record_data_came(c->ssl);
    uint32_t before = record_key_updates(c->ssl);
    enum record_result result = record_control(c->ssl, type, (const uint8_t *)bytes.ptr, bytes.len);
    enum tls_read r = tls_conn_opened(c, result, &none, &plain, false);
    if (r == TLS_MORE && record_key_updates(c->ssl) != before)
        return change_keys(c, fd);
    return r;
}

bool ktls_receive_failed(struct tls_conn *c, int error)
{
    static const struct {
        int error;
        uint8_t alert;
    } faults[] = {{EBADMSG, SSL_AD_BAD_RECORD_MAC},
                  {EMSGSIZE, SSL_AD_RECORD_OVERFLOW},
                  {EINVAL, SSL_AD_UNEXPECTED_MESSAGE}};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (error != faults[i].error)
            continue;
        (void)SSL_send_fatal_alert(c->ssl, faults[i].alert);
        ERR_clear_error();
        tls_conn_fail(c, TLS_FAIL_RECORD);
        return true;
    }
    return false;
}

// --- what is to be sent as a record of its own ---

// BoringSSL's own answer waits, and while it does another request changes nothing: it is dropped
// when the caller's has been sent.
bool ktls_key_answer(struct tls_conn *c)
{
    if (!c->kernel_tx || c->key_answer || !record_must_flush(c->ssl))
        return false;
    c->key_answer = true;
    return true;
}

bool ktls_record_sent(struct tls_conn *c, int fd)
{
    if (!c->key_answer)
        return true;
    c->key_answer = false;
    return tls_conn_flush_messages(c) && set_keys(c, fd, TLS_TX) == 0;
}

bool ktls_alert(const struct tls_conn *c, uint8_t alert[2])
{
    return record_alert(c->ssl, alert);
}
