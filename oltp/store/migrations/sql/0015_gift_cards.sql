-- Gift cards: a payment may be made with one, a refund paid onto one. A card keeps the sums of both and what is left.
create table oltp.gift_cards (
    gift_card_id uuid not null,
    merchant_id text not null,
    version bigint not null,
    currency text not null,
    status text not null,
    funding text not null,
    external_reference text,
    reason text not null,
    source text not null,
    issued_minor bigint not null,
    credited_minor bigint not null,
    redeemed_minor bigint not null,
    expired_minor bigint not null,
    balance_minor bigint not null,
    issued_at timestamp with time zone not null,
    expires_at timestamp with time zone,
    expired_at timestamp with time zone,
    constraint gift_cards_pkey primary key (gift_card_id),
    constraint gift_cards_version_positive check (version >= 1),
    constraint gift_cards_currency_code check (currency ~ '^[A-Z]{3}$'),
    constraint gift_cards_status_known check (status in ('active', 'expired')),
    constraint gift_cards_funding_known check (funding in ('sold', 'granted')),
    constraint gift_cards_issued_minor_positive check (issued_minor > 0),
    constraint gift_cards_credited_minor_not_negative check (credited_minor >= 0),
    constraint gift_cards_redeemed_minor_not_negative check (redeemed_minor >= 0),
    constraint gift_cards_expired_minor_not_negative check (expired_minor >= 0),
    constraint gift_cards_balance_minor_not_negative check (balance_minor >= 0),
    constraint gift_cards_balance_is_its_parts
    check (balance_minor = issued_minor + credited_minor - redeemed_minor - expired_minor),
    constraint gift_cards_expired_has_moment check ((status = 'expired') = (expired_at is not null)),
    constraint gift_cards_expired_has_nothing
    check (case status when 'expired' then balance_minor = 0 else expired_minor = 0 end)
);
create index gift_cards_over_idx on oltp.gift_cards (merchant_id, expires_at) where status = 'active';

alter table oltp.gift_cards add constraint gift_cards_external_reference_limit
check (char_length(external_reference) <= 255 and external_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.gift_cards add constraint gift_cards_reason_limit
check (char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]');
alter table oltp.gift_cards add constraint gift_cards_source_limit
check (char_length(source) <= 100 and source !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.gift_cards add constraint gift_cards_issued_minor_limit
check (issued_minor between -10000000000000000 and 10000000000000000);
alter table oltp.gift_cards add constraint gift_cards_credited_minor_limit
check (credited_minor between -10000000000000000 and 10000000000000000);
alter table oltp.gift_cards add constraint gift_cards_redeemed_minor_limit
check (redeemed_minor between -10000000000000000 and 10000000000000000);
alter table oltp.gift_cards add constraint gift_cards_expired_minor_limit
check (expired_minor between -10000000000000000 and 10000000000000000);
alter table oltp.gift_cards add constraint gift_cards_balance_minor_limit
check (balance_minor between -10000000000000000 and 10000000000000000);
alter table oltp.gift_cards add constraint gift_cards_currency_amount_limit
check (issued_minor + credited_minor <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end); -- noqa: LT05

-- The steps first: declaring the root attaches the guard that holds to them.
insert into oltp.allowed_transitions (aggregate_type, from_status, to_status) values
('gift_card', '', 'active'),
('gift_card', 'active', 'active'),
('gift_card', 'active', 'expired');
select oltp.declare_root('gift_card', 'gift_cards', 'gift_card_id', true);

alter table oltp.payments add column gift_card_id uuid;
alter table oltp.payments add constraint payments_gift_card_id_fkey
foreign key (gift_card_id) references oltp.gift_cards (gift_card_id);
create index payments_gift_card_id_idx on oltp.payments (gift_card_id) where gift_card_id is not null;
alter table oltp.refunds add column gift_card_id uuid;
alter table oltp.refunds add constraint refunds_gift_card_id_fkey
foreign key (gift_card_id) references oltp.gift_cards (gift_card_id);
create index refunds_gift_card_id_idx on oltp.refunds (gift_card_id) where gift_card_id is not null;

-- A card's sums are those of its payments and of the refunds onto it. Checked at commit, of each of the three that
-- changes; payments and refunds of no card are not looked at. The card is locked, so that two of them see each other.
create function oltp.check_gift_card(checked_gift_card_id uuid) returns void
language plpgsql as $body$
declare
    card oltp.gift_cards;
begin
    select * into card from oltp.gift_cards where gift_card_id = checked_gift_card_id for no key update;
    if card.redeemed_minor <> (
        select coalesce(sum(captured_minor), 0) from oltp.payments
        where gift_card_id = checked_gift_card_id and merchant_id = card.merchant_id and currency = card.currency
    )
    or card.credited_minor <> (
        select coalesce(sum(amount_minor), 0) from oltp.refunds
        where
            gift_card_id = checked_gift_card_id and status = 'completed'
            and merchant_id = card.merchant_id and currency = card.currency
    )
    then
        perform oltp.refuse(
            'gift_card_is_its_payments',
            'gift_cards',
            format('Gift card %s does not equal its payments and refunds.', checked_gift_card_id)
        );
    end if;
end
$body$;
revoke all on function oltp.check_gift_card(uuid) from public;
grant execute on function oltp.check_gift_card(uuid) to tieout_app;

create function oltp.gift_cards_add_up() returns trigger
language plpgsql as $body$
begin
    perform oltp.check_gift_card(new.gift_card_id);
    return null;
end
$body$;

create constraint trigger gift_cards_add_up after insert or update on oltp.gift_cards
deferrable initially deferred for each row execute function oltp.gift_cards_add_up();
create constraint trigger payments_of_gift_cards_add_up after insert or update on oltp.payments
deferrable initially deferred for each row when (new.gift_card_id is not null)
execute function oltp.gift_cards_add_up();
create constraint trigger refunds_of_gift_cards_add_up after insert or update on oltp.refunds
deferrable initially deferred for each row when (new.gift_card_id is not null)
execute function oltp.gift_cards_add_up();
