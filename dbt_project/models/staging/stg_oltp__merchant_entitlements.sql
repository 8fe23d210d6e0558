{%- set fields = {
    'entitlement_id': 'VARCHAR',
    'feature': 'VARCHAR',
    'effective_level': 'BIGINT',
    'effective_grant_id': 'VARCHAR',
    'grants': [{
        'grant_id': 'VARCHAR',
        'grantor': 'VARCHAR',
        'level': 'BIGINT',
        'granted_at': 'TIMESTAMPTZ',
        'expires_at': 'TIMESTAMPTZ',
        'revoked_at': 'TIMESTAMPTZ',
    }],
} -%}
{{ stage_events('merchant_entitlement', fields) }}
