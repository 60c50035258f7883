-- What administrators call. Each checks that the caller is in the role that it names.

CREATE FUNCTION fieldcrypt.create_account(account text) RETURNS void
    AS 'MODULE_PATHNAME', 'create_account_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.create_account(text) IS
    'creates an account with keys of its own, under the current root key; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.disable_account(account text) RETURNS void
    AS 'MODULE_PATHNAME', 'disable_account_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.disable_account(text) IS
    'stops every use of an account''s keys until it is enabled; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.enable_account(account text) RETURNS void
    AS 'MODULE_PATHNAME', 'enable_account_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.enable_account(text) IS
    'lets a disabled account be used again; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.rotate_account_key(account text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'rotate_account_key_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.rotate_account_key(text) IS
    'makes a new data key, by which values of the account are sealed from now on; its id; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.set_rotation(account text, rotate_after interval) RETURNS void
    AS 'MODULE_PATHNAME', 'set_rotation_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.set_rotation(text, interval) IS
    'at which age rotate_due() replaces an account''s data key; NULL: at none; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.accounts_due() RETURNS SETOF text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT a.account FROM fieldcrypt.account AS a JOIN fieldcrypt.account_key AS k ON k.account = a.account
    WHERE a.state = 'active' AND k.purpose = 'data' AND k.state = 'active'
        AND (k.created_at + a.rotate_after <= now()
            OR EXISTS (SELECT FROM fieldcrypt.key_use AS u WHERE u.key_id = k.key_id
                       GROUP BY u.field_id HAVING sum(u.sealed) >= 2147483648))
    ORDER BY k.created_at, a.account;
END;
COMMENT ON FUNCTION fieldcrypt.accounts_due() IS
    'active accounts whose data key is older than rotate_after, or has sealed 2^31 values in a field of the suite aes-256-gcm';

-- no setting: a procedure with one cannot commit. Every name in it has its schema
CREATE PROCEDURE fieldcrypt.rotate_due()
    LANGUAGE plpgsql
AS $$
DECLARE
    due text;
BEGIN
    FOR due IN SELECT d FROM fieldcrypt.accounts_due() AS d LOOP
        BEGIN
            PERFORM fieldcrypt.rotate_account_key(due);
        EXCEPTION
            WHEN query_canceled THEN -- the next condition is of the same class
                RAISE;
            WHEN operator_intervention OR config_file_error THEN
                RAISE WARNING 'the key of account "%" was not rotated: %', due, SQLERRM;
        END;
        COMMIT;
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE fieldcrypt.rotate_due() IS
    'rotates the data keys that are due, each in a transaction of its own; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.rotate_root() RETURNS bigint
    AS 'MODULE_PATHNAME', 'rotate_root_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.rotate_root() IS
    'wraps the keys of all accounts under the current root key, but for those under a customer''s; how many accounts; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.set_account_root(account text, root text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'set_account_root_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.set_account_root(text, text) IS
    'wraps an account''s keys under a customer''s root key of the keyring, or, by default, under the current one; for fieldcrypt_key_admin';

CREATE FUNCTION fieldcrypt.create_field(name text, search text[] DEFAULT '{}',
        normalizer text DEFAULT 'none', mask text DEFAULT 'none', hidden text DEFAULT 'mask',
        padding text DEFAULT 'none', suite text DEFAULT 'xaes-256-gcm', label text DEFAULT NULL,
        scope text DEFAULT 'account', store text DEFAULT 'value', reversible boolean DEFAULT true,
        small_domain boolean DEFAULT false)
    RETURNS void
    AS 'MODULE_PATHNAME', 'create_field_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.create_field(text, text[], text, text, text, text, text, text, text, text, boolean, boolean) IS
    'creates a field with its policy; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.alter_field(name text, mask text DEFAULT NULL, hidden text DEFAULT NULL,
        padding text DEFAULT NULL, suite text DEFAULT NULL, label text DEFAULT NULL,
        search text[] DEFAULT NULL, normalizer text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'alter_field_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.alter_field(text, text, text, text, text, text, text[], text) IS
    'changes a field''s policy; with another search it is searched once reencrypt_field() is done; NULL leaves as it is; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.has_unique_column(handle integer) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
            JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
        WHERE (i.indisunique OR i.indisexclusion)
            AND (a.atttypmod = handle AND a.atttypid IN (SELECT e.encrypted FROM fieldcrypt.encrypted_types() AS e)
                OR t.typtypmod = handle AND t.typbasetype IN (SELECT e.encrypted FROM fieldcrypt.encrypted_types() AS e)));
END;
COMMENT ON FUNCTION fieldcrypt.has_unique_column(integer) IS
    'whether a column of a field is unique, by the field''s handle';

CREATE FUNCTION fieldcrypt.drop_field(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'drop_field_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.drop_field(text) IS
    'drops a field that no column or domain is of, and the grants that name it; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.ordered_privileges(privileges text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT ARRAY(SELECT p FROM pg_catalog.unnest(ARRAY['encrypt', 'search', 'mask', 'decrypt', 'manage']) AS p
                 WHERE p = ANY (privileges));
END;
COMMENT ON FUNCTION fieldcrypt.ordered_privileges(text[]) IS
    'the privileges of a list, each once, in one order';

CREATE FUNCTION fieldcrypt.grant_access(role text, privileges text[], account text, field text) RETURNS void
    AS 'MODULE_PATHNAME', 'grant_access_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.grant_access(text, text[], text, text) IS
    'lets a role encrypt, search, mask, decrypt or manage a field of an account; * means all; for fieldcrypt_grantor';

CREATE FUNCTION fieldcrypt.revoke_access(role text, privileges text[], account text, field text) RETURNS void
    AS 'MODULE_PATHNAME', 'revoke_access_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.revoke_access(text, text[], text, text) IS
    'takes privileges back from the grant of exactly that account and field; for fieldcrypt_grantor';

CREATE FUNCTION fieldcrypt.can_reason(role text, privilege text, account text, field text) RETURNS text
    AS 'MODULE_PATHNAME', 'can_reason_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.can_reason(text, text, text, text) IS
    'whether a role may do something, and why, in one text: what can() is made of';

CREATE FUNCTION fieldcrypt.can(role text, privilege text, account text, field text,
        OUT allowed boolean, OUT reason text) RETURNS record
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.starts_with(r, 'yes: '), pg_catalog.substr(r, pg_catalog.strpos(r, ': ') + 2)
    FROM fieldcrypt.can_reason(role, privilege, account, field) AS r;
END;
COMMENT ON FUNCTION fieldcrypt.can(text, text, text, text) IS
    'whether a role may encrypt, search, mask or decrypt a field of an account, and why';
