-- Since which epoch of the directory the event's merchant lived in the pod, as its command found it in oltp.residents.
-- A merchant that moves takes a higher one to its new pod: of two versions of an aggregate, from two pods, the newer one
-- is that with the higher (directory_epoch, aggregate_version). The default is what all events before this were.
alter table oltp.outbox
add column directory_epoch bigint not null default 1,
add constraint outbox_directory_epoch_positive check (directory_epoch >= 1);
grant insert (directory_epoch) on oltp.outbox to tieout_app;
