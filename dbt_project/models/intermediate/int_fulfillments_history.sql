{{ history(ref('stg_oltp__fulfillments'), 'fulfillment_id') }}
