"""The limits of `contracts/limits.py` as check constraints of the tables, so that they hold for every writer.

Belongs here: which column has which limit. Does not belong here: the limits and the columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import CheckConstraint, Table

from contracts import limits
from contracts.limits import Characters, Text, Whole
from contracts.money import CURRENCY_EXPONENTS
from oltp.store.tables.metadata import SCHEMA, metadata

NOT_OURS_TO_LIMIT = (
    "outbox",
    "provider_calls",
    "provider_notifications",
    "cuts",
    "epochs",
    "residents",
    "aggregate_roots",
    "aggregate_children",
    "allowed_transitions",
    "bypasses",
)
"""Written from rows that are limited, by migrations, or by operators."""

TEXTS: dict[str, Text] = {
    "customer_id": limits.CUSTOMER_ID,
    "order_number": limits.ORDER_NUMBER,
    "sku": limits.SKU,
    "location_id": limits.LOCATION_ID,
    "jurisdiction": limits.JURISDICTION,
    "tax_category": limits.TAX_CATEGORY,
    "owed_to": limits.OWED_TO,
    "feature": limits.FEATURE,
    "grantor": limits.GRANTOR,
    "source": limits.SOURCE,
    "price_source": limits.PRICE_SOURCE,
    "code": limits.DISCOUNT_CODE,
    "external_reference": limits.REFERENCE,
    "provider_reference": limits.REFERENCE,
    "provider": limits.REFERENCE,
    "tracking_number": limits.REFERENCE,
    "title": limits.TITLE,
    "brand": limits.BRAND,
    "body": limits.DESCRIPTION,
    "value": limits.ATTRIBUTE_VALUE,
    "words": limits.SYNONYM,
    "means": limits.SYNONYM,
    "name": limits.TITLE,
    "reason": limits.NOTE,
    "price_reason": limits.NOTE,
    "failure_reason": limits.NOTE,
    "pay_to": limits.REFERENCE,
    "idempotency_key": limits.IDEMPOTENCY_KEY,
}
"""The limit by column name, for every table that has this column."""

OF_TABLE: dict[str, Text] = {"product_attributes.name": limits.ATTRIBUTE_NAME}
"""The limit by table and column, where it is another one than in other tables."""

STOCK = Whole(name="units", least=-limits.STOCK_MAX, most=limits.STOCK_MAX)
AMOUNT = Whole(name="an amount", least=-limits.AMOUNT_MINOR_MAX, most=limits.AMOUNT_MINOR_MAX)
NUMBERS = {
    "_minor": AMOUNT,
    "_micro": limits.SIGNED_AMOUNT_MICRO,
    "quantity": STOCK,
    "on_hand": STOCK,
    "reserved": STOCK,
    "rate_ppm": limits.RATE_PPM,
    "_days": limits.WAIT_DAYS,
    "level": limits.LEVEL,
}
"""The limit by the ending of the column's name."""

MERCHANT_ID = "merchant_id"
"""Limited only in `merchants`, because every other table takes it from there."""

LARGEST = {
    "merchants": "greatest(shipping_fee_minor, free_shipping_from_minor)",
    "orders": "greatest(lines_minor + shipping_minor, total_minor)",
    "payments": "greatest(authorized_minor, unallocated_minor)",
    "refunds": "amount_minor",
    "adjustments": "abs(amount_minor)",
    "gift_cards": "issued_minor + credited_minor",
}
"""By table: SQL for the largest amount of a row, in minor units of the row's currency."""


def add_limits() -> None:
    """Add the constraints to every table; called once, after all tables are declared."""
    for table in metadata.tables.values():
        if table.name not in NOT_OURS_TO_LIMIT:
            for name, condition in conditions(table):
                table.append_constraint(CheckConstraint(condition, name=f"{name}_limit"))


def conditions(table: Table) -> Iterator[tuple[str, str]]:
    """Yield (name, SQL condition) of each limit of a table."""
    for column in [item.name for item in table.columns]:
        if limit := OF_TABLE.get(f"{table.name}.{column}", TEXTS.get(column)):
            yield column, _text(column, limit)
        elif column == MERCHANT_ID and table.name == "merchants":
            yield column, _text(column, limits.MERCHANT_ID)
        else:
            for ending, number in NUMBERS.items():
                if column.endswith(ending):
                    yield column, f"{column} between {min(number.least, 0)} and {number.most}"
                    break
    if table.name in LARGEST:
        yield "currency_amount", f"{LARGEST[table.name]} <= {_largest_minor()}"
    if table.fullname == f"{SCHEMA}.order_lines":
        yield "product", f"quantity::numeric * unit_price_micro <= {limits.AMOUNT_MICRO_MAX}"


def _text(column: str, limit: Text) -> str:
    condition = f"char_length({column}) <= {limit.longest}"
    if limit.characters is Characters.STORABLE:
        return condition
    return f"{condition} and {column} !~ '[{limit.characters.value}]'"


def _largest_minor() -> str:
    """Return SQL for the largest allowed amount of a row in minor units; the default is two decimals."""
    codes: dict[int, list[str]] = {}
    for code, exponent in sorted(CURRENCY_EXPONENTS.items()):
        codes.setdefault(exponent, []).append(f"'{code}'")
    largest = {exponent: limits.AMOUNT_MICRO_MAX // 10 ** (6 - exponent) for exponent in codes}
    cases = (
        f"when currency in ({', '.join(codes[exponent])}) then {largest[exponent]}"
        for exponent in sorted(codes)
        if exponent != 2
    )
    return f"case {' '.join(cases)} else {largest[2]} end"
