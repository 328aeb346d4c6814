"""What an edge's source filter is now: the fleet's rules, and those by an operator's hand.

Owns the rules by hand and their ends, and that the maps follow. Used by `edge_lb.agent`, which
keeps the rules by hand over a restart; told by `edge_lb.filter_admin`. The maps are pinned: while
the agent is down every rule stays in force, and one that ended meanwhile goes at the next start.
"""

from __future__ import annotations

from collections.abc import Iterable

from bpf.errors import BpfError
from edge_lb.datapath import Datapath
from edge_lb.filter import FilterPlan, HandRule, deciding, plan_filter, too_many
from edge_lb.filter_maps import FilterMaps
from edge_lb.seats import Seats
from gslb.fleet.model import Address, FilterRule, Fleet, Network, SiteName


class FilterKeeper:
    """The filter of one edge. `trouble` says in words why the last write failed."""

    def __init__(self, datapath: Datapath, site: SiteName, by_hand: Iterable[HandRule]) -> None:
        self._datapath = datapath
        self._site = site
        self._by_hand = {rule.prefix: rule for rule in by_hand}
        self._plan: FilterPlan | None = None
        self._planned_from: tuple[object, ...] = ()
        self.trouble = ""

    @property
    def by_hand(self) -> tuple[HandRule, ...]:
        """The rules by hand, oldest first."""
        return tuple(self._by_hand.values())

    @property
    def maps(self) -> FilterMaps:
        """The filter's maps; only while the data plane is open."""
        return FilterMaps(self._datapath.program)

    def number(self, rule: FilterRule) -> int | None:
        """The number of a rule's counters; None while another rule is in force for its prefix."""
        return self._plan.indexes.get(rule) if self._plan is not None else None

    def deciding(self, client: Address, vip_index: int | None) -> tuple[FilterRule, ...]:
        """The rules that judge a client's packets, in their order."""
        return deciding(self._plan, client, vip_index) if self._plan is not None else ()

    def add(self, rule: HandRule) -> None:
        """Take a rule by hand in; it replaces the one of the same prefix. `apply` makes it so."""
        self._by_hand.pop(rule.prefix, None)
        self._by_hand[rule.prefix] = rule

    def remove(self, prefix: Network) -> bool:
        """Take the rule by hand of this prefix out; tells whether there was one."""
        return self._by_hand.pop(str(prefix), None) is not None

    def room_for(self, fleet: Fleet, rule: HandRule) -> bool:
        """Whether the maps can hold this rule besides all others."""
        return not too_many(
            [*fleet.filters.values(), *(kept.rule() for kept in self.by_hand), rule.rule()]
        )

    def expire(self, now_s: float) -> tuple[HandRule, ...]:
        """Take out, and return, the rules by hand that have ended."""
        ended = tuple(rule for rule in self.by_hand if rule.until_s <= now_s)
        for rule in ended:
            del self._by_hand[rule.prefix]
        return ended

    def unsettled(self, now_s: float) -> bool:
        """Whether a write failed, or a rule has ended."""
        return bool(self.trouble) or any(rule.until_s <= now_s for rule in self.by_hand)

    def apply(self, fleet: Fleet, seats: Seats) -> None:
        """Make the maps say the rules, unless they do. Blocks; BpfError when the kernel refuses."""
        by_hand = self.by_hand
        source = (fleet.config_hash, seats.vips, by_hand)
        if source == self._planned_from and not self.trouble:
            return
        maps = self.maps
        try:
            plan = plan_filter(
                fleet,
                self._site,
                seats.vips,
                by_hand,
                maps.read_back(),
                ticks_per_s=maps.ticks_per_s,
            )
            maps.apply(plan)
        except BpfError as error:
            self.trouble = f"the source filter is not written: {error}"
            raise
        self._plan, self._planned_from, self.trouble = plan, source, ""
