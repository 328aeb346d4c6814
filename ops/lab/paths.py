"""Where the lab keeps its files, logs, sockets and pins; all of it goes with `waypost lab down`."""

from __future__ import annotations

from pathlib import Path

LAB_DIR = Path("/run/waypost-lab")
LOCK_DIR = Path("/run/lock")  # outlives the lab: one lab a machine
PIN_DIR = Path("/sys/fs/bpf/waypost-lab")
CONFIG_DIR = LAB_DIR / "config"
LOG_DIR = LAB_DIR / "log"
STATE_DIR = LAB_DIR / "state"
SOCKET_DIR = LAB_DIR / "admin"
STORE_DIR = LAB_DIR / "store"
LEDGER = LAB_DIR / "lab.json"
CERTIFICATE = CONFIG_DIR / "server.pem"
PRIVATE_KEY = CONFIG_DIR / "server.key"
CA = CONFIG_DIR / "ca.pem"


def socket_of(daemon: str) -> Path:
    """The admin socket of a lab daemon, like `fra-edge1` or `dns`."""
    return SOCKET_DIR / f"{daemon}.sock"


def log_of(process: str) -> Path:
    """The log of a lab process."""
    return LOG_DIR / f"{process}.log"
