"""Counters over processes, and their exposition."""

from __future__ import annotations

import os
from pathlib import Path

from gslb.service.metrics import CounterTable, Registry


def test_rows_of_several_processes_add_up() -> None:
    table = CounterTable(["answered", "refused"], rows=2)
    child = os.fork()
    if child == 0:
        table.row(1).add(0, 41)
        os._exit(0)
    os.waitpid(child, 0)
    table.row(0).add(0)
    table.row(0).add(1, 7)

    assert table.totals() == {"answered": 42, "refused": 7}


def test_a_table_on_a_file_is_seen_by_whoever_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    CounterTable(["a", "b"], rows=2, path=path).row(1).add(1, 5)

    assert CounterTable(["a", "b"], rows=2, path=path).totals() == {"a": 0, "b": 5}


def test_the_exposition_names_each_metric_once_with_its_labels() -> None:
    registry = Registry()
    registry.register(
        "waypost_queries", "Queries by outcome.", "counter", lambda: [({"outcome": "answered"}, 3)]
    )
    registry.register("waypost_up", "Whether all is well.", "gauge", lambda: [({}, 1)])

    text = registry.render().decode()

    assert 'waypost_queries_total{outcome="answered"} 3.0' in text
    assert "waypost_up 1.0" in text
    assert registry.names == ["waypost_queries", "waypost_up"]
