"""The access log: a line for each request, right about it, and never in a request's way."""
import json
import os
import re
import signal
import threading
import time

import pytest

from lib import documents as d
from lib.http1 import fetch, reply, request
from lib.waiting import eventually

FORM = ("%REQ(X-N)% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
        "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_CODE_DETAILS%")


@pytest.fixture
def docs(upstream):
    return [d.gateway(), d.virtual_service(
        d.rule({"uri": {"exact": "/slow"}}, timeout="0.3s", retries={"attempts": 0}),
        d.rule({"uri": {"exact": "/ghost"}}, route=[d.to("ghost")]),
        d.rule({"uri": {"prefix": "/app"}}, retries={"attempts": 0})), *d.backend(upstream.port)]


class Lines:
    """Access log lines of FORM by the request's x-n."""

    def __init__(self, read):
        self.read = read

    def wait(self, count):
        rows = eventually(lambda: len(r := self.rows()) >= count and r, 5, f"{count} lines")
        assert len(rows) == count, rows
        return {row[0]: row[1:] for row in rows}

    def rows(self):
        return [line.split(" ") for line in self.read()]


def numbered(n, target="/app", **kw):
    return request(target, headers=[("x-n", str(n)), *kw.pop("headers", [])], **kw)


def test_a_line_for_each_request(serve, docs, upstream):
    """Kept connections, pipelined requests, refused ones, an upload, a client that goes away."""
    upstream.handler = lambda c, r: None if r.target == "/slow" else c.send(reply(b"y" * 10))
    gateway = serve(*docs, args=["--access-log", "-", "--access-log-format", FORM])
    lines = Lines(lambda: gateway.out.lines)
    with gateway.client() as client:
        client.send(b"".join(numbered(n) for n in range(20)))
        for _ in range(20):
            assert client.response().status == 200
        client.send(numbered(20, method="POST", body=b"x" * 7))
        assert client.response().status == 200
        client.send(numbered(21, "/none"))
        assert client.response().status == 404
        client.send(numbered(22, "/ghost"))
        assert client.response().status == 503
        client.send(numbered(23, "/slow"))
        assert client.response().status == 504
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\nx-n: 24\r\nbad header: 1\r\n\r\n")
        assert client.response().status == 400
    with gateway.client() as client:
        client.send(numbered(25, "/slow"))
        upstream.wait_requests(23)
        client.reset()
    seen = lines.wait(26)
    assert all(seen[str(n)][:4] == ["200", "-", "0", "10"] for n in range(20))
    assert seen["20"][:4] == ["200", "-", "7", "10"]
    assert seen["21"][:4] == ["404", "NR", "0", "0"] and seen["21"][-1] == "route_not_found"
    assert seen["22"][:2] == ["503", "NC"] and seen["22"][-1] == "cluster_not_found"
    assert seen["23"][:2] == ["504", "UT"] and seen["23"][-1] == "response_timeout"
    assert seen["24"][:2] == ["400", "DPE"]  # as far as it was read
    assert seen["25"][:2] == ["0", "DC"] and seen["25"][-1] == "downstream_remote_disconnect"


def paced(gateway, upstream, pause):
    """One request whose two halves, and those of its response, are `pause` seconds apart. Each waits
    for the gateway to have seen the one before. Returns the line, and how long it took here, in ms."""
    arrived, first, rest = threading.Event(), threading.Event(), threading.Event()

    def handler(connection, _seen):
        arrived.set()
        first.wait(10)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        rest.wait(10)
        connection.send(b"cd")

    upstream.handler = handler
    lines, began = Lines(lambda: gateway.out.lines), time.monotonic()
    number = len(gateway.out.lines) + 1
    with gateway.client() as client:
        client.send(numbered(number, method="POST", body=b"xy")[:-1])
        gateway.wait_metric("downstream_rq_active", 1)
        time.sleep(pause)  # what is measured are times
        client.send(b"y")
        assert arrived.wait(10)
        time.sleep(pause)
        first.set()
        client.head("POST")
        time.sleep(pause)
        rest.set()
        assert client.exactly(4) == b"abcd"
    return lines.wait(number)[str(number)], (time.monotonic() - began) * 1000


def test_durations(serve, docs, upstream):
    """In ms from the request's first byte: to its last, to the response's first, to its last. The
    gateway's clock stands while it handles what has come, for as long as a busy machine makes that last:
    a pause that this could have shortened by half is repeated, longer."""
    gateway = serve(*docs, args=["--access-log", "-", "--access-log-format", FORM])
    pause = 0.05
    while True:
        pause *= 2
        (code, _, received, sent, total, request_ms, response_ms, _), took = paced(gateway, upstream, pause)
        assert (code, received, sent) == ("200", "2", "4")
        times = [0, int(request_ms), int(response_ms), int(total)]
        assert times == sorted(times) and times[-1] <= took, (times, took)
        if all(b - a >= pause * 500 for a, b in zip(times, times[1:])):
            break
        assert pause < 3, times
    # no upstream, no response duration; a reply of the gateway's own is not waited for
    began, lines = time.monotonic(), len(gateway.out.lines)
    gateway.fetch("/none", headers=[("x-n", "own")])
    row = Lines(lambda: gateway.out.lines).wait(lines + 1)["own"]
    assert row[6] == "-" and int(row[4]) <= (time.monotonic() - began) * 1000


def test_reopen(serve, docs, tmp_path):
    """SIGUSR1 after the file was moved away: nothing is lost, nothing is written twice."""
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    gateway = serve(*docs, args=["--access-log", log, "--access-log-format", FORM])
    n = 0
    for _ in range(5):
        for _ in range(10):
            gateway.fetch("/none", headers=[("x-n", str(n))])
            n += 1
        text = old.read_text() if old.exists() else ""
        # what is written on is the moved file, until the signal
        os.rename(log, tmp_path / "moved")
        gateway.signal(signal.SIGUSR1)
        eventually(log.exists, 5, "a fresh file")
        gateway.fetch("/none", headers=[("x-n", str(n))])
        n += 1
        eventually(lambda: f"{n - 1} 404" in log.read_text(), 5, "written to the fresh file")
        old.write_text(text + (tmp_path / "moved").read_text())
    gateway.stop()
    numbers = [line.split(" ")[0] for line in (old.read_text() + log.read_text()).splitlines()]
    assert sorted(map(int, numbers)) == list(range(n))


def test_the_last_lines_are_written_at_the_end(serve, docs, tmp_path):
    log = tmp_path / "access.log"
    gateway = serve(*docs, args=["--access-log", log, "--access-log-format", FORM])
    with gateway.client() as client:
        for n in range(50):
            client.send(numbered(n, "/none"))
            client.response()
        gateway.stop()
    assert len(log.read_text().splitlines()) == 50


def serving(gateway, count, **kw):
    """That many requests, each of which is answered whatever becomes of its line."""
    for _ in range(count):
        assert gateway.fetch("/none", **kw).status == 404


def test_a_reader_that_does_not_read(serve, docs, tmp_path):
    """The pipe fills, then the ring, then lines are dropped and counted; requests go on. When it is
    read again, what comes are whole lines, and lines and drops add up."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    gateway = serve(*docs, args=["--access-log", fifo, "--access-log-format",
                                 "%REQ(X-LONG)% end"], workers=1)
    long, total = "x" * 9000, 0
    while gateway.metric("access_log_dropped") < 20:
        serving(gateway, 50, headers=[("x-long", long)])
        total += 50
        assert total < 2000
    dropped = gateway.metric("access_log_dropped")
    data = b""

    def drained():
        nonlocal data
        try:
            while chunk := os.read(reader, 1 << 20):
                data += chunk
        except BlockingIOError:
            pass
        return data.count(b"\n") + dropped == total

    eventually(drained, 10, "every line written or counted")
    assert re.fullmatch(rb"(x{4096,9000} end\n)+", data)
    os.close(reader)
    # nobody there any more: EPIPE, counted too
    serving(gateway, 5)
    gateway.wait_metric("access_log_dropped", dropped + 5)
    assert gateway.log.wait(r"event=access_log_failed", 10)
    gateway.stop()


def test_the_end_does_not_wait_for_a_reader(serve, docs, tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    gateway = serve(*docs, args=["--access-log", fifo, "--access-log-format", "%REQ(X-LONG)%"])
    serving(gateway, 40, headers=[("x-long", "x" * 4000)])
    gateway.stop(timeout=10)
    os.close(reader)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk(serve, docs):
    gateway = serve(*docs, args=["--access-log", "/dev/full"])
    serving(gateway, 30)
    gateway.wait_metric("access_log_dropped", 30)
    failed = [line for line in gateway.log.lines if "event=access_log_failed" in line]
    assert 1 <= len(failed) < 10 and "No space left" in failed[0]  # not a line for each


def test_a_pipe_that_nobody_reads_is_refused(tmp_path, serve, docs):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    gateway = serve(*docs, args=["--access-log", fifo], wait=False)
    assert gateway.wait_exit(10) == 1
    assert f"the access log {fifo} cannot be opened" in gateway.log_text()


def test_json_is_json_whatever_is_sent(serve, docs):
    gateway = serve(*docs, args=["--access-log", "-", "--access-log-format", "json"])
    odd = ['"', "\\", "\xe9", "\xff\xfe", "\t", "{}", "</script>", "%s%n"]
    for value in odd:
        gateway.fetch("/none", headers=[("User-Agent", f"a{value}b")])
    eventually(lambda: len(gateway.out.lines) == len(odd))
    rows = [json.loads(line) for line in gateway.out.lines]
    agents = {row["user_agent"] for row in rows}
    assert {f'a{v}b' for v in ('"', "\\", "{}", "</script>", "%s%n", "\t")} <= agents
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert all(row["response_code"] == 404 and row["response_flags"] == "NR" for row in rows)


def test_status_pages_are_not_requests(serve, docs):
    """What the admin ports answer is in no access log and no count."""
    gateway = serve(*docs, args=["--access-log", "-"])
    fetch(gateway.status_port, "/healthz/ready", host="localhost")
    gateway.fetch("/none")
    assert gateway.out.wait("/none", 5)
    gateway.stop()
    assert len(gateway.out.lines) == 1
