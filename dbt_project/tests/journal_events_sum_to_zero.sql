-- Events of this build whose entries do not sum to zero.
select
    event_id,
    sum(amount_micro) as difference_micro
from {{ ref('journal') }}
where {{ is_added('cut') }}
group by event_id
having sum(amount_micro) is distinct from 0
