"""The runbooks: every page is in the index, every link leads somewhere, every command that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from cli.app import app

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
COMMAND = re.compile(r"\./tieout ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)")


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def test_every_page_is_in_the_index_which_the_readme_names() -> None:
    named = {match[1] for match in LINK.finditer((RUNBOOKS / "README.md").read_text())}
    assert {page.name for page in PAGES} - {"README.md"} <= named
    assert "docs/runbooks/README.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    lost = []
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve() if target else page
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if file.is_file() else []
        if not file.is_file() or (anchor and anchor not in map(_anchor, headings)):
            lost.append(f"{target}#{anchor}")
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    known = typer.main.get_command(app)
    groups = {name: set(getattr(one, "commands", {})) for name, one in known.commands.items()}  # type: ignore[attr-defined]
    unknown = []
    for words in COMMAND.findall(page.read_text()):
        name, _, rest = words.partition(" ")
        if name not in groups or (groups[name] and rest not in groups[name]):
            unknown.append(words)
    assert unknown == []
