"""Fixtures of the tests that need network namespaces."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from site_world import SiteWorld

from bpf.compile import compile_stale


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SiteWorld]:
    """A namespace with a network card, gone afterwards with all that it held."""
    compile_stale()
    made = SiteWorld(tmp_path, request.node.name[-8:].strip("_"))
    yield made
    made.close()
