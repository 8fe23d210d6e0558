-- Tables, indexes and foreign keys of a pod as of revision 0001; a test holds them equal to oltp/store/tables.

CREATE TABLE oltp.outbox (
    position BIGINT GENERATED ALWAYS AS IDENTITY (CACHE 1),
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    event_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    aggregate_version BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    causation_id UUID,
    correlation_id UUID NOT NULL,
    traceparent TEXT,
    payload JSON NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (position),
    CONSTRAINT outbox_aggregate_type_aggregate_id_aggregate_version_key UNIQUE (aggregate_type, aggregate_id, aggregate_version),
    CONSTRAINT outbox_event_id_key UNIQUE (event_id),
    CONSTRAINT outbox_version_positive CHECK (aggregate_version >= 1)
);
CREATE INDEX outbox_xid_idx ON oltp.outbox (xid);

CREATE TABLE oltp.cuts (
    cut BIGINT NOT NULL,
    snapshot pg_snapshot NOT NULL,
    epoch TEXT NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    registered_by TEXT NOT NULL,
    partition_function TEXT NOT NULL,
    partition_count INTEGER NOT NULL,
    chunk_rows INTEGER NOT NULL,
    codec TEXT NOT NULL,
    CONSTRAINT cuts_pkey PRIMARY KEY (cut),
    CONSTRAINT cuts_cut_positive CHECK (cut >= 1),
    CONSTRAINT cuts_partition_count_positive CHECK (partition_count >= 1),
    CONSTRAINT cuts_chunk_rows_positive CHECK (chunk_rows >= 1)
);

CREATE TABLE oltp.idempotency_keys (
    merchant_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    command TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    response JSON,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (merchant_id, idempotency_key)
);

CREATE TABLE oltp.allowed_transitions (
    aggregate_type TEXT NOT NULL,
    from_status TEXT NOT NULL,
    to_status TEXT NOT NULL,
    CONSTRAINT allowed_transitions_pkey PRIMARY KEY (aggregate_type, from_status, to_status)
);

CREATE TABLE oltp.bypasses (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    reason TEXT NOT NULL,
    role_name TEXT DEFAULT current_user NOT NULL,
    declared_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT bypasses_pkey PRIMARY KEY (xid)
);

CREATE TABLE oltp.merchants (
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    name TEXT NOT NULL,
    currency TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    is_tax_inclusive BOOLEAN NOT NULL,
    jurisdiction TEXT NOT NULL,
    shipping_fee_minor BIGINT NOT NULL,
    free_shipping_from_minor BIGINT,
    registered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT merchants_pkey PRIMARY KEY (merchant_id),
    CONSTRAINT merchants_version_positive CHECK (version >= 1),
    CONSTRAINT merchants_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT merchants_shipping_fee_minor_not_negative CHECK (shipping_fee_minor >= 0),
    CONSTRAINT merchants_free_shipping_from_minor_not_negative CHECK (free_shipping_from_minor >= 0)
);

CREATE TABLE oltp.customer_entitlements (
    entitlement_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    customer_id TEXT NOT NULL,
    feature TEXT NOT NULL,
    effective_level BIGINT NOT NULL,
    effective_grant_id UUID,
    CONSTRAINT customer_entitlements_pkey PRIMARY KEY (entitlement_id),
    CONSTRAINT customer_entitlements_version_positive CHECK (version >= 1),
    CONSTRAINT customer_entitlements_effective_level_not_negative CHECK (effective_level >= 0),
    CONSTRAINT customer_entitlements_merchant_id_customer_id_feature_key UNIQUE (merchant_id, customer_id, feature)
);

CREATE TABLE oltp.adjustments (
    adjustment_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    rounding_micro BIGINT NOT NULL,
    quantity BIGINT NOT NULL,
    sku TEXT,
    customer_id TEXT,
    external_reference TEXT,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    adjusted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT adjustments_pkey PRIMARY KEY (adjustment_id),
    CONSTRAINT adjustments_happens_once CHECK (version = 1),
    CONSTRAINT adjustments_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT adjustments_kind_known CHECK (kind in ('bad_debt', 'unreferenced_return', 'fee', 'discount', 'manual'))
);

CREATE TABLE oltp.stock_movements (
    stock_movement_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    variant_id UUID NOT NULL,
    location_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    reason TEXT NOT NULL,
    order_id UUID,
    moved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT stock_movements_pkey PRIMARY KEY (stock_movement_id),
    CONSTRAINT stock_movements_happens_once CHECK (version = 1),
    CONSTRAINT stock_movements_kind_known CHECK (kind in ('received', 'adjusted', 'written_off', 'shipped', 'returned')),
    CONSTRAINT stock_movements_quantity_sign CHECK (case when kind in ('received', 'returned') then quantity > 0 when kind in ('shipped', 'written_off') then quantity < 0 else quantity <> 0 end)
);

CREATE TABLE oltp.reservations (
    reservation_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    order_id UUID,
    status TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT reservations_pkey PRIMARY KEY (reservation_id),
    CONSTRAINT reservations_version_positive CHECK (version >= 1),
    CONSTRAINT reservations_status_known CHECK (status in ('held', 'consumed', 'released', 'expired'))
);
CREATE INDEX reservations_expiring_idx ON oltp.reservations (merchant_id, expires_at) WHERE status = 'held' and expires_at is not null;
CREATE INDEX reservations_order_id_idx ON oltp.reservations (order_id);

CREATE TABLE oltp.products (
    product_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    tax_category TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    CONSTRAINT products_pkey PRIMARY KEY (product_id),
    CONSTRAINT products_version_positive CHECK (version >= 1),
    CONSTRAINT products_kind_known CHECK (kind in ('goods', 'service')),
    CONSTRAINT products_merchant_id_fkey FOREIGN KEY(merchant_id) REFERENCES oltp.merchants (merchant_id)
);

CREATE TABLE oltp.residents (
    merchant_id TEXT NOT NULL,
    directory_epoch BIGINT NOT NULL,
    CONSTRAINT residents_pkey PRIMARY KEY (merchant_id),
    CONSTRAINT residents_directory_epoch_positive CHECK (directory_epoch >= 1),
    CONSTRAINT residents_merchant_id_fkey FOREIGN KEY(merchant_id) REFERENCES oltp.merchants (merchant_id)
);

CREATE TABLE oltp.merchant_tax_rates (
    merchant_id TEXT NOT NULL,
    jurisdiction TEXT NOT NULL,
    tax_category TEXT NOT NULL,
    rate_ppm BIGINT NOT NULL,
    CONSTRAINT merchant_tax_rates_pkey PRIMARY KEY (merchant_id, jurisdiction, tax_category),
    CONSTRAINT merchant_tax_rates_rate_ppm_not_negative CHECK (rate_ppm >= 0),
    CONSTRAINT merchant_tax_rates_merchant_id_fkey FOREIGN KEY(merchant_id) REFERENCES oltp.merchants (merchant_id)
);

CREATE TABLE oltp.merchant_entitlements (
    entitlement_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    feature TEXT NOT NULL,
    effective_level BIGINT NOT NULL,
    effective_grant_id UUID,
    CONSTRAINT merchant_entitlements_pkey PRIMARY KEY (entitlement_id),
    CONSTRAINT merchant_entitlements_version_positive CHECK (version >= 1),
    CONSTRAINT merchant_entitlements_effective_level_not_negative CHECK (effective_level >= 0),
    CONSTRAINT merchant_entitlements_merchant_id_feature_key UNIQUE (merchant_id, feature),
    CONSTRAINT merchant_entitlements_merchant_id_fkey FOREIGN KEY(merchant_id) REFERENCES oltp.merchants (merchant_id)
);

CREATE TABLE oltp.customer_entitlement_grants (
    grant_id UUID NOT NULL,
    entitlement_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    grantor TEXT NOT NULL,
    level BIGINT NOT NULL,
    granted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT customer_entitlement_grants_pkey PRIMARY KEY (grant_id),
    CONSTRAINT customer_entitlement_grants_level_positive CHECK (level >= 1),
    CONSTRAINT customer_entitlement_grants_entitlement_id_fkey FOREIGN KEY(entitlement_id) REFERENCES oltp.customer_entitlements (entitlement_id)
);
CREATE INDEX customer_entitlement_grants_entitlement_id_idx ON oltp.customer_entitlement_grants (entitlement_id);

CREATE TABLE oltp.orders (
    order_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    order_number TEXT NOT NULL,
    customer_id TEXT,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    source TEXT NOT NULL,
    reservation_id UUID,
    lines_minor BIGINT NOT NULL,
    shipping_minor BIGINT NOT NULL,
    discount_minor BIGINT NOT NULL,
    added_tax_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    rounding_micro BIGINT NOT NULL,
    total_minor BIGINT NOT NULL,
    cancelled_minor BIGINT NOT NULL,
    cancelled_tax_minor BIGINT NOT NULL,
    placed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (order_id),
    CONSTRAINT orders_version_positive CHECK (version >= 1),
    CONSTRAINT orders_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT orders_status_known CHECK (status in ('placed', 'partially_fulfilled', 'fulfilled', 'cancelled')),
    CONSTRAINT orders_merchant_id_order_number_key UNIQUE (merchant_id, order_number),
    CONSTRAINT orders_lines_minor_not_negative CHECK (lines_minor >= 0),
    CONSTRAINT orders_shipping_minor_not_negative CHECK (shipping_minor >= 0),
    CONSTRAINT orders_discount_minor_not_negative CHECK (discount_minor >= 0),
    CONSTRAINT orders_added_tax_minor_not_negative CHECK (added_tax_minor >= 0),
    CONSTRAINT orders_tax_minor_not_negative CHECK (tax_minor >= 0),
    CONSTRAINT orders_total_minor_not_negative CHECK (total_minor >= 0),
    CONSTRAINT orders_cancelled_minor_not_negative CHECK (cancelled_minor >= 0),
    CONSTRAINT orders_cancelled_tax_minor_not_negative CHECK (cancelled_tax_minor >= 0),
    CONSTRAINT orders_total_is_its_parts CHECK (total_minor = lines_minor - discount_minor + added_tax_minor + shipping_minor),
    CONSTRAINT orders_added_tax_within_tax CHECK (added_tax_minor <= tax_minor),
    CONSTRAINT orders_cancelled_within_total CHECK (cancelled_minor <= total_minor),
    CONSTRAINT orders_cancelled_tax_within_tax CHECK (cancelled_tax_minor <= tax_minor),
    CONSTRAINT orders_reservation_id_fkey FOREIGN KEY(reservation_id) REFERENCES oltp.reservations (reservation_id)
);

CREATE TABLE oltp.reservation_lines (
    reservation_line_id UUID NOT NULL,
    reservation_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    variant_id UUID NOT NULL,
    location_id TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    consumed_quantity BIGINT NOT NULL,
    released_quantity BIGINT NOT NULL,
    CONSTRAINT reservation_lines_pkey PRIMARY KEY (reservation_line_id),
    CONSTRAINT reservation_lines_quantity_positive CHECK (quantity > 0),
    CONSTRAINT reservation_lines_consumed_quantity_not_negative CHECK (consumed_quantity >= 0),
    CONSTRAINT reservation_lines_released_quantity_not_negative CHECK (released_quantity >= 0),
    CONSTRAINT reservation_lines_parts_within_quantity CHECK (consumed_quantity + released_quantity <= quantity),
    CONSTRAINT reservation_lines_reservation_id_fkey FOREIGN KEY(reservation_id) REFERENCES oltp.reservations (reservation_id)
);
CREATE INDEX reservation_lines_reservation_id_idx ON oltp.reservation_lines (reservation_id);

CREATE TABLE oltp.variants (
    variant_id UUID NOT NULL,
    product_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    sku TEXT NOT NULL,
    title TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    CONSTRAINT variants_pkey PRIMARY KEY (variant_id),
    CONSTRAINT variants_merchant_id_sku_key UNIQUE (merchant_id, sku),
    CONSTRAINT variants_product_id_fkey FOREIGN KEY(product_id) REFERENCES oltp.products (product_id)
);
CREATE INDEX variants_product_id_idx ON oltp.variants (product_id);

CREATE TABLE oltp.merchant_entitlement_grants (
    grant_id UUID NOT NULL,
    entitlement_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    grantor TEXT NOT NULL,
    level BIGINT NOT NULL,
    granted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT merchant_entitlement_grants_pkey PRIMARY KEY (grant_id),
    CONSTRAINT merchant_entitlement_grants_level_positive CHECK (level >= 1),
    CONSTRAINT merchant_entitlement_grants_entitlement_id_fkey FOREIGN KEY(entitlement_id) REFERENCES oltp.merchant_entitlements (entitlement_id)
);
CREATE INDEX merchant_entitlement_grants_entitlement_id_idx ON oltp.merchant_entitlement_grants (entitlement_id);

CREATE TABLE oltp.order_lines (
    order_line_id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    line_number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    variant_id UUID,
    sku TEXT NOT NULL,
    title TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    unit_price_micro BIGINT NOT NULL,
    price_source TEXT NOT NULL,
    price_reason TEXT,
    amount_minor BIGINT NOT NULL,
    rounding_micro BIGINT NOT NULL,
    discount_minor BIGINT NOT NULL,
    total_minor BIGINT NOT NULL,
    cancelled_quantity BIGINT NOT NULL,
    cancelled_minor BIGINT NOT NULL,
    cancelled_tax_minor BIGINT NOT NULL,
    fulfilled_quantity BIGINT NOT NULL,
    CONSTRAINT order_lines_pkey PRIMARY KEY (order_line_id),
    CONSTRAINT order_lines_kind_known CHECK (kind in ('goods', 'service', 'shipping')),
    CONSTRAINT order_lines_order_id_line_number_key UNIQUE (order_id, line_number),
    CONSTRAINT order_lines_line_number_positive CHECK (line_number >= 1),
    CONSTRAINT order_lines_quantity_positive CHECK (quantity > 0),
    CONSTRAINT order_lines_variant_unless_shipping CHECK ((kind = 'shipping') = (variant_id is null)),
    CONSTRAINT order_lines_unit_price_micro_not_negative CHECK (unit_price_micro >= 0),
    CONSTRAINT order_lines_amount_minor_not_negative CHECK (amount_minor >= 0),
    CONSTRAINT order_lines_discount_minor_not_negative CHECK (discount_minor >= 0),
    CONSTRAINT order_lines_total_minor_not_negative CHECK (total_minor >= 0),
    CONSTRAINT order_lines_cancelled_quantity_not_negative CHECK (cancelled_quantity >= 0),
    CONSTRAINT order_lines_cancelled_minor_not_negative CHECK (cancelled_minor >= 0),
    CONSTRAINT order_lines_cancelled_tax_minor_not_negative CHECK (cancelled_tax_minor >= 0),
    CONSTRAINT order_lines_fulfilled_quantity_not_negative CHECK (fulfilled_quantity >= 0),
    CONSTRAINT order_lines_discount_within_amount CHECK (discount_minor <= amount_minor),
    CONSTRAINT order_lines_cancelled_within_total CHECK (cancelled_minor <= total_minor),
    CONSTRAINT order_lines_closed_within_quantity CHECK (fulfilled_quantity + cancelled_quantity <= quantity),
    CONSTRAINT order_lines_order_id_fkey FOREIGN KEY(order_id) REFERENCES oltp.orders (order_id)
);

CREATE TABLE oltp.order_discounts (
    order_discount_id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    code TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    CONSTRAINT order_discounts_pkey PRIMARY KEY (order_discount_id),
    CONSTRAINT order_discounts_amount_positive CHECK (amount_minor > 0),
    CONSTRAINT order_discounts_order_id_fkey FOREIGN KEY(order_id) REFERENCES oltp.orders (order_id)
);
CREATE INDEX order_discounts_order_id_idx ON oltp.order_discounts (order_id);

CREATE TABLE oltp.fulfillments (
    fulfillment_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    order_id UUID NOT NULL,
    location_id TEXT NOT NULL,
    tracking_number TEXT,
    shipped_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT fulfillments_pkey PRIMARY KEY (fulfillment_id),
    CONSTRAINT fulfillments_happens_once CHECK (version = 1),
    CONSTRAINT fulfillments_order_id_fkey FOREIGN KEY(order_id) REFERENCES oltp.orders (order_id)
);
CREATE INDEX fulfillments_order_id_idx ON oltp.fulfillments (order_id);

CREATE TABLE oltp.payments (
    payment_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    order_id UUID NOT NULL,
    customer_id TEXT,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    provider TEXT NOT NULL,
    provider_reference TEXT NOT NULL,
    authorized_minor BIGINT NOT NULL,
    captured_minor BIGINT NOT NULL,
    refunded_minor BIGINT NOT NULL,
    authorized_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT payments_pkey PRIMARY KEY (payment_id),
    CONSTRAINT payments_version_positive CHECK (version >= 1),
    CONSTRAINT payments_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT payments_status_known CHECK (status in ('authorized', 'declined', 'captured', 'voided')),
    CONSTRAINT payments_authorized_minor_not_negative CHECK (authorized_minor >= 0),
    CONSTRAINT payments_captured_minor_not_negative CHECK (captured_minor >= 0),
    CONSTRAINT payments_refunded_minor_not_negative CHECK (refunded_minor >= 0),
    CONSTRAINT payments_captured_within_authorized CHECK (captured_minor <= authorized_minor),
    CONSTRAINT payments_refunded_within_captured CHECK (refunded_minor <= captured_minor),
    CONSTRAINT payments_captured_has_status CHECK (captured_minor = 0 or status = 'captured'),
    CONSTRAINT payments_order_id_fkey FOREIGN KEY(order_id) REFERENCES oltp.orders (order_id)
);
CREATE INDEX payments_order_id_idx ON oltp.payments (order_id);

CREATE TABLE oltp.prices (
    variant_id UUID NOT NULL,
    currency TEXT NOT NULL,
    product_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    unit_price_micro BIGINT NOT NULL,
    CONSTRAINT prices_pkey PRIMARY KEY (variant_id, currency),
    CONSTRAINT prices_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT prices_unit_price_micro_not_negative CHECK (unit_price_micro >= 0),
    CONSTRAINT prices_variant_id_fkey FOREIGN KEY(variant_id) REFERENCES oltp.variants (variant_id)
);
CREATE INDEX prices_product_id_idx ON oltp.prices (product_id);

CREATE TABLE oltp.order_tax_lines (
    order_line_id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    jurisdiction TEXT NOT NULL,
    tax_category TEXT NOT NULL,
    rate_ppm BIGINT NOT NULL,
    is_tax_inclusive BOOLEAN NOT NULL,
    taxable_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    CONSTRAINT order_tax_lines_pkey PRIMARY KEY (order_line_id),
    CONSTRAINT order_tax_lines_rate_ppm_not_negative CHECK (rate_ppm >= 0),
    CONSTRAINT order_tax_lines_taxable_minor_not_negative CHECK (taxable_minor >= 0),
    CONSTRAINT order_tax_lines_tax_minor_not_negative CHECK (tax_minor >= 0),
    CONSTRAINT order_tax_lines_order_line_id_fkey FOREIGN KEY(order_line_id) REFERENCES oltp.order_lines (order_line_id)
);
CREATE INDEX order_tax_lines_order_id_idx ON oltp.order_tax_lines (order_id);

CREATE TABLE oltp.fulfillment_lines (
    fulfillment_line_id UUID NOT NULL,
    fulfillment_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    order_line_id UUID NOT NULL,
    quantity BIGINT NOT NULL,
    CONSTRAINT fulfillment_lines_pkey PRIMARY KEY (fulfillment_line_id),
    CONSTRAINT fulfillment_lines_quantity_positive CHECK (quantity > 0),
    CONSTRAINT fulfillment_lines_fulfillment_id_fkey FOREIGN KEY(fulfillment_id) REFERENCES oltp.fulfillments (fulfillment_id),
    CONSTRAINT fulfillment_lines_order_line_id_fkey FOREIGN KEY(order_line_id) REFERENCES oltp.order_lines (order_line_id)
);
CREATE INDEX fulfillment_lines_fulfillment_id_idx ON oltp.fulfillment_lines (fulfillment_id);
CREATE INDEX fulfillment_lines_order_line_id_idx ON oltp.fulfillment_lines (order_line_id);

CREATE TABLE oltp.payment_captures (
    payment_capture_id UUID NOT NULL,
    payment_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    provider_reference TEXT NOT NULL,
    captured_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT payment_captures_pkey PRIMARY KEY (payment_capture_id),
    CONSTRAINT payment_captures_amount_minor_not_negative CHECK (amount_minor >= 0),
    CONSTRAINT payment_captures_payment_id_fkey FOREIGN KEY(payment_id) REFERENCES oltp.payments (payment_id)
);
CREATE INDEX payment_captures_payment_id_idx ON oltp.payment_captures (payment_id);

CREATE TABLE oltp.refunds (
    refund_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    order_id UUID NOT NULL,
    payment_id UUID NOT NULL,
    customer_id TEXT,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    external_reference TEXT,
    amount_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    provider_reference TEXT,
    failure_reason TEXT,
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT refunds_pkey PRIMARY KEY (refund_id),
    CONSTRAINT refunds_version_positive CHECK (version >= 1),
    CONSTRAINT refunds_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT refunds_status_known CHECK (status in ('requested', 'completed', 'failed')),
    CONSTRAINT refunds_amount_minor_not_negative CHECK (amount_minor >= 0),
    CONSTRAINT refunds_tax_minor_not_negative CHECK (tax_minor >= 0),
    CONSTRAINT refunds_tax_within_amount CHECK (tax_minor <= amount_minor),
    CONSTRAINT refunds_completed_has_moment CHECK ((status = 'completed') = (completed_at is not null)),
    CONSTRAINT refunds_order_id_fkey FOREIGN KEY(order_id) REFERENCES oltp.orders (order_id),
    CONSTRAINT refunds_payment_id_fkey FOREIGN KEY(payment_id) REFERENCES oltp.payments (payment_id)
);
CREATE INDEX refunds_order_id_idx ON oltp.refunds (order_id);
CREATE INDEX refunds_payment_id_idx ON oltp.refunds (payment_id);

CREATE TABLE oltp.stock_levels (
    variant_id UUID NOT NULL,
    location_id TEXT NOT NULL,
    merchant_id TEXT NOT NULL,
    on_hand BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    CONSTRAINT stock_levels_pkey PRIMARY KEY (variant_id, location_id),
    CONSTRAINT stock_levels_on_hand_not_negative CHECK (on_hand >= 0),
    CONSTRAINT stock_levels_reserved_not_negative CHECK (reserved >= 0),
    CONSTRAINT stock_levels_reserved_within_on_hand CHECK (reserved <= on_hand),
    CONSTRAINT stock_levels_variant_id_fkey FOREIGN KEY(variant_id) REFERENCES oltp.variants (variant_id)
);

CREATE TABLE oltp.refund_lines (
    refund_line_id UUID NOT NULL,
    refund_id UUID NOT NULL,
    merchant_id TEXT NOT NULL,
    order_line_id UUID NOT NULL,
    quantity BIGINT NOT NULL,
    amount_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    jurisdiction TEXT NOT NULL,
    tax_category TEXT NOT NULL,
    is_restocked BOOLEAN NOT NULL,
    CONSTRAINT refund_lines_pkey PRIMARY KEY (refund_line_id),
    CONSTRAINT refund_lines_quantity_or_amount CHECK (quantity > 0 or (quantity = 0 and amount_minor > 0)),
    CONSTRAINT refund_lines_amount_minor_not_negative CHECK (amount_minor >= 0),
    CONSTRAINT refund_lines_tax_minor_not_negative CHECK (tax_minor >= 0),
    CONSTRAINT refund_lines_tax_within_amount CHECK (tax_minor <= amount_minor),
    CONSTRAINT refund_lines_refund_id_fkey FOREIGN KEY(refund_id) REFERENCES oltp.refunds (refund_id),
    CONSTRAINT refund_lines_order_line_id_fkey FOREIGN KEY(order_line_id) REFERENCES oltp.order_lines (order_line_id)
);
CREATE INDEX refund_lines_order_line_id_idx ON oltp.refund_lines (order_line_id);
CREATE INDEX refund_lines_refund_id_idx ON oltp.refund_lines (refund_id);

ALTER TABLE oltp.reservations ADD CONSTRAINT reservations_order_id_fkey FOREIGN KEY(order_id) REFERENCES oltp.orders (order_id) DEFERRABLE INITIALLY DEFERRED;
