"""Two edges' daemons and one store: a planned change is told, heard, and only then made."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_world import SiteWorld

from bpf.program import unload
from edge_lb.history import last_members
from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.store import Contents
from gslb.fleet.views import Drains, FlowWhere, RealList, Status

pytestmark = pytest.mark.netns

REALS = {"web1": "127.0.0.11", "web2": "127.0.0.12", "web3": "127.0.0.13"}
CHECK = (
    '{ kind = "tcp", via = "direct", port = 8080, interval_s = 0.5, timeout_s = 0.5, '
    "rise = 2, fall = 10 }"
)
PORTS = range(40000, 40024)


def fleet_text(*behind: str) -> str:
    reals = "".join(
        f'[real.{name}]\nsite = "fra"\naddress = "{address}"\n' for name, address in REALS.items()
    )
    names = ", ".join(f'"{name}"' for name in behind)
    return (
        '[fleet]\nname = "two"\n[site.fra]\nlocation = { country = "DE", lat = 50.0, lon = 8.0 }\n'
        f'edges = ["edge1", "edge2"]\n{reals}[vip.www]\nsite = "fra"\naddress = "198.51.100.1"\n'
        f"port = 80\nreals = [{names}]\ncheck = {CHECK}\n"
    )


class Edge:
    """One edge's files and daemon, in one of the world's two namespaces."""

    def __init__(self, world: SiteWorld, name: str, namespace: str, card: str, own: str) -> None:
        self.world, self.name = world, name
        self.admin = world.folder / f"{name}.sock"
        self.pin_dir = world.pin_dir.with_name(f"{world.pin_dir.name}_{name}")
        self.knows("web1", "web2")
        config = world.write(
            f"{name}.toml",
            f'[host]\nname = "{name}"\nfleet = "fleet-{name}.toml"\n'
            f'admin_socket = "{self.admin}"\nstate_dir = "{world.folder / name}"\n'
            f'[store]\nkind = "sqlite"\npath = "{world.folder / "store.sqlite"}"\n'
            f'[edge]\nsite = "fra"\ninterface = "{card}"\npin_dir = "{self.pin_dir}"\n'
            f'tunnel_source = "{own}"\nbeat_s = 0.5\nlease_s = 60.0\n',
        )
        for address in REALS.values():
            world.serve(address, namespace=namespace)
        arguments = ("-m", "edge_lb", "agent", "--config", str(config))
        self.daemon: subprocess.Popen[bytes] = world.start(*arguments, namespace=namespace)

    def knows(self, *behind: str) -> None:
        self.world.write(f"fleet-{self.name}.toml", fleet_text(*behind))

    def reload(self) -> None:
        self.daemon.send_signal(signal.SIGHUP)

    def slots(self) -> dict[str, int]:
        rows = self.world.ask(self.admin, "/reals", RealList).reals
        return {row.name: row.slots for row in rows if row.state != "UNKNOWN"}

    def waiting(self) -> tuple[str, ...]:
        return self.world.ask(self.admin, "/status", Status).waiting

    def candidates(self) -> set[str]:
        routes = (f"/flow?client=203.0.113.9:{port}&vip=www" for port in PORTS)
        found = (self.world.ask(self.admin, route, FlowWhere) for route in routes)
        return {name for one in found for name in one.earlier}

    def unheard(self) -> float:
        text = self.world.text(self.admin, "/metrics")
        return float(re.findall(r"^edge_changes_unheard_total (\S+)", text, re.MULTILINE)[0])


@pytest.fixture
def edges(world: SiteWorld) -> Iterator[tuple[Edge, Edge]]:
    """Both know each other."""
    made = (
        Edge(world, "edge1", world.name, "eth0", "192.0.2.2"),
        Edge(world, "edge2", world.far, "far0", "192.0.2.1"),
    )
    try:
        for edge in made:
            world.wait(lambda edge=edge: len(edge.slots()) == 2)
        world.wait(lambda: [len(said.heard) for said in held(world.folder).reports] == [1, 1])
        yield made
    finally:
        world.end_all()
        for edge in made:
            unload(edge.pin_dir)


def held(folder: Path) -> Contents:
    """What the store holds."""

    async def read() -> Contents:
        store = SqliteStore(folder / "store.sqlite", timeout_s=5.0)
        try:
            return await store.read()
        finally:
            await store.close()

    return asyncio.run(read())


def test_a_new_real_gets_flows_when_the_other_edge_can_lead_them_to_it(
    edges: tuple[Edge, Edge],
) -> None:
    one, two = edges
    world = one.world
    told: list[int] = []

    def is_told() -> bool:
        own = next(past for past in held(world.folder).histories if past.edge == "edge1")
        told.extend([own.generation] * bool(own.vips[0].coming))
        return bool(told)

    def made_at_both() -> bool:
        now = held(world.folder)
        own = next(past for past in now.histories if past.edge == "edge1")
        if "web3" in last_members(own.vips[0]):
            heard = next(report.heard for report in now.reports if report.edge == "edge2")
            assert heard["edge1"] >= told[0]
        return all(edge.slots().get("web3", 0) > 0 for edge in edges)

    one.knows("web1", "web2", "web3")
    one.reload()
    world.wait(is_told)
    assert one.slots().get("web3", 0) == 0
    assert one.waiting()[0].startswith("www: waits for edge2 to hear of it")
    assert two.candidates() == set()  # it does not know web3 yet, and says so

    two.knows("web1", "web2", "web3")
    two.reload()
    world.wait(made_at_both)

    assert (one.unheard(), two.unheard()) == (0, 0)
    assert (one.waiting(), two.waiting()) == ((), ())


def test_a_drain_says_whom_it_waits_for_and_is_made_at_both(edges: tuple[Edge, Edge]) -> None:
    one, two = edges

    status, body = one.world.tell(one.admin, "/real/drain", {"name": "web2", "by": "anna"})

    assert status == 200
    assert b"www: waits for edge2 to hear of it" in body
    one.world.wait(lambda: all(edge.slots()["web2"] == 0 for edge in edges))
    assert (one.unheard(), two.unheard()) == (0, 0)
    assert "web2" in two.candidates()
    (row,) = one.world.ask(one.admin, "/drains", Drains).drains
    assert "waits" not in row.words
