-- Who may call and read what. The functions check the caller's rights themselves as well: function
-- privileges alone drift apart where a database has several nodes.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fieldcrypt FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fieldcrypt FROM PUBLIC;
GRANT USAGE ON SCHEMA fieldcrypt TO PUBLIC;

-- the type and its comparisons, for whoever may use the table; what is granted decides inside
GRANT EXECUTE ON FUNCTION
    fieldcrypt.encrypted_text_in(cstring, oid, integer),
    fieldcrypt.encrypted_text_out(fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_text_recv(internal, oid, integer),
    fieldcrypt.encrypted_text_send(fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_typmod_in(cstring[]),
    fieldcrypt.encrypted_typmod_out(integer),
    fieldcrypt.encrypted_typanalyze(internal),
    fieldcrypt.encrypted_text_coerce(fieldcrypt.encrypted_text, integer, boolean),
    fieldcrypt.encrypted_text_from_text(text, integer, boolean),
    fieldcrypt.encrypted_text_from_text(varchar, integer, boolean),
    fieldcrypt.encrypted_text_from_text(bpchar, integer, boolean),
    fieldcrypt.encrypted_text_from_text(name, integer, boolean),
    fieldcrypt.has_unique_column(integer),
    fieldcrypt.holds_encrypted(oid),
    fieldcrypt.encrypted_support(internal),
    fieldcrypt.encrypted_eqsel(internal, oid, internal, integer),
    fieldcrypt.encrypted_neqsel(internal, oid, internal, integer),
    fieldcrypt.probe(fieldcrypt.encrypted_text, integer),
    fieldcrypt.probe(text, integer),
    fieldcrypt.probe(fieldcrypt.encrypted_text[], integer),
    fieldcrypt.probe(text[], integer),
    fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text, text),
    fieldcrypt.encrypted_eq(text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text, text),
    fieldcrypt.encrypted_ne(text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_lt(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_le(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_ge(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_gt(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_cmp(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_hash(fieldcrypt.encrypted_text),
    fieldcrypt.encrypted_hash_extended(fieldcrypt.encrypted_text, bigint),
    fieldcrypt.hold_account(),
    fieldcrypt.check_definition(),
    fieldcrypt.check_columns(regclass),
    fieldcrypt.check_type(regtype),
    fieldcrypt.handle_of(oid, integer),
    fieldcrypt.is_literal(pg_node_tree),
    fieldcrypt.encrypted_jsonb_in(cstring, oid, integer),
    fieldcrypt.encrypted_jsonb_out(fieldcrypt.encrypted_jsonb),
    fieldcrypt.encrypted_jsonb_recv(internal, oid, integer),
    fieldcrypt.encrypted_jsonb_send(fieldcrypt.encrypted_jsonb),
    fieldcrypt.encrypted_jsonb_coerce(fieldcrypt.encrypted_jsonb, integer, boolean),
    fieldcrypt.encrypted_jsonb_from_jsonb(jsonb, integer, boolean),
    fieldcrypt.seal_document(),
    fieldcrypt.check_document(text, jsonb, text, text, boolean),
    fieldcrypt.check_document_name(text),
    fieldcrypt.document_gathers(text),
    fieldcrypt.documents_of(regclass),
    fieldcrypt.add_document_trigger(regclass, text[]),
    fieldcrypt.inherit_documents(regclass),
    fieldcrypt.is_plain_name(text)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.encrypt(text, text, text),
    fieldcrypt.decrypt(fieldcrypt.encrypted_text),
    fieldcrypt.reveal(fieldcrypt.encrypted_text),
    fieldcrypt.blind_index(text, text, text),
    fieldcrypt.account_of(fieldcrypt.encrypted_text),
    fieldcrypt.field_of(fieldcrypt.encrypted_text),
    fieldcrypt.key_of(fieldcrypt.encrypted_text),
    fieldcrypt.can(text, text, text, text),
    fieldcrypt.can_reason(text, text, text, text),
    fieldcrypt.protect_table(regclass, name, text),
    fieldcrypt.unprotect_table(regclass),
    fieldcrypt.decrypt(jsonb),
    fieldcrypt.decrypt(jsonb, text),
    fieldcrypt.decrypt(fieldcrypt.encrypted_jsonb),
    fieldcrypt.decrypt(jsonb, fieldcrypt.encrypted_jsonb),
    fieldcrypt.reveal(jsonb),
    fieldcrypt.reveal(fieldcrypt.encrypted_jsonb),
    fieldcrypt.reveal(jsonb, fieldcrypt.encrypted_jsonb),
    fieldcrypt.account_of(fieldcrypt.encrypted_jsonb),
    fieldcrypt.field_of(fieldcrypt.encrypted_jsonb),
    fieldcrypt.key_of(fieldcrypt.encrypted_jsonb),
    fieldcrypt.tokens(jsonb),
    fieldcrypt.tokens(fieldcrypt.encrypted_text),
    fieldcrypt.tokens(fieldcrypt.encrypted_jsonb),
    fieldcrypt.token(jsonb, text, text),
    fieldcrypt.token(fieldcrypt.encrypted_text, text),
    fieldcrypt.search_tokens(text, text, text),
    fieldcrypt.search_tokens_in_transit(text, fieldcrypt.encrypted_text, text),
    fieldcrypt.matches(jsonb, text, text, text),
    fieldcrypt.matches(fieldcrypt.encrypted_jsonb, text, text, text),
    fieldcrypt.protect_jsonb(regclass, name, text, name, name, name),
    fieldcrypt.unprotect_jsonb(regclass, name),
    fieldcrypt.protect_path(text, text[], text, text, text, text),
    fieldcrypt.unprotect_path(text, text[], text, text)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.create_account(text),
    fieldcrypt.disable_account(text),
    fieldcrypt.enable_account(text)
TO fieldcrypt_key_admin;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.create_field(text, text[], text, text, text, text, text, text, text, text, boolean),
    fieldcrypt.alter_field(text, text, text, text, text, text),
    fieldcrypt.drop_field(text),
    fieldcrypt.uses_of_field(integer),
    fieldcrypt.keep_plain(text[]),
    fieldcrypt.path_ending_in(text)
TO fieldcrypt_admin;

GRANT EXECUTE ON FUNCTION
    fieldcrypt.grant_access(text, text[], text, text),
    fieldcrypt.revoke_access(text, text[], text, text)
TO fieldcrypt_grantor;

GRANT SELECT ON fieldcrypt.account_key, fieldcrypt.root_key TO fieldcrypt_key_admin;

GRANT SELECT ON fieldcrypt.accounts, fieldcrypt.keys, fieldcrypt.access
TO fieldcrypt_key_admin, fieldcrypt_admin, fieldcrypt_grantor, fieldcrypt_auditor;

-- the definitions of tables name fields anyway; the event trigger reads them for every user
GRANT SELECT ON fieldcrypt.fields, fieldcrypt.protected, fieldcrypt.field, fieldcrypt.documents,
    fieldcrypt.paths, fieldcrypt.plain_names
TO PUBLIC;
