-- Jobs that adopt what other software has encrypted: a column by a second one that takes its place,
-- documents at some of their paths. How values are opened is kept here, since it takes
-- fieldcrypt_admin to say so; triggers and batches, which run as the owner of a table, name the job.

CREATE TABLE fieldcrypt.adoption (
    target text COLLATE "C" CONSTRAINT adoption_pkey PRIMARY KEY,
    terms jsonb NOT NULL
);
COMMENT ON TABLE fieldcrypt.adoption IS 'how jobs that adopt open values, the last one of each target';
COMMENT ON COLUMN fieldcrypt.adoption.target IS 'target of the job';
COMMENT ON COLUMN fieldcrypt.adoption.terms IS
    'format, names of keys, associated data or their template, the column of the iv, what becomes of plain text, and the plain type of a column or the paths of a document';
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.adoption', '');

CREATE FUNCTION fieldcrypt.set_adoption(target text, format text, key text, previous_keys text[], associated_data text,
        associated_data_template text, iv_column text, plaintext text, plain_type text, paths text[]) RETURNS void
    AS 'MODULE_PATHNAME', 'set_adoption_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.set_adoption(text, text, text, text[], text, text, text, text, text, text[]) IS
    'what adopt_column() and adopt_existing() begin with: how values are to be opened; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.keep_adoption(wanted_target text, wanted_terms text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- as open_job() does, which is called next
    LOCK TABLE fieldcrypt.job IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM fieldcrypt.job AS j JOIN fieldcrypt.adoption AS a ON a.target = j.target
               WHERE j.target = wanted_target AND j.state IN ('running', 'paused') AND a.terms <> wanted_terms::jsonb) THEN
        RAISE EXCEPTION 'another job is at work on "%"', wanted_target
            USING ERRCODE = 'object_in_use', HINT = 'Go on with it by the same format, keys and paths, or cancel it.';
    END IF;
    INSERT INTO fieldcrypt.adoption (target, terms) VALUES (wanted_target, wanted_terms::jsonb)
    ON CONFLICT ON CONSTRAINT adoption_pkey DO UPDATE SET terms = excluded.terms;
END
$$;
COMMENT ON FUNCTION fieldcrypt.keep_adoption(text, text) IS
    'notes how a job opens values; one that is at work keeps to what it has begun with';

CREATE FUNCTION fieldcrypt.adoption_of_job(job_target text) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object('terms', a.terms,
            'template', (SELECT jsonb_agg(CASE WHEN p.column_name IS NULL THEN jsonb_build_object('literal', p.literal)
                                          ELSE jsonb_build_object('column', p.column_name) END ORDER BY p.place)
                         FROM fieldcrypt.pieces_of_template(a.terms ->> 'associated_data_template') AS p),
            'column_name', j.column_name, 'field', j.field,
            'tables', (SELECT jsonb_agg(t.relation::oid::bigint) FROM fieldcrypt.tables_of_job(job_target) AS t (relation)),
            'owners', (SELECT jsonb_agg(o.owner::bigint) FROM fieldcrypt.owners_of_job(job_target) AS o (owner)))
        FROM fieldcrypt.adoption AS a JOIN fieldcrypt.job AS j ON j.target = a.target
        WHERE j.target = job_target AND j.action IN ('adopt_column', 'adopt_existing') AND j.state IN ('running', 'paused'));
END
$$;
COMMENT ON FUNCTION fieldcrypt.adoption_of_job(text) IS
    'how a job at work opens values, of which tables and for which owners, as JSON';

-- what is called as the owner of a table, and in rows

CREATE FUNCTION fieldcrypt.adopt_stored(target text, value text, account text, successor anyelement,
        associated_data text DEFAULT NULL, iv bytea DEFAULT NULL) RETURNS anyelement
    AS 'MODULE_PATHNAME', 'adopt_stored_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.adopt_stored(text, text, text, anyelement, text, bytea) IS
    'what a job writes to a successor: the value sealed, or NULL if it does not open; for the table''s owner, who needs encrypt';

CREATE FUNCTION fieldcrypt.adopt_stored(target text, value bytea, account text, successor anyelement,
        associated_data text DEFAULT NULL, iv bytea DEFAULT NULL) RETURNS anyelement
    AS 'MODULE_PATHNAME', 'adopt_stored_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.adopt_stored(text, bytea, text, anyelement, text, bytea) IS
    'what a job writes to a successor: the value sealed, or NULL if it does not open; for the table''s owner, who needs encrypt';

CREATE FUNCTION fieldcrypt.adopt_stored_document(document text, value jsonb, account text, kind text,
        associated_data text DEFAULT NULL) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'adopt_stored_document_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 40;
COMMENT ON FUNCTION fieldcrypt.adopt_stored_document(text, jsonb, text, text, text) IS
    'a stored document with what opens at the paths of a job sealed; for the table''s owner, who needs encrypt';

CREATE FUNCTION fieldcrypt.holds_foreign(document text, value jsonb, account text, kind text, opens boolean,
        associated_data text DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'holds_foreign_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.holds_foreign(text, jsonb, text, text, boolean, text) IS
    'whether something in a stored document at the paths of a job is not sealed, and opens; for the table''s owner, who needs encrypt';

CREATE FUNCTION fieldcrypt.differing_adoptions(relation regclass, query text, target text) RETURNS text
    AS 'MODULE_PATHNAME', 'differing_adoptions_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.differing_adoptions(regclass, text, text) IS
    'the places of the rows of a query of which what other software encrypted is not what stands for it; for superusers';

CREATE FUNCTION fieldcrypt.adopt_both() RETURNS trigger
    AS 'MODULE_PATHNAME', 'adopt_both_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.adopt_both() IS
    'row trigger of adopt_column(): what is written in the other software''s form is adopted by the successor';

CREATE FUNCTION fieldcrypt.adopt_in_document() RETURNS trigger
    AS 'MODULE_PATHNAME', 'adopt_in_document_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.adopt_in_document() IS
    'row trigger of adopt_existing(): what is written in the other software''s form is adopted before the document''s own trigger';

-- plans

CREATE FUNCTION fieldcrypt.plan_adoption(subject text, outcome text, number bigint, plaintext text, plain_type regtype)
    RETURNS fieldcrypt.finding
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_adopted boolean := outcome LIKE 'opens with %' AND (outcome NOT LIKE '%, but is no text' OR plain_type = 'bytea'::regtype);
    is_encrypted boolean := outcome = 'is not of this format' AND plaintext = 'encrypt';
BEGIN
    RETURN ROW(CASE WHEN is_adopted OR is_encrypted THEN 'notice' ELSE 'error' END,
        subject, format('%s values: %s', number, outcome),
        CASE WHEN is_adopted THEN 'They are adopted.'
            WHEN is_encrypted THEN 'They are taken for plain text, and encrypted.'
            WHEN outcome = 'is not of this format' THEN 'If they are plain text: plaintext => ''encrypt''. Else the format is another one.'
            ELSE 'Mend or remove them: the job stops before its end.' END);
END
$$;
COMMENT ON FUNCTION fieldcrypt.plan_adoption(text, text, bigint, text, regtype) IS
    'what a plan says of the values of which adopt_check() says something';

CREATE FUNCTION fieldcrypt.can_be_adopted(kind oid) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN kind IN ('text'::pg_catalog.regtype, 'varchar'::pg_catalog.regtype, 'bpchar'::pg_catalog.regtype, 'bytea'::pg_catalog.regtype);
COMMENT ON FUNCTION fieldcrypt.can_be_adopted(oid) IS
    'whether a column of that type can hold what other software encrypted';

CREATE FUNCTION fieldcrypt.plan_beside(relation regclass, adopted_column name, template text, iv_column name)
    RETURNS SETOF fieldcrypt.finding
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE ROWS 2 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT DISTINCT ON (b.is_iv, b.name) 'error', fieldcrypt.name_of_column(relation, b.name), o.finding, o.remedy
        FROM (
            SELECT DISTINCT p.column_name, false FROM fieldcrypt.pieces_of_template(template) AS p WHERE p.column_name IS NOT NULL
            UNION ALL
            SELECT iv_column, true WHERE iv_column IS NOT NULL
        ) AS b (name, is_iv)
            LEFT JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = b.name AND a.attnum > 0 AND NOT a.attisdropped
            LEFT JOIN pg_type AS t ON t.oid = a.atttypid
            CROSS JOIN LATERAL (VALUES
                (1, a.attnum IS NULL, 'does not exist', 'Name a column of the table.'),
                (2, b.name = adopted_column, 'is the column that is adopted', 'Name another one.'),
                (3, a.attgenerated <> '', 'is generated', 'It is empty when a row is written: name the columns that it is made of.'),
                (4, b.is_iv AND COALESCE(NULLIF(t.typbasetype, 0), t.oid) <> 'bytea'::regtype,
                    format('is of type %s', format_type(a.atttypid, a.atttypmod)), 'An iv stands in a column of type bytea.'),
                (5, NOT b.is_iv AND COALESCE(NULLIF(t.typbasetype, 0), t.oid)
                        <> ALL (ARRAY['text', 'varchar', 'bpchar', 'uuid', 'int2', 'int4', 'int8']::regtype[]),
                    format('is of type %s', format_type(a.atttypid, a.atttypmod)),
                    'Associated data are made of texts, integers and uuids, whose text no setting changes.')
            ) AS o (place, applies, finding, remedy)
        WHERE o.applies
        ORDER BY b.is_iv, b.name, o.place;
END
$$;
COMMENT ON FUNCTION fieldcrypt.plan_beside(regclass, name, text, name) IS
    'what is wrong with the columns in which associated data and iv stand';

CREATE FUNCTION fieldcrypt.check_beside(relation regclass, adopted_column name, template text, iv_column name) RETURNS void
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    obstacle fieldcrypt.finding;
BEGIN
    SELECT * INTO obstacle FROM fieldcrypt.plan_beside(relation, adopted_column, template, iv_column) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% %', obstacle.subject, obstacle.finding
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = obstacle.remedy;
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_beside(regclass, name, text, name) IS
    'fails if something is wrong with the columns in which associated data and iv stand';

CREATE FUNCTION fieldcrypt.plan_adopt_column(relation regclass, column_name name, account_column name, format text, key text,
        previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, associated_data_template text DEFAULT NULL,
        iv_column name DEFAULT NULL, plaintext text DEFAULT 'refuse', plain_type regtype DEFAULT 'text')
    RETURNS SETOF fieldcrypt.finding
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stored regtype;
BEGIN
    SELECT a.atttypid INTO stored FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0;
    RETURN QUERY SELECT p.* FROM fieldcrypt.plan_column(relation, column_name) AS p WHERE p.finding NOT LIKE 'is of type %';
    RETURN QUERY SELECT 'error', fieldcrypt.name_of_column(relation, column_name), pg_catalog.format('is of type %s', stored),
        'What other software encrypted stands in a column of type text or bytea.'
    WHERE NOT fieldcrypt.can_be_adopted(stored);
    RETURN QUERY SELECT 'error', plain_type::text, 'has no encrypted type',
        'SELECT plain FROM fieldcrypt.encrypted_types() names those that have one.'
    WHERE NOT EXISTS (SELECT FROM fieldcrypt.encrypted_types() AS t WHERE t.plain = plain_type);
    RETURN QUERY SELECT p.* FROM fieldcrypt.plan_beside(relation, column_name, associated_data_template, iv_column) AS p;
    IF NOT FOUND AND fieldcrypt.can_be_adopted(stored) THEN
        RETURN QUERY SELECT p.*
        FROM fieldcrypt.adopt_check_column(relation, column_name, format, key, account_column => account_column,
                previous_keys => previous_keys, associated_data => associated_data,
                associated_data_template => associated_data_template, iv_column => iv_column) AS c
            CROSS JOIN LATERAL fieldcrypt.plan_adoption(fieldcrypt.name_of_column(relation, column_name), c.outcome, c.rows,
                plaintext, plain_type) AS p
        WHERE c.outcome IS NOT NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.plan_adopt_column(regclass, name, name, text, text, text[], text, text, name, text, regtype) IS
    'what adopt_column() would have to do with and what is in its way (error), with a count of the values by what becomes of them; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.plan_documents_to_adopt(document text) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.severity, f.subject, f.finding, f.remedy FROM fieldcrypt.plan_existing(document) AS f
    UNION ALL
    SELECT 'error', document, 'has a blob column', 'UPDATE its rows with adopt(document, paths, ...): this job does not gather values.'
    FROM fieldcrypt.documents AS d WHERE d.name = document AND d.blob_column IS NOT NULL;
END;
COMMENT ON FUNCTION fieldcrypt.plan_documents_to_adopt(text) IS
    'what adopt_existing() would have to do with, whatever the values are, and what is in its way (error)';

CREATE FUNCTION fieldcrypt.plan_adopt_existing(document text, paths text[], format text, key text,
        previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, associated_data_template text DEFAULT NULL,
        plaintext text DEFAULT 'refuse') RETURNS SETOF fieldcrypt.finding
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root fieldcrypt.documents;
    associated_data_of text := '$7';
BEGIN
    IF associated_data IS NOT NULL AND associated_data_template IS NOT NULL THEN
        RAISE EXCEPTION 'associated data are the same for all rows, or stand in each row' USING ERRCODE = 'invalid_parameter_value';
    ELSIF associated_data_template IS NOT NULL THEN
        associated_data_of := fieldcrypt.text_of_template(associated_data_template);
    END IF;
    RETURN QUERY SELECT p.* FROM fieldcrypt.plan_documents_to_adopt(document) AS p;
    FOR root IN
        SELECT d.* FROM fieldcrypt.documents AS d
        WHERE d.name = document AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = d.relation)
    LOOP
        RETURN QUERY SELECT p.* FROM fieldcrypt.plan_beside(root.relation, root.column_name, associated_data_template, NULL) AS p;
        CONTINUE WHEN FOUND;
        -- where associated data are missing, values are counted by empty ones
        RETURN QUERY EXECUTE pg_catalog.format('SELECT p.* FROM ('
            'SELECT o.outcome, count(*) AS number FROM %1$s AS r CROSS JOIN LATERAL ('
            ' SELECT CASE WHEN %5$L AND (%4$s) IS NULL THEN ''has no associated data'' ELSE u.outcome END'
            ' FROM unnest(fieldcrypt.adopt_check(r.%2$I, $3, $4, $5, %3$s, $6, %6$s)) AS u (outcome)'
            ' WHERE u.outcome <> ''is adopted'') AS o (outcome) GROUP BY o.outcome) AS c'
            ' CROSS JOIN LATERAL fieldcrypt.plan_adoption($1, c.outcome, c.number, $2, ''text'') AS p ORDER BY c.outcome',
            root.relation, root.column_name, fieldcrypt.account_text(root.relation, root.account_column), associated_data_of,
            associated_data_template IS NOT NULL,
            CASE WHEN associated_data_template IS NULL THEN associated_data_of ELSE pg_catalog.format('COALESCE(%s, '''')', associated_data_of) END)
            USING document, plaintext, paths, format, key, previous_keys, associated_data;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.plan_adopt_existing(text, text[], text, text, text[], text, text, text) IS
    'what adopt_existing() would have to do with and what is in its way (error), with a count of the values by what becomes of them; for fieldcrypt_admin';

-- steps

CREATE FUNCTION fieldcrypt.terms_of(job fieldcrypt.job) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT a.terms FROM fieldcrypt.adoption AS a WHERE a.target = job.target AND job.action IN ('adopt_column', 'adopt_existing'));
END
$$;
COMMENT ON FUNCTION fieldcrypt.terms_of(fieldcrypt.job) IS
    'how a job opens values; NULL of one that does not adopt';

CREATE FUNCTION fieldcrypt.beside_values(job fieldcrypt.job) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    terms jsonb := fieldcrypt.terms_of(job);
BEGIN
    RETURN concat_ws(', ', fieldcrypt.text_of_template(terms ->> 'associated_data_template'),
        COALESCE(quote_ident(terms ->> 'iv_column'), 'NULL::bytea'));
END
$$;
COMMENT ON FUNCTION fieldcrypt.beside_values(fieldcrypt.job) IS
    'expressions over a row: associated data and iv of the value that a job adopts';

CREATE FUNCTION fieldcrypt.adopted_type(job fieldcrypt.job) RETURNS regtype
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t
            WHERE t.plain = (fieldcrypt.terms_of(job) ->> 'plain_type')::regtype);
END
$$;
COMMENT ON FUNCTION fieldcrypt.adopted_type(fieldcrypt.job) IS
    'the encrypted type that a column becomes which a job adopts';

CREATE FUNCTION fieldcrypt.beside_columns(job fieldcrypt.job) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    terms jsonb := fieldcrypt.terms_of(job);
BEGIN
    RETURN (SELECT string_agg(DISTINCT quote_literal(b.name), ', ')
            FROM (SELECT p.column_name FROM fieldcrypt.pieces_of_template(terms ->> 'associated_data_template') AS p
                  UNION ALL SELECT terms ->> 'iv_column') AS b (name));
END
$$;
COMMENT ON FUNCTION fieldcrypt.beside_columns(fieldcrypt.job) IS
    'the columns in which associated data and iv of a value stand that a job adopts, as arguments of its trigger';

CREATE FUNCTION fieldcrypt.check_adoption(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    terms jsonb := fieldcrypt.terms_of(job);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = job.relation::regclass AND a.attname = job.column_name
                   AND fieldcrypt.can_be_adopted(a.atttypid)) THEN
        RAISE EXCEPTION 'column "%" of % is not of type text or bytea', job.column_name, job.relation
            USING ERRCODE = 'wrong_object_type', HINT = 'What other software encrypted is text, or bytes.';
    END IF;
    IF fieldcrypt.adopted_type(job) IS NULL THEN
        RAISE EXCEPTION 'type % has no encrypted type', terms ->> 'plain_type'
            USING ERRCODE = 'wrong_object_type', HINT = 'SELECT plain FROM fieldcrypt.encrypted_types() names those that have one.';
    END IF;
    PERFORM fieldcrypt.check_beside(job.relation::regclass, job.column_name, terms ->> 'associated_data_template',
        (terms ->> 'iv_column')::name);
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_adoption(fieldcrypt.job) IS
    'fails if a column cannot hold what other software encrypted, or become what it is to become';

CREATE FUNCTION fieldcrypt.adoption_trigger(column_name name) RETURNS name
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN pg_catalog.concat('!00_fieldcrypt_adopt_', pg_catalog.left(column_name::pg_catalog.text, 40));
COMMENT ON FUNCTION fieldcrypt.adoption_trigger(name) IS
    'the name of the trigger that adopts what is written to a document, which sorts before that of the document';

CREATE FUNCTION fieldcrypt.begin_adoption(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root regclass;
    arguments text[];
BEGIN
    FOR root, arguments IN
        SELECT r.relation, d.arguments FROM fieldcrypt.roots_of_job(job.target) AS r (relation)
            CROSS JOIN LATERAL fieldcrypt.documents_of(r.relation) AS d
        WHERE d.arguments[1] = job.target
    LOOP
        PERFORM fieldcrypt.check_beside(root, arguments[2]::name, fieldcrypt.terms_of(job) ->> 'associated_data_template', NULL);
        -- before the document's own trigger, which takes what it finds for plain
        PERFORM fieldcrypt.run_as_owner(root, format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW'
            ' EXECUTE FUNCTION fieldcrypt.adopt_in_document(%L, %L, %L, %L)', fieldcrypt.adoption_trigger(arguments[2]::name),
            root, arguments[1], arguments[2], arguments[3], arguments[4]), false);
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.begin_adoption(fieldcrypt.job) IS
    'lets documents that are written be adopted from now on';

CREATE FUNCTION fieldcrypt.end_adoption(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root regclass;
    trigger_name name;
BEGIN
    FOR root, trigger_name IN
        SELECT r.relation, t.tgname FROM fieldcrypt.roots_of_job(job.target) AS r (relation) JOIN pg_trigger AS t ON t.tgrelid = r.relation
        WHERE t.tgfoid = 'fieldcrypt.adopt_in_document()'::regprocedure AND (fieldcrypt.trigger_arguments(t.tgargs))[1] = job.target
    LOOP
        PERFORM fieldcrypt.run_as_owner(root, format('DROP TRIGGER %I ON %s', trigger_name, root), false);
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.end_adoption(fieldcrypt.job) IS
    'documents that are written are adopted no longer';

CREATE FUNCTION fieldcrypt.check_adopted(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most bigint := 100000;
    part regclass;
    arguments text;
    condition text;
    query text;
    remaining bigint := 0;
BEGIN
    FOR part IN SELECT fieldcrypt.tables_of_job(job.target) LOOP
        IF job.relation IS NULL THEN
            SELECT format('%L, %I, %s, %s', job.target, d.arguments[2], fieldcrypt.account_text(part, d.arguments[3]),
                CASE d.arguments[4] WHEN '' THEN 'NULL' ELSE fieldcrypt.account_text(part, d.arguments[4]) END)
            INTO STRICT arguments FROM fieldcrypt.documents_of(part) AS d WHERE d.arguments[1] = job.target;
            condition := format('fieldcrypt.holds_foreign(%s, false)', arguments);
            query := COALESCE(query, format('SELECT * FROM %s WHERE fieldcrypt.state_of_document(%s, false) = ''plain'';', part, arguments));
        ELSE
            condition := format('%I IS NOT NULL AND %I IS NULL', job.column_name, fieldcrypt.successor_of(job.column_name));
            query := format('SELECT * FROM %s WHERE %s;', job.relation, condition);
        END IF;
        remaining := remaining + fieldcrypt.run_as_owner(part, format('SELECT FROM ONLY %s WHERE %s LIMIT %s', part, condition, most), true);
    END LOOP;
    IF remaining > 0 THEN
        RAISE EXCEPTION '% of "%" cannot be adopted', CASE WHEN remaining >= most THEN format('%s or more', most) ELSE remaining::text END
                || CASE WHEN job.relation IS NULL THEN ' documents' ELSE ' values' END, job.target
            USING ERRCODE = 'object_not_in_prerequisite_state',
                DETAIL = 'They open with none of the keys, or what is in them is no value of the type.',
                HINT = format('Mend or remove what this finds, and call the procedure again: %s', query);
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_adopted(fieldcrypt.job) IS
    'before a job ends: fails if something could not be adopted, with how much and where';

-- what administrators call

CREATE FUNCTION fieldcrypt.name_of_type(plain_type regtype) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN plain_type::pg_catalog.text;
COMMENT ON FUNCTION fieldcrypt.name_of_type(regtype) IS
    'schema and type, whatever the search path';

CREATE PROCEDURE fieldcrypt.adopt_column(relation regclass, column_name name, field text, account_column name, format text,
        key text, previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL,
        associated_data_template text DEFAULT NULL, iv_column name DEFAULT NULL, plaintext text DEFAULT 'refuse',
        plain_type regtype DEFAULT 'text', batch_size integer DEFAULT 5000, rate integer DEFAULT NULL,
        cut_over boolean DEFAULT true)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.set_adoption(fieldcrypt.name_of_column(relation, column_name), format, key, previous_keys, associated_data,
        associated_data_template, iv_column::pg_catalog.text, plaintext, fieldcrypt.name_of_type(plain_type), NULL);
    PERFORM fieldcrypt.start_job('adopt_column', fieldcrypt.name_of_column(relation, column_name),
        fieldcrypt.name_of_table(relation), column_name::pg_catalog.text, field, account_column::pg_catalog.text, cut_over);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_column(relation, column_name), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.adopt_column(regclass, name, text, name, text, text, text[], text, text, name, text, regtype, integer, integer, boolean) IS
    'makes a column in which other software has encrypted values an encrypted one of a field, while it is read and written; the table''s owner needs encrypt';

CREATE FUNCTION fieldcrypt.flag_adopted(wanted_document text, wanted_paths text[], wanted_field text) RETURNS void
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unflagged text[];
BEGIN
    SELECT array_agg(p.path) INTO unflagged FROM unnest(wanted_paths) AS p (path)
    WHERE NOT EXISTS (SELECT FROM fieldcrypt.paths AS f
                      WHERE f.document = wanted_document AND f.path = p.path AND f.state = 'active' AND f.field = COALESCE(wanted_field, f.field));
    IF unflagged IS NOT NULL AND wanted_field IS NULL THEN
        RAISE EXCEPTION 'path % of document "%" is not flagged', unflagged[1], wanted_document
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Give the field: the job flags it when it begins.';
    ELSIF unflagged IS NOT NULL THEN
        PERFORM fieldcrypt.protect_path(wanted_document, unflagged, wanted_field);
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.flag_adopted(text, text[], text) IS
    'flags those paths of a document that are not flagged yet; for fieldcrypt_admin';

CREATE PROCEDURE fieldcrypt.adopt_existing(document text, paths text[], format text, key text, field text DEFAULT NULL,
        previous_keys text[] DEFAULT '{}', associated_data text DEFAULT NULL, associated_data_template text DEFAULT NULL,
        plaintext text DEFAULT 'refuse', batch_size integer DEFAULT 5000, rate integer DEFAULT NULL, cut_over boolean DEFAULT true)
    LANGUAGE plpgsql
AS $$
DECLARE
    begun boolean := false;
BEGIN
    WHILE NOT begun LOOP
        BEGIN
            -- in one transaction: whoever writes meets the trigger that adopts and the flags, or neither
            PERFORM fieldcrypt.set_adoption(document, format, key, previous_keys, associated_data, associated_data_template, NULL, plaintext,
                NULL, paths);
            PERFORM fieldcrypt.start_job('adopt_existing', document, NULL, NULL, NULL, NULL, cut_over);
            PERFORM fieldcrypt.flag_adopted(document, paths, field);
            begun := true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_catalog.pg_sleep(0.1);
        END;
        COMMIT;
    END LOOP;
    CALL fieldcrypt.run_job(document, batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.adopt_existing(text, text[], text, text, text, text[], text, text, text, integer, integer, boolean) IS
    'adopts what other software has encrypted at paths of a document, while it is read and written, and flags them with a field; the table''s owner needs encrypt';
