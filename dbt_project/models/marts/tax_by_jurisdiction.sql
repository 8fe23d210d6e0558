select
    merchant_id,
    currency,
    jurisdiction,
    tax_category,
    cast(date_trunc('month', tax_date) as date) as tax_month,
    {{ total("if(movement = 'charged', taxable_minor, 0)") }} as charged_taxable_minor,
    {{ total("if(movement = 'charged', tax_minor, 0)") }} as charged_tax_minor,
    -{{ total("if(movement = 'cancelled', tax_minor, 0)") }} as cancelled_tax_minor,
    -{{ total("if(movement in ('refunded', 'adjusted'), tax_minor, 0)") }} as refunded_tax_minor,
    {{ total('taxable_minor') }} as taxable_minor,
    {{ total('tax_minor') }} as tax_minor,
    max(recorded_at) as last_recorded_at
from {{ ref('tax_lines') }}
group by all
