"""A copy beyond its largest lag is told once, with what it lacks, and is over when it is within its target again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.ownership import ACCOUNT_VIEW, COPIES, LOG, WAREHOUSE, Copy, absent_copies
from stack.upkeep.lagging import PATIENCE_SECONDS, Lag, LagWatch, observe_lags
from tests.unit.stack.upkeep.test_watching import Place, place, server

__all__ = ["place"]


@dataclass
class Copies:
    """What a look at the copies finds."""

    found: list[Lag | str] = field(default_factory=list)
    seconds: float = 0.0

    def watch(self, place: Place) -> LagWatch:
        return LagWatch(settings=place.settings, observe=lambda _: self.found, seconds=lambda: self.seconds)


def lag(copy: Copy, seconds: float, events: int = 12) -> Lag:
    return Lag(copy=copy, pod="pod1", events=events, seconds=seconds)


def names(lags: LagWatch, *found: Lag | str, copies: Copies) -> Sequence[str]:
    copies.found = [*found]
    lags.look_once()
    return [one.name for one in lags.troubles]


def test_people_are_told_of_a_copy_beyond_its_largest_lag_and_once_when_it_is_in_time(place: Place) -> None:
    copies, watch = Copies(seconds=100.0), place.watch()
    lags = copies.watch(place)
    copies.seconds += 1000.0
    lags.told, watch.others = watch.told_copies, lambda: lags.troubles

    def look(seconds: float, behind: float, events: int = 12) -> None:
        names(lags, lag(ACCOUNT_VIEW, behind, events), copies=copies)
        place.after(watch, seconds)

    look(0, 59.0)
    assert watch.kept.outages == []
    look(5, 61.0)
    look(PATIENCE_SECONDS + 5, 81.0)
    assert place.people.titles == ["[Tieout] Behind: account view of pod1"]
    (told,) = watch.kept.messages
    for part in (
        "account view of pod1 lacks 12 events, the oldest 81 s old; it may be 60 s behind at most",
        "Still holds for users: all of selling; the account view of pod1 shows everything but these events.",
        "Runbook: docs/runbooks/read_models.md",
    ):
        assert part in told.message.body
    # Between target and limit it is as it was: a lag that goes up and down there wakes nobody again.
    look(30, 20.0, 1)
    assert [one.is_told for one in watch.kept.outages] == [True]
    look(30, 2.0, 1)
    assert place.people.titles[1:] == ["[Tieout] In time again: account view of pod1"]
    assert "behind for 1 min 20 s" in watch.kept.messages[-1].message.body


def test_a_server_that_is_down_is_told_alone_and_ends_no_lag(place: Place) -> None:
    copies, watch = Copies(), place.watch()
    lags = copies.watch(place)
    copies.seconds = 1000.0
    lags.told, watch.others = watch.told_copies, lambda: lags.troubles
    names(lags, lag(LOG, 75.0, 1), copies=copies)
    place.after(watch, 0)
    place.after(watch, 20)
    assert place.people.titles == ["[Tieout] Behind: log of pod1"]
    assert "lacks 1 event, the oldest 75 s old, and so does every copy of pod1" in watch.kept.messages[0].message.body
    place.servers = (server("pod1", "down"),)
    place.after(watch, 5)
    place.after(watch, 25)
    assert place.people.titles[1:] == ["[Tieout] Down: PostgreSQL pod1"]
    place.servers = (server("pod1"),)
    place.after(watch, 5)
    assert place.people.titles[2:] == ["[Tieout] Answers again: PostgreSQL pod1"]
    # A new process knows what people were told.
    assert place.watch().told_copies() == {"log of pod1"}


def test_what_cannot_be_looked_at_is_no_news(place: Place) -> None:
    copies = Copies()
    lags = copies.watch(place)
    assert names(lags, "account view of pod1", copies=copies) == []
    assert names(lags, lag(ACCOUNT_VIEW, 61.0), copies=copies) == ["account view of pod1"]
    assert names(lags, "account view of pod1", copies=copies) == ["account view of pod1"]
    assert names(lags, lag(ACCOUNT_VIEW, 0.0, 0), copies=copies) == []
    # No server of this place answers: every copy is named, none is said to be in time.
    asked = observe_lags(place.settings)
    without = {WAREHOUSE.name, *absent_copies(place.settings)}
    followers = [copy.name.replace("_", " ") for copy in COPIES if copy.name not in without]
    assert asked == [f"{name} of pod1" for name in (*followers, "warehouse")]


def test_what_was_stopped_with_the_system_has_its_usual_time_to_catch_up(place: Place) -> None:
    copies = Copies()
    lags = copies.watch(place)
    names(lags, lag(WAREHOUSE, 40_000.0), copies=copies)
    assert [one.patience_seconds for one in lags.troubles] == [WAREHOUSE.freshness_seconds]
    copies.seconds = 890.0
    names(lags, lag(WAREHOUSE, 40_890.0), copies=copies)
    assert [one.patience_seconds for one in lags.troubles] == [PATIENCE_SECONDS]
