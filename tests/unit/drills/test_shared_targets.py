"""Two damages of one round never share a row, also not one that adds up several aggregates."""

from __future__ import annotations

from drills.damages.place import Place


def test_what_several_aggregates_share_is_given_once() -> None:
    place = Place.__new__(Place)
    place._given = set()

    assert [place.give_once(name) for name in ("a day", "another day", "a day")] == [True, True, False]
