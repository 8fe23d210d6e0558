{{ history(ref('stg_oltp__refunds'), 'refund_id') }}
