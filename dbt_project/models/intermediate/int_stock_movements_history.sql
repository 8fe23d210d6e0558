{{ history(ref('stg_oltp__stock_movements'), 'stock_movement_id') }}
