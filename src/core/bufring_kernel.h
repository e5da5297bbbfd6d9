// The kernel's side of the buffer ring, which tests/sim replaces; for bufring.c only.
#pragma once
#include "core/bufring.h"

int bufring_kernel_register(struct bufring *b); // sets ring_mem; -errno
void bufring_kernel_unregister(struct bufring *b);
// Writes the descriptor at ring position `at`; the kernel sees it after the next publish.
void bufring_kernel_give(struct bufring *b, uint32_t at, char *memory, uint16_t bid);
void bufring_kernel_publish(struct bufring *b, uint32_t n); // b->tail is moved already
// Bytes that the kernel may have put into the buffer at position `at`.
uint32_t bufring_kernel_length(const struct bufring *b, uint32_t at);
