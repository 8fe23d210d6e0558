{%- set fields = {
    'stock_movement_id': 'VARCHAR',
    'variant_id': 'VARCHAR',
    'location_id': 'VARCHAR',
    'kind': 'VARCHAR',
    'quantity': 'BIGINT',
    'reason': 'VARCHAR',
    'order_id': 'VARCHAR',
    'moved_at': 'TIMESTAMPTZ',
} -%}
{{ stage_events('stock_movement', fields) }}
