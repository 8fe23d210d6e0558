"""Outages: told once when they last, once when they are over, never when a restart mends them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from repair.alerts.deciding import AlertKind
from repair.alerts.outages import Observed, Outage, Trouble, observe

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LOG = Trouble(name="Valkey valkey", sentence="Valkey valkey does not answer", when_down=("Commands go on.",))
VIEWS = Trouble(
    name="PostgreSQL control", sentence="PostgreSQL control does not answer", when_down=("Selling goes on.",)
)


def after(known: Observed | None, seconds: float, *found: Trouble) -> Observed:
    outages = known.outages if known else ()
    return observe({one.name: one for one in outages}, found, NOW + timedelta(seconds=seconds))


def test_a_restart_of_seconds_wakes_nobody() -> None:
    down = after(None, 0, LOG)
    assert down.messages == () and [one.since for one in down.outages] == [NOW]
    over = after(down, 15)
    assert over == Observed(outages=(), messages=())


def test_an_outage_is_told_once_within_a_minute_and_settled_when_it_is_over() -> None:
    seen = after(None, 0, LOG)
    seen = after(seen, 25, LOG)
    (told,) = seen.messages
    assert told.kind is AlertKind.OUTAGE and told.title == "[Tieout] Down: Valkey valkey"
    for part in ("since 2026-03-01 12:00:00 UTC", "Still holds for users: Commands go on.", "docs/runbooks/servers.md"):
        assert part in told.body
    seen = after(seen, 30, LOG)
    assert seen.messages == ()
    seen = after(seen, 130)
    (over,) = seen.messages
    assert over.kind is AlertKind.OUTAGE_OVER and over.title == "[Tieout] Answers again: Valkey valkey"
    assert "down for 2 min 10 s" in over.body and over.subject == told.subject
    assert after(seen, 140) == Observed(outages=(), messages=())
    # The next one is another one.
    again = after(after(after(seen, 200), 210, LOG), 240, LOG)
    assert [one.subject != told.subject for one in again.messages] == [True]


def test_what_goes_down_together_is_told_together_and_what_is_left_is_named() -> None:
    seen = after(after(None, 0, LOG, VIEWS), 20, LOG, VIEWS)
    (told,) = seen.messages
    assert told.title == "[Tieout] Down: Valkey valkey and 1 more" and "Selling goes on." in told.body
    (over,) = after(seen, 60, VIEWS).messages
    assert "1 other is still down: PostgreSQL control." in over.body


def test_patience_is_that_of_the_trouble() -> None:
    worker = Trouble(name="worker relay-pod1", sentence="worker relay-pod1 does not keep running", patience_seconds=45)
    seen = after(after(None, 0, worker), 44, worker)
    assert seen.messages == () and seen.outages == (
        Outage(name=worker.name, sentence=worker.sentence, since=NOW, is_told=False),
    )
    assert len(after(seen, 45, worker).messages) == 1
