{# Marts are views over stored history. By default they show the newest version. After
       set variable as_of = map {'pod1': 17, 'pod2': 9};
   all marts of the session show the state at those cuts (and no rows of a pod that the map does not name).
       reset variable as_of;
   returns to the newest version. The variable is a constant when a query is planned, so it costs nothing. #}

{% macro as_of_cut(alias, pod='pod') -%}
    cast(getvariable('as_of') as map(varchar, bigint))[{{ alias }}.{{ pod }}]
{%- endmacro %}

{# The condition for histories: selects one version per aggregate. #}
{% macro is_standing(alias) -%}
    case
        when getvariable('as_of') is null then {{ alias }}.valid_to_cut is null
        else
            {{ alias }}.valid_from_cut <= {{ as_of_cut(alias) }}
            and (
                {{ alias }}.valid_to_cut is null
                or {{ alias }}.valid_to_cut > coalesce({{ as_of_cut(alias, 'valid_to_pod') }}, 0)
            )
    end
{%- endmacro %}

{# The parts of the standing versions, e.g. the lines of the orders: one row per part, with the columns of its aggregate. #}
{% macro standing_parts(history, parts, part) -%}
    (
        select
            * exclude ({{ parts }}),
            unnest({{ parts }}) as {{ part }}
        from {{ ref(history) }} as history
        where {{ is_standing('history') }}
    )
{%- endmacro %}

{# The condition for facts, which are never edited: selects all facts up to the cut. These variables select a period:
       set variable since = map {'pod1': 11, 'pod2': 4};  only facts that came after these cuts
       set variable first_day = date '2010-12-01';        only facts of this business day and later
       set variable last_day = date '2010-12-31';         only facts of this business day and earlier
   Each is optional. Marts of current versions (orders, payments, ...) ignore them. `day` is an expression for the
   business day; `cut` is the name of the column with the fact's cut. #}
{% macro is_booked(alias, day, cut='cut') -%}
    case
        when getvariable('as_of') is null then true
        else {{ alias }}.{{ cut }} <= {{ as_of_cut(alias) }}
    end
    and case
        when getvariable('since') is null then true
        else {{ alias }}.{{ cut }} > coalesce(cast(getvariable('since') as map(varchar, bigint))[{{ alias }}.pod], 0)
    end
    and case
        when getvariable('first_day') is null then true
        else {{ day }} >= cast(getvariable('first_day') as date)
    end
    and case
        when getvariable('last_day') is null then true
        else {{ day }} <= cast(getvariable('last_day') as date)
    end
{%- endmacro %}
