"""People are told once that comparisons do not come round, and once that they do again; not after a night off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.scope import KeyRange
from contracts.verdicts import PairResult, Verdict
from reconcile.sweep import Coverage, Part
from repair.alerts.deciding import AlertKind, Heartbeat
from repair.alerts.overdue import PATIENCE, due_message, overdue
from repair.alerts.queue import Message
from tests.values import result_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATED = timedelta(seconds=SWEEP_SECONDS_MAX)
ORDERS, LOG = ("oltp_lake.order", "pod1"), ("log_manifests", "pod2")
LONG = Heartbeat(ran_at=NOW - timedelta(seconds=30), targets=1, up_since=NOW - PATIENCE)


def covered(key: tuple[str, str], *ages: timedelta) -> Coverage:
    parts = tuple(Part(keys=KeyRange(), cut=7, compared_at=NOW - age) for age in ages)
    return Coverage(pair=key[0], pod=key[1], cut=7, parts=parts)


def tried(key: tuple[str, str], verdict: Verdict, reason: str = "") -> PairResult:
    return result_of(key[0], verdict, pod=key[1], cut=9, checked_at=NOW, reason=reason)


def message(*ages: timedelta, beat: Heartbeat = LONG, told: datetime | None = None, over: datetime | None = None,
            newest: tuple[PairResult, ...] = ()) -> Message | None:  # fmt: skip
    """Return what is told when the parts of a comparison were looked at so long ago."""
    known = {ORDERS: covered(ORDERS, *ages)} if ages else {}
    return due_message(overdue([ORDERS], known, newest, NOW), beat, told, over, NOW)


def test_what_is_compared_in_time_is_told_nobody() -> None:
    assert message(timedelta(hours=1), STATED) is None


def test_one_part_that_was_looked_at_too_long_ago_is_told_with_the_reason_of_the_newest_try() -> None:
    reason = "The log cannot be looked at."
    told = message(timedelta(hours=1), STATED + timedelta(minutes=1), newest=(tried(ORDERS, Verdict.UNKNOWN, reason),))
    assert told is not None and told.kind is AlertKind.OVERDUE and told.subject == "after the beginning"
    assert told.title == "[Tieout] Not compared in time: oltp_lake.order in pod1"
    assert "not completely since 2026-03-01 05:59 UTC; the newest try, 2026-03-01 12:00 UTC, was unknown: " in told.body
    assert reason in told.body and "docs/runbooks/comparisons.md" in told.body and "within 6 h" in told.body


def test_what_was_never_compared_is_overdue_and_many_are_one_message() -> None:
    wanted = [ORDERS, LOG, *((f"pair {number}", "pod1") for number in range(30))]
    found = overdue(wanted, {ORDERS: covered(ORDERS, timedelta(0))}, [], NOW)
    assert len(found) == 31
    told = due_message(found, LONG, None, None, NOW)
    assert told is not None and told.title.endswith("log_manifests in pod2 and 30 more")
    assert "never completely; nothing has tried" in told.body and "- and 21 more" in told.body


def test_a_sender_that_has_just_begun_to_run_waits_for_the_first_comparisons() -> None:
    late = STATED * 2
    begun = Heartbeat(ran_at=NOW - timedelta(seconds=30), targets=1, up_since=NOW - PATIENCE + timedelta(seconds=1))
    paused = Heartbeat(ran_at=NOW - timedelta(hours=9), targets=1, up_since=NOW - timedelta(days=3))
    assert message(late, beat=begun) is None and message(late, beat=paused) is None
    assert message(late, beat=Heartbeat()) is None


def test_it_is_told_once_until_it_is_over_and_then_anew() -> None:
    first, over = NOW - timedelta(hours=5), NOW - timedelta(hours=2)
    assert message(STATED * 2, told=first) is None
    ended = message(timedelta(0), told=first)
    assert ended is not None and ended.kind is AlertKind.IN_TIME and ended.subject == f"after {first.isoformat()}"
    assert message(timedelta(0), told=first, over=over) is None
    anew = message(STATED * 2, told=first, over=over)
    assert anew is not None and anew.subject == f"after {over.isoformat()}"


def test_a_store_that_no_try_of_half_an_hour_could_look_at_is_told_sooner() -> None:
    known, lost = {ORDERS: covered(ORDERS, timedelta(hours=1))}, "A file of the lake is gone."

    def told(verdict: Verdict, ago: timedelta) -> Message | None:
        unknown = {ORDERS: NOW - ago} if verdict is Verdict.UNKNOWN else {}
        return due_message(
            overdue([ORDERS], known, [tried(ORDERS, verdict, lost)], NOW, unknown), LONG, None, None, NOW
        )

    assert told(Verdict.UNKNOWN, timedelta(minutes=29)) is None, "a hiccup wakes nobody"
    assert told(Verdict.LATE, timedelta(hours=3)) is None, "nor does what is only late"
    message = told(Verdict.UNKNOWN, timedelta(minutes=30))
    assert message is not None and message.title == "[Tieout] Cannot be compared: oltp_lake.order in pod1"
    assert "every try since 2026-03-01 11:30 UTC failed" in message.body and lost in message.body
