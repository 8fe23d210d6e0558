-- A discount may name the one line that it is given on. Those from before this revision name none: they were shared out.
alter table oltp.order_discounts add column line_number bigint;
alter table oltp.order_discounts add constraint order_discounts_line_number_positive check (line_number >= 1);

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
        )
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
    where ord.order_id = checked_order_id
    group by ord.order_id;

    if is_right is not true then
        perform oltp.refuse(
            'order_totals_are_their_lines', 'orders', format('Order %s does not equal the sum of its lines.', checked_order_id)
        );
    end if;
end
$body$;
