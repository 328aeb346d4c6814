"""The store's contract: where reports and overrides meet. One contract, two implementations.

Owns the Protocol, the errors and the records' codec. `sqlite_store` is the embedded default of one
host, `redis_store` serves a fleet; both pass `tests/contract/test_store.py`. A store never judges:
what its content means is `gslb.fleet.snapshot`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from gslb.fleet.health import EdgeReport, Override


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
    """All that a store holds, at one moment. `malformed` counts records that did not decode."""

    reports: tuple[EdgeReport, ...] = ()
    overrides: tuple[Override, ...] = ()
    malformed: int = 0


class Store(Protocol):
    """Where reports and overrides meet. Every method may raise StoreUnavailable."""

    async def publish(self, report: EdgeReport) -> None:
        """Replace this edge's report. Raises StaleGeneration for (generation, sequence) below."""

    async def put_override(self, override: Override) -> None:
        """Replace the will for (kind, name). Raises StaleGeneration for an older generation."""

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


def encode(record: EdgeReport | Override) -> bytes:
    """The record as JSON bytes, with stable key order."""
    return _encoder.encode(record)


def decode_contents(reports: list[bytes], overrides: list[bytes]) -> Contents:
    """Decode what a store returned, counting what is malformed."""
    good_reports: list[EdgeReport] = []
    good_overrides: list[Override] = []
    malformed = 0
    for raw in reports:
        try:
            good_reports.append(_report_decoder.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            malformed += 1
    for raw in overrides:
        try:
            good_overrides.append(_override_decoder.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            malformed += 1
    good_reports.sort(key=lambda report: report.edge)
    good_overrides.sort(key=lambda override: (override.kind, override.name))
    return Contents(
        reports=tuple(good_reports), overrides=tuple(good_overrides), malformed=malformed
    )
