// What the other files of this room see of a connection.
#pragma once
#include "tls/conn.h"
#include <openssl/ssl.h>

// Takes over `ssl` (in accept or connect state, without a BIO), also when it fails; NULL at the
// pool's cap, when out of memory or when `ssl` is NULL.
struct tls_conn *tls_conn_create_ssl(struct tls_pools *p, SSL *ssl, struct bufq *wire);
SSL *tls_conn_ssl(const struct tls_conn *c);
