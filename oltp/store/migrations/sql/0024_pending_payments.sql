-- Payments whose money comes days later, by bank transfer or direct debit: how long it is waited for, what came and nothing
-- waited for, and what banks took back. How long merchants wait, and whether they ship before.
alter table oltp.merchants add column bank_transfer_days bigint not null default 7;
alter table oltp.merchants alter column bank_transfer_days drop default;
alter table oltp.merchants add column direct_debit_days bigint not null default 14;
alter table oltp.merchants alter column direct_debit_days drop default;
alter table oltp.merchants add column ships_before_paid boolean not null default false;
alter table oltp.merchants alter column ships_before_paid drop default;
alter table oltp.merchants add constraint merchants_waits_a_day
check (least(bank_transfer_days, direct_debit_days) >= 1);
alter table oltp.merchants add constraint merchants_bank_transfer_days_limit
check (bank_transfer_days between 0 and 60);
alter table oltp.merchants add constraint merchants_direct_debit_days_limit
check (direct_debit_days between 0 and 60);

alter table oltp.payments add column method text;
alter table oltp.payments add column expires_at timestamp with time zone;
alter table oltp.payments add column pay_to text;
alter table oltp.payments add column failure_reason text;
alter table oltp.payments add column returned_minor bigint not null default 0;
alter table oltp.payments alter column returned_minor drop default;
alter table oltp.payments add column return_fee_minor bigint not null default 0;
alter table oltp.payments alter column return_fee_minor drop default;
alter table oltp.payments add column unallocated_minor bigint not null default 0;
alter table oltp.payments alter column unallocated_minor drop default;
alter table oltp.payments add constraint payments_returned_minor_not_negative check (returned_minor >= 0);
alter table oltp.payments add constraint payments_return_fee_minor_not_negative check (return_fee_minor >= 0);
alter table oltp.payments add constraint payments_unallocated_minor_not_negative check (unallocated_minor >= 0);
alter table oltp.payments add constraint payments_pay_to_limit
check (char_length(pay_to) <= 255 and pay_to !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.payments add constraint payments_failure_reason_limit
check (char_length(failure_reason) <= 2000 and failure_reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'); -- noqa: LT05
alter table oltp.payments add constraint payments_returned_minor_limit
check (returned_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payments add constraint payments_return_fee_minor_limit
check (return_fee_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payments add constraint payments_unallocated_minor_limit
check (unallocated_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payments drop constraint payments_currency_amount_limit;
alter table oltp.payments add constraint payments_currency_amount_limit
check (greatest(authorized_minor, unallocated_minor) <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end); -- noqa: LT05
alter table oltp.payments drop constraint payments_status_known;
alter table oltp.payments add constraint payments_status_known
check (status in ('authorized', 'declined', 'captured', 'voided', 'pending', 'failed'));
alter table oltp.payments add constraint payments_method_known check (method in ('bank_transfer', 'direct_debit'));
alter table oltp.payments drop constraint payments_disputed_within_captured;
alter table oltp.payments add constraint payments_disputed_within_captured
check (disputed_minor + charged_back_minor + returned_minor <= captured_minor);
alter table oltp.payments add constraint payments_pending_has_end check (status <> 'pending' or expires_at is not null);
alter table oltp.payments add constraint payments_waits_for_something check (
    expires_at is null
    or (
        method is not null and status in ('pending', 'captured') and captured_minor + released_minor < authorized_minor
    )
);
alter table oltp.payments add constraint payments_later_money_has_method check (
    method is not null or (returned_minor = 0 and return_fee_minor = 0 and unallocated_minor = 0 and pay_to is null)
);
alter table oltp.payments add constraint payments_failed_has_reason
check ((status = 'failed') = (failure_reason is not null));
create index payments_over_idx on oltp.payments (merchant_id, expires_at) where expires_at is not null;

create table oltp.payment_movements (
    payment_movement_id uuid not null,
    payment_id uuid not null,
    merchant_id text not null,
    kind text not null,
    provider_reference text not null,
    amount_minor bigint not null,
    fee_minor bigint not null,
    reason text not null,
    moved_at timestamp with time zone not null,
    constraint payment_movements_pkey primary key (payment_movement_id),
    constraint payment_movements_payment_id_fkey foreign key (payment_id) references oltp.payments (payment_id),
    constraint payment_movements_payment_id_kind_provider_reference_key unique (payment_id, kind, provider_reference),
    constraint payment_movements_kind_known check (kind in ('returned', 'unallocated', 'given_back')),
    constraint payment_movements_fee_minor_not_negative check (fee_minor >= 0),
    constraint payment_movements_amount_minor_positive check (amount_minor > 0)
);
alter table oltp.payment_movements add constraint payment_movements_provider_reference_limit
check (char_length(provider_reference) <= 255 and provider_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.payment_movements add constraint payment_movements_amount_minor_limit
check (amount_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payment_movements add constraint payment_movements_fee_minor_limit
check (fee_minor between -10000000000000000 and 10000000000000000);
alter table oltp.payment_movements add constraint payment_movements_reason_limit
check (char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]');

select oltp.declare_child('payment', 'payment_movements', 'payment_id', false);

-- What movements did to a payment is what it says. Checked at commit, as its captures are.
create function oltp.payment_movements_add_up() returns trigger
language plpgsql as $body$
declare
    payment oltp.payments;
begin
    select * into payment from oltp.payments where payment_id = new.payment_id;
    if (payment.returned_minor, payment.return_fee_minor, payment.unallocated_minor) <> (
        select
            coalesce(sum(amount_minor) filter (where kind = 'returned'), 0)::bigint,
            coalesce(sum(fee_minor), 0)::bigint,
            coalesce(
                sum(case kind when 'unallocated' then amount_minor when 'given_back' then -amount_minor else 0 end), 0
            )::bigint
        from oltp.payment_movements where payment_id = new.payment_id
    )
    then
        perform oltp.refuse(
            'payment_is_its_movements',
            'payments',
            format('Payment %s does not equal its movements.', new.payment_id)
        );
    end if;
    return null;
end
$body$;
create constraint trigger payment_movements_add_up after insert or update on oltp.payment_movements
deferrable initially deferred for each row execute function oltp.payment_movements_add_up();
create constraint trigger payments_agree_with_movements after update on oltp.payments
deferrable initially deferred for each row
when (
    new.returned_minor <> old.returned_minor or new.return_fee_minor <> old.return_fee_minor
    or new.unallocated_minor <> old.unallocated_minor
)
execute function oltp.payment_movements_add_up();

alter table oltp.provider_calls drop constraint provider_calls_kind_known;
alter table oltp.provider_calls add constraint provider_calls_kind_known
check (kind in ('authorize', 'transfer', 'debit', 'capture', 'void', 'refund', 'give_up'));
drop index oltp.provider_calls_authorized_payment_idx;
-- One new payment at a time may become a payment of this id.
create unique index provider_calls_authorized_payment_idx on oltp.provider_calls (payment_id)
where kind in ('authorize', 'transfer', 'debit', 'give_up');

insert into oltp.allowed_transitions (aggregate_type, from_status, to_status) values
('payment', '', 'pending'),
('payment', 'pending', 'pending'),
('payment', 'pending', 'captured'),
('payment', 'pending', 'voided'),
('payment', 'pending', 'failed'),
('payment', 'declined', 'declined'),
('payment', 'voided', 'voided'),
('payment', 'failed', 'failed');
