"""Which broken connection had a right to break, and what happened just before those without. Pure.

A connection may break if the server that held it ended while it was open: nothing can save what is
gone. Nothing else is a right: not the loss of an edge, nor a drain, nor a removal after the real
had grown quiet, nor any of them together. All times are seconds of one clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

TOLD_S = 0.5  # the end of a server is noted by us up to so much later or earlier than it is felt
CAUSES_S = 4.0  # what happened so shortly before may be why
UNKNOWN = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One broken connection; `real` is UNKNOWN if it had no echo yet."""

    real: str
    opened_s: float
    ended_s: float
    how: str
    port: int = 0  # the client's


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something that was done."""

    at_s: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A broken connection, whether it had a right to, and why it is thought to have broken."""

    broken: Broken
    had_right: bool
    why: str


def judge(
    broken: Iterable[Broken],
    ends: Mapping[str, Sequence[float]],
    happened: Sequence[Happened],
) -> tuple[Judged, ...]:
    """Each broken connection in its turn. `ends` holds when each real's server ended."""
    return tuple(_judge(one, ends, happened) for one in broken)


def _judge(
    one: Broken, ends: Mapping[str, Sequence[float]], happened: Sequence[Happened]
) -> Judged:
    holders = [one.real] if one.real else list(ends)
    for real in holders:
        for end_s in ends.get(real, ()):
            if one.opened_s - TOLD_S <= end_s <= one.ended_s + TOLD_S:
                return Judged(broken=one, had_right=True, why=f"{real}'s server ended")
    before = [event.what for event in happened if 0 <= one.ended_s - event.at_s <= CAUSES_S]
    why = ", ".join(dict.fromkeys(before)) or "nothing shortly before"
    return Judged(broken=one, had_right=False, why=f"{one.how} after {why}")


def causes(judged: Iterable[Judged]) -> Counter[str]:
    """How many broke without a right, by what is thought to be why."""
    return Counter(one.why for one in judged if not one.had_right)
