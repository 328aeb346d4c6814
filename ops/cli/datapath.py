"""`waypost datapath ...`: the BPF program and its maps on this host.

Owns looking at pins where no daemon answers, the self test's table, and taking everything off
again. BPF is imported only when a verb needs it: every other command works without libbpf.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gslb.fleet.views import DatapathMap, DatapathView, Done, View
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli import tables
from ops.cli.seat import seat, shared_options
from ops.cli.tables import Style

PIN_DIR = Path("/sys/fs/bpf/waypost/edge")
LINK = "link"

_KINDS = {  # linux/bpf.h, enum bpf_map_type
    1: "hash",
    2: "array",
    6: "per-CPU array",
    9: "LRU hash",
    12: "array of maps",
    27: "ring buffer",
}


class CaseRow(View, frozen=True):
    """One packet that the self test sent through a program."""

    name: str
    ok: bool
    detail: str


class SelfTest(View, frozen=True):
    """The self test's outcome on this kernel."""

    cases: tuple[CaseRow, ...]
    ok: bool
    schema: str = "waypost/selftest/1"


@click.group()
def datapath() -> None:
    """The BPF program that moves packets here."""


def _pin_option(text: str, default: Path | None) -> click.Option:
    return click.Option(
        ["--pin-dir"], type=click.Path(path_type=Path), default=default, metavar="DIR", help=text
    )


@datapath.command("show", params=[_pin_option("Read the pins, not the daemon.", None)])
@shared_options
def show(*, pin_dir: Path | None) -> None:
    """Show program, interface and maps; from the pins, where no daemon answers."""
    here = seat()
    if pin_dir is None:
        try:
            reply = here.client("edge").show("/datapath", DatapathView)
        except Refused as refused:
            if refused.code is not ExitCode.UNREACHABLE or not PIN_DIR.is_dir():
                raise
            pin_dir = PIN_DIR
        else:
            here.show(reply, lambda view: draw_datapath(view, here.now_s(), here.style))
            return
    with _bpf_refusals():
        view = read_pins(pin_dir)
    if here.json:
        here.say_json(view)
    else:
        here.say(draw_datapath(view, here.now_s(), here.style))


@datapath.command("selftest")
@shared_options
def selftest() -> None:
    """Send a table of packets through private copies of the programs on this very kernel."""
    here = seat()
    with _bpf_refusals():
        from bpf import selftest as packets

        cases = tuple(
            CaseRow(name=case.case, ok=case.ok, detail=case.detail) for case in packets.run()
        )
    result = SelfTest(cases=cases, ok=all(case.ok for case in cases))
    if here.json:
        here.say_json(result)
    else:
        here.say(draw_selftest(result, here.style))
    if not result.ok:
        click.get_current_context().exit(ExitCode.FAILED)


@datapath.command("rollback", params=[_pin_option("Where the pins are.", PIN_DIR)])
@shared_options
def rollback(*, pin_dir: Path) -> None:
    """Put the program from before into the link again, with no packet lost."""
    here = seat()
    with _bpf_refusals():
        from bpf import program

        before, now = program.rollback(pin_dir)
    message = f"program {now} runs again in place of {before}"
    if here.json:
        here.say_json(Done(message=message))
    else:
        here.say(f"{message}\n")


@datapath.command("unload", params=[_pin_option("Where the pins are.", PIN_DIR)])
@click.option("--force", is_flag=True, help="Even while an interface balances packets by it.")
@shared_options
def unload(*, pin_dir: Path, force: bool) -> None:
    """Detach the program and remove every pin."""
    here = seat()
    with _bpf_refusals():
        from bpf import program

        interface = _attached_to(pin_dir)
        if interface and not force:
            text = f"{interface} moves packets by {pin_dir}; stop its daemon, then add --force"
            raise Refused(ExitCode.UNSAFE, text)
        found = program.unload(pin_dir)
    message = f"unloaded {pin_dir}" if found else f"nothing was pinned in {pin_dir}"
    if here.json:
        here.say_json(Done(message=message))
    else:
        here.say(f"{message}\n")


def read_pins(pin_dir: Path) -> DatapathView:
    """What is pinned, as far as the kernel tells it without the daemon."""
    from bpf import libbpf
    from bpf.program import NOT_MAPS

    if not pin_dir.is_dir():
        text = f"nothing is pinned in {pin_dir}; name another by --pin-dir"
        raise Refused(ExitCode.FAILED, text)
    maps: list[DatapathMap] = []
    for pin in sorted(pin_dir.iterdir()):
        if pin.name in NOT_MAPS:
            continue
        descriptor = libbpf.pinned_fd(str(pin))
        if descriptor is None:
            continue
        try:
            info = libbpf.map_info(descriptor)
        finally:
            os.close(descriptor)
        copies = libbpf.possible_cpus() if "per-CPU" in _KINDS.get(info.type, "") else 1
        maps.append(
            DatapathMap(
                name=pin.name,
                kind=_KINDS.get(info.type, f"type {info.type}"),
                entries_max=info.max_entries,
                bytes=info.max_entries * (info.key_size + info.value_size * copies),
            )
        )
    return DatapathView(
        interface=_attached_to(pin_dir),
        mode="native",
        program_tag="",
        loaded_at_s=0.0,
        pin_dir=str(pin_dir),
        maps=tuple(maps),
    )


def _attached_to(pin_dir: Path) -> str:
    """The interface that the pinned link holds; empty if there is none."""
    from bpf import libbpf

    link = libbpf.pinned_fd(str(pin_dir / LINK))
    if link is None:
        return ""
    try:
        index = libbpf.link_ifindex(link)
    finally:
        os.close(link)
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return f"interface {index} of another namespace"


def draw_datapath(view: DatapathView, now_s: float, style: Style) -> str:
    """A line on the program, then its maps."""
    facts = [
        f"xdp {view.mode} on {view.interface}" if view.interface else "not attached",
        f"program {view.program_tag or tables.UNKNOWN}",
        f"pins {view.pin_dir}",
    ]
    if view.loaded_at_s > 0:
        facts.append(f"loaded {tables.age(now_s - view.loaded_at_s)} ago")
    columns = (*tables.left("MAP", "KIND"), *tables.right("ENTRIES", "BYTES"))
    cells = [
        (row.name, row.kind, tables.count(row.entries_max, style), tables.count(row.bytes, style))
        for row in view.maps
    ]
    table = tables.draw(columns, cells, style)
    return "   ".join(facts) + "\n" + (f"\n{table}" if table else "")


def draw_selftest(view: SelfTest, style: Style) -> str:
    """Every case, then the sum."""
    cells = [(case.name, "ok" if case.ok else "failed", case.detail) for case in view.cases]
    good = sum(case.ok for case in view.cases)
    table = tables.draw(tables.left("CASE", "RESULT", "DETAIL"), cells, style)
    return f"{table}\n{good} of {len(cells)} cases are as they must be\n"


@contextmanager
def _bpf_refusals() -> Iterator[None]:
    """Errors of BPF as refusals with their exit codes."""
    from bpf import errors

    codes: dict[type[errors.BpfError], ExitCode] = {
        errors.LibbpfMissingError: ExitCode.NO_LIBBPF,
        errors.NotPermittedError: ExitCode.NOT_ROOT,
        errors.NoBpffsError: ExitCode.NO_BPFFS,
        errors.KernelTooOldError: ExitCode.KERNEL,
        errors.InterfaceMissingError: ExitCode.INTERFACE,
        errors.InterfaceBusyError: ExitCode.INTERFACE,
        errors.NativeXdpUnsupportedError: ExitCode.INTERFACE,
    }
    try:
        yield
    except errors.BpfError as error:
        raise Refused(codes.get(type(error), ExitCode.FAILED), str(error)) from None
    except PermissionError as error:
        text = f"{error.filename or 'BPF'}: permission denied; run this as root"
        raise Refused(ExitCode.NOT_ROOT, text) from None
