-- Adjustments carry the tax that their amount contains, with its basis. Those from before this revision have none.
alter table oltp.adjustments add column tax_minor bigint not null default 0;
alter table oltp.adjustments alter column tax_minor drop default;
alter table oltp.adjustments add column jurisdiction text;
alter table oltp.adjustments add column tax_category text;
alter table oltp.adjustments add column rate_ppm bigint;
alter table oltp.adjustments add constraint adjustments_tax_has_its_basis
check (
    num_nulls(jurisdiction, tax_category, rate_ppm) = case when tax_minor = 0 and tax_category is null then 3 else 0 end
);
alter table oltp.adjustments add constraint adjustments_tax_within_amount
check (abs(tax_minor) <= abs(amount_minor) and sign(tax_minor) * sign(amount_minor) >= 0);
alter table oltp.adjustments add constraint adjustments_rate_ppm_not_negative check (rate_ppm >= 0);

-- Their limits, as 0009_limits.sql has those of the other columns; no row from before holds anything in them.
alter table oltp.adjustments add constraint adjustments_tax_minor_limit
check (tax_minor between -10000000000000000 and 10000000000000000);
alter table oltp.adjustments add constraint adjustments_jurisdiction_limit
check (char_length(jurisdiction) <= 100 and jurisdiction !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.adjustments add constraint adjustments_tax_category_limit
check (char_length(tax_category) <= 100 and tax_category !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.adjustments add constraint adjustments_rate_ppm_limit
check (rate_ppm between 0 and 10000000);
