{# Versions with a gap or an overlap, of the aggregates that this build changed. Versions count 1, 2, ...; each is valid
   to the cut from which the next is valid; only the last is current. A version may be missing only before a version
   that was left out by name because of it, and was added later. Builds rarely leave anything out; then no version may
   be missing, and no names are read. The next version may come from another pod, where the merchant has a later epoch
   of the directory. #}
{% test versions_are_contiguous(model, key) %}
{% set keys = ['merchant_id', key] | unique | join(', ') %}
{% set told = told_build() %}
{% set leaves_out = not told or told.leaves_out %}
with touched as (
    select distinct {{ keys }}
    from {{ model }}
    where {{ is_added('valid_from_cut') }}
),

versions as (
    select
        pod,
        {{ keys }},
        version,
        valid_from_cut,
        valid_to_pod,
        valid_to_cut,
        event_id,
        coalesce(lag(version) over ordered, 0) + 1 as expected_version,
        lead(pod) over ordered as expected_to_pod,
        lead(valid_from_cut) over ordered as expected_to_cut
    from {{ model }}
    semi join touched using ({{ keys }})
    window ordered as (
        partition by {{ keys }}
        order by directory_epoch, version
    )
)

select versions.* exclude (event_id)
from versions
{% if leaves_out %}
left join (select distinct pod, event_id from {{ source('builds', 'left_out_events') }}) as named
    on versions.pod = named.pod and versions.event_id = named.event_id
{% endif %}
where
    versions.version is null
    or versions.version < versions.expected_version
    or (versions.version > versions.expected_version{{ ' and named.event_id is null' if leaves_out }})
    or versions.valid_to_pod is distinct from versions.expected_to_pod
    or versions.valid_to_cut is distinct from versions.expected_to_cut
    or (versions.valid_to_pod = versions.pod and versions.valid_to_cut < versions.valid_from_cut)
{% endtest %}
