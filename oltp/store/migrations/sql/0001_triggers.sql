-- What the database itself refuses, whoever writes: changes without their event, versions that do not follow, totals
-- that are not their parts, refunds beyond what was sold or captured, steps that no state machine allows.
--
-- How it costs little: every check is one or two index probes; sums are made once per changed root, not per line; the
-- bypass is looked up only where a check would fail. Constraint names given to `refuse` are those of
-- oltp/store/constraints.py.

-- Storage ----------------------------------------------------------------------------------------------------------------

-- Room on each page keeps updates of counters and of claimed keys on it (heap-only), however hot the row.
alter table oltp.stock_levels set (fillfactor = 50);
alter table oltp.idempotency_keys set (fillfactor = 70);

-- Refusing, and the one declared way around ----------------------------------------------------------------------------------

create function oltp.refuse(constraint_name text, table_name text, message text) returns void
language plpgsql as $body$
begin
    raise exception using
        errcode = 'check_violation', schema = 'oltp', table = table_name, constraint = constraint_name, message = message;
end
$body$;

-- True in a transaction that `declare_bypass` was called in: a restore, or the copy of a pod.
create function oltp.is_bypassed() returns boolean
language sql volatile as $body$
    select exists (select from oltp.bypasses where xid = pg_current_xact_id())
$body$;

-- Lets this transaction write without events and with any version. Totals, limits and foreign keys still hold. Only the
-- owner may call it (see the grants), and the row it writes stays.
create function oltp.declare_bypass(reason text) returns void
language sql volatile as $body$
    insert into oltp.bypasses (reason) values (declare_bypass.reason)
$body$;

create function oltp.refuse_unless_bypassed(constraint_name text, table_name text, message text) returns void
language plpgsql as $body$
begin
    if not oltp.is_bypassed() then
        perform oltp.refuse(constraint_name, table_name, message);
    end if;
end
$body$;

-- Nothing commits without its event --------------------------------------------------------------------------------------------

-- One function and one deferred trigger per root table: the version follows the old one, and the outbox has an event of
-- this very transaction for it. A row may be deleted only by the transaction that gave it its last version (a tombstone).
do $generate$
declare
    root record;
begin
    for root in
        select * from (values
            ('merchants', 'merchant', 'merchant_id'),
            ('merchant_entitlements', 'merchant_entitlement', 'entitlement_id'),
            ('customer_entitlements', 'customer_entitlement', 'entitlement_id'),
            ('products', 'product', 'product_id'),
            ('stock_movements', 'stock_movement', 'stock_movement_id'),
            ('reservations', 'reservation', 'reservation_id'),
            ('orders', 'order', 'order_id'),
            ('payments', 'payment', 'payment_id'),
            ('refunds', 'refund', 'refund_id'),
            ('fulfillments', 'fulfillment', 'fulfillment_id'),
            ('adjustments', 'adjustment', 'adjustment_id')
        ) as roots (table_name, aggregate_type, key)
    loop
        execute format(
            $function$
            create function oltp.%1$I() returns trigger language plpgsql as $body$
            declare
                changed oltp.%2$I := case when tg_op = 'DELETE' then old else new end;
            begin
                if (tg_op = 'INSERT' and new.version <> 1)
                    or (
                        tg_op = 'UPDATE'
                        and (
                            new.version <> old.version + 1
                            or new.%4$I <> old.%4$I
                            or new.merchant_id <> old.merchant_id
                        )
                    )
                then
                    perform oltp.refuse_unless_bypassed(
                        'version_follows', %2$L, format('%3$s %%s: the version does not follow.', changed.%4$I)
                    );
                end if;
                if not exists (
                    select from oltp.outbox
                    where
                        aggregate_type = %3$L
                        and aggregate_id = changed.%4$I::text
                        and aggregate_version = changed.version
                        and merchant_id = changed.merchant_id
                        and xid = pg_current_xact_id()
                )
                then
                    perform oltp.refuse_unless_bypassed(
                        'change_has_event',
                        %2$L,
                        format('%3$s %%s: version %%s has no event of this transaction.', changed.%4$I, changed.version)
                    );
                end if;
                return null;
            end
            $body$
            $function$,
            root.table_name || '_have_events', root.table_name, root.aggregate_type, root.key
        );
        execute format(
            'create constraint trigger %1$I after insert or update or delete on oltp.%2$I '
            'deferrable initially deferred for each row execute function oltp.%1$I()',
            root.table_name || '_have_events', root.table_name
        );
    end loop;
end
$generate$;

-- One function and one deferred trigger per child table: the newest event of its root is of this very transaction (the
-- outbox accepted it only because the root has that version).
do $generate$
declare
    child record;
begin
    for child in
        select * from (values
            ('merchant_tax_rates', 'merchant', 'merchant_id'),
            ('merchant_entitlement_grants', 'merchant_entitlement', 'entitlement_id'),
            ('customer_entitlement_grants', 'customer_entitlement', 'entitlement_id'),
            ('variants', 'product', 'product_id'),
            ('prices', 'product', 'product_id'),
            ('reservation_lines', 'reservation', 'reservation_id'),
            ('order_lines', 'order', 'order_id'),
            ('order_tax_lines', 'order', 'order_id'),
            ('order_discounts', 'order', 'order_id'),
            ('payment_captures', 'payment', 'payment_id'),
            ('refund_lines', 'refund', 'refund_id'),
            ('fulfillment_lines', 'fulfillment', 'fulfillment_id')
        ) as children (table_name, aggregate_type, key)
    loop
        execute format(
            $function$
            create function oltp.%1$I() returns trigger language plpgsql as $body$
            declare
                changed oltp.%2$I := case when tg_op = 'DELETE' then old else new end;
                is_ours boolean;
            begin
                select xid = pg_current_xact_id() and merchant_id = changed.merchant_id
                into is_ours
                from oltp.outbox
                where aggregate_type = %3$L and aggregate_id = changed.%4$I::text
                order by aggregate_version desc
                limit 1;
                if is_ours is not true
                    or (tg_op = 'UPDATE' and (new.%4$I <> old.%4$I or new.merchant_id <> old.merchant_id))
                then
                    perform oltp.refuse_unless_bypassed(
                        'change_has_event',
                        %2$L,
                        format('%3$s %%s: its %2$s changed without an event of this transaction.', changed.%4$I)
                    );
                end if;
                return null;
            end
            $body$
            $function$,
            child.table_name || '_have_events', child.table_name, child.aggregate_type, child.key
        );
        execute format(
            'create constraint trigger %1$I after insert or update or delete on oltp.%2$I '
            'deferrable initially deferred for each row execute function oltp.%1$I()',
            child.table_name || '_have_events', child.table_name
        );
    end loop;
end
$generate$;

-- An event is accepted only once its root has that version: who locks the root and changes it first, and then inserts
-- the event, gives the event the right place in the order. The unique key of the outbox refuses a second event.
create function oltp.outbox_follows_root() returns trigger
language plpgsql as $body$
declare
    root_version bigint;
begin
    case new.aggregate_type
        when 'stock_movement' then
            select version into root_version from oltp.stock_movements
            where stock_movement_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'order' then
            select version into root_version from oltp.orders
            where order_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'reservation' then
            select version into root_version from oltp.reservations
            where reservation_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'payment' then
            select version into root_version from oltp.payments
            where payment_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'fulfillment' then
            select version into root_version from oltp.fulfillments
            where fulfillment_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'refund' then
            select version into root_version from oltp.refunds
            where refund_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'adjustment' then
            select version into root_version from oltp.adjustments
            where adjustment_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'product' then
            select version into root_version from oltp.products
            where product_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'customer_entitlement' then
            select version into root_version from oltp.customer_entitlements
            where entitlement_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'merchant_entitlement' then
            select version into root_version from oltp.merchant_entitlements
            where entitlement_id = new.aggregate_id::uuid and merchant_id = new.merchant_id;
        when 'merchant' then
            select version into root_version from oltp.merchants
            where merchant_id = new.aggregate_id and merchant_id = new.merchant_id;
        else
            perform oltp.refuse(
                'event_follows_root', 'outbox', format('No table holds aggregates of type %s.', new.aggregate_type)
            );
    end case;
    if root_version is distinct from new.aggregate_version then
        perform oltp.refuse_unless_bypassed(
            'event_follows_root',
            'outbox',
            format(
                '%s %s has version %s, not yet the event''s %s: change the root first.',
                new.aggregate_type, new.aggregate_id, coalesce(root_version::text, 'none'), new.aggregate_version
            )
        );
    end if;
    return new;
end
$body$;

create trigger outbox_follows_root before insert on oltp.outbox
for each row execute function oltp.outbox_follows_root();

-- Events are facts: nobody edits one, not even the owner. Deleting is pruning (see the grants).
create function oltp.outbox_is_never_edited() returns trigger
language plpgsql as $body$
begin
    perform oltp.refuse('outbox_is_never_edited', 'outbox', 'Events are never edited; a wrong one is answered by another.');
    return null;
end
$body$;

create trigger outbox_is_never_edited before update on oltp.outbox
for each statement execute function oltp.outbox_is_never_edited();

-- Cuts -----------------------------------------------------------------------------------------------------------------------

-- A cut is the next one, and its snapshot one that was taken here, after its predecessor's and not in the future: what a
-- forged one would see too early or too late, the relay would lose or publish twice. A number that is taken answers as the
-- primary key would, which tells a registrant to start over. Not seen: a snapshot that sees less than it could; its
-- events come with the next cut. No function of ours is called: registrants may execute none.
create function oltp.cuts_follow() returns trigger
language plpgsql as $body$
declare
    here pg_snapshot := pg_current_snapshot();
    previous oltp.cuts;
begin
    select * into previous from oltp.cuts order by cut desc limit 1;
    if new.cut <= previous.cut then
        raise exception using
            errcode = 'unique_violation', schema = 'oltp', table = 'cuts', constraint = 'cuts_pkey',
            message = format('Cut %s is registered already.', new.cut);
    end if;
    if new.cut is distinct from coalesce(previous.cut, 0) + 1
        or pg_snapshot_xmax(new.snapshot) > pg_snapshot_xmax(here)
        or pg_snapshot_xmax(new.snapshot) < pg_snapshot_xmax(previous.snapshot)
        or pg_snapshot_xmin(new.snapshot) < pg_snapshot_xmin(previous.snapshot)
        or exists (select from pg_snapshot_xip(here) as running (xid) where pg_visible_in_snapshot(running.xid, new.snapshot))
    then
        raise exception using
            errcode = 'check_violation', schema = 'oltp', table = 'cuts', constraint = 'cuts_follow',
            message = format('Cut %s does not follow cut %s of this database.', new.cut, coalesce(previous.cut, 0));
    end if;
    return new;
end
$body$;

create trigger cuts_follow before insert on oltp.cuts
for each row execute function oltp.cuts_follow();

-- State machines -----------------------------------------------------------------------------------------------------------------

-- The empty from_status is creation. A test holds these rows equal to oltp/domain/transitions.py.
insert into oltp.allowed_transitions (aggregate_type, from_status, to_status) values
('order', '', 'placed'),
('order', 'placed', 'placed'),
('order', 'placed', 'partially_fulfilled'),
('order', 'placed', 'fulfilled'),
('order', 'placed', 'cancelled'),
('order', 'partially_fulfilled', 'partially_fulfilled'),
('order', 'partially_fulfilled', 'fulfilled'),
('payment', '', 'authorized'),
('payment', '', 'declined'),
('payment', 'authorized', 'captured'),
('payment', 'authorized', 'voided'),
('payment', 'captured', 'captured'),
('refund', '', 'requested'),
('refund', 'requested', 'completed'),
('refund', 'requested', 'failed'),
('reservation', '', 'held'),
('reservation', 'held', 'held'),
('reservation', 'held', 'consumed'),
('reservation', 'held', 'released'),
('reservation', 'held', 'expired');

-- The trigger's one argument is the aggregate type.
create function oltp.status_is_reachable() returns trigger
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
        perform oltp.refuse_unless_bypassed(
            'status_is_reachable',
            tg_table_name,
            format('A %s that is %s cannot become %s.', tg_argv[0], coalesce(nullif(old_status, ''), 'new'), new.status)
        );
    end if;
    return new;
end
$body$;

create trigger orders_status before insert or update on oltp.orders
for each row execute function oltp.status_is_reachable('order');
create trigger payments_status before insert or update on oltp.payments
for each row execute function oltp.status_is_reachable('payment');
create trigger refunds_status before insert or update on oltp.refunds
for each row execute function oltp.status_is_reachable('refund');
create trigger reservations_status before insert or update on oltp.reservations
for each row execute function oltp.status_is_reachable('reservation');

-- Totals equal their parts -----------------------------------------------------------------------------------------------------
-- Checked at commit, once per change of a root: a child cannot change without its root (above).

create function oltp.check_order_lines(checked_order_id uuid) returns void
language plpgsql as $body$
declare
    is_right boolean;
begin
    select
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
        and ord.discount_minor = (
            select coalesce(sum(discount.amount_minor), 0) from oltp.order_discounts as discount
            where discount.order_id = checked_order_id
        )
        and ord.added_tax_minor = coalesce(sum(tax.tax_minor) filter (where not tax.is_tax_inclusive), 0)
        and ord.tax_minor = sum(tax.tax_minor)
        and ord.rounding_micro = sum(line.rounding_micro)
        and ord.total_minor = sum(line.total_minor)
        and ord.cancelled_minor = sum(line.cancelled_minor)
        and ord.cancelled_tax_minor = sum(line.cancelled_tax_minor)
        and ord.status = case
            when sum(line.quantity) = sum(line.cancelled_quantity) then 'cancelled'
            when sum(line.quantity) = sum(line.cancelled_quantity + line.fulfilled_quantity) then 'fulfilled'
            when sum(line.fulfilled_quantity) > 0 then 'partially_fulfilled'
            else 'placed'
        end
    into is_right
    from oltp.orders as ord
    inner join oltp.order_lines as line on ord.order_id = line.order_id
    left join oltp.order_tax_lines as tax on line.order_line_id = tax.order_line_id
    where ord.order_id = checked_order_id
    group by ord.order_id;

    if is_right is not true then
        perform oltp.refuse(
            'order_totals_are_their_lines', 'orders', format('Order %s does not equal the sum of its lines.', checked_order_id)
        );
    end if;
end
$body$;

create function oltp.check_order_fulfillments(checked_order_id uuid) returns void
language plpgsql as $body$
begin
    if exists (
        select from oltp.order_lines as line
        left join (
            select
                shipped.order_line_id,
                sum(shipped.quantity) as quantity
            from oltp.fulfillments
            inner join oltp.fulfillment_lines as shipped using (fulfillment_id)
            where fulfillments.order_id = checked_order_id
            group by shipped.order_line_id
        ) as shipped on line.order_line_id = shipped.order_line_id
        where line.order_id = checked_order_id and line.fulfilled_quantity <> coalesce(shipped.quantity, 0)
    )
    then
        perform oltp.refuse(
            'fulfilled_quantity_is_its_fulfillments',
            'order_lines',
            format('Order %s: a fulfilled quantity is not the sum of its fulfillments.', checked_order_id)
        );
    end if;
end
$body$;

-- Per line: what is refunded (failed refunds apart) and what is cancelled are together no more than the line.
create function oltp.check_order_refunds(checked_order_id uuid) returns void
language plpgsql as $body$
begin
    if exists (
        select from oltp.refunds
        inner join oltp.refund_lines as given using (refund_id)
        inner join oltp.order_lines as line on given.order_line_id = line.order_line_id
        inner join oltp.order_tax_lines as tax on line.order_line_id = tax.order_line_id
        where refunds.order_id = checked_order_id and refunds.status <> 'failed'
        group by line.order_line_id, tax.order_line_id
        having
            line.order_id <> checked_order_id
            or sum(given.quantity) > line.quantity - line.cancelled_quantity
            or sum(given.amount_minor) > line.total_minor - line.cancelled_minor
            or sum(given.tax_minor) > tax.tax_minor - line.cancelled_tax_minor
    )
    then
        perform oltp.refuse(
            'refunds_within_order_line',
            'refund_lines',
            format('Order %s: more would be refunded for a line than was sold and not cancelled.', checked_order_id)
        );
    end if;
end
$body$;

create function oltp.check_payment_captures(checked_payment_id uuid) returns void
language plpgsql as $body$
begin
    if not exists (
        select from oltp.payments
        where
            payment_id = checked_payment_id
            and captured_minor = (
                select coalesce(sum(captures.amount_minor), 0) from oltp.payment_captures as captures
                where captures.payment_id = checked_payment_id
            )
    )
    then
        perform oltp.refuse(
            'captured_is_its_captures',
            'payments',
            format('Payment %s: the captured amount is not the sum of its captures.', checked_payment_id)
        );
    end if;
end
$body$;

-- Per payment: completed refunds are its refunded amount, and requested ones fit beside them into what was captured.
create function oltp.check_payment_refunds(checked_payment_id uuid) returns void
language plpgsql as $body$
declare
    completed_minor bigint;
    requested_minor bigint;
    payment oltp.payments;
begin
    select
        coalesce(sum(amount_minor) filter (where status = 'completed'), 0),
        coalesce(sum(amount_minor) filter (where status = 'requested'), 0)
    into completed_minor, requested_minor
    from oltp.refunds
    where payment_id = checked_payment_id;
    select * into payment from oltp.payments where payment_id = checked_payment_id;
    if payment.refunded_minor <> completed_minor then
        perform oltp.refuse(
            'refunded_is_its_refunds',
            'payments',
            format('Payment %s: the refunded amount is not the sum of its completed refunds.', checked_payment_id)
        );
    elsif completed_minor + requested_minor > payment.captured_minor then
        perform oltp.refuse(
            'refunds_within_captured',
            'refunds',
            format('Payment %s: more would be refunded than was captured.', checked_payment_id)
        );
    end if;
end
$body$;

create function oltp.orders_add_up() returns trigger
language plpgsql as $body$
begin
    perform oltp.check_order_lines(new.order_id);
    if tg_op = 'UPDATE' then
        perform oltp.check_order_fulfillments(new.order_id);
        perform oltp.check_order_refunds(new.order_id);
    end if;
    return null;
end
$body$;

create function oltp.fulfillments_add_up() returns trigger
language plpgsql as $body$
begin
    perform oltp.check_order_fulfillments(new.order_id);
    return null;
end
$body$;

create function oltp.payments_add_up() returns trigger
language plpgsql as $body$
begin
    perform oltp.check_payment_captures(new.payment_id);
    perform oltp.check_payment_refunds(new.payment_id);
    return null;
end
$body$;

-- Two refunds of one order must see each other: both locks are taken here, order first, should a writer not hold them.
create function oltp.refunds_add_up() returns trigger
language plpgsql as $body$
declare
    is_right boolean;
begin
    perform from oltp.orders where order_id = new.order_id for no key update;
    perform from oltp.payments where payment_id = new.payment_id for no key update;
    select new.amount_minor = sum(amount_minor) and new.tax_minor = sum(tax_minor)
    into is_right
    from oltp.refund_lines
    where refund_id = new.refund_id;
    if is_right is not true
        or not exists (select from oltp.payments where payment_id = new.payment_id and order_id = new.order_id)
    then
        perform oltp.refuse(
            'refund_totals_are_its_lines', 'refunds', format('Refund %s does not equal the sum of its lines.', new.refund_id)
        );
    end if;
    perform oltp.check_payment_refunds(new.payment_id);
    perform oltp.check_order_refunds(new.order_id);
    return null;
end
$body$;

create function oltp.reservations_add_up() returns trigger
language plpgsql as $body$
declare
    held bigint;
begin
    select sum(quantity - consumed_quantity - released_quantity) into held
    from oltp.reservation_lines
    where reservation_id = new.reservation_id;
    if held is null or (held > 0) <> (new.status = 'held') then
        perform oltp.refuse(
            'reservation_status_is_its_lines',
            'reservations',
            format('Reservation %s is %s and holds %s units.', new.reservation_id, new.status, coalesce(held, 0))
        );
    end if;
    return null;
end
$body$;

-- Deferred triggers see the last state of the transaction, so only the row's last version needs looking at; a row that
-- changed twice is looked at twice, which costs time and nothing else. Refunds look at new.amount_minor, which never changes.
do $generate$
declare
    root text;
begin
    foreach root in array array['orders', 'fulfillments', 'payments', 'refunds', 'reservations'] loop
        execute format(
            'create constraint trigger %1$I after insert or update on oltp.%2$I '
            'deferrable initially deferred for each row execute function oltp.%1$I()',
            root || '_add_up', root
        );
    end loop;
end
$generate$;
