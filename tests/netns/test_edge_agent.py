"""One edge's daemon with the true data plane, in a namespace whose reals are small HTTP servers."""

from __future__ import annotations

import asyncio
import signal

import pytest
from site_world import SiteWorld

from gslb.fleet.health import VipState
from gslb.fleet.history import EdgeHistory
from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.views import DatapathView, Drops, FlowWhere, PlanView, RealList, RealRow, Status
from gslb.service.lifecycle import ExitCode

pytestmark = pytest.mark.netns

RING_SLOTS = 65536
VIP = "198.51.100.1"
REALS = {"web1": "127.0.0.11", "web2": "127.0.0.12", "web3": "127.0.0.13"}
CHECK = (
    '{ kind = "http", via = "direct", port = 8080, interval_s = 0.2, timeout_s = 0.2, '
    'rise = 2, fall = 3, host = "www.example.com" }'
)


def fleet_text() -> str:
    reals = "".join(
        f'[real.{name}]\nsite = "fra"\naddress = "{address}"\n' for name, address in REALS.items()
    )
    return (
        '[fleet]\nname = "small"\n'
        '[site.fra]\nlocation = { country = "DE", lat = 50.0, lon = 8.0 }\nedges = ["edge1"]\n'
        f"{reals}"
        f'[vip.www]\nsite = "fra"\naddress = "{VIP}"\nport = 80\n'
        f'reals = ["web1", "web2", "web3"]\ncheck = {CHECK}\n'
    )


class EdgeHost:
    """One edge's files, daemon, and the servers behind it."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        self.admin = world.folder / "edge.sock"
        self.state_dir = world.folder / "state"
        world.write("fleet.toml", fleet_text())
        self.config = world.write(
            "edge.toml",
            f'[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{self.state_dir}"\n'
            f'[store]\nkind = "sqlite"\npath = "{world.folder / "store.sqlite"}"\n'
            f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{world.pin_dir}"\n'
            'tunnel_source = "192.0.2.2"\nbeat_s = 0.3\nlease_s = 2.0\n',
        )
        self.servers = {name: world.serve(address) for name, address in REALS.items()}
        self.daemon = self.start()

    def start(self):
        daemon = self.world.start("-m", "edge_lb", "agent", "--config", str(self.config))
        self.world.wait(lambda: bool(self.status().vips) or daemon.poll() is not None)
        assert daemon.poll() is None, (self.world.folder / "log").read_text()
        return daemon

    def run(self, *options: str):
        return self.world.run("-m", "edge_lb", "agent", "--config", str(self.config), *options)

    def status(self) -> Status:
        return self.world.ask(self.admin, "/status", Status)

    def reals(self) -> dict[str, RealRow]:
        rows = self.world.ask(self.admin, "/reals", RealList).reals
        return {row.name: row for row in rows}

    def states(self) -> dict[str, str]:
        return {name: row.state for name, row in self.reals().items()}

    def slots(self) -> dict[str, int]:
        return {name: row.slots for name, row in self.reals().items()}

    def ring_owner(self, client_port: int) -> str:
        """Which real the kernel's own ring names for a client's port."""
        return self.where(client_port).ring_real

    def where(self, client_port: int) -> FlowWhere:
        """Where a flow from a client's port goes."""
        route = f"/flow?client=203.0.113.9:{client_port}&vip=www"
        return self.world.ask(self.admin, route, FlowWhere)

    def owners(self) -> list[str]:
        return [self.ring_owner(port) for port in range(40000, 40030)]


@pytest.fixture
def edge(world: SiteWorld) -> EdgeHost:
    made = EdgeHost(world)
    world.wait(lambda: set(made.states().values()) == {"UP"} and all(made.slots().values()))
    return made


def moved_besides(gone: str, before: list[str], after: list[str]) -> int:
    """How many probes that were not of `gone` have another real."""
    return sum(was != now for was, now in zip(before, after, strict=True) if was != gone)


def test_dead_real_leaves_the_ring_and_no_slot_of_the_others_moves(edge: EdgeHost):
    before = edge.owners()
    assert sum(edge.slots().values()) == RING_SLOTS

    edge.world.end(edge.servers["web2"], signal.SIGKILL)
    edge.world.wait(lambda: edge.slots()["web2"] == 0)

    after = edge.owners()
    assert "web2" in before
    assert "web2" not in after
    assert moved_besides("web2", before, after) == 0
    assert "connection refused" in edge.reals()["web2"].reason
    assert edge.status().vips[0].state == VipState.DEGRADED

    edge.servers["web2"] = edge.world.serve(REALS["web2"])
    edge.world.wait(lambda: edge.slots()["web2"] > 0)
    assert edge.owners() == before


def test_drain_takes_new_flows_away_is_told_to_the_store_and_ends(edge: EdgeHost):
    before = edge.owners()

    status, body = edge.world.tell(
        edge.admin, "/real/drain", {"name": "web1", "by": "anna", "reason": "kernel upgrade"}
    )

    assert status == 200, body
    assert b"web1 up -> draining" in body
    assert "web1" not in edge.owners()
    assert edge.states()["web1"] == "DRAINING"
    assert edge.reals()["web1"].reason.startswith("drained by anna: kernel upgrade")
    assert b"drained already" in edge.world.tell(edge.admin, "/real/drain", {"name": "web1"})[1]

    status, _ = edge.world.tell(edge.admin, "/real/undrain", {"name": "web1", "by": "anna"})

    assert status == 200
    assert edge.owners() == before


def histories(edge: EdgeHost) -> list[EdgeHistory]:
    """What the store holds of edges' time lines."""

    async def read() -> list[EdgeHistory]:
        store = SqliteStore(edge.world.folder / "store.sqlite", timeout_s=5.0)
        try:
            return list((await store.read()).histories)
        finally:
            await store.close()

    return asyncio.run(read())


def test_a_drained_real_stays_in_the_chains_of_its_slots_over_a_restart(edge: EdgeHost):
    def earlier() -> list[tuple[str, ...]]:
        return [edge.where(port).earlier for port in ports]

    ports = [port for port in range(40000, 40030) if edge.ring_owner(port) == "web1"]
    assert ports
    assert set(earlier()) == {()}

    assert edge.world.tell(edge.admin, "/real/drain", {"name": "web1"})[0] == 200

    assert set(earlier()) == {("web1",)}
    assert all(edge.ring_owner(port) in {"web2", "web3"} for port in ports)
    edge.world.wait(lambda: any(line.turns for told in histories(edge) for line in told.vips))
    (told,) = histories(edge)
    assert (told.edge, [line.name for line in told.vips]) == ("edge1", ["www"])
    assert told.vips[0].members.keys() == REALS.keys()
    assert told.vips[0].turns[-1].changed == {"web1": 0}
    (row,) = plan_of(edge, "?down=web2").vips
    assert row.chains_grow == 0  # web1 takes no new flow, and a dead real is no candidate
    assert [end.entries for end in row.chain_ends] > [0]

    edge.world.end(edge.daemon, signal.SIGKILL)
    edge.daemon = edge.start()

    assert set(earlier()) == {("web1",)}


def plan_of(edge: EdgeHost, query: str = "") -> PlanView:
    return edge.world.ask(edge.admin, f"/plan{query}", PlanView)


def test_plan_tells_what_a_drain_then_does_and_changes_nothing(edge: EdgeHost):
    before = edge.slots()
    forecast = plan_of(edge, "?drain=web1")
    assert edge.slots() == before

    _, body = edge.world.tell(edge.admin, "/real/drain", {"name": "web1"})

    assert forecast.subject == "drain web1"
    assert forecast.vips[0].change == "web1 up -> draining"
    assert f"{forecast.slots} of {RING_SLOTS} slots move".encode() in body


def test_plan_tells_what_a_reload_would_do(edge: EdgeHost):
    assert plan_of(edge).vips == ()

    edge.world.write("fleet.toml", fleet_text().replace('"web2", "web3"]', '"web2"]'))
    (row,) = plan_of(edge).vips

    assert (row.vip, row.change) == ("www", "web3 removed")
    assert 0.33 < row.share < 0.36
    edge.world.write("fleet.toml", "nonsense")
    status, body = edge.world.fetch(edge.admin, "/plan")
    assert (status, b'"code":5' in body) == (422, True)
    assert edge.world.fetch(edge.admin, "/plan?down=web9")[0] == 400
    assert edge.world.fetch(edge.admin, "/plan?weight=web1")[0] == 400


def test_drain_of_the_last_serving_real_is_unsafe_unless_forced(edge: EdgeHost):
    for name in ("web1", "web2"):
        assert edge.world.tell(edge.admin, "/real/drain", {"name": name})[0] == 200

    status, body = edge.world.tell(edge.admin, "/real/drain", {"name": "web3"})

    assert status == 409
    assert b'"code":6' in body
    assert b"leaves no serving real for www" in body
    assert edge.slots()["web3"] == RING_SLOTS

    assert edge.world.tell(edge.admin, "/real/drain", {"name": "web3", "force": "1"})[0] == 200
    assert edge.slots() == {"web1": 0, "web2": 0, "web3": 0}


def overrides(edge: EdgeHost) -> list[tuple[str, str, bool]]:
    """What the store holds of operators' wills."""

    async def read() -> list[tuple[str, str, bool]]:
        store = SqliteStore(edge.world.folder / "store.sqlite", timeout_s=5.0)
        try:
            found = (await store.read()).overrides
        finally:
            await store.close()
        return [(will.kind, will.name, will.drained) for will in found]

    return asyncio.run(read())


def test_drain_of_the_last_edge_is_unsafe_unless_forced_and_moves_no_flow(edge: EdgeHost):
    before = edge.owners()

    status, body = edge.world.tell(edge.admin, "/edge/drain", {"name": "edge1"})

    assert (status, b"leaves no edge at fra" in body) == (409, True)
    assert edge.world.tell(edge.admin, "/edge/drain", {"name": "edge"})[0] == 400
    assert edge.world.tell(edge.admin, "/edge/drain", {"name": "edge1", "force": "1"})[0] == 200
    assert overrides(edge) == [("edge", "edge1", True)]
    assert b"drained already" in edge.world.tell(edge.admin, "/edge/drain", {"name": "edge1"})[1]
    assert edge.owners() == before

    assert edge.world.tell(edge.admin, "/edge/undrain", {"name": "edge1"})[0] == 200
    assert overrides(edge) == [("edge", "edge1", False)]


def test_unknown_real_is_refused_with_the_nearest_name(edge: EdgeHost):
    status, body = edge.world.tell(edge.admin, "/real/drain", {"name": "web"})

    assert status == 400
    assert b"did you mean" in body


def test_killed_agent_leaves_packets_and_its_restart_changes_nothing(edge: EdgeHost):
    edge.world.tell(edge.admin, "/real/drain", {"name": "web1", "by": "anna"})
    edge.world.end(edge.servers["web2"], signal.SIGKILL)
    edge.world.wait(lambda: edge.slots()["web2"] == 0)
    owners, slots, generation = edge.owners(), edge.slots(), edge.status().generation

    edge.world.end(edge.daemon, signal.SIGKILL)
    assert edge.world.xdp_attached()
    edge.daemon = edge.start()

    assert (edge.owners(), edge.slots()) == (owners, slots)
    assert edge.states() == {"web1": "DRAINING", "web2": "DOWN", "web3": "UP"}
    assert edge.status().generation >= generation


def test_restart_without_its_state_finds_its_seats_in_the_maps(edge: EdgeHost):
    owners = edge.owners()
    edge.world.end(edge.daemon, signal.SIGTERM)
    (edge.state_dir / "edge.json").unlink()

    edge.daemon = edge.start()

    assert edge.owners() == owners


def test_all_reals_dead_with_a_living_gateway_empties_the_ring(edge: EdgeHost):
    for server in edge.servers.values():
        edge.world.end(server, signal.SIGKILL)

    edge.world.wait(lambda: set(edge.slots().values()) == {0})

    status = edge.status()
    assert status.vips[0].state == VipState.DOWN
    assert not any("gateway" in line for line in status.trouble)


def test_all_checks_failing_with_a_dead_gateway_keeps_the_ring(edge: EdgeHost):
    slots = edge.slots()
    edge.world.set_link(up=False)
    for server in edge.servers.values():
        edge.world.end(server, signal.SIGKILL)

    edge.world.wait(lambda: set(edge.states().values()) == {"DOWN"})

    assert edge.slots() == slots
    assert any("gateway is silent" in line for line in edge.status().trouble)

    edge.servers = {name: edge.world.serve(address) for name, address in REALS.items()}
    edge.world.set_link(up=True)
    edge.world.wait(lambda: edge.status().well)
    assert edge.slots() == slots


def test_lost_store_is_said_and_a_drain_waits_for_its_return(edge: EdgeHost):
    store = edge.world.folder / "store.sqlite"
    away = edge.world.folder / "away"
    edge.world.wait(lambda: edge.status().store == "ok")
    for path in (store, store.with_name(store.name + "-wal"), store.with_name(store.name + "-shm")):
        path.unlink(missing_ok=True)
    store.mkdir()
    edge.world.wait(lambda: edge.status().store != "ok")

    status, body = edge.world.tell(edge.admin, "/real/drain", {"name": "web1", "by": "anna"})

    assert status == 200
    assert b"follow when it is back" in body
    assert edge.slots()["web1"] == 0

    store.rename(away)
    edge.world.wait(lambda: edge.status().store == "ok")
    assert edge.slots()["web1"] == 0


def test_reload_keeps_every_seat_that_stays(edge: EdgeHost):
    before = edge.owners()
    text = fleet_text().replace('reals = ["web1", "web2", "web3"]', 'reals = ["web1", "web3"]')
    edge.world.write("fleet.toml", text)

    edge.daemon.send_signal(signal.SIGHUP)
    edge.world.wait(lambda: set(edge.slots()) == {"web1", "web3"})

    edge.world.wait(lambda: "web2" not in edge.owners())
    assert moved_besides("web2", before, edge.owners()) == 0


def test_views_tell_verdicts_maps_and_metrics(edge: EdgeHost):
    drops = edge.world.ask(edge.admin, "/drops", Drops)
    view = edge.world.ask(edge.admin, "/datapath", DatapathView)

    assert "FORWARDED_NEW" in {row.name for row in drops.counters}
    assert {"services", "rings", "reals", "flows"} <= {row.name for row in view.maps}
    assert view.program_tag
    assert edge.world.sysctl("eth0/forwarding") == "1"


def test_undo_takes_the_program_off_and_puts_settings_back(edge: EdgeHost):
    assert edge.run("--undo").returncode == ExitCode.RUNNING
    assert edge.world.end(edge.daemon, signal.SIGTERM) == ExitCode.DONE
    assert edge.world.xdp_attached()

    undone = edge.run("--undo")

    assert undone.returncode == ExitCode.DONE, undone.stderr
    assert not edge.world.xdp_attached()
    assert not edge.world.pin_dir.exists()
    assert edge.world.sysctl("eth0/forwarding") == "0"


def test_edge_that_is_not_of_its_site_is_refused(world: SiteWorld):
    world.write("fleet.toml", fleet_text())
    config = world.write(
        "edge.toml",
        '[host]\nname = "edge2"\nfleet = "fleet.toml"\nadmin_socket = "x"\nstate_dir = "x"\n'
        '[store]\nkind = "sqlite"\npath = "x"\n'
        '[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "x"\ntunnel_source = "192.0.2.2"\n',
    )

    refused = world.run("-m", "edge_lb", "agent", "--config", str(config), "--check")

    assert refused.returncode == ExitCode.CONFIG
    assert "did you mean `edge1`?" in refused.stderr


def test_edge_without_an_ipv6_source_is_refused_if_a_real_needs_one(world: SiteWorld):
    text = fleet_text().replace('address = "127.0.0.13"', 'address = "fd00::13"')
    world.write("fleet.toml", text)
    config = world.write(
        "edge.toml",
        '[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "x"\nstate_dir = "x"\n'
        '[store]\nkind = "sqlite"\npath = "x"\n'
        '[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "x"\ntunnel_source = "192.0.2.2"\n',
    )

    refused = world.run("-m", "edge_lb", "agent", "--config", str(config), "--check")

    assert refused.returncode == ExitCode.CONFIG
    assert "$.edge.tunnel_source_v6: missing, and VIP `www` has the real `web3`" in refused.stderr
