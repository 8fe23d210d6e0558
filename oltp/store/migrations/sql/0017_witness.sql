-- What the witness of this pod sees (`witness/oltp.py`): a publication of the tables of aggregates, the outbox, and the
-- tables in which a declared bypass and a pruning leave their mark. Its role only decodes the write-ahead log; it reads no
-- rows but the declarations and the cuts.

-- Replica identity: all tables of aggregates say their whole old row, so that a child's row leads to its aggregate also
-- when it was deleted. They are inserted far more often than changed. The outbox says the event's aggregate and version.
create function oltp.show_to_witness() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $show$
declare
    declared text[] := array(
        select table_name from oltp.aggregate_roots union all select table_name from oltp.aggregate_children order by 1
    );
    shown text[] := declared || array['bypasses', 'outbox', 'outbox_floor'];
    present text[];
    table_list text;
    name text;
begin
    foreach name in array declared loop
        if (select relreplident <> 'f' from pg_class where oid = format('oltp.%I', name)::regclass) then
            execute format('alter table oltp.%I replica identity full', name);
        end if;
    end loop;
    select string_agg(format('oltp.%I', item), ', '), array_agg(item order by item) into table_list, shown
    from unnest(shown) as item;
    if not exists (select from pg_publication where pubname = 'tieout_witness') then
        execute 'create publication tieout_witness for table ' || table_list;
    else
        select array_agg(tablename::text order by tablename::text) into present
        from pg_publication_tables where pubname = 'tieout_witness' and schemaname = 'oltp';
        if present is distinct from shown then
            execute 'alter publication tieout_witness set table ' || table_list;
        end if;
    end if;
    if exists (select from pg_roles where rolname = 'tieout_witness') then
        grant usage on schema oltp to tieout_witness;
        grant select on oltp.aggregate_roots, oltp.aggregate_children, oltp.cuts to tieout_witness;
    end if;
end
$show$;
revoke all on function oltp.show_to_witness() from public;

create function oltp.declarations_are_shown() returns trigger
language plpgsql as $body$
begin
    perform oltp.show_to_witness();
    return null;
end
$body$;
create trigger declarations_are_shown after insert or update or delete on oltp.aggregate_roots
for each statement execute function oltp.declarations_are_shown();
create trigger declarations_are_shown after insert or update or delete on oltp.aggregate_children
for each statement execute function oltp.declarations_are_shown();

alter table oltp.outbox replica identity using index outbox_aggregate_type_aggregate_id_aggregate_version_key;
select oltp.show_to_witness();

-- As 0013_positions.sql has it, but every pruning writes the floor's row: by that the witness knows a pruning.
create or replace function oltp.prune_outbox(through_cut bigint, out events bigint, out cuts bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    seen pg_snapshot := (select snapshot from oltp.cuts as known where known.cut = through_cut);
    highest bigint;
begin
    events := 0;
    cuts := 0;
    if through_cut < 2 or seen is null then
        return;
    end if;
    with pruned as (
        delete from oltp.outbox where xid < pg_snapshot_xmax(seen) and pg_visible_in_snapshot(xid, seen)
        returning position
    )
    select count(*), max(pruned.position) into events, highest from pruned;
    if events > 0 then
        update oltp.outbox_floor set position = greatest(position, highest);
    end if;
    delete from oltp.cuts as known where known.cut < through_cut;
    get diagnostics cuts = row_count;
end
$body$;
