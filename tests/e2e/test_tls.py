"""TLS that ends at the gateway: parts 5-5 and 5-13 to 5-19 of the tutorial on its own documents,
and what its documents leave open. What is passed on is in test_l4_tutorial.py."""
import itertools
import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from lib import documents as d
from lib import http1, tcp, tls
from lib.certificates import Authority
from lib.gateway import sluice

TUTORIAL = Path(__file__).parents[1] / "data" / "tutorial"
NAMES = ["bookinfo.demo", "ratings.demo", "nginx.example.com", "bookinfo.example.com",
         "bookinfo.com"]
V = ssl.TLSVersion
TLS12, TLS13 = (V.TLSv1_2, V.TLSv1_2), (V.TLSv1_3, V.TLSv1_3)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA with server and client certificates, and another CA."""
    folder = tmp_path_factory.mktemp("pki")
    ca, other = Authority(folder), Authority(folder, "other")
    names = [f"DNS:{n}" for n in NAMES]
    return SimpleNamespace(
        ca=ca, other=other,
        server=ca.issue("server", names), rsa=ca.issue("rsa", names, algorithm="rsa"),
        client=ca.issue("client", ["URI:spiffe://test/ns/a/sa/b", "DNS:client.test"], "client"),
        second=ca.issue("second", ["DNS:second.test"], "client"),
        stranger=other.issue("stranger", ["DNS:client.test"], "client"))


@pytest.fixture
def apply(serve, upstream, tmp_path):
    """apply(DOCUMENT…): files of the tutorial (a tuple is a file and what is replaced in it), or
    documents, in namespace istio, beside bookinfo and the gateway's own Service."""
    count = itertools.count()

    def run(*documents, numbers=(443,), **kw):
        ports = serve.ports(*numbers)
        folder = tmp_path / f"site-{next(count)}"
        folder.mkdir()
        made = [x for x in documents if isinstance(x, dict)]
        for i, x in enumerate(x for x in documents if not isinstance(x, dict)):
            name, *edits = [x] if isinstance(x, str) else x
            copy = folder / f"{i}-{Path(name).name}"
            shutil.copy(TUTORIAL / name, copy)
            for old, new in edits:
                text = copy.read_text()
                assert old in text
                copy.write_text(text.replace(old, new))
        (folder / "made.yaml").write_text(d.text(
            d.node(ports), *made,
            *d.backend(upstream.port, name="productpage", namespace="istio", number=9080)))
        gateway = serve.command([("istio", folder)], ports, **kw).wait_ready()
        port = ports[numbers[-1]]

        def get(name, ctx=None, path="/productpage", **more):
            return tls.fetch(port, path, name, ctx, **more)

        def refused(name, ctx=None):
            return tls.refusal(port, name, ctx)

        return SimpleNamespace(gateway=gateway, port=port, ports=ports, get=get, refused=refused,
                               folder=folder)
    return run


def mounted(certificate, ca=None):
    """What `kubectl create secret` makes that /etc/istio/ingressgateway-certs is mounted from."""
    return d.secret("istio-ingressgateway-certs", certificate, ca, namespace="istio-system")


def secret(name, certificate, ca=None, **more):
    return d.secret(name, certificate, ca, namespace="istio", **more)


def s_client(port, name, ca, *args):
    run = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername",
                          name, "-CAfile", ca.cert, "-verify_return_error", "-brief", *args],
                         input=b"", capture_output=True, timeout=20, check=False)
    return run.returncode, run.stderr.decode()


def header_of(response, name):
    return dict(response.json()["headers"]).get(name)


BOOKINFO = "5-5/vs-bookinfo-hosts-star.yaml"


# ---- 5-5 and 5-14, SIMPLE

@pytest.mark.parametrize("document", ["5-5/gateway-https.yaml", "5-14/gateway-simple.yaml"])
def test_simple(apply, pki, document):
    site = apply(document, BOOKINFO, mounted(pki.server))
    for name in NAMES[:3]:
        response = site.get(name, tls.context(pki.ca))
        assert response.status == 200 and header_of(response, "x-forwarded-proto") == "https"
        status, said = s_client(site.port, name, pki.ca)
        assert status == 0 and "Verification: OK" in said and "TLSv1.3" in said, said
    run = subprocess.run(["curl", "-sS", "--cacert", pki.ca.cert, "--resolve",
                          f"bookinfo.demo:{site.port}:127.0.0.1", "-o", "/dev/null", "-w",
                          "%{http_code} %{http_version}",
                          f"https://bookinfo.demo:{site.port}/productpage"],
                         capture_output=True, text=True, timeout=20, check=False)
    assert run.stdout == "200 1.1", run.stderr
    # Not even an alert tells that TLS is spoken here.
    for name in ("other.demo", "a.bookinfo.demo", None):
        assert site.refused(name) == "end"
    site.gateway.wait_metric("no_filter_chain_match", 3)


def test_a_name_in_any_case(apply, pki):
    site = apply("5-5/gateway-https.yaml", BOOKINFO, mounted(pki.server))
    assert site.get("BookInfo.DEMO", host="bookinfo.demo").status == 200
    with tls.Client(site.port, "bookinfo.demo") as client:
        for host in ("BOOKINFO.demo", f"bookinfo.demo:{site.port}"):
            assert client.roundtrip("/productpage", host=host).status == 200, host


# ---- 5-13, httpsRedirect

def test_https_redirect(apply, pki):
    site = apply("5-13/gw-httpsRedirect.yaml", BOOKINFO, mounted(pki.server), numbers=(80, 443))
    for more in ([], [("x-forwarded-proto", "https")]):  # nobody in front of us is trusted
        response = http1.fetch(site.ports[80], "/productpage?u=normal", host="bookinfo.demo:31110",
                               headers=more)
        assert response.status == 301
        assert response.header("location") == "https://bookinfo.demo:31110/productpage?u=normal"
    assert site.get("bookinfo.demo").status == 200


def test_https_redirect_of_an_https_server_leads_nowhere_else(apply, pki):
    """As with Envoy: who came by TLS is where it is to be."""
    site = apply(("5-5/gateway-https.yaml", ("mode: SIMPLE", "mode: SIMPLE\n      httpsRedirect: true")),
                 BOOKINFO, mounted(pki.server))
    assert site.get("bookinfo.demo").status == 200


# ---- 5-14, 5-16: MUTUAL and its kin

def mutual_sites():
    yield "5-14/gateway-mutual.yaml", "bookinfo.example.com", "bookinfo-credential"
    yield "5-14/gateway-caCertificates.yaml", "bookinfo.demo", "mounted"
    yield "5-16/gateway-caCertificates.yaml", "bookinfo.demo", "mounted"
    yield "5-14/gateway-istio-mutual.yaml", "bookinfo.demo", "bookinfo-credential"


@pytest.mark.parametrize("document, name, credential", mutual_sites())
@pytest.mark.parametrize("versions", [TLS12, TLS13])
def test_mutual(apply, pki, document, name, credential, versions):
    docs = mounted(pki.server, pki.ca) if credential == "mounted" else \
        secret(credential, pki.server, pki.ca)
    site = apply(document, BOOKINFO, docs, args=["--log-level", "debug"])
    response = site.get(name, tls.context(pki.ca, pki.client, versions))
    assert response.status == 200
    assert pki.client.sha256() in header_of(response, "x-forwarded-client-cert")
    start = len(site.gateway.log.lines)
    expected = "certificate_required" if versions == TLS13 else "handshake_failure"
    assert expected in site.refused(name, tls.context(pki.ca, versions=versions))
    assert "unknown_ca" in site.refused(name, tls.context(pki.ca, pki.stranger, versions))
    assert site.gateway.log.wait(r"event=tls_handshake_failed peer=127\.0\.0\.1:\d+ .*chain=https\S+ .*"
                                 r'reason="\w', 5, start)
    site.gateway.wait_metric("downstream_tls_fail_no_certificate", 1)
    site.gateway.wait_metric("downstream_tls_fail_certificate", 1)


def test_optional_mutual(apply, pki):
    site = apply(("5-14/gateway-mutual.yaml", ("mode: MUTUAL", "mode: OPTIONAL_MUTUAL")), BOOKINFO,
                 secret("bookinfo-credential", pki.server, pki.ca))
    name = "bookinfo.example.com"
    assert header_of(site.get(name), "x-forwarded-client-cert") is None
    assert header_of(site.get(name, tls.context(identity=pki.client)), "x-forwarded-client-cert")
    assert "unknown_ca" in site.refused(name, tls.context(identity=pki.stranger))


def test_forwarded_client_certificate(apply, pki):
    """SANITIZE_SET: what a client says itself never arrives, its certificate does."""
    site = apply(("5-14/gateway-mutual.yaml", ("mode: MUTUAL", "mode: OPTIONAL_MUTUAL")), BOOKINFO,
                 secret("bookinfo-credential", pki.server, pki.ca))
    name, forged = "bookinfo.example.com", [("x-forwarded-client-cert", "Hash=forged"),
                                            ("X_Forwarded_Client_Cert", "Hash=forged"),
                                            ("Connection", "x-forwarded-client-cert")]
    with tls.Client(site.port, name, tls.context(pki.ca, pki.client)) as client:
        for _ in range(3):
            seen = client.roundtrip("/productpage", host=name, headers=forged).json()["headers"]
            values = [v for n, v in seen if n.replace("_", "-") == "x-forwarded-client-cert"]
            assert len(values) == 1
    parts = dict(p.split("=", 1) for p in values[0].split(";"))
    assert list(parts) == ["Hash", "Cert", "Subject", "URI", "DNS"]
    assert parts["Hash"] == pki.client.sha256()
    assert unquote(parts["Cert"].strip('"')) == pki.client.cert.read_text()
    assert (parts["Subject"], parts["URI"], parts["DNS"]) == \
        ('"CN=client"', "spiffe://test/ns/a/sa/b", "client.test")
    seen = site.get(name, headers=forged).json()["headers"]
    assert not [n for n, _ in seen if "client" in n]


def restricted(pki, **tls_fields):
    return [d.gateway_of(d.server("a.test", mode="MUTUAL", credentialName="site", **tls_fields),
                         name="bookinfo-gateway", namespace="istio"),
            secret("site", pki.server, pki.ca)]


@pytest.mark.parametrize("fields", ["subjectAltNames", "uri", "spki", "hash"])
def test_which_clients(apply, pki, fields):
    """5-19 and its kin: one of the CA's clients passes, another does not."""
    choice = {"subjectAltNames": {"subjectAltNames": ["nobody.test", "client.test"]},
              "uri": {"subjectAltNames": ["spiffe://test/ns/a/sa/b"]},
              "spki": {"verifyCertificateSpki": [pki.client.spki()]},
              "hash": {"verifyCertificateHash": [pki.client.sha256()]}}[fields]
    site = apply(BOOKINFO, *restricted(pki, **choice))
    assert site.get("a.test", tls.context(identity=pki.client)).status == 200
    assert "certificate" in site.refused("a.test", tls.context(identity=pki.second))
    assert "unknown_ca" in site.refused("a.test", tls.context(identity=pki.stranger))


def test_either_kind_of_pin_accepts(apply, pki):
    site = apply(BOOKINFO, *restricted(pki, verifyCertificateSpki=[pki.client.spki()],
                                       verifyCertificateHash=[pki.second.sha256()]))
    for who in (pki.client, pki.second):
        assert site.get("a.test", tls.context(identity=who)).status == 200


def test_a_ticket_does_not_survive_stricter_rules(apply, pki):
    """A session of an earlier policy is no way in under the next one."""
    site = apply(BOOKINFO, *restricted(pki))
    ctx = tls.context(identity=pki.second, versions=TLS12)
    with tls.Client(site.port, "a.test", ctx) as client:
        assert client.roundtrip("/productpage").status == 200
        session = client.socket.session
    made = site.folder / "made.yaml"
    made.write_text(made.read_text().replace("mode: MUTUAL",
                                             "mode: MUTUAL\n      subjectAltNames: [client.test]"))
    assert site.gateway.log.wait(r"event=reload .*generation=2", 5)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls.Client(site.port, "a.test", ctx, session=session)


# ---- 5-15, credentialName

def test_credential_name(apply, pki):
    site = apply("5-15/gateway-credentialName.yaml", BOOKINFO, secret("bookinfo-secret", pki.server))
    assert site.get("bookinfo.demo", tls.context(pki.ca)).status == 200
    assert site.get(None, host="192.0.2.1").status == 200  # `*` serves who names nobody


def shown(site, name, *sigalgs):
    status, said = s_client(site.port, name, site.ca, "-sigalgs", ":".join(sigalgs), "-tls1_2",
                            "-cipher", "ALL:@SECLEVEL=1")
    assert status == 0, said
    return re.search(r"Signature type: (\S+)", said)[1]


def test_two_credentials(apply, pki):
    """credentialNames: RSA and ECDSA together, by what the client can verify."""
    site = apply(("5-15/gateway-credentialName.yaml",
                  ("credentialName: bookinfo-secret", "credentialNames: [rsa, ecdsa]")), BOOKINFO,
                 secret("rsa", pki.rsa), secret("ecdsa", pki.server))
    site.ca = pki.ca
    assert shown(site, "bookinfo.demo", "rsa_pss_rsae_sha256").startswith("RSA")
    assert shown(site, "bookinfo.demo", "ecdsa_secp256r1_sha256").startswith("ECDSA")
    assert shown(site, "bookinfo.demo", "rsa_pss_rsae_sha256",
                 "ecdsa_secp256r1_sha256").startswith("ECDSA")


def test_a_missing_credential_breaks_only_its_own_server(apply, pki):
    gateway = d.gateway_of(
        d.server("bookinfo.com", mode="SIMPLE", credentialName="there"),
        d.server("bookinfo.demo", mode="SIMPLE", credentialName="nowhere"),
        d.server("*.demo", mode="SIMPLE", credentialName="there"),
        name="bookinfo-gateway", namespace="istio")
    site = apply(BOOKINFO, gateway, secret("there", pki.server))
    assert site.get("bookinfo.com", tls.context(pki.ca)).status == 200
    assert site.get("ratings.demo", tls.context(pki.ca)).status == 200
    assert site.refused("bookinfo.demo") == "end"  # its own, not what a wider name would serve
    assert site.gateway.log.wait('Referenced credentialName not found: "nowhere"', 1)


# ---- 5-17, cipherSuites

SUITES = ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]


def chosen(site, ciphers, versions=TLS12):
    with tls.Client(site.port, "bookinfo.demo",
                    tls.context(versions=versions, ciphers=ciphers)) as client:
        return client.socket.cipher()[0]


def test_cipher_suites(apply, pki):
    site = apply("5-17/gateway-cipherSuites.yaml", BOOKINFO, secret("bookinfo-secret", pki.rsa))
    for name in SUITES:
        assert chosen(site, name) == name
    with pytest.raises(ssl.SSLError):
        chosen(site, "ECDHE-RSA-CHACHA20-POLY1305")
    # Those of TLS 1.3 are nobody's to choose.
    assert chosen(site, None, TLS13).startswith("TLS_")


def test_cipher_suites_unknown_and_twice(apply, pki):
    """The tutorial's own slip, `CDHE-…`: passed over and told, as by Istio."""
    lines = "".join(f"\n      - {n}" for n in ("CDHE-ECDSA-AES256-GCM-SHA384", SUITES[1], SUITES[1]))
    edit = "\n      - ".join(["cipherSuites: ", *SUITES])
    site = apply(("5-17/gateway-cipherSuites.yaml", (edit, "cipherSuites:" + lines)), BOOKINFO,
                 secret("bookinfo-secret", pki.rsa))
    assert chosen(site, SUITES[1]) == SUITES[1]
    with pytest.raises(ssl.SSLError):
        chosen(site, SUITES[0])
    said = sluice("analyze", "-n", "istio", "-f", site.folder)
    said = said.stdout + said.stderr
    assert "warning: Gateway istio/bookinfo-gateway: ignoring invalid cipher suites: " \
           "[CDHE-ECDSA-AES256-GCM-SHA384]" in said
    assert f"warning: Gateway istio/bookinfo-gateway: ignoring duplicate cipher suites: [{SUITES[1]}]" \
        in said


def test_curves(apply, pki):
    site = apply(("5-15/gateway-credentialName.yaml",
                  ("mode: SIMPLE", "mode: SIMPLE\n      ecdhCurves: [P-384]")), BOOKINFO,
                 secret("bookinfo-secret", pki.server))
    assert s_client(site.port, "bookinfo.demo", pki.ca, "-groups", "P-384")[0] == 0
    assert s_client(site.port, "bookinfo.demo", pki.ca, "-groups", "X25519:P-256")[0] != 0


# ---- 5-18, versions

ALL = {"TLSV1_0": V.TLSv1, "TLSV1_1": V.TLSv1_1, "TLSV1_2": V.TLSv1_2, "TLSV1_3": V.TLSv1_3}


def spoken(site):
    """The versions with which a client that speaks only that one is served."""
    out = set()
    for name, version in ALL.items():
        ctx = tls.context(versions=(version, version), ciphers="ALL:@SECLEVEL=0")
        try:
            with tls.Client(site.port, "bookinfo.demo", ctx) as client:
                if client.roundtrip("/productpage", host="bookinfo.demo").status == 200:
                    out.add(name)
        except ssl.SSLError as e:
            assert re.search("PROTOCOL|HANDSHAKE_FAILURE", str(e.reason)), e
    return out


# Envoy's suites, which are the default, are of TLS 1.2: "tls1.0被废弃" in the tutorial. Who wants an
# older version names a suite of it.
OLD = ("mode: SIMPLE", "mode: SIMPLE\n      cipherSuites: [ECDHE-ECDSA-AES128-SHA, ECDHE-ECDSA-AES128-GCM-SHA256]")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("document, served", [
    ("tlsv1_0-tlsv1_3", set(ALL)), ("tls_auto", {"TLSV1_2", "TLSV1_3"}), ("tlsv1_0", {"TLSV1_0"})])
def test_versions(apply, pki, document, served):
    document = f"5-18/gateway-tls-version-{document}.yaml"
    credential = secret("bookinfo-secret", pki.server)
    assert spoken(apply(document, BOOKINFO, credential)) == served - {"TLSV1_0", "TLSV1_1"}
    assert spoken(apply((document, OLD), BOOKINFO, credential)) == served


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [*ALL, "TLS_AUTO"])
def test_one_version(apply, pki, version):
    site = apply(("5-18/gateway-tls-version-tlsv1_0.yaml", ("TLSV1_0", version), OLD), BOOKINFO,
                 secret("bookinfo-secret", pki.server))
    assert spoken(site) == ({"TLSV1_2", "TLSV1_3"} if version == "TLS_AUTO" else {version})


# ---- 5-19, subjectAltNames beside SIMPLE: the tutorial shows it, today's Istio refuses it

def test_names_without_client_certificates(apply, pki):
    site = apply("5-19/gateway-subjectAltNames.yaml", BOOKINFO,
                 secret("bookinfo-credential", pki.server))
    for name in ("bookinfo.example.com", "bookinfo.com", "bookinfo.demo"):
        assert site.get(name, tls.context(pki.ca)).status == 200
    assert site.refused("ratings.demo") == "end"


# ---- several servers on a port

def test_servers_by_name(apply, pki):
    wide = pki.ca.issue("wide", ["DNS:*.demo"])
    gateway = d.gateway_of(
        d.server("bookinfo.com", mode="SIMPLE", credentialName="a"),
        d.server("*.demo", mode="SIMPLE", credentialName="wide"),
        d.server("bookinfo.demo", mode="MUTUAL", credentialName="a"),
        name="bookinfo-gateway", namespace="istio")
    site = apply(BOOKINFO, gateway, secret("a", pki.server, pki.ca), secret("wide", wide))

    def leaf(name, ctx=None):
        with tls.Client(site.port, name, ctx) as client:
            return client.shown()

    assert leaf("bookinfo.com") == pki.server.sha256()
    assert leaf("ratings.demo") == leaf("a.b.demo") == wide.sha256()
    assert leaf("bookinfo.demo", tls.context(identity=pki.client)) == pki.server.sha256()
    assert site.refused("demo") == "end"
    # A request for a host of another server is misdirected, wherever its policy is laxer.
    with tls.Client(site.port, "ratings.demo") as client:
        for host, status in (("ratings.demo", 200), ("x.demo", 200), ("bookinfo.demo", 421),
                             ("bookinfo.com", 421), ("other.com", 421), ("ratings.demo", 200)):
            assert client.roundtrip("/productpage", host=host).status == status, host


# ---- the ClientHello on its way

def records(hello, size):
    """The handshake message of one record, spread over records of `size` bytes."""
    body = hello[5:]
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)


def hello_of(ctx, name):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = ctx.wrap_bio(into, out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    return side, into, out, out.read()


@pytest.mark.parametrize("size", [0, 1, 37])
@pytest.mark.parametrize("versions", [TLS12, TLS13])
def test_a_hello_in_pieces(apply, pki, versions, size):
    """One byte a segment, and in records of 1 or 37 bytes."""
    site = apply("5-5/gateway-https.yaml", BOOKINFO, mounted(pki.server))
    side, into, out, hello = hello_of(tls.context(pki.ca, versions=versions), "bookinfo.demo")
    with tcp.connect(site.port) as peer:
        sock = peer.socket
        data = records(hello, size) if size else hello
        for at in range(len(data)):
            sock.sendall(data[at:at + 1])

        def pump(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    sock.sendall(out.read())
                    got = sock.recv(1 << 16)
                    assert got, "the gateway has closed"
                    into.write(got)

        pump(side.do_handshake)
        side.write(http1.request("/productpage", host="bookinfo.demo"))
        assert pump(lambda: side.read(12)) == b"HTTP/1.1 200"


def test_post_quantum_key_exchange(apply, pki):
    """X25519MLKEM768 (4588) is taken before X25519, which the client has a share for as well."""
    site = apply("5-5/gateway-https.yaml", BOOKINFO, mounted(pki.server))

    def extension(kind, body):
        return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body

    def vector(body, n=2):
        return len(body).to_bytes(n, "big") + body

    share = b"\x09" + bytes(31)  # X25519's base point; as ML-KEM-768's key: zeros are one
    shares = (b"\x00\x1d" + vector(share)) + (b"\x11\xec" + vector(bytes(1152 + 32) + share))
    name = b"bookinfo.demo"
    extensions = b"".join([
        extension(0, vector(b"\x00" + vector(name))),
        extension(10, vector(b"\x00\x1d\x11\xec")),
        extension(13, vector(b"\x04\x03\x08\x04")),
        extension(43, vector(b"\x03\x04", 1)),
        extension(51, vector(shares))])
    body = b"\x03\x03" + bytes(32) + vector(bytes(32), 1) + vector(b"\x13\x01") + b"\x01\x00" + \
        vector(extensions)
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    with tcp.connect(site.port) as peer:
        sock = peer.socket
        sock.sendall(records(b"\0" * 5 + message, 1 << 14))
        stream = http1.Stream(sock)
        head = stream.exactly(5)
        answer = stream.exactly(int.from_bytes(head[3:], "big"))
    assert head[0] == 0x16 and answer[0] == 2, (head, answer)
    assert b"\x00\x33\x04\x64\x11\xec\x04\x60" in answer  # key_share, that group, 1120 bytes


# ---- resumption

@pytest.mark.parametrize("versions", [TLS12, TLS13])
def test_resumption_across_workers(apply, pki, versions):
    site = apply("5-5/gateway-https.yaml", BOOKINFO, mounted(pki.server), workers=4)
    ctx = tls.context(pki.ca, versions=versions)
    with tls.Client(site.port, "bookinfo.demo", ctx) as client:
        assert client.roundtrip("/productpage", host="bookinfo.demo").status == 200
        session = client.socket.session
    for _ in range(24):
        with tls.Client(site.port, "bookinfo.demo", ctx, session=session) as client:
            assert client.socket.session_reused
            assert client.roundtrip("/productpage", host="bookinfo.demo").status == 200
    site.gateway.wait_metric("downstream_tls_resumed", 24)


def test_a_session_of_one_server_is_none_of_another(apply, pki):
    site = apply(BOOKINFO, d.gateway_of(
        d.server("bookinfo.com", mode="SIMPLE", credentialName="a"),
        d.server("bookinfo.demo", mode="SIMPLE", credentialName="a"),
        name="bookinfo-gateway", namespace="istio"), secret("a", pki.server))
    ctx = tls.context(versions=TLS12)
    with tls.Client(site.port, "bookinfo.com", ctx) as client:
        assert client.roundtrip("/productpage", host="bookinfo.com").status == 200
        session = client.socket.session
    with tls.Client(site.port, "bookinfo.demo", ctx, session=session) as client:
        assert not client.socket.session_reused


# ---- the access log

def test_access_log(apply, pki):
    form = ("%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% "
            "%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_FINGERPRINT_256%")
    site = apply(("5-14/gateway-mutual.yaml", ("mode: MUTUAL", "mode: OPTIONAL_MUTUAL")), BOOKINFO,
                 secret("bookinfo-credential", pki.server, pki.ca),
                 args=["--access-log", "-", "--access-log-format", form])
    name = "bookinfo.example.com"
    site.get(name, tls.context(identity=pki.client, versions=TLS12))
    site.get(name, tls.context(versions=TLS13, ciphers=None))
    assert site.gateway.out.wait(f"^{name} TLSv1.2 ECDHE-ECDSA-AES[0-9]+-GCM-SHA[0-9]+ CN=client "
                                 f"{pki.client.sha256()}$", 5)
    assert site.gateway.out.wait(f"^{name} TLSv1.3 TLS_AES_[0-9]+_GCM_SHA[0-9]+ - -$", 5)


def test_istios_access_log_has_the_server_name(apply, pki):
    site = apply("5-5/gateway-https.yaml", BOOKINFO, mounted(pki.server),
                 args=["--access-log", "-", "--access-log-format", "json"])
    site.get("bookinfo.demo")
    assert site.gateway.out.wait(r"^\{", 5)
    assert json.loads(site.gateway.out.lines[0])["requested_server_name"] == "bookinfo.demo"
