"""A BPF object in the kernel: open, load, pin, attach, update in place, test-run, unload.

Owns the life of a program. Used by edge_lb.datapath, the real server's agent, the self test and the
lab. Maps and the link are pinned in one folder of the BPF file system, so the daemon may die and
packets keep flowing; the next start takes the pinned maps, puts its own program into the link in
place, and loses nothing.
"""

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bpf import libbpf
from bpf.btf import Btf, read_btf
from bpf.carry import carry_sums, must_be_renewed
from bpf.compile import object_path
from bpf.errors import (
    CallFailedError,
    InterfaceBusyError,
    InterfaceMissingError,
    KernelTooOldError,
    NativeXdpUnsupportedError,
    NothingPreviousError,
    NotPermittedError,
    ObjectMissingError,
)
from bpf.maps import Map, check_layout, create_inner

TEST_QUEUE = 0  # the receive queue that BPF_PROG_TEST_RUN gives its packets
LINK_PIN = "link"
PROGRAM_PIN = "program"  # what the link runs, unless a start ended half-way
PREVIOUS_PIN = "previous"  # what it ran before: for a rollback
SWAP_PIN = "swap"
NOT_MAPS = (LINK_PIN, PROGRAM_PIN, PREVIOUS_PIN, SWAP_PIN)
BPFFS = Path("/sys/fs/bpf")
XDP_FLAGS_DRV_MODE = 1 << 2  # the driver's own hook, never the slow generic one
BPFFS_MAGIC_LINE = " - bpf "


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a program was made of: the object's bytes, and its read-only variables."""

    elf: bytes
    constants: dict[str, int | bytes]


class Program:
    """One loaded object: its maps by name, and its one program."""

    def __init__(
        self,
        opened: libbpf.OpenObject,
        btf: Btf,
        name: str,
        maps: dict[str, Map],
        origin: "_Origin",
        renewed: tuple[str, ...],
    ) -> None:
        self._opened = opened
        self._origin = origin
        self.btf = btf
        self.name = name
        self.maps = maps
        self.renewed = renewed  # counters whose pinned maps were made by a version that differs
        self.fd = opened.program_fd(name)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        path: Path | None = None,
        constants: Mapping[str, int | bytes] | None = None,
        pin_dir: Path | None = None,
        shared: Mapping[str, Map] | None = None,
    ) -> Self:
        """Loads `name`'s object, taking over the maps pinned in `pin_dir` and pinning the rest.

        `shared` are maps of another program that this one works on instead of its own.
        Without `pin_dir` the copy is private and ends with the process. Raises LayoutMismatchError
        when a pinned map has another layout, VerifierRefusedError with the log, NotPermittedError,
        LibbpfMissingError, ObjectMissingError.
        """
        _raise_memory_limit()
        path = path or object_path(name)
        try:
            with _may_be_forbidden(path):
                elf = path.read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissingError(f"{path} does not exist", mend="run `make setup`") from error
        if pin_dir is not None:
            ensure_bpffs(pin_dir)
        return cls._load(name, _Origin(elf, dict(constants or {})), pin_dir, shared or {})

    def twin(self, *, own: Collection[str]) -> Self:
        """The same bytes on the same maps, but with maps of its own for `own`; not attached.

        For packets that shall meet what is live and leave no trace in it.
        """
        shared = {name: held for name, held in self.maps.items() if name not in own}
        return self._load(self.name, self._origin, None, shared)

    @classmethod
    def _load(
        cls, name: str, origin: "_Origin", pin_dir: Path | None, shared: Mapping[str, Map]
    ) -> Self:
        opened = libbpf.OpenObject(origin.elf, name)
        try:
            btf = read_btf(opened.btf())
            shapes = btf.maps()
            _set_constants(opened, btf, origin.constants)
            renewed = _reuse_pinned(opened, btf, pin_dir) if pin_dir is not None else ()
            for map_name, other in shared.items():
                check_layout(other.fd, shapes[map_name])
                opened.reuse_map(map_name, other.fd)
            opened.load()
            maps = {map_name: Map(opened.map_fd(map_name), shapes[map_name]) for map_name in shapes}
            if pin_dir is not None:
                _pin_missing(maps, pin_dir)
            return cls(opened, btf, name, maps, origin, renewed)
        except BaseException:
            opened.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back every descriptor; what is pinned or attached stays."""
        for held in self.maps.values():
            held.close()
        os.close(self.fd)
        self._opened.close()

    def verdict_names(self) -> tuple[str, ...]:
        """Names of the verdicts by index, without their prefix and without the counters' end."""
        named = dict(self.btf.enum("verdict"))
        count = self.maps["verdicts"].shape.max_entries
        return tuple(named[index].removeprefix("VERDICT_") for index in range(count))

    def new_inner(self, outer: str, *, max_entries: int | None = None) -> Map:
        """A new map for the array of maps `outer`; the caller puts it in and closes it."""
        return create_inner(self.maps[outer].shape, self._opened.btf_fd(), max_entries=max_entries)

    def test_run(
        self, packet: bytes, *, ifindex: int = 0, metadata: int = 0, repeat: int = 1
    ) -> libbpf.RunResult:
        """Runs the program on one packet; see libbpf.run_program."""
        return libbpf.run_program(
            self.fd, packet, ifindex=ifindex, metadata=metadata, repeat=repeat
        )

    def attach(self, interface: str, pin_dir: Path) -> bool:
        """Attaches to `interface` by a pinned link; True when a link was already there.

        An existing link of the same interface gets this program in place, with no packet lost. A
        link of an interface that has gone is removed first.
        """
        ifindex = interface_index(interface)
        self._carry(pin_dir)
        was_there = self._attach(interface, ifindex, pin_dir / LINK_PIN)
        for name in self.renewed:
            (pin_dir / name).unlink()
            libbpf.pin(self.maps[name].fd, str(pin_dir / name))
        self._pin_beside_previous(pin_dir)
        return was_there

    def _carry(self, pin_dir: Path) -> None:
        for name in self.renewed:
            old = libbpf.pinned_fd(str(pin_dir / name))
            if old is not None:
                try:
                    carry_sums(old, self.maps[name], self.btf)
                finally:
                    os.close(old)

    def _attach(self, interface: str, ifindex: int, pin: Path) -> bool:
        held = libbpf.pinned_fd(str(pin))
        if held is not None:
            try:
                if libbpf.link_ifindex(held) == ifindex:
                    libbpf.link_update(held, self.fd)
                    return True
            finally:
                os.close(held)
            pin.unlink()
        link = self._new_link(interface, ifindex)
        try:
            libbpf.pin(link, str(pin))
        finally:
            os.close(link)
        return False

    def _pin_beside_previous(self, pin_dir: Path) -> None:
        """Pins this program; the one before it stays pinned too, if it was another program."""
        pin = pin_dir / PROGRAM_PIN
        before = libbpf.pinned_fd(str(pin))
        if before is not None:
            same = tag(before) == tag(self.fd)
            os.close(before)
            if same:
                pin.unlink()
            else:
                pin.rename(pin_dir / PREVIOUS_PIN)
        libbpf.pin(self.fd, str(pin))

    def attach_for_process(self, interface: str) -> int:
        """Attaches without a pin; the attachment ends when the returned descriptor is closed."""
        return self._new_link(interface, interface_index(interface))

    def _new_link(self, interface: str, ifindex: int) -> int:
        try:
            return libbpf.link_create(self.fd, ifindex, XDP_FLAGS_DRV_MODE)
        except KernelTooOldError as error:
            raise NativeXdpUnsupportedError(
                f"the driver of {interface} cannot run XDP programs",
                mend="use an interface whose driver supports native XDP",
            ) from error
        except CallFailedError as error:
            if error.number in (errno.EBUSY, errno.EEXIST):
                raise InterfaceBusyError(
                    f"another XDP program is attached to {interface}",
                    mend=f"see `bpftool net show dev {interface}`",
                ) from error
            if error.number in (errno.EINVAL, errno.ERANGE, errno.ENOSPC):
                raise NativeXdpUnsupportedError(
                    f"the driver of {interface} refused the program",
                    mend=f"lower the MTU of {interface} or of its peer below one page",
                ) from error
            raise


def _raise_memory_limit() -> None:
    """Lifts the locked-memory limit, which kernels before 5.11 count maps against."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)


def interface_index(interface: str) -> int:
    """The index of an interface in this network namespace."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise InterfaceMissingError(f"there is no interface {interface}") from error


def interface_name(index: int) -> str:
    """The name of an interface in this network namespace; its number if it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def ensure_bpffs(pin_dir: Path) -> None:
    """Makes `pin_dir`, mounting the BPF file system at /sys/fs/bpf when it is missing there."""
    if pin_dir.is_relative_to(BPFFS) and not _is_bpffs_mounted():
        libbpf.mount_bpffs(str(BPFFS))
    with _may_be_forbidden(pin_dir):
        pin_dir.mkdir(parents=True, exist_ok=True)


def unload(pin_dir: Path) -> bool:
    """Detaches and removes every pin of `pin_dir`, and the folder; tells whether there was any."""
    with _may_be_forbidden(pin_dir):
        if not pin_dir.is_dir():
            return False
    link = libbpf.pinned_fd(str(pin_dir / LINK_PIN))
    if link is not None:
        try:
            libbpf.link_detach(link)
        except CallFailedError as error:
            if error.number != errno.ENOLINK:  # the interface is gone already
                raise
        finally:
            os.close(link)
    for pin in pin_dir.iterdir():
        pin.unlink()
    pin_dir.rmdir()
    return True


def held_interface(pin_dir: Path) -> int:
    """The index of the interface that the pinned link holds; 0 without one."""
    with _may_be_forbidden(pin_dir):
        link = libbpf.pinned_fd(str(pin_dir / LINK_PIN))
    if link is None:
        return 0
    try:
        return libbpf.link_ifindex(link)
    finally:
        os.close(link)


def rollback(pin_dir: Path) -> tuple[str, str]:
    """Puts the previous program into the link, in place; the tags of what ran and of what runs.

    A second rollback undoes the first. Raises NothingPreviousError.
    """
    with contextlib.ExitStack() as stack, _may_be_forbidden(pin_dir):
        fds: list[int] = []
        for name in (LINK_PIN, PROGRAM_PIN, PREVIOUS_PIN):
            fd = libbpf.pinned_fd(str(pin_dir / name))
            if fd is None:
                raise NothingPreviousError(f"{pin_dir} holds no {name}: nothing to roll back to")
            stack.callback(os.close, fd)
            fds.append(fd)
        link, current, previous = fds
        libbpf.link_update(link, previous)
        (pin_dir / PROGRAM_PIN).rename(pin_dir / SWAP_PIN)
        (pin_dir / PREVIOUS_PIN).rename(pin_dir / PROGRAM_PIN)
        (pin_dir / SWAP_PIN).rename(pin_dir / PREVIOUS_PIN)
        return tag(current), tag(previous)


def tag(program_fd: int) -> str:
    """The kernel's hash of a program's instructions: tells two programs apart."""
    for line in Path(f"/proc/self/fdinfo/{program_fd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "prog_tag":
            return value.strip()
    return ""


@contextlib.contextmanager
def _may_be_forbidden(path: Path) -> Iterator[None]:
    """Pins are root's, and objects may be in a closed folder: translates Python's own refusal."""
    try:
        yield
    except PermissionError as error:
        raise NotPermittedError(f"{path} is closed to this user", mend="run as root") from error


def _is_bpffs_mounted() -> bool:
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return any(f" {BPFFS} " in line and BPFFS_MAGIC_LINE in line for line in mounts.splitlines())


def _set_constants(
    opened: libbpf.OpenObject, btf: Btf, constants: Mapping[str, int | bytes]
) -> None:
    """Writes read-only variables by name, at the offsets that BTF tells."""
    if not constants:
        return
    section = btf.variables(".rodata")
    data = opened.constants()
    for name, value in constants.items():
        field = section.field(name)
        data[field.offset : field.offset + field.size] = field.pack(value)
    opened.set_constants(bytes(data))


def _reuse_pinned(opened: libbpf.OpenObject, btf: Btf, pin_dir: Path) -> tuple[str, ...]:
    """Takes over pinned maps of the same layout; the names of counters that must be new ones."""
    renewed: list[str] = []
    for name, shape in btf.maps().items():
        fd = libbpf.pinned_fd(str(pin_dir / name))
        if fd is None:
            continue
        try:
            if must_be_renewed(fd, shape, btf):
                renewed.append(name)
            else:
                opened.reuse_map(name, fd)
        finally:
            os.close(fd)
    return tuple(renewed)


def _pin_missing(maps: Mapping[str, Map], pin_dir: Path) -> None:
    for name, held in maps.items():
        if not (pin_dir / name).exists():
            libbpf.pin(held.fd, str(pin_dir / name))
