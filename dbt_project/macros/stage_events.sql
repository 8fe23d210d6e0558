{# The body of a staging model: the events of one aggregate type with their state as typed columns. An event that the lake
   has twice is there twice; histories take it once (history.sql): finding copies here would hold all payloads at once.
   `fields` maps every field of the state to its type, in DuckDB's JSON structure notation. An event with a missing field
   or a value of another type is not there: its aggregate is left out, by name (derived/defects.py reads events by the
   same rule); a field that is not listed is left out. Events of an earlier schema version are read as the newest one
   (contracts/events/upcasting.py). `added` maps fields that events from before a change lack to
   (type, what their absence means), as a literal; of a list's elements, the list to such a map; of a list that is itself
   new, the structure stands for the type. A state that cannot be read is dropped by unnesting it from an empty list:
   DuckDB would compute a condition on it apart from the columns, and read each payload three times. #}
{% macro stage_events(aggregate_type, fields, added={}) %}
{% set roots, lists, structure_added = {}, {}, {} %}
{# Read as text: what is of another type is told from what is missing (derived/defects.py). #}
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
