"""`waypost capture`: packets of the data plane into a file, each with its verdict and its real."""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from gslb.fleet.views import View
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli.complete import complete_vip
from ops.cli.seat import seat, shared_options

STDOUT = Path("-")
# pcapng's Interface Statistics Block, which ends the file: kind, length, interface, time; option
# `lost` with its head, option `delivered` with its head; end of options, length.
STATISTICS = struct.Struct("<IIIQHHQHHQII")


class Captured(View, frozen=True):
    """What a capture brought."""

    file: str
    packets: int
    lost: int
    schema: str = "waypost/capture/1"


@click.command()
@click.option(
    "-w",
    "--write",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The pcapng file; - is standard output.",
)
@click.option(
    "--every", type=click.IntRange(min=1), default=1, metavar="N", help="About one of N. Default: 1"
)
@click.option(
    "--count",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    metavar="N",
    help="End after N packets. Default: 1000.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=10.0,
    metavar="S",
    help="End after S seconds. Default: 10.",
)
@click.option("--verdict", default="", metavar="VERDICT", help="Only packets that leave so.")
@click.option(
    "--vip", default="", metavar="VIP", shell_complete=complete_vip, help="Only packets for a VIP."
)
@shared_options
def capture(*, path: Path, every: int, count: int, seconds: float, verdict: str, vip: str) -> None:
    """Capture packets as they leave the program, the first 256 bytes of each.

    Forwarded ones have their tunnel on; what is passed or dropped is as it came. The comment of a
    packet tells its verdict, VIP, slot and real.
    """
    here = seat()
    params = {
        "every": str(every),
        "count": str(count),
        "seconds": str(seconds),
        "verdict": verdict.upper(),
        "vip": vip,
    }
    pieces = here.client("edge").stream("/capture", params, patience_s=seconds)
    end = b""
    with _opened(path, next(pieces)) as file:  # a refusal comes before the file is touched
        for piece in pieces:
            file.write(piece)
            file.flush()
            end = (end + piece)[-STATISTICS.size :]
    _, _, _, _, _, _, lost, _, _, packets, _, _ = STATISTICS.unpack(end)
    if path == STDOUT:
        return
    if here.json:
        here.say_json(Captured(file=str(path), packets=packets, lost=lost))
    else:
        here.say(draw_captured(Captured(file=str(path), packets=packets, lost=lost)))


@contextmanager
def _opened(path: Path, first: bytes) -> Iterator[BinaryIO]:
    """The file to write to, with its first piece in it."""
    try:
        with contextlib.ExitStack() as stack:
            file = sys.stdout.buffer if path == STDOUT else stack.enter_context(path.open("wb"))
            file.write(first)
            file.flush()
            yield file
    except BrokenPipeError:
        raise  # a reader that has seen enough: the command ends quietly
    except OSError as error:
        text = f"{path}: {(error.strerror or str(error)).lower()}; name another by -w"
        raise Refused(ExitCode.FAILED, text) from None


def draw_captured(view: Captured) -> str:
    """One line; what was lost only if there was any."""
    lost = f", {view.lost} more lost because they came too fast" if view.lost else ""
    return f"{view.file}: {view.packets} packets{lost}\n"
