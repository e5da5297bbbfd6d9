"""Waiting for something that raises no event of its own (a counter, a file)."""
import time


def eventually(probe, timeout=5.0, what=""):
    """Returns the first true value of probe(); fails when none came in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or probe.__name__}")
        time.sleep(0.01)


def settled(sample, quiet=0.4, timeout=10.0):
    """The value of sample() once it has not changed for `quiet` seconds."""
    deadline = time.monotonic() + timeout
    value, since = sample(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() > deadline:
            raise AssertionError(f"still changing after {timeout} s: {value}")
        time.sleep(0.02)
        now = sample()
        if now != value:
            value, since = now, time.monotonic()
    return value
