-- A version that states again what the row holds already (`oltp/commands/restate.py`) is no step of a state machine: it may
-- follow any status, those included that nothing leads on from. Its event, like every event, is required at commit.

create or replace function oltp.status_is_reachable() returns trigger
language plpgsql as $body$
declare
    old_status text := case when tg_op = 'INSERT' then '' else old.status end;
begin
    if not exists (
        select from oltp.allowed_transitions as allowed
        where
            allowed.aggregate_type = tg_argv[0]
            and allowed.from_status = old_status
            and allowed.to_status = new.status
    )
    then
        if tg_op = 'UPDATE' and to_jsonb(new) - 'version' = to_jsonb(old) - 'version' then
            return new;
        end if;
        perform oltp.refuse_unless_bypassed(
            'status_is_reachable',
            tg_table_name,
            format('A %s that is %s cannot become %s.', tg_argv[0], coalesce(nullif(old_status, ''), 'new'), new.status)
        );
    end if;
    return new;
end
$body$;
