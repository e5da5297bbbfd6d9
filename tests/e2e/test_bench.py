"""The benchmark's harness: it measures, and it notices wrong answers."""
import argparse
import importlib
import json
import pathlib
import subprocess
import sys

import pytest

from lib.gateway import binary

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A gateway that answers every request with what it was given.
ANSWERS = """
import socketserver, sys

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(65536):
            self.request.sendall(answer)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

answer = open(sys.argv[2], "rb").read()
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
BODY = bytes(ord("a") + i % 26 for i in range(1024))  # the backend's


def head(status, length):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, length)


MODULES = ("processes", "peers", "contenders", "measure", "report", "rows", "run")


@pytest.fixture
def harness(monkeypatch):
    """The modules of bench/, its programs those beside the gateway under test."""
    folder = pathlib.Path(binary()).parent
    if not (folder / "bench-client").exists():
        pytest.skip("the benchmark's programs are not built beside this gateway")
    monkeypatch.setenv("SLUICE_BENCH_BIN", str(folder))
    monkeypatch.syspath_prepend(ROOT / "bench")
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = argparse.Namespace(**{name: importlib.import_module(name) for name in MODULES})
    modules.measure.WALK = 1 << 12  # what the host has left is of no interest here
    yield modules
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def bench(harness, tmp_path):
    return harness.measure.Bench(argparse.Namespace(seconds=0.3, rounds=1, quick=True), tmp_path)


def own(harness):
    """Those that need no installing."""
    return [harness.contenders.Bare(), harness.contenders.Sluice()]


@pytest.mark.parametrize("row", ["h1", "relay", "relay-conn", "relay-bulk", "passthrough", "https",
                                 "handshake", "handshake-rsa", "resume", "bulk"])
def test_row(harness, bench, row):
    """Who needs no installing is measured without an error."""
    results, failed = harness.rows.row_load(row, bench, own(harness))
    assert not failed
    assert "sluice" in results
    for measured, in results.values():
        assert measured["errors"] == 0
        assert measured["per_cpu_s"] > 0


def test_every_row_is_tried(harness):
    rows = set(test_row.pytestmark[0].args[1]) | set(test_row_idle.pytestmark[0].args[1])
    assert rows == set(harness.rows.ROWS)


def answering(tmp_path, answer):
    """A contender that says nothing but `answer`."""
    script, file = tmp_path / "answers.py", tmp_path / "answer"
    script.write_text(ANSWERS)
    file.write_bytes(answer)

    class Constant:
        name = "constant"
        version = "1"
        kinds = ("http",)

        def command(self, job):
            return [sys.executable, script, job.port, file]

    return Constant


@pytest.mark.parametrize("kind, answer", [
    ("status", head(503, 1024) + BODY),
    ("length", head(200, 3) + BODY[:3]),
    ("content", head(200, 1024) + BODY[:1023] + b"?"),
    ("malformed", b"HTTP/2 200\r\n\r\n" + BODY),
], ids=["status", "length", "content", "malformed"])
def test_wrong_answers_are_errors(harness, bench, tmp_path, kind, answer):
    results, failed = harness.rows.row_load("h1", bench, [answering(tmp_path, answer)()])
    assert not failed
    (measured,) = results["constant"]
    assert measured[kind] > 0
    assert measured["errors"] == measured[kind]


def test_right_answers_are_none(harness, bench, tmp_path):
    """The same contender with the right answer: the errors above are the answers', not its own."""
    results, _ = harness.rows.row_load("h1", bench, [answering(tmp_path, head(200, 1024) + BODY)()])
    (measured,) = results["constant"]
    assert measured["errors"] == 0
    assert measured["responses"] > 0


def test_errors_fail_the_run(harness, tmp_path, monkeypatch):
    wrong = answering(tmp_path, head(200, 3) + BODY[:3])
    monkeypatch.setattr(harness.contenders, "ALL", [wrong])
    for module in (harness.run, harness.report):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--seconds", "0.3", "h1"])
    (tmp_path / "bench").mkdir()
    assert harness.run.main() == 1


def test_everyone_has_every_place(harness):
    names = ["a", "b", "c"]
    orders = [harness.rows.in_turn(names, n) for n in range(6)]
    assert all(sorted(order) == names for order in orders)
    for place in range(3):
        assert sorted(order[place] for order in orders) == sorted(names * 2)


def test_cpu_time_is_the_whole_trees(harness):
    """A child's child and a thread beside the first burn time: both are counted."""
    burn = ("import os, threading, time\n"
            "def burn():\n"
            "    while time.thread_time() < .3: pass\n"
            "t = threading.Thread(target=burn); t.start(); t.join()\n"
            "if os.fork() == 0: burn(); os._exit(0)\n"
            "os.wait(); print('done', flush=True); input()\n")
    p = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "done\n"
        assert 0.55 < harness.processes.cpu_s(p.pid) < 2
    finally:
        p.communicate("\n")


@pytest.mark.parametrize("row", ["idle", "idle-tls"])
def test_row_idle(harness, bench, row):
    results, failed = harness.rows.row_idle(row, bench, [harness.contenders.Sluice()])
    assert not failed
    (measured,) = results["sluice"]
    assert measured["errors"] == 0
    assert measured["conns"] == 1000
    assert 0.05 < measured["per_conn_kib"] < 64


def test_quick_run_ends_well(harness):
    """As `./dev bench` calls it; the raw figures are where it says."""
    command = [sys.executable, ROOT / "bench" / "run.py", "--quick", "--seconds", "0.3",
               "--only", "sluice,bare", "h1"]
    p = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stdout + p.stderr
    where = p.stdout.split("raw figures: ")[1].split()[0]
    kept = json.loads((ROOT / where).read_text())
    assert set(kept["h1"]) == {"sluice", "bare"}
    assert "req per CPU-s" in (ROOT / where).with_suffix(".txt").read_text()
