// See sim_runtime.h.
#include "sim_runtime.h"
#include "proxy/runtime_internal.h"
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int sim_document(const char *text, char path[SIM_DOCUMENT_PATH])
{
    int fd = memfd_create("documents.yaml", MFD_CLOEXEC);
    size_t len = strlen(text);
    if (fd < 0 || write(fd, text, len) != (ssize_t)len)
        abort();
    snprintf(path, SIM_DOCUMENT_PATH, "/proc/self/fd/%d", fd);
    return fd;
}

struct proxy_worker *sim_runtime_start(struct runtime *rt, const struct runtime_config *cfg)
{
    rt->cfg = *cfg;
    rcu_init(&rt->rcu, 1);
    stat_registry_init(&rt->stats);
    rt->workers = calloc(1, sizeof(struct proxy_worker *));
    if (!rt->workers || runtime_worker_create(rt, 0, &rt->workers[0]) != OK)
        abort();
    rt->worker_count = 1;
    rng_init(&rt->workers[0]->worker.rng, rng_next(sim_rng()) | 1);
    return rt->workers[0];
}
