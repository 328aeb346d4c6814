"""A capture: some of the packets that leave lb.bpf.c, as they leave, streamed as pcapng.

Owns the sampler's setting and its ring; one capture at a time, because a ring has one reader. Asked
by `edge_lb.edge_admin`. The program itself keeps to the number of packets and to the end of time,
so a capture whose agent dies costs nothing for long; it never makes a packet wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from bpf.layout import Record
from bpf.program import Program
from bpf.ringbuf import RingReader
from edge_lb import pcapng
from edge_lb.flow import slot_of_hash
from gslb.service import clock

TICK_S = 0.2  # how long a quiet ring is waited for before the reader is asked whether it is there
ANY_VIP = 0xFFFFFFFF  # VIP_NONE of bpf/seen.h
ANY_VERDICT = "COUNT"


class CaptureBusyError(Exception):
    """Another capture reads the ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to capture: about one of `every` packets that match, until `count` or `seconds`."""

    every: int
    count: int
    seconds: float
    verdict: str = ANY_VERDICT
    vip: int = ANY_VIP


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Who has which index now; an index without a name is told as a number."""

    vips: dict[int, str]
    reals: dict[int, str]


class Capture:
    """The captures of one edge."""

    def __init__(
        self, program: Callable[[], Program], names: Callable[[], Names], *, interface: str
    ) -> None:
        self._program = program
        self._names = names
        self._interface = interface
        self._busy = False

    async def run(self, wish: Wish, application: str) -> AsyncGenerator[bytes, None]:
        """The file in pieces, empty ones while nothing comes. CaptureBusyError before the first."""
        if self._busy:
            raise CaptureBusyError("another capture is running here")
        self._busy = True
        program = self._program()
        layout = program.btf.struct("sample")
        since_boot_ns = int(clock.unix_s() * 1e9) - time.monotonic_ns()
        end_s = clock.monotonic_s() + wish.seconds
        delivered = 0
        try:
            with RingReader(program.maps["captured"].fd) as ring:
                ring.poll(0)  # what an earlier capture left behind
                set_sampler(program, wish, until_ns=int(end_s * 1e9))
                yield pcapng.opening(application, self._interface, layout.field("bytes").size)
                while delivered < wish.count and (left_s := end_s - clock.monotonic_s()) > 0:
                    raws = await asyncio.to_thread(ring.poll, min(TICK_S, left_s))
                    names = self._names()
                    raws = raws[: wish.count - delivered]
                    seen = [told(layout.unpack(raw), names, since_boot_ns) for raw in raws]
                    delivered += len(seen)
                    yield b"".join(pcapng.packet(one) for one in seen)
                now_ns = time.monotonic_ns() + since_boot_ns
                yield pcapng.closing(now_ns, delivered=delivered, lost=_lost(program))
        finally:
            set_sampler(program, Wish(every=0, count=0, seconds=0.0), until_ns=0)
            self._busy = False


def told(sample: Record, names: Names, since_boot_ns: int) -> pcapng.Packet:
    """A sample as a packet whose comment says what the program decided."""
    verdict = sample.enum("verdict").removeprefix("VERDICT_")
    words = [verdict]
    vip, real = sample.integer("vip"), sample.integer("real")
    if vip != ANY_VIP:
        slot = slot_of_hash(sample.integer("hash"))
        words += [f"vip={names.vips.get(vip, vip)}", f"slot={slot}"]
    if real:
        words.append(f"real={names.reals.get(real, real)}")
    return pcapng.Packet(
        unix_ns=sample.integer("seen_ns") + since_boot_ns,
        octets=sample.octets("bytes")[: sample.integer("captured_bytes")],
        length=sample.integer("frame_bytes"),
        outbound=not verdict.startswith(("PASSED_", "DROPPED_")),
        queue=sample.integer("queue"),
        comment=" ".join(words),
    )


def set_sampler(program: Program, wish: Wish, *, until_ns: int) -> None:
    """Tells a program what to sample, until CLOCK_MONOTONIC says so."""
    capture = program.maps["capture"]
    numbers = {name: number for number, name in program.btf.enum("verdict")}
    value = capture.shape.value.pack(
        until_ns=until_ns,
        left=wish.count,
        lost=0,
        every=wish.every,
        verdict=numbers[f"VERDICT_{wish.verdict}"],
        vip=wish.vip,
    )
    capture.put_at(0, value)


def _lost(program: Program) -> int:
    return program.maps["capture"].at(0).integer("lost")
