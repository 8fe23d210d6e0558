"""`tieout explain`: one order through all stores, also where something is wrong, missing, waiting or silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest

from contracts.clock import utc_now
from contracts.errors import InputError, NotFoundError
from contracts.money import format_minor
from contracts.settings import Settings
from contracts.sightings import Sighting, SightingKind
from contracts.verdicts import Verdict
from derived.lake_connection import open_lake
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.redeem_gift_card import RedeemGiftCard
from reconcile.sightings import keep_sightings
from repair import ledger
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.looking.story.collecting import Section, Story, read_story
from tests.integration.reconcile_world import Shop, open_shops
from tests.values import one_cent, result_of

SILENT = "host=127.0.0.1 port=1 dbname=none connect_timeout=2"
STORES = ["OLTP", "events", "warehouse", "read models", "lake", "breaks", "witnesses"]


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """A shop in pod1 of a system that is set up."""
    migrate_everything(settings)
    with open_shops(settings) as shops:
        yield shops[0]


@pytest.fixture
def run(run: Callable[..., str]) -> Callable[..., str]:
    """Run `tieout explain` and return what it prints."""
    return partial(run, "explain", as_json=False)


def section(story: Story, store: str) -> Section:
    (found,) = [one for one in story.sections if one.store == store]
    return found


def counts(story: Story, store: str) -> dict[str, int]:
    return {name: len(rows) for name, rows in section(story, store).tables.items() if rows}


def test_an_order_with_a_refund_is_told_from_its_rows_to_its_views(settings: Settings, shop: Shop) -> None:
    order, payment, refund = shop.refunded()
    shop.refunded()
    drain_everything(settings)
    story = read_story(settings, order.order_number)
    assert [one.store for one in story.sections] == STORES
    assert (story.pod, story.merchant_id, story.order_id) == ("pod1", "united-kingdom", order.order_id)
    assert counts(story, "OLTP") == {
        "orders": 1,
        "order_lines": 3,
        "payments": 1,
        "payment_captures": 1,
        "refunds": 1,
        "reservations": 1,
        "fulfillments": 1,
    }
    events = section(story, "events").tables["events"]
    assert [event["event_type"] for event in events if event["aggregate_type"] == "payment"] == [
        "payment_authorized",
        "payment_captured",
        "payment_refunded",
    ]
    assert {event["aggregate_type"] for event in events} == {
        *("order", "payment", "refund", "reservation", "fulfillment", "stock_movement")
    }
    assert {(event["outbox"], event["lake"]) for event in events} == {("there", "there")}
    assert all(event["cut"] and ":p" in event["log"] and event["age_seconds"] >= 0 for event in events)
    assert counts(story, "read models") == {
        "account_orders": 1,
        "account_payments": 1,
        "account_refunds": 1,
        "fulfillment_orders": 1,
        "fulfillment_reservations": 1,
        "sales_orders": 1,
    }
    assert section(story, "warehouse").stands_at == "not built yet"
    assert story.findings == []
    for identifier in (order.order_id, payment.payment_id, refund.refund_id):
        assert read_story(settings, identifier).order_id == order.order_id


def test_a_gift_card_is_told_with_the_orders_that_it_pays(
    settings: Settings, shop: Shop, run: Callable[..., str]
) -> None:
    order, payment = shop.paid_by_card()
    drain_everything(settings)
    story = read_story(settings, order.order_number)
    assert counts(story, "OLTP")["gift_cards"] == 1 and story.findings == []
    events = [one for one in section(story, "events").tables["events"] if one["aggregate_type"] == "gift_card"]
    assert [event["event_type"] for event in events] == ["gift_card_issued", "gift_card_redeemed"]
    assert {(event["outbox"], event["lake"]) for event in events} == {("there", "there")}
    card_id = events[0]["aggregate_id"]
    assert read_story(settings, card_id).order_id == order.order_id, "found by the card, too"
    (paid,) = section(story, "OLTP").tables["payments"]
    assert (str(paid["payment_id"]), str(paid["gift_card_id"])) == (payment.payment_id, card_id)
    shown = run(order.order_number)
    assert "gift card id" in shown and "gift_card_redeemed" in shown
    # A card that pays several orders has no single story.
    again = RedeemGiftCard(merchant_id=shop.merchant_id, order_id=shop.order().order_id, gift_card_id=card_id)
    execute(shop.pod, again, idempotency_key="again")
    with pytest.raises(InputError, match="is of several orders"):
        read_story(settings, card_id)
    story = read_story(settings, order.order_number)
    assert f"gift_card_redeemed (version 3 of {card_id}) is in no cut yet: the relay has not seen it." in story.findings


def test_a_gift_card_that_nobody_has_spent_has_a_story_of_its_own(
    settings: Settings, shop: Shop, run: Callable[..., str]
) -> None:
    shop.paid_by_card()
    card = shop.card()
    drain_everything(settings)
    story = read_story(settings, card.gift_card_id)
    assert (story.order_id, story.gift_card_id, story.findings) == (None, card.gift_card_id, [])
    assert counts(story, "OLTP") == {"gift_cards": 1}
    (event,) = section(story, "events").tables["events"]
    assert (event["event_type"], event["outbox"], event["lake"]) == ("gift_card_issued", "there", "there")
    shown = run(card.gift_card_id)
    assert f"Gift card {card.gift_card_id} of merchant united-kingdom, in pod1." in shown and "100.00" in shown

    # Also where OLTP has lost it; then the lake says where it was.
    with psycopg.connect(settings.pods[0].owner_dsn) as connection:
        connection.execute("alter table oltp.gift_cards disable trigger user")
        connection.execute("delete from oltp.gift_cards where gift_card_id = %s", [card.gift_card_id])
    lost = read_story(settings, card.gift_card_id)
    assert counts(lost, "OLTP") == {} and len(section(lost, "events").tables["events"]) == 1


def test_what_is_wrong_or_waits_stands_out(settings: Settings, shop: Shop, run: Callable[..., str]) -> None:
    order, payment, refund = shop.refunded()
    drain_everything(settings)
    key = f"united-kingdom/payment/{payment.payment_id}"
    with psycopg.connect(settings.read_models_dsn) as views:
        views.execute("update read_models.account_orders set total_minor = total_minor - 1")
        views.execute("update read_models.account_payments set version = 1")
        views.execute("delete from read_models.account_refunds")
        views.execute(
            "insert into read_models.parked_events (projection, pod, aggregate_key, event_id, cut, position, event, "
            "error, parked_at) values ('account_view', 'pod1', %s, 'event-9', 1, 1, '{}', 'No such field.', now())",
            (key,),
        )
    with open_lake(settings) as lake:
        lake.execute("insert into lake.raw.events from lake.raw.events where event_type = 'order_placed'")
        lake.execute("delete from lake.raw.events where event_type = 'refund_requested'")
    record_break(settings, order.order_id)
    record_sighting(settings, order.order_id)
    shop.cancel(shop.order().order_id)
    with build_command_pod(settings.pods[0]):
        story = read_story(settings, order.order_id)
    version = payment.version + 1
    assert story.findings == [
        "Break 1 is open (oltp_lake.order: orders, amount), looked after by data-platform.",
        "Seen in oltp.orders by the witness oltp, and not compared since: A row was changed.",
        f"Event event-9 of {key} is parked on its way to account_view: No such field.",
        f"order_placed (version 1 of {order.order_id}) is in the lake 2 times.",
        f"refund_requested (version 1 of {refund.refund_id}) is in cut 1 and not in the lake.",
        f"account_orders says total {format_minor(order.total_minor - 1, 'GBP')} GBP of orders {order.order_id}, "
        f"OLTP says {format_minor(order.total_minor, 'GBP')} GBP.",
        f"account_payments has version 1 of payments {payment.payment_id}, OLTP has version {version}.",
        f"account_refunds has no row of refunds {refund.refund_id}.",
    ]
    shown = run(order.order_number)
    assert all(f"! {sentence}" in shown for sentence in story.findings)
    assert "parked_events" in shown and "Nothing stands out" not in shown
    answer = json.loads(run(order.order_number, "--json"))
    assert answer["findings"] == story.findings
    (seen,) = next(one for one in answer["sections"] if one["store"] == "witnesses")["tables"]["sightings"]
    assert (seen["copy"], seen["aggregate_id"], seen["compared_at"]) == ("OLTP", order.order_id, None)
    breaks = next(one for one in answer["sections"] if one["store"] == "breaks")["tables"]["breaks"]
    assert [one["break_id"] for one in breaks] == [1]


def record_break(settings: Settings, order_id: str) -> None:
    found = one_cent(order_id, entity="orders", merchant_id="united-kingdom")
    result = result_of(verdict=Verdict.INCONSISTENT, compared=1, sample=(found,), checked_at=utc_now())
    ledger.record(settings.control_dsn, [result], run="by hand")


def record_sighting(settings: Settings, order_id: str) -> None:
    seen = Sighting(
        witness="oltp",
        kind=SightingKind.UNANNOUNCED,
        pod="pod1",
        copy=None,
        place="oltp.orders",
        aggregate_id=order_id,
        what="A row was changed.",
    )
    with psycopg.connect(settings.control_dsn) as connection:
        keep_sightings(connection, [seen])


def test_what_was_just_committed_is_on_its_way(settings: Settings, shop: Shop) -> None:
    order = shop.order()
    story = read_story(settings, order.order_number)
    assert {event["log"] for event in section(story, "events").tables["events"]} == {"in no cut yet"}
    assert (
        f"order_placed (version 1 of {order.order_id}) is in no cut yet: the relay has not seen it." in story.findings
    )
    assert f"account_orders has no row of orders {order.order_id}." in story.findings


@pytest.mark.parametrize(
    ("change", "silent"),
    [
        ({"log_url": "redis://127.0.0.1:1/0"}, ["log"]),
        ({"read_models_dsn": SILENT}, ["read models"]),
        ({"control_dsn": SILENT}, ["breaks", "witnesses"]),
        ({"catalog_dsn": SILENT}, ["lake", "warehouse"]),
    ],
)
def test_a_store_that_is_down_is_named_and_the_others_answer(
    settings: Settings, shop: Shop, change: dict[str, str], silent: list[str]
) -> None:
    order, _, _ = shop.refunded()
    drain_everything(settings)
    story = read_story(replace(settings, **change), order.order_number)  # type: ignore[arg-type]
    assert sorted(one.store for one in story.sections if one.error) == silent
    assert {one.store for one in story.sections} == {*STORES, *silent}
    assert counts(story, "OLTP")["refunds"] == 1 and len(section(story, "events").tables["events"]) > 8
    assert story.findings == []


def test_an_order_whose_pod_is_down_is_told_from_the_copies(settings: Settings, shop: Shop) -> None:
    order, _, _ = shop.refunded()
    drain_everything(settings)
    pods = (replace(settings.pods[0], reader_dsn=SILENT), settings.pods[1])
    story = read_story(replace(settings, pods=pods), order.order_number)
    assert sorted(one.store for one in story.sections if one.error) == ["OLTP", "outbox"]
    assert counts(story, "read models")["account_refunds"] == 1
    assert {event["lake"] for event in section(story, "events").tables["events"]} == {"there"}


def test_an_order_is_found_by_one_name_only(settings: Settings, run: Callable[..., str]) -> None:
    migrate_everything(settings)
    with open_shops(settings) as (first, second):
        mine, other = first.order(), second.order()
        with psycopg.connect(settings.pods[1].owner_dsn) as pod:
            pod.execute("alter table oltp.orders disable trigger user")
            pod.execute("update oltp.orders set order_number = %s", (mine.order_number,))
    with pytest.raises(InputError, match=r"--merchant \(eire, united-kingdom\)"):
        run(mine.order_number)
    answer: dict[str, Any] = json.loads(run(mine.order_number, "--merchant", "eire", "--json"))
    assert (answer["order_id"], answer["pod"]) == (other.order_id, "pod2")
    for wrong in ("", "nothing", "00000000-0000-0000-0000-000000000000", "'; drop table oltp.orders"):
        with pytest.raises(NotFoundError, match="There is no order"):
            run(wrong)
