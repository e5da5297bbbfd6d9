"""What an operator sees and does: readiness, metrics, listings, logs, the drain, the command line."""
import contextlib
import json
import re
import signal
import threading

import pytest

from lib import documents as d
from lib.gateway import ROOT, sluice
from lib.http1 import Client, fetch, reply, request
from lib.upstream import Upstream
from lib.waiting import eventually


@pytest.fixture
def docs(upstream):
    return [d.gateway("shop.test"),
            d.virtual_service(d.rule({"uri": {"prefix": "/app"}}, name="app-route"),
                              d.rule({"uri": {"exact": "/old"}}, redirect={"uri": "/new"}),
                              hosts=["shop.test"]),
            d.destination_rule("app", trafficPolicy={"loadBalancer": {"simple": "ROUND_ROBIN"}}),
            *d.backend(upstream.port)]


def shop(gateway, target="/app", **kw):
    return gateway.fetch(target, host="shop.test", **kw)


# ---- readiness and metrics

def test_ready(serve, docs):
    gateway = serve(*docs)
    response = fetch(gateway.status_port, "/healthz/ready", host="localhost")
    assert response.status == 200
    assert fetch(gateway.status_port, "/nothing", host="localhost").status == 404


def test_metrics_count(serve, docs):
    gateway = serve(*docs)
    before = gateway.metrics()
    for _ in range(10):
        assert shop(gateway).status == 200
    assert shop(gateway, "/none").status == 404
    after = gateway.metrics()

    def moved(name):
        return after.get(f"sluice_{name}") - before.get(f"sluice_{name}")

    assert moved("downstream_rq_total") == 11 and moved("downstream_cx_total") == 11
    assert moved("downstream_rx_bytes") > 200 and moved("downstream_tx_bytes") > 1000
    assert 1 <= moved("upstream_cx_total") <= 2
    assert after.types["sluice_downstream_cx_active"] == "gauge"
    assert after.types["sluice_downstream_rq_total"] == "counter"
    gateway.wait_idle()


def test_histograms(serve, docs):
    """Per listener, per route and per cluster; cumulative, and in agreement with their counts."""
    gateway = serve(*docs)
    for _ in range(7):
        shop(gateway)
    metrics = gateway.metrics()
    histograms = metrics.histograms()
    assert histograms
    counted = {}
    for (name, labels), buckets in histograms.items():
        values = [v for _, v in sorted(buckets)]
        assert values == sorted(values), name
        assert values[-1] == metrics.get(f"{name}_count", **dict(labels))
        assert metrics.has(f"{name}_sum")
        for key, value in labels:
            counted[key, value] = counted.get((key, value), 0) + values[-1]
    for kind, pattern in (("listener", r".*80.*|.*\d+"), ("route", ".*app-route.*|.*"),
                          ("cluster", r"outbound\|8080\|\|app\.default\.svc\.cluster\.local")):
        hits = [v for (k, name), v in counted.items() if k == kind and re.fullmatch(pattern, name)]
        assert 7 in hits, (kind, counted)


def test_a_page_that_is_not_there_names_those_that_are(serve, docs):
    gateway = serve(*docs)
    for port, named in ((gateway.metrics_port, b"/stats/prometheus"), (gateway.status_port, b"/healthz/ready"),
                        (int(gateway.admin.rpartition(":")[2]), b"/ lists all")):
        answer = fetch(port, "/nowhere", host="localhost")
        assert answer.status == 404 and named in answer.body


def test_metrics_port_is_text(serve, docs):
    gateway = serve(*docs)
    response = fetch(gateway.metrics_port, "/stats/prometheus", host="localhost")
    assert response.header("content-type").startswith("text/plain")


# ---- listings

TITLES = {
    "listeners": ["ADDRESSES", "PORT", "MATCH", "DESTINATION"],
    "routes": ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"],
    "clusters": ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"],
    "endpoints": ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"],
}


def table(gateway, what):
    """The rows of a listing in istioctl's columns, each of which starts where its title does."""
    lines = listing(gateway, what).rstrip("\n").split("\n")
    titles = TITLES[what]
    assert re.fullmatch(r" {2,}".join(titles) + " *", lines[0]), lines[0]
    starts, at = [], 0
    for title in titles:
        at = lines[0].index(title, at)
        starts.append(at)
        at += len(title)
    ends = [*starts[1:], None]
    for line in lines[1:]:  # at least two blanks between columns
        assert all(line[s - 2:s] == "  " and line[s:s + 1] != " " for s in starts[1:]), line
    return [{t: line[s:e].strip() for t, s, e in zip(titles, starts, ends)} for line in lines[1:]]


def listing(gateway, what, *args):
    result = sluice("proxy-config", what, "--admin", gateway.admin, *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


CLUSTER = "outbound|8080||app.default.svc.cluster.local"


def test_proxy_config_tables(serve, docs, upstream):
    gateway = serve(*docs, d.service("empty"))
    rows = table(gateway, "listeners")
    assert [r["PORT"] for r in rows] == [str(gateway.port)]
    assert rows[0]["DESTINATION"] == f"Route: http.{gateway.port}"

    rows = table(gateway, "routes")
    assert {r["NAME"] for r in rows} == {f"http.{gateway.port}"}
    assert {r["VHOST NAME"] for r in rows} == {"shop.test:80"}
    assert {r["DOMAINS"] for r in rows} == {"shop.test"}
    assert {r["VIRTUAL SERVICE"] for r in rows} == {"vs.default"}
    assert [r["MATCH"] for r in rows] == ["/app*", "/old"]

    row = next(r for r in table(gateway, "clusters")
               if r["SERVICE FQDN"] == "app.default.svc.cluster.local")
    assert (row["PORT"], row["SUBSET"], row["DIRECTION"]) == ("8080", "-", "outbound")
    assert row["DESTINATION RULE"] == "dr.default"

    rows = {r["CLUSTER"]: r for r in table(gateway, "endpoints")}
    row = rows[CLUSTER.replace("app.", "empty.")]
    assert (row["ENDPOINT"], row["STATUS"]) == ("-", "NONE")
    row = rows[CLUSTER]
    assert row["ENDPOINT"] == f"127.0.0.1:{upstream.port}"
    assert (row["STATUS"], row["OUTLIER CHECK"]) == ("HEALTHY", "-")


@pytest.mark.parametrize("what", ["listeners", "routes", "clusters", "endpoints"])
def test_proxy_config_json(serve, docs, what):
    gateway = serve(*docs)
    value = json.loads(listing(gateway, what, "-o", "json"))
    assert value
    needle = {"listeners": str(gateway.port), "routes": "shop.test", "clusters": "app.default",
              "endpoints": "127.0.0.1"}[what]
    assert needle in json.dumps(value)


def test_proxy_config_without_a_gateway():
    result = sluice("proxy-config", "routes", "--admin", "127.0.0.1:1")
    assert result.returncode != 0 and "127.0.0.1:1" in result.stderr


def test_listing_while_documents_change(serve, docs):
    """A listing is of one configuration, whatever happens meanwhile."""
    gateway = serve(*docs)
    text = gateway.file.read_text()
    stop = threading.Event()

    def churn():
        i = 0
        while not stop.is_set():
            gateway.file.write_text(text.replace("app-route", f"app-route-{i}"))
            i += 1
            stop.wait(0.02)

    thread = threading.Thread(target=churn, daemon=True)
    thread.start()
    for _ in range(20):
        assert table(gateway, "routes")[0]["MATCH"] == "/app*"
    stop.set()
    thread.join()


# ---- access log

def test_access_log_text(serve, docs, tmp_path, upstream):
    log = tmp_path / "access.log"
    gateway = serve(*docs, args=["--access-log", log])
    assert shop(gateway, "/app/x?y=z", headers=[("User-Agent", 'me "too"')], method="POST",
                body=b"12345").status == 200
    shop(gateway, "/none")
    # Workers write on their own: the order between them is anybody's.
    lines = sorted(eventually(lambda: len(t := log.read_text().splitlines()) == 2 and t),
                   key=lambda line: " 404 " in line)
    m = re.match(r'\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\] "POST /app/x\?y=z HTTP/1.1" 200 - ', lines[0])
    assert m, lines[0]
    assert f"127.0.0.1:{upstream.port}" in lines[0] and CLUSTER in lines[0]
    assert '"shop.test"' in lines[0] and upstream.requests[0].header("x-request-id") in lines[0]
    assert '"GET /none HTTP/1.1" 404 NR ' in lines[1]


def test_access_log_json(serve, docs, tmp_path, upstream):
    log = tmp_path / "access.log"
    gateway = serve(*docs, args=["--access-log", log, "--access-log-format", "json"])
    shop(gateway, "/app/\"x", headers=[("User-Agent", "back\\slash\ttab \xff")], method="POST", body=b"12345")
    shop(gateway, "/none")
    lines = eventually(lambda: len(t := log.read_text("latin-1").splitlines()) == 2 and t)
    first, second = sorted(map(json.loads, lines), key=lambda r: r["response_code"])
    assert (first["method"], first["protocol"], first["authority"]) == ("POST", "HTTP/1.1", "shop.test")
    assert first["path"] == '/app/"x' and first["user_agent"].startswith("back\\slash\ttab ")
    assert (int(first["response_code"]), int(first["bytes_received"])) == (200, 5)
    assert int(first["bytes_sent"]) > 0 and int(first["duration"]) >= 0
    assert first["upstream_cluster"] == CLUSTER
    assert first["upstream_host"] == f"127.0.0.1:{upstream.port}"
    assert first["request_id"] == upstream.requests[0].header("x-request-id")
    assert first["route_name"] == "app-route"
    assert (int(second["response_code"]), second["response_flags"]) == (404, "NR")


def test_access_log_of_ones_own_format(serve, docs):
    form = "%REQ(:METHOD)% %REQ(X-A?X-B)% %RESPONSE_CODE% %BYTES_RECEIVED% %ROUTE_NAME% %PROTOCOL%"
    gateway = serve(*docs, args=["--access-log", "-", "--access-log-format", form])
    shop(gateway, headers=[("x-b", "second\u00e9")])
    m = gateway.out.wait(r"GET second.* 200 0 app-route HTTP/1\.1$", 5)
    assert m, gateway.out.lines


def test_access_log_cannot_be_forged(serve, docs):
    gateway = serve(*docs, args=["--access-log", "-"])
    shop(gateway, "/app?\"%0d%0a", headers=[("User-Agent", 'x" 200 - "')])
    assert gateway.out.wait(r'"GET /app\?', 5)
    assert len(gateway.out.lines) == 1


def test_refused_requests_are_logged(serve, docs):
    gateway = serve(*docs, args=["--access-log", "-", "--access-log-format", "%RESPONSE_CODE% %RESPONSE_FLAGS%"])
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.response().status == 400
    assert gateway.out.wait(r"^400 DPE$", 5), gateway.out.lines


# ---- the end

def test_drain(serve, docs, upstream):
    """SIGTERM: what is in flight completes, idle connections end, new ones are refused, exit 0."""
    go = threading.Event()

    def handler(connection, _seen):
        assert go.wait(30)
        connection.send(reply(b"late"))

    upstream.handler = handler
    gateway = serve(*docs)
    with gateway.client() as busy, gateway.client() as idle:
        assert idle.roundtrip("/none", host="shop.test").status == 404
        busy.send(request("/app", host="shop.test"))
        upstream.wait_requests(1)
        gateway.signal(signal.SIGTERM)
        idle.expect_close()

        def refused():
            try:
                Client(gateway.port).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused, 5, "new connections refused")
        ready = fetch_or_none(gateway.status_port, "/healthz/ready")
        assert ready is None or ready.status == 503
        assert gateway.process.poll() is None
        go.set()
        response = busy.response()
        assert (response.status, response.body) == (200, b"late")
        assert response.header("connection") == "close"
        busy.expect_close()
    assert gateway.wait_exit(10) == 0
    gateway.check_log()


def test_a_drain_by_the_admin_port_ends_reloads(serve, docs):
    gateway = serve(*docs)
    assert fetch(int(gateway.admin.rpartition(":")[2]), "/drain", method="POST").status == 200
    reloads, start = gateway.metric("config_reload_successes"), len(gateway.log.lines)
    gateway.file.write_text(gateway.file.read_text() + "\n# touched\n")
    assert gateway.log.wait("event=reload_ignored", 5, start)
    assert gateway.metric("config_reload_successes") == reloads


def test_drain_waits_for_requests_on_their_way(serve, docs):
    """Who sends one as SIGTERM comes, on a kept or a fresh connection, has its answer and the news."""
    gateway = serve(*docs)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(40)]
        for client in clients[::2]:
            assert client.roundtrip("/none", host="shop.test").status == 404
        gateway.wait_metric("downstream_cx_active", len(clients))
        gateway.signal(signal.SIGTERM)
        answers = [client.roundtrip("/app", host="shop.test") for client in clients]
        assert [a.status for a in answers] == [200] * len(clients)
        assert answers[-1].header("connection") == "close"
    assert gateway.wait_exit(10) == 0
    gateway.check_log()


def test_drain_loses_nothing_under_load(serve, docs):
    """Clients that go on connecting: each is answered or refused, none is accepted and forgotten."""
    gateway = serve(*docs)
    served, bad = [0] * 6, []

    def go_on(number):
        try:
            while True:
                try:
                    client = gateway.client()
                except ConnectionRefusedError:
                    return
                with client:
                    client.send(request("/app", host="shop.test"))
                    if client.response().status != 200:
                        bad.append("not 200")
                served[number] += 1
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the result
            bad.append(e)

    threads = [threading.Thread(target=go_on, args=(n,), daemon=True) for n in range(len(served))]
    for t in threads:
        t.start()
    eventually(lambda: min(served) > 20 or bad, 20)
    gateway.signal(signal.SIGTERM)
    for t in threads:
        t.join(10)
    assert not bad, bad[:3]
    assert gateway.wait_exit(10) == 0
    gateway.check_log()


def fetch_or_none(port, target):
    try:
        return fetch(port, target, host="localhost")
    except OSError:
        return None


def test_drain_time_is_the_limit(serve, docs, upstream):
    """What it cuts off is in the access log as Envoy has it where it closes a client's connection."""
    held = threading.Event()
    upstream.handler = lambda c, r: held.wait(60)
    gateway = serve(*docs, args=["--drain-time", "1s", "--access-log", "-", "--access-log-format",
                                 "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"])
    with gateway.client() as busy:
        busy.send(request("/app", host="shop.test"))
        upstream.wait_requests(1)
        gateway.stop(timeout=8)
    held.set()
    assert gateway.out.lines == ["0 DC downstream_local_disconnect"]


def test_sigint_ends_it_too(serve, docs):
    gateway = serve(*docs)
    gateway.signal(signal.SIGINT)
    assert gateway.wait_exit(10) == 0


# ---- the command line

def test_version():
    result = sluice("version")
    assert result.returncode == 0
    assert re.match(r"sluice \d+\.\d+", result.stdout)


@pytest.mark.parametrize("args, named", [
    (["run", "--nonsense"], "--nonsense"), (["analyze", "--nonsense"], "--nonsense"),
    (["nonsense"], "nonsense"), (["run", "-f"], "-f"),
    (["run", "--workers", "many", "-f", "."], "--workers"),
    (["proxy-config", "nonsense"], "nonsense")])
def test_wrong_arguments_are_named(args, named):
    result = sluice(*args)
    assert result.returncode not in (0, -6, -11)
    assert named in result.stderr and result.stdout == ""


def test_no_arguments_give_the_usage():
    result = sluice()
    text = result.stdout + result.stderr
    assert all(word in text for word in ("run", "analyze", "proxy-config", "version"))


def test_run_without_documents():
    result = sluice("run")
    assert result.returncode not in (0, -6, -11) and "-f" in result.stderr


def test_a_missing_file_is_named(tmp_path):
    for command in ("run", "analyze"):
        result = sluice(command, "-f", tmp_path / "absent.yaml")
        assert result.returncode in (1, 2)
        assert "absent.yaml" in result.stdout + result.stderr


def test_a_port_in_use_is_named(serve, docs):
    gateway = serve(*docs)
    result = sluice("run", "-f", gateway.folder, "--admin", gateway.admin, "--status-port", "0",
                    "--metrics-port", "0")
    assert result.returncode == 1
    assert gateway.admin in result.stderr


@pytest.fixture
def write(tmp_path):
    def to(*documents):
        path = tmp_path / "docs.yaml"
        path.write_text(documents[0] if isinstance(documents[0], str) else d.text(*documents))
        return path
    return to


def test_analyze_of_good_documents(write, docs):
    result = sluice("analyze", "-f", write(*docs))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "error:" not in result.stdout + result.stderr


def test_the_readme_example(serve, tmp_path):
    text = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    ports = serve.ports(80)
    path = tmp_path / "shop.yaml"
    with contextlib.closing(Upstream()) as v1, contextlib.closing(Upstream()) as v2:
        for shown, real in ((8080, ports[80]), (9001, v1.port), (9002, v2.port)):
            assert text.count(f": {shown}") == 1
            text = text.replace(f": {shown}", f": {real}")
        path.write_text(text)
        assert sluice("analyze", "-f", path).stdout == ""
        gateway = serve.command([(None, path)], ports, workers=1).wait_ready()
        for _ in range(200):
            assert gateway.fetch("/").status == 200
        assert len(v1.requests) + len(v2.requests) == 200 and 0 < len(v2.requests) < 100


def test_analyze_counts_no_notice_as_a_problem(write):
    result = sluice("analyze", "-f", write(d.service(port_name="web"), d.gateway(), d.virtual_service(d.rule())))
    assert "[IST0118]" in result.stdout and ": info: " in result.stdout
    assert result.stderr == "no errors or warnings in 3 documents\n"


def test_what_holds_no_document_is_told(tmp_path):
    folder, path = tmp_path / "folder", tmp_path / "empty.yaml"
    folder.mkdir()
    path.write_text("# nothing\n---\n")
    result = sluice("analyze", "-f", path, "-f", folder)
    assert result.stdout == (f"{path}: warning: no document in this file\n"
                             f"{folder}: warning: no document in this folder\n")
    assert result.returncode == 0


def test_analyze_finds_everything_at_once(write):
    path = write(d.gateway(), d.virtual_service(
        d.rule({"uri": {"regex": "("}}), d.rule(rout=[]), hosts=["bookinfo.*"]))
    result = sluice("analyze", "-f", path)
    assert result.returncode == 1
    errors = [line for line in (result.stdout + result.stderr).splitlines() if ": error: " in line]
    assert all(re.match(rf"{re.escape(str(path))}:\d+:\d+: error: VirtualService default/vs: ", e)
               for e in errors), errors
    text = "\n".join(errors)
    assert 'domain name "*" invalid' in text and "rout" in text and "(" in text and len(errors) >= 3


def test_analyze_warnings_do_not_fail(write, upstream):
    path = write(d.gateway("a.test"), d.virtual_service(d.rule(), hosts=["b.test"]),
                 *d.backend(upstream.port))
    result = sluice("analyze", "-f", path)
    assert result.returncode == 0
    assert re.search(r"docs.yaml:\d+:\d+: warning: VirtualService default/vs: .*IST0132", result.stdout + result.stderr)


def test_analyze_json(write):
    path = write(d.gateway(), d.virtual_service(d.rule(), hosts=["bookinfo.*"]))
    result = sluice("analyze", "-o", "json", "-f", path)
    assert result.returncode == 1
    findings = json.loads(result.stdout)
    finding = next(f for f in findings if 'label "*" invalid' in json.dumps(f).replace('\\"', '"'))
    text = json.dumps(finding)
    line = next(i for i, t in enumerate(path.read_text().splitlines(), 1) if "bookinfo.*" in t)
    assert str(path) in text and "error" in text.lower() and str(line) in text


def test_ready_tells_of_references_to_nothing(serve, docs):
    lost = d.virtual_service(d.rule(route=[d.to("missing")]), name="lost", hosts=["shop.test"])
    for more, line in (([], r"level=info event=ready .* errors=0 warnings=0$"),
                       ([lost], r"level=warn event=ready .* errors=1 warnings=0 text=")):
        gateway = serve(*docs, *more)
        assert gateway.log.wait(line, 1), gateway.log_text()
        gateway.stop()


def test_run_refuses_broken_documents_with_every_error(write):
    path = write(d.gateway(), d.virtual_service(d.rule(), hosts=["bookinfo.*", "x_y.com"]))
    result = sluice("run", "-f", path, "--admin", "127.0.0.1:0", "--status-port", "0", "--metrics-port", "0")
    assert result.returncode == 1
    assert result.stderr.count(": error: ") >= 2
