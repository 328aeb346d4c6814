"""A stand for the true DNS server: its files, its process, and foreign clients that ask it.

Everything is on loopback at a port that was free; the stand ends what it started.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event

import dns.exception
import dns.message
import dns.query
from dns_world import FLEET, ZONE

PATIENCE_S = 20.0
"""A bound on every wait, so that a fault ends a test; it is never waited out."""
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that neither UDP nor TCP holds now."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            port = datagrams.getsockname()[1]
            with socket.socket() as streams, suppress(OSError):
                streams.bind(("127.0.0.1", port))
                return int(port)
    raise AssertionError("no port is free for both transports")


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until it holds, looking 50 times a second."""
    deadline = time.monotonic() + PATIENCE_S
    pause = Event()
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain: {what}"
        pause.wait(0.02)


class DnsStand:
    """One DNS server with files of its own."""

    def __init__(self, place: Path, *, listen: tuple[str, ...] = (), **settings: object) -> None:
        self.place = place
        self.port = free_port()
        self.listen = listen or (f"127.0.0.1:{self.port}", f"[::1]:{self.port}")
        self.listen = tuple(text.replace("PORT", str(self.port)) for text in self.listen)
        self.store = place / "store.db"
        self.process: subprocess.Popen[str] | None = None
        self.log = place / "log"
        place.mkdir(parents=True, exist_ok=True)
        (place / "fleet.toml").write_text(FLEET)
        (place / "example.com.zone").write_text(ZONE)
        self.settings = {"workers": 2, **settings}
        self.config = place / "dns.toml"
        self.write_config()

    def write_config(self) -> None:
        """Write dns.toml from the stand's settings."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        self.config.write_text(
            f'[host]\nname = "t"\nfleet = "fleet.toml"\nadmin_socket = "{self.place}/dns.sock"\n'
            f'state_dir = "{self.place}/state"\n[store]\npath = "{self.store}"\n'
            f"[dns]\nlisten = {json.dumps(list(self.listen))}\n" + "\n".join(lines) + "\n"
        )

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the daemon to its end, for starts that are refused."""
        argv = [sys.executable, "-m", "gslb", "--config", str(self.config), *more]
        return subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def start(self) -> DnsStand:
        """Start, and wait until every worker and the admin seat serve."""
        argv = [sys.executable, "-m", "gslb", "--config", str(self.config)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(argv, cwd=ROOT, stderr=log, text=True)
        until(self.serves, "the server serves")
        return self

    def serves(self) -> bool:
        """Whether every worker holds its sockets and the admin seat answers."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with suppress(OSError, dns.exception.DNSException):
            self.admin("/status")
            return len(self.children()) == int(str(self.settings["workers"])) + 1 and all(
                self.held_sockets(pid) for pid in self.children()[:-1]
            )
        return False

    def held_sockets(self, pid: int) -> int:
        """How many UDP sockets of the stand's port a process holds."""
        held = set()
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                held.add(str(entry.readlink()))
        bound = 0
        for table in ("udp", "udp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                at_port = fields[1].endswith(f":{self.port:04X}")
                bound += at_port and f"socket:[{fields[9]}]" in held
        return bound

    def children(self) -> list[int]:
        """The server's processes below the first: the workers, then the seat."""
        assert self.process is not None
        pid = self.process.pid
        return [int(t) for t in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def hang_up(self) -> None:
        """Ask for a reload."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGHUP)

    def ask(self, name: str, kind: str = "A", *, at: str = "127.0.0.1") -> dns.message.Message:
        """One question by UDP."""
        query = dns.message.make_query(name, kind)
        return dns.query.udp(query, at, timeout=PATIENCE_S, port=self.port)

    def addresses(self, name: str, times: int = 40) -> set[str]:
        """Every address that some answer carries."""
        return {
            item.address for _ in range(times) for rrset in self.ask(name).answer for item in rrset
        }

    def dig(self, *words: str, at: str = "127.0.0.1") -> str:
        """What dig prints."""
        argv = ["dig", f"@{at}", "-p", str(self.port), "+tries=1", "+time=5", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def admin(self, path: str, method: str = "GET") -> dict[str, object]:
        """One admin request; the body as JSON (the last line of a stream of events)."""
        body = self.admin_text(path, method)
        found: dict[str, object] = json.loads(body)
        return found

    def admin_text(self, path: str, method: str = "GET") -> str:
        """One admin request; the body as text."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(f"{self.place}/dns.sock")
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)


def framed(*queries: bytes) -> bytes:
    """Queries as TCP carries them."""
    return b"".join(len(query).to_bytes(2, "big") + query for query in queries)


def read_frame(stream: socket.socket) -> bytes:
    """One message from a TCP stream; empty if the peer closed."""
    head = _exactly(stream, 2)
    return _exactly(stream, int.from_bytes(head, "big")) if head else b""


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data
