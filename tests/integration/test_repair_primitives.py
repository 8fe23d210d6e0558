"""Every kind of damage between a pod's tables and the lake, mended by the means of repair, and compared again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict

from contracts.errors import (
    EpochChangedError,
    LogDivergedError,
    LogGapError,
    NotFoundError,
    NotRestatableError,
    PropagationError,
    RelayBusyError,
)
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundStatus
from contracts.ids import aggregate_key
from contracts.settings import PodSettings, Settings
from contracts.verdicts import Verdict
from derived import lake_repair
from derived.lake_backup import back_up, events_from_backup
from derived.lake_connection import open_lake
from derived.lake_reads import recorded_cut
from derived.lake_repair import (
    LakeChange,
    remove_duplicates,
    remove_extra_events,
    replace_events,
    restore_events,
    set_lake_position,
)
from oltp.commands.execute import execute
from oltp.commands.restate import Restate, Restated
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from stack.composition.comparison import build_reconcile_context
from streams.draining import drain_pod
from streams.lock_takeover import republish_now
from streams.logs import build_log
from streams.outbox_reading import RELAY_LOCK, prune
from streams.projection import Position
from streams.reissue import (
    REISSUED_SCHEMA,
    cuts_of_aggregates,
    events_of_aggregates,
    events_of_cuts,
    newest_cut,
    reissued_cuts,
    unpruned_after,
)
from streams.relay import REPUBLISHING, build_relay
from tests.conftest import Cluster
from tests.integration.reconcile_world import Shop, carrying, migrate_lake_of, open_shops, propagate

FAMILIES = ("log_manifests", "oltp_lake")
EVENTS = "lake.raw.events"
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class World:
    """A pod with a shop in which everything was done, its log and its lake."""

    settings: Settings
    postgres: Cluster
    shop: Shop
    context: ReconcileContext

    @property
    def pod(self) -> PodSettings:
        return self.settings.pods[0]

    @property
    def lake(self) -> tuple[str, str, str]:
        """What every repair of the lake is given first."""
        return self.settings.catalog_dsn, self.settings.lake_data_path, self.pod.pod

    def propagate(self) -> None:
        propagate(self.settings, self.pod, ("lake",))

    def differing(self, *pairs: str) -> dict[str, dict[str, int]]:
        """Compare at a new cut: the classes of what differs, by pair; the lake is brought there before."""
        results = run_pairs(self.context, pairs or FAMILIES, ["pod1"])
        assert {result.verdict for result in results} <= {Verdict.CONSISTENT, Verdict.INCONSISTENT}, results
        return {result.pair: result.classes for result in results if result.verdict is Verdict.INCONSISTENT}

    def damage_lake(self, statement: str, values: list[object] | None = None) -> None:
        """Change the lake as nobody should."""
        with open_lake(self.settings) as lake:
            lake.execute(statement, values or [])

    def rows(self, condition: str = "true") -> Rows:
        """All columns of the pod's events in the lake, in a fixed order."""
        columns = ", ".join(f'"{name}"' for name in REISSUED_SCHEMA.names)
        with open_lake(self.settings, read_only=True) as lake:
            order = 'order by cut, "partition", chunk, "position", event_id'
            query = f"select {columns} from {EVENTS} where pod = ? and {condition} {order}"
            return lake.execute(query, [self.pod.pod]).fetchall()

    @contextmanager
    def behind_the_outbox(self) -> Iterator[psycopg.Connection[Any]]:
        """A superuser's connection without triggers: writes that bypass every rule of the pod."""
        database = str(conninfo_to_dict(self.pod.owner_dsn)["dbname"])
        with psycopg.connect(self.postgres.superuser_dsn(database)) as connection:
            connection.execute("set session_replication_role = replica")
            yield connection

    def bypass(self, statement: str, *values: object) -> None:
        with self.behind_the_outbox() as connection:
            assert connection.execute(statement.encode(), values).rowcount > 0, statement

    def restate(self, aggregate_type: str, aggregate_id: str, key: str = "", **fields: Any) -> Restated:
        command = Restate(
            merchant_id=self.shop.merchant_id,
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            cause="break 17: a write bypassed the outbox",
            **fields,
        )
        return execute(self.shop.pod, command, idempotency_key=key or str(self.shop.pod.new_uuid()))


def in_order(events: pa.Table) -> Rows:
    """The rows of a table of events in the order of `World.rows`."""
    return [tuple(row.values()) for row in events.select(REISSUED_SCHEMA.names).to_pylist()]


@pytest.fixture
def world(settings: Settings, postgres: Cluster) -> Iterator[World]:
    """A pod whose copies agree with it."""
    migrate_lake_of(settings)
    real = build_reconcile_context(settings, lag_seconds_max=10)

    with open_shops(settings) as (shop, _):
        shop.everything()
        made = World(settings=settings, postgres=postgres, shop=shop, context=carrying(real, settings, ("lake",)))
        made.propagate()
        yield made


@pytest.mark.in_turn("repairs", seconds=23)
def test_the_lake_is_mended_from_the_outbox(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, pod = world.shop, world.pod
    lost, twice, altered, moved = (shop.paid()[0] for _ in range(4))
    world.propagate()
    whole = world.rows()
    check_reissued_is_what_was_published(world, whole)

    world.damage_lake(f"delete from {EVENTS} where aggregate_id = ?", [lost.order_id])
    for _ in range(2):
        world.damage_lake(
            f"insert into {EVENTS} select * from {EVENTS} where aggregate_id = ? limit 1", [twice.order_id]
        )
    world.damage_lake(
        f"update {EVENTS} set payload = replace(payload, 'GBP', 'EUR') where aggregate_id = ?", [altered.order_id]
    )
    world.damage_lake(f'update {EVENTS} set cut = cut + 1, "partition" = 99 where aggregate_id = ?', [moved.order_id])
    world.damage_lake(
        f"insert into {EVENTS} select * replace ('forged' as event_id, 'ghost' as aggregate_id) from {EVENTS} "
        "where aggregate_id = ? limit 1",
        [twice.order_id],
    )
    assert set(world.differing()) == {"log_manifests", "oltp_lake.order"}

    keys = [aggregate_key(shop.merchant_id, "order", order.order_id) for order in (lost, twice, altered, moved)]
    right = events_of_aggregates(pod, keys)
    assert right.num_rows == 4 and set(right.column("cut").to_pylist()) == set(cuts_of_aggregates(pod, keys))
    cut_of = {row["aggregate_id"]: row["cut"] for row in right.to_pylist()}
    check_interrupted_leaves_nothing_half_done(world, right, monkeypatch)

    restored = restore_events(*world.lake, right)
    assert (restored.events, restored.lowest_cut) == (1, cut_of[lost.order_id])
    assert [row["aggregate_id"] for row in restored.after] == [lost.order_id] and restored.before == []
    single = remove_duplicates(*world.lake)
    assert (single.events, single.lowest_cut, len(single.before)) == (2, cut_of[twice.order_id], 3)
    replaced = replace_events(*world.lake, right)
    assert (replaced.events, replaced.lowest_cut) == (2, min(cut_of[altered.order_id], cut_of[moved.order_id]))
    assert {row["aggregate_id"] for row in replaced.before} == {altered.order_id, moved.order_id}
    removed = remove_extra_events(
        *world.lake,
        ["forged", *right.column("event_id").to_pylist()],
        published=events_of_cuts(pod, sorted(cut_of.values())),
        unpruned_after=unpruned_after(pod),
    )
    assert [row["event_id"] for row in removed.before] == ["forged"]
    assert world.differing() == {}
    assert world.rows("cut <= " + str(max(row[2] for row in whole))) == whole

    nothing = LakeChange(events=0, lowest_cut=None)
    again = (
        restore_events(*world.lake, right),
        remove_duplicates(*world.lake, right.column("event_id").to_pylist()),
        replace_events(*world.lake, right),
    )
    assert [(change.events, change.lowest_cut) for change in again] == [(0, None)] * 3 and again[2] == nothing
    check_a_repair_and_the_consumer_do_not_disturb_each_other(world, monkeypatch)


def check_reissued_is_what_was_published(world: World, whole: Rows) -> None:
    """What the outbox gives for all cuts equals the lake row by row, and its manifests equal the log's."""
    cuts = range(1, newest_cut(world.pod) + 1)
    assert in_order(events_of_cuts(world.pod, cuts)) == whole and len(whole) > 50
    with closing(build_log(world.settings)) as log:
        published = log.manifests(world.pod.pod, 0, limit=1_000)
    reissued = list(reissued_cuts(world.pod, cuts))
    assert len(published) == len(reissued) == len(cuts)
    assert all(mine.manifest.says_the_same_as(theirs) for mine, theirs in zip(reissued, published, strict=True))
    with pytest.raises(LogDivergedError, match="has registered no cut"):
        events_of_cuts(world.pod, [cuts[-1] + 1])


def check_interrupted_leaves_nothing_half_done(world: World, right: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.rows()
    insert = lake_repair._insert

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lake_repair, "_insert", die)
    with pytest.raises(KeyboardInterrupt):
        replace_events(*world.lake, right)
    monkeypatch.setattr(lake_repair, "_insert", insert)
    assert world.rows() == before


def check_a_repair_and_the_consumer_do_not_disturb_each_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order, _ = world.shop.paid()
    world.propagate()
    world.damage_lake(f"delete from {EVENTS} where aggregate_id = ?", [order.order_id])
    right = events_of_aggregates(world.pod, [aggregate_key(world.shop.merchant_id, "order", order.order_id)])
    insert, attempts = lake_repair._insert, []

    def overtaken(connection: duckdb.DuckDBPyConnection, events: pa.Table) -> None:
        """Insert, but let a consumer commit its own step in the meantime."""
        attempts.append(events.num_rows)
        if len(attempts) == 1:
            world.shop.order()
            world.propagate()
        insert(connection, events)

    monkeypatch.setattr(lake_repair, "_insert", overtaken)
    assert restore_events(*world.lake, right).events == 1
    assert attempts == [1, 1], "the consumer was first, so the repair started over"

    # What the lake has not reached comes by itself, and nobody may put it there before.
    world.shop.order()
    drain_pod(world.pod, world.settings)
    before = world.rows()
    coming = events_of_cuts(world.pod, [newest_cut(world.pod)])
    with pytest.raises(PropagationError, match="comes by itself"):
        restore_events(*world.lake, coming)
    other = coming.set_column(1, "epoch", pa.array(["another"] * coming.num_rows))
    for repair in (restore_events, replace_events):
        with pytest.raises(EpochChangedError):
            repair(*world.lake, other)
    assert world.rows() == before
    assert world.differing() == {}


@pytest.mark.in_turn("repairs", seconds=18)
def test_pruned_cuts_and_moved_positions_are_mended(world: World) -> None:
    check_positions(world)
    check_pruned(world)
    assert world.differing() == {}


def check_pruned(world: World) -> None:
    order, _ = world.shop.paid()
    world.propagate()
    cut = newest_cut(world.pod)
    (found,) = world.rows(f"aggregate_id = '{order.order_id}'")
    back_up(world.settings.catalog_dsn, world.settings.lake_data_path, world.settings.lake_backup_path)
    whole = world.rows()
    assert prune(world.pod.owner_dsn, cut).events > 0 and unpruned_after(world.pod) == cut
    world.damage_lake(f"delete from {EVENTS} where aggregate_id = ?", [order.order_id])
    assert set(world.differing("oltp_lake.order")) == {"oltp_lake.order"}

    with pytest.raises(LogDivergedError, match="verified backup"):
        events_of_cuts(world.pod, [found[2]])
    folder = Path(str(world.settings.lake_backup_path))
    right = events_from_backup(folder, "pod1", range(1, cut + 1))
    assert in_order(right) == whole
    with pytest.raises(PropagationError, match=f"holds the cuts 1 to {cut} of pod pod1"):
        events_from_backup(folder, "pod1", [cut + 1])
    with pytest.raises(PropagationError, match="nobody can prove"):
        remove_extra_events(
            *world.lake,
            [whole[0][5]],
            published=REISSUED_SCHEMA.empty_table(),
            unpruned_after=unpruned_after(world.pod),
        )
    change = restore_events(*world.lake, events_from_backup(folder, "pod1", [found[2]]))
    assert (change.events, change.lowest_cut) == (1, found[2])
    assert world.differing() == {}

    (file,) = folder.glob("pod1/*.parquet")
    with duckdb.connect() as connection:
        changed = f"select * replace ('x' as payload) from '{file}'"
        connection.execute(f"copy ({changed}) to '{file}.new' (format parquet)")
    file.with_suffix(".parquet.new").replace(file)
    with pytest.raises(PropagationError, match="does not hold"):
        events_from_backup(folder, "pod1", [found[2]])


def check_positions(world: World) -> None:
    fence = "lake.raw.fence_lake_pod1"

    # Moved back: the log brings the same events again, and they are recognised.
    world.damage_lake(f"update {fence} set cut = 1, chunk = 0")
    world.shop.paid()
    world.propagate()
    assert remove_duplicates(*world.lake).events == 0

    # Moved back to where the log is trimmed: the lake stands still until it is set to what it has.
    for _ in range(2):
        world.shop.paid()
        world.propagate()
    reached = recorded(world)
    assert reached > 3
    world.shop.paid()
    with closing(build_log(world.settings)) as log:
        assert log.trim("pod1", reached) > 0
    world.damage_lake(f"update {fence} set cut = 2, chunk = 0")
    with pytest.raises(LogGapError):
        world.propagate()
    with pytest.raises(PropagationError, match="cannot be set forward"):
        set_lake_position(*world.lake, reached + 1)
    moved = set_lake_position(*world.lake, reached)
    assert set(moved.before.values()) == {Position(cut=2, chunk=0)}
    assert set(moved.after.values()) == {Position(cut=reached, chunk=0)}
    assert set_lake_position(*world.lake, reached).before == moved.after
    world.propagate()

    # Moved forward: the skipped events are restored, and the position stays.
    world.shop.paid()
    skipped = drain_pod(world.pod, world.settings).cut
    world.damage_lake(f"update {fence} set cut = {skipped}, chunk = 0")
    world.shop.order()
    assert set(world.differing("log_manifests", "oltp_lake.order")) == {"log_manifests", "oltp_lake.order"}
    cuts = [cut for cut in range(reached, newest_cut(world.pod) + 1) if cut > unpruned_after(world.pod)]
    change = restore_events(*world.lake, events_of_cuts(world.pod, cuts))
    assert change.events > 0 and change.lowest_cut is not None and change.lowest_cut <= skipped

    # Moved beyond all cuts: set back to the last cut that is all there, and the log brings the rest.
    complete = recorded(world)
    world.damage_lake(f"update {fence} set cut = 1000000, chunk = 0")
    world.shop.paid()
    world.propagate()
    assert set_lake_position(*world.lake, complete).after[0] == Position(cut=complete, chunk=0)
    assert world.differing() == {}


def recorded(world: World) -> int:
    with open_lake(world.settings, read_only=True) as lake:
        return recorded_cut(lake, "pod1")


@contextmanager
def running_relay(world: World) -> Iterator[None]:
    """A relay that comes back whenever it was ended, as under the supervisor."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                with closing(build_relay(world.pod, world.settings)) as relay:
                    relay.run(stop)
            except RelayBusyError:
                stop.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.in_turn("repairs")
def test_what_the_log_lost_is_published_again_beside_the_running_relay(world: World) -> None:
    with redis.Redis.from_url(world.settings.log_url) as client, running_relay(world):
        order, _ = world.shop.paid()
        key = aggregate_key(world.shop.merchant_id, "order", order.order_id)
        world.propagate()
        (cut,) = cuts_of_aggregates(world.pod, [key])
        (partition,) = set(events_of_aggregates(world.pod, [key]).column("partition").to_pylist())
        assert client.xdel(f"{{tieout:pod1}}:g1:p{partition}", f"{cut}-0") == 1
        assert set(world.differing("log_manifests")) == {"log_manifests"}
        result = republish_now(world.pod, world.settings, cut)
        assert result.cut >= cut and result.cuts_published == result.cut - cut + 1
        assert world.differing("log_manifests") == {}

        # All of it: entries and manifests. The relay goes on, and copies follow.
        assert client.delete("{tieout:pod1}:cuts", *client.keys("{tieout:pod1}:g*")) > 2
        world.shop.paid()
        drain_pod(world.pod, world.settings)
        assert republish_now(world.pod, world.settings, 1).cuts_published > 1
        again = republish_now(world.pod, world.settings, 1)
        world.shop.shipped()
        assert world.differing() == {}
        with closing(build_log(world.settings)) as log:
            assert [manifest.cut for manifest in log.manifests("pod1", 0, limit=again.cut)] == [
                *range(1, again.cut + 1)
            ]

    check_only_relays_are_ended(world)


def check_only_relays_are_ended(world: World) -> None:
    def held_by(dsn: str, name: str) -> psycopg.Connection[Any]:
        connection = psycopg.connect(dsn, autocommit=True, application_name=name)
        connection.execute("select pg_advisory_lock(%s, %s)", RELAY_LOCK)
        return connection

    refusals: tuple[tuple[str, str, str], ...] = (
        (world.pod.relay_dsn, f"{REPUBLISHING} pod1", "somebody republishes"),
        (
            world.postgres.superuser_dsn(str(conninfo_to_dict(world.pod.owner_dsn)["dbname"])),
            "a person",
            "another role",
        ),
    )
    for dsn, name, sentence in refusals:
        with held_by(dsn, name) as holder:
            with pytest.raises(RelayBusyError, match=sentence):
                republish_now(world.pod, world.settings, 1, seconds_max=0.3)
            assert holder.execute("select true").fetchone() == (True,)
    with held_by(world.pod.relay_dsn, "tieout relay pod1") as holder:
        assert republish_now(world.pod, world.settings, 1).cut == newest_cut(world.pod)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("select true")


@pytest.mark.in_turn("repairs")
def test_what_bypassed_the_outbox_is_restated(world: World) -> None:
    shop = world.shop
    dearer, shipped = shop.order(), shop.shipped()
    order, payment, refund = shop.refunded()
    assert refund.status is RefundStatus.COMPLETED
    damages: tuple[tuple[str, str, str], ...] = (
        ("update oltp.orders set source = 'by hand' where order_id = %s", "order", order.order_id),
        (
            "update oltp.payments set provider_reference = 'by hand' where payment_id = %s",
            "payment",
            payment.payment_id,
        ),
        ("update oltp.refunds set reason = 'by hand' where refund_id = %s", "refund", refund.refund_id),
        (
            "update oltp.reservations set expires_at = now() where reservation_id = %s",
            "reservation",
            order.reservation_id,
        ),
        ("update oltp.merchants set name = 'By hand' where merchant_id = %s", "merchant", shop.merchant_id),
        ("delete from oltp.merchant_tax_rates where merchant_id = %s and rate_ppm = 0", "merchant", shop.merchant_id),
        (
            "delete from oltp.prices where product_id = %s",
            "product",
            one(world, "select product_id from oltp.products"),
        ),
        (
            "update oltp.merchant_entitlement_grants set grantor = 'by hand' where entitlement_id = %s",
            "merchant_entitlement",
            one(world, "select entitlement_id from oltp.merchant_entitlements"),
        ),
        (
            "update oltp.customer_entitlements set effective_level = 9 where entitlement_id = %s",
            "customer_entitlement",
            one(world, "select entitlement_id from oltp.customer_entitlements"),
        ),
    )
    for statement, _, value in damages:
        world.bypass(statement, value)
    assert set(world.differing()) == {f"oltp_lake.{aggregate_type}" for _, aggregate_type, _ in damages}
    for aggregate_type, value in {aggregate_type: value for _, aggregate_type, value in damages}.items():
        restated = restated_once(world, aggregate_type, value)
        assert restated.version > 1 and restated.changed
    event = newest_event(world, order.order_id)
    assert (event["event_type"], event["occurred_at"]) == ("order_restated", order.placed_at)
    assert '"changed":["source"],"cause":"break 17: a write bypassed the outbox"' in event["payload"]
    check_amounts_and_rows_are_restated(world, dearer)
    check_what_the_database_itself_has_wrong_is_left_to_people(world, shipped)


def check_amounts_and_rows_are_restated(world: World, dearer: OrderState) -> None:
    shop = world.shop
    line = dearer.lines[0].order_line_id
    world.bypass("update oltp.order_lines set amount_minor = amount_minor + 1, total_minor = total_minor + 1, "
                 "unit_price_micro = unit_price_micro where order_line_id = %s", line)  # fmt: skip
    world.bypass("update oltp.order_tax_lines set taxable_minor = taxable_minor + 1 where order_line_id = %s", line)
    raised = "update oltp.orders set lines_minor = lines_minor + 1, total_minor = total_minor + 1 where order_id = %s"
    world.bypass(raised, dearer.order_id)
    assert world.differing("oltp_lake.order") == {"oltp_lake.order": {"amount": 2}}
    assert restated_once(world, "order", dearer.order_id).changed == ["lines_minor", "total_minor", "lines"]

    # A row that came without any event gets its first one, under its own version.
    world.bypass("insert into oltp.adjustments select 'adadadad-0000-7000-8000-000000000000', merchant_id, 1, kind, "
                 "currency, amount_minor, rounding_micro, quantity, sku, customer_id, external_reference, 'by hand', "
                 "source, adjusted_at, tax_minor, jurisdiction, tax_category, rate_ppm "
                 "from oltp.adjustments limit 1")  # fmt: skip
    assert set(world.differing("oltp_lake.adjustment")) == {"oltp_lake.adjustment"}
    assert restated_once(world, "adjustment", "adadadad-0000-7000-8000-000000000000").version == 1
    # A version that went up by hand has no event either.
    world.bypass("update oltp.merchants set version = version + 1 where merchant_id = %s", shop.merchant_id)
    assert set(world.differing("oltp_lake.merchant")) == {"oltp_lake.merchant"}
    assert restated_once(world, "merchant", shop.merchant_id).changed == []
    assert world.differing() == {}

    # With the outbox pruned, the version of what is there tells, or the lake's does.
    world.propagate()
    assert prune(world.pod.owner_dsn, newest_cut(world.pod)).events > 0
    world.bypass("update oltp.orders set source = 'later' where order_id = %s", dearer.order_id)
    assert world.restate("order", dearer.order_id).version == 3
    assert world.differing("oltp_lake.order") == {}


def check_what_the_database_itself_has_wrong_is_left_to_people(
    world: World, shipped: tuple[OrderState, PaymentState]
) -> None:
    shop = world.shop
    order, payment = shipped
    fulfillment = one(world, "select fulfillment_id from oltp.fulfillments where order_id = %s", order.order_id)
    movement = one(world, "select stock_movement_id from oltp.stock_movements limit 1")
    before = one(world, "select count(*) from oltp.outbox")

    def refused(statement: str, aggregate_type: str, aggregate_id: str, sentence: str, **fields: Any) -> None:
        world.bypass(statement)
        with pytest.raises(NotRestatableError, match=sentence):
            world.restate(aggregate_type, aggregate_id, **fields)

    ghost = "insert into oltp.order_discounts values (gen_random_uuid(), '{0}', '{1}', 'GHOST', 1)"
    refused(ghost.format(order.order_id, shop.merchant_id), "order", order.order_id, "does not equal the sum")
    captures = f"delete from oltp.payment_captures where payment_id = '{payment.payment_id}'"
    refused(captures, "payment", payment.payment_id, "is not the sum of its captures")
    tracking = f"update oltp.fulfillments set tracking_number = 'X' where fulfillment_id = '{fulfillment}'"
    refused(tracking, "fulfillment", fulfillment, "happens once")
    reason = f"update oltp.stock_movements set reason = 'X' where stock_movement_id = '{movement}'"
    refused(reason, "stock_movement", movement, "happens once")
    version = f"update oltp.orders set version = version + 5 where order_id = '{order.order_id}'"
    refused(version, "order", order.order_id, "newest event version 2", published_version=2)
    world.bypass("delete from oltp.payments where payment_id = %s", payment.payment_id)
    with pytest.raises(NotFoundError):
        world.restate("payment", payment.payment_id)
    assert one(world, "select count(*) from oltp.outbox") == before


def restated_once(world: World, aggregate_type: str, aggregate_id: str) -> Restated:
    """Restate: the same key gives the same answer again, and another key finds nothing left to do."""
    key = str(world.shop.pod.new_uuid())
    first = world.restate(aggregate_type, aggregate_id, key=key)
    assert first.is_published and world.restate(aggregate_type, aggregate_id, key=key) == first
    second = world.restate(aggregate_type, aggregate_id)
    assert second == Restated(version=first.version, is_published=False, changed=[])
    return first


def one(world: World, query: str, *values: object) -> str:
    with psycopg.connect(world.pod.reader_dsn) as connection:
        row = connection.execute(query.encode(), values).fetchone()
        assert row is not None
        return str(row[0])


def newest_event(world: World, aggregate_id: str) -> dict[str, Any]:
    with psycopg.connect(world.pod.reader_dsn, row_factory=psycopg.rows.dict_row) as connection:
        query = (
            "select *, payload::text from oltp.outbox where aggregate_id = %s order by aggregate_version desc limit 1"
        )
        row = connection.execute(query, (aggregate_id,)).fetchone()
        assert row is not None
        return row
