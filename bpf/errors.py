"""Why the kernel or libbpf refused, each as its own class, for a command's exit code.

Owns the error tree of the data plane. Anyone may catch; only this package raises. Every error keeps
its facts as attributes, and `mend` is the one line that tells an operator what to do.
"""

from collections.abc import Sequence


class BpfError(Exception):
    """Something about BPF failed. `reason` is one sentence; `mend` may be empty."""

    def __init__(self, reason: str, *, mend: str = "") -> None:
        super().__init__(f"{reason}: {mend}" if mend else reason)
        self.reason = reason
        self.mend = mend


class LibbpfMissingError(BpfError):
    """libbpf.so.1 is not on this host."""


class NotPermittedError(BpfError):
    """The process may not use BPF here."""


class NoBpffsError(BpfError):
    """There is no BPF file system to pin maps and links in."""


class KernelTooOldError(BpfError):
    """The kernel lacks something that the data plane needs."""


class ObjectMissingError(BpfError):
    """A compiled BPF object is not where it should be, or is not what it should be."""


class CallFailedError(BpfError):
    """A call failed with an errno that has no better name here."""

    def __init__(self, reason: str, *, number: int, mend: str = "") -> None:
        super().__init__(reason, mend=mend)
        self.number = number


class VerifierRefusedError(BpfError):
    """The kernel's verifier refused a program; `log` is what it said."""

    def __init__(self, reason: str, *, log: str) -> None:
        super().__init__(reason, mend=log.strip().splitlines()[-1] if log.strip() else "")
        self.log = log


class LayoutMismatchError(BpfError):
    """A pinned map was made by another version, with another layout."""

    def __init__(self, map_name: str, difference: str) -> None:
        super().__init__(
            f"pinned map {map_name} has another layout: {difference}",
            mend="run `waypost datapath unload`, then start again",
        )
        self.map_name = map_name
        self.difference = difference


class InterfaceMissingError(BpfError):
    """The named network interface does not exist."""


class InterfaceBusyError(BpfError):
    """Another XDP program is attached to the interface."""


class NativeXdpUnsupportedError(BpfError):
    """The interface's driver cannot run XDP programs."""


class NothingPreviousError(BpfError):
    """There is no program from before to roll back to."""


class RehearsalFailedError(BpfError):
    """A new program was tried on the live maps and failed; the one that runs was left running."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(
            f"the new program failed its rehearsal on the live maps: {'; '.join(faults)}",
            mend="the old one keeps running; go back to the version before",
        )
        self.faults = tuple(faults)
