// The only door to io_uring (with bufring). Everything here queues; nothing is submitted before
// ring_turn and no callback runs inside a ring_* call. tests/sim replaces ring*.c and
// bufring_kernel.c by a simulated kernel with virtual time, so nothing above may call the kernel
// about sockets other than through this header. One thread: the one that called ring_enable.
#pragma once
#include "core/err.h"
#include "core/op.h"
#include "core/slice.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct ring {
    void *impl;        // struct io_uring, or the simulator's
    uint32_t inflight; // operations the kernel has
    uint64_t submits, completions, overflows, enters;
    bool bundles;             // receive bundles are supported and on
    bool bundle_eof_consumes; // a bundle's end of stream takes its buffer out of the ring
};

// What the running kernel offers, for the start-up self-check. A must-have that is missing is
// named in `missing` (static string), else NULL.
struct ring_features {
    bool single_issuer, defer_taskrun, multishot_accept, multishot_recv, buf_ring, recv_bundle,
        multishot_recv_limit, send_zc;
    const char *missing;
    int setup_errno; // of io_uring_setup, or a call after it that is forbidden; 0 when all worked
};
void ring_probe(struct ring_features *out);

// Created disabled by any thread; ring_enable binds it to the calling one (SINGLE_ISSUER).
enum err ring_init(struct ring *r, uint32_t entries, uint32_t cq_entries) must_use;
enum err ring_enable(struct ring *r) must_use;
// The thread of ring_enable is done with it; another one may call ring_fini.
void ring_disable(struct ring *r);
void ring_fini(struct ring *r);

// The two halves of ring_turn, for an owner that has to read the clock in between: the callbacks
// of one turn all see the time after the wait.
void ring_wait(struct ring *r, uint64_t timeout_ns);
void ring_dispatch(struct ring *r);
// Submits what is queued, waits until a completion or until timeout_ns passed (0 = do not wait,
// UINT64_MAX = no limit) and dispatches all completions: they are drained to a local array
// first, then `done` is called for each. op->inflight is false in `done` of the last one.
void ring_turn(struct ring *r, uint64_t timeout_ns);

// Descriptors. These are plain system calls (cheap, never block) behind the same door.
int ring_socket(int family, int type); // non-blocking, close-on-exec; -errno
int ring_setsockopt(int fd, int level, int name, const void *value, socklen_t len); // -errno
int ring_unsent(int fd); // bytes sent that the peer's kernel has not acknowledged; 0 if unknown
int ring_bind(int fd, const struct sockaddr *addr, socklen_t len);
int ring_bind_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog);
int ring_connect_datagrams(int fd, const struct sockaddr *addr, socklen_t len); // never waits
int ring_getsockname(int fd, struct sockaddr_storage *addr, socklen_t *len);
int ring_getpeername(int fd, struct sockaddr_storage *addr, socklen_t *len);
// One connection that waits, non-blocking, close-on-exec; -EAGAIN: none does; -errno.
int ring_accept(int listen_fd);
// The next record of a socket whose TLS records the kernel opens (kTLS), as far as it fits: its
// type and how many bytes, -EAGAIN: there is none; -errno.
int ring_recv_record(int fd, uint8_t *type, void *buf, size_t cap);
void ring_shutdown(int fd, int how);
void ring_close(int fd); // only with no operation in flight on it

// A pipe that does not block, out of fd[0] and into fd[1]; with room for `bytes` if the user may
// have so much. Returns the room it has, or -errno.
int ring_pipe(int fd[2], uint32_t bytes);
// splice(2) between a socket and a pipe, without waiting: bytes moved, 0 at the end of the stream,
// -errno. (IORING_OP_SPLICE always goes to another thread.)
ssize_t ring_splice(int from, int to, size_t most);

// Operations. `op` must not be in flight. A full submission queue is submitted on the spot.
void ring_accept_multishot(struct ring *r, struct op *op, int listen_fd);
void ring_connect(struct ring *r, struct op *op, int fd, const struct sockaddr *addr,
                  socklen_t len); // addr must live until done
// `bundle`: one completion may fill several buffers, where the kernel can.
void ring_recv_multishot(struct ring *r, struct op *op, int fd, uint16_t buf_group, bool bundle);
// One receive, into one buffer, of at most `max` bytes.
void ring_recv_some(struct ring *r, struct op *op, int fd, uint16_t buf_group, uint32_t max);
// Completes with how much was sent, which may be less than asked for. `more`: MSG_MORE.
void ring_send(struct ring *r, struct op *op, int fd, const void *data, size_t len, bool more);
void ring_sendmsg(struct ring *r, struct op *op, int fd, const struct msghdr *msg, bool more);
// Once; completes with the events, POLLERR and POLLHUP among them, or -errno.
void ring_poll(struct ring *r, struct op *op, int fd, uint32_t events);
// A datagram now or not at all (-EAGAIN: there is no room for it). `msg` with all it points to must
// live until done.
void ring_send_datagram(struct ring *r, struct op *op, int fd, const struct msghdr *msg);
// Each completion fills one buffer, for ring_datagram_parse. `shape` says how much room in it is
// for the address (msg_namelen, a multiple of 8) and for control data; it must live until done.
void ring_recv_datagrams(struct ring *r, struct op *op, int fd, const struct msghdr *shape,
                         uint16_t buf_group);
struct ring_datagram { // in its buffer
    const struct sockaddr *from;
    socklen_t from_len;
    const void *control; // aligned for struct cmsghdr
    size_t control_len;
    struct slice payload;
    bool truncated; // the payload or the control data is not all there
};
// false: the kernel's header is not there.
bool ring_datagram_parse(struct slice filled, const struct msghdr *shape,
                         struct ring_datagram *out);
void ring_poll_multishot(struct ring *r, struct op *op, int fd, uint32_t events);
void ring_cancel(struct ring *r, struct op *target); // target completes with -ECANCELED or its own
