"""Taking a PostgreSQL snapshot apart."""

from __future__ import annotations

from streams.cuts import BEFORE_ALL, Snapshot


def test_a_snapshot_names_what_it_does_not_see() -> None:
    snapshot = Snapshot(text="795:799:795,797")
    assert (snapshot.xmax, snapshot.in_progress) == (799, (795, 797))
    assert snapshot.after() == {"xmax": "799", "xip": "{795,797}"}


def test_before_all_sees_nothing() -> None:
    assert BEFORE_ALL.after() == {"xmax": "3", "xip": "{}"}
