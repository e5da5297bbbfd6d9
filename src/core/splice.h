// One direction between two connections, moved by splice(2) instead of being received and sent:
// the bytes stay in the kernel. It pays for bulk only, so a direction begins and ends as an
// ordinary one: its owner shows each delivery to splice_note, which starts splicing once much came
// in large pieces, and gives it up when pieces are small again. Both connections' bytes must be
// the owner's (no filter). Worker's thread.
//
// While it is on, `from` is not received and `to` not sent to by core/tcp: the owner neither
// resumes the one nor appends to the other.
#pragma once
#include "core/tcp.h"

struct splice_limits {
    uint32_t after; // bytes in a row of large pieces until it starts; 0 = never
    uint32_t large; // bytes of a piece
};

enum splice_state {
    SPLICE_OFF,
    SPLICE_STARTING, // receiving stops, what was received is sent
    SPLICE_ON,
};

struct splice {
    struct tcp *from, *to;
    const struct splice_limits *limits;
    void (*on_moved)(struct tcp *from, uint32_t bytes); // from -> to, for the owner's counts
    struct pipe *pipe;                                  // while there are bytes in it
    enum splice_state state;
    uint32_t run;   // off: bytes in a row of large pieces
    uint32_t small; // on: small pieces in a row
    bool ended;     // FIN was read; it is told when the pipe is empty
};

// `limits` must outlive it.
void splice_init(struct splice *s, struct tcp *from, struct tcp *to,
                 const struct splice_limits *limits,
                 void (*on_moved)(struct tcp *from, uint32_t bytes));
// `from` has delivered so much, all of it appended to to->out.
void splice_note(struct splice *s, uint64_t bytes);
// While it is starting: receiving has paused (tcp_events.on_paused), or output drained (on_sent).
void splice_advance(struct splice *s);
// For good, before either connection is closed: what is in the pipe is dropped.
void splice_stop(struct splice *s);

static inline bool splice_active(const struct splice *s)
{
    return s->state != SPLICE_OFF;
}
