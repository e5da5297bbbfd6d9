"""Requests and responses that two parsers could read in two ways: 400 or normalised, the connection
closed, and nothing reaches the upstream that was not meant.

A refused request is followed by a second one, /smuggled, which must never be seen; an accepted one is
compared with what the upstream received."""
import itertools

import pytest

from lib import documents as d
from lib.http1 import Client, Closed, chunked, reply, request

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"


def get(*lines, line=b"GET / HTTP/1.1", host=b"Host: a.test", end=b"\r\n"):
    return end.join([line, *([host] if host else []), *lines]) + end + end


def post(*lines, body=b"", **kw):
    return get(*lines, line=b"POST / HTTP/1.1", **kw) + body


def coded(value, body=chunked(b"abc"), name=b"Transfer-Encoding:"):
    return post(name + b" " + value, body=body)


def chunks(body):
    return post(b"Transfer-Encoding: chunked", body=body)


def long_head(name_length, value_length, count=1):
    return get(*[b"%s-%d: %s" % (b"n" * name_length, i, b"v" * value_length) for i in range(count)])


# id: (bytes, acceptable statuses)
REFUSED_HEADS = {
    # two lengths
    "cl-te": (post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"), {400}),
    "te-cl": (post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"1\r\nZ\r\n0\r\n\r\n"), {400}),
    "cl-0-te": (post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=chunked(b"a")), {400}),
    "cl-te-case": (post(b"content-length: 6", b"TRANSFER-ENCODING: chunked", body=b"0\r\n\r\nG"), {400}),
    "cl-twice-same": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), {400}),
    "cl-twice-different": (post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"), {400}),
    "cl-list-same": (post(b"Content-Length: 3, 3", body=b"abc"), {400}),
    "cl-list-different": (post(b"Content-Length: 3,4", body=b"abcd"), {400}),
    **{f"cl-{name}": (post(b"Content-Length: " + value, body=b"abc"), {400}) for name, value in {
        "plus": b"+3", "minus": b"-3", "minus-zero": b"-0", "empty": b"", "hex": b"0x3", "text": b"three",
        "float": b"3.0", "exponent": b"3e0", "space-inside": b"1 3", "trailing": b"3 x",
        "semicolon": b"3;", "quoted": b'"3"', "underscore": b"1_0", "huge": b"9" * 30,
        "2^64": b"18446744073709551616", "2^64+3": b"18446744073709551619",
        "full-width": "３".encode(), "nul": b"3\x00", "vertical-tab": b"\x0b3", "comma": b",3"}.items()},
    # codings
    **{f"te-{name}": (coded(value), {400, 501}) for name, value in {
        "xchunked": b"xchunked", "chunkedx": b"chunkedx", "identity": b"identity", "gzip": b"gzip",
        "gzip-chunked": b"gzip, chunked", "chunked-gzip": b"chunked, gzip",
        "chunked-identity": b"chunked, identity", "identity-chunked": b"identity, chunked",
        "twice-in-list": b"chunked, chunked", "parameter": b"chunked;q=1", "quoted": b'"chunked"',
        "empty": b"", "comma": b",chunked", "trailing-comma": b"chunked,", "vertical-tab": b"\x0bchunked",
        "form-feed": b"chunked\x0c", "nul": b"chunked\x00", "no-break-space": b"\xa0chunked",
        "kelvin-sign": "chun\u212aed".encode()}.items()},
    "te-twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=chunked(b"a")), {400, 501}),
    "te-then-identity": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
                              body=chunked(b"a")), {400, 501}),
    "te-http10": (get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + chunked(b"abc"),
                  {400, 426, 501}),
    # names
    "te-space-colon": (coded(b"chunked", name=b"Transfer-Encoding :"), {400}),
    "te-tab-colon": (coded(b"chunked", name=b"Transfer-Encoding\t:"), {400}),
    "te-leading-space": (coded(b"chunked", name=b" Transfer-Encoding:"), {400}),
    "te-leading-tab": (coded(b"chunked", name=b"\tTransfer-Encoding:"), {400}),
    "te-nul-in-name": (coded(b"chunked", name=b"Transfer\x00-Encoding:"), {400}),
    "te-cr-in-name": (coded(b"chunked", name=b"Transfer\r-Encoding:"), {400}),
    "cl-space-colon": (post(b"Content-Length : 3", body=b"abc"), {400}),
    "first-field-space": (b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", {400}),
    "name-empty": (get(b": value"), {400}),
    "name-space-inside": (get(b"X y: value"), {400}),
    "name-no-colon": (get(b"novalue"), {400}),
    **{f"name-{code:02x}": (get(b"x" + bytes([code]) + b"y: 1"), {400})
       for code in (0x01, 0x0b, 0x22, 0x28, 0x2f, 0x3b, 0x40, 0x5b, 0x7b, 0x7f, 0x80, 0xff)},
    # values
    **{f"value-{code:02x}": (get(b"x: a" + bytes([code]) + b"b"), {400})
       for code in (0x00, 0x01, 0x08, 0x0b, 0x0c, 0x0d, 0x1b, 0x1f, 0x7f)},
    "obs-fold-space": (get(b"x: a", b" b"), {400}),
    "obs-fold-tab": (get(b"x: a", b"\tb"), {400}),
    "obs-fold-te": (post(b"Transfer-Encoding:", b" chunked", body=chunked(b"abc")), {400, 501}),
    # line ends
    "bare-lf": (get(b"x: 1", end=b"\n"), {400}),
    "bare-lf-in-fields": (b"GET / HTTP/1.1\r\nHost: a.test\nx: 1\r\n\r\n", {400}),
    "bare-lf-line": (b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", {400}),
    "bare-lf-end": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\n", {400}),
    "bare-lf-hides-te": (b"POST / HTTP/1.1\r\nHost: a.test\r\nx: y\nTransfer-Encoding: chunked\r\n"
                         b"Content-Length: 5\r\n\r\n0\r\n\r\n", {400}),
    "bare-cr-in-fields": (b"GET / HTTP/1.1\r\nHost: a.test\rx: 1\r\n\r\n", {400}),
    "cr-cr-lf": (b"GET / HTTP/1.1\r\nHost: a.test\r\r\n\r\n", {400}),
    "cr-before-end": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\r\n\r\n", {400}),
    # request line
    "no-version": (b"GET /\r\nHost: a.test\r\n\r\n", {400}),
    "http09": (b"GET /\r\n\r\n", {400}),
    **{f"version-{version.decode()}": (get(line=b"GET / " + version), {400, 426, 505})
       for version in (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/1.10", b"HTTP/01.1",
                       b"HTTP/1", b"HTTP/11", b"http/1.1", b"HTTPS/1.1", b"HTTP/1.1x", b"HTTP /1.1")},
    "line-two-spaces": (get(line=b"GET  / HTTP/1.1"), {400}),
    "line-two-spaces-2": (get(line=b"GET /  HTTP/1.1"), {400}),
    "line-tab": (get(line=b"GET\t/ HTTP/1.1"), {400}),
    "line-leading-space": (get(line=b" GET / HTTP/1.1"), {400}),
    "line-trailing-space": (get(line=b"GET / HTTP/1.1 "), {400}),
    "line-space-in-target": (get(line=b"GET /a b HTTP/1.1"), {400}),
    "line-nul": (get(line=b"GET /\x00 HTTP/1.1"), {400}),
    "line-cr": (get(line=b"GET /a\rb HTTP/1.1"), {400}),
    "line-vertical-tab": (get(line=b"GET /\x0bHTTP/1.1"), {400}),
    "method-empty": (get(line=b" / HTTP/1.1"), {400}),
    "method-separator": (get(line=b"GE(T / HTTP/1.1"), {400}),
    "method-control": (get(line=b"GE\x01T / HTTP/1.1"), {400}),
    "empty-lines-three": (b"\r\n" * 3 + get(), {400}),
    "bare-lf-before": (b"\n" + get(), {400}),
    "tls-hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 64 + b"\r\n\r\n", {400}),
    # target and host
    "host-twice": (get(b"Host: b.test"), {400}),
    "host-twice-same": (get(b"Host: a.test"), {400}),
    "host-missing": (get(host=None), {400}),
    "target-star": (get(line=b"OPTIONS * HTTP/1.1"), {400}),
    "target-relative": (get(line=b"GET a HTTP/1.1"), {400}),
    "target-authority": (get(line=b"GET a.test:80 HTTP/1.1"), {400}),
    "target-empty-host": (get(line=b"GET http:///x HTTP/1.1"), {400}),
    "target-https": (get(line=b"GET https://a.test/ HTTP/1.1"), {403, 400}),
    "target-other-scheme": (get(line=b"GET ftp://a.test/ HTTP/1.1"), {400, 403}),
    "target-raw-utf8": (get(line="GET /é HTTP/1.1".encode()), {400}),
    "connect": (get(line=b"CONNECT a.test:80 HTTP/1.1"), {404, 405, 400, 501}),
    # size
    "fields-101": (get(*[b"x-%d: 1" % i for i in range(100)]), {431}),
    "fields-1000": (get(*[b"x: 1"] * 1000), {431}),
    "value-61-KiB": (long_head(1, 61 * 1024), {431}),
    "fields-sum-61-KiB": (long_head(1, 1000, 60), {431}),
    "name-70-KiB": (long_head(70 * 1024, 1), {431, 400}),
    "target-70-KiB": (get(line=b"GET /" + b"a" * 70 * 1024 + b" HTTP/1.1"), {431, 414}),
}

# The head is good, the body is not: the upstream may have seen the head, but never a complete request.
REFUSED_BODIES = {
    **{f"size-{name}": chunks(body) for name, body in {
        "0x": b"0x3\r\nabc\r\n0\r\n\r\n", "plus": b"+3\r\nabc\r\n0\r\n\r\n",
        "minus": b"-3\r\nabc\r\n0\r\n\r\n", "empty": b"\r\nabc\r\n0\r\n\r\n",
        "text": b"three\r\nabc\r\n0\r\n\r\n", "leading-space": b" 3\r\nabc\r\n0\r\n\r\n",
        "leading-tab": b"\t3\r\nabc\r\n0\r\n\r\n", "extension-only": b";a=b\r\nabc\r\n0\r\n\r\n",
        "underscore": b"0_3\r\nabc\r\n0\r\n\r\n", "overflow": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        "overflow-wide": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
        "many-zeros": b"0" * 30 + b"3\r\nabc\r\n0\r\n\r\n", "g": b"g\r\nabc\r\n0\r\n\r\n",
        "comma": b"3,3\r\nabc\r\n0\r\n\r\n", "nul": b"3\x00\r\nabc\r\n0\r\n\r\n",
        "lf": b"3\nabc\r\n0\r\n\r\n", "cr": b"3\rabc\r\n0\r\n\r\n", "cr-cr-lf": b"3\r\r\nabc\r\n0\r\n\r\n",
        "space-digit": b"3 3\r\nabc\r\n0\r\n\r\n"}.items()},
    "data-no-crlf": chunks(b"3\r\nabc0\r\n\r\n"),
    "data-lf": chunks(b"3\r\nabc\n0\r\n\r\n"),
    "data-cr": chunks(b"3\r\nabc\r0\r\n\r\n"),
    "data-longer": chunks(b"3\r\nabcd\r\n0\r\n\r\n"),
    "data-shorter": chunks(b"4\r\nabc\r\n0\r\n\r\n"),
    "data-crlf-crlf": chunks(b"3\r\nabc\r\n\r\n0\r\n\r\n"),
    "extension-lf": chunks(b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "extension-cr": chunks(b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "extension-nul": chunks(b"3;a\x00\r\nabc\r\n0\r\n\r\n"),
    "extension-hides-size": chunks(b"2;\n1\r\nab\r\n0\r\n\r\n"),
    "extension-65": chunks(b"3;" + b"x" * 65 + b"\r\nabc\r\n0\r\n\r\n"),
    "extension-empty": chunks(b"3;\r\nabc\r\n0\r\n\r\n"),
    "extension-space-end": chunks(b"3;a \r\nabc\r\n0\r\n\r\n"),
    "extension-open-quote": chunks(b'3;a="\r\nabc\r\n0\r\n\r\n'),
    "extension-two-words": chunks(b"3;a b\r\nabc\r\n0\r\n\r\n"),
    "size-space-end": chunks(b"3 \r\nabc\r\n0\r\n\r\n"),
    "extension-long": chunks(b"3;" + b"x" * 70000 + b"\r\nabc\r\n0\r\n\r\n"),
    "end-lf": chunks(b"3\r\nabc\r\n0\n\n"),
    "end-lf-2": chunks(b"3\r\nabc\r\n0\r\n\n"),
    "trailer-space-colon": chunks(b"0\r\nx : 1\r\n\r\n"),
    "trailer-lf": chunks(b"0\r\nx: 1\n\r\n"),
    "trailer-fold": chunks(b"0\r\nx: 1\r\n y\r\n\r\n"),
    "trailer-nul": chunks(b"0\r\nx: \x00\r\n\r\n"),
    "trailer-request-line": chunks(b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    "trailers-many": chunks(b"0\r\n" + b"x: 1\r\n" * 200 + b"\r\n"),
    "trailers-large": chunks(b"0\r\nx: " + b"y" * 70000 + b"\r\n\r\n"),
}

# id: (bytes, what the upstream has to see: target, Host, body)
NORMALISED = {
    "te-case": (coded(b"CHUNKED"), ("/", "a.test", b"abc")),
    "te-tabs-around": (coded(b"\t chunked \t"), ("/", "a.test", b"abc")),
    "te-no-space": (coded(b"chunked", name=b"Transfer-Encoding:"), ("/", "a.test", b"abc")),
    "cl-spaces-around": (post(b"Content-Length: \t3 \t", body=b"abc"), ("/", "a.test", b"abc")),
    "cl-leading-zeros": (post(b"Content-Length: 003", body=b"abc"), ("/", "a.test", b"abc")),
    "get-with-body": (get(b"Content-Length: 3") + b"abc", ("/", "a.test", b"abc")),
    "cl-underscore": (get(b"Content_Length: 50"), ("/", "a.test", b"")),
    "te-underscore": (get(b"Transfer_Encoding: chunked"), ("/", "a.test", b"")),
    "chunk-upper-case": (chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), ("/", "a.test", b"0123456789")),
    "chunk-leading-zeros": (chunks(b"0003\r\nabc\r\n000\r\n\r\n"), ("/", "a.test", b"abc")),
    "chunk-extension": (chunks(b"3;a=b\r\nabc\r\n0;x\r\n\r\n"), ("/", "a.test", b"abc")),
    "chunk-extension-quoted": (chunks(b'3 ; a="b;c"\r\nabc\r\n0\r\n\r\n'), ("/", "a.test", b"abc")),
    "chunk-looks-like-end": (chunks(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), ("/", "a.test", b"0\r\n\r\n")),
    "empty-line-first": (b"\r\n" + get(), ("/", "a.test", b"")),
    "absolute-form": (get(line=b"GET http://b.test/x?y HTTP/1.1"), ("/x?y", "b.test", b"")),
    "absolute-form-port": (get(line=b"GET http://b.test:8080 HTTP/1.1"), ("/", "b.test:8080", b"")),
    "absolute-form-case": (get(line=b"GET HTTP://b.test/x HTTP/1.1"), ("/x", "b.test", b"")),
    "fields-100": (get(*[b"x-%d: 1" % i for i in range(99)]), ("/", "a.test", b"")),
    "value-50-KiB": (long_head(1, 50 * 1024), ("/", "a.test", b"")),
    "obs-text": (get(b"x: \xff\xfe"), ("/", "a.test", b"")),
    "tab-in-value": (get(b"x: a\tb"), ("/", "a.test", b"")),
    "host-tab": (get(host=b"Host:\ta.test\t"), ("/", "a.test", b"")),
    "absolute-form-http10": (get(b"Connection: keep-alive", line=b"GET http://b.test/x HTTP/1.0", host=None), ("/x", "b.test", b"")),
    "absolute-form-query": (get(line=b"GET http://b.test?q HTTP/1.1"), ("/?q", "b.test", b"")),
    "chunk-extension-blanks": (chunks(b"3 ; a = b\t;c\r\nabc\r\n0\r\n\r\n"), ("/", "a.test", b"abc")),
    "method-unknown": (get(line=b"PROPFIND / HTTP/1.1"), ("/", "a.test", b"")),
}


def exchange(port, data):
    """Sends everything, reads everything: the responses and whether the end was clean."""
    with Client(port) as client:
        try:
            client.send(data)
        except OSError:
            pass  # refused before all of it was sent
        return client.responses()


def fence(proxy):
    """The one worker has done, when it answers this, whatever it was going to do before."""
    assert proxy.fetch("/fence").json()["target"] == "/fence"


def one_request(proxy):
    """The only request the upstream saw besides the fence, and byte for byte nothing else."""
    meant = [r for r in proxy.upstream.requests if r.target != "/fence"]
    assert len(meant) == 1
    assert not proxy.upstream.truncated and not proxy.upstream.faults
    for connection in proxy.upstream.connections:
        assert connection.pending() == b""
    return meant[0]


@pytest.mark.parametrize("name", REFUSED_HEADS)
def test_refused_head(proxy, name):
    data, statuses = REFUSED_HEADS[name]
    responses = exchange(proxy.port, data + SMUGGLED)
    fence(proxy)
    assert len(responses) == 1 and responses[0].status in statuses, responses
    assert responses[0].header("connection") == "close"
    assert [r.target for r in proxy.upstream.requests] == ["/fence"]
    assert proxy.upstream.received.count(b"HTTP/1.") == 1  # the fence's


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_refused_body(proxy, name):
    responses = exchange(proxy.port, REFUSED_BODIES[name] + SMUGGLED)
    fence(proxy)
    assert len(responses) == 1 and responses[0].status in (400, 431), responses
    assert responses[0].header("connection") == "close"
    assert [r.target for r in proxy.upstream.requests] == ["/fence"]
    assert b"smuggled" not in proxy.upstream.received


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised(proxy, name):
    data, expected = NORMALISED[name]
    responses = exchange(proxy.port, data + get(b"Connection: close", line=b"GET /next HTTP/1.1"))
    assert [r.status for r in responses] == [200, 200]
    first, second = proxy.upstream.requests
    assert (first.target, first.header("host"), first.body) == expected
    assert second.target == "/next"
    assert not proxy.upstream.truncated and not proxy.upstream.faults


@pytest.mark.parametrize("method", [b"get", b"Get", b"M-SEARCH", b"X", b"A" * 200])
def test_any_method_is_passed_on_as_it_is_or_refused(proxy, method):
    responses = exchange(proxy.port, get(b"Connection: close", line=method + b" / HTTP/1.1"))
    assert len(responses) == 1 and responses[0].status in (200, 400, 501)
    if responses[0].status == 200:
        assert one_request(proxy).method == method.decode()


@pytest.mark.parametrize("host", [b"", b" ", b"A.TEST", b"a.test:80", b"a.test:", b"a_b.test", b"a.test.", b"xn--bcher-kva.test",
                                  b"127.0.0.1:8080", b"[::1]", b"[2001:db8::1]:443", b"[::ffff:127.0.0.1]:65535"])
def test_host_is_passed_on_unchanged_or_unknown(proxy, host):
    """Whatever it is taken for, there is one Host and it is the one that was routed by."""
    responses = exchange(proxy.port, get(b"Connection: close", host=b"Host: " + host))
    assert len(responses) == 1 and responses[0].status in ((200,) if host.strip() else (200, 400, 404))
    if responses[0].status == 200:
        assert one_request(proxy).header("host") == host.strip().decode()
    else:
        assert not proxy.upstream.requests


BAD_HOSTS = [b"a.test, b.test", b"a.test,b.test", b"a.test b.test", b"a.test/", b"a@b.test", b"user:word@b.test", b"@b.test",
             b"a.test\\b", b"a.test?x", b"a.test#x", b"a.test:abc", b"a.test:80:80", b"a.test:65536", b"a.test:-1", b"a.test:000080",
             b":80", b"[::1", b"::1", b"[::1]x", b"[a.test]", b"[]", b"[fe80::1%25eth0]", b"http://a.test", b"a%2etest", b"a.test;x",
             b'"a.test"', b"<a.test>", b"a*test", b"\xc3\xa9.test", b"a.test\tb"]


@pytest.mark.parametrize("data", [
    *[get(host=b"Host: " + host) for host in BAD_HOSTS],
    *[get(line=b"GET http://" + host + b"/x HTTP/1.1") for host in BAD_HOSTS if not {*b"/?"} & {*host}]])
def test_bad_host_is_refused(proxy, data):
    """In Host, and as the authority of an absolute target, which takes its place (RFC 9112 section 3.2.2)."""
    responses = exchange(proxy.port, data + SMUGGLED)
    fence(proxy)
    assert [r.status for r in responses] == [400]
    assert [r.target for r in proxy.upstream.requests] == ["/fence"]


def test_framing_is_written_anew(proxy):
    """Not one byte of the client's chunk framing is what the upstream gets."""
    data = chunks(b"0001;zebra=1\r\nx\r\n00A;q\r\n0123456789\r\n000;lynx\r\n\r\n")
    responses = exchange(proxy.port, data + get(b"Connection: close"))
    assert [r.status for r in responses] == [200, 200]
    assert b"zebra" not in proxy.upstream.received and b"lynx" not in proxy.upstream.received
    assert proxy.upstream.requests[0].body == b"x0123456789"


def test_forbidden_trailers_do_not_become_fields(proxy):
    data = chunks(b"1\r\na\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n"
                  b"X-Forwarded-For: 9.9.9.9\r\nConnection: keep-alive\r\n\r\n")
    responses = exchange(proxy.port, data + get(b"Connection: close"))
    if responses[0].status == 200:
        first = proxy.upstream.requests[0]
        names = {n for n, _ in first.trailers}
        assert not names & {"content-length", "transfer-encoding", "host", "connection", "x-forwarded-for"}
        assert first.header("x-forwarded-for") == "127.0.0.1"
        assert len(proxy.upstream.requests) == 2
    else:
        assert responses[0].status == 400 and len(responses) == 1


def test_refusals_are_counted(proxy):
    before = [proxy.gateway.metric(f"downstream_rq_{n}") for n in ("malformed", "head_too_large")]
    exchange(proxy.port, REFUSED_HEADS["cl-te"][0])
    exchange(proxy.port, REFUSED_HEADS["fields-101"][0])
    after = [proxy.gateway.metric(f"downstream_rq_{n}") for n in ("malformed", "head_too_large")]
    assert [b - a for a, b in zip(before, after)] == [1, 1]


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_cut_off_requests_reach_nobody(proxy, cut):
    data = post(b"Content-Length: 20", body=b"")
    with proxy.client() as client:
        client.send(data[:cut] if cut < len(data) else data)
    proxy.gateway.wait_metric("downstream_cx_active", 0)
    fence(proxy)
    assert [r.target for r in proxy.upstream.requests] == ["/fence"]


def test_another_protocol_is_refused_without_waiting(proxy):
    """There is no blank line in a TLS hello: the first byte is enough."""
    for hello in (b"\x16\x03\x01\x02\x00", b"\x05\x01\x00", b"\x00\x0a"):
        with proxy.client() as client:
            client.send(hello)
            assert client.response().status == 400
            client.expect_close()
    assert not proxy.upstream.connections


def test_empty_line_between_requests(proxy):
    """As some clients send one behind a body; in two packets or in one."""
    with proxy.client() as client:
        for pieces in ((b"\r\n",), (b"\r", b"\n"), (b"\r\nGET /",), (b"\r", b"\nGET /")):
            for piece in pieces:
                client.send(piece)
                proxy.gateway.metrics()  # a round trip: it has been read
            client.send(SMUGGLED[5:] if pieces[-1].endswith(b"/") else SMUGGLED)
            assert client.response().json()["target"] == "/smuggled"


def test_chunk_extension_flood(proxy):
    """Within the bounds it is only work, and nothing of it is passed on."""
    body = b"".join(b"1;%s\r\nx\r\n" % (b"e" * 63) for _ in range(5000)) + b"0\r\n\r\n"
    assert [r.status for r in exchange(proxy.port, chunks(body) + get(b"Connection: close"))] == [200, 200]
    assert proxy.upstream.requests[0].body == b"x" * 5000
    assert b"eee" not in proxy.upstream.received


@pytest.mark.parametrize("target", [b"/a;x=/../b", b"/a/..;/b", b"/a/.;/b", b"/a/%2e%2e/b", b"/a/%2E./b", b"//a//b", b"/a%2Fb", b"/a\\..\\b",
                                    b"/a/%5c../b", b"/%2e%2e%2f%2e%2e", b"/a/..", b"/a/../../b", b"/a#/../b", b"/a?/../b", b"/./a/."])
def test_one_path_is_routed_by_and_forwarded(proxy, target):
    """No dot segment is left for the upstream to resolve into another path than the one that was routed by."""
    assert exchange(proxy.port, get(b"Connection: close", line=b"GET " + target + b" HTTP/1.1"))[0].status == 200
    path = one_request(proxy).target.partition("?")[0]
    assert path.startswith("/") and "\\" not in path and "#" not in path
    assert not {".", ".."} & set(path.split("/"))
    assert proxy.fetch(path).json()["target"] == path  # a second pass changes nothing


# ---- fields

def test_connection_options_take_no_field_that_matters(proxy):
    """The request's framing and where it came from are not the client's to hide."""
    names = ["host", "content-length", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
             "x-envoy-external-address"]
    for option in (*names, ", ".join(names), "close, " + " ,".join(names).upper()):
        proxy.upstream.reset()
        responses = exchange(proxy.port, post(
            b"Connection: " + option.encode(), b"Content-Length: 3", b"X-Forwarded-For: 192.0.2.1",
            b"X-Forwarded-Host: before.test", body=b"abc") + get(b"Connection: close"))
        assert {r.status for r in responses} == {200}
        sent = proxy.upstream.requests[0]
        assert (sent.body, sent.header("host")) == (b"abc", "a.test")
        assert sent.header("x-forwarded-for").replace(" ", "") == "192.0.2.1,127.0.0.1"
        assert sent.header("x-forwarded-host") == "before.test"
        assert sent.header("x-forwarded-proto") == "http" and len(sent.header("x-request-id")) == 36
        assert sent.header("x-envoy-external-address") == "127.0.0.1"


def test_many_connection_fields_all_count(proxy):
    fields = [(b"Connection: x-hop-%d" % i, b"X-Hop-%d: secret" % i) for i in range(40)]
    responses = exchange(proxy.port, get(*itertools.chain(*fields), b"Connection: close"))
    assert [r.status for r in responses] == [200]
    assert b"secret" not in proxy.upstream.received and b"x-hop" not in proxy.upstream.received


def test_thousands_of_connection_options_cost_little(proxy):
    options = b"a," * 28000 + b" X-Hop"
    fields = [b"X-%d: kept" % i for i in range(85)]
    fields += [b"X-Hop: secret"]

    def spent(name):
        before = proxy.gateway.cpu_seconds()
        with proxy.gateway.client() as client:
            for _ in range(100):
                client.send(get(name + b": " + options, *fields))
                assert client.response().status == 200
        return proxy.gateway.cpu_seconds() - before

    as_connection = spent(b"Connection")
    assert b"secret" not in proxy.upstream.received and b"x-84: kept" in proxy.upstream.received
    assert as_connection < 4 * spent(b"X-Other") + 0.4  # 1.6 s where each is compared with each field


@pytest.mark.parametrize("name", ["X_Forwarded_For", "x-forwarded_proto", "X_Forwarded_Client_Cert", "x_request_id", "x_envoy_retry_on",
                                  "X_Envoy_Upstream_Rq_Timeout_Ms", "Content_Length", "Transfer_Encoding", "content_Length"])
def test_underscores_imitate_nothing(proxy, name):
    """HTTP_X_FORWARDED_FOR is what X_Forwarded_For becomes in a CGI variable; other underscores are left alone."""
    responses = exchange(proxy.port, get(name.encode() + b": 77", b"user_id: 5", b"Connection: close"))
    assert [r.status for r in responses] == [200]
    sent = one_request(proxy)
    assert not any("_" in n for n, _ in sent.headers if n != "user_id") and sent.header("user_id") == "5"
    assert b"77" not in [v.encode() for _, v in sent.headers]


def test_framing_is_the_messages_own(serve, upstream):
    """Whatever a document does to the fields that frame a message."""
    gone = {"remove": ["content-length", "transfer-encoding", "connection", "upgrade", "keep-alive"]}
    gateway = serve(d.gateway(), d.virtual_service(d.rule(headers={"request": gone, "response": gone})), *d.backend(upstream.port))
    with Client(gateway.port) as client:
        for data in (post(b"Content-Length: 3", body=b"abc"), chunks(chunked(b"abc"))):
            client.send(data)
            response = client.response()
            assert response.json()["body"] == "abc" and response.header("content-length") == str(len(response.body))
    by_length, by_chunks = upstream.requests
    assert by_length.header("content-length") == "3" and by_chunks.header("transfer-encoding") == "chunked"
    assert by_length.connection == by_chunks.connection


@pytest.mark.parametrize("who", ["document", "client"])
def test_expect_that_was_taken_away(serve, upstream, who):
    """A final response without the body having come: what comes next may be either, so nothing does."""
    upstream.stream_bodies = True
    upstream.handler = lambda c, r: c.send(reply(b"no", status="417 Expectation Failed"))
    rule = d.rule(headers={"request": {"remove": ["expect"]}}) if who == "document" else d.rule()
    gateway = serve(d.gateway(), d.virtual_service(rule), *d.backend(upstream.port))
    with Client(gateway.port) as client:
        client.send(post(b"Expect: 100-continue", b"Connection: expect", b"Content-Length: %d" % len(SMUGGLED)))
        response = client.response()
        assert (response.status, response.header("connection")) == (417, "close")
        client.expect_close()
    assert upstream.requests[0].header("expect") is None


def test_two_hosts_one_request(serve, upstream):
    """A target's authority is what is routed by, whatever Host says (RFC 9112 section 3.2.2)."""
    gateway = serve(d.gateway(), d.virtual_service(d.rule(headers={"request": {"set": {"x-host": "b"}}}), name="b", hosts=["b.test"]),
                    d.virtual_service(d.rule(), name="a", hosts=["a.test"]), *d.backend(upstream.port))
    with Client(gateway.port) as client:
        client.send(get(line=b"GET http://b.test/ HTTP/1.1"))
        assert client.response().status == 200
        client.send(get(line=b"GET http://c.test/ HTTP/1.1"))
        assert client.response().status == 404
    sent, = upstream.requests
    assert (sent.header("x-host"), sent.header("host")) == ("b", "b.test")
    assert sent.target == "/" and b"a.test" not in upstream.received


# ---- upgrades

def upgrade(value, *fields, connection=b"Upgrade", line=b"GET / HTTP/1.1"):
    return get(b"Connection: " + connection, b"Upgrade: " + value, *fields, line=line)


H2C = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
NOT_PASSED_ON = {
    "h2c": upgrade(b"h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", connection=b"Upgrade, HTTP2-Settings"),
    "h2c-unnamed-settings": upgrade(b"h2c", b"HTTP2-Settings: AAMAAABk"),
    "h2c-case": upgrade(b"H2C", connection=b"uPGRADE"),
    "h2c-with-websocket": upgrade(b"websocket, h2c"), "websocket-with-h2c": upgrade(b"h2c, websocket"),
    "two-fields": upgrade(b"h2c", b"Upgrade: websocket"), "tls": upgrade(b"TLS/1.2"), "http2": upgrade(b"HTTP/2.0"),
    "versioned": upgrade(b"websocket/13"), "empty": upgrade(b""), "connect-ip": upgrade(b"connect-ip"),
    "http10": upgrade(b"websocket", line=b"GET / HTTP/1.0", connection=b"keep-alive, upgrade"),
    "post": upgrade(b"websocket", b"Content-Length: 0", line=b"POST / HTTP/1.1"),
    "head": upgrade(b"websocket", line=b"OPTIONS / HTTP/1.1"),
    "unnamed": get(b"Upgrade: websocket"), "connection-elsewhere": get(b"Upgrade: websocket", b"Connection: keep-alive"),
    "with-body": upgrade(b"websocket", b"Content-Length: 3") + b"abc",
    "with-chunks": upgrade(b"websocket", b"Transfer-Encoding: chunked") + chunked(b"abc"),
}


@pytest.mark.parametrize("name", NOT_PASSED_ON)
def test_upgrade_that_is_answered_as_http1(proxy, name):
    """Only WebSocket's is passed on. What follows is the next request, and an h2c preface is none."""
    responses = exchange(proxy.port, NOT_PASSED_ON[name] + H2C)
    fence(proxy)
    assert [r.status for r in responses] in ([200, 400], [200, 505])
    first, last = proxy.upstream.requests
    assert last.target == "/fence"
    assert not {"upgrade", "http2-settings"} & {n for n, _ in first.headers}
    assert first.header("connection") in (None, "keep-alive")
    assert b"PRI" not in proxy.upstream.received and b"\x00\x00" not in proxy.upstream.received


@pytest.mark.parametrize("name", ["h2c", "tls", "two-fields", "post"])
def test_switch_that_was_not_passed_on(proxy, name):
    """The upstream switches although nobody asked it: no tunnel."""
    proxy.upstream.handler = lambda c, r: c.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nraw bytes")
    responses = exchange(proxy.port, NOT_PASSED_ON[name] + H2C)
    assert [r.status for r in responses] in ([502, 400], [502, 505])
    assert b"PRI" not in proxy.upstream.received


@pytest.mark.parametrize("answer", [b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n",
                                    b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"])
def test_switch_to_something_else(proxy, answer):
    proxy.upstream.handler = lambda c, r: c.send(b"HTTP/1.1 101 Switching Protocols\r\n" + answer + b"\r\nraw")
    with proxy.client() as client:
        client.send(upgrade(b"websocket") + b"early")
        response = client.response()
        assert response.status == 502 and b"raw" not in response.body
    assert b"early" not in proxy.upstream.received


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "403 Forbidden", "426 Upgrade Required", "503 Service Unavailable"])
def test_upgrade_that_is_not_accepted(proxy, status):
    """What the client sent on is its next request, and goes by another connection than the one that might
    have become a tunnel."""
    bodyless = status.startswith("204")
    proxy.upstream.handler = lambda c, r: c.send(reply(b"" if bodyless else r.target.encode(), status=status, length=not bodyless))
    responses = exchange(proxy.port, upgrade(b"websocket") + get(b"Connection: close", line=b"GET /next HTTP/1.1"))
    assert [r.status for r in responses] == [int(status[:3])] * 2
    first, second = proxy.upstream.requests
    assert (first.target, second.target) == ("/", "/next") and first.connection != second.connection
    assert proxy.upstream.connections[0].pending() == b""


# ---- the upstream's answers

OK = b"HTTP/1.1 200 OK\r\n"
MALFORMED_RESPONSES = {
    "cl-te": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    "cl-twice": OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "cl-different": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "cl-list": OK + b"Content-Length: 3, 3\r\n\r\nabc",
    "cl-minus": OK + b"Content-Length: -3\r\n\r\nabc",
    "cl-plus": OK + b"Content-Length: +3\r\n\r\nabc",
    "cl-empty": OK + b"Content-Length:\r\n\r\nabc",
    "cl-huge": OK + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "te-gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "te-twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"a"),
    "te-space-colon": OK + b"Transfer-Encoding : chunked\r\n\r\n" + chunked(b"a"),
    "te-http10": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"a"),
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "bare-cr": OK + b"x: a\rb\r\nContent-Length: 3\r\n\r\nabc",
    "nul": OK + b"x: a\x00b\r\nContent-Length: 3\r\n\r\nabc",
    "name": OK + b"x y: 1\r\nContent-Length: 3\r\n\r\nabc",
    "fold": OK + b"x: 1\r\n 2\r\nContent-Length: 3\r\n\r\nabc",
    "no-colon": OK + b"garbage\r\nContent-Length: 3\r\n\r\nabc",
    "version": b"HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "no-version": b"200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "status-2-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 3\r\n\r\nabc",
    "status-4-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc",
    "status-text": b"HTTP/1.1 abc OK\r\nContent-Length: 3\r\n\r\nabc",
    "status-0": b"HTTP/1.1 000 OK\r\nContent-Length: 3\r\n\r\nabc",
    "status-double-space": b"HTTP/1.1  200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "reason-control": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 3\r\n\r\nabc",
    "not-http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "binary": bytes(range(1, 256)) + b"\r\n\r\n",
    "fields-101": OK + b"x: 1\r\n" * 101 + b"Content-Length: 3\r\n\r\nabc",
    "head-70-KiB": OK + b"x: " + b"y" * 70000 + b"\r\nContent-Length: 3\r\n\r\nabc",
    "switch-unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED_RESPONSES)
def test_malformed_response(proxy, name):
    proxy.upstream.handler = lambda c, r: c.send(MALFORMED_RESPONSES[name])
    with proxy.client() as client:
        response = client.roundtrip("/")
        assert response.status == 502, response
        assert response.body == (b"upstream connect error or disconnect/reset before headers. "
                                 b"reset reason: protocol error")
        proxy.upstream.handler = lambda c, r: c.send(reply(b"next"))
        assert client.roundtrip("/").body == b"next"
    first, second = proxy.upstream.requests
    assert first.connection != second.connection
    assert proxy.upstream.connections[0].ended.wait(5)


MALFORMED_CHUNKS = {
    "size": b"zz\r\nabc\r\n0\r\n\r\n", "size-lf": b"3\nabc\r\n0\r\n\r\n", "overflow": b"f" * 17 + b"\r\nabc",
    "no-crlf": b"3\r\nabcX", "0x": b"0x3\r\nabc\r\n0\r\n\r\n", "minus": b"-1\r\n\r\n0\r\n\r\n",
    "trailer": b"0\r\nx y: 1\r\n\r\n"}


@pytest.mark.parametrize("name", MALFORMED_CHUNKS)
def test_malformed_chunks_of_a_response(proxy, name):
    """The head is with the client already: the response is cut off, never completed."""
    proxy.upstream.handler = lambda c, r: c.send(
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"good")[:-5] + MALFORMED_CHUNKS[name])
    with proxy.client() as client:
        client.send(request("/"))
        try:
            response = client.response()
        except Closed as cut:
            assert b"0\r\n\r\n" not in cut.received
        else:
            assert response.status == 502
    proxy.upstream.handler = lambda c, r: c.send(reply(b"next"))
    assert proxy.fetch().body == b"next"
    first, second = proxy.upstream.requests
    assert first.connection != second.connection


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.mark.parametrize("good, method", [
    (reply(b"first"), "GET"), (OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"first"), "GET"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"), (b"HTTP/1.1 304 Not Modified\r\n\r\n", "GET"),
    (reply(b"first"), "HEAD"), (OK + b"Content-Length: 0\r\n\r\n", "GET"),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nfirst", "GET"),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nfirst", "GET")],
    ids=["length", "chunked", "204", "304", "head-with-body", "empty", "204-with-body", "304-with-body"])
def test_extra_bytes_are_given_to_nobody(proxy, good, method):
    proxy.upstream.handler = lambda c, r: c.send(good + POISON)
    with proxy.client() as client:
        response = client.roundtrip("/", method=method)
        assert response.status in (200, 204, 304, 502) and b"poison" not in response.body
        proxy.upstream.handler = lambda c, r: c.send(reply(b"next"))
        following = client.roundtrip("/")
        assert following.body == b"next"
    assert proxy.fetch().body == b"next"
    assert proxy.upstream.requests[0].connection not in {
        r.connection for r in proxy.upstream.requests[1:]}


def test_late_extra_bytes_are_given_to_nobody(proxy):
    """Sent while the connection lies in the pool."""
    proxy.upstream.handler = lambda c, r: c.send(reply(b"first"))
    assert proxy.fetch().body == b"first"
    pooled = proxy.upstream.connections[0]
    pooled.send(POISON)
    assert pooled.ended.wait(5)
    proxy.upstream.handler = lambda c, r: c.send(reply(b"next"))
    assert proxy.fetch().body == b"next"


def test_another_protocol_of_an_upstream_is_refused_without_waiting(proxy):
    """A server that speaks first, as MySQL's or SSH's does, and then waits."""
    for greeting in (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x4a\x00\x00\x00\x0a8.0.36", b"220 mail ESMTP\r\n"):
        proxy.upstream.handler = lambda c, r, greeting=greeting: c.send(greeting)
        assert proxy.fetch().status == 502


@pytest.mark.parametrize("count", [100, 101])
def test_interim_responses_are_counted(proxy, count):
    before = proxy.gateway.metric("upstream_rs_malformed")
    proxy.upstream.handler = lambda c, r: c.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * count + reply(b"final"))
    with proxy.client() as client:
        for turn in range(2):  # for each response anew
            client.send(request("/"))
            statuses = [client.response().status for _ in range(101)]
            assert statuses == [103] * 100 + [200 if count == 100 else 502]
    assert proxy.gateway.metric("upstream_rs_malformed") - before == (0 if count == 100 else 2)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_early_response_then_the_end(proxy, end):
    """The upstream answers before it has the body and is gone: its answer or an error, and nothing hangs."""
    proxy.upstream.stream_bodies = True

    def handler(connection, seen):
        connection.send(reply(b"enough", status="413 Payload Too Large"))
        (connection.reset if end == "reset" else connection.close)()

    proxy.upstream.handler = handler
    with proxy.client() as client:
        client.send(request("/", method="POST", headers=[("Content-Length", "100000000")]) + b"x" * 100_000)
        response = client.response()
        assert (response.status, response.body) == (413, b"enough") or response.status == 503
        assert response.header("connection") == "close"
    proxy.upstream.reset()
    assert proxy.fetch().status == 200
    proxy.gateway.wait_idle()


def test_many_interim_responses_are_bounded(proxy):
    """A stream of 1xx heads does not grow the gateway, and ends in an answer or an error."""
    proxy.upstream.handler = lambda c, r: c.send(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2000 + reply(b"final"))
    with proxy.client() as client:
        client.send(request("/"))
        try:
            while (response := client.response()).status < 200:
                assert response.header("link") == "</x>"
            assert response.status in (200, 502)
        except Closed:
            pass
    proxy.gateway.wait_metric("exchanges_active", 0)
