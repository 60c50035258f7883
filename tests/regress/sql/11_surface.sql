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
        AND NOT (classid = 'pg_type'::regclass AND objid IN (SELECT oid FROM pg_type WHERE typelem <> 0 OR typrelid <> 0));

-- What there is, by kind. The rest of this file says it one by one.
SELECT i.type, count(*) FROM member, pg_identify_object(classid, objid, objsubid) AS i GROUP BY i.type ORDER BY i.type COLLATE "C";

-- Functions: volatility, parallel safety, NULL input, rights, language, settings, result, who may call.
CREATE TEMP TABLE expected_function (name text, properties text);
INSERT INTO expected_function VALUES
    ('fieldcrypt.account_of(fieldcrypt.encrypted_text)', 'stable safe strict c -> text for PUBLIC'),
    ('fieldcrypt.alter_field(text,text,text,text,text,text)', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.blind_index(text,text,text)', 'stable safe null c -> bytea for PUBLIC'),
    ('fieldcrypt.can(text,text,text,text)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> record for PUBLIC'),
    ('fieldcrypt.can_reason(text,text,text,text)', 'stable safe strict c -> text for PUBLIC'),
    ('fieldcrypt.catalog_changed()', 'volatile unsafe null c -> trigger for'),
    ('fieldcrypt.check_columns(regclass)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.check_definition()', 'volatile unsafe null plpgsql search_path=pg_catalog, pg_temp -> event_trigger for PUBLIC'),
    ('fieldcrypt.check_type(regtype)', 'stable unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.create_account(text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.create_field(text,text[],text,text,text,text,text,text)', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.decrypt(fieldcrypt.encrypted_text)', 'stable safe strict c -> text for PUBLIC'),
    ('fieldcrypt.disable_account(text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.drop_field(text)', 'volatile unsafe null c -> void for fieldcrypt_admin'),
    ('fieldcrypt.enable_account(text)', 'volatile unsafe null c -> void for fieldcrypt_key_admin'),
    ('fieldcrypt.encrypt(text,text,text)', 'volatile safe null c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_cmp(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'immutable safe strict c -> integer for PUBLIC'),
    ('fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_eq(fieldcrypt.encrypted_text,text)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_eq(text,fieldcrypt.encrypted_text)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_eqsel(internal,oid,internal,integer)', 'stable safe strict c -> double precision for PUBLIC'),
    ('fieldcrypt.encrypted_ge(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'immutable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_gt(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'immutable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_hash(fieldcrypt.encrypted_text)', 'immutable safe strict c -> integer for PUBLIC'),
    ('fieldcrypt.encrypted_hash_extended(fieldcrypt.encrypted_text,bigint)', 'immutable safe strict c -> bigint for PUBLIC'),
    ('fieldcrypt.encrypted_le(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'immutable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_lt(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'immutable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text,fieldcrypt.encrypted_text)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_ne(fieldcrypt.encrypted_text,text)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_ne(text,fieldcrypt.encrypted_text)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_neqsel(internal,oid,internal,integer)', 'stable safe strict c -> double precision for PUBLIC'),
    ('fieldcrypt.encrypted_support(internal)', 'stable safe strict c -> internal for PUBLIC'),
    ('fieldcrypt.encrypted_text_coerce(fieldcrypt.encrypted_text,integer,boolean)', 'stable safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_from_text(character varying,integer,boolean)', 'volatile safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_from_text(character,integer,boolean)', 'volatile safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_from_text(name,integer,boolean)', 'volatile safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_from_text(text,integer,boolean)', 'volatile safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_in(cstring,oid,integer)', 'volatile safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_out(fieldcrypt.encrypted_text)', 'immutable safe strict c -> cstring for PUBLIC'),
    ('fieldcrypt.encrypted_text_recv(internal,oid,integer)', 'volatile safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.encrypted_text_send(fieldcrypt.encrypted_text)', 'immutable safe strict c -> bytea for PUBLIC'),
    ('fieldcrypt.encrypted_typanalyze(internal)', 'stable safe strict c -> boolean for PUBLIC'),
    ('fieldcrypt.encrypted_typmod_in(cstring[])', 'stable safe strict c -> integer for PUBLIC'),
    ('fieldcrypt.encrypted_typmod_out(integer)', 'stable safe strict c -> cstring for PUBLIC'),
    ('fieldcrypt.field_of(fieldcrypt.encrypted_text)', 'stable safe strict c -> text for PUBLIC'),
    ('fieldcrypt.grant_access(text,text[],text,text)', 'volatile unsafe null c -> void for fieldcrypt_grantor'),
    ('fieldcrypt.handle_of(oid,integer)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> integer for PUBLIC'),
    ('fieldcrypt.has_unique_column(integer)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.hold_account()', 'volatile unsafe null c -> trigger for PUBLIC'),
    ('fieldcrypt.holds_encrypted(oid)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> text for PUBLIC'),
    ('fieldcrypt.is_literal(pg_node_tree)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> boolean for PUBLIC'),
    ('fieldcrypt.key_of(fieldcrypt.encrypted_text)', 'immutable safe strict c -> bigint for PUBLIC'),
    ('fieldcrypt.ordered_privileges(text[])', 'immutable safe strict sql search_path=pg_catalog, pg_temp -> text[] for'),
    ('fieldcrypt.probe(fieldcrypt.encrypted_text,integer)', 'stable safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.probe(fieldcrypt.encrypted_text[],integer)', 'stable safe strict c -> fieldcrypt.encrypted_text[] for PUBLIC'),
    ('fieldcrypt.probe(text,integer)', 'stable safe strict c -> fieldcrypt.encrypted_text for PUBLIC'),
    ('fieldcrypt.probe(text[],integer)', 'stable safe strict c -> fieldcrypt.encrypted_text[] for PUBLIC'),
    ('fieldcrypt.protect_table(regclass,name,text)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.reveal(fieldcrypt.encrypted_text)', 'stable safe strict c -> text for PUBLIC'),
    ('fieldcrypt.revoke_access(text,text[],text,text)', 'volatile unsafe null c -> void for fieldcrypt_grantor'),
    ('fieldcrypt.unprotect_table(regclass)', 'volatile unsafe strict plpgsql search_path=pg_catalog, pg_temp -> void for PUBLIC'),
    ('fieldcrypt.uses_of_field(integer)', 'stable safe strict sql search_path=pg_catalog, pg_temp -> SETOF text for fieldcrypt_admin');
CREATE TEMP VIEW actual_function AS
    SELECT p.oid::regprocedure::text AS name, concat_ws(' ',
        CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
        CASE proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
        CASE WHEN proisstrict THEN 'strict' ELSE 'null' END,
        CASE WHEN prosecdef THEN 'definer' END, lanname, array_to_string(proconfig, ' '),
        '->', pg_get_function_result(p.oid), 'for',
        (SELECT string_agg(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, ' ' ORDER BY grantee::regrole::text COLLATE "C")
         FROM aclexplode(COALESCE(proacl, acldefault('f', proowner))) WHERE grantee <> proowner)) AS properties
    FROM member JOIN pg_proc AS p ON p.oid = objid JOIN pg_language AS l ON l.oid = prolang
    WHERE classid = 'pg_proc'::regclass;
SELECT 'not expected', * FROM (SELECT * FROM actual_function EXCEPT SELECT * FROM expected_function) AS f ORDER BY name COLLATE "C";
SELECT 'missing', * FROM (SELECT * FROM expected_function EXCEPT SELECT * FROM actual_function) AS f ORDER BY name COLLATE "C";

-- The arguments of what users call, with names and defaults.
SELECT line FROM (SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' AS line
FROM member JOIN pg_proc AS p ON p.oid = objid
WHERE classid = 'pg_proc'::regclass AND proargnames IS NOT NULL AND NOT 'internal'::regtype = ANY (proargtypes)) AS f
ORDER BY line COLLATE "C";

-- Rules that hold for all of them.
-- A function with the definer's rights, or one that runs SQL, pins its search path.
SELECT name FROM actual_function WHERE properties LIKE '% definer %' AND properties NOT LIKE '% search_path=pg_catalog, pg_temp %';
SELECT name FROM actual_function WHERE properties ~ ' (sql|plpgsql) ' AND properties NOT LIKE '% search_path=pg_catalog, pg_temp %';
-- Key bytes go neither in nor out: bytea is only the result of blind_index and of send functions.
SELECT name FROM actual_function WHERE (properties LIKE '%-> bytea %' OR name LIKE '%bytea%') AND name !~ '^fieldcrypt\.(blind_index\(|encrypted_\w+_send\()';
-- What uses a key, a right or a setting is not IMMUTABLE.
SELECT name FROM actual_function WHERE properties LIKE 'immutable%'
    AND name !~ '^fieldcrypt\.(encrypted_(eq|ne|lt|le|gt|ge|cmp)\(fieldcrypt\.encrypted_text,fieldcrypt\.encrypted_text\)|encrypted_hash|encrypted_text_(out|send)\(|key_of\(|ordered_privileges\()';
-- What draws a nonce is VOLATILE, but for the length coercion (STABLE: Citus refuses VOLATILE in UPDATE).
SELECT name FROM actual_function WHERE name ~ '^fieldcrypt\.(encrypt|encrypted_text_(in|recv|from_text))\(' AND properties NOT LIKE 'volatile%';
-- What writes the catalog is not parallel safe.
SELECT name FROM actual_function WHERE name ~ '\.(create|alter|drop|enable|disable|grant|revoke|protect|unprotect)_' AND properties !~ '^volatile unsafe';
-- Nothing is owned by anybody but the extension's owner, and nobody else can pass a right on.
SELECT count(*) FROM member JOIN pg_proc ON pg_proc.oid = objid CROSS JOIN aclexplode(proacl) WHERE classid = 'pg_proc'::regclass AND is_grantable AND grantee <> proowner;
SELECT count(DISTINCT proowner) FROM member JOIN pg_proc ON pg_proc.oid = objid WHERE classid = 'pg_proc'::regclass;

-- Tables, views, sequences: who may do what.
SELECT c.relkind, c.relname, COALESCE((SELECT string_agg(concat(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, '=', lower(privilege_type)), ' '
        ORDER BY grantee::regrole::text COLLATE "C", privilege_type) FROM aclexplode(relacl) WHERE grantee <> relowner), 'nobody')
FROM member JOIN pg_class AS c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'v', 'm', 'S')
ORDER BY relkind, relname COLLATE "C";
-- Their columns.
SELECT c.relname, string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END), ', ' ORDER BY attnum)
FROM member JOIN pg_class AS c ON c.oid = objid JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'v', 'm') GROUP BY relname ORDER BY relname COLLATE "C";
-- Bytes of keys stand in two tables, and in no view.
SELECT c.relname, attname FROM member JOIN pg_class AS c ON c.oid = objid JOIN pg_attribute ON attrelid = c.oid
WHERE classid = 'pg_class'::regclass AND atttypid = 'bytea'::regtype AND relkind <> 'i' ORDER BY relname COLLATE "C", attnum;
-- A dump takes every table along.
SELECT c.relname FROM member JOIN pg_class AS c ON c.oid = objid, pg_extension AS e
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'S') AND extname = 'fieldcrypt' AND NOT c.oid = ANY (extconfig);
-- Every table tells other sessions of a change, but for the ledger of key use, which no session caches.
SELECT c.relname FROM member JOIN pg_class AS c ON c.oid = objid
WHERE classid = 'pg_class'::regclass AND relkind = 'r' AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'tell_sessions' AND tgenabled = 'A') ORDER BY relname COLLATE "C";
-- Types, with what makes them.
SELECT t.oid::regtype, typlen, typstorage, typalign, typinput::regproc, typoutput::regproc, typreceive::regproc, typsend::regproc, typmodin::regproc, typmodout::regproc, typanalyze::regproc, typcategory
FROM member JOIN pg_type AS t ON t.oid = objid WHERE classid = 'pg_type'::regclass AND typtype = 'b' AND typelem = 0 ORDER BY 1;
-- Casts.
SELECT castsource::regtype, casttarget::regtype, castfunc::regprocedure, castcontext, castmethod FROM member JOIN pg_cast AS c ON c.oid = objid
WHERE classid = 'pg_cast'::regclass ORDER BY castsource::regtype::text COLLATE "C";
-- Operators: the only ones in pg_catalog are = and <>.
SELECT o.oprnamespace::regnamespace, o.oprname, o.oprleft::regtype, o.oprright::regtype, o.oprcode, CASE WHEN oprcanmerge THEN 'merges' END, CASE WHEN oprcanhash THEN 'hashes' END,
    (SELECT concat(c.oprname, '(', c.oprleft::regtype, ',', c.oprright::regtype, ')') FROM pg_operator AS c WHERE c.oid = o.oprcom) AS commutator,
    (SELECT concat(c.oprname, '(', c.oprleft::regtype, ',', c.oprright::regtype, ')') FROM pg_operator AS c WHERE c.oid = o.oprnegate) AS negator, o.oprrest, o.oprjoin
FROM member JOIN pg_operator AS o ON o.oid = objid WHERE classid = 'pg_operator'::regclass
ORDER BY o.oprnamespace::regnamespace::text COLLATE "C", o.oprname COLLATE "C", o.oprleft::regtype::text COLLATE "C", o.oprright::regtype::text COLLATE "C";
-- Every commutator and negator is a member too, and no shell.
SELECT count(*) FROM member JOIN pg_operator AS o ON o.oid = objid WHERE classid = 'pg_operator'::regclass AND (oprcode = 0
    OR oprcom <> 0 AND oprcom NOT IN (SELECT objid FROM member) OR oprnegate <> 0 AND oprnegate NOT IN (SELECT objid FROM member));
-- Operator classes.
SELECT am.amname, c.opcname, c.opcintype::regtype, c.opcdefault,
    (SELECT string_agg(concat(amopstrategy, ' ', amopopr::regoperator), ', ' ORDER BY amopstrategy) FROM pg_amop WHERE amopfamily = c.opcfamily),
    (SELECT string_agg(concat(amprocnum, ' ', amproc), ', ' ORDER BY amprocnum) FROM pg_amproc WHERE amprocfamily = c.opcfamily)
FROM member JOIN pg_opclass AS c ON c.oid = objid JOIN pg_am AS am ON am.oid = opcmethod WHERE classid = 'pg_opclass'::regclass ORDER BY amname COLLATE "C";
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
WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'v', 'm') AND col_description(c.oid, attnum) IS NULL ORDER BY relname COLLATE "C", attnum;
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
