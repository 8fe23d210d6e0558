"""Which alerts are due: once per incident and kind, nothing for what came and went, the path proven or not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from contracts.breaks import BreakGroup, BreakState
from contracts.ownership import copy_named
from contracts.verdicts import ColumnDifference, DifferenceClass
from repair.alerts.deciding import (
    ATTEMPTS_MAX,
    Alert,
    AlertKind,
    Decisions,
    Due,
    Heartbeat,
    decide,
    path_state,
    retry_at,
)
from repair.alerts.texts import Concern, incident_text
from tests.values import break_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def group(group_id: int = 1, **counts: int) -> BreakGroup:
    return BreakGroup(
        group_id=group_id,
        pair="lake_account_view.orders",
        pod="pod1",
        kind=DifferenceClass.AMOUNT,
        opened_at=NOW - timedelta(hours=2),
        opened_cut=17,
        opened_run="run",
        keys=sum(counts.values()),
        counts={BreakState(name): number for name, number in counts.items()},
    )


def alert(kind: AlertKind, *, alert_id: int = 1, is_sent: bool = True, episode: int = 1) -> Alert:
    return Alert(
        alert_id=alert_id,
        kind=kind,
        group_id=1,
        episode=episode,
        subject="",
        title="",
        body="",
        created_at=NOW,
        next_attempt_at=NOW,
        attempts=1,
        delivered_to=(),
        sent_at=NOW if is_sent else None,
        withdrawn_at=None,
        error="",
    )


def kinds(decided: Decisions) -> list[tuple[AlertKind, int]]:
    return [(due.kind, due.episode) for due in decided.due]


def withdrawn(decided: Decisions) -> list[int]:
    return [item.alert_id for item in decided.withdrawn]


OPENED, ESCALATED, RESOLVED = AlertKind.OPENED, AlertKind.ESCALATED, AlertKind.RESOLVED


def test_an_incident_is_told_once_of_each_kind_on_its_way_to_the_end() -> None:
    assert kinds(decide([group(open=3)], [])) == [(OPENED, 1)]
    opened = alert(OPENED)
    assert decide([group(open=2, repairing=1)], [opened]) == Decisions()
    assert kinds(decide([group(open=2, escalated=1)], [opened])) == [(ESCALATED, 1)]
    escalated = alert(ESCALATED, alert_id=2)
    assert decide([group(open=2, escalated=2)], [opened, escalated]) == Decisions()
    assert kinds(decide([group(repaired=3, vanished=1)], [opened, escalated])) == [(RESOLVED, 1)]
    assert decide([group(repaired=4)], [opened, escalated, alert(RESOLVED, alert_id=3)]) == Decisions()


def test_what_needs_a_person_at_once_is_told_as_that_only() -> None:
    assert kinds(decide([group(escalated=1)], [])) == [(ESCALATED, 1)]
    unsent = decide([group(escalated=1)], [alert(OPENED, is_sent=False)])
    assert kinds(unsent) == [(ESCALATED, 1)] and withdrawn(unsent) == [1]


@pytest.mark.parametrize("ended", [{"vanished": 2}, {"repaired": 2}, {"accepted": 2}])
def test_nobody_is_woken_for_what_ended_before_it_was_told(ended: dict[str, int]) -> None:
    assert decide([group(**ended)], []) == Decisions()
    pending = decide([group(**ended)], [alert(OPENED, is_sent=False)])
    assert pending.due == () and withdrawn(pending) == [1]


def test_what_one_of_two_targets_took_counts_as_told() -> None:
    half = replace(alert(OPENED, is_sent=False), delivered_to=("a1",))
    decided = decide([group(repaired=2)], [half])
    assert kinds(decided) == [(RESOLVED, 1)] and decided.withdrawn == ()


def test_acceptance_settles_and_a_return_is_a_new_episode() -> None:
    opened, resolved = alert(OPENED), alert(RESOLVED, alert_id=2)
    assert kinds(decide([group(accepted=1, repaired=1)], [opened])) == [(RESOLVED, 1)]
    assert kinds(decide([group(accepted=1, open=1)], [opened, resolved])) == [(OPENED, 2)]
    again = alert(OPENED, alert_id=3, episode=2)
    assert decide([group(accepted=1, open=1)], [opened, resolved, again]) == Decisions()
    assert kinds(decide([group(accepted=2)], [opened, resolved, again])) == [(RESOLVED, 2)]
    unsent = decide([group(open=1)], [opened, replace(resolved, sent_at=None)])
    assert unsent.due == () and withdrawn(unsent) == [2]


def test_retries_take_longer_each_time_up_to_an_hour() -> None:
    waits = [(retry_at(NOW, attempts) - NOW).total_seconds() for attempts in range(1, ATTEMPTS_MAX)]
    assert waits[:4] == [30, 60, 120, 240] and waits == sorted(waits) and waits[-1] == 3600
    assert sum(waits) > 24 * 3600


def test_a_text_says_what_since_when_who_and_what_still_holds_and_nothing_else_of_the_row() -> None:
    found = break_of(
        break_id=41,
        pair="lake_account_view.orders",
        entity="account_orders",
        key=("eire", "0190"),
        day="2026-03-01",
        columns=(
            ColumnDifference(column="total_minor", left=12_345, right=11_000, difference=-1_345),
            ColumnDifference(column="customer_name", left="Ada Lovelace", right="Eve"),
        ),
        aggregate_key="eire/order/0190",
        state=BreakState.ESCALATED,
        owner="data-platform",
        reason="Three repairs did not hold.",
        first_seen_at=NOW,
        first_seen_cut=17,
        last_seen_cut=19,
        times_seen=2,
        repairs=3,
    )
    copy = copy_named("account_view")
    concern = Concern(pair=found.pair, left="the lake", right="the account view", copy=copy)
    title, body = incident_text(Due(kind=ESCALATED, group=group(escalated=12), episode=1), concern, [found])
    assert title == "[Tieout] Needs a person: 12 keys with another amount, lake_account_view.orders in pod1"
    for part in (
        "2026-03-01 10:00:00 UTC, cut 17",
        "data-platform",
        "Three repairs did not hold.",
        "account_orders eire / 0190: total -13.45 EUR; also customer_name",
        "and 11 more",
        "12 rows of the account view differ in pod1 (with another amount): the account view against the lake.",
        "Still holds for users: everything but these rows of the account view.",
        "tieout breaks show 41",
        "tieout explain 0190",
        f"docs/{copy.runbook}",
    ):
        assert part in body
    assert "Ada" not in body and "Eve" not in body
    hostile = replace(
        found, key=("eire", "a\nPaid\x1b[2J"), aggregate_key="eire/order/0190; rm -rf \u202e", reason="a\nb"
    )
    _, body = incident_text(Due(kind=ESCALATED, group=group(escalated=1), episode=1), concern, [hostile])
    assert r"account_orders eire / a\nPaid\x1b[2J" in body and r"Why: a\nb" in body
    assert r"tieout explain '0190; rm -rf \u202e'" in body
    assert body.startswith("1 row of the account view differs in pod1 (with another amount)")


@pytest.mark.parametrize(
    ("heartbeat", "pending", "is_broken", "part"),
    [
        (Heartbeat(), [], True, "ever"),
        (Heartbeat(ran_at=NOW - timedelta(minutes=6), targets=1, delivered_at=NOW), [], True, "since"),
        (Heartbeat(ran_at=NOW, targets=0), [], False, "TIEOUT_ALERT_URLS"),
        (Heartbeat(ran_at=NOW, targets=1), [], True, "No target has ever"),
        (Heartbeat(ran_at=NOW, targets=1, delivered_at=NOW - timedelta(hours=27)), [], True, "since"),
        (Heartbeat(ran_at=NOW, targets=1, delivered_at=NOW), [-1200], True, "has waited"),
    ],
)
def test_the_path_to_people_must_prove_itself(
    heartbeat: Heartbeat, pending: list[int], is_broken: bool, part: str
) -> None:
    waiting = [
        replace(alert(OPENED, is_sent=False), created_at=NOW + timedelta(seconds=seconds)) for seconds in pending
    ]
    state = path_state(heartbeat, waiting, NOW)
    assert not state.is_alive and state.is_broken is is_broken and part in state.reason


def test_a_proven_path_is_alive_and_a_message_given_up_breaks_it() -> None:
    proven = Heartbeat(ran_at=NOW, targets=1, delivered_at=NOW - timedelta(hours=3))
    assert path_state(proven, [alert(OPENED, is_sent=False)], NOW).is_alive
    given_up = replace(alert(OPENED, is_sent=False), attempts=ATTEMPTS_MAX)
    assert path_state(proven, [given_up], NOW).is_broken
