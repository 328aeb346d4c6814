"""The ring of Maglev hashing (NSDI 2016, section 3.4), which the systems of others stand on.

Owns the calling of maglev.c, which is a hundred times faster than Python; a test holds it equal to
the paper's words. Waypost's own rings are of another kind (`edge_lb.rings`). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

import cffi
import numpy as np

from .library import loaded

MAGLEV_SLOTS = 65537  # prime, so every step visits every slot

_DECLARATIONS = """
void build_ring(uint16_t *ring, uint32_t slots, const uint16_t *servers, uint32_t *at,
                const uint32_t *steps, uint32_t count);
"""


def maglev_ring(servers: Sequence[int]) -> np.ndarray:
    """A server for each of MAGLEV_SLOTS slots; servers take turns in the order of their names."""
    ring = np.zeros(MAGLEV_SLOTS, np.uint16)
    if not len(servers):
        return ring
    order = sorted(servers, key=str)
    starts, steps = zip(*(walk(int(server)) for server in order), strict=True)
    ffi, library = _library()
    library.build_ring(
        ffi.from_buffer("uint16_t[]", ring),
        MAGLEV_SLOTS,
        ffi.new("uint16_t[]", [int(server) for server in order]),
        ffi.new("uint32_t[]", starts),
        ffi.new("uint32_t[]", steps),
        len(order),
    )
    return ring


@cache
def walk(server: int) -> tuple[int, int]:
    """Start and step of a server's walk over all slots."""
    digest = blake2b(b"real%d" % server, digest_size=16).digest()
    start = int.from_bytes(digest[:8], "big") % MAGLEV_SLOTS
    return start, int.from_bytes(digest[8:], "big") % (MAGLEV_SLOTS - 1) + 1


@cache
def _library() -> tuple[cffi.FFI, object]:
    return loaded("maglev", _DECLARATIONS)
