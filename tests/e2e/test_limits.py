"""The limits of what a client may ask for, and of what the machine has: each holds, is counted, and
costs nobody else anything."""
import contextlib
import os
import resource
import threading

import pytest

from lib import documents as d, sandbox
from lib.gateway import sanitized
from lib.http1 import Client, Closed, reply, request
from lib.upstream import Upstream
from lib.waiting import eventually

FIELDS, HEAD_BYTES, FIELD_BYTES = 100, 60 * 1024, 32


def head(*sizes, name="x-pad"):
    """A request whose fields have values of those sizes, behind its Host."""
    return request("/", host="a.test", headers=[(name, "v" * size) for size in sizes])


def counted(*sizes, name="x-pad"):
    """What such a head counts as."""
    return sum(len(name) + s + FIELD_BYTES for s in sizes) + len("host" "a.test") + FIELD_BYTES


def outcome(gateway, data):
    """The status that is answered, and whether the connection ends with it."""
    with gateway.client() as client:
        client.send(data)
        status = client.response().status
        if status == 200:
            return status
        assert client.rest() == b""
        return status


# ---- heads

@pytest.mark.parametrize("more, status", [(0, 200), (1, 431), (100, 431)])
def test_fields_of_a_head(proxy, more, status):
    before = proxy.gateway.metric("downstream_rq_head_too_large")
    data = head(*[1] * (FIELDS - 1 + more))  # and Host
    assert outcome(proxy.gateway, data) == status
    proxy.gateway.wait_metric("downstream_rq_head_too_large", before + (status == 431))
    assert len(proxy.upstream.requests) == (status == 200)


@pytest.mark.parametrize("fields", [1, 50])
@pytest.mark.parametrize("over, status", [(0, 200), (1, 431), (20000, 431)])
def test_bytes_of_a_head(proxy, fields, over, status):
    """Names, values, and 32 for each field."""
    gateway = proxy.gateway
    before = gateway.metric("downstream_rq_head_too_large")
    each = (HEAD_BYTES - counted()) // fields - len("x-pad") - FIELD_BYTES
    sizes = [each] * fields
    sizes[0] += HEAD_BYTES - counted(*sizes) + over
    assert counted(*sizes) == HEAD_BYTES + over
    assert outcome(gateway, head(*sizes)) == status
    gateway.wait_metric("downstream_rq_head_too_large", before + (status == 431))


def test_a_head_without_end(proxy):
    """Refused when it is too large, not when it is complete."""
    with proxy.gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nx: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.send(b"v" * 1024)
        assert b"431" in client.rest()[:20]
    proxy.gateway.wait_idle()


def test_a_target_without_end(proxy):
    assert outcome(proxy.gateway, request("/" + "x" * 70_000)) == 431


def test_large_heads_leave_nothing_behind(proxy):
    for _ in range(50):
        outcome(proxy.gateway, head(30_000, 30_000, 10_000))
    proxy.gateway.wait_idle()


# ---- connections

@pytest.fixture
def docs(upstream):
    rules = [d.rule({"uri": {"prefix": "/app"}}), d.rule(directResponse={"status": 200})]
    return [d.gateway(), d.gateway(name="gw2", number=81),
            d.virtual_service(*rules, gateways=["gw", "gw2"]), *d.backend(upstream.port)]


def is_served(client):
    try:
        return client.roundtrip("/").status == 200
    except (Closed, OSError):
        return False


def fill(stack, port, limit):
    """Opens connections until one is refused; returns those that are served."""
    clients = []
    for _ in range(limit):
        client = stack.enter_context(Client(port))
        if not is_served(client):
            return clients
        clients.append(client)
    raise AssertionError(f"{limit} connections and none refused")


@pytest.mark.parametrize("workers", [1, 3])
def test_connections_of_all_listeners_and_of_one(serve, docs, workers):
    """By RLIMIT_NOFILE: one listener may take seven eighths, all together the whole."""
    gateway = serve(*docs, numbers=(80, 81), workers=workers, preexec=sandbox.limits(NOFILE=300))
    whole = gateway.metric("downstream_cx_limit")
    assert whole == (300 - 64 - 8 * workers) // 4 * 3
    share = whole - whole // 8
    with contextlib.ExitStack() as stack:
        first = fill(stack, gateway.ports[80], 300)
        assert len(first) == share
        assert gateway.metric("downstream_cx_listener_overflow") == 1
        assert gateway.metric("downstream_cx_overflow") == 0
        second = fill(stack, gateway.ports[81], 300)
        assert len(first) + len(second) == whole
        assert gateway.metric("downstream_cx_overflow") == 1
        gateway.wait_metric("downstream_cx_active", whole)
        assert all(is_served(c) for c in first + second)  # those that are in stay
        first.pop().close()
        gateway.wait_metric("downstream_cx_active", whole - 1)
        assert is_served(stack.enter_context(Client(gateway.ports[81])))
    gateway.wait_idle()
    assert is_served(Client(gateway.port))


def test_one_listener_may_have_all(serve, docs):
    gateway = serve(docs[0], *docs[2:], workers=1, preexec=sandbox.limits(NOFILE=300))
    with contextlib.ExitStack() as stack:
        clients = fill(stack, gateway.port, 300)
        assert len(clients) == gateway.metric("downstream_cx_limit")


@pytest.fixture
def held(upstream):
    """The backend's answers wait for this event."""
    go = threading.Event()

    def handler(connection, _seen):
        go.wait(30)
        connection.send(reply(b"x"))

    upstream.handler = handler
    yield go
    go.set()


def test_each_connection_finds_a_descriptor_for_its_upstream(serve, docs, upstream, held):
    """Where each client has a request in flight, half of the descriptors are for their upstream
    connections: who comes when these are taken is refused, not left without one."""
    gateway = serve(docs[0], *docs[2:], workers=1, preexec=sandbox.limits(NOFILE=256))
    count = (256 - 64 - 8) // 2
    assert count < gateway.metric("downstream_cx_limit")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(count)]
        for client in clients:
            client.send(request("/app"))
        upstream.wait_requests(count)
        assert not is_served(stack.enter_context(gateway.client()))
        assert gateway.metric("downstream_cx_overflow") == 1
        held.set()
        assert all(client.response().status == 200 for client in clients)
    assert gateway.metric("accept_paused") == 0
    gateway.wait_idle()


def test_idle_connections_take_what_no_upstream_connection_needs(serve, docs, upstream, held):
    gateway = serve(docs[0], *docs[2:], workers=1, preexec=sandbox.limits(NOFILE=256))
    files = 256 - 64 - 8
    busy = files // 4 + 10
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(busy)]
        for client in clients:
            client.send(request("/app"))
        upstream.wait_requests(busy)
        idle = fill(stack, gateway.port, 256)
        assert len(idle) == files - 2 * busy
        held.set()
        assert all(client.response().status == 200 for client in clients)
        assert all(is_served(c) for c in idle)
        assert gateway.metric("upstream_cx_active") == busy  # these idle now, and make room
        more = [stack.enter_context(gateway.client()) for _ in range(5)]
        assert all(is_served(c) for c in more)
        gateway.wait_metric("upstream_cx_active", busy - 5)
        assert gateway.metric("upstream_cx_evicted") == 5
    gateway.wait_idle()


# ---- connections to upstreams

def files(gateway):
    return {int(n) for n in os.listdir(f"/proc/{gateway.pid}/fd")}


@contextlib.contextmanager
def no_more_files(gateway, count):
    """As if the limit of open files were reached, with so many open: not a connection that asked for
    a metric too, and is about to be closed."""
    soft, hard = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    eventually(lambda: len(files(gateway)) == count)
    have = files(gateway)
    free = min(set(range(len(have) + 1)) - have)  # the limit is the first number that is not given
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def two_clusters(serve, upstream):
    with contextlib.closing(Upstream("other")) as other:
        other.handler = lambda connection, _seen: connection.send(reply(b"other"))
        upstream.handler = lambda connection, _seen: connection.send(reply(b"app"))
        rules = [d.rule({"uri": {"prefix": "/other"}}, route=[d.to("other")]), d.rule()]
        yield serve(d.gateway(), d.virtual_service(*rules), *d.backend(upstream.port),
                    *d.backend(other.port, name="other"), workers=1, args=[
                        "--access-log", "-", "--access-log-format",
                        "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"])
        other.check()


def test_an_idle_upstream_connection_makes_room_for_another_cluster(two_clusters, upstream):
    gateway = two_clusters
    count = len(files(gateway)) + 2
    with gateway.client() as client:
        assert client.roundtrip("/app").body == b"app"
        with no_more_files(gateway, count):
            assert client.roundtrip("/other").body == b"other"
            assert upstream.connections[0].ended.wait(5)
            assert client.roundtrip("/app").body == b"app"
    assert gateway.metric("upstream_cx_evicted") == gateway.metric("upstream_cx_overflow") == 2
    assert gateway.metric("upstream_rq_pending_overflow") == 0
    assert gateway.metric("upstream_cx_active") == 1


def test_no_room_for_an_upstream_connection(two_clusters, upstream, held):
    """None is idle: 503 in Envoy's words and with its flag."""
    gateway = two_clusters
    count = len(files(gateway)) + 3
    with gateway.client() as busy, gateway.client() as client:
        busy.send(request("/app"))
        client.send(request("/other")[:-2])
        gateway.wait_metric("exchanges_active", 2)
        upstream.wait_requests(1)
        with no_more_files(gateway, count):
            client.send(b"\r\n")
            response = client.response()
        assert response.status == 503
        assert response.body == (b"upstream connect error or disconnect/reset before headers. "
                                 b"reset reason: overflow")
        assert gateway.out.wait("^503 UO upstream_reset_before_response_started{overflow}$", 5)
        assert gateway.metric("upstream_cx_overflow") == 1
        assert gateway.metric("upstream_rq_pending_overflow") == 1
        assert gateway.metric("upstream_cx_evicted") == 0
        held.set()
        assert busy.response().body == b"x"
        assert client.roundtrip("/other").body == b"other"
    gateway.wait_idle()


# ---- memory

def test_heads_that_wait_take_no_others_place_unnoticed(serve):
    """There is memory for so many large heads. What finds none left is told that it is not its fault."""
    gateway = serve(d.gateway(), d.virtual_service(d.rule(directResponse={"status": 200})), workers=1)
    large = request("/", headers=[(f"x-{i}", "v" * 1000) for i in range(14)])
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            for _ in range(100):
                stack.enter_context(gateway.client()).send(large[:-2])
            if gateway.fetch(headers=[(f"x-{i}", "v" * 1000) for i in range(14)]).status != 200:
                break
        else:
            pytest.fail("there is no limit")
        response = gateway.fetch(headers=[(f"x-{i}", "v" * 1000) for i in range(14)])
        assert (response.status, response.header("connection")) == (503, "close")
        assert gateway.metric("downstream_rq_rejected_memory") >= 2
        assert gateway.metric("downstream_rq_head_too_large") == 0
        assert gateway.fetch("/").status == 200  # a small one needs none of it
    gateway.wait_idle()


def mapped(gateway):
    with open(f"/proc/{gateway.pid}/statm") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def memory_at(gateway, percent):
    """As if so much of the memory there is were used, by a limit on mapped memory."""
    limit = mapped(gateway) * 100 // percent
    _, hard = resource.prlimit(gateway.pid, resource.RLIMIT_AS)
    resource.prlimit(gateway.pid, resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        if gateway.process.poll() is None:
            resource.prlimit(gateway.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, hard))


no_shadow = pytest.mark.skipif(sanitized(), reason="a sanitizer maps terabytes")


@no_shadow
def test_memory_at_95_percent(serve, docs, upstream):
    """No new connection is accepted, idle ones end, what is under way completes and ends then."""
    go = threading.Event()

    def handler(connection, _seen):
        go.wait(30)
        connection.send(reply(b"late"))

    upstream.handler = handler
    gateway = serve(*docs, numbers=(80, 81))
    with gateway.client() as idle, gateway.client() as busy, gateway.client() as half:
        assert idle.roundtrip("/").status == 200
        busy.send(request("/app"))
        half.send(request("/")[:-2])
        upstream.wait_requests(1)
        gateway.wait_metric("exchanges_active", 2)  # the half head has been read
        with memory_at(gateway, 96):
            gateway.wait_metric("shed_listener_paused", 2 * 2)  # listeners, workers
            assert gateway.metric("memory_shed") == 1
            idle.expect_close()
            assert gateway.metric("shed_cx_idle") == 1
            half.send(b"\r\n")  # its head was under way: served, and then the connection ends
            response = half.response()
            assert (response.status, response.header("connection")) == (200, "close")
            waiting = gateway.client(timeout=0.3)
            waiting.send(request("/"))
            with pytest.raises(TimeoutError):
                waiting.response()
            go.set()
            response = busy.response()
            assert (response.body, response.header("connection")) == (b"late", "close")
        gateway.wait_metric("memory_shed", 0)
        waiting.socket.settimeout(5)
        assert waiting.response().status == 200  # it waited in the kernel's queue
        waiting.close()
        assert gateway.fetch("/").header("connection") is None
    assert gateway.metric("shed_rq") == 0
    assert gateway.log.wait(r"event=memory_shed shed=connections was=nothing", 1)
    assert gateway.log.wait(r"event=memory_shed shed=nothing was=connections", 1)
    gateway.wait_idle()


@no_shadow
def test_memory_at_95_percent_drops_idle_upstream_connections(serve, docs, upstream):
    gateway = serve(*docs, numbers=(80, 81))
    assert gateway.fetch("/app").status == 200
    with memory_at(gateway, 96):
        assert upstream.wait_connections(1)[0].ended.wait(5)
        gateway.wait_metric("upstream_cx_active", 0)
        assert gateway.metric("shed_upstream_cx_idle") == 1
    gateway.wait_idle()


@no_shadow
def test_memory_at_98_percent(serve, docs):
    """Requests that come in all the same are answered 503, flag OM; afterwards all is as before."""
    gateway = serve(*docs, numbers=(80, 81), args=[
        "--access-log", "-", "--access-log-format",
        "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"])
    with gateway.client() as half:
        half.send(request("/")[:-2])
        eventually(lambda: gateway.metric("exchanges_active") == 1)
        with memory_at(gateway, 99):
            gateway.wait_metric("memory_shed", 2)
            gateway.wait_metric("shed_listener_paused", 2 * 2)  # every worker has been told
            half.send(b"\r\n")
            response = half.response()
            assert (response.status, response.body) == (503, b"overloaded")
            assert response.header("connection") == "close"
            half.expect_close()
            gateway.wait_metric("shed_rq", 1)
        gateway.wait_metric("memory_shed", 0)
    assert gateway.out.wait("^503 OM overload_manager$", 5)
    assert gateway.fetch("/").status == 200
    gateway.wait_idle()


@no_shadow
def test_the_end_comes_while_memory_is_short(serve, docs):
    """Listeners that are paused are closed as well."""
    gateway = serve(*docs, numbers=(80, 81))
    with memory_at(gateway, 96):
        gateway.wait_metric("memory_shed", 1)
        gateway.wait_metric("shed_listener_paused", 4)
        gateway.stop(timeout=10)


def test_without_a_limit_nothing_is_shed(serve, docs):
    gateway = serve(*docs, numbers=(80, 81))
    assert gateway.metric("memory_shed") == 0
    for _ in range(20):
        assert gateway.fetch("/").status == 200
    assert gateway.metric("shed_rq") == gateway.metric("shed_listener_paused") == 0
