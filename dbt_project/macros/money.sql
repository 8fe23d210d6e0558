{# A sum of integers with 128 bits. One amount is limited by contracts/limits.py, but the number of rows is not. So sums
   over rows are hugeint, and values of one row are bigint. #}
{% macro total(expression) -%}
    cast(coalesce(sum({{ expression }}), 0) as hugeint)
{%- endmacro %}

{# The calendar day of a time, in UTC. #}
{% macro business_day(moment) -%}
    cast({{ moment }} at time zone 'UTC' as date)
{%- endmacro %}

{# A sum in micro-units as whole minor units. A test checks that cash, clearing, payable and tax are whole. #}
{% macro as_minor(amount_micro) -%}
    cast(coalesce({{ amount_micro }}, 0) // {{ micro_per_minor('currency') }} as hugeint)
{%- endmacro %}

{# The tax category of lines that sell nothing but hold a customer's money (contracts/events/order.py). #}
{% macro deposit_tax_category() %}'customer deposit'{% endmacro %}

{# Accounts that payments and refunds move money on, as a list: cash, and what is owed on gift cards. `with_gift_cards`: also
   those that gift cards themselves are booked on, so that issuing and ending them sums to nothing. #}
{% macro tenders(with_gift_cards=false) -%}
    ('cash', 'gift_card_liability'{% if with_gift_cards %}, 'gift_card_grants', 'gift_card_breakage'{% endif %})
{%- endmacro %}
