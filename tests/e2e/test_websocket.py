"""WebSocket through the gateway, with somebody else's client and server."""
import socket
import threading

import pytest
import websockets.sync.client as ws_client
import websockets.sync.server as ws_server
from websockets.exceptions import ConnectionClosed

from lib import documents as d


@pytest.fixture
def gateway(serve):
    """A server that echoes, closes on "close", and speaks first on /hello."""
    def session(connection):
        if connection.request.path == "/hello":
            connection.send("hello")
        for message in connection:
            if message == "close":
                connection.close(4000, "as you wish")
            else:
                connection.send(message)

    server = ws_server.serve(session, "127.0.0.1", 0, subprotocols=["chat"], max_size=None)
    port = server.socket.getsockname()[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    limited = d.rule({"uri": {"exact": "/limited"}}, timeout="0.3s")
    gateway = serve(d.gateway("ws.test"), d.virtual_service(limited, d.rule(), hosts=["ws.test"]),
                    *d.backend(port))
    yield gateway
    server.shutdown()


def connect(gateway, path="/"):
    return ws_client.connect("ws://ws.test" + path, max_size=None, subprotocols=["chat"], open_timeout=5,
                             sock=socket.create_connection(("127.0.0.1", gateway.port)))


def test_messages(gateway):
    with connect(gateway, "/hello") as ws:
        assert ws.subprotocol == "chat"
        assert ws.recv(5) == "hello"
        for message in ("text", "grüße", "", b"\x00\xff" * 1000, "x" * (1 << 20)):
            ws.send(message)
            assert ws.recv(10) == message
        assert ws.ping().wait(5)
        assert gateway.metric("tunnel_active") == 1
    gateway.wait_idle()


def test_route_timeout_ends_with_the_handshake(gateway):
    with connect(gateway, "/limited") as ws:
        with pytest.raises(TimeoutError):  # and not ConnectionClosed
            ws.recv(0.8)
        ws.send("still here")
        assert ws.recv(5) == "still here"


def test_close_by_the_server(gateway):
    with connect(gateway) as ws:
        ws.send("close")
        with pytest.raises(ConnectionClosed):
            ws.recv(5)
        assert (ws.close_code, ws.close_reason) == (4000, "as you wish")
    gateway.wait_idle()


def test_many_at_once(gateway):
    sockets = [connect(gateway) for _ in range(20)]
    for i, ws in enumerate(sockets):
        ws.send(f"message {i}")
    assert [ws.recv(5) for ws in sockets] == [f"message {i}" for i in range(20)]
    for ws in sockets:
        ws.close()
    gateway.wait_idle()
