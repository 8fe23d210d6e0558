{{ history(ref('stg_oltp__adjustments'), 'adjustment_id') }}
