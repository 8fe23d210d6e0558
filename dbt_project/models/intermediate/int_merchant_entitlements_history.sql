{{ history(ref('stg_oltp__merchant_entitlements'), 'entitlement_id') }}
