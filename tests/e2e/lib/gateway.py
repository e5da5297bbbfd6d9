"""The gateway as a child process: its documents, its log, its end."""
import pathlib
import functools
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from lib import http1
from lib.metrics import Metrics
from lib.ports import ReservedPort
from lib.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
_SANITIZER = re.compile(r"Sanitizer|runtime error:|panic:|check failed|dcheck|assertion", re.I)
_LOCAL_TIMEOUT = 20.0
# Flags for every gateway of a run, in front of a test's own.
_MORE = os.environ.get("SLUICE_RUN_FLAGS", "").split()


def binary():
    return os.environ.get("SLUICE_BIN") or str(ROOT / "zig-out/bin/sluice")


@functools.cache
def sanitized(*kinds):
    """Whether the binary is instrumented (in one of these ways: "asan", "tsan", "ubsan"): memory and time are then
    not what they will be."""
    path = Path(binary())
    data = path.read_bytes() if path.exists() else b""
    marks = {"asan": b"__asan_init", "tsan": b"__tsan_init", "ubsan": b"__ubsan_handle"}
    return any(marks[kind] in data for kind in kinds or marks)


def sluice(*args, timeout=_LOCAL_TIMEOUT, **kw):
    """Runs one command of the binary to its end."""
    run = subprocess.run([binary(), *map(str, args)], capture_output=True, text=True,
                         timeout=timeout, check=False, **kw)
    assert not _SANITIZER.search(run.stderr or ""), run.stderr
    return run


class _Lines(threading.Thread):
    """Collects a pipe's lines and lets others wait for one."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.lines, self.ended = [], False
        self._pipe, self._changed = pipe, threading.Condition()
        self.start()

    def run(self):
        for raw in self._pipe:
            with self._changed:
                self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait(self, pattern, timeout, start=0):
        """The first match in a line from number `start` on; None when the pipe or time ends."""
        regex = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                while start < len(self.lines):
                    if m := regex.search(self.lines[start]):
                        return m
                    start += 1
                left = deadline - time.monotonic()
                if self.ended or left <= 0 or not self._changed.wait(left):
                    return None


class Gateway:
    """A running `sluice run`. `paths`: (namespace or None, file or folder) as on the command line;
    ports maps each server port of the documents to the port that is bound for it."""

    def __init__(self, paths, ports, args=(), workers=2, env=None, preexec=None):
        self.ports, self._reserved = ports, [ReservedPort(), ReservedPort()]
        self.status_port, self.metrics_port = (r.number for r in self._reserved)
        command = [binary(), "run"]
        for namespace, path in paths:
            command += ["-n", namespace] if namespace else []
            command += ["-f", str(path)]
        command += ["--workers", str(workers)] if workers else []  # None: the default
        command += ["--admin", "127.0.0.1:0",
                    "--status-port", str(self.status_port),
                    "--metrics-port", str(self.metrics_port), *_MORE, *map(str, args)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, **(env or {})}, preexec_fn=preexec)
        self.out, self.log = _Lines(self.process.stdout), _Lines(self.process.stderr)
        self.stopped = False

    # ---- life

    def wait_ready(self):
        if not self.log.wait(r"\bevent=ready\b", _LOCAL_TIMEOUT):
            self.kill()
            raise AssertionError("the gateway did not become ready:\n" + self.log_text())
        m = self.log.wait(r"event=listening name=admin addr=(\S+)", 1)
        self.admin = m[1] if m else None
        return self

    @property
    def port(self):
        return self.ports[80]

    @property
    def pid(self):
        return self.process.pid

    def log_text(self):
        return "\n".join(self.log.lines)

    def signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, timeout=_LOCAL_TIMEOUT):
        status = self.process.wait(timeout)
        self.log.join(5)
        self.out.join(5)
        self.stopped = True
        self._release()
        return status

    def stop(self, timeout=_LOCAL_TIMEOUT):
        """SIGTERM, a drained end, exit 0, nothing said by a sanitizer or a failed check."""
        if self.stopped:
            return
        self.signal(signal.SIGTERM)
        try:
            status = self.wait_exit(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {timeout} s after SIGTERM:\n{self.log_text()}")
        assert status == 0, f"exit {status}:\n{self.log_text()}"
        self.check_log()

    def check_log(self):
        bad = [line for line in self.log.lines if _SANITIZER.search(line)]
        assert not bad, "\n".join(self.log.lines[-200:])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.wait_exit()

    def _release(self):
        for r in self._reserved:
            r.release()
        self._reserved = []

    # ---- talking to it

    def fetch(self, target="/", **kw):
        return http1.fetch(self.port, target, **kw)

    def client(self, **kw):
        return http1.Client(self.port, **kw)

    # ---- looking inside

    def metrics(self):
        response = http1.fetch(self.metrics_port, "/stats/prometheus", host="localhost")
        assert response.status == 200, response
        return Metrics(response.body.decode())

    def metric(self, name, **labels):
        return self.metrics().get("sluice_" + name, **labels)

    def cpu_seconds(self):
        """What the gateway's process has spent, in user and in kernel mode."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_metric(self, name, value, timeout=5.0):
        """Waits until that counter or gauge has the value."""
        last = []
        try:
            eventually(lambda: last.append(self.metric(name)) or last[-1] == value, timeout)
        except AssertionError:
            raise AssertionError(f"sluice_{name} is {last[-1]}, not {value}, after {timeout} s")

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1]) * 1024

    def wait_idle(self, timeout=10.0):
        """All that a request or a connection takes has been given back. Returns what was leaked."""
        gauges = ("downstream_cx_active", "downstream_rq_active", "exchanges_active",
                  "snapshot_pins", "buffers_out", "tunnel_active")
        left = {}

        def none_left():
            metrics = self.metrics()
            left.clear()
            left.update({g: v for g in gauges if (v := metrics.get("sluice_" + g))})
            return not left

        try:
            eventually(none_left, timeout)
        except AssertionError:
            raise AssertionError(f"leaked: {left}")
