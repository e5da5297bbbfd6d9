"""What `sluice analyze` says: one broken document for each rule, the tutorial's documents, and how
long ten thousand take."""
import json
import resource
from pathlib import Path

import pytest

from lib.gateway import ROOT, binary, sanitized, sluice

DATA = ROOT / "tests/data"
BROKEN = sorted((DATA / "broken").glob("*.yaml"))
TUTORIAL = sorted((DATA / "tutorial").glob("*/*.yaml"))
# What this version does not serve is told beside, and tested row by row in tests/unit/config.
UNSERVED = " is not served by this version: "
# Most of these documents are a Gateway alone; lint-gateway-unused.yaml is about just that.
UNUSED = ": no VirtualService names this Gateway: "


def slow_build():
    """Whether times mean nothing: a sanitizer's or a debug build."""
    return sanitized() or "debug" in Path(binary()).parts


def header(path, key):
    """The values of the `# key: value` lines that begin a document."""
    mark = f"# {key}: "
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[len(mark):] for line in lines if line.startswith(mark)]


def analyze(path, *args):
    """Findings as lines; run beside the document, so that its position begins with its name."""
    result = sluice("analyze", *args, "-f", path.name, cwd=path.parent)
    assert result.returncode in (0, 1), result.stderr
    return result


def text_of(finding):
    position = f"{finding['file']}:{finding['line']}:{finding['column']}"
    parts = [position, finding["severity"], finding["object"], finding["message"]]
    code = f" [{finding['code']}]" if finding["code"] else ""
    return ": ".join(p for p in parts if p) + code


@pytest.mark.parametrize("path", BROKEN, ids=lambda p: p.stem)
def test_broken_document(path):
    expected = header(path, "expect")
    args = " ".join(header(path, "args")).split()
    plain, as_json = analyze(path, *args), analyze(path, *args, "-o", "json")
    lines = plain.stdout.splitlines()
    assert [line for line in lines if UNSERVED not in line
            and (UNUSED not in line or path.stem == "lint-gateway-unused")] == expected
    findings = json.loads(as_json.stdout)
    assert [text_of(f) for f in findings] == lines
    assert all((f["code"] == "UNSERVED") == (UNSERVED in f["message"]) for f in findings)
    assert all(set(f) == {"severity", "code", "file", "line", "column", "object", "message"}
               for f in findings)
    has_error = any(f["severity"] == "error" for f in findings)
    assert plain.returncode == as_json.returncode == int(has_error)


def test_broken_documents_are_of_every_rule():
    told = "\n".join(line for path in BROKEN for line in header(path, "expect"))
    codes = (101, 106, 112, 118, 128, 129, 130, 131, 132, 133, 138, 145, 161, 162, 173, 174)
    assert [c for c in codes if f"[IST0{c}]" not in told] == []
    assert all(header(path, "expect") for path in BROKEN) and len(BROKEN) > 200


def test_every_finding_is_told_at_once(tmp_path):
    """The broken documents as one folder: what is wrong with one hides nothing of another."""
    texts = {p: p.read_text(encoding="utf-8") for p in BROKEN if not p.name.startswith("lint-")}
    errors = 0
    for path, text in texts.items():
        (tmp_path / path.name).write_text(text, encoding="utf-8")
        if not header(path, "args"):
            errors += sum("[IST0106]" in e and ": error: " in e for e in header(path, "expect"))
    found = sluice("analyze", "-f", tmp_path).stdout.splitlines()
    args = {p.name for p in BROKEN if header(p, "args")}
    told = [f for f in found if "[IST0106]" in f and ": error: " in f
            and Path(f.split(":")[0]).name not in args]
    assert len(told) == errors


# ---- the tutorial

# Errors and warnings of its documents, each analysed beside its chapter and its cluster. No other
# is allowed; the first is the one that the tutorial shows being refused.
OLD_TLS = ("TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer "
           "include compatible ciphers. Without them ")
TARGET_PORT = "targetPort has no impact on Gateways, it is ignored [IST0106]"
TOLD = {
    "5-2/vs-bookinfo-hosts-star-mix-error.yaml":
        '7:5: error: VirtualService istio/bookinfo: domain name "*" invalid (label "*" invalid) [IST0106]',
    "5-7/gateway-http2.yaml": "13:19: warning: Gateway istio/bookinfo-gateway: " + TARGET_PORT,
    "5-12/gateway-grpc-web.yaml": "13:19: warning: Gateway istio/bookinfo-gateway: " + TARGET_PORT,
    "5-14/vs-nginx-tcp.yaml": # which the tutorial shows not to work
        "11:5: error: VirtualService istio/nginx: a tcp route is not used by the PASSTHROUGH server "
        "of Gateway istio/bookinfo-gateway: only tls routes (match sniHosts) are",
    "5-14/gateway-istio-mutual.yaml":
        "15:23: warning: Gateway istio/bookinfo-gateway: ISTIO_MUTUAL TLS cannot have associated "
        "credentialName in Istio; here that secret is the gateway's identity [IST0106]",
    "5-18/gateway-tls-version-tlsv1_0.yaml": "16:7: warning: Gateway istio/bookinfo-gateway: " + OLD_TLS
        + "no client can connect [IST0133]",
    "5-18/gateway-tls-version-tlsv1_0-tlsv1_3.yaml":
        "16:7: warning: Gateway istio/bookinfo-gateway: " + OLD_TLS
        + "clients below TLSV1_2 cannot connect [IST0133]",
    "5-19/gateway-subjectAltNames.yaml":
        "17:8: warning: Gateway istio/bookinfo-gateway: subjectAltNames has no effect in SIMPLE mode: "
        "no client certificate is asked for [IST0133]",
}
REFUSED = "vs-bookinfo-hosts-star-mix-error.yaml"
# Applied in istio-system: there `productpage` is no Service, the tutorial gets a 503.
NO_NAMESPACE = "vs-bookinfo-hosts-star-host-no-namespace.yaml"


def beside(path, namespace="istio"):
    """`kubectl apply` of the cluster, of the chapter, then of this document."""
    gateway = DATA / "tutorial/5-2/gateway-server-hosts-star.yaml"
    yield from ("-f", DATA / "tutorial-cluster.yaml")
    if path.name.startswith("vs-bookinfo"):
        yield from ("-n", "istio-system" if "namespace" in path.name else "istio", "-f", gateway)
    yield from ("-n", namespace)
    for other in sorted(path.parent.glob("*.yaml")):
        if other not in (path, gateway) and other.name not in (REFUSED, NO_NAMESPACE):
            yield from ("-f", other)
    yield from ("-f", path)


def told_of(path, *args):
    found = sluice("analyze", *args).stdout.splitlines()
    return [line.removeprefix(f"{path}:") for line in found
            if line.startswith(f"{path}:") and ": info: " not in line
            and UNSERVED not in line and UNUSED not in line
            and "as kubectl apply would" not in line]


@pytest.mark.parametrize("path", TUTORIAL, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_tutorial_document(path):
    namespace = "istio-system" if path.name == NO_NAMESPACE else "istio"
    expected = TOLD.get(f"{path.parent.name}/{path.name}")
    if path.name == NO_NAMESPACE:
        expected = ('24:15: error: VirtualService istio-system/bookinfo: Referenced host not found: '
                    f'"productpage"; there is Service istio/productpage ({DATA / "tutorial-cluster.yaml"}:2): '
                    'was -n istio or the host productpage.istio.svc.cluster.local meant? [IST0101]')
    assert told_of(path, *beside(path, namespace)) == ([expected] if expected else [])


def test_tutorial_is_there_in_full():
    assert len(TUTORIAL) > 50 and {f"{p.parent.name}/{p.name}" for p in TUTORIAL} >= set(TOLD)


# ---- ten thousand documents

DOCUMENTS = {"Gateway": 500, "Service": 2500, "EndpointSlice": 2500, "DestinationRule": 1000,
             "VirtualService": 3500}


def service(i):
    return f"""apiVersion: v1
kind: Service
metadata:
  name: service-{i}
  namespace: team-{i % 50}
  labels:
    app: app-{i}
spec:
  selector:
    app: app-{i}
  ports:
  - name: http
    port: 8080
    targetPort: 80
"""


def endpoint_slice(i):
    addresses = "".join(f"- addresses:\n  - 10.{i >> 8}.{i & 255}.{n}\n  conditions:\n    ready: true\n"
                        f"  targetRef:\n    kind: Pod\n    name: app-{i}-{n}\n" for n in range(1, 5))
    return f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-{i}-abc
  namespace: team-{i % 50}
  labels:
    kubernetes.io/service-name: service-{i}
addressType: IPv4
ports:
- name: http
  port: 80
endpoints:
{addresses}"""


def gateway(i):
    return f"""apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: gateway-{i}
  namespace: team-{i % 50}
spec:
  selector:
    istio: ingressgateway
  servers:
  - port:
      number: 80
      name: http
      protocol: HTTP
    hosts:
    - "*.domain-{i}.example.com"
    - "domain-{i}.example.com"
  - port:
      number: 8080
      name: http-alt
      protocol: HTTP
    hosts:
    - "team-{i % 50}/*.alt-{i}.example.com"
"""


def destination_rule(i):
    return f"""apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: rule-{i}
  namespace: team-{i % 50}
spec:
  host: service-{i}
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
    connectionPool:
      tcp:
        connectTimeout: 500ms
"""


def virtual_service(i):
    service_number = i % 2500
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: route-{i}
  namespace: team-{service_number % 50}
spec:
  hosts:
  - "host-{i}.domain-{i % 500}.example.com"
  gateways:
  - team-{i % 50}/gateway-{i % 500}
  http:
  - name: api
    match:
    - uri:
        prefix: /api/v1/
      headers:
        x-tenant:
          exact: tenant-{i % 7}
    - uri:
        regex: "/users/[0-9]+"
    rewrite:
      uri: /
    timeout: 5s
    retries:
      attempts: 3
      perTryTimeout: 2s
      retryOn: 5xx,reset
    route:
    - destination:
        host: service-{service_number}
        port:
          number: 8080
      weight: 90
    - destination:
        host: service-{service_number}.team-{service_number % 50}.svc.cluster.local
        port:
          number: 8080
      weight: 10
  - route:
    - destination:
        host: service-{service_number}
        port:
          number: 8080
"""


@pytest.fixture(scope="module")
def ten_thousand(tmp_path_factory):
    """As exported from a cluster: a file for every fifty objects of a kind."""
    folder = tmp_path_factory.mktemp("cluster")
    write = {"Gateway": gateway, "Service": service, "EndpointSlice": endpoint_slice,
             "DestinationRule": destination_rule, "VirtualService": virtual_service}
    for kind, count in DOCUMENTS.items():
        for first in range(0, count, 50):
            texts = [write[kind](i) for i in range(first, min(first + 50, count))]
            (folder / f"{kind.lower()}-{first}.yaml").write_text("---\n".join(texts))
    return folder


def test_ten_thousand_documents_in_a_second(ten_thousand):
    """User and system time, because the machine may be shared."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = sluice("analyze", "-f", ten_thousand, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert result.returncode == 0 and result.stdout == "", result.stdout[:2000]
    assert "no problems found in 10000 documents" in result.stderr
    print(f"10,000 documents: {spent:.2f} s of CPU time")
    assert spent < (30 if slow_build() else 1.0), f"{spent:.2f} s"


def test_findings_of_a_large_folder_stay_linear(ten_thousand, tmp_path):
    """Every VirtualService broken in one way: twice as many take about twice as long, not four times."""
    seconds = []
    for count in (1000, 4000):
        folder = tmp_path / str(count)
        folder.mkdir()
        text = "---\n".join(virtual_service(i % 3500).replace("host: service-", "host: missing-")
                            .replace(f"route-{i % 3500}\n", f"route-{i}\n") for i in range(count))
        (folder / "all.yaml").write_text(text)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = sluice("analyze", "-f", folder, timeout=60).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert found.count("Referenced host not found") == 3 * count
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert seconds[1] < 10 * seconds[0] + 0.1, seconds
