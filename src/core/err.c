// Names of the error values. Owns nothing; any thread.
#include "core/err.h"

const char *err_name(enum err e)
{
    switch (e) {
    case OK:
        return "ok";
    case MORE:
        return "more input needed";
    case ERR_NOMEM:
        return "out of memory";
    case ERR_LIMIT:
        return "limit reached";
    case ERR_IO:
        return "I/O error";
    case ERR_SYNTAX:
        return "syntax error";
    case ERR_UNSUPPORTED:
        return "unsupported";
    case ERR_CLOSED:
        return "closed";
    case ERR_TIMEOUT:
        return "timed out";
    case ERR_NOT_FOUND:
        return "not found";
    case ERR_INVALID:
        return "invalid";
    }
    return "unknown error";
}
