// Collects a message head that may arrive in pieces into contiguous memory of its exchange, so
// that receive buffers go back at once and the parsed strings live as long as the exchange.
#pragma once
#include "proto/exchange.h"

struct h1_headbuf {
    char *base; // NULL = not begun
    uint32_t len, cap;
    size_t scanned; // the parser's, see h1_parse.h
};

// Copies from the front of `bytes` as much as fits; returns how much. 0 = full (too large a head).
size_t h1_headbuf_fill(struct h1_headbuf *b, struct exchange_pools *p, struct exchange *x,
                       struct slice bytes);
// The head took `used` bytes: they stay; the room behind them is the arena's again.
void h1_headbuf_keep(struct h1_headbuf *b, struct exchange *x, uint32_t used);
