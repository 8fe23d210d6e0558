"""`tieout parked skip`: an event that nothing makes readable is passed over, by name, and what lacks is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from contracts.breaks import BreakState
from contracts.errors import InputError
from contracts.settings import Settings
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.quantities import QuantityInput
from repair import ledger
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from tests.integration.reconcile_world import Shop, open_shops

Run = Callable[..., Any]
REFUSES = """
create function read_models.refuse() returns trigger language plpgsql as $body$ begin
    if new.version = 2 then
        raise exception using errcode = '23514', message = 'nothing mends version 2';
    end if;
    return new;
end $body$;
create trigger refuses before insert or update on read_models.account_orders
for each row execute function read_models.refuse();
"""


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """A shop in pod1; of every order the account view refuses version 2."""
    migrate_everything(settings)
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute(REFUSES)
    with open_shops(settings) as shops:
        yield shops[0]


def stands(settings: Settings, order_id: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.read_models_dsn) as connection:
        return connection.execute(
            "select version, status from read_models.account_orders where order_id = %s", [order_id]
        ).fetchall()


def test_what_waits_behind_it_is_applied_and_nothing_lacks(settings: Settings, shop: Shop, run: Run) -> None:
    order = shop.order()
    line = QuantityInput(order_line_id=order.lines[0].order_line_id, quantity=1)
    for _ in range(2):
        # In a cut of its own: of several versions that come together the newest alone is applied.
        shop._do(CancelOrder(merchant_id=shop.merchant_id, order_id=order.order_id, lines=[line]))
        drain_everything(settings)
    key = f"{order.merchant_id}/order/{order.order_id}"
    asked = ["parked", "skip", "account_view", key, "--reason", "Version 3 says it all."]
    shown = run(*asked, "--dry-run")
    assert shown["skips"]["aggregate_version"] == 2 and len(shown["applies"]) == 1
    assert run("parked", "list")["total"] == 1, "a dry run skips nothing"
    with pytest.raises(InputError, match="cannot be taken back"):
        run(*asked)
    done = run(*asked, "--by", "ada", "--yes")
    assert done == {"skipped": shown["skips"]["event_id"], "is_still_parked": False, "accepted_breaks": []}
    assert [version for version, _ in stands(settings, order.order_id)] == [3]
    assert run("parked", "list")["total"] == 0
    with psycopg.connect(settings.read_models_dsn) as connection:
        kept = connection.execute("select event_id, reason, skipped_by from read_models.skipped_events").fetchall()
    assert kept == [(done["skipped"], "Version 3 says it all.", "ada")]


def test_what_lacks_is_an_accepted_break_also_after_a_rebuild(settings: Settings, shop: Shop, run: Run) -> None:
    cancelled = shop.cancelled_in_part()
    drain_everything(settings)
    key = f"{cancelled.merchant_id}/order/{cancelled.order_id}"
    done = run("parked", "skip", "account_view", key, "--reason", "The customer was told.", "--by", "ada", "--yes")
    assert len(done["accepted_breaks"]) == 1 and done["is_still_parked"] is False
    assert [version for version, _ in stands(settings, cancelled.order_id)] == [1]
    (found,) = ledger.breaks(settings.control_dsn, states=[BreakState.ACCEPTED], limit=None)
    assert found.aggregate_key == key
    assert found.reason.startswith("Event ") and found.reason.endswith("The customer was told.")

    run("rebuild", "account_view", "--pod", "pod1")
    assert run("parked", "list")["total"] == 0, "a rebuild passes it over, too"
    assert [version for version, _ in stands(settings, cancelled.order_id)] == [1]
    # A later event says it again: nothing lacks any more.
    shop.cancel(cancelled.order_id)
    drain_everything(settings)
    assert stands(settings, cancelled.order_id) == [(3, "cancelled")]


def test_what_cannot_be_skipped_is_said(settings: Settings, shop: Shop, run: Run) -> None:
    key = f"{shop.merchant_id}/order/00000000-0000-7000-8000-000000000000"
    for copy, said, reason in (
        ("lake", "Of 'lake' nothing can be skipped", "x"),
        ("account_view", "is parked in account_view nowhere", "x"),
        ("account_view", "Say why", "  "),
    ):
        with pytest.raises(InputError, match=said):
            run("parked", "skip", copy, key, "--reason", reason, "--yes")
