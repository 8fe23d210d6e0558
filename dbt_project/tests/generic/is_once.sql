{# Rows of this build whose key occurs twice in rows of all builds, or for which the expression is not true; null counts
   as not true. It combines is_unique and expression_holds in one test, because every test of a build takes time. With
   is_within_aggregate, only this build's rows are counted. This is enough when the key contains the aggregate's key,
   because all rows of an aggregate come together. #}
{% test is_once(model, columns, expression, is_within_aggregate=false) %}
with added as (
    select *
    from {{ model }}
    where {{ is_added('cut') }}
)

select {{ columns | join(', ') }}
from {{ 'added' if is_within_aggregate else model }}
{% if not is_within_aggregate %}
semi join added using ({{ columns | join(', ') }})
{% endif %}
group by {{ columns | join(', ') }}
having count(*) > 1
union all
select {{ columns | join(', ') }}
from added
where
    ({{ expression }}) is not true
    {%- for column in columns %}
    or {{ column }} is null
    {%- endfor %}
{% endtest %}
