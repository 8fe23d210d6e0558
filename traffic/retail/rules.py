"""The meaning of a row of Online Retail: only this module decides how a row is booked.

Belongs here: the rules, pure, by invoice number, stock code, quantity and price. Does not belong here: grouping rows
into invoices (`invoices.py`) and finding the order of a return (`matching.py`).

The rules; the first matching rule applies (codes are compared without case):

1. An invoice number of no known type, or quantity 0, is rejected: it has no meaning.
2. Invoices ``A...`` and stock code ``B``: bad debt, regardless of the other fields.
3. Fee codes (AMAZONFEE, BANK CHARGES, CRUK) and discounts (D): adjustments, with the row's sign.
4. A negative price: a manual adjustment, because an order line cannot have a negative price.
5. Invoices ``C...`` are credit notes: negative quantities are returns or, at price 0, returned stock without money.
6. Other invoices: negative quantities at price 0 are write-offs; positive quantities are order lines. The code decides
   whether a line is shipping (POST, DOT, C2), a service (M, S, gift vouchers) or goods.

Stock codes that differ only in letter case mean the same product (their descriptions are equal in all 94 cases of the
real data). Each spelling is a separate variant of this product. So the file's spelling is kept, and returns match
across spellings.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from contracts.events.adjustment import AdjustmentKind
from contracts.events.order import LineKind

SHIPPING_CODES = frozenset({"POST", "DOT", "C2"})
SERVICE_CODES = frozenset({"M", "S"})
VOUCHER_PREFIX = "GIFT_0001_"
ADJUSTMENT_CODES = {
    "AMAZONFEE": AdjustmentKind.FEE,
    "BANK CHARGES": AdjustmentKind.FEE,
    "CRUK": AdjustmentKind.FEE,
    "D": AdjustmentKind.DISCOUNT,
    "B": AdjustmentKind.BAD_DEBT,
}


class InvoiceType(StrEnum):
    """The type of an invoice, by the first character of its number."""

    SALE = "sale"
    CREDIT_NOTE = "credit_note"
    BAD_DEBT = "bad_debt"
    UNKNOWN = "unknown"


class Treatment(StrEnum):
    """How a row is booked."""

    ORDER_LINE = "order_line"
    RETURN = "return"
    ADJUSTMENT = "adjustment"
    WRITE_OFF = "write_off"
    STOCK_RETURN = "stock_return"
    """Returned goods without a price: units without money."""
    REJECTED = "rejected"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The decision about one row."""

    treatment: Treatment
    line_kind: LineKind = LineKind.GOODS
    adjustment_kind: AdjustmentKind | None = None
    reason: str = ""
    """The code of the rejection's reason."""


def invoice_type(number: str) -> InvoiceType:
    """Return the invoice's type: digits only is a sale, ``C...`` a credit note, ``A...`` a bad debt adjustment."""
    if number.isdecimal():
        return InvoiceType.SALE
    if number[1:].isdecimal():
        return {"C": InvoiceType.CREDIT_NOTE, "A": InvoiceType.BAD_DEBT}.get(number[0].upper(), InvoiceType.UNKNOWN)
    return InvoiceType.UNKNOWN


def line_kind(stock_code: str) -> LineKind:
    """Return whether the code means goods, a service or shipping."""
    code = product_code(stock_code)
    if code in SHIPPING_CODES:
        return LineKind.SHIPPING
    if code in SERVICE_CODES or code.startswith(VOUCHER_PREFIX):
        return LineKind.SERVICE
    return LineKind.GOODS


def product_code(stock_code: str) -> str:
    """Return the code of the product that every spelling of `stock_code` names."""
    return stock_code.upper()


def classify(invoice: str, stock_code: str, quantity: int, unit_price_micro: int) -> Rule:
    """Return how a row is booked, by the rules in the module's docstring."""
    kind = invoice_type(invoice)
    if kind is InvoiceType.UNKNOWN:
        return _rejected("unknown_invoice_type")
    if quantity == 0:
        return _rejected("quantity_is_zero")
    adjustment = _adjustment_kind(kind, product_code(stock_code), unit_price_micro)
    if adjustment is not None:
        if unit_price_micro == 0:
            return _rejected("adjustment_without_amount")
        return Rule(treatment=Treatment.ADJUSTMENT, adjustment_kind=adjustment)
    if kind is InvoiceType.CREDIT_NOTE:
        return _credit_note_rule(stock_code, quantity, unit_price_micro)
    return _sale_rule(stock_code, quantity, unit_price_micro)


def _adjustment_kind(kind: InvoiceType, code: str, unit_price_micro: int) -> AdjustmentKind | None:
    if kind is InvoiceType.BAD_DEBT:
        return AdjustmentKind.BAD_DEBT
    if code in ADJUSTMENT_CODES:
        return ADJUSTMENT_CODES[code]
    return AdjustmentKind.MANUAL if unit_price_micro < 0 else None


def _credit_note_rule(stock_code: str, quantity: int, unit_price_micro: int) -> Rule:
    kind = line_kind(stock_code)
    if quantity > 0:
        return _rejected("positive_quantity_on_credit_note")
    if unit_price_micro > 0:
        return Rule(treatment=Treatment.RETURN, line_kind=kind)
    if kind is LineKind.GOODS:
        return Rule(treatment=Treatment.STOCK_RETURN, line_kind=kind)
    return _rejected("credit_without_amount")


def _sale_rule(stock_code: str, quantity: int, unit_price_micro: int) -> Rule:
    kind = line_kind(stock_code)
    if quantity > 0:
        return Rule(treatment=Treatment.ORDER_LINE, line_kind=kind)
    if unit_price_micro != 0:
        return _rejected("negative_quantity_outside_credit_note")
    if kind is LineKind.GOODS:
        return Rule(treatment=Treatment.WRITE_OFF, line_kind=kind)
    return _rejected("write_off_of_a_service")


def _rejected(reason: str) -> Rule:
    return Rule(treatment=Treatment.REJECTED, reason=reason)
