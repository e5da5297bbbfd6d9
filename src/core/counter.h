// Counters and histograms, written by one worker each and summed by the reader. A write is a
// plain load and store (relaxed atomics compile to that on x86-64 and aarch64), so the data path
// has no read-modify-write and no shared cache line. The fixed ones come from one table.
#pragma once
#include <stdatomic.h>
#include <stdint.h>

// X(name, kind, help): kind C = counter, G = gauge (may go down).
// Names get the prefix sluice_ in the Prometheus listing, and counters the ending _total if they
// lack it; times in ns, sizes in bytes.
#define COUNTER_TABLE(X)                                                                         \
    X(downstream_cx_total, C, "client connections accepted")                                     \
    X(downstream_cx_active, G, "client connections open")                                        \
    X(downstream_cx_overflow, C, "client connections refused by a connection limit")             \
    X(downstream_cx_listener_overflow, C, "client connections refused by a listener's share")    \
    X(downstream_cx_idle_timeout, C, "client connections closed for being idle")                 \
    X(downstream_cx_destroy_remote, C, "client connections closed or reset by the client")       \
    X(downstream_rx_bytes, C, "bytes received from clients")                                     \
    X(downstream_tx_bytes, C, "bytes sent to clients")                                           \
    X(no_filter_chain_match, C, "client connections closed because no filter chain is for them") \
    X(downstream_proxy_protocol_fail, C, "client connections closed for want of a PROXY header") \
    X(downstream_proxy_protocol_timeout, C, "PROXY headers not complete in time")                \
    X(downstream_tls_handshake_timeout, C, "TLS handshakes of clients not complete in time")     \
    X(tcp_cx_total, C, "client connections relayed")                                             \
    X(tcp_cx_active, G, "relayed client connections open")                                       \
    X(tcp_cx_no_route, C, "client connections closed because no rule or cluster is for them")    \
    X(splice_total, C, "directions of relays that went over to splice(2)")                       \
    X(splice_pipes, G, "pipes with bytes on their way by splice(2)")                             \
    X(splice_pipe_overflow, C, "times there was no pipe: a limit, or no descriptors")            \
    X(udp_sess_total, C, "UDP sessions begun")                                                   \
    X(udp_sess_active, G, "UDP sessions open")                                                   \
    X(udp_sess_idle_timeout, C, "UDP sessions ended for being idle")                             \
    X(udp_sess_no_route, C,                                                                      \
      "UDP clients' datagrams dropped because no rule or cluster is for them")                   \
    X(udp_sess_overflow, C,                                                                      \
      "UDP clients' datagrams dropped by a limit of sessions, or in a drain")                    \
    X(udp_rx_datagrams, C, "datagrams received from clients")                                    \
    X(udp_tx_datagrams, C, "datagrams sent to clients")                                          \
    X(udp_rx_truncated, C, "datagrams dropped for being longer than any buffer")                 \
    X(udp_rx_overflow, C, "datagrams dropped by the kernel before they were received")           \
    X(udp_tx_dropped, C, "datagrams not sent: a full socket, or the network's refusal")          \
    X(downstream_rq_total, C, "requests received")                                               \
    X(downstream_rq_active, G, "requests in flight")                                             \
    X(downstream_rq_header_timeout, C, "request heads not complete in time")                     \
    X(downstream_rq_malformed, C, "requests refused as malformed (400)")                         \
    X(downstream_rq_head_too_large, C, "requests refused for head size or field count (431)")    \
    X(downstream_rq_rejected_memory, C, "requests refused for lack of pool memory (503)")        \
    X(shed_listener_paused, C, "listeners paused for lack of memory (95 %)")                     \
    X(shed_cx_idle, C, "idle client connections closed for lack of memory (95 %)")               \
    X(shed_upstream_cx_idle, C, "idle upstream connections closed for lack of memory")           \
    X(shed_rq, C, "requests answered 503 for lack of memory (98 %)")                             \
    X(upstream_cx_total, C, "connections opened to upstreams")                                   \
    X(upstream_cx_active, G, "connections open to upstreams")                                    \
    X(upstream_cx_idle_timeout, C, "connections to upstreams closed for being idle")             \
    X(upstream_cx_overflow, C, "connections not opened: a limit, or no descriptors")             \
    X(upstream_cx_evicted, C, "idle connections closed to make room for another")                \
    X(upstream_cx_connect_fail, C, "connection attempts to upstreams that failed")               \
    X(upstream_cx_connect_timeout, C, "connection attempts to upstreams that timed out")         \
    X(upstream_rx_bytes, C, "bytes received from upstreams")                                     \
    X(upstream_tx_bytes, C, "bytes sent to upstreams")                                           \
    X(upstream_rq_pending_overflow, C, "requests refused for want of a connection")              \
    X(upstream_rq_retry, C, "requests tried again")                                              \
    X(upstream_rq_retry_abandoned, C, "requests whose body was too large to keep for a retry")   \
    X(upstream_rq_timeout, C, "requests that hit the route's timeout")                           \
    X(upstream_rq_per_try_timeout, C, "tries that hit the route's time for one try")             \
    X(upstream_rs_malformed, C, "responses refused as malformed (502)")                          \
    X(downstream_tls_handshakes, C, "TLS handshakes with clients")                               \
    X(downstream_tls_resumed, C, "of these, resumed sessions")                                   \
    X(downstream_tls_fail_aborted, C, "clients that left in the TLS handshake")                  \
    X(downstream_tls_fail_http, C, "clients that spoke plain HTTP to a TLS port")                \
    X(downstream_tls_fail_not_tls, C, "clients that spoke neither HTTP nor TLS to it")           \
    X(downstream_tls_fail_version, C, "clients without a common version of TLS")                 \
    X(downstream_tls_fail_cipher, C, "clients without a common cipher suite or group")           \
    X(downstream_tls_fail_no_certificate, C, "clients without the certificate required")         \
    X(downstream_tls_fail_certificate, C, "clients whose certificate is not trusted")            \
    X(downstream_tls_fail_name, C, "clients with a certificate of another name")                 \
    X(downstream_tls_fail_pin, C, "clients with a certificate that is not pinned")               \
    X(downstream_tls_fail_alert, C, "clients that ended TLS with a fatal alert")                 \
    X(downstream_tls_fail_record, C, "clients whose records were tampered with")                 \
    X(downstream_tls_fail_flood, C, "clients that sent too much without data")                   \
    X(downstream_tls_fail_renegotiation, C, "clients that wanted to renegotiate")                \
    X(downstream_tls_fail_memory, C, "clients lost for lack of TLS memory")                      \
    X(downstream_tls_fail_key_change, C, "clients whose new keys the kernel could not take")     \
    X(downstream_tls_ktls, C, "clients whose TLS records the kernel has taken over")             \
    X(downstream_tls_ktls_fallback, C, "clients whose TLS records it was asked to, and did not") \
    X(downstream_tls_fail_protocol, C, "clients that broke TLS in other ways")                   \
    X(upstream_tls_handshakes, C, "TLS handshakes with upstreams")                               \
    X(upstream_tls_resumed, C, "of these, resumed sessions")                                     \
    X(upstream_tls_fail_aborted, C, "upstreams that left in the TLS handshake")                  \
    X(upstream_tls_fail_certificate, C, "upstreams whose certificate is not trusted")            \
    X(upstream_tls_fail_name, C, "upstreams with a certificate of another name")                 \
    X(upstream_tls_fail_pin, C, "upstreams with a certificate that is not pinned")               \
    X(upstream_tls_fail_alert, C, "upstreams that ended TLS with a fatal alert")                 \
    X(upstream_tls_fail_memory, C, "upstreams lost for lack of TLS memory")                      \
    X(upstream_tls_fail_key_change, C, "upstreams whose new keys the kernel could not take")     \
    X(upstream_tls_ktls, C, "upstreams whose TLS records the kernel has taken over")             \
    X(upstream_tls_ktls_fallback, C, "upstreams whose TLS records it was asked to, and did not") \
    X(upstream_tls_fail_protocol, C, "upstreams that broke TLS in other ways")                   \
    X(tunnel_active, G, "upgraded connections being relayed")                                    \
    X(buffer_starved, C, "receives that found the buffer ring empty")                            \
    X(buffers_out, G, "receive buffers held")                                                    \
    X(output_chunks, G, "chunks of output memory held")                                          \
    X(pool_bytes, G, "memory the pools of objects have taken")                                   \
    X(exchanges_active, G, "exchanges allocated")                                                \
    X(snapshot_pins, G, "references held on snapshots")                                          \
    X(ring_overflows, C, "completion-queue overflows")                                           \
    X(loop_turns, C, "turns of the event loop")                                                  \
    X(accept_paused, C, "times accepting was paused for lack of descriptors")

enum counter_id {
#define X(name, kind, help) COUNTER_##name,
    COUNTER_TABLE(X)
#undef X
        COUNTER_COUNT
};

struct counter {
    _Atomic uint64_t v;
};

// One per worker, on cache lines of its own: padded rather than aligned, because it is embedded in
// objects that come from calloc.
struct counter_block {
    char pad_before[64];
    struct counter c[COUNTER_COUNT];
    char pad_after[64];
};

static inline void counter_add(struct counter *c, uint64_t n)
{
    atomic_store_explicit(&c->v, atomic_load_explicit(&c->v, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t counter_read(const struct counter *c)
{
    return atomic_load_explicit(&c->v, memory_order_relaxed);
}

const char *counter_name(enum counter_id id);
const char *counter_help(enum counter_id id);
char counter_kind(enum counter_id id); // 'C' or 'G'

// Latency histogram with Envoy's default bucket bounds (ms): 0.5 1 5 10 25 50 100 250 500 1000
// 2500 5000 10000 30000 60000 300000 600000 1800000 3600000, then +Inf.
#define HISTOGRAM_BUCKETS 20
struct histogram {
    struct counter bucket[HISTOGRAM_BUCKETS];
    struct counter sum_ns;
};
extern const double histogram_bounds_ms[HISTOGRAM_BUCKETS - 1];
void histogram_record(struct histogram *h, uint64_t ns);
