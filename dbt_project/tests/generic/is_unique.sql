{# Keys of this build's rows that occur more than once in rows of all builds, or that are null. #}
{% test is_unique(model, columns) %}
with added as (
    select distinct {{ columns | join(', ') }}
    from {{ model }}
    where {{ is_added('cut') }}
),

counted as (
    select
        {{ columns | join(', ') }},
        count(*) as row_count
    from {{ model }}
    semi join added using ({{ columns | join(', ') }})
    group by {{ columns | join(', ') }}
)

select *
from counted
where row_count > 1
union all
select
    *,
    0 as row_count
from added
where {% for column in columns %}{{ column }} is null{{ " or " if not loop.last }}{% endfor %}
{% endtest %}
