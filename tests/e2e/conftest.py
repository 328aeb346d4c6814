"""One lab a module: brought up once, taken down whatever happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.lab import lab as labs
from ops.lab.lab import Lab


def _quiet(_text: str) -> None:
    """The tests need no progress."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.alone():
        running = labs.up(_quiet, redis=False)
        try:
            yield running
        finally:
            labs.down(_quiet)


@pytest.fixture(scope="module")
def redis_lab() -> Iterator[Lab]:
    with labs.alone():
        running = labs.up(_quiet, redis=True, resilient=True)
        try:
            yield running
        finally:
            labs.down(_quiet)
