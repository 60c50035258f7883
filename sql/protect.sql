-- What keeps a database from storing values that nobody could read, find or trust.

CREATE FUNCTION fieldcrypt.hold_account() RETURNS trigger
    AS 'MODULE_PATHNAME', 'hold_account_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.hold_account() IS
    'row trigger of protect_table(): each value''s account is the row''s';

CREATE FUNCTION fieldcrypt.protect_table(relation regclass, account_column name,
        on_mismatch text DEFAULT 'refuse') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    encrypted constant oid := 'fieldcrypt.encrypted_text'::regtype;
    encrypted_columns name[];
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
    SELECT array_agg(a.attname ORDER BY a.attnum) INTO encrypted_columns
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND encrypted IN (t.oid, t.typbasetype);
    IF encrypted_columns IS NULL OR account_column = ANY (encrypted_columns) THEN
        RAISE EXCEPTION 'relation "%" cannot be protected', relation
            USING ERRCODE = 'wrong_object_type',
                HINT = 'It needs a column of an encrypted type, and the account in a plain one.';
    END IF;
    IF EXISTS (SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
               WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
                   AND t.typelem = encrypted AND t.typlen = -1) THEN
        RAISE EXCEPTION 'relation "%" cannot be protected', relation
            USING ERRCODE = 'feature_not_supported',
                HINT = 'The values in an array of an encrypted type are not checked. Use a table of their own.';
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s)', relation,
        (SELECT string_agg(format('(%1$I IS NOT NULL AND fieldcrypt.account_of(%1$I::fieldcrypt.encrypted_text)'
                                  ' IS DISTINCT FROM %2$I::text)', c, account_column), ' OR ')
         FROM unnest(encrypted_columns) AS c))
        INTO foreign_row;
    IF foreign_row THEN
        RAISE EXCEPTION 'relation "%" holds values of other accounts than its rows', relation
            USING ERRCODE = 'check_violation',
                HINT = 'Compare fieldcrypt.account_of(…) with the account column.';
    END IF;
    -- it runs last, so that no other trigger changes account or value after it
    EXECUTE format('DROP TRIGGER IF EXISTS zzz_fieldcrypt_hold_account ON %s', relation);
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

CREATE FUNCTION fieldcrypt.check_column(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    encrypted constant oid := 'fieldcrypt.encrypted_text'::regtype;
    -- how a constant of the type stands in a stored expression
    literal constant text := format('%%{CONST :consttype %s %%', encrypted);
    problem record;
BEGIN
    SELECT a.attname AS column, a.atthasmissing AS missing INTO problem
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND (t.oid = encrypted OR t.typelem = encrypted AND t.typlen = -1)
        AND (a.atttypmod < 0 OR a.atthasmissing)
    LIMIT 1;
    IF FOUND AND problem.missing THEN
        RAISE EXCEPTION 'column "%" of an encrypted type cannot be added with a default', problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = 'All rows would share one encrypted value. Add the column without a default and UPDATE it.';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'column "%" of an encrypted type has no field', problem.column
            USING ERRCODE = 'invalid_table_definition',
                HINT = 'Name the field: fieldcrypt.encrypted_text(''lead.ssn'').';
    END IF;
    IF EXISTS (SELECT FROM pg_attrdef WHERE adrelid = relation AND adbin::text LIKE literal)
        OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = relation AND conbin::text LIKE literal) THEN
        RAISE EXCEPTION 'a default or check of relation "%" holds a literal of an encrypted type', relation
            USING ERRCODE = 'feature_not_supported',
                HINT = 'It would need the root key at every load, and all rows would share it.';
    END IF;
    SELECT a.attname AS column INTO problem
    FROM pg_constraint AS c
        CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k (own, other)
        JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.own
        JOIN pg_attribute AS b ON b.attrelid = c.confrelid AND b.attnum = k.other
    WHERE c.contype = 'f' AND relation IN (c.conrelid, c.confrelid)
        AND encrypted IN (a.atttypid, b.atttypid)
        AND (a.atttypid, a.atttypmod) IS DISTINCT FROM (b.atttypid, b.atttypmod)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'foreign key column "%" is not of the same field as the column it references', problem.column
            USING ERRCODE = 'invalid_foreign_key', HINT = 'Tokens of different fields never match.';
    END IF;
    SELECT a.attname AS column INTO problem
    FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        JOIN fieldcrypt.field AS f ON f.handle = a.atttypmod
    WHERE i.indrelid = relation AND i.indisunique AND a.atttypid = encrypted
        AND NOT 'exact' = ANY (f.search)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" cannot be unique: its field cannot be searched', problem.column
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Equal values could not be told. Use a field with search => ''{exact}''.';
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_column(regclass) IS
    'fails if a relation has a column of an encrypted type that could not work';

CREATE FUNCTION fieldcrypt.check_definition() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    encrypted constant oid := 'fieldcrypt.encrypted_text'::regtype;
    command record;
    relation regclass;
BEGIN
    FOR command IN SELECT classid, objid FROM pg_event_trigger_ddl_commands() LOOP
        IF command.classid = 'pg_type'::regclass
            AND EXISTS (SELECT FROM pg_type AS t JOIN pg_type AS b ON b.oid = t.typbasetype
                        WHERE t.oid = command.objid AND t.typtype = 'd' AND t.typtypmod < 0
                            AND (b.oid = encrypted OR b.typelem = encrypted AND b.typlen = -1)) THEN
            RAISE EXCEPTION 'domain % over an encrypted type has no field', command.objid::regtype
                USING ERRCODE = 'invalid_object_definition',
                    HINT = 'Name the field: fieldcrypt.encrypted_text(''lead.ssn'').';
        END IF;
        SELECT c.oid INTO relation FROM pg_class AS c
        WHERE c.relkind IN ('r', 'p', 'm', 'f', 'c') AND c.oid IN (
            CASE WHEN command.classid = 'pg_class'::regclass THEN command.objid END,
            CASE WHEN command.classid = 'pg_type'::regclass
                THEN (SELECT typrelid FROM pg_type WHERE oid = command.objid) END,
            CASE WHEN command.classid = 'pg_class'::regclass
                THEN (SELECT indrelid FROM pg_index WHERE indexrelid = command.objid) END,
            CASE WHEN command.classid = 'pg_constraint'::regclass
                THEN (SELECT conrelid FROM pg_constraint WHERE oid = command.objid) END)
        LIMIT 1;
        IF FOUND AND EXISTS (SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                             WHERE a.attrelid = relation AND NOT a.attisdropped
                                 AND encrypted IN (t.oid, t.typelem)) THEN
            PERFORM fieldcrypt.check_column(relation);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_definition() IS
    'event trigger: refuses columns, domains, defaults, checks and keys of encrypted types that could not work';

CREATE EVENT TRIGGER fieldcrypt_check_definition ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE DOMAIN',
                 'ALTER DOMAIN', 'CREATE TYPE', 'ALTER TYPE', 'CREATE FOREIGN TABLE',
                 'ALTER FOREIGN TABLE', 'CREATE MATERIALIZED VIEW', 'CREATE INDEX', 'CREATE SCHEMA')
    EXECUTE FUNCTION fieldcrypt.check_definition();
COMMENT ON EVENT TRIGGER fieldcrypt_check_definition IS
    'refuses columns, domains, defaults, checks and keys of encrypted types that could not work';
