// The way around SSL_read and SSL_write, on BoringSSL's internal functions (the version is pinned
// by build/deps/Cargo.lock). What they do beyond the record is repeated here: ssl_read_impl's count
// of KeyUpdates, ssl_handle_open_record's alert. Owns nothing; the thread of the connection.
#include "tls/record.h"
#include <crypto/fipsmodule/tls/internal.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <ssl/internal.h>

using bssl::FromOpaque;
using bssl::Span;

static enum record_result said(bssl::SSLImpl *ssl, bssl::ssl_open_record_t result, uint8_t alert)
{
    switch (result) {
    case bssl::ssl_open_record_success:
        ssl->s3->key_update_count = 0;
        return RECORD_DATA;
    case bssl::ssl_open_record_discard:
        return bssl::tls_has_unprocessed_handshake_data(ssl) ? RECORD_MESSAGE : RECORD_AGAIN;
    case bssl::ssl_open_record_partial:
        return RECORD_PARTIAL;
    case bssl::ssl_open_record_close_notify:
        return RECORD_CLOSED;
    case bssl::ssl_open_record_error:
        break;
    }
    if (alert != 0)
        bssl::ssl_send_alert(ssl, SSL3_AL_FATAL, alert);
    return RECORD_ERROR;
}

extern "C" enum record_result record_open(SSL *ssl_c, uint8_t *in, size_t len, struct record *out)
{
    auto *ssl = FromOpaque(ssl_c);
    Span<uint8_t> body;
    uint8_t alert = SSL_AD_DECODE_ERROR;
    size_t used = 0;
    auto result = bssl::tls_open_app_data(ssl, &body, &used, &alert, Span(in, len));
    *out = {body.data(), body.size(), used};
    return said(ssl, result, alert);
}

extern "C" size_t record_seal(SSL *ssl_c, uint8_t *out, size_t cap, const uint8_t *in, size_t len)
{
    auto *ssl = FromOpaque(ssl_c);
    size_t n = 0;
    if (ssl->s3->write_shutdown != bssl::ssl_shutdown_none ||
        ssl->s3->aead_write_ctx->is_null_cipher() || record_must_flush(ssl_c))
        return 0;
    if (!bssl::tls_seal_record(ssl, out, &n, cap, SSL3_RT_APPLICATION_DATA, in, len))
        return 0;
    ssl->s3->key_update_pending = false;
    return n;
}

extern "C" bool record_must_flush(const SSL *ssl_c)
{
    const auto *s3 = FromOpaque(ssl_c)->s3;
    return (s3->pending_hs_data && s3->pending_hs_data->length > 0) || s3->pending_flight ||
           s3->alert_dispatch || !s3->write_buffer.empty();
}

extern "C" bool record_begin(SSL *ssl_c)
{
    auto *s3 = FromOpaque(ssl_c)->s3;
    if (!s3->read_buffer.empty())
        return false;
    s3->read_buffer.DiscardConsumed();
    if (s3->hs_buf && s3->hs_buf->length == 0)
        s3->hs_buf.reset();
    return true;
}

extern "C" enum record_result record_control(SSL *ssl_c, uint8_t type, const uint8_t *bytes,
                                             size_t len)
{
    auto *ssl = FromOpaque(ssl_c);
    uint8_t alert = SSL_AD_UNEXPECTED_MESSAGE;
    auto result = bssl::ssl_open_record_error;
    if (type == SSL3_RT_ALERT) {
        result = bssl::ssl_process_alert(ssl, &alert, Span(bytes, len));
    } else if (type != SSL3_RT_HANDSHAKE || len == 0) {
        OPENSSL_PUT_ERROR(SSL, SSL_R_UNEXPECTED_RECORD);
    } else if (ssl->server && bssl::ssl_protocol_version(ssl) < TLS1_3_VERSION) {
        OPENSSL_PUT_ERROR(SSL, SSL_R_NO_RENEGOTIATION);
        alert = SSL_AD_NO_RENEGOTIATION;
    } else if (bssl::tls_append_handshake_data(ssl, Span(bytes, len))) {
        result = bssl::ssl_open_record_discard;
    } else {
        alert = SSL_AD_INTERNAL_ERROR;
    }
    return said(ssl, result, alert);
}

extern "C" bool record_in_message(const SSL *ssl)
{
    return bssl::tls_has_unprocessed_handshake_data(FromOpaque(ssl));
}

extern "C" uint32_t record_key_updates(const SSL *ssl)
{
    return FromOpaque(ssl)->s3->key_update_count;
}

extern "C" void record_data_came(SSL *ssl)
{
    FromOpaque(ssl)->s3->key_update_count = 0;
    FromOpaque(ssl)->s3->warning_alert_count = 0;
}

extern "C" bool record_alert(const SSL *ssl, uint8_t alert[2])
{
    const auto *s3 = FromOpaque(ssl)->s3;
    memcpy(alert, s3->send_alert, sizeof(s3->send_alert));
    return s3->write_shutdown == bssl::ssl_shutdown_error;
}

// RFC 8446, 7.1
static bool expand(const SSL *ssl, Span<const uint8_t> secret, const char *label, uint8_t *out,
                   size_t len)
{
    const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl));
    return bssl::CRYPTO_tls13_hkdf_expand_label(out, len, md, secret.data(), secret.size(),
                                                reinterpret_cast<const uint8_t *>(label),
                                                strlen(label), nullptr, 0) == 1;
}

static bool export13(const SSL *ssl, bool sealing, size_t key_len, struct record_keys *out)
{
    Span<const uint8_t> reads, writes;
    if (!bssl::SSL_get_traffic_secrets(ssl, &reads, &writes))
        return false;
    Span<const uint8_t> secret = sealing ? writes : reads;
    return expand(ssl, secret, "key", out->key, key_len) &&
           expand(ssl, secret, "iv", out->iv, sizeof(out->iv));
}

// The block: both sides' keys, then both sides' fixed IVs, the client's first each time.
static bool export12(const SSL *ssl, bool sealing, size_t key_len, size_t iv_len,
                     struct record_keys *out)
{
    uint8_t block[2 * (sizeof(out->key) + sizeof(out->iv))];
    size_t side = SSL_is_server(ssl) == sealing ? 1 : 0, len = 2 * (key_len + iv_len);
    bool ok = SSL_get_key_block_len(ssl) == len && SSL_generate_key_block(ssl, block, len);
    if (ok) {
        memcpy(out->key, block + side * key_len, key_len);
        memcpy(out->iv, block + 2 * key_len + side * iv_len, iv_len);
    }
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

extern "C" bool record_export(const SSL *ssl, bool sealing, struct record_keys *out)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    int nid = cipher ? SSL_CIPHER_get_cipher_nid(cipher) : NID_undef;
    if (nid != NID_aes_128_gcm && nid != NID_aes_256_gcm && nid != NID_chacha20_poly1305)
        return false;
    *out = {};
    out->version = static_cast<uint16_t>(SSL_version(ssl));
    out->cipher_nid = nid;
    out->sequence = sealing ? SSL_get_write_sequence(ssl) : SSL_get_read_sequence(ssl);
    size_t key_len = nid == NID_aes_128_gcm ? 16 : 32;
    if (out->version == TLS1_3_VERSION)
        return export13(ssl, sealing, key_len, out);
    if (out->version == TLS1_2_VERSION)
        return export12(ssl, sealing, key_len, nid == NID_chacha20_poly1305 ? 12 : 4, out);
    return false;
}
