-- What keeps a database from storing values that nobody could read, find or trust.

CREATE FUNCTION fieldcrypt.holds_encrypted(type oid) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE part (type, direct) AS (
        SELECT type, true
        UNION
        SELECT n.type, part.direct AND n.direct
        FROM part CROSS JOIN LATERAL (
            SELECT t.typbasetype, true FROM pg_catalog.pg_type AS t
            WHERE t.oid = part.type AND t.typtype = 'd'
            UNION ALL
            SELECT t.typelem, false FROM pg_catalog.pg_type AS t
            WHERE t.oid = part.type AND t.typelem <> 0 AND t.typlen = -1
            UNION ALL
            SELECT a.atttypid, false FROM pg_catalog.pg_type AS t
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.typrelid
            WHERE t.oid = part.type AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT r.rngsubtype, false FROM pg_catalog.pg_range AS r WHERE r.rngtypid = part.type
        ) AS n (type, direct)
    )
    SELECT CASE WHEN pg_catalog.bool_or(direct) THEN 'value' ELSE 'inside' END
    FROM part WHERE part.type IN (SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t)
    HAVING pg_catalog.count(*) > 0;
END;
COMMENT ON FUNCTION fieldcrypt.holds_encrypted(oid) IS
    'value: an encrypted type or a domain over one; inside: an array, a row or a range with one in it; NULL: none';

CREATE FUNCTION fieldcrypt.handle_of(type oid, typmod integer) RETURNS integer
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE base (type, typmod) AS (
        SELECT type, typmod
        UNION ALL
        SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END,
            CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE base.typmod END
        FROM base JOIN pg_catalog.pg_type AS t ON t.oid = base.type
        WHERE t.typtype = 'd' OR t.typelem <> 0 AND t.typlen = -1
    )
    SELECT base.typmod FROM base
    WHERE base.type IN (SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t);
END;
COMMENT ON FUNCTION fieldcrypt.handle_of(oid, integer) IS
    'handle of the field of a column, seen through domains and arrays: -1 without a field, NULL for other types';

CREATE FUNCTION fieldcrypt.plain_type_of(type oid) RETURNS regtype
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen record;
BEGIN
    -- not recursive: PostgreSQL would expect many, and read the whole of pg_type
    LOOP
        SELECT t.typname, t.typtype, t.typbasetype, t.typelem, t.typlen, t.typmodin INTO seen FROM pg_type AS t WHERE t.oid = type;
        type := CASE WHEN seen.typtype = 'd' THEN seen.typbasetype WHEN seen.typelem <> 0 AND seen.typlen = -1 THEN seen.typelem END;
        EXIT WHEN type IS NULL;
    END LOOP;
    -- as encrypted_types() has it
    RETURN CASE WHEN seen.typmodin = 'fieldcrypt.encrypted_typmod_in'::regproc AND seen.typelem = 0
        THEN to_regtype(substr(seen.typname, 11)) END;
END
$$;
COMMENT ON FUNCTION fieldcrypt.plain_type_of(oid) IS
    'type of the plain values of an encrypted type, seen through domains and arrays; NULL for other types';

CREATE FUNCTION fieldcrypt.is_literal(expression pg_node_tree) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- how constants of the types, their casts and their comparisons with text stand in a stored expression
    SELECT expression::text ~ pg_catalog.concat(
        '{CONST :consttype (',
        (SELECT pg_catalog.string_agg(pg_catalog.concat(e.oid, '|', e.typarray), '|')
         FROM fieldcrypt.encrypted_types() AS t JOIN pg_catalog.pg_type AS e ON e.oid = t.encrypted),
        ') |:funcid (',
        (SELECT pg_catalog.string_agg(c.castfunc::pg_catalog.oid::text, '|')
         FROM fieldcrypt.encrypted_types() AS t JOIN pg_catalog.pg_cast AS c
            ON c.casttarget = t.encrypted AND c.castsource <> t.encrypted),
        ') |:opfuncid (',
        (SELECT pg_catalog.string_agg(p.oid::text, '|') FROM pg_catalog.pg_proc AS p
         WHERE p.pronamespace = 'fieldcrypt'::pg_catalog.regnamespace
            AND p.prosrc = 'encrypted_compare_native_wrapper'), ') ');
END;
COMMENT ON FUNCTION fieldcrypt.is_literal(pg_node_tree) IS
    'whether a stored expression holds a value for an encrypted type';

CREATE FUNCTION fieldcrypt.hold_account() RETURNS trigger
    AS 'MODULE_PATHNAME', 'hold_account_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.hold_account() IS
    'row trigger of protect_table(): each value''s account is the row''s';

CREATE FUNCTION fieldcrypt.account_text(relation regclass, account_column name) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- a cast of a user's type would be the user's code
    RETURN (SELECT format(CASE WHEN t.oid < 16384 OR t.typtype = 'd' AND t.typbasetype < 16384
                          THEN '%I::text' ELSE 'pg_catalog.concat(%I)' END, account_column)
            FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
            WHERE a.attrelid = relation AND a.attname = account_column);
END
$$;
COMMENT ON FUNCTION fieldcrypt.account_text(regclass, name) IS
    'an expression over a row: its account as a text';

CREATE FUNCTION fieldcrypt.protect_table(relation regclass, account_column name,
        on_mismatch text DEFAULT 'refuse') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    encrypted_columns name[];
    account_text text;
    foreign_row boolean;
BEGIN
    IF on_mismatch NOT IN ('refuse', 'rebind') THEN
        RAISE EXCEPTION 'invalid value for "on_mismatch"'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It is one of: refuse, rebind.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation AND attnum > 0
                   AND attname = account_column AND NOT attisdropped) THEN
        RAISE EXCEPTION 'column "%" of relation "%" does not exist', account_column, relation
            USING ERRCODE = 'undefined_column';
    END IF;
    SELECT array_agg(attname ORDER BY attnum) INTO encrypted_columns
    FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
        AND fieldcrypt.holds_encrypted(atttypid) = 'value';
    IF encrypted_columns IS NULL OR account_column = ANY (encrypted_columns) THEN
        RAISE EXCEPTION 'relation "%" cannot be protected', relation
            USING ERRCODE = 'wrong_object_type',
                HINT = 'It needs a column of an encrypted type, and the account in a plain one.';
    END IF;
    IF EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
                   AND fieldcrypt.holds_encrypted(atttypid) = 'inside') THEN
        RAISE EXCEPTION 'relation "%" cannot be protected', relation
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Encrypted values inside arrays and rows are not checked. Use a table of their own.';
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    account_text := fieldcrypt.account_text(relation, account_column);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s)', relation,
        (SELECT string_agg(format('(%1$I IS NOT NULL AND fieldcrypt.account_of(%1$I)'
                                  ' IS DISTINCT FROM %2$s)', c, account_text), ' OR ')
         FROM unnest(encrypted_columns) AS c))
        INTO foreign_row;
    IF foreign_row THEN
        RAISE EXCEPTION 'relation "%" holds values of other accounts than its rows', relation
            USING ERRCODE = 'check_violation',
                HINT = 'Compare fieldcrypt.account_of(...) with the account column.';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger
               WHERE tgrelid = relation AND tgname = 'zzz_fieldcrypt_hold_account') THEN
        PERFORM fieldcrypt.unprotect_table(relation);
    END IF;
    -- it runs last, so that no other trigger changes account or value after it
    EXECUTE format('CREATE TRIGGER zzz_fieldcrypt_hold_account BEFORE INSERT OR UPDATE ON %s'
                   ' FOR EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account(%L, %L)',
                   relation, account_column, on_mismatch);
END
$$;
COMMENT ON FUNCTION fieldcrypt.protect_table(regclass, name, text) IS
    'from now on each encrypted value''s account must be the row''s; other values are refused, or re-encrypted (rebind)';

CREATE FUNCTION fieldcrypt.unprotect_table(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('DROP TRIGGER zzz_fieldcrypt_hold_account ON %s', relation);
END
$$;
COMMENT ON FUNCTION fieldcrypt.unprotect_table(regclass) IS
    'takes back protect_table()';

CREATE FUNCTION fieldcrypt.calls_decrypt(class oid, object oid) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE used (class, object) AS (
        SELECT class, object
        UNION
        SELECT n.class, n.object
        FROM used CROSS JOIN LATERAL (
            SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend AS d
                LEFT JOIN pg_catalog.pg_class AS c ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.refobjid
            WHERE d.classid = used.class AND d.objid = used.object
                AND (c.relkind = 'v' OR d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
                                                         'pg_catalog.pg_operator'::pg_catalog.regclass))
            UNION ALL
            -- the query of a view
            SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid FROM pg_catalog.pg_rewrite AS r
            WHERE used.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND r.ev_class = used.object
        ) AS n (class, object)
    )
    SELECT EXISTS (
        SELECT FROM used JOIN pg_catalog.pg_proc AS p ON p.oid = used.object
        WHERE used.class = 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND (p.pronamespace = 'fieldcrypt'::pg_catalog.regnamespace AND p.proname IN ('decrypt', 'reveal')
                -- of a body that is a text, no dependencies are recorded
                OR p.prosrc ~ '\mfieldcrypt"?\s*\.\s*"?(decrypt|reveal)\M'));
END;
COMMENT ON FUNCTION fieldcrypt.calls_decrypt(oid, oid) IS
    'whether an object''s expressions call decrypt() or reveal(), themselves or in functions and views that they use';

CREATE FUNCTION fieldcrypt.check_columns(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem record;
BEGIN
    SELECT a.attname AS column INTO problem
    FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND fieldcrypt.handle_of(a.atttypid, a.atttypmod) < 0
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of an encrypted type has no field', problem.column
            USING ERRCODE = 'invalid_table_definition',
                HINT = 'Name the field: fieldcrypt.encrypted_text(''lead.ssn'').';
    END IF;

    SELECT a.attname AS column INTO problem
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND fieldcrypt.handle_of(a.atttypid, a.atttypmod) IS NOT NULL
        AND (a.atthasmissing OR pg_get_expr(d.adbin, d.adrelid) !~ '^NULL(::|$)')
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of an encrypted type cannot have a default', problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Rows would share one encrypted value or one account. Add the column without a default and UPDATE it.';
    END IF;

    SELECT a.attname AS column INTO problem
    FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND fieldcrypt.holds_encrypted(a.atttypid) = 'inside'
        AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation
                    AND t.tgfoid = 'fieldcrypt.hold_account()'::regprocedure)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of a protected table cannot hold encrypted values inside of others', problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = 'The row trigger of protect_table() does not look into arrays and rows. Use a table of their own.';
    END IF;

    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = relation AND fieldcrypt.is_literal(conbin)) THEN
        RAISE EXCEPTION 'a check of relation "%" holds a literal of an encrypted type', relation
            USING ERRCODE = 'feature_not_supported', HINT = 'It would need the root key at every load.';
    END IF;

    SELECT a.attname AS column INTO problem
    FROM pg_constraint AS c
        CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k (own, other)
        JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.own
        JOIN pg_attribute AS b ON b.attrelid = c.confrelid AND b.attnum = k.other
    WHERE c.contype = 'f' AND relation IN (c.conrelid, c.confrelid)
        AND fieldcrypt.handle_of(a.atttypid, a.atttypmod)
            IS DISTINCT FROM fieldcrypt.handle_of(b.atttypid, b.atttypmod)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'foreign key column "%" is not of the same field as the column it references', problem.column
            USING ERRCODE = 'invalid_foreign_key', HINT = 'Tokens of different fields never match.';
    END IF;

    SELECT a.attname AS column INTO problem
    FROM pg_partitioned_table AS p
        JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs)
    WHERE p.partrelid = relation AND p.partstrat IN ('l', 'r')
        AND fieldcrypt.handle_of(a.atttypid, a.atttypmod) IS NOT NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'relation "%" cannot be partitioned by list or range of column "%"', relation, problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = 'The bounds would be literals of an encrypted type. PARTITION BY HASH works.';
    END IF;

    SELECT a.attname AS column, fieldcrypt.plain_type_of(a.atttypid) AS plain INTO problem
    FROM pg_attribute AS a JOIN fieldcrypt.field AS f ON f.handle = fieldcrypt.handle_of(a.atttypid, a.atttypmod)
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND f.search <> '{}'
        AND (fieldcrypt.plain_type_of(a.atttypid) IN ('bytea'::regtype, 'numeric'::regtype, 'timestamptz'::regtype)
            OR fieldcrypt.plain_type_of(a.atttypid) = 'boolean'::regtype AND NOT f.small_domain)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" cannot be of a field that is searched', problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = CASE problem.plain WHEN 'boolean'::regtype
                    THEN 'A boolean has two values: tokens would show which rows are alike, and who knows one of them'
                        ' knows all. create_field(..., small_domain => true) permits it.'
                    ELSE 'Only text, bigint, date and uuid values can be searched. Use a field without search.' END;
    END IF;

    SELECT a.attname AS column, f.search <> '{}' AS follows INTO problem
    FROM pg_attribute AS a JOIN fieldcrypt.field AS f ON f.handle = fieldcrypt.handle_of(a.atttypid, a.atttypmod)
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND (f.search = '{}' OR NOT f.backfilled)
        AND (EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = relation AND a.attnum = ANY (i.indkey)
                        AND (i.indisunique OR i.indisexclusion))
            OR EXISTS (SELECT FROM pg_partitioned_table AS p
                       WHERE p.partrelid = relation AND a.attnum = ANY (p.partattrs)))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" cannot be unique or a partition key: its field cannot be searched', problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = CASE WHEN problem.follows THEN 'Its search was changed: CALL fieldcrypt.reencrypt_field(...) first.'
                    ELSE 'Equal values could not be told. Use a field with search => ''{exact}'' or ''{unique}''.' END;
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_columns(regclass) IS
    'fails if a relation has a column of an encrypted type that could not work';

CREATE FUNCTION fieldcrypt.check_expressions(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    SELECT format(e.kind, e.name) INTO problem
    FROM (
        SELECT 'index "%s"', c.relname, 'pg_class'::regclass, c.oid
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = relation AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
        UNION ALL
        SELECT 'statistics object "%s"', stxname, 'pg_statistic_ext'::regclass, oid
        FROM pg_statistic_ext WHERE stxrelid = relation AND stxexprs IS NOT NULL
        UNION ALL
        SELECT 'generated column "%s"', a.attname, 'pg_attrdef'::regclass, d.oid
        FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = relation AND a.attgenerated <> '' AND NOT a.attisdropped
    ) AS e (kind, name, class, object)
    WHERE fieldcrypt.calls_decrypt(e.class, e.object)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% would store plain values', problem
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Its expression decrypts. Encrypted values are found by their tokens: index the column, or fieldcrypt.tokens(...).';
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_expressions(regclass) IS
    'fails if an index, a statistics object or a generated column of a relation would store plain values';

CREATE FUNCTION fieldcrypt.check_type(type regtype) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_type WHERE oid = type AND typtype = 'd'
               AND fieldcrypt.handle_of(typbasetype, typtypmod) < 0) THEN
        RAISE EXCEPTION 'domain % over an encrypted type has no field', type
            USING ERRCODE = 'invalid_object_definition',
                HINT = 'Name the field: fieldcrypt.encrypted_text(''lead.ssn'').';
    END IF;
    IF EXISTS (SELECT FROM pg_type WHERE oid = type AND typtype = 'd'
               AND fieldcrypt.holds_encrypted(oid) IS NOT NULL
               AND pg_get_expr(typdefaultbin, 0) !~ '^NULL(::|$)')
        OR EXISTS (SELECT FROM pg_constraint WHERE contypid = type AND fieldcrypt.is_literal(conbin)) THEN
        RAISE EXCEPTION 'a default or check of domain % holds a literal of an encrypted type', type
            USING ERRCODE = 'feature_not_supported', HINT = 'It would need the root key at every load.';
    END IF;
    IF EXISTS (SELECT FROM pg_range
               WHERE rngtypid = type AND fieldcrypt.holds_encrypted(rngsubtype) IS NOT NULL) THEN
        RAISE EXCEPTION 'range type % cannot be over an encrypted type', type
            USING ERRCODE = 'feature_not_supported', HINT = 'Encrypted values have no order.';
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_type(regtype) IS
    'fails if a domain or range is over an encrypted type in a way that could not work';

CREATE FUNCTION fieldcrypt.check_definition() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    command record;
    relation regclass;
BEGIN
    FOR command IN SELECT classid, objid, command_tag FROM pg_event_trigger_ddl_commands() LOOP
        IF command.classid = 'pg_type'::regclass THEN
            PERFORM fieldcrypt.check_type(command.objid);
        END IF;
        SELECT c.oid INTO relation FROM pg_class AS c
        WHERE c.relkind IN ('r', 'p', 'm', 'f', 'c') AND c.oid IN (
            CASE WHEN command.classid = 'pg_class'::regclass THEN command.objid END,
            CASE WHEN command.classid = 'pg_type'::regclass
                THEN (SELECT typrelid FROM pg_type WHERE oid = command.objid) END,
            CASE WHEN command.classid = 'pg_class'::regclass
                THEN (SELECT indrelid FROM pg_index WHERE indexrelid = command.objid) END,
            CASE WHEN command.classid = 'pg_constraint'::regclass
                THEN (SELECT conrelid FROM pg_constraint WHERE oid = command.objid) END,
            CASE WHEN command.classid = 'pg_statistic_ext'::regclass
                THEN (SELECT stxrelid FROM pg_statistic_ext WHERE oid = command.objid) END)
        LIMIT 1;
        -- types below 16384 are PostgreSQL's own
        IF FOUND AND EXISTS (SELECT FROM pg_attribute
                             WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
                                 AND atttypid >= 16384
                                 AND fieldcrypt.holds_encrypted(atttypid) IS NOT NULL) THEN
            PERFORM fieldcrypt.check_columns(relation);
        END IF;
        IF relation IS NOT NULL THEN
            PERFORM fieldcrypt.check_expressions(relation);
            PERFORM fieldcrypt.inherit_documents(relation);
        END IF;
        IF command.command_tag = 'CREATE MATERIALIZED VIEW' AND fieldcrypt.calls_decrypt(command.classid, command.objid) THEN
            RAISE WARNING 'materialized view "%" stores plain values', relation
                USING HINT = 'Its query decrypts. A view of fieldcrypt.create_view(...) decrypts when it is read.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_definition() IS
    'event trigger: refuses columns, domains, defaults, checks and keys of encrypted types that could not work, and what would store plain values';

CREATE EVENT TRIGGER fieldcrypt_check_definition ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE DOMAIN',
                 'ALTER DOMAIN', 'CREATE TYPE', 'ALTER TYPE', 'CREATE FOREIGN TABLE',
                 'ALTER FOREIGN TABLE', 'CREATE MATERIALIZED VIEW', 'CREATE INDEX', 'CREATE STATISTICS', 'CREATE SCHEMA')
    EXECUTE FUNCTION fieldcrypt.check_definition();
COMMENT ON EVENT TRIGGER fieldcrypt_check_definition IS
    'refuses columns, domains, defaults, checks and keys of encrypted types that could not work, and what would store plain values';
