// Watching the documents. Owns an inotify descriptor and the list of folders watched through it.
// Control thread.
//
// A folder given is watched with all folders below it; a file is watched through the folder it is
// in, so that replacing it by rename is seen. Where a component of a path is a symbolic link, the
// folder that holds the link is watched as well. When something has come or gone the watches are
// laid anew *before* the documents are read: what happens meanwhile is reported again, nothing is
// missed. A document that is being written (truncated, and not closed yet) is waited for; one that
// is held open counts as whole when nobody has written to it for a while.
// Where a path leads through what does not exist, its appearance is watched for.
#include "admin/watch.h"
#include "config/folder.h"
#include "core/check.h"
#include "core/slice.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTERESTS_MAX 65536
#define LINKS_MAX 40 // as the kernel's limit on symbolic links in a path
#define WRITTEN_MAX 64
#define EVENTS                                                                          \
    (IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct interest { // what in a watched folder concerns us
    int wd;
    char *path; // of the folder, for looking at what was created; NULL for a name
    char *name; // one entry of the folder; NULL = every document in it
};

struct written { // a document that was written to and not closed yet
    int wd;
    uint64_t name_hash;
    uint64_t first_ms, last_ms; // of the writes since it was last whole
    bool empty; // truncated, and nothing has come yet: only its close makes it whole
};

struct watch {
    const struct load_input *inputs;
    uint32_t count;
    int fd;                     // -1 = polling
    struct interest *interests; // of the inputs, then of `files`
    uint32_t interest_count, interest_cap, input_interests;
    char **files;
    uint32_t file_count;
    bool failed;         // a watch could not be laid
    bool relay;          // something came or went: the watches are to be laid anew
    uint64_t signs;      // of changes, ever
    uint64_t signs_read; // when the documents were read last
    struct written written[WRITTEN_MAX];
    uint32_t written_count;
    uint64_t first_ms, last_ms;       // of the signs of the change that has not settled; 0 = none
    uint64_t signature, next_poll_ms; // polling
};

// ---- laying watches

static void add_interest(struct watch *w, const char *folder, const char *name)
{
    int wd = inotify_add_watch(w->fd, folder, EVENTS);
    if (wd < 0 || w->interest_count >= INTERESTS_MAX) {
        // A folder that has gone meanwhile is no failure: its going was reported.
        w->failed |= wd >= 0 || (errno != ENOENT && errno != ENOTDIR);
        return;
    }
    if (w->interest_count == w->interest_cap) {
        w->interest_cap = w->interest_cap ? w->interest_cap * 2 : 16;
        w->interests = realloc(w->interests, w->interest_cap * sizeof(*w->interests));
        check(w->interests);
    }
    struct interest *i = &w->interests[w->interest_count++];
    *i = (struct interest){wd, strdup(folder), name ? strdup(name) : NULL};
    check(i->path);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// The component [at, end) of path is a link: puts what it points to in its place. Returns where to
// go on, or SIZE_MAX when it cannot be followed.
static size_t follow(char *path, size_t at, size_t end)
{
    char link[PATH_MAX], target[PATH_MAX], rest[PATH_MAX];
    snprintf(link, sizeof(link), "%.*s", (int)end, path);
    snprintf(rest, sizeof(rest), "%s", path + end);
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    if (n <= 0)
        return SIZE_MAX;
    target[n] = '\0';
    bool absolute = target[0] == '/';
    size_t room = absolute ? PATH_MAX : PATH_MAX - at;
    int len = snprintf(absolute ? path : path + at, room, "%s%s", target, rest);
    if (len < 0 || (size_t)len >= room)
        return SIZE_MAX;
    return absolute ? 0 : at;
}

// Watches the folder of every link on the way to `given`, then the folder it is in itself.
static void watch_way(struct watch *w, const char *given)
{
    char path[PATH_MAX], part[PATH_MAX];
    struct stat st;
    int links = 0;
    snprintf(path, sizeof(path), "%s", given);
    for (size_t at = 0; at != SIZE_MAX && path[at += strspn(path + at, "/")];) {
        size_t end = at + strcspn(path + at, "/");
        snprintf(part, sizeof(part), "%.*s", (int)end, path);
        bool there = lstat(part, &st) == 0, link = there && S_ISLNK(st.st_mode);
        bool last = !there || path[end + strspn(path + end, "/")] == '\0';
        if (link || last) {
            char name[NAME_MAX + 1];
            snprintf(name, sizeof(name), "%s", part + at);
            part[at] = '\0';
            add_interest(w, at ? part : ".", name);
        }
        if (!link)
            at = there ? end : SIZE_MAX;
        else
            at = ++links <= LINKS_MAX ? follow(path, at, end) : SIZE_MAX;
    }
}

static void watch_folder(struct watch *w, const char *path, const struct folder_way *up, int depth);

static void watch_child(struct watch *w, const char *path, const struct dirent *e,
                        const struct folder_way *up, int depth)
{
    char child[PATH_MAX];
    bool may_be_folder = e->d_type == DT_DIR || e->d_type == DT_LNK || e->d_type == DT_UNKNOWN;
    int n = snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
    if (folder_is_hidden(e->d_name) || !may_be_folder || n < 0 || (size_t)n >= sizeof(child))
        return;
    if (is_folder(child))
        watch_folder(w, child, up, depth + 1);
    if (e->d_type == DT_LNK && (folder_is_document(e->d_name) || is_folder(child)))
        watch_way(w, child);
}

static void watch_folder(struct watch *w, const char *path, const struct folder_way *up, int depth)
{
    struct folder_way way;
    struct stat st;
    if (depth > FOLDER_DEPTH_MAX || stat(path, &st) != 0 || !folder_way_enter(&way, up, &st))
        return;
    add_interest(w, path, NULL);
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        watch_child(w, path, e, &way, depth);
    closedir(d);
}

static void drop_interests(struct watch *w, uint32_t from)
{
    for (uint32_t i = from; i < w->interest_count; i++) {
        free(w->interests[i].path);
        free(w->interests[i].name);
    }
    w->interest_count = from < w->interest_count ? from : w->interest_count;
}

static void forget(struct watch *w)
{
    drop_interests(w, 0);
    w->input_interests = 0;
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

static void watch_files(struct watch *w)
{
    for (uint32_t i = 0; i < w->file_count; i++)
        watch_way(w, w->files[i]);
    if (w->failed)
        forget(w);
}

static void lay(struct watch *w)
{
    forget(w);
    w->failed = false;
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd < 0)
        return;
    for (uint32_t i = 0; i < w->count; i++) {
        watch_way(w, w->inputs[i].path);
        if (is_folder(w->inputs[i].path))
            watch_folder(w, w->inputs[i].path, NULL, 0);
    }
    w->input_interests = w->interest_count;
    watch_files(w);
}

// ---- what the kernel reports

static bool path_of(const struct interest *i, const struct inotify_event *e, char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%s", i->path, e->name);
    return n >= 0 && n < PATH_MAX;
}

// A plain file that was just created will be written and closed: only then is it whole.
static bool created_whole(const struct interest *i, const struct inotify_event *e)
{
    char path[PATH_MAX];
    struct stat st;
    if (!path_of(i, e, path) || lstat(path, &st) != 0)
        return true;
    return !S_ISREG(st.st_mode) || st.st_nlink > 1;
}

// What happens in a folder of documents: to a document, a folder, or a link to one (which is told
// from a file by having no ending). Hidden names are nobody's business.
static bool concerns_folder(const struct inotify_event *e)
{
    if (folder_is_hidden(e->name))
        return false;
    return folder_is_document(e->name) || (e->mask & IN_ISDIR) ||
           (!(e->mask & (IN_CLOSE_WRITE | IN_MODIFY)) && !strchr(e->name, '.'));
}

static bool concerns(const struct interest *i, const struct inotify_event *e)
{
    if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
        return true;
    if (e->len == 0)
        return false;
    if (i->name ? strcmp(i->name, e->name) != 0 : !concerns_folder(e))
        return false;
    return !(e->mask & IN_CREATE) || created_whole(i, e);
}

static bool any_concern(const struct watch *w, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW)
        return true;
    for (uint32_t i = 0; i < w->interest_count; i++)
        if (w->interests[i].wd == e->wd && concerns(&w->interests[i], e))
            return true;
    return false;
}

void watch_mark(struct watch *w, uint64_t now_ms)
{
    w->last_ms = now_ms;
    w->first_ms = w->first_ms ? w->first_ms : now_ms;
}

static struct written *find_written(struct watch *w, int wd, uint64_t name_hash)
{
    for (uint32_t i = 0; i < w->written_count; i++)
        if (w->written[i].wd == wd && w->written[i].name_hash == name_hash)
            return &w->written[i];
    return NULL;
}

static bool is_empty(const struct watch *w, const struct inotify_event *e)
{
    char path[PATH_MAX];
    struct stat st;
    for (uint32_t i = 0; e->len > 0 && i < w->interest_count; i++) {
        const struct interest *at = &w->interests[i];
        if (at->wd == e->wd && path_of(at, e, path) && stat(path, &st) == 0)
            return st.st_size == 0;
    }
    return false;
}

// IN_MODIFY (a truncation too) begins a write, which is complete when the file is closed.
static void note(struct watch *w, const struct inotify_event *e, uint64_t now_ms)
{
    uint64_t hash = e->len ? slice_hash(slice_of(e->name)) : 0;
    struct written *f = find_written(w, e->wd, hash);
    w->signs++;
    if ((e->mask & IN_MODIFY) && (f || w->written_count < WRITTEN_MAX)) {
        if (!f) {
            f = &w->written[w->written_count++];
            *f = (struct written){e->wd, hash, now_ms, now_ms, false};
        }
        f->last_ms = now_ms;
        f->empty = is_empty(w, e);
        return;
    }
    if (f)
        *f = w->written[--w->written_count];
    w->relay |= !(e->mask & (IN_CLOSE_WRITE | IN_MODIFY));
    watch_mark(w, now_ms);
}

static void take_events(struct watch *w, uint64_t now_ms)
{
    _Alignas(struct inotify_event) char buf[16384];
    ssize_t n;
    while ((n = read(w->fd, buf, sizeof(buf))) > 0) {
        for (char *at = buf; at < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)at;
            if (any_concern(w, e))
                note(w, e, now_ms);
            at += sizeof(*e) + e->len;
        }
    }
}

// ---- polling

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= 0x9e3779b97f4a7c15ull;
    return h ^ (h >> 29);
}

static uint64_t sign_file(uint64_t h, const struct stat *st, const char *path)
{
    h = mix(h, slice_hash(slice_of(path)));
    h = mix(h, st->st_ino);
    h = mix(h, st->st_dev);
    h = mix(h, (uint64_t)st->st_size);
    return mix(h, (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec);
}

// Independent of the order in which the folder lists its entries: signatures are added up.
static uint64_t sign(const char *path, const struct folder_way *up, int depth)
{
    struct folder_way way;
    struct stat st;
    if (stat(path, &st) != 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return sign_file(1, &st, path);
    DIR *d = depth <= FOLDER_DEPTH_MAX && folder_way_enter(&way, up, &st) ? opendir(path) : NULL;
    uint64_t sum = 0;
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        char child[PATH_MAX];
        int n = snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
        if (!folder_is_hidden(e->d_name) && n > 0 && (size_t)n < sizeof(child) &&
            (folder_is_document(e->d_name) || is_folder(child)))
            sum += sign(child, &way, depth + 1);
    }
    closedir(d);
    return sum;
}

static uint64_t sign_all(const struct watch *w)
{
    uint64_t h = 0;
    for (uint32_t i = 0; i < w->count; i++)
        h = mix(h, sign(w->inputs[i].path, NULL, 0));
    for (uint32_t i = 0; i < w->file_count; i++)
        h = mix(h, sign(w->files[i], NULL, 0));
    return h;
}

static void look(struct watch *w, uint64_t now_ms)
{
    if (now_ms < w->next_poll_ms)
        return;
    w->next_poll_ms = now_ms + WATCH_POLL_MS;
    uint64_t signature = sign_all(w);
    if (signature == w->signature)
        return;
    w->signature = signature;
    w->first_ms = w->last_ms = now_ms;
}

// ---- for the control loop

struct watch *watch_create(const struct load_input *inputs, uint32_t count, bool poll_only)
{
    struct watch *w = calloc(1, sizeof(*w));
    check(w);
    w->inputs = inputs;
    w->count = count;
    w->fd = -1;
    if (!poll_only)
        lay(w);
    if (w->fd < 0)
        w->signature = sign_all(w);
    return w;
}

static void drop_files(struct watch *w)
{
    for (uint32_t i = 0; i < w->file_count; i++)
        free(w->files[i]);
    free(w->files);
    w->files = NULL;
    w->file_count = 0;
}

void watch_destroy(struct watch *w)
{
    if (!w)
        return;
    forget(w);
    drop_files(w);
    free(w->interests);
    free(w);
}

int watch_fd(const struct watch *w)
{
    return w->fd;
}

bool watch_is_polling(const struct watch *w)
{
    return w->fd < 0;
}

void watch_step(struct watch *w, uint64_t now_ms)
{
    if (w->fd >= 0)
        take_events(w, now_ms);
    else
        look(w, now_ms);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// When a document that is kept open counts as whole. `helm template > FILE` leaves it empty for as
// long as it works.
static uint64_t whole_at(const struct written *f)
{
    if (f->empty)
        return UINT64_MAX;
    return earlier(f->last_ms + WATCH_OPEN_QUIET_MS, f->first_ms + WATCH_OPEN_MAX_MS);
}

// When something is to be read; UINT64_MAX where nothing has changed.
static uint64_t settled_at(const struct watch *w)
{
    uint64_t first = UINT64_MAX, last = 0; // of the documents that are being written
    for (uint32_t i = 0; i < w->written_count; i++) {
        uint64_t at = whole_at(&w->written[i]);
        first = earlier(first, at);
        last = at > last ? at : last;
    }
    if (!w->first_ms)
        return first;
    uint64_t quiet = w->last_ms + WATCH_SETTLE_MS, latest = w->first_ms + WATCH_SETTLE_MAX_MS;
    if (w->written_count == 0)
        return earlier(quiet, latest);
    return earlier(last > quiet ? last : quiet, latest + WATCH_WRITE_MAX_MS);
}

static void forget_whole(struct watch *w, uint64_t now_ms)
{
    for (uint32_t i = 0; i < w->written_count; i++)
        if (whole_at(&w->written[i]) <= now_ms)
            w->written[i--] = w->written[--w->written_count];
}

bool watch_changed(struct watch *w, uint64_t now_ms)
{
    if (now_ms < settled_at(w))
        return false;
    w->first_ms = w->last_ms = 0;
    forget_whole(w, now_ms);
    if (w->fd >= 0 && w->relay) {
        w->relay = false;
        w->written_count = 0;
        lay(w);
        if (w->fd < 0) // from now on by looking
            w->signature = sign_all(w);
    }
    return true;
}

void watch_begin_read(struct watch *w)
{
    w->signs_read = w->signs;
}

static bool same_files(const struct watch *w, const char *const *paths, uint32_t count)
{
    bool same = count == w->file_count;
    for (uint32_t i = 0; same && i < count; i++)
        same = strcmp(paths[i], w->files[i]) == 0;
    return same;
}

// On the descriptor there is: what it has to report of the documents must not be lost.
bool watch_follow(struct watch *w, const char *const *paths, uint32_t count)
{
    if (same_files(w, paths, count))
        return false;
    drop_files(w);
    w->files = calloc(count + 1u, sizeof(*w->files));
    check(w->files);
    for (; w->file_count < count; w->file_count++) {
        w->files[w->file_count] = strdup(paths[w->file_count]);
        check(w->files[w->file_count]);
    }
    if (w->fd >= 0) {
        drop_interests(w, w->input_interests);
        watch_files(w);
    }
    if (w->fd < 0)
        w->signature = sign_all(w);
    return true;
}

bool watch_disturbed(struct watch *w, uint64_t now_ms)
{
    watch_step(w, now_ms);
    forget_whole(w, now_ms);
    if (w->signs == w->signs_read && w->written_count == 0)
        return false;
    watch_mark(w, now_ms);
    return true;
}

int watch_wait_ms(const struct watch *w, uint64_t now_ms, int limit_ms)
{
    uint64_t at = settled_at(w);
    if (at == UINT64_MAX)
        at = w->fd < 0 ? w->next_poll_ms : now_ms + (uint64_t)limit_ms;
    uint64_t left = at > now_ms ? at - now_ms : 0;
    return left < (uint64_t)limit_ms ? (int)left : limit_ms;
}
