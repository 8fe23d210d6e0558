"""When a scope is left out and when it is believed again, without a lake."""

from __future__ import annotations

from collections.abc import Mapping

from derived.defective import Before, Event, Judgement, Omission, Scope, in_words, judge

SCOPE = ("order", "o")
NUMBERS = iter(range(1, 10_000))


def event(cut: int, version: int, kind: str = "payment", **values: object) -> Event:
    given: dict[str, object] = {
        "cut": cut,
        "event_id": f"e{next(NUMBERS)}",
        "event_type": f"{kind}_changed",
        "merchant_id": "m",
        "aggregate_type": kind,
        "aggregate_id": kind[0],
        "version": version,
        "position": next(NUMBERS),
        "defect": None,
        "order_id": "o",
        "payment_id": "p" if kind == "refund" else None,
        "currency": "GBP",
        "amounts": {},
    }
    return Event(**(given | values))  # type: ignore[arg-type]


def judged(*events: Event, before: Mapping[Scope, Before] | None = None) -> Judgement:
    return judge("pod1", SCOPE, events, before or {})


def spans(found: Judgement) -> list[tuple[str, int, int, int | None]]:
    return [(one.defect, one.version, one.from_cut, one.until_cut) for one in found.left_out]


def test_versions_in_a_row_are_no_defect_whatever_their_cuts() -> None:
    assert judged(event(1, 1), event(1, 2), event(4, 3)).left_out == ()
    standing = {("payment", "p"): Before(version=7, merchant_id="m", currency="GBP")}
    assert judged(event(9, 8), before=standing).left_out == ()


def test_a_gap_lasts_until_the_whole_is_stated_again() -> None:
    gap = (event(3, 2), event(4, 3))
    assert spans(judged(*gap)) == [("GAP", 2, 3, None)]
    stated = event(6, 4, event_type="payment_restated")
    assert spans(judged(*gap, stated)) == [("GAP", 2, 3, 6)] and not judged(*gap, stated).bad
    assert spans(judged(event(6, 2, event_type="payment_restated"))) == [("GAP", 2, 6, 6)], "named, and left out never"


def test_wrong_money_lasts_until_the_next_good_event_and_is_never_taken_in() -> None:
    wrong = event(3, 2, defect="MONEY")
    found = judged(event(1, 1), wrong, event(5, 3))
    assert spans(found) == [("MONEY", 2, 3, 5)] and found.bad == {(3, wrong.event_id)}
    unreadable = event(3, 2, defect="UNREADABLE")
    assert spans(judged(event(1, 1), unreadable, event(5, 3))) == [("UNREADABLE", 2, 3, None)]


def test_a_second_event_of_a_version_another_merchant_and_another_currency_are_defects() -> None:
    first = event(1, 1)
    for defect, wrong in (
        ("TWICE", event(2, 1)),
        ("OTHER_AGGREGATE", event(2, 2, merchant_id="another")),
        ("OTHER_CURRENCY", event(2, 2, currency="JPY")),
    ):
        found = judged(first, wrong)
        assert spans(found) == [(defect, wrong.version, 2, None)] and found.bad == {(2, wrong.event_id)}
        assert found.left_out[0].currency == "GBP"


def test_refunds_that_do_not_sum_to_what_their_payment_says_leave_both_out() -> None:
    paid = event(1, 1, amounts={"captured_minor": 900, "refunded_minor": 0})
    given_back = event(3, 2, amounts={"captured_minor": 900, "refunded_minor": 400})
    refund = event(3, 1, "refund", amounts={"refunded_minor": 400})
    assert judged(paid, given_back, refund).left_out == ()
    assert spans(judged(paid, given_back)) == [("REFUNDS", 2, 3, None)]
    assert spans(judged(paid, refund)) == [("REFUNDS", 1, 3, None)]
    foreign = event(3, 1, "refund", amounts={"refunded_minor": 400}, currency="EUR")
    assert spans(judged(paid, given_back, foreign))[0][0] == "REFUNDS"
    later = event(5, 1, "refund", amounts={"refunded_minor": 400})
    assert spans(judged(paid, given_back, later)) == [("REFUNDS", 2, 3, 5)]
    (one,) = judged(paid, given_back).left_out
    assert one.amounts == {"captured_minor": 900, "refunded_minor": 400}
    assert one.money == "captured 9.00, refunded 4.00 GBP"


def test_what_overlaps_in_a_scope_is_left_out_as_one_with_its_first_defect() -> None:
    payment = (event(3, 2), event(8, 3, event_type="payment_restated"))
    order = (event(2, 1, "order"), event(5, 2, "order", defect="MONEY"), event(9, 3, "order"))
    assert spans(judged(*payment, *order)) == [("GAP", 2, 3, 9)]
    apart = (*payment, event(2, 1, "order"), event(10, 2, "order", defect="MONEY"))
    assert spans(judged(*apart)) == [("GAP", 2, 3, 8), ("MONEY", 2, 10, None)]


def test_a_sentence_names_five_and_counts_the_rest() -> None:
    (one,) = judged(event(3, 2, amounts={"captured_minor": 1250})).left_out
    assert isinstance(one, Omission)
    assert one.sentence == (
        "m/payment/p (version 2: the version before it is missing; its order is left out with it, from cut 3 of pod1 "
        "on; captured 12.50 GBP)"
    )
    assert in_words([]) == ""
    said = in_words([one.sentence] * 7)
    assert said.startswith("Finance leaves out 7, ") and said.count("12.50 GBP") == 5 and said.endswith("and 2 more.")


def test_a_version_that_lacks_what_was_taxed_before_or_moves_to_another_order_is_a_defect() -> None:
    first = event(1, 1, "order", taxed=("a GB", "b GB"))
    longer = event(2, 2, "order", taxed=("a GB", "b GB", "c GB"))
    lacking = event(3, 3, "order", taxed=("a GB", "c GB"))
    found = judged(first, longer, lacking)
    assert spans(found) == [("LACKING", 3, 3, None)] and found.bad == {(3, lacking.event_id)}
    healed = event(5, 4, "order", taxed=("a GB", "b GB", "c GB"))
    assert spans(judged(first, longer, lacking, healed)) == [("LACKING", 3, 3, 5)]
    before: dict[Scope, Before] = {("order", "o"): Before(version=1, merchant_id="m", currency="GBP", taxed=("a GB",))}
    assert spans(judged(event(2, 2, "order", taxed=("a FR",)), before=before)) == [("LACKING", 2, 2, None)]

    assert spans(judged(event(1, 1), event(2, 2, order_id="another"))) == [("OTHER_ORDER", 2, 2, None)]
    moved = event(2, 2, "refund", payment_id="another")
    assert spans(judged(event(1, 1, "refund"), moved)) == [("OTHER_ORDER", 2, 2, None)]


def test_a_refund_of_another_merchant_or_order_than_its_payment_is_none_of_it() -> None:
    paid = event(1, 1, amounts={"captured_minor": 900, "refunded_minor": 400})
    for strange in ({"merchant_id": "another"}, {"order_id": "another"}):
        refund = event(1, 1, "refund", amounts={"refunded_minor": 400}, **strange)
        assert {defect for defect, *_ in spans(judged(paid, refund))} == {"REFUNDS"}


def test_other_amounts_than_before_are_a_defect_unless_the_event_says_so_or_a_person_had_it_stated() -> None:
    first, forged = event(1, 1, "order", constant=7, parts=()), event(3, 2, "order", constant=8, parts=())
    found = judged(first, forged)
    assert spans(found) == [("UNEXPLAINED", 2, 3, None)] and found.bad == {(3, forged.event_id)}
    still = event(4, 3, "order", constant=8, parts=())
    assert spans(judged(first, forged, still)) == [("UNEXPLAINED", 2, 3, None)]
    stated = event(5, 4, "order", event_type="order_restated", constant=8, parts=())
    after = event(6, 5, "order", constant=8, parts=())
    assert spans(judged(first, forged, still, stated, after)) == [("UNEXPLAINED", 2, 3, 5)]
    put_right = event(5, 4, "order", constant=7, parts=())
    assert spans(judged(first, forged, still, put_right)) == [("UNEXPLAINED", 2, 3, 5)]
    before: dict[Scope, Before] = {("order", "o"): Before(version=1, merchant_id="m", currency="GBP", constant=7)}
    assert spans(judged(forged, before=before)) == [("UNEXPLAINED", 2, 3, None)]


def test_captures_and_cancellations_change_by_their_own_events_only() -> None:
    def later(event_type: str, kind: str, *parts: int) -> Judgement:
        changed = event(2, 2, kind, event_type=event_type, constant=7, parts=parts)
        return judged(event(1, 1, kind, constant=7, parts=(1, 2)), changed)

    assert not later("payment_captured", "payment", 1, 2, 3).left_out
    assert not later("payment_released", "payment", 1, 2, 3).left_out
    assert not later("payment_refunded", "payment", 1, 2).left_out
    assert spans(later("payment_refunded", "payment", 1, 2, 3)) == [("UNEXPLAINED", 2, 2, None)]
    assert spans(later("payment_captured", "payment", 1, 2, 3, 4)) == [("UNEXPLAINED", 2, 2, None)], (
        "one event, one part"
    )
    assert spans(later("payment_captured", "payment", 1, 3)) == [("UNEXPLAINED", 2, 2, None)], (
        "an earlier one is another"
    )
    assert not later("order_cancelled", "order", 1, 9).left_out
    assert not later("order_units_withdrawn", "order", 1, 2, 9).left_out
    assert spans(later("order_fulfilled", "order", 1, 9)) == [("UNEXPLAINED", 2, 2, None)]


def test_what_was_captured_by_an_event_that_is_wrong_in_itself_is_taken_in_with_the_next_good_one() -> None:
    captured = event(2, 2, event_type="payment_captured", constant=7, parts=(1,), defect="MONEY")
    refunded = event(3, 3, event_type="payment_refunded", constant=7, parts=(1,))
    assert spans(judged(event(1, 1, constant=7, parts=()), captured, refunded)) == [("MONEY", 2, 2, 3)]


def test_a_version_that_comes_once_more_after_later_ones_is_left_out_from_then_on() -> None:
    late = event(5, 2)
    standing = [event(1, 1), event(2, 2), event(3, 3)]
    judgement = judged(*standing, late)
    assert spans(judgement) == [("TWICE", 2, 5, None)]
    assert judgement.bad == {(late.cut, late.event_id)}
    # As a build from nothing sees it, with what ended it; and with a gap before that somebody stated again.
    assert spans(judged(*standing, late, event(6, 4))) == [("TWICE", 2, 5, None)]
    assert spans(judged(*standing, late, event(6, 4, event_type="payment_restated"))) == [("TWICE", 2, 5, 6)]
    wrong = event(5, 2, defect="MONEY")
    assert spans(judged(*standing, wrong, event(6, 4))) == [("MONEY", 2, 5, 6)]
    stated = event(4, 5, event_type="payment_restated")
    assert spans(judged(*standing, stated, late)) == [("GAP", 5, 4, 4), ("TWICE", 2, 5, None)]


def test_a_lost_version_that_comes_late_ends_what_waits_for_it_if_it_is_right() -> None:
    waiting = [event(1, 1), event(3, 3)]
    assert spans(judged(*waiting, event(6, 2))) == [("GAP", 3, 3, 6)]
    wrong = event(6, 2, defect="MONEY")
    found = judged(*waiting, wrong)
    assert spans(found) == [("GAP", 3, 3, 6)] and found.bad == {(6, wrong.event_id)}
    assert spans(judged(*waiting, event(6, 2, defect="UNREADABLE"))) == [("GAP", 3, 3, None)]
    # It was judged beside the wrong one before: what it waited for explains it.
    first, captured = event(1, 1, constant=7, parts=()), event(3, 3, constant=7, parts=(1,))
    assert spans(judged(first, captured)) == [("UNEXPLAINED", 3, 3, None)]
    late = event(6, 2, event_type="payment_captured", constant=7, parts=(1,))
    found = judged(first, captured, late)
    assert spans(found) == [("UNEXPLAINED", 3, 3, 6)] and not found.bad


def test_a_lost_version_before_one_that_is_wrong_in_itself_is_missed_too() -> None:
    forged, later = event(3, 3, defect="MONEY"), event(4, 4)
    assert spans(judged(event(1, 1), forged, later)) == [("MONEY", 3, 3, None)]
    found = judged(event(1, 1), forged, later, event(6, 2))
    assert spans(found) == [("MONEY", 3, 3, 6)] and found.bad == {(3, forged.event_id)}
    stated = event(6, 5, event_type="payment_restated")
    assert spans(judged(event(1, 1), forged, later, stated)) == [("MONEY", 3, 3, 6)]


def test_of_two_events_of_one_version_in_a_cut_the_first_in_the_outbox_counts_whatever_their_ids() -> None:
    second, first = event(1, 1, event_id="a", position=9), event(1, 1, event_id="b", position=8)
    assert judged(second, first).bad == {(1, "a")}


def test_one_event_at_a_time_comes_to_what_all_at_once_do() -> None:
    events = [event(1, 1), event(2, 3), event(4, 2), event(5, 2), event(6, 4), event(8, 6), event(9, 5, defect="MONEY")]
    whole = judged(*events, stated := event(11, 7, event_type="payment_restated"))
    assert spans(whole) == [("GAP", 3, 2, 4), ("TWICE", 2, 5, 11)]
    # A build that begins where nothing was left out has the histories from before.
    before: dict[Scope, Before] = {("payment", "p"): Before(version=3, merchant_id="m", currency="GBP", order_id="o")}
    assert spans(judged(*events[3:], stated, before=before)) == [("TWICE", 2, 5, 11)]
