"""The PROXY protocol, versions 1 and 2: from proxies in front (--proxy-protocol), and towards
destinations (proxyProtocol of a DestinationRule)."""
import socket
import ssl
import struct
import subprocess

import pytest

from lib import documents as d
from lib import tcp, tls
from lib.gateway import sluice
from lib.certificates import Authority
from lib.http1 import Client, request
from lib.waiting import eventually

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TRUSTED = "127.0.0.1"
STRANGER = "127.0.0.9"  # not trusted
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.2 56324 443\r\n"
CLIENT = "192.0.2.7"
OPTIONS = ["--proxy-protocol", f"10.0.0.0/8,{TRUSTED}/32"]
LOG = ["--access-log", "-", "--access-log-format",
       "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"]


def v2(address=CLIENT, port=56324, command=0x21, family=0x11, more=b"", length=None):
    body = socket.inet_aton(address) + socket.inet_aton("198.51.100.2") + \
        struct.pack("!HH", port, 443) + more
    length = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", length) + body


@pytest.fixture
def http(serve, upstream):
    return serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port),
                 args=[*OPTIONS, *LOG])


@pytest.fixture
def backend():
    one = tcp.Backend(tcp.says("hello"))
    yield one
    one.close()


def relay(serve, backend, *extra, route=None, tls_mode=None, kind="tcp"):
    protocol = "TLS" if tls_mode else "TCP"
    return serve(d.l4_gateway((31400, protocol, ["*"], tls_mode)),
                 d.l4_service(kind, route or {"route": [d.to()]}), *d.backend(backend.port), *extra,
                 numbers=[31400], args=[*OPTIONS, *LOG])


def tls_server(certificate):
    return tcp.server_tls((certificate.cert, certificate.key))


def client_of(gateway):
    """A client from the trusted address."""
    return Client(gateway.port)


def from_stranger(port):
    s = socket.socket()
    s.bind((STRANGER, 0))
    s.settimeout(tcp.TIMEOUT)
    s.connect(("127.0.0.1", port))
    return tcp.Peer(s)


def forwarded_for(response):
    return dict(response.json()["headers"])["x-forwarded-for"]


# ---- who the client is


@pytest.mark.parametrize("header", [V1, v2(), v2(more=b"\x04\0\x03abc"), v2(more=b"\x05" * 16000)],
                         ids=["v1", "v2", "v2-tlv", "v2-long"])
def test_http_knows_the_client(http, header):
    with client_of(http) as client:
        client.send(header + request())
        response = client.response()
        assert response.status == 200
        seen = dict(response.json()["headers"])
        assert seen["x-forwarded-for"] == seen["x-envoy-external-address"] == CLIENT
        assert forwarded_for(client.roundtrip()) == CLIENT, "of each request of the connection"
    line = eventually(lambda: http.out.lines, 5)[0].split()
    assert line[:2] == [f"{CLIENT}:56324", "198.51.100.2:443"]
    assert line[2].startswith(TRUSTED + ":")


@pytest.mark.parametrize("header", [V1, v2(more=b"\x04\0\x03abc")], ids=["v1", "v2"])
def test_header_in_pieces(http, header):
    with client_of(http) as client:
        for i in range(len(header)):
            client.send(header[i:i + 1])
        assert forwarded_for(client.roundtrip()) == CLIENT


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN a b c d\r\n",
                                    v2(command=0x20), v2(family=0),
                                    SIGNATURE + b"\x20\0\0\0"],
                         ids=["v1", "v1-more", "v2-local", "v2-unspecified", "v2-empty"])
def test_unknown_clients_are_their_proxy(http, header):
    with client_of(http) as client:
        client.send(header)
        assert forwarded_for(client.roundtrip()) == TRUSTED


def test_ipv6_client(http):
    with client_of(http) as client:
        client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n")
        assert forwarded_for(client.roundtrip()) == "2001:db8::7"
    line = eventually(lambda: http.out.lines, 5)[0]
    assert line.startswith("[2001:db8::7]:1 [2001:db8::1]:2 ")


def test_curl(http):
    """It says what its socket has."""
    out = subprocess.run(["curl", "-sS", "--haproxy-protocol", f"http://127.0.0.1:{http.port}/x"],
                         capture_output=True, text=True, timeout=20, check=True)
    assert f'["x-forwarded-for", "{TRUSTED}"]' in out.stdout


def test_behind_tls(serve, upstream, tmp_path):
    """The header is in clear text, in front of the handshake."""
    ca = Authority(tmp_path, "ca")
    good = ca.issue("good", ["DNS:a.test"])
    gateway = serve(
        d.gateway_of(d.server("a.test", mode="SIMPLE", credentialName="c")),
        d.secret("c", good, namespace="istio-system"), d.virtual_service(d.rule()),
        *d.backend(upstream.port), numbers=[443], args=OPTIONS)
    port = gateway.ports[443]
    for header in (V1, v2()):
        client = Client(port)
        client.send(header)
        client.socket = tls.context(ca).wrap_socket(client.socket, server_hostname="a.test")
        with client:
            assert forwarded_for(client.roundtrip()) == CLIENT
    out = subprocess.run(["curl", "-sS", "--haproxy-protocol", "--cacert", str(ca.cert),
                          "--resolve", f"a.test:{port}:127.0.0.1", f"https://a.test:{port}/"],
                         capture_output=True, text=True, timeout=20, check=False)
    assert f'["x-forwarded-for", "{TRUSTED}"]' in out.stdout, out.stderr
    assert gateway.metric("downstream_proxy_protocol_fail") == 0


def test_hello_in_one_segment_with_the_header(serve, upstream, tmp_path):
    ca = Authority(tmp_path, "ca")
    gateway = serve(
        d.gateway_of(d.server("a.test", mode="SIMPLE", credentialName="c")),
        d.secret("c", ca.issue("good", ["DNS:a.test"]), namespace="istio-system"),
        d.virtual_service(d.rule()), *d.backend(upstream.port), numbers=[443], args=OPTIONS)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = tls.context(ca).wrap_bio(incoming, outgoing, server_hostname="a.test")
    with Client(gateway.ports[443]) as client:
        with pytest.raises(ssl.SSLWantReadError):
            session.do_handshake()
        client.send(V1 + outgoing.read())
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))
        session.write(request())
        client.send(outgoing.read())
        while True:
            try:
                assert session.read(65536).startswith(b"HTTP/1.1 200")
                break
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))


def test_relay(serve, backend):
    """The header is not passed on, what follows it is, from the first byte on."""
    gateway = relay(serve, backend)
    for header in (V1, v2()):
        with tcp.connect(gateway.ports[31400]) as client:
            client.send(header + b"one ")
            assert tcp.ask(client, b"two\n") == b"hello one two\n"
    line = eventually(lambda: gateway.out.lines, 5)[0].split()
    assert line[:2] == [f"{CLIENT}:56324", "198.51.100.2:443"]


def test_relay_that_the_server_begins(serve, backend):
    """Where the server speaks first the client's bytes are not waited for, only the header."""
    silent = tcp.Backend(lambda peer: peer.send(b"welcome\n"))
    try:
        gateway = relay(serve, silent)
        with tcp.connect(gateway.ports[31400]) as client:
            client.send(V1)
            assert client.receive(8) == b"welcome\n"
    finally:
        silent.close()


def test_relay_rules_know_the_destination(serve, backend):
    gateway = relay(serve, backend,
                    route={"match": [{"destinationSubnets": ["198.51.100.0/24"]}],
                           "route": [d.to()]})
    with tcp.connect(gateway.ports[31400]) as client:
        client.send(V1)
        assert tcp.ask(client) == b"hello world\n"
    with tcp.connect(gateway.ports[31400]) as client:
        client.send(b"PROXY UNKNOWN\r\n")
        assert client.ended()


def test_passthrough(serve, tmp_path):
    cert = tcp.certificate(tmp_path, "a.test")
    behind = tcp.Backend(tcp.says("tls"), tls=tcp.server_tls(cert))
    try:
        gateway = relay(serve, behind, tls_mode={"mode": "PASSTHROUGH"}, kind="tls",
                        route={"match": [{"sniHosts": ["a.test"]}], "route": [d.to()]})
        peer = tcp.connect(gateway.ports[31400])
        peer.send(v2())
        context = ssl.create_default_context(cafile=cert[0])
        with tcp.Peer(context.wrap_socket(peer.socket, server_hostname="a.test")) as client:
            assert tcp.ask(client) == b"tls world\n"
    finally:
        behind.close()


# ---- who is believed


@pytest.mark.parametrize("bad", [request(), V1[1:], b"PROXY TCP4 192.0.2.7 x 1 2\r\n",
                                 b"PROXY " + b"x" * 200, v2(command=0x22), v2(length=4),
                                 v2(length=0xffff), b"\x16\x03\x01\0\5"],
                         ids=["none", "cut", "address", "long", "v2-command", "v2-short",
                              "v2-long", "tls"])
def test_a_bad_header_ends_the_connection(http, upstream, bad):
    with tcp.connect(http.port) as client:
        client.send(bad)
        assert client.ended()
    assert http.metric("downstream_proxy_protocol_fail") == 1
    assert not upstream.requests
    http.wait_idle()


def test_strangers_have_no_header(http, upstream):
    """What they send is the request, whatever it says."""
    with from_stranger(http.port) as client:
        client.send(request(headers=[("connection", "close")]))
        assert client.rest().startswith(b"HTTP/1.1 200")
    seen = dict(upstream.wait_requests(1)[0].headers)
    assert seen["x-forwarded-for"] == STRANGER
    for header in (V1, v2()):
        with from_stranger(http.port) as client:
            client.send(header + request())
            assert client.rest().startswith(b"HTTP/1.1 400")
    assert len(upstream.requests) == 1
    assert http.metric("downstream_proxy_protocol_fail") == 0


def test_strangers_bytes_are_relayed(serve, backend):
    gateway = relay(serve, backend)
    with from_stranger(gateway.ports[31400]) as client:
        assert tcp.ask(client, V1) == b"hello " + V1


def test_nobody_is_believed_by_default(serve, upstream):
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port))
    with gateway.client() as client:
        client.send(V1 + request())
        assert client.response().status == 400


def test_header_in_time(serve, upstream):
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port),
                    args=[*OPTIONS, "--head-timeout", "300ms"])
    with client_of(gateway) as client:
        client.send(V1[:20])
        client.expect_close()
    assert gateway.metric("downstream_proxy_protocol_timeout") == 1
    with client_of(gateway) as client:  # what follows it has the time of a head
        client.send(V1)
        client.expect_close()
    assert gateway.metric("downstream_proxy_protocol_timeout") == 1
    gateway.wait_idle()


def test_client_that_leaves_within_the_header(http):
    for end in ("close", "reset"):
        client = client_of(http)
        client.send(V1[:20])
        getattr(client, end)()
    http.wait_metric("downstream_cx_destroy_remote", 2)
    http.wait_idle()


@pytest.mark.parametrize("value", ["", "a.test", "10.0.0.0/33", "10.0.0.1,", "unix:///x"])
def test_option_takes_addresses(value, tmp_path):
    run = sluice("run", "-f", tmp_path, "--proxy-protocol", value)
    assert run.returncode == 2
    assert "--proxy-protocol: " in run.stderr


# ---- told to destinations


class Bytes:
    """A peer's bytes, of which none is taken too many."""

    def __init__(self, peer):
        self.exactly = peer.receive

    def until(self, mark):
        out = b""
        while not out.endswith(mark):
            out += self.exactly(1)
        return out


class Told:
    """Of a connection's header: (source, destination) as texts, or None for an unknown client."""

    def __init__(self, stream):
        first = stream.exactly(1)
        if first == b"P":
            words = (first + stream.until(b"\r\n")).decode().split()
            self.version, self.known = 1, words[1] != "UNKNOWN"
            if self.known:
                self.source, self.destination = (f"{words[2]}:{words[4]}", f"{words[3]}:{words[5]}")
            return
        head = first + stream.exactly(15)
        assert head[:12] == SIGNATURE and head[12] == 0x21
        body = stream.exactly(struct.unpack("!H", head[14:])[0])
        self.version, self.known = 2, head[13] == 0x11
        if self.known:
            ports = struct.unpack("!HH", body[8:])
            self.source = f"{socket.inet_ntoa(body[:4])}:{ports[0]}"
            self.destination = f"{socket.inet_ntoa(body[4:8])}:{ports[1]}"


def tells(upstream):
    """The headers of an HTTP backend's connections, in their order."""
    told = []
    upstream.on_connect = lambda connection: told.append(Told(connection))
    return told


def policy(version, **fields):
    return d.destination_rule("app", trafficPolicy={"proxyProtocol": {"version": version}, **fields})


def own_address(client):
    return "%s:%d" % client.socket.getsockname()


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_http_destination_is_told(serve, upstream, version):
    """Each client has connections of its own, which end with it."""
    told = tells(upstream)
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port),
                    policy(version), workers=1)
    with gateway.client() as one, gateway.client() as other:
        numbers = [c.roundtrip().json()["connection"] for c in (one, other, one, other, one)]
        assert numbers == [1, 2, 1, 2, 1]
        assert [t.source for t in told] == [own_address(one), own_address(other)]
        assert {t.destination for t in told} == {f"127.0.0.1:{gateway.port}"}
        assert {t.version for t in told} == {int(version[1])}
    for connection in upstream.wait_connections(2):
        assert connection.ended.wait(5), "nobody else may use it"
    gateway.wait_metric("upstream_cx_active", 0)


def test_http_destination_is_told_in_front_of_tls(serve, tmp_path):
    ca = Authority(tmp_path, "ca")
    server = tls_server(ca.issue("good", ["DNS:a.test"]))
    told = []

    def handshake(peer):
        told.append(Told(Bytes(peer)))
        peer.socket = server.wrap_socket(peer.socket, server_side=True)
        peer.socket.recv(65536)
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        peer.socket.unwrap()
    app = tcp.Backend(handshake)
    try:
        gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(app.port),
                        policy("V2", tls={"mode": "SIMPLE", "caCertificates": str(ca.cert)}))
        with gateway.client() as client:
            assert client.roundtrip().body == b"ok"
            assert [t.source for t in told] == [own_address(client)]
    finally:
        app.close()


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_relay_tells(serve, version):
    told = []

    def serve_one(peer):
        told.append(Told(Bytes(peer)))
        tcp.says("hello")(peer)
    app = tcp.Backend(serve_one)
    try:
        gateway = relay(serve, app, policy(version))
        with from_stranger(gateway.ports[31400]) as client:
            assert tcp.ask(client) == b"hello world\n"
            assert told[0].source == own_address(client)
            assert told[0].destination == f"127.0.0.1:{gateway.ports[31400]}"
    finally:
        app.close()


def test_client_is_passed_on_through_two(serve, upstream):
    """What a proxy in front has said is what the destination is told."""
    told = tells(upstream)
    back = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port),
                 policy("V2"), args=OPTIONS)
    front = serve(d.l4_gateway((31400, "TCP", ["*"], None)),
                  d.l4_service("tcp", {"route": [d.to()]}), *d.backend(back.port), policy("V1"),
                  numbers=[31400], args=OPTIONS)
    with Client(front.ports[31400]) as client:
        client.send(V1)
        assert forwarded_for(client.roundtrip()) == CLIENT
    assert (told[0].source, told[0].destination) == (f"{CLIENT}:56324", "198.51.100.2:443")
