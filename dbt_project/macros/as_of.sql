{# Marts are views over stored history. Unless told otherwise they show the newest version; after
       set variable as_of = map {'pod1': 17, 'pod2': 9};
   all marts of the session show the state at those cuts (a pod that the map does not name shows nothing), and
       reset variable as_of;
   brings the present back. The variable is a constant when a query is planned, so it costs nothing. #}

{% macro as_of_cut(alias) -%}
    cast(getvariable('as_of') as map(varchar, bigint))[{{ alias }}.pod]
{%- endmacro %}

{# For histories: one version per aggregate. #}
{% macro is_standing(alias) -%}
    case
        when getvariable('as_of') is null then {{ alias }}.valid_to_cut is null
        else
            {{ alias }}.valid_from_cut <= {{ as_of_cut(alias) }}
            and ({{ alias }}.valid_to_cut is null or {{ alias }}.valid_to_cut > {{ as_of_cut(alias) }})
    end
{%- endmacro %}

{# For facts that are never edited: all of them up to the cut. #}
{% macro is_booked(alias) -%}
    case when getvariable('as_of') is null then true else {{ alias }}.cut <= {{ as_of_cut(alias) }} end
{%- endmacro %}
