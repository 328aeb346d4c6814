"""Counters that survive forks, and the Prometheus text that is made of them.

Owns the shared table of 64-bit counters (one row a worker process, written by that process alone,
so no lock is needed) and the registry of suppliers that are read at scrape time.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

Sample = tuple[dict[str, str], float]
Supplier = Callable[[], Iterable[Sample]]


class CounterRow:
    """One process's counters: `row.add(index)`."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def add(self, index: int, n: int = 1) -> None:
        """Add `n` to the counter of that index."""
        self._cells[index] += n


class CounterTable:
    """Named counters in shared memory, `rows` processes wide.

    Without `path` the memory is anonymous and shared with forked children; with it, it is a file
    that any process opens by the same names and rows (the file is created or resized as needed).
    """

    def __init__(self, names: Sequence[str], rows: int, path: Path | None = None) -> None:
        self.names = tuple(names)
        size = max(len(self.names) * rows * 8, 8)
        if path is None:
            memory = mmap.mmap(-1, size)
        else:
            with path.open("a+b") as file:
                file.truncate(size)
                memory = mmap.mmap(file.fileno(), size)
        self._cells = memoryview(memory).cast("Q")
        self._rows = rows

    def row(self, number: int) -> CounterRow:
        """The counters of one process; only that process may add to them."""
        width = len(self.names)
        return CounterRow(self._cells[number * width : (number + 1) * width])

    def totals(self) -> dict[str, int]:
        """Each counter summed over all processes."""
        width = len(self.names)
        return {
            name: sum(self._cells[row * width + index] for row in range(self._rows))
            for index, name in enumerate(self.names)
        }


class _Supplied(Collector):
    def __init__(
        self, metric: str, text: str, kind: Literal["counter", "gauge"], supplier: Supplier
    ) -> None:
        self._metric = metric
        self._text = text
        self._kind = kind
        self._supplier = supplier

    def collect(self) -> Iterator[Metric]:
        samples = list(self._supplier())
        labels = list(samples[0][0]) if samples else []
        family: CounterMetricFamily | GaugeMetricFamily
        if self._kind == "counter":
            family = CounterMetricFamily(self._metric, self._text, labels=labels)
        else:
            family = GaugeMetricFamily(self._metric, self._text, labels=labels)
        for values, number in samples:
            family.add_metric(list(values.values()), number)
        yield family


class Registry:
    """Metrics of one daemon, each declared once, read when scraped."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self.names: list[str] = []

    def register(
        self, metric: str, text: str, kind: Literal["counter", "gauge"], supplier: Supplier
    ) -> None:
        """Declare a metric; `supplier` returns (labels, value) pairs, all with the same labels."""
        self.names.append(metric)
        self._registry.register(_Supplied(metric, text, kind, supplier))

    def render(self) -> bytes:
        """The Prometheus text exposition of everything now."""
        return generate_latest(self._registry)
