-- What of a captured payment's authorization was let go: it is neither captured nor set aside, and may be authorized again.
alter table oltp.payments add column released_minor bigint not null default 0;
alter table oltp.payments alter column released_minor drop default;
alter table oltp.payments add constraint payments_released_minor_not_negative check (released_minor >= 0);
alter table oltp.payments add constraint payments_released_has_status check (released_minor = 0 or status = 'captured');
alter table oltp.payments drop constraint payments_captured_within_authorized;
alter table oltp.payments add constraint payments_captured_within_authorized
check (captured_minor + released_minor <= authorized_minor);
