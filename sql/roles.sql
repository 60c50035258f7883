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
