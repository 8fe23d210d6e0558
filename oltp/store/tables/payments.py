"""Payments with their captures, refunds with their lines, gift cards, and adjustments."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint, text

from contracts.events.adjustment import AdjustmentKind
from contracts.events.gift_card import GiftCardFunding, GiftCardStatus
from contracts.events.payment import DisputeStatus, MovementKind, PaymentMethod, PaymentStatus
from contracts.events.refund import RefundStatus
from oltp.store.tables.columns import (
    currency_check,
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

gift_cards = root_table(
    "gift_cards",
    "gift_card_id",
    *text_columns("currency", "status", "funding"),
    text_column("external_reference", nullable=True),
    *text_columns("reason", "source"),
    *integer_columns("issued_minor", "credited_minor", "redeemed_minor", "expired_minor", "balance_minor"),
    moment_column("issued_at"),
    moment_column("expires_at", nullable=True),
    moment_column("expired_at", nullable=True),
    version_check(),
    currency_check(),
    known("status", GiftCardStatus),
    known("funding", GiftCardFunding),
    CheckConstraint("issued_minor > 0", name="issued_minor_positive"),
    *not_negative("credited_minor", "redeemed_minor", "expired_minor", "balance_minor"),
    CheckConstraint(
        "balance_minor = issued_minor + credited_minor - redeemed_minor - expired_minor", name="balance_is_its_parts"
    ),
    CheckConstraint("(status = 'expired') = (expired_at is not null)", name="expired_has_moment"),
    CheckConstraint(
        "case status when 'expired' then balance_minor = 0 else expired_minor = 0 end", name="expired_has_nothing"
    ),
    Index("gift_cards_over_idx", "merchant_id", "expires_at", postgresql_where=text("status = 'active'")),
)


def _of_gift_cards() -> Index:
    """Return the index by which a card's payments or refunds are summed; most rows are of no card."""
    return Index(None, "gift_card_id", postgresql_where=text("gift_card_id is not null"))


payments = root_table(
    "payments",
    "payment_id",
    id_column("order_id", ForeignKey(f"{SCHEMA}.orders.order_id")),
    text_column("customer_id", nullable=True),
    *text_columns("currency", "status", "provider", "provider_reference"),
    *integer_columns("authorized_minor", "captured_minor", "refunded_minor"),
    moment_column("authorized_at"),
    integer_column("released_minor"),
    id_column("gift_card_id", ForeignKey(f"{SCHEMA}.gift_cards.gift_card_id"), nullable=True),
    *integer_columns("disputed_minor", "charged_back_minor", "dispute_fee_minor"),
    text_column("method", nullable=True),
    moment_column("expires_at", nullable=True),
    text_column("pay_to", nullable=True),
    text_column("failure_reason", nullable=True),
    *integer_columns("returned_minor", "return_fee_minor", "unallocated_minor"),
    version_check(),
    currency_check(),
    known("status", PaymentStatus),
    known("method", PaymentMethod),
    *not_negative("authorized_minor", "captured_minor", "refunded_minor", "released_minor"),
    *not_negative("disputed_minor", "charged_back_minor", "dispute_fee_minor"),
    *not_negative("returned_minor", "return_fee_minor", "unallocated_minor"),
    CheckConstraint(
        "disputed_minor + charged_back_minor + returned_minor <= captured_minor", name="disputed_within_captured"
    ),
    CheckConstraint("status <> 'pending' or expires_at is not null", name="pending_has_end"),
    CheckConstraint(
        "expires_at is null or (method is not null and status in ('pending', 'captured') "
        "and captured_minor + released_minor < authorized_minor)",
        name="waits_for_something",
    ),
    CheckConstraint(
        "method is not null "
        "or (returned_minor = 0 and return_fee_minor = 0 and unallocated_minor = 0 and pay_to is null)",
        name="later_money_has_method",
    ),
    CheckConstraint("(status = 'failed') = (failure_reason is not null)", name="failed_has_reason"),
    CheckConstraint("captured_minor + released_minor <= authorized_minor", name="captured_within_authorized"),
    CheckConstraint("refunded_minor <= captured_minor", name="refunded_within_captured"),
    CheckConstraint("captured_minor = 0 or status = 'captured'", name="captured_has_status"),
    CheckConstraint("released_minor = 0 or status = 'captured'", name="released_has_status"),
    Index(None, "order_id"),
    # The provider's notifications name a payment by it.
    Index(
        "payments_provider_reference_idx",
        "merchant_id",
        "provider_reference",
        postgresql_where=text("provider_reference <> ''"),
    ),
    _of_gift_cards(),
    # Whose time is over; most payments wait for nothing.
    Index("payments_over_idx", "merchant_id", "expires_at", postgresql_where=text("expires_at is not null")),
)

payment_captures = part_table(
    "payment_captures",
    "payment_capture_id",
    "payments.payment_id",
    integer_column("amount_minor"),
    text_column("provider_reference"),
    moment_column("captured_at"),
    *not_negative("amount_minor"),
    Index(None, "payment_id"),
)

payment_disputes = part_table(
    "payment_disputes",
    "payment_dispute_id",
    "payments.payment_id",
    *text_columns("provider_reference", "status"),
    *integer_columns("amount_minor", "fee_minor"),
    text_column("reason"),
    moment_column("opened_at"),
    moment_column("ended_at", nullable=True),
    known("status", DisputeStatus),
    *not_negative("fee_minor"),
    CheckConstraint("amount_minor > 0", name="amount_minor_positive"),
    CheckConstraint("(status = 'opened') = (ended_at is null)", name="ended_has_moment"),
    UniqueConstraint("payment_id", "provider_reference"),
    # A merchant's disputes are listed in this order.
    Index("payment_disputes_merchant_idx", "merchant_id", "opened_at", "payment_dispute_id"),
)

payment_movements = part_table(
    "payment_movements",
    "payment_movement_id",
    "payments.payment_id",
    *text_columns("kind", "provider_reference"),
    *integer_columns("amount_minor", "fee_minor"),
    text_column("reason"),
    moment_column("moved_at"),
    known("kind", MovementKind),
    *not_negative("fee_minor"),
    CheckConstraint("amount_minor > 0", name="amount_minor_positive"),
    UniqueConstraint("payment_id", "kind", "provider_reference"),
)

refunds = root_table(
    "refunds",
    "refund_id",
    id_column("order_id", ForeignKey(f"{SCHEMA}.orders.order_id")),
    id_column("payment_id", ForeignKey(f"{SCHEMA}.payments.payment_id")),
    text_column("customer_id", nullable=True),
    *text_columns("currency", "status", "reason"),
    text_column("external_reference", nullable=True),
    *integer_columns("amount_minor", "tax_minor"),
    text_column("provider_reference", nullable=True),
    text_column("failure_reason", nullable=True),
    moment_column("requested_at"),
    moment_column("completed_at", nullable=True),
    id_column("gift_card_id", ForeignKey(f"{SCHEMA}.gift_cards.gift_card_id"), nullable=True),
    moment_column("failed_at", nullable=True),
    version_check(),
    currency_check(),
    known("status", RefundStatus),
    *not_negative("amount_minor", "tax_minor"),
    CheckConstraint("tax_minor <= amount_minor", name="tax_within_amount"),
    CheckConstraint(
        "case status when 'requested' then completed_at is null when 'completed' then completed_at is not null "
        "else completed_at is null or failed_at is not null end",
        name="completed_has_moment",
    ),
    CheckConstraint("failed_at is null or status = 'failed'", name="failed_has_moment"),
    CheckConstraint("failed_at >= completed_at", name="failed_after_completed"),
    CheckConstraint("gift_card_id is null or completed_at is null or failed_at is null", name="gift_card_keeps_it"),
    Index(None, "order_id"),
    Index(None, "payment_id"),
    _of_gift_cards(),
)

refund_lines = part_table(
    "refund_lines",
    "refund_line_id",
    "refunds.refund_id",
    id_column("order_line_id", ForeignKey(f"{SCHEMA}.order_lines.order_line_id")),
    *integer_columns("quantity", "amount_minor", "tax_minor"),
    *text_columns("jurisdiction", "tax_category"),
    Column("is_restocked", Boolean, nullable=False),
    Column("is_amount_named", Boolean, nullable=False),
    CheckConstraint("quantity > 0 or (quantity = 0 and amount_minor > 0)", name="quantity_or_amount"),
    *not_negative("amount_minor", "tax_minor"),
    CheckConstraint("tax_minor <= amount_minor", name="tax_within_amount"),
    Index(None, "refund_id"),
    Index(None, "order_line_id"),
)

refund_line_taxes = Table(
    "refund_line_taxes",
    metadata,
    # For refunded lines with several taxes, one row per tax; they sum to the tax of the refund's line.
    id_column("refund_line_id", ForeignKey(f"{SCHEMA}.refund_lines.refund_line_id"), primary_key=True),
    Column("jurisdiction", Text, primary_key=True),
    id_column("refund_id"),
    merchant_column(),
    integer_column("tax_minor"),
    *not_negative("tax_minor"),
    Index(None, "refund_id"),
)

adjustments = root_table(
    "adjustments",
    "adjustment_id",
    *text_columns("kind", "currency"),
    *integer_columns("amount_minor", "rounding_micro", "quantity"),
    text_column("sku", nullable=True),
    text_column("customer_id", nullable=True),
    text_column("external_reference", nullable=True),
    *text_columns("reason", "source"),
    moment_column("adjusted_at"),
    integer_column("tax_minor"),
    text_column("jurisdiction", nullable=True),
    text_column("tax_category", nullable=True),
    integer_column("rate_ppm", nullable=True),
    CheckConstraint("version = 1", name="happens_once"),
    CheckConstraint(
        "num_nulls(jurisdiction, tax_category, rate_ppm) = case when tax_minor = 0 and tax_category is null "
        "then 3 else 0 end",
        name="tax_has_its_basis",
    ),
    CheckConstraint(
        "abs(tax_minor) <= abs(amount_minor) and sign(tax_minor) * sign(amount_minor) >= 0", name="tax_within_amount"
    ),
    *not_negative("rate_ppm"),
    currency_check(),
    known("kind", AdjustmentKind),
)

adjustment_taxes = Table(
    "adjustment_taxes",
    metadata,
    # For adjustments with several taxes, one row per tax, with the adjustment's sign; they sum to its tax.
    id_column("adjustment_id", ForeignKey(f"{SCHEMA}.adjustments.adjustment_id"), primary_key=True),
    Column("jurisdiction", Text, primary_key=True),
    merchant_column(),
    *integer_columns("rate_ppm", "tax_minor"),
    *not_negative("rate_ppm"),
)
