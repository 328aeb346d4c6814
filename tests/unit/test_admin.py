"""The admin socket: show, change, refuse, follow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gslb.fleet.views import Done
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode, Refused
from gslb.service.metrics import Registry


class Seat:
    """A running admin server and a client of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = EventLog()
        self.server = AdminServer(path, self.events, Registry())
        self.server.show("/echo", self._echo)
        self.server.change("/change", self._echo)
        self.server.change("/refuse", self._refuse)
        self.server.stream("/stream", "text/plain", self._pieces)
        self.stream_ended = asyncio.Event()

    async def _echo(self, params: Mapping[str, str]) -> msgspec.Struct:
        return Done(message=json.dumps(dict(params), sort_keys=True))

    async def _pieces(self, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        if params.get("refused"):
            raise AdminRefusal(ExitCode.RUNNING, "another one runs")
        try:
            yield b"first"
            yield b""
            yield b" second"
            while params.get("endless"):
                await asyncio.sleep(0)
                yield b""
        finally:
            self.stream_ended.set()

    async def _refuse(self, params: Mapping[str, str]) -> msgspec.Struct:
        raise AdminRefusal(ExitCode.UNSAFE, "no real would be left; use --force")


@pytest.fixture
async def seat(tmp_path: Path) -> AsyncIterator[tuple[Seat, aiohttp.ClientSession]]:
    one = Seat(tmp_path / "admin.sock")
    task = asyncio.create_task(one.server.run())
    await one.server.ready.wait()
    connector = aiohttp.UnixConnector(path=str(one.path))
    async with aiohttp.ClientSession(connector=connector, base_url="http://admin") as client:
        yield one, client
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not one.path.exists()


async def test_show_takes_the_query_and_change_the_body(seat) -> None:
    _, client = seat

    shown = await (await client.get("/echo", params={"name": "a"})).json()
    changed = await (await client.post("/change", data='{"name":"b"}')).json()

    assert shown == {"message": '{"name": "a"}', "schema": "waypost/done/1"}
    assert changed["message"] == '{"name": "b"}'


async def test_a_show_route_refuses_post_and_a_change_route_get(seat) -> None:
    _, client = seat

    assert (await client.post("/echo")).status == 405
    assert (await client.get("/change")).status == 405


async def test_a_refusal_carries_the_exit_code_and_the_mend(seat) -> None:
    _, client = seat

    reply = await client.post("/refuse")

    assert reply.status == 409
    assert await reply.json() == {
        "code": 6,
        "message": "no real would be left; use --force",
        "schema": "waypost/refusal/1",
    }


@pytest.mark.parametrize("body", ["[1]", "{", '{"a": 1}', "\x00"])
async def test_a_malformed_body_is_refused_by_name(seat, body: str) -> None:
    _, client = seat

    reply = await client.post("/change", data=body)

    assert reply.status == 400
    assert (await reply.json())["code"] == ExitCode.USAGE


async def test_events_are_lines_and_can_be_followed(seat) -> None:
    one, client = seat
    one.events.add("config.reloaded")

    lines = (await (await client.get("/events")).text()).splitlines()
    follow = await client.get("/events", params={"follow": "1", "since": "1"})
    one.events.add("health.changed", real="web1")
    async with asyncio.timeout(5):
        line = await follow.content.readline()
    follow.close()

    assert [json.loads(text)["name"] for text in lines] == ["config.reloaded"]
    assert json.loads(line)["detail"] == {"real": "web1"}


async def test_a_stream_gives_its_pieces_or_a_refusal(seat) -> None:
    _, client = seat

    given = await client.post("/stream")
    refused = await client.post("/stream", data='{"refused": "yes"}')

    assert (given.content_type, await given.text()) == ("text/plain", "first second")
    assert (await refused.json())["code"] == ExitCode.RUNNING


async def test_a_stream_ends_when_its_client_leaves(seat) -> None:
    one, client = seat

    stream = await client.post("/stream", data='{"endless": "yes"}')
    assert await stream.content.readexactly(12) == b"first second"
    stream.close()

    async with asyncio.timeout(5):
        await one.stream_ended.wait()


async def test_the_socket_is_for_its_owner_alone(seat) -> None:
    one, _ = seat

    assert one.path.stat().st_mode & 0o777 == 0o600


async def test_a_socket_path_that_cannot_be_is_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = AdminServer(tmp_path / "file" / "admin.sock", EventLog(), Registry())

    with pytest.raises(Refused, match="admin_socket"):
        await server.run()
