"""A new program tried on the live maps, before any packet of a client meets it.

Owns what is sent and what is right: for every VIP that the maps hold, flows from many ports, each
twice, must go to the real that the held ring names, and be remembered there if the VIP has flow
memory. Called by `edge_lb.datapath` at a take-over. The program borrows the maps that lead to a
real; its counters, its flow memory and its filter are its own, so nothing of it is seen.
"""

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from bpf.layout import MapShape
from bpf.packets import ACK, frame_of, ip, tcp, udp
from bpf.program import Program
from edge_lb.flow import Address, Flow, as_ring_sees, slot
from edge_lb.flow_memory import NO_MEMORY, lend_memory
from edge_lb.held import IP_PROTOCOLS, Held, HeldVip
from gslb.fleet.model import Fragments

# RFC 5737, 3849: nobody's
CLIENTS: dict[int, Address] = {4: IPv4Address("192.0.2.254"), 6: IPv6Address("2001:db8::fe")}
PORTS = range(50000, 50008)
NO_CONNECTION_ID = b"\x40" + b"\xff" * 8  # QUIC: of the configuration that names no server
ANY_PORT = 443  # asked for where a VIP serves every port
# What the way to a real may say of any program: the real was chosen, the network is not ready.
ON_THE_WAY = frozenset(
    {
        "DROPPED_TOO_BIG",
        "DROPPED_NO_ROUTE",
        "DROPPED_ROUTE_REFUSED",
        "DROPPED_NO_NEIGHBOUR",
        "DROPPED_FORWARDING_OFF",
        "DROPPED_NOT_ON_LINK",
    }
)

ARRAY, HASH, DEVICES, DEVICES_BY_HASH = 2, 1, 14, 25  # linux/bpf.h, enum bpf_map_type
# Who may send is not asked, and what is remembered stays alone.
NOT_REHEARSED = ("filter_", "vip_limit", "vip_buckets", "capture", "flows", "taken_over")


def borrowed(shape: MapShape) -> bool:
    """Whether a map says which real gets a packet; counters and memory do not."""
    kind = shape.inner.type if shape.inner is not None else shape.type
    decides = kind in (ARRAY, HASH, DEVICES, DEVICES_BY_HASH)
    return decides and not shape.name.startswith(NOT_REHEARSED)


def rehearse(
    program: Program, ifindex: int, held: Held, owners: Callable[[HeldVip, int], tuple[int, ...]]
) -> tuple[str, ...]:
    """One line for each VIP that the program gets wrong. `owners` is the ring's word."""
    for place in {vip.memory for vip in held.vips} - {NO_MEMORY}:
        lend_memory(program, place)
    live = {r.index for r in held.reals if r.address and r.state.is_live}
    faults: list[str] = []
    for vip in held.vips:
        for flow in _flows(vip):
            wanted, *earlier = owners(vip, slot(as_ring_sees(flow, vip.options)))
            if wanted not in live:
                continue
            memory = vip.memory != NO_MEMORY and (bool(earlier) or not vip.remembers_moved)
            fault = _try(program, ifindex, flow, wanted, memory=memory)
            if fault:
                faults.append(f"{vip.address}:{vip.port}/{vip.protocol}: {fault}")
                break
    return tuple(faults)


def _flows(vip: HeldVip) -> Iterator[Flow]:
    one_flow = vip.options.fragments is Fragments.TWO_TUPLE
    for port in PORTS[:1] if one_flow else PORTS:
        yield Flow(
            client=CLIENTS[vip.address.version],
            client_port=port,
            vip=vip.address,
            vip_port=vip.port or ANY_PORT,
            protocol=IP_PROTOCOLS[vip.protocol],
        )


def _try(program: Program, ifindex: int, flow: Flow, wanted: int, *, memory: bool) -> str:
    """The first thing that is wrong with this flow's first two packets; empty if none is."""
    remembered = ({"FORWARDED_NEW"}, {"FORWARDED_REMEMBERED"})
    for verdicts in remembered if memory else ({"FORWARDED_NO_MEMORY"},):
        counters = program.maps["real_counters"]
        sent, counted = counters.total(wanted).packets, _counted(program)
        program.test_run(_frame(flow), ifindex=ifindex)
        (verdict,) = (name for name, count in _counted(program).items() if count != counted[name])
        if verdict in ON_THE_WAY:
            continue
        if verdict not in verdicts:
            return f"{verdict}, wanted {', '.join(verdicts)}"
        if counters.total(wanted).packets == sent:
            return f"{verdict} to another real than the ring's, {wanted}"
    return ""


def _counted(program: Program) -> dict[str, int]:
    verdicts = program.maps["verdicts"]
    return {name: verdicts.total(i).packets for i, name in enumerate(program.verdict_names())}


def _frame(flow: Flow) -> bytes:
    if flow.protocol == socket.IPPROTO_TCP:
        segment = tcp(flow.client_port, flow.vip_port, ACK)
    else:
        segment = udp(flow.client_port, flow.vip_port, NO_CONNECTION_ID)
    return frame_of(ip(str(flow.client), str(flow.vip), flow.protocol, segment))
