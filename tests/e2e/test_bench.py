"""The benchmark's harness: it measures, and it notices wrong answers."""
import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from lib.gateway import binary

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A gateway that answers 1 KiB requests with a body of the wrong length.
SHORT_ANSWERS = """
import socketserver, sys

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(65536):
            self.request.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 3\\r\\n\\r\\nabc")

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def harness(monkeypatch):
    """bench/run.py as a module, its programs those beside the gateway under test."""
    folder = pathlib.Path(binary()).parent
    if not (folder / "bench-client").exists():
        pytest.skip("the benchmark's programs are not built beside this gateway")
    monkeypatch.setenv("SLUICE_BENCH_BIN", str(folder))
    spec = importlib.util.spec_from_file_location("bench_run", ROOT / "bench" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_row_h1(harness, tmp_path):
    """Both gateways that need no installing are measured without an error."""
    options = argparse.Namespace(seconds=0.3, rounds=1, quick=True)
    bench = harness.Bench(options, tmp_path)
    results, failed = harness.row_h1(bench, [harness.Bare(), harness.Sluice()])
    assert not failed
    for name in ("bare", "sluice"):
        (measured,) = results[name]
        assert measured["errors"] == 0
        assert measured["responses"] > 64
        assert measured["gateway_cpu_s"] > 0


def test_wrong_answers_are_errors(harness, tmp_path):
    script = tmp_path / "short.py"
    script.write_text(SHORT_ANSWERS)

    class Short:
        name = "short"

        def command(self, port, upstream, work):
            return [sys.executable, script, port]

    bench = harness.Bench(argparse.Namespace(seconds=0.3, rounds=1, quick=True), tmp_path)
    results, failed = harness.row_h1(bench, [Short()])
    assert not failed
    assert results["short"][0]["errors"] > 0


def test_quick_run_ends_well(harness):
    """As `./dev bench` calls it; the raw figures are where it says."""
    command = [sys.executable, ROOT / "bench" / "run.py", "--quick", "--only", "sluice,bare", "h1"]
    p = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stdout + p.stderr
    where = p.stdout.split("raw figures: ")[1].split()[0]
    kept = json.loads((ROOT / where).read_text())
    assert set(kept["h1"]) == {"sluice", "bare"}
