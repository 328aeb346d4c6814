"""One Redis as the fleet's records use it: how it is reached, and what its failures mean.

Owns the settings of a connection and the translation of errors. Used by `gslb.fleet.redis_store`
and `gslb.fleet.flow_stream` alone; it knows nothing of keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gslb.fleet.store import StoreUnavailable

_RESET = RuntimeError
"""What uvloop raises for a write to a connection that the peer has reset; asyncio's loop writes
into the void there. The client library looks for an end of file before it uses a connection again,
and a reset is none."""


def connect(url: str, *, password: str | None, timeout_s: float) -> Redis:
    """A client of the Redis at `url`; `timeout_s` bounds every exchange. Nothing is sent yet."""
    # One more try at once: a pooled connection may have died with the last server.
    retry = Retry(NoBackoff(), 1)
    # The library's types allow its own errors only; its code retries any.
    retry.update_supported_errors(cast(list[type[RedisError]], [_RESET]))
    return Redis.from_url(
        url,
        password=password,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=retry,
    )


def place_of(url: str) -> str:
    """Where a Redis is, for messages: never a password that came in the URL."""
    return url.rpartition("@")[2]


@contextmanager
def translated(where: str, timeout_s: float) -> Iterator[None]:
    """Anything the client library or the network says becomes StoreUnavailable."""
    try:
        yield
    except TimeoutError as error:
        raise StoreUnavailable(f"{where}: no answer within {timeout_s:g} s") from error
    except (RedisError, OSError, _RESET) as error:
        raise StoreUnavailable(f"{where}: {error}") from error
