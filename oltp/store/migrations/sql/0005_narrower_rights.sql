-- Each role may do what its work needs and nothing that stops the others: nobody but the owner can lock the outbox or
-- the cuts against everybody, a cut carries the epoch of this database, and old idempotency keys can be removed.
--
-- Who may delete from a table or maintain it may also lock it exclusively; the functions of 0005_deletions.sql and those
-- below have the owner's rights instead, and each says itself what may go.

-- Statistics: a function instead of MAINTAIN, which PostgreSQL 17 and later know and 15 and 16 do not.
do $narrow$
begin
    if current_setting('server_version_num')::integer >= 170000 then
        execute 'revoke maintain on all tables in schema oltp from tieout_app';
    end if;
end
$narrow$;

create function oltp.refresh_statistics(table_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    execute format('analyze (skip_locked) oltp.%I', table_name);
end
$body$;

revoke delete on oltp.outbox, oltp.cuts from tieout_relay;
revoke update (completed_at) on oltp.epochs from tieout_relay;

-- Cuts ------------------------------------------------------------------------------------------------------------------

-- The last epoch that a person has opened, if it was opened for this database as it is now; else the database's own:
-- system identifier, database and timeline. `streams/cuts.py` asks the same; a test holds the two together.
create function oltp.present_epoch() returns text
language sql stable set search_path = pg_catalog, pg_temp as $body$
    select case
        when opened.completed_at is not null and starts_with(opened.epoch, own.epoch || '.') then opened.epoch
        else own.epoch
    end
    from (
        select
            (select system_identifier::text from pg_control_system())
            || '.' || (select oid::text from pg_database where datname = current_database())
            || '.' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) as epoch
    ) as own
    left join (select epoch, completed_at from oltp.epochs order by number desc limit 1) as opened on true
$body$;

-- A cut of a false epoch would stop the relay until a person looks, or let it go on where it must stop.
create function oltp.cuts_tell_their_epoch() returns trigger
language plpgsql as $body$
begin
    if new.epoch is distinct from oltp.present_epoch() then
        raise exception using
            errcode = 'check_violation', schema = 'oltp', table = 'cuts', constraint = 'cuts_tell_their_epoch',
            message = format('Cut %s says epoch %s, and this database is in epoch %s.', new.cut, new.epoch, oltp.present_epoch());
    end if;
    return new;
end
$body$;

create trigger cuts_tell_their_epoch before insert on oltp.cuts
for each row execute function oltp.cuts_tell_their_epoch();

-- Idempotency keys --------------------------------------------------------------------------------------------------------

-- A key is kept longer than any client repeats a command. An import may be repeated years later, so its keys stay.
alter table oltp.idempotency_keys add column is_kept boolean not null default false;
update oltp.idempotency_keys set is_kept = true where idempotency_key like 'online-retail/%';
create index idempotency_keys_recorded_at_idx on oltp.idempotency_keys using brin (recorded_at);

-- Nobody shortens the lease below a week, whoever calls.
create function oltp.prune_idempotency_keys(kept_for interval, keys_max integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    removed bigint;
begin
    delete from oltp.idempotency_keys as old
    using (
        select ctid from oltp.idempotency_keys
        where recorded_at < clock_timestamp() - greatest(kept_for, interval '7 days') and not is_kept
        limit keys_max
        for update skip locked
    ) as found
    where old.ctid = found.ctid;
    get diagnostics removed = row_count;
    return removed;
end
$body$;

-- Of a claimed key only the answer is written later.
revoke update on oltp.idempotency_keys from tieout_app;
grant update (response) on oltp.idempotency_keys to tieout_app;

revoke all on function
oltp.refresh_statistics(text),
oltp.prune_outbox(bigint),
oltp.complete_epoch(text),
oltp.present_epoch(),
oltp.prune_idempotency_keys(interval, integer)
from public;
grant execute on function oltp.refresh_statistics(text) to tieout_app;
grant execute on function
oltp.prune_outbox(bigint),
oltp.complete_epoch(text),
oltp.prune_idempotency_keys(interval, integer)
to tieout_relay;
grant execute on function oltp.present_epoch() to tieout_relay, tieout_reader;
