-- What the other tests share: the extension, roles, two accounts, fields, and the schema test.
-- scripts/regress runs it first, whichever others it is asked for.
CREATE EXTENSION fieldcrypt;

-- Administrators, none of them a superuser.
CREATE ROLE regress_key_admin IN ROLE fieldcrypt_key_admin;
CREATE ROLE regress_admin IN ROLE fieldcrypt_admin;
CREATE ROLE regress_grantor IN ROLE fieldcrypt_grantor;
CREATE ROLE regress_auditor IN ROLE fieldcrypt_auditor;
CREATE ROLE regress_restore IN ROLE fieldcrypt_restore;
-- Users: an application, one who sees masks, one who may only write, one with no grant at all.
CREATE ROLE regress_app;
CREATE ROLE regress_masked;
CREATE ROLE regress_writer;
CREATE ROLE regress_nobody;
GRANT ALL ON SCHEMA public TO PUBLIC;
GRANT CREATE ON DATABASE regress TO PUBLIC;

SET ROLE regress_key_admin;
SELECT fieldcrypt.create_account('acme');
SELECT fieldcrypt.create_account('globex');
SET ROLE regress_admin;
SELECT fieldcrypt.create_field('person.ssn', search => '{exact}', normalizer => 'digits', mask => 'last4');
SELECT fieldcrypt.create_field('person.email', search => '{exact}', normalizer => 'email', mask => 'email');
SELECT fieldcrypt.create_field('person.name', search => '{exact}');
SELECT fieldcrypt.create_field('person.note');
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_app', '{encrypt,search,decrypt}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_masked', '{mask}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_writer', '{encrypt}', account => '*', field => '*');
RESET ROLE;

CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;

-- The rows of a query, sorted, or how it fails.
CREATE FUNCTION test.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found record;
    lines text[] := '{}';
    message text;
    hint text;
BEGIN
    FOR found IN EXECUTE query LOOP
        lines := lines || found::text;
    END LOOP;
    RETURN format('%s rows: %s', cardinality(lines),
        (SELECT string_agg(line, ' ' ORDER BY line COLLATE "C") FROM unnest(lines) AS line));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN format('%s %s%s', SQLSTATE, message, ' | ' || NULLIF(hint, ''));
END
$$;

-- The plan of a query, as text.
CREATE FUNCTION test.plan(query text, options text DEFAULT 'VERBOSE, COSTS OFF') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
        plan := plan || line || E'\n';
    END LOOP;
    RETURN plan;
END
$$;

-- Whether a query over encrypted columns gives the rows that the same query over the plain shadow
-- columns gives, and whether it could use the index.
CREATE FUNCTION test.same(encrypted text, plain text, index text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    got constant text := test.outcome(encrypted);
    expected constant text := test.outcome(plain);
    seqscan constant text := current_setting('enable_seqscan');
    by_index text := '';
BEGIN
    IF index IS NOT NULL THEN
        PERFORM set_config('enable_seqscan', 'off', true);
        by_index := CASE WHEN test.plan(encrypted) LIKE '% ' || index || '%'
            THEN ', by index' ELSE ', NOT by index' END;
        PERFORM set_config('enable_seqscan', seqscan, true);
    END IF;
    IF got = expected THEN
        RETURN format('same: %s%s', split_part(got, ':', 1), by_index);
    END IF;
    RETURN format('DIFFERENT: got %s, expected %s%s', got, expected, by_index);
END
$$;

-- Whether a statement is refused, and how; what it did is undone.
CREATE FUNCTION test.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    hint text;
BEGIN
    EXECUTE statement;
    RAISE EXCEPTION 'no' USING ERRCODE = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    IF SQLSTATE = 'ZZ000' THEN
        RETURN 'accepted';
    END IF;
    RETURN format('refused: %s %s%s', SQLSTATE, message, ' | ' || NULLIF(hint, ''));
END
$$;
