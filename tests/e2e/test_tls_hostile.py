"""TLS for clients that must not get in, and for those who only want to do harm."""
import contextlib
import random
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from datetime import timedelta

import pytest

from lib import documents as d
from lib import tls
from lib import tls_raw as raw
from lib.baseline import Baseline, resident
from lib.certificates import DAY, Authority
from lib.gateway import sanitized
from lib.http1 import Client, reply, request
from lib.waiting import eventually

MEGABYTE = 1 << 20
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
TIME_OUT, IDLE_TIME_OUT = 0.8, 2.5  # of a handshake and of a first request; between requests
GOOD = "spiffe://test/ns/good"
A_RECORD = raw.record(23, bytes(16_000))
SERVERS = ("a", "b", "modern", "mutual", "optional", "listed", "named", "spki", "hash")
# A DNS name that a reader of C strings takes for `good.test`.
NUL = "DER:" + (b"\x30\x10\x82\x0egood.test\x00.bad").hex()


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "ca")  # of the same name


@pytest.fixture(scope="module")
def leaf(ca):
    return ca.issue("server", [f"DNS:{name}.test" for name in SERVERS])


@pytest.fixture(scope="module")
def clients(ca, other_ca):
    """Certificates of clients, by what is the matter with them."""
    good = {"kind": "client", "sans": ["URI:" + GOOD]}
    made = {
        "good": ca.issue("good", **good),
        "another CA's": other_ca.issue("foreign", **good),
        "expired": ca.issue("expired", begins=-9 * DAY, ends=-2 * DAY, **good),
        "not yet valid": ca.issue("early", begins=2 * DAY, ends=9 * DAY, **good),
        "for servers": ca.issue("wrong-use", kind="server", sans=["URI:" + GOOD]),
        "revoked": ca.issue("revoked", **good),
        "another name's": ca.issue("bad", kind="client", sans=["URI:spiffe://test/ns/bad"]),
        "NUL in its name": ca.issue("nul", kind="client", sans=[NUL]),
        "named by its CN": ca.issue("cn", kind="client", common_name="good.test"),
    }
    ca.revoke(made["revoked"])
    return made


def site(upstream, *servers):
    return [d.gateway_of(*servers), d.virtual_service(d.rule()), *d.backend(upstream.port)]


def server(name, leaf, mode="SIMPLE", ca=None, crl=None, **more):
    files = {"caCertificates": ca and ca.cert, "caCrl": crl}
    return d.server(f"{name}.test", mode=mode, serverCertificate=str(leaf.cert),
                    privateKey=str(leaf.key), **{k: str(v) for k, v in files.items() if v}, **more)


@pytest.fixture(scope="module")
def everything(module_serve, module_upstream, ca, leaf, clients):
    """One port, servers of every policy: chosen by name."""
    pin = clients["good"]
    return module_serve(*site(
        module_upstream,
        server("a", leaf), server("b", leaf),
        server("modern", leaf, minProtocolVersion="TLSV1_2"),
        server("mutual", leaf, mode="MUTUAL", ca=ca),
        server("optional", leaf, mode="OPTIONAL_MUTUAL", ca=ca),
        server("listed", leaf, mode="MUTUAL", ca=ca, crl=ca.crl),
        server("named", leaf, mode="MUTUAL", ca=ca, subjectAltNames=["good.test", GOOD]),
        server("spki", leaf, mode="MUTUAL", ca=ca, verifyCertificateSpki=[pin.spki()]),
        server("hash", leaf, mode="MUTUAL", ca=ca, verifyCertificateHash=[pin.sha256()])),
        numbers=(443,), workers=1, args=["--head-timeout", f"{TIME_OUT * 1000:.0f}ms", "--idle-timeout", f"{IDLE_TIME_OUT * 1000:.0f}ms"])


@pytest.fixture
def gateway(everything, module_upstream):
    module_upstream.reset()
    yield everything
    assert everything.process.poll() is None, "the gateway is gone:\n" + everything.log_text()
    everything.wait_idle()
    module_upstream.check()


@pytest.fixture(scope="module")
def roomy(module_serve, module_upstream, leaf):
    return module_serve(*site(module_upstream, server("a", leaf)), numbers=(443,), workers=1)


@pytest.fixture
def patient(roomy, module_upstream):
    """One server, no time-out that is short."""
    module_upstream.reset()
    yield roomy
    assert roomy.process.poll() is None, "the gateway is gone:\n" + roomy.log_text()
    module_upstream.reset()
    roomy.wait_idle()
    module_upstream.check()


@pytest.fixture
def upstream_of(module_upstream):
    return module_upstream


def using(version, client=None, ca=None):
    return tls.context(ca, client, versions=(version, version))


def ask(gateway, name, with_, session=None):
    """A request's response and the session after it."""
    with tls.Client(gateway.ports[443], f"{name}.test", with_, session, strict=True) as client:
        response = client.roundtrip(host=f"{name}.test")
        return response, client.socket.session, client.socket.session_reused


def refused(gateway, name, with_, session=None):
    """Nothing is answered but an alert: which."""
    with pytest.raises(ssl.SSLError) as e:
        ask(gateway, name, with_, session)
    return e.value.reason


class Counted:
    """How much a counter grows meanwhile."""

    def __init__(self, gateway, name, by=1):
        self.gateway, self.name, self.by = gateway, name, by

    def __enter__(self):
        self.before = self.gateway.metric(self.name)

    def __exit__(self, kind, *_):
        if not kind:
            eventually(lambda: self.gateway.metric(self.name) - self.before >= self.by,
                       what=f"{self.name} grows by {self.by}")
            assert self.gateway.metric(self.name) - self.before == self.by


# ---- clients' certificates

REFUSED = {  # server, certificate: the counter, the alert
    ("mutual", None): ("no_certificate", "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"),
    ("mutual", "another CA's"): ("certificate", "UNKNOWN_CA|DECRYPT_ERROR|BAD_CERTIFICATE"),
    ("mutual", "expired"): ("certificate", "CERTIFICATE_EXPIRED"),
    ("mutual", "not yet valid"): ("certificate", "BAD_CERTIFICATE|CERTIFICATE_EXPIRED"),
    ("mutual", "for servers"): ("certificate", "UNSUPPORTED_CERTIFICATE"),
    ("optional", "another CA's"): ("certificate", "UNKNOWN_CA|DECRYPT_ERROR|BAD_CERTIFICATE"),
    ("optional", "expired"): ("certificate", "CERTIFICATE_EXPIRED"),
    ("listed", "revoked"): ("certificate", "CERTIFICATE_REVOKED"),
    ("named", "another name's"): ("name", "CERTIFICATE_UNKNOWN"),
    ("named", "NUL in its name"): ("name", "CERTIFICATE_UNKNOWN"),
    ("named", "named by its CN"): ("name", "CERTIFICATE_UNKNOWN"),
    ("spki", "another name's"): ("pin", "BAD_CERTIFICATE_HASH_VALUE"),
    ("hash", "another name's"): ("pin", "BAD_CERTIFICATE_HASH_VALUE"),
}


@BOTH
@pytest.mark.parametrize("name,whose", REFUSED)
def test_certificate_is_refused(gateway, upstream_of, clients, version, name, whose):
    counter, alert = REFUSED[name, whose]
    with Counted(gateway, "downstream_tls_fail_" + counter):
        reason = refused(gateway, name, using(version, clients.get(whose)))
    assert re.search(alert, reason), reason
    assert not upstream_of.requests


@BOTH
@pytest.mark.parametrize("name,whose", [
    ("a", None), ("a", "expired"), ("mutual", "good"), ("mutual", "revoked"), ("optional", None),
    ("optional", "good"), ("listed", "good"), ("named", "good"), ("spki", "good"),
    ("hash", "good")])
def test_certificate_is_accepted(gateway, ca, clients, version, name, whose):
    """Those that the servers above would refuse are not all that they refuse."""
    assert ask(gateway, name, using(version, clients.get(whose), ca))[0].status == 200


# ---- resumption

@BOTH
@pytest.mark.parametrize("name,whose", [("a", None), ("mutual", "good"), ("optional", None)])
def test_session_is_resumed_where_it_was_made(gateway, clients, version, name, whose):
    with_ = using(version, clients.get(whose))
    _, session, resumed = ask(gateway, name, with_)
    assert session and not resumed
    with Counted(gateway, "downstream_tls_resumed"):
        response, _, resumed = ask(gateway, name, with_, session)
    assert response.status == 200 and resumed


@BOTH
@pytest.mark.parametrize("made", ["a", "optional"])
@pytest.mark.parametrize("used", ["mutual", "listed", "named", "spki", "hash"])
def test_ticket_is_no_client_certificate(gateway, upstream_of, version, made, used):
    with_ = using(version)
    _, session, _ = ask(gateway, made, with_)
    upstream_of.reset()
    with Counted(gateway, "downstream_tls_resumed", 0), \
            Counted(gateway, "downstream_tls_fail_no_certificate"):
        refused(gateway, used, with_, session)
    assert not upstream_of.requests


@BOTH
@pytest.mark.parametrize("used,whose", [("listed", "revoked"), ("named", "another name's"),
                                        ("spki", "another name's"), ("hash", "another name's")])
def test_ticket_of_a_laxer_server(gateway, clients, version, used, whose):
    """The certificate was good enough for the one that issued the ticket."""
    with_ = using(version, clients[whose])
    _, session, _ = ask(gateway, "mutual", with_)
    with Counted(gateway, "downstream_tls_resumed", 0):
        refused(gateway, used, with_, session)


@BOTH
def test_ticket_of_another_server_is_none(gateway, version):
    """`a` and `b` differ in nothing but their names."""
    with_ = using(version)
    _, session, _ = ask(gateway, "a", with_)
    with Counted(gateway, "downstream_tls_resumed", 0):
        response, _, resumed = ask(gateway, "b", with_, session)
    assert response.status == 200 and not resumed


@BOTH
def test_certificate_that_expires_ends_its_tickets(gateway, upstream_of, ca, version):
    """A session outlives its client's certificate no more than a handshake does."""
    brief = ca.issue(f"brief-{version}", kind="client", ends=timedelta(seconds=3))
    end = time.monotonic() + 3.5
    with_ = using(version, brief)
    _, session, _ = ask(gateway, "mutual", with_)
    _, again, resumed = ask(gateway, "mutual", with_, session)
    assert resumed
    time.sleep(max(0, end - time.monotonic()))  # the clock is what is awaited
    upstream_of.reset()
    with Counted(gateway, "downstream_tls_fail_certificate"):
        assert "EXPIRED" in refused(gateway, "mutual", with_, again or session)
    assert not upstream_of.requests


@BOTH
@pytest.mark.parametrize("change", ["CA", "CRL"])
def test_tickets_end_with_what_they_were_issued_under(serve, upstream, tmp_path, leaf, version,
                                                      change):
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    client = ours.issue("client", kind="client")
    ours.revoke()
    def documents(ca, crl):
        return site(upstream, server("a", leaf, mode="MUTUAL", ca=ca, crl=crl))

    gateway = serve(*documents(ours, ours.crl), numbers=(443,), workers=1)
    with_ = using(version, client)
    _, session, _ = ask(gateway, "a", with_)
    _, session, resumed = ask(gateway, "a", with_, session)
    assert resumed
    reloads = gateway.metric("config_reload_successes")
    if change == "CA":
        gateway.file.write_text(d.text(*documents(theirs, None)))
    else:
        ours.revoke(client)
    eventually(lambda: gateway.metric("config_reload_successes") > reloads, what="a reload")
    refused(gateway, "a", with_, session)


# ---- what is no handshake

def message(kind, body):
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def with_extension(hello, kind, content):
    """The ClientHello of a record with one more extension, as a message."""
    body = bytearray(hello[9:])
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at:at + 2], "big")
    at += 1 + body[at]
    length = int.from_bytes(body[at:at + 2], "big") + 4 + len(content)
    body[at:at + 2] = length.to_bytes(2, "big")
    more = kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    body[at + 2:at + 2] = more  # in front: the last one may have to be pre_shared_key
    return message(1, bytes(body))


def padded(size):
    hello = raw.hello()
    return with_extension(hello, 0x7a7a, bytes(size - len(hello) + 5 - 4))


SNI_NUL = with_extension(raw.hello(None), 0, b"\0\x0b\0\0\x08a.te\0st.")
SNI_TWICE = with_extension(raw.hello(), 0, b"\0\x09\0\0\x06b.test")
RAW = {  # what is sent at once, the counter
    "HTTP": (request(), "http"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http"),
    "SSLv2": (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01\x00\x80" * 7 + b"x" * 16,
              "not_tls"),
    "zeros": (bytes(5000), "not_tls"),
    "garbage": (b"\x9c" + random.Random(4).randbytes(70_000), "not_tls"),
    "an alert": (raw.record(21, b"\x02\x28"), "not_tls"),
    "data": (raw.record(23, b"x" * 100), "not_tls"),
    "SSL 9": (raw.record(22, b"\x01\0\0\x10", 0x0900), "not_tls"),
    "an empty record": (raw.record(22, b""), "protocol"),
    "an oversized record": (b"\x16\x03\x01\x40\x01" + b"\x01", "protocol"),
    "empty records within": (raw.split(raw.hello()[5:], 40)[:45] + raw.record(22, b"") * 50, "protocol"),
    "another type within": (raw.split(raw.hello()[5:], 40)[:45] + raw.record(21, b"\1\0"), "protocol"),
    "a ServerHello": (raw.record(22, message(2, b"x" * 60)), "protocol"),
    "a hello that says 8 MiB": (raw.record(22, b"\x01\x80\0\0" + b"x" * 9000), "protocol"),
    "a hello of 17 KiB": (raw.split(padded(17 * 1024), 4000), "protocol"),
    "NUL in the name": (raw.split(SNI_NUL, 16384), "protocol"),
    "two names": (raw.split(SNI_TWICE, 16384), "protocol"),
}


@pytest.mark.parametrize("what", RAW)
def test_no_handshake(gateway, what):
    """Not a byte is answered: nothing says that TLS is spoken here."""
    data, counter = RAW[what]
    with Counted(gateway, "downstream_tls_fail_" + counter), \
            Client(gateway.ports[443]) as client:
        with contextlib.suppress(ConnectionError):
            client.send(data)
        assert raw.answer(client.socket)[0] == b""


@pytest.mark.parametrize("size,pieces", [(15 * 1024, 16384), (15 * 1024, 100), (2000, 1)])
def test_large_or_cut_up_hello_is_one(gateway, size, pieces):
    with Client(gateway.ports[443]) as client:
        client.send(raw.split(padded(size), pieces))
        assert client.exactly(6)[::5] == b"\x16\x02"  # a ServerHello


def test_handshake_in_single_bytes(gateway):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    speaker = tls.context().wrap_bio(incoming, outgoing, server_hostname="a.test")
    with Client(gateway.ports[443]) as client:
        def until(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    data = outgoing.read()
                    for i in range(len(data)):
                        client.send(data[i:i + 1])
                    incoming.write(client.socket.recv(65536))

        until(speaker.do_handshake)
        speaker.write(request(host="a.test"))
        assert until(lambda: speaker.read(100)).startswith(b"HTTP/1.1 200 OK")


# ---- older protocols

def test_older_version_than_allowed(gateway):
    for name in ("a", "modern"):
        with Counted(gateway, "downstream_tls_fail_version"), \
                Shell(gateway, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", name=name) as shell:
            assert "alert protocol version" in shell.end()


class Shell:
    """`openssl s_client`, whose commands do what `ssl` does not offer."""

    def __init__(self, gateway, *args, name="a"):
        self._process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.ports[443]}", "-servername",
             f"{name}.test", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.output = b""

    def until(self, mark, times=1):
        while self.output.count(mark) < times:
            data = self._process.stdout.read1()
            assert data, self.output.decode()
            self.output += data

    def type(self, line):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def end(self):
        self.output += self._process.stdout.read()
        self._process.wait(10)
        return self.output.decode("latin-1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()


def test_fallback_that_was_forced(gateway):
    """RFC 7507: who could do 1.3 and is made to offer 1.2 says so."""
    with Counted(gateway, "downstream_tls_fail_version"), \
            Shell(gateway, "-tls1_2", "-fallback_scsv") as shell:
        assert "inappropriate fallback" in shell.end()


def test_renegotiation_is_refused(patient):
    with Counted(patient, "downstream_tls_fail_renegotiation"), Shell(patient, "-tls1_2") as shell:
        shell.until(b"Verify return code")
        shell.type(b"R\n")
        assert "no renegotiation" in shell.end()


@pytest.mark.parametrize("asking", [False, True])
def test_key_updates_without_end(patient, asking):
    """32 in a row are borne (BoringSSL's limit)."""
    with Counted(patient, "downstream_tls_fail_flood"), Client(patient.ports[443]) as client, \
            raw.Library(client.socket) as speaker:
        for _ in range(32):
            assert speaker.update_keys(asking)
        speaker.write(request(host="a.test"))
        assert speaker.read().startswith(b"HTTP/1.1 200 OK")
        for _ in range(33):
            speaker.update_keys(asking)
        assert speaker.read() == b""


# ---- handshakes that stand still


@pytest.mark.parametrize("sent", ["nothing", "half a hello", "a hello", "a hello, then bytes"])
def test_handshake_that_stands_still(gateway, sent):
    hello = raw.hello()
    data = {"nothing": b"", "half a hello": hello[:100]}.get(sent, hello)
    with Counted(gateway, "downstream_tls_handshake_timeout"), \
            Client(gateway.ports[443], timeout=0.02) as client:
        started = time.monotonic()
        client.send(data)
        ended, more = False, iter(raw.record(23, bytes(5000)))
        while not ended:
            assert time.monotonic() - started < TIME_OUT + 5
            try:
                if sent == "a hello, then bytes":
                    client.send(bytes([next(more)]))
                ended = not client.socket.recv(65536)
            except TimeoutError:
                pass
            except ConnectionError:
                ended = True
        assert time.monotonic() - started > TIME_OUT - 0.05


@contextlib.contextmanager
def beneath(client):
    """The plain connection under one with TLS, which the caller goes on with by hand."""
    below = Client.__new__(Client)
    below.socket = socket.socket(fileno=client.socket.detach())
    below.socket.settimeout(10)
    with below:
        yield below


def ends_within(client, data, seconds):
    """The gateway ends that connection, to which a byte of `data` is sent now and then."""
    client.socket.settimeout(0.02)
    data, started = iter(data), time.monotonic()
    while time.monotonic() - started < seconds:
        with contextlib.suppress(TimeoutError):
            try:
                for byte in data:
                    client.send(bytes([byte]))
                    break
                if not client.socket.recv(65536):
                    return True
            except ConnectionError:
                return True
    return False


@BOTH
@pytest.mark.parametrize("asked,sent", [(False, b""), (False, A_RECORD), (True, A_RECORD)],
                         ids=["silence", "a record", "a record after a request"])
def test_no_request_behind_a_handshake(gateway, version, asked, sent):
    """What is no whole record buys no time, neither before a first request nor after one."""
    client = tls.Client(gateway.ports[443], ctx=using(version))
    if asked:
        assert client.roundtrip().status == 200
    with beneath(client) as below:
        assert ends_within(below, sent, 3 * IDLE_TIME_OUT if asked else IDLE_TIME_OUT)


# ---- many, and those that leave

HANDSHAKES = 1000 if sanitized() else 10_000
BATCH = 500
STAGES = ("half a hello", "a hello", "the server's flight", "garbage after it")


@pytest.fixture
def held(patient, module_upstream):
    """The gateway's baseline, to which it must come back when the test has ended."""
    module_upstream.handler = sized
    with tls.Client(patient.ports[443]) as client:
        client.roundtrip("/warm")
    baseline = Baseline(patient, module_upstream)
    yield baseline
    module_upstream.reset()
    baseline.returns()


def sized(connection, seen):
    """/bytes/N: a body of that many; else a short one."""
    _, what, *number = seen.target.split("/")
    n = int(number[0]) if what == "bytes" else 2
    connection.send(reply(b"", headers=[("Content-Length", n)], length=False))
    for at in range(0, n, MEGABYTE):
        connection.send(b"x" * min(MEGABYTE, n - at))


def test_handshakes_dropped_half_way(patient, held):
    """All that they took comes back, and a client between them is served."""
    hello, rng = raw.hello(), random.Random(1)
    def given_up():
        return sum(patient.metric("downstream_tls_fail_" + cause)
                   for cause in ("aborted", "protocol", "record", "alert"))

    before, memory = given_up(), []
    for _ in range(HANDSHAKES // BATCH):
        clients = [(Client(patient.ports[443]), STAGES[i % 4]) for i in range(BATCH)]
        for client, stage in clients:
            client.send(hello[:200] if stage == "half a hello" else hello)
        with tls.Client(patient.ports[443]) as bystander:
            assert bystander.roundtrip("/x").status == 200
        for client, stage in clients:
            if stage.endswith(("flight", "it")):
                client.exactly(5)
            if stage.startswith("garbage"):
                client.send(raw.record(23, rng.randbytes(64)))
            (client.close if rng.random() < 0.5 else client.reset)()
        patient.wait_metric("downstream_cx_active", 0, 20)
        memory.append(resident(patient))
    assert given_up() - before >= HANDSHAKES // 2
    # What a first batch takes stays in the pools; nothing comes on top of it.
    assert sanitized() or max(memory[2:]) - memory[1] < 4 * MEGABYTE, memory


def test_client_that_never_reads(serve, upstream, leaf):
    """Its upstream is held back, others are served, and the stall time-out ends it."""
    stalled, ended = threading.Event(), threading.Event()

    def handler(connection, seen):
        if seen.target != "/large":
            sized(connection, seen)
            return
        connection.send(reply(b"", headers=[("Content-Length", 256 * MEGABYTE)], length=False))
        connection.socket.settimeout(0.3)
        try:
            for _ in range(255):
                connection.send(b"x" * MEGABYTE)
        except TimeoutError:
            stalled.set()
            connection.socket.settimeout(60)
            connection.rest()
        ended.set()
        connection.close()

    upstream.handler = handler
    gateway = serve(*site(upstream, server("a", leaf)), numbers=(443,), workers=1,
                    args=["--stall-timeout", "1500ms"])
    with tls.Client(gateway.ports[443]) as bystander:
        assert bystander.roundtrip("/x").status == 200
        before = resident(gateway)
        with tls.Client(gateway.ports[443], receive_buffer=4096) as client:
            client.send(request("/large"))
            assert stalled.wait(20)
            assert sanitized() or resident(gateway) - before < 8 * MEGABYTE
            while not ended.wait(0.01):
                assert bystander.roundtrip("/x").status == 200
            gateway.wait_metric("downstream_cx_active", 1)
    gateway.wait_idle()


def test_clients_that_leave_within_a_record(patient, held):
    for i in range(100):
        with beneath(tls.Client(patient.ports[443])) as below:
            below.send(raw.record(23, bytes(16_000))[:5 + i * 100])
            if i % 2:
                below.reset()
    patient.wait_metric("downstream_cx_active", 0)


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("how", ["end", "reset"])
def test_body_until_the_end_says_whether_it_is_whole(patient, upstream_of, version, how):
    """To an HTTP/1.0 client the end of the connection is the body's: close_notify is said for a
    whole one only."""
    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
                        + (b"0\r\n\r\n" if how == "end" else b""))
        connection.close()

    upstream_of.handler = handler
    with tls.Client(patient.ports[443], ctx=using(version), strict=True) as client:
        client.send(request(version="1.0"))
        if how == "end":
            assert client.rest().endswith(b"half")
        else:
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                while client.socket.recv(1000):
                    pass


def test_request_without_close_notify_is_not_whole(patient, upstream_of):
    """FIN in the middle of a body, which anyone on the way can send: the upstream gets no end."""
    upstream_of.stream_bodies = True
    seen = threading.Event()

    def handler(connection, _seen):
        seen.set()
        connection.rest()
        connection.close()

    upstream_of.handler = handler
    client = tls.Client(patient.ports[443])
    client.send(request(method="POST", headers=[("Transfer-Encoding", "chunked")]) + b"4\r\nhalf\r\n")
    assert seen.wait(10)
    with beneath(client) as below:
        below.socket.shutdown(socket.SHUT_WR)
        raw.answer(below.socket)
    connection = upstream_of.wait_connections(1)[-1]
    assert connection.ended.wait(10)
    assert b"half" in connection.received and b"0\r\n\r\n" not in connection.received


# ---- idle connections

IDLE = {V12: 300, V13: 500} if sanitized() else {V12: 1000, V13: 5000}
IDLE_BYTES = 8192  # of ours, for each of them


@BOTH
def test_thousands_of_idle_connections(serve, upstream, leaf, version):
    """Each has made a request. What is counted is the process's memory, not the kernel's."""
    upstream.handler, upstream.remember = sized, False
    gateway = serve(*site(upstream, server("a", leaf)), numbers=(443,), workers=1)
    with_ = using(version)
    for _ in range(20):
        assert ask(gateway, "a", with_)[0].status == 200
    gateway.wait_metric("downstream_cx_active", 0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500
    count = min(IDLE[version], most, int(gateway.metric("downstream_cx_limit")))
    before = resident(gateway)
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(tls.Client(gateway.ports[443], ctx=with_)))
            assert clients[-1].roundtrip().status == 200
        gateway.wait_metric("downstream_cx_active", count)
        assert gateway.metric("exchanges_active") == gateway.metric("buffers_out") == 0
        each = (resident(gateway) - before) / count
        print(f"{count} idle TLS connections: {each:.0f} bytes resident for each")
        assert sanitized() or 0 < each <= IDLE_BYTES
        for client in random.sample(clients, 50):
            assert client.roundtrip().status == 200
    gateway.wait_metric("downstream_cx_active", 0, 20)
    gateway.wait_idle()
    if count < IDLE[version]:
        pytest.skip(f"held only {count} of {IDLE[version]}: see ulimit -n")


def test_idle_connections_end_by_close_notify(serve, upstream, leaf):
    gateway = serve(*site(upstream, server("a", leaf)), numbers=(443,), workers=1,
                    args=["--idle-timeout", "1s"])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tls.Client(gateway.ports[443], strict=True))
                   for _ in range(50)]
        for client in clients:
            assert client.roundtrip().status == 200
        for client in clients:
            client.expect_close()
    assert gateway.metric("downstream_cx_idle_timeout") == len(clients)
    gateway.wait_idle()


# ---- drain and reload under load

class Load:
    """Clients that go on with requests over TLS, each on connections of a few; what went wrong."""

    def __init__(self, gateway, count=4):
        self.gateway, self.wrong, self.served = gateway, [], [0] * count
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True)
                         for n in range(count)]

    def _run(self, number):
        session = None
        try:
            while not self._stop.is_set():
                session = self._connection(number, session)
        except ConnectionRefusedError:
            pass
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the result
            self.wrong.append(e)

    def _connection(self, number, session):
        with tls.Client(self.gateway.ports[443], ctx=self.context, session=session,
                        strict=True) as client:
            for _ in range(10):
                r = client.roundtrip(f"/bytes/{1000 * number}")
                if r.status != 200 or len(r.body) != 1000 * number:
                    self.wrong.append(r)
                self.served[number] += 1
                if r.header("connection") == "close":
                    client.expect_close()
                    break
            return client.socket.session

    def __enter__(self):
        self.context = tls.context()
        for t in self._threads:
            t.start()
        self.more(20)
        return self

    def more(self, count):
        before = list(self.served)
        eventually(lambda: self.wrong or all(s >= b + count for s, b in zip(self.served, before)),
                   20, f"{count} requests more of each")

    def __exit__(self, kind, *_):
        self._stop.set()
        for t in self._threads:
            t.join(15)
        if kind is None:
            assert not any(t.is_alive() for t in self._threads)
            assert not self.wrong, self.wrong[:3]


def test_reloads_under_load(serve, upstream, leaf):
    """Other routes, another chain beside it, a renewed certificate: nobody's request fails."""
    upstream.handler, upstream.remember = sized, False
    servers = [server("a", leaf)]
    gateway = serve(*site(upstream, *servers), numbers=(443,))
    with Load(gateway) as load:
        for i in range(8):
            more = [server("b", leaf)] if i % 2 else []
            rule = d.rule(timeout=f"{10 + i}s")
            reloads = gateway.metric("config_reload_successes")
            gateway.file.write_text(d.text(d.gateway_of(*servers, *more), d.virtual_service(rule),
                                           *d.backend(upstream.port)))
            eventually(lambda: gateway.metric("config_reload_successes") > reloads, 10, "a reload")
            load.more(5)
    assert gateway.metric("downstream_tls_resumed") > 0
    gateway.wait_idle()


def test_drain_under_load(serve, upstream, leaf):
    """SIGTERM: what was accepted is answered, and told to go by the book."""
    upstream.handler, upstream.remember = sized, False
    gateway = serve(*site(upstream, server("a", leaf)), numbers=(443,))
    with Load(gateway):
        gateway.signal(signal.SIGTERM)
        assert gateway.wait_exit(15) == 0
    gateway.check_log()
