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
from {{ standing_parts('int_products_history', 'variants', 'variant') }} as products
