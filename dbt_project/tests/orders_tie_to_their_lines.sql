-- Orders of this build whose totals or status differ from their lines, or whose lines are not priced exactly.
with line_sums as (
    select
        order_id,
        sum(if(kind = 'shipping', 0, amount_minor)) as lines_minor,
        sum(if(kind = 'shipping', amount_minor, 0)) as shipping_minor,
        sum(discount_minor) as discount_minor,
        sum(tax_minor) as tax_minor,
        sum(total_minor) as total_minor,
        sum(cancelled_minor) as cancelled_minor,
        sum(rounding_micro) as rounding_micro,
        sum(quantity - cancelled_quantity - withdrawn_quantity) as unclosed_quantity,
        sum(
            cast(quantity as hugeint) * unit_price_micro - amount_minor * {{ micro_per_minor('currency') }}
        ) as exact_rounding_micro
    from {{ ref('order_lines') }}
    where {{ is_added('cut') }}
    group by order_id
)

select orders.order_id
from {{ ref('orders') }} as orders
left join line_sums on orders.order_id = line_sums.order_id
where
    {{ is_added('cut', 'orders') }}
    and (
        orders.lines_minor is distinct from line_sums.lines_minor
        or orders.shipping_minor is distinct from line_sums.shipping_minor
        or orders.discount_minor is distinct from line_sums.discount_minor
        or orders.tax_minor is distinct from line_sums.tax_minor
        or orders.total_minor is distinct from line_sums.total_minor
        or orders.cancelled_minor is distinct from line_sums.cancelled_minor
        or (orders.status = 'cancelled') is distinct from (line_sums.unclosed_quantity = 0)
        or orders.rounding_micro is distinct from line_sums.rounding_micro
        or orders.rounding_micro is distinct from line_sums.exact_rounding_micro
    )
