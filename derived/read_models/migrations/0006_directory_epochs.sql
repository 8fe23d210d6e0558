-- The epoch of the directory since which an aggregate's merchant lives in the pod of its newest event. Every write
-- compares (directory_epoch, version): if two pods wrote the same version, the row of the higher epoch stays.
alter table read_models.account_orders
add column if not exists directory_epoch bigint not null default 1;
alter table read_models.account_payments
add column if not exists directory_epoch bigint not null default 1;
alter table read_models.account_refunds
add column if not exists directory_epoch bigint not null default 1;
alter table read_models.account_entitlements
add column if not exists directory_epoch bigint not null default 1;
alter table read_models.fulfillment_orders
add column if not exists directory_epoch bigint not null default 1;
alter table read_models.fulfillment_reservations
add column if not exists directory_epoch bigint not null default 1;
