// Preloaded into User Mode Linux (LD_PRELOAD), see tests/e2e/lib/vm.py. Linux 6.1's sets the vector
// registers of its processes from a buffer of fixed size, which the host refuses (EFAULT) where its
// CPU has more state than fits, AMX for instance. Here the rest is filled in with what there is.
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long set_state(pid_t pid, void *which, struct iovec *given)
{
    static char state[65536]; // the caller has one thread
    struct iovec whole = {state, sizeof(state)};
    if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, which, &whole) == 0 &&
        given->iov_len < whole.iov_len) {
        memcpy(state, given->iov_base, given->iov_len);
        given = &whole;
    }
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, which, given);
}

// As libc's: the system call has the word that is peeked written to where `data` points.
long ptrace(enum __ptrace_request request, ...)
{
    va_list ap;
    va_start(ap, request);
    pid_t pid = va_arg(ap, pid_t);
    void *addr = va_arg(ap, void *), *data = va_arg(ap, void *);
    va_end(ap);
    if (request == PTRACE_SETREGSET && addr == (void *)NT_X86_XSTATE)
        return set_state(pid, addr, data);
    if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
        return syscall(SYS_ptrace, request, pid, addr, data);
    long word, rc = syscall(SYS_ptrace, request, pid, addr, &word);
    return rc < 0 ? rc : word;
}
