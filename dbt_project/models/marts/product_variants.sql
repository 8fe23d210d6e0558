with products as (
    select
        * exclude (variants),
        unnest(variants) as variant
    from {{ ref('int_products_history') }} as history
    where {{ is_standing('history') }}
)

select
    variant.variant_id,
    product_id,
    merchant_id,
    variant.sku,
    variant.title,
    title as product_title,
    kind,
    tax_category,
    is_active and variant.is_active as is_active,
    variant.unit_price_micro,
    version,
    pod,
    valid_from_cut as cut,
    occurred_at as changed_at,
    recorded_at
from products
