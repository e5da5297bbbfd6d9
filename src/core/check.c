// Where a broken invariant ends: one line on standard error and an abort, so that a core dump
// shows the stack. Async-signal-safe in practice (dprintf on a small format); any thread.
#include "core/check.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void check_failed(const char *file, int line, const char *expr)
{
    dprintf(STDERR_FILENO, "%s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
