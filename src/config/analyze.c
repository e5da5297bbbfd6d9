// Lint across documents: the analyzers, one after the other, over indexes built once. Owns the
// scratch arena for the time of one call; the model is only read. Control thread.
#include "config/analysis.h"
#include "config/unserved.h"
#include "core/clock.h"

void analyze_model(const struct model *m, const struct load_options *options,
                   struct findings *findings)
{
    struct analysis a = {.m = m, .options = options, .findings = findings};
    a.now_s = (int64_t)(clock_realtime_ns() / NS_PER_S);
    arena_init(&a.scratch, 0);
    analysis_index(&a);
    analyze_gateways(&a);
    analyze_virtual_services(&a);
    analyze_dead_rules(&a);
    analyze_destination_rules(&a);
    analyze_services(&a);
    unserved_report(m, findings);
    arena_fini(&a.scratch);
}
