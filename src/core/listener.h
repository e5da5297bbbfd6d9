// A listening TCP socket of one worker (SO_REUSEPORT, multishot accept). When descriptors or
// connections run out accepting pauses and resumes by itself 10 ms later or when
// listener_resume is called; the pause is counted.
#pragma once
#include "core/addr.h"
#include "core/op.h"
#include "core/timer.h"

struct worker;

// Long enough for a handshake that has begun to end, with most clients; a drain takes no less.
#define LISTENER_LINGER_NS (100 * NS_PER_MS)

struct listener {
    struct worker *worker;
    int fd;           // -1 = closed
    struct addr addr; // as bound (the port is filled in)
    struct op accept;
    struct timer resume;
    void (*on_accept)(struct listener *l, int fd); // owns fd
    void (*on_closed)(struct listener *l); // after listener_close, nothing in flight any more
    void *owner;
    bool paused, closing;
    bool lingering; // closing, and still accepting
};

// Opens, binds (SO_REUSEADDR, SO_REUSEPORT), listens; no completion before listener_start.
// -errno on failure. Callable from any thread.
int listener_open(const struct addr *addr, int backlog);
// Whether somebody listens there already, also one who would share the port (SO_REUSEPORT): a
// second gateway of this user, which listener_open would not notice. 0, or -errno. Any thread.
int listener_probe(const struct addr *addr);
#define LISTENER_EXPLAIN_MAX 512
// "ADDRESS: what is wrong: what to do about it", to follow "cannot listen on ". `elsewhere` says
// how another port is chosen: "choose another with --admin". error is an errno.
void listener_explain(const struct addr *addr, int error, const char *elsewhere,
                      char out[LISTENER_EXPLAIN_MAX]);
void listener_start(struct listener *l, struct worker *w, int fd);
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
// No new connection is begun from here on; those that are in the kernel's queue, or whose handshake
// ends within linger_ns, are accepted still, even by a listener that was paused. Then the socket is
// closed, and on_closed follows. Called again with 0 it ends a lingering.
void listener_close(struct listener *l, uint64_t linger_ns);
