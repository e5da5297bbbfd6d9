"""What the gateway holds while it is treated badly, and that all of it comes back.

`test_hostile.py` shows that single unkind clients cost the others nothing; here it is counted:
memory for each idle connection, every gauge after every kind of failure, reloads under load.
"""
import contextlib
import os
import random
import re
import resource
import select
import socket
import threading
import time
import zlib

import pytest
import yaml

from lib import documents as d
from lib import tls
from lib import tls_raw as raw
from lib.baseline import Baseline, resident
from lib.certificates import Authority
from lib.gateway import sanitized
from lib.http1 import Client, Closed, chunked, reply, request
from lib.waiting import eventually

MEGABYTE = 1 << 20
IDLE = 2000 if sanitized() else 10_000
IDLE_BYTES = 2048  # of ours, for each of them
PATIENCE = 5.0 if sanitized() else 1.0  # what a request may take beside all of this
SOAK_SECONDS = float(os.environ.get("SLUICE_SOAK_SECONDS", "10"))
ROUNDS = 4  # of a byte each
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.fixture
def held(proxy):
    """The plain gateway's baseline, to which it must come back when the test has ended."""
    proxy.fetch()
    baseline = Baseline(proxy.gateway, proxy.upstream)
    yield baseline
    proxy.upstream.reset()
    baseline.returns()


class Bystander:
    """An ordinary client on its own connection, all the while; how long its requests took."""

    def __init__(self, port, target="/bystander"):
        self.port, self.target, self.took, self.wrong = port, target, [], []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            with Client(self.port) as client:
                while not self._stop.wait(0.005):
                    started = time.monotonic()
                    if (r := client.roundtrip(self.target)).status != 200:
                        self.wrong.append(r)
                    self.took.append(time.monotonic() - started)
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the result
            self.wrong.append(e)

    def __enter__(self):
        self._thread.start()
        eventually(lambda: self.took or self.wrong, what="a first request")
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.served(10)
        self._stop.set()
        self._thread.join(15)
        if kind is None:
            assert not self.wrong, self.wrong[:3]
            assert max(self.took) < PATIENCE, max(self.took)

    def served(self, count):
        """Waits for that many more."""
        before = len(self.took)
        eventually(lambda: self.wrong or len(self.took) >= before + count, 15,
                   f"{count} requests of a bystander")


def ok(connection, _seen):
    connection.send(reply(b"ok"))


# ---- idle connections

def test_ten_thousand_idle_connections(module_serve, module_upstream):
    """Each has made a request. What is counted is the process's memory, not the kernel's."""
    module_upstream.reset()
    module_upstream.handler = ok
    gateway = module_serve(d.gateway(), d.virtual_service(d.rule()),
                           *d.backend(module_upstream.port), workers=1)
    for _ in range(20):
        assert gateway.fetch().status == 200
    gateway.wait_metric("downstream_cx_active", 0)
    # Our own end takes a descriptor for each too.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500
    count = min(IDLE, most, int(gateway.metric("downstream_cx_limit")))
    before, pools = resident(gateway), gateway.metric("pool_bytes")
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(gateway.client()))
            assert clients[-1].roundtrip().status == 200
            clients[-1].received.clear()
            clients[-1].discard()
        gateway.wait_metric("downstream_cx_active", count)
        assert gateway.metric("exchanges_active") == gateway.metric("buffers_out") == 0
        each = (resident(gateway) - before) / count
        counted = (gateway.metric("pool_bytes") - pools) / count
        print(f"{count} idle connections: {each:.0f} bytes resident, {counted:.0f} of pools for each idle connection")
        assert 0 < counted <= IDLE_BYTES
        assert sanitized() or each <= IDLE_BYTES
        for client in random.sample(clients, 50):
            assert client.roundtrip().status == 200
    gateway.wait_metric("downstream_cx_active", 0)
    gateway.wait_idle()
    if count < IDLE:
        pytest.skip(f"held only {count} of {IDLE}: open files are limited to {most + 500} (ulimit -n)")


# ---- clients

def test_a_byte_now_and_then(proxy, held):
    """Heads, bodies of both framings, and pauses between them; those who last are served."""
    proxy.upstream.handler = ok
    messages = [request("/slow"), request("/slow", method="POST", body=b"12345678"),
                request("/slow", method="POST", headers=[CHUNKED]) + chunked(b"12345678")]
    clients = []
    for i in range(60):
        data = messages[i % 3]
        at = 3 if i % 2 else len(data) - ROUNDS - 1
        clients.append((proxy.client(), data, at))
    with Bystander(proxy.port) as bystander:
        for client, data, at in clients:
            client.send(data[:at])
        for round_ in range(ROUNDS):
            for client, data, at in clients:
                client.send(data[at + round_:at + round_ + 1])
            bystander.served(100)
            assert sanitized() or held.grown() < 8 * MEGABYTE
        for client, data, at in clients:
            client.send(data[at + ROUNDS:])
            assert client.response().status == 200
            client.close()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_clients_that_never_read_a_large_response(proxy, held, framing):
    head = {"length": b"Content-Length: %d\r\n" % (64 * MEGABYTE),
            "chunked": b"Transfer-Encoding: chunked\r\n", "close": b""}[framing]
    block = b"%x\r\n" % MEGABYTE + b"x" * MEGABYTE + b"\r\n" if framing == "chunked" \
        else b"x" * MEGABYTE
    stalled = []

    def handler(connection, seen):
        if seen.target == "/bystander":
            ok(connection, seen)
            return
        connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        connection.socket.settimeout(0.5)
        try:
            for _ in range(63):
                connection.send(block)
        except TimeoutError:
            stalled.append(connection.number)
            connection.socket.settimeout(60)
            connection.socket.recv(1)  # until the gateway gives up
            connection.close()

    proxy.upstream.handler = handler
    clients = [proxy.client(receive_buffer=4096) for _ in range(16)]
    with Bystander(proxy.port) as bystander:
        for client in clients:
            client.send(request("/large"))
        eventually(lambda: len(stalled) == len(clients), 20, "all upstreams are held back")
        bystander.served(50)
        assert sanitized() or held.grown() < 24 * MEGABYTE
        for i, client in enumerate(clients):
            (client.reset if i % 2 else client.close)()
        bystander.served(20)


VANISH = {  # what a client has sent, and whether it waits for part of the response
    "silent": (b"", False),
    "in the request line": (b"GET /vanish HT", False),
    "in the head": (request("/vanish")[:-2], False),
    "in a body": (request("/vanish", method="POST", headers=[("Content-Length", "1000")])
                  + b"x" * 10, False),
    "in a chunk": (request("/vanish", method="POST", headers=[CHUNKED]) + b"40\r\nxx", False),
    "after the request": (request("/vanish"), False),
    "with others waiting": (request("/vanish") * 5, False),
    "in the response": (request("/vanish"), True),
    "in a tunnel": (request("/tunnel", headers=[("Connection", "upgrade"),
                                                ("Upgrade", "websocket")]), True),
}


@pytest.mark.parametrize("stage", VANISH)
@pytest.mark.parametrize("how", ["reset", "end", "half-closed"])
def test_vanishing_clients(proxy, held, stage, how):
    def handler(connection, seen):
        if seen.target == "/tunnel":
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                            b"Upgrade: websocket\r\n\r\nhello")
            connection.rest()
            connection.close()
        elif seen.target == "/vanish":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
            connection.rest()
            connection.close()
        else:
            ok(connection, seen)

    proxy.upstream.handler = handler
    data, waits = VANISH[stage]
    with Bystander(proxy.port):
        for _ in range(10):
            client = proxy.client()
            if data:
                client.send(data)
            if waits:
                client.head()
            if how == "reset":
                client.reset()
            elif how == "end":
                client.close()
            else:
                client.socket.shutdown(socket.SHUT_WR)
                client.rest()
                client.close()
        assert sanitized() or held.grown() < 24 * MEGABYTE


# ---- upstreams

def test_upstreams_that_never_answer(serve, upstream):
    """The route's timeout answers for them; one without a timeout ends with its client."""
    go = threading.Event()

    def handler(connection, seen):
        if seen.target != "/bystander":
            go.wait(30)
            connection.close()
        else:
            ok(connection, seen)

    upstream.handler = handler
    gateway = serve(d.gateway(), d.virtual_service(
        d.rule({"uri": {"prefix": "/timed"}}, timeout="0.5s"), d.rule(timeout="0s")),
        *d.backend(upstream.port))
    baseline = Baseline(gateway, upstream)
    with Bystander(gateway.port):
        clients = [gateway.client() for _ in range(40)]
        for i, client in enumerate(clients):
            client.send(request("/timed" if i % 2 else "/for-ever", method="POST", body=b"x" * 9999))
        for client in clients[1::2]:
            response = client.response()
            assert (response.status, response.body) == (504, b"upstream request timeout")
        assert gateway.metric("upstream_rq_timeout") == 20
        for client in clients:
            client.reset()
        gateway.wait_metric("downstream_rq_active", 0)
    go.set()
    baseline.returns()


def test_upstreams_that_answer_a_byte_at_a_time(proxy, held):
    go = threading.Event()

    def handler(connection, seen):
        if seen.target == "/bystander":
            ok(connection, seen)
            return
        data = reply(b"abc" * 10, headers=[("x-slow", "yes")])
        for byte in data[:-5]:
            connection.send(bytes([byte]))
        go.wait(30)
        for byte in data[-5:]:
            connection.send(bytes([byte]))

    proxy.upstream.handler = handler
    with Bystander(proxy.port) as bystander:
        clients = [proxy.client() for _ in range(30)]
        for client in clients:
            client.send(request("/slow"))
        bystander.served(100)
        assert sanitized() or held.grown() < 8 * MEGABYTE
        go.set()
        for client in clients:
            assert client.response().body == b"abc" * 10
            client.close()


def blast(client, block=b"x" * 65536, limit=256 * MEGABYTE):
    """Sends until nothing is taken for half a second; how much was."""
    sent = 0
    client.socket.setblocking(False)
    while sent < limit:
        if not select.select([], [client.socket], [], 0.5)[1]:
            break
        sent += client.socket.send(block)
    client.socket.settimeout(10)
    return sent


@pytest.mark.parametrize("kind", ["length", "chunked", "tunnel"])
def test_upstreams_that_never_read(proxy, held, kind):
    """The client is held back; what it can send is what the sockets' buffers take."""
    proxy.upstream.stream_bodies = True
    go = threading.Event()

    def handler(connection, seen):
        if seen.target == "/bystander":
            ok(connection, seen)
            return
        if kind == "tunnel":
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                            b"Upgrade: websocket\r\n\r\n")
        go.wait(30)
        connection.reset()

    proxy.upstream.handler = handler
    heads = {"length": request("/x", method="POST", headers=[("Content-Length", 1 << 40)]),
             "chunked": request("/x", method="POST", headers=[CHUNKED]) + b"fffffffffff\r\n",
             "tunnel": request("/x", headers=[("Connection", "upgrade"), ("Upgrade", "websocket")])}
    clients = [proxy.client() for _ in range(4)]
    with Bystander(proxy.port) as bystander:
        for client in clients:
            client.send(heads[kind])
            if kind == "tunnel":
                assert client.head().status == 101
        sent = [blast(client) for client in clients]
        assert max(sent) < 40 * MEGABYTE, sent
        assert sanitized() or held.grown() < 16 * MEGABYTE
        bystander.served(50)
        go.set()
        for client in clients:
            client.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_half_a_response_is_no_whole_one(proxy, held, framing):
    """To an HTTP/1.0 client a chunked body ends with the connection: then only a reset tells."""
    head = reply(b"", length=False, headers=[("Content-Length", 100) if framing == "length"
                                             else ("Transfer-Encoding", "chunked")])

    def handler(connection, _seen):
        connection.send(head + (b"half" if framing == "length" else b"4\r\nhalf\r\n"))
        connection.close()

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(request("/", version="1.0"))
        if framing == "length":
            client.head()
            assert client.rest() == b"half"
        else:  # whether the head came first or went with the reset
            with pytest.raises(ConnectionResetError):
                while client.socket.recv(100):
                    pass


# ---- everything at once

def document(generation, upstream_ports, leaf):
    """One site, with and without TLS, whose responses name the generation of the documents."""
    say = {"response": {"set": {"x-generation": str(generation)}}}
    plain = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    secure = d.server("*", mode="SIMPLE", serverCertificate=str(leaf.cert),
                      privateKey=str(leaf.key))
    return d.text(d.gateway_of(plain, secure), d.virtual_service(
        d.rule({"uri": {"prefix": "/old"}}, redirect={"uri": "/new"}),
        d.rule({"uri": {"prefix": "/direct"}},
               directResponse={"status": 200, "body": {"string": "direct"}}),
        d.rule({"uri": {"prefix": "/app"}}, headers=say, timeout="20s")),
        *d.backend(*upstream_ports))


class Reloader:
    """Rewrites the documents again and again until it is stopped."""

    def __init__(self, gateway, ports, pause):
        self.gateway, self.ports, self.pause = gateway, ports, pause
        self.generation = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def write(self):
        self.generation += 1
        fresh = self.gateway.folder.parent / "fresh"
        fresh.write_text(document(self.generation, self.ports, self.gateway.leaf))
        os.replace(fresh, self.gateway.file)

    def _run(self):
        while not self._stop.wait(self.pause):
            self.write()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)


class Crowd:
    """Clients of every kind until the time is up; what went wrong with those that behave."""

    def __init__(self, ports, seconds, seed):
        self.ports, self.end, self.seed = ports, time.monotonic() + seconds, seed
        self.wrong, self.served = [], {}
        self.context, self.session = tls.context(), None

    def client(self, rng, **kw):
        """Half of them over TLS, of these half with an older session."""
        if rng.random() < 0.5:
            return Client(self.ports[80], **kw)
        session = self.session if rng.random() < 0.5 else None
        client = tls.Client(self.ports[443], ctx=self.context, session=session, strict=True, **kw)
        if client.socket.session:
            self.session = client.socket.session
        return client

    def expect(self, kind, condition, what):
        if not condition:
            self.wrong.append((kind, what))
        self.served[kind] = self.served.get(kind, 0) + 1

    # Each kind is one connection's life. Those above the line are always answered rightly.

    def get(self, rng):
        with self.client(rng) as c:
            for _ in range(rng.randrange(1, 10)):
                n = rng.choice((0, 10, 3000, 200_000))
                r = c.roundtrip(f"/app/body/{n}")
                self.expect("get", r.status == 200 and r.body == b"b" * n, r)

    def head(self, rng):
        with self.client(rng) as c:
            for _ in range(rng.randrange(1, 5)):
                r = c.roundtrip("/app/body/1000", method="HEAD")
                self.expect("head", r.status == 200 and r.header("content-length") == "1000", r)

    def post(self, rng):
        with self.client(rng) as c:
            for _ in range(rng.randrange(1, 6)):
                body = rng.randbytes(rng.choice((0, 1, 1000, 100_000)))
                if rng.random() < 0.5:
                    r = c.roundtrip("/app/echo", method="POST", body=body)
                else:
                    pieces = [body[:len(body) // 2], body[len(body) // 2:]]
                    c.send(request("/app/echo", method="POST", headers=[CHUNKED])
                           + chunked(*[p for p in pieces if p], trailers=[("x-end", "1")]))
                    r = c.response()
                self.expect("post", r.status == 200 and r.body == body, r)

    def pipeline(self, rng):
        with self.client(rng) as c:
            sizes = [rng.randrange(2000) for _ in range(8)]
            c.send(b"".join(request(f"/app/body/{n}") for n in sizes))
            for n in sizes:
                r = c.response()
                self.expect("pipeline", r.status == 200 and len(r.body) == n, r)

    def local(self, rng):
        with self.client(rng) as c:
            for target, status in (("/none", 404), ("/old", 301), ("/direct", 200)):
                r = c.roundtrip(target)
                self.expect("local", r.status == status, r)

    def websocket(self, rng):
        with self.client(rng) as c:
            c.send(request("/app/tunnel", headers=[("Connection", "Upgrade"),
                                                   ("Upgrade", "websocket")]))
            r = c.head()
            self.expect("websocket", r.status == 101, r)
            for _ in range(rng.randrange(5)):
                data = rng.randbytes(rng.randrange(1, 20_000))
                c.send(data)
                self.expect("websocket", c.exactly(len(data)) == data, "echo")
            if isinstance(c, tls.Client):
                c.socket = c.socket.unwrap()
            else:
                c.socket.shutdown(socket.SHUT_WR)
            c.expect_close()

    def slow(self, rng):
        with self.client(rng) as c:
            for byte in request("/app/body/5"):
                c.send(bytes([byte]))
            self.expect("slow", c.response().body == b"b" * 5, "body")

    def large(self, rng):
        """Down to a client that reads as fast as it can, or a little at a time."""
        n, slow = rng.randrange(1_000_000, 6_000_000), rng.random() < 0.5
        with self.client(rng, receive_buffer=4096 if slow else None) as c:
            c.send(request(f"/app/body/{n // 10 if slow else n}"))
            left = c.head().content_length()
            while left:
                data = c.exactly(min(left, 4096 if slow else 65536))
                self.expect("large", not data.strip(b"b"), data[:100])
                c.discard()
                left -= len(data)
                if slow:
                    time.sleep(0.001)

    def upload(self, rng):
        body = rng.randbytes(rng.randrange(500_000, 3_000_000))
        with self.client(rng) as c:
            for framed in (True, False):
                if framed:
                    c.send(request("/app/crc", method="POST", body=body))
                else:
                    c.send(request("/app/crc", method="POST", headers=[CHUNKED]))
                    for at in range(0, len(body), 50_000):
                        piece = body[at:at + 50_000]
                        c.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                    c.send(b"0\r\n\r\n")
                r = c.response()
                self.expect("upload", r.body == b"%08x" % zlib.crc32(body), r)

    def expects(self, rng):
        with self.client(rng) as c:
            for _ in range(rng.randrange(1, 4)):
                body = rng.randbytes(rng.choice((1, 1000, 100_000)))
                c.send(request("/app/echo", method="POST", headers=[
                    ("Expect", "100-continue"), ("Content-Length", len(body))]))
                r = c.response()
                self.expect("expects", r.status == 100, r)
                c.send(body)
                r = c.response()
                self.expect("expects", r.status == 200 and r.body == body, r)

    # ---- those below end in some other way

    def upstream_reset(self, rng):
        with self.client(rng) as c:
            try:
                r = c.roundtrip(rng.choice(("/app/reset", "/app/reset-in-body")))
                self.expect("upstream_reset", r.status == 503, r)
            except Closed as e:
                self.expect("upstream_reset", b"half" in e.received or not e.received, e)

    def malformed(self, rng):
        with self.client(rng) as c:
            c.send(rng.choice((b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET /\r\n\r\n",
                               request("/", headers=[("Content-Length", "x")]))))
            self.expect("malformed", c.response().status == 400, "served")

    def aborted(self, rng):
        c = self.client(rng)
        data = request("/app/echo", method="POST", body=b"x" * 1000)
        c.send(data[:rng.randrange(len(data))])
        (c.reset if rng.random() < 0.5 else c.close)()
        self.expect("aborted", True, "")

    def impatient(self, rng):
        c = self.client(rng, receive_buffer=4096)
        c.send(request("/app/body/2000000") * rng.randrange(1, 4))
        if rng.random() < 0.5:
            c.head()
        (c.reset if rng.random() < 0.5 else c.close)()
        self.expect("impatient", True, "")

    def no_handshake(self, rng):
        hello = raw.hello()
        data = rng.choice((hello[:rng.randrange(len(hello))], hello, request("/"),
                           hello + raw.record(23, b"x" * 100), rng.randbytes(1000)))
        with Client(self.ports[443]) as c, contextlib.suppress(OSError, Closed):
            c.send(data)
            if data.startswith(hello):
                c.exactly(rng.randrange(100))
            if rng.random() < 0.5:
                c.reset()
        self.expect("no_handshake", True, "")

    KINDS = {get: 6, head: 2, post: 4, pipeline: 2, local: 2, websocket: 2, slow: 1, large: 1,
             upload: 1, expects: 2, upstream_reset: 2, malformed: 1, aborted: 2, impatient: 1,
             no_handshake: 2}

    def _worker(self, number):
        rng = random.Random(self.seed * 1000 + number)
        while time.monotonic() < self.end and len(self.wrong) < 10:
            kind = rng.choices(list(self.KINDS), list(self.KINDS.values()))[0]
            try:
                kind(self, rng)
            except (Closed, AssertionError, OSError) as e:
                self.wrong.append((kind.__name__, e))

    def run(self, clients=10):
        threads = [threading.Thread(target=self._worker, args=(n,), daemon=True)
                   for n in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(max(0, self.end - time.monotonic()) + 30)
            assert not t.is_alive(), "a client is stuck"
        assert not self.wrong, self.wrong[:5]


def crowd_backend(connection, seen):
    _, _, what, *number = seen.target.split("/")
    if seen.header("expect"):
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.request_body(seen)
    connection.discard()
    if what == "body":
        n = int(number[0])
        connection.send(reply(b"" if seen.method == "HEAD" else b"b" * n, length=False,
                              headers=[("Content-Length", n)]))
    elif what == "echo":
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                        + chunked(*([seen.body] if seen.body else []), trailers=[("x-t", "1")]))
    elif what == "crc":
        connection.send(reply(b"%08x" % zlib.crc32(seen.body)))
    elif what == "tunnel":
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                        b"Upgrade: websocket\r\n\r\n" + connection.pending())
        connection.exactly(len(connection.pending()))
        while data := connection.socket.recv(65536):
            connection.send(data)
        connection.close()
    elif what == "reset":
        connection.reset()
    elif what == "reset-in-body":
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.reset()
    else:
        ok(connection, seen)


@pytest.fixture
def site(serve, upstream, tmp_path):
    upstream.handler, upstream.stream_bodies, upstream.remember = crowd_backend, True, False
    leaf = Authority(tmp_path / "authority").issue("server", ["DNS:a.test"])
    gateway = serve(*yaml.safe_load_all(document(0, [upstream.port], leaf)), numbers=(80, 443))
    gateway.leaf = leaf
    eventually(lambda: gateway.fetch("/app/x").status == 200, what="the first documents")
    return gateway


@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_mixed_load_with_reloads_leaks_nothing(site, upstream):
    """SLUICE_SOAK_SECONDS (10) is how long; 1800 before a release."""
    seed = int(os.environ.get("SLUICE_SOAK_SEED", time.time_ns() % 100_000))
    print(f"SLUICE_SOAK_SEED={seed}")
    Crowd(site.ports, 1, seed).run()
    baseline = Baseline(site, upstream)
    reloads = site.metric("config_reload_successes")
    crowd = Crowd(site.ports, SOAK_SECONDS, seed + 1)
    with Reloader(site, [upstream.port], 1.0):
        crowd.run()
    assert set(crowd.served) == {k.__name__ for k in Crowd.KINDS}, crowd.served
    assert site.metric("config_reload_successes") >= reloads + min(3, SOAK_SECONDS // 2)
    assert site.metric("config_reload_failures") == 0
    baseline.returns()
    print(f"{sum(crowd.served.values())} answers: {crowd.served}; "
          f"{site.metric('config_reload_successes') - reloads:.0f} reloads, "
          f"{baseline.grown() / MEGABYTE:.1f} MiB grown")
    assert sanitized() or baseline.grown() < 32 * MEGABYTE


def test_slow_requests_are_held_across_reloads(site, upstream):
    """Under load, with the documents changing every 100 ms: nobody's request fails, and each held
    one ends by the routes it began with, whose snapshot is freed then."""
    go = threading.Event()

    arrived = threading.Event()

    def handler(connection, seen):
        if seen.target == "/app/held":
            arrived.set()
            assert go.wait(60)
        crowd_backend(connection, seen)

    upstream.handler = handler
    baseline = Baseline(site, upstream)
    stop, wrong, served = threading.Event(), [], [0] * 4
    held = []  # (client, generation it began with)

    def client(number):
        try:
            while not stop.is_set():
                with Client(site.port) as c:
                    last = -1
                    for _ in range(40):
                        r = c.roundtrip("/app/x")
                        generation = int(r.header("x-generation"))
                        if r.status != 200 or generation < last:
                            wrong.append((r, last))
                        last = generation
                        served[number] += 1
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the result
            wrong.append(e)

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(4)]
    for t in threads:
        t.start()
    with Reloader(site, [upstream.port], 0.1) as reloader:
        for _ in range(5):
            before = int(site.fetch("/app/x").header("x-generation"))
            held.append((site.client(timeout=60), before))
            held[-1][0].send(request("/app/held"))
            assert arrived.wait(10)
            arrived.clear()
            eventually(lambda: int(site.fetch("/app/x").header("x-generation")) >= before + 3
                       or wrong, 20, "three more reloads")
    stop.set()
    for t in threads:
        t.join(15)
    assert not wrong, wrong[:3]
    assert min(served) > 50 and reloader.generation >= 15, (served, reloader.generation)
    assert site.metric("config_reload_failures") == 0
    assert site.metric("snapshot_pins") == len(held)
    eventually(lambda: 2 <= site.metric("snapshots_alive") <= len(held) + 1,
               what="only the snapshots of held requests are left")
    go.set()
    seen = []
    for c, before in held:
        r = c.response()
        seen.append(int(r.header("x-generation")))
        assert r.status == 200 and before <= seen[-1] <= before + 2, (before, seen[-1])
        c.close()
    assert seen == sorted(seen) and len(set(seen)) >= 3
    baseline.returns()
