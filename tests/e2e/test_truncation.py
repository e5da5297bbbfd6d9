"""How a stream ends on one side is how it ends on the other: a FIN as a FIN, a reset as a reset, and
TLS that breaks off without close_notify as a reset too, behind what had come."""
import socket
import ssl
import threading

import pytest

from lib import documents as d
from lib import tcp, tls
from lib.certificates import Authority
from lib.http1 import Client
from lib.ports import SilentPort

NUMBER = 443
UPGRADE = (b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
ACCEPTED = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")

    class Pki:
        ca = Authority(folder, "ca")
        good = ca.issue("good", ["DNS:a.test"])
    return Pki


class Backend(tcp.Backend):
    """accept() is after the handshake, where there is TLS."""

    def __init__(self, certificate=None):
        super().__init__()
        self._context = certificate and tcp.server_tls((certificate.cert, certificate.key))

    def accept(self):
        peer = super().accept()
        if self._context:
            peer.socket = self._context.wrap_socket(peer.socket, server_side=True,
                                                    suppress_ragged_eofs=False)
        return peer


@pytest.fixture
def joined(serve, pki):
    """joined(KIND, CLIENT_TLS, UPSTREAM_TLS) -> (client, upstream), the ends of a relay or tunnel
    through which a byte has gone."""
    made = []

    def accepted(app, out):
        peer = app.accept()
        if out["tunnel"]:
            while not (head := out.get("head", b"")).endswith(b"\r\n\r\n"):
                out["head"] = head + peer.receive(1)
            peer.send(ACCEPTED)
        out["peer"] = peer

    def join(kind, client_tls, upstream_tls):
        app = Backend(pki.good if upstream_tls else None)
        made.append(app)
        rules = [d.destination_rule("app", trafficPolicy={"tls": {
            "mode": "SIMPLE", "caCertificates": str(pki.ca.cert), "sni": "a.test"}})]
        tunnel = kind == "tunnel"
        protocol = ("HTTPS" if tunnel else "TLS") if client_tls else "HTTP" if tunnel else "TCP"
        server = {"port": {"number": NUMBER, "name": "p", "protocol": protocol}, "hosts": ["*"]}
        if client_tls:
            server["tls"] = {"mode": "SIMPLE", "credentialName": "c"}
        routes = d.virtual_service(d.rule()) if tunnel else \
            d.l4_service("tcp", {"route": [d.to()]})
        gateway = serve(d.gateway_of(server), routes, *d.backend(app.port),
                        d.secret("c", pki.good, namespace="istio-system"),
                        *(rules if upstream_tls else []), numbers=[NUMBER])
        port, out = gateway.ports[NUMBER], {"tunnel": tunnel}
        thread = threading.Thread(target=accepted, args=(app, out))
        thread.start()
        http = tls.Client(port, ctx=tls.context(pki.ca), strict=True) if client_tls else \
            Client(port)
        client = tcp.Peer(http.socket)
        if tunnel:
            client.send(UPGRADE)
            while not (head := out.get("answer", b"")).endswith(b"\r\n\r\n"):
                out["answer"] = head + client.receive(1)
            assert b" 101 " in head
        else:
            client.send(b"?")
        thread.join(tcp.TIMEOUT)
        upstream = out["peer"]
        if not tunnel:
            assert upstream.receive(1) == b"?"
        upstream.send(b"!")
        assert client.receive(1) == b"!"
        made.append(gateway)
        return client, upstream
    join.made = made
    yield join
    for one in made:
        if isinstance(one, Backend):
            one.close()
        else:
            one.wait_idle()


KINDS = pytest.mark.parametrize("kind", ["relay", "tunnel"])
FROM = pytest.mark.parametrize("side", ["client", "upstream"])
BULK = b"x" * 3_000_000


def break_off(peer):
    """FIN without close_notify."""
    raw = socket.socket(fileno=peer.socket.fileno())
    raw.shutdown(socket.SHUT_WR)
    raw.detach()


def received_until_reset(peer):
    out = bytearray()
    try:
        while piece := peer.socket.recv(1 << 18):
            out += piece
    except (ConnectionResetError, ssl.SSLEOFError) as e:
        return bytes(out), "reset" if isinstance(e, ConnectionResetError) else "cut"
    return bytes(out), "end"


@KINDS
@FROM
def test_tls_that_breaks_off_is_a_reset(joined, kind, side):
    client, upstream = joined(kind, side == "client", side == "upstream")
    one, other = (client, upstream) if side == "client" else (upstream, client)
    one.send(BULK)
    break_off(one)
    data, how = received_until_reset(other)
    assert (len(data), how) == (len(BULK), "reset")
    client.close(), upstream.close()


@KINDS
@FROM
def test_tls_on_both_sides_that_breaks_off(joined, kind, side):
    """No close_notify is made up."""
    client, upstream = joined(kind, True, True)
    one, other = (client, upstream) if side == "client" else (upstream, client)
    one.send(b"the last words")
    break_off(one)
    data, how = received_until_reset(other)
    assert data == b"the last words" and how in ("reset", "cut")
    client.close(), upstream.close()


@KINDS
@FROM
@pytest.mark.parametrize("with_tls", [False, True], ids=["clear", "tls"])
def test_reset_is_a_reset(joined, kind, side, with_tls):
    client, upstream = joined(kind, with_tls and side == "client", with_tls and side == "upstream")
    one, other = (client, upstream) if side == "client" else (upstream, client)
    one.reset()
    assert received_until_reset(other) == (b"", "reset")
    client.close(), upstream.close()


@KINDS
@FROM
def test_close_notify_is_a_fin(joined, kind, side):
    client, upstream = joined(kind, side == "client", side == "upstream")
    one, other = (client, upstream) if side == "client" else (upstream, client)
    one.send(BULK)
    threading.Thread(target=lambda: quietly(one.socket.unwrap), daemon=True).start()
    data, how = received_until_reset(other)
    assert (len(data), how) == (len(BULK), "end")
    other.send(b"and back")  # a half-close: the other direction goes on
    other.close()
    client.close(), upstream.close()


def quietly(call):
    try:
        call()
    except OSError:
        pass


def test_client_that_breaks_off_before_there_is_an_upstream(serve, pki):
    """Nothing is left of it."""
    silent = SilentPort()
    gateway = serve(
        d.gateway_of({"port": {"number": NUMBER, "name": "p", "protocol": "TLS"},
                      "hosts": ["*"], "tls": {"mode": "SIMPLE", "credentialName": "c"}}),
        d.secret("c", pki.good, namespace="istio-system"),
        d.l4_service("tcp", {"route": [d.to()]}), *d.backend(silent.number), numbers=[NUMBER])
    client = tcp.Peer(tls.Client(gateway.ports[NUMBER], ctx=tls.context(pki.ca)).socket)
    client.send(b"?")
    gateway.wait_metric("upstream_cx_active", 0)
    gateway.wait_metric("tcp_cx_active", 1)
    break_off(client)
    client.close()
    silent.release()
