-- When a refund failed. Of those that failed before, nobody had kept it.
alter table read_models.account_refunds
add column if not exists failed_at timestamptz;
