"""House rules as tests: what a reader may rely on in every file, and docs that tell the truth."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gslb.query import Outcome
from gslb.service.lifecycle import ExitCode
from ops.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("gslb", "httpdns", "edge_lb", "bpf", "ops")
LINES_MAX = 400
BANNED_NAMES = {"util", "utils", "helpers", "common", "misc", "base", "manager"}
OPERATING = (ROOT / "docs/operating.md").read_text()


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).exists()]


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_owns_and_stays_readable(path: Path) -> None:
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text)), "a module docstring says what the file owns"
    assert len(text.splitlines()) <= LINES_MAX
    assert path.stem not in BANNED_NAMES
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert not re.search(r"\bbackends?\b", text, re.IGNORECASE), "say `real`"


def test_the_top_level_is_the_agreed_one() -> None:
    agreed = {
        "gslb", "httpdns", "edge_lb", "bpf", "ops", "tests", "configs", "docs", ".ci",
        "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", ".gitignore",
    }  # fmt: skip

    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= agreed


def test_only_one_room_touches_ctypes() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources()
        if re.search(r"^\s*(import|from) ctypes", path.read_text(), re.MULTILINE)
    }

    assert users <= {"bpf/libbpf.py", "bpf/abi.py", "bpf/ringbuf.py"}


@pytest.mark.parametrize("header", ["lb_verdict.h", "real_verdict.h", "probe_verdict.h"])
def test_every_verdict_is_explained_to_operators(header: str) -> None:
    names = re.findall(
        r"^\s*VERDICT_([A-Z0-9_]+),", (ROOT / "bpf" / header).read_text(), re.MULTILINE
    )
    names = [name for name in names if name != "COUNT"]

    assert len(names) > 5
    assert [name for name in names if f"| `{name}` |" not in OPERATING] == []


def test_every_outcome_of_a_query_is_explained_to_operators() -> None:
    assert [item.value for item in Outcome if f"| `{item.value}` |" not in OPERATING] == []


def test_every_exit_code_is_explained_to_operators() -> None:
    assert [code for code in ExitCode if f"\n| {code.value} |" not in OPERATING] == []


def metric_names() -> Iterator[str]:
    for path in sources():
        calls = re.finditer(
            r'registry\.register\(\s*"([a-z_]+)",\s*"[^"]*",\s*"(\w+)"', path.read_text()
        )
        for call in calls:
            name, kind = call.groups()
            yield name if kind == "gauge" or name.endswith("_total") else f"{name}_total"


def test_every_metric_is_explained_to_operators() -> None:
    names = list(metric_names())

    assert len(names) > 15
    assert [name for name in names if f"| `{name}` |" not in OPERATING] == []


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words


def test_every_command_is_explained_to_operators() -> None:
    missing = [words for words in leaves(cli) if not all(f"{word}" in OPERATING for word in words)]

    assert missing == []


def test_links_of_the_documents_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked("*.md")
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    words = ("/work" + "/main", "/root" + "/", "files.python" + "hosted.org")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".c", ".h", ".txt", ".lock", ""}
        for word in words
        if word in path.read_text()
    ]

    assert found == []
