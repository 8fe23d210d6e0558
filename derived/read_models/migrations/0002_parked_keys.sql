-- Parked events are found by their own id: the key of an aggregate may be too long for an index, and such an event is
-- parked for that very reason. (0001 creates the table so; this is for databases that had it before.)

alter table read_models.parked_events drop constraint if exists parked_events_pkey;
alter table read_models.parked_events add constraint parked_events_pkey primary key (projection, pod, event_id);
