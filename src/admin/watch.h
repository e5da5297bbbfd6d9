// Notices changes of files and folders: written, replaced by rename, or swapped by a symbolic link
// as Kubernetes does with a mounted ConfigMap (..data). inotify(7); where that cannot be had,
// the files' times and sizes are compared once a second. Control thread.
#pragma once
#include "config/load.h"
#include <stdbool.h>
#include <stdint.h>

struct watch;

#define WATCH_SETTLE_MS 100     // quiet for so long before a change counts
#define WATCH_SETTLE_MAX_MS 500 // but not later than this after the first sign of it
#define WATCH_WRITE_MAX_MS 500  // and this much later still while a document is being written
#define WATCH_OPEN_QUIET_MS 600 // a document that is written and not closed: no write for so long
#define WATCH_OPEN_MAX_MS 5000  // and no longer than this where the writes do not end
#define WATCH_POLL_MS 1000

// inputs are borrowed. poll_only: as if inotify could not be had (tests).
struct watch *watch_create(const struct load_input *inputs, uint32_t count, bool poll_only);
void watch_destroy(struct watch *w);
// Files to watch beside the inputs, there or not, in place of those of the call before; copied.
// True when they are others: what changed before this call, after they were read, is then not
// reported.
bool watch_follow(struct watch *w, const char *const *paths, uint32_t count);
void watch_mark(struct watch *w, uint64_t now_ms); // as if a change had just been seen
int watch_fd(const struct watch *w); // readable when something may have changed; -1 = no such thing
// Takes what the kernel reports, or looks by itself when it is time; now_ms is monotonic.
void watch_step(struct watch *w, uint64_t now_ms);
// True once for each change that has settled. The caller then reads the documents; what changes
// after this call is reported anew.
bool watch_changed(struct watch *w, uint64_t now_ms);
// The documents are about to be read.
void watch_begin_read(struct watch *w);
// Asked after they have been read: whether one was written meanwhile, or still is, so that
// half of it may have been read. The change is reported again when it has settled.
bool watch_disturbed(struct watch *w, uint64_t now_ms);
// How long the caller may sleep; at most limit_ms.
int watch_wait_ms(const struct watch *w, uint64_t now_ms, int limit_ms);
bool watch_is_polling(const struct watch *w);
