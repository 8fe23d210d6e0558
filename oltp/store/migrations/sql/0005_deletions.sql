-- What the relay's role deletes, with the owner's rights: who may delete from a table may also lock it against everybody.

-- An event of a cut after k is not visible in S(k), so this touches nothing that may be computed again. Cut k itself
-- stays: it is the base from which cut k + 1 is computed. Cut 1 alone is not pruned: its row could not be told from a cut
-- whose events are still there. The caller has proven that the lake and a verified backup of it hold these cuts.
create function oltp.prune_outbox(through_cut bigint, out events bigint, out cuts bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    seen pg_snapshot := (select snapshot from oltp.cuts as known where known.cut = through_cut);
begin
    events := 0;
    cuts := 0;
    if through_cut < 2 or seen is null then
        return;
    end if;
    delete from oltp.outbox where xid < pg_snapshot_xmax(seen) and pg_visible_in_snapshot(xid, seen);
    get diagnostics events = row_count;
    delete from oltp.cuts as known where known.cut < through_cut;
    get diagnostics cuts = row_count;
end
$body$;

-- Forgets the registered cuts after the base of an epoch that is being opened, and lets the epoch count. One that counts
-- already is left alone: the cuts after its base are its own.
create function oltp.complete_epoch(opened_epoch text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    opening oltp.epochs;
begin
    select * into strict opening from oltp.epochs where epoch = opened_epoch for update;
    if opening.completed_at is null then
        delete from oltp.cuts where cut > opening.base_cut;
        update oltp.epochs set completed_at = clock_timestamp() where number = opening.number;
    end if;
end
$body$;
