{# Rows of this build whose key is there twice, in whatever build, or for which the expression is not true; null counts as
   not true. One test for what is_unique and expression_holds ask of a model each: every test of a build costs something.
   With is_within_aggregate only this build's rows are counted: enough where the key holds the aggregate's, because all
   rows of one come together. #}
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
