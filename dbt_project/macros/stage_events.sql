{# The body of a staging model: the events of one aggregate type with their state as typed columns, each event once.
   `fields` maps every field of the state to its type, in DuckDB's JSON structure notation. A missing field or a value
   of another type stops the build; a field that is not listed is left out. A second copy of an event has the same pod, cut and
   id; the window is partitioned by these so that filters on pod and cut reach the files. #}
{% macro stage_events(aggregate_type, fields) %}
with events as (
    select
        pod,
        cut,
        event_id,
        event_type,
        occurred_at,
        recorded_at,
        from_json_strict(payload, '{{ {"state": dict(merchant_id="VARCHAR", version="BIGINT", **fields)} | tojson }}').state as state
    from {{ source('raw', 'events') }}
    where aggregate_type = '{{ aggregate_type }}'
    qualify row_number() over (partition by pod, cut, event_id) = 1
)

select
    pod,
    cut,
    event_id,
    event_type,
    occurred_at,
    recorded_at,
    unnest(state)
from events
{% endmacro %}
