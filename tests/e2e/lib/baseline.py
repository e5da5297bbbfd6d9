"""What a gateway holds when nobody asks anything of it, and that it comes back to it."""
import re

from lib.waiting import eventually

# Gauges that count what a connection or a request takes.
HELD = ("downstream_cx_active", "downstream_rq_active", "exchanges_active", "snapshot_pins",
        "buffers_out", "output_chunks", "tunnel_active")


class Baseline:
    """The gauges of a quiet gateway; `upstreams` are its backends, whose kept connections are
    not a leak: there are as many as they have open."""

    def __init__(self, gateway, *upstreams):
        self.gateway, self.upstreams = gateway, upstreams
        self.memory = resident(gateway)
        self.gauges = None
        self.gauges = eventually(self._quiet, what="a quiet gateway")

    def _left(self):
        metrics = self.gateway.metrics()
        left = {name: v for name in HELD if (v := metrics.get("sluice_" + name))}
        kept = sum(not c.ended.is_set() for u in self.upstreams for c in u.connections)
        if self.upstreams and (v := metrics.get("sluice_upstream_cx_active")) != kept:
            left["upstream_cx_active"] = (v, kept)
        if (v := metrics.get("sluice_snapshots_alive")) != 1:
            left["snapshots_alive"] = v
        return left

    def _quiet(self):
        return not self._left()

    def returns(self, timeout=15.0):
        """Everything has been given back."""
        try:
            eventually(self._quiet, timeout)
        except AssertionError:
            raise AssertionError(f"leaked: {self._left()}")

    def grown(self):
        """Bytes of resident memory since the beginning."""
        return resident(self.gateway) - self.memory


def resident(gateway):
    """The process's own resident bytes (proportional set size)."""
    with open(f"/proc/{gateway.pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M)[1]) * 1024
