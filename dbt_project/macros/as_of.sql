{# Marts are views over stored history. Unless told otherwise they show the newest version; after
       set variable as_of = map {'pod1': 17, 'pod2': 9};
   all marts of the session show the state at those cuts (a pod that the map does not name shows nothing), and
       reset variable as_of;
   brings the present back. The variable is a constant when a query is planned, so it costs nothing. #}

{% macro as_of_cut(alias, pod='pod') -%}
    cast(getvariable('as_of') as map(varchar, bigint))[{{ alias }}.{{ pod }}]
{%- endmacro %}

{# For histories: one version per aggregate. #}
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

{# For facts that are never edited: all of them up to the cut. What a period's report is made of is a span of them:
       set variable since = map {'pod1': 11, 'pod2': 4};  only those that came after these cuts
       set variable first_day = date '2010-12-01';        only those of this business day and later ones
       set variable last_day = date '2010-12-31';         only those of this business day and earlier ones
   each of which may be left out. Marts of standing versions (orders, payments, ...) know no span. `day` is the business
   day as an expression; `cut` the column that says with which cut the fact came. #}
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
