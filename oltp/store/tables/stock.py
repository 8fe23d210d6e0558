"""Stock: slots of levels (counters), movements and reservations (aggregates, which carry the events).

A level (the view `stock_levels`) is the sum of its slots: of one, or of STOCK_SLOTS where a variant is hot. on_hand =
sum of movements; reserved = sum of what the lines of reservations still hold. The view `stock_identity_violations`
lists where that does not hold.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, SmallInteger, Table, Text, text

from contracts.events.stock import ReservationStatus, StockMovementKind
from contracts.limits import STOCK_MAX, STOCK_SLOTS
from oltp.store.tables.columns import (
    id_column,
    integer_column,
    integer_columns,
    known,
    merchant_column,
    moment_column,
    not_negative,
    part_table,
    root_table,
    text_column,
    text_columns,
    version_check,
)
from oltp.store.tables.metadata import SCHEMA, metadata

stock_slots = Table(
    "stock_slots",
    metadata,
    id_column("variant_id", ForeignKey(f"{SCHEMA}.variants.variant_id"), primary_key=True),
    Column("location_id", Text, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("slots", SmallInteger, nullable=False),
    merchant_column(),
    *integer_columns("on_hand", "reserved"),
    *not_negative("on_hand", "reserved"),
    CheckConstraint("reserved <= on_hand", name="reserved_within_on_hand"),
    CheckConstraint(f"slots in (1, {STOCK_SLOTS})", name="slots_known"),
    CheckConstraint("slot >= 0 and slot < slots", name="slot_within_slots"),
    # So the level stays within its limit, however its slots are filled.
    CheckConstraint(f"on_hand * slots <= {STOCK_MAX}", name="level_limit"),
)

stock_slot_changes = Table(
    "stock_slot_changes",
    metadata,
    id_column("stock_slot_change_id", primary_key=True),
    merchant_column(),
    id_column("variant_id"),
    text_column("location_id"),
    Column("slots", SmallInteger, nullable=False),
    *integer_columns("on_hand", "reserved"),
    text_column("reason"),
    moment_column("changed_at"),
    CheckConstraint(f"slots in (1, {STOCK_SLOTS})", name="slots_known"),
    Index(None, "variant_id", "location_id"),
)
"""Who spread a level or folded it back, and why: rows are added by `oltp.spread_stock` alone."""

stock_movements = root_table(
    "stock_movements",
    "stock_movement_id",
    id_column("variant_id"),
    *text_columns("location_id", "kind"),
    integer_column("quantity"),
    text_column("reason"),
    id_column("order_id", nullable=True),
    moment_column("moved_at"),
    CheckConstraint("version = 1", name="happens_once"),
    known("kind", StockMovementKind),
    CheckConstraint(
        "case when kind in ('received', 'returned') then quantity > 0"
        " when kind in ('shipped', 'written_off') then quantity < 0 else quantity <> 0 end",
        name="quantity_sign",
    ),
)

reservations = root_table(
    "reservations",
    "reservation_id",
    # Deferred, because an order names its reservation too.
    id_column(
        "order_id",
        ForeignKey(f"{SCHEMA}.orders.order_id", deferrable=True, initially="DEFERRED", use_alter=True),
        nullable=True,
    ),
    text_column("status"),
    moment_column("expires_at", nullable=True),
    version_check(),
    known("status", ReservationStatus),
    Index(None, "order_id"),
    Index(
        "reservations_expiring_idx",
        "merchant_id",
        "expires_at",
        postgresql_where=text("status = 'held' and expires_at is not null"),
    ),
)

reservation_lines = part_table(
    "reservation_lines",
    "reservation_line_id",
    "reservations.reservation_id",
    id_column("variant_id"),
    text_column("location_id"),
    *integer_columns("quantity", "consumed_quantity", "released_quantity"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
    *not_negative("consumed_quantity", "released_quantity"),
    CheckConstraint("consumed_quantity + released_quantity <= quantity", name="parts_within_quantity"),
    Index(None, "reservation_id"),
)
