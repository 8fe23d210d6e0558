{%- set fields = {
    'reservation_id': 'VARCHAR',
    'order_id': 'VARCHAR',
    'status': 'VARCHAR',
    'expires_at': 'TIMESTAMPTZ',
    'lines': [{
        'reservation_line_id': 'VARCHAR',
        'variant_id': 'VARCHAR',
        'location_id': 'VARCHAR',
        'quantity': 'BIGINT',
        'consumed_quantity': 'BIGINT',
        'released_quantity': 'BIGINT',
    }],
} -%}
{{ stage_events('reservation', fields) }}
