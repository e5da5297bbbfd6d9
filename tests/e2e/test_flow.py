"""Bodies larger than what the gateway may keep: throughput and back-pressure, both ways."""
import os
import socket
import threading

import pytest

from lib import documents as d
from lib.gateway import sanitized
from lib.http1 import chunked, reply, request
from lib.waiting import eventually, settled

MEGABYTE = 1 << 20
LARGE = 100 * MEGABYTE
BLOCK = bytes(range(256)) * 1024  # 256 KiB
BLOCKS = LARGE // len(BLOCK)
# What the kernel may hold of a stalled 100 MiB: two hops' send and receive buffers.
STALLED = 40 * MEGABYTE
LONG = int(os.environ.get("SLUICE_SOAK_SECONDS", "10")) >= 60  # then 5 GiB, which 32 bits do not hold
CHUNKED = [("Transfer-Encoding", "chunked")]


@pytest.fixture
def memory(proxy):
    """Fails when the gateway has grown by more than a handful of buffers. An instrumented one's
    size says nothing."""
    proxy.fetch()
    before = proxy.gateway.rss()

    def check(limit=24 * MEGABYTE):
        grown = proxy.gateway.rss() - before
        assert sanitized() or grown < limit, f"grew by {grown / MEGABYTE:.1f} MiB"
    return check


def read_blocks(stream):
    """Reads the whole large body, and checks every byte of it."""
    for _ in range(BLOCKS):
        assert stream.exactly(len(BLOCK)) == BLOCK
        stream.discard()


def read_chunks(stream):
    total = 0
    while size := int(stream.until(b"\r\n"), 16):
        stream.exactly(size)
        assert stream.exactly(2) == b"\r\n"
        stream.discard()
        total += size
    assert stream.until(b"\r\n") == b""
    assert total == LARGE


class Sender:
    """Sends the large body to a stream, counting what the kernel has taken."""

    def __init__(self, stream, block=BLOCK):
        self.stream, self.block, self.sent = stream, block, 0

    def run(self):
        for _ in range(BLOCKS):
            self.stream.send(self.block)
            self.sent += len(BLOCK)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_large_download(proxy, memory, framing):
    fields = {"length": b"Content-Length: %d\r\n" % LARGE,
              "chunked": b"Transfer-Encoding: chunked\r\n", "close": b""}[framing]

    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        Sender(connection, chunked(BLOCK)[:-5] if framing == "chunked" else BLOCK).run()
        connection.send(b"0\r\n\r\n" if framing == "chunked" else b"")
        if framing == "close":
            connection.close()

    proxy.upstream.handler = handler
    with proxy.client(timeout=60) as client:
        client.send(request("/"))
        head = client.head()
        if framing == "length":
            assert head.content_length() == LARGE
            read_blocks(client)
        else:
            assert head.chunked()
            read_chunks(client)
    memory()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_upload(proxy, memory, framing):
    proxy.upstream.stream_bodies = True

    def handler(connection, _seen):
        (read_blocks if framing == "length" else read_chunks)(connection)
        connection.send(reply(b"done"))

    proxy.upstream.handler = handler
    with proxy.client(timeout=60) as client:
        if framing == "length":
            client.send(request("/", method="POST", headers=[("Content-Length", LARGE)]))
            Sender(client).run()
        else:
            client.send(request("/", method="POST", headers=CHUNKED))
            Sender(client, chunked(BLOCK)[:-5]).run()
            client.send(b"0\r\n\r\n")
        assert client.response().body == b"done"
    memory()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_there_and_back(proxy, memory, framing):
    """256 MiB at once in both directions through one exchange: the upstream echoes while it reads."""
    blocks = 256 * MEGABYTE // len(BLOCK)
    head = [("Content-Length", blocks * len(BLOCK))] if framing == "length" else CHUNKED
    block = BLOCK if framing == "length" else chunked(BLOCK)[:-5]
    proxy.upstream.stream_bodies = True

    def echo(connection, _seen):
        connection.send(b"HTTP/1.1 200 OK\r\n%s: %s\r\n\r\n" % (head[0][0].encode(), str(head[0][1]).encode()))
        if framing == "length":
            for _ in range(blocks):
                connection.send(connection.exactly(len(BLOCK)))
                connection.discard()
            return
        while size := int(connection.until(b"\r\n"), 16):
            connection.send(b"%x\r\n" % size + connection.exactly(size + 2))
            connection.discard()
        connection.send(b"0\r\n" + connection.exactly(2))

    def upload(client):
        for _ in range(blocks):
            client.send(block)
        client.send(b"" if framing == "length" else b"0\r\n\r\n")

    proxy.upstream.handler = echo
    with proxy.client(timeout=60) as client:
        client.send(request("/", method="POST", headers=head))
        sender = threading.Thread(target=upload, args=(client,), daemon=True)
        sender.start()
        client.head()
        if framing == "length":
            for _ in range(blocks):
                assert client.exactly(len(BLOCK)) == BLOCK
                client.discard()
        else:
            total = 0
            while size := int(client.until(b"\r\n"), 16):
                piece = client.exactly(size + 2)[:-2]
                assert piece == (BLOCK * 2)[total % 256:total % 256 + size]
                client.discard()
                total += size
            assert total == blocks * len(BLOCK) and client.until(b"\r\n") == b""
        sender.join(10)
        assert client.pending() == b""
    memory()


def test_slow_client_holds_a_tunnel_back(proxy, memory):
    """The upstream floods a tunnel whose client does not read: it has to wait, and nothing is lost."""
    senders = []

    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        senders.append(Sender(connection))
        senders[0].run()
        connection.close()

    proxy.upstream.handler = handler
    with proxy.client(timeout=60, receive_buffer=65536) as client:
        client.send(request("/", headers=[("Connection", "upgrade"), ("Upgrade", "websocket")]))
        assert client.response().status == 101
        assert 0 < settled(lambda: senders[0].sent if senders else 0) < STALLED
        memory()
        read_blocks(client)
        client.expect_close()
    proxy.gateway.wait_metric("tunnel_active", 0)


def read_exactly(stream, total):
    """Reads so much of BLOCK after BLOCK into one buffer, and checks every byte."""
    buffer = bytearray(len(BLOCK))
    view = memoryview(buffer)
    left = stream.pending()
    stream.exactly(len(left))
    view[:len(left)] = left
    filled = len(left)
    for _ in range(total // len(BLOCK)):
        while filled < len(BLOCK):
            n = stream.socket.recv_into(view[filled:])
            assert n, "cut off"
            filled += n
        assert buffer == BLOCK
        filled = 0


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_gigabyte(proxy, memory, way):
    """Its size is neither kept nor counted in 32 bits: RSS stays where it was, all the way through."""
    total = (64 if sanitized() else 1024 + 4096 * LONG) * MEGABYTE
    proxy.upstream.stream_bodies = True

    def send(stream):
        for i in range(total // len(BLOCK)):
            stream.send(BLOCK)
            if i % 1024 == 0:
                memory()

    def handler(connection, _seen):
        if way == "down":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            send(connection)
        else:
            read_exactly(connection, total)
            connection.send(reply(b"done"))

    proxy.upstream.handler = handler
    with proxy.client(timeout=60) as client:
        if way == "down":
            client.send(request("/"))
            assert client.head().content_length() == total
            read_exactly(client, total)
        else:
            client.send(request("/", method="POST", headers=[("Content-Length", total)]))
            send(client)
            assert client.response().body == b"done"
        assert proxy.upstream.faults == []
        proxy.upstream.handler = lambda c, r: c.send(reply(b"next"))
        assert client.roundtrip("/").body == b"next"
    memory()


def test_slow_client_holds_the_upstream_back(proxy, memory):
    senders = []

    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        senders.append(Sender(connection))
        senders[0].run()

    proxy.upstream.handler = handler
    with proxy.client(timeout=60, receive_buffer=65536) as client:
        client.send(request("/"))
        client.head()
        stalled = settled(lambda: senders[0].sent if senders else 0)
        assert 0 < stalled < STALLED
        memory()
        proxy.upstream.handler = lambda c, r: c.send(reply(b"unharmed"))
        assert proxy.fetch().body == b"unharmed"
        read_blocks(client)
    memory()


def test_slow_upstream_holds_the_client_back(proxy, memory):
    proxy.upstream.stream_bodies = True
    go = threading.Event()

    def handler(connection, seen):
        if seen.method == "POST":
            assert go.wait(60)
            read_blocks(connection)
        connection.send(reply(b"done"))

    proxy.upstream.handler = handler
    with proxy.client(timeout=60) as client:
        client.send(request("/", method="POST", headers=[("Content-Length", LARGE)]))
        sender = Sender(client)
        thread = threading.Thread(target=sender.run, daemon=True)
        thread.start()
        assert 0 < settled(lambda: sender.sent) < STALLED
        memory()
        assert proxy.fetch().body == b"done"
        go.set()
        assert client.response().body == b"done"
        thread.join(10)
        assert sender.sent == LARGE
    memory()


@pytest.mark.parametrize("answers", ["direct", "upstream"])
def test_pipelined_responses_wait_for_their_client(serve, upstream, answers):
    """Thousands of small requests at once, and nothing read: few of them are served before it is."""
    pieces = {x: x.encode() * 50_000 for x in "ab"}
    asked = ["ab"[i * i % 7 < 3] for i in range(3000)]
    rules = [d.rule({"uri": {"prefix": f"/{x}"}}, directResponse={"status": 200, "body": {"string": p.decode()}})
             for x, p in pieces.items()] if answers == "direct" else [d.rule()]
    upstream.handler = lambda c, r: c.send(reply(pieces[r.target[1]]))
    gateway = serve(d.gateway(), d.virtual_service(*rules), *d.backend(upstream.port), workers=1)
    with gateway.client(timeout=60, receive_buffer=65536) as client:
        client.send(b"".join(request(f"/{x}") for x in asked))
        served = settled(lambda: gateway.metric("downstream_rq_total"))
        assert 0 < served * 50_000 < STALLED
        assert gateway.metric("output_chunks") * 4096 < MEGABYTE
        assert len(upstream.requests) == (0 if answers == "direct" else served)
        assert gateway.fetch("/b").body == pieces["b"]
        for x in asked:
            assert client.exactly(client.head().content_length()) == pieces[x]
            client.discard()
        assert client.roundtrip("/a").body == pieces["a"]
    gateway.wait_idle()


def test_a_client_that_half_closes_gets_what_it_was_answered(serve, upstream):
    body = "x" * 1_000_000
    gateway = serve(d.gateway(), d.virtual_service(d.rule(directResponse={"status": 200, "body": {"string": body}})),
                    *d.backend(upstream.port), workers=1)
    with gateway.client(timeout=60, receive_buffer=65536) as client:
        client.send(request("/") * 100)
        served = settled(lambda: gateway.metric("downstream_rq_total"))
        assert 0 < served < 100  # the next one waits until some of them are read
        client.socket.shutdown(socket.SHUT_WR)
        got = client.rest()
        assert len(got) % (len(got.partition(b"\r\n\r\n")[0]) + 4 + len(body)) == 0
        assert len(got) // len(body) >= served
    gateway.wait_idle()


@pytest.mark.parametrize("end", ["half-close", "close"])
def test_what_a_client_sent_into_a_tunnel_arrives_after_its_end(proxy, end):
    """The upstream has read nothing yet when the exchange is over: it has ended its own side before, or it
    speaks to a client that is gone. What the gateway had queued for it comes all the same."""
    metric, piece, sent, arrived, over = proxy.gateway.metric, BLOCK[:32768], 0, [], threading.Event()

    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        if end == "half-close":
            connection.socket.shutdown(socket.SHUT_WR)
        assert over.wait(30)
        while metric("tunnel_active"):
            if end == "close":
                connection.send(b"anyone there?")
        arrived.append(connection.rest())

    def queued():
        return metric("downstream_rx_bytes") - received - (metric("upstream_tx_bytes") - taken)

    proxy.upstream.handler = handler
    with proxy.client(timeout=60) as client:
        client.send(request("/", headers=[("Connection", "upgrade"), ("Upgrade", "websocket")]))
        assert client.response().status == 101
        received, taken = metric("downstream_rx_bytes"), metric("upstream_tx_bytes")
        while queued() < 4 * len(piece):  # it could take more, or it would not see the end
            client.send(piece)
            sent += len(piece)
            eventually(lambda: metric("downstream_rx_bytes") == received + sent)
        if end == "half-close":
            client.socket.shutdown(socket.SHUT_WR)
            client.expect_close()
    over.set()
    assert proxy.upstream.connections[0].ended.wait(20)
    assert arrived == [piece * (sent // len(piece))]
    proxy.gateway.wait_idle()
