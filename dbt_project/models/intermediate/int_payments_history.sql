{{ history(ref('stg_oltp__payments'), 'payment_id') }}
