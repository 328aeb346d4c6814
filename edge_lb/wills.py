"""Drains of reals: the operator's will as this edge holds it, before and after the store does.

Pure. Owns one rule: of two wills for a real the newer generation holds. A will is followed here at
once, also while the store is away; it is written as soon as the store can be reached, and the other
edges follow then. Kept over a restart by `edge_lb.memory`, written by `edge_lb.publish`.
"""

from __future__ import annotations

from collections.abc import Iterable

from gslb.fleet.health import Override, OverrideKind, next_generation
from gslb.fleet.model import Generation, RealName
from gslb.fleet.snapshot import Holdings


class Wills:
    """The wills told to this edge, over those that the store holds."""

    def __init__(self, unwritten: Iterable[Override]) -> None:
        self._told = {RealName(will.name): will for will in unwritten}
        self._unwritten = set(self._told)

    @property
    def unwritten(self) -> tuple[Override, ...]:
        """What the store does not hold yet."""
        return tuple(self._told[name] for name in sorted(self._unwritten))

    def tell(
        self,
        name: RealName,
        *,
        drained: bool,
        by: str,
        reason: str,
        now_s: float,
        held: Holdings,
    ) -> Override:
        """Take an operator's word, newer than everything known of this real."""
        known = self._newest(name, held)
        previous = known.generation if known is not None else 0
        will = Override(
            kind=OverrideKind.REAL,
            name=name,
            drained=drained,
            by=by,
            reason=reason,
            at_s=now_s,
            generation=next_generation(Generation(previous), now_s),
        )
        self._told[name] = will
        self._unwritten.add(name)
        return will

    def written(self, will: Override) -> None:
        """The store holds this will, or refused it for a newer one."""
        name = RealName(will.name)
        if self._told.get(name) == will:
            self._unwritten.discard(name)

    def drained(self, held: Holdings) -> dict[RealName, Override]:
        """Every real that is drained now, with the will that says so."""
        names = {RealName(name) for kind, name in held.overrides if kind is OverrideKind.REAL}
        found = {name: self._newest(name, held) for name in names | set(self._told)}
        return {name: will for name, will in found.items() if will is not None and will.drained}

    def settle(self, held: Holdings) -> None:
        """Forget told wills that the store's copy has overtaken."""
        for name in tuple(self._told):
            stored = held.overrides.get((OverrideKind.REAL, name))
            if stored is not None and stored.generation >= self._told[name].generation:
                del self._told[name]
                self._unwritten.discard(name)

    def _newest(self, name: RealName, held: Holdings) -> Override | None:
        stored = held.overrides.get((OverrideKind.REAL, name))
        told = self._told.get(name)
        if stored is None or (told is not None and told.generation > stored.generation):
            return told
        return stored
