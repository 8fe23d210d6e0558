-- Who may do what in a pod, by least privilege. The roles exist before (`stack/servers/bootstrap.py`, or a DBA).

revoke all on all tables in schema oltp from public;
revoke all on all functions in schema oltp from public;
grant usage on schema oltp to tieout_app, tieout_relay, tieout_reader;

-- Commands: everything is read; rows that happen once are inserted only; the rest is inserted and updated. Nothing is
-- deleted but the tax rates that a new configuration replaces.
grant select on all tables in schema oltp to tieout_app;
grant insert on
oltp.merchants,
oltp.residents,
oltp.merchant_tax_rates,
oltp.merchant_entitlements,
oltp.merchant_entitlement_grants,
oltp.customer_entitlements,
oltp.customer_entitlement_grants,
oltp.products,
oltp.variants,
oltp.prices,
oltp.stock_levels,
oltp.stock_movements,
oltp.reservations,
oltp.reservation_lines,
oltp.orders,
oltp.order_lines,
oltp.order_tax_lines,
oltp.order_discounts,
oltp.payments,
oltp.payment_captures,
oltp.refunds,
oltp.refund_lines,
oltp.fulfillments,
oltp.fulfillment_lines,
oltp.adjustments,
oltp.idempotency_keys
to tieout_app;
grant update on
oltp.merchants,
oltp.merchant_tax_rates,
oltp.merchant_entitlements,
oltp.merchant_entitlement_grants,
oltp.customer_entitlements,
oltp.customer_entitlement_grants,
oltp.products,
oltp.variants,
oltp.prices,
oltp.stock_levels,
oltp.reservations,
oltp.reservation_lines,
oltp.orders,
oltp.order_lines,
oltp.payments,
oltp.refunds,
oltp.idempotency_keys
to tieout_app;
grant delete on oltp.merchant_tax_rates to tieout_app;

-- Never xid, position or recorded_at: they say where an event stands, and that is not the writer's to say.
grant insert (
    event_id,
    merchant_id,
    aggregate_type,
    aggregate_id,
    aggregate_version,
    event_type,
    schema_version,
    occurred_at,
    causation_id,
    correlation_id,
    traceparent,
    payload
) on oltp.outbox to tieout_app;

-- Triggers run with the rights of who writes.
grant execute on function
oltp.refuse(text, text, text),
oltp.is_bypassed(),
oltp.refuse_unless_bypassed(text, text, text),
oltp.check_order_lines(uuid),
oltp.check_order_fulfillments(uuid),
oltp.check_order_refunds(uuid),
oltp.check_payment_captures(uuid),
oltp.check_payment_refunds(uuid),
oltp.move_stock(text, text, uuid[], bigint[], bigint[])
to tieout_app;

-- Relay: reads what it publishes, registers cuts, prunes what the lake has.
grant select on oltp.outbox, oltp.cuts to tieout_relay;
grant insert, delete on oltp.cuts to tieout_relay;
grant delete on oltp.outbox to tieout_relay;

-- Comparison: reads everything, registers the cuts it compares at.
grant select on all tables in schema oltp to tieout_reader;
grant insert on oltp.cuts to tieout_reader;
