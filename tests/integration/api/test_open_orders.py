"""What is still to be shipped, over HTTP: what waits for money is said as the command decides it, or left out."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from api.declaring import Role
from contracts.errors import StackError
from derived.read_models.fulfillment_view import build
from streams.consumer import Consumer
from streams.draining import drain_pod
from streams.logs import build_log
from tests.integration.api.conftest import Asked
from tests.integration.shop import LOCATION

ADMIN = Role.ADMIN
OPEN = "/v1/open-orders"


def order(asked: Asked, **more: Any) -> Any:
    body = {"lines": [{"sku": "MUG", "quantity": 2}], "location_id": LOCATION, **more}
    answer = asked.ask("POST", "/v1/checkouts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def listed(asked: Asked, query: str = "limit=200") -> dict[str, Any]:
    """Let the view follow, and return the orders by id."""
    drain_pod(asked.settings.pods[0], asked.settings)
    with closing(build(asked.settings)) as projection, closing(build_log(asked.settings)) as log:
        Consumer(projection, "pod1", log).drain()
    answer = asked.ask("GET", f"{OPEN}?{query}", ADMIN)
    assert answer.status_code == 200, answer.text
    assert answer.headers["tieout-source"] == "fulfillment_view" and answer.headers["tieout-applied-cut"]
    return {one["order_id"]: one for one in answer.json()["items"]}


def fulfilled(asked: Asked, order_id: str) -> int:
    answer = asked.ask("POST", f"/v1/orders/{order_id}/fulfillments", ADMIN, json={"location_id": LOCATION})
    return int(answer.status_code)


def test_what_waits_for_money_is_shown_so_and_can_be_left_out(asked: Asked) -> None:
    card = order(asked, payment_token="tok_card")["order"]["order_id"]
    made = order(asked, payment_method="bank_transfer")
    waits, payment = made["order"]["order_id"], made["payment"]
    found = listed(asked)
    assert (found[card]["awaiting_payment"], found[waits]["awaiting_payment"]) == (False, True)
    assert [(line["sku"], line["open_quantity"], line["location_ids"]) for line in found[waits]["lines"]] == [
        ("MUG", 2, [LOCATION])
    ]
    assert (found[waits]["awaited_minor"], found[waits]["awaited_until"], found[waits]["currency"]) == (
        payment["authorized_minor"],
        payment["expires_at"],
        "GBP",
    )
    assert (found[card]["awaited_minor"], found[card]["currency"]) == (0, None)
    assert {card, waits} & set(listed(asked, "awaiting_payment=false&limit=200")) == {card}
    assert {card, waits} & set(listed(asked, "awaiting_payment=true&limit=200")) == {waits}
    assert fulfilled(asked, waits) == 409
    # A merchant who ships before is told that money is waited for, and may ship.
    assert asked.ask("PATCH", "/v1/merchant", ADMIN, json={"ships_before_paid": True}).status_code == 200
    before_paid = listed(asked)[waits]
    assert (before_paid["awaiting_payment"], before_paid["awaited_minor"]) == (False, payment["authorized_minor"])
    assert waits in listed(asked, "awaiting_payment=false&limit=200")
    assert asked.ask("PATCH", "/v1/merchant", ADMIN, json={"ships_before_paid": False}).status_code == 200
    # It says so at once when the money is there, also before the view has heard of it.
    receipt = {"provider_reference": "rcpt", "amount_minor": payment["authorized_minor"]}
    asked.ask("POST", f"/v1/payments/{payment['payment_id']}/receipts", ADMIN, json=receipt)
    (now,) = [one for one in asked.ask("GET", OPEN, ADMIN).json()["items"] if one["order_id"] == waits]
    assert not now["awaiting_payment"]
    assert listed(asked)[waits]["awaited_minor"] == 0 and fulfilled(asked, waits) == 201
    assert waits not in listed(asked)


def test_an_order_whose_money_a_bank_took_back_waits_until_it_is_paid_in_any_way(asked: Asked) -> None:
    made = order(asked, payment_method="direct_debit", payment_token="tok_mandate")
    order_id, payment = made["order"]["order_id"], made["payment"]
    path, receipt = f"/v1/payments/{payment['payment_id']}", {"provider_reference": "rcpt"}
    total_minor = payment["authorized_minor"]
    asked.ask("POST", f"{path}/receipts", ADMIN, json={**receipt, "amount_minor": total_minor})
    assert not listed(asked)[order_id]["awaiting_payment"]
    returned = asked.ask("POST", f"{path}/returns", ADMIN, json={**receipt, "reason": "disputed"})
    assert returned.json()["returned_minor"] == total_minor
    found = listed(asked)[order_id]
    assert (found["awaiting_payment"], found["returned_minor"], found["awaited_minor"]) == (True, total_minor, 0)
    assert fulfilled(asked, order_id) == 409
    again = asked.ask("POST", f"/v1/orders/{order_id}/payments", json={}).json()
    asked.ask("POST", f"/v1/payments/{again['payment_id']}/captures", ADMIN, json={})
    found = listed(asked)[order_id]
    assert (found["awaiting_payment"], found["returned_minor"]) == (False, total_minor)
    assert fulfilled(asked, order_id) == 201


def test_pages_follow_each_other_and_without_oltp_the_view_alone_says_what_waits(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [order(asked, payment_method="bank_transfer")["order"]["order_id"] for _ in range(3)]
    every: list[str] = []
    cursor: str | None = ""
    listed(asked)
    while cursor is not None:
        page = asked.ask("GET", f"{OPEN}?limit=2{cursor and f'&after={cursor}'}", ADMIN).json()
        every += [one["order_id"] for one in page["items"]]
        cursor = page["next"]
    assert every == list(listed(asked)) and len(every) == len(set(every)) and every[-3:] == ids

    def away(merchant_id: str) -> None:
        raise StackError("The pod is away.")

    monkeypatch.setattr(asked.services.pods, "reading", away)
    assert {listed(asked)[one]["awaiting_payment"] for one in ids} == {True}


def test_a_list_that_is_asked_with_a_position_holds_that_write_or_says_that_it_does_not(asked: Asked) -> None:
    listed(asked)
    body = {"lines": [{"sku": "MUG", "quantity": 1}], "location_id": LOCATION}
    placed = asked.ask("POST", "/v1/checkouts", json=body)
    order_id, position = placed.json()["order"]["order_id"], {"Tieout-Position": placed.headers["tieout-position"]}
    late = asked.ask("GET", f"{OPEN}?limit=200", ADMIN, headers=position)
    assert (late.status_code, late.json()["type"]) == (503, "/problems/propagation") and late.json()["retryable"]
    assert order_id in listed(asked)
    held = asked.ask("GET", f"{OPEN}?limit=200", ADMIN, headers=position)
    assert held.status_code == 200 and order_id in held.text
    assert asked.ask("GET", OPEN, ADMIN, headers={"Tieout-Position": "made up"}).status_code == 400
