// The same object in two documents: as with kubectl apply, the later one is what counts.
#pragma once
#include "config/finding.h"

// Takes the earlier ones out of the model and warns.
void duplicate_drop(struct model *m, struct findings *findings);
