"""What every payment provider behind the port must do; the embedded one does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from contracts.errors import GatewayDeclinedError
from oltp.gateway import DECLINED_TOKEN, EmbeddedGateway, PaymentGateway


@pytest.fixture
def gateway() -> PaymentGateway:
    return EmbeddedGateway()


def steps(gateway: PaymentGateway, key: str) -> list[str]:
    """One reference of each step under one key."""
    auth = gateway.authorize(idempotency_key=key, amount_minor=1, currency="GBP", payment_token="tok").reference
    return [
        auth,
        gateway.capture(idempotency_key=key, authorization_reference=auth, amount_minor=1, currency="GBP").reference,
        gateway.refund(idempotency_key=key, authorization_reference=auth, amount_minor=1, currency="GBP"),
        gateway.void(idempotency_key=key, authorization_reference=auth),
    ]


def test_a_repeated_key_gets_the_same_answer_and_another_key_another(gateway):
    assert steps(gateway, "a") == steps(gateway, "a")
    assert len({*steps(gateway, "a"), *steps(gateway, "b")}) == 8


def test_another_process_gives_the_same_reference(gateway):
    code = (
        "from oltp.gateway import EmbeddedGateway as G;"
        "print(G().authorize(idempotency_key='a', amount_minor=1, currency='GBP', payment_token='tok').reference)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == steps(gateway, "a")[0]


def test_a_declined_token_is_declined_every_time(gateway):
    for _ in range(2):
        with pytest.raises(GatewayDeclinedError):
            gateway.authorize(idempotency_key="a", amount_minor=1, currency="GBP", payment_token=DECLINED_TOKEN)


def test_later_steps_can_be_declined_by_the_authorization():
    answer = EmbeddedGateway().authorize(idempotency_key="a", amount_minor=1, currency="GBP", payment_token="tok")
    auth = answer.reference
    strict = EmbeddedGateway(declined=frozenset({auth}))
    with pytest.raises(GatewayDeclinedError):
        strict.capture(idempotency_key="c", authorization_reference=auth, amount_minor=1, currency="GBP")
    with pytest.raises(GatewayDeclinedError):
        strict.refund(idempotency_key="r", authorization_reference=auth, amount_minor=1, currency="GBP")
    with pytest.raises(GatewayDeclinedError):
        strict.void(idempotency_key="v", authorization_reference=auth)
