"""The HTTP application: one request in, one response out, one outcome counted.

Owns paths, methods, media types, limits and headers. The dialects read and write; `resolve` and
`gslb.answer` answer. Run by `httpdns.worker`; never raises to the server, never blocks the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import msgspec

from gslb.answer import Answerer
from gslb.fleet.model import Address
from gslb.service import log
from gslb.service.metrics import CounterRow
from gslb.subset import Chance
from httpdns.caller import Callers, peer_address
from httpdns.dialects import doh, native
from httpdns.openapi import document
from httpdns.protocol import (
    DNS_BODY_BYTES_MAX,
    DOH_PATH,
    ERRORS,
    HEALTH_PATH,
    INDEX_PATH,
    JSON_BODY_BYTES_MAX,
    OPENAPI_PATH,
    OUTCOME_INDEX,
    RESOLVE_PATH,
    ErrorCode,
    Fault,
    Health,
    Index,
    Outcome,
    ResolveBody,
)
from httpdns.resolve import Resolver
from httpdns.wire import Truncated, freshness_s

BODY_TIMEOUT_S = 5.0  # for the whole body; 4 or 16 KiB arrive in one or two segments
_READ = ("GET", "HEAD")
_READ_WRITE = ("GET", "HEAD", "POST")
_METHODS = {
    RESOLVE_PATH: _READ_WRITE,
    DOH_PATH: _READ_WRITE,
    OPENAPI_PATH: _READ,
    HEALTH_PATH: _READ,
    INDEX_PATH: _READ,
}
_SERVER = ("server", "waypost")
_JSON = ("content-type", native.MEDIA_TYPE)
_DNS = ("content-type", doh.MEDIA_TYPE)
_NO_STORE = ("cache-control", "no-store")
_encoder = msgspec.json.Encoder()
_peer = lru_cache(maxsize=8192)(peer_address)


class Headers(Protocol):
    """The headers of a request; names in lower case, repeated ones kept."""

    def __contains__(self, key: str) -> bool:
        """Whether the header is there."""

    def get(self, key: str) -> str | None:
        """The first value, or None."""

    def items(self) -> list[tuple[str, str]]:
        """Every header line in order."""


class Scope(Protocol):
    """A request up to its body, as RSGI hands it over."""

    client: str
    method: str
    path: str
    query_string: str

    @property
    def headers(self) -> Headers:
        """The headers."""


class Exchange(Protocol):
    """The rest of a request and the way to respond (RSGI's HTTP protocol)."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, in pieces."""

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Respond without a body."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Respond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What requests are answered from; replaced as one when the snapshot or the config changes."""

    resolver: Resolver
    answerer: Answerer
    callers: Callers
    names_max: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response before it is sent."""

    outcome: Outcome
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class App:
    """Answers requests from the installed World."""

    def __init__(
        self,
        world: World,
        *,
        counters: CounterRow,
        rng: Chance,
        store_lost: Callable[[], bool],
        gone: tuple[type[Exception], ...],
        version: str,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        """`gone` is what an exchange raises once its caller has left."""
        self._world = world
        self._counters = counters
        self._rng = rng
        self._store_lost = store_lost
        self._gone = gone
        self._body_timeout_s = body_timeout_s
        self._index = _encoder.encode(Index(version=version))
        self._openapi = _encoder.encode(document(version))

    def install(self, world: World) -> None:
        """Answer from a newer world from the next request on."""
        self._world = world

    async def __call__(self, scope: Scope, protocol: Exchange) -> None:
        """Serve one request (RSGI)."""
        try:
            response = await self._respond(scope, protocol)
        except self._gone:
            self._counters.add(OUTCOME_INDEX[Outcome.CLIENT_GONE])
            return
        except Exception:  # noqa: BLE001 - one request's fault must not end the others
            log.get().exception("request.failed", path=scope.path[:64])
            response = _refuse(Fault(code=ErrorCode.INTERNAL))
        self._counters.add(OUTCOME_INDEX[response.outcome])
        if scope.method == "HEAD":
            length = ("content-length", str(len(response.body)))
            protocol.response_empty(response.status, [*response.headers, _SERVER, length])
        else:
            protocol.response_bytes(response.status, [*response.headers, _SERVER], response.body)

    async def _respond(self, scope: Scope, protocol: Exchange) -> Response:
        path, method = scope.path, scope.method
        allowed = _METHODS.get(path)
        if allowed is None:
            return _refuse(Fault(code=ErrorCode.PATH_UNKNOWN))
        if method not in allowed:
            return _refuse(Fault(code=ErrorCode.METHOD_NOT_ALLOWED, allow=allowed))
        if path == RESOLVE_PATH:
            wish: ResolveBody | Fault
            if method == "POST":
                body = await self._body(scope, protocol, native.MEDIA_TYPE, JSON_BODY_BYTES_MAX)
                wish = body if isinstance(body, Fault) else native.read_body(body)
            else:
                wish = native.read_query(scope.query_string)
            return _refuse(wish) if isinstance(wish, Fault) else self._resolve(wish, scope)
        if path == DOH_PATH:
            if method == "POST":
                query = await self._body(scope, protocol, doh.MEDIA_TYPE, DNS_BODY_BYTES_MAX)
                query = query if isinstance(query, Fault) else doh.read_body(query)
            else:
                query = doh.read_query(scope.query_string)
            return _refuse(query) if isinstance(query, Fault) else self._dns(query, scope)
        return self._page(path)

    def _resolve(self, wish: ResolveBody, scope: Scope) -> Response:
        world = self._world
        peer, forwarded = _caller(scope)
        ask = native.to_ask(wish, world.callers, peer, forwarded, world.names_max)
        if isinstance(ask, Fault):
            return _refuse(ask)
        reply = world.resolver.resolve(ask, self._rng)
        partly = any(name.error is not msgspec.UNSET for name in reply.names)
        return Response(
            outcome=Outcome.RESOLVED_PARTLY if partly else Outcome.RESOLVED,
            status=200,
            headers=[_JSON, _cache(native.freshness_s(reply))],
            body=native.write(reply),
        )

    def _dns(self, query: bytes, scope: Scope) -> Response:
        world = self._world
        peer, forwarded = _caller(scope)
        client = world.callers.client(peer, forwarded, "")
        if isinstance(client, Fault):
            return _refuse(client)
        message = world.answerer.answer(query, client, tcp=True, rng=self._rng)
        if message is None:
            detail = "the message is a response, or shorter than a header"
            return _refuse(Fault(code=ErrorCode.DNS_MALFORMED, detail=detail))
        try:
            kept_s = freshness_s(message)
        except Truncated:
            kept_s = None
        headers = [_DNS, _cache(kept_s or 0)]
        return Response(outcome=Outcome.DNS_ANSWERED, status=200, headers=headers, body=message)

    async def _body(
        self, scope: Scope, protocol: Exchange, media_type: str, bytes_max: int
    ) -> bytes | Fault:
        """The whole body, or why not; never more of it than allowed is held."""
        stated = scope.headers.get("content-type") or ""
        if stated.partition(";")[0].strip().lower() != media_type:
            detail = f"Content-Type is `{stated[:64]}`" if stated else "there is no Content-Type"
            return Fault(code=ErrorCode.MEDIA_TYPE_UNSUPPORTED, detail=detail)
        length = scope.headers.get("content-length") or ""
        if length.isdigit() and int(length) > bytes_max:
            return Fault(code=ErrorCode.BODY_TOO_LARGE)
        chunks: list[bytes] = []
        taken = 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                async for chunk in protocol:
                    taken += len(chunk)
                    if taken > bytes_max:
                        return Fault(code=ErrorCode.BODY_TOO_LARGE)
                    chunks.append(chunk)
        except TimeoutError:
            return Fault(code=ErrorCode.BODY_TOO_LATE)
        return b"".join(chunks)

    def _page(self, path: str) -> Response:
        if path == OPENAPI_PATH:
            body = self._openapi
        elif path == HEALTH_PATH:
            health = Health(
                status="ok",
                generation=self._world.generation,
                store="lost" if self._store_lost() else "ok",
            )
            body = _encoder.encode(health)
        else:
            body = self._index
        return Response(outcome=Outcome.PAGE, status=200, headers=[_JSON, _NO_STORE], body=body)


def _caller(scope: Scope) -> tuple[Address, list[str]]:
    """The peer, and every X-Forwarded-For header in the order they came."""
    headers = scope.headers
    forwarded: list[str] = []
    if "x-forwarded-for" in headers:
        forwarded = [value for key, value in headers.items() if key == "x-forwarded-for"]
    return _peer(scope.client), forwarded


def _refuse(fault: Fault) -> Response:
    headers = [_JSON, _NO_STORE]
    if fault.allow:
        headers.append(("allow", ", ".join(fault.allow)))
    return Response(
        outcome=Outcome(fault.code.value),
        status=ERRORS[fault.code].status,
        headers=headers,
        body=_encoder.encode(fault.body()),
    )


def _cache(kept_s: int) -> tuple[str, str]:
    """Answers are drawn for one client, so only that client's own cache may keep them."""
    return ("cache-control", f"private, max-age={kept_s}") if kept_s > 0 else _NO_STORE
