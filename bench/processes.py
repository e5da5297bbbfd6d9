"""Starting processes on a CPU with priority, and what CPU time and memory a tree of them used."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

from peers import Unavailable

TICK = os.sysconf("SC_CLK_TCK")
PRIORITY = -15


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
