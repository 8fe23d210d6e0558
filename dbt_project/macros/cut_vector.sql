{# Every model of a build has data up to the cut vector that the build recorded before it began. These macros write the
   cuts into the compiled SQL as literals. Then DuckLake opens only the files with those cuts, so the cost of a run
   depends on the new events. Cuts never come from --vars, because a changed variable makes dbt parse the whole project
   again. When dbt is run by hand, each model reads the recorded vector once. #}

{# The build as passed in by the process that runs dbt (derived/warehouse.py): its vector, and whether it leaves events
   out. So a hundred nodes need not query the lake for it. None when dbt was started in another way. #}
{% macro told_build() %}
    {{ return(fromjson(env_var('TIEOUT_BUILD', 'null')) if execute else none) }}
{% endmacro %}

{# The newest build's vector: a list of {pod, since_cut, cut}. Its events are those with since_cut < cut <= cut. #}
{% macro cut_vector() %}
    {% if not execute %}
        {{ return([]) }}
    {% endif %}
    {% set told = told_build() %}
    {% if told %}
        {{ return(told.vector) }}
    {% endif %}
    {% set records = run_query(
        "select pod, since_cut, cut from " ~ source('builds', 'cut_vectors')
        ~ " qualify build_number = max(build_number) over () order by pod"
    ) %}
    {% set vector = [] %}
    {% for record in records.rows %}
        {% do vector.append({'pod': record[0], 'since_cut': record[1] | int, 'cut': record[2] | int}) %}
    {% endfor %}
    {{ return(vector) }}
{% endmacro %}

{# The rows of a staging model that this build adds. A new table gets all cuts up to the vector; an existing table gets
   the cuts after the last complete build. Left out events (left_out.sql) are not added. Events that were left out until
   a cut of this build are added at that cut. #}
{% macro new_events(staged, vector) %}
    {% for entry in vector %}
    {% set since_cut = entry.since_cut if is_incremental() else 0 %}
    {% set reach = left_out_reach(entry.pod, since_cut, entry.cut) %}
    {% if reach < 0 %}
    select staged.*
    from {{ staged }} as staged
    where
        staged.pod = '{{ entry.pod }}'
        and staged.cut > {{ since_cut }}
        and staged.cut <= {{ entry.cut }}
    {% else %}
    {{ events_around_left_out(staged, entry, since_cut, reach) }}
    {% endif %}
    {{ "union all" if not loop.last }}
    {% else %}
    select staged.*
    from {{ staged }} as staged
    where false
    {% endfor %}
{% endmacro %}

{# The rows of a history that this build added, and the rows that they replaced, for computing differences of states. #}
{% macro changed_versions(history, vector) %}
    {% for entry in vector %}
    {% set since_cut = entry.since_cut if is_incremental() else 0 %}
    select
        history.*,
        history.valid_from_cut > {{ since_cut }} as is_new
    from {{ history }} as history
    where
        history.pod = '{{ entry.pod }}'
        and history.valid_from_cut <= {{ entry.cut }}
        and (
            history.valid_from_cut > {{ since_cut }}
            or {{ ended_after('history', vector, none if is_incremental() else 0) }}
        )
    {{ "union all" if not loop.last }}
    {% else %}
    select
        history.*,
        false as is_new
    from {{ history }} as history
    where false
    {% endfor %}
{% endmacro %}

{# A condition on `alias.pod` and a cut column: true for rows that this build added. For tests of new rows only. #}
{% macro is_added(cut_column, alias='') %}
    {% set prefix = alias ~ '.' if alias else '' %}
    {% set vector = cut_vector() %}
    (
    {% for entry in vector %}
        ({{ prefix }}pod = '{{ entry.pod }}' and {{ prefix }}{{ cut_column }} > {{ entry.since_cut }})
        {{ "or" if not loop.last }}
    {% else %}
        false
    {% endfor %}
    )
{% endmacro %}

{# Says in the snapshot that a build of ours writes it, so that the lake's witness knows it (contracts/announcements.py).
   It holds for the transaction that dbt has opened, so it stands before the first statement that writes. #}
{% macro signed_build() -%}
    call {{ this.database }}.set_commit_message('tieout', 'build of {{ this.identifier }}');
{%- endmacro %}
