// Replays corpus files (or folders of them) given as arguments through a fuzz target.
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned passed, failed;

static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *data = malloc(1 << 20);
    if (!f || !data) {
        printf("FAILED %s: cannot be read\n", path);
        failed++;
    } else {
        size_t n = fread(data, 1, 1 << 20, f);
        char *exact = malloc(n ? n : 1); // exact size, so that a sanitizer sees an overread
        if (exact) {
            memcpy(exact, data, n);
            LLVMFuzzerTestOneInput((const uint8_t *)exact, n);
            passed++;
        }
        free(exact);
    }
    free(data);
    if (f)
        fclose(f);
}

static void replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        replay_file(path);
        return;
    }
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char child[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
        replay(child); // links lead to documents that other tests have too
    }
    if (d)
        closedir(d);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
