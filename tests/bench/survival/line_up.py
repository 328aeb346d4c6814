"""The systems that are compared, the worlds they are compared in, and the sizes of their memories.

Owns these choices and their names; `bench_survival` runs them, `pictures` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_lb.plan import CHAIN_OWNERS

from .changes import Churn, Script
from .owner_chains import FewerTurns, MaglevChains, OwnerChains, RememberingChains
from .remembering import Jet, JetTable, Remembering
from .run import World
from .systems import Glb, Maglev, ModN, System
from .tables import Rendezvous, Servers
from .traffic import Connections, HadoopDurations, Load, LongDurations

SERVERS, BALANCERS, CONCURRENT = 468, 8, 100_000
RATES = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)  # changes begun a minute
SIZES = (0.1, 0.25, 0.5, 1.0)  # of all balancers' memories, of the connections at once
SIZES_RATE = 10.0  # at which memories of other sizes than SIZE are compared
SIZE = 1.0
DEPTHS = (1, 2, 3, 4)
SHIPPED_DEPTH = CHAIN_OWNERS - 1
CHANGING, STICKY = "mod-N", "resilient"

MEMORY, MEMORY_STICKY = "Maglev + memory", "Maglev + memory, sticky ECMP"
JET, JET_STICKY = "JET", "JET, sticky ECMP"
SHIPPED = f"chains of {SHIPPED_DEPTH}"
CHAINS_MAGLEV = f"chains of {SHIPPED_DEPTH}, Maglev's ring"
FEWER_TURNS = 256
CHAINS_FEWER_TURNS = f"{SHIPPED}, {FEWER_TURNS} turns"
CHAINS_MEMORY = f"{SHIPPED} + moved flows"

NAMES = (  # in the order of tables
    "mod-N",
    "Maglev",
    MEMORY,
    MEMORY_STICKY,
    JET,
    JET_STICKY,
    "GLB",
    CHAINS_MAGLEV,
    *(f"chains of {depth}" for depth in DEPTHS),
    CHAINS_FEWER_TURNS,
    CHAINS_MEMORY,
)


def short_world(per_minute: float, concurrent: int = CONCURRENT) -> World:
    """Hadoop's connections: half are over at once, the longest last ten minutes."""
    return World(
        name="short",
        load=Load(concurrent=concurrent, durations=HadoopDurations(), gap_s=(0.5, 30.0)),
        churn=_churn(per_minute, balancer_every_s=90.0),
        length_s=240.0,
        tick_s=2.0,
    )


def long_world(per_minute: float, concurrent: int = CONCURRENT) -> World:
    """Half an hour in the mean, hours at most."""
    return World(
        name="long",
        load=Load(concurrent=concurrent, durations=LongDurations(), gap_s=(3.0, 120.0)),
        churn=_churn(per_minute, balancer_every_s=600.0),
        length_s=1200.0,
        tick_s=20.0,
    )


def sized(name: str, size: float) -> str:
    """The name of a system with another size of memory."""
    return name if size == SIZE else f"{name} x {size:g}"


def line_up(world: World, script: Script, servers: Servers, flows: Connections) -> Sequence[System]:
    """Every system; those with a memory by each size where sizes are compared."""
    rows = Rendezvous(script.universe)
    jets = JetTable(servers, rows)
    balancers = world.churn.balancers
    sizes = SIZES if world.churn.per_minute == SIZES_RATE else (SIZE,)
    found: list[System] = [ModN(servers, flows), Maglev(servers, flows)]
    remembering: list[System] = []
    for size in sizes:
        entries = int(size * world.load.concurrent)
        for name, router in ((MEMORY, CHANGING), (MEMORY_STICKY, STICKY)):
            of_size = sized(name, size)
            found.append(Remembering(of_size, servers, flows, router, balancers, entries))
        for name, router in ((JET, CHANGING), (JET_STICKY, STICKY)):
            found.append(Jet(sized(name, size), servers, flows, jets, router, balancers, entries))
        remembering.append(
            RememberingChains(
                sized(CHAINS_MEMORY, size),
                servers,
                flows,
                SHIPPED_DEPTH,
                CHANGING,
                balancers,
                entries,
            )
        )
    return [
        *found,
        Glb(servers, flows, rows),
        MaglevChains(servers, flows, SHIPPED_DEPTH, CHAINS_MAGLEV),
        *(OwnerChains(servers, flows, depth) for depth in DEPTHS),
        FewerTurns(servers, flows, SHIPPED_DEPTH, CHAINS_FEWER_TURNS, FEWER_TURNS),
        *remembering,
    ]


def _churn(per_minute: float, balancer_every_s: float) -> Churn:
    return Churn(
        servers=SERVERS,
        balancers=BALANCERS,
        per_minute=per_minute,
        balancer_every_s=balancer_every_s,
    )
