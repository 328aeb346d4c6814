"""A strict reader of the pcapng blocks that the tests meet, written apart from the writer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block; what only packets have is empty elsewhere."""

    kind: int
    options: dict[int, bytes]
    unix_ns: int = 0
    octets: bytes = b""
    length: int = 0


def read_blocks(data: bytes) -> list[Block]:
    """Every block; a broken one fails an assertion."""
    found = []
    while data:
        kind, size = word(data, 0), word(data, 4)
        assert size % 4 == 0
        assert word(data, size - 4) == size
        found.append(read_block(kind, data[8 : size - 4]))
        data = data[size:]
    return found


def read_block(kind: int, body: bytes) -> Block:
    match kind:
        case 0x0A0D0D0A:
            assert word(body, 0) == 0x1A2B3C4D
            assert body[4:8] == b"\x01\x00\x00\x00"
            return Block(kind=kind, options=read_options(body[16:]))
        case 1:
            assert word(body, 0) == 1
            return Block(kind=kind, options=read_options(body[8:]))
        case 5:
            return Block(kind=kind, options=read_options(body[12:]))
        case 6:
            captured = word(body, 12)
            end = 20 + (captured + 3) // 4 * 4
            return Block(
                kind=kind,
                options=read_options(body[end:]),
                unix_ns=word(body, 4) << 32 | word(body, 8),
                octets=body[20 : 20 + captured],
                length=word(body, 16),
            )
    raise AssertionError(f"unknown block {kind}")


def read_options(data: bytes) -> dict[int, bytes]:
    options = {}
    while True:
        code, size = (int.from_bytes(data[at : at + 2], "little") for at in (0, 2))
        data = data[4:]
        if code == 0:
            assert (size, data) == (0, b"")
            return options
        options[code] = data[:size]
        data = data[(size + 3) // 4 * 4 :]


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
