"""Parts of the cache that need no server: breaker, gate, what a process holds, what events touch."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from contracts.assembled import TOUCHES, TouchingEvent, touched_by
from contracts.errors import OverloadedError
from contracts.events import AGGREGATES
from derived.answer_cache.breaker import Breaker
from derived.answer_cache.gate import LoadGate
from derived.answer_cache.kinds import KINDS, PRODUCT_PAGE
from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import AnswerKey, Held


@dataclass
class Moments:
    """A clock that a test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def key(subject: str, pod: str = "pod1") -> AnswerKey:
    return PRODUCT_PAGE.key(pod, "merchant", 1, subject)


def held(*tags: str) -> Held:
    return Held(body=b"page", cut=7, age_seconds=1.0, tags=tags)


def test_every_type_of_event_has_a_row_and_no_row_is_of_another() -> None:
    declared = [event_type for events in AGGREGATES.values() for event_type in events]
    assert [str(event_type) for event_type in declared if event_type not in TOUCHES] == []
    assert set(TOUCHES) == set(declared) and len({str(one) for one in declared}) == len(declared)


def event(aggregate_type: str, event_type: str, payload: str = "{}") -> TouchingEvent:
    return TouchingEvent(
        merchant_id="m",
        aggregate_type=aggregate_type,
        aggregate_id="a",
        event_type=event_type,
        schema_version=1,
        payload=payload,
    )


@pytest.mark.parametrize(
    ("aggregate_type", "event_type", "tags"),
    [
        ("merchant", "merchant_configured", ["merchant:m"]),
        ("product", "price_set", ["product:a", "catalog:m"]),
        ("order", "order_placed", []),
        ("reservation", "stock_reserved", ["merchant:m"]),
        ("stock_movement", "stock_moved", ["merchant:m"]),
        ("wish_list", "wish_added", ["merchant:m"]),
    ],
    ids=["merchant", "product", "nothing", "unreadable", "unreadable movement", "unknown"],
)
def test_an_event_touches_what_it_says_and_all_of_its_merchant_when_it_cannot_be_read(
    aggregate_type: str, event_type: str, tags: list[str]
) -> None:
    assert list(touched_by(event(aggregate_type, event_type))) == tags


def test_a_breaker_rests_after_failures_in_a_row_and_lets_one_try() -> None:
    clock = Moments()
    breaker = Breaker(failures_max=3, rest_seconds=2.0, monotonic=clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed()
    assert breaker.lets_through()
    breaker.failed()
    assert not breaker.lets_through() and breaker.is_resting
    clock.now += 2.0
    assert [breaker.lets_through() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now += 1.9
    assert not breaker.lets_through(), "a try that failed begins another rest"
    clock.now += 0.1
    assert breaker.lets_through()
    breaker.succeeded()
    assert breaker.lets_through() and breaker.lets_through()


def test_a_kind_with_a_smaller_share_is_refused_first() -> None:
    gate = LoadGate(4)
    with gate.place(0.5, wait_seconds=0), gate.place(0.5, wait_seconds=0):
        with pytest.raises(OverloadedError, match="2 answers are being loaded"), gate.place(0.5, wait_seconds=0):
            pass
        with (
            gate.place(1.0, wait_seconds=0),
            gate.place(1.0, wait_seconds=0),
            pytest.raises(OverloadedError),
            gate.place(1.0, wait_seconds=0),
        ):
            pass
    with gate.place(0.1, wait_seconds=0):
        assert True, "even the smallest share is one place"


def test_who_waits_gets_the_place_that_becomes_free() -> None:
    gate, entered = LoadGate(1), threading.Event()

    def wait() -> None:
        with gate.place(1.0, wait_seconds=30):
            entered.set()

    with gate.place(1.0, wait_seconds=0):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not entered.is_set()
    waiting.join(30)
    assert entered.is_set()


def test_the_order_of_refusal_is_that_of_the_shares() -> None:
    assert [kind.share for kind in KINDS] == sorted(kind.share for kind in KINDS)
    assert len({kind.name for kind in KINDS}) == len(KINDS) and all(0 < kind.share <= 1 for kind in KINDS)


def test_a_process_holds_answers_only_while_it_is_told() -> None:
    clock = Moments()
    near = NearAnswers(monotonic=clock, held_seconds_max=5.0)
    near.put(key("a"), held("t"), near.ticket())
    assert near.get(key("a")) is None
    near.begin_being_told()
    near.put(key("a"), held("t"), near.ticket())
    clock.now += 2.0
    found = near.get(key("a"))
    assert found is not None and (found.body, found.age_seconds) == (b"page", 3.0)
    clock.now += 3.1
    assert near.get(key("a")) is None and len(near) == 0
    near.put(key("a"), held("t"), near.ticket())
    near.end_being_told()
    assert near.get(key("a")) is None


def test_a_process_drops_what_is_named_and_nothing_else() -> None:
    near = NearAnswers()
    near.begin_being_told()
    for subject, tags in {"a": ("t1", "t2"), "b": ("t2",), "c": ("t3",)}.items():
        near.put(key(subject), held(*tags), near.ticket())
    near.put(key("a", "pod2"), held("t2"), near.ticket())
    near.drop("pod1", ["t2"])
    assert [near.get(key(subject)) is None for subject in "abc"] == [True, True, False]
    assert near.get(key("a", "pod2")) is not None
    near.drop_answer(key("c"))
    assert near.get(key("c")) is None and len(near) == 1
    near.drop_all()
    assert len(near) == 0


def test_an_answer_that_was_dropped_while_it_was_asked_for_is_not_held() -> None:
    near = NearAnswers()
    near.begin_being_told()
    ticket = near.ticket()
    near.drop("pod1", ["other"])
    near.put(key("a"), held("t"), ticket)
    assert near.get(key("a")) is not None, "another tag"
    ticket = near.ticket()
    near.drop("pod1", ["t"])
    near.put(key("b"), held("t"), ticket)
    near.drop_answer(key("c"))
    near.put(key("c"), held("t"), ticket)
    assert near.get(key("b")) is None and near.get(key("c")) is None
    ticket = near.ticket()
    near.drop_all()
    near.put(key("d"), held("t"), ticket)
    assert near.get(key("d")) is None


def test_the_least_recently_used_answer_leaves_first() -> None:
    near = NearAnswers(answers_max=2)
    near.begin_being_told()
    for subject in "ab":
        near.put(key(subject), held("t"), near.ticket())
    near.get(key("a"))
    near.put(key("c"), held("t"), near.ticket())
    assert [near.get(key(subject)) is None for subject in "abc"] == [False, True, False]
