"""Tables, and the files that a run leaves."""
import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


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


def print_load(title, unit, each, results):
    """`each`: how much of the unit an answer is."""
    results = {name: rs for name, rs in results.items() if rs}
    middle = {n: statistics.median(r["per_cpu_s"] for r in rs) for n, rs in results.items()}
    best = max((n for n in middle if n not in ("bare", "sluice")), key=middle.get, default=None)
    fastest = max((r["speed"] for rs in results.values() for r in rs), default=1)
    rows = []
    for name, rs in results.items():
        ratios = [ratio(rs, results.get(of, [])) for of in ("bare", best)]
        digits = 0 if each == 1 else 1
        rows.append([name, spread(rs, "per_cpu_s", each, digits), *ratios, spread(rs, "rate", each, digits),
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
