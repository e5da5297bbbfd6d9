// Istio's rules for one document (pkg/config/validation), with Istio's texts. Each adds findings;
// a document with an error among them is left out.
#pragma once
#include "config/load.h"
#include "config/schema.h"

void validate_gateway(struct reader *r, const struct load_options *options, const void *object);
void validate_virtual_service(struct reader *r, const struct load_options *options,
                              const void *object);
void validate_destination_rule(struct reader *r, const struct load_options *options,
                               const void *object);
void validate_service_entry(struct reader *r, const struct load_options *options,
                            const void *object);
void validate_workload_entry(struct reader *r, const struct load_options *options,
                             const void *object);
