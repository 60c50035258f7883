-- What administrators and auditors see. No view has key bytes.

CREATE VIEW fieldcrypt.accounts AS
    SELECT a.account, a.state, a.created_at, a.created_by, a.changed_at, a.changed_by, a.rotate_after
    FROM fieldcrypt.account AS a;
COMMENT ON VIEW fieldcrypt.accounts IS 'accounts and their states';
COMMENT ON COLUMN fieldcrypt.accounts.account IS 'id, as the application knows it';
COMMENT ON COLUMN fieldcrypt.accounts.state IS 'active, disabled, or destroyed for good';
COMMENT ON COLUMN fieldcrypt.accounts.created_at IS 'when it was created';
COMMENT ON COLUMN fieldcrypt.accounts.created_by IS 'session user who created it';
COMMENT ON COLUMN fieldcrypt.accounts.changed_at IS 'when it was last changed';
COMMENT ON COLUMN fieldcrypt.accounts.changed_by IS 'session user who last changed it';
COMMENT ON COLUMN fieldcrypt.accounts.rotate_after IS 'age at which rotate_due() replaces its data key';

CREATE VIEW fieldcrypt.fields AS
    SELECT f.name, f.label, f.suite, f.search, f.normalizer, f.mask, f.hidden, f.padding,
        f.scope, f.store, f.reversible, f.small_domain, f.backfilled, f.created_at, f.created_by, f.changed_at, f.changed_by
    FROM fieldcrypt.field AS f;
COMMENT ON VIEW fieldcrypt.fields IS 'fields and their policies';
COMMENT ON COLUMN fieldcrypt.fields.name IS 'name, such as lead.ssn';
COMMENT ON COLUMN fieldcrypt.fields.label IS 'what to call it in front of users';
COMMENT ON COLUMN fieldcrypt.fields.suite IS 'how new values are encrypted';
COMMENT ON COLUMN fieldcrypt.fields.search IS 'search kinds: exact, unique (for constraints only), or none';
COMMENT ON COLUMN fieldcrypt.fields.normalizer IS 'what a value is reduced to before it becomes a token';
COMMENT ON COLUMN fieldcrypt.fields.mask IS 'what a role with mask, but without decrypt, sees';
COMMENT ON COLUMN fieldcrypt.fields.hidden IS 'what a role without any right sees';
COMMENT ON COLUMN fieldcrypt.fields.padding IS 'bucket to which new values are padded, in bytes, or none';
COMMENT ON COLUMN fieldcrypt.fields.scope IS 'account, or database: tokens also across accounts';
COMMENT ON COLUMN fieldcrypt.fields.store IS 'value, or token: only tokens are kept';
COMMENT ON COLUMN fieldcrypt.fields.reversible IS 'whether stored values may be turned back into plain ones';
COMMENT ON COLUMN fieldcrypt.fields.small_domain IS 'whether values carry tokens although there are few different ones';
COMMENT ON COLUMN fieldcrypt.fields.backfilled IS 'whether all stored values have the tokens of the policy; until then they are not searched';
COMMENT ON COLUMN fieldcrypt.fields.created_at IS 'when it was created';
COMMENT ON COLUMN fieldcrypt.fields.created_by IS 'session user who created it';
COMMENT ON COLUMN fieldcrypt.fields.changed_at IS 'when its policy was last changed';
COMMENT ON COLUMN fieldcrypt.fields.changed_by IS 'session user who last changed its policy';

CREATE VIEW fieldcrypt.keys AS
    SELECT k.key_id, k.account, k.purpose, k.version, k.state, k.wrapped_by AS root_key,
        k.created_at, k.created_by, k.changed_at, k.changed_by
    FROM fieldcrypt.account_key AS k;
COMMENT ON VIEW fieldcrypt.keys IS 'keys of the accounts, without their bytes';
COMMENT ON COLUMN fieldcrypt.keys.key_id IS 'id, as it stands in envelopes';
COMMENT ON COLUMN fieldcrypt.keys.account IS 'account that it belongs to';
COMMENT ON COLUMN fieldcrypt.keys.purpose IS 'wrapping, data, index, transit or audit';
COMMENT ON COLUMN fieldcrypt.keys.version IS 'version within account and purpose';
COMMENT ON COLUMN fieldcrypt.keys.state IS 'pre-active, active, decrypt-only, disabled or destroyed';
COMMENT ON COLUMN fieldcrypt.keys.root_key IS 'root key that wrapped a wrapping key';
COMMENT ON COLUMN fieldcrypt.keys.created_at IS 'when it was made';
COMMENT ON COLUMN fieldcrypt.keys.created_by IS 'session user who made it';
COMMENT ON COLUMN fieldcrypt.keys.changed_at IS 'when its state was last changed';
COMMENT ON COLUMN fieldcrypt.keys.changed_by IS 'session user who last changed its state';

CREATE VIEW fieldcrypt.access AS
    SELECT g.role, g.account, g.field, g.privileges, g.granted_at, g.granted_by
    FROM fieldcrypt.access_grant AS g;
COMMENT ON VIEW fieldcrypt.access IS 'who may do what with which field of which account';
COMMENT ON COLUMN fieldcrypt.access.role IS 'role that holds the privileges';
COMMENT ON COLUMN fieldcrypt.access.account IS 'account, or * for all';
COMMENT ON COLUMN fieldcrypt.access.field IS 'field, prefix.*, or * for all';
COMMENT ON COLUMN fieldcrypt.access.privileges IS 'encrypt, search, mask, decrypt';
COMMENT ON COLUMN fieldcrypt.access.granted_at IS 'when it was last changed';
COMMENT ON COLUMN fieldcrypt.access.granted_by IS 'session user who last changed it';

CREATE VIEW fieldcrypt.protected AS
    SELECT t.tgrelid::pg_catalog.regclass AS relation,
        a[1] AS account_column, a[2] AS on_mismatch,
        t.tgenabled OPERATOR(pg_catalog.<>) 'D' AS enabled
    FROM pg_catalog.pg_trigger AS t
        CROSS JOIN LATERAL fieldcrypt.trigger_arguments(t.tgargs) AS a
    WHERE t.tgfoid OPERATOR(pg_catalog.=) 'fieldcrypt.hold_account()'::pg_catalog.regprocedure;
COMMENT ON VIEW fieldcrypt.protected IS 'tables whose encrypted values are held to their row''s account';
COMMENT ON COLUMN fieldcrypt.protected.relation IS 'table, or partition';
COMMENT ON COLUMN fieldcrypt.protected.account_column IS 'column that names the row''s account';
COMMENT ON COLUMN fieldcrypt.protected.on_mismatch IS 'what happens to a value of another account: refuse or rebind';
COMMENT ON COLUMN fieldcrypt.protected.enabled IS 'whether the trigger is enabled';

CREATE VIEW fieldcrypt.documents AS
    SELECT t.tgrelid::pg_catalog.regclass AS relation, a[2] AS column_name, a[1] AS name,
        a[3] AS account_column, NULLIF(a[4], '') AS kind_column, NULLIF(a[5], '') AS blob_column,
        t.tgenabled OPERATOR(pg_catalog.<>) 'D' AS enabled
    FROM pg_catalog.pg_trigger AS t
        CROSS JOIN LATERAL fieldcrypt.trigger_arguments(t.tgargs) AS a
    WHERE t.tgfoid OPERATOR(pg_catalog.=) 'fieldcrypt.seal_document()'::pg_catalog.regprocedure;
COMMENT ON VIEW fieldcrypt.documents IS 'protected JSONB columns';
COMMENT ON COLUMN fieldcrypt.documents.relation IS 'table, or partition';
COMMENT ON COLUMN fieldcrypt.documents.column_name IS 'column of type jsonb';
COMMENT ON COLUMN fieldcrypt.documents.name IS 'name of the document, by which paths are flagged';
COMMENT ON COLUMN fieldcrypt.documents.account_column IS 'column that names the row''s account';
COMMENT ON COLUMN fieldcrypt.documents.kind_column IS 'column that names the kind of document';
COMMENT ON COLUMN fieldcrypt.documents.blob_column IS 'column in which flagged values are gathered';
COMMENT ON COLUMN fieldcrypt.documents.enabled IS 'whether the trigger is enabled';

CREATE VIEW fieldcrypt.paths AS
    SELECT p.document, p.path, p.field, p.account, NULLIF(p.kind, '') AS kind, p.nulls, p.state,
        p.created_at, p.created_by, p.changed_at, p.changed_by
    FROM fieldcrypt.path AS p;
COMMENT ON VIEW fieldcrypt.paths IS 'flagged paths of documents';
COMMENT ON COLUMN fieldcrypt.paths.document IS 'name of the document';
COMMENT ON COLUMN fieldcrypt.paths.path IS 'keys and [*], such as phones[*].number';
COMMENT ON COLUMN fieldcrypt.paths.field IS 'field of the values at the path';
COMMENT ON COLUMN fieldcrypt.paths.account IS 'account, or * for all';
COMMENT ON COLUMN fieldcrypt.paths.kind IS 'kind of document, NULL for all';
COMMENT ON COLUMN fieldcrypt.paths.nulls IS 'keep: JSON null stays null; encrypt: it is sealed too';
COMMENT ON COLUMN fieldcrypt.paths.state IS 'active, or retired: new values are plain, sealed ones stay readable';
COMMENT ON COLUMN fieldcrypt.paths.created_at IS 'when it was flagged';
COMMENT ON COLUMN fieldcrypt.paths.created_by IS 'session user who flagged it';
COMMENT ON COLUMN fieldcrypt.paths.changed_at IS 'when it was last changed';
COMMENT ON COLUMN fieldcrypt.paths.changed_by IS 'session user who last changed it';

CREATE VIEW fieldcrypt.plain_names AS SELECT n.name FROM fieldcrypt.plain_name AS n;
COMMENT ON VIEW fieldcrypt.plain_names IS 'names of keys that are never encrypted';
COMMENT ON COLUMN fieldcrypt.plain_names.name IS 'last key of a path';

CREATE FUNCTION fieldcrypt.uses_of_field(handle integer) RETURNS SETOF text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.format('column %I of %s', a.attname, a.attrelid::pg_catalog.regclass)
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    WHERE a.atttypmod = handle AND fieldcrypt.plain_type_of(a.atttypid) IS NOT NULL AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm', 'f', 'c')
    UNION ALL
    SELECT pg_catalog.format('domain %s', t.oid::pg_catalog.regtype)
    FROM pg_catalog.pg_type AS t
    WHERE t.typtypmod = handle AND fieldcrypt.plain_type_of(t.typbasetype) IS NOT NULL
    UNION ALL
    SELECT pg_catalog.format('path %s of document %s', p.path, p.document)
    FROM fieldcrypt.paths AS p JOIN fieldcrypt.field AS f ON f.name OPERATOR(pg_catalog.=) p.field
    WHERE f.handle = uses_of_field.handle;
END;
COMMENT ON FUNCTION fieldcrypt.uses_of_field(integer) IS
    'the columns, domains and flagged paths of a field, by its handle';
