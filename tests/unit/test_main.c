// Runs the registered tests whose name contains one of the arguments (all without arguments). An
// argument NAME=VALUE is put into the environment (SIM_SEED=17).
#include "test.h"
#include <stdarg.h>
#include <stdlib.h>

static struct test_case *first, **last = &first;
static unsigned failures;

void test_register(struct test_case *t)
{
    *last = t;
    last = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    printf("  %s:%d: ", file, line);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    failures++;
}

bool test_eq_int(long long a, long long b, const char *ta, const char *tb, const char *file,
                 int line)
{
    if (a != b)
        test_fail(file, line, "%s = %lld, %s = %lld", ta, a, tb, b);
    return a == b;
}

bool test_eq_str(const char *a, const char *b, const char *file, int line)
{
    if (a && b && strcmp(a, b) == 0)
        return true;
    test_fail(file, line, "\"%s\" is not \"%s\"", a ? a : "(null)", b ? b : "(null)");
    return false;
}

// NAME=VALUE is for the environment.
static void take_settings(int *argc, char **argv)
{
    int n = 1;
    for (int i = 1; i < *argc; i++) {
        if (strchr(argv[i], '='))
            putenv(argv[i]);
        else
            argv[n++] = argv[i];
    }
    *argc = n;
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i]))
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    take_settings(&argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test_case *t = first; t; t = t->next) {
        if (!wanted(t->name, argc, argv))
            continue;
        unsigned before = failures;
        t->run();
        bool ok = failures == before;
        printf("%s %s\n", ok ? "ok    " : "FAILED", t->name);
        ok ? passed++ : failed++;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
