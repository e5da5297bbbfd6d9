// Connections that a proxy has made for its clients: their PROXY header is read before anything
// else, by whose source address they are known. Nothing of another's is ever taken for a header.
// Worker's thread.
#pragma once
#include "proxy/accept.h"

void proxied_pool_init(struct proxy_worker *pw, uint32_t cap);
void proxied_pool_fini(struct proxy_worker *pw);
// By who has connected (--proxy-protocol).
bool proxied_is(const struct proxy_conn *c);
// Reads the header of a connection that is about to be opened; proxy_accept_go_on follows, or its
// end. The connection is closed where there is no memory.
void proxied_start(struct proxy_conn *c);
void proxied_drop(struct proxy_conn *c); // what is left of that when the connection ends
