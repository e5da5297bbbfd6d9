"""A backend on a raw socket, scripted by each test, which remembers every byte it was sent."""
import json
import socket
import ssl
import threading

from lib.http1 import Closed, Malformed, Stream, TIMEOUT, reply


def echo(connection, request):
    """Answers with what it saw."""
    seen = {"backend": connection.upstream.name, "connection": connection.number,
            "method": request.method, "target": request.target, "headers": request.headers,
            "trailers": request.trailers, "body": request.body.decode("latin-1")}
    connection.send(reply(json.dumps(seen).encode(),
                          headers=[("content-type", "application/json")]))


class Connection(Stream):
    """One connection of the gateway's, on its own thread. A handler may close it."""

    def __init__(self, upstream, sock, number):
        super().__init__(sock)
        self.upstream, self.number = upstream, number
        self.ended = threading.Event()  # the gateway has closed, or this side has

    def send(self, data):
        self.socket.sendall(data)

    def _handshake(self):
        """TLS, where this backend speaks it; who connected is in `peer`, as ssl has it."""
        context = self.upstream.tls
        if not context:
            return
        self.socket = context.wrap_socket(self.socket, server_side=True,
                                          suppress_ragged_eofs=False)
        self.peer, self.resumed = self.socket.getpeercert(), self.socket.session_reused

    def finish(self):
        """The end of what is sent, also inside TLS (close_notify)."""
        if self.upstream.tls:
            self.socket.unwrap()
        self.socket.shutdown(socket.SHUT_WR)

    def serve(self):
        try:
            self._handshake()
            if self.upstream.on_connect:
                self.upstream.on_connect(self)
            while self.socket.fileno() >= 0:
                request = self.request_head()
                if not self.upstream.stream_bodies:
                    self.request_body(request)
                self.upstream.record(self, request)
                self.upstream.handler(self, request)
        except Closed as e:
            if e.received and self.upstream.remember:
                self.upstream.truncated.append(e.received)
        except ssl.SSLError as e:
            self.upstream.tls_errors.append(e)
        except OSError:
            pass  # closed under our hands, by the gateway or by a handler
        except Malformed as e:
            self.upstream.faults.append(e)
        except Exception as e:  # a handler's assertion belongs to the test
            self.upstream.faults.append(e)
        finally:
            self.close()
            self.ended.set()


class Upstream:
    """handler(connection, request) answers each request; on_connect(connection) runs first."""

    def __init__(self, name="app", tls=None):
        self.name, self.tls = name, tls  # an ssl.SSLContext
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._count = 0
        self.connections = []
        self.forget()
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self):
        """Back to echoing, with nothing recorded."""
        self.handler, self.on_connect, self.stream_bodies = echo, None, False
        self.remember = True  # requests, and connections that have ended: not for a long run
        self.requests, self.faults, self.truncated, self.tls_errors = [], [], [], []

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._count += 1
                connection = Connection(self, sock, self._count)
                if not self.remember:
                    self.connections[:] = [c for c in self.connections if not c.ended.is_set()]
                self.connections.append(connection)
                self._changed.notify_all()
            threading.Thread(target=connection.serve, daemon=True).start()

    def record(self, connection, request):
        with self._changed:
            request.connection = connection.number
            if self.remember:
                self.requests.append(request)
            self._changed.notify_all()

    def wait_requests(self, count, timeout=TIMEOUT):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, timeout), \
                f"{len(self.requests)} of {count} requests arrived"
            return self.requests[:count]

    def wait_connections(self, count, timeout=TIMEOUT):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.connections) >= count, timeout), \
                f"{len(self.connections)} of {count} connections arrived"
            return self.connections[:count]

    @property
    def received(self):
        """Everything sent to it since the last reset, connection by connection."""
        return b"\n--\n".join(bytes(c.received) for c in self.connections)

    def reset(self):
        """Ends all connections, waits until the gateway has noticed, and forgets."""
        for c in self.connections:
            try:
                c.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        for c in self.connections:
            if not c.ended.wait(5):
                c.close()
        self.connections.clear()
        self.forget()

    def check(self):
        """What handlers found wrong, raised where pytest sees it."""
        if self.faults:
            raise self.faults[0]

    def close(self):
        self._listener.close()
        for c in self.connections:
            try:
                c.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
