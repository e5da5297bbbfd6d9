"""What a container or a careless unit file does to a process before it starts: system calls that
are refused, limits, capabilities taken away. Each is a `preexec_fn` of subprocess."""
import ctypes
import errno
import platform
import resource
import struct

NUMBERS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}  # all machines
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 38, 22, 24
_SECCOMP_MODE_FILTER = 2
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7fff0000
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
CAP_NET_BIND_SERVICE, CAP_IPC_LOCK = 10, 14


def _prctl(*args):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*[ctypes.c_ulong(a) if isinstance(a, int) else a for a in args]) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def seccomp(error, *calls):
    """Those system calls fail with that error; all others work."""
    assert platform.machine() in ("x86_64", "aarch64")
    code = [(_LOAD_WORD, 0, 0, 0)]  # offsetof(struct seccomp_data, nr)
    for i, call in enumerate(calls):
        code.append((_JUMP_EQUAL, len(calls) - i, 0, NUMBERS[call]))
    code += [(_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, _RET_ERRNO | error)]
    raw = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code), ctypes.addressof(raw)))

    def apply():
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)
        assert raw  # alive until here
    return apply


def limits(**limit):
    """limits(NOFILE=64): soft and hard."""
    def apply():
        for name, value in limit.items():
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
    return apply


def without(*capabilities):
    """A program started by root gets none of these."""
    def apply():
        for c in capabilities:
            _prctl(_PR_CAPBSET_DROP, c, 0, 0, 0)
    return apply


def both(*parts):
    def apply():
        for part in parts:
            part()
    return apply


EPERM, ENOSYS = errno.EPERM, errno.ENOSYS
