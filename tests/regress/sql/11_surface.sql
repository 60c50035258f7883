-- The surface: every object of the extension, so that any change of it is seen here.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE TEMP VIEW member AS
    SELECT classid, objid, objsubid FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
        AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'fieldcrypt')
        -- from 18 on array and row types are members too
        AND NOT (classid = 'pg_type'::regclass AND objid IN (SELECT oid FROM pg_type WHERE typelem <> 0 OR typrelid <> 0))
        -- the worker makes a partition of the audit for each month
        AND NOT (classid = 'pg_class'::regclass AND objid IN (SELECT oid FROM pg_class WHERE relispartition));

-- What there is, by kind. The rest of this file says it one by one.
SELECT i.type, count(*) FROM member, pg_identify_object(classid, objid, objsubid) AS i GROUP BY i.type ORDER BY i.type COLLATE "C";

-- The family: what each encrypted type has. {E} is the type, {name} its name without the schema, {N} the type of the plain values.
CREATE TEMP TABLE family (name text, plain text);
INSERT INTO family VALUES ('encrypted_text', 'text'), ('encrypted_bytea', 'bytea'), ('encrypted_jsonb', 'jsonb'), ('encrypted_bigint', 'bigint'),
    ('encrypted_numeric', 'numeric'), ('encrypted_date', 'date'), ('encrypted_timestamptz', 'timestamp with time zone'),
    ('encrypted_boolean', 'boolean'), ('encrypted_uuid', 'uuid');
CREATE TEMP TABLE each (kind text, name text, properties text);
INSERT INTO each VALUES
    ('function', 'fieldcrypt.account_of({E})', 'stable safe strict c -> text for PUBLIC'),
    ('function', 'fieldcrypt.decrypt({E})', 'stable safe strict c -> {N} for PUBLIC'),
    ('function', 'fieldcrypt.decrypt({E},"any")', 'stable safe strict c -> {N} for PUBLIC'),
    ('function', 'fieldcrypt.decrypt({E},text)', 'stable safe strict c -> {N} for PUBLIC'),
    ('function', 'fieldcrypt.decrypt({E}[])', 'stable safe strict c -> {N}[] for PUBLIC'),
    ('function', 'fieldcrypt.encrypt({N},text,text)', 'volatile safe null c -> {E} for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_cmp({E},{E})', 'immutable safe strict c -> integer for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_eq({E},{E})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_eq({E},{N})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_eq({N},{E})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_ge({E},{E})', 'immutable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_gt({E},{E})', 'immutable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_hash({E})', 'immutable safe strict c -> integer for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_hash_extended({E},bigint)', 'immutable safe strict c -> bigint for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_le({E},{E})', 'immutable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_lt({E},{E})', 'immutable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_ne({E},{E})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_ne({E},{N})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.encrypted_ne({N},{E})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.field_of({E})', 'stable safe strict c -> text for PUBLIC'),
    ('function', 'fieldcrypt.key_of({E})', 'immutable safe strict c -> bigint for PUBLIC'),
    ('function', 'fieldcrypt.needs_reencryption({E})', 'stable safe strict c -> boolean for PUBLIC'),
    ('function', 'fieldcrypt.probe({E},integer)', 'stable safe strict c -> {E} for PUBLIC'),
    ('function', 'fieldcrypt.probe({E}[],integer)', 'stable safe strict c -> {E}[] for PUBLIC'),
    ('function', 'fieldcrypt.probe({N},integer)', 'stable safe strict c -> {E} for PUBLIC'),
    ('function', 'fieldcrypt.probe({N}[],integer)', 'stable safe strict c -> {E}[] for PUBLIC'),
    ('function', 'fieldcrypt.reencrypt({E})', 'volatile safe strict c -> {E} for PUBLIC'),
    ('function', 'fieldcrypt.reveal({E})', 'stable safe strict c -> {N} for PUBLIC'),
    ('function', 'fieldcrypt.reveal({E},"any")', 'stable safe strict c -> {N} for PUBLIC'),
    ('function', 'fieldcrypt.reveal({E},text)', 'stable safe strict c -> {N} for PUBLIC'),
    ('function', 'fieldcrypt.reveal({E}[])', 'stable safe strict c -> {N}[] for PUBLIC'),
    ('function', 'fieldcrypt.token({E},text)', 'immutable safe strict c -> bytea for PUBLIC'),
    ('function', 'fieldcrypt.tokens({E})', 'immutable safe strict c -> bigint[] for PUBLIC'),
    ('function', '{E}_coerce({E},integer,boolean)', 'stable safe strict c -> {E} for PUBLIC'),
    ('function', '{E}_from({N},integer,boolean)', 'volatile safe strict c -> {E} for PUBLIC'),
    ('function', '{E}_in(cstring,oid,integer)', 'volatile safe strict c -> {E} for PUBLIC'),
    ('function', '{E}_out({E})', 'immutable safe strict c -> cstring for PUBLIC'),
    ('function', '{E}_recv(internal,oid,integer)', 'volatile safe strict c -> {E} for PUBLIC'),
    ('function', '{E}_send({E})', 'immutable safe strict c -> bytea for PUBLIC'),
    ('arguments', 'account_of', 'value {E}'),
    ('arguments', 'decrypt', 'value {E}'),
    ('arguments', 'decrypt', 'value {E}, entity "any"'),
    ('arguments', 'decrypt', 'value {E}, entity text'),
    ('arguments', 'decrypt', 'value {E}[]'),
    ('arguments', 'encrypt', 'value {N}, field text, account text DEFAULT NULL::text'),
    ('arguments', 'field_of', 'value {E}'),
    ('arguments', 'key_of', 'value {E}'),
    ('arguments', 'needs_reencryption', 'value {E}'),
    ('arguments', 'reencrypt', 'value {E}'),
    ('arguments', 'reveal', 'value {E}'),
    ('arguments', 'reveal', 'value {E}, entity "any"'),
    ('arguments', 'reveal', 'value {E}, entity text'),
    ('arguments', 'reveal', 'value {E}[]'),
    ('arguments', 'token', 'value {E}, scope text DEFAULT ''account''::text'),
    ('arguments', 'tokens', 'value {E}'),
    -- length, storage, alignment, category; what makes it
    ('type', '{E}', '-1 e i U {E}_in {E}_out {E}_recv {E}_send fieldcrypt.encrypted_typmod_in fieldcrypt.encrypted_typmod_out fieldcrypt.encrypted_typanalyze'),
    ('cast', '{E} -> {E}', 'i f {E}_coerce({E},integer,boolean)'),
    ('cast', '{N} -> {E}', 'a f {E}_from({N},integer,boolean)'),
    -- the only operators in pg_catalog are = and <>; commutator, negator, selectivities
    ('operator', '=({E},{E})', 'fieldcrypt.encrypted_eq merges hashes =({E},{E}) <>({E},{E}) fieldcrypt.encrypted_eqsel eqjoinsel'),
    ('operator', '=({E},{N})', 'fieldcrypt.encrypted_eq =({N},{E}) <>({E},{N}) fieldcrypt.encrypted_eqsel eqjoinsel'),
    ('operator', '=({N},{E})', 'fieldcrypt.encrypted_eq =({E},{N}) <>({N},{E}) fieldcrypt.encrypted_eqsel eqjoinsel'),
    ('operator', '<>({E},{E})', 'fieldcrypt.encrypted_ne <>({E},{E}) =({E},{E}) fieldcrypt.encrypted_neqsel neqjoinsel'),
    ('operator', '<>({E},{N})', 'fieldcrypt.encrypted_ne <>({N},{E}) =({E},{N}) fieldcrypt.encrypted_neqsel neqjoinsel'),
    ('operator', '<>({N},{E})', 'fieldcrypt.encrypted_ne <>({E},{N}) =({N},{E}) fieldcrypt.encrypted_neqsel neqjoinsel'),
    ('operator', 'fieldcrypt.<#({E},{E})', 'fieldcrypt.encrypted_lt fieldcrypt.>#({E},{E}) fieldcrypt.>=#({E},{E}) - -'),
    ('operator', 'fieldcrypt.<=#({E},{E})', 'fieldcrypt.encrypted_le fieldcrypt.>=#({E},{E}) fieldcrypt.>#({E},{E}) - -'),
    ('operator', 'fieldcrypt.>#({E},{E})', 'fieldcrypt.encrypted_gt fieldcrypt.<#({E},{E}) fieldcrypt.<=#({E},{E}) - -'),
    ('operator', 'fieldcrypt.>=#({E},{E})', 'fieldcrypt.encrypted_ge fieldcrypt.<=#({E},{E}) fieldcrypt.<#({E},{E}) - -'),
    -- whether it is the default; operators and functions
    ('operator class', 'btree {name}_ops {E}', 'default 1 fieldcrypt.<#({E},{E}), 2 fieldcrypt.<=#({E},{E}), 3 =({E},{E}), 4 fieldcrypt.>=#({E},{E}), 5 fieldcrypt.>#({E},{E}); 1 fieldcrypt.encrypted_cmp({E},{E})'),
    ('operator class', 'hash {name}_ops {E}', 'default 1 =({E},{E}); 1 fieldcrypt.encrypted_hash({E}), 2 fieldcrypt.encrypted_hash_extended({E},bigint)');
-- Other types that are assigned to a column. The planner puts the function's body in place of it.
CREATE TEMP TABLE assigned (name text, source text);
INSERT INTO assigned
    SELECT name, trim(source) FROM (VALUES
        ('encrypted_text', 'character varying, character, name, boolean, smallint, integer, bigint, numeric, real, double precision, date,'
            ' timestamp without time zone, timestamp with time zone, uuid, json, jsonb'),
        ('encrypted_jsonb', 'json'),
        ('encrypted_bigint', 'smallint, integer, numeric'),
        ('encrypted_numeric', 'smallint, integer, bigint, real, double precision'),
        ('encrypted_date', 'timestamp without time zone, timestamp with time zone'),
        ('encrypted_timestamptz', 'date, timestamp without time zone')) AS v (name, sources), unnest(string_to_array(sources, ',')) AS source;
CREATE TEMP VIEW of_family AS
    SELECT kind, replace(replace(replace(each.name, '{E}', 'fieldcrypt.' || family.name), '{N}', plain), '{name}', family.name) AS name,
        replace(replace(properties, '{E}', 'fieldcrypt.' || family.name), '{N}', plain) AS properties
    FROM each, family
    UNION ALL SELECT 'function', format('fieldcrypt.%s_from(%s,integer,boolean)', name, source), format('volatile safe strict %s -> fieldcrypt.%s for PUBLIC',
        CASE name WHEN 'encrypted_jsonb' THEN 'c' ELSE 'sql' END, name) FROM assigned
    UNION ALL SELECT 'cast', format('%s -> fieldcrypt.%s', source, name), format('a f fieldcrypt.%s_from(%s,integer,boolean)', name, source) FROM assigned;

-- Functions that are not of the family: volatility, parallel safety, NULL input, rights, language, settings, result, who may call.
CREATE TEMP TABLE expected_function (name text, properties text);
INSERT INTO expected_function VALUES
    ('fieldcrypt.account_columns()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.account_text(regclass,name)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> text for PUBLIC'),
    ('fieldcrypt.accounts_due()', 'stable safe strict definer sql search_path=pg_catalog, pg_temp -> SETOF text for fieldcrypt_key_admin'),
    ('fieldcrypt.add_audit_partition()', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp TimeZone=UTC -> timestamp with time zone for'),
    ('fieldcrypt.add_document_trigger(regclass,text[])', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.adopt(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_text for fieldcrypt_admin'),
    ('fieldcrypt.adopt(jsonb,text[],text,text,text,text,text[],text)', 'volatile unsafe null c -> jsonb for fieldcrypt_admin'),
    ('fieldcrypt.adopt(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_text for fieldcrypt_admin'),
    ('fieldcrypt.adopt_bigint(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_bigint for fieldcrypt_admin'),
    ('fieldcrypt.adopt_bigint(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_bigint for fieldcrypt_admin'),
    ('fieldcrypt.adopt_boolean(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_boolean for fieldcrypt_admin'),
    ('fieldcrypt.adopt_boolean(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_boolean for fieldcrypt_admin'),
    ('fieldcrypt.adopt_both()', 'volatile unsafe null c -> trigger for PUBLIC'),
    ('fieldcrypt.adopt_bytea(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_bytea for fieldcrypt_admin'),
    ('fieldcrypt.adopt_bytea(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_bytea for fieldcrypt_admin'),
    ('fieldcrypt.adopt_check(bytea,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> text for fieldcrypt_admin'),
    ('fieldcrypt.adopt_check(jsonb,text[],text,text,text,text[],text)', 'volatile unsafe null c -> text[] for fieldcrypt_admin'),
    ('fieldcrypt.adopt_check(text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> text for fieldcrypt_admin'),
    ('fieldcrypt.adopt_check_column(regclass,name,text,text,text,name,text[],text,bytea,text,name)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> SETOF record for fieldcrypt_admin'),
    ('fieldcrypt.adopt_check_hash(text,text,text,fieldcrypt.encrypted_text,text)', 'volatile unsafe null c -> boolean for fieldcrypt_admin'),
    ('fieldcrypt.adopt_column(regclass,name,text,name,text,text,text[],text,text,name,text,regtype,integer,integer,boolean)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.adopt_date(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_date for fieldcrypt_admin'),
    ('fieldcrypt.adopt_date(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_date for fieldcrypt_admin'),
    ('fieldcrypt.adopt_document(bytea,text,text,text,text,text[],text,bytea,text)', 'volatile unsafe null c -> jsonb for fieldcrypt_admin'),
    ('fieldcrypt.adopt_document(text,text,text,text,text,text[],text,bytea,text)', 'volatile unsafe null c -> jsonb for fieldcrypt_admin'),
    ('fieldcrypt.adopt_existing(text,text[],text,text,text,text[],text,text,text,integer,integer,boolean)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.adopt_in_document()', 'volatile unsafe null c -> trigger for PUBLIC'),
    ('fieldcrypt.adopt_jsonb(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_jsonb for fieldcrypt_admin'),
    ('fieldcrypt.adopt_jsonb(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_jsonb for fieldcrypt_admin'),
    ('fieldcrypt.adopt_numeric(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_numeric for fieldcrypt_admin'),
    ('fieldcrypt.adopt_numeric(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_numeric for fieldcrypt_admin'),
    ('fieldcrypt.adopt_stored(text,bytea,text,anyelement,text,bytea)', 'volatile unsafe null c -> anyelement for PUBLIC'),
    ('fieldcrypt.adopt_stored(text,text,text,anyelement,text,bytea)', 'volatile unsafe null c -> anyelement for PUBLIC'),
    ('fieldcrypt.adopt_stored_document(text,jsonb,text,text,text)', 'volatile unsafe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.adopt_timestamptz(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_timestamptz for fieldcrypt_admin'),
    ('fieldcrypt.adopt_timestamptz(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_timestamptz for fieldcrypt_admin'),
    ('fieldcrypt.adopt_uuid(bytea,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_uuid for fieldcrypt_admin'),
    ('fieldcrypt.adopt_uuid(text,text,text,text,text,text[],text,bytea)', 'volatile unsafe null c -> fieldcrypt.encrypted_uuid for fieldcrypt_admin'),
    ('fieldcrypt.adopted_type(fieldcrypt.job)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> regtype for'),
    ('fieldcrypt.adoption_keys()', 'volatile unsafe null c -> SETOF record for'),
    ('fieldcrypt.adoption_of_job(text)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.adoption_trigger(name)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> name for'),
    ('fieldcrypt.advance_job(text,integer,boolean)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> boolean for'),
    ('fieldcrypt.alter_field(text,text,text,text,text,text,text[],text)', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.apply_remedy(text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> boolean for fieldcrypt_admin'),
    ('fieldcrypt.audit_events(bigint,bytea)', 'stable safe strict c -> TABLE(seq bigint, at timestamp with time zone, action text, outcome text, field text, account text, count bigint, detail text, session_role text, set_role text, acting_role text, client_address text, application_name text, actor_id text, actor_name text, actor_address text, actor_action text, entities text[], pid bigint, statement_at timestamp with time zone, id bigint) for PUBLIC'),
    ('fieldcrypt.audit_findings(text)', 'volatile unsafe null c -> text for fieldcrypt_auditor'),
    ('fieldcrypt.audit_head()', 'stable unsafe strict c -> text for fieldcrypt_auditor'),
    ('fieldcrypt.audit_microseconds(timestamp with time zone)', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> bigint for'),
    ('fieldcrypt.audit_state()', 'volatile unsafe strict c -> text for fieldcrypt_auditor'),
    ('fieldcrypt.audit_status()', 'volatile unsafe strict sql search_path=pg_catalog, pg_temp -> record for fieldcrypt_auditor'),
    ('fieldcrypt.begin_adoption(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.begin_pass(text,text)', 'volatile unsafe strict sql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.beside_columns(fieldcrypt.job)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.beside_values(fieldcrypt.job)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.blind_index(text,text,text)', 'stable safe null c -> bytea for PUBLIC'),
    ('fieldcrypt.calls_decrypt(oid,oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.can(text,text,text,text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> record for PUBLIC'),
    ('fieldcrypt.can_be_adopted(oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for fieldcrypt_admin'),
    ('fieldcrypt.can_reason(text,text,text,text)', 'stable safe strict c -> text for PUBLIC'),
    ('fieldcrypt.cancel_job(text)', 'volatile unsafe null c -> void for PUBLIC'),
    ('fieldcrypt.catalog_changed()', 'volatile unsafe null c -> trigger for'),
    ('fieldcrypt.check_adopted(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.check_adoption(fieldcrypt.job)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.check_beside(regclass,name,text,name)', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> void for fieldcrypt_admin'),
    ('fieldcrypt.check_columns(regclass)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.check_definition()', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> event_trigger for PUBLIC'),
    ('fieldcrypt.check_document(text,jsonb,text,text,boolean)', 'stable safe null c -> boolean for PUBLIC'),
    ('fieldcrypt.check_document_name(text)', 'stable safe strict c -> void for PUBLIC'),
    ('fieldcrypt.check_expressions(regclass)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.check_job(fieldcrypt.job)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.check_type(regtype)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.checks_of_contents()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.clean_remnants(regclass,interval)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.column_to_reencrypt(fieldcrypt.job,regclass)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> name for'),
    ('fieldcrypt.columns_of_tokens(boolean)', 'stable restricted strict sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.columns_of_view(oid)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> SETOF record for PUBLIC'),
    ('fieldcrypt.columns_to_show(regclass,name[])', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF record for PUBLIC'),
    ('fieldcrypt.complete_backfill(text)', 'volatile unsafe strict c -> boolean for fieldcrypt_admin'),
    ('fieldcrypt.complete_backfills()', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> SETOF text for'),
    ('fieldcrypt.configured_settings()', 'stable restricted null sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.count_as_owner(regclass,text)', 'volatile unsafe strict c -> bigint[] for'),
    ('fieldcrypt.create_account(text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.create_field(text,text[],text,text,text,text,text,text,text,text,boolean,boolean)', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.create_view(regclass,text,name[])', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> regclass for PUBLIC'),
    ('fieldcrypt.cut_over(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.decrypt(jsonb)', 'stable safe strict c -> jsonb for PUBLIC'),
    ('fieldcrypt.decrypt(jsonb,fieldcrypt.encrypted_jsonb)', 'stable safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.decrypt(jsonb,fieldcrypt.encrypted_jsonb,text)', 'stable safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.decrypt(jsonb,text)', 'stable safe strict c -> jsonb for PUBLIC'),
    ('fieldcrypt.decrypt(jsonb,text,text)', 'stable safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.decrypt_column(regclass,name,name,integer,integer,boolean)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.decrypt_existing(text,integer,integer,text)', 'volatile unsafe null plpgsql -> for PUBLIC'),
    ('fieldcrypt.default_of(oid,smallint)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for PUBLIC'),
    ('fieldcrypt.describe_job(text)', 'volatile unsafe strict c -> text for PUBLIC'),
    ('fieldcrypt.destroy_account(text,boolean)', 'volatile unsafe null c -> SETOF fieldcrypt.usage for fieldcrypt_key_admin'),
    ('fieldcrypt.destroy_account_key(text,bigint,boolean)', 'volatile unsafe null c -> SETOF fieldcrypt.usage for fieldcrypt_key_admin'),
    ('fieldcrypt.differing_adoptions(regclass,text,text)', 'volatile unsafe strict c -> text for'),
    ('fieldcrypt.differing_rows(regclass,text)', 'volatile unsafe strict c -> text for'),
    ('fieldcrypt.disable_account(text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.disable_account_key(text,bigint)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.doctor(integer)', 'volatile unsafe null c -> SETOF fieldcrypt.finding for fieldcrypt_admin fieldcrypt_auditor fieldcrypt_key_admin'),
    ('fieldcrypt.document_constraint(text[])', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for PUBLIC'),
    ('fieldcrypt.document_gathers(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.document_of_job(text)', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.documents_of(regclass)', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> SETOF record for PUBLIC'),
    ('fieldcrypt.drop_audit(timestamp with time zone)', 'volatile unsafe strict c -> bigint for fieldcrypt_key_admin'),
    ('fieldcrypt.drop_audit_partitions(timestamp with time zone)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp TimeZone=UTC -> json for'),
    ('fieldcrypt.drop_field(text)', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.enable_account(text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.enable_account_key(text,bigint)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.encrypt(integer,text,text)', 'volatile safe null sql -> fieldcrypt.encrypted_bigint for PUBLIC'),
    ('fieldcrypt.encrypt(smallint,text,text)', 'volatile safe null sql -> fieldcrypt.encrypted_bigint for PUBLIC'),
    ('fieldcrypt.encrypt_column(regclass,name,text,name,integer,integer,boolean)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.encrypt_existing(text,integer,integer,text)', 'volatile unsafe null plpgsql -> for PUBLIC'),
    ('fieldcrypt.encrypted_columns()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.encrypted_eqsel(internal,oid,internal,integer)', 'stable safe strict c -> double precision for PUBLIC'),
    ('fieldcrypt.encrypted_neqsel(internal,oid,internal,integer)', 'stable safe strict c -> double precision for PUBLIC'),
    ('fieldcrypt.encrypted_support(internal)', 'stable safe strict c -> internal for PUBLIC'),
    ('fieldcrypt.encrypted_typanalyze(internal)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_type_of(oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> regtype for fieldcrypt_admin'),
    ('fieldcrypt.encrypted_types()', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> SETOF record for PUBLIC'),
    ('fieldcrypt.encrypted_typmod_in(cstring[])', 'stable safe strict c -> integer for PUBLIC'),
    ('fieldcrypt.encrypted_typmod_out(integer)', 'stable safe strict c -> cstring for PUBLIC'),
    ('fieldcrypt.end_adoption(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.end_job(text,text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.export_keys(text)', 'volatile unsafe null c -> jsonb for fieldcrypt_key_admin'),
    ('fieldcrypt.field_matches(text,text)', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> boolean for'),
    ('fieldcrypt.find_remnants(regclass)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings(integer)', 'volatile unsafe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_contents(integer)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp lock_timeout=1s -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_copies()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_adoption_keys()', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_keyring()', 'volatile unsafe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_keys()', 'volatile unsafe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_protection()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_roles()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_search()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.findings_of_settings()', 'stable restricted null sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.flag_adopted(text,text[],text)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> void for fieldcrypt_admin'),
    ('fieldcrypt.flush_audit()', 'volatile unsafe strict c -> void for PUBLIC'),
    ('fieldcrypt.forget_verified(text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.grant_access(text,text[],text,text)', 'volatile unsafe null c -> void for fieldcrypt_grantor'),
    ('fieldcrypt.handle_of(oid,integer)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> integer for PUBLIC'),
    ('fieldcrypt.has_successor(fieldcrypt.job)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for'),
    ('fieldcrypt.has_unique_column(integer)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.hold_account()', 'volatile unsafe null c -> trigger for PUBLIC'),
    ('fieldcrypt.hold_tokens(boolean)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.holds_encrypted(oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for PUBLIC'),
    ('fieldcrypt.holds_foreign(text,jsonb,text,text,boolean,text)', 'volatile unsafe null c -> boolean for PUBLIC'),
    ('fieldcrypt.holds_retired(text,jsonb,fieldcrypt.encrypted_jsonb,text,text)', 'stable safe null c -> boolean for PUBLIC'),
    ('fieldcrypt.holds_retired(text,jsonb,text,text)', 'stable safe null c -> boolean for PUBLIC'),
    ('fieldcrypt.import_keys(jsonb)', 'volatile unsafe null c -> text for fieldcrypt_key_admin'),
    ('fieldcrypt.inherit_documents(regclass)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.insert_through_view()', 'volatile unsafe null plpgsql -> trigger for PUBLIC'),
    ('fieldcrypt.is_literal(pg_node_tree)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.is_plain_name(text)', 'stable safe strict definer sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.job_statement(fieldcrypt.job,regclass,text,text,boolean)', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.jobs_of_field(text)', 'stable safe strict definer sql search_path=pg_catalog, pg_temp -> TABLE(relation regclass, column_name name, document text) for fieldcrypt_admin'),
    ('fieldcrypt.keep_adoption(text,text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.keep_plain(text[])', 'volatile unsafe strict c -> void for fieldcrypt_admin'),
    ('fieldcrypt.key_of_view(oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text[] for PUBLIC'),
    ('fieldcrypt.key_usage(text)', 'volatile unsafe null c -> SETOF fieldcrypt.usage for fieldcrypt_key_admin'),
    ('fieldcrypt.keyring_entries()', 'volatile unsafe null c -> SETOF record for'),
    ('fieldcrypt.last_key(text)', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.leaves_older(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> boolean for'),
    ('fieldcrypt.lockable_keys()', 'volatile unsafe null c -> bigint for'),
    ('fieldcrypt.make_tokens(text,boolean)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> bigint for'),
    ('fieldcrypt.make_view_anew(regclass,text,name[])', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.matches(fieldcrypt.encrypted_jsonb,text,text,text)', 'stable safe null sql -> boolean for PUBLIC'),
    ('fieldcrypt.matches(jsonb,text,text,text)', 'stable safe null sql -> boolean for PUBLIC'),
    ('fieldcrypt.message_of_job(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.name_of_column(regclass,name)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for fieldcrypt_admin'),
    ('fieldcrypt.name_of_document(text,text)', 'immutable safe null sql search_path=pg_catalog, pg_temp -> text for PUBLIC'),
    ('fieldcrypt.name_of_table(regclass)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for fieldcrypt_admin'),
    ('fieldcrypt.name_of_type(regtype)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for fieldcrypt_admin'),
    ('fieldcrypt.needs_reencryption(jsonb)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.needs_sealing(text,jsonb,fieldcrypt.encrypted_jsonb,text,text)', 'stable safe null c -> boolean for PUBLIC'),
    ('fieldcrypt.needs_sealing(text,jsonb,text,text)', 'stable safe null c -> boolean for PUBLIC'),
    ('fieldcrypt.note_files(text)', 'volatile unsafe strict sql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.note_remnants(regclass)', 'volatile unsafe strict c -> void for fieldcrypt_admin'),
    ('fieldcrypt.note_remnants(text,boolean)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.note_table(regclass)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.obstacles_to_search(text,boolean)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for'),
    ('fieldcrypt.older_snapshots(xid8)', 'stable restricted strict sql search_path=pg_catalog, pg_temp -> SETOF text for'),
    ('fieldcrypt.older_statements(timestamp with time zone)', 'stable restricted strict plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.open_job(text,text,text,text,text,text,boolean,text)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.open_retired(text,jsonb,fieldcrypt.encrypted_jsonb,text,text,integer)', 'stable safe null c -> SETOF record for PUBLIC'),
    ('fieldcrypt.open_retired(text,jsonb,text,text)', 'stable safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.ordered_privileges(text[])', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> text[] for'),
    ('fieldcrypt.overwrite_wal(integer)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for fieldcrypt_admin'),
    ('fieldcrypt.owners_of_job(text)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> SETOF oid for'),
    ('fieldcrypt.path_ending_in(text)', 'stable safe strict definer sql search_path=pg_catalog, pg_temp -> text for fieldcrypt_admin'),
    ('fieldcrypt.pause_job(text)', 'volatile unsafe null c -> void for PUBLIC'),
    ('fieldcrypt.pieces_of_template(text)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> TABLE(place bigint, literal text, column_name name) for fieldcrypt_admin'),
    ('fieldcrypt.places_left(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> TABLE(relation regclass, column_name name, document text) for'),
    ('fieldcrypt.places_of_field(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> TABLE(relation regclass, column_name name, document text) for'),
    ('fieldcrypt.places_of_values()', 'stable restricted null sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.places_that_differ(fieldcrypt.job,regclass,text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.plain_type_of(oid)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> regtype for PUBLIC'),
    ('fieldcrypt.plan_alter_field(text)', 'stable safe strict definer sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_adopt_column(regclass,name,name,text,text,text[],text,text,name,text,regtype)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_adopt_existing(text,text[],text,text,text[],text,text,text)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_adoption(text,text,bigint,text,regtype)', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_beside(regclass,name,text,name)', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_column(regclass,name)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_documents_to_adopt(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_existing(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_reencrypt_column(regclass,name)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_reencrypt_existing(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.plan_rotate_index_key(boolean)', 'stable restricted strict definer sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_key_admin'),
    ('fieldcrypt.plan_table(regclass)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF fieldcrypt.finding for fieldcrypt_admin'),
    ('fieldcrypt.prepare_job(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.protect_jsonb(regclass,name,text,name,name,name)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.protect_path(text,text[],text,text,text,text)', 'volatile unsafe null c -> void for PUBLIC'),
    ('fieldcrypt.protect_table(regclass,name,text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.reencrypt(jsonb)', 'volatile safe strict c -> jsonb for PUBLIC'),
    ('fieldcrypt.reencrypt_column(regclass,name,integer,integer)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.reencrypt_existing(text,integer,integer,text)', 'volatile unsafe null plpgsql -> for PUBLIC'),
    ('fieldcrypt.reencrypt_field(text,integer,integer)', 'volatile unsafe null plpgsql -> for fieldcrypt_admin'),
    ('fieldcrypt.reencrypts(fieldcrypt.job)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for'),
    ('fieldcrypt.remnants(regclass)', 'volatile unsafe null c -> SETOF fieldcrypt.finding for fieldcrypt_admin fieldcrypt_auditor'),
    ('fieldcrypt.report_job(text,timestamp with time zone)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> timestamp with time zone for PUBLIC'),
    ('fieldcrypt.rest_after(timestamp with time zone,integer,integer,boolean)', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.require_successor(fieldcrypt.job)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for'),
    ('fieldcrypt.reveal(jsonb)', 'stable safe strict c -> jsonb for PUBLIC'),
    ('fieldcrypt.reveal(jsonb,fieldcrypt.encrypted_jsonb)', 'stable safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.reveal(jsonb,fieldcrypt.encrypted_jsonb,text)', 'stable safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.reveal(jsonb,text)', 'stable safe strict c -> jsonb for PUBLIC'),
    ('fieldcrypt.revoke_access(text,text[],text,text)', 'volatile unsafe null c -> void for fieldcrypt_grantor'),
    ('fieldcrypt.rewrite_table(regclass)', 'volatile unsafe strict c -> boolean for fieldcrypt_admin'),
    ('fieldcrypt.role_memberships()', 'stable safe null sql search_path=pg_catalog, pg_temp -> SETOF record for'),
    ('fieldcrypt.roots_of_job(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF regclass for'),
    ('fieldcrypt.rotations()', 'stable safe strict sql search_path=pg_catalog, pg_temp -> bigint for'),
    ('fieldcrypt.rows_of_job(fieldcrypt.job,regclass)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.run_as_owner(regclass,text,boolean)', 'volatile unsafe strict c -> bigint for'),
    ('fieldcrypt.run_job(text,integer,integer)', 'volatile unsafe null plpgsql -> for PUBLIC'),
    ('fieldcrypt.root_keys()', 'volatile unsafe null definer sql search_path=pg_catalog, pg_temp -> SETOF record for fieldcrypt_admin fieldcrypt_auditor fieldcrypt_key_admin'),
    ('fieldcrypt.rotate_account_key(text)', 'volatile unsafe null c -> bigint for fieldcrypt_key_admin'),
    ('fieldcrypt.rotate_index_key(text,boolean)', 'volatile unsafe null c -> bigint for fieldcrypt_key_admin'),
    ('fieldcrypt.rotate_due()', 'volatile unsafe null plpgsql -> for fieldcrypt_key_admin'),
    ('fieldcrypt.rotate_root()', 'volatile unsafe null c -> bigint for fieldcrypt_key_admin'),
    ('fieldcrypt.seal_document()', 'volatile unsafe null c -> trigger for PUBLIC'),
    ('fieldcrypt.seal_existing(text,jsonb,fieldcrypt.encrypted_jsonb,text,text,integer)', 'volatile safe null c -> SETOF record for PUBLIC'),
    ('fieldcrypt.seal_existing(text,jsonb,text,text)', 'volatile safe null c -> jsonb for PUBLIC'),
    ('fieldcrypt.search_tokens(text,text,text)', 'stable safe null c -> bigint[] for PUBLIC'),
    ('fieldcrypt.search_tokens_in_transit(text,fieldcrypt.encrypted_text,text)', 'stable safe null c -> bigint[] for PUBLIC'),
    ('fieldcrypt.set_account_root(text,text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.set_actor(text,text,text,text)', 'volatile unsafe null c -> void for PUBLIC'),
    ('fieldcrypt.set_adoption(text,text,text,text[],text,text,text,text,text,text[])', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.set_rotation(text,interval)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.shape_of_view(regclass)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp plan_cache_mode=force_generic_plan -> record for PUBLIC'),
    ('fieldcrypt.start_job(text,text,text,text,text,text,boolean,text)', 'volatile unsafe null c -> void for PUBLIC'),
    ('fieldcrypt.state_of_document(text,jsonb,text,text,boolean)', 'stable safe null c -> text for PUBLIC'),
    ('fieldcrypt.statement_to_encrypt(regclass,name,name,text)', 'stable safe null sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.statement_to_revoke(oid,text[],text,text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.statements_to_leave(oid,oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.statements_to_move(regclass,name,name,text,text,text[])', 'stable safe null sql search_path=pg_catalog, pg_temp -> text for'),
    ('fieldcrypt.step_job(text,integer,boolean)', 'volatile unsafe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.successor_of(name)', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> name for'),
    ('fieldcrypt.tables_of_job(text)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> SETOF regclass for'),
    ('fieldcrypt.tables_of_remnant(text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF regclass for'),
    ('fieldcrypt.stored_type(regclass,name)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> regtype for'),
    ('fieldcrypt.terms_of(fieldcrypt.job)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> jsonb for'),
    ('fieldcrypt.text_of_template(text)', 'stable safe null plpgsql search_path=pg_catalog, pg_temp -> text for fieldcrypt_admin'),
    ('fieldcrypt.token(jsonb,text,text)', 'immutable safe strict c -> bytea for PUBLIC'),
    ('fieldcrypt.tokens(jsonb)', 'immutable safe strict c -> bigint[] for PUBLIC'),
    ('fieldcrypt.trigger_arguments(bytea)', 'stable safe strict plpgsql search_path=pg_catalog, pg_temp -> text[] for PUBLIC'),
    ('fieldcrypt.unprotect_jsonb(regclass,name)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.unprotect_path(text,text[],text,text)', 'volatile unsafe null c -> void for PUBLIC'),
    ('fieldcrypt.unprotect_table(regclass)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.update_through_view()', 'volatile unsafe null plpgsql -> trigger for PUBLIC'),
    ('fieldcrypt.uses_of_field(integer)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF text for fieldcrypt_admin'),
    ('fieldcrypt.verify_audit(text)', 'volatile unsafe null sql search_path=pg_catalog, pg_temp -> TABLE(ok boolean, first_seq bigint, last_seq bigint, finding text) for fieldcrypt_auditor'),
    ('fieldcrypt.write_both()', 'volatile unsafe null c -> trigger for PUBLIC');
CREATE TEMP VIEW actual_function AS
    SELECT p.oid::regprocedure::text AS name, concat_ws(' ',
        CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
        CASE proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
        CASE WHEN proisstrict THEN 'strict' ELSE 'null' END,
        CASE WHEN prosecdef THEN 'definer' END, lanname, array_to_string(proconfig, ' '),
        '->', pg_get_function_result(p.oid), 'for',
        (SELECT string_agg(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, ' ' ORDER BY grantee::regrole::text COLLATE "C")
         FROM aclexplode(COALESCE(proacl, acldefault('f', proowner))) WHERE grantee <> proowner)) AS properties,
        prosqlbody IS NOT NULL AND NOT prosecdef AS parsed
    FROM member JOIN pg_proc AS p ON p.oid = objid JOIN pg_language AS l ON l.oid = prolang
    WHERE classid = 'pg_proc'::regclass;
CREATE TEMP VIEW actual AS
    SELECT 'function' AS kind, name, properties FROM actual_function
    UNION ALL SELECT 'arguments', proname, pg_get_function_arguments(oid)
    FROM member JOIN pg_proc ON oid = objid
    WHERE classid = 'pg_proc'::regclass AND proargnames IS NOT NULL AND NOT 'internal'::regtype = ANY (proargtypes)
    UNION ALL SELECT 'type', oid::regtype::text, concat_ws(' ', typlen, typstorage, typalign, typcategory, typinput::regproc, typoutput::regproc,
        typreceive::regproc, typsend::regproc, typmodin::regproc, typmodout::regproc, typanalyze::regproc)
    FROM member JOIN pg_type ON oid = objid WHERE classid = 'pg_type'::regclass AND typtype = 'b' AND typelem = 0
    UNION ALL SELECT 'cast', concat(castsource::regtype, ' -> ', casttarget::regtype), concat_ws(' ', castcontext, castmethod, castfunc::regprocedure)
    FROM member JOIN pg_cast ON oid = objid WHERE classid = 'pg_cast'::regclass
    UNION ALL SELECT 'operator', oid::regoperator::text, concat_ws(' ', oprcode, CASE WHEN oprcanmerge THEN 'merges' END, CASE WHEN oprcanhash THEN 'hashes' END,
        NULLIF(oprcom, 0)::regoperator, NULLIF(oprnegate, 0)::regoperator, oprrest, oprjoin)
    FROM member JOIN pg_operator ON oid = objid WHERE classid = 'pg_operator'::regclass
    UNION ALL SELECT 'operator class', concat_ws(' ', amname, opcname, opcintype::regtype), concat(CASE WHEN opcdefault THEN 'default ' END,
        (SELECT string_agg(concat(amopstrategy, ' ', amopopr::regoperator), ', ' ORDER BY amopstrategy) FROM pg_amop WHERE amopfamily = opcfamily), '; ',
        (SELECT string_agg(concat(amprocnum, ' ', amproc::regprocedure), ', ' ORDER BY amprocnum) FROM pg_amproc WHERE amprocfamily = opcfamily))
    FROM member JOIN pg_opclass AS c ON c.oid = objid JOIN pg_am AS am ON am.oid = opcmethod WHERE classid = 'pg_opclass'::regclass;
CREATE TEMP VIEW expected AS SELECT * FROM of_family UNION ALL SELECT 'function', * FROM expected_function;
SELECT 'not expected', * FROM (SELECT * FROM actual WHERE kind <> 'arguments' EXCEPT ALL SELECT * FROM expected) AS f ORDER BY kind, name COLLATE "C";
SELECT 'missing', * FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM actual) AS f ORDER BY kind, name COLLATE "C";
-- The family is the nine types, each with as much as the others.
SELECT (SELECT array_agg(ROW(encrypted::text, plain::text)::text) FROM fieldcrypt.encrypted_types())
    = (SELECT array_agg(ROW('fieldcrypt.' || name, plain)::text) FROM family);
SELECT count(*) FROM each;

-- The arguments of what users call and is not of the family, with names and defaults.
SELECT concat(name, '(', properties, ')') FROM (SELECT * FROM actual WHERE kind = 'arguments' EXCEPT ALL SELECT * FROM expected) AS f
ORDER BY name COLLATE "C", properties COLLATE "C";

-- Rules that hold for all of them.
-- A function with the definer's rights, or one that runs SQL, pins its search path. SQL that was parsed when the function was made
-- has its names resolved; it pins nothing where the planner shall put its body in place of it.
SELECT name FROM actual_function WHERE properties LIKE '% definer %' AND properties NOT LIKE '% search_path=pg_catalog, pg_temp %';
SELECT name FROM actual_function WHERE properties ~ ' (sql|plpgsql) ' AND properties NOT LIKE '% search_path=pg_catalog, pg_temp %' AND NOT parsed
    -- they write to the user's table, whose own triggers and defaults run in the user's search path; what they say is all qualified
    AND name NOT IN ('fieldcrypt.insert_through_view()', 'fieldcrypt.update_through_view()')
    -- procedures that commit can have no settings; what they say is all qualified, too
    AND name !~ '^fieldcrypt\.(run_job|clean_remnants|(encrypt|decrypt|reencrypt|adopt)_(existing|column|field))\(';
-- Those that pin nothing are single expressions.
SELECT name FROM actual_function WHERE properties ~ ' sql -> ' AND pg_get_functiondef(name::regprocedure) !~ '\nRETURN ';
-- Key bytes go neither in nor out: bytea is only the result of blind_index, token and send functions, the plain value of encrypted_bytea, and
-- what other software has stored, with its iv.
SELECT name FROM (SELECT name, replace(concat(name, ' ', properties), 'encrypted_bytea', '') AS line FROM actual_function) AS f WHERE line LIKE '%bytea%'
    AND name !~ '^fieldcrypt\.(blind_index\(text,|token\((fieldcrypt\.encrypted_\w+|jsonb),text|encrypted_\w+_send\(fieldcrypt\.encrypted_\w+\))'
    AND name !~ '^fieldcrypt\.(encrypt\(bytea,text,text|(decrypt|reveal)\(fieldcrypt\.encrypted_bytea(\[\]|,text|,"any")?|probe\(bytea(\[\])?,integer|encrypted_bytea_from\(bytea,integer,boolean)\)'
    AND name <> 'fieldcrypt.trigger_arguments(bytea)'
    AND name !~ '^fieldcrypt\.adopt(_check|_document|_(bytea|bigint|numeric|date|timestamptz|boolean|uuid|jsonb))?\((bytea|text),|^fieldcrypt\.adopt_stored\(text,(bytea|text),|^fieldcrypt\.adopt_check_column\('
    AND name !~ '^fieldcrypt\.encrypted_(eq|ne)\((fieldcrypt\.encrypted_bytea,bytea|bytea,fieldcrypt\.encrypted_bytea)\)';
-- What uses a key, a right or a setting is not IMMUTABLE.
SELECT name FROM actual_function WHERE properties LIKE 'immutable%'
    AND name !~ '^fieldcrypt\.(encrypted_(lt|le|gt|ge|cmp)\((fieldcrypt\.encrypted_\w+),\3\)|encrypted_hash|encrypted_\w+_(out|send)\(|key_of\(|tokens?\(|(ordered_privileges|field_matches|last_key|successor_of|name_of_document|document_of_job)\(|audit_(time|microseconds)\()';
-- What draws a nonce is VOLATILE, but for the length coercion (STABLE: Citus refuses VOLATILE in UPDATE).
SELECT name FROM actual_function WHERE name ~ '^fieldcrypt\.(encrypt|encrypted_(?!typmod_)\w+_(in|recv|from))\(' AND properties NOT LIKE 'volatile%';
-- What writes the catalog is not parallel safe.
SELECT name FROM actual_function WHERE name ~ '\.(create|alter|drop|enable|disable|grant|revoke|protect|unprotect)_' AND properties !~ '^volatile unsafe';
-- Nothing is owned by anybody but the extension's owner, and nobody else can pass a right on.
SELECT count(*) FROM member JOIN pg_proc ON pg_proc.oid = objid CROSS JOIN aclexplode(proacl) WHERE classid = 'pg_proc'::regclass AND is_grantable AND grantee <> proowner;
SELECT count(DISTINCT proowner) FROM member JOIN pg_proc ON pg_proc.oid = objid WHERE classid = 'pg_proc'::regclass;

-- Tables, views, sequences: who may do what.
SELECT c.relkind, c.relname, COALESCE((SELECT string_agg(concat(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, '=', lower(privilege_type)), ' '
        ORDER BY grantee::regrole::text COLLATE "C", privilege_type) FROM aclexplode(relacl) WHERE grantee <> relowner), 'nobody')
FROM member JOIN pg_class AS c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'p', 'v', 'm', 'S')
ORDER BY relkind, relname COLLATE "C";
-- Their columns.
SELECT c.relname, string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END), ', ' ORDER BY attnum)
FROM member JOIN pg_class AS c ON c.oid = objid JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'p', 'v', 'm') GROUP BY relname ORDER BY relname COLLATE "C";
-- Bytes of keys stand in two tables, seals of the audit in three, and none in a view.
SELECT c.relname, attname FROM member JOIN pg_class AS c ON c.oid = objid JOIN pg_attribute ON attrelid = c.oid
WHERE classid = 'pg_class'::regclass AND atttypid = 'bytea'::regtype AND relkind <> 'i' ORDER BY relname COLLATE "C", attnum;
-- A dump takes every table along, but for the audit, which is this server's.
SELECT c.relname FROM member JOIN pg_class AS c ON c.oid = objid, pg_extension AS e
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'p', 'S') AND extname = 'fieldcrypt' AND NOT c.oid = ANY (extconfig) ORDER BY c.relname COLLATE "C";
-- Every table tells other sessions of a change, but for those that no session caches.
SELECT c.relname FROM member JOIN pg_class AS c ON c.oid = objid
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'tell_sessions' AND tgenabled = 'A') ORDER BY relname COLLATE "C";
-- Every commutator and negator is a member too, and no shell.
SELECT count(*) FROM member JOIN pg_operator AS o ON o.oid = objid WHERE classid = 'pg_operator'::regclass AND (oprcode = 0
    OR oprcom <> 0 AND oprcom NOT IN (SELECT objid FROM member) OR oprnegate <> 0 AND oprnegate NOT IN (SELECT objid FROM member));
-- Event triggers.
SELECT evtname, evtevent, evtfoid::regproc, evtenabled, array_length(evttags, 1) FROM pg_event_trigger WHERE oid IN (SELECT objid FROM member WHERE classid = 'pg_event_trigger'::regclass);
SELECT tag FROM pg_event_trigger, unnest(evttags) AS tag WHERE evtname = 'fieldcrypt_check_definition' ORDER BY tag COLLATE "C";
-- Roles, with no attribute and no membership of their own.
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
    (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) AS member_of
FROM pg_roles AS r WHERE rolname LIKE 'fieldcrypt\_%' ORDER BY rolname COLLATE "C";
-- The schema: nobody but its owner creates in it.
SELECT grantee = 0 AS public, lower(privilege_type) FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'fieldcrypt' AND grantee <> nspowner;
SELECT test.refused('SET LOCAL ROLE regress_app; CREATE TABLE fieldcrypt.t ()');
-- Settings: who may set them.
SELECT name, context, vartype, boot_val, COALESCE(unit, '') FROM pg_settings WHERE name LIKE 'fieldcrypt.%' ORDER BY name COLLATE "C";
SET fieldcrypt.no_such_setting = 1;

-- Everything has a comment. These have none:
SELECT i.type, i.identity FROM member, pg_identify_object(classid, objid, objsubid) AS i
WHERE pg_describe_object(classid, objid, objsubid) IS NOT NULL
    AND obj_description(objid, classid::regclass::name) IS NULL
    -- array types and row types cannot be commented on apart
    AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type AS t WHERE t.oid = objid AND (t.typelem <> 0 AND t.typlen = -1 OR t.typrelid <> 0)))
    AND NOT (classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = objid AND c.relkind = 'i'))
ORDER BY i.type COLLATE "C", i.identity COLLATE "C";
SELECT c.relname, attname FROM member JOIN pg_class AS c ON c.oid = objid JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'p', 'v', 'm') AND col_description(c.oid, attnum) IS NULL ORDER BY relname COLLATE "C", attnum;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass) AND NOT tgisinternal AND obj_description(oid, 'pg_trigger') IS NULL;
SELECT count(*) FROM pg_extension WHERE extname = 'fieldcrypt' AND obj_description(oid, 'pg_extension') IS NULL;
-- No comment shouts, and none is a placeholder.
SELECT description FROM pg_description WHERE (classoid, objoid) IN (SELECT classid, objid FROM member) AND (description ~ '^[A-Z][a-z]' OR description ~* 'todo|fixme' OR description = '');

-- Under an empty search path the comparisons are found, and the type's name is whole.
SET search_path = '';
SELECT o.oprname FROM pg_catalog.pg_operator AS o
WHERE pg_catalog.pg_operator_is_visible(o.oid) AND o.oprleft = 'fieldcrypt.encrypted_text'::pg_catalog.regtype AND o.oprright = o.oprleft
ORDER BY 1;
SET ROLE regress_app;
SELECT fieldcrypt.encrypt('1', 'person.ssn', 'acme') = fieldcrypt.encrypt('-1-', 'person.ssn', 'acme'), fieldcrypt.encrypt('1', 'person.ssn', 'acme') <> fieldcrypt.encrypt('2', 'person.ssn', 'acme');
RESET ROLE;
RESET search_path;

-- The extension goes and comes; what was made of it goes with CASCADE, and nothing of it is left.
CREATE DATABASE regress_other;
\c regress_other
CREATE EXTENSION fieldcrypt;
SET client_min_messages = error; -- of the unknown field
CREATE TABLE t (a fieldcrypt.encrypted_text('x.y'));
RESET client_min_messages;
DROP EXTENSION fieldcrypt;
\set VERBOSITY terse
DROP EXTENSION fieldcrypt CASCADE;
SELECT count(*) FROM pg_proc WHERE probin LIKE '%fieldcrypt%';
SELECT count(*) FROM pg_operator WHERE oid >= 16384;
SELECT count(*) FROM pg_event_trigger;
-- The schema stays, as PostgreSQL does it for a schema that the control file names; so do the roles.
SELECT nspname FROM pg_namespace WHERE nspname = 'fieldcrypt';
SELECT count(*) FROM pg_roles WHERE rolname LIKE 'fieldcrypt\_%';
-- The library stays loaded, and does no harm where the extension is not.
SELECT count(*) FROM t;
SELECT 1 WHERE 'a' IN ('a', 'b') AND NULLIF(1, 2) IS DISTINCT FROM 3;
CREATE EXTENSION fieldcrypt;
SELECT extversion FROM pg_extension WHERE extname = 'fieldcrypt';
-- It cannot be moved to another schema, and a schema that another role has made is no place for it.
ALTER EXTENSION fieldcrypt SET SCHEMA public;
DROP EXTENSION fieldcrypt;
ALTER SCHEMA fieldcrypt OWNER TO regress_app;
CREATE EXTENSION fieldcrypt;
DROP SCHEMA fieldcrypt;
SET ROLE regress_app;
CREATE EXTENSION fieldcrypt;
RESET ROLE;
\c regress
DROP DATABASE regress_other;
