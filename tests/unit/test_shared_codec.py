"""Messages of shared flows: what is told is what is heard, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_lb.shared_codec import (
    FLOWS_MAX,
    NUMBER_MAX,
    TOLD_BYTES,
    Batch,
    MalformedBatchError,
    decode,
    encode,
)

WORD = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
NAME = st.builds("{}/{}".format, WORD, WORD)
GOOD = Batch(
    edge="fra-edge1", run=7, number=3, names=("www/web1", "www/web2"), flows=bytes(TOLD_BYTES)
)


@settings(deadline=None)
@given(
    edge=WORD,
    run=st.integers(0, NUMBER_MAX),
    number=st.integers(0, NUMBER_MAX),
    names=st.lists(NAME, min_size=1, max_size=9).map(tuple),
    flows=st.integers(1, 50).flatmap(
        lambda count: st.binary(min_size=count * TOLD_BYTES, max_size=count * TOLD_BYTES)
    ),
)
def test_what_is_told_is_what_is_heard(
    edge: str, run: int, number: int, names: tuple[str, ...], flows: bytes
) -> None:
    batch = Batch(edge=edge, run=run, number=number, names=names, flows=flows)

    heard = decode(encode(batch))

    assert heard == batch
    assert heard.count == len(flows) // TOLD_BYTES


@pytest.mark.parametrize("field", [b"format", b"edge", b"run", b"number", b"names", b"flows"])
def test_a_message_without_a_field_is_refused_by_its_name(field: bytes) -> None:
    fields = {name: value for name, value in encode(GOOD).items() if name != field}

    with pytest.raises(MalformedBatchError, match=f"no field {field.decode()}"):
        decode(fields)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (b"format", b"2", "format b'2' is not known"),
        (b"edge", b"", "no edge"),
        (b"edge", b"\xff", "field edge is no text"),
        (b"run", b"-1", "field run is no number"),
        (b"run", b"%d" % (NUMBER_MAX + 1), "field run is no number"),
        (b"number", b"", "field number is no number"),
        (b"number", b"9" * 5000, "field number is no number"),
        (b"names", b"\xc3\x28", "field names is no text"),
        (b"names", b"\n" * 65_535, "65536 names"),
        (b"flows", b"", "flows of 0 bytes"),
        (b"flows", bytes(TOLD_BYTES - 1), "flows of 11 bytes"),
        (b"flows", bytes(TOLD_BYTES * (FLOWS_MAX + 1)), "flows of 196620 bytes"),
    ],
)
def test_a_damaged_message_is_refused_in_words(field: bytes, value: bytes, words: str) -> None:
    with pytest.raises(MalformedBatchError, match=words):
        decode(encode(GOOD) | {field: value})


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(encode(GOOD))), st.binary(max_size=40)))
def test_no_message_does_worse_than_be_refused(fields: dict[bytes, bytes]) -> None:
    try:
        batch = decode(encode(GOOD) | fields)
    except MalformedBatchError:
        return
    assert batch.flows
    assert batch.names
