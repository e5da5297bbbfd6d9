"""Parts 5-6, 5-8 to 5-11 and the passthrough modes of 5-14 of the tutorial: its own documents, with
servers and clients of those protocols."""
import base64
import shutil
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pymongo
import pytest

from lib import documents as d
from lib import tcp
from lib.gateway import sluice
from lib.ports import ReservedPort
from lib.servers import (MARIADB, REDIS, Mongo, answers, command, mariadb_server, needs,
                         nginx_server, redis_server, start)  # noqa: F401: start is a fixture
from lib.waiting import eventually

TUTORIAL = Path(__file__).parents[1] / "data" / "tutorial"
MIB = 1 << 20


@pytest.fixture
def apply(serve, tmp_path):
    """apply(NUMBER, PART/FILE, …, docs=[…]): a gateway on copies of these files, and on `docs`, all
    of namespace istio; server port NUMBER is mapped."""
    def run(number, *names, docs=(), selector="ingressgateway", args=()):
        ports, paths = serve.ports(number), []
        for name in names:
            copy = tmp_path / Path(name).name
            shutil.copy(TUTORIAL / name, copy)
            paths.append(("istio", copy))
        node = d.node(ports)
        node["spec"]["selector"]["istio"] = selector
        more = tmp_path / "services.yaml"
        more.write_text(d.text(node, *docs))
        gateway = serve.command([*paths, ("istio", more)], ports, args=args).wait_ready()

        def replace(i, name):
            new = tmp_path / ".new"
            shutil.copy(TUTORIAL / name, new)
            new.replace(paths[i][1])
        return SimpleNamespace(gateway=gateway, port=ports[number], replace=replace)
    return run


# ---- 5-6, tcp

def test_tcp_and_its_subsets(apply, backend, tmp_path):
    """"改变vs subset": the next connection goes to v2, the one that is open stays on v1."""
    one, two = backend(tcp.says("one")), backend(tcp.says("two"))
    site = apply(31400, "5-6/gateway-tcp.yaml", "5-6/vs-dr-tcp-echo.yaml",
                 docs=d.labelled_backend({one.port: {"app": "tcp-echo", "version": "v1"},
                                          two.port: {"app": "tcp-echo", "version": "v2"}},
                                         name="tcp-echo", namespace="istio", number=9000))

    def answer():
        with tcp.connect(site.port) as client:
            return tcp.ask(client)
    assert {answer() for _ in range(8)} == {b"one world\n"}
    kept = tcp.connect(site.port)
    assert tcp.ask(kept) == b"one world\n"
    # vs-dr-tcp-echo-2.yaml has no DestinationRule: kubectl would keep the one applied before.
    rule = (TUTORIAL / "5-6/vs-dr-tcp-echo.yaml").read_text().split("---\n")[0]
    second = (TUTORIAL / "5-6/vs-dr-tcp-echo-2.yaml").read_text()
    (tmp_path / "vs-dr-tcp-echo.yaml").write_text(rule + "---\n" + second)
    eventually(lambda: answer() == b"two world\n", 5, "the other subset")
    assert {answer() for _ in range(8)} == {b"two world\n"}
    assert tcp.ask(kept) == b"one world\n"
    kept.close()


# ---- 5-8, mongo

def test_mongo(apply, backend):
    server = backend(Mongo().serve)
    site = apply(27017, "5-8/bookinfo-db.yaml", "5-8/gateway-mongo.yaml", "5-8/vs-mongodb.yaml",
                 docs=d.endpoints(server.port, name="mongodb", namespace="istio",
                                  port_name="mongo"))
    with pymongo.MongoClient("127.0.0.1", site.port, directConnection=True,
                             serverSelectionTimeoutMS=10_000) as client:
        ratings = client.test.ratings
        rows = [{"_id": i, "rating": i % 5, "text": "x" * 20_000} for i in range(100)]
        ratings.insert_many(rows)
        assert list(ratings.find()) == rows
        assert client.admin.command("ping")["ok"] == 1
    assert server.connections > 0
    assert site.gateway.metric("tcp_cx_total") == server.connections
    site.gateway.wait_idle()


# ---- 5-9, tls that ends here, then `tcp`

def test_tls_terminated(apply, backend, tmp_path):
    cert, key = tcp.certificate(tmp_path, "bookinfo.com")
    app = backend(tcp.says("one"))
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
              "metadata": {"name": "istio-ingressgateway-certs", "namespace": "istio"},
              "data": {"tls.crt": base64.b64encode(cert.read_bytes()).decode(),
                       "tls.key": base64.b64encode(key.read_bytes()).decode()}}
    site = apply(15443, "5-9/gateway-tls.yaml", "5-9/vs-tls-protocol-echo.yaml",
                 docs=[secret, *d.backend(app.port, name="tcp-echo", namespace="istio",
                                          number=9000)])
    with tcp.connect_tls(site.port, "bookinfo.com", cert) as client:
        assert tcp.ask(client) == b"one world\n"
    said = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-quiet",
                           "-no_ign_eof", "-servername", "bookinfo.com", "-CAfile", cert,
                           "-verify_return_error"], input=b"openssl\n", capture_output=True,
                          timeout=20, check=False)
    assert b"verify error" not in said.stderr, said
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tcp.connect_tls(site.port, "other.com")


# ---- 5-10, mysql

@needs(*MARIADB)
def test_mysql(apply, start, tmp_path):
    port = mariadb_server(start, tmp_path)
    site = apply(3306, "5-10/bookinfo-mysql.yaml", "5-10/gateway-mysql.yaml",
                 "5-10/vs-mysql.yaml",
                 docs=d.endpoints(port.number, name="mysqldb", namespace="istio"))

    def mysql(statement, password="password"):
        return command("mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", site.port, "-uroot",
                       f"-p{password}", "-N", "-e", statement)
    made = mysql("CREATE DATABASE test; USE test; CREATE TABLE ratings (id INT, rating INT);"
                 "INSERT INTO ratings VALUES (1, 5), (2, 4);")
    assert made.returncode == 0, made.stderr
    assert mysql("SELECT * FROM test.ratings").stdout == "1\t5\n2\t4\n"
    assert len(mysql("SELECT REPEAT('x', 3000000)").stdout) == 3_000_001
    assert "Access denied" in mysql("SELECT 1", password="wrong").stderr
    assert site.gateway.metric("tcp_cx_total") == 4
    site.gateway.wait_idle()
    port.release()


# ---- 5-11, redis

@needs(*REDIS)
def test_redis(apply, start, tmp_path):
    port = redis_server(start, tmp_path)
    site = apply(6379, "5-11/gateway-redis.yaml", "5-11/redis-deploy.yaml", "5-11/vs-redis.yaml",
                 docs=d.endpoints(port.number, name="redis", namespace="istio", port_name=""))

    def redis(*words, **kw):
        said = subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(site.port), *words],
                              capture_output=True, timeout=20, check=True, **kw)
        return said.stdout.strip()
    assert redis("set", "book", "reviews") == b"OK"
    assert redis("get", "book") == b"reviews"
    big = b"x" * 5_000_000
    assert redis("-x", "set", "big", input=big) == b"OK"
    assert redis("get", "big") == big
    pipe = b"".join(b"SET key-%d %d\r\n" % (i, i) for i in range(20_000))
    assert b"errors: 0, replies: 20000" in redis("--pipe", input=pipe)
    assert redis("get", "key-19999") == b"19999"
    site.gateway.wait_idle()
    port.release()


# ---- 5-14, PASSTHROUGH

@pytest.fixture(params=[pytest.param("nginx", marks=needs("nginx")), "openssl"])
def nginx(request, start, tmp_path):
    """A server of nginx.example.com that ends TLS itself: nginx, and where there is none openssl. It
    says what it is in `says`."""
    cert, key = tcp.certificate(tmp_path, "nginx.example.com")
    port = ReservedPort()
    if request.param == "nginx":
        nginx_server(start, tmp_path, port.number, cert, key)
    else:
        start(["openssl", "s_server", "-accept", f"127.0.0.1:{port.number}", "-cert", str(cert),
               "-key", str(key), "-www"], ready=lambda: answers(port.number))
    yield SimpleNamespace(cert=cert, port=port.number,
                          says={"nginx": "nginx for nginx.example.com"}.get(request.param, "s_server"),
                          docs=d.endpoints(port.number, name="my-nginx", namespace="istio",
                                           port_name=""))
    port.release()


def curl(site, nginx, name="nginx.example.com"):
    return command("curl", "-sS", "--max-time", "10", "--noproxy", "*", "--cacert", nginx.cert,
                   "--resolve", f"{name}:{site.port}:127.0.0.1", f"https://{name}:{site.port}/")


def test_passthrough(apply, nginx):
    site = apply(443, "5-14/nginx-deploy.yaml", "5-14/gw-mode-passthrough.yaml",
                 "5-14/vs-nginx.yaml", docs=nginx.docs)
    said = curl(site, nginx)
    assert said.returncode == 0 and nginx.says in said.stdout, said
    # Another name is nobody's: closed without a word of TLS.
    other = curl(site, nginx, "other.example.com")
    assert other.returncode in (35, 56), other
    with tcp.connect(site.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: nginx.example.com\r\n\r\n")
        assert client.ended()
    site.gateway.wait_idle()


def test_passthrough_with_tcp_does_not_work(apply, nginx):
    """"vs-nginx-tcp.yaml": PASSTHROUGH has no use for a `tcp` route."""
    site = apply(443, "5-14/nginx-deploy.yaml", "5-14/gw-mode-passthrough.yaml",
                 "5-14/vs-nginx-tcp.yaml", docs=nginx.docs)
    assert curl(site, nginx).returncode != 0
    said = sluice("analyze", "-n", "istio", "-f", TUTORIAL / "5-14/nginx-deploy.yaml",
                  "-f", TUTORIAL / "5-14/gw-mode-passthrough.yaml",
                  "-f", TUTORIAL / "5-14/vs-nginx-tcp.yaml")
    assert "PASSTHROUGH" in said.stdout + said.stderr, said
    site.replace(2, "5-14/vs-nginx.yaml")
    eventually(lambda: curl(site, nginx).returncode == 0, 5, "the `tls` route served")


# ---- 5-14, AUTO_PASSTHROUGH

ISTIO = ["istio-peer-exchange", "istio"]


@pytest.mark.parametrize("number,document,selector", [
    (443, "gateway-auto-passthrough.yaml", "ingressgateway"),
    (15443, "cross-network-gateway.yaml", "eastwestgateway")])
def test_auto_passthrough(apply, backend, tmp_path, number, document, selector):
    """The server name says service, port and subset; there is no VirtualService."""
    host = "tcp-echo.istio.svc.cluster.local"
    pair = tcp.certificate(tmp_path, "pod")
    one, two = (backend(tcp.says(name), tls=tcp.server_tls(pair)) for name in ("one", "two"))
    site = apply(number, f"5-14/{document}", selector=selector, docs=[
        d.destination_rule("tcp-echo", namespace="istio",
                           subsets=[{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]),
        *d.labelled_backend({one.port: {"version": "v1"}, two.port: {"version": "v2"}},
                            name="tcp-echo", namespace="istio", number=9000)])

    def answer(name, alpn=ISTIO):
        with tcp.connect_tls(site.port, name, alpn=alpn) as client:
            return tcp.ask(client).split()[0].decode()
    for subset, word in (("v1", "one"), ("v2", "two")):
        assert {answer(f"outbound_.9000_.{subset}_.{host}") for _ in range(5)} == {word}
    assert {answer(f"outbound_.9000_._.{host}") for _ in range(40)} == {"one", "two"}
    for name in (f"outbound_.9001_._.{host}", f"outbound_.9000_.v3_.{host}", host,
                 "outbound_.9000_._.tcp-echo.other.svc.cluster.local"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            answer(name)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answer(f"outbound_.9000_._.{host}", alpn=["h2"])


def test_auto_passthrough_of_any_client(apply, backend, tmp_path):
    """As in the tutorial's Istio: no protocol is asked for."""
    app = backend(tcp.says("one"), tls=tcp.server_tls(tcp.certificate(tmp_path, "pod")))
    site = apply(443, "5-14/gateway-auto-passthrough.yaml",
                 args=["--auto-passthrough-alpn", "any"],
                 docs=d.backend(app.port, name="tcp-echo", namespace="istio", number=9000))
    for alpn in ((), ["h2"], ISTIO):
        with tcp.connect_tls(site.port, "outbound_.9000_._.tcp-echo.istio.svc.cluster.local",
                             alpn=alpn) as client:
            assert tcp.ask(client) == b"one world\n"
