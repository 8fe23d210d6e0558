"""The files that a run leaves: an outcome is read back as it was, the page shows everything and runs nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from contracts.drills import DRILLS, Promise
from contracts.ownership import COPIES
from drills.evidence_files import DrillRun, evidence_file, page, read_evidence, write_evidence, write_page
from tests.unit.drills.test_observing import NOW, notes, outcome

RUN = DrillRun(run="20300101T000000Z-ab", code_version="abc", orders_per_second=5.0, started_at=NOW)
GOOD = outcome(notes())


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src") and value]
        self.ids |= {value for name, value in attributes if name == "id" and value}


def test_evidence_is_read_back_as_it_was(tmp_path: Path) -> None:
    bad = outcome(notes(bad=Promise.CATCHES_UP)).with_logs({"relay-pod1": "the end"})
    path = write_evidence(tmp_path / "run", RUN, bad)
    assert path == evidence_file(tmp_path / "run", bad)
    assert read_evidence(path) == bad


def test_the_page_shows_every_look_and_links_only_to_what_is_there(tmp_path: Path) -> None:
    write_evidence(tmp_path, RUN, GOOD)
    text = write_page(tmp_path, RUN, [GOOD]).read_text()
    shown = _Page(text)
    assert "1 of 1 drill held" in text and text.count("not drilled") == len(DRILLS) - 1
    assert shown.tags.count("tr") == 1 + len(COPIES) + 1 + len(GOOD.observations)
    assert "script" not in shown.tags
    for link in shown.links:
        assert link[1:] in shown.ids if link.startswith("#") else (tmp_path / link).is_file()


def test_the_page_of_a_failure_says_what_failed_and_escapes_what_was_seen() -> None:
    made = notes(without=Promise.CATCHES_UP)
    made.add(Promise.EQUAL_AGAIN, "<b>pod2</b>", expected="so", seen="<script>alert(1)</script>", is_ok=False)
    text = page(RUN, [outcome(made, failure="It <i>broke</i>").with_logs({"relay": "<u>end</u>"})])
    assert "0 of 1 drill held" in text and "✗ failed" in text
    assert Promise.CATCHES_UP.words in text
    assert not {"b", "script", "i", "u"} & set(_Page(text).tags)


def test_a_page_of_a_run_that_has_just_begun_can_be_shown() -> None:
    assert "0 of 0 drills held" in page(RUN, [])
