"""TLS towards destinations: trafficPolicy.tls of DestinationRules in each mode, and what fails."""
import json
import socket
import ssl
import threading
from datetime import timedelta

import pytest
import websockets.sync.client as ws_client
import websockets.sync.server as ws_server

from lib import documents as d
from lib.certificates import DAY, Authority
from lib.gateway import sluice
from lib.http1 import Client, reply, request
from lib.upstream import Upstream
from lib.waiting import eventually

RESET = "upstream connect error or disconnect/reset before headers. "
FAILED = "remote connection failure, transport failure reason: TLS_error: "
NO_RETRY = {"attempts": 0}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")

    class Pki:
        ca, other = Authority(folder, "ca"), Authority(folder, "other")
        good = ca.issue("good", ["DNS:a.test", "DNS:backend.test"])
        expired = ca.issue("expired", ["DNS:a.test"], begins=-2 * DAY, ends=-timedelta(hours=1))
        client = ca.issue("client", ["URI:spiffe://cluster.local/ns/a/sa/b"], kind="client")
        stranger = other.issue("stranger", kind="client")
    return Pki


def context(certificate, client_ca=None, alpn=()):
    """A server's; what it is asked for by name is collected in `asked`."""
    out = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    out.load_cert_chain(certificate.cert, certificate.key)
    if client_ca:
        out.load_verify_locations(client_ca.cert)
        out.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        out.set_alpn_protocols(list(alpn))
    out.asked = []
    out.sni_callback = lambda s, name, _: out.asked.append(name)
    return out


@pytest.fixture
def backend(pki):
    """Makes backends that speak TLS and closes them."""
    made = []

    def make(certificate=None, **kw):
        made.append(Upstream(tls=context(certificate or pki.good, **kw)))
        return made[-1]
    yield make
    for one in made:
        one.close()
        one.check()


def tls(mode="SIMPLE", **fields):
    return {"mode": mode, **fields}


def trust(pki, **fields):
    return tls(caCertificates=str(pki.ca.cert), **fields)


def documents(port, policy, **more):
    """One service behind one DestinationRule; requests are not tried again."""
    return [d.gateway(), d.virtual_service(d.rule(retries=NO_RETRY)), *d.backend(port),
            d.destination_rule("app", trafficPolicy={"tls": policy}, **more)]


def refused(gateway, why, host="a.test"):
    """503, and a reason in the body, before a byte of the request has left."""
    response = gateway.fetch(host=host)
    assert response.status == 503
    assert response.body.decode() == RESET + "reset reason: " + FAILED + why
    return response


# ---- modes, names


def test_simple(serve, backend, pki):
    app = backend()
    gateway = serve(*documents(app.port, trust(pki)))
    seen = gateway.fetch("/x", host="a.test:80").json()
    assert (seen["target"], ["host", "a.test:80"] in seen["headers"]) == ("/x", True)
    assert app.tls.asked == ["a.test"], "the name without the port"
    assert gateway.metric("upstream_tls_handshakes") == 1


def test_disable_is_clear_text(serve, upstream):
    gateway = serve(*documents(upstream.port, tls("DISABLE")))
    assert gateway.fetch().status == 200
    assert gateway.metric("upstream_tls_handshakes") == 0


def test_sni_of_the_rule_is_sent_and_checked(serve, backend, pki):
    app = backend()
    gateway = serve(*documents(app.port, trust(pki, sni="backend.test")))
    with gateway.client() as client:
        for host in ("a.test", "b.test", "a.test"):
            assert client.roundtrip(host=host).status == 200
    assert app.tls.asked == ["backend.test"], "one connection serves all hosts"


def test_each_host_has_connections_of_its_own(serve, backend, pki):
    """A certificate that was checked for one name is no promise of another."""
    app = backend(pki.ca.issue("two", ["DNS:a.test", "DNS:b.test"]))
    gateway = serve(*documents(app.port, trust(pki)), workers=1)
    with gateway.client() as client:
        first, other, again, case = (client.roundtrip(host=h).json()["connection"]
                                     for h in ("a.test", "b.test", "a.test:80", "A.test"))
        assert first == again == case and other != first
        assert client.roundtrip(host="c.test").status == 503
    assert app.tls.asked == ["a.test", "b.test", "c.test"]


def test_a_rewritten_host_is_the_name(serve, backend, pki):
    app = backend()
    docs = documents(app.port, trust(pki))
    docs[1] = d.virtual_service(d.rule(rewrite={"authority": "backend.test"}))
    gateway = serve(*docs)
    assert gateway.fetch(host="outside.example").status == 200
    assert app.tls.asked == ["backend.test"]


def test_an_address_is_no_server_name(serve, backend, pki):
    app = backend(pki.ca.issue("address", ["IP:127.0.0.1"]))
    gateway = serve(*documents(app.port, trust(pki)))
    assert gateway.fetch(host="127.0.0.1:80").status == 200
    assert app.tls.asked == [None]
    refused(gateway, "the certificate is not for this host", host="127.0.0.2")


# ---- certificates that are refused


def test_wrong_name(serve, backend, pki):
    gateway = serve(*documents(backend().port, trust(pki)))
    refused(gateway, "the certificate is not for this host", host="c.test")
    gateway.wait_metric("upstream_tls_fail_name", 1)


def test_subject_alt_names(serve, backend, pki):
    port = backend().port
    gateway = serve(*documents(port, trust(pki, subjectAltNames=["x.test", "backend.test"])))
    assert gateway.fetch(host="whatever.test").status == 200
    gateway = serve(*documents(port, trust(pki, subjectAltNames=["x.test"])))
    refused(gateway, "none of subjectAltNames is in the certificate")


def test_another_authority(serve, backend, pki):
    app = backend()
    gateway = serve(*documents(app.port, tls(caCertificates=str(pki.other.cert))),
                    args=["--access-log", "-", "--access-log-format",
                          "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
                          "%UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_TLS_VERSION%"])
    response = gateway.fetch()
    assert response.status == 503
    body = response.body.decode()
    assert body.startswith(RESET + "reset reason: " + FAILED), body
    why = body.removeprefix(RESET + "reset reason: " + FAILED).replace(" ", "_")
    line = eventually(lambda: gateway.out.lines and gateway.out.lines[0], what="a line")
    assert line == ("UF upstream_reset_before_response_started{remote_connection_failure,"
                    f"TLS_error:_{why}}} TLS_error:_{why} -")
    assert not app.requests
    gateway.wait_metric("upstream_tls_fail_certificate", 1)
    gateway.wait_metric("upstream_cx_connect_fail", 1)
    eventually(lambda: app.tls_errors, what="the alert")
    assert "UNKNOWN_CA" in str(app.tls_errors[0])


def test_system_authorities_do_not_know_it(serve, backend, pki):
    gateway = serve(*documents(backend().port, tls()))
    assert gateway.fetch().status == 503


def test_expired(serve, backend, pki):
    gateway = serve(*documents(backend(pki.expired).port, trust(pki)))
    refused(gateway, "certificate has expired")


def test_revoked(serve, backend, pki, tmp_path):
    ca = Authority(tmp_path)
    fine, gone = ca.issue("fine", ["DNS:a.test"]), ca.issue("gone", ["DNS:a.test"])
    crl = ca.revoke(gone)
    policy = tls(caCertificates=str(ca.cert), caCrl=str(crl))
    assert serve(*documents(backend(fine).port, policy)).fetch().status == 200
    refused(serve(*documents(backend(gone).port, policy)), "certificate revoked")


def test_insecure_skip_verify(serve, backend, pki):
    gateway = serve(*documents(backend(pki.expired).port, tls(insecureSkipVerify=True)))
    assert gateway.fetch(host="c.test").status == 200


def test_a_certificate_that_is_refused_is_tried_elsewhere(serve, backend, pki):
    good, bad = backend(), backend(pki.expired)
    docs = documents(good.port, trust(pki))
    docs[1] = d.virtual_service(d.rule(retries={"attempts": 3, "retryOn": "connect-failure"}))
    gateway = serve(*docs, *d.endpoints(bad.port))
    assert [gateway.fetch().status for _ in range(8)] == [200] * 8
    assert not bad.requests


# ---- the gateway's own certificate


def mutual(pki, who, mode="MUTUAL", **fields):
    return trust(pki, clientCertificate=str(who.cert), privateKey=str(who.key), **fields) | {
        "mode": mode}


def test_mutual_shows_its_certificate(serve, backend, pki):
    app = backend(client_ca=pki.ca)
    gateway = serve(*documents(app.port, mutual(pki, pki.client)))
    assert gateway.fetch().status == 200
    assert app.connections[0].peer["subjectAltName"] == (
        ("URI", "spiffe://cluster.local/ns/a/sa/b"),)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_without_a_certificate_it_is_refused(serve, backend, pki, version):
    """In TLS 1.3 only after the handshake: then the request was on its way already."""
    app = backend(client_ca=pki.ca)
    app.tls.maximum_version = version
    gateway = serve(*documents(app.port, trust(pki)))
    body = gateway.fetch().body.decode()
    assert body.startswith(RESET + "reset reason: ") and "transport failure reason: TLS_error: " in body
    assert "ALERT" in body, body
    eventually(lambda: app.tls_errors, what="the handshake's failure")
    assert not app.requests


def test_a_strangers_certificate_is_refused(serve, backend, pki):
    app = backend(client_ca=pki.ca)
    gateway = serve(*documents(app.port, mutual(pki, pki.stranger)))
    assert gateway.fetch().status == 503
    assert not app.requests


def secret(name, cert, key, ca):
    return {"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": d.NAMESPACE}, "type": "Opaque",
            "stringData": {"tls.crt": cert.read_text(), "tls.key": key.read_text(),
                           "ca.crt": ca.cert.read_text()}}


def test_credential_name(serve, backend, pki):
    app = backend(client_ca=pki.ca)
    gateway = serve(*documents(app.port, tls("MUTUAL", credentialName="mine")),
                    secret("mine", pki.client.cert, pki.client.key, pki.ca))
    assert gateway.fetch().status == 200
    assert app.connections[0].peer


def test_a_credential_that_is_missing_breaks_only_its_destination(serve, backend, upstream, pki):
    app = backend()
    gateway = serve(
        d.gateway(), d.virtual_service(d.rule({"uri": {"prefix": "/plain"}}, route=[d.to("plain")]),
                                       d.rule(retries=NO_RETRY)),
        *d.backend(app.port), *d.backend(upstream.port, name="plain"),
        d.destination_rule("app", trafficPolicy={"tls": tls("MUTUAL", credentialName="absent")}))
    refused(gateway, "Secret is not supplied by SDS")
    assert gateway.fetch("/plain").status == 200
    assert not app.connections, "nothing may be sent in clear text instead"


def test_istio_mutual_names_the_cluster(serve, backend, pki):
    """Without its identity there is no connection; the name is Istio's."""
    app = backend()
    gateway = serve(*documents(app.port, tls("ISTIO_MUTUAL")))
    assert gateway.fetch().status == 503
    assert not app.connections
    rows = {row["name"]: row for row in clusters(gateway)}
    row = rows["outbound|8080||app.default.svc.cluster.local"]
    assert row["tls"] == "ISTIO_MUTUAL"
    assert row["tls_name"] == "outbound_.8080_._.app.default.svc.cluster.local"


def clusters(gateway):
    run = sluice("proxy-config", "clusters", "--admin", gateway.admin, "-o", "json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# ---- which policy


def test_ports_and_subsets(serve, backend, upstream, pki):
    """portLevelSettings replace all of their level, a subset's settings those of the rule."""
    app = backend()
    def service(number, name):
        return {"name": name, "port": number}
    both = {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "app", "namespace": d.NAMESPACE},
            "spec": {"ports": [service(8080, "http"), service(8443, "http-tls")],
                     "selector": {"app": "app"}}}
    pod = {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": "one", "namespace": d.NAMESPACE,
                        "labels": {"app": "app", "v": "a"}},
           "status": {"podIP": "127.0.0.1", "phase": "Running",
                      "conditions": [{"type": "Ready", "status": "True"}]},
           "spec": {"containers": []}}
    both["spec"]["ports"][0]["targetPort"] = upstream.port
    both["spec"]["ports"][1]["targetPort"] = app.port
    policy = {"portLevelSettings": [{"port": {"number": 8443}, "tls": trust(pki)}]}
    subsets = [{"name": "same", "labels": {"v": "a"}},
               {"name": "clear", "labels": {"v": "a"},
                "trafficPolicy": {"tls": tls("DISABLE")}},
               {"name": "strict", "labels": {"v": "a"},
                "trafficPolicy": {"tls": trust(pki, subjectAltNames=["x.test"])}}]

    def at(path, port, subset=None):
        return d.rule({"uri": {"prefix": path}}, retries=NO_RETRY,
                      route=[d.to(port=port, subset=subset)])
    gateway = serve(d.gateway(), d.virtual_service(
        at("/plain", 8080), at("/tls", 8443), at("/same", 8443, "same"),
        at("/clear", 8443, "clear"), at("/strict", 8443, "strict")),
        both, pod, d.destination_rule("app", trafficPolicy=policy, subsets=subsets))
    assert gateway.fetch("/plain").json()["connection"] and upstream.requests
    assert gateway.fetch("/tls").status == gateway.fetch("/same").status == 200
    assert len(app.requests) == 2
    assert gateway.fetch("/clear").status == 503  # clear text to a TLS port
    assert gateway.fetch("/strict").status == 503
    modes = {row["name"].rsplit(".default")[0]: row["tls"] for row in clusters(gateway)
             if "|app." in row["name"]}
    assert modes == {
        "outbound|8080||app": "DISABLE", "outbound|8443||app": "SIMPLE",
        "outbound|8080|same|app": "DISABLE", "outbound|8443|same|app": "SIMPLE",
        "outbound|8080|clear|app": "DISABLE", "outbound|8443|clear|app": "DISABLE",
        "outbound|8080|strict|app": "SIMPLE", "outbound|8443|strict|app": "SIMPLE"}


# ---- sessions, reloads


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(serve, backend, pki, version):
    app = backend()
    app.tls.maximum_version = version

    def handler(connection, _):
        connection.send(reply(b"ok", headers=[("connection", "close")]))
        connection.finish()
    app.handler = handler
    gateway = serve(*documents(app.port, trust(pki)), workers=1,
                    args=["--access-log", "-", "--access-log-format", "%UPSTREAM_TLS_VERSION%"])
    for _ in range(3):
        assert gateway.fetch().body == b"ok"
    assert [c.resumed for c in app.connections] == [False, True, True]
    assert gateway.metric("upstream_tls_resumed") == 2
    name = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    eventually(lambda: gateway.out.lines == [name] * 3, what="three lines")


def test_from_clear_text_to_tls_without_a_failed_request(serve, backend, upstream, pki):
    app = backend()
    gateway = serve(*documents(upstream.port, tls("DISABLE")))
    stop, answers = threading.Event(), []

    def ask():
        with gateway.client() as client:
            while not stop.is_set():
                answers.append(client.roundtrip().status)
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for one in askers:
        one.start()
    try:
        upstream.wait_requests(20)
        gateway.file.write_text(d.text(*documents(app.port, trust(pki))))
        app.wait_requests(20)
        gateway.file.write_text(d.text(*documents(upstream.port, tls("DISABLE"))))
        before = len(upstream.requests)
        upstream.wait_requests(before + 20)
    finally:
        stop.set()
        for one in askers:
            one.join()
    assert set(answers) == {200}


def test_a_policy_that_becomes_stricter_holds_at_once(serve, backend, pki):
    """Connections that were made under another policy carry no further request."""
    app = backend()
    gateway = serve(*documents(app.port, tls(insecureSkipVerify=True)))
    with gateway.client() as client:
        assert client.roundtrip().status == 200
        gateway.file.write_text(d.text(*documents(app.port, trust(pki, subjectAltNames=["x.test"]))))
        eventually(lambda: client.roundtrip().status == 503, what="the new policy")
        assert client.roundtrip().status == 503


def test_connections_end_by_close_notify(serve, backend, pki):
    """Idle too long, used up, out of the configuration: RFC 8446, 6.1."""
    app = backend()
    docs = documents(app.port, trust(pki))
    docs[-1]["spec"]["trafficPolicy"]["connectionPool"] = {"http": {"idleTimeout": "0.2s"}}
    gateway = serve(*docs, workers=1)
    assert gateway.fetch().status == 200
    assert app.wait_connections(1)[0].ended.wait(5)
    docs[-1]["spec"]["trafficPolicy"]["connectionPool"] = {"http": {"maxRequestsPerConnection": 1}}
    gateway.file.write_text(d.text(*docs))
    eventually(lambda: gateway.metric("config_reload_successes") == 2, what="the reload")
    assert gateway.fetch().status == 200
    assert app.wait_connections(2)[1].ended.wait(5)
    docs[-1]["spec"]["trafficPolicy"] = {"tls": trust(pki)}
    gateway.file.write_text(d.text(*docs))
    eventually(lambda: gateway.metric("config_reload_successes") == 3, what="the reload")
    assert gateway.fetch().status == 200
    gateway.file.write_text(d.text(*documents(app.port, tls("DISABLE"))))
    assert app.wait_connections(3)[2].ended.wait(5)
    assert not app.tls_errors


# ---- bodies


def test_large_bodies_both_ways(serve, backend, pki):
    app = backend()
    app.handler = lambda c, r: c.send(reply(r.body[::-1]))
    gateway = serve(*documents(app.port, trust(pki)))
    body = bytes(range(256)) * (1 << 14)  # 4 MiB
    with gateway.client(timeout=60) as client:
        for _ in range(3):
            client.send(request(method="POST", body=body))
            assert client.response().body == body[::-1]
    gateway.wait_idle()


def test_tls_on_both_sides(serve, backend, pki):
    app = backend()
    app.handler = lambda c, r: c.send(reply(r.body[::-1]))
    docs = documents(app.port, trust(pki))
    docs[0] = d.gateway(number=443)
    docs[0]["spec"]["servers"][0]["port"]["protocol"] = "HTTPS"
    docs[0]["spec"]["servers"][0]["tls"] = {"mode": "SIMPLE", "privateKey": str(pki.good.key),
                                            "serverCertificate": str(pki.good.cert)}
    gateway = serve(*docs, numbers=(443,))
    body = bytes(range(256)) * (1 << 14)
    with Client(gateway.ports[443], timeout=60) as client:
        trusting = ssl.create_default_context(cafile=pki.ca.cert)
        client.socket = trusting.wrap_socket(client.socket, server_hostname="a.test")
        for _ in range(3):
            client.send(request(method="POST", body=body))
            assert client.response().body == body[::-1]


def test_until_close_with_close_notify_is_whole(serve, backend, pki):
    def handler(connection, _):
        connection.send(reply(b"all of it", length=False))
        connection.finish()
    app = backend()
    app.handler = handler
    gateway = serve(*documents(app.port, trust(pki)))
    assert gateway.fetch().body == b"all of it"


def test_until_close_without_close_notify_is_cut_off(serve, backend, pki):
    """A FIN that anyone could have sent does not end a body: the client must not take it for whole."""
    def handler(connection, _):
        connection.send(reply(b"half of it", length=False))
        connection.socket.shutdown(socket.SHUT_WR)
    app = backend()
    app.handler = handler
    gateway = serve(*documents(app.port, trust(pki)),
                    args=["--access-log", "-", "--access-log-format", "%RESPONSE_FLAGS%"])
    with gateway.client() as client:
        client.send(request())
        head = client.head()
        assert head.status == 200 and head.chunked()
        assert not client.rest().endswith(b"0\r\n\r\n")
    eventually(lambda: gateway.out.lines == ["UC"], what="its line")


# ---- upstreams that do not speak it


def test_clear_text_upstream(serve, upstream, pki):
    """It answers the ClientHello in clear text."""
    upstream.on_connect = lambda c: (c.until(b"\x16\x03"), c.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    gateway = serve(*documents(upstream.port, trust(pki)))
    response = gateway.fetch()
    assert response.status == 503
    assert response.body.decode().startswith(RESET + "reset reason: " + FAILED)
    gateway.wait_metric("upstream_tls_fail_protocol", 1)


def test_upstream_closes_in_the_handshake(serve, upstream, pki):
    def close(connection):
        connection.until(b"\x16\x03")
        connection.close()
    upstream.on_connect = close
    gateway = serve(*documents(upstream.port, trust(pki)))
    response = gateway.fetch()
    assert response.status == 503
    assert response.body.decode() == RESET + "reset reason: remote connection failure"
    gateway.wait_metric("upstream_cx_connect_fail", 1)


def test_a_handshake_that_stands_still_is_a_connect_timeout(serve, upstream, pki):
    upstream.on_connect = lambda c: c.rest()
    docs = documents(upstream.port, trust(pki))
    docs[-1]["spec"]["trafficPolicy"]["connectionPool"] = {"tcp": {"connectTimeout": "0.3s"}}
    gateway = serve(*docs)
    response = gateway.fetch()
    assert response.status == 503
    assert response.body.decode() == RESET + "reset reason: connection timeout"
    gateway.wait_metric("upstream_cx_connect_timeout", 1)


# ---- not only requests


def test_websocket(serve, pki):
    server = ws_server.serve(lambda c: [c.send(m) for m in c], "127.0.0.1", 0, max_size=None,
                             ssl=context(pki.good))
    port = server.socket.getsockname()[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gateway = serve(*documents(port, trust(pki)))
    with ws_client.connect("ws://a.test/", max_size=None, open_timeout=5,
                           sock=socket.create_connection(("127.0.0.1", gateway.port))) as ws:
        for message in ("text", b"\x00\xff" * 1000, "x" * (1 << 20)):
            ws.send(message)
            assert ws.recv(10) == message
    gateway.wait_idle()
    server.shutdown()


@pytest.fixture
def relay(serve, pki):
    """A TCP server whose connections go on inside TLS."""
    def make(port, policy):
        tcp = d.gateway(number=9000)
        tcp["spec"]["servers"][0]["port"]["protocol"] = "TCP"
        route = d.virtual_service()
        del route["spec"]["http"]
        route["spec"]["tcp"] = [{"route": [d.to()]}]
        return serve(tcp, route, *d.backend(port),
                     d.destination_rule("app", trafficPolicy={"tls": policy}), numbers=(9000,))
    return make


def test_relay(relay, backend, pki):
    app = backend()
    app.on_connect = lambda c: (c.send(c.exactly(1 << 20)[::-1]), c.finish(), c.close())
    gateway = relay(app.port, trust(pki, sni="backend.test"))
    body = bytes(range(256)) * (1 << 12)
    with Client(gateway.ports[9000]) as client:
        client.send(body)
        assert client.rest() == body[::-1]
    assert app.tls.asked == ["backend.test"]


def test_relay_checks_the_name_of_its_destination(relay, backend, pki):
    """It has no Host: without sni, the certificate is to be the service's."""
    name = "app.default.svc.cluster.local"
    right, wrong = backend(pki.ca.issue("named", [f"DNS:{name}"])), backend()
    for one in (right, wrong):
        one.on_connect = lambda c: (c.send(b"hello"), c.finish(), c.close())
    with Client(relay(right.port, trust(pki)).ports[9000]) as client:
        assert client.rest() == b"hello"
    with Client(relay(wrong.port, trust(pki)).ports[9000]) as client:
        assert client.rest() == b""
    assert right.tls.asked == [name]
    eventually(lambda: wrong.tls_errors, what="the alert")
