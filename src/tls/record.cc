// The way around SSL_read and SSL_write, on BoringSSL's internal functions (the version is pinned
// by build/deps/Cargo.lock). What they do beyond the record is repeated here: ssl_read_impl's count
// of KeyUpdates, ssl_handle_open_record's alert. Owns nothing; the thread of the connection.
#include "tls/record.h"
#include <ssl/internal.h>

using bssl::FromOpaque;
using bssl::Span;

extern "C" enum record_result record_open(SSL *ssl_c, uint8_t *in, size_t len, struct record *out)
{
    auto *ssl = FromOpaque(ssl_c);
    Span<uint8_t> body;
    uint8_t alert = SSL_AD_DECODE_ERROR;
    size_t used = 0;
    auto result = bssl::tls_open_app_data(ssl, &body, &used, &alert, Span(in, len));
    *out = {body.data(), body.size(), used};
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
