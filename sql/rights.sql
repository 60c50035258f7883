-- Who may call and read what. The functions check the caller's rights themselves as well: function
-- privileges alone drift apart where a database has several nodes.

-- Whom the default privileges of this database or an earlier owner of the schema gave something
-- could otherwise write grants for himself.
DO $$
DECLARE
    holder text;
BEGIN
    FOR holder IN
        SELECT 'PUBLIC'
        UNION
        SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(h.grantee))
        FROM (SELECT n.nspowner, n.nspacl FROM pg_catalog.pg_namespace AS n
              WHERE n.oid = 'fieldcrypt'::pg_catalog.regnamespace
              UNION ALL
              SELECT c.relowner, c.relacl FROM pg_catalog.pg_class AS c
              WHERE c.relnamespace = 'fieldcrypt'::pg_catalog.regnamespace
              UNION ALL
              SELECT p.proowner, p.proacl FROM pg_catalog.pg_proc AS p
              WHERE p.pronamespace = 'fieldcrypt'::pg_catalog.regnamespace) AS o (owner, acl)
            CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS h
        WHERE h.grantee NOT IN (0, o.owner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA fieldcrypt FROM %1$s CASCADE;'
            ' REVOKE ALL ON ALL TABLES IN SCHEMA fieldcrypt FROM %1$s CASCADE;'
            ' REVOKE ALL ON ALL SEQUENCES IN SCHEMA fieldcrypt FROM %1$s CASCADE;'
            ' REVOKE ALL ON ALL ROUTINES IN SCHEMA fieldcrypt FROM %1$s CASCADE', holder);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA fieldcrypt TO PUBLIC;

-- The types, their comparisons and what reads them, for whoever may use the table: what is granted
-- decides inside.
DO $family$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'fieldcrypt'::pg_catalog.regnamespace
            AND p.proname NOT LIKE 'adopt%' AND EXISTS (
            SELECT FROM fieldcrypt.encrypted_types() AS t JOIN pg_catalog.pg_type AS e ON e.oid = t.encrypted
            WHERE p.prorettype IN (e.oid, e.typarray)
                OR ARRAY[e.oid, e.typarray] OPERATOR(pg_catalog.&&) p.proargtypes::pg_catalog.oid[])
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', function);
    END LOOP;
END
$family$;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.encrypted_types(),
    fieldcrypt.encrypted_typmod_in(cstring[]),
    fieldcrypt.encrypted_typmod_out(integer),
    fieldcrypt.encrypted_typanalyze(internal),
    fieldcrypt.has_unique_column(integer),
    fieldcrypt.holds_encrypted(oid),
    fieldcrypt.encrypted_support(internal),
    fieldcrypt.encrypted_eqsel(internal, oid, internal, integer),
    fieldcrypt.encrypted_neqsel(internal, oid, internal, integer),
    fieldcrypt.hold_account(),
    fieldcrypt.check_definition(),
    fieldcrypt.check_columns(regclass),
    fieldcrypt.check_type(regtype),
    fieldcrypt.check_expressions(regclass),
    fieldcrypt.calls_decrypt(oid, oid),
    fieldcrypt.handle_of(oid, integer),
    fieldcrypt.plain_type_of(oid),
    fieldcrypt.is_literal(pg_node_tree),
    fieldcrypt.account_text(regclass, name),
    fieldcrypt.seal_document(),
    fieldcrypt.seal_existing(text, jsonb, text, text),
    fieldcrypt.needs_sealing(text, jsonb, text, text),
    fieldcrypt.open_retired(text, jsonb, text, text),
    fieldcrypt.holds_retired(text, jsonb, text, text),
    fieldcrypt.seal_existing(text, jsonb, fieldcrypt.encrypted_jsonb, text, text, integer),
    fieldcrypt.needs_sealing(text, jsonb, fieldcrypt.encrypted_jsonb, text, text),
    fieldcrypt.open_retired(text, jsonb, fieldcrypt.encrypted_jsonb, text, text, integer),
    fieldcrypt.holds_retired(text, jsonb, fieldcrypt.encrypted_jsonb, text, text),
    fieldcrypt.write_both(),
    fieldcrypt.adopt_both(),
    fieldcrypt.adopt_in_document(),
    fieldcrypt.adopt_stored(text, text, text, anyelement, text, bytea),
    fieldcrypt.adopt_stored(text, bytea, text, anyelement, text, bytea),
    fieldcrypt.adopt_stored_document(text, jsonb, text, text, text),
    fieldcrypt.holds_foreign(text, jsonb, text, text, boolean, text),
    fieldcrypt.reencrypt(jsonb),
    fieldcrypt.needs_reencryption(jsonb),
    fieldcrypt.check_document(text, jsonb, text, text, boolean),
    fieldcrypt.state_of_document(text, jsonb, text, text, boolean),
    fieldcrypt.check_document_name(text),
    fieldcrypt.document_constraint(text[]),
    fieldcrypt.document_gathers(text),
    fieldcrypt.trigger_arguments(bytea),
    fieldcrypt.documents_of(regclass),
    fieldcrypt.columns_to_show(regclass, name[]),
    fieldcrypt.columns_of_view(oid),
    fieldcrypt.key_of_view(oid),
    fieldcrypt.shape_of_view(regclass),
    fieldcrypt.insert_through_view(),
    fieldcrypt.update_through_view(),
    fieldcrypt.default_of(oid, smallint),
    fieldcrypt.make_view_anew(regclass, text, name[]),
    fieldcrypt.create_view(regclass, text, name[]),
    fieldcrypt.add_document_trigger(regclass, text[]),
    fieldcrypt.inherit_documents(regclass),
    fieldcrypt.is_plain_name(text),
    fieldcrypt.blind_index(text, text, text),
    fieldcrypt.can(text, text, text, text),
    fieldcrypt.can_reason(text, text, text, text),
    fieldcrypt.protect_table(regclass, name, text),
    fieldcrypt.unprotect_table(regclass),
    fieldcrypt.decrypt(jsonb),
    fieldcrypt.decrypt(jsonb, text),
    fieldcrypt.decrypt(jsonb, text, text),
    fieldcrypt.reveal(jsonb),
    fieldcrypt.reveal(jsonb, text),
    fieldcrypt.set_actor(text, text, text, text),
    fieldcrypt.flush_audit(),
    fieldcrypt.audit_events(bigint, bytea),
    fieldcrypt.tokens(jsonb),
    fieldcrypt.token(jsonb, text, text),
    fieldcrypt.search_tokens(text, text, text),
    fieldcrypt.matches(jsonb, text, text, text),
    fieldcrypt.protect_jsonb(regclass, name, text, name, name, name),
    fieldcrypt.unprotect_jsonb(regclass, name),
    fieldcrypt.protect_path(text, text[], text, text, text, text),
    fieldcrypt.unprotect_path(text, text[], text, text),
    -- jobs of one account are for whoever manages it
    fieldcrypt.start_job(text, text, text, text, text, text, boolean, text),
    fieldcrypt.step_job(text, integer, boolean),
    fieldcrypt.describe_job(text),
    fieldcrypt.report_job(text, timestamptz),
    fieldcrypt.rest_after(timestamptz, integer, integer, boolean),
    fieldcrypt.name_of_document(text, text),
    fieldcrypt.pause_job(text),
    fieldcrypt.cancel_job(text)
TO PUBLIC;

GRANT EXECUTE ON PROCEDURE
    fieldcrypt.run_job(text, integer, integer),
    fieldcrypt.encrypt_existing(text, integer, integer, text),
    fieldcrypt.decrypt_existing(text, integer, integer, text),
    fieldcrypt.reencrypt_existing(text, integer, integer, text)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.audit_head(),
    fieldcrypt.audit_state(),
    fieldcrypt.audit_status(),
    fieldcrypt.audit_findings(text),
    fieldcrypt.verify_audit(text)
TO fieldcrypt_auditor;

GRANT SELECT ON fieldcrypt.audit TO fieldcrypt_auditor;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.drop_audit(timestamptz),
    fieldcrypt.create_account(text),
    fieldcrypt.disable_account(text),
    fieldcrypt.enable_account(text),
    fieldcrypt.accounts_due(),
    fieldcrypt.rotate_account_key(text),
    fieldcrypt.rotate_index_key(text, boolean),
    fieldcrypt.plan_rotate_index_key(boolean),
    fieldcrypt.rotate_root(),
    fieldcrypt.key_usage(text),
    fieldcrypt.disable_account_key(text, bigint),
    fieldcrypt.enable_account_key(text, bigint),
    fieldcrypt.destroy_account_key(text, bigint, boolean),
    fieldcrypt.destroy_account(text, boolean),
    fieldcrypt.export_keys(text),
    fieldcrypt.import_keys(jsonb),
    fieldcrypt.set_rotation(text, interval),
    fieldcrypt.set_account_root(text, text)
TO fieldcrypt_key_admin;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.adopt(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt(jsonb, text[], text, text, text, text, text[], text),
    fieldcrypt.adopt_bytea(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_bytea(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_bigint(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_bigint(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_numeric(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_numeric(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_date(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_date(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_timestamptz(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_timestamptz(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_boolean(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_boolean(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_uuid(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_uuid(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_jsonb(text, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_jsonb(bytea, text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_document(text, text, text, text, text, text[], text, bytea, text),
    fieldcrypt.adopt_document(bytea, text, text, text, text, text[], text, bytea, text),
    fieldcrypt.adopt_check(text, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_check(bytea, text, text, text, text[], text, bytea),
    fieldcrypt.adopt_check(jsonb, text[], text, text, text, text[], text),
    fieldcrypt.adopt_check_hash(text, text, text, fieldcrypt.encrypted_text, text),
    fieldcrypt.pieces_of_template(text),
    fieldcrypt.text_of_template(text),
    fieldcrypt.plan_beside(regclass, name, text, name),
    fieldcrypt.check_beside(regclass, name, text, name),
    fieldcrypt.adopt_check_column(regclass, name, text, text, text, name, text[], text, bytea, text, name),
    fieldcrypt.create_field(text, text[], text, text, text, text, text, text, text, text, boolean, boolean),
    fieldcrypt.alter_field(text, text, text, text, text, text, text[], text),
    fieldcrypt.plan_alter_field(text),
    fieldcrypt.jobs_of_field(text),
    fieldcrypt.complete_backfill(text),
    fieldcrypt.drop_field(text),
    fieldcrypt.uses_of_field(integer),
    fieldcrypt.keep_plain(text[]),
    fieldcrypt.path_ending_in(text),
    fieldcrypt.note_remnants(regclass),
    fieldcrypt.rewrite_table(regclass),
    fieldcrypt.overwrite_wal(integer),
    fieldcrypt.apply_remedy(text),
    fieldcrypt.plan_table(regclass),
    fieldcrypt.plan_existing(text),
    fieldcrypt.plan_documents_to_adopt(text),
    fieldcrypt.plan_column(regclass, name),
    fieldcrypt.plan_reencrypt_existing(text),
    fieldcrypt.plan_reencrypt_column(regclass, name),
    fieldcrypt.set_adoption(text, text, text, text[], text, text, text, text, text, text[]),
    fieldcrypt.can_be_adopted(oid),
    fieldcrypt.plan_adoption(text, text, bigint, text, regtype),
    fieldcrypt.plan_adopt_column(regclass, name, name, text, text, text[], text, text, name, text, regtype),
    fieldcrypt.plan_adopt_existing(text, text[], text, text, text[], text, text, text),
    fieldcrypt.flag_adopted(text, text[], text),
    fieldcrypt.name_of_type(regtype),
    fieldcrypt.encrypted_type_of(oid),
    fieldcrypt.name_of_column(regclass, name),
    fieldcrypt.name_of_table(regclass)
TO fieldcrypt_admin;

GRANT EXECUTE ON PROCEDURE
    fieldcrypt.clean_remnants(regclass, interval),
    fieldcrypt.encrypt_column(regclass, name, text, name, integer, integer, boolean),
    fieldcrypt.decrypt_column(regclass, name, name, integer, integer, boolean),
    fieldcrypt.reencrypt_column(regclass, name, integer, integer),
    fieldcrypt.reencrypt_field(text, integer, integer),
    fieldcrypt.adopt_existing(text, text[], text, text, text, text[], text, text, text, integer, integer, boolean),
    fieldcrypt.adopt_column(regclass, name, text, name, text, text, text[], text, text, name, text, regtype, integer, integer, boolean)
TO fieldcrypt_admin;

GRANT EXECUTE ON FUNCTION fieldcrypt.remnants(regclass) TO fieldcrypt_admin, fieldcrypt_auditor;

GRANT SELECT ON fieldcrypt.progress TO fieldcrypt_admin, fieldcrypt_auditor;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.grant_access(text, text[], text, text),
    fieldcrypt.revoke_access(text, text[], text, text)
TO fieldcrypt_grantor;

GRANT EXECUTE ON PROCEDURE fieldcrypt.rotate_due() TO fieldcrypt_key_admin;

GRANT EXECUTE ON FUNCTION fieldcrypt.doctor(integer), fieldcrypt.root_keys()
TO fieldcrypt_key_admin, fieldcrypt_admin, fieldcrypt_auditor;

GRANT SELECT ON fieldcrypt.status TO fieldcrypt_key_admin, fieldcrypt_admin, fieldcrypt_auditor;

GRANT SELECT ON fieldcrypt.account_key, fieldcrypt.root_key TO fieldcrypt_key_admin;

GRANT SELECT ON fieldcrypt.accounts, fieldcrypt.keys, fieldcrypt.access
TO fieldcrypt_key_admin, fieldcrypt_admin, fieldcrypt_grantor, fieldcrypt_auditor;

-- the definitions of tables name fields anyway; the event trigger reads them for every user
GRANT SELECT ON fieldcrypt.fields, fieldcrypt.protected, fieldcrypt.field, fieldcrypt.documents,
    fieldcrypt.paths, fieldcrypt.plain_names
TO PUBLIC;
