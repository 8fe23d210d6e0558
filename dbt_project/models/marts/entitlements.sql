with holders as (
    select
        entitlement_id,
        merchant_id,
        cast(null as varchar) as customer_id,
        feature,
        effective_level,
        effective_grant_id,
        grants,
        version,
        pod,
        valid_from_cut as cut,
        occurred_at as changed_at,
        recorded_at
    from {{ ref('int_merchant_entitlements_history') }} as history
    where {{ is_standing('history') }}
    union all
    select
        entitlement_id,
        merchant_id,
        customer_id,
        feature,
        effective_level,
        effective_grant_id,
        grants,
        version,
        pod,
        valid_from_cut as cut,
        occurred_at as changed_at,
        recorded_at
    from {{ ref('int_customer_entitlements_history') }} as history
    where {{ is_standing('history') }}
)

select
    entitlement_id,
    merchant_id,
    customer_id,
    feature,
    effective_level,
    effective_grant_id,
    list_filter(grants, lambda held: held.grant_id = effective_grant_id)[1].expires_at as expires_at,
    len(grants) as grant_count,
    grants,
    version,
    pod,
    cut,
    changed_at,
    recorded_at
from holders
