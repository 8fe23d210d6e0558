-- Payments whose money comes later. Those from before waited for nothing, and no bank took any back.
alter table read_models.account_payments
add column if not exists method text,
add column if not exists pending_minor bigint not null default 0,
add column if not exists expires_at timestamptz,
add column if not exists returned_minor bigint not null default 0;
