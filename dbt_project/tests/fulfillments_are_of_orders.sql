-- Fulfillments of this build whose order does not exist.
select
    fulfillments.fulfillment_id,
    fulfillments.order_id,
    fulfillments.pod
from {{ ref('fulfillments') }} as fulfillments
anti join {{ ref('orders') }} using (merchant_id, order_id)
where {{ is_added('cut', 'fulfillments') }}
