"""What daemons show to operators: the typed values behind every admin route, table and --json.

Owns the shapes only. Daemons fill them, `ops.cli` and the status page draw them; both sides share
these types, so wire and screen cannot drift apart. Times are Unix seconds, rates per second.
"""

from __future__ import annotations

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One object as JSON: units in names, stable key order."""


class VipRow(View, frozen=True):
    """One VIP; `eligible` says whether answers may carry it. Counters are this edge's own."""

    name: str
    site: str
    address: str
    port: int
    protocol: str
    state: str
    eligible: bool
    reals_up: int
    reals_total: int
    packets_per_s: float
    reason: str
    packets: int = -1  # where not known, as all below
    bytes: int = -1
    dropped: int = -1
    flows_new: int = -1
    flow_hits: int = -1
    received_packets: int = -1  # at a real, as all below: of the VIP's address, whatever the port
    received_bytes: int = -1
    sent_packets: int = -1
    sent_bytes: int = -1
    flows: int = -1  # that the real holds
    oldest_s: float = 0.0  # since when the oldest of them is known


class RealRow(View, frozen=True):
    """One real for one VIP, as one edge sees it. `slots` of 65,536, -1 where not known."""

    name: str
    vip: str
    site: str
    address: str
    weight: int
    encap: str
    state: str
    since_s: float
    slots: int
    packets: int
    reason: str
    edge: str
    bytes: int = -1  # where not known
    flows: int = -1  # of this VIP, as the real counts them while somebody asks; -1: not counted
    oldest_s: float = 0.0  # since when the oldest of them is known; 0: none


class DrainRow(View, frozen=True):
    """A drained real, and the flows that are left on it over all VIPs, as it counts them."""

    name: str
    by: str
    reason: str
    at_s: float
    flows: int  # -1: not counted since the drain
    oldest_s: float  # since when the oldest of them is known; 0: none
    quiet_since_s: float  # 0: not quiet
    words: str

    @property
    def is_quiet(self) -> bool:
        """Whether no flow is left."""
        return self.flows == 0


class Drains(View, frozen=True):
    """GET /drains: every drained real of the site."""

    drains: tuple[DrainRow, ...]
    schema: str = "waypost/drains/1"


class VipList(View, frozen=True):
    """GET /vips"""

    vips: tuple[VipRow, ...]
    generation: int
    schema: str = "waypost/vips/1"


class RealList(View, frozen=True):
    """GET /reals"""

    reals: tuple[RealRow, ...]
    generation: int
    schema: str = "waypost/reals/1"


class CounterRow(View, frozen=True):
    """One named counter."""

    name: str
    packets: int
    bytes: int


class Drops(View, frozen=True):
    """GET /drops: every verdict of the data plane, or every outcome of a query, by name."""

    counters: tuple[CounterRow, ...]
    unit: str  # "packets" or "queries"
    schema: str = "waypost/drops/1"


class EventRecord(View, frozen=True):
    """Something that changed. `number` grows by one within a daemon's life."""

    number: int
    at_s: float
    name: str  # like `health.changed`
    detail: dict[str, str]
    schema: str = "waypost/event/1"


class SiteRow(View, frozen=True):
    """A site in the world's view."""

    name: str
    vips_eligible: int
    vips_total: int
    edges_fresh: int
    edges_total: int


class EdgeHeard(View, frozen=True):
    """An edge as a real hears it: the generation of the site's history in its last owner chain."""

    address: str  # its tunnel source
    generation: int  # 32 bits of it
    packets: int  # with a chain
    age_s: float  # of the last of them


class PeerRow(View, frozen=True):
    """Another real, to which packets may be handed on; `way` is empty where it is not known."""

    name: str
    address: str
    way: str


class Chains(View, frozen=True):
    """Owner chains at a real. `found[n]`: packets whose flow was here, after n other reals."""

    found: tuple[int, ...]
    edges: tuple[EdgeHeard, ...]
    edges_agree: bool  # those heard within the last minute tell one generation
    peers: tuple[PeerRow, ...]


class Status(View, frozen=True):
    """GET /status of any daemon. `well` in one word, `trouble` in as many lines as there are."""

    role: str  # dns, https, edge, real
    host: str
    site: str
    version: str
    generation: int
    config_hash: str
    config_at_s: float
    store: str  # "ok", or what is wrong in words
    uptime_s: float
    well: bool
    trouble: tuple[str, ...]
    vips: tuple[VipRow, ...]
    sites: tuple[SiteRow, ...] = ()
    counters: tuple[CounterRow, ...] = ()
    datapath: str = ""  # like "xdp native on eth0"
    announcing: str = ""  # like "ANNOUNCED, 3 addresses, 2 of 2 sessions up: the data path works"
    drains: tuple[DrainRow, ...] = ()
    waiting: tuple[str, ...] = ()  # like "www: waits for edge2 to hear of it, 28 s at most"
    chains: Chains | None = None  # at a real by GUE
    namespaces: tuple[str, ...] = ()  # of a real's containers, whose sockets are asked too
    schema: str = "waypost/status/1"


class CandidateRow(View, frozen=True):
    """One candidate of a decision and what became of it."""

    vip: str
    site: str
    address: str
    state: str
    distance_km: float  # -1 where the client's place is not known
    chosen: bool
    reason: str


class Explanation(View, frozen=True):
    """GET /explain: one decision with its reasons."""

    name: str
    type: str
    client: str
    pool: str
    policy: str
    ttl_s: int
    scope: str  # the ECS scope, like 203.0.113.0/24, or empty
    rcode: str
    generation: int
    candidates: tuple[CandidateRow, ...]
    answers: tuple[str, ...]
    reasons: tuple[str, ...]
    schema: str = "waypost/explain/1"


class FlowWhere(View, frozen=True):
    """GET /flow: where the data plane would send a flow, and why."""

    client: str
    vip: str
    slot: int
    ring_real: str
    remembered_real: str  # empty: not remembered
    earlier: tuple[str, ...]  # who had the slot before and may hold its flows, latest first
    real: str
    reason: str
    schema: str = "waypost/flow/1"


class FilterRow(View, frozen=True):
    """One rule of the source filter. `until_s` is 0 for a rule of fleet.toml."""

    name: str
    prefix: str
    action: str  # allow, deny, limit
    packets_per_s: int
    burst: int
    vips: tuple[str, ...]  # empty: all
    in_force: bool  # false while a rule by hand has its prefix
    passed_packets: int
    dropped_packets: int
    dropped_bytes: int
    until_s: float
    reason: str


class VipLimitRow(View, frozen=True):
    """The limit of one VIP over all of its clients."""

    vip: str
    packets_per_s: int
    burst: int
    dropped_packets: int
    dropped_bytes: int


class FilterList(View, frozen=True):
    """GET /filter"""

    rules: tuple[FilterRow, ...]
    limits: tuple[VipLimitRow, ...]
    schema: str = "waypost/filter/1"


class LayerRow(View, frozen=True):
    """One header of a packet, its fields in words."""

    name: str
    fields: dict[str, str]


class Trace(View, frozen=True):
    """GET /trace: what the loaded program does with one described packet. Empty: none."""

    client: str
    destination: str
    protocol: str
    interface: str  # that it came in by
    verdict: str
    action: str  # what the kernel does with it, in words
    filter: tuple[str, ...]  # the rules that judge the client
    vip: str
    remembered_real: str
    slot: int  # -1: the ring was not asked
    ring_real: str
    earlier: tuple[str, ...]  # who had the slot before and may hold its flows, latest first
    real: str
    candidates: tuple[str, ...]  # reals that the packet's owner chain names, in order
    real_address: str
    real_state: str
    encap: str
    next_hop: str  # the MAC address it is sent to
    out_interface: str
    bytes: int
    layers: tuple[LayerRow, ...]  # as it leaves
    program_tag: str
    schema: str = "waypost/trace/1"


class DatapathMap(View, frozen=True):
    """One map of the data plane."""

    name: str
    kind: str
    entries_max: int
    bytes: int


class DatapathView(View, frozen=True):
    """GET /datapath"""

    interface: str
    mode: str  # native or generic
    program_tag: str
    loaded_at_s: float
    pin_dir: str
    maps: tuple[DatapathMap, ...]
    schema: str = "waypost/datapath/1"


class ChainEnd(View, frozen=True):
    """So many entries leave the owner chains at that moment, of old age."""

    at_s: float
    entries: int


class PlanRow(View, frozen=True):
    """One VIP that would change. `share` of its new flows, 0 to 1, would get another real.

    `flows` are live ones on slots that move, -1 where not all reals say what they hold. The chains
    of `chains_grow` slots get longer; `chains_full` slots lose a candidate for want of room.
    """

    vip: str
    slots: int
    share: float
    flows: int
    chains_grow: int
    chains_full: int
    chain_ends: tuple[ChainEnd, ...]
    emptied: bool  # it would lose its last serving real
    change: str


class PlanView(View, frozen=True):
    """GET /plan: what a change would do, before it is made. Sums are over all VIPs of the site."""

    subject: str  # like "fleet.toml 9f3c1a00beef -> 51d0aa00c0de" or "drain fra-web1"
    slots: int
    slots_total: int
    share: float
    flows: int  # -1 where not known
    vips: tuple[PlanRow, ...]
    schema: str = "waypost/plan/1"


class Done(View, frozen=True):
    """The answer to a verb that changed something, in words."""

    message: str
    schema: str = "waypost/done/1"


class Refusal(View, frozen=True):
    """Why a verb was refused; `code` is the exit code that the CLI ends with."""

    code: int
    message: str
    schema: str = "waypost/refusal/1"
