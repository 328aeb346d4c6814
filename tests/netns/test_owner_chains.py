"""Real connections whose packets come to the wrong real: owner chains lead them home."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from chain_world import CLIENT, VIP, VIP_V6, ChainWorld
from site_world import SiteWorld

pytestmark = pytest.mark.netns


@pytest.fixture
def chains(world: SiteWorld) -> Iterator[ChainWorld]:
    made = ChainWorld(world)
    try:
        made.build()
        yield made
    finally:
        made.close()


def echoed(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(100)


def test_a_connection_of_the_last_candidate_goes_on_and_a_stray_gets_its_reset(
    chains: ChainWorld,
) -> None:
    chains.start_agents()
    for name in ("web1", "web2", "web3"):
        chains.serve(name)
    chains.lead("web3")
    with chains.connection(VIP) as old, chains.connection(VIP_V6) as old_v6:
        assert echoed(old, b"first") == b"web3 first"
        assert echoed(old_v6, b"first") == b"web3 first"
        assert chains.counted("web3")["PASSED_OWN_SOCKET"] == 0  # these came without a chain

        chains.lead("web1", "web2", "web3")

        assert echoed(old, b"second") == b"web3 second"
        assert echoed(old_v6, b"second") == b"web3 second"
        with chains.connection(VIP) as new:
            assert echoed(new, b"hello") == b"web1 hello"
        assert chains.counted("web1")["PASSED_SYN"] > 0
        assert chains.counted("web1")["PASSED_OWN_SOCKET"] > 0
        assert chains.counted("web1")["HANDED_ON"] >= 2
        assert chains.counted("web2")["HANDED_ON"] >= 2
        status = chains.status("web3")
        assert status.chains is not None
        assert status.chains.found[2] >= 2
        assert status.chains.found[:2] == (0, 0)
        assert chains.counted("web3")["PASSED_LAST_RESORT"] == 0

        assert old.send(b"vanish")
        chains.world.wait(lambda: _is_reset(old))
        assert chains.counted("web3")["PASSED_LAST_RESORT"] > 0
        assert echoed(old_v6, b"third") == b"web3 third"

    first = chains.status("web1").chains
    assert first is not None
    assert [(edge.address, edge.generation) for edge in first.edges] == [(CLIENT, 77)]
    assert first.edges_agree
    last = chains.status("web3").chains
    assert last is not None
    assert last.edges == ()  # what it got with a chain came from other reals


@pytest.mark.parametrize("vip", [VIP, VIP_V6], ids=["v4", "v6"])
def test_all_fragments_of_a_datagram_follow_the_first_one(chains: ChainWorld, vip: str) -> None:
    chains.start_agents()
    whole = bytes(range(256)) * 12  # three fragments
    chains.lead("web3")
    with chains.datagrams("web3", vip) as (client, server):
        chains.lead("web1", "web3")

        arrived = [_arrived(client, server, whole) for _ in range(3)]

    assert arrived == [whole] * 3
    assert chains.counted("web1")["HANDED_ON"] >= 9
    assert chains.counted("web1")["PASSED_UNASKED"] == 0


def _arrived(client: socket.socket, server: socket.socket, datagram: bytes) -> bytes:
    client.send(datagram)
    return server.recv(10_000)


@pytest.mark.parametrize("vip", [VIP, VIP_V6], ids=["v4", "v6"])
def test_sockets_of_a_container_are_asked_and_counted_too(chains: ChainWorld, vip: str) -> None:
    box = chains.contain("web3")
    absent = "/run/netns/not-there"
    chains.start_agents(
        web3=f'vip_interface = ""\nsocket_namespaces = ["{absent}", "/run/netns/{box}"]\n'
    )
    chains.serve("web1")
    chains.serve("web3", namespace=box)
    assert VIP not in chains.addresses("web3")
    assert chains.status("web3").namespaces == (f"{absent} (not there)", f"/run/netns/{box}")
    chains.lead("web3", "web1")

    with chains.connection(vip) as old:
        assert echoed(old, b"first") == b"web3 first"
        assert chains.counted("web3")["PASSED_OWN_SOCKET"] > 0
        chains.lead("web1", "web3")
        assert echoed(old, b"second") == b"web3 second"
        here = chains.status("web3").chains
        assert here is not None
        assert here.found[1] > 0
        chains.world.wait(lambda: chains.flows("web3", vip) == 1)

        chains.lead("web3", "web1")
        assert old.send(b"vanish")  # the container's listener has no cookie for what follows
        chains.world.wait(lambda: _is_reset(old))
        assert chains.counted("web3")["HANDED_ON"] > 0
        assert chains.counted("web1")["PASSED_LAST_RESORT"] > 0
        chains.world.wait(lambda: chains.flows("web3", vip) == 0)


@pytest.mark.parametrize("vip", [VIP, VIP_V6], ids=["v4", "v6"])
def test_an_earlier_owner_in_time_wait_does_not_swallow_a_port_that_is_used_again(
    chains: ChainWorld, vip: str
) -> None:
    chains.start_agents()
    for name in ("web1", "web2"):
        chains.serve(name)
    chains.lead("web1")
    with chains.connection(vip) as old:
        port: int = old.getsockname()[1]
        assert echoed(old, b"first") == b"web1 first"
        assert echoed(old, b"farewell") == b""  # the server is the first to close
    chains.world.wait(lambda: chains.in_time_wait("web1", port))
    chains.lead("web2")

    with chains.connection(vip, port) as again:
        assert echoed(again, b"second") == b"web2 second"
        chains.lead("web1", "web2")
        assert echoed(again, b"third") == b"web2 third"

    assert chains.in_time_wait("web1", port)
    assert chains.counted("web1")["HANDED_ON"] > 0


def _is_reset(client: socket.socket) -> bool:
    try:
        client.send(b"is anybody there?")
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False
