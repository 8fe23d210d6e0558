"""lake <-> warehouse: every movement of tax, from the versions of orders, refunds and adjustments.

A movement is what a version says of a line's tax in a jurisdiction, less what the version before said. Belongs here:
these amounts as SQL of the comparison's own. Does not belong here: which versions there are (`reconcile/versions.py`),
tax against operations (`reconcile/tax_pair.py`).
"""

from __future__ import annotations

from reconcile.pair import PodRun
from reconcile.shapes import TIMESTAMP, Column, Shape, names_aggregate, number, quoted, text
from reconcile.stored_pairs import BOOKED_EVENTS, STORED, compare_stored, stored_pair, write_booked
from reconcile.versions import VERSIONS

TAX = Shape(
    name="int_tax_movements",
    key=("event_id", "movement", "source_line_id", "jurisdiction"),
    columns=(
        *text("merchant_id", "currency", "order_line_id", "order_id", "tax_category", "tax_date"),
        *text("aggregate_type", "aggregate_id"),
        *number("cut", "rate_ppm", "taxable_minor", "tax_minor"),
        Column(name="booked_at", type=TIMESTAMP),
        Column(name="recorded_at", type=TIMESTAMP),
    ),
    day="tax_date",
    currency="currency",
    aggregate=names_aggregate,
)

# Each has the amounts of every version as `taxed`. A line with several taxes has an amount of each; a line with one tax
# names it itself.
OF_ORDERS = f"""
line as (select *, unnest(lines) as line from {VERSIONS}),
named as (select *, list_filter(line_taxes, lambda one: one.order_line_id = line.order_line_id) as named from line),
single as (
    select *, unnest(case when len(named) > 0 then list_transform(named, lambda one: struct_pack(
            jurisdiction := one.jurisdiction, rate_ppm := one.rate_ppm, tax_minor := one.tax_minor,
            cancelled_tax_minor := one.cancelled_tax_minor))
        else [struct_pack(
            jurisdiction := line.jurisdiction, rate_ppm := line.rate_ppm, tax_minor := line.tax_minor,
            cancelled_tax_minor := line.cancelled_tax_minor)] end) as tax
    from named
),
taxed as (
    select *, line.order_line_id as order_line_id, line.order_line_id as source_line_id,
        line.tax_category as tax_category, tax.jurisdiction as jurisdiction, tax.rate_ppm as rate_ppm,
        case when version = 1 then placed_at else occurred_at end as booked_at,
        unnest([
            {{'movement': 'charged', 'taxable': line.taxable_minor, 'tax': tax.tax_minor}},
            {{'movement': 'cancelled', 'taxable': line.cancelled_tax_minor - line.cancelled_minor,
              'tax': -tax.cancelled_tax_minor}}
        ]) as amount
    from single
)"""
OF_REFUNDS = f"""
line as (select *, unnest(lines) as line from {VERSIONS}),
named as (select *, list_filter(line_taxes, lambda one: one.refund_line_id = line.refund_line_id) as named from line),
single as (
    select *, unnest(case when len(named) > 0 then list_transform(named, lambda one: struct_pack(
            jurisdiction := one.jurisdiction, tax_minor := one.tax_minor))
        else [struct_pack(jurisdiction := line.jurisdiction, tax_minor := line.tax_minor)] end) as tax,
        status = 'completed' as is_moved
    from named
),
taxed as (
    select *, line.order_line_id as order_line_id, line.refund_line_id as source_line_id,
        line.tax_category as tax_category, tax.jurisdiction as jurisdiction, null::BIGINT as rate_ppm,
        coalesce(failed_at, completed_at, occurred_at) as booked_at,
        {{'movement': 'refunded',
          'taxable': case when is_moved then line.tax_minor - line.amount_minor else 0 end,
          'tax': case when is_moved then -tax.tax_minor else 0 end}} as amount
    from single
)"""
OF_ADJUSTMENTS = f"""
single as (
    select * exclude (jurisdiction, rate_ppm), unnest(case when len(taxes) > 0 then list_transform(taxes,
            lambda one: struct_pack(jurisdiction := one.jurisdiction, rate_ppm := one.rate_ppm, tax := one.tax_minor))
        else [struct_pack(jurisdiction := jurisdiction, rate_ppm := rate_ppm, tax := tax_minor)] end) as one
    from {VERSIONS} where tax_category is not null
),
taxed as (
    select *, null::VARCHAR as order_id, null::VARCHAR as order_line_id, adjustment_id as source_line_id,
        one.jurisdiction as jurisdiction, one.rate_ppm as rate_ppm, adjusted_at as booked_at,
        {{'movement': 'adjusted', 'taxable': amount_minor - tax_minor, 'tax': one.tax}} as amount
    from single
)"""
# Every order line has a row "charged", also without tax.
MOVEMENTS = """
with {taxed},
moved as (
    select pod, event_id, valid_from_cut as cut, amount.movement as movement, source_line_id, order_line_id, order_id,
        merchant_id, currency, jurisdiction, tax_category, rate_ppm, version, booked_at, recorded_at, aggregate_id,
        amount.taxable - coalesce(lag(amount.taxable) over earlier, 0) as taxable_minor,
        amount.tax - coalesce(lag(amount.tax) over earlier, 0) as tax_minor
    from taxed
    window earlier as (
        partition by merchant_id, source_line_id, jurisdiction, amount.movement order by directory_epoch, version
    )
)
select * exclude (pod, version), '{aggregate_type}' as aggregate_type,
    strftime(booked_at at time zone 'UTC', '%Y-%m-%d') as tax_date
from moved
where pod = $pod and (taxable_minor <> 0 or tax_minor <> 0 or (movement = 'charged' and version = 1))
"""
QUERIES = {
    aggregate_type: MOVEMENTS.format(taxed=taxed, aggregate_type=aggregate_type)
    for aggregate_type, taxed in (("order", OF_ORDERS), ("refund", OF_REFUNDS), ("adjustment", OF_ADJUSTMENTS))
}
# A stored movement does not say whose it is: its event does. One of an event that the lake does not have is nobody's.
STORED_MOVEMENTS = f"""
select movement.* replace (strftime(tax_date, '%Y-%m-%d') as tax_date), whose.aggregate_type, whose.aggregate_id
from lake.intermediate.int_tax_movements as movement {{join}} {BOOKED_EVENTS} as whose using (event_id)
where movement.pod = $pod
"""


def _write(run: PodRun) -> None:
    write_booked(run, QUERIES)
    stored = STORED_MOVEMENTS.format(join="left join" if run.scope is None else "join")
    names = ", ".join(map(quoted, TAX.names))
    run.connection.execute(f"create or replace table {STORED} as select {names} from ({stored})", {"pod": run.pod})


TAX_MOVEMENTS_PAIR = stored_pair(
    "tax_movements",
    TAX,
    "Every movement of tax: line, jurisdiction, rate, amounts and day of what each version says of tax.",
    lambda run: compare_stored(run, TAX, _write),
    whose="event_id",
)
