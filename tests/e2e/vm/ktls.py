"""Records in the kernel: run by ../test_ktls.py in a virtual machine whose kernel has kTLS (as root,
with AES-GCM loaded and ChaCha20-Poly1305 not). Linux 6.1 cannot change keys."""
import contextlib
import socket
import ssl
import subprocess
import threading

import pytest

from lib import documents as d
from lib import tls
from lib import tls_raw as raw
from lib.certificates import Authority
from lib.http1 import chunked, reply, request
from lib.upstream import Upstream
from lib.waiting import eventually
from vm import kernel

V = ssl.TLSVersion
V12, V13 = (V.TLSv1_2, V.TLSv1_2), (V.TLSv1_3, V.TLSv1_3)
VERSIONS = pytest.mark.parametrize("versions", [V12, V13], ids=["1.2", "1.3"])
CHANGES_KEYS = kernel.version() >= (6, 14)
HTTPS, RELAY = 443, 7000
MEGABYTE = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki")).issue("server", ["DNS:a.test"])


@pytest.fixture(scope="module")
def echo():
    """Sends back what it is sent, and FIN after FIN."""
    def copy(sock):
        with sock, contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65536):
                sock.sendall(data)

    def accept():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=copy, args=(sock,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def documents(leaf, upstream, echo):
    secrets = {"mode": "SIMPLE", "serverCertificate": str(leaf.cert), "privateKey": str(leaf.key)}
    return [d.gateway_of(d.server("a.test", **secrets),
                         d.server("a.test", number=RELAY, protocol="TLS", **secrets)),
            d.virtual_service(d.rule()), *d.backend(upstream.port),
            d.l4_service("tcp", {"match": [{"port": RELAY}], "route": [d.to("echo")]}, name="relay"),
            *d.backend(echo, name="echo")]


@pytest.fixture(scope="module")
def gateway(module_serve, module_upstream, leaf, echo):
    return module_serve(*documents(leaf, module_upstream, echo), numbers=(HTTPS, RELAY), workers=1,
                        args=["--ktls", "on"])


@contextlib.contextmanager
def taken(gateway, count=1, side="downstream"):
    """So many connections are handed over inside, by our count and by the kernel's, none else."""
    names = [f"{side}_tls_ktls", f"{side}_tls_ktls_fallback"]
    before, stat = [gateway.metric(n) for n in names], kernel.tls_stat()
    yield
    eventually(lambda: gateway.metric(names[0]) == before[0] + count)
    after = kernel.tls_stat()
    assert after["TlsTxSw"] - stat["TlsTxSw"] == after["TlsRxSw"] - stat["TlsRxSw"] == count
    assert gateway.metric(names[1]) == before[1]


@contextlib.contextmanager
def counted(gateway, name):
    before = gateway.metric(name)
    yield
    eventually(lambda: gateway.metric(name) == before + 1, what=name)


# ---- ciphers


def s_client(port, *args):
    """One request that ends the connection, by OpenSSL's own client, which chooses ciphers of 1.3."""
    run = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername",
                          "a.test", "-ign_eof", *args],
                         input=request(host="a.test", headers=[("connection", "close")]),
                         capture_output=True, timeout=20, check=False)
    assert b"HTTP/1.1 200 OK" in run.stdout and b"\n}" not in run.stderr, run
    return run.stdout.decode("latin-1")


def load_chacha():
    """What it is called depends on the kernel."""
    for name in ("chacha_generic", "chacha", "poly1305_generic", "chacha20poly1305"):
        kernel.load(name)


CHACHA = ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]


def test_a_cipher_that_the_kernel_lacks(serve, upstream, leaf, echo):
    """It falls back, is told once and not asked again; others go on; a restart asks again."""
    assert "chacha20poly1305" not in kernel.loaded()
    docs = documents(leaf, upstream, echo)
    first = serve(*docs, numbers=(HTTPS, RELAY), workers=1, args=["--ktls", "on"])
    for _ in range(3):
        assert "TLS_CHACHA20_POLY1305_SHA256" in s_client(first.ports[HTTPS], *CHACHA)
    assert first.metric("downstream_tls_ktls_fallback") == 3
    said = [line for line in first.log.lines if "event=ktls_refused" in line]
    assert len(said) == 1 and "cipher=TLS_CHACHA20_POLY1305_SHA256" in said[0], said
    assert first.metric("downstream_tls_ktls") == 0
    assert tls.fetch(first.ports[HTTPS]).status == 200
    assert first.metric("downstream_tls_ktls") == 1
    load_chacha()
    second = serve(*docs, numbers=(HTTPS, RELAY), workers=1, args=["--ktls", "on"])
    with taken(second):
        s_client(second.ports[HTTPS], *CHACHA)


@pytest.mark.parametrize("args", [
    ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
    ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
    CHACHA,
    ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
    ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
    ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
], ids=lambda a: a[-1])
def test_each_cipher(gateway, args):
    load_chacha()
    with taken(gateway):
        assert args[-1] in s_client(gateway.ports[HTTPS], *args)


def test_switched_off(serve, upstream, leaf, echo):
    for value in ("off", "auto"):
        quiet = serve(*documents(leaf, upstream, echo), numbers=(HTTPS, RELAY), workers=1,
                      args=["--ktls", value])
        before = kernel.tls_stat()
        assert tls.fetch(quiet.ports[HTTPS]).status == 200
        assert kernel.tls_stat() == before
        assert quiet.metric("downstream_tls_ktls_fallback") == 0


# ---- bytes


@VERSIONS
def test_bodies_both_ways(gateway, module_upstream, versions):
    module_upstream.handler = lambda c, r: c.send(reply(r.body))
    with taken(gateway), tls.Client(gateway.ports[HTTPS], ctx=tls.context(versions=versions),
                                    strict=True) as client:
        for body in (b"x", MEGABYTE * 3, b"", MEGABYTE):
            response = client.roundtrip("/", host="a.test", method="POST", body=body)
            assert response.status == 200 and response.body == body
    module_upstream.reset()


def handshake(sock, versions):
    """A client whose bytes can be cut anywhere: (connection, what it has to send still)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = tls.context(versions=versions).wrap_bio(incoming, outgoing,
                                                         server_hostname="a.test")
    while True:
        try:
            connection.do_handshake()
            return connection, incoming, outgoing
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))


def read_until(connection, incoming, sock, mark):
    got = b""
    while mark not in got:
        try:
            got += connection.read(65536)
        except ssl.SSLWantReadError:
            data = sock.recv(65536)
            assert data, got
            incoming.write(data)
    return got


@VERSIONS
@pytest.mark.parametrize("cut", [1, 3, 5, 6, 100, -1])
def test_a_record_in_part_when_the_handshake_ends(gateway, versions, cut):
    """What has come of a record is not the kernel's any more: exactly the rest is received first."""
    with taken(gateway), socket.create_connection(("127.0.0.1", gateway.ports[HTTPS])) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = gateway.metric("downstream_tls_handshakes")
        connection, incoming, outgoing = handshake(sock, versions)
        finished = outgoing.read()
        connection.write(request(host="a.test") * 2)
        record = outgoing.read()
        sock.sendall(finished + record[:cut])
        eventually(lambda: gateway.metric("downstream_tls_handshakes") == before + 1)
        sock.sendall(record[cut:])
        read_until(connection, incoming, sock, b"}")
        connection.write(request(host="a.test"))
        sock.sendall(outgoing.read())
        read_until(connection, incoming, sock, b"}")


def test_a_body_that_is_on_its_way_when_the_handshake_ends(gateway, module_upstream):
    module_upstream.handler = lambda c, r: c.send(reply(b"%d}" % len(r.body)))
    with taken(gateway), socket.create_connection(("127.0.0.1", gateway.ports[HTTPS])) as sock:
        connection, incoming, outgoing = handshake(sock, V13)
        connection.write(request(host="a.test", method="POST", body=MEGABYTE))
        sock.sendall(outgoing.read())
        assert read_until(connection, incoming, sock, b"}").endswith(b"%d}" % len(MEGABYTE))
    module_upstream.reset()


@VERSIONS
def test_relay(gateway, versions):
    """TLS ends, bytes go on: a close_notify is a FIN there and a FIN a close_notify here."""
    with taken(gateway), tls.Client(gateway.ports[RELAY], ctx=tls.context(versions=versions),
                                    strict=True) as client:
        sender = threading.Thread(target=client.send, args=(MEGABYTE,))
        sender.start()
        assert client.exactly(len(MEGABYTE)) == MEGABYTE
        sender.join()
        client.socket.unwrap()


def test_relay_that_is_cut_off(gateway):
    """A FIN without close_notify: the other side is not told that this was all."""
    with taken(gateway), tls.Client(gateway.ports[RELAY]) as client:
        client.send(b"first")
        assert client.exactly(5) == b"first"
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        assert client.rest() == b""


# ---- records that are no data


@VERSIONS
def test_close_notify_of_the_client(gateway, versions):
    with taken(gateway), tls.Client(gateway.ports[HTTPS], ctx=tls.context(versions=versions),
                                    strict=True) as client:
        assert client.roundtrip("/", host="a.test").status == 200
        client.socket.unwrap()  # an error if the gateway's own does not come


@VERSIONS
def test_close_notify_of_the_gateway(gateway, versions):
    with taken(gateway), tls.Client(gateway.ports[HTTPS], ctx=tls.context(versions=versions),
                                    strict=True) as client:
        client.send(request(host="a.test", headers=[("connection", "close")]))
        assert client.response().status == 200
        client.expect_close()


def test_a_request_that_is_cut_off(gateway, module_upstream):
    """Chunks, then FIN without close_notify."""
    module_upstream.reset()
    with taken(gateway), tls.Client(gateway.ports[HTTPS]) as client:
        assert client.roundtrip("/", host="a.test").status == 200
        client.send(request(host="a.test", method="POST", headers=[("transfer-encoding", "chunked")]))
        client.send(chunked(b"some")[:-5])
        eventually(lambda: b"some" in module_upstream.received)
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        assert b"200 OK" not in client.rest()
    assert len(module_upstream.requests) == 1
    module_upstream.reset()


@pytest.mark.parametrize("asking", [False, True])
def test_key_update(gateway, asking):
    """Followed where the kernel can, else the end of the connection, with an alert and a counter."""
    ended = [] if CHANGES_KEYS else [counted(gateway, "downstream_tls_fail_key_change")]
    with taken(gateway), socket.create_connection(("127.0.0.1", gateway.ports[HTTPS])) as sock, \
            raw.Library(sock) as speaker:
        speaker.write(request(host="a.test"))
        assert speaker.read().startswith(b"HTTP/1.1 200 OK")
        for one in ended:
            one.__enter__()
        for _ in range(3 if CHANGES_KEYS else 1):
            assert speaker.update_keys(asking)
        speaker.write(request(host="a.test"))
        assert speaker.read()[:15] == (b"HTTP/1.1 200 OK" if CHANGES_KEYS else b"")
        for one in ended:
            one.__exit__(None, None, None)


def test_renegotiation(gateway):
    with taken(gateway), counted(gateway, "downstream_tls_fail_renegotiation"):
        process = subprocess.Popen(["openssl", "s_client", "-connect",
                                    f"127.0.0.1:{gateway.ports[HTTPS]}", "-servername", "a.test",
                                    "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-msg"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        process.stdin.write(request(host="a.test"))
        process.stdin.flush()
        said = b""
        while b'"body": ""}' not in said:
            said += process.stdout.read1(65536)
        process.stdin.write(b"R\n")
        process.stdin.flush()
        said, _ = process.communicate(timeout=20)
        assert b"no renegotiation" in said, said


@pytest.mark.parametrize("record, alert", [
    (raw.record(23, bytes(100)), "bad_record_mac"),
    (raw.record(23, bytes(20_000)), "record_overflow"),
    (raw.record(99, bytes(100)), None),
    (b"GET / HTTP/1.1\r\n\r\n", None),
], ids=["tampered", "too large", "unknown type", "clear text"])
def test_records_that_are_none(gateway, record, alert):
    with taken(gateway), counted(gateway, "downstream_tls_fail_record"), \
            tls.Client(gateway.ports[HTTPS]) as client:
        assert client.roundtrip("/", host="a.test").status == 200
        socket.socket.send(client.socket, record)
        with pytest.raises((ssl.SSLError, ConnectionResetError)) as ended:
            assert client.socket.recv(100) == b""
            raise ConnectionResetError
        if alert and isinstance(ended.value, ssl.SSLError):
            assert alert in str(ended.value).lower().replace(" ", "_")


# ---- towards upstreams


@VERSIONS
def test_upstreams(serve, leaf, versions):
    """Their tickets come after the handshake: they are kept, and resume."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.cert, leaf.key)
    context.minimum_version, context.maximum_version = versions
    backend, resumed = Upstream(tls=context), []

    def answer(connection, seen):
        last = seen.target == "/last"
        connection.send(reply(seen.body, headers=[("connection", "close")] * last))
        if last:
            resumed.append(connection.resumed)
            connection.finish()  # an error if the gateway's close_notify does not come

    try:
        backend.handler = answer
        gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(backend.port),
                        d.destination_rule("app", trafficPolicy={"tls": {
                            "mode": "SIMPLE", "insecureSkipVerify": True}}),
                        workers=1, args=["--ktls", "on"])
        with taken(gateway, 2, "upstream"), gateway.client() as client:
            for target in ("/first", "/last") * 2:
                for body in (b"x", MEGABYTE * 2)[::-1]:
                    to = target if body == b"x" else "/"
                    response = client.roundtrip(to, method="POST", body=body)
                    assert response.status == 200 and response.body == body
        eventually(lambda: gateway.metric("upstream_cx_active") == 0)
        assert resumed == [False, True] and not backend.tls_errors
    finally:
        backend.close()


def test_nothing_is_left(gateway):
    eventually(lambda: kernel.tls_stat()["TlsCurrTxSw"] == 0)
    assert not gateway.wait_idle()
