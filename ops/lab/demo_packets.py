"""Demo steps that send packets: ECMP, XDP, tunnel, real server, and the direct way back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from types import TracebackType
from typing import Self

from gslb.fleet.views import Drops
from ops.lab.demo import Shown, Step, demand
from ops.lab.lab import Lab
from ops.lab.topology import CLIENT_ADDRESS, VIPS, LabVip


def vip_named(name: str) -> LabVip:
    """A VIP of the lab by its name."""
    return next(vip for vip in VIPS if vip.name == name)


class Flows:
    """Long connections from the client to one VIP, held while a block runs; see `ops.lab.flows`."""

    def __init__(self, lab: Lab, vip: LabVip, count: int) -> None:
        argv = (sys.executable, "-m", "ops.lab.flows", vip.address, str(vip.port), str(count))
        self._child: subprocess.Popen[str] = lab.spawn("client", *argv)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._child.communicate(timeout=10)

    def say(self, words: str) -> dict[str, str]:
        """One order to the client's process: connection number -> the real, or an error."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(words + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise OSError(f"the client's process ended: {self._child.communicate()[1]}")
        answers: dict[str, str] = json.loads(line)
        return answers


def forwarded(lab: Lab, edge: str) -> int:
    """Packets that an edge's program has forwarded since it was loaded."""
    rows = lab.ask(edge, "/drops", Drops).counters
    return sum(row.packets for row in rows if "forwarded" in row.name.lower())


def _every_real(lab: Lab) -> Shown:
    vip = vip_named("web-fra-1")
    before = {edge: forwarded(lab, edge) for edge in ("fra-edge1", "fra-edge2")}
    url = f"http://{vip.address}/"
    done = lab.run("client", "sh", "-c", f"for i in $(seq 60); do curl -sS -m 3 {url}; done")
    answers = Counter(done.stdout.split())
    demand(sum(answers.values()) == 60 and not done.stderr, f"{answers} {done.stderr}")
    demand(
        set(answers) == set(vip.reals), f"answered by {dict(answers)}, not by all of {vip.reals}"
    )
    gained = {edge: forwarded(lab, edge) - before[edge] for edge in before}
    demand(all(gained.values()), f"ECMP used one edge only: {gained}")
    shares = "  ".join(f"{real} {count}" for real, count in sorted(answers.items()))
    moved = "  ".join(f"{edge} {count}" for edge, count in gained.items())
    return Shown(
        f"curl {url}   (x 60, each a new connection)",
        f"answered by: {shares}\npackets forwarded by XDP: {moved}",
    )


def _direct_return(lab: Lab) -> Shown:
    vip = vip_named("web-fra-2")
    # To the client: a health probe through the tunnel is answered to the edge that sent it.
    back = f"src host {vip.address} and dst host {CLIENT_ADDRESS}"
    with (
        lab.capture("fra-edge1", back) as edge1,
        lab.capture("fra-edge2", back) as edge2,
        lab.capture("client", back) as client,
        lab.capture("fra-web1", "udp port 6080") as tunnel,
    ):
        url = f"http://{vip.address}/"
        done = lab.run("client", "sh", "-c", f"for i in $(seq 30); do curl -sS -m 3 {url}; done")
    demand(len(done.stdout.split()) == 30, f"{done.stdout} {done.stderr}")
    seen = {name: len(log) for name, log in (("edge1", edge1), ("edge2", edge2))}
    arrived, tunnelled = len(client), tunnel
    demand(not any(seen.values()), f"return packets crossed an edge: {seen}")
    demand(arrived > 60, f"only {arrived} return packets reached the client")
    demand(not tunnelled, "the real's stack saw the tunnel: XDP did not take it off")
    return Shown(
        f"tcpdump '{back}' on both edges and the client, while curl {url} x 30",
        f"return packets on edge1: {seen['edge1']}, on edge2: {seen['edge2']}, "
        f"at the client: {arrived}; GUE left over for the real's stack: {len(tunnelled)}",
    )


def _same_subnet(lab: Lab) -> Shown:
    vip = vip_named("lan-fra")
    with lab.capture("fra-lan1", f"tcp and dst host {vip.address}") as log:
        url = f"http://{vip.address}/"
        done = lab.run("client", "sh", "-c", f"for i in $(seq 30); do curl -sS -m 3 {url}; done")
    answers = Counter(done.stdout.split())
    demand(set(answers) == set(vip.reals), f"answered by {dict(answers)} {done.stderr}")
    plain = [line for line in log if CLIENT_ADDRESS in line]
    demand(plain != [], "the real saw no packet with the client's own address")
    return Shown(
        f"curl {url}   (x 30), tcpdump on fra-lan1",
        f"answered by: {dict(answers)}; {len(plain)} packets came as the client sent them, "
        "only the MAC rewritten",
    )


def _udp(lab: Lab) -> Shown:
    vip = vip_named("who-fra")
    with Flows(lab, vip, 0) as client:
        answers = Counter(client.say("udp 30").values())
    demand(set(answers) == set(vip.reals), f"answered by {dict(answers)}")
    return Shown(
        f"30 datagrams from 30 ports to {vip.address}:{vip.port}/udp",
        f"answered by: {dict(answers)}",
    )


STEPS = (
    Step("a VIP is served by every real in turn, over both edges (ECMP, XDP, GUE)", _every_real),
    Step("reals answer the client directly: no edge sees a return packet", _direct_return),
    Step("a pool on the edges' own subnet is served by L2 DSR", _same_subnet),
    Step("a UDP VIP", _udp),
)
