"""Certificates that are replaced while the gateway runs: live within a second, and no open
connection notices."""
import itertools
import json
import os
import re
import ssl

import pytest

from lib import documents as d
from lib import tls
from lib.certificates import Authority, openssl
from lib.gateway import sluice
from lib.waiting import eventually

_numbers = itertools.count()
SOON = 5.0  # the promise is one second; sanitizers and busy machines get more


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def issue(ca):
    """A certificate for a.test each time, for the other names as well."""
    return lambda *names: ca.issue(f"site-{next(_numbers)}", ["DNS:a.test", *names],
                                   common_name="a.test")


def place(folder, certificate):
    """Both files at once, as Kubernetes does it: a link to a folder is swapped."""
    new = folder / f"..{certificate.name}"
    new.mkdir()
    (new / "tls.crt").write_text(certificate.cert.read_text())
    (new / "tls.key").write_text(certificate.key.read_text())
    (folder / "..new").symlink_to(new.name)
    os.replace(folder / "..new", folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def files_server(folder, **more):
    return d.gateway_of(d.server("a.test", mode="SIMPLE", serverCertificate=str(folder / "tls.crt"),
                                 privateKey=str(folder / "tls.key"), **more))


def shown(gateway, ctx=None):
    with tls.Client(gateway.ports[443], ctx=ctx) as client:
        return client.shown()


def shows(gateway, certificate):
    eventually(lambda: shown(gateway) == certificate.sha256(), SOON, "the new certificate shown")


@pytest.fixture
def site(serve, upstream, ca, tmp_path):
    def run(old):
        folder = tmp_path / "certs"
        folder.mkdir()
        place(folder, old)
        gateway = serve(files_server(folder), d.virtual_service(d.rule()),
                        *d.backend(upstream.port), numbers=(443,))
        return gateway, folder
    return run


def test_a_rotated_file_is_live_and_open_connections_stay(site, ca, issue):
    old, new = issue(), issue()
    gateway, folder = site(old)
    with tls.Client(gateway.ports[443], ctx=tls.context(ca)) as client:
        assert client.shown() == old.sha256()
        assert client.roundtrip().status == 200
        place(folder, new)
        shows(gateway, new)
        for _ in range(3):
            response = client.roundtrip()
            assert response.status == 200 and response.header("connection") != "close"


def test_connections_and_tickets_outlive_a_renewal_with_other_names(site, ca, issue):
    old, new = issue("DNS:old.test"), issue("DNS:new.test", "DNS:more.test")
    gateway, folder = site(old)
    ctx = tls.context(ca)
    with tls.Client(gateway.ports[443], ctx=ctx) as client:
        assert client.roundtrip().status == 200
        place(folder, new)
        shows(gateway, new)
        for _ in range(2):
            response = client.roundtrip()
            assert response.status == 200 and response.header("connection") != "close"
        session = client.socket.session
    with tls.Client(gateway.ports[443], ctx=ctx, session=session) as client:
        assert client.roundtrip().status == 200
        assert client.socket.session_reused


def test_tickets_go_on_after_a_renewal(site, ca, issue):
    gateway, folder = site(issue())
    ctx, new = tls.context(ca), issue()
    with tls.Client(gateway.ports[443], ctx=ctx) as client:
        assert client.roundtrip().status == 200
        session = client.socket.session
    place(folder, new)
    shows(gateway, new)
    with tls.Client(gateway.ports[443], ctx=ctx, session=session) as client:
        assert client.roundtrip().status == 200
        assert client.socket.session_reused


def test_a_broken_file_keeps_the_certificate_in_service(site, ca, issue):
    old, new = issue(), issue()
    gateway, folder = site(old)
    start = len(gateway.log.lines)
    (folder / "tls.key").unlink()
    (folder / "tls.key").write_text("no key")
    assert gateway.log.wait(r"error: Gateway default/gw: .*tls\.crt", SOON, start)
    assert gateway.log.wait(r"warning: Gateway default/gw: server s-443-a\.test: "
                            r"the credential that was in service is kept", SOON, start)
    assert shown(gateway, tls.context(ca)) == old.sha256()
    (folder / "tls.key").unlink()
    (folder / "tls.key").symlink_to("..data/tls.key")
    place(folder, new)
    shows(gateway, new)


def test_a_file_that_comes_later(serve, upstream, ca, issue, tmp_path):
    folder, cert = tmp_path / "not" / "there", issue()
    gateway = serve(files_server(folder), d.virtual_service(d.rule()), *d.backend(upstream.port),
                    numbers=(443,))
    assert tls.refusal(gateway.ports[443]) == "end"
    folder.mkdir(parents=True)
    (folder / "tls.crt").write_text(cert.cert.read_text())
    (folder / "tls.key").write_text(cert.key.read_text())
    eventually(lambda: refused(gateway) is None, SOON, "the server of the file served")
    assert tls.fetch(gateway.ports[443], ctx=tls.context(ca)).status == 200


def refused(gateway):
    try:
        return None if shown(gateway) else "nothing"
    except (ssl.SSLError, OSError) as e:
        return e


def test_a_rotated_secret(serve, upstream, ca, issue):
    old, new = issue(), issue()

    def documents(certificate):
        return [d.gateway_of(d.server("a.test", mode="SIMPLE", credentialName="site")),
                d.secret("site", certificate), d.virtual_service(d.rule()),
                *d.backend(upstream.port)]

    gateway = serve(*documents(old), numbers=(443,))
    with tls.Client(gateway.ports[443], ctx=tls.context(ca)) as client:
        assert (client.shown(), client.roundtrip().status) == (old.sha256(), 200)
        gateway.file.write_text(d.text(*documents(new)))
        shows(gateway, new)
        response = client.roundtrip()
        assert response.status == 200 and response.header("connection") != "close"
    # A Secret that says nothing of use breaks nothing.
    start = len(gateway.log.lines)
    gateway.file.write_text(d.text(*(x for x in documents(new) if x["kind"] != "Secret")))
    assert gateway.log.wait("the credential that was in service is kept", SOON, start)
    assert shown(gateway) == new.sha256()


def test_the_listing_of_secrets(serve, upstream, ca, issue):
    """Columns as `istioctl proxy-config secret` has them; one that is missing is asked for."""
    cert = issue()
    gateway = serve(
        d.gateway_of(d.server("a.test", mode="MUTUAL", credentialName="site"),
                     d.server("b.test", mode="SIMPLE", credentialName="missing")),
        d.secret("site", cert, ca), d.virtual_service(d.rule()), *d.backend(upstream.port),
        numbers=(443,))

    def listed(*more):
        run = sluice("proxy-config", "secrets", "--admin", gateway.admin, *more)
        assert run.returncode == 0, run.stderr
        return run.stdout

    head, *rows = [re.split(r" {2,}", line.rstrip()) for line in listed().splitlines()]
    assert head == ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER",
                    "NOT BEFORE"]
    rows = {row[0]: row[1:] for row in rows}
    assert set(rows) == {"kubernetes://site", "kubernetes://site-cacert", "kubernetes://missing"}
    assert rows["kubernetes://missing"] == ["Cert Chain", "WARMING", "false"]
    for name, kind, who in (("site", "Cert Chain", cert), ("site-cacert", "CA", ca)):
        said = openssl("x509", "-in", who.cert, "-noout", "-serial", "-dates", "-dateopt",
                       "iso_8601").decode()
        serial, begins, ends = [line.partition("=")[2] for line in said.splitlines()]
        begins, ends = begins.replace(" ", "T"), ends.replace(" ", "T")
        row = rows[f"kubernetes://{name}"]
        assert row[:3] == [kind, "ACTIVE", "true"]
        assert row[3].lstrip("0") == serial.lower().lstrip("0") and row[4:] == [ends, begins]
    entries = {e["name"]: e for e in json.loads(listed("-o", "json"))}
    assert entries["kubernetes://missing"] == {"name": "kubernetes://missing", "type": "Cert Chain",
                                               "status": "WARMING"}
    site = entries["kubernetes://site"]
    assert [site["valid"], site["serial_number"], site["not_after"], site["not_before"]] == \
        [True, *rows["kubernetes://site"][3:]]
