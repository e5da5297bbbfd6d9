"""Changed documents while requests are served: whole or not at all, at once, and nobody notices."""
import contextlib
import os
import re
import signal
import socket
import threading
import time

import pytest

from lib import documents as d
from lib.gateway import sanitized
from lib.http1 import Client, Closed, fetch, reply, request
from lib.waiting import eventually

LIVE = 4.0 if sanitized() else 1.0  # seconds from the edit to the first request served by it


def saying(text, host="*", name="vs"):
    return d.virtual_service(
        d.rule({"uri": {"prefix": "/app"}}, headers={"response": {"set": {"x-generation": text}}}),
        d.rule(directResponse={"status": 200, "body": {"string": text}}), name=name, hosts=[host])


@pytest.fixture
def site(serve, upstream):
    """A gateway that answers with a word; site.edit(word) changes it as an editor would."""
    gateway = serve(d.gateway(), saying("one"), *d.backend(upstream.port))
    original = gateway.file.read_text()

    def edit(text):
        gateway.file.write_text(original.replace("one", text))
    gateway.edit, gateway.original = edit, original
    gateway.says = lambda: gateway.fetch("/").body.decode()
    return gateway


def becomes(gateway, text):
    eventually(lambda: gateway.says() == text, LIVE, f"the gateway says {text!r}")


def test_an_edit_is_live_within_a_second(site):
    assert site.says() == "one"
    for text in ("two", "three", "four"):
        site.edit(text)
        becomes(site, text)


def replace(site, text):
    """As editors and configuration tools do: the file is never seen half-written."""
    fresh = site.folder.parent / "fresh"
    fresh.write_text(text)
    os.replace(fresh, site.file)


def test_a_file_that_is_replaced(site):
    for text in ("two", "three"):
        replace(site, site.original.replace("one", text))
        becomes(site, text)


def test_a_file_that_is_written_in_place_and_held_open(site):
    with open(site.file, "r+") as held:
        for text in ("two", "three"):
            held.seek(0)
            held.truncate()
            held.write(site.original.replace("one", text))
            held.flush()
            becomes(site, text)


def test_a_link_that_is_switched(serve, tmp_path, upstream):
    """As a mounted ConfigMap changes: files are links through `..data`, a link to a folder."""
    ports = serve.ports(80)
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "app.yaml").symlink_to("..data/app.yaml")

    def switch(text):
        version = mount / f"..{text}"
        version.mkdir()
        (version / "app.yaml").write_text(
            d.text(d.node(ports), d.gateway(), saying(text), *d.backend(upstream.port)))
        (mount / "..next").symlink_to(version.name)
        os.replace(mount / "..next", mount / "..data")

    switch("one")
    gateway = serve.command([(None, mount)], ports).wait_ready()
    gateway.says = lambda: gateway.fetch("/").body.decode()
    assert gateway.says() == "one"
    for text in ("two", "three"):
        switch(text)
        becomes(gateway, text)


def test_files_come_and_go(site):
    extra = site.folder / "extra.yaml"
    for _ in range(2):
        extra.write_text(d.text(saying("extra", "extra.test", "extra")))
        eventually(lambda: site.fetch(host="extra.test").body == b"extra", LIVE)
        extra.unlink()
        eventually(lambda: site.fetch(host="extra.test").body == b"one", LIVE)


def test_a_broken_change_keeps_what_was(site):
    failures = site.metric("config_reload_failures")
    site.file.write_text(site.original.replace("prefix:", "prefx:"))
    line = next(i for i, text in enumerate(site.file.read_text().splitlines(), 1) if "prefx:" in text)
    at = rf"^{re.escape(str(site.file))}:{line}:\d+: error: VirtualService default/vs: "
    assert site.log.wait(at + ".*prefx.*did you mean", 5), site.log_text()
    site.wait_metric("config_reload_failures", failures + 1)
    assert site.says() == "one"
    site.edit("mended")
    becomes(site, "mended")
    assert site.metric("config_reload_failures") == failures + 1


def test_a_reference_to_nothing_goes_live_and_is_told(site):
    lost = d.virtual_service(d.rule(route=[d.to("missing")]), name="lost", hosts=["lost.test"])
    start, refused = len(site.log.lines), site.metric("config_reload_failures")
    site.file.write_text(site.original + "---\n" + d.text(lost))
    assert site.log.wait(r"level=warn event=reload .* errors=1 warnings=0 text=", 5, start), site.log_text()
    assert site.fetch(host="lost.test").status == 503 and site.says() == "one"
    assert site.metric("config_findings", severity="error") == 1
    start = len(site.log.lines)
    site.file.write_text(site.original)
    assert site.log.wait(r"level=info event=reload .* errors=0 warnings=0$", 5, start), site.log_text()
    assert site.metric("config_findings", severity="error") == 0
    assert site.metric("config_reload_failures") == refused


@pytest.mark.parametrize("rubbish", ["hosts: [\n", "\tx: y\n", "kind: [}", "\x00", "---\nkind: Gateway\n"])
def test_rubbish_keeps_what_was(site, rubbish):
    failures = site.metric("config_reload_failures")
    site.file.write_text(site.original + "---\n" + rubbish)
    site.wait_metric("config_reload_failures", failures + 1)
    assert site.log.wait(rf"^{re.escape(str(site.file))}:\d+:\d+: error: ", 2)
    assert site.says() == "one"


def test_a_folder_that_goes_and_comes_back(site):
    away = site.folder.parent / "away"
    os.rename(site.folder, away)
    assert site.log.wait(rf"^{re.escape(str(site.folder))}: error: No such file or directory", 5)
    site.wait_metric("config_reload_failures", 1)
    assert site.says() == "one"
    (away / site.file.name).write_text(site.original.replace("one", "two"))
    os.rename(away, site.folder)
    becomes(site, "two")


def test_documents_that_open_no_port_are_told(site):
    site.file.write_text(d.text(saying("one")))
    assert site.log.wait(r"level=warn event=nothing_served .*no client is served", 5)
    site.file.write_text(site.original)
    becomes(site, "one")


def test_ready_only_with_a_listener(site):
    def ready():
        answer = fetch(site.status_port, "/healthz/ready", host="localhost")
        return answer.status, answer.body.split(b":")[0].strip()

    assert ready() == (200, b"ready")
    site.file.write_text(d.text(saying("one")))
    eventually(lambda: ready() == (503, b"no listener"))
    site.file.write_text(site.original)
    eventually(lambda: ready() == (200, b"ready"))


def test_what_is_no_file_is_not_waited_for(site):
    """Reading a pipe waits for its writer, and a link to a folder above leads in a circle."""
    os.mkfifo(site.folder / "pipe.yaml")
    (site.folder / "circle").symlink_to(".")
    (site.folder / "another").symlink_to("../" + site.folder.name)
    for name, what in (("pipe.yaml", "this is not a file"), ("circle", "the link leads back"),
                       ("another", "the link leads back")):
        at = re.escape(str(site.folder / name))
        assert site.log.wait(rf"^{at}: error: {what}", 5), site.log_text()
    for name in ("pipe.yaml", "circle", "another"):
        (site.folder / name).unlink()
    site.edit("two")
    becomes(site, "two")


def test_a_change_of_several_files_is_whole_or_not_at_all(site):
    failures = site.metric("config_reload_failures")
    extra = site.folder / "a-extra.yaml"
    extra.write_text("kind: Gateway\nspec: {servers: []}\napiVersion: networking.istio.io/v1\n")
    site.edit("two")
    eventually(lambda: site.metric("config_reload_failures") > failures)
    assert site.says() == "one"
    extra.unlink()
    becomes(site, "two")


def test_sighup(site):
    """Each one reads the documents at once and says so, also when nothing has changed."""
    for _ in range(3):
        start = len(site.log.lines)
        site.signal(signal.SIGHUP)
        assert site.log.wait(r"event=reload\w* reason=(signal|sighup|SIGHUP)", 5, start), \
            site.log_text()
        assert site.says() == "one"
    site.edit("two")
    site.signal(signal.SIGHUP)
    becomes(site, "two")
    start = len(site.log.lines)
    replace(site, "kind: [")
    site.signal(signal.SIGHUP)
    assert site.log.wait(r"event=reload_refused", 5, start), site.log_text()
    assert site.says() == "two"


def test_signals_under_load_fail_nothing(site):
    """SIGHUP as fast as it is taken, on a kept and on fresh connections: none is closed early."""
    stop, bad, served = threading.Event(), [], [0]

    def client():
        try:
            with Client(site.port) as kept:
                while not stop.is_set():
                    words = kept.roundtrip("/").body, site.fetch("/").body
                    if words != (b"one", b"one"):
                        bad.append(words)
                    served[0] += 1
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the result
            bad.append(e)

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    for _ in range(30):
        start = len(site.log.lines)
        site.signal(signal.SIGHUP)
        assert site.log.wait(r"event=reload reason=signal", 5, start), site.log_text()
    eventually(lambda: served[0] >= 30 or bad, 20)
    stop.set()
    thread.join(10)
    assert not bad, bad[:3]
    site.wait_idle()


def test_a_slow_request_is_held_across_reloads(site, upstream):
    """It ends by the configuration it began with, which is freed when it has."""
    go = threading.Event()

    def handler(connection, seen):
        if seen.target == "/app/slow":
            assert go.wait(30)
        connection.send(reply(b"done"))

    upstream.handler = handler
    with site.client() as slow:
        slow.send(request("/app/slow"))
        upstream.wait_requests(1)
        for i in range(5):
            site.edit(f"word {i}")
            becomes(site, f"word {i}")
        assert site.metric("snapshot_pins") == 1
        assert site.fetch("/app").header("x-generation") == "word 4"
        # without its route, its cluster and its listener's routes
        site.file.write_text(d.text(d.gateway(), d.virtual_service(
            d.rule(directResponse={"status": 200, "body": {"string": "bare"}}))))
        becomes(site, "bare")
        go.set()
        response = slow.response()
        assert (response.status, response.body) == (200, b"done")
        assert response.header("x-generation") == "one"
        assert slow.roundtrip("/app").body == b"bare"
    site.wait_idle()


def test_reloads_under_load_fail_nothing(site, upstream):
    """Four clients, on kept and on fresh connections, while the documents change all the time."""
    stop, bad, served = threading.Event(), [], [0] * 4

    def client(number):
        try:
            while not stop.is_set():
                with Client(site.port) as connection:
                    for _ in range(25):
                        app = connection.roundtrip("/app")
                        word = connection.roundtrip("/").body.decode()
                        if app.status != 200 or not re.fullmatch(r"word \d+|one", word):
                            bad.append((app.status, word))
                        served[number] += 2
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the result
            bad.append(e)

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(4)]
    for t in threads:
        t.start()
    deadline = time.monotonic() + 3
    rounds = 0
    while time.monotonic() < deadline and not bad:
        site.edit(f"word {rounds}")
        becomes(site, f"word {rounds}")
        rounds += 1
    stop.set()
    for t in threads:
        t.join(10)
    assert not bad, bad[:3]
    assert rounds >= 3 and min(served) > 50, (rounds, served)
    site.wait_idle()


def test_upstream_connections_outlive_a_reload(serve, upstream):
    gateway = serve(d.gateway(), saying("one"), *d.backend(upstream.port), workers=1)
    assert gateway.fetch("/app").status == 200
    gateway.file.write_text(gateway.file.read_text().replace("one", "two"))
    eventually(lambda: gateway.fetch("/").body == b"two", LIVE)
    assert gateway.fetch("/app").status == 200
    assert len(upstream.connections) == 1


def test_endpoints_move(serve, upstream):
    gateway = serve(d.gateway(), saying("one"), *d.backend(upstream.port))
    text = gateway.file.read_text()
    gateway.file.write_text(text.replace("ready: true", "ready: false"))
    eventually(lambda: gateway.fetch("/app").status == 503, LIVE)
    assert gateway.fetch("/app").body == b"no healthy upstream"
    gateway.file.write_text(text)
    eventually(lambda: gateway.fetch("/app").status == 200, LIVE)


def test_listeners_come_and_go(serve, upstream):
    docs = [saying("one"), *d.backend(upstream.port)]
    gateway = serve(d.gateway(), *docs, numbers=(80, 81))
    second = gateway.ports[81]

    def served(port):
        try:
            with Client(port) as client:
                return client.roundtrip("/").body == b"one"
        except (ConnectionRefusedError, Closed):
            return False

    assert served(gateway.port) and not served(second)
    for _ in range(2):
        gateway.file.write_text(d.text(d.gateway(), d.gateway(name="gw2", number=81), *docs).replace(
            "- gw\n", "- gw\n  - gw2\n"))
        eventually(lambda: served(second), LIVE, "the new port")
        gateway.file.write_text(d.text(d.gateway(), *docs))
        eventually(lambda: not served(second), LIVE, "the port is closed")
        assert served(gateway.port)


def test_a_removed_listener_keeps_its_routes_and_drains(serve, upstream):
    """Its connections never meet the routes of a listener that comes later: each is told by its next
    response that it ends; one without a request is closed."""
    def docs(number, word):
        return [d.gateway(), d.gateway(name="gw2", number=number), saying("one"),
                d.virtual_service(d.rule(directResponse={"status": 200, "body": {"string": word}}),
                                  name="vs2", gateways=("gw2",)), *d.backend(upstream.port)]

    gateway = serve(*docs(81, "first"), numbers=(80, 81, 82), workers=1)
    first, second = gateway.ports[81], gateway.ports[82]
    without = d.text(d.gateway(), saying("one"), *d.backend(upstream.port))
    with Client(first) as half, Client(first) as idle:
        assert [c.roundtrip("/").body for c in (half, idle)] == [b"first"] * 2
        half.send(request("/")[:-2])
        gateway.wait_metric("exchanges_active", 1)
        start = len(gateway.log.lines)
        gateway.file.write_text(without)
        assert gateway.log.wait("event=listener_closed", 5, start)
        gateway.file.write_text(d.text(*docs(82, "second")))
        assert gateway.log.wait("event=listening .*:%d$" % second, 5, start)
        assert fetch(second, "/").body == b"second"
        half.send(b"\r\n")
        response = half.response()
        assert (response.status, response.body) == (200, b"first")
        assert response.header("connection") == "close"
        half.expect_close()
        idle.expect_close()
    assert fetch(second, "/").body == b"second"
    gateway.wait_metric("snapshots_alive", 1)
    gateway.wait_idle()


def test_a_removed_listener_takes_its_services_along(serve, upstream):
    """One application's documents go together; what is on its way to it is answered all the same."""
    upstream.handler = lambda c, _: c.send(reply(b"theirs"))
    kept = [d.gateway(), saying("one")]
    gateway = serve(*kept, d.gateway(name="gw2", number=81),
                    d.virtual_service(d.rule(), name="vs2", gateways=("gw2",)), *d.backend(upstream.port),
                    numbers=(80, 81), workers=1)
    with Client(gateway.ports[81]) as client:
        assert client.roundtrip("/").body == b"theirs"
        client.send(request("/")[:-2])
        gateway.wait_metric("exchanges_active", 1)
        start = len(gateway.log.lines)
        gateway.file.write_text(d.text(*kept))
        assert gateway.log.wait("event=listener_closed", 5, start)
        client.send(b"\r\n")
        response = client.response()
        assert (response.status, response.body) == (200, b"theirs")
        client.expect_close()
    gateway.wait_metric("snapshots_alive", 1)
    gateway.wait_idle()
    start = len(gateway.log.lines)
    gateway.file.write_text(d.text(*kept, saying("two", host="two.test")))
    assert gateway.log.wait("event=reload", 5, start)
    gateway.wait_metric("upstream_cx_active", 0)


def test_the_drain_time_of_a_removed_listener_ends(serve, upstream):
    """What is still under way on it then is cut off, as Envoy does."""
    held = threading.Event()
    upstream.handler = lambda connection, seen: held.wait(30)
    gateway = serve(d.gateway(), d.gateway(name="gw2", number=81),
                    d.virtual_service(d.rule(), gateways=("gw", "gw2")), *d.backend(upstream.port),
                    numbers=(80, 81), args=["--drain-time", "1s"])
    with Client(gateway.ports[81]) as busy:
        busy.send(request("/slow"))
        upstream.wait_requests(1)
        gateway.file.write_text(d.text(d.gateway(), d.virtual_service(d.rule()),
                                       *d.backend(upstream.port)))
        busy.expect_close()
    held.set()
    gateway.wait_idle()


def test_a_direct_response_outlives_its_snapshot(serve):
    """Its client reads slowly; the configuration it came from is freed, and overwritten, meanwhile."""
    def docs(letter):
        return [d.gateway(), d.virtual_service(
            d.rule(directResponse={"status": 200, "body": {"string": letter * size}}))]

    size, count = 1 << 20, 8  # more than the kernel takes at once
    gateway = serve(*docs("a"), env={"MALLOC_PERTURB_": "165"}, workers=1)
    with gateway.client(receive_buffer=4096) as slow:
        slow.send(request("/") * count)
        eventually(lambda: gateway.metric("output_chunks") > 0)
        for letter in "bcd":
            gateway.file.write_text(d.text(*docs(letter)))
            eventually(lambda: gateway.fetch("/").body[:1].decode() == letter, LIVE)
        gateway.wait_metric("snapshots_alive", 1)
        assert gateway.metric("output_chunks") > 0
        begun_before = 0
        for _ in range(count):
            body = slow.response().body
            assert body in (b"a" * size, b"d" * size), set(body)
            begun_before += body[:1] == b"a"
        assert begun_before > 1
    gateway.wait_idle()


def test_a_retry_finds_what_its_cluster_has_become(serve, upstream):
    """The first try connects to nobody; when it gives up, its cluster has other settings and another
    endpoint. Istio's default retries go there."""
    def docs(port, seconds):
        return [d.gateway(), d.virtual_service(d.rule()), d.destination_rule(
            "app", trafficPolicy={"connectionPool": {"tcp": {"connectTimeout": seconds}}}),
            *d.backend(port)]

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        at = full.getsockname()
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # the kernel drops what its queue has no room for
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(at)
            gateway = serve(*docs(at[1], "3s"))
            with gateway.client() as client:
                client.send(request("/app"))
                gateway.wait_metric("upstream_cx_active", 1)
                start = len(gateway.log.lines)
                gateway.file.write_text(d.text(*docs(upstream.port, "4s")))
                assert gateway.log.wait("event=reload reason=changed", 2.5, start), gateway.log_text()
                assert gateway.metric("upstream_rq_retry") == 0
                response = client.response()
                assert response.status == 200, response
                assert gateway.metric("upstream_rq_retry") == 1
    assert len(upstream.requests) == 1


UPGRADE = [("connection", "Upgrade"), ("upgrade", "websocket")]


def test_a_tunnel_does_not_keep_its_configuration(serve, upstream):
    """While it is open, old snapshots are freed, its own included; its log line and its counts are
    those it began with, though route and cluster have gone since."""
    def handler(connection, _seen):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
                        b"upgrade: websocket\r\n\r\n")
        while True:
            connection.send(connection.exactly(4))

    upstream.handler = handler
    edits = {"request": {"set": {"x-to": "an upstream"}}, "response": {"set": {"x-generation": "first"}}}
    gateway = serve(
        d.gateway(), d.virtual_service(d.rule(name="way-in", headers=edits, rewrite={"authority": "inner.test"})),
        *d.backend(upstream.port), env={"MALLOC_PERTURB_": "165"}, args=[
            "--access-log", "-", "--access-log-format",
            "%ROUTE_NAME% %UPSTREAM_CLUSTER% %REQ(:AUTHORITY)% %REQ(X-TO)% %RESP(X-GENERATION)% "
            "%RESPONSE_CODE% %BYTES_RECEIVED% %BYTES_SENT%"])
    with gateway.client() as client:
        client.send(request("/app", headers=UPGRADE))
        assert client.response().status == 101
        for i in range(3):
            gateway.file.write_text(d.text(d.gateway(), saying(f"word {i}", name=f"vs{i}")))
            eventually(lambda: gateway.fetch("/").body.decode() == f"word {i}", LIVE)
        gateway.wait_metric("snapshots_alive", 1)
        assert gateway.metric("tunnel_active") == 1
        assert gateway.metric("snapshot_pins") == 0
        client.send(b"ping")
        assert client.exactly(4) == b"ping"
    assert gateway.out.wait("^way-in outbound\\|8080\\|\\|app.default.svc.cluster.local inner.test "
                            "an upstream first 101 4 4$", 5), gateway.out.lines
    gateway.wait_idle()
