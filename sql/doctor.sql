-- doctor(): what is unsafe, weak, broken or about to break, and what to do about it. Each function
-- findings_of_*() looks at one subject, and is a UNION of branches with one finding each:
-- severity, what is wrong, with what, and the remedy. A remedy that holds a semicolon is SQL, to be
-- typed as it is. No finding shows a value, a key, or what is in a file.
--
-- All of it runs as the owner of the extension: only doctor() itself is for others to call.

CREATE TYPE fieldcrypt.finding AS (severity text, subject text, finding text, remedy text);
COMMENT ON TYPE fieldcrypt.finding IS 'something that doctor() has found';
COMMENT ON COLUMN fieldcrypt.finding.severity IS
    'error: values or keys are exposed or unusable; warning: protection is weaker than it looks, or about to fail; notice: a choice that costs something';
COMMENT ON COLUMN fieldcrypt.finding.subject IS 'what is concerned';
COMMENT ON COLUMN fieldcrypt.finding.finding IS 'what is wrong with it';
COMMENT ON COLUMN fieldcrypt.finding.remedy IS 'what to do; with a semicolon it is SQL';

-- what SQL cannot see

CREATE FUNCTION fieldcrypt.keyring_entries(OUT root text, OUT provider text, OUT state text,
        OUT is_public boolean, OUT folder_is_shared boolean, OUT problem text, OUT hint text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyring_entries_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 3;
COMMENT ON FUNCTION fieldcrypt.keyring_entries() IS
    'the keyring file (root is NULL) and the root keys that it names, read anew, and what is wrong with each';

CREATE FUNCTION fieldcrypt.adoption_keys(OUT name text, OUT provider text, OUT account text, OUT folder_is_shared boolean,
        OUT is_guessable boolean, OUT problem text, OUT hint text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'adoption_keys_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 3;
COMMENT ON FUNCTION fieldcrypt.adoption_keys() IS
    'the keys of other software that the keyring names, read anew, and what is wrong with each';

-- the accounts under each root key are counted, not named
CREATE FUNCTION fieldcrypt.root_keys(OUT root_key text, OUT state text, OUT provider text, OUT accounts bigint,
        OUT problem text, OUT hint text) RETURNS SETOF record
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH entry AS MATERIALIZED (SELECT e.* FROM fieldcrypt.keyring_entries() AS e),
    used (root, accounts) AS (
        SELECT k.wrapped_by, count(*) FROM fieldcrypt.account_key AS k
        WHERE k.purpose = 'wrapping' AND k.state <> 'destroyed' GROUP BY k.wrapped_by
    ), file (problem, hint) AS (SELECT max(e.problem), max(e.hint) FROM entry AS e WHERE e.root IS NULL)
    SELECT COALESCE(e.root, r.name), COALESCE(e.state, CASE WHEN r.name IS NOT NULL AND r.state <> 'own' THEN r.state END),
        e.provider, COALESCE(u.accounts, 0),
        CASE WHEN e.root IS NOT NULL OR r.name IS NULL THEN e.problem
             WHEN r.state <> 'retired' OR u.accounts > 0 THEN COALESCE(f.problem, 'is not in the keyring') END,
        CASE WHEN e.root IS NOT NULL OR r.name IS NULL THEN e.hint
             WHEN f.problem IS NOT NULL THEN f.hint
             WHEN r.state = 'own' OR r.state = 'retired' AND u.accounts > 0 THEN 'Name it in the keyring file, with state = "previous", and reload.'
             WHEN r.state = 'customer' THEN 'Accounts under it are locked until it is in the keyring file again, with state = "customer".' END
    FROM entry AS e FULL JOIN fieldcrypt.root_key AS r ON r.name = e.root
        LEFT JOIN used AS u ON u.root = COALESCE(e.root, r.name), file AS f
    WHERE e.root IS NOT NULL OR r.name IS NOT NULL OR e.problem IS NOT NULL;
END;
COMMENT ON FUNCTION fieldcrypt.root_keys() IS
    'the root keys of the keyring and of this database, tried out: what the view status shows';

CREATE VIEW fieldcrypt.status AS
    SELECT s.root_key, s.state, s.provider, s.accounts, s.problem IS NULL AS usable, s.problem, s.hint
    FROM fieldcrypt.root_keys() AS s;
COMMENT ON VIEW fieldcrypt.status IS 'root keys, what is under them, and what is missing';
COMMENT ON COLUMN fieldcrypt.status.root_key IS 'name in the keyring; NULL: the keyring as a whole';
COMMENT ON COLUMN fieldcrypt.status.state IS
    'current, previous or customer, as the keyring says; otherwise customer or retired, as recorded';
COMMENT ON COLUMN fieldcrypt.status.provider IS 'where the keyring has it from; NULL: it does not name it';
COMMENT ON COLUMN fieldcrypt.status.accounts IS 'number of accounts whose keys it wraps; *database* is one';
COMMENT ON COLUMN fieldcrypt.status.usable IS 'whether nothing is wrong';
COMMENT ON COLUMN fieldcrypt.status.problem IS 'what is wrong';
COMMENT ON COLUMN fieldcrypt.status.hint IS 'what to do about it';

CREATE FUNCTION fieldcrypt.lockable_keys() RETURNS bigint
    AS 'MODULE_PATHNAME', 'lockable_keys_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.lockable_keys() IS
    'how many field keys a session can set up in locked memory; NULL: there is no limit';

CREATE FUNCTION fieldcrypt.count_as_owner(relation regclass, query text) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'count_as_owner_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.count_as_owner(regclass, text) IS
    'the one value of a query about the rows of a table, with the rights of the table''s owner; for superusers';

CREATE FUNCTION fieldcrypt.state_of_document(document text, value jsonb, account text, kind text, gathered boolean)
    RETURNS text
    AS 'MODULE_PATHNAME', 'state_of_document_wrapper' LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION fieldcrypt.state_of_document(text, jsonb, text, text, boolean) IS
    'sealed, or why the CHECK of protect_jsonb() would refuse it: a flagged value is plain, foreign (of another account) or damaged';

-- what the findings have in common

CREATE FUNCTION fieldcrypt.configured_settings(OUT setting text, OUT value text, OUT subject text,
        OUT reset text, OUT role oid) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    WITH configured (name, vartype, value, scope, target, role) AS (
        -- what this session was started with is not what others have
        SELECT s.name, s.vartype, CASE
                WHEN s.source IN ('default', 'configuration file', 'command line', 'environment variable', 'override')
                THEN s.reset_val
                ELSE COALESCE((SELECT f.setting FROM pg_file_settings AS f
                               WHERE lower(f.name) = lower(s.name) AND f.applied), s.boot_val) END,
            '', NULL, NULL
        FROM pg_settings AS s
        UNION ALL
        SELECT s.name, s.vartype, substr(c, strpos(c, '=') + 1),
            CASE WHEN d.setrole <> 0 THEN format(' of role %I', r.rolname) END
                || CASE WHEN d.setdatabase <> 0 THEN format(' in database %I', current_database()) ELSE '' END,
            format('ROLE %I', r.rolname)
                || CASE WHEN d.setdatabase <> 0 THEN format(' IN DATABASE %I', current_database()) ELSE '' END,
            d.setrole
        FROM pg_db_role_setting AS d JOIN pg_roles AS r ON r.oid = d.setrole
            CROSS JOIN unnest(d.setconfig) AS c JOIN pg_settings AS s ON lower(s.name) = lower(split_part(c, '=', 1))
        WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        UNION ALL
        SELECT s.name, s.vartype, substr(c, strpos(c, '=') + 1),
            CASE d.setdatabase WHEN 0 THEN ' of all roles' ELSE format(' of database %I', current_database()) END,
            CASE d.setdatabase WHEN 0 THEN 'ROLE ALL' ELSE format('DATABASE %I', current_database()) END,
            NULL
        FROM pg_db_role_setting AS d
            CROSS JOIN unnest(d.setconfig) AS c JOIN pg_settings AS s ON lower(s.name) = lower(split_part(c, '=', 1))
        WHERE d.setrole = 0 AND d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    )
    SELECT c.name, CASE c.vartype
            WHEN 'bool' THEN CASE WHEN c.value ~* '^(on|1|t|tr|tru|true|y|ye|yes)$' THEN 'on' ELSE 'off' END
            WHEN 'enum' THEN lower(c.value)
            ELSE COALESCE(c.value, '') END,
        format('setting %s%s', c.name, c.scope),
        CASE WHEN c.target IS NOT NULL THEN format('ALTER %s RESET %s;', c.target, c.name) END,
        c.role
    FROM configured AS c;
$$;
COMMENT ON FUNCTION fieldcrypt.configured_settings() IS
    'the settings of the server (reset is NULL), and those of roles and of this database with the statement that takes them back';

CREATE FUNCTION fieldcrypt.role_memberships(OUT member oid, OUT role oid, OUT inherited boolean) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE step (member, role, inherited) AS (
        -- before 16 the member says whether it inherits, from then on each membership
        SELECT m.member, m.roleid, COALESCE((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)
        FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member
    ), walk (member, role, inherited) AS (
        SELECT r.oid, r.oid, true FROM pg_roles AS r
        UNION
        SELECT w.member, s.role, w.inherited AND s.inherited
        FROM walk AS w JOIN step AS s ON s.member = w.role
    )
    SELECT w.member, w.role, bool_or(w.inherited) FROM walk AS w GROUP BY w.member, w.role;
$$;
COMMENT ON FUNCTION fieldcrypt.role_memberships() IS
    'each role with itself and all that it is in, directly or not, and whether it has their rights without SET ROLE';

CREATE FUNCTION fieldcrypt.statements_to_leave(member oid, role oid) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(DISTINCT format('REVOKE %I FROM %I%s;', group_role.rolname, member_role.rolname,
            -- from 16 on a membership is that of whoever granted it
            CASE WHEN to_jsonb(m) ? 'inherit_option' AND m.grantor <> 10
                THEN format(' GRANTED BY %I', grantor.rolname) END), ' ')
    FROM pg_auth_members AS m
        JOIN pg_roles AS group_role ON group_role.oid = m.roleid
        JOIN pg_roles AS member_role ON member_role.oid = m.member
        LEFT JOIN pg_roles AS grantor ON grantor.oid = m.grantor
    WHERE m.member = $1 AND EXISTS (
        SELECT FROM fieldcrypt.role_memberships() AS w WHERE w.member = m.roleid AND w.role = $2);
$$;
COMMENT ON FUNCTION fieldcrypt.statements_to_leave(oid, oid) IS
    'what takes a role out of another, in which it is directly or by way of others';

CREATE FUNCTION fieldcrypt.statement_to_revoke(role oid, privileges text[], account text, field text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT fieldcrypt.revoke_access(%L, %L, account => %L, field => %L);',
        r.rolname, privileges, account, field)
    FROM pg_roles AS r WHERE r.oid = $1;
$$;
COMMENT ON FUNCTION fieldcrypt.statement_to_revoke(oid, text[], text, text) IS
    'the call of revoke_access() that takes privileges back';

CREATE FUNCTION fieldcrypt.field_matches(pattern text, field text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pattern = '*' OR pattern = field OR right(pattern, 2) = '.*' AND starts_with(field, left(pattern, -1));
$$;
COMMENT ON FUNCTION fieldcrypt.field_matches(text, text) IS
    'whether a grant''s field, which may be prefix.* or *, is about a field';

CREATE FUNCTION fieldcrypt.account_columns(OUT relation regclass, OUT account_column name) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH used (relation, name) AS MATERIALIZED (
        SELECT p.relation, p.account_column::name FROM fieldcrypt.protected AS p
        UNION
        SELECT d.relation, d.account_column FROM fieldcrypt.documents AS d
    ), known (name, rank) AS (
        SELECT u.name, 1 FROM used AS u
        UNION
        SELECT n, 2 FROM unnest('{account,account_id,tenant,tenant_id,organization_id,customer_id,workspace_id}'::name[]) AS n
    )
    SELECT DISTINCT ON (a.attrelid) a.attrelid, a.attname
    FROM pg_attribute AS a JOIN known AS k ON k.name = a.attname
        LEFT JOIN used AS u ON u.relation = a.attrelid AND u.name = a.attname
    WHERE a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, u.name IS NULL, k.rank, a.attnum;
$$;
COMMENT ON FUNCTION fieldcrypt.account_columns() IS
    'the column of each table that names, or by its name seems to name, the account of a row';

CREATE FUNCTION fieldcrypt.encrypted_columns(OUT relation regclass, OUT column_name name, OUT field text, OUT plain regtype,
        OUT is_blob boolean, OUT account_column name, OUT row_count real) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH encrypted (oid, plain, handle) AS MATERIALIZED (
        SELECT e.encrypted, e.plain, NULL::integer FROM fieldcrypt.encrypted_types() AS e
        UNION ALL
        SELECT t.oid, fieldcrypt.plain_type_of(t.oid), fieldcrypt.handle_of(t.oid, -1) FROM pg_type AS t
        WHERE t.typtype = 'd' AND t.oid >= 16384 AND fieldcrypt.holds_encrypted(t.oid) = 'value'
    ), found AS MATERIALIZED (
        SELECT c.oid, a.attname, e.plain, c.reltuples, COALESCE(e.handle, a.atttypmod) AS handle
        FROM pg_attribute AS a JOIN encrypted AS e ON e.oid = a.atttypid
            JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        WHERE a.attnum > 0 AND NOT a.attisdropped
    )
    SELECT a.oid, a.attname, f.name, a.plain, d.name IS NOT NULL, COALESCE(p.account_column, d.account_column), a.reltuples
    FROM found AS a
        JOIN fieldcrypt.field AS f ON f.handle = a.handle
        LEFT JOIN fieldcrypt.protected AS p ON p.relation = a.oid
        LEFT JOIN fieldcrypt.documents AS d ON d.relation = a.oid AND d.blob_column = a.attname;
$$;
COMMENT ON FUNCTION fieldcrypt.encrypted_columns() IS
    'the columns of encrypted types in tables and partitions, and the column of the account that their values are held to';

CREATE FUNCTION fieldcrypt.last_key(path text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT COALESCE(
        regexp_replace(substring(p from '"((?:[^"\\]|\\.)*)"$'), '\\(.)', '\1', 'g'),
        substring(p from '[^].]*$'))
    FROM regexp_replace(path, '(\[\*\])+$', '') AS p;
$$;
COMMENT ON FUNCTION fieldcrypt.last_key(text) IS
    'the last key of a flagged path';

CREATE FUNCTION fieldcrypt.statements_to_move(relation regclass, column_name name, account_column name, old_field text,
        suffix text, search text[]) RETURNS text
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat(
        format('SELECT fieldcrypt.create_field(%L, search => %L, normalizer => %L, mask => %L, hidden => %L, padding => %L,'
               ' suite => %L); ',
            f.name || suffix, $6, CASE $6 WHEN '{}' THEN 'none' ELSE f.normalizer END, COALESCE(f.mask, 'none'), f.hidden,
            f.padding, f.suite),
        -- an index needs tokens
        CASE $6 WHEN '{}' THEN (
            SELECT string_agg(CASE WHEN con.oid IS NULL THEN format('DROP INDEX %s; ', i.indexrelid::regclass)
                              ELSE format('ALTER TABLE %s DROP CONSTRAINT %I; ', $1, con.conname) END, '')
            FROM pg_index AS i LEFT JOIN pg_constraint AS con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x')
            WHERE i.indrelid = $1 AND a.attnum = ANY (i.indkey)) END,
        format('ALTER TABLE %1$s ALTER COLUMN %2$I TYPE fieldcrypt.%3$I(%4$L) USING fieldcrypt.encrypt(fieldcrypt.decrypt(%2$I), %4$L%5$s);',
            $1, $2, e.typname, f.name || suffix, ', ' || quote_ident(account_column) || '::text'))
    FROM fieldcrypt.field AS f, pg_attribute AS a, fieldcrypt.encrypted_types() AS t JOIN pg_type AS e ON e.oid = t.encrypted
    WHERE f.name = old_field AND a.attrelid = $1 AND a.attname = $2 AND t.plain = fieldcrypt.plain_type_of(a.atttypid);
$$;
COMMENT ON FUNCTION fieldcrypt.statements_to_move(regclass, name, name, text, text, text[]) IS
    'what moves a column to a new field that is searched otherwise, for a role with decrypt on the old field and encrypt on the new one';

CREATE FUNCTION fieldcrypt.statement_to_encrypt(relation regclass, column_name name, account_column name, field text) RETURNS text
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('ALTER TABLE %1$s ALTER COLUMN %2$I TYPE fieldcrypt.%3$I(%4$L) USING fieldcrypt.encrypt(%2$I%5$s, %4$L%6$s);',
        $1, $2, e.typname, field, CASE WHEN a.atttypid <> t.plain THEN '::' || t.plain END,
        ', ' || quote_ident(account_column) || '::text')
    FROM pg_attribute AS a, fieldcrypt.encrypted_types() AS t JOIN pg_type AS e ON e.oid = t.encrypted
    WHERE a.attrelid = $1 AND a.attname = $2 AND t.plain = CASE
        WHEN a.atttypid IN (SELECT k.plain FROM fieldcrypt.encrypted_types() AS k) THEN a.atttypid
        WHEN a.atttypid IN ('smallint'::regtype, 'integer'::regtype) THEN 'bigint'::regtype
        WHEN a.atttypid = 'json'::regtype THEN 'jsonb'::regtype
        ELSE 'text'::regtype END;
$$;
COMMENT ON FUNCTION fieldcrypt.statement_to_encrypt(regclass, name, name, text) IS
    'what makes a plain column one of a field, for a role with encrypt on it';

-- the findings

CREATE FUNCTION fieldcrypt.findings_of_settings() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    WITH configured AS MATERIALIZED (
        SELECT c.* FROM fieldcrypt.configured_settings() AS c
    ), redacted (everywhere) AS (
        SELECT bool_and(c.value = 'on') FROM configured AS c WHERE c.setting = 'fieldcrypt.redact_log'
    ), rule (setting, safe, only_without_redaction, safe_value, severity, finding) AS (VALUES
        ('fieldcrypt.redact_log', '^on$', false, 'on',
            'error', 'is off: statements are logged with the values in them'),
        ('log_statement', '^none$', true, 'none',
            'warning', 'logs statements, and fieldcrypt.redact_log is off'),
        ('log_min_duration_statement', '^-1', true, '-1',
            'warning', 'logs slow statements, and fieldcrypt.redact_log is off'),
        ('log_min_duration_sample', '^-1', true, '-1',
            'warning', 'logs some slow statements, and fieldcrypt.redact_log is off'),
        ('log_transaction_sample_rate', '^0+(\.0*)?$', true, '0',
            'warning', 'logs the statements of some transactions, and fieldcrypt.redact_log is off'),
        ('log_min_error_statement', '^(fatal|panic)$', true, 'panic',
            'warning', 'logs statements that fail, and fieldcrypt.redact_log is off'),
        ('log_parameter_max_length', '^0+\D*$', true, '0',
            'warning', 'logs parameters with statements, and fieldcrypt.redact_log is off'),
        ('log_parameter_max_length_on_error', '^0+\D*$', true, '0',
            'warning', 'logs parameters with errors, and fieldcrypt.redact_log is off'),
        ('log_temp_files', '^-1', true, '-1',
            'warning', 'logs statements that use temporary files, and fieldcrypt.redact_log is off'),
        ('log_lock_waits', '^off$', true, 'off',
            'warning', 'logs statements that wait for locks, and fieldcrypt.redact_log is off'),
        ('debug_print_parse', '^off$', true, 'off',
            'warning', 'logs parse trees with their constants, and fieldcrypt.redact_log is off'),
        ('debug_print_rewritten', '^off$', true, 'off',
            'warning', 'logs parse trees with their constants, and fieldcrypt.redact_log is off'),
        ('debug_print_plan', '^off$', true, 'off',
            'warning', 'logs plans with their constants, and fieldcrypt.redact_log is off'),
        ('auto_explain.log_min_duration', '^-1', true, '-1',
            'warning', 'logs plans with their statements, and fieldcrypt.redact_log is off'),
        ('auto_explain.log_parameter_max_length', '^0+\D*$', true, '0',
            'warning', 'logs parameters with plans, and fieldcrypt.redact_log is off'),
        ('pg_stat_statements.track_utility', '^off$', false, 'off',
            'warning', 'keeps the literals of utility statements (DO, CALL, COPY, PREPARE) in pg_stat_statements'),
        ('fieldcrypt.accept_envelopes', '^off$', false, 'off',
            'warning', 'is on: every role can put in ciphertext that it copied from elsewhere'),
        ('session_replication_role', '^(origin|local)$', false, 'origin',
            'warning', 'switches off the triggers that hold values to their account and seal documents'),
        ('fsync', '^on$', false, 'on',
            'warning', 'is off: a crash can destroy the wrapped keys, and with them every value'),
        ('full_page_writes', '^on$', false, 'on',
            'warning', 'is off: a crash can destroy the wrapped keys, and with them every value')
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT r.severity, r.finding, c.subject,
            COALESCE(c.reset, format('ALTER SYSTEM SET %s = %L; SELECT pg_reload_conf();', r.setting, r.safe_value))
        FROM rule AS r JOIN configured AS c ON c.setting = r.setting, redacted
        WHERE c.value !~ r.safe AND NOT (r.only_without_redaction AND redacted.everywhere)
        UNION ALL
        SELECT 'notice', 'lets a key that was taken away be used for more than an hour', c.subject,
            COALESCE(c.reset, 'ALTER SYSTEM SET fieldcrypt.key_lifetime = 300; SELECT pg_reload_conf();')
        FROM configured AS c
        WHERE CASE WHEN c.setting = 'fieldcrypt.key_lifetime' AND c.value ~ '^ *\d+ *(us|ms|s|min|h|d|) *$'
            THEN concat(c.value, CASE WHEN c.value !~ '[a-z]' THEN ' s' END)::interval > '1 hour' END
        UNION ALL
        SELECT 'warning', 'does not name fieldcrypt: a session logs its first statement as it is, and reads the root keys itself',
            c.subject,
            format('ALTER SYSTEM SET shared_preload_libraries = %s; -- and restart the server', concat_ws(', ',
                (SELECT string_agg(quote_literal(trim(both ' "' from l)), ', ') FROM unnest(string_to_array(c.value, ',')) AS l),
                '''fieldcrypt'''))
        FROM configured AS c
        WHERE c.setting = 'shared_preload_libraries' AND c.value !~ '(^|[ ,"/])fieldcrypt([ ,"]|$)'
        UNION ALL
        SELECT 'warning', 'is off: plain values travel to other machines as they are', c.subject,
            'ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf(); -- with ssl_cert_file and ssl_key_file in place'
        FROM configured AS c
        WHERE c.setting = 'ssl' AND c.reset IS NULL AND c.value = 'off' AND EXISTS (
            SELECT FROM configured AS l CROSS JOIN unnest(string_to_array(l.value, ',')) AS address
            WHERE l.setting = 'listen_addresses' AND trim(address) !~ '^(|localhost|127\..*|::1)$')
        UNION ALL
        SELECT 'notice', 'is off: a damaged page is noticed when a value in it no longer opens', c.subject,
            'Stop the server and run pg_checksums --enable.'
        FROM configured AS c WHERE c.setting = 'data_checksums' AND c.value = 'off'
        UNION ALL
        SELECT 'warning', 'leaves the account of new values open, but not every table settles it', c.subject,
            COALESCE(c.reset, 'ALTER SYSTEM SET fieldcrypt.account = ''''; SELECT pg_reload_conf();')
        FROM configured AS c
        WHERE c.setting = 'fieldcrypt.account' AND c.value = '*row*'
            AND EXISTS (SELECT FROM fieldcrypt.encrypted_columns() AS e WHERE e.account_column IS NULL)
        UNION ALL
        SELECT 'notice', 'names an account that does not exist', c.subject,
            COALESCE(c.reset, 'ALTER SYSTEM SET fieldcrypt.account = ''''; SELECT pg_reload_conf();')
        FROM configured AS c
        WHERE c.setting = 'fieldcrypt.account' AND c.value NOT IN ('', '*row*')
            AND NOT EXISTS (SELECT FROM fieldcrypt.account AS a WHERE a.account = c.value)
        UNION ALL
        SELECT 'notice', 'shows plain values in what superusers query', c.subject,
            COALESCE(c.reset, 'ALTER SYSTEM SET fieldcrypt.transparent = off; SELECT pg_reload_conf();')
        FROM configured AS c LEFT JOIN pg_roles AS r ON r.oid = c.role
        WHERE c.setting = 'fieldcrypt.transparent' AND c.value = 'on' AND COALESCE(r.rolsuper, true)
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_settings() IS 'what is wrong with settings, of the server, of roles and of this database';

CREATE FUNCTION fieldcrypt.findings_of_adoption_keys() RETURNS SETOF fieldcrypt.finding
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH key AS MATERIALIZED (
            SELECT k.*, format('adoption key "%s"', k.name) AS subject FROM fieldcrypt.adoption_keys() AS k
        ), named (pattern) AS (
            SELECT replace(regexp_replace(n.name, '([\%_])', '\\1', 'g'), '{account}', '%')
            FROM fieldcrypt.adoption AS a JOIN fieldcrypt.job AS j ON j.target = a.target
                CROSS JOIN LATERAL jsonb_array_elements_text(a.terms -> 'previous_keys' || (a.terms -> 'key')) AS n (name)
            WHERE j.state IN ('running', 'paused') AND j.action IN ('adopt_column', 'adopt_existing')
        )
        SELECT f.severity, f.subject, f.finding, f.remedy FROM (
            SELECT CASE WHEN EXISTS (SELECT FROM named AS n WHERE k.name LIKE n.pattern) THEN 'error' ELSE 'warning' END,
                k.problem, k.subject, k.hint
            FROM key AS k WHERE k.problem IS NOT NULL
            UNION ALL
            SELECT 'warning', 'comes from the environment, which other programs of the same user can read: for development', k.subject,
                'In the keyring file: provider = "file", and path = the name of a file of mode 0400 that holds the key.'
            FROM key AS k WHERE k.provider = 'env'
            UNION ALL
            SELECT 'warning', 'is in a folder that another user can write to, and could be replaced', k.subject,
                'chown root and chmod go-w each folder above the file.'
            FROM key AS k WHERE k.folder_is_shared
            UNION ALL
            SELECT 'warning', 'is a passphrase that can be guessed, and with it what the other software has left in backups', k.subject,
                'Adopt its values soon, and delete what was encrypted under it.'
            FROM key AS k WHERE k.is_guessable
            UNION ALL
            SELECT 'notice', format('is for account "%s", which does not exist', k.account), k.subject,
                'Correct it in the keyring file: its values are adopted for no other account.'
            FROM key AS k WHERE k.account IS NOT NULL
                AND NOT EXISTS (SELECT FROM fieldcrypt.account AS a WHERE a.account = k.account AND a.state <> 'destroyed')
            UNION ALL
            SELECT 'notice', 'is used by no job: who may adopt opens its values', k.subject,
                'Take it out of the keyring file when nothing is left to adopt, and keep it where backups need it.'
            FROM key AS k WHERE NOT EXISTS (SELECT FROM named AS n WHERE k.name LIKE n.pattern)
        ) AS f (severity, finding, subject, remedy);
END
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_adoption_keys() IS 'what is wrong with the keys of other software that the keyring names';

CREATE FUNCTION fieldcrypt.findings_of_keyring() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH entry AS MATERIALIZED (
        SELECT e.*, CASE WHEN e.root IS NULL THEN 'keyring' ELSE format('root key "%s"', e.root) END AS subject
        FROM fieldcrypt.keyring_entries() AS e
    ), used (root, accounts, active_accounts) AS (
        SELECT k.wrapped_by, count(*), count(*) FILTER (WHERE a.state = 'active' AND NOT starts_with(a.account, '*'))
        FROM fieldcrypt.account_key AS k LEFT JOIN fieldcrypt.account AS a ON a.account = k.account
        WHERE k.purpose = 'wrapping' AND k.state <> 'destroyed' GROUP BY k.wrapped_by
    ), missing (root, accounts) AS (
        SELECT r.name, COALESCE(u.accounts, 0) FROM fieldcrypt.root_key AS r LEFT JOIN used AS u ON u.root = r.name
        WHERE (r.state = 'own' OR r.state = 'retired' AND u.accounts > 0)
            AND NOT EXISTS (SELECT FROM entry AS e WHERE e.root = r.name)
            AND EXISTS (SELECT FROM entry AS e WHERE e.root IS NULL AND e.problem IS NULL)
    ), old (subject, age, remedy) AS (
        SELECT e.subject, now() - r.created_at,
            'Make a new key, name it in the keyring with state = "current", and this one with state = "previous", reload, and: SELECT fieldcrypt.rotate_root()'
        FROM entry AS e JOIN fieldcrypt.root_key AS r ON r.name = e.root
        WHERE e.state = 'current' AND now() - r.created_at > '1 year'
    ), standby (consequence) AS (
        SELECT CASE WHEN pg_is_in_recovery() THEN '; after a promotion nothing can be encrypted or decrypted here' END
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT CASE WHEN e.root IS NULL OR e.state = 'current' OR e.state = 'previous' AND u.accounts > 0 THEN 'error' ELSE 'warning' END,
            concat(e.problem, CASE WHEN e.root IS NULL OR e.state = 'current' OR e.state = 'previous' AND u.accounts > 0 THEN s.consequence END),
            e.subject, e.hint
        FROM entry AS e LEFT JOIN used AS u ON u.root = e.root, standby AS s WHERE e.problem IS NOT NULL
        UNION ALL
        SELECT 'error', format('wraps the keys of %s accounts, and is not in the keyring', m.accounts),
            format('root key "%s"', m.root),
            'Name it in the keyring file, with state = "previous", and reload.'
        FROM missing AS m WHERE m.accounts > 0
        UNION ALL
        SELECT 'warning', 'is recorded, but not in the keyring: no account can be created under another root key',
            format('root key "%s"', m.root),
            format('DELETE FROM fieldcrypt.root_key WHERE name = %L;', m.root)
        FROM missing AS m WHERE m.accounts = 0
        UNION ALL
        SELECT 'warning', format('is a customer''s that cannot be had: %s accounts are locked', u.accounts),
            format('root key "%s"', r.name),
            'The customer gives it back, or has withdrawn it: SELECT * FROM fieldcrypt.status'
        FROM fieldcrypt.root_key AS r JOIN used AS u ON u.root = r.name
        WHERE r.state = 'customer' AND NOT EXISTS (SELECT FROM entry AS e WHERE e.root = r.name)
            AND EXISTS (SELECT FROM entry AS e WHERE e.root IS NULL AND e.problem IS NULL)
        UNION ALL
        SELECT 'warning', 'comes from the environment, which other programs of the same user can read: for development',
            e.subject,
            'In the keyring file: provider = "file", and path = the name of a file of mode 0400 that holds the key.'
        FROM entry AS e WHERE e.provider = 'env'
        UNION ALL
        SELECT 'warning', 'is in a folder that another user can write to, and could be replaced', e.subject,
            'chown root and chmod go-w each folder above the file.'
        FROM entry AS e WHERE e.folder_is_shared
        UNION ALL
        SELECT 'notice', 'can be read by every user, and names where the keys are', e.subject, 'chmod 0600 it.'
        FROM entry AS e WHERE e.root IS NULL AND e.is_public
        UNION ALL
        SELECT 'notice', format('is a previous one, but wraps the keys of %s accounts', u.active_accounts), e.subject,
            'SELECT fieldcrypt.rotate_root();'
        FROM entry AS e JOIN used AS u ON u.root = e.root WHERE e.state = 'previous' AND u.active_accounts > 0
        UNION ALL
        SELECT 'warning', 'has been in use for more than two years', o.subject, o.remedy FROM old AS o WHERE o.age > '2 years'
        UNION ALL
        SELECT 'notice', 'has been in use for more than a year', o.subject, o.remedy FROM old AS o WHERE o.age <= '2 years'
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_keyring() IS 'what is wrong with the keyring file, the root keys and the files that they are in';

CREATE FUNCTION fieldcrypt.findings_of_keys() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH used (subject, sealed, remedy) AS (
        SELECT format('key %s of account "%s" in field %s', k.key_id, k.account, f.name), sum(u.sealed),
            format('SELECT fieldcrypt.rotate_account_key(%L);', k.account)
        FROM fieldcrypt.key_use AS u
            JOIN fieldcrypt.account_key AS k ON k.key_id = u.key_id
            JOIN fieldcrypt.field AS f ON f.field_id = u.field_id
        WHERE f.suite = 'aes-256-gcm' AND k.state = 'active'
        GROUP BY k.key_id, f.name
    ), old (subject, age, remedy) AS (
        SELECT format('data key of account "%s"', k.account), now() - k.created_at,
            format('SELECT fieldcrypt.rotate_account_key(%L);', k.account)
        FROM fieldcrypt.account_key AS k JOIN fieldcrypt.account AS a ON a.account = k.account
        WHERE k.purpose = 'data' AND k.state = 'active' AND a.state = 'active' AND now() - k.created_at > '1 year'
    ), memory (wanted, lockable) AS (
        SELECT LEAST(current_setting('fieldcrypt.key_cache_size')::bigint,
                (SELECT count(*) FROM fieldcrypt.account_key AS k WHERE k.purpose IN ('data', 'index') AND k.state = 'active')
                * (SELECT count(*) FROM fieldcrypt.field)),
            fieldcrypt.lockable_keys()
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT 'error', 'has sealed 2^32 values, and seals no more', u.subject, u.remedy
        FROM used AS u WHERE u.sealed >= 4294967296
        UNION ALL
        SELECT 'warning', 'has sealed more than 2^31 values, and stops at 2^32', u.subject, u.remedy
        FROM used AS u WHERE u.sealed >= 2147483648 AND u.sealed < 4294967296
        UNION ALL
        SELECT 'warning', 'has been in use for more than two years', o.subject, o.remedy FROM old AS o WHERE o.age > '2 years'
        UNION ALL
        SELECT 'notice', 'has been in use for more than a year', o.subject, o.remedy FROM old AS o WHERE o.age <= '2 years'
        UNION ALL
        SELECT 'notice', 'has been disabled for more than a year', format('account "%s"', a.account),
            format('SELECT fieldcrypt.enable_account(%L);', a.account)
        FROM fieldcrypt.account AS a WHERE a.state = 'disabled' AND now() - a.changed_at > '1 year'
        UNION ALL
        SELECT 'notice', format('lets a session set up %s keys, of which only %s fit into locked memory', m.wanted, m.lockable),
            'setting fieldcrypt.key_cache_size',
            CASE WHEN m.lockable < 16 THEN 'Raise the limit on locked memory (ulimit -l, LimitMEMLOCK of systemd).'
            ELSE format('ALTER SYSTEM SET fieldcrypt.key_cache_size = %s; SELECT pg_reload_conf(); -- or raise ulimit -l',
                m.lockable) END
        FROM memory AS m WHERE m.wanted > m.lockable
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_keys() IS 'accounts and their keys: limits, age, and memory';

CREATE FUNCTION fieldcrypt.findings_of_roles() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH membership AS MATERIALIZED (
        SELECT w.member, r.rolname AS member_name, r.rolsuper, r.rolcanlogin, r.rolreplication, w.role, g.rolname AS role_name, w.inherited
        FROM fieldcrypt.role_memberships() AS w
            JOIN pg_roles AS r ON r.oid = w.member JOIN pg_roles AS g ON g.oid = w.role
    ), login AS MATERIALIZED (
        SELECT m.* FROM membership AS m WHERE m.rolcanlogin AND NOT m.rolsuper
    ), held AS MATERIALIZED (
        SELECT m.member, m.member_name, m.rolsuper, m.inherited, g.role, g.account, g.field, g.privileges,
            format('grant to %s of field %s of account %s', m.role_name, g.field, g.account) AS grant_name
        FROM membership AS m JOIN fieldcrypt.access_grant AS g ON g.role = m.role
    ), administrative (role, place) AS (VALUES
        ('fieldcrypt_key_admin', 1), ('fieldcrypt_grantor', 2), ('fieldcrypt_admin', 3), ('fieldcrypt_auditor', 4)
    ), several (member, member_name, first) AS (
        SELECT l.member, l.member_name, min(a.place) FROM login AS l JOIN administrative AS a ON a.role = l.role_name
        GROUP BY l.member, l.member_name HAVING count(*) > 1
    ), granted AS (
        SELECT g.*, r.rolname, format('grant to %s of field %s of account %s', g.role, g.field, g.account) AS subject,
            COALESCE(fieldcrypt.statement_to_revoke(g.role, g.privileges, g.account, g.field),
                format('DELETE FROM fieldcrypt.access_grant WHERE role = %L::regrole;', g.role::oid)) AS remedy
        FROM fieldcrypt.access_grant AS g LEFT JOIN pg_roles AS r ON r.oid = g.role
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT 'warning', 'is a superuser, and may decrypt', format('role %I (%s)', h.member_name, h.grant_name),
            CASE WHEN h.role = h.member THEN fieldcrypt.statement_to_revoke(h.role, '{decrypt}', h.account, h.field)
            ELSE fieldcrypt.statements_to_leave(h.member, h.role) END
        FROM held AS h WHERE h.rolsuper AND h.inherited AND 'decrypt' = ANY (h.privileges)
        UNION ALL
        SELECT 'notice', 'may decrypt every field of every account', format('role %I', h.member_name),
            fieldcrypt.statement_to_revoke(h.role, '{decrypt}', h.account, h.field)
        FROM held AS h
        WHERE h.role = h.member AND NOT h.rolsuper AND h.account = '*' AND h.field = '*' AND 'decrypt' = ANY (h.privileges)
        UNION ALL
        SELECT 'warning', 'grants rights as a member of fieldcrypt_grantor, and may decrypt', format('role %I', l.member_name),
            fieldcrypt.statements_to_leave(l.member, l.role)
        FROM login AS l WHERE l.role_name = 'fieldcrypt_grantor'
            AND EXISTS (SELECT FROM held AS h WHERE h.member = l.member AND 'decrypt' = ANY (h.privileges))
        UNION ALL
        SELECT 'warning', 'manages keys as a member of fieldcrypt_key_admin, and may decrypt', format('role %I', l.member_name),
            fieldcrypt.statements_to_leave(l.member, l.role)
        FROM login AS l WHERE l.role_name = 'fieldcrypt_key_admin'
            AND EXISTS (SELECT FROM held AS h WHERE h.member = l.member AND 'decrypt' = ANY (h.privileges))
        UNION ALL
        SELECT 'notice', 'is in several administrative roles: nobody oversees it', format('role %I', s.member_name),
            (SELECT string_agg(fieldcrypt.statements_to_leave(l.member, l.role), ' ' ORDER BY a.place)
             FROM login AS l JOIN administrative AS a ON a.role = l.role_name WHERE l.member = s.member AND a.place > s.first)
        FROM several AS s
        UNION ALL
        SELECT 'warning', 'puts in ciphertext as it is (fieldcrypt_restore), and has rights on fields: it can read what it copies',
            format('role %I', l.member_name), fieldcrypt.statements_to_leave(l.member, l.role)
        FROM login AS l WHERE l.role_name = 'fieldcrypt_restore' AND EXISTS (SELECT FROM held AS h WHERE h.member = l.member)
        UNION ALL
        SELECT 'notice', 'puts in ciphertext as it is (fieldcrypt_restore), and is not for replication',
            format('role %I', l.member_name), fieldcrypt.statements_to_leave(l.member, l.role)
        FROM login AS l WHERE l.role_name = 'fieldcrypt_restore' AND NOT l.rolreplication
            AND NOT EXISTS (SELECT FROM held AS h WHERE h.member = l.member)
        UNION ALL
        SELECT 'warning', 'is to a role whose members are in it for something else', g.subject, g.remedy
        FROM granted AS g WHERE g.rolname ~ '^(pg|fieldcrypt)_'
        UNION ALL
        SELECT 'notice', 'is to a role that everyone who can log in is in', g.subject, g.remedy
        FROM granted AS g WHERE g.rolname !~ '^(pg|fieldcrypt)_' AND (
            SELECT count(*) > 2 AND bool_and(l.inherits)
            FROM (SELECT bool_or(l.role = g.role AND l.inherited) AS inherits FROM login AS l
                  WHERE l.member <> g.role GROUP BY l.member) AS l)
        UNION ALL
        SELECT 'notice', 'is for an account that does not exist', g.subject, g.remedy
        FROM granted AS g WHERE g.rolname IS NOT NULL AND g.account <> '*'
            AND NOT EXISTS (SELECT FROM fieldcrypt.account AS a WHERE a.account = g.account)
        UNION ALL
        SELECT 'notice', 'is for a field that does not exist', g.subject, g.remedy
        FROM granted AS g WHERE g.rolname IS NOT NULL AND g.field <> '*'
            AND NOT EXISTS (SELECT FROM fieldcrypt.field AS f WHERE fieldcrypt.field_matches(g.field, f.name))
        UNION ALL
        SELECT 'notice', 'is for a role that does not exist', g.subject, g.remedy
        FROM granted AS g WHERE g.rolname IS NULL
        UNION ALL
        SELECT 'notice', 'belongs to a role that also uses it: it can switch off what holds values to their account',
            format('table %s (owner %I)', c.oid::regclass, o.rolname),
            format('ALTER TABLE %s OWNER TO %I;', c.oid::regclass,
                (SELECT r.rolname FROM pg_extension AS e JOIN pg_roles AS r ON r.oid = e.extowner WHERE e.extname = 'fieldcrypt'))
        FROM pg_class AS c JOIN pg_roles AS o ON o.oid = c.relowner
        WHERE NOT c.relispartition AND EXISTS (
                SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid
                    AND t.tgfoid IN ('fieldcrypt.hold_account()'::regprocedure, 'fieldcrypt.seal_document()'::regprocedure))
            AND EXISTS (SELECT FROM login AS l JOIN held AS h ON h.member = l.member
                        WHERE l.role = o.oid AND h.privileges && '{encrypt,decrypt}')
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_roles() IS 'roles, their members, and grants';

CREATE FUNCTION fieldcrypt.findings_of_protection() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH triggers AS MATERIALIZED (
        SELECT t.oid, t.tgname, t.tgrelid::regclass AS relation, t.tgparentid, t.tgenabled,
            fieldcrypt.trigger_arguments(t.tgargs) AS arguments,
            t.tgfoid = 'fieldcrypt.seal_document()'::regprocedure AS of_document
        FROM pg_trigger AS t
        WHERE t.tgfoid IN ('fieldcrypt.hold_account()'::regprocedure, 'fieldcrypt.seal_document()'::regprocedure)
    ), checks AS MATERIALIZED (
        -- arguments: document and, as identifiers, column, account and kind; whether it is gathered
        SELECT c.conrelid::regclass AS relation, c.conkey, c.coninhcount,
            COALESCE((to_jsonb(c) ->> 'conenforced')::boolean, true) AS enforced, -- from 18 on
            regexp_match(pg_get_expr(c.conbin, c.conrelid), concat('^fieldcrypt\.check_document\(''(.*)''::text, ',
                '(\w+|"(?:[^"]|"")*"), \(?(\w+|"(?:[^"]|"")*")\)?(?:::text)?, ',
                '(?:NULL::text|\(?(\w+|"(?:[^"]|"")*")\)?(?:::text)?), (true|false)\)$')) AS arguments
        FROM pg_constraint AS c
        WHERE c.contype = 'c' AND EXISTS (
            SELECT FROM pg_depend AS d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
                AND d.refclassid = 'pg_proc'::regclass
                AND d.refobjid = 'fieldcrypt.check_document(text,jsonb,text,text,boolean)'::regprocedure)
    ), encrypted AS MATERIALIZED (
        SELECT e.* FROM fieldcrypt.encrypted_columns() AS e
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT 'error', 'does not run: what it would refuse or encrypt is stored as it is',
            format('trigger %I of %s', t.tgname, t.relation),
            format('ALTER TABLE %s ENABLE TRIGGER %I;', t.relation, t.tgname)
        FROM triggers AS t WHERE t.tgenabled IN ('D', 'R')
            AND NOT EXISTS (SELECT FROM triggers AS p WHERE p.oid = t.tgparentid AND p.tgenabled IN ('D', 'R'))
        UNION ALL
        SELECT 'error', 'does not always run: sessions go on with rights and keys that were taken away',
            format('trigger %I of %s', t.tgname, t.tgrelid::regclass),
            format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', t.tgrelid::regclass, t.tgname)
        FROM pg_trigger AS t WHERE t.tgfoid = 'fieldcrypt.catalog_changed()'::regprocedure AND t.tgenabled <> 'A'
        UNION ALL
        SELECT 'warning', 'is switched off: definitions that cannot work are not refused', format('event trigger %I', e.evtname),
            format('ALTER EVENT TRIGGER %I ENABLE;', e.evtname)
        FROM pg_event_trigger AS e
        WHERE e.evtfoid = 'fieldcrypt.check_definition()'::regprocedure AND e.evtenabled NOT IN ('O', 'A')
        UNION ALL
        SELECT 'warning', 'has no CHECK any more: what other triggers put into the document is not looked at',
            format('column %I of %s', t.arguments[2], t.relation),
            format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I, %s;', t.relation, 'fieldcrypt_' || left(t.arguments[2], 40),
                fieldcrypt.document_constraint(t.arguments))
        FROM triggers AS t
        WHERE t.of_document AND NOT EXISTS (
                SELECT FROM checks AS c JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attnum = ANY (c.conkey)
                WHERE c.relation = t.relation AND c.enforced AND a.attname = t.arguments[2])
            AND NOT EXISTS (SELECT FROM pg_inherits AS i JOIN triggers AS p ON p.relation = i.inhparent
                            WHERE i.inhrelid = t.relation AND p.of_document AND p.arguments[2] = t.arguments[2])
        UNION ALL
        SELECT 'error', 'has the CHECK of a document, but no trigger that seals it: writing flagged values fails',
            format('column %s of %s', c.arguments[2], c.relation),
            format('SELECT fieldcrypt.add_document_trigger(%L, %L);', c.relation, ARRAY[
                c.arguments[1], (parse_ident(c.arguments[2]))[1], (parse_ident(c.arguments[3]))[1],
                COALESCE((parse_ident(c.arguments[4]))[1], ''),
                CASE c.arguments[5] WHEN 'true' THEN COALESCE((
                    SELECT e.column_name FROM encrypted AS e
                    WHERE e.relation = c.relation AND e.plain = 'jsonb'::regtype LIMIT 1), '') ELSE '' END])
        FROM checks AS c
        WHERE c.coninhcount = 0 AND c.arguments IS NOT NULL AND NOT EXISTS (
            SELECT FROM triggers AS t
            WHERE t.relation = c.relation AND t.of_document AND t.arguments[2] = (parse_ident(c.arguments[2]))[1])
        UNION ALL
        SELECT 'warning', 'inherits from a protected table, but its own rows are not held to their account',
            format('table %s', i.inhrelid::regclass),
            format('SELECT fieldcrypt.protect_table(%L, account_column => %L, on_mismatch => %L);',
                i.inhrelid::regclass, p.arguments[1], p.arguments[2])
        FROM triggers AS p JOIN pg_inherits AS i ON i.inhparent = p.relation
        WHERE NOT p.of_document
            AND NOT EXISTS (SELECT FROM triggers AS t WHERE t.relation = i.inhrelid AND NOT t.of_document)
        UNION ALL
        SELECT 'warning', 'inherits from a table with a document, but its own rows are not sealed',
            format('table %s', i.inhrelid::regclass),
            format('SELECT fieldcrypt.inherit_documents(%L);', i.inhrelid::regclass)
        FROM triggers AS p JOIN pg_inherits AS i ON i.inhparent = p.relation
        WHERE p.of_document AND NOT EXISTS (
            SELECT FROM triggers AS t WHERE t.relation = i.inhrelid AND t.of_document AND t.arguments[2] = p.arguments[2])
        UNION ALL
        SELECT 'warning', 'holds encrypted values, of which there are several accounts, and nothing holds them to that of their row',
            format('table %s', e.relation),
            format('SELECT fieldcrypt.protect_table(%L, account_column => %L);',
                e.relation, COALESCE(k.account_column, '...'))
        FROM (SELECT DISTINCT e.relation FROM encrypted AS e WHERE e.account_column IS NULL) AS e
            JOIN pg_class AS c ON c.oid = e.relation
            LEFT JOIN fieldcrypt.account_columns() AS k ON k.relation = e.relation
        WHERE NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_inherits AS i JOIN triggers AS p
                ON p.relation = i.inhparent AND NOT p.of_document WHERE i.inhrelid = e.relation)
            AND (SELECT count(*) > 1 FROM fieldcrypt.account AS a WHERE NOT starts_with(a.account, '*'))
        UNION ALL
        SELECT 'notice', 'sends whole old rows to subscribers (REPLICA IDENTITY FULL), with what was there before it was encrypted',
            format('table %s', c.oid::regclass), format('ALTER TABLE %s REPLICA IDENTITY DEFAULT;', c.oid::regclass)
        FROM pg_class AS c
        WHERE c.relreplident = 'f' AND current_setting('wal_level') = 'logical' AND (
            EXISTS (SELECT FROM triggers AS t WHERE t.relation = c.oid)
            OR EXISTS (SELECT FROM encrypted AS e WHERE e.relation = c.oid))
        UNION ALL
        SELECT 'warning', 'has flagged paths, but no column is protected by its name', format('document %s', p.document),
            string_agg(format('SELECT fieldcrypt.unprotect_path(%L, %L, account => %L%s);', p.document, ARRAY[p.path], p.account,
                ', kind => ' || quote_literal(NULLIF(p.kind, ''))), ' ' ORDER BY p.path, p.account, p.kind)
        FROM fieldcrypt.path AS p
        WHERE p.state = 'active' AND NOT EXISTS (
            SELECT FROM triggers AS t WHERE t.of_document AND t.arguments[1] = p.document)
        GROUP BY p.document
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_protection() IS 'triggers and checks that are missing or switched off';

CREATE FUNCTION fieldcrypt.findings_of_copies() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE reader (oid) AS (
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = 'fieldcrypt'::regnamespace AND p.proname IN ('decrypt', 'reveal')
        UNION ALL
        -- the body of these is a text, which no dependency is known of
        SELECT p.oid FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
        WHERE l.lanname IN ('sql', 'plpgsql') AND p.prosrc ~* '\m(decrypt|reveal)\s*\('
            AND concat(p.prosrc, p.proconfig) ~* 'fieldcrypt' AND p.pronamespace <> 'fieldcrypt'::regnamespace
    ), shows (classid, objid) AS (
        SELECT 'pg_proc'::regclass::oid, r.oid FROM reader AS r
        UNION
        SELECT n.classid, n.objid FROM shows AS s
            JOIN pg_depend AS d ON d.refclassid = s.classid AND d.refobjid = s.objid AND d.deptype IN ('n', 'a', 'i')
            CROSS JOIN LATERAL (
                SELECT d.classid, d.objid
                UNION ALL
                SELECT 'pg_class'::regclass, w.ev_class FROM pg_rewrite AS w JOIN pg_class AS v ON v.oid = w.ev_class
                WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND v.relkind IN ('v', 'm')) AS n
    ), kept (classid, objid, subject, text, remedy) AS (
        -- whatever stores the values of expressions
        SELECT 'pg_class'::regclass::oid, i.indexrelid, format('index %s', i.indexrelid::regclass),
            concat(pg_get_expr(i.indexprs, i.indrelid), ' ', pg_get_expr(i.indpred, i.indrelid)),
            format('DROP INDEX %s;', i.indexrelid::regclass)
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE NOT c.relispartition AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
        UNION ALL
        SELECT 'pg_statistic_ext'::regclass, x.oid, format('statistics %s.%I', x.stxnamespace::regnamespace, x.stxname),
            array_to_string(pg_get_statisticsobjdef_expressions(x.oid), ' '),
            format('DROP STATISTICS %s.%I;', x.stxnamespace::regnamespace, x.stxname)
        FROM pg_statistic_ext AS x WHERE x.stxexprs IS NOT NULL
        UNION ALL
        SELECT 'pg_attrdef'::regclass, d.oid, format('generated column %I of %s', a.attname, a.attrelid::regclass),
            pg_get_expr(d.adbin, d.adrelid), format('ALTER TABLE %s DROP COLUMN %I;', a.attrelid::regclass, a.attname)
        FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE a.attgenerated = 's' AND a.attinhcount = 0
        UNION ALL
        SELECT 'pg_class'::regclass, m.oid, format('materialized view %s', m.oid::regclass), pg_get_viewdef(m.oid),
            format('DROP MATERIALIZED VIEW %s;', m.oid::regclass)
        FROM pg_class AS m WHERE m.relkind = 'm'
    ), document AS MATERIALIZED (
        SELECT d.* FROM fieldcrypt.documents AS d
    ), encrypted AS MATERIALIZED (
        SELECT e.* FROM fieldcrypt.encrypted_columns() AS e
    ), flagged (relation, number, key, field) AS MATERIALIZED (
        SELECT d.relation::oid, a.attnum, fieldcrypt.last_key(p.path), p.field
        FROM document AS d JOIN fieldcrypt.path AS p ON p.document = d.name AND p.state = 'active'
            JOIN pg_attribute AS a ON a.attrelid = d.relation AND a.attname = d.column_name
    ), named (relation, name, field) AS MATERIALIZED (
        SELECT e.relation::oid, regexp_replace(e.field, '^.*\.', ''), e.field FROM encrypted AS e
        UNION
        SELECT f.relation, lower(f.key), f.field FROM flagged AS f
    ), type (oid) AS MATERIALIZED (
        SELECT e.encrypted::oid FROM fieldcrypt.encrypted_types() AS e
    ), alike AS MATERIALIZED (
        SELECT a.attrelid, a.attnum, a.attname, a.atttypid FROM pg_attribute AS a
        WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attrelid >= 16384
            AND lower(a.attname) IN (SELECT n.name FROM named AS n)
    ), plain AS MATERIALIZED (
        SELECT c.oid::regclass AS relation, a.attname, lower(a.attname) AS name, k.account_column,
            t.typcategory = 'S' OR t.oid IN ('json'::regtype, 'jsonb'::regtype) AS is_text
        FROM alike AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_type AS t ON t.oid = a.atttypid
            LEFT JOIN fieldcrypt.account_columns() AS k ON k.relation = c.oid
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition
            AND NOT EXISTS (SELECT FROM type AS e WHERE e.oid IN (t.oid, t.typelem))
            AND NOT EXISTS (SELECT FROM encrypted AS e WHERE e.relation = c.oid AND e.column_name = a.attname)
            AND NOT EXISTS (SELECT FROM document AS d WHERE d.relation = c.oid
                            AND a.attname IN (d.column_name, d.account_column, d.kind_column))
            AND NOT EXISTS (SELECT FROM pg_depend AS d
                            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
            AND NOT EXISTS (SELECT FROM pg_statistic AS s
                            WHERE s.starelid = c.oid AND s.staattnum = a.attnum AND s.stanullfrac = 1)
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT 'error', 'keeps what decrypt() or reveal() gave', k.subject, k.remedy
        FROM kept AS k JOIN shows AS s ON s.classid = k.classid AND s.objid = k.objid
        UNION ALL
        SELECT 'warning', 'decrypts, but is IMMUTABLE: plans and indexes keep plain values, also after the right was taken away',
            format('function %s', p.oid::regprocedure), format('ALTER FUNCTION %s STABLE;', p.oid::regprocedure)
        FROM pg_proc AS p JOIN shows AS s ON s.classid = 'pg_proc'::regclass AND s.objid = p.oid
        WHERE p.provolatile = 'i' AND p.prokind = 'f'
        UNION ALL
        SELECT 'warning', 'is made of a flagged path: it holds ciphertext, and plain values of rows from before', k.subject, k.remedy
        FROM kept AS k
        WHERE EXISTS (
            SELECT FROM flagged AS f
                JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = f.relation AND d.refobjsubid = f.number
                LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
            WHERE k.objid = COALESCE(w.ev_class, d.objid) AND k.classid = CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END
                AND k.text ~ concat('[''"{,.]', regexp_replace(f.key, '(\W)', '\\\1', 'g'), '[''"},.]'))
        UNION ALL
        SELECT 'warning', 'is plain, and named as what is encrypted in the same table', format('column %I of %s', p.attname, p.relation),
            fieldcrypt.statement_to_encrypt(p.relation, p.attname, p.account_column, min(n.field))
        FROM plain AS p JOIN named AS n ON n.relation = p.relation AND n.name = p.name
        GROUP BY p.relation, p.attname, p.account_column
        UNION ALL
        SELECT 'notice', 'is plain, and named as what is encrypted elsewhere', format('column %I of %s', p.attname, p.relation),
            fieldcrypt.statement_to_encrypt(p.relation, p.attname, p.account_column, min(n.field))
        FROM plain AS p JOIN named AS n ON n.name = p.name
        WHERE p.is_text AND p.name <> ALL ('{code,comment,data,date,description,id,key,kind,label,name,note,notes,number,state,'
                                           'status,text,title,type,value}')
        GROUP BY p.relation, p.attname, p.account_column
        HAVING NOT bool_or(n.relation = p.relation)
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_copies() IS
    'what may hold in plain what is encrypted elsewhere, by definitions and names';

CREATE FUNCTION fieldcrypt.checks_of_contents(OUT relation regclass, OUT severity text, OUT finding text, OUT subject text,
        OUT remedy text, OUT condition text) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH transit (keys) AS (
        SELECT ARRAY(SELECT k.key_id FROM fieldcrypt.account_key AS k WHERE k.purpose = 'transit')
    ), encrypted AS MATERIALIZED (
        SELECT e.relation, e.column_name AS name, e.field, e.account_column,
            fieldcrypt.account_text(e.relation, e.account_column) AS account,
            format('column %I of %s', e.column_name, e.relation) AS subject, COALESCE(k.account_column, '...') AS likely_account
        FROM fieldcrypt.encrypted_columns() AS e LEFT JOIN fieldcrypt.account_columns() AS k ON k.relation = e.relation
    ), document AS MATERIALIZED (
        SELECT d.relation, d.column_name AS name, d.blob_column AS blob, d.name AS document,
            format('fieldcrypt.state_of_document(%L, %I, %I::text, %s, %L)', d.name, d.column_name, d.account_column,
                CASE WHEN d.kind_column IS NULL THEN 'NULL' ELSE format('%I::text', d.kind_column) END,
                d.blob_column IS NOT NULL) AS state,
            format('column %I of %s', d.column_name, d.relation) AS subject
        FROM fieldcrypt.documents AS d
    ), copy AS (
        SELECT a.attrelid::regclass AS relation, a.attname AS name, n.document, COALESCE(k.account_column, '...') AS likely_account
        FROM pg_attribute AS a LEFT JOIN fieldcrypt.account_columns() AS k ON k.relation = a.attrelid,
            (SELECT DISTINCT d.document FROM document AS d) AS n
        WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'jsonb'::regtype AND a.attgenerated = ''
            AND NOT EXISTS (SELECT FROM document AS d WHERE d.relation = a.attrelid AND d.name = a.attname)
    )
    SELECT f.* FROM (
        SELECT e.relation, 'error', '%s of %s rows looked at have values whose account was left open (*row*)', e.subject,
            concat(CASE WHEN e.account_column IS NULL THEN format(
                    'CREATE TRIGGER zzz_fieldcrypt_hold_account BEFORE INSERT OR UPDATE ON %s FOR EACH ROW'
                    ' EXECUTE FUNCTION fieldcrypt.hold_account(%L, ''refuse''); ',
                    e.relation, e.likely_account) END,
                format('UPDATE %s SET %I = %2$I WHERE fieldcrypt.account_of(%2$I) IS NULL; -- as the role that wrote them',
                    e.relation, e.name)),
            format('fieldcrypt.key_of(%I) = ANY (%L)', e.name, t.keys)
        FROM encrypted AS e, transit AS t
        UNION ALL
        SELECT e.relation, 'error', '%s of %s rows looked at have values under keys that this database does not have', e.subject,
            'Restore the missing rows of fieldcrypt.account_key from a dump of the database that the values come from.',
            format('fieldcrypt.account_of(%I) IS NULL AND fieldcrypt.key_of(%1$I) <> ALL (%2$L)', e.name, t.keys)
        FROM encrypted AS e, transit AS t
        UNION ALL
        SELECT e.relation, 'error', '%s of %s rows looked at have values of another account than the row''s', e.subject,
            format(CASE WHEN d.name IS NULL THEN 'UPDATE %1$s SET %2$I = fieldcrypt.encrypt(fieldcrypt.decrypt(%2$I), %3$L, %4$s)'
                   ELSE 'UPDATE %1$s SET %5$I = fieldcrypt.decrypt(%5$I, %2$I), %2$I = NULL' END
                   || ' WHERE fieldcrypt.account_of(%2$I) <> %4$s; -- as a role with encrypt and decrypt',
                e.relation, e.name, e.field, e.account, d.name),
            format('fieldcrypt.account_of(%I) <> %s', e.name, e.account)
        FROM encrypted AS e LEFT JOIN document AS d ON d.relation = e.relation AND d.blob = e.name
        WHERE e.account IS NOT NULL
        UNION ALL
        SELECT d.relation, 'error', '%s of %s rows looked at have plain values at flagged paths', d.subject,
            format('UPDATE %s SET %I = %2$I WHERE %s = ''plain''; -- as a role with encrypt', d.relation, d.name, d.state),
            format('%s = ''plain''', d.state)
        FROM document AS d
        UNION ALL
        SELECT d.relation, 'error', '%s of %s rows looked at have values of another account at flagged paths', d.subject,
            format('UPDATE %s SET %I = fieldcrypt.decrypt(%2$I) WHERE %s = ''foreign''; -- as a role with encrypt and decrypt',
                d.relation, d.name, d.state),
            format('%s = ''foreign''', d.state)
        FROM document AS d
        UNION ALL
        SELECT d.relation, 'error', '%s of %s rows looked at have damaged values at flagged paths, or ones under keys that this database does not have',
            d.subject, 'Restore these rows, or the missing rows of fieldcrypt.account_key, from a dump.',
            format('%s = ''damaged''', d.state)
        FROM document AS d
        UNION ALL
        SELECT c.relation, 'warning', '%s of %s rows looked at have plain values where another document has flagged paths',
            format('column %I of %s (document %s)', c.name, c.relation, c.document),
            format('SELECT fieldcrypt.protect_jsonb(%L, %L, name => %L, account_column => %L); UPDATE %1$s SET %5$I = %5$I;',
                c.relation, c.name, c.document, c.likely_account, c.name),
            format('fieldcrypt.state_of_document(%L, %I, NULL, NULL, false) = ''plain''', c.document, c.name)
        FROM copy AS c
    ) AS f;
$$;
COMMENT ON FUNCTION fieldcrypt.checks_of_contents() IS
    'what to look for in rows: findings with placeholders for two counts, and the condition of a row';

CREATE FUNCTION fieldcrypt.findings_of_contents(sample integer) RETURNS SETOF fieldcrypt.finding
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
    examined record;
    pages numeric;
    counts bigint[];
BEGIN
    FOR examined IN
        SELECT c.oid::regclass AS relation, o.rolname AS owner, n.nspname AS schema, k.*,
            CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages ELSE 40 END AS rows_in_a_page
        FROM (SELECT f.relation AS examined, array_agg(f.severity) AS severity, array_agg(f.finding) AS finding,
                  array_agg(f.subject) AS subject, array_agg(f.remedy) AS remedy,
                  string_agg(format(', count(*) FILTER (WHERE %s)', f.condition), '') AS counted
              FROM fieldcrypt.checks_of_contents() AS f GROUP BY f.relation) AS k
            JOIN pg_class AS c ON c.oid = k.examined
            JOIN pg_roles AS o ON o.oid = c.relowner JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND sample IS DISTINCT FROM 0
        ORDER BY c.oid
    LOOP
        BEGIN
            pages := GREATEST(1, pg_relation_size(examined.relation) / current_setting('block_size')::numeric);
            counts := fieldcrypt.count_as_owner(examined.relation, format(
                'SELECT ARRAY[count(*)%s] FROM (SELECT * FROM ONLY %s%s) AS r', examined.counted, examined.relation,
                -- blocks from all over the table; at least some, however few rows are asked for
                CASE WHEN sample IS NOT NULL THEN format(' TABLESAMPLE SYSTEM (%s) LIMIT %s', LEAST(100, GREATEST(
                    100 * sample / (pages * examined.rows_in_a_page::numeric), 1000 / pages)), sample) END));
            RETURN QUERY
                SELECT c.severity, c.subject, format(c.finding, c.found, counts[1]), c.remedy
                FROM unnest(examined.severity, examined.finding, examined.subject, examined.remedy, counts[2:])
                    AS c (severity, finding, subject, remedy, found)
                WHERE c.found > 0;
        EXCEPTION WHEN OTHERS THEN
            RETURN QUERY
                SELECT f.severity, f.subject, f.finding, f.remedy FROM (
                    SELECT 'notice', 'was not looked at: its owner may not read it', format('table %s', examined.relation),
                        format('GRANT USAGE ON SCHEMA %I TO %I; GRANT SELECT ON %s TO %2$I;',
                            examined.schema, examined.owner, examined.relation)
                    WHERE SQLSTATE = '42501'
                    UNION ALL
                    SELECT 'notice', format('was not looked at, because of an error (SQLSTATE %s)', SQLSTATE),
                        format('table %s', examined.relation),
                        'SELECT * FROM fieldcrypt.doctor(); -- again, when nobody else holds a lock on it'
                    WHERE SQLSTATE <> '42501'
                ) AS f (severity, finding, subject, remedy);
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_contents(integer) IS
    'values that are plain, open, or of another account, in about that many rows of each table; NULL: in all';

CREATE FUNCTION fieldcrypt.findings_of_search() RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH account (count) AS (
        SELECT GREATEST(1, count(*)) FROM fieldcrypt.account AS a WHERE NOT starts_with(a.account, '*')
    ), searched AS MATERIALIZED (
        SELECT e.relation, e.column_name, k.account_column, e.plain, e.row_count, f.name AS field, f.search, f.scope, f.small_domain,
            format('column %I of %s (field %s)', e.column_name, e.relation, f.name) AS subject,
            s.stawidth AS width,
            -- equal values of different accounts have different tokens
            CASE WHEN s.stadistinct < 0 THEN -s.stadistinct * e.row_count ELSE s.stadistinct END / account.count AS distinct_values
        FROM fieldcrypt.encrypted_columns() AS e JOIN fieldcrypt.field AS f ON f.name = e.field
            JOIN pg_class AS c ON c.oid = e.relation AND NOT c.relispartition
            JOIN pg_attribute AS a ON a.attrelid = e.relation AND a.attname = e.column_name
            LEFT JOIN fieldcrypt.account_columns() AS k ON k.relation = e.relation
            LEFT JOIN pg_statistic AS s ON s.starelid = e.relation AND s.staattnum = a.attnum AND s.stainherit = (c.relkind = 'p'),
            account
        WHERE f.search <> '{}' AND f.store = 'value' AND NOT e.is_blob
    ), few AS (
        SELECT s.* FROM searched AS s
        WHERE s.search = '{exact}' AND s.row_count >= 1000 AND s.distinct_values > 0 AND s.distinct_values <= 100
            AND s.distinct_values * 10 <= s.row_count
    ), indexed AS MATERIALIZED (
        SELECT i.indexrelid::regclass AS index, i.indrelid::regclass AS relation, a.attname AS column_name, i.indisunique,
            m.amname, k.place = 1 AS is_first, con.conname
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
            CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
            LEFT JOIN pg_constraint AS con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x')
        WHERE i.indisvalid AND NOT c.relispartition
    )
    SELECT f.severity, f.subject, f.finding, f.remedy FROM (
        SELECT 'warning', 'is a boolean that is searched: who knows one value knows all', s.subject,
            fieldcrypt.statements_to_move(s.relation, s.column_name, s.account_column, s.field, '_unsearched', '{}')
        FROM searched AS s WHERE s.plain = 'boolean'::regtype
        UNION ALL
        SELECT 'notice', 'has few possible values (small_domain), and is searched: tokens tell which rows are alike', s.subject,
            fieldcrypt.statements_to_move(s.relation, s.column_name, s.account_column, s.field, '_unsearched', '{}')
        FROM searched AS s WHERE s.small_domain AND s.plain <> 'boolean'::regtype
        UNION ALL
        SELECT 'warning', 'has few different values: search amounts to decrypt',
            format('grant to %s of field %s of account %s, %s', g.role, g.field, g.account, s.subject),
            fieldcrypt.statement_to_revoke(g.role, '{search}', g.account, g.field)
        FROM few AS s JOIN fieldcrypt.access_grant AS g ON fieldcrypt.field_matches(g.field, s.field)
        WHERE 'search' = ANY (g.privileges) AND 'decrypt' <> ALL (g.privileges) AND g.role IN (SELECT r.oid FROM pg_roles AS r)
        UNION ALL
        SELECT 'notice', 'has few different values, and is searched: tokens tell which rows are alike', s.subject,
            fieldcrypt.statements_to_move(s.relation, s.column_name, s.account_column, s.field, '_unsearched', '{}')
        FROM few AS s WHERE NOT s.small_domain
        UNION ALL
        SELECT 'notice', 'has tokens across accounts (scope): they tell which accounts have the same value', s.subject,
            fieldcrypt.statements_to_move(s.relation, s.column_name, s.account_column, s.field, '_of_account', s.search)
        FROM searched AS s WHERE s.scope = 'database'
        UNION ALL
        SELECT 'notice', 'is searched, but has no index: each search reads all rows', s.subject,
            format('CREATE INDEX ON %s USING hash (%I);', s.relation, s.column_name)
        FROM searched AS s
        WHERE s.search = '{exact}' AND s.row_count >= 10000 AND NOT EXISTS (
            SELECT FROM indexed AS i WHERE i.relation = s.relation AND i.column_name = s.column_name AND i.is_first)
        UNION ALL
        SELECT 'notice', 'has searched paths, but no index on tokens: each search reads all rows',
            format('column %I of %s', d.column_name, d.relation),
            format('CREATE INDEX ON %s USING gin (fieldcrypt.tokens(%I));', d.relation, COALESCE(d.blob_column, d.column_name))
        FROM fieldcrypt.documents AS d JOIN pg_class AS c ON c.oid = d.relation AND NOT c.relispartition
        WHERE c.reltuples >= 10000
            AND EXISTS (SELECT FROM fieldcrypt.path AS p JOIN fieldcrypt.field AS f ON f.name = p.field
                        WHERE p.document = d.name AND p.state = 'active' AND f.search = '{exact}')
            AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = d.relation AND pg_get_expr(i.indexprs, i.indrelid)
                LIKE concat('%fieldcrypt.tokens(', quote_ident(COALESCE(d.blob_column, d.column_name)), ')%'))
        UNION ALL
        SELECT 'warning', format('is a btree over long values (%s bytes on average): those over 2,600 bytes are refused', s.width),
            format('index %s', i.index),
            format(CASE WHEN i.indisunique THEN 'CREATE UNIQUE INDEX ON %s (fieldcrypt.token(%I)); ' ELSE 'CREATE INDEX ON %s USING hash (%I); ' END,
                s.relation, s.column_name)
                || CASE WHEN i.conname IS NULL THEN format('DROP INDEX %s;', i.index)
                   ELSE format('ALTER TABLE %s DROP CONSTRAINT %I;', s.relation, i.conname) END
        FROM searched AS s JOIN indexed AS i ON i.relation = s.relation AND i.column_name = s.column_name
        WHERE i.amname = 'btree' AND s.width >= 650
    ) AS f (severity, finding, subject, remedy);
$$;
COMMENT ON FUNCTION fieldcrypt.findings_of_search() IS 'fields that are searched though their tokens tell too much, and indexes';

CREATE FUNCTION fieldcrypt.findings(sample integer) RETURNS SETOF fieldcrypt.finding
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT f.* FROM (
        SELECT * FROM fieldcrypt.findings_of_settings()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_keyring()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_adoption_keys()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_keys()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_roles()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_protection()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_copies()
        UNION ALL SELECT * FROM fieldcrypt.findings_of_contents(sample)
        UNION ALL SELECT * FROM fieldcrypt.findings_of_search()
    ) AS f
    ORDER BY array_position('{error,warning,notice}', f.severity), f.subject COLLATE "C", f.finding COLLATE "C";
$$;
COMMENT ON FUNCTION fieldcrypt.findings(integer) IS 'what doctor() shows';

CREATE FUNCTION fieldcrypt.doctor(sample integer DEFAULT 1000) RETURNS SETOF fieldcrypt.finding
    AS 'MODULE_PATHNAME', 'doctor_wrapper' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION fieldcrypt.doctor(integer) IS
    'what is unsafe, weak, broken or about to break, with a remedy for each; looks at about sample rows of each table, NULL: at all';
