"""Commands happen once per key, whole or not at all, and each leaves exactly its events."""

from __future__ import annotations

import hashlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from psycopg import errors

from contracts.errors import ConflictError, IdempotencyConflictError, InputError, PodFencedError, StackError
from contracts.events.merchant import MerchantState
from contracts.events.product import ProductState
from contracts.settings import PodSettings
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import ATTEMPTS_MAX, Command, CommandPod, build_command_pod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.set_price import SetPrice
from oltp.idempotency_keys import KEY_LEASE, prune_keys
from oltp.store.rows import load
from oltp.transaction import CommandTransaction
from tests.integration.oltp_pod import MERCHANT, NOW, add_product, key, register, stocked_variants


def events(settings: PodSettings) -> list[tuple[str, int]]:
    with psycopg.connect(settings.reader_dsn) as connection:
        return connection.execute("select event_type, aggregate_version from oltp.outbox order by position").fetchall()


def test_the_same_key_gives_the_same_answer_and_no_second_effect(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    (variant,) = stocked_variants(pod, "a")
    command = ReceiveStock(merchant_id=MERCHANT, location_id="main", lines=[StockInput(variant_id=variant, quantity=3)])
    first = execute(pod, command, idempotency_key="delivery 1")
    before = events(settings_of_pod)
    again = execute(replace(pod, clock=lambda: NOW + timedelta(days=1)), command, idempotency_key="delivery 1")
    assert again == first
    assert events(settings_of_pod) == before


def test_the_same_key_with_another_body_or_command_is_a_conflict(pod: CommandPod) -> None:
    register(pod)
    execute(pod, ConfigureMerchant(merchant_id=MERCHANT, name="A"), idempotency_key="k")
    with pytest.raises(IdempotencyConflictError, match="'k' was used for a ConfigureMerchant with another body"):
        execute(pod, ConfigureMerchant(merchant_id=MERCHANT, name="B"), idempotency_key="k")
    with pytest.raises(IdempotencyConflictError):
        execute(
            pod, SetPrice(merchant_id=MERCHANT, variant_id=str(uuid.uuid4()), unit_price_micro=1), idempotency_key="k"
        )


def test_a_key_that_an_earlier_release_stored_is_known_again(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    """Earlier ones hashed the whole body, defaults and all; a client may repeat its command across the deployment."""
    (variant,) = stocked_variants(pod, "a")
    command = ReceiveStock(merchant_id=MERCHANT, location_id="main", lines=[StockInput(variant_id=variant, quantity=3)])
    execute(pod, command, idempotency_key="k")
    body = msgspec.json.encode(command, order="deterministic")
    first_hash = hashlib.sha256(b"ReceiveStock\n" + body).hexdigest()
    assert b'"reason":""' in body
    with psycopg.connect(settings_of_pod.owner_dsn) as connection:
        update = "update oltp.idempotency_keys set body_hash = %s where idempotency_key = 'k' and body_hash <> %s"
        assert connection.execute(update, (first_hash, first_hash)).rowcount == 1
    before = events(settings_of_pod)
    execute(pod, command, idempotency_key="k")
    assert events(settings_of_pod) == before
    with pytest.raises(IdempotencyConflictError):
        execute(pod, msgspec.structs.replace(command, reason="another"), idempotency_key="k")


def test_keys_of_different_merchants_do_not_meet(pod: CommandPod) -> None:
    for merchant_id in ("one", "two"):
        register(pod, merchant_id)
        state = execute(pod, ConfigureMerchant(merchant_id=merchant_id, name="A"), idempotency_key="k")
        assert (state.merchant_id, state.version) == (merchant_id, 2)


def test_a_key_is_removed_when_its_lease_is_over_and_that_of_an_import_never(
    pod: CommandPod, settings_of_pod: PodSettings
) -> None:
    (variant,) = stocked_variants(pod, "a")
    command = ReceiveStock(merchant_id=MERCHANT, location_id="main", lines=[StockInput(variant_id=variant, quantity=3)])
    for name, occurred_at in (("old", None), ("imported", NOW), ("new", None)):
        execute(pod, command, idempotency_key=name, occurred_at=occurred_at)
    with psycopg.connect(settings_of_pod.owner_dsn) as connection:
        age = "update oltp.idempotency_keys set recorded_at = clock_timestamp() - %s where idempotency_key <> 'new'"
        connection.execute(age, (KEY_LEASE + timedelta(minutes=1),))
    before = keys(settings_of_pod)
    # Not even a caller that asks for less gets at a key that a client may still repeat.
    assert prune_keys(settings_of_pod.relay_dsn, lease=timedelta(0), at_once=1) > 0
    assert before - keys(settings_of_pod) == {name for name in before if name not in ("imported", "new")}
    events_before = events(settings_of_pod)
    for name, occurred_at in (("imported", NOW), ("new", None)):
        execute(pod, command, idempotency_key=name, occurred_at=occurred_at)
    assert events(settings_of_pod) == events_before
    execute(pod, command, idempotency_key="old")
    assert len(events(settings_of_pod)) == len(events_before) + 1
    for dsn in (settings_of_pod.app_dsn, settings_of_pod.reader_dsn):
        with pytest.raises(errors.InsufficientPrivilege):
            prune_keys(dsn)


def keys(settings: PodSettings) -> set[str]:
    with psycopg.connect(settings.reader_dsn) as connection:
        return {name for (name,) in connection.execute("select idempotency_key from oltp.idempotency_keys").fetchall()}


def test_a_key_whose_command_failed_may_be_used_again(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    (variant,) = stocked_variants(pod, "a")
    before = events(settings_of_pod)
    command = AdjustStock(merchant_id=MERCHANT, location_id="main", variant_id=variant, quantity=-11)
    with pytest.raises(ConflictError):
        execute(pod, command, idempotency_key="k")
    assert events(settings_of_pod) == before
    execute(pod, msgspec.structs.replace(command, quantity=-1), idempotency_key="k")
    assert events(settings_of_pod) == [*before, ("stock_moved", 1)]


def test_a_command_needs_a_key(pod: CommandPod) -> None:
    with pytest.raises(InputError, match="idempotency key"):
        execute(pod, ConfigureMerchant(merchant_id=MERCHANT), idempotency_key="")


def test_concurrent_commands_under_one_key_have_one_effect(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    (variant,) = stocked_variants(pod, "a")
    before = len(events(settings_of_pod))
    start = threading.Barrier(6)

    def attempt(_: int) -> list[str]:
        command = ReceiveStock(
            merchant_id=MERCHANT, location_id="main", lines=[StockInput(variant_id=variant, quantity=3)]
        )
        start.wait(timeout=30)
        return [movement.stock_movement_id for movement in execute(pod, command, idempotency_key="same")]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(attempt, range(6)))
    assert len({tuple(answer) for answer in answers}) == 1
    assert len(events(settings_of_pod)) == before + 1


def test_concurrent_changes_of_one_aggregate_follow_each_other(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    register(pod)
    variant = add_product(pod, "a").variants[0].variant_id

    def attempt(price: int) -> int:
        command = SetPrice(merchant_id=MERCHANT, variant_id=variant, unit_price_micro=price)
        return execute(pod, command, idempotency_key=key()).version

    with ThreadPoolExecutor(6) as threads:
        versions = sorted(threads.map(attempt, range(30)))
    assert versions == list(range(2, 32))
    assert [version for event, version in events(settings_of_pod) if event == "price_set"] == versions


def test_an_event_carries_state_changes_and_causes(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    register(pod)
    cause, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    past = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    merchant = execute(
        pod,
        ConfigureMerchant(merchant_id=MERCHANT, shipping_fee_minor=0),
        idempotency_key=key(),
        correlation_id=correlation,
        causation_id=cause,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        occurred_at=past,
    )
    with psycopg.connect(settings_of_pod.reader_dsn) as connection:
        row = connection.execute(
            "select event_type, merchant_id, aggregate_type, aggregate_id, aggregate_version, schema_version,"
            " occurred_at, causation_id::text, correlation_id::text, traceparent, payload::text, recorded_at > %s"
            " from oltp.outbox order by position desc limit 1",
            [past],
        ).fetchone()
    assert row is not None
    payload = msgspec.json.decode(row[10])
    assert row[:6] == ("merchant_configured", MERCHANT, "merchant", MERCHANT, 2, 1)
    assert row[6:9] == (past, cause, correlation)
    assert row[9].startswith("00-0af7") and row[11]
    assert msgspec.convert(payload["state"], MerchantState) == merchant
    assert payload["changed"] == ["shipping_fee_minor"]


class TakesTurns(Command[ProductState], frozen=True, kw_only=True):
    """Locks two products in the order given; two of these in opposite order wait for each other."""

    product_ids: list[str]

    def run(self, tx: CommandTransaction) -> ProductState:
        states = []
        for product_id in self.product_ids:
            states.append(load(tx, ProductState, self.merchant_id, product_id))
            if len(states) == 1 and not _MET.is_set():
                # Both have their first row, and ask for the other's. A second attempt meets nobody: it may get its
                # first row again before the other attempt has it, which would wait for a lock while it is waited for.
                _READY.wait(timeout=30)
                _MET.set()
        return states[0]


_READY = threading.Barrier(2)
_MET = threading.Event()


def test_a_deadlock_is_tried_again(pod: CommandPod) -> None:
    register(pod)
    first, second = (add_product(pod, sku).product_id for sku in ("a", "b"))

    def attempt(product_ids: list[str]) -> str:
        return execute(pod, TakesTurns(merchant_id=MERCHANT, product_ids=product_ids), idempotency_key=key()).product_id

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(attempt, ([first, second], [second, first])))
    assert answers == [first, second]


class AlwaysConflicts(Command[ProductState], frozen=True, kw_only=True):
    """What the server ends every time."""

    def run(self, tx: CommandTransaction) -> ProductState:
        raise errors.SerializationFailure("could not serialize access")


def test_trying_again_has_an_end(pod: CommandPod) -> None:
    register(pod)
    with pytest.raises(ConflictError, match=f"{ATTEMPTS_MAX} attempts"):
        execute(pod, AlwaysConflicts(merchant_id=MERCHANT), idempotency_key=key())


def test_lost_connections_are_replaced(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    register(pod)
    with psycopg.connect(settings_of_pod.owner_dsn) as connection:
        database = connection.info.dbname
    _end_sessions(pod, database)
    assert execute(pod, ConfigureMerchant(merchant_id=MERCHANT, name="A"), idempotency_key=key()).version == 2


def _end_sessions(pod: CommandPod, database: str) -> None:
    """End every session of the pool, as a restart of the server would; a role may end its own sessions."""
    with pod.connections.connection() as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and usename = current_user"
            " and pid <> pg_backend_pid()",
            [database],
        )
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select pg_terminate_backend(pg_backend_pid())")


def test_a_pod_that_cannot_be_reached_is_said_in_a_sentence(
    settings_of_pod: PodSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oltp.commands.execute.CONNECT_SECONDS_MAX", 0.2)
    settings = replace(settings_of_pod, app_dsn="postgresql://tieout_app@127.0.0.1:1/nowhere")
    with build_command_pod(settings) as pod, pytest.raises(StackError, match="pod1's database"):
        execute(pod, ConfigureMerchant(merchant_id=MERCHANT), idempotency_key=key())


def test_a_merchant_of_another_pod_is_refused(pod: CommandPod) -> None:
    with pytest.raises(PodFencedError, match="'acme' does not live in pod1"):
        execute(pod, ConfigureMerchant(merchant_id=MERCHANT, name="A"), idempotency_key=key())


class Sleep(Command[int], frozen=True, kw_only=True):
    """Works for longer than the server allows."""

    def run(self, tx: CommandTransaction) -> int:
        tx.query("set local statement_timeout = 20")
        return int(tx.query("select 1 from pg_sleep(20)").fetchall()[0][0])


def test_what_the_server_has_no_time_for_is_said_in_one_sentence(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    register(pod)
    before = events(settings_of_pod)
    with pytest.raises(StackError, match=r"statement timeout.*nothing was changed, so send it again"):
        execute(pod, Sleep(merchant_id=MERCHANT), idempotency_key="slow")
    assert events(settings_of_pod) == before
