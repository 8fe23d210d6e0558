{{ history(ref('stg_oltp__customer_entitlements'), 'entitlement_id') }}
