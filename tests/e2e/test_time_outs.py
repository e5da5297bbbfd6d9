"""Clients and upstreams that take too long: each of the three times that a connection of a client is
given, set short here. A client that only dribbles is not waited for any longer than a silent one."""
import threading
import time

import pytest

from lib import documents as d
from lib.http1 import Closed, chunked, reply, request

HEAD, IDLE, STALL = 0.8, 1.0, 1.2  # long enough for a busy machine to answer in
SLACK = 0.05  # the gateway's clock stands still during a turn of its loop
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(scope="module")
def quick(module_serve, module_upstream):
    return module_serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(module_upstream.port),
                        workers=1, args=["--head-timeout", f"{HEAD * 1000:.0f}ms", "--idle-timeout",
                                         f"{IDLE * 1000:.0f}ms", "--stall-timeout", f"{STALL * 1000:.0f}ms"])


@pytest.fixture
def gateway(quick, module_upstream):
    module_upstream.reset()
    yield quick
    quick.wait_idle()
    module_upstream.check()


@pytest.fixture
def upstream(module_upstream):
    return module_upstream


class Counted:
    """How much a counter grows meanwhile."""

    def __init__(self, gateway, name, by):
        self.gateway, self.name, self.by = gateway, name, by

    def __enter__(self):
        self.before = self.gateway.metric(self.name)

    def __exit__(self, kind, *_):
        assert kind or self.gateway.metric(self.name) - self.before == self.by


def took(started, least):
    assert time.monotonic() - started > least - SLACK


def test_silent_connection_is_closed_without_a_word(gateway):
    with gateway.client() as client:
        started = time.monotonic()
        client.expect_close()
        took(started, HEAD)


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r\nx: y\r\n\r"])
def test_half_a_head(gateway, upstream, part):
    with Counted(gateway, "downstream_rq_header_timeout", 1), gateway.client() as client:
        started = time.monotonic()
        client.send(part)
        response = client.response()
        took(started, HEAD)
        assert (response.status, response.body) == (408, b"Request Timeout")
        assert response.header("connection") == "close"
        client.expect_close()
    assert not upstream.connections


def test_dribbling_a_head_buys_no_time(gateway, upstream):
    with Counted(gateway, "downstream_rq_header_timeout", 1), gateway.client(timeout=0.02) as client:
        started = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nx: ")
        while True:
            try:
                response = client.response()
                break
            except TimeoutError:  # nothing yet: another byte
                client.send(b"y")
        assert response.status == 408
        took(started, HEAD)
        assert time.monotonic() - started < HEAD + 5
    assert not upstream.connections


def test_second_head_has_its_own_time(gateway):
    """Also one that came together with the request before it."""
    with Counted(gateway, "downstream_rq_header_timeout", 1), gateway.client() as client:
        client.send(request("/") + b"GET /half")
        assert client.response().status == 200
        started = time.monotonic()
        assert client.response().status == 408
        took(started, HEAD - 2 * SLACK)
        client.expect_close()


def test_idle_connection_is_closed(gateway):
    with Counted(gateway, "downstream_cx_idle_timeout", 1), gateway.client() as client:
        for _ in range(3):
            assert client.roundtrip("/").status == 200
        started = time.monotonic()
        client.expect_close()
        took(started, IDLE - 2 * SLACK)
        assert time.monotonic() - started < 2 * IDLE + 5


@pytest.mark.parametrize("head, part", [
    (("Content-Length", "10"), b"half"), (("Transfer-Encoding", "chunked"), b"5\r\nhalf"),
    (("Transfer-Encoding", "chunked"), b"4\r\nhalf\r\n"), (("Transfer-Encoding", "chunked"), chunked(b"half")[:-2] + b"x: ")],
    ids=["length", "chunk", "chunks", "trailers"])
def test_body_that_stops(gateway, upstream, head, part):
    upstream.stream_bodies = True
    gone = threading.Event()

    def handler(connection, seen):
        try:
            connection.request_body(seen)
        except Closed:
            gone.set()
            raise

    upstream.handler = handler
    before = gateway.metric("listener_response_flags_total", flag="SI")
    with gateway.client() as client:
        started = time.monotonic()
        client.send(request("/", method="POST", headers=[head]) + part)
        response = client.response()
        took(started, STALL)
        assert (response.status, response.body) == (408, b"Request Timeout")
        client.expect_close()
    assert gone.wait(5)  # nothing that looks like a whole request was left there
    assert gateway.metric("listener_response_flags_total", flag="SI") == before + 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_upstream_that_never_answers(gateway, upstream, method):
    gone = threading.Event()

    def handler(connection, _seen):
        connection.rest()
        gone.set()
        raise Closed(b"")

    upstream.handler = handler
    with gateway.client() as client:
        client.send(request("/", method=method))
        response = client.response(method)
        assert (response.status, response.content_length()) == (504, len("Gateway Timeout"))
        client.expect_close()
    assert gone.wait(5)


def test_upstream_that_never_answers_a_later_request(serve, upstream):
    """Between requests a connection may be idle for longer than an answer may take: that time does not
    count for the request that ends it."""
    upstream.reset()
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port), workers=1,
                    args=["--idle-timeout", "60s", "--stall-timeout", "300ms"])
    with gateway.client(timeout=10) as client:
        assert client.roundtrip("/").status == 200
        time.sleep(0.8)  # until the connection's timer has found it idle, and stands a minute away
        upstream.handler = lambda c, r: c.rest()
        started = time.monotonic()
        assert client.roundtrip("/").status == 504
        took(started, 0.3)
        client.expect_close()


def test_response_that_stops(gateway, upstream):
    """Its head is with the client already: cut off, never completed."""
    upstream.handler = lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    with gateway.client() as client:
        client.send(request("/"))
        assert client.head().status == 200
        with pytest.raises(Closed) as cut:
            client.chunked_body(client)
        assert b"0\r\n\r\n" not in cut.value.received
    assert upstream.connections[0].ended.wait(5)


def test_client_that_does_not_read(gateway, upstream):
    large = reply(b"x" * 50_000_000)  # made before the clock runs
    upstream.handler = lambda c, r: c.send(large)
    with gateway.client(receive_buffer=4096) as client:
        client.send(request("/"))
        assert client.head().status == 200
        assert upstream.connections[0].ended.wait(10)
        assert len(client.rest()) < 50_000_000


@pytest.mark.parametrize("size", [100_000, 50_000_000], ids=["pipelined", "large"])
def test_client_that_writes_but_does_not_read(gateway, upstream, size):
    """What it sends is no sign of life as long as it takes no response: in the middle of a large one, or
    between small ones that wait for it."""
    body = reply(b"x" * size)
    upstream.handler = lambda c, r: c.send(body)
    with gateway.client(receive_buffer=4096) as client:
        client.send(request("/") * 100)
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() < started + 2 * STALL + 5:
                client.send(b"G")
                gateway.metric("downstream_cx_active")  # to send no faster than this is answered
        took(started, STALL)


def test_slow_is_not_stopped(gateway, upstream):
    """Whoever moves at all is waited for, however long it takes altogether."""
    pieces, turn = 6, threading.Semaphore(0)

    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % pieces)
        for _ in range(pieces):
            assert not turn.acquire(timeout=STALL / 3)  # that is the pace
            connection.send(b"x")

    upstream.handler = handler
    started = time.monotonic()
    assert gateway.fetch().body == b"x" * pieces
    took(started, 1.5 * STALL)


def test_idle_tunnel_is_closed(gateway, upstream):
    ended = threading.Event()

    def handler(connection, _seen):
        connection.send(SWITCH)
        connection.rest()
        ended.set()
        raise Closed(b"")

    upstream.handler = handler
    with gateway.client() as client:
        client.send(request("/", headers=UPGRADE))
        assert client.response().status == 101
        started = time.monotonic()
        client.send(b"once")
        client.expect_close()
        took(started, IDLE)
    assert ended.wait(5)
