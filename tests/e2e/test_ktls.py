"""--ktls on this machine's own kernel, whichever it is."""
import pytest

from lib import documents as d
from lib import tls
from lib.certificates import Authority


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki")).issue("server", ["DNS:a.test"])


@pytest.mark.parametrize("value", ["auto", "on", "off"])
def test_each_connection_is_taken_or_falls_back(serve, upstream, leaf, value):
    """Whichever it is, nothing else changes: requests, bodies, close_notify at the end."""
    server = d.server("a.test", mode="SIMPLE", serverCertificate=str(leaf.cert),
                      privateKey=str(leaf.key))
    gateway = serve(d.gateway_of(server), d.virtual_service(d.rule()), *d.backend(upstream.port),
                    numbers=(443,), workers=1, args=["--ktls", value])
    for _ in range(3):
        with tls.Client(gateway.ports[443], strict=True) as client:
            for _ in range(2):
                assert client.roundtrip("/", host="a.test").status == 200
            closing = client.roundtrip("/", host="a.test", headers=[("connection", "close")])
            assert closing.status == 200
            client.expect_close()
    taken = gateway.metric("downstream_tls_ktls")
    assert taken in (0, 3)
    assert taken + gateway.metric("downstream_tls_ktls_fallback") == (3 if value == "on" else 0)
    said = [line for line in gateway.log.lines if "ktls" in line]
    assert len(said) == (0 if value == "off" else 1), said
