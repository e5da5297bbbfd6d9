// One operation in flight in the kernel. It is embedded in its owner, once for each operation
// that can be in flight at the same time; its address is the completion's user_data. The owner
// must not be freed while `inflight` is set: cancel, then wait for `done` without OP_MORE.
#pragma once
#include "core/list.h"
#include <stdbool.h>
#include <stdint.h>

#define OP_MORE (1u << 0)   // a multishot operation that stays armed; more completions will come
#define OP_BUFFER (1u << 1) // `bid` names the first provided buffer that was filled
#define OP_NOTIF (1u << 2)
#define OP_SOCK_NONEMPTY (1u << 3) // more bytes were waiting in the socket

struct op {
    // res: bytes, descriptor or -errno. Called from the worker's loop only, never from inside the
    // call that started the operation.
    void (*done)(struct op *op, int32_t res, uint32_t flags, uint16_t bid);
    bool inflight;
};
