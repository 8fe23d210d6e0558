{# The body of a history: one row per version of an aggregate. A version is valid from its own cut (inclusive) to the
   cut of the next version (exclusive; null: it is the current version). The next version may come from another pod,
   because a merchant can move; each pod numbers its own cuts, so `valid_to_pod` says which pod's cut `valid_to_cut` is.
   Versions are ordered by (directory epoch, version).
   Versions that came and were replaced within one cut have valid_from_cut = valid_to_cut, so they are valid at no cut.
   A run reads the new events and the versions that they replace. It also reopens versions that an incomplete or
   reverted build has closed. A duplicate event is used once. Window functions keep their rows in memory, so they run
   over ids and cuts only; DuckDB can spill the states to disk. Closed versions are selected by plain conditions on
   single columns, because these let DuckLake skip files. #}
{% macro history(staged, key) %}
{% set keys = ['merchant_id', key] | unique | list %}
{% set vector = cut_vector() %}
with new_versions as (
    {{ new_events(staged, vector) }}
),

touched as (
    select distinct {{ keys | join(', ') }}
    from new_versions
),

versions as (
    select
        * exclude (cut),
        cut as valid_from_cut
    from new_versions
    {% if is_incremental() %}
    {% for entry in vector %}
    union all by name
    select standing.* exclude (valid_to_pod, valid_to_cut)
    from {{ this }} as standing
    inner join touched using ({{ keys | join(', ') }})
    where
        standing.pod = '{{ entry.pod }}'
        and standing.valid_from_cut <= {{ entry.since_cut }}
        and standing.valid_to_cut is null
    union all by name
    select closed.* exclude (valid_to_pod, valid_to_cut)
    from {{ this }} as closed
    where
        closed.valid_to_pod = '{{ entry.pod }}'
        and closed.valid_to_cut > {{ entry.since_cut }}
        and {{ is_from_before('closed', vector) }}
    {% endfor %}
    {% endif %}
),

numbered as materialized (
    select
        *,
        row_number() over () as place
    from versions
),

unique_versions as (
    select
        place,
        pod,
        {{ keys | join(', ') }},
        directory_epoch,
        version,
        valid_from_cut
    from numbered
    qualify row_number() over (partition by pod, valid_from_cut, event_id) = 1
),

ended as (
    select
        place,
        lead(pod) over next_versions as valid_to_pod,
        lead(valid_from_cut) over next_versions as valid_to_cut
    from unique_versions
    window next_versions as (
        partition by {{ keys | join(', ') }}
        order by directory_epoch, version
    )
)

select
    numbered.* exclude (place),
    ended.valid_to_pod,
    ended.valid_to_cut
from numbered
inner join ended using (place)
{% endmacro %}

{# Whether a version is older than this build's new events, by the cuts of its own pod. #}
{% macro is_from_before(alias, vector) -%}
    (
    {%- for entry in vector -%}
        ({{ alias }}.pod = '{{ entry.pod }}' and {{ alias }}.valid_from_cut <= {{ entry.since_cut }}) or {% endfor -%}
    false)
{%- endmacro %}

{# Whether a version was replaced by a version that this build adds or reverts. `since_cut`: the cut to use for every
   pod when the table is new. #}
{% macro ended_after(alias, vector, since_cut=none) -%}
    (
    {%- for entry in vector -%}
        ({{ alias }}.valid_to_pod = '{{ entry.pod }}' and {{ alias }}.valid_to_cut > {{
            entry.since_cut if since_cut is none else since_cut
        }}) or {% endfor -%}
    false)
{%- endmacro %}
