"""ISTIO_MUTUAL: the gateway's own identity (--identity), towards destinations and towards clients."""
import shutil
import ssl

import pytest

from lib import documents as d
from lib import tcp, tls
from lib.certificates import Authority
from lib.gateway import sluice
from lib.http1 import request
from lib.upstream import Upstream
from lib.waiting import eventually

GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
APP = "spiffe://cluster.local/ns/default/sa/app"
SNI = "outbound_.8080_._.app.default.svc.cluster.local"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")

    class Pki:
        root, other = Authority(folder, "root"), Authority(folder, "other")
        # Istio's authority below the root; a workload's certificate is for both roles.
        istiod = Authority(folder, "istiod", parent=root)
        gateway = istiod.issue("gateway", [f"URI:{GATEWAY}"], kind="client")
        renewed = istiod.issue("renewed", [f"URI:{GATEWAY}2"], kind="client")
        both = istiod.issue("both", [f"URI:{GATEWAY}"])
        app = istiod.issue("app", [f"URI:{APP}"])
        stranger = other.issue("stranger", [f"URI:{APP}"])
    return Pki


def write_identity(folder, certificate, root):
    """As istio-agent leaves it there."""
    folder.mkdir(exist_ok=True)
    for name, source in (("cert-chain.pem", certificate.cert), ("key.pem", certificate.key),
                         ("root-cert.pem", root.cert)):
        shutil.copy(source, folder / ".new")
        (folder / ".new").replace(folder / name)
    return ["--identity", str(folder)]


def workload(certificate, root, alpn=("istio", "http/1.1")):
    """As a sidecar speaks TLS: clients show a certificate of the mesh."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    context.load_verify_locations(root.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(alpn))
    context.asked = []
    context.sni_callback = lambda s, name, _: context.asked.append(name)
    return context


@pytest.fixture
def backend():
    made = []

    def make(context):
        made.append(Upstream(tls=context))
        return made[-1]
    yield make
    for one in made:
        one.close()
        one.check()


def documents(port, **fields):
    return [d.gateway(), d.virtual_service(d.rule(retries={"attempts": 0})), *d.backend(port),
            d.destination_rule("app", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL", **fields}})]


def uris(connection):
    return [value for kind, value in connection.peer["subjectAltName"] if kind == "URI"]


def test_destination(serve, backend, pki, tmp_path):
    """It is told who the gateway is, by Istio's names of cluster and protocol."""
    app = backend(workload(pki.app, pki.root))
    gateway = serve(*documents(app.port),
                    args=write_identity(tmp_path / "certs", pki.gateway, pki.root))
    assert gateway.fetch().status == 200
    connection = app.connections[0]
    assert uris(connection) == [GATEWAY]
    assert app.tls.asked == [SNI]
    assert connection.socket.selected_alpn_protocol() == "istio"
    rows = sluice("proxy-config", "secrets", "--admin", gateway.admin).stdout.splitlines()
    assert any(r.startswith("default ") and "ACTIVE" in r for r in rows), rows
    assert any(r.startswith("ROOTCA ") and "ACTIVE" in r for r in rows), rows


def test_destination_of_another_root(serve, backend, pki, tmp_path):
    app = backend(workload(pki.stranger, pki.root))
    gateway = serve(*documents(app.port),
                    args=write_identity(tmp_path / "certs", pki.gateway, pki.root))
    assert gateway.fetch().status == 503
    assert not app.requests


@pytest.mark.parametrize("names,status", [([APP], 200), ([APP + "2"], 503)])
def test_destination_by_name(serve, backend, pki, tmp_path, names, status):
    app = backend(workload(pki.app, pki.root))
    gateway = serve(*documents(app.port, subjectAltNames=names),
                    args=write_identity(tmp_path / "certs", pki.gateway, pki.root))
    assert gateway.fetch().status == status


@pytest.mark.parametrize("names,status", [([APP], 200), ([APP + "2"], 503)])
def test_destination_by_the_names_of_its_service_entry(serve, backend, pki, tmp_path, names, status):
    app = backend(workload(pki.app, pki.root))
    entry = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
             "metadata": {"name": "vm", "namespace": d.NAMESPACE},
             "spec": {"hosts": ["vm.mesh"], "resolution": "STATIC", "location": "MESH_INTERNAL",
                      "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
                      "endpoints": [{"address": "127.0.0.1", "ports": {"http": app.port}}],
                      "subjectAltNames": names}}
    gateway = serve(d.gateway(), d.virtual_service(d.rule(retries={"attempts": 0},
                                                          route=[d.to("vm.mesh")])), entry,
                    d.destination_rule("vm.mesh", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}),
                    args=write_identity(tmp_path / "certs", pki.gateway, pki.root))
    assert gateway.fetch().status == status


def test_identity_that_comes_and_changes(serve, backend, pki, tmp_path):
    """As istio-agent renews it, without a restart."""
    app = backend(workload(pki.app, pki.root))
    folder = tmp_path / "certs"
    gateway = serve(*documents(app.port), args=["--identity", str(folder)])
    assert gateway.fetch().status == 503 and not app.connections
    write_identity(folder, pki.gateway, pki.root)
    eventually(lambda: gateway.fetch().status == 200, 5)
    assert uris(app.connections[-1]) == [GATEWAY]
    write_identity(folder, pki.renewed, pki.root)
    eventually(lambda: gateway.fetch().status == 200 and
               uris(app.connections[-1]) == [GATEWAY + "2"], 5)


def test_relay(serve, pki, tmp_path):
    """Of a TCP server the protocol is Istio's alone."""
    seen = []

    def session(peer):
        seen.append((peer.socket.selected_alpn_protocol(), peer.socket.getpeercert()))
        tcp.says("hello")(peer)
    app = tcp.Backend(session, tls=workload(pki.app, pki.root))
    try:
        gateway = serve(
            d.l4_gateway((31400, "TCP", ["*"], None)), d.l4_service("tcp", {"route": [d.to()]}),
            *d.backend(app.port),
            d.destination_rule("app", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}),
            numbers=[31400], args=write_identity(tmp_path / "certs", pki.gateway, pki.root))
        with tcp.connect(gateway.ports[31400]) as client:
            assert tcp.ask(client) == b"hello world\n"
        (alpn, peer), = seen
        assert alpn == "istio" and ("URI", GATEWAY) in peer["subjectAltName"]
    finally:
        app.close()


def test_server(serve, upstream, pki, tmp_path):
    """A server of mode ISTIO_MUTUAL is for workloads of the mesh alone."""
    gateway = serve(d.gateway_of(d.server("a.test", mode="ISTIO_MUTUAL")),
                    d.virtual_service(d.rule()), *d.backend(upstream.port), numbers=[443],
                    args=write_identity(tmp_path / "certs", pki.both, pki.root))
    port = gateway.ports[443]
    shows = tls.context(identity=pki.gateway)
    with tls.Client(port, ctx=shows) as client:
        client.send(request())
        assert client.response().status == 200
        names = [v for k, v in client_certificate(client, pki)]
        assert GATEWAY in names
    assert "certificate_required" in tls.refusal(port)
    assert "unknown_ca" in tls.refusal(port, ctx=tls.context(identity=pki.stranger))


def client_certificate(client, pki):
    """The names that the gateway has shown."""
    path = pki.root.folder / "shown.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(client.socket.getpeercert(binary_form=True)))
    return ssl._ssl._test_decode_cert(str(path))["subjectAltName"]


def test_option_takes_a_folder(tmp_path):
    run = sluice("run", "-f", tmp_path, "--identity", "")
    assert run.returncode == 2 and "--identity: " in run.stderr
