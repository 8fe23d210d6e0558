"""The committed picture of the graph is the graph."""

from __future__ import annotations

from orchestration.snapshot import PATH, snapshot


def test_the_committed_snapshot_is_the_graph() -> None:
    assert snapshot() == PATH.read_text(), "run `python -m orchestration.snapshot` and commit docs/graph.txt"
