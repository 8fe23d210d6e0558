-- Since which epoch of the directory an aggregate's merchant lives in the pod of its newest event. (directory_epoch,
-- version) guards every write: of one version from two pods, that of the higher epoch stands.
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
