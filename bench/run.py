#!/usr/bin/env python3
"""Measures Sluice beside nginx, HAProxy, Envoy and the bare relay, in one run.

    ./dev bench [--quick] [--rounds N] [--seconds S] [--only NAME,…] [--verbose] [ROW…]

Rows:  h1    HTTP/1.1 keep-alive, 64 connections, 1 KiB answers (DESIGN.md, first row)
       idle  memory of an idle HTTP connection (10,000 of them, or what nofile allows)

All contenders are up at once and take turns, in another order each round, so that each is compared
with what ran within seconds of it. Each has one worker, pinned with all it starts to the first
CPU; client and backend share the second. What counts is work per CPU-second of the contender's own
processes, all threads of them (the kernel's io-wq threads are theirs): that holds when the machine is
shared or the client is the limit. Where it is allowed, everything measured runs with priority.

Foreign CPU (what neither we nor the contender used) is noise: a measurement with more than 15 % of
it is repeated, twice at most, and the quietest one is kept; beyond a few per cent do not quote
the figures. Nor where `speed` (a fixed walk through memory, relative to the run's fastest) is far
below 100 %: then the host is shared, and a CPU-second was worth less. The ratios are medians of the
rounds' own, and stand more noise than the figures do.

Every run leaves its raw figures (JSON) and its tables (text) in bench/results; an answer that is
wrong in status, length or content, or missing, fails it.
"""
import argparse
import array
import contextlib
import datetime
import json
import os
import pathlib
import platform
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import peers  # noqa: E402
from peers import Unavailable, say  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("SLUICE_BENCH_BIN") or ROOT / "zig-out" / "bin")
TICK = os.sysconf("SC_CLK_TCK")
WARM_UP_S = 0.3
NOISE_PCT = 15
WALK = 1 << 19
PRIORITY = -15


# ----------------------------------------------------------------------------------- processes

def take_priority():
    """For a session leader: its session before all others, as far as that is allowed."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        # Where sessions are scheduled as groups, the first line counts only within one.
        pathlib.Path("/proc/self/autogroup").write_text(str(PRIORITY))


def start(cmd, cpu, **kw):
    """A process in a session of its own, pinned to a CPU together with all it starts."""
    def prepare():
        os.sched_setaffinity(0, {cpu})
        take_priority()
    return subprocess.Popen([str(c) for c in cmd], start_new_session=True, preexec_fn=prepare, **kw)


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tree(pid):
    """The process and its descendants."""
    pids = [pid]
    for p in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{p}/task"):
                text = pathlib.Path(f"/proc/{p}/task/{task}/children").read_text()
                pids += [int(child) for child in text.split()]
    return pids


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third on."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def threads_s(pid):
    """CPU time of the threads that a process has now, in nanoseconds' resolution."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError, IndexError):
            text = pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text()
            total += int(text.split()[0])
    return total / 1e9


def cpu_s(pid):
    """CPU time of the whole tree: user + system, all threads (io-wq's among them), and, in ticks,
    threads and children that have ended. Both counts are too low, never too high."""
    total = 0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            own, ended = stat_fields(p)[11:13], stat_fields(p)[13:15]
            total += max(sum(map(int, own)) / TICK, threads_s(p)) + sum(map(int, ended)) / TICK
    return total


def rss_kib(pid):
    total = 0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{p}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
    return total


def busy_s():
    """{cpu: seconds busy since boot}, time stolen by the host included."""
    out = {}
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *n = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, n[:8])
            out[int(name[3:])] = (user + nice + system + irq + softirq + steal) / TICK
    return out


def free_port():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(process, port, log, limit_s=15):
    """Until the port accepts, or Unavailable with the last lines of its log."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
    state = "does not listen" if process.poll() is None else f"exit {process.returncode}"
    raise Unavailable(f"{state}: {tail}")


# --------------------------------------------------------------------------------- contenders

class Bare:
    name = "bare"
    version = "bench-relay"
    config = "io_uring, one upstream connection for each client's, no parsing\n"

    def __init__(self):
        need(BIN / "bench-relay")

    def command(self, port, upstream, work):
        del work
        return [BIN / "bench-relay", "--port", port, "--upstream", upstream]


class Sluice:
    name = "sluice"
    documents = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bench, namespace: bench}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bench, namespace: bench}}
spec:
  hosts: ["*"]
  gateways: [bench]
  http:
  - route:
    - destination: {{host: backend, port: {{number: 80}}}}
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

    def command(self, port, upstream, work):
        self.config = self.documents.format(port=port, upstream=upstream)
        path = work / f"sluice-{port}.yaml"
        path.write_text(self.config)
        return [self.binary, "run", "-f", path, "--workers", "1", "--admin",
                f"127.0.0.1:{free_port()}", "--status-port", "0", "--metrics-port", "0"]


def need(path):
    if not path.exists():
        raise Unavailable(f"{path.name} is not built")
    return path


ALL = [Bare, Sluice, *peers.ALL]


def contenders(only):
    """Those that can run here, and {name: why not} of the others."""
    ready, skipped = [], {}
    for kind in ALL:
        if only and kind.name not in only:
            continue
        try:
            ready.append(kind())
        except Unavailable as why:
            skipped[kind.name] = str(why)
    return ready, skipped


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

    @contextlib.contextmanager
    def backend(self, size):
        p = start([BIN / "bench-backend", "--bytes", size], self.load_cpu, stdout=subprocess.PIPE,
                  text=True)
        try:
            yield p, int(p.stdout.readline())
        finally:
            stop(p)

    @contextlib.contextmanager
    def gateway(self, contender, upstream):
        port = free_port()
        path = self.work / f"{contender.name}.log"
        with path.open("w") as log:
            p = start(contender.command(port, upstream, self.work), self.gateway_cpu,
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


# --------------------------------------------------------------------------------------- rows

def in_turn(names, n):
    """Another order each round: everyone comes first, and after everyone else, equally often."""
    at = n // 2 % max(len(names), 1)
    return (names[at:] + names[:at])[::-1 if n % 2 else 1]


def row_h1(bench, field):
    """HTTP/1.1 keep-alive, 64 connections, 1 KiB"""
    results, failed = {c.name: [] for c in field}, {}
    with bench.backend(1024) as (backend, upstream), contextlib.ExitStack() as stack:
        running = {}
        for c in field:
            try:
                running[c.name] = stack.enter_context(bench.gateway(c, upstream))
            except Unavailable as why:
                failed[c.name] = str(why)
        for n in range(bench.options.rounds):
            for name in in_turn(list(running), n):
                say(f"h1 round {n + 1}/{bench.options.rounds}: {name}")
                gateway, port = running[name]
                try:
                    results[name].append(bench.load(gateway, backend, port, "--conns", 64))
                except Unavailable as why:
                    failed[name] = str(why)
                    del running[name]
    print_load(row_h1.__doc__, "req", results)
    return results, failed


def row_idle(bench, field):
    """memory of an idle HTTP connection"""
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    conns = 1000 if bench.options.quick else min(10000, nofile // 3 * 2)
    results, failed = {}, {}
    with bench.backend(1024) as (_, upstream):
        for c in (c for c in field if c.name != "bare"):
            say(f"idle: {c.name}, {conns} connections")
            try:
                with bench.gateway(c, upstream) as (gateway, port):
                    results[c.name] = [hold_idle(bench, gateway, port, conns)]
            except Unavailable as why:
                failed[c.name] = str(why)
    tell(f"\n{row_idle.__doc__}\n")
    tell(table(["contender", "connections", "RSS before KiB", "after KiB", "KiB a connection"],
                [[n, r["conns"], r["before_kib"], r["after_kib"], f'{r["per_conn_kib"]:.2f}']
                 for n, (r,) in results.items()]))
    return results, failed


def settled(read, limit_s=5):
    """What `read` returns once it has returned the same for half a second."""
    end = time.monotonic() + limit_s
    last, since = read(), time.monotonic()
    while time.monotonic() < min(end, since + 0.5):
        time.sleep(0.05)
        value = read()
        if value != last:
            last, since = value, time.monotonic()
    return last


def hold_idle(bench, gateway, port, conns):
    """What `conns` connections that each did one request add to the gateway's memory."""
    bench.client(port, WARM_UP_S, "--conns", 16)
    before = settled(lambda: rss_kib(gateway.pid))
    p = start([BIN / "bench-idle", "--port", port, "--conns", conns], bench.load_cpu,
              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        opened = int((p.stdout.readline().split() or ["", 0])[1])
        after = settled(lambda: rss_kib(gateway.pid))
        p.stdin.close()
        p.wait(30)
    finally:
        stop(p)
    return {"conns": opened, "errors": conns - opened, "before_kib": before, "after_kib": after,
            "per_conn_kib": (after - before) / max(opened, 1)}


ROWS = {"h1": row_h1, "idle": row_idle}


# ------------------------------------------------------------------------------------ printing

told = []


def tell(text):
    """Prints a line of the report and keeps it for the file beside the raw figures."""
    told.append(text)
    print(text)


def table(head, rows):
    cells = [[str(c) for c in row] for row in [head, *rows]]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, width))) for row in cells)


def spread(results, key, scale=1, digits=0):
    v = [r[key] * scale for r in results]
    f = f"{{:.{digits}f}}"
    text = f.format(statistics.median(v))
    return text if len(v) == 1 else f"{text} ({f.format(min(v))}–{f.format(max(v))})"


def ratio(results, to):
    """Median of the ratios within each round: the machine's speed drifts from round to round."""
    pairs = [r["per_cpu_s"] / t["per_cpu_s"] for r, t in zip(results, to) if t["per_cpu_s"]]
    return f"{statistics.median(pairs):.2f}" if pairs else "–"


def print_load(title, unit, results):
    results = {name: rs for name, rs in results.items() if rs}
    middle = {n: statistics.median(r["per_cpu_s"] for r in rs) for n, rs in results.items()}
    best = max((n for n in middle if n not in ("bare", "sluice")), key=middle.get, default=None)
    fastest = max((r["speed"] for rs in results.values() for r in rs), default=1)
    rows = []
    for name, rs in results.items():
        ratios = [ratio(rs, results.get(of, [])) for of in ("bare", best)]
        rows.append([name, spread(rs, "per_cpu_s"), *ratios, spread(rs, "rate"),
                     spread(rs, "p50_us", 1e-3, 2), spread(rs, "p99_us", 1e-3, 2),
                     f'{max(r["rss_kib"] for r in rs) / 1024:.0f}', spread(rs, "gateway_pct"),
                     spread(rs, "load_pct"), spread(rs, "foreign_pct"), spread(rs, "speed", 100 / fastest),
                     sum(r["errors"] for r in rs)])
    tell(f"\n{title}: median (min–max)\n")
    tell(table(["contender", f"{unit} per CPU-s", "÷ bare", "÷ best peer", f"{unit}/s", "p50 ms",
                "p99 ms", "RSS MiB", "gateway CPU %", "load CPU %", "foreign CPU %", "speed %",
                "errors"], rows))


def sysctl(name):
    with contextlib.suppress(OSError):
        return pathlib.Path("/proc/sys/net", name).read_text().strip()
    return "?"


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = [line.partition(":")[2].strip() for line in text.splitlines()
             if line.startswith("model name")]
    return {"cpu": model[0] if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(),
            "congestion control": sysctl("ipv4/tcp_congestion_control"),
            "somaxconn": sysctl("core/somaxconn"), "priority": "yes" if os.geteuid() == 0 else "no",
            "load average": " ".join(f"{n:.1f}" for n in os.getloadavg())}


def commit():
    git = shutil.which("git")
    if git is None:
        return "?"
    p = subprocess.run([git, "-C", str(ROOT), "describe", "--always", "--dirty"],
                       capture_output=True, text=True)
    return p.stdout.strip() or "?"


def keep(options, field, skipped, results):
    """Raw figures as JSON; those of --quick under a name that git ignores."""
    now = datetime.datetime.now(datetime.timezone.utc)
    kind = "tmp-quick" if options.quick else now.strftime("%Y-%m-%dT%H%M%SZ")
    path = ROOT / "bench" / "results" / f"{kind}-{'-'.join(results)}.json"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".txt").write_text("\n".join(told).strip() + "\n")
    about = {"date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine(),
             "seconds": options.seconds, "rounds": options.rounds,
             "versions": {c.name: c.version for c in field}, "skipped": skipped,
             "configurations": {c.name: getattr(c, "config", "") for c in field}}
    lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in about.items()]
    for row, by_name in results.items():  # a line for each measurement, whole or as a diff
        body = ",\n".join(f"  {json.dumps(name)}: [\n   " + ",\n   ".join(map(json.dumps, rs)) + "]"
                          for name, rs in by_name.items())
        lines.append(f" {json.dumps(row)}: {{\n{body}}}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return path


def arguments():
    p = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rows", nargs="*", metavar="ROW", help="default: every row")
    p.add_argument("--quick", action="store_true", help="one round of one second, whatever the noise")
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--seconds", type=float, default=2, help="of each measurement")
    p.add_argument("--only", type=lambda s: s.split(","), help="contenders, comma-separated")
    p.add_argument("--verbose", action="store_true", help="print the configurations used")
    options = p.parse_args()
    for row in options.rows:
        if row not in ROWS:
            p.error(f"unknown row '{row}'; there are: {', '.join(ROWS)}")
    for name in options.only or []:
        if name not in {c.name for c in ALL}:
            p.error(f"unknown contender '{name}'; there are: {', '.join(c.name for c in ALL)}")
    if options.quick:
        options.rounds, options.seconds = 1, min(options.seconds, 1)
    return options


def main():
    options = arguments()
    for name in ("bench-backend", "bench-client", "bench-idle"):
        need(BIN / name)
    field, skipped = contenders(options.only)
    results = {}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as work:
        bench = Bench(options, pathlib.Path(work))
        for row in options.rows or ROWS:
            results[row], failed = ROWS[row](bench, field)
            skipped.update((f"{name} ({row})", why) for name, why in failed.items())
    tell(f"\ncommit {commit()}, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, "
         f"{options.rounds} rounds of {options.seconds:g} s")
    tell("versions: " + "; ".join(f"{c.name} {c.version}" for c in field))
    tell("machine: " + "; ".join(f"{k} {v}" for k, v in machine().items()))
    for name, why in skipped.items():
        tell(f"skipped: {name}: {why}")
    if options.verbose:
        for c in field:
            print(f"\n--- {c.name}\n{getattr(c, 'config', '').rstrip()}")
    print(f"raw figures: {keep(options, field, skipped, results).relative_to(ROOT)}")
    errors = {f"{row}/{name}": [r for r in rs if r["errors"]]
              for row, by_name in results.items() for name, rs in by_name.items()}
    errors = {k: v for k, v in errors.items() if v}
    for where, rs in errors.items():
        print(f"ERRORS: {where}: {json.dumps(rs[0])}")
    silent = [name for name in skipped if name.startswith("sluice")]
    if silent:
        print("FAILED: sluice did not run")
    return 1 if errors or silent else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unavailable as why:
        sys.exit(f"bench: {why}")
