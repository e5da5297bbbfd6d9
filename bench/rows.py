"""The rows of the benchmark: which work, by whom, and the table it makes."""
import contextlib
import resource
import subprocess
import time
import typing

from contenders import BIN
from measure import WARM_UP_S
from peers import Unavailable, say
from processes import rss_kib, start, stop
from report import print_load, table, tell


def in_turn(names, n):
    """Another order each round: everyone comes first, and after everyone else, equally often."""
    at = n // 2 % max(len(names), 1)
    return (names[at:] + names[:at])[::-1 if n % 2 else 1]


class Load(typing.NamedTuple):
    """A row that loads contenders with requests."""
    title: str
    kind: str  # peers.Job
    size: int = 1024  # of an answer's body
    client: tuple = ("--conns", 64)
    tls_backend: bool = False
    key: str = "ec"  # of the certificate; "rsa2048"
    limit: str = ""  # bench-limit's name of the work, where it is the bare limit

    @property
    def bulk(self):
        return self.size >= 1 << 20

    @property
    def unit(self):
        """Name of what is counted, and how much of it an answer is."""
        return ("Gbit", self.size * 8 / 1e9) if self.bulk else ("req", 1)


BULK = ("--conns", 8, "--bytes", 10 << 20, "--buffer", 1 << 16)
LOADS = {
    "h1": Load("HTTP/1.1 keep-alive, 64 connections, 1 KiB", "http"),
    "relay": Load("TCP relay, 64 connections, 1 KiB round trips", "tcp"),
    "relay-conn": Load("TCP relay, a connection a request, 1 KiB", "tcp",
                       client=("--conns", 64, "--close")),
    "relay-bulk": Load("TCP relay, 8 connections, 10 MiB", "tcp", 10 << 20, BULK),
    "passthrough": Load("TLS passed through by server name, a (resumed) connection a request", "sni",
                        client=("--conns", 64, "--close", "--resume"), tls_backend=True),
    "https": Load("HTTPS HTTP/1.1 keep-alive, 64 connections, 1 KiB", "https",
                  client=("--conns", 64, "--tls")),
    "handshake": Load("TLS 1.3 full handshakes, P-256, one request each", "https",
                      client=("--conns", 64, "--close", "--tls"), limit="handshake"),
    "handshake-rsa": Load("TLS 1.3 full handshakes, RSA-2048, one request each", "https",
                          client=("--conns", 64, "--close", "--tls"), key="rsa2048",
                          limit="handshake"),
    "resume": Load("TLS 1.3 resumed handshakes, one request each", "https",
                   client=("--conns", 64, "--close", "--resume"), limit="resume"),
    "bulk": Load("HTTPS HTTP/1.1, 8 connections, 10 MiB", "https", 10 << 20, (*BULK, "--tls"),
                 limit="seal"),
}


def row_load(name, bench, field):
    """All contenders in turn, round by round: {contender: measurements}, {contender: why not}."""
    row = LOADS[name]
    results, failed = {}, {}
    with contextlib.ExitStack() as stack:
        backend, upstream = stack.enter_context(bench.backend(row.size, row.tls_backend))
        running = {}
        for c in (c for c in field if row.kind in c.kinds):
            results[c.name] = []
            try:
                running[c.name] = stack.enter_context(
                    bench.gateway(c, row.kind, upstream, row.bulk, row.key))
            except Unavailable as why:
                failed[c.name] = str(why)
        for n in range(bench.options.rounds):
            if row.limit and any(c.name == "bare" for c in field):
                results.setdefault("bare", []).append(bench.limit(row))
            for who in in_turn(list(running), n):
                say(f"{name} round {n + 1}/{bench.options.rounds}: {who}")
                gateway, port = running[who]
                try:
                    results[who].append(bench.load(gateway, backend, port, *row.client))
                except Unavailable as why:
                    failed[who] = str(why)
                    del running[who]
    print_load(row.title, *row.unit, results)
    return results, failed


IDLE = {"idle": "http", "idle-tls": "https"}


def row_idle(name, bench, field):
    """What an idle connection that did one request costs in memory."""
    kind = IDLE[name]
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    conns = 1000 if bench.options.quick else min(10000, nofile // 3 * 2)
    results, failed = {}, {}
    with bench.backend(1024) as (_, upstream):
        for c in (c for c in field if c.name != "bare"):
            say(f"{name}: {c.name}, {conns} connections")
            try:
                with bench.gateway(c, kind, upstream) as (gateway, port):
                    results[c.name] = [hold_idle(bench, gateway, port, conns, kind)]
            except Unavailable as why:
                failed[c.name] = str(why)
    tell(f"\nmemory of an idle {kind.upper()} connection\n")
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


def hold_idle(bench, gateway, port, conns, kind):
    """What `conns` connections that each did one request add to the gateway's memory."""
    tls = ["--tls"] if kind == "https" else []
    bench.client(port, WARM_UP_S, "--conns", 16, *tls)
    before = settled(lambda: rss_kib(gateway.pid))
    p = start([BIN / "bench-idle", "--port", port, "--conns", conns, *tls], bench.load_cpu,
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


ROWS = {**dict.fromkeys(LOADS, row_load), **dict.fromkeys(IDLE, row_idle)}
