"""/stats/prometheus after a known number of requests: counts, bytes, flags, latencies, by listener,
by route and by cluster; and the text as Prometheus's own client reads it."""
import math
import re
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lib import documents as d
from lib.http1 import fetch, reply, request
from lib.ports import ReservedPort
from lib.waiting import eventually

CLUSTER = "outbound|8080||app.default.svc.cluster.local"


@pytest.fixture
def refusing():
    """A port where nobody listens."""
    port = ReservedPort()
    yield port.number
    port.release()


@pytest.fixture
def gateway(serve, upstream, refusing):
    never = {"attempts": 0}
    return serve(
        d.gateway(), d.virtual_service(
            d.rule({"uri": {"prefix": "/app"}}, name="app", retries=never),
            d.rule({"uri": {"exact": "/slow"}}, name="slow", timeout="0.2s", retries=never),
            d.rule({"uri": {"exact": "/again"}}, name="again",
                   retries={"attempts": 2, "retryOn": "5xx"}),
            d.rule({"uri": {"exact": "/dead"}}, name="dead", route=[d.to("dead")], retries=never),
            d.rule({"uri": {"exact": "/dead-again"}}, name="dead-again", route=[d.to("dead")],
                   retries={"attempts": 1, "retryOn": "connect-failure"}),
            d.rule({"uri": {"exact": "/empty"}}, name="empty", route=[d.to("empty")]),
            d.rule({"uri": {"exact": "/ghost"}}, name="ghost", route=[d.to("ghost")]),
            d.rule({"uri": {"exact": "/teapot"}}, name="teapot",
                   directResponse={"status": 418, "body": {"string": "tea"}})),
        *d.backend(upstream.port), *d.backend(refusing, name="dead"), d.service("empty"))


def name_of(gateway):
    return f"0.0.0.0_{gateway.port}"


def route_name(rule):
    return f"vs.default/*:80/{rule}"


def settled(gateway, count):
    """The metrics once that many requests have ended."""
    def read():
        metrics = gateway.metrics()
        return metrics if metrics.get("sluice_listener_rq_total") >= count else None
    return eventually(read, 5, f"{count} requests counted")


def of(metrics, kind, name, what, **labels):
    return metrics.get(f"sluice_{kind}_{what}", **{kind: name}, **labels)


def classes(metrics, kind, name):
    return {labels["code_class"]: v for n, labels, v in metrics.samples
            if n == f"sluice_{kind}_rq_total" and labels[kind] == name}


def flags(metrics, kind, name):
    return {labels["flag"]: v for n, labels, v in metrics.samples
            if n == f"sluice_{kind}_response_flags_total" and labels[kind] == name}


def test_classes_of_status(gateway, upstream):
    statuses = {"200 OK": 4, "204 No Content": 1, "302 Found": 2, "404 Not Found": 3,
                "500 Internal Server Error": 2}
    plan = [status for status, n in statuses.items() for _ in range(n)]
    upstream.handler = lambda c, r: c.send(reply(
        b"", status=plan[int(r.target[5:])], length=plan[int(r.target[5:])][:3] != "204"))
    for i, status in enumerate(plan):
        assert gateway.fetch(f"/app/{i}").status == int(status[:3])
    assert gateway.fetch("/teapot").status == 418
    assert gateway.fetch("/nowhere").status == 404
    metrics = settled(gateway, 14)
    assert metrics.get("sluice_downstream_rq_total") == 14
    assert classes(metrics, "listener", name_of(gateway)) == {"2xx": 5, "3xx": 2, "4xx": 5, "5xx": 2}
    assert classes(metrics, "route", route_name("app")) == {"2xx": 5, "3xx": 2, "4xx": 3, "5xx": 2}
    assert classes(metrics, "cluster", CLUSTER) == {"2xx": 5, "3xx": 2, "4xx": 3, "5xx": 2}
    assert classes(metrics, "route", route_name("teapot")) == {"4xx": 1}
    assert of(metrics, "listener", name_of(gateway), "rq_duration_seconds_count") == 14


def test_flags(gateway, upstream):
    """Each failure under the flag that Envoy gives it, where it belongs."""
    def handler(connection, seen):
        if seen.target == "/app/die":
            connection.close()
        elif seen.target == "/app/half":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            connection.close()
        elif seen.target == "/app/rubbish":
            connection.send(b"HTTQ/1.1 200 OK\r\n\r\n")
        elif seen.target == "/again":
            connection.send(reply(b"", status="503 Service Unavailable"))
        elif seen.target != "/slow":
            connection.send(reply(b"x"))

    upstream.handler = handler
    wanted = {"/nowhere": (404, "NR"), "/ghost": (503, "NC"), "/empty": (503, "UH"),
              "/dead": (503, "UF"), "/slow": (504, "UT"), "/app/die": (503, "UC"),
              "/app/rubbish": (502, "UPE"), "/again": (503, "URX"),
              "/dead-again": (503, "URX")}
    for target, (status, _) in wanted.items():
        assert gateway.fetch(target).status == status, target
    with gateway.client() as client:
        client.send(request("/app/half"))
        client.head()
        assert client.rest() == b"half"
    with gateway.client() as client:  # gone while it waits
        client.send(request("/slow"))
        upstream.wait_requests(8)
        client.reset()
    with gateway.client() as client:
        client.send(b"GET /app HTTP/1.1\r\nHost : a\r\n\r\n")
        assert client.response().status == 400
    metrics = settled(gateway, 12)
    assert flags(metrics, "listener", name_of(gateway)) == {
        "NR": 1, "NC": 1, "UH": 1, "UF": 2, "UT": 1, "UC": 2, "UPE": 1, "URX": 2, "DC": 1, "DPE": 1}
    assert flags(metrics, "route", route_name("app")) == {"UC": 2, "UPE": 1}
    assert flags(metrics, "route", route_name("slow")) == {"UT": 1, "DC": 1}
    assert flags(metrics, "route", route_name("dead-again")) == {"UF": 1, "URX": 1}
    assert flags(metrics, "cluster", CLUSTER) == {"UC": 2, "UPE": 1, "UT": 1, "DC": 1, "URX": 1}
    # the client that has gone got no status; what was half sent had begun with one
    assert classes(metrics, "route", route_name("slow")) == {"5xx": 1, "none": 1}
    assert metrics.get("sluice_downstream_rq_malformed") == 1
    assert of(metrics, "route", route_name("again"), "rq_retries_total") == 2
    assert of(metrics, "cluster", CLUSTER, "rq_retries_total") == 2
    assert of(metrics, "route", route_name("dead-again"), "rq_retries_total") == 1
    gateway.wait_idle()


def test_bytes(gateway, upstream):
    """Of bodies by name, and on the wire as they move: also of connections that stay open."""
    upstream.handler = lambda c, r: c.send(reply(b"y" * 3000))
    before = gateway.metrics()
    wire = 0, 0
    with gateway.client() as client:
        for _ in range(3):
            client.send(request("/app", method="POST", body=b"x" * 1000))
            assert client.response().status == 200
        sent = 3 * len(request("/app", method="POST", body=b"x" * 1000))
        received = len(client.received)
        metrics = settled(gateway, 3)
        gateway.wait_metric("downstream_rx_bytes", before.get("sluice_downstream_rx_bytes") + sent)
        gateway.wait_metric("downstream_tx_bytes",
                            before.get("sluice_downstream_tx_bytes") + received)
        wire = (gateway.metric("upstream_tx_bytes"), gateway.metric("upstream_rx_bytes"))
    assert wire == (len(upstream.connections[0].received), 3 * len(reply(b"y" * 3000)))
    for kind, name in (("listener", name_of(gateway)), ("route", route_name("app")),
                       ("cluster", CLUSTER)):
        assert of(metrics, kind, name, "request_body_bytes_total") == 3000
        assert of(metrics, kind, name, "response_body_bytes_total") == 9000


def test_requests_in_flight(gateway, upstream):
    go = threading.Event()

    def handler(connection, _seen):
        go.wait(30)
        connection.send(reply(b"x"))

    upstream.handler = handler
    clients = [gateway.client() for _ in range(5)]
    for client in clients:
        client.send(request("/app"))
    upstream.wait_requests(5)
    metrics = gateway.metrics()
    assert of(metrics, "listener", name_of(gateway), "rq_active") == 5
    assert of(metrics, "cluster", CLUSTER, "rq_active") == 5
    assert metrics.get("sluice_downstream_rq_active") == 5
    go.set()
    for client in clients:
        assert client.response().status == 200
        client.close()
    metrics = settled(gateway, 5)
    assert of(metrics, "listener", name_of(gateway), "rq_active") == 0
    assert of(metrics, "cluster", CLUSTER, "rq_active") == 0


def test_latencies(gateway, upstream):
    """A request that takes a fifth of a second is in the buckets above that, and in no other."""
    upstream.handler = lambda c, r: None if r.target == "/slow" else c.send(reply(b"x"))
    for _ in range(2):
        assert gateway.fetch("/slow").status == 504
    for _ in range(3):
        gateway.fetch("/teapot")
    histograms = settled(gateway, 5).histograms()
    buckets = dict(histograms["sluice_route_rq_duration_seconds", (("route", route_name("slow")),)])
    assert buckets[0.1] == 0 and buckets[5.0] == buckets[math.inf] == 2
    buckets = dict(histograms["sluice_route_rq_duration_seconds", (("route", route_name("teapot")),)])
    assert buckets[1.0] == 3
    assert list(buckets) == [0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
                             30, 60, 300, 600, 1800, 3600, math.inf]


def test_prometheus_reads_it(gateway, upstream):
    for target in ("/app", "/dead", "/nowhere", "/teapot"):
        gateway.fetch(target)
    ours = settled(gateway, 4)
    families = list(text_string_to_metric_families(ours.text))
    assert len({f.name for f in families}) == len(families)

    def full(name):  # the client ends every counter's name so, as OpenMetrics does
        plain = ours.types.get(name) == "counter" and not name.endswith("_total")
        return name + "_total" if plain else name

    theirs = {(s.name, tuple(sorted(s.labels.items()))): s.value
              for f in families for s in f.samples}
    assert theirs == {(full(n), tuple(sorted(labels.items()))): v for n, labels, v in ours.samples}
    for f in families:
        assert f.documentation and f.type in ("counter", "gauge", "histogram"), f.name
        if f.type == "counter":
            assert all(s.value >= 0 for s in f.samples), f.name


def test_names_are_bounded_by_the_configuration(gateway):
    """Routes that are gone leave the listing; what is kept keeps its counts."""
    text = gateway.file.read_text()
    gateway.fetch("/teapot")
    for i in range(5):
        gateway.fetch("/nowhere")
        gateway.file.write_text(text.replace("name: teapot", f"name: kettle-{i}"))
        gateway.wait_metric("config_reload_successes", i + 2)
        gateway.fetch("/teapot")
    metrics = settled(gateway, 11)
    routes = {labels["route"] for n, labels, _ in metrics.samples if "route" in labels}
    assert routes == {route_name("kettle-4")}
    assert classes(metrics, "listener", name_of(gateway)) == {"4xx": 11}
    # a name that comes back starts from nothing
    gateway.file.write_text(text)
    gateway.wait_metric("config_reload_successes", 7)
    gateway.fetch("/teapot")
    assert classes(settled(gateway, 12), "route", route_name("teapot")) == {"4xx": 1}


def test_a_label_is_what_the_document_says(serve):
    odd = 'a"b\\c\u00e9'
    gateway = serve(d.gateway(), d.virtual_service(
        d.rule(directResponse={"status": 200}, name=odd)))
    gateway.fetch("/")
    metrics = settled(gateway, 1)
    assert classes(metrics, "route", route_name(odd)) == {"2xx": 1}


def test_ready_while_starting_and_draining(serve, upstream):
    """Refused until it can serve, 200 while it does, 503 once it drains."""
    go = threading.Event()
    upstream.handler = lambda c, r: (go.wait(30), c.send(reply(b"x")))
    gateway = serve(d.gateway(), d.virtual_service(d.rule()), *d.backend(upstream.port), wait=False)
    answers = []

    def probe():
        try:
            answers.append(fetch(gateway.status_port, "/healthz/ready", host="localhost").status)
        except OSError:
            answers.append(None)
        return answers[-1] == 200

    eventually(probe, 20)
    assert set(answers[:-1]) <= {None, 503}
    with gateway.client() as client:
        client.send(request("/"))
        upstream.wait_requests(1)
        gateway.signal(15)
        eventually(lambda: probe() or answers[-1] == 503, 5)
        eventually(lambda: not probe() and answers[-1] == 503, 5)
        live = fetch(gateway.status_port, "/healthz/live", host="localhost")
        assert live.status == 200
        assert gateway.metric("draining") == 1 and gateway.metric("ready") == 0
        go.set()
        assert client.response().status == 200
    assert gateway.wait_exit(10) == 0


def test_every_metric_is_described(gateway):
    """Names follow the one prefix (but for what Prometheus itself names), help is a phrase."""
    metrics = gateway.metrics()
    for name, words in metrics.helps.items():
        assert re.fullmatch(r"(sluice|process)_[a-z0-9_]+", name) and len(words) > 5, name
