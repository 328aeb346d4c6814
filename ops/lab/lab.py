"""The lab as one thing: up, down, status, and hands on its hosts.

Owns the order of work over `world` (network), `files` (configuration) and `processes`. Used by
`ops.cli.lab`, the demo and the end-to-end tests. Every message to a person goes through `progress`.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from gslb.fleet import announcing
from gslb.fleet.announcing import Announcing
from gslb.fleet.views import Status
from gslb.service.lifecycle import ExitCode, Refused, hold_lock
from ops.lab import files, paths, processes, router, world
from ops.lab.processes import Ledger, ProcessRecord
from ops.lab.topology import EDGES, HOSTS, REALS, VIPS

Progress = Callable[[str], None]
T = TypeVar("T", bound=msgspec.Struct)
READY_S = 120.0  # some thirty processes start on two cores
TOOLS = ("nsenter", "nginx", "dig", "curl", "tcpdump", "bird")


class Lab:
    """One running lab; made by `up` or found by `attach`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def start(self, name: str) -> ProcessRecord:
        """Start one of the lab's processes again."""
        return processes.start(self.ledger, name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal one of the lab's processes."""
        processes.kill(self.ledger, name, number)

    def run(
        self, host: str, *argv: str, timeout_s: float = 20.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host and wait; its output as text."""
        return subprocess.run(
            processes.in_namespace(host, argv),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=processes.environment(host),
            check=False,
        )

    def spawn(self, host: str, *argv: str) -> subprocess.Popen[str]:
        """Start a command on a host with pipes to talk to it."""
        return subprocess.Popen(
            processes.in_namespace(host, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=processes.environment(host),
        )

    def ask(self, daemon: str, path: str, shape: type[T]) -> T:
        """GET an admin route of a daemon. Raises OSError while it does not answer."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(5)
            channel.connect(str(paths.socket_of(daemon)))
            connection.sock = channel
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
        if reply.status != 200:
            raise OSError(f"{daemon}{path}: {reply.status} {body.decode()}")
        return msgspec.json.decode(body, type=shape)

    def announcing(self, edge: str) -> Announcing:
        """What an edge's announcer last kept; its agent is not asked."""
        record = (paths.STATE_DIR / edge / announcing.FILE).read_bytes()
        return msgspec.json.decode(record, type=Announcing)

    def trouble(self) -> list[str]:
        """What keeps the lab from being well, in words; empty when all is well."""
        found: list[str] = []
        daemons = (*(edge.name for edge in EDGES), *(real.name for real in REALS), "dns", "https")
        for daemon in daemons:
            try:
                status = self.ask(daemon, "/status", Status)
            except (OSError, http.client.HTTPException) as error:
                found.append(f"{daemon}: {error}")
                continue
            found += [f"{daemon}: {line}" for line in status.trouble]
            if daemon == "dns":
                found += [f"{vip.name}: {vip.state}" for vip in status.vips if vip.state != "UP"]
        return found or _missing_ways()

    def wait_well(self, timeout_s: float = READY_S) -> float:
        """Wait until every daemon answers and every VIP is UP; returns the seconds it took."""
        return wait(lambda: not self.trouble(), timeout_s, lambda: "; ".join(self.trouble()))

    def stop_store(self) -> str:
        """Take the store away, as a dead server or a lost disk does; says what was done."""
        if self.ledger.redis:
            self.kill("redis")
            return "redis-server killed with -9"
        paths.STORE_DIR.rename(paths.STORE_DIR.with_suffix(".gone"))
        return "the store's directory moved away"

    def start_store(self) -> None:
        """Bring the store back."""
        if self.ledger.redis:
            self.start("redis")
        else:
            paths.STORE_DIR.with_suffix(".gone").rename(paths.STORE_DIR)

    @contextmanager
    def capture(self, host: str, expression: str) -> Iterator[list[str]]:
        """tcpdump on eth0 of a host while the block runs; after it the list holds the packets."""
        seen: list[str] = []
        argv = ("tcpdump", "-l", "-n", "-e", "-i", "eth0", expression)
        with subprocess.Popen(
            processes.in_namespace(host, argv),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stderr is not None
            for line in child.stderr:
                if "listening on" in line:
                    break
            try:
                yield seen
                time.sleep(0.2)  # the kernel hands the last packets over in its own time
            finally:
                child.send_signal(signal.SIGTERM)
                out, _ = child.communicate(timeout=5)
                # tcpdump adds an empty line when it is interrupted.
                seen += [line for line in out.splitlines() if line.strip()]


def _missing_ways() -> list[str]:
    """The VIPs that the router does not send to every edge of their site."""
    known = router.ways()
    wanted = {vip: {edge.address for edge in EDGES if edge.site == vip.site} for vip in VIPS}
    return [
        f"router: {vip.name} goes to {', '.join(sorted(known.get(vip.address, ()))) or 'nobody'}"
        for vip, edges in wanted.items()
        if known.get(vip.address) != edges
    ]


def wait(ready: Callable[[], bool], timeout_s: float, why: Callable[[], str]) -> float:
    """Poll until `ready`; the seconds it took. Raises TimeoutError with `why` in words."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not within {timeout_s:.1f} s: {why()}")
        time.sleep(0.05)
    return time.monotonic() - began


@contextmanager
def alone() -> Iterator[None]:
    """Hold the machine's one lab: Refused(RUNNING) while another command builds or uses it."""
    require_root()
    try:
        with hold_lock(paths.LOCK_DIR, "waypost-lab"):
            yield
    except Refused as refusal:
        if refusal.code is not ExitCode.RUNNING:
            raise
        text = f"another command is at work on the lab: {refusal.message}"
        raise Refused(ExitCode.RUNNING, text) from None


def attach() -> Lab:
    """The lab that is up. Refused if there is none."""
    require_root()
    ledger = processes.load_ledger()
    if ledger is None:
        raise Refused(ExitCode.UNREACHABLE, "no lab is up; start it with: waypost lab up")
    return Lab(ledger)


def up(progress: Progress, *, redis: bool, resilient: bool = False) -> Lab:
    """Build the whole world anew; what an earlier or crashed lab left is removed first."""
    require_root()
    _require_tools(redis=redis)
    if processes.load_ledger() is not None or paths.LAB_DIR.exists():
        progress("an earlier lab is in the way: removing it")
    down(progress)
    progress(f"network: {len(HOSTS) + 1} namespaces, 6 segments")
    world.build()
    files.write_all(redis=redis, resilient=resilient)
    lab = Lab(Ledger(redis=redis, resilient=resilient))
    processes.save_ledger(lab.ledger)
    names = list(processes.commands(redis=redis, resilient=resilient))
    for number, name in enumerate(names, 1):
        progress(f"starting {number}/{len(names)}: {name}")
        lab.start(name)
    progress("waiting until every VIP is UP, and routed to every edge of its site")
    try:
        lab.wait_well()
    except TimeoutError as error:
        text = f"the lab did not come up: {error}; logs are in {paths.LOG_DIR}"
        raise Refused(ExitCode.FAILED, text) from None
    return lab


def down(progress: Progress) -> None:
    """End every process of the lab and remove all that it made."""
    require_root()
    processes.stop_all(processes.load_ledger(), progress)
    removed = world.remove()
    if removed:
        progress(f"removed {len(removed)} namespaces")
    with suppress(FileNotFoundError):
        shutil.rmtree(paths.PIN_DIR)
    with suppress(FileNotFoundError):
        shutil.rmtree(paths.LAB_DIR)


def leftovers() -> list[str]:
    """What of a lab still exists: namespaces, pins, files."""
    found = [f"namespace {name}" for name in world.present()]
    found += [str(path) for path in (paths.PIN_DIR, paths.LAB_DIR) if path.exists()]
    return found


def enter(host: str, argv: list[str]) -> None:
    """Become `argv` on a host (does not return)."""
    attach()
    if host != "router" and host not in {item.name for item in HOSTS}:
        names = ", ".join(item.name for item in HOSTS)
        raise Refused(ExitCode.USAGE, f"no lab host `{host}`; one of: {names}, router")
    command = processes.in_namespace(host, argv or [os.environ.get("SHELL", "/bin/bash")])
    os.execvpe(command[0], command, processes.environment(host))


def require_root() -> None:
    """Refused unless this process is root."""
    if os.geteuid() != 0:
        text = "the lab needs root, for network namespaces and BPF; run it with sudo"
        raise Refused(ExitCode.NOT_ROOT, text)


def _require_tools(*, redis: bool) -> None:
    wanted = (*TOOLS, "redis-server") if redis else TOOLS
    missing = [tool for tool in wanted if shutil.which(tool) is None]
    if missing:
        text = f"the lab needs {', '.join(missing)}; `make setup` installs them"
        raise Refused(ExitCode.UNSUPPORTED, text)
    if not Path("/sys/fs/bpf").is_dir():
        raise Refused(ExitCode.NO_BPFFS, "no bpffs: mount -t bpf bpf /sys/fs/bpf")
