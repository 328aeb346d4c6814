"""The figures as pictures: SVG that is the same, byte for byte, for the same figures.

Owns how they look. Called by the bench with `--pictures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .line_up import (
    CHAINS_FEWER_TURNS,
    CHAINS_MAGLEV,
    CHAINS_MEMORY,
    JET,
    JET_STICKY,
    MEMORY,
    MEMORY_STICKY,
    SHIPPED,
    SIZES,
    SIZES_RATE,
    sized,
)

Row = Mapping[str, float]
Table = Mapping[str, Mapping[str, Row]]

NEVER = 3e-8  # where a share of 0 is drawn: below one of all connections of all seeds
STYLES: dict[str, tuple[str, str, str]] = {  # system -> colour, line, marker
    "mod-N": ("#8c8c8c", "-", "x"),
    "Maglev": ("#b07d2b", "-", "+"),
    MEMORY: ("#d95f02", "-", "v"),
    MEMORY_STICKY: ("#d95f02", "--", "^"),
    JET: ("#7570b3", "-", "<"),
    JET_STICKY: ("#7570b3", "--", ">"),
    "GLB": ("#e7298a", "-", "D"),
    "chains of 1": ("#a6dba0", "-", "."),
    "chains of 2": ("#5aae61", "-", "."),
    "chains of 4": ("#00441b", "-", "."),
    SHIPPED: ("#000000", "-", "o"),
    CHAINS_FEWER_TURNS: ("#000000", ":", "o"),
    CHAINS_MAGLEV: ("#1f78b4", "-", "P"),
    CHAINS_MEMORY: ("#1b7837", "--", "s"),
}
TITLES = {"short": "Hadoop's connections (mean 18 s)", "long": "long connections (mean 30 min)"}


def draw(worlds: Mapping[str, Table], folder: Path) -> list[Path]:
    """The pictures' files."""
    mpl.rcParams.update(
        {"svg.hashsalt": "waypost", "svg.fonttype": "none", "font.size": 9, "axes.grid": True,
         "grid.alpha": 0.3, "legend.frameon": False, "font.family": "sans-serif"}
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _by_rate(worlds, folder / "survival-broken.svg", "broken_share", "connections broken"),
        _by_rate(worlds, folder / "survival-detours.svg", "detour_share", "packets that detour"),
        _by_size(worlds, folder / "survival-memory.svg"),
    ]


def _by_rate(worlds: Mapping[str, Table], path: Path, key: str, words: str) -> Path:
    figure, panels = _panels(worlds)
    for panel, (world, table) in zip(panels, worlds.items(), strict=True):
        rates = [float(rate) for rate in table]
        for name, style in STYLES.items():
            rows = [table[rate][name] for rate in table]
            if key == "broken_share" or any(row[key] for row in rows):
                _line(panel, name, style, rates, rows, key)
        panel.set_xscale("log")
        panel.minorticks_off()
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.set_xlabel("changes to servers begun a minute")
        panel.set_title(TITLES[world])
    panels[0].set_ylabel(f"share of {words}")
    return _written(figure, panels, path)


def _by_size(worlds: Mapping[str, Table], path: Path) -> Path:
    figure, panels = _panels(worlds)
    for panel, (world, table) in zip(panels, worlds.items(), strict=True):
        if (rows := table.get(f"{SIZES_RATE:g}")) is not None:
            for name in (MEMORY, MEMORY_STICKY, JET, JET_STICKY, CHAINS_MEMORY):
                of_size = [rows[sized(name, size)] for size in SIZES]
                _line(panel, name, STYLES[name], list(SIZES), of_size, "broken_share")
        panel.set_xticks(SIZES, [f"{size:g}" for size in SIZES])
        panel.set_xlabel("flows remembered by all balancers, of the connections at once")
        panel.set_title(f"{TITLES[world]}, {SIZES_RATE:g} changes a minute")
    panels[0].set_ylabel("share of connections broken")
    return _written(figure, panels, path)


def _panels(worlds: Mapping[str, Table]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * len(worlds) + 1, 4.6), layout="constrained")
    panels = figure.subplots(1, len(worlds), sharey=True, squeeze=False)[0]
    return figure, list(panels)


def _line(
    panel: Axes,
    name: str,
    style: tuple[str, str, str],
    across: list[float],
    rows: list[Row],
    key: str,
) -> None:
    colour, line, marker = style
    shares = [max(row[key], NEVER) for row in rows]
    spread = [row.get(f"{key}_pm", 0.0) for row in rows]
    below = [min(half, share - NEVER) for half, share in zip(spread, shares, strict=True)]
    panel.errorbar(
        across, shares, yerr=[below, spread], label=name, color=colour, linestyle=line,
        marker=marker, markersize=4, linewidth=1.2, elinewidth=0.7, capsize=0,
    )  # fmt: skip
    panel.set_yscale("log")
    panel.minorticks_off()


def _written(figure: Figure, panels: list[Axes], path: Path) -> Path:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path
