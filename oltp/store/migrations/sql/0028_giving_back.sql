-- The provider is asked to send unallocated money back.
alter table oltp.provider_calls drop constraint provider_calls_kind_known;
alter table oltp.provider_calls add constraint provider_calls_kind_known
check (kind in ('authorize', 'transfer', 'debit', 'capture', 'void', 'refund', 'give_back', 'give_up'));
