-- A completed refund may fail: the money came back to the provider. Both moments are kept, because each has its day in the
-- books. Refunds that failed before this revision had never been completed, and when they failed is not known here.
alter table oltp.refunds add column failed_at timestamp with time zone;
alter table oltp.refunds drop constraint refunds_completed_has_moment;
alter table oltp.refunds add constraint refunds_completed_has_moment check (
    case status
        when 'requested' then completed_at is null
        when 'completed' then completed_at is not null
        else completed_at is null or failed_at is not null
    end
);
alter table oltp.refunds add constraint refunds_failed_has_moment check (failed_at is null or status = 'failed');
alter table oltp.refunds add constraint refunds_failed_after_completed check (failed_at >= completed_at);
-- What was paid onto a gift card is on it; no provider can send it back.
alter table oltp.refunds add constraint refunds_gift_card_keeps_it
check (gift_card_id is null or completed_at is null or failed_at is null);

insert into oltp.allowed_transitions (aggregate_type, from_status, to_status) values
('refund', 'completed', 'failed');
