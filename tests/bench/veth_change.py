"""How soon a change of one real is in the packet path, through the running agent; for bench_rings.

Owns a site of its own over veth: 12 VIPs with the same 100 reals, of which one, real1, is a host of
its own; and the four changes of it. A client sends a packet each fifth of a millisecond, by flows
that the ring gives to real1, to a VIP without flow memory: each packet's answer says what the ring
was when it passed. A drain begins when the operator's request does; a verdict of health when the
failing answer to a check, or the first good one, has been sent. The change is there with the
first packet that the new ring sent elsewhere, or back. Packets without an answer are counted;
there should be none.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from socket import AF_INET, SO_REUSEADDR, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, socket
from threading import Thread

from veth_files import CHECK, REALS, UDP_PORT, BenchVip, Site
from veth_world import PREFIX, VethWorld

from gslb.fleet.model import Encap, FlowMemory
from ops.lab.world import inside

VIPS, SITE_REALS = 12, 100
ADDRESS = "192.0.2.50"
HEALTH_PORT = 8080
FLOWS = 6  # that go to real1
TRIES = 20_000  # to find them: one of a hundred is one
PACE_S = 0.0002
WATCH_S = 1.0  # after a change was asked for, or told
PATIENCE_S = 10.0
ANSWER_S = 1.0  # within which every packet is answered
REST = b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PACKET = struct.Struct("=ccxxI")  # kind, who answered, number: see packets.c
# A check a second of each real by one VIP, none of the others after the first: 100 a second in all,
# as of 200 targets in service. All twelve hundred were checked in one instant at the start.
QUIET_CHECK = CHECK.replace("interval_s = 1.0", "interval_s = 300.0")
WATCHED_CHECK = (
    f'kind = "http", port = {HEALTH_PORT}, interval_s = 1.0, timeout_s = 0.9, rise = 1, fall = 1'
)
SITE = Site(
    vips=tuple(
        BenchVip(
            name=f"vip{number}",
            address=ADDRESS,
            encap=Encap.L2,
            protocol="udp",
            port=UDP_PORT + number,
            flow_memory=FlowMemory.ALL if number else FlowMemory.NONE,
            check=QUIET_CHECK if number else WATCHED_CHECK,
        )
        for number in range(VIPS)
    ),
    guests=tuple(f"web{number}" for number in range(3, SITE_REALS + 1)),
    has_peers=False,
)


class Health:
    """The page that checks ask for on one host; `turn` makes it good or bad."""

    def __init__(self, host: str) -> None:
        self._said: tuple[bool, Future[float]] = (True, Future())
        with inside(PREFIX + host):
            self._listener = socket(AF_INET, SOCK_STREAM)
        self._listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        self._listener.bind(("", HEALTH_PORT))
        self._listener.listen(SITE_REALS)
        Thread(target=self._serve, daemon=True).start()

    def turn(self, *, good: bool) -> float:
        """When the first check has been told so, on the monotonic clock."""
        told_s: Future[float] = Future()
        self._said = good, told_s
        return told_s.result(PATIENCE_S)

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(4096)
                good, told_s = self._said
                word = b"200 OK" if good else b"503 Unavailable"
                connection.sendall(b"HTTP/1.1 " + word + REST)
                if not told_s.done():
                    told_s.set_result(time.monotonic())


class ChangeFault(RuntimeError):
    """A change was not what its name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How soon one change was in the packet path, and how many packets were not answered."""

    took_s: float
    lost: int


class Watch:
    """Packets of some flows that the ring gives to real1, and who answered each."""

    def __init__(self) -> None:
        with inside(PREFIX + "client"):
            found = (flow for flow in map(_flow_to_real1, range(TRIES)) if flow is not None)
            self._flows = tuple(islice(found, FLOWS))
        if len(self._flows) < FLOWS:
            raise ChangeFault(f"of {TRIES} flows {len(self._flows)} go to real1")
        self._sent_s: list[float] = []
        self._answered_by: dict[int, bytes] = {}

    def measure(self, change: Callable[[], float], *, leaves: bool) -> Change:
        """How packets see a change, which tells when it began."""
        self._sent_s.clear()
        self._answered_by.clear()
        with ThreadPoolExecutor(1) as other:
            begun = other.submit(change)
            self._send_while(lambda: not begun.done())
            end_s = time.monotonic() + WATCH_S
            self._send_while(lambda: time.monotonic() < end_s)
        self._take_late_ones()
        answers = [
            (self._sent_s[number], who == b"1") for number, who in sorted(self._answered_by.items())
        ]
        by_new = [at_s for at_s, by_real1 in answers if by_real1 is not leaves]
        if len(by_new) in (0, len(answers)):
            raise ChangeFault(f"of {len(answers)} answers {len(by_new)} are by the new ring")
        if [by_real1 for _, by_real1 in answers[-len(by_new) :]] != [not leaves] * len(by_new):
            raise ChangeFault("packets went to and fro")
        return Change(
            took_s=by_new[0] - begun.result(), lost=len(self._sent_s) - len(self._answered_by)
        )

    def _send_while(self, wanted: Callable[[], bool]) -> None:
        due_s = time.monotonic()
        while wanted():
            number = len(self._sent_s)
            flow = self._flows[number % FLOWS]
            self._take(flow)
            self._sent_s.append(time.monotonic())
            flow.send(_packet(number))
            due_s += PACE_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _take_late_ones(self) -> None:
        end_s = time.monotonic() + ANSWER_S
        while len(self._answered_by) < len(self._sent_s) and time.monotonic() < end_s:
            for flow in self._flows:
                self._take(flow)

    def _take(self, flow: socket) -> None:
        with suppress(BlockingIOError):
            while True:
                _, who, number = PACKET.unpack_from(flow.recv(64))
                self._answered_by[number] = who


def _packet(number: int) -> bytes:
    return PACKET.pack(b"E", b"0", number)


def _flow_to_real1(_number: int) -> socket | None:
    flow = socket(AF_INET, SOCK_DGRAM)
    flow.connect((ADDRESS, UDP_PORT))
    flow.settimeout(ANSWER_S)
    flow.send(_packet(0))
    _, who, _ = PACKET.unpack_from(flow.recv(64))
    if who != b"1":
        flow.close()
        return None
    flow.setblocking(False)
    return flow


def measure_changes(rounds: int) -> Mapping[str, Sequence[Change]]:
    """Each change of real1 in turn, once a round, in a world that is built for it."""
    seen: dict[str, list[Change]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(VethWorld(Path(folder), SITE)) as world,
    ):
        health = {host: Health(host) for host in REALS}
        world.wait(world.all_up)
        watch = Watch()

        def ask(verb: str) -> float:
            begun_s = time.monotonic()
            world.ask(f"/real/{verb}", {"name": "real1"})
            return begun_s

        changes: dict[str, tuple[Callable[[], float], bool]] = {
            "drain": (lambda: ask("drain"), True),
            "undrain": (lambda: ask("undrain"), False),
            "down": (lambda: health["real1"].turn(good=False), True),
            "up": (lambda: health["real1"].turn(good=True), False),
        }
        for _ in range(rounds):
            for name, (change, leaves) in changes.items():
                seen.setdefault(name, []).append(watch.measure(change, leaves=leaves))
    return seen
