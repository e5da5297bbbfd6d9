#include "admin/watch.h"
#include "config/folder.h"
#include "core/clock.h"
#include "test.h"
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static const char *at(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof(paths[0]), "%s/%s", root, name);
    return p;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static bool fresh(void)
{
    snprintf(root, sizeof(root), "/tmp/sluice-watch-XXXXXX");
    return mkdtemp(root) != NULL;
}

static void clean(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", root);
    if (system(command) != 0)
        test_fail(__FILE__, __LINE__, "cannot remove %s", root);
}

static uint64_t now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

// Whether a change is reported before limit_ms have passed.
static bool changes(struct watch *w, int limit_ms)
{
    uint64_t until = now_ms() + (uint64_t)limit_ms;
    while (now_ms() < until) {
        struct pollfd p = {watch_fd(w), POLLIN, 0};
        poll(&p, 1, watch_wait_ms(w, now_ms(), (int)(until - now_ms())));
        watch_step(w, now_ms());
        if (watch_changed(w, now_ms()))
            return true;
    }
    return false;
}

#define SOON 3000 // there is to be a change
#define NEVER 250 // there is to be none

TEST(watch_sees_a_file_written_and_replaced)
{
    REQUIRE(fresh());
    put("gw.yaml", "a");
    struct load_input in = {"default", at("gw.yaml")};
    char path[256];
    snprintf(path, sizeof(path), "%s", in.path);
    in.path = path;
    struct watch *w = watch_create(&in, 1, false);
    REQUIRE(!watch_is_polling(w));
    put("other.yaml", "x");
    put("gw.yaml~", "x");
    EXPECT(!changes(w, NEVER));
    put("gw.yaml", "b");
    EXPECT(changes(w, SOON));
    put("new", "c");
    REQUIRE(rename(at("new"), at("gw.yaml")) == 0);
    EXPECT(changes(w, SOON));
    put("gw.yaml", "d"); // the replaced one too
    EXPECT(changes(w, SOON));
    unlink(at("gw.yaml"));
    EXPECT(changes(w, SOON));
    put("gw.yaml", "e");
    EXPECT(changes(w, SOON));
    watch_destroy(w);
    clean();
}

static void folder_case(bool poll_only)
{
    REQUIRE(fresh());
    struct load_input in = {"default", root};
    put("a.yaml", "a");
    struct watch *w = watch_create(&in, 1, poll_only);
    EXPECT_EQ(watch_is_polling(w), poll_only);
    watch_step(w, now_ms());
    put(".a.yaml.swp", "x");
    put("a.yaml~", "x");
    put("notes.txt", "x");
    EXPECT(!changes(w, poll_only ? WATCH_POLL_MS + 200 : NEVER));
    put("b.yml", "b");
    EXPECT(changes(w, SOON));
    REQUIRE(mkdir(at("sub"), 0755) == 0);
    put("sub/c.json", "{}");
    EXPECT(changes(w, SOON));
    put("sub/c.json", "{ }");
    EXPECT(changes(w, SOON));
    unlink(at("b.yml"));
    EXPECT(changes(w, SOON));
    watch_destroy(w);
    clean();
}

TEST(watch_sees_what_happens_in_a_folder)
{
    folder_case(false);
}

TEST(watch_polls_where_there_is_no_inotify)
{
    folder_case(true);
}

// As the kubelet updates a mounted ConfigMap: a new folder, then ..data is renamed over.
static void swap_data(const char *version, const char *text)
{
    char name[64];
    mkdir(at(version), 0755);
    snprintf(name, sizeof(name), "%s/gw.yaml", version);
    put(name, text);
    if (symlink(version, at("..data_tmp")) != 0 || rename(at("..data_tmp"), at("..data")) != 0)
        test_fail(__FILE__, __LINE__, "symlink");
}

TEST(watch_sees_a_configmap_swapped)
{
    REQUIRE(fresh());
    swap_data("..1", "a");
    REQUIRE(symlink("..data/gw.yaml", at("gw.yaml")) == 0);
    char path[256];
    snprintf(path, sizeof(path), "%s", at("gw.yaml"));
    struct load_input file = {"default", path}, folder = {"default", root};
    struct watch *a = watch_create(&file, 1, false), *b = watch_create(&folder, 1, false);
    for (int i = 2; i < 4; i++) {
        swap_data(i == 2 ? "..2" : "..3", i == 2 ? "b" : "c");
        EXPECT(changes(a, SOON));
        EXPECT(changes(b, SOON));
        EXPECT(!changes(a, NEVER));
    }
    watch_destroy(a);
    watch_destroy(b);
    clean();
}

TEST(watch_sees_a_linked_folder_swapped)
{
    REQUIRE(fresh());
    REQUIRE(mkdir(at("r1"), 0755) == 0 && mkdir(at("r2"), 0755) == 0);
    put("r1/a.yaml", "a");
    put("r2/a.yaml", "b");
    REQUIRE(symlink("r1", at("current")) == 0);
    char path[256];
    snprintf(path, sizeof(path), "%s", at("current/a.yaml"));
    struct load_input in = {"default", path};
    struct watch *w = watch_create(&in, 1, false);
    REQUIRE(symlink("r2", at("next")) == 0 && rename(at("next"), at("current")) == 0);
    EXPECT(changes(w, SOON));
    put("r2/a.yaml", "c"); // followed to where it points now
    EXPECT(changes(w, SOON));
    put("r1/a.yaml", "x"); // and no longer to where it pointed
    EXPECT(!changes(w, NEVER));
    watch_destroy(w);
    clean();
}

TEST(watch_waits_until_it_is_quiet)
{
    REQUIRE(fresh());
    struct load_input in = {"default", root};
    struct watch *w = watch_create(&in, 1, false);
    put("a.yaml", "a");
    watch_step(w, 1000);
    EXPECT(!watch_changed(w, 1000));
    EXPECT_EQ(watch_wait_ms(w, 1000, 5000), WATCH_SETTLE_MS);
    put("a.yaml", "b");
    watch_step(w, 1000 + WATCH_SETTLE_MS - 1);
    EXPECT(!watch_changed(w, 1000 + WATCH_SETTLE_MS));
    for (uint64_t t = 1150; t <= 1000 + WATCH_SETTLE_MAX_MS; t += 50) { // it never ends
        put("a.yaml", "c");
        watch_step(w, t);
    }
    EXPECT(!watch_changed(w, 1000 + WATCH_SETTLE_MAX_MS - 1));
    EXPECT(watch_changed(w, 1000 + WATCH_SETTLE_MAX_MS));
    EXPECT(!watch_changed(w, 1000 + WATCH_SETTLE_MAX_MS));
    watch_destroy(w);
    clean();
}

TEST(watch_waits_for_a_document_that_is_being_written)
{
    REQUIRE(fresh());
    struct load_input in = {"default", root};
    put("a.yaml", "a");
    struct watch *w = watch_create(&in, 1, false);
    put("a.yaml", "b");
    watch_step(w, 1000);
    FILE *f = fopen(at("a.yaml"), "w"); // empty from here on
    watch_step(w, 1050);
    EXPECT(!watch_changed(w, 1000 + WATCH_SETTLE_MAX_MS));
    fputs("c", f);
    fclose(f);
    watch_step(w, 1600);
    EXPECT(watch_changed(w, 1600));
    watch_begin_read(w);
    EXPECT(!watch_disturbed(w, 1601));
    // written while it is read
    watch_begin_read(w);
    f = fopen(at("a.yaml"), "w");
    EXPECT(watch_disturbed(w, 2000));
    EXPECT(!watch_changed(w, 2000 + WATCH_SETTLE_MS));
    fclose(f);
    watch_step(w, 2200);
    EXPECT(watch_changed(w, 2200 + WATCH_SETTLE_MS));
    // kept open for ever: it is not waited for longer than that
    f = fopen(at("a.yaml"), "w");
    watch_begin_read(w);
    EXPECT(watch_disturbed(w, 3000));
    EXPECT(watch_changed(w, 3000 + WATCH_SETTLE_MAX_MS + WATCH_WRITE_MAX_MS));
    fclose(f);
    watch_destroy(w);
    clean();
}

static void write_on(FILE *f)
{
    fputs("more\n", f);
    fflush(f);
}

TEST(watch_takes_a_document_that_is_held_open_when_its_writer_pauses)
{
    REQUIRE(fresh());
    struct load_input in = {"default", root};
    put("a.yaml", "a");
    struct watch *w = watch_create(&in, 1, false);
    FILE *f = fopen(at("a.yaml"), "r+");
    REQUIRE(f);
    write_on(f);
    watch_step(w, 1000);
    EXPECT_EQ(watch_wait_ms(w, 1000, 5000), WATCH_OPEN_QUIET_MS);
    write_on(f); // a write soon after belongs to the same change
    watch_step(w, 1300);
    EXPECT(!watch_changed(w, 1300 + WATCH_OPEN_QUIET_MS - 1));
    EXPECT(watch_changed(w, 1300 + WATCH_OPEN_QUIET_MS));
    watch_begin_read(w);
    EXPECT(!watch_disturbed(w, 2000)); // what was read is whole
    EXPECT(!watch_changed(w, 9000));
    write_on(f); // the next change of the same writer
    watch_step(w, 9000);
    EXPECT(watch_changed(w, 9000 + WATCH_OPEN_QUIET_MS));
    fclose(f);
    watch_destroy(w);
    clean();
}

TEST(watch_never_takes_a_document_that_is_empty_while_its_writer_works)
{
    REQUIRE(fresh());
    struct load_input in = {"default", root};
    put("a.yaml", "a");
    struct watch *w = watch_create(&in, 1, false);
    FILE *f = fopen(at("a.yaml"), "w"); // `helm template > a.yaml`
    REQUIRE(f);
    watch_step(w, 1000);
    EXPECT(!watch_changed(w, 1000 + WATCH_OPEN_QUIET_MS));
    EXPECT(!watch_changed(w, 1000 + 2 * WATCH_OPEN_MAX_MS));
    write_on(f);
    fclose(f);
    watch_step(w, 20000);
    EXPECT(watch_changed(w, 20000 + WATCH_SETTLE_MAX_MS));
    watch_destroy(w);
    clean();
}

TEST(watch_waits_for_a_writer_that_does_not_pause_but_not_for_ever)
{
    REQUIRE(fresh());
    struct load_input in = {"default", root};
    put("a.yaml", "a");
    struct watch *w = watch_create(&in, 1, false);
    FILE *f = fopen(at("a.yaml"), "r+");
    REQUIRE(f);
    uint64_t t = 1000;
    for (; t < 1000 + WATCH_OPEN_MAX_MS; t += WATCH_OPEN_QUIET_MS / 2) {
        write_on(f);
        watch_step(w, t);
        EXPECT(!watch_changed(w, t));
    }
    EXPECT(watch_changed(w, t));
    fclose(f);
    watch_destroy(w);
    clean();
}

static bool is_loaded(const char *path)
{
    struct load_input in = {"default", path};
    struct findings findings;
    struct model *m = NULL;
    findings_init(&findings);
    bool loaded = load_documents(&in, 1, NULL, &m, &findings) == OK && m->gateways;
    model_destroy(m);
    findings_fini(&findings);
    return loaded;
}

static const char gateway[] =
    "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g}, spec: {servers: "
    "[{hosts: ['*'], port: {number: 80, name: http, protocol: HTTP}}]}}";

TEST(watch_and_load_agree_on_what_a_document_is)
{
    static const struct {
        const char *name;
        bool is_document;
    } names[] = {{"a.yaml", true}, {"b.yml", true},   {"c.json", true},   {"d.YAML", false},
                 {"e.Yml", false}, {"f.JSON", false}, {".g.yaml", false}, {"h.yaml~", false}};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        REQUIRE(fresh());
        struct load_input in = {"default", root};
        struct watch *w = watch_create(&in, 1, false);
        put(names[i].name, gateway);
        watch_step(w, 1000);
        EXPECT_EQ(watch_changed(w, 9000), names[i].is_document);
        EXPECT_EQ(is_loaded(root), names[i].is_document);
        watch_destroy(w);
        clean();
    }
}

TEST(watch_and_load_agree_on_how_deep_folders_may_be)
{
    REQUIRE(fresh());
    char folder[256] = "d", file[272];
    for (int depth = 1; depth <= FOLDER_DEPTH_MAX + 1; depth++) {
        REQUIRE(mkdir(at(folder), 0755) == 0);
        if (depth >= FOLDER_DEPTH_MAX) {
            struct load_input in = {"default", root};
            struct watch *w = watch_create(&in, 1, false);
            snprintf(file, sizeof(file), "%s/a.yaml", folder);
            put(file, gateway);
            watch_step(w, 1000);
            EXPECT_EQ(watch_changed(w, 9000), depth == FOLDER_DEPTH_MAX);
            EXPECT_EQ(is_loaded(root), depth == FOLDER_DEPTH_MAX);
            watch_destroy(w);
            REQUIRE(unlink(at(file)) == 0);
        }
        snprintf(folder + strlen(folder), sizeof(folder) - strlen(folder), "/d");
    }
    clean();
}

// Those that the configuration names: one that is there, one in a folder that is not.
static void follows(bool poll_only)
{
    REQUIRE(fresh());
    put("gw.yaml", "a");
    put("tls.crt", "a");
    char document[256], there[256], missing[256];
    snprintf(document, sizeof(document), "%s", at("gw.yaml"));
    snprintf(there, sizeof(there), "%s", at("tls.crt"));
    snprintf(missing, sizeof(missing), "%s", at("certs/istio/tls.key"));
    const char *const files[] = {there, missing};
    struct load_input in = {"default", document};
    struct watch *w = watch_create(&in, 1, poll_only);
    put("tls.crt", "bb");
    EXPECT(!changes(w, poll_only ? 2 * WATCH_POLL_MS : NEVER)); // nobody has asked for it
    EXPECT(watch_follow(w, files, 2));
    EXPECT(!watch_follow(w, files, 2));
    put("tls.crt", "ccc");
    EXPECT(changes(w, SOON));
    REQUIRE(mkdir(at("certs"), 0755) == 0 && mkdir(at("certs/istio"), 0755) == 0);
    put("certs/istio/tls.key", "d");
    EXPECT(changes(w, SOON));
    put("certs/istio/tls.key", "ee");
    EXPECT(changes(w, SOON));
    put("gw.yaml", "bb");
    EXPECT(changes(w, SOON));
    EXPECT(watch_follow(w, files + 1, 1));
    put("tls.crt", "f");
    EXPECT(!changes(w, poll_only ? 2 * WATCH_POLL_MS : NEVER));
    put("certs/istio/tls.key", "ggg");
    EXPECT(changes(w, SOON));
    watch_destroy(w);
    clean();
}

TEST(watch_follows_files_that_are_named)
{
    follows(false);
}

TEST(watch_follows_files_by_looking)
{
    follows(true);
}

// What the kernel has to report of the documents when other files are followed is not lost.
TEST(watch_follow_loses_nothing)
{
    REQUIRE(fresh());
    put("gw.yaml", "a");
    char document[256], file[256];
    snprintf(document, sizeof(document), "%s", at("gw.yaml"));
    snprintf(file, sizeof(file), "%s", at("tls.crt"));
    const char *const files[] = {file};
    struct load_input in = {"default", document};
    struct watch *w = watch_create(&in, 1, false);
    put("gw.yaml", "b");
    EXPECT(watch_follow(w, files, 1));
    EXPECT(changes(w, SOON));
    watch_destroy(w);
    clean();
}
