-- How values get into an encrypted column, and what comes out.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE io (id int PRIMARY KEY, ssn fieldcrypt.encrypted_text('person.ssn'), note fieldcrypt.encrypted_text('person.note'));

-- Literals, casts and parameters.
INSERT INTO io VALUES (1, '123-45-6789', 'literal');
INSERT INTO io VALUES (2, '123-45-6789'::fieldcrypt.encrypted_text, 'cast'::fieldcrypt.encrypted_text);
INSERT INTO io VALUES (3, '123-45-6789'::fieldcrypt.encrypted_text('person.ssn'), CAST('cast with field' AS fieldcrypt.encrypted_text('person.note')));
INSERT INTO io VALUES (4, fieldcrypt.encrypted_text '123-45-6789', 'type literal');
INSERT INTO io VALUES (5, '123-45-6789'::text, 'text'::text);
INSERT INTO io VALUES (6, '123-45-6789'::varchar(20), 'varchar'::varchar);
INSERT INTO io VALUES (7, '123-45-6789'::char(11), 'char'::char(8));
INSERT INTO io VALUES (8, '123-45-6789'::name, 'name'::name);
INSERT INTO io VALUES (9, '{"ssn": "123-45-6789"}'::json ->> 'ssn', '{"note": "jsonb"}'::jsonb ->> 'note');
INSERT INTO io VALUES (10, concat('123', '456789'), upper('expression'));
INSERT INTO io VALUES (11, NULL, NULL), (12, '123-45-6789', NULL), (13, NULL, 'row');
INSERT INTO io VALUES (14, fieldcrypt.encrypt('123-45-6789', 'person.ssn'), fieldcrypt.encrypt('encrypt', 'person.note', 'acme'));
INSERT INTO io (note, id) VALUES ('columns', 15);
INSERT INTO io SELECT 16, '123-45-6789', 'select literal';
INSERT INTO io SELECT 17, '123-45-6789'::text, 'select text';
INSERT INTO io SELECT 18, ssn, note FROM io WHERE id = 1;
WITH made AS (SELECT 19 AS id, '123-45-6789'::text AS ssn, 'cte'::text AS note) INSERT INTO io SELECT * FROM made;
INSERT INTO io VALUES (20, DEFAULT, DEFAULT);
PREPARE put(int, text, text) AS INSERT INTO io VALUES ($1, $2, $3);
EXECUTE put(21, '123-45-6789', 'prepared text');
PREPARE put_typed(int, fieldcrypt.encrypted_text, fieldcrypt.encrypted_text) AS INSERT INTO io VALUES ($1, $2, $3);
EXECUTE put_typed(22, '123-45-6789', 'prepared typed');
PREPARE put_untyped AS INSERT INTO io VALUES ($1, $2, $3);
EXECUTE put_untyped(23, '123-45-6789', 'prepared untyped');
COPY io FROM stdin;
24	123-45-6789	copied
25	\N	\N
\.
COPY io (id, note) FROM stdin WITH (FORMAT csv);
26,"copied, csv"
27,""
\.
INSERT INTO io VALUES (28, '', '');
INSERT INTO io VALUES (29, '１２３４５６７８９', E'Zoë 💶 \u0301 tab\t newline\n end');
INSERT INTO io VALUES (30, repeat('1', 1048576), repeat('x', 1048576));
INSERT INTO io SELECT 31, value, value FROM (VALUES ('123456789'), ('other')) AS v (value) LIMIT 1;
INSERT INTO io (SELECT 32, '123-45-6789', 'union' UNION ALL SELECT 33, '123-45-6789', 'union');
DO $$
DECLARE
    as_text text := '123-45-6789';
    of_type fieldcrypt.encrypted_text := 'transit';
    of_field fieldcrypt.encrypted_text('person.note') := 'of field';
BEGIN
    INSERT INTO io VALUES (34, as_text, of_type);
    INSERT INTO io VALUES (35, as_text, of_field);
    EXECUTE 'INSERT INTO io VALUES ($1, $2, $3)' USING 36, as_text, of_type;
END $$;
SELECT id, left(fieldcrypt.decrypt(ssn), 12), left(fieldcrypt.decrypt(note), 40), length(fieldcrypt.decrypt(note)) FROM io ORDER BY id;
-- All of them are of the column's field and the session's account, and are found.
SELECT count(*) FROM io WHERE ssn IS NOT NULL AND fieldcrypt.field_of(ssn) <> 'person.ssn';
SELECT count(*) FROM io WHERE note IS NOT NULL AND (fieldcrypt.field_of(note), fieldcrypt.account_of(note)) <> ('person.note', 'acme');
SELECT count(*), count(*) FILTER (WHERE ssn = '123 45 6789') FROM io WHERE ssn IS NOT NULL;
-- NULL stays NULL, and the empty text is not NULL.
SELECT id FROM io WHERE ssn IS NULL ORDER BY id;
SELECT id, fieldcrypt.decrypt(note) = '' FROM io WHERE id IN (27, 28) ORDER BY id;
SELECT id FROM io WHERE ssn = '';

-- What comes out is ciphertext: as text, in casts, in rows, in JSON, in COPY.
SELECT count(*) FROM io WHERE ssn::text !~ '^fc1:[A-Za-z0-9_-]+$' OR note::text !~ '^fc1:[A-Za-z0-9_-]+$';
SELECT count(*) FROM io WHERE id <> 30 AND (io::text LIKE '%123-45-6789%' OR to_json(io)::text LIKE '%123-45-6789%' OR ssn::varchar LIKE '%6789%' OR format('%s', note) LIKE '%literal%' OR concat(note) LIKE '%literal%' OR note || '' LIKE '%literal%');
SELECT to_jsonb(io) ->> 'ssn' ~ '^fc1:', row_to_json(io) ->> 'note' ~ '^fc1:', io::text ~ 'fc1:.*fc1:' FROM io WHERE id = 1;
SELECT encode(fieldcrypt.encrypted_text_send(ssn), 'escape') LIKE '%6789%', get_byte(fieldcrypt.encrypted_text_send(ssn), 0) = 252 FROM io WHERE id = 1;
\copy (SELECT note FROM io WHERE id < 10 AND note::text NOT LIKE 'fc1:%') TO stdout
-- A text column that gets it holds ciphertext.
CREATE TABLE plain (note text);
INSERT INTO plain SELECT note FROM io WHERE id = 1;
SELECT note LIKE 'fc1:%' FROM plain;
DROP TABLE plain;
-- Errors show no value.
CREATE TABLE strict (id int, note fieldcrypt.encrypted_text('person.note'), n int CHECK (n > 0));
\set VERBOSITY terse
INSERT INTO strict VALUES (1, 'canary', 0);
\set VERBOSITY default
SELECT test.outcome($$INSERT INTO strict VALUES (1, 'canary', 0) RETURNING id$$) LIKE '%canary%';
DO $$
DECLARE detail text;
BEGIN
    INSERT INTO strict VALUES (1, 'canary', 0);
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RAISE NOTICE 'has a detail: %, shows the value: %', detail <> '', detail LIKE '%canary%';
END $$;
DROP TABLE strict;

-- UPDATE, RETURNING, ON CONFLICT, MERGE.
UPDATE io SET ssn = '987-65-4321', note = 'updated' WHERE id = 1 RETURNING id, fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(note);
UPDATE io SET (ssn, note) = ('987-65-4321', 'row update') WHERE id = 2 RETURNING fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(note);
UPDATE io SET note = src.v FROM (VALUES (3, 'from values')) AS src (id, v) WHERE src.id = io.id RETURNING fieldcrypt.decrypt(note);
UPDATE io SET note = CASE WHEN id = 4 THEN 'case' ELSE 'else' END WHERE id IN (4, 5) RETURNING id, fieldcrypt.decrypt(note);
UPDATE io SET note = COALESCE(note, 'coalesce') WHERE id IN (11, 12) RETURNING id, fieldcrypt.decrypt(note);
UPDATE io SET note = NULL WHERE id = 12 RETURNING note IS NULL;
UPDATE io SET note = DEFAULT WHERE id = 13 RETURNING note IS NULL;
INSERT INTO io VALUES (1, '1', 'conflict') ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note RETURNING fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(note);
INSERT INTO io VALUES (1, '1', 'conflict') ON CONFLICT (id) DO UPDATE SET note = 'conflict literal' RETURNING fieldcrypt.decrypt(note);
INSERT INTO io VALUES (1, '1', 'conflict') ON CONFLICT (id) DO NOTHING RETURNING id;
MERGE INTO io USING (VALUES (2, 'merged'), (40, 'inserted')) AS src (id, v) ON src.id = io.id
    WHEN MATCHED THEN UPDATE SET note = src.v WHEN NOT MATCHED THEN INSERT VALUES (src.id, '123-45-6789', src.v);
MERGE INTO io USING (VALUES (2), (41)) AS src (id) ON src.id = io.id
    WHEN MATCHED THEN UPDATE SET ssn = '111-11-1111' WHEN NOT MATCHED THEN INSERT VALUES (src.id, '111-11-1111', 'literal in merge');
SELECT id, fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(note) FROM io WHERE id IN (2, 40, 41) ORDER BY id;
DELETE FROM io WHERE id = 41 AND ssn = '111 11 1111' RETURNING fieldcrypt.decrypt(note);

-- A literal is sealed anew for every row: a thousand rows, a thousand envelopes.
CREATE TABLE many (id int, ssn fieldcrypt.encrypted_text('person.ssn'), note fieldcrypt.encrypted_text('person.note'));
INSERT INTO many SELECT i, '123-45-6789', 'same' FROM generate_series(1, 1000) AS i;
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
UPDATE many SET ssn = '123-45-6789', note = 'same again';
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
UPDATE many SET note = v FROM (VALUES ('from')) AS s (v);
SELECT count(DISTINCT note::text) FROM many;
PREPARE change(text) AS UPDATE many SET ssn = $1, note = $1;
PREPARE change_typed(fieldcrypt.encrypted_text) AS UPDATE many SET ssn = $1, note = $1;
PREPARE grow(text) AS INSERT INTO many SELECT i, $1, $1 FROM generate_series(1, 1000) AS i;
PREPARE grow_literal AS INSERT INTO many SELECT i, '123-45-6789', 'same' FROM generate_series(1, 1000) AS i;
SET plan_cache_mode = force_generic_plan;
EXECUTE change('123-45-6789');
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
EXECUTE change_typed('123-45-6789');
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
EXECUTE grow('123-45-6789');
EXECUTE grow_literal;
EXECUTE grow_literal;
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
SET plan_cache_mode = force_custom_plan;
EXECUTE change('123-45-6789');
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
EXECUTE change_typed('123-45-6789');
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
TRUNCATE many;
EXECUTE grow('123-45-6789');
EXECUTE grow_literal;
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text), count(DISTINCT ssn) FROM many;
RESET plan_cache_mode;
-- In a loop in PL/pgSQL, and through a function that SQL inlines.
TRUNCATE many;
DO $$ BEGIN FOR i IN 1..1000 LOOP INSERT INTO many VALUES (i, '123-45-6789', 'loop'); END LOOP; END $$;
SELECT count(DISTINCT ssn::text), count(DISTINCT note::text) FROM many;
CREATE FUNCTION constant() RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT '123-45-6789' $$;
UPDATE many SET ssn = constant();
SELECT count(DISTINCT ssn::text) FROM many;
DROP FUNCTION constant();
DROP TABLE many;

-- A default would be one envelope for all rows: refused (07_definitions has more).
CREATE TABLE with_default (note fieldcrypt.encrypted_text('person.note') DEFAULT 'x');
-- A view takes writes.
CREATE VIEW io_view AS SELECT id, ssn, note FROM io;
INSERT INTO io_view VALUES (50, '123-45-6789', 'by view');
UPDATE io_view SET note = 'by view again' WHERE id = 50 AND ssn = '123456789' RETURNING fieldcrypt.decrypt(note);
DROP VIEW io_view;

-- Without an account, or with one that does not exist, nothing is written.
RESET fieldcrypt.account;
INSERT INTO io VALUES (60, '1', 'x');
SET fieldcrypt.account = '';
INSERT INTO io VALUES (60, '1', 'x');
SET fieldcrypt.account = 'missing';
INSERT INTO io VALUES (60, '1', 'x');
SET fieldcrypt.account = '*';
INSERT INTO io VALUES (60, '1', 'x');
SET fieldcrypt.account = '*database*';
INSERT INTO io VALUES (60, '1', 'x');
SET fieldcrypt.account = 'acme';
-- Without encrypt neither.
SET ROLE regress_masked;
SELECT test.outcome($$SELECT fieldcrypt.encrypt('x', 'person.note')$$);
SELECT test.outcome($$SELECT 'x'::fieldcrypt.encrypted_text('person.note')$$);
SELECT test.outcome($$SELECT 'x'::text::fieldcrypt.encrypted_text('person.note')$$);
SET ROLE regress_writer;
SELECT fieldcrypt.account_of('x'::fieldcrypt.encrypted_text('person.note'));
SELECT test.outcome($$SELECT fieldcrypt.decrypt('x'::fieldcrypt.encrypted_text('person.note'))$$);
SET ROLE regress_app;

-- A value keeps its field: into another one it is refused, also by way of a cast.
UPDATE io SET note = ssn WHERE id = 1;
INSERT INTO io SELECT 61, note, ssn FROM io WHERE id = 1;
SELECT test.outcome($$SELECT ssn::fieldcrypt.encrypted_text('person.note') FROM io WHERE id = 1$$);
SELECT fieldcrypt.decrypt(ssn::fieldcrypt.encrypted_text('person.ssn')::fieldcrypt.encrypted_text) FROM io WHERE id = 1;
-- A value in transit can neither be read nor revealed.
SELECT fieldcrypt.decrypt('x'::fieldcrypt.encrypted_text);
SELECT fieldcrypt.reveal('x'::fieldcrypt.encrypted_text);
SELECT fieldcrypt.decrypt('x'::fieldcrypt.encrypted_text);
SELECT fieldcrypt.field_of('x'::fieldcrypt.encrypted_text) IS NULL, fieldcrypt.account_of('x'::fieldcrypt.encrypted_text) IS NULL, fieldcrypt.key_of('x'::fieldcrypt.encrypted_text) > 0;
-- encrypt() takes no half-named field.
SELECT fieldcrypt.encrypt('x', field => 'missing') IS NULL;
SELECT fieldcrypt.encrypt('x', field => 'person.*') IS NULL;
SELECT fieldcrypt.encrypt(NULL, field => 'person.note') IS NULL, fieldcrypt.encrypt('x', field => NULL) IS NULL;
-- blind_index(): 16 bytes, equal for equal normal forms, different between fields and accounts.
SELECT octet_length(fieldcrypt.blind_index('1', 'person.ssn')),
    fieldcrypt.blind_index('1-2', 'person.ssn') = fieldcrypt.blind_index('12', 'person.ssn', 'acme'),
    fieldcrypt.blind_index('1', 'person.ssn') = fieldcrypt.blind_index('1', 'person.name'),
    fieldcrypt.blind_index('1', 'person.ssn') = fieldcrypt.blind_index('1', 'person.ssn', 'globex');
SELECT fieldcrypt.blind_index('n/a', 'person.ssn');
SELECT fieldcrypt.blind_index('x', 'person.note');

-- Envelopes as input: refused from ordinary roles, whatever comes after the prefix.
SELECT ssn::text AS envelope, note::text AS other FROM io WHERE id = 1 \gset
\set ECHO none
SELECT test.outcome(format('SELECT %L::fieldcrypt.encrypted_text', :'envelope'));
SELECT test.outcome(format('SELECT %L::fieldcrypt.encrypted_text(''person.ssn'')', :'envelope'));
SELECT test.outcome(format('SELECT %L::text::fieldcrypt.encrypted_text(''person.ssn'')', :'envelope'));
SELECT test.outcome(format('INSERT INTO io VALUES (70, %L) RETURNING id', :'envelope'));
SELECT test.outcome(format('INSERT INTO io SELECT 70, ssn::text FROM io WHERE id = 1 RETURNING id', :'envelope'));
SELECT test.outcome(format('SELECT id FROM io WHERE ssn = %L', :'envelope'));
SELECT test.outcome(format('SELECT id FROM io WHERE ssn IN (%L, ''1'')', :'envelope'));
SELECT test.outcome(format('SELECT id FROM io WHERE ssn = %L::text', :'envelope'));
SELECT test.outcome(format('SELECT id FROM io WHERE ssn = ANY (ARRAY[%L]::text[])', :'envelope'));
\set ECHO all
SELECT test.outcome('SELECT ''fc1:''::fieldcrypt.encrypted_text');
SELECT test.outcome('SELECT ''fc1:AAAA''::fieldcrypt.encrypted_text(''person.note'')');
SELECT test.outcome('SELECT ''fc2:x''::fieldcrypt.encrypted_text(''person.note'')');
SELECT test.outcome('SELECT ''fc10:''::text::fieldcrypt.encrypted_text(''person.note'')');
-- encrypt() always encrypts, and says so where the text is reserved.
\set ECHO none
SELECT test.outcome(format('SELECT fieldcrypt.decrypt(fieldcrypt.encrypt(%L, ''person.note'')) = %L', :'envelope', :'envelope'));
\set ECHO all
SELECT fieldcrypt.decrypt(fieldcrypt.encrypt('fc2:x', 'person.note'));
-- What only looks similar is plain text.
INSERT INTO io VALUES (71, '1', 'fc0:x'), (72, '1', 'fc:x'), (73, '1', ' fc1:x'), (74, '1', 'FC1:x'), (75, '1', 'fc1x'), (76, '1', 'fc01:x');
SELECT fieldcrypt.decrypt(note) FROM io WHERE id BETWEEN 71 AND 76 ORDER BY id;
-- Members of fieldcrypt_restore put them in as they are, if they are sound and of the column's field.
RESET ROLE;
GRANT SELECT, INSERT, UPDATE ON io TO regress_restore;
SET ROLE regress_restore;
RESET fieldcrypt.account;
\set ECHO none
INSERT INTO io VALUES (80, :'envelope', :'other');
INSERT INTO io VALUES (81, :'envelope'::fieldcrypt.encrypted_text, :'other'::text);
SELECT test.outcome(format('INSERT INTO io VALUES (82, %L) RETURNING id', :'other'));
SELECT test.outcome(format('SELECT %L::text::fieldcrypt.encrypted_text(''person.note'')', :'envelope'));
SELECT test.outcome(format('SELECT (%L || ''A'')::fieldcrypt.encrypted_text', :'envelope')) ~ 'fc1:[A-Za-z]';
SELECT test.outcome(format('SELECT %L::fieldcrypt.encrypted_text', left(:'envelope', 40)));
SELECT test.outcome(format('SELECT %L::fieldcrypt.encrypted_text', :'envelope' || '='));
SELECT test.outcome(format('SELECT %L::fieldcrypt.encrypted_text', :'envelope' || ' '));
SELECT test.outcome(format('SELECT %L::fieldcrypt.encrypted_text', overlay(:'envelope' PLACING 'A' FROM 5 FOR 1)));
\set ECHO all
SELECT test.outcome('SELECT ''fc1:''::fieldcrypt.encrypted_text');
SELECT test.outcome('SELECT ''fc1:AAAA''::fieldcrypt.encrypted_text(''person.note'')');
SELECT test.outcome('SELECT ''fc1:%%%%''::fieldcrypt.encrypted_text(''person.note'')');
SELECT test.outcome('SELECT ''fc2:x''::fieldcrypt.encrypted_text(''person.note'')');
-- Plain text needs the right to encrypt from them too.
SET fieldcrypt.account = 'acme';
SELECT test.outcome('SELECT ''x''::fieldcrypt.encrypted_text(''person.note'')');
-- A superuser may; so may everybody where the setting says so, which only a superuser can set.
SET ROLE regress_app;
SET fieldcrypt.accept_envelopes = on;
RESET ROLE;
SET fieldcrypt.accept_envelopes = on;
SET ROLE regress_app;
\set ECHO none
INSERT INTO io VALUES (83, :'envelope', :'other');
\set ECHO all
RESET ROLE;
RESET fieldcrypt.accept_envelopes;
\set ECHO none
INSERT INTO io VALUES (84, :'envelope', :'other');
\set ECHO all
SET ROLE regress_app;
SELECT count(*), count(DISTINCT ssn::text), count(DISTINCT note::text), count(*) FILTER (WHERE fieldcrypt.decrypt(ssn) = '987-65-4321') FROM io WHERE id BETWEEN 80 AND 84;
-- Dump and restore: COPY out and in again gives the same bytes.
CREATE TABLE io_copy (LIKE io);
RESET ROLE;
\set ECHO none
\getenv directory PG_ABS_BUILDDIR
\set file :directory '/results/io.copy'
\set command '\\copy io TO ' :'file'
:command
\set command '\\copy io_copy FROM ' :'file'
:command
\set command '\\copy io TO ' :'file' ' WITH (FORMAT binary)'
:command
\set command '\\copy io_copy FROM ' :'file' ' WITH (FORMAT binary)'
:command
\set ECHO all
SELECT count(*) = 2 * (SELECT count(*) FROM io) FROM io_copy;
SELECT count(*) FROM io JOIN io_copy USING (id) WHERE io::text <> io_copy::text;
DROP TABLE io_copy;

-- Quoted from the type's input function, an error says nothing of the input.
SET ROLE regress_app;
RESET fieldcrypt.account;
SELECT test.outcome('SELECT ''canary''::fieldcrypt.encrypted_text(''person.note'')');
COPY io (id, note) FROM stdin;
90	canary
\.
DROP TABLE io;
