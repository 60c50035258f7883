-- Protected documents: the trigger and its arguments are what says that a column is protected, so that
-- it is dumped and restored with its table. Paths are flagged by the document's name.

CREATE FUNCTION fieldcrypt.seal_document() RETURNS trigger
    AS 'MODULE_PATHNAME', 'seal_document_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.seal_document() IS
    'row trigger of protect_jsonb(): seals the flagged values of a document';

CREATE FUNCTION fieldcrypt.check_document(document text, value jsonb, account text, kind text, gathered boolean)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'check_document_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.check_document(text, jsonb, text, text, boolean) IS
    'CHECK of protect_jsonb(): true, or an error if a flagged value of a document is not sealed';

CREATE FUNCTION fieldcrypt.check_document_name(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'check_document_name_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION fieldcrypt.check_document_name(text) IS
    'fails unless a text can be the name of a document';

CREATE FUNCTION fieldcrypt.trigger_arguments(arguments bytea) RETURNS text[]
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- they are stored with a zero byte behind each
    RETURN (SELECT array_agg(convert_from(decode(m[1], 'hex'), getdatabaseencoding()) ORDER BY n)
            FROM regexp_matches(encode(arguments, 'hex'), '((?:(?!00)..)*)00', 'g') WITH ORDINALITY AS t (m, n));
END
$$;
COMMENT ON FUNCTION fieldcrypt.trigger_arguments(bytea) IS
    'the arguments of a trigger, as pg_trigger has them';

CREATE FUNCTION fieldcrypt.documents_of(relation regclass, OUT trigger name, OUT arguments text[])
    RETURNS SETOF record
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT t.tgname, fieldcrypt.trigger_arguments(t.tgargs)
        FROM pg_trigger AS t
        WHERE t.tgfoid = 'fieldcrypt.seal_document()'::regprocedure AND (relation IS NULL OR t.tgrelid = relation);
END
$$;
COMMENT ON FUNCTION fieldcrypt.documents_of(regclass) IS
    'the triggers of the protected documents of a relation, or of all: name, column, account, kind and blob column';

CREATE FUNCTION fieldcrypt.document_gathers(document text) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.bool_or(d.arguments[5] <> '')
    FROM fieldcrypt.documents_of(NULL) AS d WHERE d.arguments[1] = document;
END;
COMMENT ON FUNCTION fieldcrypt.document_gathers(text) IS
    'whether the flagged values of a document are gathered in a blob column; NULL if there is no such document';

CREATE FUNCTION fieldcrypt.is_plain_name(name text) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM fieldcrypt.plain_name AS n WHERE n.name = is_plain_name.name);
END;
COMMENT ON FUNCTION fieldcrypt.is_plain_name(text) IS
    'whether values under a key of that name are never encrypted';

CREATE FUNCTION fieldcrypt.path_ending_in(name text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.path FROM fieldcrypt.path AS p
    WHERE p.state = 'active'
        AND pg_catalog.regexp_replace(p.path, '(\[\*\])+$', '') IN (name, pg_catalog.concat('"', name, '"'))
        OR p.state = 'active' AND pg_catalog.right(pg_catalog.regexp_replace(p.path, '(\[\*\])+$', ''),
            pg_catalog.length(name) + 1) = pg_catalog.concat('.', name)
    LIMIT 1;
END;
COMMENT ON FUNCTION fieldcrypt.path_ending_in(text) IS
    'a flagged path whose last key is that name, if there is one';

CREATE FUNCTION fieldcrypt.keep_plain(names text[]) RETURNS void
    AS 'MODULE_PATHNAME', 'keep_plain_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.keep_plain(text[]) IS
    'adds names of keys that are never encrypted; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.protect_path(document text, paths text[], field text, account text DEFAULT '*',
        kind text DEFAULT NULL, nulls text DEFAULT 'keep') RETURNS void
    AS 'MODULE_PATHNAME', 'protect_path_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.protect_path(text, text[], text, text, text, text) IS
    'flags paths of a document: new values there are encrypted; for fieldcrypt_admin, and for one account whoever manages it';

CREATE FUNCTION fieldcrypt.unprotect_path(document text, paths text[], account text DEFAULT '*',
        kind text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'unprotect_path_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.unprotect_path(text, text[], text, text) IS
    'new values at the paths are plain from now on; sealed ones stay as they are, and readable';

CREATE FUNCTION fieldcrypt.protect_jsonb(relation regclass, column_name name, name text, account_column name,
        kind_column name DEFAULT NULL, blob_column name DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    needed record;
    found_column pg_attribute;
    account_type text := 'text';
BEGIN
    IF relation IS NULL OR column_name IS NULL OR name IS NULL OR account_column IS NULL THEN
        RAISE EXCEPTION 'relation, column_name, name and account_column must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM fieldcrypt.check_document_name(name);
    FOR needed IN
        SELECT * FROM (VALUES (column_name, 'document'), (account_column, 'key'), (kind_column, 'key'),
                              (blob_column, 'blob')) AS c (name, role)
        WHERE c.name IS NOT NULL
    LOOP
        SELECT * INTO found_column FROM pg_attribute AS a
        WHERE a.attrelid = relation AND a.attnum > 0 AND a.attname = needed.name AND NOT a.attisdropped;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'column "%" of relation "%" does not exist', needed.name, relation
                USING ERRCODE = 'undefined_column';
        END IF;
        IF found_column.attgenerated <> '' THEN
            RAISE EXCEPTION 'column "%" of relation "%" is generated', needed.name, relation
                USING ERRCODE = 'feature_not_supported',
                    HINT = 'Generated columns have no value yet when the row trigger runs. Use an ordinary column.';
        END IF;
        IF needed.role = 'document' AND found_column.atttypid <> 'jsonb'::regtype THEN
            RAISE EXCEPTION 'column "%" of relation "%" is not of type jsonb', needed.name, relation
                USING ERRCODE = 'wrong_object_type';
        END IF;
        IF needed.role = 'blob' AND (found_column.atttypid <> 'fieldcrypt.encrypted_jsonb'::regtype
                                     OR found_column.atttypmod < 0) THEN
            RAISE EXCEPTION 'column "%" of relation "%" is not of type encrypted_jsonb', needed.name, relation
                USING ERRCODE = 'wrong_object_type',
                    HINT = 'Name its field: fieldcrypt.encrypted_jsonb(''person.pii'').';
        END IF;
        IF needed.role = 'key' AND fieldcrypt.holds_encrypted(found_column.atttypid) IS NOT NULL THEN
            RAISE EXCEPTION 'column "%" of relation "%" is encrypted', needed.name, relation
                USING ERRCODE = 'wrong_object_type', HINT = 'Account and kind have to be plain.';
        END IF;
    END LOOP;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    IF EXISTS (SELECT FROM fieldcrypt.documents_of(relation) AS d
               WHERE d.arguments[2] = column_name OR d.arguments[5] = blob_column) THEN
        RAISE EXCEPTION 'column "%" of relation "%" is protected already', column_name, relation
            USING ERRCODE = 'duplicate_object', HINT = 'SELECT fieldcrypt.unprotect_jsonb(...) first.';
    END IF;
    PERFORM fieldcrypt.add_document_trigger(relation, ARRAY[name, column_name, account_column,
        COALESCE(kind_column, ''), COALESCE(blob_column, '')]);
    -- children by inheritance get the constraint, but not the trigger
    PERFORM fieldcrypt.inherit_documents(child) FROM (
        WITH RECURSIVE child (oid) AS (
            SELECT inhrelid FROM pg_inherits WHERE inhparent = relation
            UNION
            SELECT i.inhrelid FROM pg_inherits AS i JOIN child ON i.inhparent = child.oid)
        SELECT oid::regclass FROM child) AS c (child);
    EXECUTE format('ALTER TABLE %s %s', relation, fieldcrypt.document_constraint(ARRAY[name, column_name,
        account_column, COALESCE(kind_column, ''), COALESCE(blob_column, '')]));
END
$$;
COMMENT ON FUNCTION fieldcrypt.protect_jsonb(regclass, name, text, name, name, name) IS
    'names a JSONB column as a document, of which paths can be flagged; for the table''s owner';

CREATE FUNCTION fieldcrypt.document_constraint(arguments text[]) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.format(
        'ADD CONSTRAINT %I CHECK (fieldcrypt.check_document(%L, %I, %I::text, %s, %L)) NOT VALID',
        pg_catalog.concat('fieldcrypt_', pg_catalog.left(arguments[2], 40)), arguments[1], arguments[2], arguments[3],
        CASE arguments[4] WHEN '' THEN 'NULL' ELSE pg_catalog.format('%I::text', arguments[4]) END,
        arguments[5] <> '');
END;
COMMENT ON FUNCTION fieldcrypt.document_constraint(text[]) IS
    'what ALTER TABLE adds as the CHECK of a protected document, from the arguments of its trigger';

CREATE FUNCTION fieldcrypt.add_document_trigger(relation regclass, arguments text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- it runs first, so that no other trigger sees plain values of flagged paths
    EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW'
                   ' EXECUTE FUNCTION fieldcrypt.seal_document(%s)',
        '000_fieldcrypt_' || left(arguments[2], 40), relation,
        (SELECT string_agg(quote_literal(a), ', ' ORDER BY n)
         FROM unnest(arguments[1:5]) WITH ORDINALITY AS u (a, n)));
END
$$;
COMMENT ON FUNCTION fieldcrypt.add_document_trigger(regclass, text[]) IS
    'creates the row trigger of a protected document';

CREATE FUNCTION fieldcrypt.inherit_documents(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing record;
BEGIN
    -- partitions have the trigger of their table by themselves
    FOR missing IN
        SELECT DISTINCT p.arguments
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid AND NOT c.relispartition
            CROSS JOIN LATERAL fieldcrypt.documents_of(i.inhparent) AS p
        WHERE i.inhrelid = relation
            AND NOT EXISTS (SELECT FROM fieldcrypt.documents_of(relation) AS own
                            WHERE own.arguments[2] = p.arguments[2])
    LOOP
        PERFORM fieldcrypt.add_document_trigger(relation, missing.arguments);
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.inherit_documents(regclass) IS
    'gives a table the triggers of the protected documents that it inherits';

CREATE FUNCTION fieldcrypt.unprotect_jsonb(relation regclass, column_name name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    trigger_name name;
    inherited record;
BEGIN
    SELECT d.trigger INTO trigger_name FROM fieldcrypt.documents_of(relation) AS d
    WHERE d.arguments[2] = column_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of relation "%" is not protected', column_name, relation
            USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, relation);
    -- children by inheritance had it from here; those of partitions go by themselves
    FOR inherited IN
        WITH RECURSIVE child (oid) AS (
            SELECT inhrelid FROM pg_inherits WHERE inhparent = relation
            UNION
            SELECT i.inhrelid FROM pg_inherits AS i JOIN child ON i.inhparent = child.oid)
        SELECT c.oid::regclass AS relation, d.trigger FROM child AS c
            CROSS JOIN LATERAL fieldcrypt.documents_of(c.oid) AS d
        WHERE d.arguments[2] = column_name
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', inherited.trigger, inherited.relation);
    END LOOP;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', relation, 'fieldcrypt_' || left(column_name, 40));
END
$$;
COMMENT ON FUNCTION fieldcrypt.unprotect_jsonb(regclass, name) IS
    'takes back protect_jsonb(); what is encrypted stays as it is, and readable';
