{{ history(ref('stg_oltp__merchants'), 'merchant_id') }}
