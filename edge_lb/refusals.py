"""Faults of the data plane as one line and an exit code each: the one place that knows both sides.

Owns the mapping from `bpf.errors` to `gslb.service.lifecycle.Refused`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bpf.errors import (
    BpfError,
    InterfaceBusyError,
    InterfaceMissingError,
    KernelTooOldError,
    LibbpfMissingError,
    NativeXdpUnsupportedError,
    NoBpffsError,
    NotPermittedError,
    RehearsalFailedError,
    VerifierRefusedError,
)
from gslb.service.lifecycle import ExitCode, Refused

_CODES: tuple[tuple[type[BpfError], ExitCode], ...] = (
    (LibbpfMissingError, ExitCode.NO_LIBBPF),
    (NotPermittedError, ExitCode.NOT_ROOT),
    (NoBpffsError, ExitCode.NO_BPFFS),
    (KernelTooOldError, ExitCode.KERNEL),
    (VerifierRefusedError, ExitCode.KERNEL),
    (InterfaceMissingError, ExitCode.INTERFACE),
    (InterfaceBusyError, ExitCode.INTERFACE),
    (NativeXdpUnsupportedError, ExitCode.INTERFACE),
    (RehearsalFailedError, ExitCode.REHEARSAL),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise Refused for every expected fault of loading, attaching and writing."""
    try:
        yield
    except BpfError as error:
        raise Refused(_code(error), _one_line(error)) from None


def need_root(what: str) -> None:
    """Refused(NOT_ROOT) unless this process is root."""
    if os.geteuid() != 0:
        raise Refused(ExitCode.NOT_ROOT, f"{what} loads BPF programs: run it as root")


def need_interface(name: str, at: str) -> None:
    """Refused(INTERFACE), naming those that exist, if there is no interface of this name."""
    present = [interface for _, interface in socket.if_nameindex()]
    if name not in present:
        text = f"no interface `{name}` ({at}); there are: {', '.join(sorted(present))}"
        raise Refused(ExitCode.INTERFACE, text)


def _code(error: BpfError) -> ExitCode:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def _one_line(error: BpfError) -> str:
    return " ".join(str(error).split())
