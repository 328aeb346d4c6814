"""The stand's fleet as values, and the HTTP application on it without a server."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network
from typing import Any

from gslb.answer import Answerer
from gslb.fleet.config import build_fleet, parse_toml
from gslb.fleet.fleet_file import FleetFile
from gslb.fleet.health import Override, OverrideKind
from gslb.fleet.model import Address, Fleet
from gslb.fleet.snapshot import Holdings, Snapshot, resolve
from gslb.geo import Locator
from gslb.render import compile_answers
from gslb.service.metrics import CounterTable
from gslb.subset import Chance
from httpdns.app import App, World
from httpdns.caller import Callers
from httpdns.protocol import Outcome
from httpdns.resolve import Resolver
from tests.unit.https_stand import FLEET, ZONE


class CallerLeft(Exception):
    """What this world's exchange raises once its caller is gone."""


def fleet() -> Fleet:
    shape = parse_toml(FLEET.encode(), "fleet.toml", FleetFile)
    return build_fleet(shape, {"example.com": ZONE}, "fleet.toml", "abc", [])


def snapshot(*drained: str) -> Snapshot:
    """Nothing reported yet; the named VIPs are drained by an operator."""
    wills = [
        Override(
            kind=OverrideKind.VIP,
            name=name,
            drained=True,
            by="anna",
            reason="kernel upgrade",
            at_s=0.0,
            generation=number,
        )
        for number, name in enumerate(drained, start=1)
    ]
    return resolve(fleet(), Holdings().merge([], wills, 0.0), 0.0)


def answerer(view: Snapshot) -> Answerer:
    return Answerer(compile_answers(view, Locator(view.fleet)))


def resolver(view: Snapshot) -> Resolver:
    inner = answerer(view)

    def ask_dns(query: bytes, client: Address, rng: Chance) -> bytes | None:
        return inner.answer(query, client, tcp=True, rng=rng)

    return Resolver(view, Locator(view.fleet), ask_dns)


class Request:
    """A request as RSGI describes it."""

    def __init__(
        self,
        path: str,
        query: str = "",
        *,
        method: str = "GET",
        client: str = "198.51.100.7:40000",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.client, self.method, self.path, self.query_string = client, method, path, query
        self.headers = HeaderLines(headers)


class HeaderLines:
    """Headers in order, as RSGI gives them."""

    def __init__(self, lines: Sequence[tuple[str, str]]) -> None:
        self._lines = list(lines)

    def __contains__(self, key: str) -> bool:
        return any(name == key for name, _ in self._lines)

    def get(self, key: str) -> str | None:
        return next((value for name, value in self._lines if name == key), None)

    def items(self) -> list[tuple[str, str]]:
        return self._lines


class Wire:
    """The body of one request, and the response that came of it.

    `None` in a body: the caller hangs up. `stalls`: it stays and sends no more.
    """

    def __init__(self, *chunks: bytes | None, stalls: bool = False) -> None:
        self._chunks = chunks
        self._stalls = stalls
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if chunk is None:
                raise CallerLeft
            yield chunk
        if self._stalls:
            await asyncio.Event().wait()

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.status, self.headers = status, dict(headers)

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = status, dict(headers), body

    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """The application with its counters."""

    def __init__(self, *drained: str, trusted: Sequence[str] = (), names_max: int = 4) -> None:
        view = snapshot(*drained)
        self.table = CounterTable(list(Outcome), 1)
        world = World(
            resolver=resolver(view),
            answerer=answerer(view),
            callers=Callers([ip_network(text) for text in trusted]),
            names_max=names_max,
            generation=view.generation,
        )
        self.app = App(
            world,
            counters=self.table.row(0),
            rng=random.Random(1),
            store_lost=lambda: False,
            gone=(CallerLeft,),
            version="1.2.3",
            body_timeout_s=0.01,
        )

    def ask(self, request: Request, *body: bytes | None, stalls: bool = False) -> Wire:
        """One request, served."""
        wire = Wire(*body, stalls=stalls)
        asyncio.run(self.app(request, wire))
        return wire

    def counted(self) -> dict[str, int]:
        """The outcomes that were counted."""
        return {name: total for name, total in self.table.totals().items() if total}
