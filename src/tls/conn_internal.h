// What the other files of this room see of a connection.
#pragma once
#include "tls/conn.h"
#include <openssl/ssl.h>

// Takes over `ssl` (in accept or connect state, without a BIO), also when it fails; NULL at the
// pool's cap, when out of memory or when `ssl` is NULL.
struct tls_conn *tls_conn_create_ssl(struct tls_pools *p, SSL *ssl, struct bufq *wire);
SSL *tls_conn_ssl(const struct tls_conn *c);
// Bytes that must come before nothing is held in part: of the record that has begun, or, where a
// handshake message has, of the next one. 0 = nothing is.
size_t tls_conn_missing(const struct tls_conn *c);
// Tickets and answers to KeyUpdates that wait for the next data go on the wire. False: the
// connection has failed.
bool tls_conn_flush_messages(struct tls_conn *c);
