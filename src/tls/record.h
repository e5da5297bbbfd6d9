// One TLS record of an established connection, opened where it was received and sealed straight
// into its destination. BoringSSL's public interface (SSL_read, SSL_write) copies each byte once
// more on both ways and allocates a buffer for every record; at 16 KiB that costs as much as the
// AES-GCM itself. So record.cc calls the functions beneath, which BoringSSL declares in
// ssl/internal.h only: handshakes, alerts and post-handshake messages stay with the public ones.
//
// Room-private. The SSL's handshake must be over; the error queue says why an error happened.
#pragma once
#include <openssl/ssl.h>

#define RECORD_HEADER_BYTES 5
// Of a received record, header included: what BoringSSL accepts (RFC 8446, 5.2, and 5.1's 2^14).
#define RECORD_MAX_BYTES (RECORD_HEADER_BYTES + SSL3_RT_MAX_ENCRYPTED_LENGTH)

#ifdef __cplusplus
extern "C" {
#endif

enum record_result {
    RECORD_DATA,    // `bytes` is application data, inside the input
    RECORD_PARTIAL, // nothing was used: the record needs `used` bytes, at least
    RECORD_AGAIN,   // used, nothing for the application
    RECORD_MESSAGE, // used: part of a handshake message, SSL_peek handles it
    RECORD_CLOSED,  // close_notify
    RECORD_ERROR,   // an alert was written to the BIO
};

struct record {
    uint8_t *bytes;
    size_t len;
    size_t used; // of the input
};

// Overwrites the input.
enum record_result record_open(SSL *ssl, uint8_t *in, size_t len, struct record *out);
// `out` has room for len + SSL_max_seal_overhead and does not overlap; 0 on an error.
size_t record_seal(SSL *ssl, uint8_t *out, size_t cap, const uint8_t *in, size_t len);
// Whether handshake messages (tickets, an answer to a KeyUpdate) wait to go out before the next
// record: SSL_write of nothing writes them.
bool record_must_flush(const SSL *ssl);
// Gives back what the handshake has left allocated. False when it has read ahead, which it never
// does.
bool record_begin(SSL *ssl);

// ---- for records that somebody else opens and seals (the kernel, see ktls.h)

// What a record of another type than application data held: as record_open says of it. Never
// RECORD_DATA, RECORD_PARTIAL.
enum record_result record_control(SSL *ssl, uint8_t type, const uint8_t *bytes, size_t len);
// Whether part of a handshake message is held, whose rest is in a record to come.
bool record_in_message(const SSL *ssl);
// How many KeyUpdates have come since the last data; each changes what record_export answers.
uint32_t record_key_updates(const SSL *ssl);
void record_data_came(SSL *ssl); // data has: the counts of what may come between begin anew
// The fatal alert that was sent last, level and description; false: none was.
bool record_alert(const SSL *ssl, uint8_t alert[2]);

// With what the next record of a direction is protected (RFC 8446, 7.3; RFC 5246, 6.3).
struct record_keys {
    uint16_t version; // TLS1_2_VERSION or TLS1_3_VERSION
    int cipher_nid;   // NID_aes_128_gcm, NID_aes_256_gcm or NID_chacha20_poly1305
    uint8_t key[32];
    uint8_t iv[12]; // GCM in TLS 1.2: the first four bytes, the rest is in each record
    uint64_t sequence;
};
// False for another version or cipher. The caller cleanses what it got.
bool record_export(const SSL *ssl, bool sealing, struct record_keys *out);

#ifdef __cplusplus
}
#endif
