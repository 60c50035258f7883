-- Comparison and search. `=` and `<>` live in pg_catalog, so that they are found under every
-- search_path; there is no `<`, since an order by token would mean nothing. Their functions are
-- STABLE: the planner would fold two constants before it asks the support function.

CREATE FUNCTION fieldcrypt.encrypted_eqsel(internal, oid, internal, integer) RETURNS double precision
    AS 'MODULE_PATHNAME', 'encrypted_eqsel_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_eqsel(internal, oid, internal, integer) IS
    'selectivity of =, without evaluating the other side';

CREATE FUNCTION fieldcrypt.encrypted_neqsel(internal, oid, internal, integer) RETURNS double precision
    AS 'MODULE_PATHNAME', 'encrypted_neqsel_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.encrypted_neqsel(internal, oid, internal, integer) IS
    'selectivity of <>, without evaluating the other side';

DO $family$
DECLARE
    e text; -- the encrypted type
    n text; -- the type of its plain values
    item record;
BEGIN
    FOR e, n IN SELECT encrypted, plain FROM fieldcrypt.encrypted_types() LOOP
        -- what the planner puts around the other side of a comparison
        FOR item IN VALUES
            (e, e, 'probe', ''),
            (n, e, 'probe_native', 'SUPPORT fieldcrypt.encrypted_support'),
            (e || '[]', e || '[]', 'probe_array', ''),
            (n || '[]', e || '[]', 'probe_native_array', 'SUPPORT fieldcrypt.encrypted_support')
        LOOP
            EXECUTE pg_catalog.format($sql$
                CREATE FUNCTION fieldcrypt.probe(%1$s, integer) RETURNS %2$s
                    AS 'MODULE_PATHNAME', '%3$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 %4$s;
                COMMENT ON FUNCTION fieldcrypt.probe(%1$s, integer) IS
                    'what the planner puts around the other side of a comparison: tokens of that field under the session''s account';
            $sql$, item.column1, item.column2, item.column3, item.column4);
        END LOOP;

        FOR item IN VALUES
            (e, e, 'eq', 'compares tokens', ', HASHES, MERGES'),
            (e, n, 'compare_native', 'replaced by the planner where it knows the field, an error elsewhere', ''),
            (n, e, 'compare_native', 'replaced by the planner where it knows the field, an error elsewhere', '')
        LOOP
            EXECUTE pg_catalog.format($sql$
                CREATE FUNCTION fieldcrypt.encrypted_eq(%1$s, %2$s) RETURNS boolean
                    AS 'MODULE_PATHNAME', 'encrypted_%3$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
                    SUPPORT fieldcrypt.encrypted_support;
                COMMENT ON FUNCTION fieldcrypt.encrypted_eq(%1$s, %2$s) IS 'equal: %5$s';

                CREATE FUNCTION fieldcrypt.encrypted_ne(%1$s, %2$s) RETURNS boolean
                    AS 'MODULE_PATHNAME', 'encrypted_%4$s_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE
                    SUPPORT fieldcrypt.encrypted_support;
                COMMENT ON FUNCTION fieldcrypt.encrypted_ne(%1$s, %2$s) IS 'not equal: %5$s';

                CREATE OPERATOR pg_catalog.= (
                    FUNCTION = fieldcrypt.encrypted_eq, LEFTARG = %1$s, RIGHTARG = %2$s,
                    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
                    RESTRICT = fieldcrypt.encrypted_eqsel, JOIN = pg_catalog.eqjoinsel%6$s
                );
                COMMENT ON OPERATOR pg_catalog.= (%1$s, %2$s) IS 'equal, by token';

                CREATE OPERATOR pg_catalog.<> (
                    FUNCTION = fieldcrypt.encrypted_ne, LEFTARG = %1$s, RIGHTARG = %2$s,
                    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
                    RESTRICT = fieldcrypt.encrypted_neqsel, JOIN = pg_catalog.neqjoinsel
                );
                COMMENT ON OPERATOR pg_catalog.<> (%1$s, %2$s) IS 'not equal, by token';
            $sql$, item.column1, item.column2, item.column3,
                CASE item.column3 WHEN 'eq' THEN 'ne' ELSE item.column3 END, item.column4, item.column5);
        END LOOP;

        -- The order of btree indexes. It groups equal values and means nothing else, so its operators
        -- have names that nobody writes by accident.
        FOR item IN VALUES
            ('lt', '<#', '>#', '>=#', 'before'),
            ('le', '<=#', '>=#', '>#', 'before or equal'),
            ('ge', '>=#', '<=#', '<#', 'after or equal'),
            ('gt', '>#', '<#', '<=#', 'after')
        LOOP
            EXECUTE pg_catalog.format($sql$
                CREATE FUNCTION fieldcrypt.encrypted_%2$s(%1$s, %1$s) RETURNS boolean
                    AS 'MODULE_PATHNAME', 'encrypted_%2$s_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
                COMMENT ON FUNCTION fieldcrypt.encrypted_%2$s(%1$s, %1$s) IS
                    '%6$s in the order of btree indexes';
                CREATE OPERATOR fieldcrypt.%3$s (
                    FUNCTION = fieldcrypt.encrypted_%2$s, LEFTARG = %1$s, RIGHTARG = %1$s,
                    COMMUTATOR = OPERATOR(fieldcrypt.%4$s), NEGATOR = OPERATOR(fieldcrypt.%5$s)
                );
                COMMENT ON OPERATOR fieldcrypt.%3$s (%1$s, %1$s) IS '%6$s in the order of btree indexes';
            $sql$, e, item.column1, item.column2, item.column3, item.column4, item.column5);
        END LOOP;

        EXECUTE pg_catalog.format($sql$
            CREATE FUNCTION fieldcrypt.encrypted_cmp(%1$s, %1$s) RETURNS integer
                AS 'MODULE_PATHNAME', 'encrypted_cmp_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.encrypted_cmp(%1$s, %1$s) IS
                'the order of btree indexes: by field, index key and token';

            CREATE FUNCTION fieldcrypt.encrypted_hash(%1$s) RETURNS integer
                AS 'MODULE_PATHNAME', 'encrypted_hash_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.encrypted_hash(%1$s) IS
                'hash of field, index key and token';

            CREATE FUNCTION fieldcrypt.encrypted_hash_extended(%1$s, bigint) RETURNS bigint
                AS 'MODULE_PATHNAME', 'encrypted_hash_extended_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
            COMMENT ON FUNCTION fieldcrypt.encrypted_hash_extended(%1$s, bigint) IS
                '64-bit hash of field, index key and token, for hash partitioning';

            CREATE OPERATOR FAMILY %1$s_ops USING btree;
            CREATE OPERATOR CLASS %1$s_ops
                DEFAULT FOR TYPE %1$s USING btree FAMILY %1$s_ops AS
                OPERATOR 1 fieldcrypt.<#,
                OPERATOR 2 fieldcrypt.<=#,
                OPERATOR 3 pg_catalog.=,
                OPERATOR 4 fieldcrypt.>=#,
                OPERATOR 5 fieldcrypt.>#,
                FUNCTION 1 fieldcrypt.encrypted_cmp(%1$s, %1$s);
            COMMENT ON OPERATOR FAMILY %1$s_ops USING btree IS 'equality by token';
            COMMENT ON OPERATOR CLASS %1$s_ops USING btree IS 'equality by token';

            CREATE OPERATOR FAMILY %1$s_ops USING hash;
            CREATE OPERATOR CLASS %1$s_ops
                DEFAULT FOR TYPE %1$s USING hash FAMILY %1$s_ops AS
                OPERATOR 1 pg_catalog.=,
                FUNCTION 1 fieldcrypt.encrypted_hash(%1$s),
                FUNCTION 2 fieldcrypt.encrypted_hash_extended(%1$s, bigint);
            COMMENT ON OPERATOR FAMILY %1$s_ops USING hash IS 'equality by token';
            COMMENT ON OPERATOR CLASS %1$s_ops USING hash IS 'equality by token';
        $sql$, e);
    END LOOP;
END
$family$;
