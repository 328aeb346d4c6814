"""The figures as words: the tables of docs/performance.md, and their place there.

Owns their shape and how a share is written. Called by the bench, which prints them, and with
`--write` puts them between the marks of the text. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .anchor import PUBLISHED
from .line_up import (
    CHAINS_MEMORY,
    JET,
    JET_STICKY,
    MEMORY,
    MEMORY_STICKY,
    NAMES,
    SIZES,
    SIZES_RATE,
    sized,
)

Row = Mapping[str, float]
Table = Mapping[str, Mapping[str, Row]]  # changes a minute -> system -> figures
Runs = Mapping[str, Iterable[Mapping[str, int]]]  # who comes in after a loss -> of each seed

RATE = f"{SIZES_RATE:g}"
MARK = "<!-- survival: {} -->"  # before a table; after it: <!-- end -->
COSTS = {
    "packets that detour": lambda row: percent(row["detour_share"]),
    "hops": lambda row: f"{row['extra_hops']:.3f}",
    "max/mean": lambda row: f"{row['max_over_mean']:.2f}",
    "state, kB": lambda row: f"{row['state_bytes'] / 1000:,.0f}",
}


def tables(worlds: Mapping[str, Table], anchored: Runs, seeds: int) -> dict[str, str]:
    """Markdown, by the name of its place; what a world has no rate for is left out."""
    found = {"anchor": anchor(anchored)}
    found |= {name: broken(name, table, seeds) for name, table in worlds.items()}
    if all(RATE in table for table in worlds.values()):
        at_rate = {name: table[RATE] for name, table in worlds.items()}
        found |= {"costs": costs(at_rate), "memories": memories(at_rate)}
    return found


def placed(text: str, found: Mapping[str, str]) -> str:
    """The text with each table in its place. ValueError: a table without one."""
    for name, table in found.items():
        mark = re.escape(MARK.format(name))
        parts = re.split(f"(?<={mark}\n)[^<]*(?=<!-- end -->)", text)
        if len(parts) != 2:
            raise ValueError(f"the text has {len(parts) - 1} places for the table {name}")
        text = table.join(parts)
    return text


def anchor(anchored: Runs) -> str:
    """JET's published run, and ours."""
    keys = tuple(PUBLISHED)
    head = _head(("run", keys[0], *(f"broken by {key}" for key in keys[1:])))
    rows = [("published", PUBLISHED)]
    rows += [
        (f"{name}, seed {run['seed']}", run) for name, runs in anchored.items() for run in runs
    ]
    return head + "".join(_line((name, *(f"{run[key]:,}" for key in keys))) for name, run in rows)


def broken(world: str, table: Table, seeds: int) -> str:
    """A row for each system, a column for each rate; then what stands behind them."""
    head = _head((f"{world} connections", *(f"{rate} a minute" for rate in table)))
    lines = (
        _line((name, *(_with_spread(rows[name]) for rows in table.values()))) for name in NAMES
    )
    count = min(row["connections"] for rows in table.values() for row in rows.values())
    runs = "one run" if seeds == 1 else f"{seeds} runs"
    return (
        f"{head}{''.join(lines)}\nBehind each figure: {runs} of {count:,.0f} connections or more.\n"
    )


def costs(of_world: Mapping[str, Mapping[str, Row]]) -> str:
    """What each system costs, at one rate."""
    columns = [(what, world) for what in COSTS for world in of_world]
    head = (f"at {RATE} changes a minute", *(f"{what}, {world}" for what, world in columns))
    return _head(head) + "".join(
        _line((name, *(COSTS[what](of_world[world][name]) for what, world in columns)))
        for name in NAMES
    )


def memories(of_world: Mapping[str, Mapping[str, Row]]) -> str:
    """What broke with memories of each size, at the same rate."""
    head = ("flows remembered, of the connections at once", *(f"{size:g}" for size in SIZES))
    return _head(head) + "".join(
        _line((f"{name}, {world}", *(_with_spread(rows[sized(name, size)]) for size in SIZES)))
        for world, rows in of_world.items()
        for name in (MEMORY, MEMORY_STICKY, JET, JET_STICKY, CHAINS_MEMORY)
    )


def percent(share: float, digits: int = 3) -> str:
    """At most so many digits that say something, and never an exponent."""
    if not share:
        return "0"
    text = f"{share * 100:.{digits - 1}e}"
    places = max(0, digits - 1 - int(text.partition("e")[2]))
    return f"{float(text):.{places}f} %"


def _with_spread(row: Row) -> str:
    """A mean, and half of its 95 % interval if there are runs enough to tell."""
    spread = row.get("broken_share_pm", 0.0)
    return percent(row["broken_share"]) + (f" ± {percent(spread, 2)}" if spread else "")


def _head(names: tuple[str, ...]) -> str:
    return f"{_line(names)}|{'---|' * len(names)}\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
