// A UDP listener of a worker: a session for each client (its address and the one it sends to), with
// a socket of its own to the endpoint chosen for it. As Envoy's udp_proxy: a session ends when it
// has been idle, when its endpoint is said to be unreachable, or with the listener; where there is
// no room for another, what new clients send is dropped. Worker's thread.
#pragma once
#include "proxy/proxy.h"

#define PROXY_UDP_IDLE_NS (60 * NS_PER_S) // Envoy's default
// A session that is to end is not cut off while answers come: for so long without a datagram.
#define PROXY_UDP_QUIET_NS (5 * NS_PER_S)

void proxy_udp_pools_init(struct proxy_worker *pw, uint32_t sessions);
void proxy_udp_pools_fini(struct proxy_worker *pw);
// Takes over fd and sets l->udp. proxy_listener_closed follows at the end, also of one that could
// not start.
void proxy_udp_start(struct proxy_listener *l, int fd);
// A newer snapshot: the next datagram of a client whose session leads to what its rule names no
// longer begins another one; the old one hands over what answers are on their way.
void proxy_udp_adopt(struct proxy_listener *l);
void proxy_udp_drain(struct proxy_listener *l); // no new session
void proxy_udp_close(struct proxy_listener *l); // the sessions too
bool proxy_udp_draining(const struct proxy_listener *l);
