"""One health check of one real: tcp, http or https, with its own words for each failure.

Owns the conversation with the real, called by `edge_lb.checker` only. It never judges: rise and
fall are `edge_lb.judge`. Certificates are not verified: a check asks whether the real serves, and
its certificate is for the name that clients use, seldom for the address that is checked.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from types import SimpleNamespace

import aiohttp

from gslb.fleet.model import Address, Check, CheckKind
from gslb.service import clock

BODY_MAX = 64 * 1024  # bytes of a body that are read; the rest is not worth a check's time
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE
_mark: ContextVar[int] = ContextVar("mark", default=0)  # aiohttp makes sockets out of our sight


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found. `reason` is for a person."""

    ok: bool
    reason: str
    duration_ms: float


class _Failure(Exception):
    """A check failed; the text says how."""


async def run_check(
    check: Check, address: Address, session: aiohttp.ClientSession, mark: int = 0
) -> CheckResult:
    """Check once, at `address`, within `check.timeout_s`; never raises for the real's failure.

    `mark` is put on every packet: it names the real where `address` is a VIP.
    """
    started_s = clock.monotonic_s()
    _mark.set(mark)
    trace = SimpleNamespace(connected=False)
    ok = False
    try:
        if mark and _is_own(address):
            raise _Failure('the VIP is an address of this edge: check it with via = "direct"')
        async with asyncio.timeout(check.timeout_s):
            if check.kind is CheckKind.TCP:
                reason = await _tcp(check, address)
            else:
                reason = await _http(check, address, session, trace)
        ok = True
    except TimeoutError:
        if trace.connected:
            what = "no answer within"
        else:
            what = f"{'TLS ' if check.kind is CheckKind.HTTPS else ''}connect timeout"
        reason = f"{what} {check.timeout_s:.1f} s"
        if mark and not trace.connected:
            reason += " through the tunnel"
    except (_Failure, OSError, aiohttp.ClientError) as error:
        reason = _words(error)
    return CheckResult(
        ok=ok, reason=reason, duration_ms=round((clock.monotonic_s() - started_s) * 1000, 3)
    )


def open_session() -> aiohttp.ClientSession:
    """A session whose every check makes a connection of its own: accepting is part of serving."""
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(_note_connected)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, force_close=True, ssl=_TLS, socket_factory=_marked_socket
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # the check's own bounds everything
        auto_decompress=False,
        trace_configs=[tracing],
    )


async def _note_connected(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateEndParams,
) -> None:
    context.trace_request_ctx.connected = True


def _marked_socket(place: aiohttp.AddrInfoType) -> socket.socket:
    """A TCP socket whose packets carry the mark of the check that runs in this context."""
    made = socket.socket(place[0], socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if _mark.get():
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, _mark.get())
    except OSError:
        made.close()
        raise
    return made


def _is_own(address: Address) -> bool:
    """Whether the kernel keeps packets for this address: a check would meet this very host."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((str(address), 9))  # sends nothing, but finds the route and the source
        except OSError:
            return False
        return ip_address(asked.getsockname()[0]) == address


async def _tcp(check: Check, address: Address) -> str:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    where = (str(address), check.port)
    with _marked_socket((family, socket.SOCK_STREAM, 0, "", where)) as connection:
        await asyncio.get_running_loop().sock_connect(connection, where)
    return "connected"


async def _http(
    check: Check, address: Address, session: aiohttp.ClientSession, trace: SimpleNamespace
) -> str:
    host = f"[{address}]" if address.version == 6 else str(address)
    async with session.get(
        f"{check.kind}://{host}:{check.port}{check.path}",
        headers={"Host": check.host, "User-Agent": "waypost-check"},
        allow_redirects=False,
        server_hostname=check.host if check.kind is CheckKind.HTTPS else None,
        trace_request_ctx=trace,
    ) as response:
        if response.status != check.expect_status:
            raise _Failure(f"status {response.status}, expected {check.expect_status}")
        await _read_some(response)
    return f"status {check.expect_status}"


async def _read_some(response: aiohttp.ClientResponse) -> None:
    """Read the body, at most BODY_MAX bytes: one that breaks off is a failure."""
    left = BODY_MAX
    while left > 0:
        chunk = await response.content.read(left)
        if not chunk:
            return
        left -= len(chunk)
    response.close()


def _words(error: Exception) -> str:
    """One short line for a failure; the foreign libraries' sentences name addresses and repeat."""
    match error:
        case _Failure():
            return str(error)
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return f"TLS handshake failed: {getattr(error, 'reason', None) or error}"
        case aiohttp.ClientPayloadError():
            return "body broken off"
        case aiohttp.ServerDisconnectedError():
            return "closed without an answer"
        case aiohttp.ClientResponseError():
            return "not an HTTP answer"
        case OSError() if error.errno:
            return os.strerror(error.errno).lower()
        case _:
            return str(error) or type(error).__name__
