{%- set fields = {
    'payment_id': 'VARCHAR',
    'order_id': 'VARCHAR',
    'customer_id': 'VARCHAR',
    'currency': 'VARCHAR',
    'status': 'VARCHAR',
    'provider': 'VARCHAR',
    'provider_reference': 'VARCHAR',
    'authorized_minor': 'BIGINT',
    'captured_minor': 'BIGINT',
    'refunded_minor': 'BIGINT',
    'authorized_at': 'TIMESTAMPTZ',
    'captures': [{
        'payment_capture_id': 'VARCHAR',
        'amount_minor': 'BIGINT',
        'provider_reference': 'VARCHAR',
        'captured_at': 'TIMESTAMPTZ',
    }],
} -%}
{{ stage_events('payment', fields, {'released_minor': ['BIGINT', '0']}) }}
