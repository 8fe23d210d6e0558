-- Events that a person decided to pass over for good, because the view cannot apply them and nothing will mend that. A
-- rebuild from the lake leaves them out, too: else it would park them again. Rows are never changed.
create table if not exists read_models.skipped_events (
    projection text not null,
    pod text not null,
    aggregate_key text not null,
    event_id text not null,
    cut bigint not null,
    event text not null,
    error text not null,
    reason text not null check (reason <> ''),
    skipped_by text not null check (skipped_by <> ''),
    skipped_at timestamptz not null default now(),
    primary key (projection, pod, event_id)
);
comment on table read_models.skipped_events is 'Parked events that somebody decided to pass over, who, when and why.';
