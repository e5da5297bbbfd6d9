// Records of an established connection in the kernel (kTLS, tcp's upper-layer protocol "tls"): what
// of a tls_conn goes there, and what stays. The receiving direction goes first: until the sending
// one follows, BoringSSL still writes all there is to write; the other way round it could not. What
// the kernel does not do itself comes back as control records: alerts, tickets, KeyUpdates.
// Room-private. The connection is established; of its worker's thread.
//
// A direction that the kernel has cannot be taken back.
#pragma once
#include "tls/conn.h"

enum ktls_result {
    KTLS_TAKEN,
    KTLS_REFUSED, // this connection, for whatever reason: BoringSSL goes on as if never asked
};

// Whether it is worth asking. False for a cipher that kTLS knows nothing of, and for what the
// kernel has refused once (it has no module, or lacks that cipher): asked again after a restart.
bool ktls_may_take(const struct tls_conn *c);
// All bytes that were received have been through tls_conn_read, and tls_conn_missing is 0.
enum ktls_result ktls_take_receiving(struct tls_conn *c, int fd);
// After ktls_take_receiving. The wire is empty and sent, and no message waits to be flushed.
enum ktls_result ktls_take_sending(struct tls_conn *c, int fd);

// ---- once the kernel has the receiving direction

// A record that is no data, in whole or (handshake messages) in part. TLS_MORE, TLS_CLOSED or
// TLS_FAILED. `data_came`: since the last one. Where the peer has changed its keys so does the
// kernel, if it can: before Linux 6.14 it cannot, and the connection fails.
enum tls_read ktls_control(struct tls_conn *c, int fd, uint8_t type, struct slice bytes,
                           bool data_came);
// A receive has failed with this errno: BoringSSL would have found the same fault. False: it is the
// socket's, not TLS's.
bool ktls_receive_failed(struct tls_conn *c, int error);

// ---- once it has the sending direction too

// Whether the peer is owed a KeyUpdate (RFC 8446, 4.6.3), told once.
bool ktls_key_answer(struct tls_conn *c);
// After a record of the caller's, and before anything else is sent: where it was that KeyUpdate the
// kernel is given the new keys. False: it does not take them, nothing more can be sent.
bool ktls_record_sent(struct tls_conn *c, int fd) must_use;
// The alert of a failure, level and description; false: none is due.
bool ktls_alert(const struct tls_conn *c, uint8_t alert[2]);
