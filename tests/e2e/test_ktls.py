"""--ktls: on this machine's own kernel, whichever it is, and in a virtual machine that has kTLS."""
import pytest

from lib import documents as d
from lib import tls, vm
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


# Each boots a machine. Their tests take the flag from there, but those of vm/ktls.py. What is left
# out takes long there or waits for times that a slow machine does not keep.
IN_A_VM = {
    "records": (["tests/e2e/vm/ktls.py"], ""),
    "clients": (["tests/e2e/test_tls.py", "tests/e2e/test_tls_hostile.py", "-k",
                 "simple or redirect or optional or cipher or resumption or ticket_does or is_resumed "
                 "or access_log or whole or within_a_record or under_load"], "--ktls on"),
    "upstreams": (["tests/e2e/test_upstream_tls.py", "tests/e2e/test_truncation.py", "-k",
                   "simple or mutual or resumed or close_notify or bodies or both_sides or websocket "
                   "or relay or stricter or tried_elsewhere or is_a_reset or is_a_fin"], "--ktls on"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", IN_A_VM)
def test_in_a_kernel_that_has_it(tmp_path, name):
    """Every test inside passes, none is skipped, and the kernel says that it was at work."""
    arguments, flags = IN_A_VM[name]
    try:
        machine = vm.run(tmp_path, "-q", "--timeout", "120", *arguments, flags=flags, timeout=580)
    except vm.CannotStart as e:
        pytest.skip(str(e))
    assert machine.status == 0, machine.text
    assert " skipped" not in machine.text.rpartition(" passed")[2], machine.text
    stat = machine.tls_stat
    assert stat["TlsTxSw"] > 0 and stat["TlsRxSw"] >= stat["TlsTxSw"], stat
    assert stat["TlsCurrTxSw"] == stat["TlsCurrRxSw"] == 0, stat
