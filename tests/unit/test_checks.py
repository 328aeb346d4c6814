"""Checks against real servers on loopback: what is well, and each failure in its own words."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
import trustme
from site_fleet import CHECK

from edge_lb.checks import BODY_MAX, CheckResult, open_session, run_check
from gslb.fleet.model import Check, CheckKind

HERE = IPv4Address("127.0.0.1")
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on an ephemeral port; its connections end with it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the check has gone
        finally:
            writer.close()

    server = await asyncio.start_server(talk, str(HERE), 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(text: bytes) -> Answer:
    """Reads a request, says `text`, closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return answer


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing, until the check gives up."""
    while await reader.read(1024):
        pass


def http(kind: CheckKind = CheckKind.HTTP, **changes: object) -> Check:
    return replace(CHECK, kind=kind, timeout_s=2.0, **changes)


async def checked(check: Check) -> CheckResult:
    async with open_session() as session:
        return await run_check(check, HERE, session)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_tcp_check_is_well_when_the_handshake_completes():
    async with serving(silent) as port:
        result = await checked(http(CheckKind.TCP, port=port))

    assert (result.ok, result.reason) == (True, "connected")
    assert 0 < result.duration_ms < 2000


async def test_a_check_by_the_tunnel_never_takes_the_edge_itself_for_a_real():
    async with serving(silent) as port, open_session() as session:
        result = await run_check(http(CheckKind.TCP, port=port), HERE, session, mark=0x57500001)

    assert not result.ok
    assert result.reason.startswith("the VIP is an address of this edge")


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.HTTP])
async def test_closed_port_is_refused(kind: CheckKind):
    with closing(socket.create_server((str(HERE), 0))) as listener:
        port = listener.getsockname()[1]

    result = await checked(http(kind, port=port))

    assert (result.ok, result.reason) == (False, "connection refused")


async def test_full_backlog_is_a_connect_timeout():
    with socket.socket() as listener:
        listener.bind((str(HERE), 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection((str(HERE), port)):  # fills the queue of one
            result = await checked(replace(http(CheckKind.TCP, port=port), timeout_s=0.1))

    assert (result.ok, result.reason) == (False, "connect timeout 0.1 s")


async def test_http_check_is_well_with_the_expected_status():
    async with serving(saying(OK)) as port:
        result = await checked(http(port=port))

    assert (result.ok, result.reason) == (True, "status 200")


async def test_host_header_and_path_are_those_of_the_check():
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    async with serving(answer) as port:
        await checked(http(port=port, path="/healthz?deep=1"))

    assert seen[0].startswith(b"GET /healthz?deep=1 HTTP/1.1\r\n")
    assert b"Host: www.example.com\r\n" in seen[0]
    assert b"User-Agent: waypost-check\r\n" in seen[0]


async def test_other_status_is_told_with_the_expected_one():
    async with serving(saying(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as port:
        result = await checked(http(port=port))

    assert (result.ok, result.reason) == (False, "status 503, expected 200")


async def test_redirect_is_a_status_and_is_not_followed():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(saying(moved)) as port:
        result = await checked(http(port=port))
        wanted = await checked(http(port=port, expect_status=302))

    assert result.reason == "status 302, expected 200"
    assert wanted.ok


async def test_server_that_says_nothing_gives_no_answer_in_time():
    async with serving(silent) as port:
        result = await checked(replace(http(port=port), timeout_s=0.2))

    assert (result.ok, result.reason) == (False, "no answer within 0.2 s")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", "body broken off"),
    ],
)
async def test_broken_answer_has_its_own_words(said: bytes, reason: str):
    async with serving(saying(said)) as port:
        result = await checked(http(port=port))

    assert (result.ok, result.reason) == (False, reason)


async def test_endless_body_is_read_to_the_bound_only():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(BODY_MAX))
            await writer.drain()

    async with serving(answer) as port:
        result = await checked(http(port=port))

    assert (result.ok, result.reason) == (True, "status 200")


async def test_https_check_accepts_any_certificate_and_names_its_host():
    names: list[str | None] = []
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example.net").configure_cert(context)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with serving(saying(OK), context) as port:
        result = await checked(http(CheckKind.HTTPS, port=port))

    assert (result.ok, result.reason) == (True, "status 200")
    assert names == ["www.example.com"]


async def test_https_check_of_a_plain_server_fails_in_the_handshake():
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(plain) as port:
        result = await checked(http(CheckKind.HTTPS, port=port))

    assert not result.ok
    assert result.reason.startswith("TLS handshake failed")


async def test_silent_tls_server_is_a_timeout_that_names_tls():
    async with serving(silent) as port:
        result = await checked(replace(http(CheckKind.HTTPS, port=port), timeout_s=0.2))

    assert (result.ok, result.reason) == (False, "TLS connect timeout 0.2 s")
