"""Relays of bulk, which are spliced: what comes out is what went in, however the connection ends."""
import pytest

from lib import documents as d
from lib import sandbox, tcp
from lib.waiting import eventually, settled

NUMBER = 31400
MIB = 1 << 20
BULK = bytes(i % 251 for i in range(MIB))


@pytest.fixture
def app():
    backend = tcp.Backend(receive_buffer=256 * 1024)
    yield backend
    backend.close()


@pytest.fixture
def start(serve, app):
    """start(…): a gateway of one worker that relays to `app`."""
    def make(**kw):
        return serve(d.l4_gateway((NUMBER, "TCP", ["*"], None)),
                     d.l4_service("tcp", {"route": [d.to("app")]}), *d.backend(app.port),
                     numbers=[NUMBER], workers=1, **kw)
    return make


@pytest.fixture
def gateway(start):
    return start()


def join(gateway, app):
    """The two ends of a connection."""
    client = tcp.connect(gateway.ports[NUMBER], receive_buffer=256 * 1024)
    upstream = app.accept()
    for peer in (client, upstream):
        peer.socket.settimeout(60)
    return client, upstream


def splice(gateway, sender, receiver):
    """Bulk from one to the other, until it is spliced."""
    before = gateway.metric("splice_total")
    for _ in range(64):
        flow = tcp.Flow(sender, MIB, 1, finish=False)
        receiver.receive(MIB)
        flow.join()
        if gateway.metric("splice_total") > before:
            return
    raise AssertionError("64 MiB were relayed and nothing spliced")


def test_both_ways_at_once(gateway, app):
    """64 MiB each way, and everyone's counts agree."""
    size = 64 * MIB
    client, upstream = join(gateway, app)
    up, down = tcp.Flow(client, size, 1), tcp.Flow(upstream, size, 2)
    at_upstream, at_client = tcp.Reader(upstream), tcp.Reader(client)
    up.join()
    down.join()
    assert at_upstream.digest() == up.digest()
    assert at_client.digest() == down.digest()
    gateway.wait_idle()
    metrics = gateway.metrics()
    assert metrics.get("sluice_splice_total") >= 2
    for name in ("downstream_rx", "downstream_tx", "upstream_rx", "upstream_tx"):
        assert metrics.get(f"sluice_{name}_bytes") == size, name
    for kind in ("listener", "cluster"):
        assert metrics.get(f"sluice_{kind}_tcp_rx_bytes_total") == size, kind
        assert metrics.get(f"sluice_{kind}_tcp_tx_bytes_total") == size, kind
    assert metrics.get("sluice_splice_pipes") == 0


def test_round_trips_are_not_spliced(gateway, app):
    client, upstream = join(gateway, app)
    for i in range(2000):
        client.send(b"q" * 1024)
        assert upstream.receive(1024) == b"q" * 1024
        upstream.send(b"a" * 1024)
        assert client.receive(1024) == b"a" * 1024
    assert gateway.metric("splice_total") == 0


def test_bulk_then_round_trips_then_bulk(gateway, app):
    """A direction that was spliced goes back to copying, and on to splicing; an idle one holds
    no pipe."""
    client, upstream = join(gateway, app)
    for _ in range(2):
        splice(gateway, upstream, client)
        gateway.wait_metric("splice_pipes", 0)
        for i in range(50):
            upstream.send(b"x" * (i + 1))
            assert client.receive(i + 1) == b"x" * (i + 1)
            client.send(b"y")
            assert upstream.receive(1) == b"y"


@pytest.mark.parametrize("sender", ["client", "upstream"])
def test_half_close_in_a_splice(gateway, app, sender):
    """The FIN comes after all bytes, and the other direction goes on."""
    ends = dict(zip(("client", "upstream"), join(gateway, app)))
    one = ends.pop(sender)
    (other,) = ends.values()
    splice(gateway, one, other)
    flow = tcp.Flow(one, 8 * MIB, 3)  # ends by FIN
    reader = tcp.Reader(other)
    flow.join()
    assert reader.digest() == flow.digest()
    back = tcp.Flow(other, 8 * MIB, 4)
    assert tcp.Reader(one).digest() == (back.join(), back.digest())[1]
    gateway.wait_idle()


@pytest.mark.parametrize("sender", ["client", "upstream"])
@pytest.mark.parametrize("culprit", ["client", "upstream"])
@pytest.mark.parametrize("stalled", [False, True], ids=["idle", "with bytes in the pipe"])
def test_reset_in_a_splice(gateway, app, sender, culprit, stalled):
    """A reset of either end is the other's, whichever sends, also while bytes wait in the pipe."""
    ends = dict(zip(("client", "upstream"), join(gateway, app)))
    one = ends[sender]
    (other,) = (e for name, e in ends.items() if name != sender)
    splice(gateway, one, other)
    if stalled:
        stall(gateway, one)
    ends.pop(culprit).reset()
    (victim,) = ends.values()
    assert victim.was_reset()
    gateway.wait_idle()
    assert gateway.metric("splice_pipes") == 0


def stall(gateway, sender):
    """Sends until nobody takes any more and a pipe is held."""
    sender.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            sender.socket.send(BULK)
    sender.socket.settimeout(60)
    gateway.wait_metric("splice_pipes", 1)


def test_slow_reader(gateway, app):
    """What the gateway takes for a peer that does not read is bounded; it all arrives later."""
    client, upstream = join(gateway, app)
    splice(gateway, upstream, client)
    before = gateway.metric("upstream_rx_bytes")
    down = tcp.Flow(upstream, 32 * MIB, 5)
    settled(lambda: down.sent, quiet=0.5, timeout=30)
    held = gateway.metric("upstream_rx_bytes") - before
    assert held < 8 * MIB, f"{held} bytes were read for a peer that takes nothing"
    assert gateway.metric("splice_pipes") == 1
    assert tcp.Reader(client).digest() == (down.join(), down.digest())[1]
    gateway.wait_metric("splice_pipes", 0)


def test_more_relays_than_pipes(start, app):
    """With few descriptors there are few pipes: the other relays copy, and all get their bytes."""
    gateway = start(preexec=sandbox.limits(NOFILE=300))
    pairs = [join(gateway, app) for _ in range(16)]
    flows = [tcp.Flow(upstream, 8 * MIB, i) for i, (_, upstream) in enumerate(pairs)]
    eventually(lambda: gateway.metric("splice_pipe_overflow") > 0, 30)
    assert 0 < gateway.metric("splice_pipes") <= 300 // 32
    readers = [tcp.Reader(client) for client, _ in pairs]
    for flow, reader in zip(flows, readers):
        flow.join()
        assert reader.digest() == flow.digest()
    gateway.wait_metric("splice_pipes", 0)
    for client, _ in pairs:
        client.close()
    gateway.wait_idle()
