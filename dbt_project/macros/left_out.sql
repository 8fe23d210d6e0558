{# Events of aggregates with a defect are left out of all histories from a cut on, together with the other events of
   their order. derived/leaving_out.py records them before the build. They are added at the cut that ends the defect, so
   marts as of an earlier cut do not change; events that are bad themselves are never added. Usually nothing is left
   out, and this costs one small query. #}

{# The cut after which events must be read because of left out events; -1: no event of this build is affected. #}
{% macro left_out_reach(pod, since_cut, cut) %}
    {% if not execute %}
        {{ return(-1) }}
    {% endif %}
    {% set told = told_build() %}
    {% if told and not told.leaves_out %}
        {{ return(-1) }}
    {% endif %}
    {% set found = run_query(
        "select count(*), coalesce(min(cut), 0) from " ~ source('builds', 'left_out_events') ~ " where pod = '" ~ pod
        ~ "' and cut <= " ~ cut ~ " and (cut > " ~ since_cut ~ " or (into_cut > " ~ since_cut ~ " and into_cut <= " ~ cut
        ~ "))"
    ).rows[0] %}
    {% if found[0] == 0 %}
        {{ return(-1) }}
    {% endif %}
    {{ return([(found[1] | int) - 1, since_cut] | min) }}
{% endmacro %}

{% macro events_around_left_out(staged, entry, since_cut, reach) %}
    select staged.* replace (if(moved.event_id is null, staged.cut, moved.into_cut) as cut)
    from {{ staged }} as staged
    left join (
        select
            event_id,
            cut,
            if(bool_and(into_cut is not null), max(into_cut), null) as into_cut
        from {{ source('builds', 'left_out_events') }}
        where pod = '{{ entry.pod }}'
        group by event_id, cut
    ) as moved
        on staged.event_id = moved.event_id and staged.cut = moved.cut
    where
        staged.pod = '{{ entry.pod }}'
        and staged.cut > {{ reach }}
        and staged.cut <= {{ entry.cut }}
        and if(moved.event_id is null, staged.cut, moved.into_cut) > {{ since_cut }}
        and if(moved.event_id is null, staged.cut, moved.into_cut) <= {{ entry.cut }}
{% endmacro %}
