"""A shopper's way over HTTP on two devices: fill a cart, sign in, see what has changed, check out once."""

from __future__ import annotations

from typing import Any

from api.declaring import Role
from tests.integration.api.conftest import Asked
from tests.integration.shop import LOCATION


def begin(asked: Asked) -> dict[str, Any]:
    answer = asked.ask("POST", "/v1/sessions")
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()
    return session


def sign_in(asked: Asked, session: dict[str, Any], customer_id: str) -> dict[str, Any]:
    headers = {"Tieout-Session": session["token"]}
    answer = asked.ask("POST", "/v1/sessions/current/sign-ins", headers=headers, json={"customer_id": customer_id})
    assert answer.status_code == 200, answer.text
    signed_in: dict[str, Any] = answer.json()
    return signed_in


def change(asked: Asked, session: dict[str, Any], what: str, **body: Any) -> dict[str, Any]:
    if what != "merges":
        body["device_id"] = session["device_id"]
    answer = asked.ask("POST", f"/v1/carts/{session['cart_id']}/{what}", json=body)
    assert answer.status_code == 200, answer.text
    cart: dict[str, Any] = answer.json()
    return cart


def shown(asked: Asked, session: dict[str, Any]) -> dict[str, Any]:
    answer = asked.ask("GET", f"/v1/carts/{session['cart_id']}?location_id={LOCATION}")
    assert answer.status_code == 200, answer.text
    cart: dict[str, Any] = answer.json()
    return cart


def units(cart: dict[str, Any]) -> dict[str, int]:
    return {line["sku"]: line["quantity"] for line in cart["lines"]}


def confirmed(cart: dict[str, Any]) -> dict[str, Any]:
    lines = [{name: line[name] for name in ("sku", "quantity", "unit_price_micro")} for line in cart["lines"]]
    return {
        "number": cart["number"],
        "lines": lines,
        "total_minor": cart["total_minor"],
        "location_id": LOCATION,
        "payment_token": "tok_card",
    }


def test_a_shopper_with_two_devices_buys_one_cart_once(asked: Asked) -> None:
    phone, laptop = begin(asked), begin(asked)
    change(asked, phone, "additions", sku="MUG", quantity=1)
    laptop = sign_in(asked, laptop, "two-devices")
    change(asked, laptop, "additions", sku="PEN", quantity=2)
    phone = sign_in(asked, phone, "two-devices")
    assert phone["cart_id"] == laptop["cart_id"]
    seen_by_phone = shown(asked, phone)
    assert units(seen_by_phone) == {"MUG": 1, "PEN": 2}
    # The laptop adds; the phone, which has not seen it, takes out what it shows.
    change(asked, laptop, "additions", sku="PEN", quantity=5)
    cart = change(asked, phone, "quantities", sku="PEN", quantity=0, seen=seen_by_phone["seen"])
    assert units(cart) == {"MUG": 1, "PEN": 5}

    path, cart = f"/v1/carts/{phone['cart_id']}/checkouts", shown(asked, phone)
    ordered = asked.ask("POST", path, key="buy", json=confirmed(cart))
    assert ordered.status_code == 201, ordered.text
    order, payment = ordered.json()["order"], ordered.json()["payment"]
    assert order["total_minor"] == cart["total_minor"] == payment["authorized_minor"]
    again = asked.ask("POST", path, key="buy", json=confirmed(cart))
    assert again.json()["order"] == order and again.headers["idempotency-replayed"] == "true"
    second = asked.ask("POST", path, json=confirmed(cart))
    assert second.status_code == 409 and order["order_id"] in second.json()["detail"]
    assert (units(shown(asked, laptop)), shown(asked, laptop)["number"]) == ({}, 2)


def test_a_cart_is_paid_by_a_bank_transfer_in_the_same_request(asked: Asked) -> None:
    session = begin(asked)
    change(asked, session, "additions", sku="MUG", quantity=1)
    path, body = f"/v1/carts/{session['cart_id']}/checkouts", confirmed(shown(asked, session))
    by_card = {**body, "payment_token": "tok_card"}
    by_transfer = {**body, "payment_token": None, "payment_method": "bank_transfer"}
    answer = asked.ask("POST", path, key="transfer", json=by_transfer)
    assert answer.status_code == 201, answer.text
    payment, due = answer.json()["payment"], answer.json()["due"]
    assert (payment["status"], due["action"], due["amount_minor"]) == ("pending", "transfer", body["total_minor"])
    again = asked.ask("POST", path, key="transfer", json=by_transfer)
    assert again.json() == answer.json() and again.headers["idempotency-replayed"] == "true"
    other = asked.ask("POST", path, key="transfer", json=by_card)
    assert other.status_code == 422 and other.json()["differing_fields"] == ["payment_method", "payment_token"]


def test_what_has_changed_is_told_before_money_moves(asked: Asked) -> None:
    session = begin(asked)
    change(asked, session, "additions", sku="PIN", quantity=3)
    cart, path = shown(asked, session), f"/v1/carts/{session['cart_id']}/checkouts"
    price = f"/v1/variants/{asked.shop.variants['PIN']}/price"
    assert asked.ask("PUT", price, Role.ADMIN, json={"unit_price_micro": 2_000_000}).status_code == 200
    refused = asked.ask("POST", path, json=confirmed(cart))
    problem = refused.json()
    assert (refused.status_code, problem["type"]) == (409, "/problems/cart-changed")
    assert {change["kind"] for change in problem["changes"]} == {"price", "total"}
    new = shown(asked, session)
    assert new["total_minor"] == problem["total_minor"] != cart["total_minor"]
    assert asked.ask("POST", path, json=confirmed(new)).status_code == 201


def test_what_cannot_be_had_is_shown_in_the_cart(asked: Asked) -> None:
    session = begin(asked)
    change(asked, session, "additions", sku="NO SUCH", quantity=1)
    cart = change(asked, session, "additions", sku="MUG", quantity=10**8)
    assert cart["total_minor"] is None
    lines = {line["sku"]: line["problem"] for line in shown(asked, session)["lines"]}
    assert lines == {"MUG": "short", "NO SUCH": "not_sold"}


def test_a_repeated_request_adds_once_and_a_repeated_merge_nothing(asked: Asked) -> None:
    one, other = begin(asked), begin(asked)
    body = {"device_id": one["device_id"], "sku": "MUG", "quantity": 2}
    for _ in range(2):
        answer = asked.ask("POST", f"/v1/carts/{one['cart_id']}/additions", key="the same", json=body)
        assert units(answer.json()) == {"MUG": 2}
    for _ in range(2):
        assert units(change(asked, other, "merges", from_cart_id=one["cart_id"])) == {"MUG": 2}


def test_a_key_stands_for_one_change_of_a_cart(asked: Asked) -> None:
    one, other = begin(asked), begin(asked)
    path = f"/v1/carts/{one['cart_id']}"
    # Half of what a cart may hold of a SKU: a second time it would not fit.
    added = {"device_id": one["device_id"], "sku": "MUG", "quantity": 6 * 10**8}
    taken = {"device_id": one["device_id"], "sku": "NOT THERE", "quantity": 0}
    merged = {"from_cart_id": other["cart_id"]}
    for what, body in (("additions", added), ("quantities", taken), ("merges", merged)):
        first, again = (asked.ask("POST", f"{path}/{what}", key=f"a-{what}", json=body) for _ in range(2))
        assert (first.status_code, again.status_code) == (200, 200), again.text
        assert "Idempotency-Replayed" not in first.headers and again.headers["Idempotency-Replayed"] == "true"
        assert units(again.json()) == {"MUG": 6 * 10**8} and again.json()["seen"] == first.json()["seen"]
    for what, key, body, differing in (
        ("additions", "a-additions", {**added, "quantity": 1}, ["quantity"]),
        ("additions", "a-additions", {**added, "sku": "PEN", "quantity": 1}, ["quantity", "sku"]),
        ("quantities", "a-quantities", {**taken, "seen": "{}"}, ["seen"]),
        ("merges", "a-merges", {"from_cart_id": begin(asked)["cart_id"]}, ["from_cart_id"]),
        ("quantities", "a-additions", added, ["do", "seen"]),
    ):
        refused = asked.ask("POST", f"{path}/{what}", key=key, json=body)
        assert (refused.status_code, refused.json()["differing_fields"]) == (422, differing)
    assert units(asked.ask("GET", path).json()) == {"MUG": 6 * 10**8}


def test_a_lost_session_means_to_sign_in_again_and_nothing_else(asked: Asked) -> None:
    session = sign_in(asked, begin(asked), "lost")
    change(asked, session, "additions", sku="MUG", quantity=2)
    token = session["token"]
    headers = {"Tieout-Session": token}
    assert asked.ask("GET", "/v1/sessions/current", headers=headers).json()["customer_id"] == "lost"
    asked.services.shoppers.sessions.end(token)
    answer = asked.ask("GET", "/v1/sessions/current", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/session-unknown")
    back = sign_in(asked, begin(asked), "lost")
    assert units(shown(asked, back)) == {"MUG": 2}
