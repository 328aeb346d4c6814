"""One daemon's admin socket, as the command line talks to it: HTTP over a Unix socket.

Owns finding the socket, the exchange and its bounds, and turning what went wrong into one line with
the mend. Used by the commands of `ops.cli`. Never judges what a daemon says.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from gslb.fleet.views import EventRecord, Refusal
from gslb.service.lifecycle import ExitCode, Refused

RUN_DIR = Path("/run/waypost")
ROLES = ("edge", "dns", "https", "real")
REPLY_MAX_BYTES = 16 * 1024 * 1024  # a fleet of 10,000 reals is about 3 MB
PIECE_BYTES = 64 * 1024

_BROKE_OFF = "the daemon broke off; see its log"

V = TypeVar("V", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Reply(Generic[V]):
    """A view, and the very bytes that the daemon sent."""

    view: V
    raw: bytes


def find_socket(wanted: Path | None, roles: tuple[str, ...], run_dir: Path = RUN_DIR) -> Path:
    """The admin socket to use: the named one, else the first of `roles` that has one here."""
    if wanted is not None:
        return wanted
    for role in roles:
        path = run_dir / f"{role}.sock"
        if path.exists():
            return path
    names = ",".join(roles) if len(roles) == 1 else "{" + ",".join(roles) + "}"
    text = f"no daemon here: no {run_dir}/{names}.sock; start one, or name it by --socket"
    raise Refused(ExitCode.UNREACHABLE, text)


class AdminClient:
    """Asks the daemon behind `path`. `timeout_s` bounds each wait for it, not a whole stream."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def show(self, route: str, shape: type[V], **query: str) -> Reply[V]:
        """GET: what the daemon shows. Raises Refused."""
        return self._exchange("GET", _with_query(route, query), None, shape)

    def change(self, route: str, shape: type[V], params: Mapping[str, str]) -> Reply[V]:
        """POST: have the daemon change something. Raises Refused with the daemon's own code."""
        return self._exchange("POST", route, json.dumps(dict(params)).encode(), shape)

    def events(self, *, since: int, follow: bool) -> Iterator[Reply[EventRecord]]:
        """Events as they come; with `follow` for ever, until the daemon ends."""
        route = _with_query("/events", {"since": str(since), "follow": "1" if follow else "0"})
        with self._asked("GET", route, None) as (connection, response):
            if follow and connection.sock is not None:
                connection.sock.settimeout(None)
            while line := response.readline(REPLY_MAX_BYTES):
                yield _decoded(line.rstrip(b"\n"), EventRecord, self.path)

    def stream(
        self, route: str, params: Mapping[str, str], *, patience_s: float
    ) -> Iterator[bytes]:
        """POST: bytes as they come. `patience_s` is how long the daemon may have none."""
        body = json.dumps(dict(params)).encode()
        with self._asked("POST", route, body) as (connection, response):
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout_s + patience_s)
            while piece := response.read1(PIECE_BYTES):
                yield piece

    def _exchange(self, method: str, route: str, body: bytes | None, shape: type[V]) -> Reply[V]:
        with self._asked(method, route, body) as (_, response):
            return _decoded(response.read(REPLY_MAX_BYTES), shape, self.path)

    @contextmanager
    def _asked(
        self, method: str, route: str, body: bytes | None
    ) -> Iterator[tuple[_UnixConnection, http.client.HTTPResponse]]:
        connection = _UnixConnection(self.path, self._timeout_s)
        try:
            connection.request(method, route, body=body)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise self._refusal(route, response)
            yield connection, response
        except TimeoutError:
            text = f"{self.path}: no answer within {self._timeout_s:g} s; see its log, or --timeout"
            raise Refused(ExitCode.UNREACHABLE, text) from None
        except (http.client.HTTPException, OSError) as error:
            raise Refused(ExitCode.UNREACHABLE, f"{self.path}: {_why(error)}") from None
        finally:
            connection.close()

    def _refusal(self, route: str, response: http.client.HTTPResponse) -> Refused:
        raw = response.read(REPLY_MAX_BYTES)
        if response.status == http.client.NOT_FOUND:
            what = route.partition("?")[0].strip("/")
            text = f"{self.path}: this daemon has no `{what}`; name another by --socket"
            return Refused(ExitCode.UNSUPPORTED, text)
        try:
            refusal = msgspec.json.decode(raw, type=Refusal)
            return Refused(ExitCode(refusal.code), refusal.message)
        except (msgspec.DecodeError, ValueError):
            text = f"{self.path}: the daemon failed with HTTP {response.status}; see its log"
            return Refused(ExitCode.FAILED, text)


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose peer is a path."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("waypost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; the class's caller closes."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _with_query(route: str, query: Mapping[str, str]) -> str:
    return f"{route}?{urlencode(query)}" if query else route


def _decoded(raw: bytes, shape: type[V], path: Path) -> Reply[V]:
    try:
        return Reply(msgspec.json.decode(raw, type=shape), raw)
    except msgspec.DecodeError as error:
        text = f"{path}: the daemon speaks another version: {error}; upgrade the older of both"
        raise Refused(ExitCode.FAILED, text) from None


def _why(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "no such socket; is the daemon running?"
        case ConnectionRefusedError():
            return "nobody listens there; the daemon has died, start it again"
        case PermissionError():
            return "permission denied; run this as the daemon's user or as root"
        case BrokenPipeError() | ConnectionResetError():
            return _BROKE_OFF
        case OSError(strerror=str(text)) if text:
            return f"{text.lower()}; is this a Waypost admin socket?"
        case _:
            return _BROKE_OFF
