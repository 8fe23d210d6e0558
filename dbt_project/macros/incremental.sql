{# Stored models are updated by cut: one commit of the lake deletes the rows after `since_cut` and inserts the computed
   rows. So the build is idempotent: a repeated build, or one from an earlier cut, gives the same rows. This replaces
   dbt's own incremental materialization, which needs several commits. #}
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
            {{ signed_build() }}
            create or replace table {{ target }} as (
                {{ sql }}
            )
        {% endcall %}
        {% do give_statistics(target) %}
    {% else %}
        {% do run_query(create_table_as(true, computed, sql)) %}
        {% set vector = cut_vector() %}
        {% if is_unchanged(target, computed, vector) %}
            {% call noop_statement('main', 'UNCHANGED') %}{% endcall %}
        {% else %}
            {% call statement('main') %}
                {{ signed_build() }}
                {{ replace_by_cut(target, computed, vector) }}
            {% endcall %}
        {% endif %}
    {% endif %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{# DuckLake 1.5.5 keeps no statistics of a table that never had a row, and asks the catalog for them again for each
   column of each query. So a new table without rows gets one, which the next commit deletes. The row's cut is after
   every cut: nothing reads it meanwhile, and if the process ends in between, the next build deletes it. #}
{% macro give_statistics(target) %}
    {% if not run_query("select exists (from " ~ target ~ ")").rows[0][0] %}
        {% do adapter.commit() %}
        {% call statement('filler') %}
            {{ signed_build() }}
            insert into {{ target }} by name
            select
                '{{ cut_vector()[0].pod }}' as pod,
                9223372036854775807 as {{ arrival_column() }}
        {% endcall %}
        {% do adapter.commit() %}
        {% call statement('gone') %}
            {{ signed_build() }}
            delete from {{ target }}
        {% endcall %}
    {% endif %}
{% endmacro %}

{# The column with the cut at which a row came; rows of histories also have a cut at which they ended. #}
{% macro arrival_column() -%}
    {{ 'valid_from_cut' if model.name.endswith('_history') else 'cut' }}
{%- endmacro %}

{# Whether there are no rows to add and none to delete; this is true for most models in most builds. #}
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

{# In a history the computed rows also replace the stored rows with the same event, because those versions are now
   closed. A column that is missing in the stored table is an error: such a change needs a full refresh. #}
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
