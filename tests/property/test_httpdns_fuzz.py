"""Whatever a stranger sends is answered by the table: no traceback, no 500, one outcome counted."""

from __future__ import annotations

import random
import string
from base64 import urlsafe_b64encode
from contextlib import suppress
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from httpdns.dialects import native
from httpdns.protocol import ERRORS, Ask, ErrorCode, Fault, RecordType
from httpdns.wire import Truncated, freshness_s, hear
from tests.unit.https_world import Request, Site, resolver, snapshot

SITE = Site()
RESOLVER = resolver(snapshot())
STATUSES = {kind.status for code, kind in ERRORS.items() if code is not ErrorCode.INTERNAL}
QUERY_TEXT = st.text(string.ascii_letters + string.digits + "=&%+.,;-_~/?:@é\0", max_size=300)
NAMES = st.text(max_size=80) | st.sampled_from(
    ["www", "any", "docs", "cdn", "lab", "a.lab", "x"]
).map(lambda label: f"{label}.example.com")


@given(
    path=st.sampled_from(["/v1/resolve", "/dns-query", "/", "/healthz", "/x"]),
    query=QUERY_TEXT | QUERY_TEXT.map(lambda text: f"name={text}"),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "get", ""]),
    forwarded=st.lists(st.text(max_size=60), max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_any_query_string_is_answered_by_the_table(
    path: str, query: str, method: str, forwarded: list[str]
) -> None:
    site = Site(trusted=["198.51.100.0/24"])
    headers = [("x-forwarded-for", text) for text in forwarded]

    wire = site.ask(Request(path, query, method=method, headers=headers))

    assert wire.status in STATUSES
    assert sum(site.counted().values()) == 1


@given(body=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode()))
@settings(max_examples=300, deadline=None)
def test_any_json_body_is_answered_by_the_table(body: bytes) -> None:
    headers = [("content-type", "application/json")]

    wire = SITE.ask(Request("/v1/resolve", method="POST", headers=headers), body)

    assert wire.status in STATUSES


@given(names=st.lists(NAMES, min_size=1, max_size=4), seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_any_names_are_answered_one_entry_each(names: list[str], seed: int) -> None:
    distinct = tuple(dict.fromkeys(names))
    ask = Ask(names=distinct, types=tuple(RecordType), client=ip_address("198.51.100.7"))

    reply = RESOLVER.resolve(ask, random.Random(seed))

    assert tuple(entry.name for entry in reply.names) == distinct
    assert all(entry.ttl_s >= 0 for entry in reply.names)


@given(message=st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_dns_message_is_answered_or_refused(message: bytes) -> None:
    headers = [("content-type", "application/dns-message")]
    text = urlsafe_b64encode(message).decode().rstrip("=")

    posted = SITE.ask(Request("/dns-query", method="POST", headers=headers), message)
    asked = SITE.ask(Request("/dns-query", f"dns={text}"))

    assert posted.status == asked.status
    assert posted.status in {200, 400}


@given(message=st.binary(max_size=200), head=st.booleans())
@settings(max_examples=400, deadline=None)
def test_reading_an_answer_ends_for_any_bytes(message: bytes, *, head: bool) -> None:
    if head:
        message = bytes.fromhex("000080000000000300020001") + message
    ends = 0
    for read in (lambda: hear(message, RecordType.A), lambda: freshness_s(message)):
        with suppress(Truncated):
            read()
        ends += 1

    assert ends == 2


@given(query=st.text(string.ascii_lowercase + "=&.,", max_size=120))
@settings(max_examples=300, deadline=None)
def test_the_fast_split_of_a_query_is_that_of_the_standard_library(query: str) -> None:
    fast = native.read_query(query)
    slow = native.read_query(f"{query}&x=%20")

    assert isinstance(fast, Fault) == isinstance(slow, Fault)
    assert fast == slow
