{# Rows of this build for which the expression is not true; null counts as not true. Earlier builds have tested
   their rows, and rows change only by replacement, so the cost depends on the new rows. For models with pod and cut. #}
{% test expression_holds(model, expression) %}
select *
from {{ model }}
where
    {{ is_added('cut') }}
    and ({{ expression }}) is not true
{% endtest %}

{# The same for aggregated models, which have no cut: it tests all rows. #}
{% test figures_hold(model, expression) %}
select *
from {{ model }}
where ({{ expression }}) is not true
{% endtest %}
