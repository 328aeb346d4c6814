"""Drains of reals and edges: the operator's will as this edge holds it, before and after the store.

Pure. Owns one rule: of two wills for the same thing the newer generation holds. A will is followed
here at once, also while the store is away; it is written as soon as the store can be reached, and
the other edges follow then. Kept over a restart by `edge_lb.memory`, written by `edge_lb.publish`.
"""

from __future__ import annotations

from collections.abc import Iterable

from gslb.fleet.health import Override, OverrideKind, next_generation
from gslb.fleet.model import Generation
from gslb.fleet.snapshot import Holdings

_Subject = tuple[OverrideKind, str]


class Wills:
    """The wills told to this edge, over those that the store holds."""

    def __init__(self, told: Iterable[Override]) -> None:
        self._told = {(will.kind, will.name): will for will in told}
        self._unwritten = set(self._told)

    @property
    def unsettled(self) -> tuple[Override, ...]:
        """What the store's copy here does not tell yet, written or not: a crash would lose it."""
        return tuple(self._told[subject] for subject in sorted(self._told))

    @property
    def unwritten(self) -> tuple[Override, ...]:
        """What the store does not hold yet."""
        return tuple(self._told[subject] for subject in sorted(self._unwritten))

    def tell(
        self,
        kind: OverrideKind,
        name: str,
        *,
        drained: bool,
        by: str,
        reason: str,
        now_s: float,
        held: Holdings,
    ) -> Override:
        """Take an operator's word, newer than everything known of this subject."""
        subject = (kind, name)
        known = self._newest(subject, held)
        previous = known.generation if known is not None else 0
        will = Override(
            kind=kind,
            name=name,
            drained=drained,
            by=by,
            reason=reason,
            at_s=now_s,
            generation=next_generation(Generation(previous), now_s),
        )
        self._told[subject] = will
        self._unwritten.add(subject)
        return will

    def written(self, will: Override) -> None:
        """The store holds this will, or refused it for a newer one."""
        subject = (will.kind, will.name)
        if self._told.get(subject) == will:
            self._unwritten.discard(subject)

    def drained(self, kind: OverrideKind, held: Holdings) -> dict[str, Override]:
        """Everything of this kind that is drained now, with the will that says so."""
        subjects = {subject for subject in (*held.overrides, *self._told) if subject[0] is kind}
        found = {subject[1]: self._newest(subject, held) for subject in subjects}
        return {name: will for name, will in found.items() if will is not None and will.drained}

    def settle(self, held: Holdings) -> None:
        """Forget told wills that the store's copy has overtaken."""
        for subject, told in tuple(self._told.items()):
            stored = held.overrides.get(subject)
            if stored is not None and stored.generation >= told.generation:
                del self._told[subject]
                self._unwritten.discard(subject)

    def _newest(self, subject: _Subject, held: Holdings) -> Override | None:
        stored = held.overrides.get(subject)
        told = self._told.get(subject)
        if stored is None or (told is not None and told.generation > stored.generation):
            return told
        return stored
