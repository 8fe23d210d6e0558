{# A view is created in one statement, because dbt's own materialization needs three commits of the lake. An unchanged
   view is not created again: the comment of a view ends with the hash of its definition. #}
{% materialization view, adapter='duckdb' %}
    {% set existing = load_cached_relation(this) %}
    {% set target = this.incorporate(type='view') %}
    {% set definition = local_md5(sql ~ tojson(model.columns)) %}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if existing is not none and not existing.is_view %}
        {% do adapter.drop_relation(existing) %}
    {% endif %}
    {% if existing is not none and existing.is_view and not should_full_refresh() and view_definition(target) == definition %}
        {% call noop_statement('main', 'UNCHANGED') %}{% endcall %}
    {% else %}
        {% if config.get('contract').enforced %}
            {{ get_assert_columns_equivalent(sql) }}
        {% endif %}
        {% call statement('main') %}
            {{ signed_build() }}
            create or replace view {{ target }} as (
                {{ sql }}
            );
            comment on view {{ target }} is '{{ (model.description ~ ' ' ~ definition) | trim | replace("'", "''") }}'
        {% endcall %}
    {% endif %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{% macro view_definition(view) %}
    {% set rows = run_query(
        "select right(comment, 32) from duckdb_views() where database_name = '" ~ view.database
        ~ "' and schema_name = '" ~ view.schema ~ "' and view_name = '" ~ view.identifier ~ "'"
    ).rows %}
    {{ return(rows[0][0] if rows else none) }}
{% endmacro %}
