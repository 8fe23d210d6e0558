{{ history(ref('stg_oltp__products'), 'product_id') }}
