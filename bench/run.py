#!/usr/bin/env python3
"""Measures Sluice beside nginx, HAProxy, Envoy and the bare relay, in one run.

    ./dev bench [--quick] [--rounds N] [--seconds S] [--only NAME,…] [--verbose] [ROW…]

Rows:  h1             HTTP/1.1 keep-alive, 64 connections, 1 KiB answers
       relay          TCP relay, 64 connections, 1 KiB answers
       relay-conn     TCP relay, a connection for each request
       relay-bulk     TCP relay, 8 connections, 10 MiB answers
       passthrough    TLS passed through by server name, a (resumed) connection for each request
       https          HTTP/1.1 over TLS, keep-alive, 64 connections, 1 KiB answers
       handshake      TLS 1.3 full handshakes with P-256, one request each; handshake-rsa: RSA-2048
       resume         resumed handshakes, one request each
       bulk           HTTP/1.1 over TLS, 8 connections, 10 MiB answers
       idle           memory of an idle HTTP connection (10,000 of them, or what nofile allows)
       idle-tls       the same over TLS

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
import datetime
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import contenders  # noqa: E402
from measure import Bench  # noqa: E402
from peers import Unavailable  # noqa: E402
from report import commit, keep, machine, tell  # noqa: E402
from rows import ROWS  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


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
        if name not in {c.name for c in contenders.ALL}:
            p.error(f"unknown contender '{name}'; there are: {', '.join(c.name for c in contenders.ALL)}")
    if options.quick:
        options.rounds, options.seconds = 1, min(options.seconds, 1)
    return options


def main():
    options = arguments()
    for name in ("bench-backend", "bench-client", "bench-idle"):
        contenders.need(contenders.BIN / name)
    field, skipped = contenders.ready(options.only)
    results = {}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as work:
        bench = Bench(options, pathlib.Path(work))
        for row in options.rows or ROWS:
            results[row], failed = ROWS[row](row, bench, field)
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
