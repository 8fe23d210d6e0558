"""The meaning of database errors: constraint names as constants, and the domain error of each.

Belongs here: the constraint names of tables and triggers, and their meaning. Does not belong here: catching the errors
(`oltp/commands/execute.py`). A constraint that is not listed guards against bugs of the program, not against a caller's
mistake; its error is raised unchanged.
"""

from __future__ import annotations

import psycopg
from psycopg import errors

from contracts.errors import (
    ConflictError,
    IllegalTransitionError,
    InputError,
    InsufficientBalanceError,
    InsufficientStockError,
    NotFoundError,
    OverCaptureError,
    OverRefundError,
    StackError,
    TieoutError,
)
from contracts.limits import STOCK_MAX
from contracts.sequences import set_back

STOCK_RESERVED_WITHIN_ON_HAND = "stock_slots_reserved_within_on_hand"
STOCK_ON_HAND_NOT_NEGATIVE = "stock_slots_on_hand_not_negative"
STOCK_RESERVED_NOT_NEGATIVE = "stock_slots_reserved_not_negative"
STOCK_VARIANT_IS_KNOWN = "stock_variant_is_known"
STATUS_IS_REACHABLE = "status_is_reachable"
ORDER_NUMBER_IS_UNIQUE = "orders_merchant_id_order_number_key"
SKU_IS_UNIQUE = "variants_merchant_id_sku_key"
MERCHANT_IS_UNIQUE = "merchants_pkey"
MERCHANT_FEATURE_IS_UNIQUE = "merchant_entitlements_merchant_id_feature_key"
CUSTOMER_FEATURE_IS_UNIQUE = "customer_entitlements_merchant_id_customer_id_feature_key"
CAPTURED_WITHIN_AUTHORIZED = "payments_captured_within_authorized"
REFUNDED_WITHIN_CAPTURED = "payments_refunded_within_captured"
REFUNDS_WITHIN_CAPTURED = "refunds_within_captured"
REFUNDS_WITHIN_ORDER_LINE = "refunds_within_order_line"
LINE_CLOSED_WITHIN_QUANTITY = "order_lines_closed_within_quantity"
RESERVATION_PARTS_WITHIN_QUANTITY = "reservation_lines_parts_within_quantity"
BALANCE_NOT_NEGATIVE = "gift_cards_balance_minor_not_negative"
AUTHORIZED_PAYMENT_IS_UNIQUE = "provider_calls_authorized_payment_idx"
POSITION_IS_UNIQUE = "outbox_pkey"
POSITIONS_GROW = "outbox_positions_grow"
CURRENCY_CODE = "merchants_currency_code"
STOCK_LIMIT = "stock_slots_on_hand_limit"
SLOT_LIMIT = "stock_slots_level_limit"
MOVEMENT_LIMIT = "stock_movements_quantity_limit"
RESERVATION_LIMIT = "reservation_lines_quantity_limit"
STOCK_IS_LIMITED = f"A location holds, moves or reserves at most {STOCK_MAX:,} units of one variant."

POSITION_USED = set_back(
    "oltp.outbox",
    "position",
    "(select max(position) from (table oltp.outbox_floor union all select true, position from oltp.outbox) as used)",
)
"""The message for a position that is already used. Only the database assigns positions, so this is no caller's mistake.
"""

MEANINGS: dict[str, tuple[type[TieoutError], str | None]] = {
    STOCK_RESERVED_WITHIN_ON_HAND: (InsufficientStockError, None),
    STOCK_ON_HAND_NOT_NEGATIVE: (InsufficientStockError, None),
    STOCK_RESERVED_NOT_NEGATIVE: (ConflictError, None),
    STOCK_VARIANT_IS_KNOWN: (NotFoundError, None),
    STATUS_IS_REACHABLE: (IllegalTransitionError, None),
    ORDER_NUMBER_IS_UNIQUE: (ConflictError, "The merchant has an order of this number already."),
    SKU_IS_UNIQUE: (ConflictError, "The merchant has another variant with this SKU."),
    MERCHANT_IS_UNIQUE: (ConflictError, "The merchant is registered already; configure it instead."),
    MERCHANT_FEATURE_IS_UNIQUE: (ConflictError, "Somebody else granted this feature at the same moment; try again."),
    CUSTOMER_FEATURE_IS_UNIQUE: (ConflictError, "Somebody else granted this feature at the same moment; try again."),
    CAPTURED_WITHIN_AUTHORIZED: (OverCaptureError, "More would be captured than was authorized."),
    REFUNDED_WITHIN_CAPTURED: (OverRefundError, "More would be refunded than was captured."),
    REFUNDS_WITHIN_CAPTURED: (OverRefundError, None),
    REFUNDS_WITHIN_ORDER_LINE: (OverRefundError, None),
    LINE_CLOSED_WITHIN_QUANTITY: (ConflictError, "More units would be fulfilled or cancelled than were ordered."),
    RESERVATION_PARTS_WITHIN_QUANTITY: (ConflictError, "More units would be taken than the reservation holds."),
    BALANCE_NOT_NEGATIVE: (InsufficientBalanceError, "More would be spent than the gift card holds."),
    AUTHORIZED_PAYMENT_IS_UNIQUE: (ConflictError, "An id given for payments is being authorized already."),
    STOCK_LIMIT: (InputError, STOCK_IS_LIMITED),
    SLOT_LIMIT: (InputError, STOCK_IS_LIMITED),
    MOVEMENT_LIMIT: (InputError, STOCK_IS_LIMITED),
    RESERVATION_LIMIT: (InputError, STOCK_IS_LIMITED),
    POSITION_IS_UNIQUE: (StackError, POSITION_USED),
    POSITIONS_GROW: (StackError, POSITION_USED),
    CURRENCY_CODE: (InputError, "A currency is three capital letters, e.g. GBP."),
}
"""Error and sentence by constraint; None: the sentence of the database, from `refuse` in 0001_triggers.sql."""


OVERLOADED = (
    errors.QueryCanceled,
    errors.LockNotAvailable,
    errors.IdleInTransactionSessionTimeout,
    errors.InsufficientResources,
    errors.DiskFull,
    errors.OutOfMemory,
)
"""Temporary errors: a time limit of the server was reached, or one of its resources is used up."""


def domain_error(error: psycopg.Error) -> TieoutError | None:
    """Return the domain error for a database error; None when it is a bug of the program."""
    if isinstance(error, OVERLOADED):
        reason = (error.diag.message_primary or str(error)).rstrip(".")
        return StackError(f"The database did not get it done ({reason}); nothing was changed, so send it again.")
    if isinstance(error, errors.IntegrityError):
        return _of_constraint(error)
    if isinstance(error, errors.InvalidTextRepresentation):
        return InputError(f"An id is not a UUID: {error.diag.message_primary}.")
    if isinstance(error, errors.NumericValueOutOfRange):
        return InputError("An amount or quantity is larger than 64 bits hold.")
    if isinstance(error, psycopg.DataError):
        reason = (error.diag.message_primary or str(error)).rstrip(".")
        return InputError(f"A value cannot be stored: {reason}.")
    return None


def _of_constraint(error: psycopg.Error) -> TieoutError | None:
    name = error.diag.constraint_name or ""
    if name in MEANINGS:
        meaning, sentence = MEANINGS[name]
        return meaning(sentence or error.diag.message_primary or str(error))
    if name.endswith("_limit"):
        return InputError(f"A value of {error.diag.table_name} is beyond its limit, {name}; docs/commands.md has them.")
    if isinstance(error, errors.UniqueViolation) and name.endswith("_pkey"):
        return ConflictError(f"An id given for {error.diag.table_name} is used already.")
    return None
