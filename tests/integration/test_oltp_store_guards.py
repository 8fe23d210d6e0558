"""What the database refuses by itself: changes without events, events without changes, wrong sums, wrong rights."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import errors

from contracts.errors import StackError
from contracts.events.adjustment import AdjustmentKind
from contracts.events.gift_card import GiftCardFunding
from contracts.events.merchant import TaxRate
from contracts.events.order import OrderState
from contracts.events.payment import PaymentMethod
from contracts.waiting import comes_true
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import build_command_pod
from oltp.commands.grant_entitlement import GrantCustomerEntitlement, GrantMerchantEntitlement
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.open_dispute import OpenDispute
from oltp.commands.place_order import DiscountInput
from oltp.commands.receive_payment import ReceivePayment
from oltp.store.tables import metadata
from stack.servers.bootstrap import TIME_LIMITS
from streams.cuts import current_epoch
from streams.outbox_reading import RELAY_LOCK
from tests.conftest import MakePod
from tests.integration.shop import MERCHANT, Shop, adjustment, open_shop

ROOTS = (
    "merchants",
    "merchant_entitlements",
    "customer_entitlements",
    "products",
    "stock_movements",
    "reservations",
    "orders",
    "payments",
    "refunds",
    "fulfillments",
    "adjustments",
    "gift_cards",
)
NOT_FACTS = {
    "outbox",
    "outbox_floor",
    "cuts",
    "epochs",
    "idempotency_keys",
    "provider_calls",
    "provider_notifications",
    "aggregate_roots",
    "aggregate_children",
    "allowed_transitions",
    "bypasses",
    "residents",
    "stock_slots",
    "stock_slot_changes",
    "carts",
    "cart_orders",
}
"""Tables that carry no event: propagation and guards, counters, which `stock_identity_violations` proves, and carts."""
CHILDREN = tuple(sorted({table.name for table in metadata.sorted_tables} - set(ROOTS) - NOT_FACTS))

NEW_VALUES = {
    "order_number": "new",
    "provider_reference": "new",
    "sku": "new",
    "feature": "new",
    "line_number": 99,
    "tax_category": "new",
    "name": "new",
    "words": "new",
}
"""For columns of unique keys, so that a copied row can be inserted."""


@pytest.fixture
def shop(make_pod: MakePod) -> Iterator[Shop]:
    settings = make_pod()
    with build_command_pod(settings) as pod:
        yield open_shop(pod, settings)


@pytest.fixture
def busy_shop(shop: Shop) -> Shop:
    """A shop with at least one row in every table of facts; what can change is in a state that may still change."""
    taxes = [
        TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=ppm, owed_to=f"T{ppm}") for ppm in (5, 200_000)
    ]
    shop.do(ConfigureMerchant(merchant_id=MERCHANT, tax_rates=taxes))
    order = shop.place(("MUG", 4), ("PIN", 2), discounts=[DiscountInput(code="SPRING", amount_minor=100)])
    payment = shop.pay(order)
    shop.fulfill(order, (order.lines[0], 2))
    shop.request_refund(payment, (order.lines[0], 1))
    dispute = {"payment_id": payment.payment_id, "provider_reference": "dp_1"}
    shop.do(OpenDispute(merchant_id=MERCHANT, **dispute, amount_minor=100, fee_minor=15, reason="unknown"))
    awaited = shop.place(("MUG", 1))
    later = shop.do(AwaitPayment(merchant_id=MERCHANT, order_id=awaited.order_id, method=PaymentMethod.BANK_TRANSFER))
    receipt = {"payment_id": later.payment_id, "provider_reference": "rcpt_1"}
    shop.do(ReceivePayment(merchant_id=MERCHANT, **receipt, amount_minor=1_000))
    shop.do(GrantMerchantEntitlement(merchant_id=MERCHANT, feature="exports", grantor="plan:pro"))
    shop.do(GrantCustomerEntitlement(merchant_id=MERCHANT, customer_id="c1", feature="club", grantor="staff"))
    shop.do(IssueGiftCard(merchant_id=MERCHANT, funding=GiftCardFunding.GRANTED, amount_minor=500, source="test"))
    for tax_category in (None, "standard"):
        shop.do(adjustment(MERCHANT, -1_234_567, kind=AdjustmentKind.FEE, tax_category=tax_category))
    return shop


def refusal(dsn: str, *statements: str) -> tuple[str, str | None]:
    """Run statements in one transaction; return when it was refused (statement or commit) and by which constraint."""
    moment = "statement"
    with psycopg.connect(dsn) as connection:
        try:
            for statement in statements:
                assert connection.execute(statement.encode()).rowcount != 0, "the statement must touch a row"
            moment = "commit"
            connection.commit()
        except errors.IntegrityError as error:
            return moment, error.diag.constraint_name
        except errors.InsufficientPrivilege:
            return moment, "privilege"
    return "never", None


def test_every_table_is_listed() -> None:
    assert len(CHILDREN) == 19
    assert {f"{name}" for name in CHILDREN}.isdisjoint(ROOTS)


@pytest.mark.parametrize("change", ["update", "delete", "insert"])
def test_a_child_cannot_change_without_an_event(busy_shop: Shop, change: str) -> None:
    outcomes = {}
    for table in CHILDREN:
        statement = {
            "update": f"update oltp.{table} set merchant_id = merchant_id",
            "delete": f"delete from oltp.{table}",
            "insert": _copied_row(table),
        }[change]
        outcomes[table] = refusal(busy_shop.settings.owner_dsn, statement)
    expected: dict[str, Any] = dict.fromkeys(CHILDREN, ("commit", "change_has_event"))
    if change == "delete":
        # Rows that others refer to are refused earlier, by the foreign key.
        expected["order_lines"] = ("statement", "order_tax_lines_order_line_id_fkey")
        expected["refund_lines"] = ("statement", "refund_line_taxes_refund_line_id_fkey")
        expected["variants"] = ("statement", "prices_variant_id_fkey")
    if change == "insert":
        expected["order_tax_lines"] = ("statement", "order_tax_lines_order_line_id_fkey")
        expected["payment_disputes"] = ("commit", "payment_is_its_disputes")
        expected["payment_movements"] = ("commit", "payment_is_its_movements")
    assert outcomes == expected


def after_setting(shop: Shop, change: str) -> dict[str, tuple[str, str | None]]:
    """Return by root table how its change is refused."""
    return {table: refusal(shop.settings.owner_dsn, f"update oltp.{table} set {change}") for table in ROOTS}


def test_a_root_cannot_change_without_an_event(busy_shop: Shop) -> None:
    outcomes = after_setting(busy_shop, "version = version + 1")
    expected: dict[str, Any] = dict.fromkeys(ROOTS, ("commit", "change_has_event"))
    for table in ("stock_movements", "fulfillments", "adjustments"):
        expected[table] = ("statement", f"{table}_happens_once")
    assert outcomes == expected


def test_a_root_cannot_change_without_a_version(busy_shop: Shop) -> None:
    outcomes = after_setting(busy_shop, "merchant_id = merchant_id")
    assert outcomes == dict.fromkeys(ROOTS, ("commit", "version_follows"))


def test_a_root_cannot_appear_or_vanish_without_an_event(busy_shop: Shop) -> None:
    dsn = busy_shop.settings.owner_dsn
    inserted = {table: refusal(dsn, _copied_row(table, version=1))[1] for table in ROOTS if table != "merchants"}
    expected = dict.fromkeys(inserted, "change_has_event")
    # A copy without lines, or in a state that none begins in, is refused for that before.
    expected["orders"] = "status_is_reachable"
    expected["payments"] = "status_is_reachable"
    expected["refunds"] = "refund_totals_are_its_lines"
    expected["reservations"] = "reservation_status_is_its_lines"
    assert inserted == expected
    removable = ("stock_movements", "adjustments where tax_category is null")
    assert {refusal(dsn, f"delete from oltp.{rows}") for rows in removable} == {("commit", "change_has_event")}


def _copied_row(table: str, **values: Any) -> str:
    """Return the statement that inserts a copy of one row under new keys."""
    declared = metadata.tables[f"oltp.{table}"]
    # Columns that may be null are in no unique key; what belongs together in them stays as it is.
    replaced = {
        name: value
        for name, value in NEW_VALUES.items()
        if name in declared.columns and not declared.columns[name].nullable
    }
    key = [column.name for column in declared.primary_key]
    if len(key) == 1 and key[0] != "merchant_id":
        replaced[key[0]] = str(uuid.uuid4())
    if table == "prices":
        replaced = {"currency": "EUR"}
    if table.endswith("_taxes"):
        replaced = {"jurisdiction": "new"}
    pairs = ", ".join(f"'{name}', '{value}'" for name, value in {**replaced, **values}.items())
    changed = f"to_jsonb(copied) || jsonb_build_object({pairs})"
    return (
        f"insert into oltp.{table} select (jsonb_populate_record(null::oltp.{table}, {changed})).* "
        f"from (select * from oltp.{table} limit 1) as copied"
    )


def _event(order: OrderState, version: int, aggregate_type: str = "order") -> str:
    return (
        "insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,"
        " schema_version, occurred_at, correlation_id, payload) values (gen_random_uuid(),"
        f" '{order.merchant_id}', '{aggregate_type}', '{order.order_id}', {version}, 'order_cancelled', 1, now(),"
        " gen_random_uuid(), '{}')"
    )


def _bump(order: OrderState) -> str:
    return f"update oltp.orders set version = version + 1 where order_id = '{order.order_id}'"


def test_an_event_needs_its_version_first_and_only_once(shop: Shop) -> None:
    order = shop.place(("MUG", 1))
    dsn = shop.settings.app_dsn
    assert refusal(dsn, _event(order, 2)) == ("statement", "event_follows_root")
    assert refusal(dsn, _event(order, 2), _bump(order)) == ("statement", "event_follows_root")
    assert refusal(dsn, _event(order, 1)) == (
        "statement",
        "outbox_aggregate_type_aggregate_id_aggregate_version_key",
    )
    assert refusal(dsn, _event(order, 1, "basket")) == ("statement", "event_follows_root")
    assert refusal(dsn, _bump(order), _event(order, 2)) == ("never", None)


def test_an_event_of_another_transaction_does_not_count(shop: Shop) -> None:
    order = shop.place(("MUG", 1))
    dsn = shop.settings.owner_dsn
    steal = f"update oltp.outbox set aggregate_version = 2 where aggregate_id = '{order.order_id}'"
    assert refusal(dsn, steal) == ("statement", "outbox_is_never_edited")
    assert refusal(dsn, "delete from oltp.outbox", _bump(order)) == ("commit", "change_has_event")


def test_an_order_is_the_sum_of_its_lines(shop: Shop) -> None:
    order = shop.place(("MUG", 2), discounts=[DiscountInput(code="D", amount_minor=100)])
    dsn = shop.settings.owner_dsn
    changes = (
        "update oltp.order_discounts set amount_minor = amount_minor + 1",
        "update oltp.order_discounts set line_number = 2",
        "update oltp.order_lines set amount_minor = amount_minor + 1",
        "update oltp.order_tax_lines set tax_minor = tax_minor + 1",
        "update oltp.order_lines set fulfilled_quantity = 1",
        "update oltp.orders set rounding_micro = rounding_micro + 1",
        "delete from oltp.order_tax_lines",
    )
    outcomes = {change: refusal(dsn, _bump(order), _event(order, 2), change) for change in changes}
    assert outcomes == dict.fromkeys(changes, ("commit", "order_totals_are_their_lines"))
    unpublished = "update oltp.orders set version = version + 1"
    assert refusal(dsn, _bump(order), _event(order, 2), unpublished) == ("commit", "change_has_event")


def test_several_taxes_are_those_of_their_line(busy_shop: Shop) -> None:
    bypass = "select oltp.declare_bypass('test')"
    of_order, of_refund = "update oltp.orders set version = version", "update oltp.refunds set version = version"
    of_adjustment = "update oltp.adjustments set version = version where tax_category is not null"
    line, refund, adjustment = (f"update oltp.{name}_taxes set" for name in ("order_line", "refund_line", "adjustment"))
    moved = "tax_minor = tax_minor + case jurisdiction when 'T5' then 1 else -1 end"
    expected = {
        (of_order, f"{line} tax_minor = tax_minor + 1"): "order_totals_are_their_lines",
        (of_order, f"{line} cancelled_tax_minor = 1 where tax_minor > 0"): "order_totals_are_their_lines",
        (of_order, f"{line} rate_ppm = rate_ppm + 1"): "order_totals_are_their_lines",
        (of_refund, f"{refund} tax_minor = tax_minor - 1 where tax_minor > 0"): "refund_taxes_are_its_tax",
        (of_refund, "delete from oltp.refund_line_taxes"): "refund_taxes_are_its_tax",
        (of_refund, f"{refund} {moved}"): "refunds_within_order_line",
        (of_adjustment, f"{adjustment} tax_minor = tax_minor + 1"): "adjustment_taxes_are_its_tax",
    }
    dsn = busy_shop.settings.owner_dsn
    assert {change: refusal(dsn, bypass, *change)[1] for change in expected} == expected
    assert refusal(dsn, bypass, of_order, of_refund, of_adjustment) == ("never", None)


def test_fulfilled_units_are_those_of_the_fulfillments(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    claim = "update oltp.order_lines set fulfilled_quantity = 1"
    status = (
        "update oltp.orders set version = version + 1, status = 'partially_fulfilled'"
        f" where order_id = '{order.order_id}'"
    )
    outcome = refusal(shop.settings.owner_dsn, status, _event(order, 2), claim)
    assert outcome == ("commit", "fulfilled_quantity_is_its_fulfillments")


def test_a_payment_stays_within_its_limits(shop: Shop) -> None:
    shop.pay(shop.place(("MUG", 1)))
    expected = {
        "captured_minor = authorized_minor + 1": ("statement", "payments_captured_within_authorized"),
        "refunded_minor = captured_minor + 1": ("statement", "payments_refunded_within_captured"),
        "status = 'voided', captured_minor = 0": ("statement", "status_is_reachable"),
        "refunded_minor = 1": ("commit", "refunded_is_its_refunds"),
        "captured_minor = 0": ("commit", "captured_is_its_captures"),
        "charged_back_minor = captured_minor + 1": ("statement", "payments_disputed_within_captured"),
        "disputed_minor = 1": ("commit", "payment_is_its_disputes"),
    }
    statement = "update oltp.payments set version = version + 1, "
    assert {change: refusal(shop.settings.owner_dsn, statement + change) for change in expected} == expected


def test_commands_have_only_the_rights_they_need(shop: Shop) -> None:
    statements = (
        "update oltp.outbox set payload = '{}'",
        "delete from oltp.outbox",
        "insert into oltp.outbox (xid) values ('1')",
        "insert into oltp.outbox (position) overriding system value values (1)",
        "insert into oltp.outbox (recorded_at) values (now())",
        "update oltp.stock_movements set reason = ''",
        "update oltp.payment_captures set amount_minor = 0",
        "delete from oltp.orders",
        "insert into oltp.bypasses (reason) values ('because')",
        "select oltp.declare_bypass('because')",
        "insert into oltp.allowed_transitions values ('order', 'fulfilled', 'placed')",
        "truncate oltp.orders cascade",
        "alter table oltp.orders disable trigger all",
    )
    outcomes = {statement: refusal(shop.settings.app_dsn, statement) for statement in statements}
    assert outcomes == dict.fromkeys(statements, ("statement", "privilege"))


def test_relay_and_reader_write_only_cuts_and_the_relay_prunes(shop: Shop) -> None:
    shop.place(("MUG", 1))
    register = (
        "insert into oltp.cuts (cut, snapshot, epoch, registered_by, partition_function, partition_count, chunk_rows,"
        " codec) select coalesce(max(cut), 0) + 1, pg_current_snapshot(), oltp.present_epoch(), 't', 'f', 1, 1, 'c'"
        " from oltp.cuts"
    )
    relay, reader = shop.settings.relay_dsn, shop.settings.reader_dsn
    assert refusal(relay, register) == refusal(reader, register) == ("never", None)
    assert refusal(relay, "select * from oltp.orders") == ("statement", "privilege")
    assert refusal(reader, "select * from oltp.orders") == ("never", None)
    for statement in ("update oltp.cuts set epoch = 'x'", "update oltp.orders set version = 1", _event_sql()):
        assert refusal(relay, statement) == refusal(reader, statement) == ("statement", "privilege")
    for statement in ("delete from oltp.outbox", "delete from oltp.cuts"):
        assert refusal(reader, statement) == refusal(relay, statement) == ("statement", "privilege")
    prune = "select oltp.prune_outbox(1)"
    assert refusal(reader, prune) == ("statement", "privilege")
    assert refusal(relay, prune) == ("never", None)


def test_no_position_of_the_outbox_is_used_twice(shop: Shop) -> None:
    with psycopg.connect(shop.settings.owner_dsn, autocommit=True) as owner:

        def set_back(to: int) -> None:
            owner.execute("select setval('oltp.outbox_position_seq', %s, false)", [to])

        def highest() -> int:
            ((found,),) = owner.execute("select max(position) from oltp.outbox").fetchall()
            return int(found)

        order = shop.place(("MUG", 3))
        # Where another event stands.
        set_back(highest())
        with pytest.raises(StackError, match=r"sequence of oltp.outbox.position was set back: .* select setval\("):
            shop.pay(order)
        # Where none does, but before the aggregate's own last event: in one cut they would change places.
        shop.pay(order)
        set_back(highest() + 1_000)
        shop.fulfill(order, (order.lines[0], 1))
        set_back(highest() - 900)
        with pytest.raises(StackError, match="was set back"):
            shop.fulfill(order, (order.lines[0], 1))
        # Where pruned ones stood.
        owner.execute("update oltp.outbox_floor set position = %s", [highest()])
        set_back(1)
        with pytest.raises(StackError, match="was set back") as told:
            shop.place(("MUG", 1))
        owner.execute(str(told.value).partition("run: ")[2].encode())
        assert shop.place(("MUG", 1)).version == 1


def test_pruning_raises_the_floor(shop: Shop) -> None:
    register = (
        "insert into oltp.cuts (cut, snapshot, epoch, registered_by, partition_function, partition_count, chunk_rows,"
        " codec) select coalesce(max(cut), 0) + 1, pg_current_snapshot(), oltp.present_epoch(), 't', 'f', 1, 1, 'c'"
        " from oltp.cuts"
    )
    with psycopg.connect(shop.settings.owner_dsn, autocommit=True) as owner:
        ((highest,),) = owner.execute("select max(position) from oltp.outbox").fetchall()
        owner.execute(register)
        owner.execute(register)
        shop.place(("MUG", 1))
        ((events, cuts),) = owner.execute("select * from oltp.prune_outbox(2)").fetchall()
        floor = owner.execute("select position from oltp.outbox_floor").fetchall()
    assert (events, cuts, floor) == (highest, 1, [(highest,)])


ROLES = ("owner", "app", "relay", "reader")


@pytest.mark.parametrize("table", ["outbox", "cuts", "epochs", "idempotency_keys"])
def test_only_the_owner_can_lock_what_the_others_need(shop: Shop, table: str) -> None:
    modes = ("share update exclusive", "share", "exclusive", "access exclusive")
    refused = {
        (role, mode)
        for role in ROLES
        for mode in modes
        if _raises_privilege(getattr(shop.settings, f"{role}_dsn"), f"lock table oltp.{table} in {mode} mode nowait")
    }
    assert refused == {(role, mode) for role in ("app", "relay", "reader") for mode in modes}


def test_only_the_relay_takes_the_relays_lock(shop: Shop) -> None:
    functions = (
        "pg_advisory_lock({})",
        "pg_try_advisory_lock({})",
        "pg_advisory_lock_shared({})",
        "pg_try_advisory_lock_shared({})",
        "pg_advisory_xact_lock({})",
        "pg_try_advisory_xact_lock({})",
        "pg_advisory_xact_lock_shared({})",
        "pg_try_advisory_xact_lock_shared({})",
    )
    keys = ", ".join(map(str, RELAY_LOCK))
    refused = {
        (role, function)
        for role in ROLES
        for function in functions
        if _raises_privilege(getattr(shop.settings, f"{role}_dsn"), f"select {function.format(keys)}")
    }
    assert refused == {(role, function) for role in ("owner", "app", "reader") for function in functions}


def _raises_privilege(dsn: str, statement: str) -> bool:
    with psycopg.connect(dsn) as connection:
        try:
            connection.execute(statement.encode())
        except errors.InsufficientPrivilege:
            return True
    return False


def test_a_cut_carries_the_epoch_of_its_database(shop: Shop) -> None:
    after = "(select coalesce(max(cut), 0) + 1 from oltp.cuts)"
    true = _cut_sql(after, "pg_current_snapshot()")
    for dsn in (shop.settings.relay_dsn, shop.settings.reader_dsn):
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute("select oltp.present_epoch()").fetchone()
            assert row == (current_epoch(connection).name,)
        for false in ("'7.1.00000001'", "null", "oltp.present_epoch() || '.t20260101000000000000'"):
            forged = true.replace("oltp.present_epoch()", false, 1)
            assert refusal(dsn, forged) == ("statement", "cuts_tell_their_epoch")
        assert refusal(dsn, true) == ("never", None)


def test_sessions_give_up_before_they_stop_others(shop: Shop) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    for role in ROLES:
        with psycopg.connect(getattr(shop.settings, f"{role}_dsn")) as connection:
            found = {name: connection.execute(f"show {name}".encode()).fetchone() for name in names}
        assert found == {name: (TIME_LIMITS[f"tieout_{role}"].get(name, "0"),) for name in names}


def _cut_sql(cut: str, snapshot: str) -> str:
    return (
        "insert into oltp.cuts (cut, snapshot, epoch, registered_by, partition_function, partition_count, chunk_rows,"
        f" codec) select {cut}, {snapshot}, oltp.present_epoch(), 't', 'f', 1, 1, 'c'"
    )


def test_a_cut_follows_the_last_one_and_sees_nothing_too_early(shop: Shop) -> None:
    reader = shop.settings.reader_dsn
    after = "(select coalesce(max(cut), 0) + 1 from oltp.cuts)"
    forged = {
        "a gap": _cut_sql("7", "pg_current_snapshot()"),
        "the future": _cut_sql(after, "'900000000:900000000:'::pg_snapshot"),
        "nothing": _cut_sql("null", "pg_current_snapshot()"),
    }
    outcomes = {name: refusal(reader, statement) for name, statement in forged.items()}
    assert outcomes == dict.fromkeys(forged, ("statement", "cuts_follow"))
    with psycopg.connect(reader) as connection:
        connection.execute(_cut_sql(after, "pg_current_snapshot()").encode())
    assert refusal(reader, _cut_sql("1", "pg_current_snapshot()")) == ("statement", "cuts_pkey")
    assert refusal(reader, _cut_sql(after, "'3:3:'::pg_snapshot")) == ("statement", "cuts_follow")


def test_a_cut_does_not_see_a_transaction_that_is_still_open(shop: Shop) -> None:
    with psycopg.connect(shop.settings.owner_dsn) as writer:
        writer.execute("select pg_current_xact_id()")
        shop.place(("MUG", 1))
        blind = "pg_snapshot_xmax(pg_current_snapshot())"
        forged = _cut_sql("1", f"({blind} || ':' || {blind} || ':')::pg_snapshot")
        assert refusal(shop.settings.reader_dsn, forged) == ("statement", "cuts_follow")
        assert refusal(shop.settings.reader_dsn, _cut_sql("1", "pg_current_snapshot()")) == ("never", None)


def _event_sql() -> str:
    return "insert into oltp.outbox (event_id) values (gen_random_uuid())"


def test_a_declared_bypass_lets_one_transaction_through_and_is_recorded(shop: Shop) -> None:
    order = shop.place(("MUG", 1))
    dsn = shop.settings.owner_dsn
    jump = f"update oltp.orders set version = 7 where order_id = '{order.order_id}'"
    assert refusal(dsn, jump) == ("commit", "version_follows")
    assert refusal(dsn, "select oltp.declare_bypass('restore of 1 March')", jump) == ("never", None)
    assert refusal(dsn, jump.replace("version = 7", "version = 9")) == ("commit", "version_follows")
    assert shop.query("select reason, role_name from oltp.bypasses") == [("restore of 1 March", "tieout_owner")]
    wrong = "update oltp.orders set lines_minor = lines_minor + 1, total_minor = total_minor + 1"
    assert refusal(dsn, "select oltp.declare_bypass('restore')", wrong) == ("commit", "order_totals_are_their_lines")


def test_the_stock_view_finds_counters_that_are_off(shop: Shop) -> None:
    assert shop.query("select * from oltp.stock_identity_violations") == []
    variant = shop.variants["MUG"]
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("update oltp.stock_slots set on_hand = on_hand + 1 where variant_id = %s", [variant])
    found = shop.query("select variant_id::text, on_hand, moved, reserved, held from oltp.stock_identity_violations")
    assert found == [(variant, 101, 100, 0, 0)]


def test_refunds_stay_within_the_line(shop: Shop) -> None:
    order = shop.place(("MUG", 1))
    first = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    outcome = refusal(shop.settings.owner_dsn, *_copied_refund(first.refund_id))
    assert outcome == ("commit", "refunds_within_captured")


def test_two_refunds_at_once_see_each_other(shop: Shop) -> None:
    """The second transaction's check waits for the first one's end, and then counts its refund."""
    order = shop.place(("MUG", 2))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    dsn = shop.settings.owner_dsn
    with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second, ThreadPoolExecutor(1) as thread:
        for connection in (first, second):
            for statement in _copied_refund(refund.refund_id):
                connection.execute(statement.encode())
        first.execute("set constraints all immediate")
        waiting = thread.submit(second.execute, "set constraints all immediate")
        _wait_for_lock(shop, second)
        first.commit()
        with pytest.raises(errors.CheckViolation) as refused:
            waiting.result(timeout=30)
    assert refused.value.diag.constraint_name == "refunds_within_captured"


def _wait_for_lock(shop: Shop, connection: psycopg.Connection) -> None:
    def is_waiting() -> bool:
        return bool(shop.query("select cardinality(pg_blocking_pids(%s)) > 0", connection.info.backend_pid)[0][0])

    assert comes_true(is_waiting, seconds=30), "the second transaction never waited"


def _copied_refund(refund_id: str) -> list[str]:
    new_id = str(uuid.uuid4())
    changed = f"to_jsonb(copied) || jsonb_build_object('refund_id', '{new_id}')"
    return [
        f"insert into oltp.refunds select (jsonb_populate_record(null::oltp.refunds, {changed})).* "
        f"from oltp.refunds as copied where refund_id = '{refund_id}'",
        f"insert into oltp.refund_lines select (jsonb_populate_record(null::oltp.refund_lines, {changed}"
        " || jsonb_build_object('refund_line_id', gen_random_uuid()))).* "
        f"from oltp.refund_lines as copied where refund_id = '{refund_id}'",
        "insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,"
        " schema_version, occurred_at, correlation_id, payload) values (gen_random_uuid(),"
        f" '{MERCHANT}', 'refund', '{new_id}', 1, 'refund_requested', 1, now(), gen_random_uuid(), '{{}}')",
    ]
