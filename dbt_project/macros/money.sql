{# A sum of integers, 128 bits wide: one amount may be as large as contracts/limits.py allows, and there is no limit to how
   many there are. So whatever adds up rows is a hugeint, and whatever one row holds a bigint. #}
{% macro total(expression) -%}
    cast(coalesce(sum({{ expression }}), 0) as hugeint)
{%- endmacro %}

{# The calendar day, in UTC, on which something happened. #}
{% macro business_day(moment) -%}
    cast({{ moment }} at time zone 'UTC' as date)
{%- endmacro %}

{# A sum in micro-units as whole minor units; cash, clearing, payable and tax are whole, and a test says so. #}
{% macro as_minor(amount_micro) -%}
    cast(coalesce({{ amount_micro }}, 0) // {{ micro_per_minor('currency') }} as hugeint)
{%- endmacro %}

{# Tax category of lines that sell nothing: contracts/events/order.py says what they are. #}
{% macro deposit_tax_category() %}'customer deposit'{% endmacro %}

{# Accounts that payments and refunds move money on, as a list: cash, and what is owed on gift cards. `with_gift_cards`: also
   those that gift cards themselves are booked on, so that issuing and ending them sums to nothing. #}
{% macro tenders(with_gift_cards=false) -%}
    ('cash', 'gift_card_liability'{% if with_gift_cards %}, 'gift_card_grants', 'gift_card_breakage'{% endif %})
{%- endmacro %}
