-- Jobs: work on whole tables, a batch at a time, each batch a transaction, beside the application's own.
-- What a job does next is decided by advance_job(), as the owner of the extension; src/jobs has
-- checked who calls. Rows are written as the owner of their table (run_as_owner).

CREATE TABLE fieldcrypt.job (
    target text COLLATE "C" CONSTRAINT job_pkey PRIMARY KEY,
    action text NOT NULL CHECK (action OPERATOR(pg_catalog.=) ANY
        (ARRAY['encrypt_existing', 'decrypt_existing', 'encrypt_column', 'decrypt_column',
               'reencrypt_existing', 'reencrypt_column', 'adopt_existing', 'adopt_column'])),
    relation text,
    column_name name,
    field text COLLATE "C",
    account_column name,
    account text COLLATE "C",
    cut_over boolean NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state OPERATOR(pg_catalog.=) ANY
        (ARRAY['running', 'paused', 'cancelled', 'done'])),
    step text NOT NULL DEFAULT 'prepare' CHECK (step OPERATOR(pg_catalog.=) ANY
        (ARRAY['prepare', 'backfill', 'verify', 'cut over', 'analyze'])),
    place text,
    page bigint NOT NULL DEFAULT 0,
    end_page bigint NOT NULL DEFAULT 0,
    clean boolean NOT NULL DEFAULT true,
    pages_done bigint NOT NULL DEFAULT 0,
    pages_total bigint NOT NULL DEFAULT 0,
    rows_changed bigint NOT NULL DEFAULT 0,
    rows_total bigint NOT NULL DEFAULT 0,
    rotations bigint NOT NULL DEFAULT 0,
    verified oid[],
    started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    started_by name NOT NULL DEFAULT session_user,
    step_started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE fieldcrypt.job IS 'jobs, the last one of each target';
COMMENT ON COLUMN fieldcrypt.job.target IS 'document, document and account, or schema, table and column';
COMMENT ON COLUMN fieldcrypt.job.action IS 'procedure that started it';
COMMENT ON COLUMN fieldcrypt.job.relation IS 'table of a column, as regclass prints it without a search path';
COMMENT ON COLUMN fieldcrypt.job.column_name IS 'column of the table';
COMMENT ON COLUMN fieldcrypt.job.field IS 'field of a column';
COMMENT ON COLUMN fieldcrypt.job.account_column IS 'column that names the row''s account';
COMMENT ON COLUMN fieldcrypt.job.account IS 'account of the rows that it works on; NULL: every one';
COMMENT ON COLUMN fieldcrypt.job.cut_over IS 'whether the new column takes the place of the old one once it is verified';
COMMENT ON COLUMN fieldcrypt.job.state IS 'running, paused, cancelled or done; one that a crash has ended stays running until it is called again';
COMMENT ON COLUMN fieldcrypt.job.step IS 'prepare, backfill, verify, cut over or analyze';
COMMENT ON COLUMN fieldcrypt.job.place IS 'table or partition that the step is at';
COMMENT ON COLUMN fieldcrypt.job.page IS 'first page of it that the step has not been through';
COMMENT ON COLUMN fieldcrypt.job.end_page IS 'number of its pages when the step came to it';
COMMENT ON COLUMN fieldcrypt.job.clean IS 'whether the step has found every row as it should be so far';
COMMENT ON COLUMN fieldcrypt.job.pages_done IS 'pages that the step has been through, of all tables';
COMMENT ON COLUMN fieldcrypt.job.pages_total IS 'pages of all tables when the step began';
COMMENT ON COLUMN fieldcrypt.job.rows_changed IS 'rows that the job has written';
COMMENT ON COLUMN fieldcrypt.job.rows_total IS 'about how many rows the tables had when the step began';
COMMENT ON COLUMN fieldcrypt.job.rotations IS 'how many data and index keys had taken the place of others when it was prepared';
COMMENT ON COLUMN fieldcrypt.job.verified IS 'the tables in which it has found no value of an older policy';
COMMENT ON COLUMN fieldcrypt.job.started_at IS 'when it was started';
COMMENT ON COLUMN fieldcrypt.job.started_by IS 'session user who started it';
COMMENT ON COLUMN fieldcrypt.job.step_started_at IS 'when its step began, pauses left out';
COMMENT ON COLUMN fieldcrypt.job.changed_at IS 'when its last batch was written';
SELECT pg_catalog.pg_extension_config_dump('fieldcrypt.job', '');

-- of this server's files: it is not dumped
CREATE TABLE fieldcrypt.remnant (
    target text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['snapshot', 'file', 'WAL', 'backup'])),
    relation text,
    part text,
    file oid,
    xid xid8,
    lsn pg_lsn,
    segment text,
    noted_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX remnant_by_target ON fieldcrypt.remnant (target);
-- it has no key, and a publication FOR ALL TABLES wants to tell its rows apart
ALTER TABLE fieldcrypt.remnant REPLICA IDENTITY FULL;
COMMENT ON TABLE fieldcrypt.remnant IS 'what may hold plain values that are encrypted by now';
COMMENT ON COLUMN fieldcrypt.remnant.target IS 'target of the job, or "table" and the table of note_remnants()';
COMMENT ON COLUMN fieldcrypt.remnant.kind IS 'snapshot: older ones may see the values; file: of a table; WAL: up to a position; backup: from before it, the server itself is clean';
COMMENT ON COLUMN fieldcrypt.remnant.relation IS 'table that has to be rewritten';
COMMENT ON COLUMN fieldcrypt.remnant.part IS 'the table itself, its TOAST table or an index';
COMMENT ON COLUMN fieldcrypt.remnant.file IS 'its file when it was noted';
COMMENT ON COLUMN fieldcrypt.remnant.xid IS 'transaction that ended the job, or noted the table';
COMMENT ON COLUMN fieldcrypt.remnant.lsn IS 'position in WAL';
COMMENT ON COLUMN fieldcrypt.remnant.segment IS 'last segment of WAL when those up to that position were gone: until then they may have become others';
COMMENT ON COLUMN fieldcrypt.remnant.noted_at IS 'when the target was noted';

CREATE VIEW fieldcrypt.progress AS
    SELECT j.target, j.action, j.state, j.step, p.percent,
        pg_catalog.round((j.rows_total OPERATOR(pg_catalog.*) p.percent) OPERATOR(pg_catalog./) 100)::bigint AS rows_done,
        j.rows_total, j.rows_changed,
        CASE WHEN p.seconds OPERATOR(pg_catalog.>) 0 THEN
            pg_catalog.round((j.rows_total OPERATOR(pg_catalog.*) p.percent) OPERATOR(pg_catalog./)
                (100 OPERATOR(pg_catalog.*) p.seconds))::bigint END AS rows_per_second,
        CASE WHEN j.state OPERATOR(pg_catalog.=) 'running' AND p.percent OPERATOR(pg_catalog.>) 0 THEN
            pg_catalog.make_interval(secs => ((p.seconds OPERATOR(pg_catalog.*) (100 OPERATOR(pg_catalog.-) p.percent))
                OPERATOR(pg_catalog./) p.percent)::double precision) END AS eta,
        EXISTS (SELECT FROM fieldcrypt.remnant AS r WHERE r.target OPERATOR(pg_catalog.=) j.target AND r.kind OPERATOR(pg_catalog.<>) 'backup') AS has_remnants,
        j.started_at, j.started_by, j.changed_at
    FROM fieldcrypt.job AS j CROSS JOIN LATERAL (
        SELECT CASE WHEN j.state OPERATOR(pg_catalog.=) 'done' THEN 100
                WHEN j.pages_total OPERATOR(pg_catalog.=) 0 THEN 0
                ELSE pg_catalog.round((100.0 OPERATOR(pg_catalog.*) LEAST(j.pages_done, j.pages_total))
                    OPERATOR(pg_catalog./) j.pages_total, 1) END,
            EXTRACT(epoch FROM j.changed_at OPERATOR(pg_catalog.-) j.step_started_at)
    ) AS p (percent, seconds);
COMMENT ON VIEW fieldcrypt.progress IS 'jobs, and how far each has come';
COMMENT ON COLUMN fieldcrypt.progress.target IS 'document, document and account, or schema, table and column';
COMMENT ON COLUMN fieldcrypt.progress.action IS 'procedure that started it, and that goes on with it';
COMMENT ON COLUMN fieldcrypt.progress.state IS 'running, paused, cancelled or done; one that a crash has ended stays running until it is called again';
COMMENT ON COLUMN fieldcrypt.progress.step IS 'prepare, backfill, verify, cut over or analyze';
COMMENT ON COLUMN fieldcrypt.progress.percent IS 'how much of the tables the step has been through';
COMMENT ON COLUMN fieldcrypt.progress.rows_done IS 'about how many rows that are';
COMMENT ON COLUMN fieldcrypt.progress.rows_total IS 'about how many rows there are, by the last ANALYZE';
COMMENT ON COLUMN fieldcrypt.progress.rows_changed IS 'how many rows the job has written';
COMMENT ON COLUMN fieldcrypt.progress.rows_per_second IS 'rate of the step';
COMMENT ON COLUMN fieldcrypt.progress.eta IS 'how long the step still takes at that rate';
COMMENT ON COLUMN fieldcrypt.progress.has_remnants IS 'whether files still hold what the job has encrypted, as remnants() has found last';
COMMENT ON COLUMN fieldcrypt.progress.started_at IS 'when it was started';
COMMENT ON COLUMN fieldcrypt.progress.started_by IS 'session user who started it';
COMMENT ON COLUMN fieldcrypt.progress.changed_at IS 'when its last batch was written';

-- what is called as the owner of a table, and in rows

CREATE FUNCTION fieldcrypt.run_as_owner(relation regclass, statement text, quietly boolean) RETURNS bigint
    AS 'MODULE_PATHNAME', 'run_as_owner_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.run_as_owner(regclass, text, boolean) IS
    'runs a statement with the rights of a table''s owner, quietly without firing triggers; the number of rows changed; for superusers';

CREATE FUNCTION fieldcrypt.differing_rows(relation regclass, query text) RETURNS text
    AS 'MODULE_PATHNAME', 'differing_rows_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.differing_rows(regclass, text) IS
    'the places of the rows of a query whose plain value is not the encrypted one''s; for superusers';

CREATE FUNCTION fieldcrypt.seal_existing(document text, value jsonb, account text, kind text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'seal_existing_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL SAFE COST 30;
COMMENT ON FUNCTION fieldcrypt.seal_existing(text, jsonb, text, text) IS
    'a stored document with its flagged values sealed; needs encrypt on each field of them';

CREATE FUNCTION fieldcrypt.needs_sealing(document text, value jsonb, account text, kind text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'needs_sealing_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.needs_sealing(text, jsonb, text, text) IS
    'whether a flagged value of a stored document is not sealed, damaged, or of another account';

CREATE FUNCTION fieldcrypt.open_retired(document text, value jsonb, account text, kind text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'open_retired_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 30;
COMMENT ON FUNCTION fieldcrypt.open_retired(text, jsonb, text, text) IS
    'a stored document with the plain values of what is sealed and no longer flagged; needs decrypt on each field of them';

CREATE FUNCTION fieldcrypt.holds_retired(document text, value jsonb, account text, kind text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'holds_retired_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.holds_retired(text, jsonb, text, text) IS
    'whether something in a stored document is sealed and no longer flagged';

-- the same of documents with a blob column

CREATE FUNCTION fieldcrypt.seal_existing(document text, INOUT value jsonb, INOUT blob fieldcrypt.encrypted_jsonb, account text,
        kind text, handle integer) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'gather_existing_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL SAFE COST 60 ROWS 1;
COMMENT ON FUNCTION fieldcrypt.seal_existing(text, jsonb, fieldcrypt.encrypted_jsonb, text, text, integer) IS
    'a stored document without its flagged values, and its blob, of the field with that handle, with them; needs encrypt on each field of them, and on the blob''s';

CREATE FUNCTION fieldcrypt.needs_sealing(document text, value jsonb, blob fieldcrypt.encrypted_jsonb, account text, kind text)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'needs_gathering_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 12;
COMMENT ON FUNCTION fieldcrypt.needs_sealing(text, jsonb, fieldcrypt.encrypted_jsonb, text, text) IS
    'whether a flagged value of a stored document is not gathered in its blob, or that is of another account';

CREATE FUNCTION fieldcrypt.open_retired(document text, INOUT value jsonb, INOUT blob fieldcrypt.encrypted_jsonb, account text,
        kind text, handle integer) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'scatter_retired_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 60 ROWS 1;
COMMENT ON FUNCTION fieldcrypt.open_retired(text, jsonb, fieldcrypt.encrypted_jsonb, text, text, integer) IS
    'a stored document with the plain values of what is sealed and no longer flagged, and its blob, of the field with that handle, without them; needs decrypt on each field of them, and encrypt on the blob''s if it holds others';

CREATE FUNCTION fieldcrypt.holds_retired(document text, value jsonb, blob fieldcrypt.encrypted_jsonb, account text, kind text)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'gathers_retired_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION fieldcrypt.holds_retired(text, jsonb, fieldcrypt.encrypted_jsonb, text, text) IS
    'whether something in a stored document or its blob is sealed and no longer flagged';

CREATE FUNCTION fieldcrypt.write_both() RETURNS trigger
    AS 'MODULE_PATHNAME', 'write_both_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.write_both() IS
    'row trigger of encrypt_column() and decrypt_column(): whoever writes the column writes its successor';

-- what a job works on

CREATE FUNCTION fieldcrypt.name_of_column(relation regclass, column_name name) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN pg_catalog.format('%s.%I', relation, column_name);
COMMENT ON FUNCTION fieldcrypt.name_of_column(regclass, name) IS
    'schema, table and column: the target of a column''s job';

CREATE FUNCTION fieldcrypt.name_of_document(document text, account text) RETURNS text
    LANGUAGE sql IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN CASE WHEN account IS NULL THEN document ELSE pg_catalog.format('%s/%s', document, account) END;
COMMENT ON FUNCTION fieldcrypt.name_of_document(text, text) IS
    'document, or document and account: the target of a document''s job';

CREATE FUNCTION fieldcrypt.document_of_job(job_target text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN pg_catalog.split_part(job_target, '/', 1);
COMMENT ON FUNCTION fieldcrypt.document_of_job(text) IS
    'the document of the target of a document''s job';

CREATE FUNCTION fieldcrypt.name_of_table(relation regclass) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN relation::pg_catalog.text;
COMMENT ON FUNCTION fieldcrypt.name_of_table(regclass) IS
    'schema and table, whatever the search path';

CREATE FUNCTION fieldcrypt.has_successor(job fieldcrypt.job) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN ((job).action IN ('encrypt_column', 'decrypt_column', 'adopt_column')) IS TRUE;
COMMENT ON FUNCTION fieldcrypt.has_successor(fieldcrypt.job) IS
    'whether a job fills a second column, which takes the place of the first';

CREATE FUNCTION fieldcrypt.reencrypts(job fieldcrypt.job) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN ((job).action IN ('reencrypt_existing', 'reencrypt_column')) IS TRUE;
COMMENT ON FUNCTION fieldcrypt.reencrypts(fieldcrypt.job) IS
    'whether a job seals anew what older keys or policies have sealed';

CREATE FUNCTION fieldcrypt.rotations() RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT pg_catalog.count(*) FROM fieldcrypt.account_key AS k WHERE k.purpose IN ('data', 'index') AND k.version > 1);
COMMENT ON FUNCTION fieldcrypt.rotations() IS
    'how many data and index keys have taken the place of others';

-- each batch asks for these, so that their plans have to be kept

CREATE FUNCTION fieldcrypt.tables_of_job(job_target text) RETURNS SETOF regclass
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH RECURSIVE part (relation) AS (
            SELECT COALESCE(to_regclass(j.relation)::oid, d.relation::oid)
            FROM fieldcrypt.job AS j LEFT JOIN fieldcrypt.documents AS d ON j.relation IS NULL AND d.name = fieldcrypt.document_of_job(j.target)
            WHERE j.target = job_target
            UNION
            SELECT i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.relation
        )
        -- not joined: PostgreSQL expects many, and would read the whole of pg_class, for each batch
        SELECT part.relation::regclass FROM part
        WHERE (SELECT c.relkind FROM pg_class AS c WHERE c.oid = part.relation) = 'r';
END
$$;
COMMENT ON FUNCTION fieldcrypt.tables_of_job(text) IS
    'the tables and partitions with rows that a job works on';

CREATE FUNCTION fieldcrypt.roots_of_job(job_target text) RETURNS SETOF regclass
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH r (relation) AS (
        SELECT pg_catalog.to_regclass(j.relation) FROM fieldcrypt.job AS j WHERE j.target = job_target
        UNION
        SELECT d.relation FROM fieldcrypt.job AS j JOIN fieldcrypt.documents AS d ON d.name = fieldcrypt.document_of_job(j.target)
        WHERE j.target = job_target AND j.relation IS NULL
    )
    SELECT r.relation FROM r
    WHERE r.relation IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i JOIN r AS parent ON parent.relation = i.inhparent
                        WHERE i.inhrelid = r.relation);
END;
COMMENT ON FUNCTION fieldcrypt.roots_of_job(text) IS
    'the tables that a job works on, those left out that are parts of others of them';

CREATE FUNCTION fieldcrypt.owners_of_job(job_target text) RETURNS SETOF oid
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT DISTINCT (SELECT c.relowner FROM pg_class AS c WHERE c.oid = t.relation)
        FROM fieldcrypt.tables_of_job(job_target) AS t (relation);
END
$$;
COMMENT ON FUNCTION fieldcrypt.owners_of_job(text) IS
    'the owners of the tables that a job works on';

CREATE FUNCTION fieldcrypt.encrypted_type_of(plain oid) RETURNS regtype
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t
    WHERE t.plain = CASE encrypted_type_of.plain
        WHEN 'varchar'::pg_catalog.regtype THEN 'text'::pg_catalog.regtype
        WHEN 'bpchar'::pg_catalog.regtype THEN 'text'::pg_catalog.regtype
        WHEN 'int2'::pg_catalog.regtype THEN 'int8'::pg_catalog.regtype
        WHEN 'int4'::pg_catalog.regtype THEN 'int8'::pg_catalog.regtype
        ELSE encrypted_type_of.plain END;
END;
COMMENT ON FUNCTION fieldcrypt.encrypted_type_of(oid) IS
    'the encrypted type that a column of a plain type becomes; NULL if there is none';

-- plans

CREATE FUNCTION fieldcrypt.plan_table(relation regclass) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE part (relation) AS (
        SELECT relation::pg_catalog.oid
        UNION
        SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits AS i ON i.inhparent = part.relation
    ), t AS (
        SELECT c.* FROM part JOIN pg_catalog.pg_class AS c ON c.oid = part.relation
    )
    SELECT 'notice', relation::text,
        pg_catalog.format('about %s rows in %s', pg_catalog.sum(GREATEST(t.reltuples, 0)) FILTER (WHERE t.relkind = 'r'),
            pg_catalog.pg_size_pretty(pg_catalog.sum(pg_catalog.pg_table_size(t.oid)))),
        'Each row is read twice, and written once at most.'
    FROM t
    UNION ALL
    SELECT 'error', t.oid::pg_catalog.regclass::text, 'is not an ordinary table, nor partitioned into such', 'There is no way to do it in batches.'
    FROM t WHERE t.relkind NOT IN ('r', 'p') OR t.relpersistence = 't'
    UNION ALL
    SELECT 'error', t.oid::pg_catalog.regclass::text, 'has rules', 'Drop them: a rule may change what a batch writes.'
    FROM t WHERE EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = t.oid)
    UNION ALL
    SELECT 'error', t.oid::pg_catalog.regclass::text, 'has REPLICA IDENTITY FULL: each change puts the plain old row into the logical stream',
        pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY DEFAULT;', t.oid::pg_catalog.regclass)
    FROM t WHERE t.relreplident = 'f'
    UNION ALL
    SELECT 'error', t.oid::pg_catalog.regclass::text, 'has forced row-level security: its owner does not see every row',
        pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', t.oid::pg_catalog.regclass)
    FROM t WHERE t.relforcerowsecurity
    UNION ALL
    SELECT 'error', t.oid::pg_catalog.regclass::text, 'is filled by a subscription, which does not fire triggers',
        'Run the job on the publisher.'
    FROM t WHERE EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = t.oid)
    UNION ALL
    SELECT CASE WHEN g.tgenabled IN ('R', 'A') THEN 'error' ELSE 'notice' END,
        pg_catalog.format('trigger %I of %s', g.tgname, g.tgrelid::pg_catalog.regclass),
        CASE WHEN g.tgenabled IN ('R', 'A') THEN 'fires also where others do not' ELSE 'does not fire for what the job writes' END,
        CASE WHEN g.tgenabled IN ('R', 'A') THEN 'ALTER TABLE ... ENABLE TRIGGER makes it an ordinary one.'
            ELSE 'The rows mean what they meant before.' END
    FROM t JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgparentid = 0
    WHERE g.tgname !~ '_fieldcrypt_' AND g.tgenabled <> 'D';
END;
COMMENT ON FUNCTION fieldcrypt.plan_table(regclass) IS
    'what a job on a table has to do with, and what is in its way (error)';

CREATE FUNCTION fieldcrypt.plan_existing(document text) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.severity, f.subject, f.finding, f.remedy
    FROM fieldcrypt.documents AS d CROSS JOIN LATERAL fieldcrypt.plan_table(d.relation) AS f
    WHERE d.name = document
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = d.relation)
    UNION ALL
    SELECT 'error', d.relation::text, 'has a disabled trigger of protect_jsonb()', 'ALTER TABLE ... ENABLE TRIGGER first.'
    FROM fieldcrypt.documents AS d WHERE d.name = document AND NOT d.enabled
    UNION ALL
    SELECT 'error', document, 'is no protected document', 'SELECT fieldcrypt.protect_jsonb(...) names one.'
    WHERE NOT EXISTS (SELECT FROM fieldcrypt.documents AS d WHERE d.name = document);
END;
COMMENT ON FUNCTION fieldcrypt.plan_existing(text) IS
    'what encrypt_existing() and decrypt_existing() would have to do with, and what is in their way (error)';

CREATE FUNCTION fieldcrypt.plan_column(relation regclass, column_name name) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.severity, f.subject, f.finding, f.remedy FROM fieldcrypt.plan_table(relation) AS f
    UNION ALL
    SELECT 'error', relation::text, 'inherits, or is inherited from', 'Take it out of the hierarchy first.'
    FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = relation AND NOT c.relispartition OR i.inhrelid = relation
    GROUP BY ()
    HAVING pg_catalog.count(*) > 0
    UNION ALL
    SELECT 'error', n.subject, 'does not exist', 'Name a column of the table.'
    FROM (VALUES (fieldcrypt.name_of_column(relation, column_name))) AS n (subject)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped)
    UNION ALL
    SELECT 'error', fieldcrypt.name_of_column(relation, column_name),
        pg_catalog.format('is of type %s', pg_catalog.format_type(a.atttypid, a.atttypmod)),
        'There is no encrypted type for it: ALTER TABLE ... ALTER COLUMN ... TYPE ... USING changes it offline.'
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
        AND fieldcrypt.encrypted_type_of(a.atttypid) IS NULL
        AND a.atttypid NOT IN (SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t)
    UNION ALL
    SELECT 'error', fieldcrypt.name_of_column(relation, column_name), 'is generated', 'Make it an ordinary column first.'
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = column_name AND (a.attgenerated <> '' OR a.attidentity <> '')
    UNION ALL
    SELECT CASE WHEN d.goes THEN 'notice' ELSE 'error' END, d.object,
        CASE WHEN d.goes THEN 'goes with the column' ELSE 'depends on the column' END,
        CASE WHEN d.goes THEN 'Run the job with cut_over => false, index the new column, and call it again.'
            ELSE 'Drop it, and create it anew, if that is possible, for the encrypted column.' END
    FROM (
        SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid),
            EXISTS (SELECT FROM pg_catalog.pg_index AS i
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid = d.objid
                    AND NOT i.indisunique AND NOT i.indisexclusion AND i.indnatts = 1)
        FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_depend AS d
            ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
        WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0
            -- from 18 on NOT NULL is a constraint, which the job keeps
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS n
                WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND n.oid = d.objid AND n.contype = 'n')
            -- its TOAST table is the table's own
            AND NOT (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
                AND EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = d.objid AND c.relkind = 't'))
    ) AS d (object, goes);
END;
COMMENT ON FUNCTION fieldcrypt.plan_column(regclass, name) IS
    'what encrypt_column() and decrypt_column() would have to do with, and what is in their way (error)';

CREATE FUNCTION fieldcrypt.plan_reencrypt_existing(document text) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.severity, f.subject, f.finding, f.remedy FROM fieldcrypt.plan_existing(document) AS f;
END;
COMMENT ON FUNCTION fieldcrypt.plan_reencrypt_existing(text) IS
    'what reencrypt_existing() would have to do with, and what is in its way (error)';

CREATE FUNCTION fieldcrypt.plan_reencrypt_column(relation regclass, column_name name) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.severity, f.subject, f.finding, f.remedy FROM fieldcrypt.plan_table(relation) AS f
    UNION ALL
    SELECT 'error', fieldcrypt.name_of_column(relation, column_name), 'is no column of an encrypted type',
        'SELECT fieldcrypt.plan_reencrypt_existing(...) is for documents.'
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid IN (SELECT t.encrypted FROM fieldcrypt.encrypted_types() AS t));
END;
COMMENT ON FUNCTION fieldcrypt.plan_reencrypt_column(regclass, name) IS
    'what reencrypt_column() would have to do with, and what is in its way (error)';

-- steps

CREATE FUNCTION fieldcrypt.check_job(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    obstacle fieldcrypt.finding;
    old pg_attribute;
BEGIN
    part := job.relation::regclass;
    IF job.action = 'reencrypt_existing' THEN
        SELECT * INTO obstacle FROM fieldcrypt.plan_reencrypt_existing(fieldcrypt.document_of_job(job.target)) AS p WHERE p.severity = 'error' LIMIT 1;
    ELSIF job.action = 'reencrypt_column' THEN
        SELECT * INTO obstacle FROM fieldcrypt.plan_reencrypt_column(part, job.column_name) AS p WHERE p.severity = 'error' LIMIT 1;
    ELSIF job.action = 'adopt_existing' THEN
        SELECT * INTO obstacle FROM fieldcrypt.plan_documents_to_adopt(job.target) AS p WHERE p.severity = 'error' LIMIT 1;
    ELSIF job.relation IS NULL THEN
        SELECT * INTO obstacle FROM fieldcrypt.plan_existing(fieldcrypt.document_of_job(job.target)) AS p WHERE p.severity = 'error' LIMIT 1;
    ELSE
        SELECT * INTO obstacle FROM fieldcrypt.plan_column(part, job.column_name) AS p WHERE p.severity = 'error' LIMIT 1;
    END IF;
    IF FOUND THEN
        RAISE EXCEPTION '% %', obstacle.subject, obstacle.finding
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = obstacle.remedy;
    END IF;
    IF NOT fieldcrypt.has_successor(job) THEN
        RETURN;
    END IF;
    SELECT * INTO STRICT old FROM pg_attribute AS a WHERE a.attrelid = part AND a.attname = job.column_name;
    IF (job.action <> 'decrypt_column') = (fieldcrypt.plain_type_of(old.atttypid) IS NOT NULL) THEN
        RAISE EXCEPTION 'column "%" of % is %', job.column_name, part,
            CASE job.action WHEN 'decrypt_column' THEN 'not encrypted' ELSE 'encrypted already' END
            USING ERRCODE = 'wrong_object_type';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = part AND a.attnum > 0 AND NOT a.attisdropped
                   AND a.attname = job.account_column AND a.attnum <> old.attnum
                   AND fieldcrypt.holds_encrypted(a.atttypid) IS NULL) THEN
        RAISE EXCEPTION 'column "%" of % cannot name the account', job.account_column, part
            USING ERRCODE = 'undefined_column', HINT = 'It is another column of the table, and a plain one.';
    END IF;
    IF job.action = 'decrypt_column' AND EXISTS (SELECT FROM fieldcrypt.field AS f
            WHERE f.handle = fieldcrypt.handle_of(old.atttypid, old.atttypmod) AND (NOT f.reversible OR f.store = 'token')) THEN
        RAISE EXCEPTION 'the field of column "%" of % is not reversible', job.column_name, part
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'What is encrypted stays encrypted.';
    END IF;
    IF job.action = 'adopt_column' THEN
        PERFORM fieldcrypt.check_adoption(job);
    END IF;
    IF job.action <> 'decrypt_column' AND NOT EXISTS (SELECT FROM fieldcrypt.field AS f WHERE f.name = job.field) THEN
        RAISE EXCEPTION 'field "%" does not exist', job.field USING ERRCODE = 'undefined_object';
    END IF;
    IF job.action <> 'decrypt_column'
        AND NOT EXISTS (SELECT FROM fieldcrypt.protected AS p WHERE p.relation = part AND p.account_column = job.account_column)
        AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = part AND a.attnum > 0 AND NOT a.attisdropped
                    AND fieldcrypt.holds_encrypted(a.atttypid) IS NOT NULL) THEN
        RAISE EXCEPTION '% has encrypted columns, and is not protected by that account column', part
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'SELECT fieldcrypt.protect_table(...) first.';
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.check_job(fieldcrypt.job) IS
    'fails if a job has something in its way';

CREATE FUNCTION fieldcrypt.open_job(wanted_action text, wanted_target text, wanted_relation text, wanted_column text,
        wanted_field text, wanted_account_column text, wanted_cut_over boolean, wanted_account text) RETURNS void
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known fieldcrypt.job;
    other text;
BEGIN
    -- of two that are started at once, the second sees the first
    LOCK TABLE fieldcrypt.job IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM fieldcrypt.job AS j WHERE j.target = wanted_target;
    IF FOUND AND known.state IN ('running', 'paused') THEN
        IF (known.action, known.field, known.account_column, known.account)
            IS DISTINCT FROM (wanted_action, wanted_field, wanted_account_column::name, wanted_account) THEN
            RAISE EXCEPTION 'another job is at work on "%"', wanted_target
                USING ERRCODE = 'object_in_use', HINT = 'Go on with it, or cancel it: fieldcrypt.progress shows it.';
        END IF;
        UPDATE fieldcrypt.job AS j SET state = 'running', cut_over = wanted_cut_over,
            step_started_at = now() - (j.changed_at - j.step_started_at), changed_at = now()
        WHERE j.target = wanted_target;
        IF known.action LIKE 'adopt%' AND known.step = 'verify' AND known.page >= known.end_page THEN
            -- what did not open may do so now
            PERFORM fieldcrypt.begin_pass(wanted_target, 'verify');
        END IF;
        RETURN;
    END IF;
    DELETE FROM fieldcrypt.job AS j WHERE j.target = wanted_target;
    INSERT INTO fieldcrypt.job (target, action, relation, column_name, field, account_column, cut_over, account)
    VALUES (wanted_target, wanted_action, wanted_relation, wanted_column, wanted_field, wanted_account_column, wanted_cut_over, wanted_account);
    SELECT j.target INTO other FROM fieldcrypt.job AS j
    WHERE j.target <> wanted_target AND j.state IN ('running', 'paused')
        AND EXISTS (SELECT fieldcrypt.tables_of_job(j.target) INTERSECT SELECT fieldcrypt.tables_of_job(wanted_target))
    LIMIT 1;
    IF FOUND THEN
        -- who manages one account need not know of the others
        RAISE EXCEPTION 'another job%is at work on the same table',
                CASE WHEN wanted_account IS NULL THEN format(' ("%s") ', other) ELSE ' ' END
            USING ERRCODE = 'object_in_use', HINT = 'One after the other: each writes every row.';
    END IF;
    PERFORM fieldcrypt.check_job(j) FROM fieldcrypt.job AS j WHERE j.target = wanted_target;
    PERFORM fieldcrypt.begin_adoption(j) FROM fieldcrypt.job AS j WHERE j.target = wanted_target AND j.action = 'adopt_existing';
END
$$;
COMMENT ON FUNCTION fieldcrypt.open_job(text, text, text, text, text, text, boolean, text) IS
    'notes that a job starts, or goes on';

CREATE FUNCTION fieldcrypt.successor_of(column_name name) RETURNS name
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN pg_catalog.concat('fieldcrypt_new_', pg_catalog.left(column_name::pg_catalog.text, 40));
COMMENT ON FUNCTION fieldcrypt.successor_of(name) IS
    'the name of the column that is to take the place of another, until it does';

CREATE FUNCTION fieldcrypt.require_successor(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM fieldcrypt.run_as_owner(job.relation::regclass, format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IS NOT NULL) NOT VALID',
        job.relation, fieldcrypt.successor_of(job.column_name), fieldcrypt.successor_of(job.column_name)), false);
END
$$;
COMMENT ON FUNCTION fieldcrypt.require_successor(fieldcrypt.job) IS
    'lets nobody write NULL to the successor of a column that is NOT NULL';

CREATE FUNCTION fieldcrypt.prepare_job(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    old pg_attribute;
    new_type text;
    successor name := fieldcrypt.successor_of(job.column_name);
BEGIN
    PERFORM fieldcrypt.check_job(job);
    IF NOT fieldcrypt.has_successor(job) THEN
        -- statements that began before the paths were flagged, or the keys rotated, have ended then
        FOR part IN SELECT fieldcrypt.tables_of_job(job.target) LOOP
            PERFORM fieldcrypt.run_as_owner(part, format('LOCK TABLE ONLY %s IN SHARE MODE', part), true);
        END LOOP;
        RETURN;
    END IF;

    part := job.relation::regclass;
    SELECT * INTO old FROM pg_attribute AS a WHERE a.attrelid = part AND a.attname = job.column_name;
    IF job.action = 'encrypt_column' THEN
        new_type := format('%s(%L)', fieldcrypt.encrypted_type_of(old.atttypid), job.field);
    ELSIF job.action = 'adopt_column' THEN
        new_type := format('%s(%L)', fieldcrypt.adopted_type(job), job.field);
    ELSE
        new_type := fieldcrypt.plain_type_of(old.atttypid);
    END IF;
    PERFORM fieldcrypt.run_as_owner(part, format('ALTER TABLE %s ADD COLUMN %I %s', part, successor, new_type), false);
    IF job.action <> 'decrypt_column'
        AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = part AND t.tgname = 'zzz_fieldcrypt_hold_account') THEN
        -- protect_table() would read the table under a lock; there is nothing in it yet
        PERFORM fieldcrypt.run_as_owner(part, format('CREATE TRIGGER zzz_fieldcrypt_hold_account BEFORE INSERT OR UPDATE'
            ' ON %s FOR EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account(%L, %L)', part, job.account_column, 'refuse'), false);
    END IF;
    IF job.action = 'adopt_column' THEN
        -- NOT NULL comes when everything has opened
        PERFORM fieldcrypt.run_as_owner(part, format('CREATE TRIGGER zzz_fieldcrypt_write_both BEFORE INSERT OR UPDATE'
            ' ON %s FOR EACH ROW EXECUTE FUNCTION fieldcrypt.adopt_both(%L, %L, %L, %s)', part, job.column_name, successor,
            job.account_column, concat_ws(', ', quote_literal(job.target), fieldcrypt.beside_columns(job))), false);
        RETURN;
    END IF;
    IF old.attnotnull THEN
        PERFORM fieldcrypt.require_successor(job);
    END IF;
    PERFORM fieldcrypt.run_as_owner(part, format('CREATE TRIGGER zzz_fieldcrypt_write_both BEFORE INSERT OR UPDATE'
        ' ON %s FOR EACH ROW EXECUTE FUNCTION fieldcrypt.write_both(%L, %L, %L, %L)', part, job.column_name, successor,
        job.account_column, CASE job.action WHEN 'encrypt_column' THEN job.field ELSE '' END), false);
END
$$;
COMMENT ON FUNCTION fieldcrypt.prepare_job(fieldcrypt.job) IS
    'first step: fails if something is in the way; a column gets its successor, which is written from then on';

CREATE FUNCTION fieldcrypt.column_to_reencrypt(job fieldcrypt.job, part regclass) RETURNS name
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN COALESCE(job.column_name, (SELECT COALESCE(NULLIF(d.arguments[5], ''), d.arguments[2])
        FROM fieldcrypt.documents_of(part) AS d WHERE d.arguments[1] = fieldcrypt.document_of_job(job.target)));
END
$$;
COMMENT ON FUNCTION fieldcrypt.column_to_reencrypt(fieldcrypt.job, regclass) IS
    'the column of a table that a job reencrypts: of a document with a blob the blob';

CREATE FUNCTION fieldcrypt.rows_of_job(job fieldcrypt.job, part regclass) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN job.account IS NULL THEN 'true' ELSE
        -- whatever the collation of the column takes for equal
        (SELECT format('(%s) COLLATE "C" = %L', fieldcrypt.account_text(part, d.arguments[3]), job.account)
         FROM fieldcrypt.documents_of(part) AS d WHERE d.arguments[1] = fieldcrypt.document_of_job(job.target)) END;
END
$$;
COMMENT ON FUNCTION fieldcrypt.rows_of_job(fieldcrypt.job, regclass) IS
    'a condition over a row: it is of the account that the job is for';

CREATE FUNCTION fieldcrypt.leaves_older(job fieldcrypt.job) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root regclass;
BEGIN
    FOR root IN SELECT fieldcrypt.roots_of_job(job.target) LOOP
        -- one statement, since rows that are written meanwhile move to where a batch has been
        IF fieldcrypt.run_as_owner(root, format('SELECT FROM %s WHERE %s AND fieldcrypt.needs_reencryption(%I) LIMIT 1',
            root, fieldcrypt.rows_of_job(job, root), fieldcrypt.column_to_reencrypt(job, root)), true) > 0 THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;
COMMENT ON FUNCTION fieldcrypt.leaves_older(fieldcrypt.job) IS
    'whether something in the tables of a job is under an older key or policy';

CREATE FUNCTION fieldcrypt.stored_type(part regclass, column_name name) RETURNS regtype
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT CASE a.atttypid WHEN 'bytea'::regtype THEN 'bytea'::regtype ELSE 'text'::regtype END
            FROM pg_attribute AS a WHERE a.attrelid = part AND a.attname = column_name);
END
$$;
COMMENT ON FUNCTION fieldcrypt.stored_type(regclass, name) IS
    'as what a column is read that holds what other software encrypted: text or bytea';

CREATE FUNCTION fieldcrypt.job_statement(job fieldcrypt.job, part regclass, pages text, places text, waits boolean) RETURNS text
    LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    document text[];
    arguments text;
    -- of a blob
    handle integer;
    changed_column name;
    associated_data text;
    value text;
    condition text;
    assignment text;
    account text := fieldcrypt.account_text(part, job.account_column);
BEGIN
    IF job.relation IS NULL THEN
        SELECT d.arguments INTO STRICT document FROM fieldcrypt.documents_of(part) AS d
        WHERE d.arguments[1] = fieldcrypt.document_of_job(job.target);
        changed_column := document[2];
        arguments := format('%L, %s, %s, %s', document[1],
            concat_ws(', ', quote_ident(changed_column), quote_ident(NULLIF(document[5], ''))),
            fieldcrypt.account_text(part, document[3]),
            CASE document[4] WHEN '' THEN 'NULL' ELSE fieldcrypt.account_text(part, document[4]) END);
        SELECT fieldcrypt.handle_of(a.atttypid, a.atttypmod) INTO handle
        FROM pg_attribute AS a WHERE a.attrelid = part AND a.attname = document[5];
    END IF;
    CASE job.action
        WHEN 'encrypt_existing' THEN
            value := format('fieldcrypt.seal_existing(%s)', concat_ws(', ', arguments, handle));
            condition := format('fieldcrypt.needs_sealing(%s)', arguments);
        WHEN 'decrypt_existing' THEN
            value := format('fieldcrypt.open_retired(%s)', concat_ws(', ', arguments, handle));
            condition := format('fieldcrypt.holds_retired(%s)', arguments);
        WHEN 'encrypt_column' THEN
            changed_column := fieldcrypt.successor_of(job.column_name);
            value := format('fieldcrypt.encrypt(%I::%s, %L, COALESCE(%s, ''''))', job.column_name,
                (SELECT fieldcrypt.plain_type_of(a.atttypid) FROM pg_attribute AS a
                 WHERE a.attrelid = part AND a.attname = changed_column), job.field, account);
            condition := format('%I IS NOT NULL AND %I IS NULL', job.column_name, changed_column);
        WHEN 'decrypt_column' THEN
            changed_column := fieldcrypt.successor_of(job.column_name);
            value := format('fieldcrypt.decrypt(%I)', job.column_name);
            condition := format('%I IS NOT NULL AND %I IS NULL', job.column_name, changed_column);
        WHEN 'adopt_existing' THEN
            associated_data := fieldcrypt.text_of_template(fieldcrypt.terms_of(job) ->> 'associated_data_template');
            value := format('fieldcrypt.adopt_stored_document(%s, %s)', arguments, associated_data);
            -- what does not open stays as it is, and is counted in the end
            condition := format('fieldcrypt.holds_foreign(%s, %L, %s)', arguments, job.step = 'verify', associated_data);
        WHEN 'adopt_column' THEN
            changed_column := fieldcrypt.successor_of(job.column_name);
            value := format('fieldcrypt.adopt_stored(%L, %I::%s, %s, %I, %s)', job.target, job.column_name,
                fieldcrypt.stored_type(part, job.column_name), account, changed_column, fieldcrypt.beside_values(job));
            condition := format('%I IS NOT NULL AND %I IS NULL', job.column_name, changed_column);
        WHEN 'reencrypt_existing', 'reencrypt_column' THEN
            changed_column := fieldcrypt.column_to_reencrypt(job, part);
            value := format('fieldcrypt.reencrypt(%I)', changed_column);
            condition := format('fieldcrypt.needs_reencryption(%I)', changed_column);
    END CASE;
    IF handle IS NOT NULL AND NOT fieldcrypt.reencrypts(job) THEN
        -- what leaves one column enters the other
        assignment := format('(%I, %I) = (SELECT * FROM %s)', document[2], document[5], value);
    ELSE
        assignment := format('%I = %s', changed_column, value);
    END IF;
    IF job.account IS NOT NULL THEN
        pages := concat_ws(' AND ', pages, fieldcrypt.rows_of_job(job, part));
    END IF;
    IF places IS NOT NULL THEN
        condition := format('ctid = ANY (%L::tid[])', places);
        pages := 'true';
    END IF;
    -- of a row that changes meanwhile the condition is asked again, and the value made, of the newest version
    RETURN format(CASE WHEN waits THEN 'UPDATE ONLY %1$s SET %2$s WHERE %3$s AND %4$s'
        ELSE 'UPDATE ONLY %1$s SET %2$s WHERE ctid = ANY (ARRAY('
             'SELECT ctid FROM ONLY %1$s WHERE %3$s AND %4$s FOR UPDATE SKIP LOCKED))' END,
        part, assignment, pages, condition);
END
$$;
COMMENT ON FUNCTION fieldcrypt.job_statement(fieldcrypt.job, regclass, text, text, boolean) IS
    'the UPDATE of a batch: of some pages of a table, or of the rows at some places';

CREATE FUNCTION fieldcrypt.places_that_differ(job fieldcrypt.job, part regclass, pages text) RETURNS text
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    successor name := fieldcrypt.successor_of(job.column_name);
    encrypted name := CASE job.action WHEN 'encrypt_column' THEN successor ELSE job.column_name END;
    plain name := CASE job.action WHEN 'encrypt_column' THEN job.column_name ELSE successor END;
BEGIN
    IF job.action = 'adopt_column' THEN
        RETURN fieldcrypt.differing_adoptions(part, format('SELECT ctid::text, %I::%s, %I, COALESCE(%s, ''''), %s FROM ONLY %s WHERE %s',
            job.column_name, fieldcrypt.stored_type(part, job.column_name), successor,
            fieldcrypt.account_text(part, job.account_column), fieldcrypt.beside_values(job), part, pages), job.target);
    END IF;
    RETURN fieldcrypt.differing_rows(part, format('SELECT ctid::text, %I::%s, %I, COALESCE(%s, '''') FROM ONLY %s WHERE %s', plain,
        (SELECT fieldcrypt.plain_type_of(a.atttypid) FROM pg_attribute AS a WHERE a.attrelid = part AND a.attname = encrypted),
        encrypted, fieldcrypt.account_text(part, job.account_column), part, pages));
END
$$;
COMMENT ON FUNCTION fieldcrypt.places_that_differ(fieldcrypt.job, regclass, text) IS
    'the rows in some pages of which a column and its successor do not have the same value';

CREATE FUNCTION fieldcrypt.begin_pass(job_target text, next_step text) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE fieldcrypt.job AS j SET step = next_step, place = NULL, page = 0, end_page = 0, clean = true, pages_done = 0,
        pages_total = t.pages, rows_total = t.rows, step_started_at = pg_catalog.now(), changed_at = pg_catalog.now()
    FROM (SELECT COALESCE(pg_catalog.sum(pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint), 0) AS pages,
                 COALESCE(pg_catalog.sum(GREATEST(c.reltuples, 0)), 0)::bigint AS rows
          FROM fieldcrypt.tables_of_job(job_target) AS t (relation) JOIN pg_catalog.pg_class AS c ON c.oid = t.relation) AS t
    WHERE j.target = job_target;
END;
COMMENT ON FUNCTION fieldcrypt.begin_pass(text, text) IS
    'lets a job begin to go through its tables';

CREATE FUNCTION fieldcrypt.cut_over(job fieldcrypt.job) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass := job.relation;
    successor name := fieldcrypt.successor_of(job.column_name);
    obstacle fieldcrypt.finding;
    old pg_attribute;
    item record;
BEGIN
    PERFORM fieldcrypt.run_as_owner(part, format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part), true);
    SELECT * INTO obstacle FROM fieldcrypt.plan_column(part, job.column_name) AS p WHERE p.severity = 'error' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% %', obstacle.subject, obstacle.finding
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = obstacle.remedy;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = part AND t.tgname = 'zzz_fieldcrypt_write_both' AND t.tgenabled = 'O') THEN
        RAISE EXCEPTION 'the trigger that writes both columns of % is gone or disabled', part
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Cancel the job, and start it again.';
    END IF;
    SELECT * INTO STRICT old FROM pg_attribute AS a WHERE a.attrelid = part AND a.attname = job.column_name;
    PERFORM fieldcrypt.run_as_owner(part, format('DROP TRIGGER zzz_fieldcrypt_write_both ON %s', part), false);
    FOR item IN
        SELECT format('GRANT %s (%I) ON %s TO %s%s', g.privilege_type, successor, part,
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END) AS statement
        FROM aclexplode(old.attacl) AS g
        UNION ALL
        SELECT format('COMMENT ON COLUMN %s.%I IS %L', part, successor, col_description(part, old.attnum))
        WHERE col_description(part, old.attnum) IS NOT NULL
        UNION ALL
        SELECT format('ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL, DROP CONSTRAINT %2$I', part, successor)
        WHERE old.attnotnull
    LOOP
        PERFORM fieldcrypt.run_as_owner(part, item.statement, false);
    END LOOP;
    PERFORM fieldcrypt.run_as_owner(part, format('ALTER TABLE %s DROP COLUMN %I', part, job.column_name), false);
    PERFORM fieldcrypt.run_as_owner(part, format('ALTER TABLE %s RENAME COLUMN %I TO %I', part, successor, job.column_name), false);
    IF EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = part AND t.tgname = 'zzz_fieldcrypt_hold_account')
        AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = part AND a.attnum > 0 AND NOT a.attisdropped
                        AND fieldcrypt.holds_encrypted(a.atttypid) IS NOT NULL) THEN
        PERFORM fieldcrypt.run_as_owner(part, format('DROP TRIGGER zzz_fieldcrypt_hold_account ON %s', part), false);
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.cut_over(fieldcrypt.job) IS
    'last step of a column: its successor takes its place, with its name, privileges, comment and NOT NULL';

-- what is left

CREATE FUNCTION fieldcrypt.older_snapshots(than xid8) RETURNS SETOF text
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.format('session %s', a.pid) FROM pg_catalog.pg_stat_activity AS a
    WHERE a.pid <> pg_catalog.pg_backend_pid() AND COALESCE(a.datname = pg_catalog.current_database(), true)
        AND GREATEST(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) > pg_catalog.age(than::pg_catalog.xid)
    UNION ALL
    SELECT pg_catalog.format('prepared transaction %s', p.gid) FROM pg_catalog.pg_prepared_xacts AS p
    WHERE p.database = pg_catalog.current_database() AND pg_catalog.age(p.transaction) > pg_catalog.age(than::pg_catalog.xid)
    UNION ALL
    SELECT pg_catalog.format('replication slot %s', s.slot_name) FROM pg_catalog.pg_replication_slots AS s
    WHERE GREATEST(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)) > pg_catalog.age(than::pg_catalog.xid);
END;
COMMENT ON FUNCTION fieldcrypt.older_snapshots(xid8) IS
    'what may still see rows that were there before a transaction, so that VACUUM FULL keeps them';

CREATE FUNCTION fieldcrypt.tables_of_remnant(remnant_target text) RETURNS SETOF regclass
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE part (relation) AS (
        SELECT pg_catalog.to_regclass(pg_catalog.substr(remnant_target, 7))::oid
        WHERE pg_catalog.starts_with(remnant_target, 'table ')
        UNION
        SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits AS i ON i.inhparent = part.relation
    )
    SELECT t.relation FROM fieldcrypt.tables_of_job(remnant_target) AS t (relation)
    UNION
    SELECT t.relation FROM fieldcrypt.roots_of_job(remnant_target) AS t (relation)
    UNION
    SELECT p.relation::regclass FROM part AS p WHERE p.relation IS NOT NULL;
END;
COMMENT ON FUNCTION fieldcrypt.tables_of_remnant(text) IS
    'the tables and partitions of a job, or of a table of note_remnants()';

CREATE FUNCTION fieldcrypt.note_files(job_target text) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO fieldcrypt.remnant (target, kind, relation, part, file)
    SELECT job_target, 'file', t.relation::text, c.oid::pg_catalog.regclass::text, pg_catalog.pg_relation_filenode(c.oid)
    FROM (SELECT relation FROM fieldcrypt.tables_of_remnant(job_target) AS j (relation)
          UNION ALL VALUES ('pg_catalog.pg_statistic'::pg_catalog.regclass), ('pg_catalog.pg_statistic_ext_data'::pg_catalog.regclass)
         ) AS t (relation)
        JOIN pg_catalog.pg_class AS h ON h.oid = t.relation AND h.relkind = 'r'
        JOIN pg_catalog.pg_class AS c ON c.oid IN (h.oid, h.reltoastrelid)
            OR c.oid IN (SELECT i.indexrelid FROM pg_catalog.pg_index AS i WHERE i.indrelid = h.oid);
END;
COMMENT ON FUNCTION fieldcrypt.note_files(text) IS
    'notes the files that may hold what a job has encrypted: those of its tables, and of statistics';

CREATE FUNCTION fieldcrypt.note_remnants(job_target text, encrypts boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM fieldcrypt.remnant AS r WHERE r.target = job_target;
    IF encrypts THEN
        INSERT INTO fieldcrypt.remnant (target, kind, xid) VALUES (job_target, 'snapshot', pg_current_xact_id());
    END IF;
END
$$;
COMMENT ON FUNCTION fieldcrypt.note_remnants(text, boolean) IS
    'notes at the end of a job what may hold plain values';

CREATE FUNCTION fieldcrypt.note_table(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM fieldcrypt.run_as_owner(relation, format('ANALYZE %s', relation), false);
    PERFORM fieldcrypt.note_remnants(format('table %s', relation), true);
END
$$;
COMMENT ON FUNCTION fieldcrypt.note_table(regclass) IS
    'what note_remnants() does, after it has checked the caller';

CREATE FUNCTION fieldcrypt.note_remnants(relation regclass) RETURNS void
    AS 'MODULE_PATHNAME', 'note_remnants_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.note_remnants(regclass) IS
    'notes that a table had plain values until now, which were encrypted without a job; for fieldcrypt_admin, and who may VACUUM the table';

CREATE FUNCTION fieldcrypt.older_statements(than timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text;
    is_older boolean;
BEGIN
    SELECT e.extnamespace::regnamespace::text INTO place FROM pg_extension AS e
    WHERE e.extname = 'pg_stat_statements' AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT stats_reset < $1 FROM %s.pg_stat_statements_info', place) INTO is_older USING than;
    -- of all of them: only then their texts go from its file
    RETURN CASE WHEN is_older THEN format('SELECT %s.pg_stat_statements_reset();', place) END;
END
$$;
COMMENT ON FUNCTION fieldcrypt.older_statements(timestamptz) IS
    'what clears pg_stat_statements, if it has statements from before a moment';

CREATE FUNCTION fieldcrypt.find_remnants(wanted regclass) RETURNS SETOF fieldcrypt.finding
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job_target text;
    noted fieldcrypt.remnant;
    segment text;
    since timestamptz;
    statements text;
    is_clean boolean;
BEGIN
    FOR job_target IN
        SELECT DISTINCT r.target FROM fieldcrypt.remnant AS r
        WHERE wanted IS NULL OR wanted IN (SELECT fieldcrypt.tables_of_remnant(r.target))
        ORDER BY r.target
    LOOP
        since := (SELECT min(r.noted_at) FROM fieldcrypt.remnant AS r WHERE r.target = job_target AND r.kind <> 'backup');
        statements := fieldcrypt.older_statements(since);
        RETURN QUERY SELECT 'error', job_target, 'pg_stat_statements has statements from before, some with values', statements
        WHERE statements IS NOT NULL;
        SELECT * INTO noted FROM fieldcrypt.remnant AS r WHERE r.target = job_target AND r.kind = 'snapshot';
        IF FOUND THEN
            RETURN QUERY SELECT 'error', job_target, format('%s may still see plain values, which VACUUM FULL keeps for it', o),
                'End it, or let it catch up.'
            FROM fieldcrypt.older_snapshots(noted.xid) AS o;
            CONTINUE WHEN FOUND;
            -- only what is rewritten from now on is free of old rows
            DELETE FROM fieldcrypt.remnant AS r WHERE r.target = job_target;
            PERFORM fieldcrypt.note_files(job_target);
            UPDATE fieldcrypt.remnant AS r SET noted_at = since WHERE r.target = job_target;
        END IF;
        SELECT * INTO noted FROM fieldcrypt.remnant AS r WHERE r.target = job_target AND r.kind IN ('WAL', 'backup');
        IF NOT FOUND THEN
            DELETE FROM fieldcrypt.remnant AS r
            WHERE r.target = job_target AND pg_relation_filenode(to_regclass(r.part)) IS DISTINCT FROM r.file;
            RETURN QUERY SELECT 'error', job_target, format('file of %s holds old rows: %s', r.relation, string_agg(r.part, ', ' ORDER BY r.part)),
                format('VACUUM FULL %s;', r.relation)
            FROM fieldcrypt.remnant AS r WHERE r.target = job_target GROUP BY r.relation ORDER BY r.relation;
            IF FOUND THEN
                RETURN QUERY VALUES ('error', job_target, 'WAL holds them as well', 'Call remnants() again when the files are rewritten.');
                CONTINUE;
            END IF;
            -- pages of the files were in WAL until now
            INSERT INTO fieldcrypt.remnant (target, kind, lsn, noted_at)
            VALUES (job_target, 'WAL', pg_current_wal_insert_lsn(), COALESCE(since, now()))
            RETURNING * INTO noted;
        END IF;
        IF noted.kind = 'WAL' THEN
            segment := right(pg_walfile_name(noted.lsn), 16);
            RETURN QUERY SELECT 'error', job_target, format('%s of WAL hold values from before %s', count(*), noted.lsn), r.remedy
            FROM pg_ls_waldir() AS w CROSS JOIN (VALUES (1, 'SELECT pg_switch_wal();'), (2, 'CHECKPOINT;')) AS r (n, remedy)
            WHERE w.name ~ '^[0-9A-F]{24}$' AND right(w.name, 16) <= segment
            GROUP BY r.n, r.remedy ORDER BY r.n;
            is_clean := NOT FOUND;
            RETURN QUERY SELECT 'error', job_target, format('wal_keep_size (%s) keeps WAL from before %s', s.setting, noted.lsn),
                'ALTER SYSTEM SET wal_keep_size = 0, and reload.'
            FROM current_setting('wal_keep_size') AS s (setting) WHERE NOT is_clean AND s.setting <> '0';
            RETURN QUERY SELECT 'error', job_target, format('%s of them are not archived', count(*)), 'Let archive_command or archive_library succeed.'
            FROM pg_ls_archive_statusdir() AS a WHERE a.name ~ '^[0-9A-F]{24}\.ready$' AND substr(a.name, 9, 16) <= segment
            HAVING count(*) > 0;
            IF is_clean AND noted.segment IS NULL THEN
                UPDATE fieldcrypt.remnant AS r
                SET segment = (SELECT max(right(w.name, 16)) FROM pg_ls_waldir() AS w WHERE w.name ~ '^[0-9A-F]{24}$')
                WHERE r.target = job_target RETURNING * INTO noted;
            END IF;
            RETURN QUERY SELECT 'error', job_target, format('%s recycled segments of WAL may hold old ones'' content', count(*)),
                format('SELECT fieldcrypt.overwrite_wal(%s);', count(*))
            FROM pg_ls_waldir() AS w
            WHERE w.name ~ '^[0-9A-F]{24}$' AND right(w.name, 16)
                BETWEEN right(pg_walfile_name(pg_current_wal_insert_lsn()), 16) AND noted.segment
            HAVING count(*) > 0;
            is_clean := is_clean AND NOT FOUND;
            RETURN QUERY SELECT 'error', job_target, format('replication slot %s keeps WAL from before %s', s.slot_name, noted.lsn),
                'Let it catch up, or drop it.'
            FROM pg_replication_slots AS s WHERE s.restart_lsn <= noted.lsn;
            is_clean := is_clean AND NOT FOUND;
            IF is_clean AND statements IS NULL THEN
                UPDATE fieldcrypt.remnant AS r SET kind = 'backup' WHERE r.target = job_target;
            END IF;
        END IF;
        RETURN QUERY SELECT 'notice', job_target, format('base backups and archived WAL from before %s hold values', noted.lsn),
            'Delete them once there is a newer base backup.';
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.find_remnants(regclass) IS
    'what remnants() says; notes what is clean by now';

CREATE FUNCTION fieldcrypt.remnants(relation regclass DEFAULT NULL) RETURNS SETOF fieldcrypt.finding
    AS 'MODULE_PATHNAME', 'remnants_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 5;
COMMENT ON FUNCTION fieldcrypt.remnants(regclass) IS
    'where plain values are left that jobs have encrypted in a table, or in all, and what clears each; for fieldcrypt_admin and fieldcrypt_auditor';

CREATE FUNCTION fieldcrypt.rewrite_table(relation regclass) RETURNS boolean
    AS 'MODULE_PATHNAME', 'rewrite_table_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.rewrite_table(regclass) IS
    'what VACUUM FULL does, in a transaction; false where the caller may not VACUUM the table; for fieldcrypt_admin';

CREATE FUNCTION fieldcrypt.overwrite_wal(segments integer) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR n IN 1..segments LOOP
        -- a segment is switched only if something is in it; the switch fills the rest of it with zeros
        PERFORM pg_logical_emit_message(false, 'fieldcrypt', '');
        PERFORM pg_switch_wal();
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.overwrite_wal(integer) IS
    'goes through so many segments of WAL, whatever they held; for fieldcrypt_admin, and who may call pg_switch_wal()';

CREATE FUNCTION fieldcrypt.apply_remedy(remedy text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rewritten regclass := (regexp_match(remedy, '^VACUUM FULL (.*);$'))[1];
BEGIN
    IF rewritten IS NOT NULL THEN
        RETURN fieldcrypt.rewrite_table(rewritten);
    END IF;
    EXECUTE remedy;
    RETURN true;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN true;
    WHEN insufficient_privilege THEN
        RAISE WARNING '%', SQLERRM;
        RETURN false;
END
$$;
COMMENT ON FUNCTION fieldcrypt.apply_remedy(text) IS
    'does what remnants() advises, with the rights of the caller; whether he may';

CREATE FUNCTION fieldcrypt.advance_job(job_target text, batch_size integer, waits boolean) RETURNS boolean
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job fieldcrypt.job;
    next_part regclass;
    size bigint;
    first_page bigint;
    last_page bigint;
    pages text;
    places text;
    changed bigint := 0;
    parts oid[];
BEGIN
    SELECT * INTO job FROM fieldcrypt.job AS j WHERE j.target = job_target FOR UPDATE;
    IF NOT FOUND OR job.state <> 'running' THEN
        RETURN false;
    END IF;
    IF job.step = 'prepare' THEN
        PERFORM fieldcrypt.prepare_job(job);
        UPDATE fieldcrypt.job AS j SET rotations = fieldcrypt.rotations() WHERE j.target = job_target;
        PERFORM fieldcrypt.begin_pass(job_target, 'backfill');
        RETURN true;
    ELSIF job.step = 'cut over' THEN
        IF job.cut_over THEN
            IF job.action = 'adopt_existing' THEN
                PERFORM fieldcrypt.end_adoption(job);
            ELSE
                PERFORM fieldcrypt.cut_over(job);
            END IF;
            UPDATE fieldcrypt.job AS j SET step = 'analyze', changed_at = now() WHERE j.target = job_target;
        ELSE
            UPDATE fieldcrypt.job AS j SET state = 'paused', changed_at = now() WHERE j.target = job_target;
        END IF;
        RETURN job.cut_over;
    ELSIF job.step = 'analyze' THEN
        -- statistics hold values, too
        FOR next_part IN SELECT fieldcrypt.roots_of_job(job_target) LOOP
            PERFORM fieldcrypt.run_as_owner(next_part, format('ANALYZE %s', next_part), false);
        END LOOP;
        PERFORM fieldcrypt.note_remnants(job_target,
            job.action LIKE 'encrypt%' OR COALESCE(fieldcrypt.terms_of(job) ->> 'plaintext' = 'encrypt', false));
        UPDATE fieldcrypt.job AS j SET state = 'done', changed_at = now() WHERE j.target = job_target;
        RETURN false;
    ELSIF job.step = 'verify' AND fieldcrypt.reencrypts(job) THEN
        parts := ARRAY(SELECT t.relation::oid FROM fieldcrypt.tables_of_job(job_target) AS t (relation));
        IF fieldcrypt.leaves_older(job) THEN
            PERFORM fieldcrypt.begin_pass(job_target, 'backfill');
        ELSIF job.rotations <> fieldcrypt.rotations() THEN
            -- what was running when a key was rotated meanwhile may still have sealed under the older one
            UPDATE fieldcrypt.job AS j SET step = 'prepare', changed_at = now() WHERE j.target = job_target;
        ELSE
            -- values are those that statistics know
            UPDATE fieldcrypt.job AS j SET state = 'done', verified = parts, changed_at = now() WHERE j.target = job_target;
            RETURN false;
        END IF;
        RETURN true;
    ELSIF job.page < job.end_page THEN
        size := CASE WHEN (SELECT c.reltuples > 0 FROM pg_class AS c WHERE c.oid = job.place::regclass)
            THEN (SELECT batch_size / (c.reltuples / greatest(c.relpages, 1)) FROM pg_class AS c WHERE c.oid = job.place::regclass)
            ELSE batch_size / 50 END;
        first_page := job.page;
        last_page := least(job.page + greatest(size, 1), job.end_page);
        pages := format('ctid >= ''(%s,0)'' AND ctid < ''(%s,0)''', first_page, last_page);
        IF job.step = 'verify' AND fieldcrypt.has_successor(job) THEN
            places := fieldcrypt.places_that_differ(job, job.place::regclass, pages);
        END IF;
        IF places IS DISTINCT FROM '{}' THEN
            changed := fieldcrypt.run_as_owner(job.place::regclass,
                fieldcrypt.job_statement(job, job.place::regclass, pages, places, waits), true);
        END IF;
        UPDATE fieldcrypt.job AS j SET page = last_page, pages_done = j.pages_done + last_page - first_page,
            rows_changed = j.rows_changed + changed, changed_at = now(),
            -- rows that were locked may have been left out
            clean = j.clean AND changed = 0 AND (CASE WHEN places IS NULL THEN waits ELSE places = '{}' END)
        WHERE j.target = job_target;
        RETURN true;
    END IF;

    -- a table that is gone is followed by the first one again
    SELECT t.relation INTO next_part FROM fieldcrypt.tables_of_job(job_target) AS t (relation)
    WHERE t.relation::oid > COALESCE(to_regclass(job.place)::oid, 0) ORDER BY t.relation::oid LIMIT 1;
    IF FOUND THEN
        UPDATE fieldcrypt.job AS j SET place = next_part::text, page = 0,
            end_page = pg_relation_size(next_part) / current_setting('block_size')::bigint
        WHERE j.target = job_target;
    ELSIF job.step = 'backfill' OR NOT job.clean THEN
        PERFORM fieldcrypt.begin_pass(job_target, 'verify');
    ELSIF job.action = 'adopt_existing' THEN
        PERFORM fieldcrypt.check_adopted(job);
        UPDATE fieldcrypt.job AS j SET step = 'cut over', changed_at = now() WHERE j.target = job_target;
    ELSIF NOT fieldcrypt.has_successor(job) THEN
        UPDATE fieldcrypt.job AS j SET step = 'analyze', changed_at = now() WHERE j.target = job_target;
    ELSE
        IF job.action = 'adopt_column' THEN
            PERFORM fieldcrypt.check_adopted(job);
            IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = job.relation::regclass AND a.attname = job.column_name AND a.attnotnull)
                AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = job.relation::regclass
                                AND c.conname = fieldcrypt.successor_of(job.column_name)) THEN
                -- validated in the next transaction, under a weaker lock
                PERFORM fieldcrypt.require_successor(job);
                RETURN true;
            END IF;
        END IF;
        IF EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = job.relation::regclass AND c.contype = 'c'
                   AND c.conname = fieldcrypt.successor_of(job.column_name)) THEN
            -- so that cutting over need not read the table
            PERFORM fieldcrypt.run_as_owner(job.relation::regclass, format('ALTER TABLE %s VALIDATE CONSTRAINT %I',
                job.relation, fieldcrypt.successor_of(job.column_name)), false);
        END IF;
        UPDATE fieldcrypt.job AS j SET step = 'cut over', changed_at = now() WHERE j.target = job_target;
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION fieldcrypt.advance_job(text, integer, boolean) IS
    'the next batch or step of a job; whether there is another one';

CREATE FUNCTION fieldcrypt.end_job(job_target text, new_state text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job fieldcrypt.job;
    part regclass;
BEGIN
    SELECT * INTO STRICT job FROM fieldcrypt.job AS j WHERE j.target = job_target FOR UPDATE;
    IF job.state NOT IN ('running', 'paused') THEN
        RAISE EXCEPTION 'job "%" is %', job_target, job.state USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    part := to_regclass(job.relation);
    IF new_state = 'cancelled' AND job.action = 'adopt_existing' THEN
        PERFORM fieldcrypt.end_adoption(job);
    ELSIF new_state = 'cancelled' AND part IS NOT NULL AND fieldcrypt.has_successor(job) THEN
        PERFORM fieldcrypt.run_as_owner(part, format('DROP TRIGGER IF EXISTS zzz_fieldcrypt_write_both ON %s', part), false);
        PERFORM fieldcrypt.run_as_owner(part, format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', part,
            fieldcrypt.successor_of(job.column_name)), false);
    END IF;
    UPDATE fieldcrypt.job AS j SET state = new_state, changed_at = now() WHERE j.target = job_target;
END
$$;
COMMENT ON FUNCTION fieldcrypt.end_job(text, text) IS
    'pauses or cancels a job; one that is cancelled leaves no second column behind';

-- what administrators call

CREATE FUNCTION fieldcrypt.start_job(action text, target text, relation text, column_name text, field text,
        account_column text, cut_over boolean, account text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'start_job_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.start_job(text, text, text, text, text, text, boolean, text) IS
    'what the procedures of jobs begin with; for fieldcrypt_admin, and who inherits the rights of the table''s owner; of one account for whoever manages it';

CREATE FUNCTION fieldcrypt.step_job(target text, batch_size integer, waits boolean) RETURNS boolean
    AS 'MODULE_PATHNAME', 'step_job_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.step_job(text, integer, boolean) IS
    'does the next batch or step of a job, waiting for locked rows or leaving them for later; whether there is another one';

CREATE FUNCTION fieldcrypt.pause_job(target text) RETURNS void
    AS 'MODULE_PATHNAME', 'pause_job_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.pause_job(text) IS
    'ends a job after its batch; calling its procedure again goes on with it; for fieldcrypt_admin, and who inherits the rights of the table''s owner; of one account for whoever manages it';

CREATE FUNCTION fieldcrypt.cancel_job(target text) RETURNS void
    AS 'MODULE_PATHNAME', 'cancel_job_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.cancel_job(text) IS
    'ends a job for good: columns stay as they were, documents as they are; for fieldcrypt_admin, and who inherits the rights of the table''s owner; of one account for whoever manages it';

CREATE FUNCTION fieldcrypt.message_of_job(job_target text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.format('%s %s: %s, %s: %s %%, %s rows changed, %s rows/s, %s to go', p.action, p.target, p.state, p.step,
        p.percent, p.rows_changed, COALESCE(p.rows_per_second, 0),
        COALESCE(pg_catalog.date_trunc('second', p.eta)::text, 'nothing'))
    FROM fieldcrypt.progress AS p WHERE p.target = job_target;
END;
COMMENT ON FUNCTION fieldcrypt.message_of_job(text) IS
    'how far a job has come, in a sentence';

CREATE FUNCTION fieldcrypt.describe_job(target text) RETURNS text
    AS 'MODULE_PATHNAME', 'describe_job_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.describe_job(text) IS
    'how far a job has come, in a sentence; for fieldcrypt_admin, and of one account for whoever manages it';

CREATE FUNCTION fieldcrypt.report_job(job_target text, reported timestamptz) RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF clock_timestamp() < reported + interval '5 seconds' THEN
        RETURN reported;
    END IF;
    RAISE NOTICE '%', fieldcrypt.describe_job(job_target);
    RETURN clock_timestamp();
END
$$;
COMMENT ON FUNCTION fieldcrypt.report_job(text, timestamptz) IS
    'says how far a job has come, unless that was said five seconds ago or less; when it was said last';

CREATE FUNCTION fieldcrypt.rest_after(batch_start timestamptz, batch_size integer, rate integer, waits boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_sleep(greatest(CASE WHEN waits THEN 0 ELSE 0.1 END,
        batch_size::numeric / rate - EXTRACT(epoch FROM clock_timestamp() - batch_start)));
END
$$;
COMMENT ON FUNCTION fieldcrypt.rest_after(timestamptz, integer, integer, boolean) IS
    'waits until a batch may be followed by another: by the rate in rows per second, and after a lock was in the way';

-- They commit, so that they can neither have settings nor the rights of their owner: what they say is
-- qualified, and calls what checks the caller.

CREATE PROCEDURE fieldcrypt.run_job(target text, batch_size integer, rate integer)
    LANGUAGE plpgsql
AS $$
DECLARE
    goes_on boolean := true;
    waits boolean := true;
    batch_start timestamptz;
    reported timestamptz := pg_catalog.clock_timestamp();
BEGIN
    COMMIT;
    WHILE goes_on LOOP
        batch_start := pg_catalog.clock_timestamp();
        BEGIN
            goes_on := fieldcrypt.step_job(target, batch_size, waits);
            waits := true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            waits := false;
        END;
        COMMIT;
        reported := fieldcrypt.report_job(target, reported);
        PERFORM fieldcrypt.rest_after(batch_start, batch_size, rate, waits);
    END LOOP;
    PERFORM fieldcrypt.report_job(target, '-infinity');
END
$$;
COMMENT ON PROCEDURE fieldcrypt.run_job(text, integer, integer) IS
    'goes on with a job until it is done, paused or cancelled; for fieldcrypt_admin, and who inherits the rights of the table''s owner; of one account for whoever manages it';

CREATE PROCEDURE fieldcrypt.clean_remnants(relation regclass DEFAULT NULL, patience interval DEFAULT '1 minute')
    LANGUAGE plpgsql
AS $$
DECLARE
    deadline timestamptz := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) patience;
    -- what waiting does not change
    hopeless text[] := ARRAY['Call remnants() again when the files are rewritten.'];
    before text[];
    open text[];
    remedies text[];
    done text[];
    waits boolean;
    remedy text;
    rest fieldcrypt.finding;
BEGIN
    COMMIT;
    LOOP
        SELECT pg_catalog.array_agg(f.finding ORDER BY f.ordinality), pg_catalog.array_agg(f.remedy ORDER BY f.ordinality)
        INTO open, remedies
        FROM fieldcrypt.remnants(relation) WITH ORDINALITY AS f WHERE f.severity OPERATOR(pg_catalog.=) 'error';
        COMMIT;
        EXIT WHEN open IS NULL OR hopeless OPERATOR(pg_catalog.@>) remedies;
        waits := (open OPERATOR(pg_catalog.=) before) IS TRUE;
        IF waits THEN
            EXIT WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>=) deadline;
            PERFORM pg_catalog.pg_sleep(0.5);
        END IF;
        before := open;
        done := hopeless;
        FOREACH remedy IN ARRAY remedies LOOP
            -- of what did not help only a table is tried again, whose lock may have been in the way
            CONTINUE WHEN remedy OPERATOR(pg_catalog.!~) ';$' OR remedy OPERATOR(pg_catalog.=) ANY (done)
                OR waits AND remedy OPERATOR(pg_catalog.!~) '^VACUUM';
            done := pg_catalog.array_append(done, remedy);
            IF NOT fieldcrypt.apply_remedy(remedy) THEN
                hopeless := pg_catalog.array_append(hopeless, remedy);
            END IF;
            COMMIT;
        END LOOP;
    END LOOP;
    FOR rest IN SELECT f.* FROM fieldcrypt.remnants(relation) AS f LOOP
        RAISE NOTICE '%: %', rest.subject, rest.finding USING HINT = rest.remedy;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE fieldcrypt.clean_remnants(regclass, interval) IS
    'does what remnants() advises until nothing is left, or nothing has changed for so long, and says what is left; with the rights of the caller, for fieldcrypt_admin';

CREATE PROCEDURE fieldcrypt.encrypt_existing(document text, batch_size integer DEFAULT 5000, rate integer DEFAULT NULL,
        account text DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.start_job('encrypt_existing', document, NULL, NULL, NULL, NULL, true, account);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_document(document, account), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.encrypt_existing(text, integer, integer, text) IS
    'encrypts what is plain at the flagged paths of a document; the table''s owner needs encrypt';

CREATE PROCEDURE fieldcrypt.decrypt_existing(document text, batch_size integer DEFAULT 5000, rate integer DEFAULT NULL,
        account text DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.start_job('decrypt_existing', document, NULL, NULL, NULL, NULL, true, account);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_document(document, account), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.decrypt_existing(text, integer, integer, text) IS
    'decrypts what is encrypted in a document at paths that are no longer flagged; the table''s owner needs decrypt';

CREATE PROCEDURE fieldcrypt.encrypt_column(relation regclass, column_name name, field text, account_column name,
        batch_size integer DEFAULT 5000, rate integer DEFAULT NULL, cut_over boolean DEFAULT true)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.start_job('encrypt_column', fieldcrypt.name_of_column(relation, column_name),
        fieldcrypt.name_of_table(relation), column_name::pg_catalog.text, field, account_column::pg_catalog.text, cut_over);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_column(relation, column_name), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.encrypt_column(regclass, name, text, name, integer, integer, boolean) IS
    'makes a column an encrypted one of a field, while it is read and written; the table''s owner needs encrypt';

CREATE PROCEDURE fieldcrypt.decrypt_column(relation regclass, column_name name, account_column name,
        batch_size integer DEFAULT 5000, rate integer DEFAULT NULL, cut_over boolean DEFAULT true)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.start_job('decrypt_column', fieldcrypt.name_of_column(relation, column_name),
        fieldcrypt.name_of_table(relation), column_name::pg_catalog.text, NULL, account_column::pg_catalog.text, cut_over);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_column(relation, column_name), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.decrypt_column(regclass, name, name, integer, integer, boolean) IS
    'makes an encrypted column a plain one, while it is read and written; the table''s owner needs decrypt';

CREATE PROCEDURE fieldcrypt.reencrypt_existing(document text, batch_size integer DEFAULT 5000, rate integer DEFAULT NULL,
        account text DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.start_job('reencrypt_existing', document, NULL, NULL, NULL, NULL, true, account);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_document(document, account), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.reencrypt_existing(text, integer, integer, text) IS
    'seals anew what older keys or policies have sealed in a document; the table''s owner needs encrypt';

CREATE PROCEDURE fieldcrypt.reencrypt_column(relation regclass, column_name name, batch_size integer DEFAULT 5000,
        rate integer DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM fieldcrypt.start_job('reencrypt_column', fieldcrypt.name_of_column(relation, column_name),
        fieldcrypt.name_of_table(relation), column_name::pg_catalog.text, NULL, NULL, true);
    CALL fieldcrypt.run_job(fieldcrypt.name_of_column(relation, column_name), batch_size, rate);
END
$$;
COMMENT ON PROCEDURE fieldcrypt.reencrypt_column(regclass, name, integer, integer) IS
    'seals anew what older keys or policies have sealed in a column; the table''s owner needs encrypt';
