-- Sum tables: a row is the sum of the rows of one group in other tables, the sum table's parts. Triggers on the parts
-- update it. A sum table has an id column, computed from the group; the group's columns (text); row_count; and the
-- measures. A measure is numeric(38, 0): the sum of any legal set of rows fits, and DuckDB reads it exactly. A group
-- without rows has no row in the sum table.

create table if not exists read_models.sum_parts (
    part_table text primary key,
    sum_table text not null,
    id_column text not null,
    group_columns text [] not null,
    measures text [] not null,
    amounts text [] not null
);
comment on table read_models.sum_parts is
'Which table is added up where: each measure of the sum, and the expression over a row that it adds up.';

-- Runs after each statement: adds the values of new rows to the sums, and subtracts those of old rows.
create or replace function read_models.keep_sums() returns trigger language plpgsql as $function$
declare
    part read_models.sum_parts;
    groups text;
    changed text := case tg_op
        when 'INSERT' then 'select 1 as sign, * from coming'
        when 'DELETE' then 'select -1 as sign, * from going'
        else 'select 1 as sign, * from coming union all select -1 as sign, * from going'
    end;
begin
    select * into strict part from read_models.sum_parts where part_table = tg_table_name;
    if tg_op = 'TRUNCATE' then
        perform read_models.sum_again(part.sum_table, null, null);
        return null;
    end if;
    groups := array_to_string(part.group_columns, ', ');
    -- We write sums in the order of their groups. So concurrent transactions lock the same sums in the same order.
    execute format(
        'insert into read_models.%1$I as present (%2$s, row_count, %3$s)
         select %2$s, sum(sign), %4$s from (%5$s) as changed group by %2$s
         having sum(sign) <> 0 or %6$s order by %2$s
         on conflict (%2$s) do update set row_count = present.row_count + excluded.row_count, %7$s',
        part.sum_table, groups, array_to_string(part.measures, ', '),
        (select string_agg(format('sum(sign * (%s))', amount), ', ' order by n)
         from unnest(part.amounts) with ordinality as one (amount, n)),
        changed,
        (select string_agg(format('sum(sign * (%s)) <> 0', amount), ' or ') from unnest(part.amounts) as one (amount)),
        (select string_agg(format('%1$s = present.%1$s + excluded.%1$s', measure), ', ')
         from unnest(part.measures) as one (measure)));
    if tg_op <> 'INSERT' then
        execute format(
            'delete from read_models.%1$I as present using (select distinct %2$s from going) as gone
             where present.row_count = 0 and %3$s',
            part.sum_table, groups,
            (select string_agg(format('present.%1$s = gone.%1$s', name), ' and ')
             from unnest(part.group_columns) as one (name)));
    end if;
    return null;
end
$function$;

-- Computes sums again from the rows: the sums with these merchants and ids, or all if ids is null. Returns the number
-- of sums that it changed.
create or replace function read_models.sum_again(summed text, merchants text [], ids text [])
returns bigint language plpgsql as $function$
declare
    part read_models.sum_parts;
    all_measures text [];
    rows_of text;
    groups text;
    changed bigint;
begin
    select array_agg(distinct measure order by measure) into all_measures
    from read_models.sum_parts as p cross join unnest(p.measures) as one (measure) where p.sum_table = summed;
    for part in select * from read_models.sum_parts where sum_table = summed order by part_table loop
        groups := array_to_string(part.group_columns, ', ');
        rows_of := concat_ws(' union all ', rows_of, format(
            'select %s, md5(%s)::uuid::text as id, %s from read_models.%I',
            groups, array_to_string(part.group_columns, ' || ''/'' || '),
            (select string_agg(format('(%s)::numeric as %s', coalesce(
                part.amounts[array_position(part.measures, measure)], '0'), measure), ', ' order by n)
             from unnest(all_measures) with ordinality as one (measure, n)),
            part.part_table));
    end loop;
    execute format(
        'with expected as (
             select %2$s, count(*) as row_count, %3$s from (%4$s) as parts
             where $2 is null or (merchant_id, id) in (select * from unnest($1, $2)) group by %2$s
         ),
         gone as (
             delete from read_models.%1$I as present
             where ($2 is null or (merchant_id, %5$I) in (select * from unnest($1, $2)))
               and not exists (select from expected where %6$s)
             returning 1
         ),
         written as (
             insert into read_models.%1$I as present (%2$s, row_count, %7$s)
             select %2$s, row_count, %7$s from expected order by %2$s
             on conflict (%2$s) do update set row_count = excluded.row_count, %8$s
             where (present.row_count, %9$s) is distinct from (excluded.row_count, %10$s)
             returning 1
         )
         select (select count(*) from gone) + (select count(*) from written)',
        summed, groups,
        (select string_agg(format('sum(%1$s) as %1$s', measure), ', ' order by n)
         from unnest(all_measures) with ordinality as one (measure, n)),
        rows_of, part.id_column,
        (select string_agg(format('present.%1$s = expected.%1$s', name), ' and ')
         from unnest(part.group_columns) as one (name)),
        array_to_string(all_measures, ', '),
        (select string_agg(format('%1$s = excluded.%1$s', measure), ', ') from unnest(all_measures) as one (measure)),
        'present.' || array_to_string(all_measures, ', present.'),
        'excluded.' || array_to_string(all_measures, ', excluded.'))
    into changed using merchants, ids;
    return changed;
end
$function$;

-- Attaches the triggers to a table that is added up. A migration also calls it for a table that has lost one.
create or replace function read_models.attach_sums(part text) returns void language plpgsql as $function$
begin
    execute format('create or replace trigger sums_of_inserted after insert on read_models.%I referencing new table '
                   'as coming for each statement execute function read_models.keep_sums()', part);
    execute format('create or replace trigger sums_of_updated after update on read_models.%I referencing new table '
                   'as coming old table as going for each statement execute function read_models.keep_sums()', part);
    execute format('create or replace trigger sums_of_deleted after delete on read_models.%I referencing old table '
                   'as going for each statement execute function read_models.keep_sums()', part);
    execute format('create or replace trigger sums_of_truncated after truncate on read_models.%I '
                   'for each statement execute function read_models.keep_sums()', part);
end
$function$;

-- Makes a table a part of a sum table: creates the triggers, and computes the sums again.
create or replace function read_models.add_up(
    part text, summed text, id_column text, group_columns text [], measures text [], amounts text []
) returns void language plpgsql as $function$
begin
    insert into read_models.sum_parts values (part, summed, id_column, group_columns, measures, amounts)
    on conflict (part_table) do update
    set (sum_table, id_column, group_columns, measures, amounts)
    = (excluded.sum_table, excluded.id_column, excluded.group_columns, excluded.measures, excluded.amounts);
    perform read_models.attach_sums(part);
    perform read_models.sum_again(summed, null, null);
end
$function$;
