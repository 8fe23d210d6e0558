{# Events of aggregates with a defect are left out of all histories, with those of the order that they belong to, from a
   cut on (derived/leaving_out.py records which, before the build). They are taken in at the cut that ends it, so marts as
   of an earlier cut stay what they were; what is bad in itself never is. Nearly always nothing is left out, and this costs
   one small query. #}

{# After which cut events must be read because of what is left out; -1: nothing of this build's events is concerned. #}
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
