"""Fixtures of the data plane's tests: objects, a private network, private copies, pins."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf import program
from bpf.compile import compile_stale
from bpf.real_trial import Unwrapper
from bpf.trial import Balancer
from bpf.workbench import Workbench


@pytest.fixture(scope="session")
def objects() -> None:
    """Objects as new as their sources."""
    compile_stale()


@pytest.fixture(scope="module")
def bench(objects: None) -> Iterator[Workbench]:
    """This thread in a namespace of its own, until the module's end."""
    with Workbench() as made:
        yield made


@pytest.fixture(scope="module")
def balancer(bench: Workbench) -> Iterator[Balancer]:
    """A private lb.bpf.c with one service of every kind."""
    made = Balancer(bench)
    yield made
    made.close()


@pytest.fixture(scope="module")
def unwrapper(bench: Workbench) -> Iterator[Unwrapper]:
    """A private real.bpf.c with one VIP bound."""
    made = Unwrapper(bench)
    yield made
    made.close()


@pytest.fixture
def pin_dir(objects: None, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the BPF file system that is gone afterwards, with all that it held attached."""
    folder = program.BPFFS / f"waypost_test_{os.getpid()}" / request.node.name[:40]
    yield folder
    program.unload(folder)
    shutil.rmtree(folder.parent, ignore_errors=True)
