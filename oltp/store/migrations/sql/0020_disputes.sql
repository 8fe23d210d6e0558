-- Disputes about a payment: the provider holds what is disputed, keeps a fee, and gives the rest back or not.
alter table oltp.payments add column disputed_minor bigint not null default 0;
alter table oltp.payments alter column disputed_minor drop default;
alter table oltp.payments add column charged_back_minor bigint not null default 0;
alter table oltp.payments alter column charged_back_minor drop default;
alter table oltp.payments add column dispute_fee_minor bigint not null default 0;
alter table oltp.payments alter column dispute_fee_minor drop default;
alter table oltp.payments add constraint payments_disputed_minor_not_negative check (disputed_minor >= 0);
alter table oltp.payments add constraint payments_charged_back_minor_not_negative check (charged_back_minor >= 0);
alter table oltp.payments add constraint payments_dispute_fee_minor_not_negative check (dispute_fee_minor >= 0);
alter table oltp.payments add constraint payments_disputed_within_captured
check (disputed_minor + charged_back_minor <= captured_minor);
alter table oltp.payments add constraint payments_disputed_minor_limit
check (disputed_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payments add constraint payments_charged_back_minor_limit
check (charged_back_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payments add constraint payments_dispute_fee_minor_limit
check (dispute_fee_minor between -10000000000000000 and 10000000000000000);

create table oltp.payment_disputes (
    payment_dispute_id uuid not null,
    payment_id uuid not null,
    merchant_id text not null,
    provider_reference text not null,
    status text not null,
    amount_minor bigint not null,
    fee_minor bigint not null,
    reason text not null,
    opened_at timestamp with time zone not null,
    ended_at timestamp with time zone,
    constraint payment_disputes_pkey primary key (payment_dispute_id),
    constraint payment_disputes_payment_id_fkey foreign key (payment_id) references oltp.payments (payment_id),
    constraint payment_disputes_payment_id_provider_reference_key unique (payment_id, provider_reference),
    constraint payment_disputes_status_known check (status in ('opened', 'won', 'lost')),
    constraint payment_disputes_fee_minor_not_negative check (fee_minor >= 0),
    constraint payment_disputes_amount_minor_positive check (amount_minor > 0),
    constraint payment_disputes_ended_has_moment check ((status = 'opened') = (ended_at is null))
);
alter table oltp.payment_disputes add constraint payment_disputes_provider_reference_limit
check (char_length(provider_reference) <= 255 and provider_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.payment_disputes add constraint payment_disputes_reason_limit
check (char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]');
alter table oltp.payment_disputes add constraint payment_disputes_amount_minor_limit
check (amount_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payment_disputes add constraint payment_disputes_fee_minor_limit
check (fee_minor between -10000000000000000 and 10000000000000000);

select oltp.declare_child('payment', 'payment_disputes', 'payment_id', true);

-- What disputes have of a payment is what its disputes say. Checked at commit, as its captures are.
create function oltp.payment_disputes_add_up() returns trigger
language plpgsql as $body$
declare
    payment oltp.payments;
begin
    select * into payment from oltp.payments where payment_id = new.payment_id;
    if (payment.disputed_minor, payment.charged_back_minor, payment.dispute_fee_minor) <> (
        select
            coalesce(sum(amount_minor) filter (where status = 'opened'), 0)::bigint,
            coalesce(sum(amount_minor) filter (where status = 'lost'), 0)::bigint,
            coalesce(sum(fee_minor), 0)::bigint
        from oltp.payment_disputes where payment_id = new.payment_id
    )
    then
        perform oltp.refuse(
            'payment_is_its_disputes',
            'payments',
            format('Payment %s does not equal its disputes.', new.payment_id)
        );
    end if;
    return null;
end
$body$;
create constraint trigger payment_disputes_add_up after insert or update on oltp.payment_disputes
deferrable initially deferred for each row execute function oltp.payment_disputes_add_up();
create constraint trigger payments_agree_with_disputes after update on oltp.payments
deferrable initially deferred for each row
when (
    new.disputed_minor <> old.disputed_minor or new.charged_back_minor <> old.charged_back_minor
    or new.dispute_fee_minor <> old.dispute_fee_minor
)
execute function oltp.payment_disputes_add_up();
