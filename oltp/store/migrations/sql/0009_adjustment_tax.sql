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
