"""TLS that no library would send: records by hand, and libssl's own calls."""
import ctypes
import ctypes.util
import socket
import ssl

from lib.tls import context


def hello(name="a.test"):
    """A ClientHello's record as `ssl` writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def record(kind, body, version=0x0303):
    return bytes((kind, version >> 8, version & 255, len(body) >> 8, len(body) & 255)) + body


def split(message, size, version=0x0303):
    """A handshake message in records of that many bytes."""
    return b"".join(record(22, message[i:i + size], version) for i in range(0, len(message), size))


def answer(sock):
    """What comes until the end: bytes, and whether it ended by a reset."""
    got = b""
    try:
        while data := sock.recv(65536):
            got += data
    except ConnectionResetError:
        return got, True
    return got, False


class Library:
    """TLS 1.3 by libssl itself on a connected socket: KeyUpdates, which `ssl` cannot send."""

    def __init__(self, sock, name="a.test"):
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\x0a" + bytes(15))
        lib = self._lib = ctypes.CDLL(ctypes.util.find_library("ssl"))
        for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(lib, function).restype = ctypes.c_void_p
        self._ctx = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
        self._ssl = ctypes.c_void_p(lib.SSL_new(self._ctx))
        lib.SSL_ctrl(self._ssl, 55, ctypes.c_long(0), name.encode())  # SNI
        lib.SSL_set_fd(self._ssl, sock.fileno())
        assert lib.SSL_connect(self._ssl) == 1

    def update_keys(self, asking):
        return (self._lib.SSL_key_update(self._ssl, int(asking)) == 1
                and self._lib.SSL_do_handshake(self._ssl) == 1)

    def write(self, data):
        return self._lib.SSL_write(self._ssl, data, len(data)) == len(data)

    def read(self):
        room = ctypes.create_string_buffer(65536)
        n = self._lib.SSL_read(self._ssl, room, len(room))
        return room.raw[:max(0, n)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._lib.SSL_free(self._ssl)
        self._lib.SSL_CTX_free(self._ctx)
