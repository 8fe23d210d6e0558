-- As 0013_positions.sql has it, but the first event of an aggregate, before which there is none, looks for none.
create or replace function oltp.outbox_positions_grow() returns trigger
language plpgsql as $body$
declare
    is_used boolean;
begin
    select new.position <= position into is_used from oltp.outbox_floor;
    if new.aggregate_version > 1 and is_used is not true then
        is_used := exists (
            select from oltp.outbox as earlier
            where
                earlier.aggregate_type = new.aggregate_type and earlier.aggregate_id = new.aggregate_id
                and earlier.aggregate_version = new.aggregate_version - 1 and earlier.position > new.position
        );
    end if;
    if is_used then
        perform oltp.refuse_unless_bypassed(
            'outbox_positions_grow', 'outbox', format('Position %s of the outbox was used before.', new.position)
        );
    end if;
    return new;
end
$body$;
