-- The epochs that a person has opened (`tieout open-epoch`): from which cut on the cuts are those of this database.
create table oltp.epochs (
    number bigint generated always as identity (cache 1),
    epoch text not null,
    base_cut bigint not null,
    base_epoch text,
    opened_at timestamp with time zone default clock_timestamp() not null,
    opened_by text not null,
    completed_at timestamp with time zone,
    constraint epochs_pkey primary key (number),
    constraint epochs_epoch_key unique (epoch),
    constraint epochs_base_cut_not_negative check (base_cut >= 0),
    constraint epochs_base_epoch_known check ((base_cut = 0) = (base_epoch is null))
);

-- Who registers cuts must know the epoch; opening one is done under the relay's lock, with the relay's role. What was
-- recorded stays: only that an opening was completed is written afterwards.
grant select on oltp.epochs to tieout_app, tieout_relay, tieout_reader;
grant insert on oltp.epochs to tieout_relay;
grant update (completed_at) on oltp.epochs to tieout_relay;
