"""An HTTP/1.x client on raw sockets whose response parser forgives nothing."""
import json
import re
import socket
import struct

import httptools

TIMEOUT = 10.0
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e\x80-\xff]"
                    rb"(?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


class Malformed(AssertionError):
    """What arrived is not HTTP/1.1 as RFC 9112 has it."""


class Closed(Exception):
    """The other side ended the connection before a message was complete."""

    def __init__(self, received):
        super().__init__(f"connection closed after {len(received)} bytes: {received[:200]!r}")
        self.received = received


def parse_fields(block):
    """Field lines (no blank line) -> [(lower-case name, value)]."""
    fields = []
    for line in block.split(b"\r\n") if block else []:
        m = _FIELD.fullmatch(line)
        if not m:
            raise Malformed(f"field line {line!r}")
        fields.append((m[1].decode().lower(), m[2].decode("latin-1")))
    return fields


class Message:
    """Fields and a body; what a request and a response share."""

    def __init__(self, headers):
        self.headers, self.trailers, self.body = headers, [], b""

    def all(self, name):
        return [v for n, v in self.headers if n == name.lower()]

    def header(self, name):
        """The value of a field that is there at most once; None without it."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def content_length(self):
        value = self.header("content-length")
        if value is None:
            return None
        if not re.fullmatch("[0-9]+", value):
            raise Malformed(f"content-length {value!r}")
        if self.header("transfer-encoding") is not None:
            raise Malformed("content-length and transfer-encoding together")
        return int(value)

    def chunked(self):
        coding = self.header("transfer-encoding")
        if coding not in (None, "chunked"):
            raise Malformed(f"transfer-encoding {coding!r}")
        return coding == "chunked"

    def json(self):
        return json.loads(self.body)


class Request(Message):
    def __init__(self, head):
        line, _, block = head.partition(b"\r\n")
        m = _REQUEST_LINE.fullmatch(line)
        if not m:
            raise Malformed(f"request line {line!r}")
        super().__init__(parse_fields(block))
        self.method, self.target, self.minor = m[1].decode(), m[2].decode(), int(m[3])
        self.head = head


class Response(Message):
    def __init__(self, head):
        line, _, block = head.partition(b"\r\n")
        m = _STATUS_LINE.fullmatch(line)
        if not m:
            raise Malformed(f"status line {line!r}")
        super().__init__(parse_fields(block))
        self.status, self.reason = int(m[1]), m[2].decode("latin-1")
        self.version = line[:8].decode()

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class Stream:
    """A socket read message by message. Everything received stays in `received`."""

    def __init__(self, sock):
        self.socket = sock
        self.received = bytearray()
        self._at = 0  # how much of it has been consumed

    def _fill(self):
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(bytes(self.received[self._at:]))
        self.received += data

    def until(self, mark):
        """Bytes up to and without `mark`, which is consumed as well."""
        scanned = self._at
        while (at := self.received.find(mark, scanned)) < 0:
            scanned = max(self._at, len(self.received) - len(mark) + 1)
            self._fill()
        out = bytes(self.received[self._at:at])
        self._at = at + len(mark)
        return out

    def exactly(self, count):
        while len(self.received) - self._at < count:
            self._fill()
        out = bytes(self.received[self._at:self._at + count])
        self._at += count
        return out

    def rest(self):
        """Everything until the other side closes."""
        try:
            while True:
                self._fill()
        except Closed:
            pass
        out = bytes(self.received[self._at:])
        self._at = len(self.received)
        return out

    def pending(self):
        """Received, but not consumed."""
        return bytes(self.received[self._at:])

    def consumed(self):
        return self._at

    def discard(self):
        """Forgets what has been consumed: for bodies too large to keep."""
        del self.received[:self._at]
        self._at = 0

    def chunked_body(self, message):
        body = bytearray()
        while True:
            size = self.until(b"\r\n")
            if not _CHUNK_SIZE.fullmatch(size):
                raise Malformed(f"chunk size {size!r}")
            if int(size, 16) == 0:
                break
            body += self.exactly(int(size, 16))
            if self.exactly(2) != b"\r\n":
                raise Malformed("no CRLF behind a chunk")
        message.body = bytes(body)
        lines = []
        while line := self.until(b"\r\n"):
            lines.append(line)
        message.trailers = parse_fields(b"\r\n".join(lines))

    def request(self):
        """The next whole request, read as strictly as a response."""
        message = self.request_head()
        self.request_body(message)
        return message

    def request_head(self):
        return Request(self.until(b"\r\n\r\n"))

    def request_body(self, message):
        if message.chunked():
            self.chunked_body(message)
        elif length := message.content_length():
            message.body = self.exactly(length)

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection with a RST instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client(Stream):
    def __init__(self, port, timeout=TIMEOUT, receive_buffer=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock)

    def send(self, data):
        self.socket.sendall(data)

    def head(self, method="GET"):
        """The next response's head; its framing is checked, its body left unread."""
        response = Response(self.until(b"\r\n\r\n"))
        framed = response.content_length() is not None or response.chunked()
        if framed and (response.status < 200 or response.status == 204):
            raise Malformed(f"{response.status} with framing fields")
        response.bodyless = (response.status < 200 or response.status in (204, 304)
                             or method == "HEAD")
        return response

    def response(self, method="GET"):
        """The next response, whole. A 1xx is a response too."""
        start = self.consumed()
        response = self.head(method)
        if response.bodyless:
            pass
        elif response.chunked():
            self.chunked_body(response)
        elif (length := response.content_length()) is not None:
            response.body = self.exactly(length)
        else:
            response.body = self.rest()
            return response
        if method != "HEAD" and response.status != 101:
            _second_opinion(bytes(self.received[start:self.consumed()]), response)
        return response

    def responses(self):
        """All responses until the gateway closes."""
        out = []
        while True:
            try:
                out.append(self.response())
            except Closed as e:
                assert not e.received, f"half a response: {e.received[:200]!r}"
                return out

    def expect_close(self):
        rest = self.rest()
        assert rest == b"", f"instead of an end: {rest[:200]!r}"

    def roundtrip(self, target="/", method="GET", **kw):
        self.send(request(target, method=method, **kw))
        return self.response(method)


def _second_opinion(raw, response):
    """llhttp has to see the same message."""
    class Seen:
        body, complete = b"", 0

        def on_body(self, data):
            self.body += data

        def on_message_complete(self):
            self.complete += 1

    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    parser.feed_data(raw)
    assert parser.get_status_code() == response.status
    assert seen.complete == 1 and seen.body == response.body


def request(target="/", host="a.test", method="GET", headers=(), body=None, version="1.1"):
    """A request's bytes, just as told; a body adds its content-length."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def fetch(port, target="/", timeout=TIMEOUT, **kw):
    """One request on a connection of its own."""
    with Client(port, timeout) as client:
        return client.roundtrip(target, **kw)


def reply(body=b"", status="200 OK", headers=(), length=True):
    """A response's bytes for an upstream to send."""
    lines = [f"HTTP/1.1 {status}"] + [f"{name}: {value}" for name, value in headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks, trailers=()):
    """A chunked body."""
    out = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n"
    return out + b"".join(f"{n}: {v}\r\n".encode() for n, v in trailers) + b"\r\n"
