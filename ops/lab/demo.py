"""The main job, told and verified step by step on a running lab.

Owns the telling: the order of the steps, what is printed of each, the summary, the exit code. What
a step does and demands is in `demo_dns`, `demo_packets`, `demo_failures` and `demo_edges`; each
returns what was run and what came back, and raises `Broken` where a promise did not hold.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ops.lab.lab import Lab


class Broken(Exception):
    """A promise of the step did not hold; the text says which and what came instead."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a step ran, as a person would type it, and what came back."""

    ran: str
    came: str


@dataclass(frozen=True, slots=True)
class Step:
    """One promise and how it is shown."""

    title: str
    show: Callable[[Lab], Shown]


@dataclass(frozen=True, slots=True)
class Told:
    """A step that was told."""

    title: str
    held: bool
    seconds: float


def demand(held: bool, text: str) -> None:
    """Raise `Broken` with `text` unless `held`."""
    if not held:
        raise Broken(text)


def tell(
    lab: Lab, steps: Sequence[Step], say: Callable[[str], None], *, colour: bool
) -> list[Told]:
    """Run every step, in order, and say each; a broken one does not stop the rest."""
    told: list[Told] = []
    for number, step in enumerate(steps, 1):
        began = time.monotonic()
        try:
            shown = step.show(lab)
            held, lines = True, (f"$ {shown.ran}", *shown.came.splitlines())
        except (Broken, OSError, TimeoutError, ValueError, subprocess.SubprocessError) as error:
            held, lines = False, (f"{type(error).__name__}: {error}",)
        seconds = time.monotonic() - began
        told.append(Told(step.title, held, seconds))
        mark = _mark(held=held, colour=colour)
        say(f"{mark} {number:2}/{len(steps)} {step.title}  ({seconds:.1f} s)")
        for line in lines:
            say(f"        {line}")
    return told


def summary(told: Sequence[Told], *, colour: bool) -> str:
    """The last lines: how many steps held, and which did not."""
    broken = [item for item in told if not item.held]
    seconds = sum(item.seconds for item in told)
    lines = [f"{_mark(held=False, colour=colour)} {item.title}" for item in broken]
    verdict = "every step held" if not broken else f"{len(broken)} of {len(told)} steps broke"
    lines.append(
        f"{len(told) - len(broken)} of {len(told)} steps held in {seconds:.0f} s: {verdict}"
    )
    return "\n".join(lines)


def _mark(*, held: bool, colour: bool) -> str:
    word = "ok    " if held else "BROKEN"
    if not colour:
        return word
    return f"\x1b[32m{word}\x1b[0m" if held else f"\x1b[31m{word}\x1b[0m"
