-- Values that other software encrypted. For fieldcrypt_admin; each function checks that itself.

DO $values$
DECLARE
    v text; -- the type of the stored form
BEGIN
    FOREACH v IN ARRAY ARRAY['text', 'bytea'] LOOP
        EXECUTE pg_catalog.format($sql$
            CREATE FUNCTION fieldcrypt.adopt(value %1$s, format text, key text, field text, account text DEFAULT NULL,
                    previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, iv bytea DEFAULT NULL)
                RETURNS fieldcrypt.encrypted_text
                AS 'MODULE_PATHNAME', 'adopt_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
            COMMENT ON FUNCTION fieldcrypt.adopt(%1$s, text, text, text, text, text[], text, bytea) IS
                'seals the text that other software encrypted, by a key of the keyring; needs encrypt; for fieldcrypt_admin';

            CREATE FUNCTION fieldcrypt.adopt_document(value %1$s, format text, key text, document text, account text DEFAULT NULL,
                    previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, iv bytea DEFAULT NULL,
                    kind text DEFAULT NULL)
                RETURNS jsonb
                AS 'MODULE_PATHNAME', 'adopt_document_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 60;
            COMMENT ON FUNCTION fieldcrypt.adopt_document(%1$s, text, text, text, text, text[], text, bytea, text) IS
                'the JSON that other software encrypted as a whole, with each value sealed by the flag on its path of a protected document; needs encrypt; for fieldcrypt_admin';

            CREATE FUNCTION fieldcrypt.adopt_check(value %1$s, format text, key text, account text DEFAULT NULL,
                    previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, iv bytea DEFAULT NULL)
                RETURNS text
                AS 'MODULE_PATHNAME', 'adopt_check_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
            COMMENT ON FUNCTION fieldcrypt.adopt_check(%1$s, text, text, text, text[], text, bytea) IS
                'whether adopt() would open a value, and by which key, without doing it; for fieldcrypt_admin';
        $sql$, v);
    END LOOP;
END
$values$;

DO $types$
DECLARE
    v text; -- the type of the stored form
    t text; -- the type of what was encrypted
BEGIN
    FOREACH v IN ARRAY ARRAY['text', 'bytea'] LOOP
        FOREACH t IN ARRAY ARRAY['bytea', 'bigint', 'numeric', 'date', 'timestamptz', 'boolean', 'uuid', 'jsonb'] LOOP
            EXECUTE pg_catalog.format($sql$
                CREATE FUNCTION fieldcrypt.adopt_%2$s(value %1$s, format text, key text, field text, account text DEFAULT NULL,
                        previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, iv bytea DEFAULT NULL)
                    RETURNS fieldcrypt.encrypted_%2$s
                    AS 'MODULE_PATHNAME', 'adopt_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
                COMMENT ON FUNCTION fieldcrypt.adopt_%2$s(%1$s, text, text, text, text, text[], text, bytea) IS
                    'seals the %2$s that other software encrypted, by a key of the keyring; needs encrypt; for fieldcrypt_admin';
            $sql$, v, t);
        END LOOP;
    END LOOP;
END
$types$;

CREATE FUNCTION fieldcrypt.adopt(document jsonb, paths text[], format text, key text, field text, account text DEFAULT NULL,
        previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL)
    RETURNS jsonb
    AS 'MODULE_PATHNAME', 'adopt_at_paths_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.adopt(jsonb, text[], text, text, text, text, text[], text) IS
    'seals what other software encrypted at paths of a document, and leaves what is sealed already; needs encrypt; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.adopt_check(document jsonb, paths text[], format text, key text, account text DEFAULT NULL,
        previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL)
    RETURNS text[]
    AS 'MODULE_PATHNAME', 'adopt_check_at_paths_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.adopt_check(jsonb, text[], text, text, text, text[], text) IS
    'of each value at paths of a document, whether adopt() would open it, and by which key; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.adopt_check_column(of_table regclass, of_column name, format text, key text,
        account text DEFAULT NULL, account_column name DEFAULT NULL, previous_keys text[] DEFAULT '{}',
        associated_data text DEFAULT NULL, iv bytea DEFAULT NULL,
        OUT outcome text, OUT rows bigint)
    RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 5 SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    stored regtype;
    account_of text := quote_nullable(account);
BEGIN
    IF of_table IS NULL OR of_column IS NULL OR account IS NOT NULL AND account_column IS NOT NULL THEN
        RAISE EXCEPTION 'table and column are needed, and an account or the column of it'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT CASE WHEN t.typcategory = 'S' THEN 'text'::regtype ELSE t.oid::regtype END INTO stored
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = of_table AND a.attname = of_column AND a.attnum > 0 AND NOT a.attisdropped;
    IF stored IS NULL OR stored NOT IN ('text'::regtype, 'bytea'::regtype) THEN
        RAISE EXCEPTION 'column "%" of % is not of type text or bytea', of_column, of_table
            USING ERRCODE = 'wrong_object_type', HINT = 'Of a document, check the values at a path with adopt_check().';
    END IF;
    IF account_column IS NOT NULL THEN
        account_of := format('r.%I::text', account_column);
    END IF;
    RETURN QUERY EXECUTE pg_catalog.format(
        'SELECT fieldcrypt.adopt_check(r.%I::%s, $1, $2, %s, $3, $4, $5) AS o, count(*) FROM %s AS r GROUP BY o ORDER BY o',
        of_column, stored, account_of, of_table)
        USING format, key, previous_keys, associated_data, iv;
END
$function$;
COMMENT ON FUNCTION fieldcrypt.adopt_check_column(regclass, name, text, text, text, name, text[], text, bytea) IS
    'of how many values of a column adopt_check() says what; NULL is NULL; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.adopt_check_hash(hash text, format text, key text, value fieldcrypt.encrypted_text, prefix text DEFAULT '')
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'adopt_check_hash_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.adopt_check_hash(text, text, text, fieldcrypt.encrypted_text, text) IS
    'whether a keyed hash of other software was made of a value (behind a prefix); needs search; for fieldcrypt_admin';
