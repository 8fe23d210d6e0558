"""People are told before a limit is reached, once, and once more when there is room again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from repair.alerts.deciding import AlertKind
from repair.alerts.near_limits import LimitUse, near_message

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def use(used_mb: float, name: str = "disk of /var") -> LimitUse:
    return LimitUse(name=name, used=used_mb, limit=1_000, advice="Make room there.")


def test_a_limit_that_is_not_near_is_told_nobody() -> None:
    assert near_message([use(799)], None, None) is None


def test_a_limit_that_is_near_is_told_once_with_what_to_do() -> None:
    told = near_message([use(10, "scratch"), use(800)], None, None)
    assert told is not None and told.kind is AlertKind.NEAR_LIMIT
    assert told.title == "[Tieout] Near its limit: disk of /var"
    assert "disk of /var: 800 of 1,000 MB (80%). Make room there." in told.body and "scratch" not in told.body
    assert "docs/runbooks/limits.md" in told.body
    assert near_message([use(990)], NOW, None) is None


def test_a_disk_that_is_nearly_full_and_still_has_room_enough_is_told_nobody() -> None:
    disk = replace(use(850), enough_left=200)
    assert near_message([replace(disk, used=700)], None, None) is None
    assert near_message([replace(disk, used=801)], None, None) is not None
    assert near_message([replace(disk, limit=1_100)], None, None) is None, "77 %"
    assert near_message([replace(disk, limit=1_060, enough_left=210)], None, None) is None, "210 are left"
    assert near_message([replace(disk, used=790)], NOW, None) is None, "with 210 left it may be near again at once"
    told = near_message([replace(disk, used=750)], NOW, None)
    assert told is not None and told.kind is AlertKind.ROOM_AGAIN


def test_room_is_told_once_and_not_as_long_as_it_may_be_near_again_at_once() -> None:
    assert near_message([use(750)], NOW, None) is None
    assert near_message([], NOW, None) is None, "nothing was measured"
    told = near_message([use(699)], NOW, None)
    assert told is not None and told.kind is AlertKind.ROOM_AGAIN
    over = NOW + timedelta(hours=1)
    assert near_message([use(699)], NOW, over) is None
    again = near_message([use(900)], NOW, over)
    assert again is not None and again.subject == f"after {over.isoformat()}"
