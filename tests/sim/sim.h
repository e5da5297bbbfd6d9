// The simulated kernel: ring.h, bufring_kernel.h and clock.h over in-memory sockets, virtual time
// and one random generator, so that a seed is a whole history. Everything runs in the calling
// thread: a scenario starts a worker with worker_init and worker_begin, then calls sim_run.
//
// What a scenario's outside world does (clients, upstreams) is a step function that
// sim_run calls between the kernel's doings; it uses the peer calls below, which act at once
// and never block. Descriptors of both sides are interchangeable.
#pragma once
#include "core/addr.h"
#include "core/rng.h"
#include "core/worker.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// In per mille of the occasions; sim_begin draws them from the seed, a scenario may set them.
struct sim_faults {
    uint32_t late;          // a completion that is ready waits
    uint32_t short_send;    // a send takes less than fits
    uint32_t no_buffers;    // -ENOBUFS although there are some
    uint32_t lost_more;     // a multishot operation ends with its completion
    uint32_t cancel_lost;   // an operation that is being cancelled completes normally first
    uint32_t accept_fails;  // -EMFILE
    uint32_t connect_fails; // -ETIMEDOUT
    uint32_t socket_fails;  // -EMFILE from ring_socket; 0 unless a scenario sets it
    uint32_t pipe_fails;    // -EMFILE from ring_pipe; 0 unless a scenario sets it
    uint32_t reset_drops;   // a reset destroys what was received and not yet read
};
extern struct sim_faults sim_faults;

// Runs seeds until one returns false: 1,000 from 1 on; SIM_SEED=n (an argument of the test program,
// or an environment variable) repeats one, SIM_SEEDS=n runs that many. A check that fails in
// between names its seed.
void sim_run_seeds(bool (*run)(uint64_t seed));
void sim_begin(uint64_t seed); // forgets everything before; time starts at 1,000 s
void sim_end(void);            // checks that no socket is open and nothing is in flight
struct rng *sim_rng(void);     // for the scenario's choices
bool sim_chance(uint32_t per_mille);
uint64_t sim_now_ns(void);
// Called between the kernel's doings; may be NULL.
void sim_on_step(void (*step)(void *arg), void *arg);
// Turns the worker until `until` says so; false when max_ns of virtual time passed before.
bool sim_run(struct worker *w, bool (*until)(void *arg), void *arg, uint64_t max_ns);

// Peers. Negative results are -errno; -EAGAIN means: in a later step.
void sim_pair(int fd[2]);              // two connected sockets
int sim_listen(const struct addr *at); // a port of 0 becomes a free one (see sim_address)
void sim_address(int fd, struct addr *out);
int sim_accept(int fd);
int sim_connect(const struct addr *to);          // connected at once, waits in the listener's queue
ssize_t sim_read(int fd, void *buf, size_t cap); // 0 = end of stream
ssize_t sim_write(int fd, const void *buf, size_t len); // may be short
void sim_shutdown(int fd);                              // FIN
void sim_close(int fd);                                 // FIN, or RST when bytes are unread
void sim_reset(int fd);                                 // RST
uint32_t sim_open_sockets(void);
uint32_t sim_open_pipes(void);
