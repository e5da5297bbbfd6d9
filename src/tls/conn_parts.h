// What conn.c (life cycle, handshake), conn_rx.c (receiving) and conn_tx.c (sending) share; nobody
// else.
#pragma once
#include "tls/conn_internal.h"
#include "tls/record.h"

struct tls_conn {
    struct tls_pools *pools;
    SSL *ssl;
    struct bufq *wire;
    struct slice input; // during a call: what BoringSSL may read
    uint8_t *block;     // of pools->records: a record's beginning, or what was delivered last
    const char *reason; // of a failure
    uint64_t last_write_ns;
    uint32_t written;  // plaintext since the start or the last pause
    uint32_t received; // bytes of the handshake
    uint16_t have;     // bytes of an incomplete record, in `head` or, beyond it, in `block`
    uint8_t head[RECORD_HEADER_BYTES];
    uint8_t failure; // enum tls_failure
    bool established, closed, peer_closed, wire_full;
    bool kernel_rx, kernel_tx; // the kernel opens, seals (ktls.c)
    bool key_answer;           // is on its way: see ktls_key_answer
};

void tls_conn_fail(struct tls_conn *c, enum tls_failure f);
enum tls_read tls_conn_fail_ssl(struct tls_conn *c); // by BoringSSL's error queue
enum tls_read tls_conn_handshake(struct tls_conn *c, struct slice *in);
void tls_conn_release(struct tls_conn *c); // gives back the block
// What a record means for the connection. TLS_MORE: it had nothing for the application.
enum tls_read tls_conn_opened(struct tls_conn *c, enum record_result r, const struct record *record,
                              struct tls_plain *plain, bool in_place);
