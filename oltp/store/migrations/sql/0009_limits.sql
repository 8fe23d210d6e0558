-- The limits of contracts/limits.py as constraints; a test holds them equal to oltp/store/tables. Rows from before may exceed a
-- limit: then no table gets the constraints on what they exceed (a customer's id, say), because a constraint would also stop
-- every later change of such a row, and an order must reach its end. The command's own limit holds there all the same.
do $add$
declare
    given record;
    is_exceeded boolean;
    exceeded text [] := '{}';
begin
    create temporary table limits_to_add on commit drop as
    select * from (values
        ('adjustments', 'amount_minor', $limit$amount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('adjustments', 'rounding_micro', $limit$rounding_micro between -1000000000000000000 and 1000000000000000000$limit$),
        ('adjustments', 'quantity', $limit$quantity between -1000000000000 and 1000000000000$limit$),
        ('adjustments', 'sku', $limit$char_length(sku) <= 255 and sku !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('adjustments', 'customer_id', $limit$char_length(customer_id) <= 255 and customer_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('adjustments', 'external_reference', $limit$char_length(external_reference) <= 255 and external_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('adjustments', 'reason', $limit$char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('adjustments', 'source', $limit$char_length(source) <= 100 and source !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('adjustments', 'currency_amount', $limit$abs(amount_minor) <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end$limit$),
        ('customer_entitlement_grants', 'grantor', $limit$char_length(grantor) <= 255 and grantor !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('customer_entitlement_grants', 'level', $limit$level between 0 and 1000000000$limit$),
        ('customer_entitlements', 'customer_id', $limit$char_length(customer_id) <= 255 and customer_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('customer_entitlements', 'feature', $limit$char_length(feature) <= 100 and feature !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('customer_entitlements', 'effective_level', $limit$effective_level between 0 and 1000000000$limit$),
        ('fulfillment_lines', 'quantity', $limit$quantity between -1000000000000 and 1000000000000$limit$),
        ('fulfillments', 'location_id', $limit$char_length(location_id) <= 100 and location_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('fulfillments', 'tracking_number', $limit$char_length(tracking_number) <= 255 and tracking_number !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('idempotency_keys', 'idempotency_key', $limit$char_length(idempotency_key) <= 255 and idempotency_key !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchant_entitlement_grants', 'grantor', $limit$char_length(grantor) <= 255 and grantor !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchant_entitlement_grants', 'level', $limit$level between 0 and 1000000000$limit$),
        ('merchant_entitlements', 'feature', $limit$char_length(feature) <= 100 and feature !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchant_entitlements', 'effective_level', $limit$effective_level between 0 and 1000000000$limit$),
        ('merchant_tax_rates', 'jurisdiction', $limit$char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchant_tax_rates', 'tax_category', $limit$char_length(tax_category) <= 100 and tax_category !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchant_tax_rates', 'rate_ppm', $limit$rate_ppm between 0 and 10000000$limit$),
        ('merchants', 'merchant_id', $limit$char_length(merchant_id) <= 100 and merchant_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchants', 'name', $limit$char_length(name) <= 500 and name !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('merchants', 'jurisdiction', $limit$char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('merchants', 'shipping_fee_minor', $limit$shipping_fee_minor between -10000000000000000 and 10000000000000000$limit$),
        ('merchants', 'free_shipping_from_minor', $limit$free_shipping_from_minor between -10000000000000000 and 10000000000000000$limit$),
        ('merchants', 'currency_amount', $limit$greatest(shipping_fee_minor, free_shipping_from_minor) <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end$limit$),
        ('order_discounts', 'code', $limit$char_length(code) <= 255 and code !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('order_discounts', 'amount_minor', $limit$amount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_lines', 'sku', $limit$char_length(sku) <= 255 and sku !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('order_lines', 'title', $limit$char_length(title) <= 500 and title !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('order_lines', 'quantity', $limit$quantity between -1000000000000 and 1000000000000$limit$),
        ('order_lines', 'unit_price_micro', $limit$unit_price_micro between -1000000000000000000 and 1000000000000000000$limit$),
        ('order_lines', 'price_source', $limit$char_length(price_source) <= 109 and price_source !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('order_lines', 'price_reason', $limit$char_length(price_reason) <= 2000 and price_reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('order_lines', 'amount_minor', $limit$amount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_lines', 'rounding_micro', $limit$rounding_micro between -1000000000000000000 and 1000000000000000000$limit$),
        ('order_lines', 'discount_minor', $limit$discount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_lines', 'total_minor', $limit$total_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_lines', 'cancelled_quantity', $limit$cancelled_quantity between -1000000000000 and 1000000000000$limit$),
        ('order_lines', 'cancelled_minor', $limit$cancelled_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_lines', 'cancelled_tax_minor', $limit$cancelled_tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_lines', 'fulfilled_quantity', $limit$fulfilled_quantity between -1000000000000 and 1000000000000$limit$),
        ('order_lines', 'withdrawn_quantity', $limit$withdrawn_quantity between -1000000000000 and 1000000000000$limit$),
        ('order_lines', 'product', $limit$quantity::numeric * unit_price_micro <= 1000000000000000000$limit$),
        ('order_tax_lines', 'jurisdiction', $limit$char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('order_tax_lines', 'tax_category', $limit$char_length(tax_category) <= 100 and tax_category !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('order_tax_lines', 'rate_ppm', $limit$rate_ppm between 0 and 10000000$limit$),
        ('order_tax_lines', 'taxable_minor', $limit$taxable_minor between -10000000000000000 and 10000000000000000$limit$),
        ('order_tax_lines', 'tax_minor', $limit$tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'order_number', $limit$char_length(order_number) <= 255 and order_number !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('orders', 'customer_id', $limit$char_length(customer_id) <= 255 and customer_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('orders', 'source', $limit$char_length(source) <= 100 and source !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('orders', 'lines_minor', $limit$lines_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'shipping_minor', $limit$shipping_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'discount_minor', $limit$discount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'added_tax_minor', $limit$added_tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'tax_minor', $limit$tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'rounding_micro', $limit$rounding_micro between -1000000000000000000 and 1000000000000000000$limit$),
        ('orders', 'total_minor', $limit$total_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'cancelled_minor', $limit$cancelled_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'cancelled_tax_minor', $limit$cancelled_tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('orders', 'currency_amount', $limit$greatest(lines_minor + shipping_minor, total_minor) <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end$limit$),
        ('payment_captures', 'amount_minor', $limit$amount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('payment_captures', 'provider_reference', $limit$char_length(provider_reference) <= 255 and provider_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('payments', 'customer_id', $limit$char_length(customer_id) <= 255 and customer_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('payments', 'provider', $limit$char_length(provider) <= 255 and provider !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('payments', 'provider_reference', $limit$char_length(provider_reference) <= 255 and provider_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('payments', 'authorized_minor', $limit$authorized_minor between -10000000000000000 and 10000000000000000$limit$),
        ('payments', 'captured_minor', $limit$captured_minor between -10000000000000000 and 10000000000000000$limit$),
        ('payments', 'refunded_minor', $limit$refunded_minor between -10000000000000000 and 10000000000000000$limit$),
        ('payments', 'released_minor', $limit$released_minor between -10000000000000000 and 10000000000000000$limit$),
        ('payments', 'currency_amount', $limit$authorized_minor <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end$limit$),
        ('prices', 'unit_price_micro', $limit$unit_price_micro between -1000000000000000000 and 1000000000000000000$limit$),
        ('products', 'title', $limit$char_length(title) <= 500 and title !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('products', 'tax_category', $limit$char_length(tax_category) <= 100 and tax_category !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('refund_lines', 'quantity', $limit$quantity between -1000000000000 and 1000000000000$limit$),
        ('refund_lines', 'amount_minor', $limit$amount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('refund_lines', 'tax_minor', $limit$tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('refund_lines', 'jurisdiction', $limit$char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('refund_lines', 'tax_category', $limit$char_length(tax_category) <= 100 and tax_category !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('refunds', 'customer_id', $limit$char_length(customer_id) <= 255 and customer_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('refunds', 'reason', $limit$char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('refunds', 'external_reference', $limit$char_length(external_reference) <= 255 and external_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('refunds', 'amount_minor', $limit$amount_minor between -10000000000000000 and 10000000000000000$limit$),
        ('refunds', 'tax_minor', $limit$tax_minor between -10000000000000000 and 10000000000000000$limit$),
        ('refunds', 'provider_reference', $limit$char_length(provider_reference) <= 255 and provider_reference !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('refunds', 'failure_reason', $limit$char_length(failure_reason) <= 2000 and failure_reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('refunds', 'currency_amount', $limit$amount_minor <= case when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 1000000000000 when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 1000000000000000 when currency in ('CLF', 'UYW') then 10000000000000000 else 100000000000000 end$limit$),
        ('reservation_lines', 'location_id', $limit$char_length(location_id) <= 100 and location_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('reservation_lines', 'quantity', $limit$quantity between -1000000000000 and 1000000000000$limit$),
        ('reservation_lines', 'consumed_quantity', $limit$consumed_quantity between -1000000000000 and 1000000000000$limit$),
        ('reservation_lines', 'released_quantity', $limit$released_quantity between -1000000000000 and 1000000000000$limit$),
        ('stock_levels', 'location_id', $limit$char_length(location_id) <= 100 and location_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('stock_levels', 'on_hand', $limit$on_hand between -1000000000000 and 1000000000000$limit$),
        ('stock_levels', 'reserved', $limit$reserved between -1000000000000 and 1000000000000$limit$),
        ('stock_movements', 'location_id', $limit$char_length(location_id) <= 100 and location_id !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('stock_movements', 'quantity', $limit$quantity between -1000000000000 and 1000000000000$limit$),
        ('stock_movements', 'reason', $limit$char_length(reason) <= 2000 and reason !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$),
        ('variants', 'sku', $limit$char_length(sku) <= 255 and sku !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'$limit$),
        ('variants', 'title', $limit$char_length(title) <= 500 and title !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]'$limit$)
    ) as limits (table_name, limited, condition);

    for given in select * from limits_to_add loop
        execute format('select exists (select from oltp.%I where not (%s))', given.table_name, given.condition)
        into is_exceeded;
        if is_exceeded then
            raise warning 'Rows of % exceed the limit of %; it is not enforced by constraints here.',
                given.table_name, given.limited;
            exceeded := exceeded || given.limited;
        end if;
    end loop;

    -- One statement a table reads its rows once.
    for given in
        select
            table_name,
            string_agg(
                format('add constraint %I check (%s)', table_name || '_' || limited || '_limit', condition), ', '
            ) as additions
        from limits_to_add
        where limited <> all(exceeded)
        group by table_name
    loop
        execute format('alter table oltp.%I %s', given.table_name, given.additions);
    end loop;
end
$add$;
