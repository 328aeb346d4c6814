"""Each system of the survival simulation, by hand: what it must survive, and what it cannot."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import count, cycle

import numpy as np
import pytest
from survival import line_up as chosen
from survival.anchor import Published, Run
from survival.changes import Change, Churn, Kind, write_script
from survival.line_up import line_up
from survival.lru import FlowMemories
from survival.maglev import MAGLEV_SLOTS, maglev_ring, walk
from survival.owner_chains import FewerTurns, MaglevChains, OwnerChains, RememberingChains
from survival.proof import wrong_chains, wrong_choices
from survival.remembering import Jet, JetTable, Remembering
from survival.run import World, simulate
from survival.systems import Glb, Maglev, ModN, System
from survival.tables import Rendezvous, Servers
from survival.traffic import Connections, HadoopDurations, Load, Tick

from edge_lb.flow import flow_hash, slot

SERVERS, UNIVERSE, FLOWS = 8, 14, 3_000
AGE_S = 1e6


class Stand:
    """Some servers and flows, and the systems under test; nothing happens but by its words."""

    def __init__(self) -> None:
        self.servers = Servers(SERVERS, UNIVERSE, AGE_S)
        load = Load(concurrent=FLOWS, durations=HadoopDurations(), gap_s=(1.0, 2.0))
        self.flows = Connections(load, np.random.default_rng(1))
        self.rows = Rendezvous(UNIVERSE)
        self.systems: list[System] = []
        self.balancer = 0

    def add(self, system: System) -> System:
        system.start()
        self.systems.append(system)
        self.speak()
        return system

    def change(self, kind: Kind, server: int, at_s: float = 0.0) -> None:
        """`server` as tables know it, from 1."""
        change = Change(at_s=at_s, kind=kind, number=server - 1)
        self.servers.apply(change)
        for system in self.systems:
            system.happen(change)

    def speak(self) -> None:
        """Every flow sends a packet, to the present balancer."""
        live, nobody = self.flows.live, np.zeros(0, np.int32)
        tick = Tick(born=nobody, packets=live, spoke=live, counts=np.ones(len(live), np.int64))
        for system in self.systems:
            system.tick(
                tick, dict.fromkeys(("mod-N", "resilient"), np.full(len(live), self.balancer))
            )

    def owner(self, number: int) -> int:
        return int(self.servers.ring[self.flows.slot[number]])


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_flows_are_hashed_as_edges_hash_them(stand: Stand) -> None:
    for number in stand.flows.live[:300]:
        flow = stand.flows.flow(int(number))

        assert int(stand.flows.hash[number]) == flow_hash(flow)
        assert int(stand.flows.slot[number]) == slot(flow)


def test_the_memory_is_the_least_recently_used_exactly() -> None:
    rng = np.random.default_rng(3)
    memories, twins = FlowMemories(50, 2, 7), [OrderedDict[int, int]() for _ in range(2)]

    for _ in range(200):
        flows, track = rng.integers(0, 50, 20), rng.random(20) < 0.7
        balancers, choice = rng.integers(0, 2, 20), rng.integers(1, 9, 20)
        wanted = []
        for flow, balancer, server, is_kept in zip(flows, balancers, choice, track, strict=True):
            twin = twins[balancer]
            wanted.append(twin.get(flow, server))
            if flow in twin:
                twin.move_to_end(flow)
            elif is_kept:
                twin[flow] = server
                if len(twin) > 7:
                    twin.popitem(last=False)

        assert memories.touch(balancers, flows, choice, track).tolist() == wanted

    memories.clear(1)
    assert memories.sizes.tolist() == [len(twins[0]), 0]
    assert memories.held[50:].any() == 0


def test_the_maglev_ring_is_that_of_the_paper() -> None:
    servers = [1, 2, 4, 7, 10]
    preferred = {}
    for server in servers:
        preferred[server] = (at % MAGLEV_SLOTS for at in count(*walk(server)))
    ring: dict[int, int] = {}
    for server in cycle(sorted(servers, key=str)):
        ring[next(slot for slot in preferred[server] if slot not in ring)] = server
        if len(ring) == MAGLEV_SLOTS:
            break

    assert maglev_ring(servers).tolist() == [ring[slot] for slot in range(MAGLEV_SLOTS)]


def test_modulo_breaks_nearly_all(stand: Stand) -> None:
    system = stand.add(ModN(stand.servers, stand.flows))

    stand.change(Kind.DRAIN, 3)
    stand.speak()

    assert system.tally.broken > FLOWS * 0.8


def test_a_ring_alone_breaks_the_flows_of_moved_slots(stand: Stand) -> None:
    system = stand.add(Maglev(stand.servers, stand.flows))
    before = system.place(stand.flows.live)

    stand.change(Kind.DRAIN, 3)
    stand.speak()

    assert system.tally.broken == (system.place(stand.flows.live) != before).sum()
    assert system.tally.broken >= (before == 3).sum() > 0


def test_a_crash_is_counted_apart(stand: Stand) -> None:
    system = stand.add(OwnerChains(stand.servers, stand.flows, 3))
    held = int((system.home[stand.flows.live] == 3).sum())

    stand.change(Kind.CRASH, 3)
    stand.speak()

    assert (system.tally.crashed, system.tally.broken) == (held, 0)


def test_a_memory_keeps_flows_until_they_come_to_another_balancer(stand: Stand) -> None:
    system = stand.add(Remembering("memory", stand.servers, stand.flows, "mod-N", 2, 2 * FLOWS))

    stand.change(Kind.DRAIN, 3)
    stand.speak()
    assert system.tally.broken == 0

    stand.balancer = 1
    stand.speak()
    assert system.tally.broken > 0


def test_a_small_memory_forgets(stand: Stand) -> None:
    system = stand.add(Remembering("memory", stand.servers, stand.flows, "mod-N", 1, FLOWS // 10))

    stand.change(Kind.DRAIN, 3)
    stand.speak()

    assert system.tally.broken > 0


def test_glb_survives_a_drain_and_its_return_and_one_that_joins_but_not_two(stand: Stand) -> None:
    system = stand.add(Glb(stand.servers, stand.flows, stand.rows))

    stand.change(Kind.DRAIN, 3)
    stand.speak()
    assert system.tally.detours > 0
    stand.change(Kind.RETURN, 3)
    stand.speak()
    stand.change(Kind.JOIN, 9)
    stand.speak()
    assert system.tally.broken == 0

    stand.change(Kind.JOIN, 10)
    stand.speak()
    assert system.tally.broken > 0


def test_glb_refuses_where_both_of_a_row_are_down(stand: Stand) -> None:
    system = stand.add(Glb(stand.servers, stand.flows, stand.rows))
    born = stand.flows._begin(np.full(200, 10.0))
    tick = Tick(born=born, packets=born, spoke=born[:0], counts=np.zeros(0, np.int64))

    for server in range(1, SERVERS):
        stand.change(Kind.CRASH, server)
    system.tick(tick, {})

    assert system.tally.refused > 0
    assert system.tally.broken == 0


def test_jet_survives_what_is_announced_and_breaks_where_one_joins_unheard_of(stand: Stand) -> None:
    table = JetTable(stand.servers, stand.rows)
    system = stand.add(Jet("JET", stand.servers, stand.flows, table, "mod-N", 1, FLOWS))
    table._horizon_max = 2
    assert system.memories.sizes.sum() == 0

    stand.change(Kind.NOTICE, 3)
    stand.speak()
    assert 0 < system.memories.sizes.sum() < FLOWS / 2
    stand.change(Kind.DRAIN, 3)
    stand.speak()
    stand.change(Kind.RETURN, 3)
    stand.speak()
    assert system.tally.broken == 0

    stand.change(Kind.JOIN, 9)
    stand.speak()
    assert system.tally.broken > 0


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_chain_survives_as_many_changes_as_it_is_deep(stand: Stand, depth: int) -> None:
    system = stand.add(OwnerChains(stand.servers, stand.flows, depth))
    number = int(stand.flows.live[0])
    begun_at = stand.owner(number)

    for turn in range(depth):
        stand.change(Kind.DRAIN, stand.owner(number), turn)
        stand.speak()
        assert system.home[number] == begun_at

    stand.change(Kind.DRAIN, stand.owner(number), depth)
    stand.speak()
    assert system.home[number] == 0
    assert system.tally.broken > 0


def test_reports_make_room_in_chains(stand: Stand) -> None:
    system = stand.add(OwnerChains(stand.servers, stand.flows, 2))
    number = int(stand.flows.live[0])
    begun_at = stand.owner(number)

    for turn in range(5):
        stand.change(Kind.DRAIN, stand.owner(number), 100.0 * turn)
        stand.speak()
        system.learn(100.0 * turn + 50)

    assert system.home[number] == begun_at
    assert system.chains()[stand.flows.slot[number], 1] == begun_at


def test_an_owner_leaves_the_chain_by_its_age(stand: Stand) -> None:
    stand.servers.age_s = 60.0
    system = stand.add(OwnerChains(stand.servers, stand.flows, 3))

    stand.change(Kind.DRAIN, 3, 0.0)
    system.learn(59.0)
    assert system.chains()[:, 1].any()
    system.learn(60.0)

    assert not system.chains()[:, 1].any()


def test_a_history_of_bounded_length_forgets_its_oldest_turns(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_lb.history.TURNS_MAX", 8)
    system = stand.add(OwnerChains(stand.servers, stand.flows, 3))
    fewer = stand.add(FewerTurns(stand.servers, stand.flows, 3, "4 turns", 4))
    stand.change(Kind.DRAIN, 3, 0.0)
    assert 3 in system.chains()[:, 1:]

    for turn in range(4):
        stand.change(Kind.RETURN if turn % 2 else Kind.DRAIN, 5, 1.0 + turn)

    assert 3 in system.chains()[:, 1:]
    assert 3 not in fewer.chains()[:, 1:]

    for turn in range(4, 8):
        stand.change(Kind.RETURN if turn % 2 else Kind.DRAIN, 5, 1.0 + turn)

    assert 3 not in system.chains()[:, 1:]
    system.learn(9.0)
    assert wrong_chains(system, 9.0) == 0


def test_moved_flows_are_remembered_beyond_the_chain(stand: Stand) -> None:
    args = (stand.servers, stand.flows, 1)
    deaf = stand.add(OwnerChains(*args))
    system = stand.add(RememberingChains("chains + memory", *args, "mod-N", 1, FLOWS))
    system._earlier[:, 0] = 1  # every slot has moved before
    stand.speak()

    for turn, server in enumerate((2, 3, 4)):
        stand.change(Kind.DRAIN, server, float(turn))
        stand.speak()

    assert deaf.tally.broken > 0
    assert system.tally.broken == 0


def test_chains_over_maglevs_ring_have_its_owners(stand: Stand) -> None:
    system = stand.add(MaglevChains(stand.servers, stand.flows, 3, "Maglev's"))
    before = stand.servers.maglev

    stand.change(Kind.DRAIN, 3)
    stand.speak()

    is_moved = stand.servers.maglev != before
    assert (system.chains()[:, 0] == stand.servers.maglev).all()
    assert (system.chains()[:, 1] == np.where(is_moved, before, 0)).all()
    assert (is_moved & (before != 3)).any()
    assert system.tally.broken == 0


def small_world() -> World:
    load = Load(concurrent=2_000, durations=HadoopDurations(), gap_s=(0.5, 5.0))
    churn = Churn(servers=60, balancers=3, per_minute=40.0, balancer_every_s=10.0)
    return World(name="small", load=load, churn=churn, length_s=76.0, tick_s=2.0)


def test_a_run_is_the_same_for_the_same_seed() -> None:
    world = replace(small_world(), length_s=20.0)

    first, again, other = (simulate(world, seed, line_up) for seed in (5, 5, 6))

    assert first == again
    assert first != other


def test_choices_and_chains_of_a_run_are_those_of_edges() -> None:
    systems: list[System] = []

    def build(*world: object) -> list[System]:
        systems.extend(line_up(*world))
        return systems

    simulate(small_world(), 5, build)
    chains = [system for system in systems if type(system) in (OwnerChains, RememberingChains)]
    for system in chains:
        system.learn(76.0)

    assert len(chains) == len(chosen.DEPTHS) + 1
    assert {system.name: wrong_chains(system, 76.0) for system in chains} == {
        system.name: 0 for system in chains
    }
    assert all(system.chains()[:, 1].any() for system in chains)
    assert wrong_choices(chains[0], chains[0].flows.live[:300]) == 0


def test_what_leaves_comes_back_and_the_script_is_in_order() -> None:
    churn = Churn(servers=200, balancers=4, per_minute=20.0, balancer_every_s=100.0)
    script = write_script(churn, 1200.0, np.random.default_rng(9))
    times = [change.at_s for change in script.changes]
    of_kind = {kind: [c for c in script.changes if c.kind is kind] for kind in Kind}
    away = {c.number for kind in (Kind.DRAIN, Kind.CRASH) for c in of_kind[kind]}

    assert times == sorted(times)
    assert all(of_kind.values())
    assert {change.number for change in of_kind[Kind.RETURN]} <= away
    assert script.universe == 200 + len(of_kind[Kind.JOIN])
    for retired in of_kind[Kind.RETIRE]:
        later = [c for c in script.changes if c.at_s > retired.at_s and c.number == retired.number]
        assert {c.kind for c in later} <= {Kind.EDGE_LEAVES, Kind.EDGE_JOINS}


def test_jets_published_run_in_small_breaks_none_by_jet_and_some_by_a_small_memory() -> None:
    small = {"servers": 100, "horizon": 15, "capacity": 200, "concurrent": 2_000, "memory": 500}
    setting = Published(**small, length_s=200.0)
    lost = Run(setting, 1).run()

    assert lost["full tracking"] > 0
    assert lost["JET"] == 0
