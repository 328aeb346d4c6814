"""The flows of a real: true connections in a namespace, counted by slot and told to the store."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SHUT_WR,
    SOCK_DGRAM,
    TCP_DEFER_ACCEPT,
    AddressFamily,
    create_connection,
    socket,
)

import pytest
from site_world import SiteWorld
from test_real_agent import SECOND_VIP, VIP, VIP_V6, RealHost, client_with_routes

from edge_lb import socket_dump
from edge_lb.flow import Flow, slot
from edge_lb.rendezvous import RING_SLOTS
from gslb.fleet.history import RealReport, unpack_slots
from gslb.fleet.sqlite_store import SqliteStore
from ops.lab.world import inside

pytestmark = pytest.mark.netns

# Two listeners of both families: all IPv4 connections are v4-mapped. A client that says "hold"
# before its end is not closed from here.
SERVER = """
import asyncio, socket
async def serve(reader, writer):
    try:
        data = await reader.read()
    except OSError:
        data = b""
    if data == b"hold":
        await asyncio.Event().wait()
    writer.close()
async def main():
    for port in (80, 443):
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        await asyncio.start_server(serve, sock=listener)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def store_of(world: SiteWorld) -> Path:
    return world.folder / "store" / "store.sqlite"


@pytest.fixture
def real(world: SiteWorld) -> RealHost:
    store_of(world).parent.mkdir()
    table = f'[store]\nkind = "sqlite"\npath = "{store_of(world)}"\n'
    made = RealHost(world, more=SECOND_VIP, store=table)
    client_with_routes(world)
    world.start("-c", SERVER)
    return made


def connect(world: SiteWorld, address: str, port: int) -> socket:
    """A connection from the far end, tried until the server is there."""
    made: list[socket] = []

    def connected() -> bool:
        with inside(world.far):
            made.append(create_connection((address, port), 5))
        return True

    world.wait(connected)
    return made[0]


def flows(real: RealHost) -> dict[str, int]:
    return {row.name: row.flows for row in real.status().vips}


def reports(world: SiteWorld) -> tuple[RealReport, ...]:
    async def read() -> tuple[RealReport, ...]:
        store = SqliteStore(store_of(world), timeout_s=5.0)
        try:
            return await store.real_reports("fra")
        finally:
            await store.close()

    return asyncio.run(read())


def slots_of(report: RealReport, vip: str) -> Counter[int]:
    (told,) = (flows.slots for flows in report.vips if flows.vip == vip)
    found = unpack_slots(told, RING_SLOTS)
    return Counter({number: count for number, count in enumerate(found) if count})


def slot_of(connection: socket) -> int:
    here, there = connection.getsockname(), connection.getpeername()
    return slot(
        Flow(
            client=ip_address(here[0]),
            client_port=here[1],
            vip=ip_address(there[0]),
            vip_port=there[1],
            protocol=6,
        )
    )


def test_flows_are_counted_by_vip_and_slot_and_told_to_the_store(world: SiteWorld, real: RealHost):
    with ExitStack() as stack:
        wanted = [(VIP, 80)] * 3 + [(VIP, 443)] + [(VIP_V6, 80)] * 2
        held = [stack.enter_context(connect(world, *where)) for where in wanted]
        world.wait(lambda: flows(real) == {"www": 3, "tls": 1, "six": 2})
        world.wait(lambda: sum(vip.flows for vip in reports(world)[0].vips) == 6)

        (report,) = reports(world)
        assert (report.site, report.real) == ("fra", "web1")
        assert slots_of(report, "www") == Counter(map(slot_of, held[:3]))
        assert slots_of(report, "tls") == Counter(map(slot_of, held[3:4]))
        assert slots_of(report, "six") == Counter(map(slot_of, held[4:]))
        assert real.status().store == "ok"
        metrics = world.text(real.admin, "/metrics")
        assert 'real_vip_flows{vip="www"} 3.0' in metrics

        held[0].close()
        world.wait(lambda: flows(real)["www"] == 2)
    world.wait(lambda: flows(real) == {"www": 0, "tls": 0, "six": 0})
    world.wait(lambda: sum(vip.flows for vip in reports(world)[0].vips) == 0)


def test_a_half_closed_flow_is_still_a_flow(world: SiteWorld, real: RealHost):
    with connect(world, VIP, 80) as half, connect(world, VIP, 443):
        half.sendall(b"hold")
        half.shutdown(SHUT_WR)
        world.wait(lambda: flows(real)["tls"] == 1)
        observed_s = reports(world)[0].observed_at_s
        world.wait(lambda: reports(world)[0].observed_at_s > observed_s)

        assert flows(real) == {"www": 1, "tls": 1, "six": 0}


def test_a_restart_finds_the_flows_again_and_outranks_itself(world: SiteWorld, real: RealHost):
    with connect(world, VIP, 80):
        world.wait(lambda: flows(real)["www"] == 1)
        before = reports(world)[0]

        world.end(real.daemon, signal.SIGKILL)
        real.start()
        world.wait(lambda: reports(world)[0].generation > before.generation)

        assert [vip.flows for vip in reports(world)[0].vips if vip.vip == "www"] == [1]


def test_a_lost_store_is_told_and_survived(world: SiteWorld, real: RealHost):
    world.wait(lambda: len(reports(world)) == 1)
    store_of(world).parent.rename(world.folder / "gone")
    with connect(world, VIP, 80):
        world.wait(lambda: not real.status().well)

        status = real.status()
        assert status.store == status.trouble[0].removeprefix("store: ")
        assert flows(real)["www"] == 1
        assert "real_store_lost 1.0" in world.text(real.admin, "/metrics")

        (world.folder / "gone").rename(store_of(world).parent)
        world.wait(lambda: real.status().well)
        world.wait(lambda: sum(vip.flows for vip in reports(world)[0].vips) == 1)


def test_without_a_store_flows_are_counted_and_it_is_said_that_nobody_is_told(world: SiteWorld):
    real = RealHost(world)
    client_with_routes(world)
    world.start("-c", SERVER)

    with connect(world, VIP, 80):
        world.wait(lambda: flows(real)["www"] == 1)

    assert real.status().store == "not used: edges do not learn what flows are left here"
    assert real.status().well


def ends(family: AddressFamily, protocol: int, states: int) -> dict[bytes, tuple[int, int]]:
    """The ports of this namespace's sockets, by cookie."""
    found = socket_dump.dump(family, protocol, states)
    named = {cookie: socket_dump.identity(raw) for cookie, raw in found.items()}
    return {cookie: (one.port, one.peer_port) for cookie, one in named.items()}


def test_a_flow_is_seen_from_its_syn_on_and_keeps_its_cookie(world: SiteWorld):
    with ExitStack() as stack, inside(world.name):
        server = stack.enter_context(socket())
        server.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 60)  # SYN_RECV until it has data
        server.bind(("127.0.0.1", 80))
        server.listen()
        assert ends(AF_INET, IPPROTO_TCP, socket_dump.IN_FLIGHT) == {}
        client = stack.enter_context(create_connection(("127.0.0.1", 80), 5))
        port = client.getsockname()[1]
        begun = ends(AF_INET, IPPROTO_TCP, socket_dump.IN_FLIGHT)

        client.sendall(b"here it is")
        stack.enter_context(server.accept()[0])
        held = ends(AF_INET, IPPROTO_TCP, socket_dump.IN_FLIGHT)

    assert sorted(begun.values()) == sorted([(80, port), (port, 80)])
    assert held == begun


def test_of_udp_connected_sockets_are_flows(world: SiteWorld):
    with ExitStack() as stack, inside(world.name):
        open_one = stack.enter_context(socket(AF_INET6, SOCK_DGRAM))
        open_one.bind(("::1", 53))
        connected = stack.enter_context(socket(AF_INET6, SOCK_DGRAM))
        connected.bind(("::1", 443))
        connected.connect(("::1", 5000))

        found = ends(AF_INET6, IPPROTO_UDP, socket_dump.ESTABLISHED)

    assert list(found.values()) == [(443, 5000)]
