"""One lab a module: brought up once, taken down whatever happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.lab import lab as labs
from ops.lab import paths
from ops.lab.lab import Lab


def _quiet(_text: str) -> None:
    """The tests need no progress."""


def _crashes() -> str:
    """What the lab's daemons wrote of programming errors; empty if none met one."""
    logs = {path.name: path.read_text(errors="replace") for path in paths.LOG_DIR.glob("*.log")}
    return "\n".join(
        f"{name}: {text[text.index('Traceback') :]}"
        for name, text in logs.items()
        if "Traceback" in text
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.alone():
        running = labs.up(_quiet, redis=False)
        try:
            yield running
            crashes = _crashes()
            assert not crashes, crashes
        finally:
            labs.down(_quiet)


@pytest.fixture(scope="module")
def redis_lab() -> Iterator[Lab]:
    with labs.alone():
        running = labs.up(_quiet, redis=True, resilient=True)
        try:
            yield running
            crashes = _crashes()
            assert not crashes, crashes
        finally:
            labs.down(_quiet)
