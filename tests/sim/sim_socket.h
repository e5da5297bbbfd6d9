// Between the files of the simulator.
#pragma once
#include "sim.h"

#define SIM_FD_BASE 1000000
#define SIM_SOCKETS 1024
#define SIM_PIPE_BASE (SIM_FD_BASE + SIM_SOCKETS)
#define SIM_PIPE_MAX 65536
#define SIM_BACKLOG 64

struct sim_socket {
    bool used, listening, connected;
    bool fin_in;                       // end of stream after what is in `in`
    bool fin_out;                      // sent
    bool reset;                        // by the peer
    bool hard_close;                   // SO_LINGER 0
    bool deaf;                         // a listener that takes no further connection
    int peer;                          // index, -1 = gone
    char *in;                          // received, not yet read: in_len bytes from in_start on
    uint32_t in_start, in_len, in_cap; // in_cap varies, so that windows of all sizes happen
    struct addr addr, peer_addr;
    int backlog[SIM_BACKLOG];
    uint32_t backlog_len;
    uint32_t ops; // operations of the ring on it
};

struct sim_socket *sim_socket(int fd); // checks that it is open
int sim_socket_new(void);
bool sim_is_socket(int fd);
int sim_socket_connect(int fd, const struct sockaddr *to, socklen_t len); // 0 or -errno
bool sim_readable(const struct sim_socket *s);
bool sim_writable(const struct sim_socket *s);
ssize_t sim_take(struct sim_socket *s, void *buf, size_t cap);
ssize_t sim_give(struct sim_socket *s, const void *buf, size_t len);
void sim_pipe_reset_all(void);
bool sim_is_pipe(int fd);
void sim_pipe_close(int fd);
void sim_ring_forget(void);
bool sim_ring_idle(void);
void sim_time_pass(uint64_t ns);
void sim_step(void);
