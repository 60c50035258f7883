-- Names without a schema mean PostgreSQL's own, in the bodies of the functions below too: those that
-- are parsed with their function see this path, not the function's.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII'::pg_catalog.name THEN
        RAISE EXCEPTION 'the database encoding SQL_ASCII is not supported'
            USING ERRCODE = 'feature_not_supported', HINT = 'Use a database with encoding UTF8.';
    END IF;
END
$$;

-- A schema of that name that somebody else prepared could hold traps for this script.
DO $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_catalog.pg_namespace AS n
                JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
            WHERE n.nspname OPERATOR(pg_catalog.=) 'fieldcrypt'::pg_catalog.name) THEN
        RAISE EXCEPTION 'schema "fieldcrypt" does not belong to a superuser'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Drop it first.';
    END IF;
    -- the extension itself depends on it by now
    IF EXISTS (SELECT FROM pg_catalog.pg_depend AS d
               WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                   AND d.refobjid OPERATOR(pg_catalog.=) 'fieldcrypt'::pg_catalog.regnamespace
                   AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass) THEN
        RAISE EXCEPTION 'schema "fieldcrypt" is not empty'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Drop what is in it first.';
    END IF;
END
$$;

-- The extension's administrative roles. Roles belong to the cluster, so another database may have
-- made them already, and DROP EXTENSION leaves them.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['fieldcrypt_key_admin', 'fieldcrypt_admin', 'fieldcrypt_grantor',
                                'fieldcrypt_auditor', 'fieldcrypt_restore']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles
                       WHERE rolname OPERATOR(pg_catalog.=) role::pg_catalog.name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END
$$;

COMMENT ON SCHEMA fieldcrypt IS 'columns encrypted under per-account keys';
