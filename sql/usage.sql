-- Which keys stored values are under, how keys and accounts end, and how they move.

CREATE TYPE fieldcrypt.usage AS (relation regclass, column_name text, account text, purpose text, version integer,
    key_id bigint, count bigint, problem text);
COMMENT ON TYPE fieldcrypt.usage IS 'a key that values of a column are under, or what cannot be looked at';
COMMENT ON COLUMN fieldcrypt.usage.relation IS 'table, partition or materialized view';
COMMENT ON COLUMN fieldcrypt.usage.column_name IS 'column';
COMMENT ON COLUMN fieldcrypt.usage.account IS 'account that the key belongs to; NULL: it is not in this database';
COMMENT ON COLUMN fieldcrypt.usage.purpose IS 'data, index or transit';
COMMENT ON COLUMN fieldcrypt.usage.version IS 'version of the key within account and purpose';
COMMENT ON COLUMN fieldcrypt.usage.key_id IS 'key';
COMMENT ON COLUMN fieldcrypt.usage.count IS 'number of values under it';
COMMENT ON COLUMN fieldcrypt.usage.problem IS 'why there may be more: what could not be looked at, and why';

-- A column of jsonb may hold what a document held before, wherever it was copied to. The extension's own
-- tables have no values.
CREATE FUNCTION fieldcrypt.places_of_values(OUT relation regclass, OUT number smallint, OUT column_name text, OUT subject text,
        OUT holds text, OUT problem text) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE document (type) AS (
        SELECT 'jsonb'::regtype::oid
        UNION
        SELECT t.oid FROM document AS d JOIN pg_type AS t ON t.typbasetype = d.type AND t.typtype = 'd'
    ), holder (type, holds) AS MATERIALIZED (
        SELECT d.type, 'document' FROM document AS d
        UNION ALL
        SELECT t.oid, fieldcrypt.holds_encrypted(t.oid) FROM pg_type AS t
        WHERE t.oid >= 16384 AND fieldcrypt.holds_encrypted(t.oid) IS NOT NULL
    )
    SELECT c.oid::regclass, a.attnum, a.attname::text, format('column %I of %s', a.attname, c.oid::regclass), h.holds,
        CASE WHEN c.relkind = 'f' THEN 'a foreign table is not looked at'
             WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'an unlogged table is not on a standby'
             WHEN c.relpersistence = 't' AND c.relnamespace <> pg_my_temp_schema()
                 THEN 'a temporary table of another session cannot be looked at' END
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN holder AS h ON h.type = a.atttypid
    WHERE c.relkind IN ('r', 'm', 'f') AND c.oid >= 16384 AND c.relnamespace <> 'fieldcrypt'::regnamespace
        AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT NULL, NULL, NULL, format('prepared transaction %L', p.gid), NULL, 'what it has written cannot be looked at'
    FROM pg_prepared_xacts AS p WHERE p.database = current_database()
    ORDER BY 1, 2;
$$;
COMMENT ON FUNCTION fieldcrypt.places_of_values() IS
    'the columns in which there may be sealed values, and what cannot be looked at';

CREATE FUNCTION fieldcrypt.key_usage(account text DEFAULT NULL) RETURNS SETOF fieldcrypt.usage
    AS 'MODULE_PATHNAME', 'key_usage_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.key_usage(text) IS
    'reads every stored value, and counts those under each key, of an account or of all; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.disable_account_key(account text, key_id bigint) RETURNS void
    AS 'MODULE_PATHNAME', 'disable_account_key_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.disable_account_key(text, bigint) IS
    'stops every use of an older data or index key until it is enabled; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.enable_account_key(account text, key_id bigint) RETURNS void
    AS 'MODULE_PATHNAME', 'enable_account_key_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.enable_account_key(text, bigint) IS
    'lets a disabled data or index key be used to read again; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.destroy_account_key(account text, key_id bigint, lose_values boolean DEFAULT false)
    RETURNS SETOF fieldcrypt.usage
    AS 'MODULE_PATHNAME', 'destroy_account_key_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.destroy_account_key(text, bigint, boolean) IS
    'destroys a disabled data or index key for good, if no value is under it, or with lose_values together with these; what is lost; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.destroy_account(account text, lose_values boolean DEFAULT false)
    RETURNS SETOF fieldcrypt.usage
    AS 'MODULE_PATHNAME', 'destroy_account_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.destroy_account(text, boolean) IS
    'destroys all keys of a disabled account for good, and with lose_values all of its values; what is lost; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.export_keys(account text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'export_keys_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.export_keys(text) IS
    'the keys of an account, as the root key has wrapped them; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.import_keys(keys jsonb) RETURNS text
    AS 'MODULE_PATHNAME', 'import_keys_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.import_keys(jsonb) IS
    'makes an account of what export_keys() returned in another database under the same root key; its name; for fieldcrypt_key_admin';
