// From paths to a model: finds the files, cuts and parses them, reads each document, then looks at
// all of them together. Owns the model until it is handed out; each document's YAML tree lives in
// an arena of its own that ends with it. Control thread.
#include "config/load.h"
#include "config/document.h"
#include "config/duplicate.h"
#include "config/folder.h"
#include "config/policy.h"
#include "config/unserved.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(YAML_MAX_FILE_BYTES == (size_t)64 << 20, "as too_large says");
static const char too_large[] = "the file is larger than 64 MiB, the most that is read";

static const struct load_options default_options;

static struct loading begin(const struct load_options *options, struct findings *findings)
{
    struct model *m = calloc(1, sizeof(*m));
    if (!m)
        abort(); // the control thread, before anything is served
    arena_init(&m->arena, 0);
    return (struct loading){
        .model = m, .findings = findings, .options = options ? options : &default_options};
}

// All of the errors up to here are the documents' own; those of the analysis are not.
static enum err end(struct loading *l, uint32_t errors_before, struct model **out)
{
    policy_finish(l);
    duplicate_drop(l->model, l->findings);
    uint32_t own = l->findings->errors - errors_before;
    l->findings->document_errors += own;
    analyze_model(l->model, l->options, l->findings);
    unserved_prune(l->model);
    *out = l->model;
    return own ? ERR_INVALID : OK;
}

static void read_text(struct loading *l, const struct input_file *in, struct slice text)
{
    uint32_t line = 1;
    for (;;) {
        const struct yaml_node *root;
        struct arena tree;
        arena_init(&tree, 0);
        enum err e = yaml_next(&text, &line, in->file, &tree, l->findings, &root);
        if (e == OK && !yaml_is_null(root))
            document_read(l, root, in);
        arena_fini(&tree);
        if (e == ERR_NOT_FOUND || e == ERR_NOMEM)
            return;
    }
}

enum err load_text(const char *file_name, const char *ns, struct slice text,
                   const struct load_options *options, struct model **model,
                   struct findings *findings)
{
    struct loading l = begin(options, findings);
    struct input_file in = {arena_strdup(&l.model->arena, file_name), ns};
    uint32_t errors = findings->errors;
    read_text(&l, &in, text);
    return end(&l, errors, model);
}

static void complain(struct loading *l, const char *path, const char *what)
{
    finding_add(l->findings, SEVERITY_ERROR, NULL, (struct pos){.file = path}, NULL, "%s", what);
}

// NULL with what errno says of it, which the calls that follow may overwrite.
static char *read_all(int fd, size_t *len, int *why)
{
    size_t cap = 64 * 1024, n = 0;
    char *p = malloc(cap);
    *why = ENOMEM;
    while (p) {
        ssize_t got = read(fd, p + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            *len = n;
            if (got == 0)
                return p;
            *why = errno;
            break;
        }
        n += (size_t)got;
        if (n > YAML_MAX_FILE_BYTES) {
            *why = EFBIG;
            break;
        }
        if (n == cap) {
            char *grown = realloc(p, cap *= 2);
            if (!grown)
                break;
            p = grown;
        }
    }
    free(p);
    return NULL;
}

static void read_file(struct loading *l, const char *path, const char *ns)
{
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC), why = fd < 0 ? errno : 0;
    char *text = fd >= 0 ? read_all(fd, &len, &why) : NULL;
    if (text) {
        struct input_file in = {arena_strdup(&l->model->arena, path), ns};
        read_text(l, &in, (struct slice){text, len});
    } else {
        complain(l, path, why == EFBIG ? too_large : strerror(why));
    }
    free(text);
    if (fd >= 0)
        close(fd);
}

static int is_visible(const struct dirent *d)
{
    return !folder_is_hidden(d->d_name);
}

struct walk {
    struct folder_way way;
    uint32_t depth;
};

static void read_folder(struct loading *l, const char *path, const char *ns, const struct stat *st,
                        const struct walk *up);

static void read_entry(struct loading *l, const char *folder, const char *name, const char *ns,
                       const struct walk *in)
{
    struct stat st;
    size_t len = strlen(folder);
    bool slash = len && folder[len - 1] == '/';
    const char *path = arena_printf(&l->model->arena, "%s%s%s", folder, slash ? "" : "/", name);
    if (stat(path, &st) != 0) {
        if (folder_is_document(name))
            complain(l, path, strerror(errno));
        return;
    }
    if (S_ISDIR(st.st_mode))
        read_folder(l, path, ns, &st, in);
    else if (folder_is_document(name) && S_ISREG(st.st_mode))
        read_file(l, path, ns);
    else if (folder_is_document(name)) // reading a pipe would wait for its writer
        complain(l, path, "this is not a file");
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // not alphasort: locale never matters
}

static void read_folder(struct loading *l, const char *path, const char *ns, const struct stat *st,
                        const struct walk *up)
{
    struct dirent **names = NULL;
    struct walk here = {.depth = up ? up->depth + 1 : 0};
    if (!folder_way_enter(&here.way, up ? &up->way : NULL, st)) {
        complain(l, path, "the link leads back to a folder that it is in");
        return;
    }
    if (here.depth > FOLDER_DEPTH_MAX) {
        complain(l, path, "folders are nested too deeply");
        return;
    }
    int n = scandir(path, &names, is_visible, compare_names);
    if (n < 0)
        complain(l, path, strerror(errno));
    for (int i = 0; i < n; i++) {
        read_entry(l, path, names[i]->d_name, ns, &here);
        free(names[i]);
    }
    free(names);
}

// What the command line names and holds nothing has been emptied, or is a mistake.
static void read_input(struct loading *l, const struct load_input *in)
{
    const char *ns = in->ns ? in->ns : "default";
    uint32_t documents = l->model->document_count, errors = l->findings->errors;
    struct stat st;
    if (stat(in->path, &st) != 0)
        complain(l, in->path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        read_folder(l, in->path, ns, &st, NULL);
    else
        read_file(l, in->path, ns);
    if (l->model->document_count == documents && l->findings->errors == errors)
        finding_add(l->findings, SEVERITY_WARNING, NULL, (struct pos){.file = in->path}, NULL,
                    "no document in this %s", S_ISDIR(st.st_mode) ? "folder" : "file");
}

enum err load_documents(const struct load_input *inputs, uint32_t input_count,
                        const struct load_options *options, struct model **model,
                        struct findings *findings)
{
    struct loading l = begin(options, findings);
    uint32_t errors = findings->errors;
    for (uint32_t i = 0; i < input_count; i++)
        read_input(&l, &inputs[i]);
    return end(&l, errors, model);
}

void model_destroy(struct model *m)
{
    if (!m)
        return;
    arena_fini(&m->arena);
    free(m);
}
