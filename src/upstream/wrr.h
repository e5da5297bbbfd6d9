// Weighted round robin that spreads each one's turns evenly: after any number of picks each has had
// its share of them to within one. (WF2Q, Bennett and Zhang 1996, with requests for packets.) A
// pick costs O(log n). Pure; one thread.
#pragma once
#include <stdint.h>

struct wrr_item {
    uint32_t weight;   // > 0
    uint32_t rest;     // of the division that `deadline` came from
    uint64_t start;    // its next turn is due from here on
    uint64_t deadline; // and before this
};

struct wrr {
    struct wrr_item *items;
    uint32_t count;
    uint64_t total; // of the weights
    uint64_t turn;  // how far time moves with each pick
    uint64_t now;
    // Two heaps of indices: those whose turn is due, by deadline, and the others, by start.
    uint32_t *due, *later;
    uint32_t due_count, later_count;
};

// wrr_create, then the caller sets each items[i].weight, then wrr_start.
struct wrr *wrr_create(uint32_t count);
void wrr_destroy(struct wrr *w); // NULL is fine
// `old` (may be NULL) is where it goes on: from[i] is the number that item i had there, or
// UINT32_MAX for a new one.
void wrr_start(struct wrr *w, const struct wrr *old, const uint32_t *from);
uint32_t wrr_next(struct wrr *w);
