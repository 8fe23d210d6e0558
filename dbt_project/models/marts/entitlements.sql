with holders as (
    {% for holder, customer_id in [('merchant', 'cast(null as varchar)'), ('customer', 'customer_id')] %}
        select
            entitlement_id,
            merchant_id,
            {{ customer_id }} as customer_id,
            feature,
            effective_level,
            effective_grant_id,
            grants,
            version,
            pod,
            valid_from_cut,
            occurred_at,
            recorded_at
        from {{ ref('int_' ~ holder ~ '_entitlements_history') }} as history
        where {{ is_standing('history') }}
        {{ 'union all' if not loop.last }}
    {% endfor %}
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
    valid_from_cut as cut,
    occurred_at as changed_at,
    recorded_at
from holders
