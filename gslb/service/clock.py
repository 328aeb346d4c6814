"""The shell's clock. Pure code takes time as an argument; only shells call these."""

from __future__ import annotations

import time


def monotonic_s() -> float:
    """Seconds that never go back; for ages and leases."""
    return time.monotonic()


def unix_s() -> float:
    """Unix time in seconds; for what people read."""
    return time.time()
