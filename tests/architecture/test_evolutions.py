"""The evolution scenario edits a copy of the sources: each run of `make test` shows that its edits still fit them."""

from __future__ import annotations

from tests.architecture.test_shape import ROOT
from tests.scenario.evolutions import EVOLUTIONS


def test_every_edit_finds_its_place_once() -> None:
    texts: dict[str, str] = {}
    for evolution in EVOLUTIONS:
        for edit in evolution.edits:
            text = texts.get(edit.path) or (ROOT / edit.path).read_text(encoding="utf-8")
            assert text.count(edit.old) == 1, (evolution.name, edit.path, edit.old)
            texts[edit.path] = text.replace(edit.old, edit.new)
    assert len(texts) > 3
