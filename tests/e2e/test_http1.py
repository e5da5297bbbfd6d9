"""HTTP/1.1 through the gateway: framing, connections, fields, interim responses."""
import re
import socket
import threading
import uuid

import pytest

from lib import documents as d
from lib.http1 import Client, Closed, chunked, reply, request
from lib.ports import ReservedPort, SilentPort
from lib.waiting import eventually

CONNECT_ERROR = b"upstream connect error or disconnect/reset before headers. "


def answer(*parts, close=False):
    """A handler that sends these bytes."""
    def handler(connection, _request):
        for part in parts:
            connection.send(part)
        if close:
            connection.close()
    return handler


# ---- connections

def test_keep_alive(proxy):
    with proxy.client() as client:
        seen = [client.roundtrip(f"/{i}").json() for i in range(5)]
    assert [s["target"] for s in seen] == [f"/{i}" for i in range(5)]
    assert {s["connection"] for s in seen} == {seen[0]["connection"]}  # the upstream's is kept too


def test_connection_close_is_honoured(proxy):
    with proxy.client() as client:
        response = client.roundtrip("/", headers=[("Connection", "close")])
        assert response.status == 200 and response.header("connection") == "close"
        client.expect_close()


def test_pipelined_requests_are_answered_in_order(proxy):
    release = threading.Event()

    def handler(connection, seen):
        if seen.target == "/0":
            assert release.wait(10)
        connection.send(reply(seen.target.encode()))

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(b"".join(request(f"/{i}") for i in range(10)))
        proxy.upstream.wait_requests(1)
        release.set()
        assert [client.response().body for _ in range(10)] == [b"/%d" % i for i in range(10)]


def test_deep_pipeline(proxy):
    """More than the gateway keeps of requests that wait: the rest waits in the kernel."""
    count = 1500
    with proxy.client(timeout=30) as client:
        data = b"".join(request(f"/{i}", headers=[("x", "y" * 300)]) for i in range(count))
        sender = threading.Thread(target=client.send, args=(data,), daemon=True)
        sender.start()
        assert [client.response().json()["target"] for _ in range(count)] == [f"/{i}" for i in range(count)]
        sender.join(10)


def test_pipelined_methods_get_their_own_responses(proxy):
    proxy.upstream.handler = lambda c, r: c.send(
        reply(r.target.encode() * (r.method != "HEAD"), length=False, headers=[("Content-Length", len(r.target))]))
    with proxy.client() as client:
        client.send(request("/a", method="HEAD") + request("/bb") + request("/ccc", method="POST", body=b"x")
                    + request("/dddd", method="HEAD") + request("/e", method="DELETE"))
        bodies = [client.response(method).body for method in ("HEAD", "GET", "POST", "HEAD", "DELETE")]
    assert bodies == [b"", b"/bb", b"/ccc", b"", b"/e"]


def test_pipelined_bodies_keep_their_borders(proxy):
    with proxy.client() as client:
        client.send(request("/1", method="POST", body=b"GET /x HTTP/1.1\r\n\r\n")
                    + request("/2", method="POST", headers=[("Transfer-Encoding", "chunked")])
                    + chunked(b"GET /y HTTP/1.1\r\n", b"\r\n") + request("/3"))
        seen = [client.response().json() for _ in range(3)]
    assert [(s["target"], s["body"]) for s in seen] == [
        ("/1", "GET /x HTTP/1.1\r\n\r\n"), ("/2", "GET /y HTTP/1.1\r\n\r\n"), ("/3", "")]


def test_request_byte_by_byte(proxy):
    with proxy.client() as client:
        data = request("/slow", method="POST", headers=[("Transfer-Encoding", "chunked")])
        for byte in data + chunked(b"abc", b"defg", trailers=[("x-t", "1")]):
            client.send(bytes([byte]))
        seen = client.response().json()
    assert (seen["target"], seen["body"]) == ("/slow", "abcdefg")


def test_half_closed_client_leaves_nothing_behind(proxy):
    with proxy.client() as client:
        client.send(request("/"))
        client.socket.shutdown(socket.SHUT_WR)
        client.rest()
    proxy.gateway.wait_metric("downstream_cx_active", 0)
    proxy.gateway.wait_metric("exchanges_active", 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http10(proxy, method):
    body = b"abc" if method == "POST" else None
    with proxy.client() as client:
        response = client.roundtrip("/old", method=method, version="1.0", body=body)
        assert response.status == 200 and response.json()["target"] == "/old"
        assert not response.chunked()
        client.expect_close()
    sent = proxy.upstream.requests[-1]
    assert sent.minor == 1 and sent.header("host") == "a.test"


def test_http10_keep_alive(proxy):
    with proxy.client() as client:
        for i in range(3):
            response = client.roundtrip(f"/{i}", version="1.0",
                                        headers=[("Connection", "Keep-Alive")])
            assert response.status == 200
            assert response.header("connection").lower() == "keep-alive"
    with proxy.client() as client:
        assert client.roundtrip("/", version="1.0", host=None).status == 200


def test_http10_client_gets_a_chunked_response_by_close(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                    + chunked(b"abc", b"def"))
    with proxy.client() as client:
        response = client.roundtrip("/", version="1.0", headers=[("Connection", "keep-alive")])
        assert response.body == b"abcdef" and not response.chunked()


def test_http10_client_gets_neither_chunks_nor_trailers(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                    + chunked(b"abc", trailers=[("x-sum", "1")]))
    with proxy.client() as client:
        client.send(request("/", version="1.0"))
        assert client.response().body == b"abc"
        client.expect_close()


def test_http10_client_that_expects(proxy):
    """Expect of an HTTP/1.0 client says nothing (RFC 9110 section 10.1.1): no 100 comes back."""
    proxy.upstream.handler = answer(b"HTTP/1.1 100 Continue\r\n\r\n", reply(b"done"))
    response = proxy.fetch("/", method="POST", version="1.0", headers=[("Expect", "100-continue")], body=b"abc")
    assert (response.status, response.body) == (200, b"done")
    assert proxy.upstream.requests[0].body == b"abc"


# ---- framing

def test_chunked_both_ways_with_trailers(proxy):
    proxy.upstream.handler = answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
        + chunked(b"one", b"two" * 1000, trailers=[("X-Sum", "9"), ("x-more", "a b")]))
    with proxy.client() as client:
        client.send(request("/", method="POST", headers=[("Transfer-Encoding", "chunked"),
                                                         ("TE", "trailers")])
                    + chunked(b"a", b"b" * 70000, b"c", trailers=[("X-Trailer", "1")]))
        response = client.response()
        assert response.chunked() and response.body == b"one" + b"two" * 1000
        assert response.trailers == [("x-sum", "9"), ("x-more", "a b")]
        sent = proxy.upstream.requests[-1]
        assert sent.chunked() and sent.body == b"a" + b"b" * 70000 + b"c"
        assert sent.trailers == [("x-trailer", "1")]
        assert client.roundtrip("/again").status == 200


def test_content_length_stays(proxy):
    with proxy.client() as client:
        response = client.roundtrip("/", method="POST", body=b"x" * 100000)
        assert response.content_length() == len(response.body)
    assert proxy.upstream.requests[-1].content_length() == 100000


@pytest.mark.parametrize("method, has_length", [("GET", False), ("HEAD", False), ("DELETE", False),
                                                ("POST", True)])
def test_no_body_no_framing(proxy, method, has_length):
    """A request without a body does not get one; a POST of nothing may say so."""
    headers = [("Content-Length", "0")] if has_length else []
    assert proxy.fetch("/", method=method, headers=headers).status == 200
    sent = proxy.upstream.requests[-1]
    assert not sent.chunked() and sent.content_length() in (None, 0) and sent.body == b""


def test_head(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    with proxy.client() as client:
        for _ in range(2):
            response = client.roundtrip("/", method="HEAD")
            assert (response.status, response.content_length()) == (200, 1234)
        proxy.upstream.handler = answer(reply(b"body"))
        assert client.roundtrip("/").body == b"body"


def test_head_of_a_chunked_resource(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with proxy.client() as client:
        assert client.roundtrip("/", method="HEAD").status == 200
        assert client.roundtrip("/", method="HEAD").status == 200


@pytest.mark.parametrize("head", [
    b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"])
def test_responses_without_a_body(proxy, head):
    proxy.upstream.handler = answer(head)
    with proxy.client() as client:
        for _ in range(3):
            response = client.roundtrip("/")
            assert (response.status, response.body) == (int(head[9:12]), b"")
    assert len({r.connection for r in proxy.upstream.requests}) == 1


def test_response_until_close_becomes_chunked(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"def", close=True)
    with proxy.client() as client:
        response = client.roundtrip("/")
        assert response.chunked() and response.body == b"abcdef"
        proxy.upstream.handler = answer(reply(b"next"))
        assert client.roundtrip("/").body == b"next"


def test_response_of_http10_upstream(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.0 200 OK\r\n\r\nold", close=True)
    response = proxy.fetch()
    assert response.body == b"old" and response.version == "HTTP/1.1"


# ---- 1xx

def test_interim_responses_are_passed_on(proxy):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    proxy.upstream.handler = answer(b"HTTP/1.1 102 Processing\r\n\r\n", hints, hints, reply(b"final"))
    with proxy.client() as client:
        client.send(request("/") + request("/"))
        for _ in range(2):
            statuses = [client.response() for _ in range(4)]
            assert [r.status for r in statuses] == [102, 103, 103, 200]
            assert statuses[1].header("link") == "</a.css>; rel=preload"
            assert statuses[3].body == b"final"


def test_no_interim_response_for_http10(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 103 Early Hints\r\n\r\n", reply(b"final"))
    response = proxy.fetch(version="1.0")
    assert (response.status, response.body) == (200, b"final")


def test_expect_100_continue(proxy):
    proxy.upstream.stream_bodies = True

    def handler(connection, seen):
        assert seen.header("expect") == "100-continue"
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.request_body(seen)
        connection.send(reply(b"got " + seen.body))

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(request("/", method="POST",
                            headers=[("Expect", "100-continue"), ("Content-Length", "5")]))
        assert client.response().status == 100
        client.send(b"hello")
        assert client.response().body == b"got hello"


def test_expect_that_nobody_waits_for(proxy):
    """The body comes at once, and the upstream says 200 without a 100: the connections are kept."""
    with proxy.client() as client:
        for _ in range(3):
            response = client.roundtrip("/", method="POST", headers=[("Expect", "100-continue")], body=b"hello")
            assert response.json()["body"] == "hello"
    assert len(proxy.upstream.connections) == 1


def test_expect_100_continue_refused(proxy):
    """A final response instead: the client, which may never send the body, is let go."""
    proxy.upstream.stream_bodies = True
    proxy.upstream.handler = answer(reply(b"no", status="417 Expectation Failed"), close=True)
    with proxy.client() as client:
        client.send(request("/", method="POST",
                            headers=[("Expect", "100-continue"), ("Content-Length", "5")]))
        response = client.response()
        assert (response.status, response.body) == (417, b"no")
        assert response.header("connection") == "close"
        client.expect_close()


# ---- fields

def test_fields_of_this_hop_stay_here(proxy):
    proxy.fetch(headers=[
        ("Connection", "close, X-Secret , keep-alive"), ("Connection", "x-other"),
        ("X-Secret", "1"), ("X-Other", "1"), ("Keep-Alive", "timeout=5"), ("TE", "trailers, deflate"),
        ("Proxy-Connection", "keep-alive"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk"),
        ("X-Kept", "1")])
    sent = proxy.upstream.requests[-1]
    names = [n for n, _ in sent.headers]
    gone = {"x-secret", "x-other", "keep-alive", "proxy-connection", "upgrade", "http2-settings",
            "transfer-encoding"}
    assert not gone & set(names)
    assert sent.header("te") in (None, "trailers") and sent.header("x-kept") == "1"
    assert sent.header("connection") in (None, "keep-alive")


def test_connection_may_not_name_fields_that_matter(proxy):
    """Connection: host or content-length would change what the request is."""
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n"
                    b"Connection: keep-alive, host, content-length, x-forwarded-for\r\n\r\nabc")
        response = client.response()
    if response.status == 200:
        sent = proxy.upstream.requests[-1]
        assert sent.header("host") == "a.test" and sent.body == b"abc"
        assert sent.header("x-forwarded-for") == "127.0.0.1"
    else:
        assert response.status == 400 and not proxy.upstream.requests


def test_fields_of_the_response_hop_stay_here(proxy):
    proxy.upstream.handler = answer(reply(b"x", headers=[
        ("Connection", "x-hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("X-Kept", "1"),
        ("Proxy-Connection", "keep-alive")]))
    with proxy.client() as client:
        response = client.roundtrip("/")
        names = {n for n, _ in response.headers}
        assert not names & {"x-hop", "keep-alive", "proxy-connection"} and "x-kept" in names
        assert client.roundtrip("/").status == 200


def test_forwarding_fields(proxy):
    proxy.fetch(headers=[
        ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "mine"),
        ("X-Envoy-Attempt-Count", "9"), ("X-Envoy-Retry-On", "5xx"), ("X-Envoy-Internal", "true"),
        ("X-Envoy-Upstream-Rq-Timeout-Ms", "1"), ("X-Envoy-Original-Path", "/z"),
        ("X-Forwarded-Client-Cert", "Hash=0"), ("Forwarded", "for=192.0.2.1"),
        ("X-Forwarded-Host", "h"), ("Traceparent", "00-0-0-0")])
    sent = proxy.upstream.requests[-1]
    assert re.sub(" ", "", ",".join(sent.all("x-forwarded-for"))) == "192.0.2.1,127.0.0.1"
    assert sent.header("x-forwarded-proto") == "http"
    assert uuid.UUID(sent.header("x-request-id")).version == 4
    assert sent.header("x-envoy-attempt-count") == "1"
    assert sent.header("x-envoy-external-address") == "127.0.0.1"
    for name in ("x-envoy-retry-on", "x-envoy-internal", "x-envoy-upstream-rq-timeout-ms",
                 "x-envoy-original-path", "x-forwarded-client-cert"):
        assert sent.header(name) is None, name
    assert sent.header("forwarded") and sent.header("x-forwarded-host") == "h"
    assert sent.header("traceparent") == "00-0-0-0"


def test_forwarded_for_is_one_chain(proxy):
    """Of several fields, in their order (RFC 9110 section 5.3), with the peer at its end."""
    proxy.fetch(headers=[("X-Forwarded-For", "192.0.2.1, 192.0.2.2"), ("Accept", "*/*"), ("x-forwarded-for", "2001:db8::3")])
    chain = ",".join(proxy.upstream.requests[-1].all("x-forwarded-for")).replace(" ", "")
    assert chain == "192.0.2.1,192.0.2.2,2001:db8::3,127.0.0.1"


def test_request_ids_differ(proxy):
    with proxy.client() as client:
        for _ in range(20):
            client.roundtrip("/")
    assert len({r.header("x-request-id") for r in proxy.upstream.requests}) == 20


def test_response_fields(proxy):
    proxy.upstream.handler = answer(reply(b"x", headers=[("Server", "origin"), ("Set-Cookie", "a=1"),
                                                         ("Set-Cookie", "b=2")]))
    response = proxy.fetch()
    assert response.all("server") == ["sluice"]
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.header("date"))
    assert re.fullmatch(r"\d+", response.header("x-envoy-upstream-service-time"))
    assert response.all("set-cookie") == ["a=1", "b=2"]
    stamp = "Sun, 06 Nov 1994 08:49:37 GMT"
    proxy.upstream.handler = answer(reply(b"x", headers=[("Date", stamp)]))
    assert proxy.fetch().all("date") == [stamp]


@pytest.mark.parametrize("data, status", [
    (request("/", method="CONNECT"), 404), (b"GET / HTTP/1.1\r\n\r\n", 400), (request("/", headers=[("x", "y" * 70000)]), 431),
    (request("/", headers=[("Transfer-Encoding", "gzip")]), 501), (request("a"), 400)])
def test_own_answers_say_who_and_when(proxy, data, status):
    with proxy.client() as client:
        client.send(data)
        response = client.response()
    assert response.status == status and response.header("server") == "sluice"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.header("date"))


def test_values_arrive_as_sent(proxy):
    value = "a\tb  c \xe9\xff;=\"',"
    proxy.fetch(headers=[("X-Value", value), ("x-empty", ""), ("Cookie", "a=1"), ("Cookie", "b=2")])
    sent = proxy.upstream.requests[-1]
    assert sent.header("x-value") == value and sent.header("x-empty") == ""
    assert ";".join(sent.all("cookie")).replace(" ", "") == "a=1;b=2"


# ---- the upstream's connection

def test_upstream_connections_are_used_again(proxy):
    for _ in range(5):
        assert proxy.fetch().status == 200
    assert len(proxy.upstream.connections) == 1


def test_upstream_that_says_close_is_not_used_again(proxy):
    proxy.upstream.handler = answer(reply(b"x", headers=[("Connection", "close")]))
    assert proxy.fetch().body == b"x" and proxy.fetch().body == b"x"
    assert len(proxy.upstream.connections) == 2


def close_on_second(connection, seen):
    """Keeps the connection after its first request and closes it at the second, unanswered."""
    if getattr(connection, "used", False):
        connection.close()
        return
    connection.used = True
    connection.send(reply(seen.body + b"!"))


def test_dead_pooled_connection_is_tried_again(proxy):
    proxy.upstream.handler = close_on_second
    for _ in range(4):
        assert proxy.fetch().status == 200
    assert len(proxy.upstream.connections) == 4


def test_dead_pooled_connection_is_not_tried_again_with_a_post(proxy):
    proxy.upstream.handler = close_on_second
    assert proxy.fetch(method="POST", body=b"1").body == b"1!"
    response = proxy.fetch(method="POST", body=b"2")
    assert response.status == 503
    assert response.body == CONNECT_ERROR + b"reset reason: connection termination"
    assert [r.body for r in proxy.upstream.requests] == [b"1", b"2"]


def test_upstream_closed_while_idle_costs_nothing(proxy):
    for i in range(3):
        assert proxy.fetch(method="POST", body=b"x").status == 200
        assert len(proxy.upstream.connections) == 1, i
        proxy.upstream.reset()


def test_upstream_dies_before_its_head_is_complete(proxy):
    proxy.upstream.handler = answer(b"HTTP/1.1 200 OK\r\nContent-Le", close=True)
    response = proxy.fetch(method="POST", body=b"x")
    assert response.status == 503 and response.body.startswith(CONNECT_ERROR)


@pytest.mark.parametrize("head, part", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"partial"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"7\r\npartial\r\n"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"8\r\npartial")])
def test_half_a_response_is_never_made_whole(proxy, head, part):
    proxy.upstream.handler = answer(head + part, close=True)
    with proxy.client() as client:
        client.send(request("/"))
        with pytest.raises(Closed) as cut:
            client.response()
    assert b"partial" in bytes(client.received) and b"0\r\n\r\n" not in cut.value.received
    assert proxy.upstream.wait_requests(1) and len(proxy.upstream.requests) == 1


def test_early_response_to_an_upload(proxy):
    """The upstream answers and goes while the client is still sending."""
    proxy.upstream.stream_bodies = True
    proxy.upstream.handler = answer(reply(b"enough", status="413 Payload Too Large",
                                          headers=[("Connection", "close")]))
    with proxy.client() as client:
        client.send(request("/", method="POST", headers=[("Content-Length", "10000000")]) + b"x" * 1000)
        response = client.response()
        assert (response.status, response.body) == (413, b"enough")


def test_vanished_client_frees_the_upstream(proxy):
    arrived, gone = threading.Event(), threading.Event()

    def handler(connection, _seen):
        arrived.set()
        try:
            connection.exactly(1)
        except Closed:
            gone.set()
            raise

    proxy.upstream.handler = handler
    client = proxy.client()
    client.send(request("/"))
    assert arrived.wait(5)
    client.reset()
    assert gone.wait(5)
    proxy.gateway.wait_idle()


# ---- clients that speak HTTP/2 all the same

SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
HTTP_1_1_REQUIRED = 13
BEGINNING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS


@pytest.mark.parametrize("pieces", [[BEGINNING], [BEGINNING[:3], BEGINNING[3:16], BEGINNING[16:]],
                                    [BEGINNING + b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82"]],
                         ids=["whole", "pieces", "with-a-request"])
def test_http2_is_told_in_its_own_frames(proxy, pieces):
    """SETTINGS, as a server begins; GOAWAY that says why; the end."""
    before = proxy.gateway.metric("downstream_rq_malformed")
    with proxy.gateway.client() as client:
        for n, piece in enumerate(pieces):
            received = proxy.gateway.metric("downstream_rx_bytes")
            client.send(piece)
            if n + 1 < len(pieces):
                proxy.gateway.wait_metric("downstream_rx_bytes", received + len(piece))
        answer = client.rest()
    assert answer[:9] == SETTINGS
    length, kind, flags, stream = answer[11], answer[12], answer[13], answer[14:18]
    assert (length, kind, flags, stream) == (len(answer) - 18, 7, 0, bytes(4))
    assert answer[18:26] == bytes(4) + HTTP_1_1_REQUIRED.to_bytes(4, "big")
    assert answer[26:] == b"HTTP/2 is not served here"
    assert proxy.gateway.metric("downstream_rq_malformed") == before + 1


def test_http2_behind_a_request_is_a_version_that_there_is_not(proxy):
    with proxy.gateway.client() as client:
        assert client.roundtrip("/").status == 200
        client.send(BEGINNING)
        assert client.response().status == 505
        client.expect_close()


# ---- retries and timeouts

@pytest.fixture(scope="module")
def failing(module_serve):
    """Backends that refuse, and that say nothing."""
    refused, silent = ReservedPort(), SilentPort()
    names = {"refused.test": "refused", "once.test": "refused", "silent.test": "silent"}
    rules = {host: d.rule(route=[d.to(name)]) for host, name in names.items()}
    rules["once.test"]["retries"] = {"attempts": 0}
    yield module_serve(
        d.gateway(), *[d.virtual_service(r, name=h.split(".", maxsplit=1)[0], hosts=[h])
                       for h, r in rules.items()],
        *d.backend(refused.number, name="refused"), *d.backend(silent.number, name="silent"),
        d.destination_rule("silent", trafficPolicy={
            "connectionPool": {"tcp": {"connectTimeout": "100ms"}}}))
    refused.release()
    silent.release()


@pytest.mark.parametrize("host, counter, attempts, text", [
    ("refused.test", "connect_fail", 3, b"retried and the latest reset reason: remote connection failure"),
    ("once.test", "connect_fail", 1, b"reset reason: remote connection failure"),
    ("silent.test", "connect_timeout", 3, b"retried and the latest reset reason: connection timeout")])
def test_connect_failures_are_tried_three_times(failing, host, counter, attempts, text):
    before = failing.metric(f"upstream_cx_{counter}"), failing.metric("upstream_rq_retry")
    failed = failing.metric("upstream_cx_connect_fail")
    response = failing.fetch(host=host, method="POST", body=b"may be sent again: it never was")
    assert (response.status, response.body) == (503, CONNECT_ERROR + text)
    assert failing.metric(f"upstream_cx_{counter}") - before[0] == attempts
    assert failing.metric("upstream_cx_connect_fail") - failed == attempts  # timed out or not
    assert failing.metric("upstream_rq_retry") - before[1] == attempts - 1


def test_retry_finds_the_endpoint_that_works(serve, upstream):
    refused = ReservedPort()
    gateway = serve(d.gateway(), d.virtual_service(d.rule()),
                    *d.backend(upstream.port, refused.number))
    with gateway.client() as client:
        assert [client.roundtrip("/").status for _ in range(40)] == [200] * 40
    refused.release()


def test_retries_on_status(serve, upstream):
    statuses = iter(["503 Service Unavailable", "502 Bad Gateway", "200 OK"])
    upstream.handler = lambda c, r: c.send(reply(b"", status=next(statuses)))
    gateway = serve(d.gateway(), d.virtual_service(
        d.rule(retries={"attempts": 3, "retryOn": "5xx", "backoff": "1ms"})), *d.backend(upstream.port))
    assert gateway.fetch().status == 200
    assert [r.header("x-envoy-attempt-count") for r in upstream.requests] == ["1", "2", "3"]
    assert len({r.header("x-request-id") for r in upstream.requests}) == 1


@pytest.mark.parametrize("size, tries", [(1, 3), (200_000, 3), (2_000_000, 1)])
def test_retries_send_the_body_again(serve, upstream, size, tries):
    """What fits is kept, also where the policy is a status alone; what does not is sent once."""
    body = bytes(range(250)) * (size // 250) or b"x"
    statuses = iter(["503 Service Unavailable", "503 Service Unavailable", "200 OK"])
    upstream.handler = lambda c, r: c.send(reply(b"", status=next(statuses)))
    gateway = serve(d.gateway(), d.virtual_service(
        d.rule(retries={"attempts": 3, "retryOn": "503", "backoff": "1ms"})), *d.backend(upstream.port))
    assert gateway.fetch(method="POST", body=body).status == (200 if tries == 3 else 503)
    assert [r.body == body for r in upstream.requests] == [True] * tries
    assert gateway.metric("upstream_rq_retry_abandoned") == (tries == 1)
    gateway.wait_metric("output_chunks", 0)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway",
                                    "503 Service Unavailable", "504 Gateway Timeout"])
def test_no_retry_on_status_by_default(proxy, status):
    proxy.upstream.handler = answer(reply(b"mine", status=status))
    response = proxy.fetch()
    assert (response.status, response.body) == (int(status[:3]), b"mine")
    assert len(proxy.upstream.requests) == 1


# ---- Upgrade

UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
           ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_tunnel_bytes_wait_for_the_upgrade(proxy):
    head_only = threading.Event()
    allowed = threading.Event()

    def handler(connection, seen):
        assert seen.header("upgrade") == "websocket"
        assert "upgrade" in seen.header("connection").lower()
        connection.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.exactly(1)
        connection.socket.settimeout(10)
        head_only.set()
        assert allowed.wait(10)
        connection.send(SWITCH + b"first")
        assert connection.exactly(10) == b"early late"
        connection.send(b"bye")
        connection.close()

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(request("/", headers=UPGRADE) + b"early")
        assert head_only.wait(5)
        allowed.set()
        response = client.response()
        assert response.status == 101 and response.header("upgrade") == "websocket"
        assert client.exactly(5) == b"first"
        client.send(b" late")
        assert client.exactly(3) == b"bye"
        client.expect_close()
    proxy.upstream.check()
    proxy.upstream.handler = answer(reply(b"fresh"))
    assert proxy.fetch().body == b"fresh"
    assert len(proxy.upstream.connections) == 2  # a tunnel is never pooled
    proxy.gateway.wait_metric("tunnel_active", 0)


def test_refused_upgrade_does_not_leak_tunnel_bytes(proxy):
    """Not accepted: what followed is the client's next request, and this one is none."""
    proxy.upstream.handler = answer(reply(b"no", status="403 Forbidden"))
    with proxy.client() as client:
        client.send(request("/", headers=UPGRADE) + b"GET /evil HTTP/1.1\r\n\r\n")
        responses = client.responses()
    assert responses[0].status == 403
    assert [r.status for r in responses[1:]] in ([], [400])
    assert b"/evil" not in proxy.upstream.received


def test_tunnel_ends_with_either_side(proxy):
    done = threading.Event()

    def handler(connection, _seen):
        connection.send(SWITCH)
        assert connection.rest() == b"x" * 100000
        done.set()
        raise Closed(b"")

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(request("/", headers=UPGRADE))
        assert client.response().status == 101
        client.send(b"x" * 100000)
        client.socket.shutdown(socket.SHUT_WR)
        assert done.wait(5)
        client.expect_close()
    proxy.gateway.wait_idle()


@pytest.mark.parametrize("response", [
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", SWITCH])
def test_unasked_upgrade_is_an_error(proxy, response):
    proxy.upstream.handler = answer(response, b"raw")
    assert proxy.fetch().status == 502


def test_client_sends_the_next_request_while_a_response_streams(proxy):
    """Nothing of the second one is sent before the first is done."""
    go = threading.Event()

    def handler(connection, seen):
        if seen.target == "/1":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
            assert go.wait(10)
            connection.send(b"def")
        else:
            connection.send(reply(b"second"))

    proxy.upstream.handler = handler
    with Client(proxy.port) as client:
        client.send(request("/1"))
        head = client.head()
        assert client.exactly(3) == b"abc" and head.content_length() == 6
        client.send(request("/2"))
        assert len(proxy.upstream.requests) == 1
        go.set()
        assert client.exactly(3) == b"def"
        assert client.response().body == b"second"


def test_trailers_and_an_early_response_do_not_mix(proxy):
    """Both are collected at the same time, piece by piece, from two sides."""
    proxy.upstream.stream_bodies = True
    begun, more = threading.Event(), threading.Event()

    def handler(connection, seen):
        connection.send(b"HTTP/1.1 200 OK\r\nX-Response: " + b"r" * 300)
        begun.set()
        connection.request_body(seen)
        assert more.wait(10)
        connection.send(b"R" * 300 + b"\r\nContent-Length: 2\r\n\r\nok")

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(request("/", method="POST", headers=[("Transfer-Encoding", "chunked")])
                    + b"3\r\nabc\r\n")
        assert begun.wait(5)
        proxy.gateway.metrics()  # a round trip: what was sent has been read
        for piece in (b"0\r\nX-Trailer: ", b"t" * 300, b"T" * 300 + b"\r\n\r\n"):
            client.send(piece)
            proxy.gateway.metrics()
        seen = proxy.upstream.wait_requests(1)[0]
        eventually(lambda: seen.trailers, what="the trailers")
        more.set()
        response = client.response()
    assert seen.body == b"abc"
    assert seen.trailers == [("x-trailer", "t" * 300 + "T" * 300)]
    assert response.header("x-response") == "r" * 300 + "R" * 300 and response.body == b"ok"
