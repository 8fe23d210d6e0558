-- Indexes for comparisons. A comparison of what changed reads the rows with given ids, and those in ranges of ids, of
-- all merchants together; ranges are ordered by bytes. With these indexes its cost follows the ids, not the tables.

create index if not exists account_orders_compared on read_models.account_orders (order_id collate "C");
create index if not exists account_payments_compared on read_models.account_payments (payment_id collate "C");
create index if not exists account_refunds_compared on read_models.account_refunds (refund_id collate "C");
create index if not exists account_entitlements_compared
on read_models.account_entitlements (entitlement_id collate "C");

create index if not exists fulfillment_orders_compared on read_models.fulfillment_orders (order_id collate "C");
create index if not exists fulfillment_lines_compared on read_models.fulfillment_lines (order_id collate "C");
create index if not exists fulfillment_reservations_compared
on read_models.fulfillment_reservations (reservation_id collate "C");
create index if not exists fulfillment_reservation_lines_compared
on read_models.fulfillment_reservation_lines (reservation_id collate "C");

create index if not exists sales_orders_compared on read_models.sales_orders (order_id collate "C");
create index if not exists sales_payments_compared on read_models.sales_payments (payment_id collate "C");
create index if not exists sales_captures_compared on read_models.sales_captures (payment_id collate "C");
create index if not exists sales_refunds_compared on read_models.sales_refunds (refund_id collate "C");

-- A sum is also compared by its own id. If the sum is lost, only the rows of its group tell that it must be there.
create index if not exists merchant_sales_days_compared on read_models.merchant_sales_days (sales_day_id collate "C");
create index if not exists sales_orders_summed
on read_models.sales_orders ((md5(merchant_id || '/' || day || '/' || currency)::uuid::text) collate "C");
create index if not exists sales_captures_summed
on read_models.sales_captures ((md5(merchant_id || '/' || day || '/' || currency)::uuid::text) collate "C");
create index if not exists sales_refunds_summed
on read_models.sales_refunds ((md5(merchant_id || '/' || day || '/' || currency)::uuid::text) collate "C");
