"""The survival bench works from its command line to its last line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from survival import line_up, pictures
from survival.pictures import draw
from survival.report import percent, placed, tables

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300


def test_the_quick_bench_ends_in_one_object_and_its_pictures_are_the_same_again(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "tests/bench/bench_survival.py", "--quick", "--pictures", tmp_path]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    drawn = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    for path in draw(line["worlds"], tmp_path / "again"):
        assert drawn[path.name] == path.read_text()

    rows = line["worlds"]["short"]["20"]
    assert set(line["wrong"].values()) == {0}
    assert rows["mod-N"]["broken_share"] > rows["Maglev"]["broken_share"] > 0
    assert rows["chains of 1"]["broken_share"] >= rows["chains of 3"]["broken_share"]
    assert set(pictures.STYLES) <= set(rows)
    assert {run["JET"] for run in line["anchor"]["last out, first in"]} == {0}


PAGE = Path("docs/performance.md")


def test_every_table_has_its_place_in_the_text() -> None:
    row = {
        "connections": 1_400_000.0,
        "broken_share": 0.00012345,
        "broken_share_pm": 0.0000456,
        "detour_share": 0.0156,
        "extra_hops": 0.0161,
        "max_over_mean": 1.345,
        "state_bytes": 524_296.0,
    }
    sized = {line_up.sized(name, size): row for name in line_up.NAMES for size in line_up.SIZES}
    runs = {"last out, first in": [{"seed": 7, "connections": 4, "full tracking": 2, "JET": 0}]}
    worlds = {name: {"10": sized} for name in ("short", "long")}

    found = tables(worlds, runs, seeds=5)
    page = placed((ROOT / PAGE).read_text(), found)

    assert all(table in page for table in found.values())
    assert "| GLB | 0.0123 % ± 0.0046 % |" in found["short"]
    assert "| GLB | 1.56 % | 1.56 % | 0.016 | 0.016 | 1.34 | 1.34 | 524 | 524 |" in found["costs"]
    assert re.findall("<!-- survival: (.*) -->", page) == list(found)
    with pytest.raises(ValueError, match="0 places"):
        placed("no table", found)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0"), (0.91234, "91.2 %"), (0.01, "1.00 %"), (0.09996, "10.0 %"), (3e-7, "0.0000300 %")],
)
def test_a_share_has_three_digits_that_say_something(share: float, text: str) -> None:
    assert percent(share) == text
