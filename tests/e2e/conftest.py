"""Fixtures. `serve` starts gateways on documents; `upstream` is a backend for them."""
import resource
from types import SimpleNamespace

import pytest

from lib import documents as d
from lib import tcp
from lib.gateway import Gateway
from lib.ports import ReservedPort, ReservedUdpPort
from lib.upstream import Upstream


@pytest.fixture(scope="session", autouse=True)
def _descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server:
    """Starts gateways and ends them; whoever owns it calls close()."""

    def __init__(self, folder):
        self.folder, self._gateways, self._ports = folder, [], []

    def ports(self, *numbers):
        reserved = [ReservedPort() for _ in numbers]
        self._ports += reserved
        return {n: r.number for n, r in zip(numbers, reserved)}

    def udp_ports(self, *numbers):
        reserved = [ReservedUdpPort() for _ in numbers]
        self._ports += reserved
        return {n: r.number for n, r in zip(numbers, reserved)}

    def command(self, paths, ports, **kw):
        """A gateway on documents that the caller has written."""
        gateway = Gateway(paths, ports, **kw)
        self._gateways.append(gateway)
        return gateway

    def __call__(self, *docs, numbers=(80,), udp=(), wait=True, **kw):
        """A gateway on these documents (of lib.documents); server ports `numbers` are mapped, and
        `udp` those of UDP."""
        ports, udp_ports = self.ports(*numbers), self.udp_ports(*udp)
        folder = self.folder / f"gateway-{len(self._gateways)}"
        folder.mkdir()
        (folder / "node.yaml").write_text(d.text(d.node(ports, udp=udp_ports)))
        (folder / "app.yaml").write_text(d.text(*docs))
        gateway = self.command([(None, folder)], ports, **kw)
        gateway.udp_ports = udp_ports
        gateway.folder, gateway.file = folder, folder / "app.yaml"
        return gateway.wait_ready() if wait else gateway

    def close(self):
        try:
            for gateway in self._gateways:
                gateway.stop()
        finally:
            for gateway in self._gateways:
                gateway.kill()
            for port in self._ports:
                port.release()
        # Also those that ended by themselves or were killed.
        for gateway in self._gateways:
            gateway.check_log()


@pytest.fixture
def serve(tmp_path):
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.fixture(scope="module")
def module_serve(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("module"))
    yield server
    server.close()


@pytest.fixture
def upstream():
    backend = Upstream()
    yield backend
    backend.close()
    backend.check()


@pytest.fixture(scope="module")
def module_upstream():
    backend = Upstream()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def plain_gateway(module_serve, module_upstream):
    """One worker, every host and path to one backend."""
    return module_serve(d.gateway(), d.virtual_service(d.rule()),
                        *d.backend(module_upstream.port), workers=1)


@pytest.fixture
def proxy(plain_gateway, module_upstream):
    """The module's plain gateway and its backend, quiet and with nothing recorded."""
    module_upstream.reset()
    yield SimpleNamespace(gateway=plain_gateway, upstream=module_upstream,
                          port=plain_gateway.port, client=plain_gateway.client,
                          fetch=plain_gateway.fetch)
    assert plain_gateway.process.poll() is None, "the gateway is gone:\n" + plain_gateway.log_text()
    module_upstream.check()


@pytest.fixture
def backend():
    """backend(…) as tcp.Backend(…), ended with the test."""
    made = []

    def make(*args, **kw):
        made.append(tcp.Backend(*args, **kw))
        return made[-1]
    yield make
    for b in made:
        b.close()
