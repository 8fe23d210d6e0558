{%- set fields = {
    'adjustment_id': 'VARCHAR',
    'kind': 'VARCHAR',
    'currency': 'VARCHAR',
    'amount_minor': 'BIGINT',
    'rounding_micro': 'BIGINT',
    'quantity': 'BIGINT',
    'sku': 'VARCHAR',
    'customer_id': 'VARCHAR',
    'external_reference': 'VARCHAR',
    'reason': 'VARCHAR',
    'source': 'VARCHAR',
    'adjusted_at': 'TIMESTAMPTZ',
} -%}
{%- set added = {
    'tax_minor': ['BIGINT', '0'],
    'jurisdiction': ['VARCHAR', 'null'],
    'tax_category': ['VARCHAR', 'null'],
    'rate_ppm': ['BIGINT', 'null'],
    'taxes': [[{
        'jurisdiction': 'VARCHAR',
        'rate_ppm': 'BIGINT',
        'tax_minor': 'BIGINT',
    }], '[]'],
} -%}
{{ stage_events('adjustment', fields, added) }}
