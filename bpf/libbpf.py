"""Typed calls to libbpf.so.1: with abi.py, its structures, and ringbuf.py all that imports ctypes.

Owns the calling of libbpf and of the three libc calls that Python lacks. Called by maps.py,
program.py and testbed.py only. File descriptors are plain ints and the caller closes them. Every
failure becomes an error of bpf.errors with the errno's text.
"""

import ctypes
import errno
import os
from dataclasses import dataclass
from functools import cache

from bpf.abi import (
    NAME_BYTES,
    POINTER,
    U32,
    U64,
    BtfInfo,
    KernelMapInfo,
    LinkInfo,
    LinkOptions,
    MapOptions,
    OpenOptions,
    TestOptions,
    XdpContext,
)
from bpf.errors import (
    BpfError,
    CallFailedError,
    KernelTooOldError,
    LibbpfMissingError,
    NoBpffsError,
    NotPermittedError,
    ObjectMissingError,
    VerifierRefusedError,
)

LOG_BYTES = 1 << 20  # the verifier's story of a refused program of this size
FRAME_BYTES = 4096  # a test run's packet lives in one page
CLONE_NEWNET = 0x40000000
BPF_XDP = 37  # enum bpf_attach_type

Handle = int


@dataclass(frozen=True, slots=True, kw_only=True)
class MapInfo:
    """What the kernel says of a map; `btf_id` is 0 when it carries no types."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    btf_id: int
    key_type_id: int
    value_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A test run's action, packet, and duration in nanoseconds."""

    action: int
    packet: bytes
    duration_ns: int


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LibbpfMissingError(
            "libbpf.so.1 is not installed", mend="apt-get install libbpf1"
        ) from error
    for name in ("bpf_object__open_mem", "bpf_object__btf", "btf__raw_data"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("bpf_object__find_map_by_name", "bpf_map__initial_value"):
        getattr(library, name).restype = ctypes.c_void_p
    library.bpf_object__find_program_by_name.restype = ctypes.c_void_p
    library.libbpf_set_print(None)  # what libbpf would print is in the errors
    return library


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _failure(doing: str, number: int) -> BpfError:
    """The error for an errno: who may not, what is missing, or the bare text."""
    reason = f"{doing}: {os.strerror(number)}"
    match number:
        case errno.EPERM | errno.EACCES:
            return NotPermittedError(reason, mend="run as root")
        case errno.ENOSYS | errno.EOPNOTSUPP:
            return KernelTooOldError(reason, mend="Linux 5.15 or newer is needed")
        case _:
            return CallFailedError(reason, number=number)


def _checked(doing: str, result: int) -> int:
    """`result` of a libbpf call; negative is an errno."""
    if result < 0:
        raise _failure(doing, -result)
    return result


class OpenObject:
    """One opened object file. `close` frees libbpf's side; fds taken from it live on their own."""

    def __init__(self, elf: bytes, name: str) -> None:
        self._log = ctypes.create_string_buffer(LOG_BYTES)
        self._name = name
        options = OpenOptions(
            sz=ctypes.sizeof(OpenOptions),
            object_name=name.encode(),
            kernel_log_buf=ctypes.addressof(self._log),
            kernel_log_size=LOG_BYTES,
        )
        handle = _library().bpf_object__open_mem(elf, len(elf), ctypes.byref(options))
        if not handle:
            raise ObjectMissingError(f"{name} is not a BPF object", mend="run `make setup`")
        self._handle = ctypes.c_void_p(handle)

    def btf(self) -> bytes:
        """The object's BTF as libbpf finished it (offsets of variables filled in)."""
        size = ctypes.c_uint32()
        btf = _library().bpf_object__btf(self._handle)
        data = _library().btf__raw_data(ctypes.c_void_p(btf), ctypes.byref(size))
        return ctypes.string_at(data, size.value)

    def btf_fd(self) -> int:
        """The loaded BTF; only after `load`. Owned by the object."""
        return int(_library().bpf_object__btf_fd(self._handle))

    def load(self) -> None:
        """Creates the maps and has the kernel verify the programs."""
        result = _library().bpf_object__load(self._handle)
        log = self._log.value.decode(errors="replace")
        if result < 0 and "processed" in log:
            raise VerifierRefusedError(f"the kernel refused {self._name}", log=log)
        _checked(f"load {self._name}", result)

    def close(self) -> None:
        """Frees everything that is neither pinned nor attached nor duplicated."""
        _library().bpf_object__close(self._handle)

    def map_fd(self, name: str) -> int:
        """A duplicate of a map's descriptor; the caller closes it."""
        return os.dup(_checked(f"map {name}", _library().bpf_map__fd(self._map(name))))

    def program_fd(self, name: str) -> int:
        """A duplicate of a program's descriptor; the caller closes it."""
        program = _library().bpf_object__find_program_by_name(self._handle, name.encode())
        if not program:
            raise ObjectMissingError(f"{self._name} has no program {name}")
        fd = _library().bpf_program__fd(ctypes.c_void_p(program))
        return os.dup(_checked(f"program {name}", fd))

    def reuse_map(self, name: str, fd: int) -> None:
        """Makes `load` take an existing map instead of a new one; `fd` stays the caller's."""
        _checked(f"reuse map {name}", _library().bpf_map__reuse_fd(self._map(name), fd))

    def constants(self) -> bytearray:
        """The bytes of the read-only section before load."""
        size = ctypes.c_size_t()
        start = _library().bpf_map__initial_value(self._map(".rodata"), ctypes.byref(size))
        return bytearray(ctypes.string_at(start, size.value))

    def set_constants(self, data: bytes) -> None:
        """Replaces the bytes of the read-only section; only before `load`."""
        call = _library().bpf_map__set_initial_value
        _checked("set constants", call(self._map(".rodata"), bytes(data), len(data)))

    def _map(self, name: str) -> ctypes.c_void_p:
        found = _library().bpf_object__find_map_by_name(self._handle, name.encode())
        if not found:
            raise ObjectMissingError(f"{self._name} has no map {name}")
        return ctypes.c_void_p(found)


def pinned_fd(path: str) -> int | None:
    """A descriptor of what is pinned at `path`, or None."""
    result = int(_library().bpf_obj_get(path.encode()))
    if result == -errno.ENOENT:
        return None
    return _checked(f"open {path}", result)


def pin(fd: int, path: str) -> None:
    """Pins a map or link; the folder must be on a BPF file system."""
    result = int(_library().bpf_obj_pin(fd, path.encode()))
    if result in (-errno.EPERM, -errno.EINVAL) and os.geteuid() == 0:
        raise NoBpffsError(
            f"{path} is not on a BPF file system", mend="mount -t bpf bpf /sys/fs/bpf"
        )
    _checked(f"pin {path}", result)


def possible_cpus() -> int:
    """CPUs the kernel reckons with; a per-CPU map has one value for each."""
    return _checked("count CPUs", int(_library().libbpf_num_possible_cpus()))


def create_map(*, name: str, info: MapInfo, btf_fd: int) -> int:
    """A new map of the shape in `info`, typed by the BTF behind `btf_fd`."""
    options = MapOptions(
        sz=ctypes.sizeof(MapOptions),
        btf_fd=btf_fd,
        btf_key_type_id=info.key_type_id,
        btf_value_type_id=info.value_type_id,
        map_flags=info.flags,
    )
    made = _library().bpf_map_create(
        info.type,
        name.encode()[: NAME_BYTES - 1],
        info.key_size,
        info.value_size,
        info.max_entries,
        ctypes.byref(options),
    )
    return _checked(f"create map {name}", int(made))


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """The value of `key`, or None."""
    value = ctypes.create_string_buffer(value_size)
    result = int(_library().bpf_map_lookup_elem(fd, key, value))
    if result == -errno.ENOENT:
        return None
    _checked("read a map", result)
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Sets `key`, new or not."""
    _checked("write a map", int(_library().bpf_map_update_elem(fd, key, value, U64(0))))


def map_delete(fd: int, key: bytes) -> bool:
    """Removes `key`; tells whether it was there."""
    result = int(_library().bpf_map_delete_elem(fd, key))
    return result != -errno.ENOENT and _checked("delete from a map", result) >= 0


def map_next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """The key after `key` (None: the first), or None at the end."""
    following = ctypes.create_string_buffer(key_size)
    result = int(_library().bpf_map_get_next_key(fd, key, following))
    if result == -errno.ENOENT:
        return None
    _checked("walk a map", result)
    return following.raw


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Sets `count` keys in one call; both arguments are joined records."""
    done = U32(count)
    call = _library().bpf_map_update_batch
    _checked("write a map", int(call(fd, keys, values, ctypes.byref(done), None)))


def map_lookup_batch(fd: int, key_size: int, value_size: int, count: int) -> bytes:
    """The first `count` values of an array map, joined."""
    keys = ctypes.create_string_buffer(key_size * count)
    values = ctypes.create_string_buffer(value_size * count)
    position, done = ctypes.create_string_buffer(8), U32(count)
    call = _library().bpf_map_lookup_batch
    result = int(call(fd, None, position, keys, values, ctypes.byref(done), None))
    if result != -errno.ENOENT:  # ENOENT: the end was reached, and the values are there
        _checked("read a map", result)
    return values.raw[: value_size * done.value]


def map_info(fd: int) -> MapInfo:
    """What the kernel says of a map."""
    info = KernelMapInfo()
    _object_info(fd, info)
    return MapInfo(
        type=info.type,
        key_size=info.key_size,
        value_size=info.value_size,
        max_entries=info.max_entries,
        flags=info.map_flags,
        btf_id=info.btf_id,
        key_type_id=info.btf_key_type_id,
        value_type_id=info.btf_value_type_id,
    )


def map_fd_by_id(number: int) -> int:
    """A descriptor of a map by the kernel's id (an array of maps holds ids)."""
    return _checked("open a map", int(_library().bpf_map_get_fd_by_id(U32(number))))


def btf_by_id(number: int) -> bytes:
    """The bytes of BTF that the kernel keeps."""
    fd = _checked("open BTF", int(_library().bpf_btf_get_fd_by_id(U32(number))))
    try:
        info = BtfInfo()
        _object_info(fd, info)
        data = ctypes.create_string_buffer(info.btf_size)
        info = BtfInfo(btf=ctypes.addressof(data), btf_size=info.btf_size)
        _object_info(fd, info)
        return data.raw
    finally:
        os.close(fd)


def link_ifindex(fd: int) -> int:
    """The interface a link holds; 0 when that interface is gone."""
    info = LinkInfo()
    _object_info(fd, info)
    return int(info.ifindex)


def link_create(program_fd: int, ifindex: int, flags: int) -> int:
    """Attaches an XDP program; the attachment lives as long as the link's fd or pin."""
    options = LinkOptions(sz=ctypes.sizeof(LinkOptions), flags=flags)
    call = _library().bpf_link_create
    result = int(call(program_fd, ifindex, BPF_XDP, ctypes.byref(options)))
    return _checked("attach XDP", result)


def link_update(link_fd: int, program_fd: int) -> None:
    """Replaces the program of a link in place; no packet sees a gap."""
    _checked("update XDP", int(_library().bpf_link_update(link_fd, program_fd, None)))


def link_detach(link_fd: int) -> None:
    """Takes the program off the interface, whoever else holds the link."""
    _checked("detach XDP", int(_library().bpf_link_detach(link_fd)))


def run_program(
    program_fd: int, packet: bytes, *, ifindex: int = 0, metadata: int = 0, repeat: int = 1
) -> RunResult:
    """Runs a program (XDP or tc) on a packet, with no interface involved.

    `ifindex` 0 means the loopback of the current namespace; another interface must have a driver's
    XDP queue. `metadata` bytes at the packet's start are taken as metadata. With `repeat` above 1
    the kernel does not restore the packet between runs.
    """
    output = ctypes.create_string_buffer(FRAME_BYTES)
    options = TestOptions(
        sz=ctypes.sizeof(TestOptions),
        data_in=ctypes.cast(ctypes.c_char_p(packet), POINTER),
        data_size_in=len(packet),
        data_out=ctypes.addressof(output),
        data_size_out=FRAME_BYTES,
        repeat=repeat,
    )
    if ifindex or metadata:
        context = XdpContext(data=metadata, data_end=len(packet), ingress_ifindex=ifindex)
        options.ctx_in = ctypes.addressof(context)
        options.ctx_size_in = ctypes.sizeof(context)
    _checked("test run", int(_library().bpf_prog_test_run_opts(program_fd, ctypes.byref(options))))
    return RunResult(
        action=options.retval,
        packet=output.raw[: options.data_size_out],
        duration_ns=options.duration,
    )


def mount_bpffs(path: str) -> None:
    """Mounts a BPF file system at `path`, closed to all but its owner as systemd does."""
    if _libc().mount(b"bpf", path.encode(), b"bpf", ctypes.c_ulong(0), b"mode=0700") < 0:
        raise NoBpffsError(
            f"no BPF file system at {path}: {os.strerror(ctypes.get_errno())}",
            mend=f"mount -t bpf bpf {path}",
        )


def enter_new_network() -> int:
    """Moves this thread into a fresh network namespace; returns a descriptor of the old one."""
    old = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc().unshare(CLONE_NEWNET) < 0:
        os.close(old)
        raise _failure("make a network namespace", ctypes.get_errno())
    return old


def return_to_network(fd: int) -> None:
    """Moves this thread back, and closes the descriptor. The namespace left empty disappears."""
    result = _libc().setns(fd, CLONE_NEWNET)
    os.close(fd)
    if result < 0:
        raise _failure("return to the network namespace", ctypes.get_errno())


def _object_info(fd: int, info: ctypes.Structure) -> None:
    size = U32(ctypes.sizeof(info))
    call = _library().bpf_obj_get_info_by_fd
    _checked("ask the kernel", int(call(fd, ctypes.byref(info), ctypes.byref(size))))
