-- Rows of this build whose merchant does not exist.
{% for mart in ('adjustments', 'entitlements', 'product_variants') %}
    select
        '{{ mart }}' as mart_name,
        named.pod,
        named.merchant_id,
        count(*) as row_count
    from {{ ref(mart) }} as named
    anti join {{ ref('merchants') }} using (merchant_id)
    where {{ is_added('cut', 'named') }}
    group by all
    {{ "union all" if not loop.last }}
{% endfor %}
