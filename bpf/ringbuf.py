"""A BPF ring buffer read by libbpf, which knows the memory order that every machine needs.

Owns the reader's life. Used by the edge's agent for sampled packets, and by tests. One reader a
ring: two would share its records. Beside libbpf.py and abi.py the only file that imports ctypes,
because libbpf calls back for each record.
"""

import ctypes
import errno
import os
from typing import Self

from bpf.errors import CallFailedError

_TAKE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class RingReader:
    """Records of the ring behind a map's descriptor, which stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._library = ctypes.CDLL("libbpf.so.1", use_errno=True)
        self._library.ring_buffer__new.restype = ctypes.c_void_p
        self._records: list[bytes] = []
        self._callback = _TAKE(self._take)  # libbpf keeps its address
        handle = self._library.ring_buffer__new(fd, self._callback, None, None)
        if not handle:
            number = ctypes.get_errno()
            raise CallFailedError(f"read a ring: {os.strerror(number)}", number=number)
        self._handle = ctypes.c_void_p(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends reading; what is unread stays in the ring."""
        self._library.ring_buffer__free(self._handle)

    def poll(self, timeout_s: float) -> list[bytes]:
        """Every record that is there, waiting for the first at most `timeout_s`."""
        result = self._library.ring_buffer__poll(self._handle, int(timeout_s * 1000))
        if result < 0 and result != -errno.EINTR:
            raise CallFailedError(f"read a ring: {os.strerror(-result)}", number=-result)
        records, self._records = self._records, []
        return records

    def _take(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0
