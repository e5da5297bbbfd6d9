"""What is measured: Sluice, the bare limits, and the peers (peers.py)."""
import os
import pathlib

import peers
from peers import HOST, Unavailable
from processes import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("SLUICE_BENCH_BIN") or ROOT / "zig-out" / "bin")


class Bare:
    """The bare limits. They do the least that can be called the work, so they are no peers."""
    name = "bare"
    version = "bench-relay, bench-splice"
    kinds = ("http", "tcp", "sni")
    config = ("io_uring, one upstream connection for each client's, no parsing; where answers are large, "
              "splice(2)\n")

    def __init__(self):
        self.relay, self.splice = need(BIN / "bench-relay"), need(BIN / "bench-splice")

    def command(self, job):
        return [self.splice if job.bulk else self.relay, "--port", job.port, "--upstream", job.upstream]


class Sluice:
    name = "sluice"
    kinds = ("http", "tcp", "https", "sni")
    documents = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bench, namespace: bench}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: bench, protocol: {protocol}}}
    hosts: ["{host}"]
    tls: {tls}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bench, namespace: bench}}
spec:
  hosts: ["{host}"]
  gateways: [bench]
  {rules}:
  - route:
    - destination: {{host: backend, port: {{number: 80}}}}
    {match}
---
apiVersion: v1
kind: Service
metadata: {{name: backend, namespace: bench}}
spec:
  ports:
  - {{name: http, port: 80, targetPort: {upstream}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  namespace: bench
  labels: {{kubernetes.io/service-name: backend}}
addressType: IPv4
ports:
- {{name: http, port: {upstream}}}
endpoints:
- addresses: ["127.0.0.1"]
"""

    def __init__(self):
        self.binary = need(BIN / "sluice")
        self.version = peers.run(self.binary, "version").strip().splitlines()[0]

    def command(self, job):
        self.config = self.documents.format(port=job.port, upstream=job.upstream, **self.rules(job))
        path = job.work / f"sluice-{job.port}.yaml"
        path.write_text(self.config)
        return [self.binary, "run", "-f", path, "--workers", "1", "--admin",
                f"127.0.0.1:{free_port()}", "--status-port", "0", "--metrics-port", "0"]

    @staticmethod
    def rules(job):
        """What differs from kind to kind."""
        simple = f"{{mode: SIMPLE, serverCertificate: {job.certificate}, privateKey: {job.key}}}"
        sni = f'match: [{{sniHosts: ["{HOST}"]}}]'
        protocol, host, tls, rules, match = {
            "http": ("HTTP", "*", "null", "http", ""),
            "https": ("HTTPS", "*", simple, "http", ""),
            "tcp": ("TCP", "*", "null", "tcp", ""),
            "sni": ("TLS", HOST, "{mode: PASSTHROUGH}", "tls", sni),
        }[job.kind]
        return {"protocol": protocol, "host": host, "tls": tls, "rules": rules, "match": match}


def need(path):
    if not path.exists():
        raise Unavailable(f"{path.name} is not built")
    return path


ALL = [Bare, Sluice, *peers.ALL]


def ready(only):
    """Those that can run here, and {name: why not} of the others."""
    there, skipped = [], {}
    for kind in ALL:
        if only and kind.name not in only:
            continue
        try:
            there.append(kind())
        except Unavailable as why:
            skipped[kind.name] = str(why)
    return there, skipped
