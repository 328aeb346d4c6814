"""The process that tells ExaBGP what to announce: looks, decides by `edge_lb.announce`, says it.

Owns `python -m edge_lb announcer`, started by ExaBGP with its pipes: commands go to standard
output, sessions' changes come from standard input. It asks the agent's admin socket, and looks at
the pinned link and the interface itself. What it announces outlives the agent and itself: the
record in the state directory is where the next announcer of the same boot goes on.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

import msgspec

from edge_lb.announce import Preference, Route, Seen, Standing, Told, differences, routes, step
from edge_lb.attachment import what_is_broken
from edge_lb.exabgp import announce_line, neighbor_change, next_hops, withdraw_line
from gslb.fleet.announcing import FILE, AnnounceTold, Announcing, NeighborRow
from gslb.fleet.host import BgpSection, EdgeHost, load_host
from gslb.service import clock, log
from gslb.service.lifecycle import ExitCode, Refused

LOOK_S = 0.5  # between two looks: what is broken is withdrawn within one of them
ASK_S = 1.0  # how long an agent may take to answer before it counts as silent
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class _Rate:
    """Packets a second between two looks."""

    packets: int | None = None
    at_s: float = 0.0
    per_s: float = -1.0

    def take(self, packets: int | None, now_s: float) -> None:
        """Count on; None or a count that fell: not known."""
        before, passed_s = self.packets, now_s - self.at_s
        self.packets, self.at_s, self.per_s = packets, now_s, -1.0
        if packets is not None and before is not None and packets >= before and passed_s > 0:
            self.per_s = round((packets - before) / passed_s, 1)


class Announcer:
    """One edge's announcing. `say` takes a line for ExaBGP."""

    def __init__(self, host: EdgeHost, bgp: BgpSection, say: Callable[[str], None]) -> None:
        self._host = host
        self._bgp = bgp
        self._say = say
        self._file = Path(host.host.state_dir) / FILE
        self._hops = next_hops(bgp)
        self._boot = BOOT_ID.read_text().strip()
        self._rate = _Rate()
        self._trouble = ""
        self._neighbors = {
            neighbor.address: NeighborRow(address=neighbor.address, up=False, since_s=0.0)
            for neighbor in bgp.neighbors
        }
        self.standing = self._kept()
        self._said: frozenset[Route] | None = None  # None: not yet, whatever ExaBGP may hold

    def look(self) -> None:
        """Look once, decide, say what differs, keep the record."""
        now_s = clock.unix_s()
        told = ask_agent(Path(self._host.host.admin_socket))
        broken = what_is_broken(self._host.edge.interface, Path(self._host.edge.pin_dir))
        before = self.standing
        self.standing = step(before, Seen(told=told, broken=broken), self._bgp, now_s)
        if self.standing.preference is not before.preference:
            log.get().info(
                "announce.changed",
                before=before.preference,
                now=self.standing.preference,
                reason=self.standing.reason,
            )
        self._rate.take(told.packets if told is not None else None, now_s)
        self._tell()
        self._keep(now_s)

    def hear(self, line: str) -> None:
        """Take a line of ExaBGP: a session came up or went down."""
        change = neighbor_change(line)
        if change is None or change[0] not in self._neighbors:
            return
        address, up = change
        self._neighbors[address] = NeighborRow(address=address, up=up, since_s=clock.unix_s())
        log.get().info("neighbor.changed", address=address, up=up)

    def _tell(self) -> None:
        """Say what differs. The first time all of it, for an earlier announcer may have said else.

        ExaBGP keeps what it was told while a session is down.
        """
        wanted = routes(self.standing, self._bgp, self._hops)
        said = self._said
        if said is None:
            announced = Standing(preference=Preference.ANNOUNCED, addresses=self.standing.addresses)
            gone, _ = differences(routes(announced, self._bgp, self._hops), wanted)
            news = tuple(sorted(wanted, key=lambda route: str(route.address)))
        else:
            gone, news = differences(said, wanted)
        for route in gone:
            self._say(withdraw_line(route))
        for route in news:
            self._say(announce_line(route))
        self._said = wanted

    def _keep(self, now_s: float) -> None:
        now = self.standing
        record = Announcing(
            edge=self._host.host.name,
            boot=self._boot,
            at_s=now_s,
            preference=now.preference,
            since_s=now.since_s,
            reason=now.reason,
            addresses=tuple(sorted(map(str, now.addresses))),
            drained=now.drained,
            fault=now.fault,
            packets_per_s=self._rate.per_s,
            neighbors=tuple(self._neighbors.values()),
        )
        draft = self._file.with_suffix(".draft")
        try:
            draft.write_bytes(msgspec.json.encode(record))
            draft.replace(self._file)
            self._trouble = ""
        except OSError as error:
            if not self._trouble:
                log.get().warning("state.not_saved", path=str(self._file), reason=str(error))
            self._trouble = str(error)

    def _kept(self) -> Standing:
        """Where the announcer before this one stopped; after another boot: nothing."""
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=Announcing)
            if kept.boot != self._boot:
                return Standing()
            return Standing(
                preference=Preference(kept.preference),
                since_s=kept.since_s,
                reason=kept.reason,
                addresses=frozenset(map(ip_address, kept.addresses)),
                drained=kept.drained,
                moved_s=clock.unix_s(),
            )
        except FileNotFoundError:
            return Standing()
        except (OSError, ValueError) as error:
            log.get().warning("state.unreadable", path=str(self._file), reason=str(error))
            return Standing()


def ask_agent(path: Path) -> Told | None:
    """What the agent says now; None if it does not answer in time, or says what is not known."""
    connection = HTTPConnection("waypost", timeout=ASK_S)
    with socket(AF_UNIX, SOCK_STREAM) as channel:
        channel.settimeout(ASK_S)
        try:
            channel.connect(str(path))
            connection.sock = channel
            connection.request("GET", "/announce/told")
            reply = connection.getresponse()
            body = reply.read()
            if reply.status != 200:
                return None
            told = msgspec.json.decode(body, type=AnnounceTold)
            return Told(
                addresses=frozenset(map(ip_address, told.addresses)),
                drained=told.drained,
                fault=told.fault,
                packets=told.packets,
                histories=told.histories,
            )
        except (OSError, HTTPException, ValueError):
            return None


def run_announcer(path: Path) -> int:
    """Tell ExaBGP until it ends."""
    host = load_host(path, EdgeHost)
    if host.bgp is None:
        raise Refused(ExitCode.CONFIG, f"{path}: $.bgp: missing; without it nothing is announced")
    bgp = host.bgp
    log.setup("announcer", host.host.log_level)

    def say(line: str) -> None:
        sys.stdout.write(line)

    announcer = Announcer(host, bgp, say)
    unread = b""
    due_s = 0.0
    with suppress(BrokenPipeError):  # ExaBGP is gone: so are its sessions
        while True:
            if clock.monotonic_s() >= due_s:
                announcer.look()
                sys.stdout.flush()
                due_s = clock.monotonic_s() + LOOK_S
            ready, _, _ = select.select([0], [], [], max(0.0, due_s - clock.monotonic_s()))
            if ready:
                piece = os.read(0, 65536)
                if not piece:
                    break
                *lines, unread = (unread + piece).split(b"\n")
                for line in lines:
                    announcer.hear(line.decode(errors="replace"))
    return ExitCode.DONE
