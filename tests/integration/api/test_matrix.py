"""Who may ask what: every route of the OpenAPI document with every role, and with another merchant's ids.

A route without a row here fails the first test. What is another merchant's answers 404: nobody learns what others
have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from api.declaring import Role
from api.openapi import document
from api.routes import ROUTES
from api.webhooks.store import Wanted
from contracts.events.payment import DisputeStatus
from contracts.ids import uuid7
from oltp.commands.record_dispute import RecordDispute
from tests.integration.api.conftest import RIVAL, Asked
from tests.integration.shop import LOCATION, MERCHANT

S, A, OP = Role.STOREFRONT, Role.ADMIN, Role.OPERATOR
SOON = "2999-01-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Who may ask a route, and a body with which it gets as far as the merchant's data."""

    roles: frozenset[Role]
    body: Any = None
    is_foreign_hidden: bool = False
    """Whether the path or the body names something that is another merchant's."""
    is_signed: bool = False
    """Whether only the payment provider may ask, with its signature: no key opens it."""


def row(*roles: Role, body: Any = None, hidden: bool = False) -> Row:
    return Row(roles=frozenset(roles), body=body, is_foreign_hidden=hidden)


HOOK = Wanted(url="https://shop.example/hook", event_types=("order.placed",))
GRANT = {"feature": "loyalty", "grantor": "test"}
ROWS = {
    "get_health": row(),
    "get_problem_page": row(),
    "receive_provider_notification": Row(roles=frozenset(), body={}, is_signed=True),
    "list_products": row(S, A),
    "get_product": row(S, A, hidden=True),
    "begin_session": row(S),
    "get_session": row(S, hidden=True),
    "sign_in": row(S, body={"customer_id": "c1"}, hidden=True),
    "sign_out": row(S, hidden=True),
    "get_cart": row(S),
    "add_to_cart": row(S, body={"device_id": "phone", "sku": "MUG", "quantity": 1}),
    "set_cart_quantity": row(S, body={"device_id": "phone", "sku": "MUG", "quantity": 1}),
    "merge_carts": row(S, body={"from_cart_id": "{cart_id}"}),
    "check_out_cart": row(S, body={"number": 1, "lines": [], "total_minor": 0, "location_id": LOCATION}),
    "check_out": row(S, body={"lines": [{"sku": "MUG", "quantity": 1}], "location_id": LOCATION}, hidden=True),
    "reserve_stock": row(
        S, body={"location_id": LOCATION, "lines": [{"variant_id": "{variant_id}", "quantity": 1}], "expires_at": SOON}
    ),
    "release_reservation": row(S, body={}, hidden=True),
    "list_orders": row(A),
    "list_open_orders": row(A),
    "get_order": row(S, A, hidden=True),
    "get_order_status": row(S, A, hidden=True),
    "fulfill_order": row(A, body={"location_id": LOCATION}, hidden=True),
    "cancel_order": row(A, body={}, hidden=True),
    "authorize_payment": row(S, A, body={}, hidden=True),
    "await_payment": row(S, A, body={"method": "bank_transfer"}, hidden=True),
    "receive_payment": row(A, body={"provider_reference": "r", "amount_minor": 1}, hidden=True),
    "fail_payment": row(A, body={"failure_reason": "test"}, hidden=True),
    "return_payment": row(A, body={"provider_reference": "r", "reason": "test"}, hidden=True),
    "give_back_unallocated": row(A, body={"provider_reference": "r", "reason": "test"}, hidden=True),
    "redeem_gift_card": row(S, A, body={"gift_card_id": "{order_id}"}, hidden=True),
    "capture_payment": row(A, body={}, hidden=True),
    "void_payment": row(A, body={}, hidden=True),
    "request_refund": row(A, body={"lines": [], "reason": "test"}, hidden=True),
    "complete_refund": row(A, body={}, hidden=True),
    "fail_refund": row(A, body={"failure_reason": "test"}, hidden=True),
    "issue_gift_card": row(A, body={"funding": "granted", "amount_minor": 100, "source": "test", "reason": "test"}),
    "list_disputes": row(A),
    "get_dispute": row(A, hidden=True),
    "list_all_disputes": row(OP),
    "find_dispute": row(OP),
    "record_dispute": row(
        OP,
        body={"provider_reference": "dp_2", "status": "won", "recorded_by": "test", "recorded_because": "test"},
    ),
    "get_account": row(S, A),
    "search_products": row(S, A),
    "suggest": row(S, A),
    "put_product": row(A, body={"title": "Taken over"}),
    "put_variant": row(A, body={"sku": "TAKEN", "title": "Taken over"}, hidden=True),
    "set_price": row(A, body={"unit_price_micro": 1}, hidden=True),
    "get_stock": row(A, hidden=True),
    "receive_stock": row(
        A, body={"location_id": LOCATION, "lines": [{"variant_id": "{variant_id}", "quantity": 1}]}, hidden=True
    ),
    "adjust_stock": row(A, body={"location_id": LOCATION, "variant_id": "{variant_id}", "quantity": 1}, hidden=True),
    "spread_stock": row(A, body={"location_id": LOCATION, "variant_id": "{variant_id}"}, hidden=True),
    "get_merchant": row(S, A),
    "configure_merchant": row(A, body={}),
    "get_entitlements": row(S, A),
    "get_customer_entitlements": row(S, A),
    "grant_customer_entitlement": row(A, body=GRANT),
    "revoke_customer_entitlement": row(A, body=GRANT),
    "list_keys": row(A),
    "create_key": row(A, body={"role": "storefront", "label": "test"}),
    "rotate_key": row(A, body={}, hidden=True),
    "revoke_key": row(A, body={}, hidden=True),
    "list_webhook_endpoints": row(A),
    "create_webhook_endpoint": row(A, body={"url": "https://shop.example/hook", "event_types": ["order.placed"]}),
    "get_webhook_endpoint": row(A, hidden=True),
    "change_webhook_endpoint": row(A, body={}, hidden=True),
    "remove_webhook_endpoint": row(A, body={}, hidden=True),
    "rotate_webhook_secret": row(A, body={}, hidden=True),
    "resume_webhook_endpoint": row(A, body={}, hidden=True),
    "replay_webhooks": row(A, body={"from_time": SOON}, hidden=True),
    "skip_webhook_message": row(A, body={"event_id": "of-nothing", "reason": "refused for ever"}, hidden=True),
    "get_webhook_standing": row(A, hidden=True),
    **dict.fromkeys(("get_status", "get_freshness", "list_breaks", "get_break", "list_repairs"), row(OP)),
    **dict.fromkeys(("list_promises", "list_periods", "list_notifications", "get_certificate", "get_report"), row(OP)),
}
"""By the operation's id."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    name: str
    method: str
    path: str


def operations() -> Iterator[Operation]:
    for path, methods in document(ROUTES)["paths"].items():
        for method, operation in methods.items():
            yield Operation(name=operation["operationId"], method=method.upper(), path=path)


OPERATIONS = sorted(operations(), key=lambda operation: operation.name)


@pytest.fixture(scope="module")
def ids(asked: Asked) -> dict[str, str]:
    """Ids of things that the first merchant has."""
    shop = asked.shop
    order = shop.place(("MUG", 1))
    payment = shop.pay(shop.place(("PIN", 2)))
    disputed = RecordDispute(
        merchant_id=MERCHANT,
        payment_id=payment.payment_id,
        provider_reference="dp_1",
        status=DisputeStatus.OPENED,
        amount_minor=1,
        recorded_by="test",
        recorded_because="test",
    )
    ((product_id,),) = shop.query("select product_id::text from oltp.products where title = 'Mug'")
    return {
        "name": "not-found",
        "product_id": product_id,
        "variant_id": shop.variants["MUG"],
        "order_id": order.order_id,
        "payment_id": payment.payment_id,
        "dispute_id": shop.do(disputed).dispute.payment_dispute_id,
        "merchant_id": MERCHANT,
        "refund_id": str(uuid7()),
        "reservation_id": order.reservation_id or "",
        "customer_id": "c1",
        "cart_id": str(uuid7()),
        "break_id": "1",
        "provider": "embedded",
        "period": "2011-04",
        "file": "trading.csv",
        "endpoint_id": asked.services.webhooks.register(MERCHANT, HOOK, idempotency_key="matrix").endpoint.endpoint_id,
        "key_id": asked.services.keys.create(Role.STOREFRONT, MERCHANT, "spare").key.key_id,
    }


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"{(\w+)}", lambda found: ids[found[1]], value)
    if isinstance(value, list):
        return [filled(part, ids) for part in value]
    return {name: filled(part, ids) for name, part in value.items()} if isinstance(value, dict) else value


def ask(asked: Asked, operation: Operation, ids: dict[str, str], role: Role | None, merchant_id: str) -> Any:
    body = ROWS[operation.name].body
    options = {} if body is None else {"json": filled(body, ids)}
    return asked.ask(operation.method, filled(operation.path, ids), role=role, merchant_id=merchant_id, **options)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {operation.name for operation in OPERATIONS} == set(ROWS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_role_may_ask_what_its_row_says(asked: Asked, ids: dict[str, str], operation: Operation) -> None:
    allowed = ROWS[operation.name].roles
    for role in (None, *Role):
        # With the rival's keys: whatever is let in changes nothing of the first merchant.
        answer = ask(asked, operation, ids, role, RIVAL)
        if ROWS[operation.name].is_signed:
            assert answer.status_code == 401 and answer.json()["type"] == "/problems/signature", answer.text
            continue
        expected = 401 if allowed and role is None else 403 if allowed and role not in allowed else None
        if expected is None:
            assert answer.status_code not in (401, 403) and answer.status_code < 500, answer.text
        else:
            assert answer.status_code == expected, answer.text


@pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS if ROWS[operation.name].is_foreign_hidden],
    ids=lambda operation: operation.name,
)
def test_another_merchants_things_are_not_there(asked: Asked, ids: dict[str, str], operation: Operation) -> None:
    for role in sorted(ROWS[operation.name].roles):
        answer = ask(asked, operation, ids, role, RIVAL)
        assert answer.status_code == 404, answer.text
        assert answer.json()["type"] in ("/problems/not-found", "/problems/session-unknown")
