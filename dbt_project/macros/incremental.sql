{# Stored models are added to by cut: what stands after `since_cut` is replaced by what the model computed, in one commit
   of the lake. So a build that is repeated, or that runs again from an earlier cut, leaves the same rows. This takes the
   place of dbt's own incremental materialization, whose steps are several commits each. #}
{% materialization incremental, adapter='duckdb' %}
    {% set existing = load_cached_relation(this) %}
    {% set target = this.incorporate(type='table') %}
    {% set computed = make_temp_relation(target) %}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if existing is none or should_full_refresh() %}
        {% if existing is not none and existing.is_view %}
            {% do adapter.drop_relation(existing) %}
        {% endif %}
        {% call statement('main') %}
            create or replace table {{ target }} as (
                {{ sql }}
            )
        {% endcall %}
    {% else %}
        {% do run_query(create_table_as(true, computed, sql)) %}
        {% set vector = cut_vector() %}
        {% if is_unchanged(target, computed, vector) %}
            {% call noop_statement('main', 'UNCHANGED') %}{% endcall %}
        {% else %}
            {% call statement('main') %}
                {{ replace_by_cut(target, computed, vector) }}
            {% endcall %}
        {% endif %}
    {% endif %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{# The column that says with which cut a row came: in histories rows also have a cut with which they ended. #}
{% macro arrival_column() -%}
    {{ 'valid_from_cut' if model.name.endswith('_history') else 'cut' }}
{%- endmacro %}

{# Whether there is nothing to add and nothing to take back: most models in most builds. #}
{% macro is_unchanged(target, computed, vector) %}
    {% set rows = run_query(
        "select exists (from " ~ computed ~ ") or exists (from " ~ target ~ " where " ~ is_after(vector) ~ ")"
    ).rows %}
    {{ return(not rows[0][0]) }}
{% endmacro %}

{% macro is_after(vector) -%}
    {% for entry in vector -%}
        (pod = '{{ entry.pod }}' and {{ arrival_column() }} > {{ entry.since_cut }}) or {% endfor -%}
    false
{%- endmacro %}

{# In a history the computed rows also replace the versions that they close; these have the same event. A column that the
   stored table lacks is an error: such a change needs a full refresh. #}
{% macro replace_by_cut(target, computed, vector) %}
    delete from {{ target }}
    where {{ is_after(vector) }};
    {% if arrival_column() == 'valid_from_cut' %}
    delete from {{ target }} as stored
    using {{ computed }} as computed
    where stored.pod = computed.pod and stored.event_id = computed.event_id;
    {% endif %}
    insert into {{ target }} by name
    select *
    from {{ computed }}
{% endmacro %}
