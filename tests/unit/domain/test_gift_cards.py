"""A gift card's balance: what each step may do, and that no history of steps breaks it or the books."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConflictError, IllegalTransitionError, InputError, InsufficientBalanceError
from contracts.events.gift_card import GiftCardFunding, GiftCardState, GiftCardStatus
from contracts.events.payment import PaymentStatus
from contracts.limits import AMOUNT_MINOR_MAX
from oltp.domain.gift_cards import (
    amount_to_redeem,
    authorized_by_card,
    capture_by_card,
    credit,
    expire,
    issue_gift_card,
    redeem,
    require_usable,
)
from oltp.domain.payments import capture_payment
from tests.unit.domain.builders import NOW, captured, merchant, placed, unpriced

YEAR = timedelta(days=365)


def card(amount_minor: int = 5_000, *, expires_after: timedelta | None = None, number: int = 1) -> GiftCardState:
    return issue_gift_card(
        merchant_id="m1",
        gift_card_id=f"g{number}",
        currency="GBP",
        funding=GiftCardFunding.SOLD,
        amount_minor=amount_minor,
        external_reference="till 4711",
        reason="",
        source="storefront",
        issued_at=NOW,
        expires_at=None if expires_after is None else NOW + expires_after,
    )


def test_a_card_is_issued_with_value_and_a_reference_for_its_money() -> None:
    issued = card(5_000)
    assert (issued.version, issued.status, issued.balance_minor) == (1, GiftCardStatus.ACTIVE, 5_000)
    with pytest.raises(InputError, match="above 0"):
        card(0)
    with pytest.raises(InputError, match="before it is issued"):
        card(1, expires_after=timedelta(0))
    options = msgspec.structs.asdict(issued)
    names = ("merchant_id", "gift_card_id", "currency", "reason", "source", "issued_at", "expires_at")
    given_names = {name: options[name] for name in names}
    with pytest.raises(InputError, match="received under"):
        issue_gift_card(**given_names, funding=GiftCardFunding.SOLD, amount_minor=1, external_reference=None)
    granted = issue_gift_card(**given_names, funding=GiftCardFunding.GRANTED, amount_minor=1, external_reference=None)
    assert granted.funding is GiftCardFunding.GRANTED


def test_it_pays_as_much_as_the_order_owes_and_it_holds() -> None:
    order = placed(merchant(), [unpriced(1, 1, 20_000_000)])  # 20.00 and 4.00 of tax
    assert amount_to_redeem(card(5_000), order, [], None) == 2_400
    assert amount_to_redeem(card(1_000), order, [], None) == 1_000
    assert amount_to_redeem(card(5_000), order, [], 700) == 700
    assert amount_to_redeem(card(5_000), order, [], None, in_flight_minor=2_000) == 400
    with pytest.raises(ConflictError, match="open to pay"):
        amount_to_redeem(card(5_000), order, [], 2_401)
    with pytest.raises(ConflictError, match="nothing open"):
        amount_to_redeem(card(5_000), order, [captured(order)], None)
    with pytest.raises(InsufficientBalanceError, match=r"holds 10\.00, 10\.01 asked for"):
        amount_to_redeem(card(1_000), order, [], 1_001)
    with pytest.raises(InsufficientBalanceError):
        amount_to_redeem(redeem(card(1_000), 1_000), order, [], None)


def test_the_payment_by_a_card_is_captured_at_once() -> None:
    order = placed(merchant(), [unpriced(1, 1, 20_000_000)])
    payment = authorized_by_card(card(), order, payment_id="p1", amount_minor=2_400, authorized_at=NOW)
    taken = capture_payment(payment, capture_by_card(payment, "c1"))
    assert (taken.status, taken.captured_minor, taken.authorized_minor) == (PaymentStatus.CAPTURED, 2_400, 2_400)
    assert (taken.gift_card_id, taken.provider, taken.provider_reference) == ("g1", "gift_card", "g1")


def test_it_ends_at_its_time_and_not_before() -> None:
    ending = card(5_000, expires_after=YEAR)
    require_usable(ending, "GBP", NOW)
    with pytest.raises(ConflictError, match="not over yet"):
        expire(ending, NOW)
    with pytest.raises(ConflictError, match="not over yet"):
        expire(card(), NOW + 100 * YEAR)
    # Between its end and the next look for such cards it is over already.
    with pytest.raises(ConflictError, match="has expired"):
        require_usable(ending, "GBP", NOW + YEAR)
    ended = expire(redeem(ending, 1_500), NOW + YEAR)
    assert (ended.status, ended.expired_minor, ended.balance_minor) == (GiftCardStatus.EXPIRED, 3_500, 0)
    assert ended.expired_at == NOW + YEAR
    for step in (lambda: redeem(ended, 1), lambda: credit(ended, 1), lambda: expire(ended, NOW + YEAR)):
        with pytest.raises(IllegalTransitionError):
            step()
    with pytest.raises(ConflictError, match="in GBP, not in EUR"):
        require_usable(card(), "EUR", NOW)


def test_what_comes_back_is_on_the_card_up_to_the_largest_amount() -> None:
    spent = redeem(card(5_000), 5_000)
    assert credit(spent, 2_000).balance_minor == 2_000
    with pytest.raises(ConflictError, match="cannot take"):
        credit(card(5_000), AMOUNT_MINOR_MAX - 4_999)


STEPS = st.lists(
    st.tuples(st.sampled_from(("redeem", "credit", "expire")), st.integers(0, 2), st.integers(1, 3_000)), max_size=60
)


@given(st.lists(st.integers(1, 5_000), min_size=3, max_size=3), STEPS)
def test_whatever_is_tried_no_card_falls_below_zero_and_the_books_owe_what_is_left(
    amounts: list[int], steps: list[tuple[str, int, int]]
) -> None:
    cards = [card(amount, expires_after=YEAR, number=number) for number, amount in enumerate(amounts)]
    booked = sum(amounts)  # What the journal owes: issued, and then by what each step books.
    given_back = [0, 0, 0]
    for step, which, amount in steps:
        before = cards[which]
        try:
            match step:
                case "redeem":
                    cards[which] = redeem(before, amount)
                    booked -= amount
                case "credit":
                    cards[which] = credit(before, amount)
                    booked += amount
                    given_back[which] += amount
                case _:
                    cards[which] = expire(before, NOW + YEAR)
                    booked -= before.balance_minor
        except ConflictError:
            assert cards[which] == before
        else:
            assert cards[which].version == before.version + 1
        for number, one in enumerate(cards):
            assert 0 <= one.balance_minor <= amounts[number] + given_back[number]
        assert booked == sum(one.balance_minor for one in cards)
