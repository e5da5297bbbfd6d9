// The whole gateway in the simulator: one worker, which has no thread, and documents from memory.
#pragma once
#include "proxy/runtime.h"

#define SIM_DOCUMENT_PATH 40

// As runtime_start does it. worker_begin is the caller's to call; runtime_stop ends it.
struct proxy_worker *sim_runtime_start(struct runtime *rt, const struct runtime_config *cfg);
// A file of these documents; its descriptor, by which it lives.
int sim_document(const char *text, char path[SIM_DOCUMENT_PATH]);
