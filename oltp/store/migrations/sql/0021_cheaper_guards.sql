-- The same guards for less: they refuse what they refused, by the same names.
--
-- A row is found by its id alone, and its merchant compared afterwards. With both in the condition a plan that was made
-- while the table was small may use an index that begins with the merchant, and read all rows of the merchant every time.

-- As 0014_aggregates.sql has it, but finding roots by their id, and without a copy of the row.
create or replace function oltp.guard_root(root oltp.aggregate_roots) returns void
language plpgsql as $guard$
begin
    execute format(
        $function$
        create or replace function oltp.%1$I() returns trigger language plpgsql as $body$
        declare
            changed_id oltp.%2$I.%4$I%%type;
            changed_version bigint;
            changed_merchant_id text;
            is_ours boolean;
        begin
            if tg_op = 'DELETE' then
                changed_id := old.%4$I;
                changed_version := old.version;
                changed_merchant_id := old.merchant_id;
            else
                changed_id := new.%4$I;
                changed_version := new.version;
                changed_merchant_id := new.merchant_id;
                if (tg_op = 'INSERT' and changed_version <> 1)
                    or (
                        tg_op = 'UPDATE'
                        and (
                            changed_version <> old.version + 1
                            or changed_id <> old.%4$I
                            or changed_merchant_id <> old.merchant_id
                        )
                    )
                then
                    perform oltp.refuse_unless_bypassed(
                        'version_follows', %2$L, format('%3$s %%s: the version does not follow.', changed_id)
                    );
                end if;
            end if;
            select merchant_id = changed_merchant_id and xid = pg_current_xact_id() into is_ours
            from oltp.outbox
            where
                aggregate_type = %3$L
                and aggregate_id = changed_id::text
                and aggregate_version = changed_version;
            if is_ours is not true then
                perform oltp.refuse_unless_bypassed(
                    'change_has_event',
                    %2$L,
                    format('%3$s %%s: version %%s has no event of this transaction.', changed_id, changed_version)
                );
            end if;
            return null;
        end
        $body$
        $function$,
        root.table_name || '_have_events', root.table_name, root.aggregate_type, root.id_column
    );
    perform oltp.attach_have_events(root.table_name);
end
$guard$;

create or replace function oltp.guard_child(child oltp.aggregate_children) returns void
language plpgsql as $guard$
begin
    execute format(
        $function$
        create or replace function oltp.%1$I() returns trigger language plpgsql as $body$
        declare
            changed_id oltp.%2$I.%4$I%%type;
            changed_merchant_id text;
            is_ours boolean;
        begin
            if tg_op = 'DELETE' then
                changed_id := old.%4$I;
                changed_merchant_id := old.merchant_id;
            else
                changed_id := new.%4$I;
                changed_merchant_id := new.merchant_id;
            end if;
            select xid = pg_current_xact_id() and merchant_id = changed_merchant_id
            into is_ours
            from oltp.outbox
            where aggregate_type = %3$L and aggregate_id = changed_id::text
            order by aggregate_version desc
            limit 1;
            if is_ours is not true
                or (tg_op = 'UPDATE' and (changed_id <> old.%4$I or changed_merchant_id <> old.merchant_id))
            then
                perform oltp.refuse_unless_bypassed(
                    'change_has_event',
                    %2$L,
                    format('%3$s %%s: its %2$s changed without an event of this transaction.', changed_id)
                );
            end if;
            return null;
        end
        $body$
        $function$,
        child.table_name || '_have_events', child.table_name, child.aggregate_type, child.id_column
    );
    perform oltp.attach_have_events(child.table_name);
end
$guard$;

create or replace function oltp.follow_roots() returns void
language plpgsql as $follow$
declare
    branches text;
begin
    select
        string_agg(
            format(
                $branch$
                when %1$L then
                    select case when merchant_id = new.merchant_id then version end into root_version from oltp.%2$I
                    where %3$I = new.aggregate_id%4$s;
                $branch$,
                root.aggregate_type, root.table_name, root.id_column,
                case when id.atttypid = 'uuid'::regtype then '::uuid' else '' end
            ),
            '' order by root.number
        )
    into branches
    from oltp.aggregate_roots as root
    inner join pg_attribute as id
        on id.attrelid = format('oltp.%I', root.table_name)::regclass and root.id_column = id.attname;
    execute format(
        $function$
        create or replace function oltp.outbox_follows_root() returns trigger language plpgsql as $body$
        declare
            root_version bigint;
        begin
            case new.aggregate_type
                %s
                else
                    perform oltp.refuse(
                        'event_follows_root', 'outbox', format('No table holds aggregates of type %%s.', new.aggregate_type)
                    );
            end case;
            if root_version is distinct from new.aggregate_version then
                perform oltp.refuse_unless_bypassed(
                    'event_follows_root',
                    'outbox',
                    format(
                        '%%s %%s has version %%s, not yet the event''s %%s: change the root first.',
                        new.aggregate_type, new.aggregate_id, coalesce(root_version::text, 'none'), new.aggregate_version
                    )
                );
            end if;
            return new;
        end
        $body$
        $function$,
        branches
    );
end
$follow$;

select oltp.guard_root(root) from oltp.aggregate_roots as root;
select oltp.guard_child(child) from oltp.aggregate_children as child;
select oltp.follow_roots();

-- As 0012_several_taxes.sql has it, but what only some orders have (several taxes of a line, discounts of a line) is read
-- only for those.
create or replace function oltp.check_order_lines(checked_order_id uuid) returns void
language plpgsql as $body$
declare
    is_right boolean;
    order_discount_minor bigint;
    discounts record;
begin
    select
        ord.discount_minor,
        count(*) > 0
        and count(*) = count(tax.order_line_id)
        and bool_and(
            line.total_minor
            = line.amount_minor - line.discount_minor + case when tax.is_tax_inclusive then 0 else tax.tax_minor end
            and tax.taxable_minor = line.total_minor - tax.tax_minor
            and line.cancelled_tax_minor <= tax.tax_minor
            and tax.order_id = line.order_id
        )
        and ord.lines_minor = coalesce(sum(line.amount_minor) filter (where line.kind <> 'shipping'), 0)
        and ord.shipping_minor = coalesce(sum(line.amount_minor) filter (where line.kind = 'shipping'), 0)
        and ord.discount_minor = sum(line.discount_minor)
        and ord.added_tax_minor = coalesce(sum(tax.tax_minor) filter (where not tax.is_tax_inclusive), 0)
        and ord.tax_minor = sum(tax.tax_minor)
        and ord.rounding_micro = sum(line.rounding_micro)
        and ord.total_minor = sum(line.total_minor)
        and ord.cancelled_minor = sum(line.cancelled_minor)
        and ord.cancelled_tax_minor = sum(line.cancelled_tax_minor)
        and ord.status = case
            when sum(line.quantity) = sum(line.cancelled_quantity + line.withdrawn_quantity) then 'cancelled'
            when sum(line.quantity) = sum(line.cancelled_quantity + line.withdrawn_quantity + line.fulfilled_quantity)
                then 'fulfilled'
            when sum(line.fulfilled_quantity) > 0 then 'partially_fulfilled'
            else 'placed'
        end
    into order_discount_minor, is_right
    from oltp.orders as ord
    inner join oltp.order_lines as line on ord.order_id = line.order_id
    left join oltp.order_tax_lines as tax on line.order_line_id = tax.order_line_id
    where ord.order_id = checked_order_id
    group by ord.order_id;

    if is_right and exists (select from oltp.order_line_taxes where order_id = checked_order_id) then
        -- Several taxes of a line sum to its tax, its rate, and what is cancelled of its tax.
        select
            count(*) = count(line.order_line_id)
            and bool_and(
                coalesce(several.tax_minor = tax.tax_minor, true)
                and coalesce(several.rate_ppm = tax.rate_ppm, true)
                and coalesce(several.cancelled_tax_minor = line.cancelled_tax_minor, true)
            )
        into is_right
        from (
            select
                order_line_id,
                sum(rate_ppm) as rate_ppm,
                sum(tax_minor) as tax_minor,
                sum(cancelled_tax_minor) as cancelled_tax_minor
            from oltp.order_line_taxes
            where order_id = checked_order_id
            group by order_line_id
        ) as several
        left join oltp.order_lines as line
            on several.order_line_id = line.order_line_id and line.order_id = checked_order_id
        left join oltp.order_tax_lines as tax on line.order_line_id = tax.order_line_id;
    end if;

    if is_right then
        select coalesce(sum(amount_minor), 0) as amount_minor, count(line_number) as of_lines into discounts
        from oltp.order_discounts
        where order_id = checked_order_id;
        is_right := discounts.amount_minor = order_discount_minor;
        -- A discount that names a line is within what that line was discounted by.
        if is_right and discounts.of_lines > 0 then
            is_right := not exists (
                select from oltp.order_discounts as discount
                left join oltp.order_lines as named
                    on discount.order_id = named.order_id and discount.line_number = named.line_number
                where discount.order_id = checked_order_id and discount.line_number is not null
                group by named.order_line_id
                having sum(discount.amount_minor) > coalesce(max(named.discount_minor), 0)
            );
        end if;
    end if;

    if is_right is not true then
        perform oltp.refuse(
            'order_totals_are_their_lines', 'orders', format('Order %s does not equal the sum of its lines.', checked_order_id)
        );
    end if;
end
$body$;
