"""How the command line draws: aligned tables without borders, numbers, ages, states.

Owns every decision of looks. Pure: what to draw and how the terminal is come as arguments. Used by
the commands of `ops.cli` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

UNKNOWN = "-"
GAP = "  "
THIN_SPACE = "\u2009"

_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLORS = {
    "UP": _GREEN,
    "DEGRADED": _YELLOW,
    "SUSPECT": _YELLOW,
    "STALE": _YELLOW,
    "UNKNOWN": _YELLOW,
    "DRAINING": _YELLOW,
    "DOWN": _RED,
    "well": _GREEN,
    "unwell": _RED,
    "ok": _GREEN,
    "failed": _RED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the output can show. `width` is None where lines may be of any length."""

    color: bool = False
    grouped: bool = False  # thousands set apart by a thin space: for eyes, not for awk
    heads: bool = True
    width: int | None = None


class Align(Enum):
    """Where a column's text stands."""

    LEFT = "<"
    RIGHT = ">"


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head and where its text stands."""

    head: str
    align: Align = Align.LEFT


def left(*heads: str) -> tuple[Column, ...]:
    """Columns of words."""
    return tuple(Column(head) for head in heads)


def right(*heads: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(head, Align.RIGHT) for head in heads)


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], style: Style) -> str:
    """The table as lines, each ended; no heads and no lines if there are no rows."""
    if not rows:
        return ""
    filled = [[cell or UNKNOWN for cell in row] for row in rows]
    heads = [column.head for column in columns]
    widths = [max(map(len, texts)) for texts in zip(heads, *filled, strict=True)]
    lines = [heads, *filled] if style.heads else filled
    return "".join(_line(columns, cells, widths, style) for cells in lines)


def _line(
    columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], style: Style
) -> str:
    parts: list[str] = []
    used = 0
    for number, (column, cell, width) in enumerate(zip(columns, cells, widths, strict=True)):
        last = number == len(columns) - 1
        text = cell
        if last and style.width is not None:
            text = _cut(cell, max(style.width - used, 8))
        padded = (
            text if last and column.align is Align.LEFT else f"{text:{column.align.value}{width}}"
        )
        used += width + len(GAP)
        parts.append(padded.replace(text, paint(text, style), 1) if text else padded)
    return GAP.join(parts).rstrip() + "\n"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def paint(word: str, style: Style) -> str:
    """A state's word in its color, where color is wanted."""
    code = _COLORS.get(word)
    return f"\x1b[{code}m{word}\x1b[0m" if code and style.color else word


def count(number: float, style: Style) -> str:
    """A whole number; negative means not known."""
    if number < 0:
        return UNKNOWN
    text = f"{round(number):,}"
    return text.replace(",", THIN_SPACE if style.grouped else "")


def age(seconds: float) -> str:
    """A duration in its largest fitting unit; negative is shown as nothing at all."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"


def instant(unix_s: float) -> str:
    """A moment as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def endpoint(address: str, port: int, protocol: str) -> str:
    """ADDRESS:PORT/PROTOCOL; every port is `*`."""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port or '*'}/{protocol}"
