-- Whether the amount of a refund's line was asked for as such. Lines from before this revision count as what their units
-- cost, as they were computed with.
alter table oltp.refund_lines add column is_amount_named boolean not null default false;
alter table oltp.refund_lines alter column is_amount_named drop default;
