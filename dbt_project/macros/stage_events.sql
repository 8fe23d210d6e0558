{# The body of a staging model: the events of one aggregate type with their state as typed columns. Duplicate events of
   the lake stay duplicates here; histories use them once (history.sql), because removing them here would need all
   payloads in memory. `fields` maps every field of the state to its type, in DuckDB's JSON structure notation; other
   fields are ignored. An event with a missing field or a value of a wrong type gives no row; its aggregate is left out
   by name (derived/defects.py uses the same rule). Events of an earlier schema version are read as the newest version
   (contracts/events/upcasting.py). `added` maps fields that older events lack to (type, default), with the default as a
   literal. For a field of a list's elements, it maps the list to such a map; for a new list, the type is a structure.
   An unreadable state is dropped by unnesting an empty list. With a where condition instead, DuckDB would compute the
   condition separately from the columns and read each payload three times. #}
{% macro stage_events(aggregate_type, fields, added={}) %}
{% set roots, lists, structure_added = {}, {}, {} %}
{# Added fields are read as text, so that a wrong type is distinguished from a missing field (derived/defects.py). #}
{% for name, what in added.items() %}
{% do (lists if what is mapping else roots).update({name: what}) %}
{% set text = 'VARCHAR' if what is mapping or what[0] is string else 'JSON' %}
{% do structure_added.update({name: [dict.fromkeys(what, text)] if what is mapping else text}) %}
{% endfor %}
{% set structure = dict(merchant_id="VARCHAR", version="BIGINT", **fields) %}
with events as (
    select
        pod,
        cut,
        event_id,
        event_type,
        occurred_at,
        recorded_at,
        directory_epoch,
        try(from_json_strict(newest, '{{ {"state": structure} | tojson }}')).state as state
        {%- if added %},
        try(from_json(newest, '{{ {"state": structure_added} | tojson }}')).state as added
        {%- endif %}
    from (
        select
            *,
            {{ newest_payload(aggregate_type) }} as newest
        from {{ source('raw', 'events') }}
        where aggregate_type = '{{ aggregate_type }}'
    ) as every_version
),

readable as (
    select * replace (unnest(if(state is null, [], [state])) as state)
    from events
)

select
    pod,
    cut,
    event_id,
    event_type,
    occurred_at,
    recorded_at,
    directory_epoch,
    unnest(state)
    {%- for name, what in roots.items() %},
    {{ added_value('added.' ~ name, what) }} as {{ name }}
    {%- endfor %}
from
    {% if lists %}
    (
        select * replace (struct_update(
            state
            {%- for list, parts in lists.items() %},
            {{ list }} := list_transform(state.{{ list }}, (item, place) -> struct_insert(
                item
                {%- for name, what in parts.items() %},
                {{ name }} := {{ added_value('added.' ~ list ~ '[place].' ~ name, what) }}
                {%- endfor %}
            ))
            {%- endfor %}
        ) as state)
        from readable
    ) as whole
    {% else %}
    readable
    {% endif %}
{% endmacro %}

{% macro added_value(text, what) -%}
    {%- if what[0] is string -%}
    coalesce(try_cast({{ text }} as {{ what[0] }}), cast({{ what[1] }} as {{ what[0] }}))
    {%- else -%}
    coalesce(
        try(from_json_strict({{ text }}, '{{ what[0] | tojson }}')),
        from_json_strict('{{ what[1] }}', '{{ what[0] | tojson }}')
    )
    {%- endif -%}
{%- endmacro %}
