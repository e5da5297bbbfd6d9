"""Clients that mean harm or are just slow. They cost the others nothing, and leave nothing behind."""
import contextlib
import os
import random
import threading
import time

import pytest

from lib import documents as d
from lib.gateway import sanitized
from lib.http1 import Client, Closed, chunked, reply, request

PATIENCE = 5.0 if sanitized() else 1.0  # what a request may take beside all of this
IDLE = 2000
SOAK_SECONDS = float(os.environ.get("SLUICE_SOAK_SECONDS", "10"))


def typical(gateway, count=50):
    """The slowest of some requests on fresh connections, in seconds."""
    worst = 0.0
    for _ in range(count):
        started = time.monotonic()
        assert gateway.fetch("/").status == 200
        worst = max(worst, time.monotonic() - started)
    return worst


@pytest.fixture
def gateway(proxy):
    proxy.gateway.fetch("/")
    yield proxy.gateway
    proxy.gateway.wait_idle()


def test_one_byte_at_a_time(gateway):
    """A hundred clients that dribble their heads."""
    clients = [gateway.client() for _ in range(100)]
    data = request("/", headers=[("x", "y" * 20)])
    for byte in data[:40]:
        for client in clients:
            client.send(bytes([byte]))
    assert typical(gateway) < PATIENCE
    for client in clients[:50]:
        client.send(data[40:])
        assert client.response().status == 200
    for client in clients:
        client.close()


def test_clients_that_never_read(gateway, proxy):
    """They ask for as much as they can and take none of it."""
    proxy.upstream.handler = lambda c, r: c.send(reply(b"x" * 1_000_000))
    clients = [gateway.client(receive_buffer=4096) for _ in range(20)]
    before = gateway.rss()
    for client in clients:
        client.send(request("/") * 50)
    proxy.upstream.wait_requests(20)
    assert typical(gateway, 20) < PATIENCE
    assert sanitized() or gateway.rss() - before < 32 << 20
    for client in clients:
        client.close()


def test_clients_that_send_and_never_stop(gateway, proxy):
    """Pipelined requests without end, while the first one waits."""
    go = threading.Event()

    def handler(connection, seen):
        if seen.target == "/wait":
            go.wait(30)
        connection.send(reply(b"x"))

    proxy.upstream.handler = handler
    before = gateway.rss()
    with gateway.client(timeout=0.5) as client:
        client.send(request("/wait"))
        with pytest.raises(TimeoutError):  # it is not read any further
            for _ in range(400):
                client.send(request("/more", headers=[("x", "y" * 1000)]) * 100)
        assert typical(gateway, 20) < PATIENCE
        assert sanitized() or gateway.rss() - before < 16 << 20
        go.set()


def test_vanishing_clients(gateway, proxy):
    """Reset at every stage: silent, half a head, half a body, waiting, reading, in a tunnel."""
    proxy.upstream.handler = lambda c, r: c.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
    stages = [b"", b"GET / HT", request("/")[:-2], request("/"), request("/") * 3,
              request("/", method="POST", headers=[("Content-Length", "1000")]) + b"x" * 10,
              request("/", method="POST", headers=[("Transfer-Encoding", "chunked")]) + chunked(b"x" * 99)[:20]]
    for i in range(140):
        client = gateway.client()
        client.send(stages[i % len(stages)])
        if i % 3 == 0 and b"\r\n\r\n" in stages[i % len(stages)] and stages[i % len(stages)][:3] == b"GET":
            client.head()
        client.reset()
    proxy.upstream.handler = lambda c, r: c.send(reply(b"x"))
    assert typical(gateway) < PATIENCE


def test_idle_connections(gateway):
    before = gateway.rss()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(IDLE)]
        for client in clients[::2]:  # half of them have been used
            assert client.roundtrip("/").status == 200
        gateway.wait_metric("downstream_cx_active", IDLE)
        assert gateway.metric("buffers_out") == 0  # a quiet connection holds none
        assert gateway.metric("exchanges_active") == 0
        assert typical(gateway) < PATIENCE
        each = (gateway.rss() - before) / IDLE
        assert sanitized() or each < 4096, f"{each:.0f} bytes each"
        assert clients[1].roundtrip("/").status == 200
    gateway.wait_metric("downstream_cx_active", 0)


# ---- everything at once

class Soak:
    """Clients of all kinds until the time is up; counts what went wrong with the honest ones."""

    def __init__(self, gateway, seconds, seed):
        self.gateway, self.end, self.seed = gateway, time.monotonic() + seconds, seed
        self.wrong, self.served = [], 0

    def honest(self, rng):
        with Client(self.gateway.port) as client:
            for _ in range(rng.randrange(1, 20)):
                kind = rng.randrange(4)
                body = rng.randbytes(rng.choice((0, 1, 1000, 100_000)))
                if kind == 0:
                    response = client.roundtrip("/")
                elif kind == 1:
                    response = client.roundtrip("/", method="POST", body=body)
                elif kind == 2:
                    client.send(request("/", method="POST", headers=[("Transfer-Encoding", "chunked")])
                                + chunked(*([body] if body else [])))
                    response = client.response()
                else:
                    client.send(request("/") * 5)
                    response = [client.response() for _ in range(5)][-1]
                expected = len(body) if kind in (1, 2) else 0
                if response.status != 200 or int(response.header("x-length")) != expected:
                    self.wrong.append(response)
                self.served += 1

    def rude(self, rng):
        client = Client(self.gateway.port)
        data = request("/", method="POST", body=b"x" * 1000)
        client.send(data[:rng.randrange(len(data))])
        (client.reset if rng.random() < 0.5 else client.close)()

    def malformed(self, rng):
        with Client(self.gateway.port) as client:
            client.send(rng.choice((b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET /\r\n\r\n",
                                    request("/", headers=[("Content-Length", "x")]))))
            if client.response().status != 400:
                self.wrong.append("a malformed request was served")

    def impatient(self, rng):
        client = Client(self.gateway.port)
        client.send(request("/big"))
        if rng.random() < 0.5:
            client.head()
        client.reset()

    def worker(self, number):
        rng = random.Random(self.seed * 1000 + number)
        while time.monotonic() < self.end:
            kind = rng.choices((self.honest, self.rude, self.malformed, self.impatient), (5, 2, 1, 1))[0]
            try:
                kind(rng)
            except (Closed, AssertionError, OSError) as e:
                self.wrong.append((kind.__name__, e))

    def run(self, clients=8):
        threads = [threading.Thread(target=self.worker, args=(n,), daemon=True) for n in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(self.end - time.monotonic() + 30)
            assert not t.is_alive(), "a client is stuck"


@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_mixed_load_leaks_nothing(serve, upstream):
    def handler(connection, seen):
        if seen.target == "/big":
            connection.send(reply(b"x" * 300_000))
        elif random.random() < 0.05:
            connection.send(reply(headers=[("x-length", len(seen.body)), ("Connection", "close")]))
            connection.close()
        else:
            connection.send(reply(headers=[("x-length", len(seen.body))]))

    upstream.handler = handler
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port))
    seed = int(os.environ.get("SLUICE_SOAK_SEED", time.time_ns() % 100_000))
    print(f"SLUICE_SOAK_SEED={seed}")
    Soak(gateway, min(1, SOAK_SECONDS), seed).run()
    warm = gateway.rss()
    soak = Soak(gateway, SOAK_SECONDS, seed + 1)
    soak.run()
    assert not soak.wrong, soak.wrong[:5]
    assert soak.served > 100
    gateway.wait_idle()
    assert sanitized() or gateway.rss() - warm < 16 << 20
