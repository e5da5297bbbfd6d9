"""Plain TCP at both ends of a relay. Every wait has a limit."""
import hashlib
import queue
import random
import socket
import ssl
import struct
import subprocess
import threading

TIMEOUT = 10.0


class Peer:
    """One end of a connection."""

    def __init__(self, sock):
        self.socket = sock
        sock.settimeout(TIMEOUT)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, count):
        """Exactly that many bytes."""
        out = bytearray()
        while len(out) < count:
            piece = self.socket.recv(min(count - len(out), 1 << 18))
            assert piece, f"the stream ended after {len(out)} of {count} bytes"
            out += piece
        return bytes(out)

    def rest(self):
        """All up to the other side's FIN; a reset is an error (ConnectionResetError)."""
        out = bytearray()
        while piece := self.socket.recv(1 << 18):
            out += piece
        return bytes(out)

    def finish(self):
        """FIN: nothing more is sent, the other direction goes on."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def was_reset(self):
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False

    def ended(self):
        """The other side has closed, gently or not; nothing but that arrives."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Flow:
    """Sends a stream of random bytes, its end too, and tells how far it got."""

    def __init__(self, peer, size, seed, finish=True):
        self.sent, self._digest = 0, hashlib.sha256()
        self._peer, self._size, self._random = peer, size, random.Random(seed)
        self._finish = finish
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while self.sent < self._size:
            piece = self._random.randbytes(min(64 * 1024, self._size - self.sent))
            self._digest.update(piece)
            view = memoryview(piece)
            while view:
                n = self._peer.socket.send(view)
                self.sent += n
                view = view[n:]
        if self._finish:
            self._peer.finish()

    def join(self):
        self._thread.join(60)
        assert not self._thread.is_alive()

    def digest(self):
        return self._digest.hexdigest()


class Reader:
    """Reads a stream to its end."""

    def __init__(self, peer):
        self._peer, self._digest = peer, hashlib.sha256()
        self.received = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while piece := self._peer.socket.recv(200_000):
            self._digest.update(piece)
            self.received += len(piece)

    def digest(self):
        """Of all that came."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._digest.hexdigest()


def connect(port, host="127.0.0.1", receive_buffer=None):
    s = socket.socket()
    if receive_buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    s.settimeout(TIMEOUT)
    s.connect((host, port))
    return Peer(s)


def connect_tls(port, name, ca=None, alpn=()):
    """TLS with that server name; `ca` (a file) is what the certificate must be of."""
    context = ssl.create_default_context(cafile=ca)
    if not ca:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return Peer(context.wrap_socket(connect(port).socket, server_hostname=name))


class Backend:
    """A TCP server. Each connection goes to `serve(peer)` on a thread of its own, or where that is
    not given to the test, by `accept()`."""

    def __init__(self, serve=None, tls=None, receive_buffer=None):
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._serve, self._tls = serve, tls
        self._peers, self._accepted = [], queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                peer = Peer(self._listener.accept()[0])
            except OSError:
                return
            self.connections += 1
            self._peers.append(peer)
            if self._serve:
                threading.Thread(target=self._handle, args=(peer,), daemon=True).start()
            else:
                self._accepted.put(peer)

    def _handle(self, peer):
        try:
            if self._tls:
                peer.socket = self._tls.wrap_socket(peer.socket, server_side=True)
            self._serve(peer)
        except OSError:
            pass  # the client's end of it is what the test looks at
        finally:
            peer.close()

    def accept(self):
        return self._accepted.get(timeout=TIMEOUT)

    def close(self):
        # Only a shutdown wakes a thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT)
        for peer in self._peers:
            peer.close()


def says(word):
    """Answers each line with `word` before it, as Istio's sample tcp-echo does."""
    def serve(peer):
        for line in peer.socket.makefile("rb"):
            peer.send(word.encode() + b" " + line)
    return serve


def ask(peer, line=b"world\n"):
    peer.send(line)
    out = bytearray()
    while not out.endswith(b"\n"):
        out += peer.receive(1)
    return bytes(out)


def certificate(folder, *names):
    """A self-signed certificate for these names: (certificate file, key file)."""
    cert, key = folder / f"{names[0]}.crt", folder / f"{names[0]}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key, "-out", cert,
                    "-subj", f"/CN={names[0]}", "-addext",
                    "subjectAltName=" + ",".join(f"DNS:{n}" for n in names)],
                   check=True, capture_output=True, timeout=TIMEOUT)
    return cert, key


def server_tls(certificate_and_key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate_and_key)
    return context
