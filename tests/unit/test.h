// The unit tests' harness. TEST(name) { ... } registers itself; a failing check prints where and
// what, and the test goes on (EXPECT) or ends (REQUIRE).
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
};

void test_register(struct test_case *t);
void test_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool test_eq_int(long long a, long long b, const char *ta, const char *tb, const char *file,
                 int line);
bool test_eq_str(const char *a, const char *b, const char *file, int line);

#ifdef __cplusplus
}
#endif

#define TEST(id)                                                 \
    static void test_##id(void);                                 \
    __attribute__((constructor)) static void register_##id(void) \
    {                                                            \
        static struct test_case t = {#id, test_##id, NULL};      \
        test_register(&t);                                       \
    }                                                            \
    static void test_##id(void)

#define EXPECT(cond)                                    \
    do {                                                \
        if (!(cond))                                    \
            test_fail(__FILE__, __LINE__, "%s", #cond); \
    } while (0)
#define REQUIRE(cond)                                   \
    do {                                                \
        if (!(cond)) {                                  \
            test_fail(__FILE__, __LINE__, "%s", #cond); \
            return;                                     \
        }                                               \
    } while (0)
#define EXPECT_EQ(a, b) \
    (void)test_eq_int((long long)(a), (long long)(b), #a, #b, __FILE__, __LINE__)
#define EXPECT_STR(a, b) (void)test_eq_str((a), (b), __FILE__, __LINE__)
