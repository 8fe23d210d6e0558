{%- set fields = {
    'refund_id': 'VARCHAR',
    'order_id': 'VARCHAR',
    'payment_id': 'VARCHAR',
    'customer_id': 'VARCHAR',
    'currency': 'VARCHAR',
    'status': 'VARCHAR',
    'reason': 'VARCHAR',
    'external_reference': 'VARCHAR',
    'amount_minor': 'BIGINT',
    'tax_minor': 'BIGINT',
    'provider_reference': 'VARCHAR',
    'failure_reason': 'VARCHAR',
    'requested_at': 'TIMESTAMPTZ',
    'completed_at': 'TIMESTAMPTZ',
    'lines': [{
        'refund_line_id': 'VARCHAR',
        'order_line_id': 'VARCHAR',
        'quantity': 'BIGINT',
        'amount_minor': 'BIGINT',
        'tax_minor': 'BIGINT',
        'jurisdiction': 'VARCHAR',
        'tax_category': 'VARCHAR',
        'is_restocked': 'BOOLEAN',
    }],
} -%}
{{ stage_events('refund', fields, {
    'lines': {'is_amount_named': ['BOOLEAN', 'false']},
    'line_taxes': [[{
        'refund_line_id': 'VARCHAR',
        'jurisdiction': 'VARCHAR',
        'tax_minor': 'BIGINT',
    }], '[]'],
}) }}
