// Error values. A function that can fail returns `enum err` (0 is success) and is must-use;
// what went wrong in words goes to a log line or a finding at the place that knows the words.
#pragma once

enum err {
    OK = 0,
    MORE = 1, // parsers: the input is a valid prefix, feed more bytes
    ERR_NOMEM = -1,
    ERR_LIMIT = -2, // a configured limit or a pool is exhausted
    ERR_IO = -3,    // errno says more
    ERR_SYNTAX = -4,
    ERR_UNSUPPORTED = -5,
    ERR_CLOSED = -6,
    ERR_TIMEOUT = -7,
    ERR_NOT_FOUND = -8,
    ERR_INVALID = -9,
};

#define must_use __attribute__((warn_unused_result))

// A short English name, for logs. Never NULL.
const char *err_name(enum err e);
