-- A hash per field of the command's body. Null: stored before, or by a caller that does not need it.
alter table oltp.idempotency_keys add column field_hashes json;

-- A customer's page is read from here while its copy is behind.
create index orders_customer_idx on oltp.orders (merchant_id, customer_id) where customer_id is not null;
