{# Versions, of the aggregates that this build touched, that leave a gap or overlap: versions count 1, 2, ...; each is
   valid to the cut from which the next is; only the last one stands. A version that no store has any more may be
   missing below one that states the whole aggregate again: a difference of balances then ends at that state. #}
{% test versions_are_contiguous(model, key) %}
{% set keys = ['pod', 'merchant_id', key] | unique | join(', ') %}
with touched as (
    select distinct {{ keys }}
    from {{ model }}
    where {{ is_added('valid_from_cut') }}
),

versions as (
    select
        {{ keys }},
        version,
        valid_from_cut,
        valid_to_cut,
        coalesce(lag(version) over ordered, 0) + 1 as expected_version,
        lead(valid_from_cut) over ordered as expected_to_cut,
        max(version) filter (where event_type like '%$_restated' escape '$') over (
            partition by {{ keys }}
        ) as restated_version
    from {{ model }}
    semi join touched using ({{ keys }})
    window ordered as (
        partition by {{ keys }}
        order by version
    )
)

select *
from versions
where
    version is null
    or version < expected_version
    or (version > expected_version and coalesce(version > restated_version, true))
    or valid_to_cut is distinct from expected_to_cut
    or valid_to_cut < valid_from_cut
{% endtest %}
