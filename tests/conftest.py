"""Which tests may run beside each other: `make test` runs the suite in two lanes.

One lane has the tests that build namespaces or the lab: they wait more than they compute, and two
of them would take each other's time limits. The other has all files besides, one after another.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMESPACES = ("netns", "e2e")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group: those of one group run in one lane, in their order."""
    for item in items:
        path = item.path.relative_to(TESTS)
        group = "namespaces" if path.parts[0] in NAMESPACES else str(path)
        item.add_marker(pytest.mark.xdist_group(group))
