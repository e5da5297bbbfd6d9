"""HTTP/1.x messages for parsers to be compared on: valid ones, malformed ones, and seeded mutations of
both. A corpus is {name: bytes}; names say what is special."""
import random

from lib.http1 import chunked

HOST = b"Host: a.test"


def lines(*parts, end=b"\r\n"):
    return end.join(parts) + end + end


def get(*fields, line=b"GET / HTTP/1.1", **kw):
    return lines(line, HOST, *fields, **kw)


def post(*fields, body=b"", line=b"POST /p HTTP/1.1"):
    return lines(line, HOST, *fields) + body


def sized(body, *fields, **kw):
    return post(b"Content-Length: %d" % len(body), *fields, body=body, **kw)


def coded(*pieces, trailers=(), fields=(), **kw):
    return post(b"Transfer-Encoding: chunked", *fields, body=chunked(*pieces, trailers=trailers), **kw)


def raw_chunks(body):
    return post(b"Transfer-Encoding: chunked", body=body)


BROWSER = get(
    b"Connection: keep-alive", b"Cache-Control: max-age=0",
    b'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"', b"sec-ch-ua-mobile: ?0",
    b"Upgrade-Insecure-Requests: 1",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0",
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    b"Accept-Encoding: gzip, deflate, br, zstd", b"Accept-Language: de-DE,de;q=0.9,en;q=0.8",
    b"Cookie: session=0123456789abcdef; theme=dark; csrf=" + b"x" * 64,
    line=b"GET /productpage?u=normal&x=%20y HTTP/1.1")

METHODS = (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"PROPFIND", b"M-SEARCH")
TARGETS = (b"/", b"/a", b"/a/b;c=d?e=f&g=h", b"/%41%zz", b"//x", b"/?", b"/a?b?c", b"/~!$&'()*+,;=:@",
           b"/\\", b"/" + b"a" * 2000, b"http://b.test/x", b"http://b.test", b"/a#b", b'/"<>^`{|}')
VALUES = {
    "empty": b"X:", "blank": b"X: \t ", "no-space": b"X:1", "tab": b"X:\t1\t", "inner-tab": b"X: a\tb",
    "inner-spaces": b"X: a   b", "obs-text": b"X: \xff\x80\xfe", "colon": b"X: a:b::c", "long": b"X: " + b"v" * 5000,
    "16": b"X: " + b"v" * 16, "15-tab": b"X: " + b"v" * 15 + b"\tv", "symbols": b"X: !#$%&'*+-.^_`|~\"(),/:;<=>?@[]{}",
    "name-symbols": b"!#$%&'*+-.^_`|~09azAZ: 1", "name-long": b"N" * 300 + b": 1", "repeated": b"X: 1\r\nX: 2\r\nx: 3",
    "underscore": b"X_y: 1", "one-letter": b"a: b"}
CONNECTIONS = {
    "close": (b"Connection: close",), "keep-alive": (b"Connection: keep-alive",),
    "case": (b"Connection: CLOSE",), "list": (b"Connection: x, close ,y",), "other": (b"Connection: x",),
    "two": (b"Connection: keep-alive", b"Connection: close"), "empty": (b"Connection:",),
    "proxy": (b"Proxy-Connection: keep-alive",)}


def _valid_requests():
    out = {"minimal": get(), "browser": BROWSER, "empty-line-first": b"\r\n" + get()}
    for m in METHODS:
        out[f"method-{m.decode()}"] = get(line=m + b" / HTTP/1.1")
    for i, t in enumerate(TARGETS):
        out[f"target-{i}"] = get(line=b"GET " + t + b" HTTP/1.1")
        out[f"target-{i}-http10"] = get(line=b"GET " + t + b" HTTP/1.0")
    for name, field in VALUES.items():
        out[f"value-{name}"] = get(field)
        out[f"value-{name}-then-body"] = sized(b"abc", field)
    for name, fields in CONNECTIONS.items():
        for version in (b"1.0", b"1.1"):
            out[f"connection-{name}-{version.decode()}"] = get(*fields, line=b"GET / HTTP/" + version) + get()
    for n in (0, 1, 2, 15, 16, 17, 255, 300):
        body = bytes(i * 7 % 256 for i in range(n))
        out[f"length-{n}"] = sized(body) + get()
        if n:
            out[f"chunk-{n}"] = coded(body) + get()
            out[f"chunk-{n}-trailer"] = coded(body, body[:1], trailers=[("X-Sum", n), ("y", "")]) + get()
    out |= {
        "length-zeros": post(b"Content-Length: 0003", body=b"abc"), "length-blank": post(b"Content-Length: \t3 ", body=b"abc"),
        "length-missing-body": post(b"Content-Length: 10", body=b"abc"),
        "get-with-body": get(b"Content-Length: 3") + b"abc",
        "chunked-case": post(b"transfer-encoding: ChunKed", body=chunked(b"abc")),
        "chunks-none": coded(), "chunks-none-trailer": coded(trailers=[("X", "1")]),
        "chunks-many": coded(*[b"%d" % i for i in range(40)]),
        "chunk-upper": raw_chunks(b"A\r\n0123456789\r\n0\r\n\r\n"),
        "chunk-zeros": raw_chunks(b"0003\r\nabc\r\n000\r\n\r\n"),
        "chunk-extension": raw_chunks(b"3;a=b;c\r\nabc\r\n0;d=e\r\n\r\n"),
        "chunk-extension-quoted": raw_chunks(b'3;a="b c"\r\nabc\r\n0\r\n\r\n'),
        "chunk-like-end": coded(b"0\r\n\r\n", b"\r\n"), "chunk-cut": coded(b"abcdef")[:-8],
        "pipelined": get() + sized(b"GET /x HTTP/1.1\r\n\r\n") + coded(b"GET /y HTTP/1.1\r\n") + BROWSER + get(),
        "expect": post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
        "http10-plain": lines(b"GET / HTTP/1.0"), "http10-post": lines(b"POST / HTTP/1.0", b"Content-Length: 3") + b"abc",
        "websocket": get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                         b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") + b"early",
        "h2c": get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        "upgrade-unnamed": get(b"Upgrade: websocket") + get(),
        "fields-99": get(*[b"x-%d: %d" % (i, i) for i in range(99)]),
    }
    for cut in range(1, len(get(b"X: 1")), 3):
        out[f"cut-{cut}"] = get(b"X: 1")[:cut]
    return out


def _malformed_requests():
    out = {}
    for i in (0, *range(1, 9), 0x0b, 0x0c, *range(0x0e, 0x20), 0x7f):
        byte = bytes([i])
        out[f"value-{i:02x}"] = get(b"X: a" + byte + b"b")
        out[f"value-late-{i:02x}"] = get(b"X: " + b"a" * 37 + byte)
        out[f"target-{i:02x}"] = get(line=b"GET /a" + byte + b" HTTP/1.1")
    for i in (*range(0x21), *b'"(),/;<=>?@[\\]{}', 0x7f, 0x80, 0xff):
        if i not in (0x0a,):
            out[f"name-{i:02x}"] = get(b"X" + bytes([i]) + b"y: 1")
            out[f"method-{i:02x}"] = get(line=b"GE" + bytes([i]) + b"T / HTTP/1.1")
    for name, value in {"plus": b"+3", "minus": b"-3", "empty": b"", "hex": b"0x3", "list": b"3, 3", "list-2": b"3,4",
                        "space": b"1 3", "huge": b"9" * 30, "2^64": b"18446744073709551616", "quoted": b'"3"',
                        "letter": b"3a", "dot": b"3.0", "semicolon": b"3;", "vt": b"\x0b3"}.items():
        out[f"length-{name}"] = post(b"Content-Length: " + value, body=b"abc")
    for name, value in {"xchunked": b"xchunked", "identity": b"identity", "after": b"chunked, gzip", "empty": b"",
                        "twice": b"chunked, chunked", "comma": b",chunked", "parameter": b"chunked;q=1",
                        "vt": b"\x0bchunked", "nul": b"chunked\x00", "gzip": b"gzip, chunked"}.items():
        out[f"coding-{name}"] = post(b"Transfer-Encoding: " + value, body=chunked(b"abc"))
    for name, body in {"0x": b"0x3\r\nabc", "plus": b"+3\r\nabc", "minus": b"-3\r\nabc", "empty": b"\r\nabc", "letter": b"g\r\nabc",
                       "space": b" 3\r\nabc", "wide": b"f" * 17 + b"\r\nabc", "overflow": b"10000000000000003\r\nabc",
                       "lf": b"3\nabc", "cr": b"3\rabc", "crcrlf": b"3\r\r\nabc", "extension-lf": b"3;a\nb\r\nabc",
                       "extension-cr": b"3;a\rb\r\nabc", "extension-nul": b"3;\x00\r\nabc", "short": b"4\r\nabc",
                       "long": b"2\r\nabc", "no-crlf": b"3\r\nabc0", "data-lf": b"3\r\nabc\n0"}.items():
        out[f"chunk-{name}"] = raw_chunks(body + b"\r\n0\r\n\r\n")
    for name, rest in {"space-colon": b"x : 1\r\n\r\n", "lf": b"x: 1\n\r\n", "fold": b"x: 1\r\n y\r\n\r\n", "nul": b"x: \x00\r\n\r\n",
                       "no-colon": b"x\r\n\r\n", "end-lf": b"\n", "request": b"GET / HTTP/1.1\r\n\r\n"}.items():
        out[f"trailer-{name}"] = raw_chunks(b"3\r\nabc\r\n0\r\n" + rest)
    for i, line in enumerate((b"GET /", b"GET / HTTP/1.2", b"GET / HTTP/3.0", b"GET / HTTP/1.10", b"GET / http/1.1", b"GET / HTTPS/1.1",
                              b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET\t/ HTTP/1.1",
                              b"GET / HTTP/1,1", b"GET / HTTP/11", b"GET / HTTP/+1.1", b"/ HTTP/1.1", b"GET", b"GET /a b HTTP/1.1",
                              b"GET / HTTP/1.1x", b"", b"GET HTTP/1.1", b"GET / HTTP/1.", b"GET / HTTP 1.1", b"GET /\xe9 HTTP/1.1")):
        out[f"line-{i}"] = get(line=line)
    out |= {
        "cl-te": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=chunked(b"")),
        "te-cl": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=chunked(b"")),
        "length-twice": post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
        "length-twice-apart": post(b"Content-Length: 3", b"X: 1", b"content-length: 4", body=b"abcd"),
        "coding-twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=chunked(b"abc")),
        "coding-http10": post(b"Transfer-Encoding: chunked", body=chunked(b"abc"), line=b"POST / HTTP/1.0"),
        "fold": get(b"X: a", b" b"), "fold-tab": get(b"X: a", b"\tb"), "fold-first": lines(b"GET / HTTP/1.1", b" X: 1", HOST),
        "no-colon": get(b"X"), "no-name": get(b": 1"), "space-colon": get(b"X : 1"), "tab-colon": get(b"X\t: 1"),
        "coding-space-colon": post(b"Transfer-Encoding : chunked", body=chunked(b"abc")),
        "bare-lf": get(b"X: 1", end=b"\n"), "bare-lf-once": lines(b"GET / HTTP/1.1", b"Host: a.test\nX: 1"),
        "bare-lf-end": get()[:-2] + b"\n", "bare-cr": get(b"X: 1\rY: 2"), "cr-cr-lf": get(b"X: 1\r"),
        "bare-lf-line": b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", "host-none": lines(b"GET / HTTP/1.1", b"X: 1"),
        "host-two": get(HOST), "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "tls": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "fields-101": get(*[b"x: 1"] * 100), "fields-60k": get(b"x: " + b"v" * 62000), "two-empty-lines": b"\r\n\r\n" + get(),
        "second-is-bad": get() + get(b"X : 1"), "second-is-bad-after-body": coded(b"abc") + get(line=b"GET"),
    }
    return out


OK = b"HTTP/1.1 200 OK"


def answer(*fields, body=b"", line=OK):
    return lines(line, *fields) + body


def _valid_responses():
    out = {"length": answer(b"Content-Length: 3", body=b"abc"), "length-0": answer(b"Content-Length: 0"),
           "chunked": answer(b"Transfer-Encoding: chunked", body=chunked(b"abc", b"d" * 300)),
           "trailers": answer(b"Transfer-Encoding: chunked", body=chunked(b"abc", trailers=[("X", "1"), ("Y", "")])),
           "until-close": answer(b"X: 1", body=b"abc\r\n\r\ndef"), "until-close-nothing": answer(),
           "http10": answer(b"Content-Length: 3", body=b"abc", line=b"HTTP/1.0 200 OK"),
           "no-reason": answer(b"Content-Length: 0", line=b"HTTP/1.1 200 "),
           "no-reason-space": answer(b"Content-Length: 0", line=b"HTTP/1.1 200"),
           "reason-obs-text": answer(b"Content-Length: 0", line=b"HTTP/1.1 200 \xc3\xbcber\tall"),
           "reason-long": answer(b"Content-Length: 0", line=OK + b" and " * 50)}
    for status in (200, 201, 206, 299, 301, 400, 404, 418, 500, 503, 599):
        out[f"status-{status}"] = answer(b"Content-Length: 2", body=b"ab", line=b"HTTP/1.1 %d Reason" % status)
    for status in (204, 304):
        out[f"status-{status}"] = answer(b"X: 1", line=b"HTTP/1.1 %d x" % status) + answer(b"Content-Length: 0")
        out[f"status-{status}-length"] = answer(b"Content-Length: 3", line=b"HTTP/1.1 %d x" % status)
    for status in (100, 102, 103):
        out[f"interim-{status}"] = (answer(b"Link: </a>", line=b"HTTP/1.1 %d x" % status) * 2
                                    + answer(b"Content-Length: 3", body=b"abc"))
    for name, field in VALUES.items():
        out[f"value-{name}"] = answer(field, b"Content-Length: 3", body=b"abc")
    for name, fields in CONNECTIONS.items():
        for version in (b"1.0", b"1.1"):
            out[f"connection-{name}-{version.decode()}"] = answer(
                *fields, b"Content-Length: 3", body=b"abc", line=b"HTTP/" + version + b" 200 OK") + answer(b"Content-Length: 0")
    for cut in range(1, 40, 3):
        out[f"cut-{cut}"] = answer(b"Content-Length: 3", body=b"abc")[:cut]
    return out


def _malformed_responses():
    out = {}
    for i, line in enumerate((b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1  200 OK", b"HTTP/2.0 200 OK",
                              b"http/1.1 200 OK", b"200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1",
                              b"HTTP/1.1 200 O\x01K", b"HTTP/1.1 200 O\x7fK", b"HTTP/1.1 200 O\x00K", b"SSH-2.0-x", b" HTTP/1.1 200 OK",
                              b"HTTP/1.1\t200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.1 200 a\rb")):
        out[f"line-{i}"] = answer(b"Content-Length: 3", body=b"abc", line=line)
    for name, value in {"plus": b"+3", "minus": b"-3", "empty": b"", "list": b"3, 3", "huge": b"9" * 30, "letter": b"3a"}.items():
        out[f"length-{name}"] = answer(b"Content-Length: " + value, body=b"abc")
    for name, value in {"gzip": b"gzip", "identity": b"identity", "after": b"chunked, gzip", "empty": b"", "twice": b"chunked, chunked"}.items():
        out[f"coding-{name}"] = answer(b"Transfer-Encoding: " + value, body=chunked(b"abc"))
    for name, field in {"fold": b"X: a\r\n b", "space-colon": b"X : 1", "no-colon": b"X", "no-name": b": 1", "nul": b"X: \x00",
                        "lf": b"X: 1\nY: 2", "cr": b"X: 1\rY: 2", "del": b"X: \x7f", "name": b"X y: 1"}.items():
        out[f"field-{name}"] = answer(field, b"Content-Length: 3", body=b"abc")
    out |= {"cl-te": answer(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=chunked(b"abc")),
            "length-twice": answer(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
            "coding-http10": answer(b"Transfer-Encoding: chunked", body=chunked(b"abc"), line=b"HTTP/1.0 200 OK"),
            "bare-lf": lines(OK, b"Content-Length: 3", end=b"\n") + b"abc", "empty-line-first": b"\r\n" + answer(b"Content-Length: 0"),
            "chunk-size": answer(b"Transfer-Encoding: chunked", body=b"x\r\n"), "fields-101": answer(*[b"x: 1"] * 101),
            "chunk-lf": answer(b"Transfer-Encoding: chunked", body=b"3\nabc\r\n0\r\n\r\n"),
            "bytes": bytes(range(1, 256)) + b"\r\n\r\n"}
    return out


REQUESTS, BAD_REQUESTS = _valid_requests(), _malformed_requests()
RESPONSES, BAD_RESPONSES = _valid_responses(), _malformed_responses()

SPICE = (b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0", b"-", b"+",
         b"\r\n ", b" :", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"chunked", b"\"", b"a",
         b"HTTP/1.1", b"X: y\r\n", b"0\r\n\r\n", b"Upgrade: x\r\n")


def mutate(rng, data, others):
    """One to three small changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(8)
        if kind == 0:
            data = data[:at] + data[at + rng.randrange(1, 4):]
        elif kind in (1, 2, 3):
            data = data[:at] + rng.choice(SPICE) + data[at:]
        elif kind == 4:
            data = data[:at] + rng.choice(SPICE) + data[at + 1:]
        elif kind == 5:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1:]
        elif kind == 6:
            parts = data.split(b"\r\n")
            i, k = rng.randrange(len(parts)), rng.randrange(len(parts))
            parts[i], parts[k] = parts[k], parts[i]
            data = b"\r\n".join(parts)
        else:
            other = rng.choice(others)
            data = data[:at] + other[rng.randrange(len(other)):]
    return data


def mutations(corpora, count, seed):
    """`count` messages that are nearly those of the corpora; the same for the same seed."""
    rng = random.Random(seed)
    messages = [m for corpus in corpora for m in corpus.values() if len(m) < 1000]
    return [mutate(rng, rng.choice(messages), messages) for _ in range(count)]
