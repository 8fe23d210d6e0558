-- What shoppers search by. Products and merchants from before this revision have none of it.
alter table oltp.products add column brand text not null default '';
alter table oltp.products add column body text not null default '';

create table oltp.product_attributes (
    product_id uuid not null,
    name text not null,
    merchant_id text not null,
    value text not null,
    constraint product_attributes_pkey primary key (product_id, name),
    constraint product_attributes_product_id_fkey foreign key (product_id) references oltp.products (product_id)
);

create table oltp.merchant_synonyms (
    merchant_id text not null,
    words text not null,
    means text not null,
    constraint merchant_synonyms_pkey primary key (merchant_id, words, means),
    constraint merchant_synonyms_merchant_id_fkey foreign key (merchant_id) references oltp.merchants (merchant_id)
);

alter table oltp.products add constraint products_brand_limit
check (char_length(brand) <= 100 and brand !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.products add constraint products_body_limit
check (char_length(body) <= 10000 and body !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]');
alter table oltp.product_attributes add constraint product_attributes_name_limit
check (char_length(name) <= 100 and name !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.product_attributes add constraint product_attributes_value_limit
check (char_length(value) <= 500 and value !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.merchant_synonyms add constraint merchant_synonyms_words_limit
check (char_length(words) <= 100 and words !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05
alter table oltp.merchant_synonyms add constraint merchant_synonyms_means_limit
check (char_length(means) <= 100 and means !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U0001d173-\U0001d17a\U000e0000-\U000e007f]'); -- noqa: LT05

select oltp.declare_child('product', 'product_attributes', 'product_id', true);
select oltp.declare_child('merchant', 'merchant_synonyms', 'merchant_id', false);
-- An attribute or a synonym that is not named any more goes.
grant delete on oltp.product_attributes, oltp.merchant_synonyms to tieout_app;
