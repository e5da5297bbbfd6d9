// check() states an invariant and stays in release builds; dcheck() is for the costly ones and
// exists only where SLUICE_DEBUG is defined. Neither is ever applied to input from outside.
#pragma once

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

__attribute__((noreturn)) void check_failed(const char *file, int line, const char *expr);

#define check(cond)                                  \
    do {                                             \
        if (unlikely(!(cond)))                       \
            check_failed(__FILE__, __LINE__, #cond); \
    } while (0)

#ifdef SLUICE_DEBUG
#define dcheck(cond) check(cond)
#else
#define dcheck(cond) ((void)sizeof(!!(cond)))
#endif
