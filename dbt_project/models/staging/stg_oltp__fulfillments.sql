{%- set fields = {
    'fulfillment_id': 'VARCHAR',
    'order_id': 'VARCHAR',
    'location_id': 'VARCHAR',
    'tracking_number': 'VARCHAR',
    'shipped_at': 'TIMESTAMPTZ',
    'lines': [{
        'fulfillment_line_id': 'VARCHAR',
        'order_line_id': 'VARCHAR',
        'quantity': 'BIGINT',
    }],
} -%}
{{ stage_events('fulfillment', fields) }}
