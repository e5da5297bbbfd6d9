"""Ports that stay ours: a bound socket that does not listen, which others on this machine cannot bind."""
import random
import socket


class ReservedPort:
    """A TCP port held on all addresses. Sluice may bind it too (SO_REUSEPORT); as long as nobody
    listens there, connections are refused."""

    def __init__(self):
        self._socket = socket.socket()
        self._socket.bind(("0.0.0.0", 0))
        # Set only after the exclusive bind, so that the port was free of other reservations.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number = self._socket.getsockname()[1]

    def release(self):
        self._socket.close()


class ReservedUdpPort:
    """A number whose UDP port is free on all addresses, and which no test beside this one takes: a TCP
    socket holds it, as a UDP socket would get some of the datagrams. It is below the numbers that
    the kernel gives to sockets by itself."""

    def __init__(self):
        for number in random.sample(range(10240, 32768), 1000):
            self._socket = socket.socket()
            try:
                self._socket.bind(("0.0.0.0", number))
                for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                    with socket.socket(family, socket.SOCK_DGRAM) as probe:
                        probe.bind((host, number))
            except OSError:
                self._socket.close()
                continue
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.number = number
            return
        raise AssertionError("no UDP port is free")

    def release(self):
        self._socket.close()


class SilentPort:
    """A port whose connections are neither accepted nor refused: its backlog is full."""

    def __init__(self):
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.number = self._listener.getsockname()[1]
        self._fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.number))
            self._fillers.append(filler)

    def release(self):
        for s in [*self._fillers, self._listener]:
            s.close()
