-- A tax category may have several taxes, each of which names where it is owed: a line has then a row for each, beside its
-- tax basis, which holds their sums. Rates, lines, refunds and adjustments from before this revision have one tax, and no
-- such rows.
alter table oltp.merchant_tax_rates add column owed_to text not null default '';
alter table oltp.merchant_tax_rates drop constraint merchant_tax_rates_pkey;
alter table oltp.merchant_tax_rates
add constraint merchant_tax_rates_pkey primary key (merchant_id, jurisdiction, tax_category, owed_to);
alter table oltp.merchant_tax_rates add constraint merchant_tax_rates_owed_to_limit
check (char_length(owed_to) <= 100 and owed_to !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05

create table oltp.order_line_taxes (
    order_line_id uuid not null,
    jurisdiction text not null,
    order_id uuid not null,
    merchant_id text not null,
    rate_ppm bigint not null,
    tax_minor bigint not null,
    cancelled_tax_minor bigint not null,
    constraint order_line_taxes_pkey primary key (order_line_id, jurisdiction),
    constraint order_line_taxes_order_line_id_fkey foreign key (order_line_id) references oltp.order_lines (order_line_id),
    constraint order_line_taxes_rate_ppm_not_negative check (rate_ppm >= 0),
    constraint order_line_taxes_tax_minor_not_negative check (tax_minor >= 0),
    constraint order_line_taxes_cancelled_tax_minor_not_negative check (cancelled_tax_minor >= 0),
    constraint order_line_taxes_cancelled_tax_within_tax check (cancelled_tax_minor <= tax_minor)
);
create index order_line_taxes_order_id_idx on oltp.order_line_taxes (order_id);

create table oltp.refund_line_taxes (
    refund_line_id uuid not null,
    jurisdiction text not null,
    refund_id uuid not null,
    merchant_id text not null,
    tax_minor bigint not null,
    constraint refund_line_taxes_pkey primary key (refund_line_id, jurisdiction),
    constraint refund_line_taxes_refund_line_id_fkey
    foreign key (refund_line_id) references oltp.refund_lines (refund_line_id),
    constraint refund_line_taxes_tax_minor_not_negative check (tax_minor >= 0)
);
create index refund_line_taxes_refund_id_idx on oltp.refund_line_taxes (refund_id);

create table oltp.adjustment_taxes (
    adjustment_id uuid not null,
    jurisdiction text not null,
    merchant_id text not null,
    rate_ppm bigint not null,
    tax_minor bigint not null,
    constraint adjustment_taxes_pkey primary key (adjustment_id, jurisdiction),
    constraint adjustment_taxes_adjustment_id_fkey foreign key (adjustment_id) references oltp.adjustments (adjustment_id),
    constraint adjustment_taxes_rate_ppm_not_negative check (rate_ppm >= 0)
);

alter table oltp.order_line_taxes add constraint order_line_taxes_jurisdiction_limit
check (char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.order_line_taxes add constraint order_line_taxes_rate_ppm_limit
check (rate_ppm between 0 and 10000000);
alter table oltp.order_line_taxes add constraint order_line_taxes_tax_minor_limit
check (tax_minor between -10000000000000000 and 10000000000000000);
alter table oltp.order_line_taxes add constraint order_line_taxes_cancelled_tax_minor_limit
check (cancelled_tax_minor between -10000000000000000 and 10000000000000000);
alter table oltp.refund_line_taxes add constraint refund_line_taxes_jurisdiction_limit
check (char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.refund_line_taxes add constraint refund_line_taxes_tax_minor_limit
check (tax_minor between -10000000000000000 and 10000000000000000);
alter table oltp.adjustment_taxes add constraint adjustment_taxes_jurisdiction_limit
check (char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.adjustment_taxes add constraint adjustment_taxes_rate_ppm_limit
check (rate_ppm between 0 and 10000000);
alter table oltp.adjustment_taxes add constraint adjustment_taxes_tax_minor_limit
check (tax_minor between -10000000000000000 and 10000000000000000);

grant select on oltp.order_line_taxes, oltp.refund_line_taxes, oltp.adjustment_taxes to tieout_app, tieout_reader;
grant insert on oltp.order_line_taxes, oltp.refund_line_taxes, oltp.adjustment_taxes to tieout_app;
grant update on oltp.order_line_taxes to tieout_app;

-- As for every other child table (0001_triggers.sql): no change without an event of its root in this transaction.
do $generate$
declare
    child record;
begin
    for child in
        select * from (values
            ('order_line_taxes', 'order', 'order_id'),
            ('refund_line_taxes', 'refund', 'refund_id'),
            ('adjustment_taxes', 'adjustment', 'adjustment_id')
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

create or replace function oltp.check_order_lines(checked_order_id uuid) returns void
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
            -- Of a line with several taxes: they sum to its tax, its rate, and what is cancelled of its tax.
            and coalesce(several.tax_minor = tax.tax_minor, true)
            and coalesce(several.rate_ppm = tax.rate_ppm, true)
            and coalesce(several.cancelled_tax_minor = line.cancelled_tax_minor, true)
        )
        and (
            select count(distinct order_line_id) from oltp.order_line_taxes
            where order_id = checked_order_id
        ) = count(several.order_line_id)
        and ord.lines_minor = coalesce(sum(line.amount_minor) filter (where line.kind <> 'shipping'), 0)
        and ord.shipping_minor = coalesce(sum(line.amount_minor) filter (where line.kind = 'shipping'), 0)
        and ord.discount_minor = sum(line.discount_minor)
        and ord.discount_minor = (
            select coalesce(sum(discount.amount_minor), 0) from oltp.order_discounts as discount
            where discount.order_id = checked_order_id
        )
        -- A discount that names a line is within what that line was discounted by.
        and not exists (
            select from oltp.order_discounts as discount
            left join oltp.order_lines as named
                on discount.order_id = named.order_id and discount.line_number = named.line_number
            where discount.order_id = checked_order_id and discount.line_number is not null
            group by named.order_line_id
            having sum(discount.amount_minor) > coalesce(max(named.discount_minor), 0)
        )
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
    into is_right
    from oltp.orders as ord
    inner join oltp.order_lines as line on ord.order_id = line.order_id
    left join oltp.order_tax_lines as tax on line.order_line_id = tax.order_line_id
    left join (
        select
            order_line_id,
            sum(rate_ppm) as rate_ppm,
            sum(tax_minor) as tax_minor,
            sum(cancelled_tax_minor) as cancelled_tax_minor
        from oltp.order_line_taxes
        where order_id = checked_order_id
        group by order_line_id
    ) as several on line.order_line_id = several.order_line_id
    where ord.order_id = checked_order_id
    group by ord.order_id;

    if is_right is not true then
        perform oltp.refuse(
            'order_totals_are_their_lines', 'orders', format('Order %s does not equal the sum of its lines.', checked_order_id)
        );
    end if;
end
$body$;

-- Of every refunded line with several taxes: what is given back of each sums to the tax in the refund.
create function oltp.check_refund_taxes(checked_refund_id uuid) returns void
language plpgsql as $body$
begin
    if exists (
        select from oltp.refund_lines as given
        left join (
            select
                refund_line_id,
                sum(tax_minor) as tax_minor
            from oltp.refund_line_taxes
            where refund_id = checked_refund_id
            group by refund_line_id
        ) as several on given.refund_line_id = several.refund_line_id
        where
            given.refund_id = checked_refund_id
            and (
                several.tax_minor <> given.tax_minor
                or (several.tax_minor is not null) <> exists (
                    select from oltp.order_line_taxes as charged where charged.order_line_id = given.order_line_id
                )
            )
    )
    then
        perform oltp.refuse(
            'refund_taxes_are_its_tax',
            'refund_line_taxes',
            format('Refund %s: the taxes of a line do not sum to its tax.', checked_refund_id)
        );
    end if;
end
$body$;

create or replace function oltp.check_order_refunds(checked_order_id uuid) returns void
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
    -- Of a line with several taxes, that holds for each of them.
    or exists (
        select from oltp.order_line_taxes as charged
        inner join oltp.refund_lines as given on charged.order_line_id = given.order_line_id
        inner join oltp.refunds on given.refund_id = refunds.refund_id and refunds.status <> 'failed'
        left join oltp.refund_line_taxes as back
            on given.refund_line_id = back.refund_line_id and charged.jurisdiction = back.jurisdiction
        where charged.order_id = checked_order_id
        group by charged.order_line_id, charged.jurisdiction
        having sum(back.tax_minor) > charged.tax_minor - charged.cancelled_tax_minor
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

-- As before, and the taxes of its lines.
create or replace function oltp.refunds_add_up() returns trigger
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
    perform oltp.check_refund_taxes(new.refund_id);
    return null;
end
$body$;

create function oltp.adjustments_add_up() returns trigger
language plpgsql as $body$
begin
    if exists (
        select from oltp.adjustment_taxes
        where adjustment_id = new.adjustment_id
        having count(*) > 0 and (sum(tax_minor) <> new.tax_minor or sum(rate_ppm) is distinct from new.rate_ppm)
    )
    then
        perform oltp.refuse(
            'adjustment_taxes_are_its_tax',
            'adjustment_taxes',
            format('Adjustment %s: its taxes do not sum to its tax.', new.adjustment_id)
        );
    end if;
    return null;
end
$body$;

create constraint trigger adjustments_add_up after insert or update on oltp.adjustments
deferrable initially deferred for each row execute function oltp.adjustments_add_up();

grant execute on function oltp.check_refund_taxes(uuid) to tieout_app;
