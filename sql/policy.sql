-- Changing how a field is searched while there are values: new ones have the new tokens at once, the
-- older ones get them by jobs of re-encryption (sql/jobs.sql), and until each place was verified by one
-- the field is not searched (field.backfilled).

CREATE FUNCTION fieldcrypt.places_of_field(field text)
    RETURNS TABLE (relation regclass, column_name name, document text)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.oid::pg_catalog.regclass, a.attname, NULL::pg_catalog.text
    FROM fieldcrypt.field AS f
        -- types below 16384 are PostgreSQL's own
        JOIN pg_catalog.pg_attribute AS a ON a.atttypid >= 16384 AND fieldcrypt.handle_of(a.atttypid, a.atttypmod) = f.handle
        JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    WHERE f.name = places_of_field.field AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm', 'f', 'c')
    UNION ALL
    SELECT d.relation, COALESCE(d.blob_column, d.column_name)::pg_catalog.name, d.name
    FROM fieldcrypt.documents AS d
    -- a path that was changed may have been of the field before
    WHERE EXISTS (SELECT FROM fieldcrypt.path AS p
                  WHERE p.document = d.name AND (p.field = places_of_field.field OR p.changed_at IS NOT NULL));
END;
COMMENT ON FUNCTION fieldcrypt.places_of_field(text) IS
    'the columns, and the documents, that may hold values of a field';

CREATE FUNCTION fieldcrypt.places_left(field text)
    RETURNS TABLE (relation regclass, column_name name, document text)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.relation, p.column_name, p.document
    FROM fieldcrypt.places_of_field(field) AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.relation
    WHERE c.relkind <> 'p'
        AND NOT EXISTS (SELECT FROM fieldcrypt.job AS j
            WHERE p.relation::pg_catalog.oid = ANY (j.verified)
                AND CASE WHEN p.document IS NULL THEN j.column_name = p.column_name ELSE j.target = p.document END);
END;
COMMENT ON FUNCTION fieldcrypt.places_left(text) IS
    'those of which no job has verified since the policy was changed that all values follow it';

CREATE FUNCTION fieldcrypt.jobs_of_field(field text)
    RETURNS TABLE (relation regclass, column_name name, document text)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE part (root, relation, column_name) AS (
        SELECT p.relation, p.relation::pg_catalog.oid, p.column_name
        FROM fieldcrypt.places_of_field(field) AS p
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.relation AND a.attname = p.column_name
        WHERE p.document IS NULL AND a.attinhcount = 0
        UNION
        SELECT part.root, i.inhrelid, part.column_name
        FROM part JOIN pg_catalog.pg_inherits AS i ON i.inhparent = part.relation
    ), wanted (relation, column_name, document) AS (
        SELECT p.relation::pg_catalog.oid, p.column_name, p.document FROM fieldcrypt.places_left(field) AS p
        UNION
        SELECT p.relation::pg_catalog.oid, p.column_name, p.document FROM fieldcrypt.places_of_field(field) AS p
        WHERE EXISTS (SELECT FROM fieldcrypt.field AS f WHERE f.name = jobs_of_field.field AND f.backfilled)
    )
    SELECT DISTINCT part.root, part.column_name, NULL::pg_catalog.text
    FROM part JOIN wanted AS w ON w.relation = part.relation AND w.column_name = part.column_name AND w.document IS NULL
    UNION ALL
    SELECT DISTINCT NULL::pg_catalog.regclass, NULL::pg_catalog.name, w.document FROM wanted AS w WHERE w.document IS NOT NULL;
END;
COMMENT ON FUNCTION fieldcrypt.jobs_of_field(text) IS
    'the tables and documents that reencrypt_field() goes through: those that are left, or all if the field can be searched';

CREATE FUNCTION fieldcrypt.obstacles_to_search(field text, searched boolean) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH place AS (
        SELECT p.relation, p.column_name, p.document, c.relkind, c.relpersistence, c.reltype, a.attnum, a.atttypid,
            fieldcrypt.name_of_column(p.relation, p.column_name) AS subject
        FROM fieldcrypt.places_of_field(field) AS p
            JOIN pg_catalog.pg_class AS c ON c.oid = p.relation
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.relation AND a.attname = p.column_name
    ), value_column AS (
        SELECT * FROM place WHERE document IS NULL
    )
    SELECT 'error', v.subject, pg_catalog.format('is in a %s', CASE v.relkind WHEN 'm' THEN 'materialized view'
            WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'composite type' ELSE 'temporary table' END),
        'No job goes through it: drop it, and create it again when the field can be searched.'
    FROM value_column AS v WHERE v.relkind NOT IN ('r', 'p') OR v.relpersistence = 't'
    UNION ALL
    SELECT 'error', v.subject, 'is of an array or a domain', 'No job goes through it: make it a column of the encrypted type itself.'
    FROM value_column AS v
    WHERE v.relkind <> 'c' AND v.atttypid NOT IN (SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t)
    UNION ALL
    SELECT 'error', fieldcrypt.name_of_column(a.attrelid, a.attname), pg_catalog.format('holds rows of %s', v.relation),
        'No job goes through it: drop it first.'
    FROM value_column AS v JOIN pg_catalog.pg_type AS t ON t.oid = v.reltype OR t.typelem = v.reltype
        JOIN pg_catalog.pg_attribute AS a ON a.atttypid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE v.reltype <> 0
    UNION ALL
    SELECT 'error', v.subject, 'is of a type that is not searched',
        'Text, bigint, date and uuid are, and booleans of a field with small_domain.'
    FROM value_column AS v JOIN fieldcrypt.field AS f ON f.name = obstacles_to_search.field
    WHERE searched AND (fieldcrypt.plain_type_of(v.atttypid) IN ('bytea'::pg_catalog.regtype, 'numeric'::pg_catalog.regtype,
            'timestamptz'::pg_catalog.regtype)
        OR fieldcrypt.plain_type_of(v.atttypid) = 'boolean'::pg_catalog.regtype AND NOT f.small_domain)
    UNION ALL
    SELECT DISTINCT 'error', pg_catalog.format('index %s', i.indexrelid::pg_catalog.regclass), 'is unique, which older and newer tokens of one value are not',
        'Drop it, and create it again when the field can be searched.'
    FROM place AS p JOIN pg_catalog.pg_index AS i ON i.indrelid = p.relation AND (i.indisunique OR i.indisexclusion)
    WHERE p.document IS NULL AND p.attnum = ANY (i.indkey)
        -- one over tokens
        OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_proc AS f ON f.oid = d.refobjid
                   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
                       AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                       AND f.pronamespace = 'fieldcrypt'::pg_catalog.regnamespace)
    UNION ALL
    SELECT DISTINCT 'error', pg_catalog.format('foreign key %I of %s', c.conname, c.conrelid::pg_catalog.regclass),
        'compares older with newer tokens', 'Drop it, and create it again when the field can be searched.'
    FROM value_column AS v JOIN pg_catalog.pg_constraint AS c ON c.contype = 'f'
        AND (c.conrelid = v.relation AND v.attnum = ANY (c.conkey) OR c.confrelid = v.relation AND v.attnum = ANY (c.confkey))
    UNION ALL
    SELECT 'error', v.subject, 'is a partition key', 'Its rows would have to change their partition: partition the table by another column.'
    FROM value_column AS v JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = v.relation AND v.attnum = ANY (p.partattrs);
END;
COMMENT ON FUNCTION fieldcrypt.obstacles_to_search(text, boolean) IS
    'what keeps the search of a field from being changed, or from being switched off';

CREATE FUNCTION fieldcrypt.plan_alter_field(name text) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT o.severity, o.subject, o.finding, o.remedy FROM fieldcrypt.obstacles_to_search(name, true) AS o
    UNION ALL
    SELECT 'error', f.name, 'keeps tokens only', 'Create another field, and write the values anew.'
    FROM fieldcrypt.field AS f WHERE f.name = plan_alter_field.name AND f.store = 'token'
    UNION ALL
    SELECT 'notice', COALESCE(j.document, fieldcrypt.name_of_column(j.relation, j.column_name)),
        CASE WHEN f.backfilled THEN 'holds values of the policy as it is' ELSE 'holds values of the policy as it was' END,
        CASE WHEN j.document IS NULL THEN pg_catalog.format('CALL fieldcrypt.reencrypt_column(%L, %L);', j.relation, j.column_name)
            ELSE pg_catalog.format('CALL fieldcrypt.reencrypt_existing(%L);', j.document) END
    FROM fieldcrypt.field AS f CROSS JOIN LATERAL fieldcrypt.jobs_of_field(f.name) AS j WHERE f.name = plan_alter_field.name
    UNION ALL
    SELECT 'error', plan_alter_field.name, 'is no field', 'SELECT fieldcrypt.create_field(...) makes one.'
    WHERE NOT EXISTS (SELECT FROM fieldcrypt.field AS f WHERE f.name = plan_alter_field.name);
END;
COMMENT ON FUNCTION fieldcrypt.plan_alter_field(text) IS
    'the jobs that stored values need to follow a change of a field''s policy, and what is in the way of another search (error); for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.forget_verified(field text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- a job that is being started is there by now, and one that is started later waits
    LOCK TABLE fieldcrypt.job IN ROW EXCLUSIVE MODE;
    UPDATE fieldcrypt.job AS j SET verified = NULL,
        step = CASE WHEN j.state IN ('running', 'paused') AND fieldcrypt.reencrypts(j) THEN 'prepare' ELSE j.step END
    WHERE EXISTS (SELECT FROM fieldcrypt.places_of_field(forget_verified.field) AS p
                  WHERE p.document = fieldcrypt.document_of_job(j.target)
                      OR p.column_name = j.column_name AND p.relation IN (SELECT fieldcrypt.tables_of_job(j.target)));
    LOCK TABLE fieldcrypt.field IN SHARE ROW EXCLUSIVE MODE;
END
$$;
COMMENT ON FUNCTION fieldcrypt.forget_verified(text) IS
    'what a change of a field''s policy begins with: what jobs have verified is no longer so, and those at work begin anew';

CREATE FUNCTION fieldcrypt.complete_backfills() RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM fieldcrypt.field AS f WHERE NOT f.backfilled) THEN
        -- no policy changes meanwhile
        LOCK TABLE fieldcrypt.field IN SHARE ROW EXCLUSIVE MODE;
        RETURN QUERY
            UPDATE fieldcrypt.field AS f SET backfilled = true
            WHERE NOT f.backfilled AND NOT EXISTS (SELECT FROM fieldcrypt.places_left(f.name))
            RETURNING f.name;
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.complete_backfills() IS
    'lets the fields be searched of which no place is left; their names';

CREATE FUNCTION fieldcrypt.complete_backfill(field text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'complete_backfill_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.complete_backfill(text) IS
    'lets a field be searched again if all of its values have the tokens of its policy; whether it can be; for fieldcrypt_admin';

-- no setting: a procedure with one cannot commit. Every name in it has its schema
CREATE PROCEDURE fieldcrypt.reencrypt_field(field text, batch_size integer DEFAULT 5000, rate integer DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
DECLARE
    place record;
BEGIN
    FOR place IN SELECT j.relation, j.column_name, j.document FROM fieldcrypt.jobs_of_field(field) AS j LOOP
        IF place.document IS NULL THEN
            CALL fieldcrypt.reencrypt_column(place.relation, place.column_name, batch_size, rate);
        ELSE
            CALL fieldcrypt.reencrypt_existing(place.document, batch_size, rate);
        END IF;
    END LOOP;
    IF NOT fieldcrypt.complete_backfill(field) THEN
        RAISE WARNING 'field "%" cannot be searched yet', field
            USING HINT = 'SELECT * FROM fieldcrypt.plan_alter_field(...) says where values are left.';
    END IF;
END
$$;
COMMENT ON PROCEDURE fieldcrypt.reencrypt_field(text, integer, integer) IS
    'seals anew what older data keys or policies have sealed, wherever values of a field are; the tables'' owners need encrypt';
