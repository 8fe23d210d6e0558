-- What the witness of the read models sees (`witness/read_models.py`): a publication of the views' tables, and of the
-- tables with positions, parked and skipped events. Its role only decodes the write-ahead log; it reads no rows but the
-- positions and which tables are added up.
create or replace function read_models.show_to_witness(shown text []) returns void language plpgsql as $function$
declare
    table_list text := (select string_agg(format('read_models.%I', name), ', ' order by name) from unnest(shown) as name);
    present text[];
begin
    if not exists (select from pg_publication where pubname = 'tieout_witness') then
        execute 'create publication tieout_witness for table ' || table_list;
    else
        select array_agg(tablename::text order by tablename::text) into present
        from pg_publication_tables where pubname = 'tieout_witness' and schemaname = 'read_models';
        if present is distinct from (select array_agg(name order by name) from unnest(shown) as name) then
            execute 'alter publication tieout_witness set table ' || table_list;
        end if;
    end if;
    if exists (select from pg_roles where rolname = 'tieout_witness') then
        grant usage on schema read_models to tieout_witness;
        grant select on read_models.positions, read_models.sum_parts to tieout_witness;
    end if;
end
$function$;
