"""One described packet through the very program that is loaded, and what it decided.

Owns the building of the packet and the run. Called by `edge_lb.edge_seen`. The run is a twin of the
loaded program on its live maps, with counters, sampler and flow memory of its own, so that nothing
is counted and no flow remembered or forgotten: only if the packet's flow is remembered and the
packet would look it up is the live table lent, where a UDP flow's age then starts anew. Limiters
are live as well: a packet that passes one takes its token. Blocks for the time of a load.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from bpf import packets
from bpf.ringbuf import RingReader
from edge_lb.capture import ANY_VIP, Wish, set_sampler
from edge_lb.datapath import Datapath, UnknownVipError
from edge_lb.flow import Flow, slot_of_hash
from edge_lb.flow_memory import NO_MEMORY, lend_memory

PER_CPU_TYPES = frozenset({5, 6, 10})  # what the program counts (linux/bpf.h, enum bpf_map_type)
OWN_MAPS = frozenset({"flows", "capture", "captured"})
ACTIONS = ("aborted", "dropped", "passed to the stack", "sent back out", "redirected")
HOPS = 64
FRAME_MAX_BYTES = 3500  # a test run's packet lives in one page with its headroom


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A packet to trace; `size` is of the IP packet, 0 for no payload."""

    flow: Flow
    syn: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What became of it. Indexes: 0 is no real, ANY_VIP no VIP; `slot` is -1 if none was asked."""

    verdict: str
    action: str
    vip: int
    slot: int
    ring_real: int
    earlier: tuple[int, ...]  # who had the slot before, of a VIP with owner chains
    remembered_real: int
    queue: int  # whose memory has the flow; -1: none
    real: int
    out_ifindex: int
    frame: bytes  # as it would leave


def header_bytes(flow: Flow) -> int:
    """The size of the flow's smallest packet."""
    ip = 20 if flow.vip.version == 4 else 40
    return ip + (20 if flow.protocol == packets.TCP else 8)


def build(described: Described) -> bytes:
    """The frame, as a router would hand it to the edge."""
    flow = described.flow
    payload = bytes(max(described.size - header_bytes(flow), 0))
    ports = flow.client_port, flow.vip_port
    if flow.protocol == packets.TCP:
        transport = packets.tcp(*ports, packets.SYN if described.syn else packets.ACK, payload)
    else:
        transport = packets.udp(*ports, payload)
    if flow.vip.version == 4:
        packet = packets.ipv4(str(flow.client), str(flow.vip), flow.protocol, transport)
        return packets.ethernet(packet)
    head = struct.pack("!IHBB", 6 << 28, len(transport), flow.protocol, HOPS)
    packet = head + flow.client.packed + flow.vip.packed + transport
    return packets.ethernet(packet, packets.ETHERTYPE_IPV6)


def trace(datapath: Datapath, described: Described, *, ifindex: int) -> Traced:
    """Runs the packet as if it had come in by `ifindex`. Raises the errors of bpf.errors."""
    live = datapath.program
    try:
        place = datapath.locate(described.flow)
        remembered, queue, memory = place.remembered_real, place.queue, place.memory
    except UnknownVipError:
        remembered, queue, memory = 0, -1, NO_MEMORY
    counters = {name for name, held in live.maps.items() if held.shape.type in PER_CPU_TYPES}
    told = {"taken_over"} if described.syn else set()  # a SYN would have it forgotten
    with (
        live.twin(own=OWN_MAPS | counters | told) as twin,
        RingReader(twin.maps["captured"].fd) as ring,
    ):
        if memory != NO_MEMORY:
            lent = remembered and not described.syn  # a SYN would have it forgotten
            lend_memory(twin, memory, datapath.flow_memory.table(memory, queue) if lent else None)
        set_sampler(twin, Wish(every=1, count=1, seconds=0.0), until_ns=time.monotonic_ns() * 2)
        result = twin.test_run(build(described), ifindex=ifindex)
        (raw,) = ring.poll(0)
        sample = twin.btf.struct("sample").unpack(raw)
    vip, number = sample.integer("vip"), sample.integer("hash")
    slot = slot_of_hash(number) if vip != ANY_VIP and number else -1
    owner, *earlier = datapath.owners_by_index(vip, slot) if slot >= 0 else (0,)
    return Traced(
        verdict=sample.enum("verdict").removeprefix("VERDICT_"),
        action=ACTIONS[result.action],
        vip=vip,
        slot=slot,
        ring_real=owner,
        earlier=tuple(earlier),
        remembered_real=remembered,
        queue=queue,
        real=sample.integer("real"),
        out_ifindex=sample.integer("out_ifindex"),
        frame=result.packet,
    )
