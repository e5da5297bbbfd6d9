"""The start-up self-check: a machine that lacks something is told so in a sentence."""
import os
import re
import signal

import pytest

from lib import documents as d, sandbox
from lib.gateway import sanitized, sluice

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="capabilities are taken away from root")


@pytest.fixture
def start(serve, tmp_path):
    """Runs a gateway that is expected to refuse to start; returns its standard error."""
    ports = serve.ports(80)
    path = tmp_path / "docs.yaml"
    path.write_text(d.text(d.node(ports), d.gateway(), d.virtual_service(
        d.rule(directResponse={"status": 200}))))

    def run(sandboxed, *args):
        result = sluice("run", "-f", path, "--admin", "0", "--status-port", "0", "--metrics-port",
                        "0", *args, preexec_fn=sandboxed)
        assert result.returncode == 1, result
        assert "event=ready" not in result.stderr and result.stdout == ""
        return result.stderr
    return run


def sentence(stderr, item=None):
    """The plain sentence a start was refused with."""
    if item:
        assert re.search(rf"event=selfcheck item={item} status=missing text=", stderr), stderr
    m = re.search(r"^sluice: cannot run here: (.+)$", stderr, re.M)
    assert m, stderr
    return m[1]


@pytest.mark.parametrize("call", ["io_uring_setup", "io_uring_enter", "io_uring_register"])
def test_io_uring_forbidden_by_seccomp(start, call):
    if os.path.exists("/proc/sys/kernel/io_uring_disabled"):
        with open("/proc/sys/kernel/io_uring_disabled") as f:
            assert f.read().strip() == "0", "this machine has io_uring switched off"
    text = sentence(start(sandbox.seccomp(sandbox.EPERM, call)), "io_uring")
    assert text == ("The container's seccomp profile forbids io_uring. Run with a profile that "
                    "allows io_uring_setup, io_uring_enter and io_uring_register (Docker: "
                    "--security-opt seccomp=FILE; Kubernetes: securityContext.seccompProfile).")


def test_io_uring_not_in_the_kernel(start):
    text = sentence(start(sandbox.seccomp(sandbox.ENOSYS, "io_uring_setup")), "io_uring")
    assert text == ("This kernel was built without io_uring, or a container sandbox hides it. Use "
                    "a kernel with CONFIG_IO_URING, or a runtime other than gVisor.")


def test_the_sentence_comes_whatever_the_log_level(start):
    stderr = start(sandbox.seccomp(sandbox.ENOSYS, "io_uring_setup"), "--log-level", "off")
    assert sentence(stderr) and "event=" not in stderr


def test_far_too_few_open_files(start):
    text = sentence(start(sandbox.limits(NOFILE=64)), "open_files")
    assert text == ("Only 64 open files are allowed, too few for any traffic. Raise it: ulimit -n "
                    "65536, or LimitNOFILE=1048576 in the systemd unit.")


def test_few_open_files_for_many_workers(start):
    stderr = start(sandbox.limits(NOFILE=256), "--workers", "200")
    assert re.search(r"event=worker_start_failed worker=\d+ .*Too few open files are allowed\. "
                     r"Raise it: .* or start fewer workers\.", stderr), stderr


@needs_root
@pytest.mark.skipif(sanitized(), reason="a sanitizer locks memory too")
def test_little_lockable_memory(start):
    """None at all: refused by the check. A little: refused when the workers start, after a warning."""
    def confined(limit):
        return sandbox.both(sandbox.without(sandbox.CAP_IPC_LOCK), sandbox.limits(MEMLOCK=limit))
    text = sentence(start(confined(4096)), "io_uring")
    assert text.startswith("There is not enough lockable memory for io_uring. Raise it: ulimit -l "
                           "unlimited, or LimitMEMLOCK=infinity in the systemd unit")
    stderr = start(confined(65536), "--workers", "2")
    assert "64 KiB of memory may be locked; the queues of 2 workers take 512" in stderr
    assert re.search(r"event=worker_start_failed worker=0 .*not enough lockable memory", stderr)


def test_what_is_there_is_said(serve):
    """One line for each item, and a missing nicety is a warning with the way to mend it."""
    gateway = serve(d.gateway(), d.virtual_service(d.rule(directResponse={"status": 200})))
    items = dict(re.findall(r'event=selfcheck item=(\w+) status=(\w+) text="[^"]+\."',
                            gateway.log_text()))
    assert items.keys() >= {"kernel", "io_uring", "open_files", "ktls", "udp_offload"}
    assert items["kernel"] == items["io_uring"] == "ok" and "missing" not in items.values()
    for line in gateway.log.lines:
        if "event=selfcheck" in line:
            assert ("level=info" in line) == ("status=ok" in line), line
    gateway.signal(signal.SIGTERM)
    assert gateway.wait_exit() == 0
