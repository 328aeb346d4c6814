"""What does not fit somewhere: after wrapping, in one packet, or on the way back to the client."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from pyroute2 import NetNS

from bpf.packets import MORE_FRAGMENTS, UDP, ipv4, udp
from ops.lab.world import inside
from ways.net import CLIENT, CLIENT_MTU, CLIENT_SOURCES, FRESH_SOURCE, REALS, SITE_MTU, family_of
from ways.server import PORT
from ways.site import SHARED, WAYS, WaySite

pytestmark = pytest.mark.netns

NARROW_MTU = 1400
WRAPPING = {"l2": (0, 0), "ipip": (20, 40), "gue": (32, 52)}  # over IPv4 and IPv6
FAR_WAYS = {name: vip for name, vip in WAYS.items() if vip.reals[0].startswith("far")}
IP_MTU, IPV6_MTU = 14, 24
PMTUDISC_DO = 2
DISCOVER = {4: (socket.IPPROTO_IP, 10, PMTUDISC_DO), 6: (socket.IPPROTO_IPV6, 23, PMTUDISC_DO)}
DOWNLOAD_BYTES = 300_000
FRAGMENT_BYTES = 1480


@pytest.fixture
def narrow(site: WaySite) -> Iterator[int]:
    """The routes from the edge to the far reals take less than clients send."""
    index = site.net.index(site.net.edge, "eth1")
    routes = [
        {"dst": f"{REALS['far4'].ipv4}/32", "oif": index, "family": socket.AF_INET},
        {"dst": f"{REALS['far6'].ipv6}/128", "oif": index, "family": socket.AF_INET6},
    ]
    with NetNS(site.net.edge) as edge:
        for route in routes:
            edge.route("add", metrics={"mtu": NARROW_MTU}, **route)
        await_mtu(site, NARROW_MTU)
        yield NARROW_MTU
        for route in routes:
            edge.route("delete", **route)
        await_mtu(site, SITE_MTU)


def await_mtu(site: WaySite, mtu: int) -> None:
    """Until the maps say so of both far reals."""
    for real in ("far4", "far6"):
        site.world.wait(lambda real=real: {way.mtu for way in site.ways_to(real)} == {mtu})


def path_mtu(connection: socket.socket) -> int:
    """As the client's kernel has learned it."""
    if connection.family == socket.AF_INET6:
        return connection.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    return connection.getsockopt(socket.IPPROTO_IP, IP_MTU)


def test_a_client_learns_what_fits_with_the_wrapping_and_its_upload_finishes(
    site: WaySite, narrow: int
):
    for name, vip in FAR_WAYS.items():
        (real,) = vip.reals
        data = random.Random(name).randbytes(200_000)

        with site.connect(vip) as connection:
            connection.sendall(b"0\n" + data)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                assert (answer.readline(), answer.read()) == (f"{real}\n".encode(), data)
            assert path_mtu(connection) == narrow - wrapping(name.split("-")[0][:-1], real)


@pytest.mark.parametrize("family", [4, 6])
def test_a_datagram_that_may_not_be_cut_is_refused_with_the_size_that_fits(
    site: WaySite, narrow: int, family: int
):
    vip, headers = SHARED[f"udp{family}"], {4: 28, 6: 48}[family]
    for source in CLIENT_SOURCES:
        with site.datagrams(vip, source) as out:
            out.setsockopt(*DISCOVER[family])
            out.send(bytes(CLIENT_MTU - headers))
            with suppress(OSError):  # the client's kernel was told
                out.recv(100)
                continue  # a near real took it
            out.send(bytes(path_mtu(out) - headers))
            name = out.recv(100).partition(b" ")[0].decode()
            assert path_mtu(out) == narrow - wrapping("gue", name)
            return
    pytest.fail("no flow went to a far real")


def wrapping(encap: str, real: str) -> int:
    return WRAPPING[encap][family_of(real) == 6]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["udp", "pair"])
def test_datagrams_of_many_fragments_arrive_whole_each_flow_at_one_real(
    site: WaySite, kind: str, family: int
):
    vip = SHARED[f"{kind}{family}"]
    draw = random.Random(family)
    before, dropped = site.verdicts(), site.vip_row(vip.name).dropped
    names: set[bytes] = set()

    for source in CLIENT_SOURCES:
        with site.datagrams(vip, source) as out:
            served: set[bytes] = set()
            for size in (2000, 4000, 9000, 30000):
                data = draw.randbytes(size)
                out.send(data)
                name, _, found = out.recv(100).partition(b" ")
                assert found == hashlib.sha256(data).digest()
                served.add(name)
            assert len(served) == 1
            names |= served

    assert len(names) > 1
    assert (site.verdicts() - before)["FORWARDED_FRAGMENT"] > 0
    assert site.vip_row(vip.name).dropped == dropped


def test_fragments_in_any_order_arrive_where_a_flow_is_two_addresses(site: WaySite):
    vip = SHARED["pair4"]
    data = random.Random(4).randbytes(4000)
    datagram = udp(40000, PORT, data)
    starts = range(0, len(datagram), FRAGMENT_BYTES)
    with inside(site.net.client):
        into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with into, raw:
        into.settimeout(5)
        into.bind((CLIENT.ipv4, 40000))

        for start in reversed(starts):
            more = MORE_FRAGMENTS if start != starts[-1] else 0
            piece = datagram[start : start + FRAGMENT_BYTES]
            packet = ipv4(CLIENT.ipv4, vip.address, UDP, piece, fragment=start // 8 | more)
            raw.sendto(packet, (vip.address, 0))

        assert into.recv(100).partition(b" ")[2] == hashlib.sha256(data).digest()


@pytest.fixture
def small_link(site: WaySite) -> Iterator[None]:
    """The last link to the client takes less than the reals send."""
    site.net.set_link(site.net.router, "c0", mtu=1300)
    yield
    site.net.set_link(site.net.router, "c0", mtu=CLIENT_MTU)


def download(connection: socket.socket) -> tuple[str, int]:
    """Asks for more than fits; who sent it, and how much came."""
    connection.sendall(f"{DOWNLOAD_BYTES}\n".encode())
    connection.shutdown(socket.SHUT_WR)
    with connection.makefile("rb") as answer:
        return answer.readline().decode().strip(), len(answer.read())


@pytest.mark.usefixtures("small_link")
def test_a_router_between_tells_the_real_by_way_of_the_edge(site: WaySite):
    for source, vip in zip(CLIENT_SOURCES, WAYS.values(), strict=True):
        before = site.verdicts()["FORWARDED_ICMP"]

        with site.connect(vip, source) as connection:
            assert download(connection) == (vip.reals[0], DOWNLOAD_BYTES)

        assert site.verdicts()["FORWARDED_ICMP"] > before


@pytest.mark.usefixtures("small_link")
@pytest.mark.parametrize("family", [4, 6])
def test_the_real_that_has_the_connection_is_told_though_the_ring_names_another(
    site: WaySite, family: int
):
    vip, drained = SHARED[f"many{family}"], "near4"
    before = site.verdicts()["FORWARDED_ICMP"]
    with ExitStack() as stack:
        while True:
            connection = stack.enter_context(site.connect(vip, FRESH_SOURCE))
            if site.flow(vip, connection).ring_real == drained:
                break
        stack.callback(site.world.tell, site.admin, "/real/undrain", {"name": drained})
        site.world.tell(site.admin, "/real/drain", {"name": drained, "force": "1"})
        assert site.flow(vip, connection).ring_real != drained

        assert download(connection) == (drained, DOWNLOAD_BYTES)

    assert site.verdicts()["FORWARDED_ICMP"] > before
    site.world.wait(site.settled)
