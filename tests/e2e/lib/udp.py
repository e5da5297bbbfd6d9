"""Datagrams at both ends of a gateway. Every wait has a limit."""
import queue
import socket
import threading

TIMEOUT = 10.0
SEGMENT = 103  # UDP_SEGMENT


class Client:
    """A client of its own address; `to` is (host, port)."""

    def __init__(self, port, host="127.0.0.1", source=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if source:
            self.socket.bind(source)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((host, port))

    def send(self, data):
        self.socket.send(data)

    def receive(self):
        return self.socket.recv(1 << 16)

    def ask(self, data=b"?"):
        self.send(data)
        return self.receive()

    def silent(self, seconds=0.3):
        """Nothing arrives for so long. To be asked where something would have arrived at once."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1 << 16)
        except TimeoutError:
            return True
        except ConnectionRefusedError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)
        return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Backend:
    """A UDP server: answers each datagram by those of `answer(data)`, or where that is not given
    leaves it to the test. Remembers what came, and from where."""

    def __init__(self, answer=None, host="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((host, port))
        self.host, self.port = host, self.socket.getsockname()[1]
        self.received = []  # (data, from)
        self._queue, self._answer, self._closing = queue.Queue(), answer, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            data, peer = self.socket.recvfrom(1 << 16)
            if self._closing:
                return
            self.received.append((data, peer))
            self._queue.put((data, peer))
            for out in self._answer(data) if self._answer else ():
                self.socket.sendto(out, peer)

    @property
    def sources(self):
        """The addresses that datagrams came from, each once, in order."""
        return list(dict.fromkeys(peer for _, peer in self.received))

    def next(self):
        """The datagram that was not asked for yet."""
        return self._queue.get(timeout=TIMEOUT)

    def send(self, data, peer):
        self.socket.sendto(data, peer)

    def close(self):
        """May be called again."""
        self._closing = True
        while self._thread.is_alive():  # a datagram wakes it, if there is room for one
            self.socket.sendto(b"", self.socket.getsockname())
            self._thread.join(0.1)
        self.socket.close()


def says(word):
    return lambda data: [word.encode() + b" " + data]


def echo(data):
    return [data]
