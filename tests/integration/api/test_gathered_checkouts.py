"""Checkouts that come at once over HTTP: each has its own answer, position and key, whoever it went with."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from api.declaring import Role
from api.positions import HEADER, position_of
from contracts.errors import PodFencedError
from oltp.commands.gathering import Gathering
from tests.integration.api.conftest import Asked
from tests.integration.shop import LOCATION, MERCHANT

MANY = 30


def check_out(asked: Asked, *keys: str, sku: str = "PEN", **body: Any) -> list[httpx.Response]:
    """Check out with each of these keys, all at once."""
    bearer = {"Authorization": f"Bearer {asked.keys[Role.STOREFRONT, MERCHANT]}"}
    given = {"lines": [{"sku": sku, "quantity": 1}], "location_id": LOCATION, **body}

    async def go() -> list[httpx.Response]:
        return await asyncio.gather(
            *(
                asked.client.post("/v1/checkouts", json=given, headers={**bearer, "Idempotency-Key": key})
                for key in keys
            )
        )

    return asked.runner.run(go())


def test_each_has_its_own_order_and_position(asked: Asked) -> None:
    keys = [f"many-{number}" for number in range(MANY)]
    answers = check_out(asked, *keys, payment_token="tok-1")
    assert [answer.status_code for answer in answers] == [201] * MANY
    assert len({answer.json()["order"]["order_id"] for answer in answers}) == MANY
    assert {answer.json()["payment"]["status"] for answer in answers} == {"authorized"}
    orders = [answer.json()["order"]["order_id"] for answer in answers]
    ((transactions,),) = asked.shop.query(
        "select count(distinct xid::text) from oltp.outbox where aggregate_id = any(%s)", orders
    )
    assert transactions < MANY

    again = check_out(asked, *keys, payment_token="tok-1")
    assert [answer.json() for answer in again] == [answer.json() for answer in answers]
    assert {answer.headers["Idempotency-Replayed"] for answer in again} == {"true"}


def test_a_position_is_that_of_the_transaction(asked: Asked) -> None:
    first = check_out(asked, *(f"placed-{number}" for number in range(MANY)))
    again = check_out(asked, *(f"placed-{number}" for number in range(MANY)))
    for answers in (first, again):
        for answer in answers:
            position = position_of(asked.services.tokens, answer.headers[HEADER])
            ((xid,),) = asked.shop.query(
                "select xid::text::bigint from oltp.outbox where aggregate_id = %s",
                answer.json()["order"]["order_id"],
            )
            assert (position.pod, position.xid) == ("pod1", xid) and position.lsn


def test_what_is_sold_out_is_refused_alone(asked: Asked) -> None:
    answers = check_out(asked, *(f"out-{number}" for number in range(MANY)), sku="MUG")
    sold = [answer.status_code for answer in answers].count(201)
    assert {answer.status_code for answer in answers} <= {201, 409} and sold
    left = check_out(asked, "none", sku="NONE")
    assert left[0].status_code == 404


def test_they_follow_their_merchant_to_another_pod(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    really, fenced = Gathering.execute, ["once"]

    async def execute(gathering: Any, command: Any, **given: Any) -> Any:
        if fenced:
            fenced.pop()
            raise PodFencedError("It has moved.")
        return await really(gathering, command, **given)

    monkeypatch.setattr(Gathering, "execute", execute)
    (answer,) = check_out(asked, "moved")
    assert answer.status_code == 201 and not fenced
