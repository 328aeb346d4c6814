"""What an edge keeps over a restart: its numbers, beliefs and history, unread wills, hand rules.

Owns the one JSON file in the state directory. Written whole beside itself and moved into place; a
full disk is logged once and survived, for the maps and the store hold most of it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_lb.filter import HandRule
from edge_lb.seats import Seats, seat_name
from gslb.fleet.health import Override, RealState, Standing
from gslb.fleet.history import EdgeHistory
from gslb.fleet.model import Fleet, RealName, SiteName, VipName
from gslb.service import log

FILE = "edge.json"


class KeptStanding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A believed standing. `since_s` is Unix time."""

    state: RealState
    streak: int
    since_s: float
    reason: str


class EdgeMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything kept. `wills` were told here, and have not been read from the store yet.

    `standings` and `serving_since` (Unix time, of VIPs with a slow start) are by `seat_name`.
    """

    generation: int = 0
    seats: Seats = Seats()
    standings: dict[str, KeptStanding] = {}
    wills: tuple[Override, ...] = ()
    filter_by_hand: tuple[HandRule, ...] = ()
    history: EdgeHistory | None = None
    serving_since: dict[str, float] = {}

    def standings_of(
        self, fleet: Fleet, site: SiteName
    ) -> dict[tuple[VipName, RealName], Standing]:
        """The kept beliefs of the pairs that the configuration still names."""
        return {
            (vip.name, real): Standing(
                state=kept.state, streak=kept.streak, since_s=kept.since_s, reason=kept.reason
            )
            for vip in fleet.vips_of_site(site)
            for real in vip.reals
            if (kept := self.standings.get(seat_name(vip.name, real))) is not None
        }


def keep_standings(
    believed: Mapping[tuple[VipName, RealName], Standing],
) -> dict[str, KeptStanding]:
    """Beliefs in the form of the file."""
    return {
        seat_name(*pair): KeptStanding(
            state=standing.state,
            streak=standing.streak,
            since_s=standing.since_s,
            reason=standing.reason,
        )
        for pair, standing in believed.items()
    }


class MemoryFile:
    """The file. `trouble` says in words why the last write failed, empty when it did not."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self.trouble = ""

    def load(self) -> EdgeMemory:
        """What was kept; an unreadable or damaged file is logged and counts as nothing."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=EdgeMemory)
        except FileNotFoundError:
            return EdgeMemory()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.get().warning("state.unreadable", path=str(self._path), reason=str(error))
            return EdgeMemory()

    def save(self, memory: EdgeMemory) -> None:
        """Keep this; never raises for a disk that is full or read-only."""
        draft = self._path.with_suffix(".draft")
        try:
            draft.write_bytes(msgspec.json.encode(memory))
            draft.replace(self._path)
        except OSError as error:
            if not self.trouble:
                log.get().warning("state.not_saved", path=str(self._path), reason=str(error))
            self.trouble = f"state not saved in {self._path}: {error.strerror or error}"
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        else:
            self.trouble = ""
