-- The check constraints of the tables that every order writes, for less: they refuse what they refused, by the same names.
--
-- PostgreSQL reads the text of every check constraint of a table again for each statement that writes it: some hundred of
-- them in an order were a quarter of its processor time. Here a table has one check constraint, a function of the whole row,
-- whose text a session reads once. It asks a condition that is short and at least as strict as all the constraints; only a
-- row that does not fulfil it is compared with each of them, and refused by the name of the first that it breaks.

-- Replaces the check constraints of a table by `<table>_hold`. `short` implies all of them (oltp/store/tables/gathered.py)
-- for a row named `checked`; `{refused}` in it stands for the characters that names do not have (contracts/limits.py).
-- A pod from before 0009_limits.sql may have fewer constraints: what it has is gathered.
create function oltp.gather_checks(gathered text, short text) returns void
language plpgsql as $gather$
declare
    branches text;
    dropped text;
    refused text := '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'; -- noqa: LT05
begin
    select
        string_agg(format('when (%s) is false then %L', condition, conname), e'\n                ' order by conname),
        string_agg(format('drop constraint %I', conname), ', ' order by conname)
    into branches, dropped
    from (
        select conname, pg_get_expr(conbin, conrelid) as condition from pg_constraint
        where conrelid = format('oltp.%I', gathered)::regclass and contype = 'c'
    ) as each_check;
    if branches is null then
        return;
    end if;
    execute format(
        $function$
        create function oltp.%1$I(checked oltp.%2$I) returns boolean language plpgsql immutable as $body$
        declare
            broken text;
        begin
            if %3$s then
                return true;
            end if;
            select case
                %4$s
            end
            into broken
            from (select (checked).*) as this_row;
            if broken is not null then
                perform oltp.refuse(
                    broken, %2$L, format('A row of %2$s violates the check constraint %%s.', broken)
                );
            end if;
            return true;
        end
        $body$
        $function$,
        gathered || '_hold', gathered, replace(short, '{refused}', quote_literal(refused)), branches
    );
    execute format('revoke all on function oltp.%I(oltp.%I) from public', gathered || '_hold', gathered);
    execute format('grant execute on function oltp.%I(oltp.%I) to tieout_app', gathered || '_hold', gathered);
    execute format(
        'alter table oltp.%1$I %2$s, add constraint %3$I check (oltp.%3$I(%1$I.*))', gathered, dropped, gathered || '_hold'
    );
end
$gather$;
revoke all on function oltp.gather_checks(text, text) from public;
select oltp.gather_checks('orders', $short$
    checked.version >= 1
    and checked.currency ~ '^[A-Z]{3}$'
    and checked.status in ('placed', 'partially_fulfilled', 'fulfilled', 'cancelled')
    and least(checked.lines_minor, checked.shipping_minor, checked.discount_minor, checked.added_tax_minor,
        checked.tax_minor, checked.total_minor, checked.cancelled_minor, checked.cancelled_tax_minor) >= 0
    and greatest(checked.lines_minor, checked.shipping_minor, checked.discount_minor, checked.tax_minor,
        checked.total_minor) <= 500000000000
    and checked.total_minor = checked.lines_minor - checked.discount_minor + checked.added_tax_minor +
        checked.shipping_minor
    and checked.added_tax_minor <= checked.tax_minor
    and checked.cancelled_minor <= checked.total_minor
    and checked.cancelled_tax_minor <= checked.tax_minor
    and checked.rounding_micro between -1000000000000000000 and 1000000000000000000
    and octet_length(checked.order_number) <= 255
    and octet_length(checked.source) <= 100
    and coalesce(octet_length(checked.customer_id), 0) <= 255
    and (checked.order_number || checked.source || coalesce(checked.customer_id, '')) !~ {refused}
$short$);
select oltp.gather_checks('order_lines', $short$
    checked.kind in ('goods', 'service', 'shipping')
    and (checked.kind = 'shipping') = (checked.variant_id is null)
    and least(checked.line_number, checked.quantity) >= 1
    and least(checked.unit_price_micro, checked.amount_minor, checked.discount_minor, checked.total_minor,
        checked.cancelled_quantity, checked.cancelled_minor, checked.cancelled_tax_minor, checked.fulfilled_quantity,
        checked.withdrawn_quantity) >= 0
    and checked.quantity <= 1000000
    and checked.unit_price_micro <= 1000000000000
    and greatest(checked.amount_minor, checked.total_minor, checked.cancelled_tax_minor) <= 10000000000000000
    and checked.discount_minor <= checked.amount_minor
    and checked.cancelled_minor <= checked.total_minor
    and greatest(checked.cancelled_quantity, checked.fulfilled_quantity, checked.withdrawn_quantity) <= 1000000000000
    and checked.fulfilled_quantity + checked.cancelled_quantity + checked.withdrawn_quantity <= checked.quantity
    and checked.rounding_micro between -1000000000000000000 and 1000000000000000000
    and octet_length(checked.sku) <= 255
    and octet_length(checked.title) <= 500
    and octet_length(checked.price_source) <= 109
    and coalesce(octet_length(checked.price_reason), 0) <= 2000
    and (checked.sku || checked.title || checked.price_source || coalesce(checked.price_reason, '')) !~ {refused}
$short$);
select oltp.gather_checks('order_tax_lines', $short$
    least(checked.rate_ppm, checked.taxable_minor, checked.tax_minor) >= 0
    and checked.rate_ppm <= 10000000
    and greatest(checked.taxable_minor, checked.tax_minor) <= 10000000000000000
    and octet_length(checked.jurisdiction) <= 100
    and octet_length(checked.tax_category) <= 100
    and (checked.jurisdiction || checked.tax_category) !~ {refused}
$short$);
select oltp.gather_checks('reservation_lines', $short$
    checked.quantity > 0
    and least(checked.consumed_quantity, checked.released_quantity) >= 0
    and greatest(checked.quantity, checked.consumed_quantity, checked.released_quantity) <= 1000000000000
    and checked.consumed_quantity + checked.released_quantity <= checked.quantity
    and octet_length(checked.location_id) <= 100
    and (checked.location_id) !~ {refused}
$short$);
select oltp.gather_checks('stock_slots', $short$
    least(checked.on_hand, checked.reserved) >= 0
    and checked.reserved <= checked.on_hand
    and checked.slots in (1, 16)
    and checked.slot >= 0
    and checked.slot < checked.slots
    and checked.on_hand <= 1000000000000
    and checked.on_hand * checked.slots <= 1000000000000
    and octet_length(checked.location_id) <= 100
    and (checked.location_id) !~ {refused}
$short$);
select oltp.gather_checks('idempotency_keys', $short$
    octet_length(checked.idempotency_key) <= 255
    and (checked.idempotency_key) !~ {refused}
$short$);
