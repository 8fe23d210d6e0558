{{ history(ref('stg_oltp__reservations'), 'reservation_id') }}
