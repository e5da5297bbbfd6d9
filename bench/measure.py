"""One measurement: a gateway, its backend and a client, and the CPU they used."""
import array
import contextlib
import json
import os
import random
import subprocess
import sys
import time

from contenders import BIN
from peers import HOST, Job, Unavailable, run
from processes import busy_s, cpu_s, free_port, rss_kib, start, stop, wait_ready

WARM_UP_S = 0.3
NOISE_PCT = 15
WALK = 1 << 19


class Bench:
    """One run: CPUs, a work folder, the backend; starts contenders and loads them."""

    def __init__(self, options, work):
        self.options = options
        self.work = work
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            sys.exit("bench: two CPUs are needed, one for the gateway and one for its load")
        self.gateway_cpu, self.load_cpu = cpus[:2]
        self.walk = array.array("I", [0]) * WALK
        order = random.Random(1).sample(range(WALK), WALK)
        for here, there in zip(order, order[1:] + order[:1]):
            self.walk[here] = there

    def credential(self, key):
        """A certificate for HOST and its key, made once for each kind of key: their paths."""
        certificate, private = self.work / f"{key}.pem", self.work / f"{key}.key"
        if not certificate.exists():
            kind = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]}.get(
                key, ["-newkey", key.replace("rsa", "rsa:")])
            run("openssl", "req", "-x509", "-nodes", "-days", "2", *kind, "-subj", f"/CN={HOST}",
                "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", private, "-out", certificate)
        return certificate, private

    @contextlib.contextmanager
    def backend(self, size, tls=False):
        certificate, key = self.credential("ec")
        flags = ["--certificate", certificate, "--key", key] if tls else []
        p = start([BIN / "bench-backend", "--bytes", size, *flags], self.load_cpu, stdout=subprocess.PIPE,
                  text=True)
        try:
            yield p, int(p.stdout.readline())
        finally:
            stop(p)

    @contextlib.contextmanager
    def gateway(self, contender, kind, upstream, bulk=False, key="ec"):
        """A contender at `kind` of work (peers.Job), ready: its process and its port."""
        port = free_port()
        certificate, private = self.credential(key) if kind == "https" else (None, None)
        job = Job(kind, port, upstream, self.work, bulk, certificate, private)
        path = self.work / f"{contender.name}.log"
        with path.open("w") as log:
            p = start(contender.command(job), self.gateway_cpu,
                      stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                wait_ready(p, port, path)
                yield p, port
            finally:
                stop(p)

    def client(self, port, seconds, *flags):
        cmd = [BIN / "bench-client", "--port", port, "--seconds", seconds, *flags]
        p = start(cmd, self.load_cpu, stdout=subprocess.PIPE, text=True)
        try:
            out, _ = p.communicate(timeout=seconds + 30)
        finally:
            stop(p)
        if not out:
            raise Unavailable(f"the client ended with {p.returncode}")
        return json.loads(out)

    def limit(self, row):
        """What BoringSSL alone does of the row's work, in the shape of a measurement."""
        certificate, key = self.credential(row.key)
        p = start([BIN / "bench-limit", "--work", row.limit, "--seconds", self.options.seconds,
                   "--certificate", certificate, "--key", key], self.gateway_cpu,
                  stdout=subprocess.PIPE, text=True)
        out, _ = p.communicate(timeout=self.options.seconds * 10 + 30)
        if p.returncode:
            raise Unavailable(f"bench-limit ended with {p.returncode}")
        rate = json.loads(out)["per_cpu_s"] / (row.size if row.limit == "seal" else 1)
        return {"per_cpu_s": rate, "rate": rate, "p50_us": 0, "p99_us": 0, "rss_kib": 0, "gateway_pct": 100,
                "load_pct": 0, "foreign_pct": 0, "speed": self.speed(), "errors": 0}

    def speed(self):
        """Steps a CPU-second of a fixed walk through memory, on the gateway's CPU. It drops when
        other guests of the same host take cycles or cache, which nothing else in here shows."""
        old = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.gateway_cpu})
        t, at = time.thread_time(), 0
        for _ in range(WALK):
            at = self.walk[at]
        os.sched_setaffinity(0, old)
        return WALK / (time.thread_time() - t)

    def load(self, gateway, backend, port, *flags):
        """The quietest of up to three measurements (quick: the one), after a short warm-up."""
        self.client(port, WARM_UP_S, *flags)
        tries = []
        while len(tries) < (1 if self.options.quick else 3) and all(r["foreign_pct"] > NOISE_PCT for r in tries):
            tries.append(self.load_once(gateway, backend, port, *flags))
            if tries[-1]["errors"]:
                return tries[-1]
        return min(tries, key=lambda r: r["foreign_pct"])

    def load_once(self, gateway, backend, port, *flags):
        """The client's figures and the CPU used meanwhile."""
        speed = self.speed()
        t0, gw0, be0, busy0 = time.monotonic(), cpu_s(gateway.pid), cpu_s(backend.pid), busy_s()
        r = self.client(port, self.options.seconds, *flags)
        t1, gw1, be1, busy1 = time.monotonic(), cpu_s(gateway.pid), cpu_s(backend.pid), busy_s()
        wall, gw = t1 - t0, gw1 - gw0
        ours = {self.gateway_cpu: gw, self.load_cpu: be1 - be0 + r["cpu_s"]}
        r["gateway_cpu_s"] = gw
        r["per_cpu_s"] = r["responses"] / gw if gw else 0
        r["gateway_pct"] = 100 * gw / wall
        r["load_pct"] = 100 * ours[self.load_cpu] / wall
        r["foreign_pct"] = max(
            max(0, 100 * (busy1[c] - busy0[c] - ours[c]) / wall) for c in ours)
        r["rss_kib"] = rss_kib(gateway.pid)
        r["speed"] = speed
        return r
