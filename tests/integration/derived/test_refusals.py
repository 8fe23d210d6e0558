"""A row that a store refuses for what is in it parks its aggregate alone; any other error parks nothing."""

from __future__ import annotations

import random
import sqlite3
import string
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from contracts.errors import PropagationError
from contracts.events.fulfillment import FulfillmentState
from contracts.events.order import OrderState
from contracts.ids import uuid7
from derived.postgres_errors import CONTENT_CLASSES, is_of_content
from derived.read_models import migrate
from examples.notifications import Notifications
from streams.parking import apply_parking, replay_parked
from streams.projection import Work
from streams.refusals import refused
from tests.derived_work import NOON, FakePod, key_of, order, payment
from tests.integration.derived.conftest import Lake, Stores

OF_CONTENT = [
    "22001", "22003", "22008", "22021", "22P02", "22P05", "23502", "23503", "23505", "23514", "23P01", "44000", "54000",
    "P0001",
]  # fmt: skip
OF_THE_STORE = [
    "08006", "0A000", "25006", "40001", "40P01", "42501", "42703", "42P01", "53100", "53200", "53300", "53400", "55P03",
    "57014", "58030", "XX000", "XX001",
]  # fmt: skip

REFUSES = """
create function read_models.refuse() returns trigger language plpgsql as $body$
begin
    if new.order_number like 'bad%' then
        raise exception using errcode = '{state}', message = 'refused for the test';
    end if;
    return new;
end $body$;
create trigger refuses before insert or update on read_models.account_orders
for each row execute function read_models.refuse();
"""


def long_text(length: int = 3_000) -> str:
    """Return characters that do not compress: what an index must hold as they are."""
    return "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=length))


def a_step(pod: FakePod, states: Sequence[OrderState]) -> Work:
    """Return a step with these orders."""
    return pod.step(pod.cut(*states))


def orders_in(stores: Stores) -> set[str]:
    return {str(row[1]) for row in stores.contents()["account_orders"]}


@pytest.mark.parametrize("sqlstate", OF_CONTENT)
def test_what_a_row_is_refused_for_parks_its_aggregate_alone(stores: Stores, sqlstate: str) -> None:
    stores.execute(REFUSES.format(state=sqlstate))
    orders = [order(order_number=str(number)) for number in range(40)]
    chosen = random.Random(sqlstate).sample(range(40), 3)
    bad = [order(order_number=f"bad {number}") for number in chosen]
    mixed = [*orders, *bad]
    random.Random(sqlstate).shuffle(mixed)
    parked = apply_parking(stores.account, a_step(FakePod(), mixed), (), lambda: NOON)
    assert parked == {key_of(one) for one in bad} == stores.account.state("pod1").parked_keys
    assert orders_in(stores) == {one.order_id for one in orders}
    assert all("refused for the test" in event.error for event in stores.account.parked_events("pod1"))

    stores.execute("drop trigger refuses on read_models.account_orders")
    assert replay_parked(stores.account, "pod1", NOON).still_parked == frozenset()
    assert orders_in(stores) == {one.order_id for one in mixed}


@pytest.mark.parametrize("sqlstate", OF_THE_STORE)
def test_what_is_not_about_a_row_parks_nothing_and_moves_nothing(stores: Stores, sqlstate: str) -> None:
    stores.execute(REFUSES.format(state=sqlstate))
    work = a_step(FakePod(), [order(), order(order_number="bad 1")])
    with pytest.raises(PropagationError, match="refused for the test"):
        apply_parking(stores.account, work, (), lambda: NOON)
    assert stores.account.state("pod1").positions == {}
    assert stores.account.parked_events("pod1") == []
    stores.execute("drop trigger refuses on read_models.account_orders")
    assert apply_parking(stores.account, work, (), lambda: NOON) == frozenset()


def test_every_error_that_psycopg_knows_is_decided_by_its_class() -> None:
    classes = {
        error.sqlstate[:2]: error
        for error in vars(psycopg.errors).values()
        if isinstance(error, type) and issubclass(error, psycopg.Error) and error.sqlstate
    }
    assert len(classes) > 30
    decided = {name for name, error in classes.items() if is_of_content(error("an error"))}
    assert decided == CONTENT_CLASSES & classes.keys()
    assert not {"08", "40", "42", "53", "55", "57", "58", "XX"} & decided
    assert is_of_content(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"))
    assert not is_of_content(psycopg.OperationalError("the connection is lost"))


def test_a_text_that_no_index_can_hold_parks_its_order_and_its_payment_only(stores: Stores) -> None:
    good, bad = order(), order(customer_id=long_text())
    states = [good, bad, payment(good), payment(bad)]
    pod = FakePod()
    parked = apply_parking(stores.account, pod.step(pod.cut(*states)), (), lambda: NOON)
    assert parked == {key_of(bad), key_of(states[3])}
    assert orders_in(stores) == {good.order_id}
    assert {"index row size" in event.error for event in stores.account.parked_events("pod1")} == {True}


def test_a_key_that_no_index_can_hold_is_parked_too(stores: Stores) -> None:
    good, bad = order(), order(merchant_id=long_text())
    migrate(stores.dsn)
    assert apply_parking(stores.account, a_step(FakePod(), [good, bad]), (), lambda: NOON) == {key_of(bad)}
    assert stores.account.state("pod1").parked_keys == {key_of(bad)}
    assert orders_in(stores) == {good.order_id}


def test_a_constraint_that_is_checked_at_the_commit_parks_too(stores: Stores) -> None:
    stores.execute(
        "alter table read_models.account_orders add constraint one_number unique (order_number) "
        "deferrable initially deferred"
    )
    first, twin, other = (order(order_number=number) for number in ("1", "1", "2"))
    parked = apply_parking(stores.account, a_step(FakePod(), [first, twin, other]), (), lambda: NOON)
    assert len(parked) == 1 and parked <= {key_of(first), key_of(twin)}
    assert other.order_id in orders_in(stores)


def test_a_rebuild_parks_what_cannot_be_stored_and_keeps_what_was_before_it(stores: Stores) -> None:
    pod = FakePod()
    good, bad = order(), order(order_number="7")
    worse = [order_at(bad, 2, "bad 1"), order_at(bad, 3, "bad 2")]
    stores.lake.apply(pod.step(pod.cut(good, bad, *worse)))
    stores.execute(REFUSES.format(state="23514"))
    stores.account.rebuild_all("pod1", is_lake_position_taken=True)
    rows = dict(stores.execute("select order_id, order_number from read_models.account_orders"))
    assert rows == {good.order_id: "1001", bad.order_id: "7"}
    events = stores.account.parked_events("pod1")
    assert [event.event["aggregate_version"] for event in events] == [2, 3]
    assert "refused for the test" in events[0].error
    assert "Waits behind" in events[1].error


def test_of_many_orders_those_whose_lines_are_refused_leave_nothing_and_the_others_everything(stores: Stores) -> None:
    bad_ones = (0, 63, 64, 100, 199)  # at the ends of blocks, and inside
    orders = [order(lines=2, order_number=str(number)) for number in range(200)]
    bad = {orders[number].order_id for number in bad_ones}
    names = ", ".join(f"'{one}'" for one in bad)
    second = f"line_number = 2 and order_id in ({names})"
    stores.execute(f"alter table read_models.fulfillment_lines add constraint good check (not ({second}))")
    pod = FakePod()
    work = pod.step(pod.cut(*orders))
    stores.lake.apply(work)
    stores.fulfillment.apply(pod.step([]))
    stores.fulfillment.rebuild_all("pod1")
    parked = {event.event["aggregate_id"]: event.error for event in stores.fulfillment.parked_events("pod1")}
    assert parked.keys() == bad
    assert all("violates check constraint" in error for error in parked.values())
    lines = stores.execute("select order_id, count(*) from read_models.fulfillment_lines group by order_id")
    assert dict(lines) == {one.order_id: 2 for one in orders if one.order_id not in bad}
    assert {row[0] for row in stores.execute("select order_id from read_models.fulfillment_orders")} == dict(
        lines
    ).keys()


def test_a_view_that_cannot_be_made_of_a_state_parks_that_one(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = order(), order()
    root = stores.account._roots["order"]

    def row(state: OrderState, pod: str, epoch: str) -> object:
        return root.row(state, pod, epoch) if state.order_id == good.order_id else 1 // 0

    monkeypatch.setitem(stores.account._roots, "order", type(root)(**{**vars(root), "row": row}))
    assert apply_parking(stores.account, a_step(FakePod(), [good, bad]), (), lambda: NOON) == {key_of(bad)}
    assert "ZeroDivisionError" in stores.account.parked_events("pod1")[0].error


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_exactly_what_is_refused_in_few_tries(seed: int) -> None:
    chance = random.Random(seed)
    items = list(range(chance.randrange(1, 2_000)))
    bad = set(chance.sample(items, min(len(items), chance.randrange(0, 5))))
    kept: list[int] = []
    tries = 0

    def refusal(some: Sequence[int]) -> str | None:
        nonlocal tries
        tries += 1
        if bad & set(some):
            return "bad"
        kept.extend(some)
        return None

    assert [item for item, _ in refused(items, refusal)] == sorted(bad)
    assert kept == [item for item in items if item not in bad]
    assert tries <= 1 + 2 * len(bad) * (len(items).bit_length() + 1)


def test_the_lake_parks_what_it_cannot_store_and_gives_it_back(lake: Lake) -> None:
    pod, projection = FakePod(), lake.projection()
    good, bad = order(), order()
    pod.cut_number = 1
    events = [pod.event(good), pod.event(bad, correlation_id=None), pod.event(order_at(bad, 2, "8"))]
    work = pod.step(pod.entries(events))
    assert apply_parking(projection, work, (), lambda: NOON) == {key_of(bad)}
    assert lake.rows("select aggregate_id from lake.raw.events") == [(good.order_id,)]
    assert [event.event for event in projection.parked_events("pod1")] == events[1:]
    assert "NOT NULL" in projection.parked_events("pod1")[0].error
    projection.close()


def test_a_projection_of_ones_own_parks_what_its_store_refuses(tmp_path: Path) -> None:
    path, pod = tmp_path / "notifications.db", FakePod()
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "create table notifications (event_id primary key, merchant_id check (length(merchant_id) < 100), "
            "fulfillment_id)"
        )
    good, bad = shipped("m1"), shipped(long_text())
    pod.cut_number = 1
    work = pod.step(pod.entries([pod.event(one, event_type="fulfillment_shipped") for one in (good, bad)]))
    with pytest.raises(PropagationError, match="CHECK"):
        Notifications(path).apply(work)
    assert apply_parking(Notifications(path), work, (), lambda: NOON) == {key_of(bad)}
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("select fulfillment_id from notifications").fetchall() == [(good.fulfillment_id,)]


def shipped(merchant_id: str) -> FulfillmentState:
    return FulfillmentState(
        merchant_id=merchant_id, version=1, fulfillment_id=str(uuid7()), order_id=str(uuid7()), location_id="london",
        tracking_number=None, shipped_at=NOON, lines=[],
    )  # fmt: skip


def order_at(state: OrderState, version: int, number: str) -> OrderState:
    """Return a later version of an order, with another number."""
    return type(state)(
        **{name: getattr(state, name) for name in state.__struct_fields__}
        | {"version": version, "order_number": number}
    )


def test_parked_aggregates_are_replayed_together_and_what_still_fails_stays(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.execute(REFUSES.format(state="22001"))
    bad = [order(order_number=f"bad {number}") for number in range(30)]
    apply_parking(stores.account, a_step(FakePod(), bad), (), lambda: NOON)
    stores.execute(
        "create or replace function read_models.refuse() returns trigger language plpgsql as $body$ begin "
        "if new.order_number = 'bad 7' then "
        "raise exception using errcode = '22001', message = 'still refused'; end if; return new; end $body$"
    )
    steps: list[Work] = []
    apply = stores.account.apply

    def counted(work: Work) -> None:
        steps.append(work)
        apply(work)

    monkeypatch.setattr(stores.account, "apply", counted)
    result = replay_parked(stores.account, "pod1", NOON)
    assert (result.replayed_events, result.still_parked) == (29, frozenset({key_of(bad[7])}))
    assert len(steps) == 2, "one that finds what still fails, and one that keeps the rest"
    assert orders_in(stores) == {one.order_id for one in bad} - {bad[7].order_id}
    (left,) = stores.account.parked_events("pod1")
    assert "still refused" in left.error
