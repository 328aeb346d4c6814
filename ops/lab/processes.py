"""The lab's processes: what runs on which host, started in its namespace, remembered, ended by id.

Owns the ledger of what was started (so that a crash of the lab itself loses nothing) and the sweep
that ends whatever still lives in a lab namespace. Only processes of the lab are ever signalled: a
pid is believed only together with its start time.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from ops.lab import paths
from ops.lab.router import BGP_TABLE
from ops.lab.topology import DNS, EDGES, REALS, STORE, STORE_ADDRESS, STORE_PORT, namespaces

STOP_S = 5.0  # how long a process may take to end after SIGTERM
NETNS_DIR = Path("/run/netns")


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One started process. `ticks` is its start time (proc(5), field 22), against pid reuse."""

    name: str
    host: str
    pid: int
    ticks: int
    argv: tuple[str, ...]


class Ledger(msgspec.Struct, kw_only=True):
    """What the lab has started, by process name."""

    redis: bool
    resilient: bool = False
    processes: dict[str, ProcessRecord] = {}


def load_ledger() -> Ledger | None:
    """The ledger on disk; None if no lab is up."""
    with suppress(FileNotFoundError):
        return msgspec.json.decode(paths.LEDGER.read_bytes(), type=Ledger)
    return None


def save_ledger(ledger: Ledger) -> None:
    """Keep the ledger, atomically."""
    draft = paths.LEDGER.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(ledger))
    draft.replace(paths.LEDGER)


def commands(*, redis: bool, resilient: bool = False) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every process of the lab: name -> (host, argv), in the order of start."""
    wanted: dict[str, tuple[str, tuple[str, ...]]] = {}
    if redis:
        wanted["redis"] = (STORE.name, _redis_argv())
    wanted["bird"] = ("router", _bird_argv())
    if resilient:
        argv = (sys.executable, "-m", "ops.lab.resilient", str(BGP_TABLE))
        wanted["resilient"] = ("router", argv)
    for real in REALS:
        config = str(paths.CONFIG_DIR / f"{real.name}.nginx.conf")
        home = str(paths.STATE_DIR / real.name)
        wanted[f"{real.name}-nginx"] = (real.name, ("nginx", "-c", config, "-p", home))
        wanted[real.name] = (real.name, _daemon("edge_lb", "real", real.name))
    for edge in EDGES:
        wanted[edge.name] = (edge.name, _daemon("edge_lb", "agent", edge.name))
        wanted[speaker_of(edge.name)] = (edge.name, _daemon("edge_lb", "announce", edge.name))
    wanted["dns"] = (DNS.name, _daemon("gslb", "", "dns"))
    wanted["https"] = (DNS.name, _daemon("httpdns", "", "https"))
    return wanted


def speaker_of(edge: str) -> str:
    """The process that speaks BGP for an edge."""
    return f"{edge}-bgp"


def _bird_argv() -> tuple[str, ...]:
    control = str(paths.STATE_DIR / "bird.ctl")
    return ("bird", "-f", "-c", str(paths.CONFIG_DIR / "bird.conf"), "-s", control)


def _daemon(package: str, verb: str, name: str) -> tuple[str, ...]:
    config = str(paths.CONFIG_DIR / f"{name}.toml")
    verbs = (verb,) if verb else ()
    return (sys.executable, "-m", package, *verbs, "--config", config)


def _redis_argv() -> tuple[str, ...]:
    bind = ("--bind", STORE_ADDRESS, "--port", str(STORE_PORT), "--protected-mode", "no")
    return (
        "redis-server",
        *bind,
        "--dir",
        str(paths.STORE_DIR),
        "--save",
        "",
        "--appendonly",
        "no",
    )


def start(ledger: Ledger, name: str) -> ProcessRecord:
    """Start one process in its host's namespace and remember it."""
    host, argv = commands(redis=ledger.redis, resilient=ledger.resilient)[name]
    # Not subprocess: the lab's processes outlive the command that starts them.
    command = in_namespace(host, argv)
    with paths.log_of(name).open("ab") as log:
        pid = os.posix_spawnp(
            command[0],
            command,
            environment(name),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
            setsid=True,
        )
    record = ProcessRecord(name=name, host=host, pid=pid, ticks=_start_ticks(pid) or 0, argv=argv)
    ledger.processes[name] = record
    save_ledger(ledger)
    return record


def in_namespace(host: str, argv: Iterable[str]) -> list[str]:
    """The command line that runs `argv` on a lab host."""
    return ["nsenter", f"--net={NETNS_DIR / ('wp-' + host)}", "--", *argv]


def environment(daemon: str) -> dict[str, str]:
    """The environment on a lab host: `waypost` on the path, and the daemon that it speaks to."""
    own = dict(os.environ)
    own["PATH"] = (
        f"{Path(sys.executable).parent}:{own.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
    )
    own["WAYPOST_SOCKET"] = str(paths.socket_of(daemon))
    own["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return own


def alive(record: ProcessRecord) -> bool:
    """Whether that very process still runs (a zombie does not)."""
    return _start_ticks(record.pid) == record.ticks


def kill(ledger: Ledger, name: str, number: signal.Signals) -> None:
    """Signal one process of the lab and all of its group; a dead one is no error."""
    record = ledger.processes[name]
    if alive(record):
        with suppress(ProcessLookupError):
            os.killpg(record.pid, number)


def stop_all(ledger: Ledger | None, progress: Callable[[str], None]) -> None:
    """End everything the ledger knows, then whatever else lives in a lab namespace."""
    if ledger is not None:
        for record in ledger.processes.values():
            if alive(record):
                with suppress(ProcessLookupError):
                    os.killpg(record.pid, signal.SIGTERM)
        _wait_gone([record.pid for record in ledger.processes.values() if alive(record)], STOP_S)
    strays = _residents()
    for pid in strays:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if strays:
        progress(f"ended {len(strays)} processes that were left")
    _wait_gone(strays, STOP_S)


def _residents() -> list[int]:
    """The processes whose network namespace is one of the lab's, without ourselves."""
    inodes = set()
    for namespace in namespaces():
        with suppress(FileNotFoundError):
            inodes.add((NETNS_DIR / namespace).stat().st_ino)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if (entry / "ns/net").stat().st_ino in inodes:
                    found.append(int(entry.name))
    return found


def _wait_gone(pids: list[int], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and any(_start_ticks(pid) is not None for pid in pids):
        time.sleep(0.05)


def _start_ticks(pid: int) -> int | None:
    """Start time of a living process, None for a dead one or a zombie."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # reap it, if it is a child of ours
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
