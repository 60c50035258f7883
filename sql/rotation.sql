-- Rotation of index keys: which columns have tokens, and how they get new ones while writers wait.

CREATE FUNCTION fieldcrypt.columns_of_tokens(with_documents boolean, OUT relation regclass, OUT column_name name,
        OUT account_column name) RETURNS SETOF record
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    WITH holder (type) AS MATERIALIZED (
        SELECT t.oid FROM pg_type AS t WHERE t.oid >= 16384 AND fieldcrypt.holds_encrypted(t.oid) = 'value'
    )
    SELECT c.oid::regclass, a.attname, NULL::name
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN holder AS h ON h.type = a.atttypid
    WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND c.relnamespace <> 'fieldcrypt'::regnamespace
        AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
    UNION ALL
    SELECT d.relation, d.column_name, d.account_column
    FROM fieldcrypt.documents AS d
    WHERE d.blob_column IS NULL AND (with_documents
        -- what compares tokens of documents with each other
        OR EXISTS (SELECT FROM pg_depend AS p
            WHERE p.refclassid = 'pg_proc'::regclass AND p.refobjid = 'fieldcrypt.token(jsonb, text, text)'::regprocedure
                AND (p.classid = 'pg_class'::regclass
                     AND EXISTS (SELECT FROM pg_index AS i WHERE i.indexrelid = p.objid AND i.indrelid = d.relation)
                  OR p.classid = 'pg_attrdef'::regclass
                     AND EXISTS (SELECT FROM pg_attrdef AS e WHERE e.oid = p.objid AND e.adrelid = d.relation))));
$$;
COMMENT ON FUNCTION fieldcrypt.columns_of_tokens(boolean) IS
    'the columns whose tokens rotate_index_key() makes anew: of encrypted types, and documents that have an index or a generated column by token(), or all';

CREATE FUNCTION fieldcrypt.hold_tokens(with_documents boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    held oid[] := '{}';
BEGIN
    -- a table may get such a column before it is locked. Who writes to a partition locks what it is part of first
    LOOP
        SELECT c.relation INTO part
        FROM fieldcrypt.columns_of_tokens(with_documents) AS c JOIN pg_class AS k ON k.oid = c.relation
        WHERE c.relation <> ALL (held)
        ORDER BY k.relkind = 'r', c.relation::oid LIMIT 1;
        EXIT WHEN NOT FOUND;
        EXECUTE format('LOCK TABLE ONLY %s IN EXCLUSIVE MODE', part);
        held := held || part::oid;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.hold_tokens(boolean) IS
    'has everybody wait who would write, or lock rows, in the tables of these columns, until the transaction ends; who reads goes on';

CREATE FUNCTION fieldcrypt.make_tokens(of_account text, with_documents boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    assignments text;
    condition text;
    changed bigint := 0;
BEGIN
    FOR part, assignments, condition IN
        SELECT c.relation,
            string_agg(format('%1$I = CASE WHEN %2$s THEN fieldcrypt.reencrypt(%1$I) ELSE %1$I END', c.column_name, w.older), ', '),
            string_agg(w.older, ' OR ')
        FROM fieldcrypt.columns_of_tokens(with_documents) AS c JOIN pg_class AS k ON k.oid = c.relation
            CROSS JOIN LATERAL (SELECT format('CASE WHEN %s = %L THEN fieldcrypt.needs_reencryption(%I) ELSE false END',
                CASE WHEN c.account_column IS NULL THEN format('fieldcrypt.account_of(%I)', c.column_name)
                    ELSE fieldcrypt.account_text(c.relation, c.account_column) END, of_account, c.column_name)) AS w (older)
        WHERE k.relkind = 'r'
        GROUP BY c.relation ORDER BY c.relation::oid
    LOOP
        changed := changed + fieldcrypt.run_as_owner(part, format('UPDATE ONLY %s SET %s WHERE %s', part, assignments, condition), true);
    END LOOP;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION fieldcrypt.make_tokens(text, boolean) IS
    'seals an account''s values in these columns anew that are under older keys; how many rows';

CREATE FUNCTION fieldcrypt.plan_rotate_index_key(with_documents boolean DEFAULT false) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH t AS (
        SELECT c.oid::regclass AS relation, greatest(c.reltuples, 0) AS rows, pg_table_size(c.oid) AS size
        FROM pg_class AS c
        WHERE c.relkind = 'r' AND c.oid IN (SELECT k.relation FROM fieldcrypt.columns_of_tokens(with_documents) AS k)
    )
    SELECT 'notice', t.relation::text, format('about %s rows in %s', t.rows, pg_size_pretty(t.size)),
        'Who writes to it waits; who reads does not.'
    FROM t
    UNION ALL
    SELECT 'notice', 'all tables', format('writers wait for about %s s, if all of these rows are of the account',
            round((sum(t.rows) * 0.000015)::numeric, 1)),
        'SET lock_timeout bounds the wait for those who write already.'
    FROM t HAVING count(*) > 0
    UNION ALL
    SELECT 'warning', p.subject, COALESCE(p.problem, 'its tokens cannot be made anew'),
        'Drop it meanwhile: the rotation is refused where the account has values in it.'
    FROM fieldcrypt.places_of_values() AS p LEFT JOIN pg_class AS c ON c.oid = p.relation
    WHERE p.holds <> 'document' AND (p.problem IS NOT NULL OR p.holds = 'inside' OR c.relkind = 'm')
    UNION ALL
    SELECT 'warning', format('field "%s"', f.name), 'keeps tokens only, which cannot be made anew',
        'The rotation is refused where the account has values of it.'
    FROM fieldcrypt.field AS f WHERE f.store = 'token'
    UNION ALL
    SELECT 'notice', format('document "%s"', d.name), 'keeps tokens under the older key, by which matches() goes on to find it',
        format('CALL fieldcrypt.reencrypt_existing(%L);', d.name)
    FROM fieldcrypt.documents AS d
    WHERE d.blob_column IS NULL AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = d.relation)
        AND NOT EXISTS (SELECT FROM fieldcrypt.columns_of_tokens(with_documents) AS k
                        WHERE k.relation = d.relation AND k.column_name = d.column_name);
$$;
COMMENT ON FUNCTION fieldcrypt.plan_rotate_index_key(boolean) IS
    'what rotate_index_key() would have to do with, for how long writers may wait, and what may be in its way (warning); for fieldcrypt_key_admin';
