"""A read that carries a position: the copy answers once it holds the write, whatever else is open."""

from __future__ import annotations

import psycopg
import pytest

from api.models import ReadModels
from api.pods import Done, Pods
from contracts.ids import uuid7
from contracts.settings import Settings
from derived.read_models.account_view import NAME
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.directory import assign
from stack.composition.draining import drain_everything
from tests.integration.reconcile_world import LOCATION, SKUS

MERCHANT = "united-kingdom"


def _order(pods: Pods, key: str) -> Done:
    command = PlaceOrder(
        merchant_id=MERCHANT,
        order_number=key,
        customer_id="c-positions",
        location_id=LOCATION,
        lines=[OrderLineInput(sku=SKUS[0], quantity=1)],
    )
    return pods.execute(command, idempotency_key=key)


@pytest.fixture
def homes(system: Settings) -> Pods:
    assign(system.control_dsn, MERCHANT, "pod1")
    return Pods(system)


def test_a_copy_answers_when_it_holds_the_write(system: Settings, homes: Pods) -> None:
    models, pod, key = ReadModels(system.read_models_dsn), homes.home(MERCHANT), str(uuid7())
    first = _order(homes, key)
    assert first.position is not None and first.position.pod == "pod1"
    assert not models.has(NAME, pod, first.position, seconds=0)
    with psycopg.connect(system.pods[0].app_dsn) as other:
        # A transaction that began earlier and stays open must not hide that the write is there.
        other.execute("select pg_current_xact_id()")
        second = _order(homes, str(uuid7()))
        drain_everything(system)
        assert second.position is not None
        assert models.has(NAME, pod, first.position, seconds=0)
        assert models.has(NAME, pod, second.position, seconds=0)
        third = _order(homes, str(uuid7()))
        assert third.position is not None and not models.has(NAME, pod, third.position, seconds=0.05)
    again = _order(homes, key)
    # A repeated command names the write of the first run.
    assert again.is_replayed and again.position is not None and again.position.xid == first.position.xid
    models.close()
    last = _order(homes, str(uuid7()))
    homes.close()
    # The command has told it with its commit; nobody is asked.
    assert last.position is not None and last.position.xid > third.position.xid
