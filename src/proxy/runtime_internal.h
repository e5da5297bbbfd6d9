// What runtime.c and runtime_worker.c share. Not for anyone else.
#pragma once
#include "proxy/proxy.h"

enum err runtime_worker_create(struct runtime *rt, uint32_t id, struct proxy_worker **out);
void runtime_worker_destroy(struct proxy_worker *pw); // after its thread has been joined
void runtime_worker_on_turn(struct worker *w);
bool runtime_worker_on_stop(struct worker *w);
// On the worker's thread.
// The worker is one of the record's holders from here on.
void runtime_worker_add_listener(struct proxy_worker *pw, uint32_t id, int fd,
                                 struct listener_record *record);
void runtime_worker_release_listener(struct listener_record *record); // one holder less
void runtime_worker_remove_listener(struct proxy_worker *pw, uint32_t id);
void runtime_worker_drain(struct proxy_worker *pw);
// shed.c
enum shed runtime_shed_level(enum shed now, uint32_t permille); // of the memory there is
void runtime_worker_shed(struct proxy_worker *pw, enum shed level);
void runtime_worker_note_reserve(struct proxy_worker *pw);
void runtime_tell_shed(struct runtime *rt, enum shed level); // all workers (runtime.c)
