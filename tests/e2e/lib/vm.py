"""User Mode Linux (Debian's package user-mode-linux): a kernel that is an ordinary program, here one
that has kTLS. Its root is this machine's, read-only, so the tests in it are those of this tree."""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from lib.gateway import ROOT, binary, sanitized

HERE = Path(__file__).resolve().parents[1]
_COMMAND = "linux.uml"


class CannotStart(Exception):
    """Why there is no virtual machine here."""


def _modules():
    for folder in Path("/usr/lib/uml/modules").glob("*/kernel"):
        if (folder / "net/tls/tls.ko").exists():
            return folder
    raise CannotStart("the modules of User Mode Linux are not installed")


def _preloaded():
    """What mends it on CPUs with AMX (tests/vm/xstate.c), if it was built beside the gateway."""
    library = Path(binary()).resolve().parents[1] / "lib/libvm-xstate.so"
    return {"LD_PRELOAD": str(library)} if library.exists() else {}


def _init(folder, pytest_args, env):
    """An executable that the kernel can start by its name alone."""
    path = folder / "init"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    command = shlex.join([sys.executable, str(HERE / "vm/init.py"), *pytest_args])
    path.write_text(f"#!/bin/sh\n{exports}ulimit -n 20000\ncd {shlex.quote(str(ROOT))}\nexec {command}\n")
    path.chmod(0o755)
    return path


def run(folder, *pytest_args, flags="", timeout=300):
    """pytest with these arguments on a kernel with kTLS, gateways with these flags; `folder` is for
    what the machine needs. Gives status, text and tls_stat, or raises CannotStart."""
    if not shutil.which(_COMMAND):
        raise CannotStart(f"{_COMMAND} is not installed (Debian: user-mode-linux)")
    if sanitized("asan", "tsan"):
        raise CannotStart("a sanitizer maps more than User Mode Linux gives a process")
    env = {"PATH": os.environ["PATH"], "HOME": "/run", "TMPDIR": "/run", "LANG": "C.UTF-8",
           "SLUICE_BIN": str(Path(binary()).resolve()), "SLUICE_RUN_FLAGS": flags,
           "SLUICE_VM_MODULES": str(_modules())}
    command = [_COMMAND, "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
               f"init={_init(folder, pytest_args, env)}", "con=null", "con0=fd:0,fd:1", "con1=null",
               "quiet", f"uml_dir={folder}/"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, check=False,
                              env={**os.environ, **_preloaded()})
    except subprocess.TimeoutExpired as e:
        text = (e.stdout or b"").decode("utf-8", "replace")
        raise AssertionError(f"the machine still ran after {timeout} s:\n{text}") from None
    text = done.stdout.decode("utf-8", "replace")
    if "vm: up" not in text:
        raise CannotStart("User Mode Linux does not start: " + text[-400:])
    status = re.search(r"^vm: status (\d+)", text, re.M)
    stat = re.search(r"^vm: tls_stat (.*)", text, re.M)
    assert status and stat, text
    return SimpleNamespace(status=int(status[1]), text=text, tls_stat=json.loads(stat[1]))
