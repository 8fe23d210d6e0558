"""What must hold in a pod's own tables, which own every fact.

Database constraints already refuse most of the simple faults. The suites check the same rules again, because triggers
and constraints can be switched off, and a restore does not run them. Each suite's `adds` says what only that suite
checks: figures over several rows or tables, which no constraint can check.

Belongs here: suites over PostgreSQL, read in one snapshot. To add an expectation, add a line. Does not belong here:
payments and refunds (`oltp_money.py`), comparisons of totals with parts at a cut, whose differences are breaks
(`reconcile/oltp_identities.py`).
"""

from __future__ import annotations

from checks.expectations.declared import Severity, Suite, at_least, holds, never_null, no_rows, one_of, suite_of, unique
from checks.expectations.oltp_money import CURRENCIES, PAYMENTS, REFUNDS
from contracts.events.order import LineKind
from contracts.events.product import ProductKind
from contracts.money import micro_per_minor_sql
from oltp.domain.transitions import (
    ORDER_TRANSITIONS,
    RESERVATION_TRANSITIONS,
)

PER_MINOR = micro_per_minor_sql("currency", "numeric")

ORDERS = suite_of(
    "oltp.orders",
    ("order_id",),
    "A status that the quantities of the lines do not give; orders without lines, or in another currency than "
    "their merchant's; times in the future.",
    *never_null("order_id", "merchant_id", "order_number", "currency", "status", "total_minor", "placed_at"),
    unique("merchant_id", "order_number"),
    one_of("status", ORDER_TRANSITIONS),
    one_of("currency", CURRENCIES),
    *at_least(1, "version"),
    *at_least(0, "total_minor", "tax_minor", "shipping_minor", "discount_minor", "cancelled_minor"),
    holds(
        "total_is_its_parts",
        "The total is lines less discount plus added tax plus shipping.",
        "t.total_minor = t.lines_minor - t.discount_minor + t.added_tax_minor + t.shipping_minor",
        "total_minor",
        "lines_minor",
    ),
    holds(
        "cancelled_is_within_total",
        "No more is cancelled than was ordered.",
        "t.cancelled_minor <= t.total_minor",
        "total_minor",
        "cancelled_minor",
    ),
    holds(
        "is_not_placed_in_the_future",
        "No order is placed more than a day ahead of the database's clock.",
        "t.placed_at <= now() + interval '1 day'",
        "placed_at",
        severity=Severity.WARNING,
    ),
    no_rows(
        "currency_is_its_merchants",
        "An order is in the currency of its merchant.",
        """select cast(t.order_id as varchar) as order_id, t.currency, m.currency as merchant_currency
           from t left join oltp.merchants as m on m.merchant_id = t.merchant_id
           where m.currency is distinct from t.currency""",
    ),
    no_rows(
        "status_is_what_its_lines_say",
        "The status follows from what the lines have fulfilled, cancelled and withdrawn; an order has lines.",
        """select cast(t.order_id as varchar) as order_id, t.status, l.is_open, l.is_shipped
           from t left join (
               select order_id,
                      bool_or(quantity > fulfilled_quantity + cancelled_quantity + withdrawn_quantity) as is_open,
                      bool_or(fulfilled_quantity > 0) as is_shipped
               from oltp.order_lines group by order_id
           ) as l on l.order_id = t.order_id
           where t.status is distinct from case
               when l.is_open and l.is_shipped then 'partially_fulfilled'
               when l.is_open then 'placed'
               when l.is_shipped then 'fulfilled'
               when not l.is_shipped then 'cancelled' end""",
    ),
    asset="order",
)

ORDER_LINES = suite_of(
    "oltp.order_lines",
    ("order_line_id",),
    "Whether the tax is what the rate gives, and the amount what quantity and price give, to the last unit.",
    *never_null("order_line_id", "order_id", "sku", "quantity", "unit_price_micro", "amount_minor"),
    unique("order_id", "line_number"),
    one_of("kind", LineKind),
    *at_least(1, "quantity", "line_number"),
    *at_least(0, "unit_price_micro", "amount_minor", "discount_minor", "total_minor", "fulfilled_quantity"),
    *at_least(0, "withdrawn_quantity"),
    holds(
        "quantities_fit",
        "No more units are fulfilled, cancelled and withdrawn than were ordered.",
        "t.fulfilled_quantity + t.cancelled_quantity + t.withdrawn_quantity <= t.quantity",
        "quantity",
    ),
    holds(
        "cancelled_whole_is_cancelled_to_the_last_unit",
        "No more of a line is cancelled than was ordered; all of it where every unit is.",
        "t.cancelled_minor <= t.total_minor "
        "and (t.cancelled_quantity < t.quantity or t.cancelled_minor = t.total_minor)",
        "total_minor",
        "cancelled_minor",
    ),
    no_rows(
        "belongs_to_an_order_and_has_a_tax_basis",
        "A line belongs to an order of the same merchant and has its tax basis.",
        """select cast(t.order_line_id as varchar) as order_line_id, t.merchant_id
           from t
           left join oltp.orders as o on o.order_id = t.order_id and o.merchant_id = t.merchant_id
           left join oltp.order_tax_lines as x on x.order_line_id = t.order_line_id
           where o.order_id is null or x.order_line_id is null""",
    ),
    no_rows(
        "amount_is_quantity_times_price",
        "The amount is quantity times unit price, rounded half away from zero; the rest is the rounding.",
        f"""select cast(t.order_line_id as varchar) as order_line_id, t.quantity, t.unit_price_micro, t.amount_minor
            from t join (
                select order_id, {PER_MINOR} as unit from oltp.orders
            ) as o on o.order_id = t.order_id
            where (t.quantity * t.unit_price_micro::numeric - t.amount_minor * o.unit = t.rounding_micro
                   and 2 * t.rounding_micro < o.unit and -o.unit <= 2 * t.rounding_micro) is not true""",
    ),
    no_rows(
        "tax_is_what_its_rate_gives",
        "The tax of a line is what its rate gives on its amount after discount, each tax rounded once.",
        """select cast(t.order_line_id as varchar) as order_line_id, x.rate_ppm, x.taxable_minor, x.tax_minor
           from t join oltp.order_tax_lines as x on x.order_line_id = t.order_line_id
           left join (
               select order_line_id, count(*) as taxes, sum(tax_minor) as tax_minor
               from oltp.order_line_taxes group by order_line_id
           ) as several on several.order_line_id = t.order_line_id
           where (coalesce(several.tax_minor, x.tax_minor) = x.tax_minor
                  and x.taxable_minor + x.tax_minor = t.total_minor
                  and t.total_minor = t.amount_minor - t.discount_minor
                      + case when x.is_tax_inclusive then 0 else x.tax_minor end
                  and 2 * abs(x.tax_minor * 1000000::numeric - x.taxable_minor * x.rate_ppm::numeric)
                      <= case when x.is_tax_inclusive then 1000000 + x.rate_ppm
                              else 1000000 * coalesce(several.taxes, 1) end) is not true""",
    ),
    asset="order",
)

RESERVATIONS = suite_of(
    "oltp.reservations",
    ("reservation_id",),
    "A status that the units of the lines do not give.",
    *never_null("reservation_id", "merchant_id", "status"),
    one_of("status", RESERVATION_TRANSITIONS),
    no_rows(
        "is_held_while_it_holds_units",
        "A reservation is held if, and only if, a line of it still holds units; a line never holds less than none.",
        """select cast(t.reservation_id as varchar) as reservation_id, t.status, l.units, l.units_min
           from t left join (
               select reservation_id, sum(quantity - consumed_quantity - released_quantity) as units,
                      min(quantity - consumed_quantity - released_quantity) as units_min
               from oltp.reservation_lines group by reservation_id
           ) as l on l.reservation_id = t.reservation_id
           where ((t.status = 'held') = (l.units > 0) and l.units_min >= 0) is not true""",
    ),
    asset="reservation",
)

STOCK = suite_of(
    "oltp.stock_levels",
    ("variant_id", "location_id"),
    "Counters against the movements and reservations that they count (as the pair stock_identity does, whose "
    "differences are breaks), and levels of what cannot be stocked.",
    *never_null("variant_id", "location_id", "merchant_id", "on_hand", "reserved"),
    *at_least(0, "on_hand", "reserved"),
    holds(
        "reserved_is_within_on_hand",
        "No more units are reserved than are there.",
        "t.reserved <= t.on_hand",
        "on_hand",
        "reserved",
    ),
    no_rows(
        "on_hand_is_the_sum_of_movements",
        "Units on hand are the sum of the movements.",
        """select cast(t.variant_id as varchar) as variant_id, t.location_id, t.on_hand, m.units
           from t left join (
               select variant_id, location_id, sum(quantity) as units from oltp.stock_movements
               group by variant_id, location_id
           ) as m on m.variant_id = t.variant_id and m.location_id = t.location_id
           where coalesce(m.units, 0) is distinct from t.on_hand""",
    ),
    no_rows(
        "is_of_goods",
        "Only goods are stocked, under their own merchant.",
        f"""select cast(t.variant_id as varchar) as variant_id, t.location_id, p.kind
            from t
            left join oltp.variants as v on v.variant_id = t.variant_id and v.merchant_id = t.merchant_id
            left join oltp.products as p on p.product_id = v.product_id
            where p.kind is distinct from '{ProductKind.GOODS}'""",
        severity=Severity.WARNING,
    ),
    asset="stock_movement",
)


def _entitlements(owner: str) -> Suite:
    """Return the suite over a merchant's or a customer's entitlements."""
    return suite_of(
        f"oltp.{owner}_entitlements",
        ("entitlement_id",),
        "A level that no grant gives, or that a better grant would raise.",
        *never_null("entitlement_id", "merchant_id", "feature", "effective_level"),
        *at_least(0, "effective_level"),
        no_rows(
            "level_is_that_of_its_grant",
            "The level is that of the grant it names, which was not revoked; none without a grant.",
            f"""select cast(t.entitlement_id as varchar) as entitlement_id, t.effective_level, g.level
                from t left join oltp.{owner}_entitlement_grants as g
                  on g.grant_id = t.effective_grant_id and g.entitlement_id = t.entitlement_id
                 and g.revoked_at is null
                where coalesce(g.level, 0) is distinct from t.effective_level""",
        ),
        no_rows(
            "no_better_grant_survives",
            "No grant that neither ends nor was revoked gives a higher level.",
            f"""select cast(t.entitlement_id as varchar) as entitlement_id, t.effective_level, max(g.level) as best
                from t join oltp.{owner}_entitlement_grants as g
                  on g.entitlement_id = t.entitlement_id and g.revoked_at is null and g.expires_at is null
                group by t.entitlement_id, t.effective_level having max(g.level) > t.effective_level""",
        ),
        asset=f"{owner}_entitlement",
    )


MERCHANTS = suite_of(
    "oltp.merchants",
    ("merchant_id",),
    "Merchants that could not sell: no tax rate where they are at home.",
    *never_null("merchant_id", "name", "currency", "jurisdiction", "shipping_fee_minor"),
    one_of("currency", CURRENCIES),
    *at_least(0, "shipping_fee_minor", "free_shipping_from_minor"),
    no_rows(
        "has_a_tax_rate_at_home",
        "An active merchant declares a tax rate in its jurisdiction.",
        """select t.merchant_id, t.jurisdiction from t
           where t.is_active and not exists (
               select 1 from oltp.merchant_tax_rates as r
               where r.merchant_id = t.merchant_id and r.jurisdiction = t.jurisdiction)""",
        severity=Severity.WARNING,
    ),
    asset="merchant",
)

SUITES = (
    ORDERS,
    ORDER_LINES,
    PAYMENTS,
    REFUNDS,
    RESERVATIONS,
    STOCK,
    _entitlements("merchant"),
    _entitlements("customer"),
    MERCHANTS,
)
"""Every suite over a pod's tables."""
