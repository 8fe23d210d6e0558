{%- set fields = {
    'product_id': 'VARCHAR',
    'title': 'VARCHAR',
    'kind': 'VARCHAR',
    'tax_category': 'VARCHAR',
    'is_active': 'BOOLEAN',
    'variants': [{
        'variant_id': 'VARCHAR',
        'sku': 'VARCHAR',
        'title': 'VARCHAR',
        'is_active': 'BOOLEAN',
        'unit_price_micro': 'BIGINT',
    }],
} -%}
{{ stage_events('product', fields) }}
