"""A daemon's admin seat: HTTP with JSON over a Unix socket, readable by its owner alone.

Owns the socket, the routes' plumbing, /events and /metrics. GET shows and never changes; POST
changes. The shapes are those of `gslb.fleet.views`; a refusal carries the exit code for the CLI.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec
from aiohttp import web

from gslb.fleet.config import ConfigError
from gslb.fleet.views import Refusal
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode, Refused
from gslb.service.metrics import Registry

Handler = Callable[[Mapping[str, str]], Awaitable[msgspec.Struct]]
Streamer = Callable[[Mapping[str, str]], AsyncGenerator[bytes, None]]
_encoder = msgspec.json.Encoder()
_HTTP_OF = {ExitCode.USAGE: 400, ExitCode.UNSAFE: 409, ExitCode.CONFIG: 422}


class AdminRefusal(Exception):
    """A verb was refused, with the exit code that the CLI shall end with."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AdminServer:
    """The admin socket of one daemon; a Part."""

    def __init__(self, path: Path, events: EventLog, registry: Registry) -> None:
        self._path = path
        self._events = events
        self._registry = registry
        self.ready = asyncio.Event()
        self._app = web.Application(client_max_size=64 * 1024)
        self._app.router.add_get("/events", self._show_events)
        self._app.router.add_get("/metrics", self._show_metrics)

    def show(self, path: str, handler: Handler) -> None:
        """Serve GET `path`; the handler may not change anything."""

        async def serve(request: web.Request) -> web.Response:
            return await self._reply(handler, dict(request.query))

        self._app.router.add_get(path, serve)

    def change(self, path: str, handler: Handler) -> None:
        """Serve POST `path`, with a JSON object of strings as its parameters."""

        async def serve(request: web.Request) -> web.Response:
            try:
                params = await _body(request)
            except AdminRefusal as refusal:
                return _refuse(refusal.code, refusal.message)
            return await self._reply(handler, params)

        self._app.router.add_post(path, serve)

    def stream(self, path: str, content_type: str, streamer: Streamer) -> None:
        """Serve POST `path` as bytes that come piece by piece, until it or the client ends.

        What is raised before the first piece is a refusal. Empty pieces give the server a moment to
        see that its client has left, and are not sent.
        """

        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                pieces = streamer(await _body(request))
                first = await anext(pieces)
            except AdminRefusal as refusal:
                return _refuse(refusal.code, refusal.message)
            stream = web.StreamResponse(headers={"Content-Type": content_type})
            async with aclosing(pieces):
                with suppress(ConnectionResetError):
                    await stream.prepare(request)
                    await stream.write(first)
                    async for piece in pieces:
                        if piece:
                            await stream.write(piece)
                        if request.transport is None or request.transport.is_closing():
                            break
            return stream

        self._app.router.add_post(path, serve)

    async def run(self) -> None:
        """Serve until cancelled; the socket file is removed at the end."""
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        listener = self._bind()
        try:
            await web.SockSite(runner, listener).start()
            self.ready.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            with suppress(OSError):
                self._path.unlink()

    def _bind(self) -> socket.socket:
        """The listening socket. A dead daemon's file is replaced: the lock says that none lives."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError as error:
            listener.close()
            text = f"admin socket {self._path}: {error.strerror or error}; set $.host.admin_socket"
            raise Refused(ExitCode.FAILED, text) from None
        return listener

    async def _reply(self, handler: Handler, params: Mapping[str, str]) -> web.Response:
        try:
            view = await handler(params)
        except AdminRefusal as refusal:
            return _refuse(refusal.code, refusal.message)
        except ConfigError as error:
            return _refuse(ExitCode.CONFIG, str(error))
        return web.Response(body=_encoder.encode(view), content_type="application/json")

    async def _show_events(self, request: web.Request) -> web.StreamResponse:
        since = request.query.get("since", "0")
        if not since.isdigit():
            return _refuse(ExitCode.USAGE, f"since: `{since}` is not a number")
        if request.query.get("follow") != "1":
            lines = b"".join(_encoder.encode(e) + b"\n" for e in self._events.since(int(since)))
            return web.Response(body=lines, content_type="application/x-ndjson")
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await stream.prepare(request)
        with suppress(ConnectionResetError):
            async for record in self._events.follow(int(since)):
                await stream.write(_encoder.encode(record) + b"\n")
        return stream

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._registry.render(), headers=headers)


async def _body(request: web.Request) -> dict[str, str]:
    """The parameters of a POST."""
    try:
        body = await request.read()
        return msgspec.json.decode(body, type=dict[str, str]) if body else {}
    except msgspec.DecodeError as error:
        text = f"the body is not an object of strings: {error}"
        raise AdminRefusal(ExitCode.USAGE, text) from None


def _refuse(code: ExitCode, message: str) -> web.Response:
    body = _encoder.encode(Refusal(code=int(code), message=message))
    return web.Response(body=body, status=_HTTP_OF.get(code, 500), content_type="application/json")
