-- The catalog. It is keyed by names that users give, never by OIDs of tables or columns. Only the
-- extension's own functions write it; each change tells every session (catalog_changed). There are
-- no foreign keys: a parallel restore loads the tables in any order.

CREATE FUNCTION fieldcrypt.catalog_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'catalog_changed_wrapper'
    LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.catalog_changed() IS
    'statement trigger: tells every session that the catalog of fieldcrypt has changed';

CREATE TABLE fieldcrypt.root_key (
    name text COLLATE "C" CONSTRAINT root_key_pkey PRIMARY KEY,
    check_value bytea NOT NULL CHECK (pg_catalog.octet_length(check_value) OPERATOR(pg_catalog.=) 32),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by name NOT NULL DEFAULT session_user,
    state text NOT NULL DEFAULT 'own'
        CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['own', 'customer', 'retired'])),
    wrapped_check bytea
);
COMMENT ON TABLE fieldcrypt.root_key IS 'root keys that this database has used; the keys themselves are outside';
COMMENT ON COLUMN fieldcrypt.root_key.name IS 'name in the keyring';
COMMENT ON COLUMN fieldcrypt.root_key.check_value IS 'HMAC-SHA-256 under the key, or under the one in wrapped_check, by which a wrong key is noticed before anything is written';
COMMENT ON COLUMN fieldcrypt.root_key.created_at IS 'when it was first used';
COMMENT ON COLUMN fieldcrypt.root_key.created_by IS 'session user who first used it';
COMMENT ON COLUMN fieldcrypt.root_key.state IS
    'own; customer: the accounts under it are locked where it cannot be had; retired: no account is under it any more';
COMMENT ON COLUMN fieldcrypt.root_key.wrapped_check IS
    'of a root key that a program uses: a key that is for nothing else, wrapped by it';

CREATE TABLE fieldcrypt.account (
    account text COLLATE "C" CONSTRAINT account_pkey PRIMARY KEY,
    state text NOT NULL CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['active', 'disabled', 'destroyed'])),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by name NOT NULL DEFAULT session_user,
    changed_at timestamptz,
    changed_by name,
    rotate_after interval
);
COMMENT ON TABLE fieldcrypt.account IS 'accounts (tenants); *database* is reserved for what belongs to no account';
COMMENT ON COLUMN fieldcrypt.account.account IS 'id, as the application knows it';
COMMENT ON COLUMN fieldcrypt.account.state IS 'active, disabled, or destroyed for good';
COMMENT ON COLUMN fieldcrypt.account.created_at IS 'when it was created';
COMMENT ON COLUMN fieldcrypt.account.created_by IS 'session user who created it';
COMMENT ON COLUMN fieldcrypt.account.changed_at IS 'when it was last changed';
COMMENT ON COLUMN fieldcrypt.account.changed_by IS 'session user who last changed it';
COMMENT ON COLUMN fieldcrypt.account.rotate_after IS 'age at which rotate_due() replaces its data key';

CREATE TABLE fieldcrypt.account_key (
    key_id bigint CONSTRAINT account_key_pkey PRIMARY KEY CHECK (key_id OPERATOR(pg_catalog.>) 0),
    account text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL
        CHECK (purpose OPERATOR(pg_catalog.=) ANY (ARRAY['wrapping', 'data', 'index', 'transit', 'audit'])),
    version integer NOT NULL CHECK (version OPERATOR(pg_catalog.>) 0),
    state text NOT NULL CHECK (state OPERATOR(pg_catalog.=) ANY
        (ARRAY['pre-active', 'active', 'decrypt-only', 'disabled', 'destroyed'])),
    wrapped bytea,
    wrapped_by text COLLATE "C",
    check_value bytea NOT NULL CHECK (pg_catalog.octet_length(check_value) OPERATOR(pg_catalog.=) 32),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by name NOT NULL DEFAULT session_user,
    changed_at timestamptz,
    changed_by name,
    CHECK ((purpose OPERATOR(pg_catalog.=) 'wrapping') OPERATOR(pg_catalog.=) (wrapped_by IS NOT NULL)),
    CHECK ((state OPERATOR(pg_catalog.=) 'destroyed') OPERATOR(pg_catalog.=) (wrapped IS NULL))
);
CREATE UNIQUE INDEX account_key_by_account ON fieldcrypt.account_key (account, purpose, version);
COMMENT ON TABLE fieldcrypt.account_key IS 'wrapped keys of the accounts; readable by fieldcrypt_key_admin';
COMMENT ON COLUMN fieldcrypt.account_key.key_id IS 'random id, as it stands in envelopes';
COMMENT ON COLUMN fieldcrypt.account_key.account IS 'account that it belongs to';
COMMENT ON COLUMN fieldcrypt.account_key.purpose IS 'wrapping, data, index, transit or audit';
COMMENT ON COLUMN fieldcrypt.account_key.version IS 'version within account and purpose, from 1';
COMMENT ON COLUMN fieldcrypt.account_key.state IS 'pre-active, active, decrypt-only, disabled or destroyed';
COMMENT ON COLUMN fieldcrypt.account_key.wrapped IS 'the key, wrapped (docs/envelope.md section 7); NULL: it is destroyed';
COMMENT ON COLUMN fieldcrypt.account_key.wrapped_by IS 'root key that wrapped a wrapping key; other keys are wrapped by the account''s wrapping key';
COMMENT ON COLUMN fieldcrypt.account_key.check_value IS 'HMAC-SHA-256 under the key, verified at each unwrap';
COMMENT ON COLUMN fieldcrypt.account_key.created_at IS 'when it was made';
COMMENT ON COLUMN fieldcrypt.account_key.created_by IS 'session user who made it';
COMMENT ON COLUMN fieldcrypt.account_key.changed_at IS 'when its state was last changed';
COMMENT ON COLUMN fieldcrypt.account_key.changed_by IS 'session user who last changed its state';

CREATE TABLE fieldcrypt.field (
    name text COLLATE "C" CONSTRAINT field_pkey PRIMARY KEY,
    field_id bigint NOT NULL,
    handle integer NOT NULL CHECK (handle OPERATOR(pg_catalog.>=) 0),
    label text,
    suite text NOT NULL,
    search text[] NOT NULL,
    normalizer text NOT NULL,
    mask text,
    hidden text NOT NULL,
    padding text NOT NULL,
    scope text NOT NULL,
    store text NOT NULL,
    reversible boolean NOT NULL,
    small_domain boolean NOT NULL,
    backfilled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by name NOT NULL DEFAULT session_user,
    changed_at timestamptz,
    changed_by name
);
CREATE UNIQUE INDEX field_by_id ON fieldcrypt.field (field_id);
CREATE UNIQUE INDEX field_by_handle ON fieldcrypt.field (handle);
COMMENT ON TABLE fieldcrypt.field IS 'fields and their policies';
COMMENT ON COLUMN fieldcrypt.field.name IS 'name, such as lead.ssn; never changes';
COMMENT ON COLUMN fieldcrypt.field.field_id IS 'first 8 bytes of the hash of the name, as it stands in envelopes';
COMMENT ON COLUMN fieldcrypt.field.handle IS 'first 31 bits of the id: the type modifier';
COMMENT ON COLUMN fieldcrypt.field.label IS 'what to call it in front of users';
COMMENT ON COLUMN fieldcrypt.field.suite IS 'how new values are encrypted';
COMMENT ON COLUMN fieldcrypt.field.search IS 'search kinds: exact, unique (for constraints only), or none';
COMMENT ON COLUMN fieldcrypt.field.normalizer IS 'what a value is reduced to before it becomes a token';
COMMENT ON COLUMN fieldcrypt.field.mask IS 'what a role with mask, but without decrypt, sees; NULL: the hidden form';
COMMENT ON COLUMN fieldcrypt.field.hidden IS 'what a role without any right sees: mask (********) or ciphertext';
COMMENT ON COLUMN fieldcrypt.field.padding IS 'bucket to which new values are padded, in bytes, or none';
COMMENT ON COLUMN fieldcrypt.field.scope IS 'account, or database: tokens also across accounts';
COMMENT ON COLUMN fieldcrypt.field.store IS 'value, or token: only tokens are kept';
COMMENT ON COLUMN fieldcrypt.field.reversible IS 'whether stored values may be turned back into plain ones';
COMMENT ON COLUMN fieldcrypt.field.small_domain IS 'whether values carry tokens although there are few different ones';
COMMENT ON COLUMN fieldcrypt.field.backfilled IS 'whether all stored values have the tokens of the policy; until then they are not searched';
COMMENT ON COLUMN fieldcrypt.field.created_at IS 'when it was created';
COMMENT ON COLUMN fieldcrypt.field.created_by IS 'session user who created it';
COMMENT ON COLUMN fieldcrypt.field.changed_at IS 'when its policy was last changed';
COMMENT ON COLUMN fieldcrypt.field.changed_by IS 'session user who last changed its policy';

CREATE TABLE fieldcrypt.access_grant (
    role regrole NOT NULL,
    account text COLLATE "C" NOT NULL,
    field text COLLATE "C" NOT NULL,
    privileges text[] NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    granted_by name NOT NULL DEFAULT session_user,
    CONSTRAINT access_grant_pkey PRIMARY KEY (role, account, field)
);
COMMENT ON TABLE fieldcrypt.access_grant IS 'who may do what with which field of which account';
COMMENT ON COLUMN fieldcrypt.access_grant.role IS 'role that holds the privileges, with those that inherit from it';
COMMENT ON COLUMN fieldcrypt.access_grant.account IS 'account, or * for all';
COMMENT ON COLUMN fieldcrypt.access_grant.field IS 'field, prefix.*, or * for all';
COMMENT ON COLUMN fieldcrypt.access_grant.privileges IS 'encrypt, search, mask, decrypt, manage';
COMMENT ON COLUMN fieldcrypt.access_grant.granted_at IS 'when it was last changed';
COMMENT ON COLUMN fieldcrypt.access_grant.granted_by IS 'session user who last changed it';

CREATE TABLE fieldcrypt.path (
    document text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    field text COLLATE "C" NOT NULL,
    nulls text NOT NULL,
    state text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_by name NOT NULL DEFAULT session_user,
    changed_at timestamptz,
    changed_by name,
    CONSTRAINT path_pkey PRIMARY KEY (document, account, kind, path)
);
COMMENT ON TABLE fieldcrypt.path IS 'flagged paths of documents';
COMMENT ON COLUMN fieldcrypt.path.document IS 'name of the document, as protect_jsonb() gave it';
COMMENT ON COLUMN fieldcrypt.path.account IS 'account, or * for all';
COMMENT ON COLUMN fieldcrypt.path.kind IS 'kind of document, empty for all';
COMMENT ON COLUMN fieldcrypt.path.path IS 'keys and [*], such as phones[*].number';
COMMENT ON COLUMN fieldcrypt.path.field IS 'field of the values at the path';
COMMENT ON COLUMN fieldcrypt.path.nulls IS 'keep: JSON null stays null; encrypt: it is sealed too';
COMMENT ON COLUMN fieldcrypt.path.state IS 'active, or retired: new values are plain, sealed ones stay readable';
COMMENT ON COLUMN fieldcrypt.path.created_at IS 'when it was flagged';
COMMENT ON COLUMN fieldcrypt.path.created_by IS 'session user who flagged it';
COMMENT ON COLUMN fieldcrypt.path.changed_at IS 'when it was last changed';
COMMENT ON COLUMN fieldcrypt.path.changed_by IS 'session user who last changed it';

CREATE TABLE fieldcrypt.plain_name (
    name text COLLATE "C" CONSTRAINT plain_name_pkey PRIMARY KEY
);
COMMENT ON TABLE fieldcrypt.plain_name IS 'names of keys that are never encrypted';
COMMENT ON COLUMN fieldcrypt.plain_name.name IS 'last key of a path';
INSERT INTO fieldcrypt.plain_name VALUES ('created_at'), ('updated_at'), ('source');

CREATE TABLE fieldcrypt.key_use (
    key_id bigint NOT NULL,
    field_id bigint NOT NULL,
    sealed bigint NOT NULL CHECK (sealed OPERATOR(pg_catalog.>) 0),
    at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX key_use_by_key ON fieldcrypt.key_use (key_id, field_id);
COMMENT ON TABLE fieldcrypt.key_use IS
    'sampled count of the values that keys have sealed under aes-256-gcm, which allows 2^32 per key and field';
COMMENT ON COLUMN fieldcrypt.key_use.key_id IS 'data key';
COMMENT ON COLUMN fieldcrypt.key_use.field_id IS 'id of the field';
COMMENT ON COLUMN fieldcrypt.key_use.sealed IS 'number of values that the row stands for';
COMMENT ON COLUMN fieldcrypt.key_use.at IS 'when it was counted';

DO $$
DECLARE
    member text;
BEGIN
    FOREACH member IN ARRAY ARRAY['root_key', 'account', 'account_key', 'field', 'access_grant', 'path', 'plain_name']
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER tell_sessions AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE'
            ' ON fieldcrypt.%I FOR EACH STATEMENT EXECUTE FUNCTION fieldcrypt.catalog_changed()',
            member);
        -- also where triggers are off: in restores and in the apply workers of replication
        EXECUTE pg_catalog.format(
            'ALTER TABLE fieldcrypt.%I ENABLE ALWAYS TRIGGER tell_sessions', member);
        EXECUTE pg_catalog.format(
            'COMMENT ON TRIGGER tell_sessions ON fieldcrypt.%I IS %L',
            member, 'a change here reaches every session at commit');
    END LOOP;
END
$$;

-- what pg_dump takes along; grants of roles that are gone would not restore
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.root_key', '');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.account', '');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.account_key', '');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.field', '');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.path', '');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.plain_name',
    'WHERE NOT name OPERATOR(pg_catalog.=) ANY (ARRAY[''created_at'', ''updated_at'', ''source''])');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.key_use', '');
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.access_grant',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) role)');
