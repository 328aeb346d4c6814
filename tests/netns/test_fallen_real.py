"""Real connections through a real edge to a real that fails its checks: alive, and truly dead."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from chain_world import VIP, ChainWorld, address_of
from pyroute2 import NetNS
from site_world import SiteWorld

from bpf.program import unload
from gslb.fleet.views import RealList, RealRow
from gslb.service import clock
from ops.lab.world import inside

pytestmark = pytest.mark.netns

NAMES = ("web1", "web2", "web3")
LONG_S = 3600.0  # longer than any test runs, however busy its machine is
SHORT_S = 4.0
CHECK = (
    'check = { kind = "http", via = "direct", port = 8080, interval_s = 2.0, timeout_s = 2.0, '
    "rise = 1, fall = 2 }\n"
)
AGENT = """
import sys
from edge_lb import grace
from edge_lb.__main__ import main
grace.GRACE_S = float(sys.argv.pop(1))
main()
"""


class GraceWorld:
    """A `ChainWorld` whose packets to the VIP go through an edge with its daemon."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        self.chains = ChainWorld(world)
        self.admin = world.folder / "edge.sock"
        self.pin_dir = world.pin_dir.with_name(f"{world.pin_dir.name}_edge")

    def build(self, grace_s: float) -> None:
        self.chains.build()
        self.chains.start_agents(vip=CHECK)
        for name in NAMES:
            self.chains.serve(name)
        self.health = {name: self.be_healthy(name) for name in NAMES}
        namespace = self.chains.add_edge()
        with inside(namespace):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        folder = self.world.folder
        config = self.world.write(
            "edge.toml",
            f'[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{folder / "edge"}"\n'
            f'[store]\nkind = "sqlite"\npath = "{folder / "store.sqlite"}"\n'
            f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{self.pin_dir}"\n'
            f'tunnel_source = "{self.chains.edge_address}"\n',
        )
        words = ("-c", AGENT, str(grace_s), "agent", "--config", str(config))
        self.world.start(*words, namespace=namespace)
        self.world.wait(lambda: all(row.state == "UP" and row.slots for row in self.rows()))

    def close(self) -> None:
        self.chains.close()
        unload(self.pin_dir)

    def be_healthy(self, name: str):
        """The server of the checks, which is not the one that holds connections."""
        return self.world.serve(address_of(name), namespace=self.chains.namespaces[name])

    def rows(self) -> tuple[RealRow, ...]:
        rows = self.world.ask(self.admin, "/reals", RealList).reals
        return tuple(row for row in rows if row.vip == "www")

    def row(self, name: str) -> RealRow:
        return next(row for row in self.rows() if row.name == name)

    @contextmanager
    def connection_of(self, name: str) -> Iterator[socket.socket]:
        """A client's connection that this real holds."""
        with ExitStack() as stack:
            while True:
                client = stack.enter_context(self.chains.connection(VIP))
                if echoed(client, b"hello") == name.encode() + b" hello":
                    yield client
                    return


def echoed(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(100)


@pytest.fixture
def site(world: SiteWorld) -> Iterator[GraceWorld]:
    made = GraceWorld(world)
    try:
        yield made
    finally:
        made.close()


def test_connections_live_on_at_a_real_that_fails_its_checks_for_a_time(site: GraceWorld) -> None:
    site.build(LONG_S)
    with site.connection_of("web2") as old:
        site.world.end(site.health["web2"], signal.SIGKILL)
        site.world.wait(lambda: site.row("web2").state == "DOWN" and site.row("web2").slots == 0)

        assert echoed(old, b"second") == b"web2 second"
        for _ in range(8):
            with site.chains.connection(VIP) as new:
                assert not echoed(new, b"hello").startswith(b"web2")
        assert site.chains.counted("web2")["PASSED_OWN_SOCKET"] > 0
        others = [site.chains.counted(name)["HANDED_ON"] for name in ("web1", "web3")]
        assert sum(others) > 0

        site.be_healthy("web2")
        site.world.wait(lambda: site.row("web2").state == "UP" and site.row("web2").slots > 0)

        assert echoed(old, b"third") == b"web2 third"
        with site.connection_of("web2"):
            pass


def test_a_client_of_a_dead_real_is_reset_when_the_grace_is_over(site: GraceWorld) -> None:
    site.build(SHORT_S)
    with site.connection_of("web2") as old, site.connection_of("web3") as other:
        with NetNS(site.chains.namespaces["web2"]) as web2:
            web2.link("set", index=web2.link_lookup(ifname="eth0")[0], state="down")
        site.world.wait(lambda: site.row("web2").state == "DOWN" and site.row("web2").slots == 0)

        reset_s: list[float] = []
        site.world.wait(lambda: _is_reset(old, reset_s))

        assert reset_s[0] - site.row("web2").since_s >= SHORT_S
        assert echoed(other, b"still") == b"web3 still"


def _is_reset(client: socket.socket, at_s: list[float]) -> bool:
    try:
        client.send(b"is anybody there?")
    except (ConnectionResetError, BrokenPipeError):
        at_s.append(clock.unix_s())
        return True
    return False
