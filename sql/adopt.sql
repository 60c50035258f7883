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

-- what stands beside a value in its row

CREATE FUNCTION fieldcrypt.pieces_of_template(template text)
    RETURNS TABLE (place bigint, literal text, column_name name)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 5 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF template !~ '^(\{\{|\}\}|\{[^{}]+\}|[^{}]+)+$' THEN
        RAISE EXCEPTION 'invalid value for "associated_data_template"'
            USING ERRCODE = 'invalid_parameter_value', HINT = '{name} stands for a column of the row, {{ and }} for a brace.';
    END IF;
    RETURN QUERY
        SELECT p.place, CASE WHEN p.piece[1] !~ '^\{[^{]' THEN replace(replace(p.piece[1], '{{', '{'), '}}', '}') END,
            CASE WHEN p.piece[1] ~ '^\{[^{]' THEN btrim(p.piece[1], '{}')::name END
        FROM regexp_matches(template, '\{\{|\}\}|\{[^{}]+\}|[^{}]+', 'g') WITH ORDINALITY AS p (piece, place);
END
$$;
COMMENT ON FUNCTION fieldcrypt.pieces_of_template(text) IS
    'what the associated data of a row are made of: texts, and columns of the row';

CREATE FUNCTION fieldcrypt.text_of_template(template text) RETURNS text
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN COALESCE((SELECT string_agg(CASE WHEN p.column_name IS NULL THEN format('%L::text', p.literal) ELSE format('%I::text', p.column_name) END,
                            ' || ' ORDER BY p.place)
                     FROM fieldcrypt.pieces_of_template(template) AS p), 'NULL::text');
END
$$;
COMMENT ON FUNCTION fieldcrypt.text_of_template(text) IS
    'an expression over a row: its associated data';

CREATE FUNCTION fieldcrypt.adopt_check_column(of_table regclass, of_column name, format text, key text,
        account text DEFAULT NULL, account_column name DEFAULT NULL, previous_keys text[] DEFAULT '{}',
        associated_data text DEFAULT NULL, iv bytea DEFAULT NULL, associated_data_template text DEFAULT NULL,
        iv_column name DEFAULT NULL, OUT outcome text, OUT rows bigint)
    RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 5 SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    stored regtype;
    account_of text := quote_nullable(account);
    associated_data_of text := '$4';
    iv_of text := '$5';
    missing text := '';
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
    IF associated_data IS NOT NULL AND associated_data_template IS NOT NULL OR iv IS NOT NULL AND iv_column IS NOT NULL THEN
        RAISE EXCEPTION 'associated data and iv are the same for all rows, or stand in each row'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM fieldcrypt.check_beside(of_table, of_column, associated_data_template, iv_column);
    IF associated_data_template IS NOT NULL THEN
        associated_data_of := fieldcrypt.text_of_template(associated_data_template);
        missing := pg_catalog.format(' WHEN (%s) IS NULL THEN ''has no associated data''', associated_data_of);
    END IF;
    IF iv_column IS NOT NULL THEN
        iv_of := pg_catalog.format('r.%I', iv_column);
        missing := missing || pg_catalog.format(' WHEN %s IS NULL THEN ''has no iv''', iv_of);
    END IF;
    RETURN QUERY EXECUTE pg_catalog.format(
        'SELECT CASE WHEN r.%1$I IS NULL THEN NULL%2$s ELSE fieldcrypt.adopt_check(r.%1$I::%3$s, $1, $2, %4$s, $3, %5$s, %6$s) END, count(*)'
        ' FROM %7$s AS r GROUP BY 1 ORDER BY 1',
        of_column, missing, stored, account_of, associated_data_of, iv_of, of_table)
        USING format, key, previous_keys, associated_data, iv;
END
$function$;
COMMENT ON FUNCTION fieldcrypt.adopt_check_column(regclass, name, text, text, text, name, text[], text, bytea, text, name) IS
    'of how many values of a column adopt_check() says what; NULL is NULL; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.adopt_check_hash(hash text, format text, key text, value fieldcrypt.encrypted_text, prefix text DEFAULT '')
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'adopt_check_hash_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.adopt_check_hash(text, text, text, fieldcrypt.encrypted_text, text) IS
    'whether a keyed hash of other software was made of a value (behind a prefix); needs search; for fieldcrypt_admin';
