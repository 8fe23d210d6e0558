select
    event_id,
    line_number,
    merchant_id,
    currency,
    account,
    amount_micro,
    entry_date,
    event_type,
    aggregate_type,
    aggregate_id,
    version,
    order_id,
    booked_at,
    recorded_at,
    pod,
    cut
from {{ ref('int_journal_entries') }} as facts
where {{ is_booked('facts', 'facts.entry_date') }}
