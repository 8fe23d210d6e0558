{# The body of a history: one row per version of an aggregate, valid from the cut that brought it up to, and without,
   the cut that brought the next one (null: it stands). A merchant is not its pod: the next version may come from another
   pod, whose cuts are numbered by themselves, so `valid_to_pod` says whose cut that is; versions are in the order of the
   merchant's residences, in each by their number. Versions that came and went within
   one cut have valid_from_cut = valid_to_cut and stand at no cut. A run reads the new events and the versions that they
   replace; what a build that was not completed, or that is taken back, has closed is opened again. An event that is there
   twice is taken once. Windows hold what they order, so they see ids and cuts alone: states are put on disk if they are
   many. What was closed is chosen by plain conditions on one column each, which let DuckLake skip files. #}
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

{# Whether a version came before what this build adds, by the cuts of its own pod. #}
{% macro is_from_before(alias, vector) -%}
    (
    {%- for entry in vector -%}
        ({{ alias }}.pod = '{{ entry.pod }}' and {{ alias }}.valid_from_cut <= {{ entry.since_cut }}) or {% endfor -%}
    false)
{%- endmacro %}

{# Whether a version was replaced by one that this build adds, or takes back. `since_cut`: of every pod, for a table that
   is built from nothing. #}
{% macro ended_after(alias, vector, since_cut=none) -%}
    (
    {%- for entry in vector -%}
        ({{ alias }}.valid_to_pod = '{{ entry.pod }}' and {{ alias }}.valid_to_cut > {{
            entry.since_cut if since_cut is none else since_cut
        }}) or {% endfor -%}
    false)
{%- endmacro %}
