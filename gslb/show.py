"""From a snapshot and a decision to what operators see.

Owns the filling of `gslb.fleet.views` for the DNS daemon's admin routes. Called by `gslb.seat`.
Pure: `explain` asks the same decision and the same answerer as the wire does.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from gslb.client import Client
from gslb.decide import Candidate, Decision, decide
from gslb.fleet.model import RealName
from gslb.fleet.snapshot import Snapshot
from gslb.fleet.views import (
    CandidateRow,
    CounterRow,
    Explanation,
    RealList,
    RealRow,
    SiteRow,
    VipList,
    VipRow,
)
from gslb.geo import network_of
from gslb.render import Rendered
from gslb.subset import Chance
from gslb.zone import Found, Kind
from gslb.zonefile import name_text, rdata_text, type_number, wire_name

_WORDS = {
    Kind.DATA: "the zone file has this set",
    Kind.CNAME: "an alias, answered as such",
    Kind.DYNAMIC: "a pool answers",
    Kind.NODATA: "the name exists, without this type",
    Kind.NXDOMAIN: "neither the name nor a wildcard above it exists",
    Kind.REFERRAL: "the name is delegated",
}


def vip_rows(snapshot: Snapshot) -> tuple[VipRow, ...]:
    """Every VIP as answers see it."""
    return tuple(
        VipRow(
            name=name,
            site=view.vip.site,
            address=str(view.vip.address),
            port=view.vip.port,
            protocol=view.vip.protocol,
            state=view.state,
            eligible=view.eligible,
            reals_up=view.reals_up,
            reals_total=view.reals_total,
            packets_per_s=view.packets_per_s,
            reason=view.reason,
        )
        for name, view in snapshot.vips.items()
    )


def vip_list(snapshot: Snapshot) -> VipList:
    """GET /vips"""
    return VipList(vips=vip_rows(snapshot), generation=snapshot.generation)


def real_list(snapshot: Snapshot) -> RealList:
    """GET /reals: each real for each VIP, as each edge last reported it."""
    fleet = snapshot.fleet
    rows: list[RealRow] = []
    for edge, held in snapshot.holdings.reports.items():
        for vip in held.report.vips:
            for health in vip.reals:
                real = fleet.reals.get(RealName(health.name))
                if real is None:
                    continue
                rows.append(
                    RealRow(
                        name=health.name,
                        vip=vip.name,
                        site=real.site,
                        address=str(real.address),
                        weight=real.weight,
                        encap=", ".join(fleet.encaps_of(real.name)),
                        state=health.state,
                        since_s=health.since_s,
                        slots=-1,
                        packets=-1,
                        reason=health.reason,
                        edge=edge,
                    )
                )
    return RealList(reals=tuple(rows), generation=snapshot.generation)


def site_rows(snapshot: Snapshot, now_s: float) -> tuple[SiteRow, ...]:
    """Every site; `now_s` is monotonic, to tell fresh reports from those past their lease."""
    fresh = {edge for edge, held in snapshot.holdings.reports.items() if not held.expired(now_s)}
    rows = []
    for site in snapshot.fleet.sites.values():
        views = [view for view in snapshot.vips.values() if view.vip.site == site.name]
        rows.append(
            SiteRow(
                name=site.name,
                vips_eligible=sum(view.eligible for view in views),
                vips_total=len(views),
                edges_fresh=sum(edge in fresh for edge in site.edges),
                edges_total=len(site.edges),
            )
        )
    return tuple(rows)


def trouble(snapshot: Snapshot, store_trouble: str, malformed: int) -> tuple[str, ...]:
    """Everything that is not well, a line each."""
    lines = [f"store: {store_trouble}"] if store_trouble else []
    if malformed:
        lines.append(f"store: {malformed} records did not decode and are left out")
    lines += [
        f"vip {name}: {view.state}: {view.reason}"
        for name, view in snapshot.vips.items()
        if not view.eligible
    ]
    lines += [
        f"edge {edge}: its fleet.toml ({held.report.config_hash}) is not ours"
        for edge, held in snapshot.holdings.reports.items()
        if held.report.config_hash != snapshot.fleet.config_hash
    ]
    return tuple(lines)


def counter_rows(totals: dict[str, int]) -> tuple[CounterRow, ...]:
    """Counters of queries by outcome; bytes are not counted."""
    return tuple(CounterRow(name=name, packets=n, bytes=0) for name, n in totals.items())


def explain(
    name: str, qtype: str, client: Client, table: Rendered, snapshot: Snapshot, rng: Chance
) -> Explanation:
    """One answer with its reasons.

    Raises ValueError in words for a name or a type that is none.
    """
    kind = qtype.upper()
    wire, rtype = wire_name(name), type_number(kind)
    asked = _Asked(name=name_text(wire), kind=kind, client=client, generation=snapshot.generation)
    zone = table.zone_of(wire, rtype)
    if zone is None:
        return _plain(asked, "REFUSED", (), ("no zone of this fleet holds the name",))
    path: list[str] = []
    seen: set[bytes] = set()
    while True:
        seen.add(wire)
        found = zone.find(wire, rtype)
        if found.kind is Kind.DYNAMIC:
            decision = decide(name_text(wire), kind, client, snapshot, table.locator, rng)
            assert decision is not None, "the tree holds exactly the fleet's dynamic names"
            return _dynamic(asked, decision, tuple(path))
        if found.kind is not Kind.CNAME or found.rrset is None:
            return _plain(asked, *_authored(found), tuple(path))
        target = found.rrset.rdatas[0]
        path.append(f"`{name_text(wire)}` is an alias of `{name_text(target)}`")
        wire = target.lower()
        if wire in seen or table.zone_of(wire, rtype) is not zone:
            why = (
                "the alias leads round in a circle" if wire in seen else "it leads out of the zone"
            )
            return _plain(asked, "NOERROR", (), (*path, why))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    name: str
    kind: str
    client: Client
    generation: int


def _authored(found: Found) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The rcode, the answers and the reasons of what the zone file says."""
    rcode = "NXDOMAIN" if found.kind is Kind.NXDOMAIN else "NOERROR"
    answers: tuple[str, ...] = ()
    if found.kind is Kind.DATA and found.rrset is not None:
        answers = tuple(rdata_text(found.rrset.rtype, rdata) for rdata in found.rrset.rdatas)
    return rcode, answers, (_WORDS[found.kind],)


def _plain(
    asked: _Asked,
    rcode: str,
    answers: tuple[str, ...],
    reasons: tuple[str, ...],
    path: tuple[str, ...] = (),
) -> Explanation:
    return Explanation(
        name=asked.name,
        type=asked.kind,
        client=str(asked.client.subnet or asked.client.address),
        pool="",
        policy="",
        ttl_s=0,
        scope="",
        rcode=rcode,
        generation=asked.generation,
        candidates=(),
        answers=answers,
        reasons=(*path, *reasons),
    )


def _dynamic(asked: _Asked, decision: Decision, path: tuple[str, ...]) -> Explanation:
    client = asked.client
    scope = ""
    if client.told:
        scope = str(network_of(client.point[0], decision.scope_bits))
    return Explanation(
        name=asked.name,
        type=asked.kind,
        client=str(client.subnet or client.address),
        pool=decision.pool.name,
        policy=decision.policy,
        ttl_s=decision.ttl_s,
        scope=scope,
        rcode="NOERROR",
        generation=asked.generation,
        candidates=tuple(_candidate_row(candidate) for candidate in decision.candidates),
        answers=tuple(str(view.vip.address) for view in decision.chosen),
        reasons=(*path, *decision.reasons),
    )


def _candidate_row(candidate: Candidate) -> CandidateRow:
    vip = candidate.view.vip
    return CandidateRow(
        vip=vip.name,
        site=vip.site,
        address=str(vip.address),
        state=candidate.view.state,
        distance_km=-1.0 if candidate.distance_km is None else round(candidate.distance_km, 1),
        chosen=candidate.chosen,
        reason=candidate.reason,
    )


def asker(text: str) -> Client:
    """The client that an operator means by an address or a subnet, as ECS would tell it.

    Raises ValueError for neither.
    """
    subnet = ip_network(text, strict=False)
    return Client(address=subnet.network_address, subnet=subnet)
