{# How many micro-units one minor unit of a currency is; the currencies of contracts/money.py, a test holds them together.
   Another currency gives null, which stops the build at a not-null test rather than book a wrong amount. #}
{% macro micro_per_minor(currency) -%}
    case {{ currency }}
        when 'GBP' then 10000
        when 'EUR' then 10000
        when 'USD' then 10000
        when 'JPY' then 1000000
        when 'KWD' then 1000
    end
{%- endmacro %}

{# A sum of integers as a 64-bit integer again (DuckDB's sums are 128-bit). Overflow is an error, never a wrap. #}
{% macro total(expression) -%}
    cast(coalesce(sum({{ expression }}), 0) as bigint)
{%- endmacro %}

{# The calendar day, in UTC, on which something happened. #}
{% macro business_day(moment) -%}
    cast({{ moment }} at time zone 'UTC' as date)
{%- endmacro %}

{# A sum in micro-units as whole minor units; cash, clearing, payable and tax are whole, and a test says so. #}
{% macro as_minor(amount_micro) -%}
    cast(coalesce({{ amount_micro }}, 0) // {{ micro_per_minor('currency') }} as bigint)
{%- endmacro %}
