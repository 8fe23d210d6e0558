-- Refunds of this build whose amounts differ from the sums over their lines.
with line_sums as (
    select
        refund_id,
        sum(amount_minor) as amount_minor,
        sum(tax_minor) as tax_minor
    from {{ ref('refund_lines') }}
    where {{ is_added('cut') }}
    group by refund_id
)

select refunds.refund_id
from {{ ref('refunds') }} as refunds
left join line_sums on refunds.refund_id = line_sums.refund_id
where
    {{ is_added('cut', 'refunds') }}
    and (
        refunds.amount_minor is distinct from line_sums.amount_minor
        or refunds.tax_minor is distinct from line_sums.tax_minor
    )
