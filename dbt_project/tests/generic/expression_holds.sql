{# Rows of this build for which the expression is not true; null counts as not true. Rows of earlier builds were tested
   by these and can only change by being replaced, so the cost follows the new rows. For models with pod and cut. #}
{% test expression_holds(model, expression) %}
select *
from {{ model }}
where
    {{ is_added('cut') }}
    and ({{ expression }}) is not true
{% endtest %}

{# The same for aggregates, which have no cut: all rows. #}
{% test figures_hold(model, expression) %}
select *
from {{ model }}
where ({{ expression }}) is not true
{% endtest %}
