// What filter.c and filter_kernel.c share; nobody else.
#pragma once
#include "core/counter.h"
#include "tls/filter.h"

// Nothing that is still received matters.
#define OVER (TCP_CLOSE_STARTED | TCP_CLOSE_AFTER_FLUSH | TCP_BROKEN)

#define DOWN(name) COUNTER_downstream_tls_##name
#define UP(name) COUNTER_upstream_tls_##name

enum kernel_part {
    KERNEL_NOTHING,  // BoringSSL has both directions, for good
    KERNEL_ASKED,    // both are to go to the kernel, as soon as they can
    KERNEL_RECEIVES, // it has that one; the other follows as soon as it can
    KERNEL_BOTH,
};

struct tls_filter {
    struct tcp_filter base;
    struct tls_pools *pools;
    struct tls_conn *conn;
    uint64_t rx_bytes; // of the connection, at the last control record
    bool server;
    uint8_t kernel; // enum kernel_part
};

static inline struct tls_filter *tls_filter_of(struct tcp_filter *f)
{
    return container_of(f, struct tls_filter, base);
}

void tls_filter_count(const struct tls_filter *f, enum counter_id down, enum counter_id up);
void tls_filter_fail(struct tls_filter *f); // of a connection that has failed: tells tcp

// ---- filter_kernel.c

void tls_filter_ask_kernel(struct tls_filter *f); // at the end of the handshake
uint32_t tls_filter_receive(struct tcp_filter *base);
bool tls_filter_receive_failed(struct tcp_filter *base, int error);
void tls_filter_record_sent(struct tcp_filter *base);
// Whether BoringSSL is to seal nothing now: the kernel does, or will when the wire is empty.
bool tls_filter_give_sending(struct tls_filter *f);
void tls_filter_close_notify(struct tls_filter *f); // with TCP_PLAIN_TX
void tls_filter_say_why(struct tls_filter *f); // the alert of a failure, where the kernel seals
