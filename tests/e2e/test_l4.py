"""TCP relays: which endpoint a connection gets, and that what one side does the other sees."""
import random
import re
import signal
import socket
import threading
import time

import pytest

from lib import documents as d
from lib import tcp
from lib.gateway import sluice
from lib.ports import ReservedPort, SilentPort
from lib.waiting import eventually, settled

NUMBER = 31400
MIB = 1 << 20


def server(number=NUMBER, hosts=("*",), protocol="TCP", tls=None):
    return (number, protocol, list(hosts), tls)


def to(host="app", **kw):
    return {"route": [d.to(host, **kw)]}


def relay(serve, *ports, rules=(), **kw):
    """A gateway with one TCP server, and one cluster of these endpoints."""
    gateway = serve(d.l4_gateway(server()), d.l4_service("tcp", to()), *d.backend(*ports), *rules,
                    numbers=[NUMBER], **kw)
    return gateway, gateway.ports[NUMBER]


@pytest.fixture
def joined(serve, backend):
    """joined() -> (client, upstream): the two ends of one relayed connection."""
    app = backend()
    gateway, port = relay(serve, app.port)

    def join():
        client = tcp.connect(port)
        client.send(b"?")
        upstream = app.accept()
        assert upstream.receive(1) == b"?"
        return client, upstream
    join.gateway = gateway
    return join


# ---- which endpoint

def test_weights(serve, backend):
    apps = {name: backend(tcp.says(name)) for name in ("one", "two", "never")}
    gateway = serve(
        d.l4_gateway(server()),
        d.l4_service("tcp", {"route": [d.to("one", weight=80), d.to("two", weight=20),
                                       d.to("never", weight=0)]}),
        *(doc for name, app in apps.items() for doc in d.backend(app.port, name=name)),
        numbers=[NUMBER])
    for _ in range(300):
        with tcp.connect(gateway.ports[NUMBER]) as client:
            tcp.ask(client)
    assert apps["never"].connections == 0
    assert 25 < apps["two"].connections < 105, "of 300 about 60"  # 5 standard deviations
    assert apps["one"].connections + apps["two"].connections == 300


def test_subsets(serve, backend):
    one, two = backend(tcp.says("one")), backend(tcp.says("two"))
    gateway = serve(
        d.l4_gateway(server(1), server(2), server(3)),
        d.l4_service("tcp", *({"match": [{"port": n}], **to(subset=s)}
                              for n, s in ((1, "v1"), (2, "v2"), (3, "v3")))),
        d.destination_rule("app", subsets=[{"name": v, "labels": {"version": v}}
                                           for v in ("v1", "v2", "v3")]),
        *d.labelled_backend({one.port: {"app": "app", "version": "v1"},
                             two.port: {"app": "app", "version": "v2"}}),
        numbers=[1, 2, 3])
    for number, word in ((1, b"one"), (2, b"two")):
        for _ in range(5):
            with tcp.connect(gateway.ports[number]) as client:
                assert tcp.ask(client) == word + b" world\n"
    with tcp.connect(gateway.ports[3]) as client:
        assert client.ended()


def test_match_port(serve, backend):
    """Each server has its own route; a server that no route is for is not listened on."""
    one, two = backend(tcp.says("one")), backend(tcp.says("two"))
    gateway = serve(
        d.l4_gateway(server(1), server(2), server(3)),
        d.l4_service("tcp", {"match": [{"port": 1}], **to("one")},
                     {"match": [{"port": 2}], **to("two")}),
        *d.backend(one.port, name="one"), *d.backend(two.port, name="two"), numbers=[1, 2, 3])
    for number, word in ((1, b"one"), (2, b"two")):
        with tcp.connect(gateway.ports[number]) as client:
            assert tcp.ask(client) == word + b" world\n"
    with pytest.raises(ConnectionRefusedError):
        tcp.connect(gateway.ports[3])


def test_destination_subnets(serve, backend):
    one, two = backend(tcp.says("one")), backend(tcp.says("two"))
    gateway = serve(
        d.l4_gateway(server()),
        d.l4_service("tcp", {"match": [{"destinationSubnets": ["127.0.0.2"]}], **to("one")},
                     {"match": [{"destinationSubnets": ["10.0.0.0/8", "127.0.1.0/24"]}],
                      **to("two")}),
        *d.backend(one.port, name="one"), *d.backend(two.port, name="two"), numbers=[NUMBER])
    port = gateway.ports[NUMBER]
    for host, word in (("127.0.0.2", b"one"), ("127.0.1.77", b"two")):
        with tcp.connect(port, host) as client:
            assert tcp.ask(client) == word + b" world\n"
    with tcp.connect(port, "127.0.0.3") as client:
        assert client.ended()
    assert gateway.metric("tcp_cx_no_route") == 1


def test_unknown_destination(serve):
    gateway = serve(d.l4_gateway(server()), d.l4_service("tcp", to("nobody")), numbers=[NUMBER])
    with tcp.connect(gateway.ports[NUMBER]) as client:
        client.send(b"hello")
        assert client.ended()
    gateway.wait_metric("tcp_cx_no_route", 1)
    gateway.wait_idle()


def test_no_endpoint(serve):
    gateway, port = relay(serve)
    with tcp.connect(port) as client:
        assert client.ended()
    gateway.wait_metric("tcp_cx_total", 1)
    gateway.wait_metric("tcp_cx_active", 0)
    gateway.wait_idle()


def test_refused_then_the_next_endpoint(serve, backend):
    app, refuses = backend(tcp.says("one")), ReservedPort()
    gateway, port = relay(serve, refuses.number, app.port, workers=1)
    for _ in range(20):
        with tcp.connect(port) as client:
            assert tcp.ask(client) == b"one world\n"
    assert gateway.metric("upstream_cx_connect_fail") > 0
    refuses.release()


def test_all_refuse(serve):
    refuse = [ReservedPort(), ReservedPort()]
    gateway, port = relay(serve, *(r.number for r in refuse))
    with tcp.connect(port) as client:
        client.send(b"hello")
        assert client.ended()
    gateway.wait_idle()
    for r in refuse:
        r.release()


def test_connect_time_out(serve):
    """`connectTimeout` of the DestinationRule."""
    silent = SilentPort()
    policy = {"connectionPool": {"tcp": {"connectTimeout": "0.3s"}}}
    gateway, port = relay(serve, silent.number,
                          rules=[d.destination_rule("app", trafficPolicy=policy)])
    with tcp.connect(port) as client:
        assert client.ended()
    assert gateway.metric("upstream_cx_connect_fail") == 1
    gateway.wait_idle()
    silent.release()


# ---- what one side does, the other sees

def test_server_speaks_first(serve, backend):
    app = backend()
    _, port = relay(serve, app.port)
    with tcp.connect(port) as client:
        app.accept().send(b"220 ready\r\n")
        assert client.receive(11) == b"220 ready\r\n"


def test_client_finishes_first(joined):
    client, upstream = joined()
    client.send(b"question")
    client.finish()
    assert upstream.rest() == b"question"
    upstream.send(b"answer")
    assert client.receive(6) == b"answer"
    upstream.finish()
    assert client.rest() == b""
    joined.gateway.wait_idle()


def test_upstream_finishes_first(joined):
    client, upstream = joined()
    upstream.send(b"bye")
    upstream.finish()
    assert client.rest() == b"bye"
    client.send(b"one more thing")
    assert upstream.receive(14) == b"one more thing"
    client.finish()
    assert upstream.rest() == b""
    joined.gateway.wait_idle()


def test_finished_before_the_upstream_was_there(serve, backend):
    """Bytes and a FIN that came before the connection to the upstream was made."""
    app = backend()
    gateway, port = relay(serve, app.port)
    with tcp.connect(port) as client:
        client.send(b"all of it")
        client.finish()
        upstream = app.accept()
        assert upstream.rest() == b"all of it"
        upstream.send(b"done")
        upstream.finish()
        assert client.rest() == b"done"
    gateway.wait_idle()


def test_client_resets(joined):
    client, upstream = joined()
    client.reset()
    assert upstream.was_reset()
    joined.gateway.wait_idle()


def test_upstream_resets(joined):
    client, upstream = joined()
    upstream.reset()
    assert client.was_reset()
    joined.gateway.wait_idle()


def test_reset_after_a_half_close(joined):
    client, upstream = joined()
    client.finish()
    assert upstream.rest() == b""
    upstream.reset()
    assert client.was_reset()
    joined.gateway.wait_idle()


# ---- much data

def test_much_both_ways_to_slow_readers(serve, backend):
    """32 MiB each way at once. Neither side reads at first: what the gateway takes in then is
    bounded, and everything arrives once they read."""
    size = 32 * MIB
    app = backend(receive_buffer=64 * 1024)
    gateway, port = relay(serve, app.port, workers=1)
    client = tcp.connect(port, receive_buffer=64 * 1024)
    upstream = app.accept()
    for peer in (client, upstream):
        peer.socket.settimeout(60)
    up, down = tcp.Flow(client, size, 1), tcp.Flow(upstream, size, 2)
    taken = settled(lambda: (up.sent, down.sent), quiet=0.5, timeout=30)
    metrics = gateway.metrics()
    for side in ("downstream", "upstream"):
        held = metrics.get(f"sluice_{side}_rx_bytes")
        assert held < 8 * MIB, f"{held} bytes were read of a side whose peer takes nothing"
    assert max(taken) < size, "a sender was not held back"

    readers = {"down": tcp.Reader(client), "up": tcp.Reader(upstream)}
    up.join()
    down.join()
    assert readers["up"].digest() == up.digest()
    assert readers["down"].digest() == down.digest()
    client.close()
    gateway.wait_idle()


# ---- reload, drain, the end

def test_connections_stay_across_reloads(serve, backend):
    one, two = backend(tcp.says("one")), backend(tcp.says("two"))
    services = [*d.backend(one.port, name="one"), *d.backend(two.port, name="two")]
    gateway = serve(d.l4_gateway(server()), d.l4_service("tcp", to("one")), *services,
                    numbers=[NUMBER])
    port = gateway.ports[NUMBER]

    def answer():
        with tcp.connect(port) as client:
            return tcp.ask(client)
    client = tcp.connect(port)
    assert tcp.ask(client) == b"one world\n"
    for host, kept in (("two", services), ("one", services), ("two", services[2:])):
        gateway.file.write_text(d.text(d.l4_gateway(server()), d.l4_service("tcp", to(host)),
                                       *kept))
        eventually(lambda want=host: answer() == want.encode() + b" world\n", 5, f"to {host}")
        assert tcp.ask(client) == b"one world\n", "though its cluster may be gone"
    client.close()
    gateway.wait_idle()


@pytest.mark.parametrize("how", ["listener", "process"])
def test_drain(serve, backend, how):
    """A relay goes on until the drain time is over, then it is cut off."""
    app = backend(tcp.says("one"))
    gateway, port = relay(serve, app.port, args=["--drain-time", "2s"])
    client = tcp.connect(port)
    assert tcp.ask(client) == b"one world\n"
    if how == "process":
        gateway.signal(signal.SIGTERM)
        assert gateway.log.wait(r"event=drain", 5)
    else:
        gateway.file.write_text(d.text(*d.backend(app.port)))

    def refused():
        try:
            tcp.connect(port).close()
        except ConnectionRefusedError:
            return True
        return False
    eventually(refused, 5, "the listener is closed")
    assert tcp.ask(client) == b"one world\n"
    assert client.ended()
    if how == "process":
        assert gateway.wait_exit() == 0


def test_ended_by_the_process_with_bytes_in_flight(serve, backend):
    """Nobody reads, and the gateway ends all the same."""
    app = backend()
    gateway, port = relay(serve, app.port, args=["--drain-time", "1s"])
    client = tcp.connect(port)
    client.send(b"?")
    app.accept()
    client.socket.setblocking(False)

    def full():
        try:
            client.socket.send(bytes(MIB))
        except BlockingIOError:
            return True
        return False
    eventually(full)
    gateway.stop()


# ---- TLS that ends here, then `tcp`

def test_terminated_then_tcp(serve, backend, tmp_path):
    cert, key = tcp.certificate(tmp_path, "app.test")
    app = backend()
    tls = {"mode": "SIMPLE", "serverCertificate": str(cert), "privateKey": str(key)}
    gateway = serve(d.l4_gateway(server(hosts=["app.test"], protocol="TLS", tls=tls)),
                    d.l4_service("tcp", to()), *d.backend(app.port), numbers=[NUMBER])
    data = random.Random(3).randbytes(3 * MIB)
    with tcp.connect_tls(gateway.ports[NUMBER], "app.test", cert) as client:
        sender = threading.Thread(target=client.send, args=(data,), daemon=True)
        sender.start()
        upstream = app.accept()
        assert upstream.receive(len(data)) == data, "in clear text"
        sender.join(tcp.TIMEOUT)
        upstream.send(data)
        upstream.finish()
        assert client.receive(len(data)) == data
        assert client.rest() == b"", "FIN became close_notify"
    assert upstream.ended()
    gateway.wait_idle()


def test_a_relay_never_answers_by_itself(serve, backend):
    """What is sent is not looked at: HTTP is bytes like others."""
    app = backend()
    _, port = relay(serve, app.port)
    with tcp.connect(port) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n\0\xff")
        assert app.accept().receive(20) == b"GET / HTTP/1.1\r\n\r\n\0\xff"
        client.socket.settimeout(0.2)
        with pytest.raises(socket.timeout):
            client.receive(1)


def test_listed(serve, backend):
    gateway, port = relay(serve, backend().port)
    listed = sluice("proxy-config", "listeners", "--admin", gateway.admin)
    assert re.search(rf"\b{port}\b.*outbound\|8080\|\|app\.default\.svc\.cluster\.local",
                     listed.stdout), listed.stdout


# ---- what is told of it

@pytest.fixture
def logged(serve, tmp_path):
    """logged(…) as serve(…), with an access log; lines(n) waits for n of them."""
    path = tmp_path / "access.log"

    def start(*docs, **kw):
        gateway = serve(*docs, args=["--access-log", path], **kw)

        def lines(count):
            return eventually(lambda: len(text := path.read_text().splitlines()) >= count and text)
        gateway.lines = lines
        return gateway
    return start


LINE = re.compile(r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] (.*)')


def end_of(line):
    return LINE.fullmatch(line)[1]


CLUSTER = "outbound|8080||app.default.svc.cluster.local"


def test_log_line(logged, backend):
    """Istio's format, as Envoy fills it for TCP."""
    app = backend()
    gateway = logged(d.l4_gateway(server()), d.l4_service("tcp", to()), *d.backend(app.port),
                     numbers=[NUMBER])
    port = gateway.ports[NUMBER]
    client = tcp.connect(port)
    client.send(b"question")
    upstream = app.accept()
    assert upstream.receive(8) == b"question"
    upstream.send(b"the answer")
    assert client.receive(10) == b"the answer"
    ours = "127.0.0.1:%d" % upstream.socket.getpeername()[1]
    theirs = "127.0.0.1:%d" % client.socket.getsockname()[1]
    client.close()
    upstream.close()
    line = end_of(gateway.lines(1)[0])
    duration = re.search(r" 8 10 (\d+) - ", line)[1]
    assert line == (f'"- - -" 0 - - - "-" 8 10 {duration} - "-" "-" "-" "-" '
                    f'"127.0.0.1:{app.port}" {CLUSTER} {ours} 127.0.0.1:{port} {theirs} - -')


def test_log_flags(logged, backend):
    refuses = ReservedPort()
    app = backend()
    gateway = logged(
        d.l4_gateway(server(1), server(2), server(3), server(4), server(5)),
        d.l4_service("tcp", *({"match": [{"port": n}], **to(host)} for n, host in
                              ((1, "refuses"), (2, "empty"), (3, "nobody"), (4, "app"))),
                     {"match": [{"port": 5, "destinationSubnets": ["10.0.0.0/8"]}], **to()}),
        *d.backend(refuses.number, name="refuses"), *d.backend(name="empty"),
        *d.backend(app.port), numbers=[1, 2, 3, 4, 5], workers=1)
    for i, (number, flags, cluster) in enumerate((
            (1, "UF,URX", "outbound|8080||refuses.default.svc.cluster.local"),
            (2, "UH", "outbound|8080||empty.default.svc.cluster.local"),
            (3, "NC", "outbound|3||nobody.default.svc.cluster.local"),
            (5, "NR", "-"))):
        with tcp.connect(gateway.ports[number]) as client:
            assert client.ended()
        words = end_of(gateway.lines(i + 1)[i]).split()
        assert words[3:7] == ["0", flags, "-", "-"], words
        assert words[17] == cluster, words
    for i, (end, flags) in enumerate((("client", "DC"), ("upstream", "UC"))):
        client = tcp.connect(gateway.ports[4])
        client.send(b"?")
        upstream = app.accept()
        assert upstream.receive(1) == b"?"
        (client if end == "client" else upstream).reset()
        assert end_of(gateway.lines(i + 5)[i + 4]).split()[4] == flags
        client.close()
    metrics = gateway.metrics()
    for flag in ("UF", "URX", "UH", "NC", "NR", "DC", "UC"):
        assert metrics.get("sluice_listener_response_flags_total", flag=flag) == 1, flag
    assert metrics.get("sluice_cluster_tcp_cx_connect_fail_total",
                       cluster="outbound|8080||refuses.default.svc.cluster.local") == 1
    refuses.release()


def test_log_server_name(logged, backend, tmp_path):
    """Of passthrough and of terminated TLS; of a name that is nobody's too."""
    cert, key = pair = tcp.certificate(tmp_path, "app.test")
    tls = backend(tcp.says("one"), tls=tcp.server_tls(pair))
    clear = backend(tcp.says("two"))
    simple = {"mode": "SIMPLE", "serverCertificate": str(cert), "privateKey": str(key)}
    gateway = logged(
        d.l4_gateway(server(1, ["app.test"], "TLS", {"mode": "PASSTHROUGH"}),
                     server(2, ["app.test"], "TLS", simple)),
        d.l4_service("tls", {"match": [{"port": 1, "sniHosts": ["app.test"]}], **to("tls")},
                     hosts=["app.test"]),
        d.l4_service("tcp", {"match": [{"port": 2}], **to("clear")}, name="vs2"),
        *d.backend(tls.port, name="tls"), *d.backend(clear.port, name="clear"), numbers=[1, 2],
        workers=1)
    for i, number in enumerate((1, 2)):
        with tcp.connect_tls(gateway.ports[number], "app.test", cert) as client:
            tcp.ask(client)
        words = end_of(gateway.lines(i + 1)[i]).split()
        assert words[-2:] == ["app.test", "-"], words
        received, sent = int(words[8]), int(words[9])
        if number == 1:
            assert received > 200 and sent > 500, "the handshake is part of what is relayed"
        else:
            assert (received, sent) == (6, 10)
    with pytest.raises((OSError, AssertionError)):
        tcp.connect_tls(gateway.ports[1], "other.test")
    words = end_of(gateway.lines(3)[2]).split()
    assert words[4:6] == ["NR", "filter_chain_not_found"] and words[-2] == "other.test", words


def test_statistics(serve, backend):
    """By listener and by cluster, while the connection is open; kept through a reload that takes
    the cluster away."""
    app = backend()
    gateway, port = relay(serve, app.port, workers=1)
    client = tcp.connect(port)
    client.send(b"question")
    upstream = app.accept()
    assert upstream.receive(8) == b"question"
    upstream.send(b"the answer")
    assert client.receive(10) == b"the answer"
    metrics = gateway.metrics()
    for kind, name in (("listener", f"0.0.0.0_{port}"), ("cluster", CLUSTER)):
        found = {what: metrics.get(f"sluice_{kind}_tcp_{what}", **{kind: name}) for what in
                 ("cx_total", "cx_active", "rx_bytes_total", "tx_bytes_total")}
        assert found == {"cx_total": 1, "cx_active": 1, "rx_bytes_total": 8, "tx_bytes_total": 10}
    assert not metrics.has("sluice_listener_rq_total"), "there was no request"
    other = d.backend(app.port, name="other")
    gateway.file.write_text(d.text(d.l4_gateway(server()), d.l4_service("tcp", to("other")), *other))
    gateway.wait_metric("config_reload_successes", 2)
    client.send(b"more")
    assert upstream.receive(4) == b"more"
    client.close()
    upstream.close()
    gateway.wait_metric("listener_tcp_cx_active", 0)
    assert gateway.metric("listener_tcp_rx_bytes_total") == 12


# ---- time-outs of the DestinationRule

def timed(**fields):
    return [d.destination_rule("app", trafficPolicy={"connectionPool": {"tcp": fields}})]


def test_idle_time_out(logged, backend):
    """What moves either way keeps it; then both sides are closed."""
    app = backend()
    gateway = logged(d.l4_gateway(server()), d.l4_service("tcp", to()), *d.backend(app.port),
                     *timed(idleTimeout="0.6s"), numbers=[NUMBER])
    client = tcp.connect(gateway.ports[NUMBER])
    upstream = app.accept()
    begun = time.monotonic()
    for _ in range(4):
        upstream.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):  # a silence shorter than the limit
            upstream.receive(1)
        client.send(b"?")
        upstream.socket.settimeout(tcp.TIMEOUT)
        assert upstream.receive(1) == b"?"
    assert client.ended() and upstream.ended()
    assert 1.6 < time.monotonic() - begun < 6
    words = end_of(gateway.lines(1)[0]).split()
    assert words[4:7] == ["-", "-", "tcp_session_idle_timeout"], words
    gateway.wait_idle()


def test_longest_duration(logged, backend):
    app = backend(tcp.says("one"))
    gateway = logged(d.l4_gateway(server()), d.l4_service("tcp", to()), *d.backend(app.port),
                     *timed(maxConnectionDuration="0.7s"), numbers=[NUMBER])
    client, asked = tcp.connect(gateway.ports[NUMBER]), 0
    begun = time.monotonic()
    with pytest.raises((AssertionError, ConnectionError)):
        while True:
            tcp.ask(client)
            asked += 1
    assert asked > 10 and 0.5 < time.monotonic() - begun < 5
    words = end_of(gateway.lines(1)[0]).split()
    assert words[4:7] == ["DT", "-", "max_connection_duration_reached"], words
    gateway.wait_idle()


@pytest.mark.parametrize("field", ["idleTimeout", "maxConnectionDuration"])
def test_the_same_of_a_pooled_connection(serve, upstream, field):
    """HTTP: an idle connection to the destination ends then; while it lasts it is used again."""
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port),
                    *timed(**{field: "1s"}), workers=1)
    gateway.fetch("/")
    gateway.fetch("/")
    assert len(upstream.requests) == 2 and gateway.metric("upstream_cx_total") == 1
    gateway.wait_metric("upstream_cx_active", 0, timeout=6)
    gateway.fetch("/")
    assert gateway.metric("upstream_cx_total") == 2
