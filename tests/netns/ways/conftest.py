"""The site that the tests of this folder share."""

from collections.abc import Iterator

import pytest
from site_world import SiteWorld

from bpf.compile import compile_stale
from ways.site import SHARED, WAYS, WaySite


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WaySite]:
    """Every VIP checked through its tunnel and found well."""
    compile_stale()
    world = SiteWorld(tmp_path_factory.mktemp("ways"), "ways")
    try:
        made = WaySite(world, (*WAYS.values(), *SHARED.values()))
        try:
            yield made
        finally:
            made.close()
    finally:
        world.close()
