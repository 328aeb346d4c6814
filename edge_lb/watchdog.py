"""The loaded program, tried on its live maps again and again while its edge is announced.

Owns one loop: packets of nobody, through a twin of the program, to one VIP a look and so to all in
turn (`edge_lb.rehearsal`). A Part of the edge's agent; what it finds is told to the announcer,
which withdraws if it stands.
"""

from __future__ import annotations

import asyncio

from bpf.errors import BpfError
from bpf.program import Program
from edge_lb.datapath import Datapath
from gslb.service.events import EventLog

WATCH_S = 2.0
VIPS_A_LOOK = 1  # it is one program for all; each VIP costs some 2,000 system calls


class Watchdog:
    """`fault` says what the program gets wrong; empty while it is right, or not tried yet."""

    def __init__(self, datapath: Datapath, events: EventLog) -> None:
        self._datapath = datapath
        self._events = events
        self._next = 0  # the VIP that the next look begins with; the same while it fails
        self.fault = ""

    async def run(self) -> None:
        """Try until cancelled. The twin ends with the process: a look may outlive the loop."""
        twin = await asyncio.to_thread(self._datapath.rehearsal_twin)
        while True:
            await asyncio.sleep(WATCH_S)
            await self.look(twin)

    async def look(self, twin: Program) -> None:
        """Try once. A plan that is being written may look like a fault: once is not yet one."""
        try:
            some = (self._next, VIPS_A_LOOK)
            faults = await asyncio.to_thread(self._datapath.rehearse, twin, some)
        except BpfError as error:
            faults = (str(error),)
        fault = f"the program fails its rehearsal: {faults[0]}" if faults else ""
        if bool(fault) != bool(self.fault):
            self._events.add("watchdog.changed", fault=fault or "none")
        self.fault = fault
        if not fault:
            self._next += VIPS_A_LOOK
