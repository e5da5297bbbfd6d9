// What the files of the exchange's handler share. Not for anyone else.
#pragma once
#include "proxy/proxy.h"

// request.c
void proxy_request_head(struct exchange *x, bool end);
// forward.c: tries
void proxy_try_init(struct exchange *x); // before all others
void proxy_try(struct exchange *x); // chooses an endpoint and sends; answers itself when it cannot
void proxy_release_upstream(struct exchange *x); // resets a try in flight
void proxy_note_tried(struct exchange *x);       // px->endpoint is avoided from now on
void proxy_upstream_ready(struct exchange *x);
void proxy_upstream_reset(struct exchange *x, enum reset_reason why);
void proxy_request_data(struct exchange *x, struct chunk c, bool end);
void proxy_request_trailers(struct exchange *x);
void proxy_upstream_writable(struct exchange *x);
void proxy_arm_timeouts(struct exchange *x);
void proxy_pause_client(struct exchange *x); // until the upstream is writable again
// replay.c
void proxy_replay_keep(struct exchange *x, struct slice piece); // about to be sent
void proxy_replay_drop(struct exchange *x);                     // no try follows
void proxy_replay_rewind(struct exchange *x);                   // before the next try
// retry.c
// A reset would become a 5xx, so who wants those tried again means resets too, as in Envoy.
#define RETRY_ANY_RESET (RETRY_5XX | RETRY_GATEWAY_ERROR | RETRY_RESET)
bool proxy_should_retry_reset(struct exchange *x, enum reset_reason why);
bool proxy_should_retry_status(struct exchange *x);
void proxy_schedule_retry(struct exchange *x);
void proxy_timers_init(struct exchange *x);
void proxy_timers_cancel(struct exchange *x);
// response.c
void proxy_response_head(struct exchange *x, bool end);
void proxy_response_data(struct exchange *x, struct chunk c, bool end);
void proxy_response_trailers(struct exchange *x);
void proxy_downstream_writable(struct exchange *x);
void proxy_release_snapshot(struct exchange *x); // unless it has been already
// tunnel.c
void proxy_tunnel_let_go(struct exchange *x); // of its snapshot
// local_reply.c: answers by itself; the exchange may be gone when these return.
void proxy_reply(struct exchange *x, uint32_t status, struct slice body, uint32_t flag,
                 const char *details);
// The head outgrew its memory: the client's fault, or ours where others have it all.
void proxy_reply_too_large(struct exchange *x);
void proxy_reply_location(struct exchange *x, uint32_t status, struct slice location);
void proxy_reply_direct(struct exchange *x);
// count.c: statistics
void proxy_count_begin(struct exchange *x);   // its listener is known
void proxy_count_forward(struct exchange *x); // px->cluster has been chosen
// The names it counts for stay its own until proxy_count_end, though its snapshot is let go.
void proxy_count_keep(struct exchange *x);
void proxy_count_end(struct exchange *x);
void proxy_count_refused(struct exchange *x); // instead of the three
// headers.c
int proxy_edit_request(struct exchange *x, struct head *h); // what route and target ask for
int proxy_request_fields(struct exchange *x);
int proxy_response_fields(struct exchange *x, struct head *h);
void proxy_drop_connection_fields(struct head *h); // fields named by Connection, and itself
void proxy_drop_unsafe_trailers(struct head *h);
// runtime_worker.c
struct upstream_cluster *proxy_worker_cluster(struct proxy_worker *pw, const struct snapshot *s,
                                              const struct cluster_config *cfg);
struct exchange_pools *proxy_pools(struct exchange *x);
char *proxy_alloc(struct exchange *x, size_t len);
