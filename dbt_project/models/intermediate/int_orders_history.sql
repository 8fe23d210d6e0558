{{ history(ref('stg_oltp__orders'), 'order_id') }}
