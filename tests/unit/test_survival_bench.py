"""The survival bench works from its command line to its last line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from survival import pictures
from survival.pictures import draw

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
