"""connectionPool.tcp of a DestinationRule, as the sockets of connections to destinations show it."""
from pathlib import Path

import pytest

from lib import documents as d
from lib import tcp

KEEPALIVE = "02"  # of /proc/net/tcp: which timer of a socket runs
HZ = 100


@pytest.fixture
def backend():
    one = tcp.Backend()
    yield one
    one.close()


def timer(to_port):
    """(which, seconds left) of the timer of the one connection to that port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    (row,) = [r for r in rows if int(r[2].split(":")[1], 16) == to_port and r[3] == "01"]
    which, left = row[5].split(":")
    return which, int(left, 16) / HZ


def pool(**fields):
    return d.destination_rule("app", trafficPolicy={"connectionPool": {"tcp": fields}})


def relayed(serve, app, *rules):
    gateway = serve(d.l4_gateway((31400, "TCP", ["*"], None)),
                    d.l4_service("tcp", {"route": [d.to()]}), *d.backend(app.port), *rules,
                    numbers=[31400])
    client = tcp.connect(gateway.ports[31400])
    client.send(b"?")
    peer = app.accept()
    peer.receive(1)
    peer.send(b"!")
    client.receive(1)
    return client


def test_keepalive_of_a_relay(serve, backend):
    with relayed(serve, backend, pool(tcpKeepalive={"time": "1000s"})):
        which, left = timer(backend.port)
    assert which == KEEPALIVE
    assert 900 < left <= 1000


def test_keepalive_of_a_request(serve, upstream):
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port),
                    pool(tcpKeepalive={"time": "1000s", "interval": "1s", "probes": 2}))
    assert gateway.fetch().status == 200
    assert timer(upstream.port)[0] == KEEPALIVE


def test_no_keepalive_by_default(serve, backend):
    with relayed(serve, backend, pool(connectTimeout="3s")):
        assert timer(backend.port)[0] != KEEPALIVE
