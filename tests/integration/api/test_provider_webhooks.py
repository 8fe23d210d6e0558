"""The payment provider's notifications over HTTP: who may send them, and what they do to an order's payment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from api.app import build_app
from api.provider_signatures import HEADER, SECONDS_MAX, signature_of
from api.services import build_services
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.settings import Settings
from oltp.domain.notifications import NOTIFICATION_BYTES_MAX, Notification, NotificationKind
from stack.upkeep.operations import build_operations
from tests.integration.api.conftest import PEPPER, Asked
from tests.integration.notifying_provider import Notifying
from tests.integration.shop import LOCATION, MERCHANT, NOW

SECRET, NEXT = "the-secret-of-the-provider", "the-next-secret-of-the-provider"
PATH = "/v1/provider/webhooks/embedded"


@pytest.fixture(scope="module")
def provider() -> Notifying:
    return Notifying()


@pytest.fixture(scope="module")
def signed(asked: Asked, api_settings: Settings, provider: Notifying) -> Iterator[Asked]:
    """The interface beside a provider that notifies it."""
    services = build_services(
        api_settings,
        PEPPER,
        operations=build_operations(api_settings),
        gateway=provider,
        provider_secrets=(SECRET, NEXT),
    )
    transport = httpx.ASGITransport(build_app(services), raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://tieout.test")
    yield replace(asked, client=client, services=services)
    asked.runner.run(client.aclose())
    services.close()


def send(signed: Asked, one: Any, *, secret: str = SECRET, ago: int = 0, header: str = "") -> httpx.Response:
    body = one if isinstance(one, bytes) else msgspec.json.encode(one)
    header = header or signature_of(secret, body, int(time.time()) - ago)
    sent = {HEADER: header, "Content-Type": "application/json"}
    return signed.ask("POST", PATH, role=None, headers=sent, content=body)


async def elsewhere(signed: Asked, one: Notification) -> httpx.Response:
    """Send from another thread, whose loop is another one."""
    body = msgspec.json.encode(one)
    headers = {HEADER: signature_of(SECRET, body, int(time.time())), "Content-Type": "application/json"}
    transport = httpx.ASGITransport(build_app(signed.services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tieout.test") as client:
        return await client.post(PATH, content=body, headers=headers)


def note(kind: str = NotificationKind.CAPTURE_FAILED, **says: Any) -> Notification:
    defaults: dict[str, Any] = {"id": f"evt_{time.monotonic_ns()}", "merchant_id": MERCHANT, "created_at": NOW}
    return Notification(type=kind, **{**defaults, **says})


def test_a_notification_before_the_answer_is_the_answer(signed: Asked, provider: Notifying) -> None:
    """It is sent from within the provider's call, then doubled, and then the authorization expires."""
    goods = {"lines": [{"sku": "MUG", "quantity": 1}], "location_id": LOCATION}
    order_id = signed.ask("POST", "/v1/checkouts", json=goods).json()["order"]["order_id"]
    found: list[httpx.Response] = []

    def notify() -> None:
        found.append(asyncio.run(elsewhere(signed, provider.written[-1])))

    provider.before_answer = notify
    first = signed.ask("POST", f"/v1/orders/{order_id}/payments", key="pay-once", json={})
    provider.before_answer = lambda: None
    found += [send(signed, provider.written[-1]) for _ in range(2)]
    assert [answer.json()["state"] for answer in found] == ["applied"] * 3, found[0].text
    again = signed.ask("POST", f"/v1/orders/{order_id}/payments", key="pay-once", json={})
    assert first.json() == again.json() and first.json()["status"] == PaymentStatus.AUTHORIZED
    assert signed.shop.query("select count(*) from oltp.payments where order_id = %s", order_id) == [(1,)]
    payment = signed.shop.present(PaymentState, first.json()["payment_id"])
    assert send(signed, provider.expire(payment.provider_reference)).json()["state"] == "applied"
    assert signed.shop.present(PaymentState, payment.payment_id).status is PaymentStatus.VOIDED


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1",
        "v1=00",
        "t=1,v1=zz",
        f"t={10**20},v1={'0' * 64}",
        signature_of(SECRET, b"{}", 1),
    ],
)
def test_what_is_not_signed_now_by_the_provider_is_refused(signed: Asked, header: str) -> None:
    answer = signed.ask("POST", PATH, role=None, headers={HEADER: header}, content=b"{}")
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/signature")


def test_a_signature_holds_for_five_minutes_and_for_its_body_by_its_secret(signed: Asked) -> None:
    one = note()
    assert send(signed, one, secret="not the secret").json()["type"] == "/problems/signature"
    assert send(signed, one, ago=SECONDS_MAX - 30).status_code == 200
    for ago in (SECONDS_MAX + 30, -SECONDS_MAX - 30):
        assert send(signed, one, ago=ago).json()["type"] == "/problems/signature"
    stolen = signature_of(SECRET, msgspec.json.encode(one), int(time.time()))
    assert send(signed, note(), header=stolen).status_code == 401


def test_both_secrets_are_taken_and_one_of_several_signatures_is_enough(signed: Asked) -> None:
    one = note()
    assert send(signed, one, secret=NEXT).status_code == 200
    body, now = msgspec.json.encode(one), int(time.time())
    two = f"{signature_of('gone', body, now)},{signature_of(NEXT, body, now).partition(',')[2]}"
    assert send(signed, one, header=two).status_code == 200


def test_without_a_secret_nothing_is_taken(asked: Asked) -> None:
    assert send(asked, note(), secret="").status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"nonsense", 400),
        (b"[]", 400),
        (msgspec.json.encode({"id": "evt"}), 400),
        (msgspec.json.encode(note(id="x" * 300)), 400),
        (msgspec.json.encode(note(id="\u202e")), 400),
        (msgspec.json.encode(note(reason="x" * NOTIFICATION_BYTES_MAX)), 413),
    ],
)
def test_what_is_no_notification_is_refused(signed: Asked, body: bytes, status: int) -> None:
    assert send(signed, body).status_code == status


def test_what_is_unknown_here_is_kept_and_never_lost(signed: Asked) -> None:
    strange = {**msgspec.to_builtins(note("payout.paid", id="evt_strange")), "another_field": {"of": "theirs"}}
    assert send(signed, msgspec.json.encode(strange)).json() == {"id": "evt_strange", "state": "parked"}
    assert send(signed, note("\x00\u202e", id="evt_nul", reason="\x00")).json()["state"] == "parked"
    unknown = note(id="evt_nobody", merchant_id="nobody")
    assert send(signed, unknown).json() == {"id": "evt_nobody", "state": "pending"}
    ((body,),) = signed.shop.query("select body from oltp.provider_notifications where event_id = 'evt_strange'")
    assert "another_field" in body
    other = signed.ask("POST", "/v1/provider/webhooks/another", role=None, content=b"{}")
    assert other.status_code == 401


def test_a_body_that_is_no_text_is_refused_also_where_nobody_reads_it(signed: Asked) -> None:
    one = {"id": "bytes", "type": "capture.failed", "merchant_id": MERCHANT, "created_at": "2026-01-01T00:00:00Z"}
    body = msgspec.json.encode({**one, "further": "Q"}).replace(b"Q", b"\xff")
    refused = send(signed, body)
    assert refused.status_code == 400 and refused.json()["type"] == "/problems/unparsable-body"
