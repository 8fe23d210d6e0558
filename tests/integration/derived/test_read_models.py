"""The read models: rows and positions in one commit, guards, parked events, rebuilding from the lake, answers."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import msgspec
import psycopg
import pytest

from contracts.errors import EpochChangedError, PropagationError, TieoutError
from contracts.events.common import encode_payload
from contracts.events.entitlement import Grant
from contracts.events.order import OrderStatus
from contracts.events.payment import PaymentMethod, PaymentStatus
from contracts.events.stock import ReservationStatus
from contracts.ids import uuid7
from derived.read_models import account_view, migrate
from derived.read_models.account_view import account_of
from derived.read_models.fulfillment_view import open_fulfillments
from derived.read_models.known import all_roots
from derived.read_models.migrate import MIGRATIONS
from streams.parking import apply_parking, replay_parked
from streams.projection import START, FencedError, PoisonEventError, Position, Work
from tests.derived_work import (
    NOON,
    PARTITIONS,
    FakePod,
    changed,
    entitlement,
    key_of,
    order,
    order_line,
    parked,
    payment,
    refund,
    reservation,
    twice_at_once,
)
from tests.integration.derived.conftest import TABLES, Stores


def a_shop(pod: FakePod, orders: int = 6) -> list[Work]:
    """Return two steps: orders with everything around them, then a change of half of them."""
    placed = [order(lines=2, reservation_id=str(uuid7()), order_number=str(n)) for n in range(orders)]
    paid = [payment(one) for one in placed]
    states = [*placed, *paid, *map(refund, paid), *map(reservation, placed), entitlement()]
    first = pod.step(pod.cut(*states))
    half = [changed(one, status=OrderStatus.CANCELLED) for one in placed[::2]]
    return [first, pod.step(pod.cut(*half), since=1)]


def test_a_dropped_table_comes_back_empty_and_the_others_stay(stores: Stores) -> None:
    with psycopg.connect(stores.dsn) as connection:
        connection.execute("drop table read_models.account_payments")
        connection.execute("insert into read_models.positions values ('account_view', 'pod1', 0, 'e', 7, 0, now())")
    migrate(stores.dsn)
    with psycopg.connect(stores.dsn) as connection:
        assert connection.execute("select count(*) from read_models.account_payments").fetchone() == (0,)
        assert connection.execute("select cut from read_models.positions").fetchone() == (7,)
        applied = connection.execute("select name from read_models.migrations order by name").fetchall()
        assert [name for (name,) in applied] == sorted(file.stem for file in MIGRATIONS.glob("*.sql"))


def test_tables_have_the_columns_of_their_rows(stores: Stores) -> None:
    migrate(stores.dsn)
    for root in all_roots():
        for table, row_type in root.row_types.items():
            found = stores.execute(
                f"select attname from pg_attribute where attrelid = 'read_models.{table}'::regclass and attnum > 0"
            )
            assert sorted(row[0] for row in found) == sorted(row_type.__struct_fields__)


def test_a_customers_account(stores: Stores) -> None:
    pod = FakePod()
    mine, other, guest = order(lines=3), order(customer_id="c2"), order(customer_id=None)
    paid = payment(mine)
    given = refund(paid)
    stores.apply(pod.step(pod.cut(mine, other, guest, paid, given, payment(guest))))
    account = account_of(stores.dsn, "m1", "c1", clock=lambda: NOON + timedelta(minutes=3))
    assert [(row.order_id, row.total_minor, row.tax_minor, row.item_quantity) for row in account.orders] == [
        (mine.order_id, mine.total_minor, mine.tax_minor, 9)
    ]
    assert [(row.payment_id, row.captured_minor) for row in account.payments] == [(paid.payment_id, 3_600)]
    assert [(row.refund_id, row.amount_minor, row.completed_at) for row in account.refunds] == [
        (given.refund_id, 400, None)
    ]
    (fresh,) = account.freshness.pods
    assert (fresh.pod, fresh.applied_cut, fresh.data_at, fresh.age_seconds) == (
        "pod1",
        1,
        NOON + timedelta(minutes=1),
        120.0,
    )
    assert stores.execute("select count(*) from read_models.account_orders") == [(2,)]
    assert account_of(stores.dsn, "m2", "c1").orders == []


def test_an_entitlement_lasts_until_its_best_grant_expires(stores: Stores) -> None:
    def grant(level: int, **changes: object) -> Grant:
        values = {"grant_id": str(uuid7()), "grantor": f"g{level}", "level": level, "granted_at": NOON}
        return Grant(**(values | {"expires_at": None, "revoked_at": None} | changes))  # type: ignore[arg-type]

    hour = timedelta(hours=1)
    state = entitlement([grant(3, revoked_at=NOON), grant(2, expires_at=NOON + hour), grant(1)])
    pod = FakePod()
    stores.apply(pod.step(pod.cut(state)))
    assert account_of(stores.dsn, "m1", "c1", clock=lambda: NOON).levels == {"returns": 2}
    assert account_of(stores.dsn, "m1", "c1", clock=lambda: NOON + hour).levels == {"returns": 1}


def test_what_a_merchant_has_to_ship(stores: Stores) -> None:
    pod = FakePod()
    lines = [
        order_line(1, fulfilled_quantity=1, cancelled_quantity=1),
        order_line(2, fulfilled_quantity=3),
        order_line(3, kind="service", variant_id="variant-3"),
        order_line(4),
    ]
    late = order(lines=4, order_number="late", reservation_id=str(uuid7()), placed_at=NOON + timedelta(hours=1))
    late = msgspec.structs.replace(late, lines=lines, status=OrderStatus.PARTIALLY_FULFILLED)
    early = order(order_number="early", customer_id=None)
    stores.apply(pod.step(pod.cut(late, early, order(merchant_id="m2"), reservation(late))))
    answer = open_fulfillments(stores.dsn, "m1")
    assert [(line.order_number, line.line_number, line.open_quantity, line.location_ids) for line in answer.lines] == [
        ("early", 1, 3, []),
        ("late", 1, 1, ["london"]),
        ("late", 4, 3, ["london"]),
    ]
    assert answer.freshness.pods[0].applied_cut == 1
    done = changed(late, lines=[order_line(1, fulfilled_quantity=3)], status=OrderStatus.FULFILLED)
    gone = msgspec.structs.replace(reservation(late), version=2, status=ReservationStatus.CONSUMED, lines=[])
    stores.apply(pod.step(pod.cut(done, gone), since=1))
    assert [line.order_number for line in open_fulfillments(stores.dsn, "m1").lines] == ["early"]
    assert stores.execute("select count(*) from read_models.fulfillment_reservation_lines") == [(0,)]


def test_what_waits_for_money_says_so_until_it_is_there(stores: Stores) -> None:
    pod = FakePod()
    placed = [order(order_number=name, placed_at=NOON + timedelta(hours=n)) for n, name in enumerate("abcd")]
    until = NOON + timedelta(days=7)
    transfer = {"method": PaymentMethod.BANK_TRANSFER}
    waits = {**transfer, "status": PaymentStatus.PENDING, "captured_minor": 0, "expires_at": until}
    pending = payment(placed[0], **waits)
    in_part = payment(placed[1], **{**waits, "status": PaymentStatus.CAPTURED, "captured_minor": 1_000})
    by_card = payment(placed[2])
    back = payment(placed[3], **transfer, returned_minor=3_600)
    stores.apply(pod.step(pod.cut(*placed, pending, in_part, by_card, back)), also_lake=True)

    def listed() -> list[tuple[object, ...]]:
        return [
            (line.order_number, line.awaiting_payment, line.awaited_minor, line.awaited_until, line.returned_minor)
            for line in open_fulfillments(stores.dsn, "m1").lines
        ]

    total_minor = placed[0].total_minor
    assert listed() == [
        ("a", True, total_minor, until, 0),
        ("b", True, total_minor - 1_000, until, 0),
        ("c", False, 0, None, 0),
        ("d", True, 0, None, 3_600),
    ]
    assert stores.execute("select count(*) from read_models.fulfillment_payments") == [(3,)]
    came = {"status": PaymentStatus.CAPTURED, "captured_minor": total_minor, "expires_at": None}
    paid = [msgspec.structs.replace(one, version=2, **came) for one in (pending, in_part)]
    stores.apply(pod.step(pod.cut(*paid), since=1), also_lake=True)
    assert [row[1] for row in listed()] == [False, False, False, True]
    before = stores.contents()
    stores.execute("update read_models.fulfillment_payments set awaited_minor = 7, expires_at = now()")
    assert [row[1] for row in listed()] == [True, True, False, True]
    keys = [key_of(one) for one in (pending, in_part, by_card, back)]
    assert stores.fulfillment.rebuild("pod1", keys).changed == 3
    assert stores.contents() == before


def test_an_event_from_before_payments_could_wait_is_read_as_of_a_card(stores: Stores) -> None:
    pod, placed = FakePod(), order()
    pod.cut_number = 1
    first = pod.event(payment(placed))
    payload = msgspec.json.decode(str(first["payload"]))
    for name in ("method", "expires_at", "pay_to", "failure_reason", "movements", "returned_minor"):
        payload.pop(name, None)
    first["payload"] = msgspec.json.encode(payload).decode()
    stores.apply(pod.step(pod.entries([pod.event(placed), first])))
    (line,) = open_fulfillments(stores.dsn, "m1").lines
    assert not line.awaiting_payment
    assert stores.execute("select count(*) from read_models.fulfillment_payments") == [(0,)]
    assert stores.execute("select count(*) from read_models.parked_events") == [(0,)]


def test_the_same_step_twice_is_fenced_and_changes_nothing(stores: Stores) -> None:
    works = a_shop(FakePod())
    for work in works:
        stores.apply(work)
    before = stores.contents()
    for work in works:
        for projection in stores.views:
            with pytest.raises(FencedError):
                projection.apply(work)
    assert stores.contents() == before


def test_two_consumers_racing_apply_every_step_once(stores: Stores) -> None:
    pod = FakePod()
    state = order()
    works = [pod.step(pod.cut(state))]
    for cut in range(1, 25):
        state = changed(state)
        works.append(pod.step(pod.cut(state), since=cut))
    fenced: list[int] = []
    applied: list[int] = []
    barrier = threading.Barrier(2)

    def consume() -> None:
        projection = account_view.build(stores.settings)
        barrier.wait()
        while (cut := projection.state("pod1").positions.get(0, START).cut) < len(works):
            try:
                projection.apply(works[cut])
                applied.append(cut)
            except FencedError:
                fenced.append(cut)
        projection.close()

    twice_at_once(consume)
    assert sorted(applied) == list(range(25))
    assert fenced, "the consumers never met; the race was not tested"
    assert stores.execute("select version from read_models.account_orders") == [(25,)]


def test_a_step_that_breaks_leaves_nothing(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    work = a_shop(FakePod())[0]

    def crash(*_: object) -> None:
        raise RuntimeError("crash")

    with monkeypatch.context() as patch:
        patch.setattr("derived.read_models.positions.move_positions", crash)
        with pytest.raises(RuntimeError):
            stores.account.apply(work)
    assert not any(stores.contents().values())
    assert stores.account.state("pod1").positions == {}
    stores.account.apply(work)
    assert len(stores.contents()["account_orders"]) == 6


def test_a_large_cut_comes_chunk_by_chunk_and_only_the_newest_version_stays(stores: Stores) -> None:
    pod = FakePod(partitions=1, chunk_rows=2)
    first = order()
    second, third = changed(first), changed(changed(first))
    entries = pod.cut(first, second, third)
    positions = [START, Position(cut=0, chunk=1), Position(cut=1, chunk=0)]
    for entry, before, after, version in zip(entries, positions, positions[1:], (2, 3), strict=False):
        stores.account.apply(pod.step([entry], expected={0: before}, positions={0: after}))
        assert stores.execute("select version from read_models.account_orders") == [(version,)]
        assert stores.account.state("pod1").positions == {0: after}


def test_an_older_version_is_ignored(stores: Stores) -> None:
    pod = FakePod()
    new = changed(order(order_number="new"))
    old = msgspec.structs.replace(new, version=1, order_number="old", lines=[order_line(1), order_line(2)])
    stores.apply(pod.step(pod.cut(new)))
    before = stores.contents()
    stores.apply(pod.step(pod.cut(old), since=1))
    assert stores.contents() == before
    assert stores.account.state("pod1").positions[0] == Position(cut=2, chunk=0)


def test_another_epoch_is_refused(stores: Stores) -> None:
    pod = FakePod()
    stores.apply(pod.step(pod.cut(order())))
    with pytest.raises(EpochChangedError):
        stores.account.apply(pod.step(pod.cut(order()), since=1, epoch="another"))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ('{"state": {}}', "missing required field"),
        ("no json", "malformed"),
        (encode_payload(None, order()), "another aggregate"),
        ("huge", "out of range"),
        ("nul", "NUL"),
    ],
)
def test_an_event_that_cannot_be_read_is_poison(stores: Stores, payload: str, reason: str) -> None:
    pod = FakePod()
    good, bad = order(), order()
    if payload == "huge":
        payload = encode_payload(None, bad).replace('"total_minor":1200,', f'"total_minor":{2**64 - 1},')
    if payload == "nul":
        payload = encode_payload(None, msgspec.structs.replace(bad, order_number="\x00"))
    pod.cut_number = 1
    event = pod.event(bad, payload=payload)
    work = pod.step(pod.entries([pod.event(good), event]))
    with pytest.raises(PoisonEventError, match=reason) as caught:
        stores.account.apply(work)
    assert caught.value.event_id == event["event_id"]
    assert stores.account.state("pod1").positions == {}
    assert apply_parking(stores.account, work, (), lambda: NOON) == {key_of(bad)}
    assert [row[1] for row in stores.contents()["account_orders"]] == [good.order_id]
    assert stores.account.state("pod1").parked_keys == {key_of(bad)}


def test_parked_events_are_kept_and_replayed_after_the_fix(stores: Stores) -> None:
    pod = FakePod()
    first = order()
    pod.cut_number = 1
    broken = pod.event(first, payload="no json")
    keys = apply_parking(stores.account, pod.step(pod.entries([broken])), (), lambda: NOON)
    keys = apply_parking(stores.account, pod.step(pod.cut(changed(first)), since=1), keys, lambda: NOON)
    assert keys == {key_of(first)}
    assert [event.event for event in stores.account.parked_events("pod1")] == pod.events
    assert account_of(stores.dsn, "m1", "c1").freshness.parked_keys == (key_of(first),)
    assert account_of(stores.dsn, "m2", "c1").freshness.parked_keys == ()

    mended = msgspec.json.encode(broken | {"payload": encode_payload(None, first)}).decode()
    with psycopg.connect(stores.dsn) as connection:
        where = [mended, broken["event_id"]]
        connection.execute("update read_models.parked_events set event = %s where event_id = %s", where)
    result = replay_parked(stores.account, "pod1", NOON)
    assert (result.replayed_events, result.still_parked) == (2, frozenset())
    assert stores.execute("select version from read_models.account_orders") == [(2,)]
    assert account_of(stores.dsn, "m1", "c1").freshness.parked_keys == ()


def test_an_unreadable_event_that_a_later_one_supersedes_does_not_matter(stores: Stores) -> None:
    pod = FakePod()
    first = order()
    pod.cut_number = 1
    events = [pod.event(first, payload="no json"), pod.event(changed(first))]
    assert apply_parking(stores.account, pod.step(pod.entries(events)), (), lambda: NOON) == frozenset()
    assert stores.execute("select version from read_models.account_orders") == [(2,)]


def test_a_second_replay_of_the_same_parked_events_is_fenced(stores: Stores) -> None:
    pod = FakePod()
    pod.cut_number = 1
    event = pod.event(order())
    stores.account.apply(pod.step([], parked=[parked(event)]))
    here = stores.account.state("pod1").positions
    replay = pod.step(pod.entries([event]), expected=here, positions=here, released=[parked(event).aggregate_key])
    stores.account.apply(replay)
    with pytest.raises(FencedError):
        stores.account.apply(replay)


DAMAGES = {
    "wrong content, right version": "update read_models.account_orders set total_minor = total_minor + 1",
    "a version from the future": "update read_models.account_orders set version = 99, status = 'placed'",
    "a missing row": "delete from read_models.account_orders",
    "a missing line": "delete from read_models.fulfillment_lines",
    "a wrong line": "update read_models.fulfillment_lines set open_quantity = 77",
    "an emptied reservation": "delete from read_models.fulfillment_reservation_lines",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rebuilding_keys_mends(stores: Stores, damage: str) -> None:
    pod = FakePod()
    for work in a_shop(pod):
        stores.apply(work, also_lake=True)
    before = stores.contents()
    stores.execute(DAMAGES[damage])
    assert stores.contents() != before
    keys = sorted({f"{event['merchant_id']}/{event['aggregate_type']}/{event['aggregate_id']}" for event in pod.events})
    for projection in stores.views:
        done = projection.rebuild("pod1", keys)
        assert done.skipped_keys == ()
    assert stores.contents() == before


def test_rebuilding_one_key_leaves_the_others_alone(stores: Stores) -> None:
    pod = FakePod()
    one, two = order(), order()
    stores.apply(pod.step(pod.cut(one, two)), also_lake=True)
    stores.execute("update read_models.account_orders set total_minor = 5")
    stores.account.rebuild("pod1", [key_of(one)])
    assert dict(stores.execute("select order_id, total_minor from read_models.account_orders")) == {
        one.order_id: one.total_minor,
        two.order_id: 5,
    }


def test_rebuilding_a_key_that_the_lake_does_not_know_removes_it(stores: Stores) -> None:
    pod = FakePod()
    real, ghost = order(), order()
    stores.apply(pod.step(pod.cut(real)), also_lake=True)
    stores.apply(pod.step(pod.cut(ghost), since=1))
    stores.lake.apply(pod.step([], since=1))
    done = stores.account.rebuild("pod1", [key_of(real), key_of(ghost)])
    assert (done.aggregates, done.rows_before) == (1, 2)
    assert [row[1] for row in stores.contents()["account_orders"]] == [real.order_id]


def test_rebuilding_is_as_of_the_views_position_not_the_lakes(stores: Stores) -> None:
    pod = FakePod()
    first = order()
    stores.apply(pod.step(pod.cut(first)), also_lake=True)
    before = stores.contents()
    ahead = pod.step(pod.cut(changed(first, status=OrderStatus.CANCELLED)), since=1)
    stores.lake.apply(ahead)
    stores.account.rebuild("pod1", [key_of(first)])
    stores.account.rebuild_all("pod1")
    assert stores.contents() == before
    stores.account.apply(ahead)
    assert stores.execute("select version, status from read_models.account_orders") == [(2, "cancelled")]


def test_rebuilding_waits_for_the_lake_and_gives_up_in_time(stores: Stores) -> None:
    pod = FakePod()
    work = pod.step(pod.cut(order()))
    stores.apply(work)
    before = stores.contents()
    with pytest.raises(PropagationError, match="did not reach"):
        stores.account.rebuild_all("pod1", deadline_seconds=0.0)
    assert stores.contents() == before
    thread = threading.Thread(target=stores.lake.apply, args=[work])
    thread.start()
    stores.account.rebuild_all("pod1")
    thread.join()
    assert stores.contents() == before


def test_wiping_and_rebuilding_everything_gives_the_same(stores: Stores) -> None:
    pods = [FakePod(pod="pod1"), FakePod(pod="pod2", epoch="other")]
    for pod in pods:
        for work in a_shop(pod):
            stores.apply(work, also_lake=True)
    before = stores.contents()
    stores.execute(f"truncate {', '.join(f'read_models.{table}' for table in TABLES)}")
    for projection in stores.views:
        assert projection.rebuild_all("pod1").rows_before == 0
    assert stores.contents() != before
    for projection in stores.views:
        projection.rebuild_all("pod2")
    assert stores.contents() == before


def test_rebuilding_takes_away_lines_whose_order_was_lost(stores: Stores) -> None:
    pod = FakePod()
    for work in a_shop(pod):
        stores.apply(work, also_lake=True)
    before = stores.contents()
    stores.execute("update read_models.fulfillment_lines set sku = 'ANOTHER', order_line_id = order_line_id || '-'")
    stores.execute("delete from read_models.fulfillment_orders")
    stores.fulfillment.rebuild_all("pod1")
    assert stores.contents() == before


@pytest.mark.parametrize(("version", "kept"), [(1, 2), (9, 9)])
def test_rebuilding_a_pod_leaves_a_newer_row_of_another_alone(stores: Stores, version: int, kept: int) -> None:
    pod = FakePod()
    first, second = order(), order()
    stores.apply(pod.step(pod.cut(first, second)), also_lake=True)
    stores.apply(pod.step(pod.cut(changed(first)), since=1), also_lake=True)
    stores.execute(
        f"update read_models.account_orders set pod = 'pod2', version = {version} where order_id = '{first.order_id}'"
    )
    stores.account.rebuild_all("pod1")
    found = stores.execute("select order_id, version from read_models.account_orders")
    assert dict(found) == {first.order_id: kept, second.order_id: 1}


def test_a_lost_database_comes_back_from_the_lake_alone(stores: Stores) -> None:
    pod = FakePod()
    for work in a_shop(pod):
        stores.apply(work, also_lake=True)
    before = stores.contents()
    stores.account.close()
    stores.execute("drop schema read_models cascade")
    migrate(stores.dsn)
    for view in stores.views:
        view.close()
        view.rebuild_all("pod1", is_lake_position_taken=True)
        assert view.state("pod1").positions == dict.fromkeys(range(PARTITIONS), Position(cut=2, chunk=0))
    assert stores.contents() == before
    stores.account.apply(pod.step(pod.cut(order()), since=2))


def test_parked_keys_are_never_rebuilt_over(stores: Stores) -> None:
    pod = FakePod()
    first = order()
    stores.apply(pod.step(pod.cut(first)), also_lake=True)
    later = pod.cut(changed(first, status=OrderStatus.CANCELLED))
    work = pod.step(later, since=1)
    stores.lake.apply(work)
    event = pod.events[-1]
    stores.account.apply(pod.step([], since=1, parked=[parked(event)]))
    before = stores.contents()
    assert stores.account.rebuild("pod1", [key_of(first)]).skipped_keys == (key_of(first),)
    assert stores.account.rebuild_all("pod1").skipped_keys == (key_of(first),)
    assert stores.contents() == before
    with pytest.raises(PropagationError, match="parked"):
        stores.account.rebuild_all("pod1", is_lake_position_taken=True)


def test_rebuilding_parks_what_cannot_be_read_as_following_the_log_would(stores: Stores) -> None:
    pod = FakePod()
    good, bad = order(), order()
    pod.cut(good, bad)
    third = changed(changed(bad))
    events = [*pod.events, pod.event(changed(bad), payload="no json"), pod.event(third, payload="no json either")]
    work = pod.step(pod.entries(events))
    stores.lake.apply(work)
    assert stores.account.rebuild_all("pod1", is_lake_position_taken=True).aggregates == 2
    assert dict(stores.execute("select order_id, version from read_models.account_orders")) == {
        good.order_id: 1,
        bad.order_id: 1,
    }
    parked_now = stores.account.parked_events("pod1")
    assert [event.event for event in parked_now] == events[2:]
    assert "payload cannot be read" in parked_now[0].error
    assert "Waits behind" in parked_now[1].error


def test_rebuilding_never_races_the_live_consumer(stores: Stores) -> None:
    pod = FakePod()
    states = [order(order_number=str(number)) for number in range(5)]
    works = [pod.step(pod.cut(*states))]
    for cut in range(1, 20):
        states = [changed(state, total_minor=cut) for state in states]
        works.append(pod.step(pod.cut(*states), since=cut))
    stores.lake.apply(pod.step([entry for work in works for entry in work.entries]))
    failures: list[Exception] = []

    def rebuild() -> None:
        projection = account_view.build(stores.settings)
        try:
            while projection.state("pod1").positions.get(0, START).cut < len(works):
                projection.rebuild("pod1", [key_of(state) for state in states])
                projection.rebuild_all("pod1")
        except Exception as error:
            failures.append(error)
        finally:
            projection.close()

    thread = threading.Thread(target=rebuild)
    thread.start()
    for number, work in enumerate(works, start=1):
        stores.account.apply(work)
        versions = stores.execute("select distinct version from read_models.account_orders")
        assert versions == [(number,)]
    thread.join()
    assert not failures
    assert {row[4] for row in stores.contents()["account_orders"]} == {20}


def test_errors_do_not_show_the_password(stores: Stores) -> None:
    dsn = "postgresql://somebody:hunter2@127.0.0.1:1/nowhere"
    view = account_view.build(replace(stores.settings, read_models_dsn=dsn))
    for attempt in (lambda: account_of(dsn, "m1", "c1"), lambda: view.state("pod1"), lambda: migrate(dsn)):
        with pytest.raises(TieoutError) as caught:
            attempt()
        assert "hunter2" not in str(caught.value)
        assert "nowhere" in str(caught.value)


def test_nothing_waits_behind_what_is_no_longer_parked(stores: Stores) -> None:
    pod, placed = FakePod(), order()
    with pytest.raises(FencedError, match="replayed meanwhile"):
        stores.account.apply(pod.step(pod.cut(), behind=(key_of(placed),)))


def test_a_rebuild_says_what_it_changed(stores: Stores) -> None:
    for work in a_shop(FakePod()):
        stores.apply(work, also_lake=True)
    keys = [f"{row[0]}/order/{row[1]}" for row in stores.execute("select * from read_models.account_orders")]
    assert stores.account.rebuild("pod1", keys).changed == 0
    assert stores.account.rebuild_all("pod1", is_change_told=True).changed == 0
    assert stores.account.rebuild_all("pod1").changed is None
    for change in ("update read_models.account_orders set total_minor = 7", "delete from read_models.account_orders"):
        stores.execute(f"{change} where order_number in ('0', '1')")
        assert stores.account.rebuild("pod1", keys).changed == 2
    stores.execute("update read_models.fulfillment_lines set open_quantity = 7 where line_number = 1")
    assert stores.fulfillment.rebuild_all("pod1", is_change_told=True).changed
    stores.execute("delete from read_models.fulfillment_lines where line_number = 1")
    assert stores.fulfillment.rebuild("pod1", keys).changed
    assert stores.fulfillment.rebuild("pod1", keys).changed == 0
