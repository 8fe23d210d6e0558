"""What is planned for an aggregate that has moved: each pod's part from that pod, its row where its merchant lives."""

from __future__ import annotations

from dataclasses import replace

from contracts.breaks import Break
from repair.evidence.aggregates import Sent, _line
from repair.evidence.residence import Residence
from repair.plan import plan
from repair.remedies import HOMELESS
from repair.values import (
    Action,
    ActionKind,
    AggregateEvidence,
    Budget,
    DamageKind,
    EventDamage,
    Plan,
    PodEvidence,
    Source,
)
from tests.unit.repair.test_plan import LAKE, MART, ORDER, SUM, in_pod

KNOWN = AggregateEvidence(
    root_version=3,
    is_stated=True,
    has_events=True,
    first_cuts={"pod1": 5, "pod2": 2},
    home="pod2",
    sent={"pod1": (1, 2), "pod2": (3, 3)},
)
LOST = EventDamage(
    kind=DamageKind.MISSING,
    pod="pod1",
    event_id="e1",
    aggregate_key=ORDER,
    version=1,
    cut=5,
    source=Source.OUTBOX,
)
HERE = replace(LOST, pod="pod2", event_id="e3", version=3, cut=2)


def evidence(*damages: EventDamage, known: AggregateEvidence = KNOWN, built_cut: int = 0) -> dict[str, PodEvidence]:
    def of(pod: str) -> PodEvidence:
        return replace(
            in_pod(*(one for one in damages if one.pod == pod), aggregate=known, built_cut=built_cut),
            pod=pod,
            damages_elsewhere=tuple(one for one in damages if one.pod != pod),
            event_cuts={},
            events_elsewhere={"e1": ("pod1", 5)} if pod == "pod2" else {"e3": ("pod2", 2)},
        )

    return {"pod1": of("pod1"), "pod2": of("pod2")}


def planned(found: dict[str, PodEvidence], *breaks: Break) -> Plan:
    return plan([replace(item, pod="pod2") for item in breaks], found, Budget())


def of_kind(made: Plan, kind: ActionKind) -> list[Action]:
    return [action for action in made.actions if action.kind is kind]


def test_each_pods_part_of_the_lake_is_given_back_from_that_pod() -> None:
    made = planned(evidence(LOST, HERE), LAKE)
    found = [(one.kind, one.pod, one.keys, one.cuts, one.causes) for one in made.actions]
    assert found == [
        (ActionKind.RESTORE_EVENTS, "pod1", ("e1",), (5,), (1,)),
        (ActionKind.RESTORE_EVENTS, "pod2", ("e3",), (2,), (1,)),
    ]
    # Both pods' breaks of one damage make one action.
    both = plan([replace(LAKE, pod="pod2"), replace(LAKE, break_id=2)], evidence(LOST), Budget())
    assert [(one.pod, one.keys, one.causes) for one in both.actions] == [("pod1", ("e1",), (1, 2))]


def test_what_was_built_on_the_damage_is_built_from_the_cut_of_the_damaged_pod() -> None:
    made = planned(evidence(LOST, built_cut=9), LAKE)
    assert of_kind(made, ActionKind.BUILD) == []
    # Versions of either pod end with a cut of the other one, so both pods' rows may be wrong.
    assert made.maybe_built == {"pod1": {ORDER}, "pod2": {ORDER}}
    both = evidence(LOST, built_cut=9)
    left_out = {pod: replace(found, left_out={ORDER: "a version is missing"}) for pod, found in both.items()}
    (built,) = of_kind(planned(left_out, LAKE), ActionKind.BUILD)
    assert built.since == {"pod1": 4}
    (built,) = of_kind(planned(evidence(), MART), ActionKind.BUILD)
    assert built.since == {"pod1": 4, "pod2": 1} and not built.is_full
    journal = replace(MART, pair="journal_identities", entity="journal_events", key=("e1",), aggregate_key=None)
    (built,) = of_kind(planned(evidence(), journal), ActionKind.BUILD)
    assert built.since == {"pod1": 4}


def test_a_row_is_stated_where_its_merchant_lives_whichever_pod_found_it() -> None:
    unstated = evidence(known=replace(KNOWN, is_stated=False, digest="d"))
    for pod in ("pod1", "pod2"):
        (action,) = plan([replace(LAKE, pod=pod)], unstated, Budget()).actions
        assert (action.kind, action.pod, action.digests) == (ActionKind.RESTATE, "pod2", {ORDER: "d"})
    summed = planned(unstated, LAKE, replace(SUM, break_id=2))
    assert [(one.kind, one.pod, one.causes) for one in summed.actions] == [(ActionKind.RESTATE, "pod2", (1, 2))]


def test_a_person_is_told_what_each_pod_has_sent() -> None:
    (escalated,) = planned(evidence(known=replace(KNOWN, lost_versions=(2,))), LAKE).escalations
    assert escalated.reason.endswith(
        " Its merchant has moved and lives in pod2 now; of its events pod1 has sent versions 1 to 2 and pod2 has sent "
        "version 3."
    )
    extra = replace(LOST, kind=DamageKind.EXTRA, source=None)
    (escalated,) = planned(evidence(extra), LAKE).escalations
    assert "which the outbox of pod1 no longer has" in escalated.reason
    (action,) = planned(evidence(extra, known=replace(KNOWN, clashing=("e1",))), LAKE).actions
    assert (action.kind, action.pod, action.keys) == (ActionKind.REMOVE_EXTRA_EVENTS, "pod1", ("e1",))
    (escalated,) = planned(evidence(LOST, known=replace(KNOWN, is_homeless=True)), LAKE).escalations
    assert escalated.reason.startswith(HOMELESS.format(key=ORDER))


def sent(pod: str, epoch: int, *versions: int) -> list[Sent]:
    return [
        Sent(event_id=f"{pod}-{version}", pod=pod, directory_epoch=epoch, version=version, payload=None)
        for version in versions
    ]


def test_of_two_events_of_one_version_that_of_the_later_residence_counts() -> None:
    line = _line([*sent("pod1", 1, 1, 2, 3, 4), *sent("pod2", 2, 3, 5)])
    assert {version: event.pod for version, event in line.items()} == {1: "pod1", 2: "pod1", 3: "pod2", 5: "pod2"}
    back = _line([*sent("pod1", 1, 1), *sent("pod2", 2, 2, 3), *sent("pod1", 3, 4)])
    assert [back[version].pod for version in (1, 2, 3, 4)] == ["pod1", "pod2", "pod2", "pod1"]


def test_only_who_has_moved_is_looked_for_elsewhere() -> None:
    residence = Residence(homes={"eire": "pod2"}, nowhere=frozenset({"lost"}))
    assert residence.has_moved(ORDER) and residence.home(ORDER, "pod1") == "pod2"
    assert not residence.has_moved("uk/order/o1") and residence.home("uk/order/o1", "pod1") == "pod1"
    assert residence.is_nowhere("lost/order/o1") and not residence.is_nowhere(ORDER)
