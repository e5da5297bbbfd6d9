"""The first process of a virtual machine whose root is the host's, read-only: mounts what a system
has, loads kTLS, runs pytest with the arguments given, prints what came of it, switches off."""
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import kernel  # noqa: E402

_libc = ctypes.CDLL(None, use_errno=True)
_RB_POWER_OFF = 0x4321fedc
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 1, 0x40
# AES-GCM only: the tests load the rest themselves.
MODULES = ("gcm", "ctr", "ghash_generic", "tls")


def mount(kind, where):
    os.makedirs(where, exist_ok=True)
    if _libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {where}")


def loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP | _IFF_RUNNING))


def main():
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/dev/shm"),
                        ("tmpfs", "/tmp"), ("tmpfs", "/run")):
        mount(kind, where)
    loopback()
    for name in MODULES:
        kernel.load(name)
    print("vm: up", os.uname().release, flush=True)
    run = subprocess.run([sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider",
                          "--color=no", "--basetemp", "/run/pytest", *sys.argv[1:]], check=False)
    print("\nvm: tls_stat", json.dumps(kernel.tls_stat()))
    print("vm: status", run.returncode, flush=True)


try:
    main()
finally:
    sys.stdout.flush()
    _libc.reboot(_RB_POWER_OFF)
