"""Disputes over HTTP and on the command line: a merchant sees its own, an operator all, and records by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from api.declaring import Role
from cli.app import app
from contracts.errors import InputError
from contracts.events.payment import PaymentState
from contracts.ids import uuid7
from contracts.settings import Settings
from stack.composition import session
from tests.integration.api.conftest import RIVAL, Asked
from tests.integration.shop import MERCHANT

OPENING: dict[str, Any] = {
    "provider_reference": "dp_1",
    "status": "opened",
    "amount_minor": 100,
    "fee_minor": 15,
    "reason": "not known",
    "recorded_by": "Ada",
    "recorded_because": "a letter",
}
ENDING: dict[str, Any] = {name: OPENING[name] for name in ("provider_reference", "recorded_by", "recorded_because")}


def paid(asked: Asked) -> PaymentState:
    return asked.shop.pay(asked.shop.place(("MUG", 1)))


def record(asked: Asked, payment: PaymentState, key: str | None = None, merchant: str = MERCHANT, **says: Any) -> Any:
    path = f"/v1/operator/merchants/{merchant}/payments/{payment.payment_id}/disputes"
    return asked.ask("POST", path, Role.OPERATOR, key=key, json=says)


def test_an_operator_records_and_the_merchant_sees_it(asked: Asked) -> None:
    payment = paid(asked)
    opened = record(asked, payment, "opening", **OPENING)
    assert opened.status_code == 200, opened.text
    assert (opened.json()["is_new"], opened.json()["dispute"]["status"]) == (True, "opened")
    again = record(asked, payment, "opening", **OPENING)
    assert again.json() == opened.json() and again.headers["Idempotency-Replayed"] == "true"
    assert record(asked, payment, **OPENING).json()["is_new"] is False
    other = record(asked, payment, **{**OPENING, "amount_minor": 101})
    assert (other.status_code, other.json()["type"]) == (409, "/problems/conflict"), other.text

    dispute_id = opened.json()["dispute"]["payment_dispute_id"]
    seen = asked.ask("GET", f"/v1/disputes/{dispute_id}", Role.ADMIN).json()
    assert (seen["status"], seen["amount_minor"], seen["fee_minor"], seen["currency"]) == ("opened", 100, 15, "GBP")
    assert (seen["payment_id"], seen["order_id"]) == (payment.payment_id, payment.order_id)
    assert record(asked, payment, status="lost", **ENDING).json()["dispute"]["status"] == "lost"
    assert asked.ask("GET", f"/v1/disputes/{dispute_id}", Role.ADMIN).json()["status"] == "lost"

    shown = asked.ask("GET", f"/v1/operator/disputes/{dispute_id}", Role.OPERATOR).json()
    assert (shown["pod"], shown["merchant_id"], shown["status"]) == ("pod1", MERCHANT, "lost")
    assert [(one["kind"], one["decided_by"], one["reason"]) for one in shown["said"]] == [
        ("dispute.opened", "Ada", "a letter"),
        ("dispute.lost", "Ada", "a letter"),
    ]


def test_nobody_sees_or_records_the_disputes_of_another_merchant(asked: Asked) -> None:
    payment = paid(asked)
    dispute_id = record(asked, payment, **OPENING).json()["dispute"]["payment_dispute_id"]
    assert asked.ask("GET", "/v1/disputes", Role.ADMIN, RIVAL).json() == {"items": [], "next": None}
    for path in (f"/v1/disputes/{dispute_id}", f"/v1/disputes/{uuid7()}", "/v1/disputes/nonsense"):
        assert asked.ask("GET", path, Role.ADMIN, RIVAL).status_code == 404
    # The path names the merchant: a payment of another one is not there.
    ending = {**ENDING, "status": "won"}
    for merchant in (RIVAL, "nobody"):
        assert record(asked, payment, merchant=merchant, **ending).status_code == 404
    of_rival = asked.ask("GET", "/v1/operator/disputes", Role.OPERATOR, params={"merchant_id": RIVAL, "ended": True})
    assert of_rival.json() == {"items": []}
    assert asked.ask("GET", f"/v1/operator/disputes/{uuid7()}", Role.OPERATOR).status_code == 404
    odd = asked.ask("GET", "/v1/operator/disputes", Role.OPERATOR, params={"merchant_id": "a\x00b"})
    assert odd.status_code == 400


def test_lists_are_the_newest_first_and_page_by_page(asked: Asked) -> None:
    payments = [paid(asked) for _ in range(3)]
    ids = [record(asked, one, **OPENING).json()["dispute"]["payment_dispute_id"] for one in payments]
    assert record(asked, payments[1], status="won", **ENDING).status_code == 200

    def listed(**query: Any) -> list[str]:
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = asked.ask("GET", "/v1/disputes", Role.ADMIN, params={"limit": 2, **query, **after}).json()
            found += [one["payment_dispute_id"] for one in page["items"]]
            if page["next"] is None:
                return found
            after = {"after": page["next"]}

    assert listed()[:3] == ids[::-1] and len(set(listed())) == len(listed())
    assert listed(status="opened")[:2] == [ids[2], ids[0]] and ids[1] in listed(status="won")
    first = asked.ask("GET", "/v1/disputes", Role.ADMIN, params={"limit": 1}).json()["next"]
    for wrong in ({"after": first, "status": "won"}, {"status": "nonsense"}):
        assert asked.ask("GET", "/v1/disputes", Role.ADMIN, params=wrong).status_code == 400
    shown = asked.ask("GET", "/v1/operator/disputes", Role.OPERATOR, params={"limit": 2}).json()["items"]
    assert [one["payment_dispute_id"] for one in shown] == [ids[2], ids[0]]
    every = asked.ask("GET", "/v1/operator/disputes", Role.OPERATOR, params={"ended": True}).json()["items"]
    assert [one["payment_dispute_id"] for one in every[:3]] == ids[::-1]


def test_a_person_does_the_same_on_the_command_line(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(_progress: object) -> Iterator[Settings]:
        yield asked.settings

    monkeypatch.setattr(session, "open_session", opened)

    def run(*arguments: str) -> Any:
        outcome = CliRunner().invoke(app, ["disputes", *arguments])
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        assert outcome.exit_code == 0, outcome.output
        return json.loads(outcome.stdout) if "--json" in arguments else outcome.stdout

    payment = paid(asked)
    named = ("--merchant", MERCHANT, "--payment", payment.payment_id, "--reference", "dp_cli")
    said = ("--reason", "seen on its pages", "--by", "Bob")
    opening = (
        "record",
        "opened",
        *named,
        *said,
        "--amount-minor",
        "250",
        "--fee-minor",
        "15",
        "--bank-reason",
        "fraud",
    )
    shown = run(*opening, "--dry-run")
    assert "2.50 are held, and the provider keeps 0.15" in shown and "Nothing was done." in shown
    assert run(*opening, "--dry-run", "--json")["known_status"] is None
    with pytest.raises(InputError, match="Nothing was done"):
        run(*opening)
    done = run(*opening, "--yes", "--json")
    assert done["is_new"] is True
    assert "was recorded already, and is opened" in run(*opening, "--yes")
    dispute_id = done["dispute"]["payment_dispute_id"]
    assert run("list", "--merchant", MERCHANT, "--json")["disputes"][0]["payment_dispute_id"] == dispute_id
    assert dispute_id in run("list") and "2.50" in run("list")
    assert "is recorded as won" in run("record", "won", *named, *said, "--yes")
    assert dispute_id not in run("list") and dispute_id in run("list", "--ended")
    assert run("show", dispute_id, "--json")["said"][1]["decided_by"] == "Bob"
    assert "Bob: seen on its pages" in run("show", dispute_id)
    with pytest.raises(InputError, match="is not the id of a dispute"):
        run("show", "nonsense")
