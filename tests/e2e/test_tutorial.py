"""Parts 5-2, 5-3 and 5-4 of the tutorial, on its own documents and with its own commands."""
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import documents as d
from lib.gateway import sluice
from lib.waiting import eventually

TUTORIAL = Path(__file__).parents[1] / "data" / "tutorial"


@pytest.fixture
def apply(serve, upstream, tmp_path):
    """apply((NAMESPACE, PART/FILE), …): as `kubectl apply -n NAMESPACE -f FILE` of each, beside the
    bookinfo application and the gateway's own Service."""
    def run(*applied):
        ports = serve.ports(80)
        paths = []
        for namespace, name in applied:
            copy = tmp_path / Path(name).name
            shutil.copy(TUTORIAL / name, copy)
            paths.append((namespace, copy))
        services = tmp_path / "services.yaml"
        services.write_text(d.text(
            d.node(ports),
            *d.backend(upstream.port, name="productpage", namespace="istio", number=9080)))
        paths.append(("istio", services))
        gateway = serve.command(paths, ports).wait_ready()

        def status(host, path="/productpage"):
            return gateway.fetch(path, host=host).status

        def replace(i, name):
            """Puts another document in the place of the one applied as number `i`, at once."""
            new = tmp_path / ".new"
            shutil.copy(TUTORIAL / name, new)
            new.replace(paths[i][1])

        return SimpleNamespace(gateway=gateway, status=status, fetch=gateway.fetch, replace=replace,
                               files=[p for _, p in paths])
    return run


PATHS = [("/productpage", 200), ("/productpage?u=normal", 200), ("/static/bootstrap.css", 200),
         ("/staticfile", 200), ("/login", 200), ("/logout", 200), ("/api/v1/products", 200),
         ("/api/v1/products/0/reviews", 200), ("/", 404), ("/productpage/", 404),
         ("/login/x", 404), ("/api/v1/product", 404), ("/Productpage", 404)]


def check_paths(site, host="bookinfo.com"):
    assert {p: site.status(host, p) for p, _ in PATHS} == dict(PATHS)


# ---- 5-2, every name

def test_star_in_one_namespace(apply, upstream):
    site = apply(("istio", "5-2/gateway-server-hosts-star.yaml"),
                 ("istio", "5-2/vs-bookinfo-hosts-star.yaml"))
    check_paths(site)
    assert upstream.requests[0].target == "/productpage"
    for host in ("bookinfo.com", "192.0.2.1:31110", "localhost", "a.b.c.d"):
        assert site.status(host) == 200


def test_star_in_the_gateways_namespace(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-star.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star.yaml"))
    check_paths(site)


def test_star_across_namespaces(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-star.yaml"),
                 ("istio", "5-2/vs-bookinfo-hosts-star-diff-namespace.yaml"))
    check_paths(site)


def test_short_gateway_name_is_of_the_virtual_services_namespace(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-star.yaml"),
                 ("istio", "5-2/vs-bookinfo-hosts-star.yaml"))
    assert site.status("bookinfo.com") == 404


def test_short_destination_is_of_the_virtual_services_namespace(apply, upstream):
    """"访问不成功", then `kubectl edit` to the full name, "访问成功"."""
    site = apply(("istio-system", "5-2/gateway-server-hosts-star.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star-host-no-namespace.yaml"))
    response = site.fetch("/productpage", host="bookinfo.com")
    assert (response.status, response.body) == (503, b"")
    assert site.status("bookinfo.com", "/nothing") == 404
    assert not upstream.requests

    edited = site.files[1]
    text = edited.read_text()
    edited.write_text(text.replace("host: productpage",
                                   "host: productpage.istio.svc.cluster.local"))
    eventually(lambda: site.status("bookinfo.com") == 200, 2, "the edited document served")


# ---- 5-2, a name

def test_one_name(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-bookinfo-com.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star-gw-host-same.yaml"))
    check_paths(site, "bookinfo.com:31110")
    assert site.status("bookinfo.com") == 200
    assert site.status("BookInfo.COM") == 200
    assert site.status("bookinfo.demo") == 404
    assert site.status("www.bookinfo.com") == 404


def test_different_names_never_meet(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-bookinfo-com.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star-gw-host-diff.yaml"))
    assert site.status("bookinfo.com:31110") == 404
    assert site.status("bookinfo.demo") == 404


@pytest.mark.parametrize("document", ["vs-bookinfo-hosts-star-host-contain-gw.yaml",
                                      "vs-bookinfo-hosts-star.yaml"])
def test_wider_virtual_service_gets_the_gateways_name(apply, document):
    site = apply(("istio-system", "5-2/gateway-server-hosts-bookinfo-com.yaml"),
                 ("istio-system", f"5-2/{document}"))
    check_paths(site, "bookinfo.com:31110")
    assert site.status("other.com") == 404
    assert site.status("bookinfo.demo") == 404


def test_wildcard_at_the_end_is_refused(apply, tmp_path):
    document = TUTORIAL / "5-2/vs-bookinfo-hosts-star-mix-error.yaml"
    lines = document.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "bookinfo.*" in line)
    expected = (f"{document}:{at + 1}:{lines[at].index(chr(34)) + 1}: error: "
                'VirtualService istio-system/bookinfo: domain name "*" invalid '
                '(label "*" invalid)')
    gateway = TUTORIAL / "5-2/gateway-server-hosts-bookinfo-com.yaml"
    result = sluice("analyze", "-n", "istio-system", "-f", gateway, "-f", document)
    assert result.returncode == 1
    found = [line for line in (result.stdout + result.stderr).splitlines() if "error:" in line]
    assert len(found) == 1 and found[0].startswith(expected), found
    assert re.fullmatch(r"( \[IST0106\])?", found[0][len(expected):]), found

    result = sluice("run", "-n", "istio-system", "-f", gateway, "-f", document,
                    "--admin", "127.0.0.1:0", "--status-port", "0", "--metrics-port", "0")
    assert result.returncode == 1
    assert expected in result.stdout + result.stderr


def test_refused_document_changes_nothing(apply):
    """`kubectl apply` is denied: what was applied before goes on."""
    site = apply(("istio-system", "5-2/gateway-server-hosts-bookinfo-com.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star-gw-host-same.yaml"))
    start = len(site.gateway.log.lines)
    site.replace(1, "5-2/vs-bookinfo-hosts-star-mix-error.yaml")
    assert site.gateway.log.wait(r'domain name \\?"\*\\?" invalid \(label \\?"\*\\?" invalid\)', 5, start)
    check_paths(site)
    site.replace(1, "5-2/vs-bookinfo-hosts-star-gw-host-diff.yaml")
    eventually(lambda: site.status("bookinfo.com") == 404, 2, "the next good document is live")


def test_one_document_after_another(apply):
    """The VirtualServices of this part have one name: each `kubectl apply` replaces the last one,
    under one running gateway."""
    site = apply(("istio-system", "5-2/gateway-server-hosts-bookinfo-com.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star-gw-host-same.yaml"))
    assert site.status("bookinfo.com:31110") == 200
    for name, status in (("gw-host-diff", 404), ("host-contain-gw", 200), ("gw-host-diff", 404),
                         ("gw-host-same", 200)):
        site.replace(1, f"5-2/vs-bookinfo-hosts-star-{name}.yaml")
        eventually(lambda want=status: site.status("bookinfo.com:31110") == want, 2, name)
    site.replace(0, "5-2/gateway-server-hosts-multi.yaml")
    site.replace(1, "5-2/vs-bookinfo-hosts-star.yaml")
    eventually(lambda: site.status("bookinfo.demo:31110") == 200, 2, "the second name served")
    check_paths(site, "bookinfo.com:31110")


# ---- 5-2, several names, and wildcards

def test_several_names(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-multi.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star.yaml"))
    check_paths(site, "bookinfo.com:31110")
    check_paths(site, "bookinfo.demo:31110")
    assert site.status("bookinfo.org") == 404


def test_what_was_generated(apply):
    """"生成配置": `istioctl proxy-config routes`, column for column."""
    site = apply(("istio-system", "5-2/gateway-server-hosts-multi.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star.yaml"))
    listed = sluice("proxy-config", "routes", "--admin", site.gateway.admin)
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert rows[0] == "NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE".split()
    matches = ["/productpage", "/static*", "/login", "/logout", "/api/v1/products*"]
    name = f"http.{site.gateway.port}"
    for host in ("bookinfo.com", "bookinfo.demo"):
        mine = [row for row in rows if row[:1] == [name] and row[1] == f"{host}:80"]
        assert [row[3:] for row in mine] == [[m, "bookinfo.istio-system"] for m in matches], rows
        assert all(host in row[2].split(",") for row in mine)


def test_wildcard_gateway_and_one_name(apply):
    site = apply(("istio-system", "5-2/gateway-server-hosts-mix.yaml"))
    check_paths(site, "bookinfo.com")
    assert site.status("bookinfo.com:31110") == 200
    assert site.status("mypage.com") == 404


def test_wildcard_on_both_sides(apply, tmp_path):
    """With a port in Host as well, which the tutorial's Istio still answered with 404."""
    site = apply(("istio-system", "5-2/gateway-server-hosts-mix.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-mix.yaml"))
    check_paths(site, "mypage.com")
    for host in ("bookinfo.com:31110", "bookinfo.com", "mypage.com:80", "a.b.mypage.com"):
        assert site.status(host) == 200, host
    for host in ("bookinfo.demo", "com", "bookinfo.com.demo"):
        assert site.status(host) == 404, host


# ---- 5-3 and 5-4

def test_named_server(apply):
    site = apply(("istio-system", "5-3/gateway-server-name.yaml"),
                 ("istio-system", "5-2/vs-bookinfo-hosts-star.yaml"))
    check_paths(site)


def test_http(apply, upstream):
    site = apply(("istio", "5-4/gateway-01.yaml"), ("istio", "5-4/vs-bookinfo-hosts-star.yaml"))
    check_paths(site)
    seen = site.fetch("/productpage?u=normal", host="192.0.2.7:31110").json()
    assert seen["target"] == "/productpage?u=normal"
    assert dict(seen["headers"])["host"] == "192.0.2.7:31110"
