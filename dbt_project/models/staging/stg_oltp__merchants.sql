{%- set fields = {
    'name': 'VARCHAR',
    'currency': 'VARCHAR',
    'is_active': 'BOOLEAN',
    'is_tax_inclusive': 'BOOLEAN',
    'jurisdiction': 'VARCHAR',
    'shipping_fee_minor': 'BIGINT',
    'free_shipping_from_minor': 'BIGINT',
    'tax_rates': [{
        'jurisdiction': 'VARCHAR',
        'tax_category': 'VARCHAR',
        'rate_ppm': 'BIGINT',
    }],
    'registered_at': 'TIMESTAMPTZ',
} -%}
{{ stage_events('merchant', fields, {'tax_rates': {'owed_to': ['VARCHAR', "''"]}}) }}
