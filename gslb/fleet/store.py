"""The store's contract: where reports, overrides and histories meet. Two implementations of one.

Owns the Protocol, the errors and the records' codec. `sqlite_store` is the embedded default of one
host, `redis_store` serves a fleet; both pass `tests/contract/test_store.py`. What reals report of
their flows is kept apart: it is large, changes all the time and wakes nobody; who wants it asks for
it, by site. A store never judges: what its content means is `gslb.fleet.snapshot`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import chain
from operator import attrgetter
from typing import Protocol, TypeVar

import msgspec

from gslb.fleet.health import EdgeReport, Override
from gslb.fleet.history import EdgeHistory, RealReport

REAL_REPORT_OCTETS_MAX = 16 << 20
"""A larger report of a real is malformed. One of 200 VIPs with 100,000 flows each is smaller."""

Record = TypeVar("Record")


class StoreError(Exception):
    """Base of everything a store raises."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or read now; the caller keeps what it holds and tries again."""


class StaleGeneration(StoreError):
    """A write was refused, because the store already holds a newer generation of that record."""

    def __init__(self, record: str, offered: int, held: int) -> None:
        super().__init__(f"{record}: generation {offered} refused, the store holds {held}")
        self.record = record
        self.offered = offered
        self.held = held


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """All that a store holds but reports of reals. `malformed` counts what did not decode."""

    reports: tuple[EdgeReport, ...] = ()
    overrides: tuple[Override, ...] = ()
    histories: tuple[EdgeHistory, ...] = ()
    malformed: int = 0


class Store(Protocol):
    """Where the records meet. Every method may raise StoreUnavailable.

    `malformed_reals` counts what the last `real_reports` left out.
    """

    malformed_reals: int

    async def publish(self, report: EdgeReport) -> None:
        """Replace this edge's report. Raises StaleGeneration for (generation, sequence) below."""

    async def put_override(self, override: Override) -> None:
        """Replace the will for (kind, name). Raises StaleGeneration for an older generation."""

    async def publish_history(self, history: EdgeHistory) -> None:
        """Replace this edge's history.

        Raises StaleGeneration for an older generation, and for another content at the held one.
        """

    async def publish_real(self, report: RealReport) -> None:
        """Replace this real's report. Raises StaleGeneration for (generation, sequence) below.

        No watch tells of it.
        """

    async def real_reports(self, site: str) -> tuple[RealReport, ...]:
        """The newest report of each real of a site, by name; malformed ones are left out."""

    async def read(self) -> Contents:
        """All that is held now; malformed records are counted and left out, never raised."""

    def watch(self) -> AsyncIterator[Contents]:
        """The content now, then again soon (under 0.5 s) after each change, for ever.

        Raises StoreUnavailable when the store is lost; the caller starts a new watch.
        """

    async def close(self) -> None:
        """Release connections; the store may not be used afterwards."""


_encoder = msgspec.json.Encoder(order="deterministic")
_report_decoder = msgspec.json.Decoder(EdgeReport)
_override_decoder = msgspec.json.Decoder(Override)
_history_decoder = msgspec.json.Decoder(EdgeHistory)
_real_decoder = msgspec.json.Decoder(RealReport)
_edge_of = attrgetter("edge")


def encode(record: EdgeReport | Override | EdgeHistory | RealReport) -> bytes:
    """The record as JSON bytes, with stable key order."""
    return _encoder.encode(record)


class Reading:
    """Decodes what a store returns. A history that it returned the last time too is the same one.

    Histories are long and change seldom; reports change with every beat.
    """

    def __init__(self) -> None:
        self._histories: dict[bytes, list[EdgeHistory]] = {}  # by body; none of a malformed one

    def contents(
        self, reports: Iterable[bytes], overrides: Iterable[bytes], histories: Iterable[bytes]
    ) -> Contents:
        """All of it, counting what is malformed."""
        good_reports, bad_reports = _decoded(_report_decoder, reports)
        good_overrides, bad_overrides = _decoded(_override_decoder, overrides)
        good_reports.sort(key=lambda report: report.edge)
        good_overrides.sort(key=lambda override: (override.kind, override.name))
        told = [self._history(body) for body in histories]
        good_histories = sorted(chain.from_iterable(found for _, found in told), key=_edge_of)
        self._histories = dict(told)
        return Contents(
            reports=tuple(good_reports),
            overrides=tuple(good_overrides),
            histories=tuple(good_histories),
            malformed=bad_reports + bad_overrides + len(told) - len(good_histories),
        )

    def _history(self, body: bytes) -> tuple[bytes, list[EdgeHistory]]:
        found = self._histories.get(body)
        return body, _decoded(_history_decoder, [body])[0] if found is None else found


def decode_real_reports(site: str, bodies: Iterable[bytes]) -> tuple[tuple[RealReport, ...], int]:
    """The reports of a site's reals, and how many were malformed: too large or of another site."""
    fitting, oversized = [], 0
    for body in bodies:
        if len(body) > REAL_REPORT_OCTETS_MAX:
            oversized += 1
        else:
            fitting.append(body)
    decoded, malformed = _decoded(_real_decoder, fitting)
    good = sorted((one for one in decoded if one.site == site), key=lambda one: one.real)
    return tuple(good), oversized + malformed + len(decoded) - len(good)


def _decoded(
    decoder: msgspec.json.Decoder[Record], bodies: Iterable[bytes]
) -> tuple[list[Record], int]:
    """What decodes, and how many do not."""
    good: list[Record] = []
    malformed = 0
    for body in bodies:
        try:
            good.append(decoder.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            malformed += 1
    return good, malformed
