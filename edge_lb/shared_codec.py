"""What one edge tells the others of its flows, as the fields of one message and back.

Owns the form of a message: who tells, its number in that edge's telling, the names of the reals
that it speaks of, and the flows in a form that bpf/share.c reads and writes. Pure; used by
`edge_lb.share`. A real is told as VIP/REAL, for indexes and epochs differ from edge to edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FORMAT = b"1"
TOLD_BYTES = 12  # struct told of bpf/share.c
FLOWS_MAX = 16_384  # of one message: 192 KiB
NAMES_MAX = 65_535
NUMBER_MAX = (1 << 64) - 1


class MalformedBatchError(ValueError):
    """A message that is none of ours, or was damaged; in words, what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Flows told together. `run` tells an agent's starts apart; `number` counts within one."""

    edge: str
    run: int
    number: int
    names: tuple[str, ...]  # VIP/REAL
    flows: bytes

    @property
    def count(self) -> int:
        """How many flows it tells of."""
        return len(self.flows) // TOLD_BYTES


def encode(batch: Batch) -> dict[bytes, bytes]:
    """The message's fields."""
    return {
        b"format": FORMAT,
        b"edge": batch.edge.encode(),
        b"run": b"%d" % batch.run,
        b"number": b"%d" % batch.number,
        b"names": "\n".join(batch.names).encode(),
        b"flows": batch.flows,
    }


def decode(fields: Mapping[bytes, bytes]) -> Batch:
    """The batch of a message. Raises MalformedBatchError."""
    form = _field(fields, b"format")
    if form != FORMAT:
        raise MalformedBatchError(f"format {form[:16]!r} is not known")
    names = tuple(_text(fields, b"names").split("\n"))
    flows = _field(fields, b"flows")
    if len(names) > NAMES_MAX:
        raise MalformedBatchError(f"{len(names)} names")
    if not flows or len(flows) % TOLD_BYTES or len(flows) > FLOWS_MAX * TOLD_BYTES:
        raise MalformedBatchError(f"flows of {len(flows)} bytes")
    edge = _text(fields, b"edge")
    if not edge:
        raise MalformedBatchError("no edge tells it")
    return Batch(
        edge=edge,
        run=_number(fields, b"run"),
        number=_number(fields, b"number"),
        names=names,
        flows=flows,
    )


def _field(fields: Mapping[bytes, bytes], name: bytes) -> bytes:
    try:
        return fields[name]
    except KeyError:
        raise MalformedBatchError(f"no field {name.decode()}") from None


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    try:
        return _field(fields, name).decode()
    except UnicodeDecodeError:
        raise MalformedBatchError(f"field {name.decode()} is no text") from None


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int:
    raw = _field(fields, name)
    if not raw.isdigit() or len(raw) > len(str(NUMBER_MAX)) or int(raw) > NUMBER_MAX:
        raise MalformedBatchError(f"field {name.decode()} is no number")
    return int(raw)
