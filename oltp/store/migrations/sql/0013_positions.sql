-- No position of the outbox is used twice, also when its sequence was set back: copies know the events of a pod by it,
-- and the order of an aggregate's events within a cut. Below the floor are the positions of events that were pruned.
create table oltp.outbox_floor (
    is_only boolean not null default true,
    position bigint not null,
    constraint outbox_floor_pkey primary key (is_only),
    constraint outbox_floor_one_row check (is_only)
);
insert into oltp.outbox_floor (position)
select coalesce(
    (select min(position) - 1 from oltp.outbox),
    (select last_value from pg_sequences where schemaname = 'oltp' and sequencename = 'outbox_position_seq'),
    0
);
grant select on oltp.outbox_floor to tieout_app, tieout_relay, tieout_reader;

-- Between the floor and the end of the outbox the primary key refuses what is used; what was never used is free, if the
-- event before it of the same aggregate is below. An event before it that was pruned is below the floor.
create function oltp.outbox_positions_grow() returns trigger
language plpgsql as $body$
begin
    if new.position <= (select position from oltp.outbox_floor) or exists (
        select from oltp.outbox as earlier
        where
            earlier.aggregate_type = new.aggregate_type and earlier.aggregate_id = new.aggregate_id
            and earlier.aggregate_version = new.aggregate_version - 1 and earlier.position > new.position
    ) then
        perform oltp.refuse_unless_bypassed(
            'outbox_positions_grow', 'outbox', format('Position %s of the outbox was used before.', new.position)
        );
    end if;
    return new;
end
$body$;
grant execute on function oltp.outbox_positions_grow() to tieout_app;

create trigger outbox_positions_grow before insert on oltp.outbox
for each row execute function oltp.outbox_positions_grow();

-- As 0005_deletions.sql has it, and the floor with it.
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
    update oltp.outbox_floor set position = highest where position < highest;
    delete from oltp.cuts as known where known.cut < through_cut;
    get diagnostics cuts = row_count;
end
$body$;
