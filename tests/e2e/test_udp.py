"""UDP servers: which endpoint a client's session gets, what becomes of datagrams, when sessions end."""
import json
import re
import shutil
import signal
import socket
import threading
from pathlib import Path

import pytest

from lib import documents as d
from lib import tcp, udp
from lib.gateway import sluice
from lib.waiting import eventually

NUMBER = 5300
LARGEST = 65507
TUTORIAL = Path(__file__).parents[1] / "data" / "tutorial"


@pytest.fixture
def serve(serve):
    """Ends promptly, where the test does not say how long a drain is: sessions are still open then."""
    def start(*docs, args=(), **kw):
        if "--drain-time" not in args:
            args = [*args, "--drain-time", "100ms"]
        return serve(*docs, args=args, **kw)
    start.udp_ports, start.command = serve.udp_ports, serve.command
    return start


@pytest.fixture
def backend():
    """backend(…) as udp.Backend(…), ended with the test."""
    made = []

    def make(*args, **kw):
        made.append(udp.Backend(*args, **kw))
        return made[-1]
    yield make
    for b in made:
        b.close()


@pytest.fixture
def client():
    made = []

    def make(*args, **kw):
        made.append(udp.Client(*args, **kw))
        return made[-1]
    yield make
    for c in made:
        c.close()


def server(number=NUMBER, hosts=("*",), protocol="UDP", tls=None):
    return (number, protocol, list(hosts), tls)


def to(host="app", **kw):
    return {"route": [d.to(host, **kw)]}


def app(*ports, name="app", host="127.0.0.1"):
    """A Service of UDP with these endpoints."""
    docs = d.backend(*ports, name=name)
    docs[0]["spec"]["ports"][0].update(protocol="UDP", name="dgram")
    for piece in docs[1:]:
        piece["ports"][0].update(protocol="UDP", name="dgram")
        piece["endpoints"][0]["addresses"] = [host]
        piece["addressType"] = "IPv6" if ":" in host else "IPv4"
    return docs


def relay(serve, *ports, rules=(), host="127.0.0.1", **kw):
    """A gateway with one UDP server, and one cluster of these endpoints."""
    gateway = serve(d.l4_gateway(server()), d.l4_service("tcp", to()), *app(*ports, host=host),
                    *rules, numbers=[], udp=[NUMBER], **kw)
    return gateway, gateway.udp_ports[NUMBER]


def rewrite(gateway, *docs):
    new = gateway.folder / ".new"
    new.write_text(d.text(*docs))
    new.replace(gateway.file)


def reloaded(gateway, *docs):
    """New documents, in service by all workers."""
    before = gateway.metric("config_reload_successes")
    rewrite(gateway, *docs)
    eventually(lambda: gateway.metric("config_reload_successes") > before)
    eventually(lambda: gateway.metric("snapshots_alive") == 1)


# ---- which endpoint

def test_a_client_keeps_its_endpoint_and_clients_are_spread(serve, backend, client):
    apps = [backend(udp.echo) for _ in range(3)]
    gateway, port = relay(serve, *(a.port for a in apps), workers=4)
    for n in range(60):
        c = client(port)
        for i in range(3):
            assert c.ask(f"{n} {i}".encode()) == f"{n} {i}".encode()
    assert sum(len(a.sources) for a in apps) == 60, "a session for each client, and one only"
    for a in apps:
        assert len(a.received) == 3 * len(a.sources) > 0
    assert gateway.metric("udp_sess_total") == 60
    assert gateway.metric("udp_sess_active") == 60
    assert gateway.metric("udp_rx_datagrams") == gateway.metric("udp_tx_datagrams") == 180


def test_weights(serve, backend):
    apps = {name: backend(udp.says(name)) for name in ("one", "two", "never")}
    gateway = serve(
        d.l4_gateway(server()),
        d.l4_service("tcp", {"route": [d.to("one", weight=80), d.to("two", weight=20),
                                       d.to("never", weight=0)]}),
        *(doc for name, a in apps.items() for doc in app(a.port, name=name)),
        numbers=[], udp=[NUMBER])
    for _ in range(300):
        with udp.Client(gateway.udp_ports[NUMBER]) as c:
            c.ask()
    assert apps["never"].received == []
    assert 25 < len(apps["two"].received) < 105, "of 300 about 60"  # 5 standard deviations
    assert len(apps["one"].received) + len(apps["two"].received) == 300


def test_subsets_and_match_port(serve, backend, client):
    one, two = backend(udp.says("one")), backend(udp.says("two"))
    docs = d.labelled_backend({one.port: {"app": "app", "version": "v1"},
                               two.port: {"app": "app", "version": "v2"}}, port_name="dgram")
    docs[0]["spec"]["ports"][0]["protocol"] = "UDP"
    gateway = serve(
        d.l4_gateway(server(1), server(2), server(3), server(4)),
        d.l4_service("tcp", *({"match": [{"port": n}], **to(subset=s)}
                              for n, s in ((1, "v1"), (2, "v2"), (3, "v3")))),
        d.destination_rule("app", subsets=[{"name": v, "labels": {"version": v}}
                                           for v in ("v1", "v2", "v3")]),
        *docs, numbers=[], udp=[1, 2, 3, 4])
    for number, word in ((1, b"one"), (2, b"two")):
        for _ in range(5):
            assert client(gateway.udp_ports[number]).ask(b"x") == word + b" x"
    client(gateway.udp_ports[3]).send(b"x")
    gateway.wait_metric("udp_sess_no_route", 1)
    assert gateway.metric("listener_response_flags_total", flag="UH",
                          listener=f"udp_0.0.0.0_{gateway.udp_ports[3]}") == 1
    with pytest.raises(ConnectionRefusedError):
        client(gateway.udp_ports[4]).ask()


def test_destination_subnets_and_the_address_of_answers(serve, backend, client):
    """An answer comes from the address that was asked, of however many this host has."""
    one, two = backend(udp.says("one")), backend(udp.says("two"))
    gateway = serve(
        d.l4_gateway(server()),
        d.l4_service("tcp", {"match": [{"destinationSubnets": ["127.0.0.2"]}], **to("one")},
                     {"match": [{"destinationSubnets": ["10.0.0.0/8", "127.0.1.0/24"]}],
                      **to("two")}),
        *app(one.port, name="one"), *app(two.port, name="two"), numbers=[], udp=[NUMBER])
    port = gateway.udp_ports[NUMBER]
    assert client(port, "127.0.0.2").ask(b"x") == b"one x"
    assert client(port, "127.0.1.77").ask(b"x") == b"two x"
    client(port, "127.0.0.3").send(b"x")
    gateway.wait_metric("udp_sess_no_route", 1)


def test_one_client_address_that_asks_two_of_ours_has_two_sessions(serve, backend):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, workers=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(udp.TIMEOUT)
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            s.sendto(host.encode(), (host, port))
            assert s.recvfrom(100) == (host.encode(), (host, port))
    assert gateway.metric("udp_sess_total") == 2


def test_ipv6(serve, backend, client):
    a = backend(udp.echo, host="::1")
    gateway_doc = d.l4_gateway(server())
    gateway_doc["spec"]["servers"][0]["bind"] = "::"
    gateway = serve(gateway_doc, d.l4_service("tcp", to()), *app(a.port, host="::1"),
                    numbers=[], udp=[NUMBER])
    assert client(gateway.udp_ports[NUMBER], "::1").ask(b"six") == b"six"
    assert a.sources[0][0] == "::1"


def test_a_service_maps_tcp_and_udp_each(serve, backend, client):
    """One number, two ports, two routes' clusters: the Service's port of TCP and that of UDP."""
    datagrams = backend(udp.says("udp"))
    stream = tcp.Backend(tcp.says("tcp"))
    docs = [{"apiVersion": "v1", "kind": "Service",
             "metadata": {"name": "app", "namespace": "default"},
             "spec": {"ports": [{"name": "t", "port": 53}, {"name": "u", "port": 53,
                                                            "protocol": "UDP"}]}},
            {"apiVersion": "v1", "kind": "Endpoints",
             "metadata": {"name": "app", "namespace": "default"},
             "subsets": [{"addresses": [{"ip": "127.0.0.1"}],
                          "ports": [{"name": "t", "port": stream.port},
                                    {"name": "u", "port": datagrams.port, "protocol": "UDP"}]}]}]
    both = d.gateway_of(d.server("*", number=NUMBER, protocol="TCP", name="t"),
                        d.server("*", number=NUMBER, protocol="UDP", name="u"))
    gateway = serve(both, d.l4_service("tcp", to(port=53)), *docs, numbers=[NUMBER], udp=[NUMBER])
    assert client(gateway.udp_ports[NUMBER]).ask(b"x") == b"udp x"
    with tcp.connect(gateway.ports[NUMBER]) as c:
        assert tcp.ask(c, b"x\n") == b"tcp x\n"
    stream.close()
    clusters = json.loads(sluice("pc", "clusters", "-o", "json", "--admin", gateway.admin).stdout)
    assert [(c["name"], c["transport"]) for c in clusters if c["host"].startswith("app.")] == [
        ("outbound|53/UDP||app.default.svc.cluster.local", "udp"),
        ("outbound|53||app.default.svc.cluster.local", "tcp")]
    assert "\napp.default.svc.cluster.local" in (
        text := sluice("pc", "clusters", "--admin", gateway.admin).stdout)
    assert " 53/UDP " in text


def test_tcp_and_udp_of_one_bound_port(serve, backend, client):
    a = backend(udp.says("udp"))
    stream = tcp.Backend(tcp.says("tcp"))
    port = serve.udp_ports(1)[1]
    both = d.gateway_of(d.server("*", number=port, protocol="TCP", name="t"),
                        d.server("*", number=port, protocol="UDP", name="u"))
    serve(both, d.l4_service("tcp", {"match": [{"port": port}], **to("app", port=8080)}),
          *app(a.port), *d.backend(stream.port, name="stream"), numbers=[], udp=[])
    assert client(port).ask(b"x") == b"udp x"
    # The Service has this port for UDP only: the TCP server closes.
    with tcp.connect(port) as c:
        c.send(b"x")
        assert c.ended()
    stream.close()


# ---- datagrams

@pytest.mark.parametrize("size", [0, 1, 1472, 9000, LARGEST])
def test_sizes(serve, backend, client, size):
    a = backend(udp.echo)
    _, port = relay(serve, a.port)
    data = bytes(i * 7 & 255 for i in range(size))
    c = client(port)
    assert c.ask(data) == data
    assert a.received[0][0] == data


def test_more_answers_than_questions_and_fewer(serve, backend, client):
    a = backend()
    _, port = relay(serve, a.port)
    c = client(port)
    for i in range(50):
        c.send(b"%d" % i)
    got = [a.next() for _ in range(50)]
    assert [data for data, _ in got] == [b"%d" % i for i in range(50)]
    peer = got[0][1]
    for i in range(200):
        a.send(b"answer %d" % i, peer)
        assert c.receive() == b"answer %d" % i


def test_a_train_of_datagrams(serve, backend, client):
    """What a client hands to its kernel at once (UDP_SEGMENT) arrives as the datagrams it is."""
    a = backend()
    gateway, port = relay(serve, a.port)
    c = client(port)
    c.socket.setsockopt(socket.IPPROTO_UDP, udp.SEGMENT, 1000)
    c.send(b"".join(bytes([65 + i]) * 1000 for i in range(20)) + b"tail")
    got = [a.next()[0] for _ in range(21)]
    assert got == [bytes([65 + i]) * 1000 for i in range(20)] + [b"tail"]
    assert gateway.metric("udp_rx_datagrams") == 21
    # And back
    a.socket.setsockopt(socket.IPPROTO_UDP, udp.SEGMENT, 500)
    a.send(b"y" * 1100, a.sources[0])
    assert [len(c.receive()) for _ in range(3)] == [500, 500, 100]
    assert gateway.metric("udp_tx_datagrams") == 3


def test_many_clients_at_once(serve, backend):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, workers=4)
    wrong = []

    def run(n):
        with udp.Client(port) as c:
            for i in range(200):
                if c.ask(b"%d %d" % (n, i)) != b"%d %d" % (n, i):
                    wrong.append((n, i))
    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert not wrong
    assert len(a.received) == 1600 and len(a.sources) == 8
    assert gateway.metric("udp_tx_dropped") == 0


def test_a_flood_does_not_starve_connections(serve, backend):
    """One worker: a relay of TCP goes on beside more datagrams than it can carry."""
    a, stream = backend(), tcp.Backend(tcp.says("tcp"))
    gateway = serve(d.gateway_of(d.server("*", number=NUMBER, protocol="TCP", name="t"),
                                 d.server("*", number=NUMBER, protocol="UDP", name="u")),
                    d.l4_service("tcp", to("app")), *_both("app", stream.port, a.port),
                    numbers=[NUMBER], udp=[NUMBER], workers=1)
    stop = threading.Event()

    def flood():
        with udp.Client(gateway.udp_ports[NUMBER]) as c:
            c.socket.setsockopt(socket.IPPROTO_UDP, udp.SEGMENT, 16)
            while not stop.is_set():
                c.send(b"x" * 1024)
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        eventually(lambda: gateway.metric("udp_rx_datagrams") > 10000)
        with tcp.connect(gateway.ports[NUMBER]) as c:
            for _ in range(50):
                assert tcp.ask(c, b"x\n") == b"tcp x\n"
    finally:
        stop.set()
        thread.join(10)
        stream.close()


def _both(name, tcp_port, udp_port):
    return [{"apiVersion": "v1", "kind": "Service",
             "metadata": {"name": name, "namespace": "default"},
             "spec": {"ports": [{"name": "t", "port": NUMBER},
                                {"name": "u", "port": NUMBER, "protocol": "UDP"}]}},
            {"apiVersion": "v1", "kind": "Endpoints",
             "metadata": {"name": name, "namespace": "default"},
             "subsets": [{"addresses": [{"ip": "127.0.0.1"}],
                          "ports": [{"name": "t", "port": tcp_port},
                                    {"name": "u", "port": udp_port, "protocol": "UDP"}]}]}]


# ---- ends of sessions

def test_idle_time_by_option(serve, backend, client):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, args=["--udp-idle-timeout", "300ms"])
    c = client(port)
    c.ask()
    gateway.wait_metric("udp_sess_idle_timeout", 1)
    assert gateway.metric("udp_sess_active") == 0
    c.ask()
    assert len(a.sources) == 2, "another session"


def test_idle_time_by_destination_rule_and_what_keeps_a_session(serve, backend, client):
    a = backend()
    rule = d.destination_rule("app", trafficPolicy={"connectionPool": {
        "tcp": {"idleTimeout": "0.5s"}}})
    gateway, port = relay(serve, a.port, rules=[rule])
    c = client(port)
    c.send(b"?")
    _, peer = a.next()
    for i in range(8):  # answers alone keep it, beyond the idle time
        a.send(b"%d" % i, peer)
        assert c.receive() == b"%d" % i
        threading.Event().wait(0.15)
    assert gateway.metric("udp_sess_active") == 1
    gateway.wait_metric("udp_sess_active", 0)


def test_max_connection_duration(serve, backend, client):
    a = backend(udp.echo)
    rule = d.destination_rule("app", trafficPolicy={"connectionPool": {
        "tcp": {"maxConnectionDuration": "0.5s"}}})
    gateway, port = relay(serve, a.port, rules=[rule])
    c = client(port)
    eventually(lambda: c.ask() and len(a.sources) == 2, what="a second session in spite of traffic")


def test_limit_of_sessions(serve, backend, client):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, args=["--udp-sessions", "3"], workers=2)
    known = [client(port) for _ in range(3)]
    for c in known:
        assert c.ask() == b"?"
    new = client(port)
    new.send(b"new")
    gateway.wait_metric("udp_sess_overflow", 1)
    for c in known:
        assert c.ask() == b"?", "who has a session keeps it"
    assert new.silent()
    assert (b"new", new.socket.getsockname()) not in a.received
    assert gateway.metric("udp_sess_active") == 3


def test_a_place_is_free_again_after_a_session(serve, backend, client):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, args=["--udp-sessions", "1", "--udp-idle-timeout", "200ms"])
    for _ in range(3):
        assert client(port).ask() == b"?"
        gateway.wait_metric("udp_sess_active", 0)


def test_limit_of_one_listener_leaves_room_for_another(serve, backend, client):
    a = backend(udp.echo)
    gateway = serve(d.l4_gateway(server(1), server(2)), d.l4_service("tcp", to()), *app(a.port),
                    numbers=[], udp=[1, 2], args=["--udp-sessions", "16"])
    for _ in range(14):
        assert client(gateway.udp_ports[1]).ask() == b"?"
    client(gateway.udp_ports[1]).send(b"too many")
    gateway.wait_metric("udp_sess_overflow", 1)
    assert client(gateway.udp_ports[2]).ask() == b"?"


def test_an_endpoint_that_is_gone_ends_the_session(serve, backend, client):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, workers=1)
    c = client(port)
    assert c.ask() == b"?"
    a.close()
    c.send(b"lost")
    gateway.wait_metric("udp_sess_active", 0)
    again = backend(udp.says("again"), port=a.port)
    assert c.ask(b"x") == b"again x"
    assert len(again.sources) == 1


def test_an_endpoint_that_never_was_is_counted(serve, client):
    port_of_nobody = serve.udp_ports(9)[9]
    gateway, port = relay(serve, port_of_nobody, workers=1)
    c = client(port)
    c.send(b"lost")
    gateway.wait_metric("upstream_cx_connect_fail", 1)
    gateway.wait_metric("udp_sess_active", 0)
    assert gateway.metric("udp_sess_total") == 1


# ---- reload

def test_reload_under_traffic_loses_nothing(serve, backend):
    a = backend(udp.echo)
    docs = [d.l4_gateway(server()), d.l4_service("tcp", to()), *app(a.port)]
    gateway = serve(*docs, numbers=[], udp=[NUMBER], workers=2)
    stop, asked = threading.Event(), []

    def run():
        with udp.Client(gateway.udp_ports[NUMBER]) as c:
            while not stop.is_set():
                asked.append(c.ask(b"%d" % len(asked)))
    thread = threading.Thread(target=run)
    thread.start()
    for n in range(5):
        reloaded(gateway, *docs, *app(1, name=f"other-{n}"))
    stop.set()
    thread.join(20)
    assert asked == [b"%d" % i for i in range(len(asked))] and len(asked) > 100
    assert len(a.sources) == 1, "one session throughout"


def test_reload_that_moves_a_route_moves_clients_and_keeps_answers_that_are_due(serve, backend,
                                                                               client):
    one, two = backend(), backend(udp.says("two"))
    apps = [*app(one.port, name="one"), *app(two.port, name="two")]
    gateway = serve(d.l4_gateway(server()), d.l4_service("tcp", to("one")), *apps,
                    numbers=[], udp=[NUMBER], workers=2, args=["--drain-time", "30s"])
    c = client(gateway.udp_ports[NUMBER])
    c.send(b"first")
    _, peer = one.next()
    reloaded(gateway, d.l4_gateway(server()), d.l4_service("tcp", to("two")), *apps)
    one.send(b"late answer", peer)
    assert c.receive() == b"late answer"
    assert c.ask(b"x") == b"two x"
    assert len(one.received) == 1


def test_reload_that_moves_a_route_ends_answers_that_never_end(serve, backend, client):
    """An endpoint that goes on sending to a client that has moved is cut off after the drain time."""
    one, two = backend(), backend(udp.says("two"))
    apps = [*app(one.port, name="one"), *app(two.port, name="two")]
    gateway = serve(d.l4_gateway(server()), d.l4_service("tcp", to("one")), *apps,
                    numbers=[], udp=[NUMBER], workers=1, args=["--drain-time", "500ms"])
    c = client(gateway.udp_ports[NUMBER])
    c.send(b"first")
    _, peer = one.next()
    reloaded(gateway, d.l4_gateway(server()), d.l4_service("tcp", to("two")), *apps)
    assert gateway.metric("udp_sess_active") == 1

    def cut_off():
        one.send(b"more", peer)
        return gateway.metric("udp_sess_active") == 0
    eventually(cut_off, timeout=4)


def test_reload_that_removes_an_endpoint(serve, backend, client):
    one, two = backend(udp.says("one")), backend(udp.says("two"))
    docs = [d.l4_gateway(server()), d.l4_service("tcp", to())]
    gateway = serve(*docs, *app(one.port), numbers=[], udp=[NUMBER])
    c = client(gateway.udp_ports[NUMBER])
    assert c.ask(b"x") == b"one x"
    reloaded(gateway, *docs, *app(one.port, two.port))
    assert c.ask(b"x") == b"one x"
    reloaded(gateway, *docs, *app(two.port))
    assert c.ask(b"x") == b"two x"


def test_a_listener_that_goes_serves_its_sessions_until_they_are_quiet(serve, backend, client):
    a = backend(udp.echo)
    docs = [d.l4_gateway(server()), d.l4_service("tcp", to()), *app(a.port)]
    other = [d.l4_gateway(server(7)), d.l4_service("tcp", to()), *app(a.port)]
    gateway = serve(*docs, numbers=[], udp=[NUMBER, 7],
                    args=["--udp-idle-timeout", "1s", "--drain-time", "30s"])
    port = gateway.udp_ports[NUMBER]
    known, new = client(port), client(port)
    assert known.ask() == b"?"
    rewrite(gateway, *other)
    assert gateway.log.wait(r"event=listener_closed", 5)
    assert client(gateway.udp_ports[7]).ask() == b"?"
    assert known.ask(b"still") == b"still"
    new.send(b"new")
    eventually(lambda: new.silent(0.05) and gateway.metric("udp_sess_overflow") >= 1)
    gateway.wait_metric("udp_sess_active", 0, timeout=10)

    def refused():
        try:
            return known.ask() and False
        except ConnectionRefusedError:
            return True
    eventually(refused)


def test_a_listener_that_comes_back_at_once(serve, backend, client):
    """While the old sockets drain, the new ones have all clients, old and new."""
    a = backend(udp.echo)
    docs = [d.l4_gateway(server()), d.l4_service("tcp", to()), *app(a.port)]
    gateway = serve(*docs, numbers=[], udp=[NUMBER], workers=2, args=["--drain-time", "30s"])
    port = gateway.udp_ports[NUMBER]
    known = [client(port) for _ in range(8)]
    for c in known:
        assert c.ask() == b"?"
    rewrite(gateway, *docs[1:])
    assert gateway.log.wait(r"event=listener_closed", 5)
    seen = len(gateway.log.lines)
    rewrite(gateway, *docs)
    assert gateway.log.wait(r"event=listening name=udp_", 5, start=seen)
    # Those of the old sockets end at once, not when they have been quiet.
    gateway.wait_metric("udp_sess_active", 0, timeout=3)
    for c in [*known, *(client(port) for _ in range(8))]:
        assert c.ask() == b"?"


def test_drain(serve, backend, client):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, args=["--udp-idle-timeout", "1s", "--drain-time", "30s"])
    known, new = client(port), client(port)
    assert known.ask() == b"?"
    gateway.signal(signal.SIGTERM)
    eventually(lambda: gateway.metric("draining") == 1)
    assert known.ask(b"still") == b"still"
    new.send(b"new")
    assert new.silent(0.2)
    assert gateway.wait_exit() == 0
    gateway.check_log()
    assert b"new" not in [data for data, _ in a.received]


def test_drain_does_not_wait_for_sessions_that_are_quiet(serve, backend, client):
    """Their idle time would be a minute."""
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, args=["--drain-time", "60s"])
    assert client(port).ask() == b"?"
    gateway.signal(signal.SIGTERM)
    assert gateway.wait_exit() == 0
    gateway.check_log()


def test_drain_time_is_the_end_of_it(serve, backend, client):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port, args=["--drain-time", "1s"])
    c = client(port)
    c.ask()
    gateway.signal(signal.SIGTERM)
    # Traffic without an end does not hold it up; the last of it finds nobody, or is lost.
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        c.socket.settimeout(1)
        while True:
            c.ask()
    assert gateway.wait_exit() == 0
    gateway.check_log()


# ---- seeing inside

def test_access_log_and_statistics(serve, backend, client):
    a = backend(udp.says("answer"))
    gateway, port = relay(serve, a.port, workers=1, args=[
        "--udp-idle-timeout", "200ms", "--access-log", "-", "--access-log-format",
        "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST% "
        "%UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %BYTES_RECEIVED% %BYTES_SENT% "
        "%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS%\n"])
    c = client(port)
    c.ask(b"abc")
    c.ask(b"de")
    m = gateway.out.wait(r"^(\S+) (\S+) (\S+) (\S+) (\S+) (\d+) (\d+) (\S+) (\S+)$", 5)
    source = c.socket.getsockname()
    assert m and m.groups() == (
        f"127.0.0.1:{source[1]}", f"127.0.0.1:{port}", f"127.0.0.1:{a.port}",
        "outbound|8080/UDP||app.default.svc.cluster.local",
        "%s:%d" % a.sources[0], "5", "19", "-", "udp_session_idle_timeout")
    metrics = gateway.metrics()
    name = {"cluster": "outbound|8080/UDP||app.default.svc.cluster.local"}
    assert metrics.get("sluice_cluster_udp_sess_total", **name) == 1
    assert metrics.get("sluice_cluster_udp_sess_active", **name) == 0
    assert not metrics.has("sluice_cluster_tcp_cx_total")
    listener = {"listener": f"udp_0.0.0.0_{port}"}
    assert metrics.get("sluice_listener_udp_sess_total", **listener) == 1
    assert metrics.get("sluice_listener_udp_rx_bytes_total", **listener) == 5
    assert metrics.get("sluice_listener_udp_tx_bytes_total", **listener) == 19
    assert metrics.get("sluice_downstream_rx_bytes") >= 5


def test_listings_and_explain(serve, backend):
    a = backend(udp.echo)
    gateway, port = relay(serve, a.port)
    table = sluice("proxy-config", "listeners", "--admin", gateway.admin).stdout
    assert re.search(rf"^0\.0\.0\.0 +{port} +Trans: udp +Cluster: outbound\|8080/UDP\|\|app\.", table,
                     re.M), table
    listeners = json.loads(sluice("pc", "listeners", "-o", "json", "--admin", gateway.admin).stdout)
    assert [(one["name"], one["transport"]) for one in listeners] == [
        (f"udp_0.0.0.0_{port}", "udp")]
    out = sluice("explain", "--host", "any", "--path", "/", "--port", str(NUMBER),
                 "-f", gateway.folder).stdout
    assert f"0.0.0.0:{port} UDP" in out and "outbound|8080/UDP||app" in out


def test_a_port_that_another_process_has(serve, backend):
    a = backend(udp.echo)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))
        number = other.getsockname()[1]
        gateway = serve(d.l4_gateway(server(number)), d.l4_service("tcp", to()), *app(a.port),
                        numbers=[], wait=False)
        assert gateway.wait_exit() == 1
        assert (f"cannot listen on UDP 0.0.0.0:{number}: another process has the port: end it "
                "(ss -ltunp names it)") in gateway.log_text()


# ---- what analyze says

def analyze(tmp_path, *docs):
    path = tmp_path / "docs.yaml"
    path.write_text(d.text(*docs))
    return sluice("analyze", "-f", path).stdout


def test_analyze_finds_nothing(tmp_path):
    run = analyze(tmp_path, d.l4_gateway(server()), d.l4_service("tcp", to()), *app(1234))
    assert "error" not in run and "warning" not in run, run


def test_analyze_refuses_tls_and_unix_sockets(tmp_path):
    docs = d.l4_gateway(server(tls={"mode": "SIMPLE", "credentialName": "c"}), server(0))
    docs["spec"]["servers"][1].update(bind="unix:///run/x")
    out = analyze(tmp_path, docs)
    assert "server cannot have TLS settings for non HTTPS/TLS ports" in out
    assert "a server of protocol UDP cannot be bound to a unix domain socket" in out


def test_analyze_tells_of_a_port_that_is_not_for_datagrams(tmp_path):
    out = analyze(tmp_path, d.l4_gateway(server()), d.l4_service("tcp", to()), *d.backend(1234))
    assert re.search(r"warning: VirtualService default/vs: app has this port for TCP only: "
                     r"datagrams of server p5300 \(UDP\) are dropped", out), out
    out = analyze(tmp_path, d.l4_gateway(server()), d.l4_service("tcp", to()), *app(1234),
                  d.destination_rule("app", trafficPolicy={"tls": {"mode": "SIMPLE"}}))
    assert "a DestinationRule asks for TLS to app, which datagrams cannot have" in out


def test_tls_towards_a_destination_is_never_left_out(serve, backend, client):
    a = backend(udp.echo)
    rule = d.destination_rule("app", trafficPolicy={"tls": {"mode": "SIMPLE"}})
    gateway, port = relay(serve, a.port, rules=[rule])
    client(port).send(b"secret")
    gateway.wait_metric("udp_sess_no_route", 1)
    assert a.received == []


def test_analyze_lets_tcp_and_udp_share_a_port_in_two_gateways(tmp_path):
    one = d.l4_gateway(server(), name="one")
    two = d.l4_gateway(server(protocol="TCP"), name="two")
    docs = _both("app", 1, 2)
    out = analyze(tmp_path, one, two, d.l4_service("tcp", to(port=NUMBER), gateways=["one", "two"]),
                  *docs)
    assert "IST0145" not in out, out
    assert "IST0145" in analyze(tmp_path, one, d.l4_gateway(server(), name="two"))


# ---- the tutorial's service of UDP

def test_statsd_of_the_tutorial(serve, backend, tmp_path, client):
    """5-8: its Service's port udp-statsd, reached from outside by a UDP server."""
    a = backend()
    copy = tmp_path / "statsd.yaml"
    shutil.copy(TUTORIAL / "5-8" / "deploy-statsd-influxdb-grafana.yaml", copy)
    name = re.search(r"kind: Service\nmetadata:\n  name: (\S+)", copy.read_text())[1]
    ports = serve.udp_ports(8125)
    more = tmp_path / "more.yaml"
    more.write_text(d.text(
        d.node({}, udp=ports),
        d.l4_gateway(server(8125), namespace="istio"),
        d.l4_service("tcp", {"match": [{"port": 8125}], **to(name, port=8125)}, namespace="istio"),
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": "istio"},
         "subsets": [{"addresses": [{"ip": "127.0.0.1"}],
                      "ports": [{"name": "udp-statsd", "port": a.port, "protocol": "UDP"}]}]}))
    serve.command([("istio", copy), ("istio", more)], ports,
                  args=["--drain-time", "100ms"]).wait_ready()
    client(ports[8125]).send(b"deploys.test:1|c")
    assert a.next()[0] == b"deploys.test:1|c"
