-- What definitions are refused, and what still works.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE base (id int PRIMARY KEY, ssn fieldcrypt.encrypted_text('person.ssn') UNIQUE, note fieldcrypt.encrypted_text('person.note'));
INSERT INTO base VALUES (1, '1', 'n');

-- A column, domain or attribute without a field.
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text)$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text[])$$);
SELECT test.refused($$CREATE TEMP TABLE t (a fieldcrypt.encrypted_text)$$);
SELECT test.refused($$CREATE UNLOGGED TABLE t (a fieldcrypt.encrypted_text)$$);
SELECT test.refused($$CREATE TABLE t (id int, a fieldcrypt.encrypted_text) PARTITION BY RANGE (id)$$);
SELECT test.refused($$ALTER TABLE base ADD COLUMN a fieldcrypt.encrypted_text$$);
SELECT test.refused($$ALTER TABLE base ALTER COLUMN note TYPE fieldcrypt.encrypted_text$$);
SELECT test.refused($$ALTER TABLE base ALTER COLUMN id TYPE fieldcrypt.encrypted_text USING id::text$$);
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text$$);
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text[]$$);
SELECT test.refused($$CREATE TYPE c AS (id int, a fieldcrypt.encrypted_text)$$);
SELECT test.refused($$CREATE TYPE c AS (id int); ALTER TYPE c ADD ATTRIBUTE a fieldcrypt.encrypted_text$$);
SELECT test.refused($$CREATE SCHEMA s CREATE TABLE t (a fieldcrypt.encrypted_text)$$);
SELECT test.refused($$CREATE TYPE r AS RANGE (SUBTYPE = fieldcrypt.encrypted_text)$$) LIKE 'refused: %';
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_wrapper;
CREATE SERVER regress_server FOREIGN DATA WRAPPER regress_wrapper;
SELECT test.refused($$CREATE FOREIGN TABLE t (a fieldcrypt.encrypted_text) SERVER regress_server$$);
SELECT test.refused($$CREATE FOREIGN TABLE t (a fieldcrypt.encrypted_text('person.ssn')) SERVER regress_server$$);
DROP FOREIGN DATA WRAPPER regress_wrapper CASCADE;
SET ROLE regress_app;

-- What loses the field on the way.
SELECT test.refused($$CREATE TABLE t AS SELECT ssn FROM base$$);
SELECT test.refused($$CREATE TABLE t AS SELECT COALESCE(ssn, 'x') AS ssn FROM base$$);
SELECT test.refused($$SELECT lag(ssn) OVER (ORDER BY id) AS ssn INTO t FROM base$$);
SELECT test.refused($$CREATE TABLE t AS SELECT unnest(array_agg(ssn)) AS ssn FROM base$$);
SELECT test.refused($$CREATE TABLE t AS SELECT fieldcrypt.encrypt('x', 'person.note') AS a$$);
SELECT test.refused($$CREATE TABLE t AS SELECT 'x'::fieldcrypt.encrypted_text AS a$$);
SELECT test.refused($$CREATE TABLE t AS SELECT array_agg(ssn) AS a FROM base$$);
SELECT test.refused($$CREATE TEMP TABLE t AS SELECT 'x'::fieldcrypt.encrypted_text AS a$$);
SELECT test.refused($$CREATE MATERIALIZED VIEW t AS SELECT 'x'::fieldcrypt.encrypted_text AS a$$);
SELECT test.refused($$CREATE MATERIALIZED VIEW t AS SELECT 'x'::fieldcrypt.encrypted_text AS a WITH NO DATA$$);
SELECT test.refused($$CREATE TABLE t AS SELECT ssn FROM base UNION ALL SELECT note FROM base$$);
PREPARE made AS SELECT 'x'::fieldcrypt.encrypted_text AS a;
SELECT test.refused($$CREATE TABLE t AS EXECUTE made$$);

-- Defaults and checks that hold a literal; columns added with a default.
SELECT test.refused($$ALTER TABLE base ADD COLUMN a fieldcrypt.encrypted_text('person.ssn') DEFAULT 'x'$$);
SELECT test.refused($$ALTER TABLE base ADD COLUMN a fieldcrypt.encrypted_text('person.ssn') DEFAULT fieldcrypt.encrypt('x', 'person.ssn')$$) LIKE 'refused: %';
SELECT test.refused($$ALTER TABLE base ADD COLUMN a fieldcrypt.encrypted_text('person.ssn') DEFAULT 'x'::text$$) LIKE 'refused: %';
SELECT test.refused($$ALTER TABLE base ADD COLUMN a fieldcrypt.encrypted_text('person.ssn') DEFAULT current_user::text$$) LIKE 'refused: %';
SELECT test.refused($$ALTER TABLE base ALTER COLUMN note SET DEFAULT 'x'$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.note') DEFAULT 'x')$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.note') DEFAULT 'x'::text)$$) LIKE 'refused: %';
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.ssn') CHECK (a = '1'))$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.ssn') CHECK (a IN ('1', '2')))$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.ssn') CHECK (a = '1'::text))$$) LIKE 'refused: %';
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.ssn') CHECK (a = ANY ('{1,2}')))$$) LIKE 'refused: %';
SELECT test.refused($$ALTER TABLE base ADD CHECK (ssn <> '2')$$);
SELECT test.refused($$ALTER TABLE base ADD CHECK (ssn <> '2') NOT VALID$$);
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn') CHECK (VALUE <> '1')$$) LIKE 'refused: %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn') DEFAULT '1'$$) LIKE 'refused: %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); ALTER DOMAIN d SET DEFAULT '1'$$) LIKE 'refused: %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); ALTER DOMAIN d ADD CHECK (VALUE = '1')$$) LIKE 'refused: %';
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.ssn'), b fieldcrypt.encrypted_text('person.ssn') GENERATED ALWAYS AS ('x'::text) STORED)$$) LIKE 'refused: %';

-- Keys
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.email') REFERENCES base (ssn))$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.email')); ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES base (ssn)$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.email')); ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES base (ssn) NOT VALID$$);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.ssn') REFERENCES base (ssn)); ALTER TABLE t ALTER COLUMN a TYPE fieldcrypt.encrypted_text('person.email')$$);
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.email'); CREATE TABLE t (a d REFERENCES base (ssn))$$) LIKE 'refused: %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE t (a d REFERENCES base (ssn)); INSERT INTO t VALUES ('1')$$);
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE t (a d REFERENCES base (ssn)); INSERT INTO t VALUES ('2')$$) LIKE 'refused: 23503 %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE t (a d REFERENCES base (ssn)); INSERT INTO t VALUES ('1'); DELETE FROM base$$) LIKE 'refused: 23503 %';
-- A table whose only such column is of a domain is looked at like others.
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE t (a d DEFAULT 'x')$$) LIKE 'refused: %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE t (a d CHECK (a = '1'))$$) LIKE 'refused: %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE t (id int); INSERT INTO t VALUES (1); ALTER TABLE t ADD COLUMN a d DEFAULT 'x'$$) LIKE 'refused: %';
SELECT test.refused($$CREATE TABLE t (a text REFERENCES base (ssn))$$) LIKE 'refused: %';
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text('person.note') UNIQUE)$$);
SELECT test.refused($$CREATE UNIQUE INDEX ON base (id, note)$$);
SELECT test.refused($$ALTER TABLE base ADD PRIMARY KEY (note)$$) LIKE 'refused: %';

-- The definition is refused as a whole: nothing is left of it.
CREATE TABLE t (a fieldcrypt.encrypted_text);
SELECT to_regclass('t') IS NULL, to_regtype('d') IS NULL;
-- Inside a function, a DO block, and a schema command.
DO $$ BEGIN CREATE TABLE t (a fieldcrypt.encrypted_text); END $$;

-- What still works.
CREATE TABLE plain (id int PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> 'y'), u text UNIQUE);
INSERT INTO plain (id) VALUES (1);
ALTER TABLE plain ADD COLUMN w text DEFAULT 'z';
SELECT * FROM plain;
CREATE TABLE plain_as AS SELECT * FROM plain;
CREATE MATERIALIZED VIEW plain_view AS SELECT * FROM plain;
CREATE DOMAIN plain_domain AS text CHECK (VALUE <> 'x');
CREATE TYPE plain_type AS (a int);
CREATE TYPE plain_enum AS ENUM ('a');
CREATE INDEX ON plain (v);
DROP MATERIALIZED VIEW plain_view;
DROP TABLE plain, plain_as;
DROP DOMAIN plain_domain;
DROP TYPE plain_type;
DROP TYPE plain_enum;
-- Columns with a field, everywhere.
CREATE TEMP TABLE temporary (a fieldcrypt.encrypted_text('person.ssn'));
INSERT INTO temporary VALUES ('1');
SELECT count(*) FROM temporary JOIN base ON a = ssn;
DROP TABLE temporary;
CREATE UNLOGGED TABLE unlogged (a fieldcrypt.encrypted_text('person.ssn')[]);
INSERT INTO unlogged VALUES (ARRAY['1', '2']), ('{3,NULL}');
SELECT fieldcrypt.decrypt(a[1]), fieldcrypt.decrypt(a[2]) FROM unlogged;
DROP TABLE unlogged;
SET client_min_messages = warning;
CREATE TABLE like_all (LIKE base INCLUDING ALL);
CREATE TABLE inherits () INHERITS (base);
CREATE TABLE inherits_more (ssn fieldcrypt.encrypted_text('person.ssn'), extra fieldcrypt.encrypted_text('person.email')) INHERITS (base);
SELECT test.refused($$CREATE TABLE inherits_wrong (ssn fieldcrypt.encrypted_text('person.email')) INHERITS (base)$$) LIKE 'refused: %';
INSERT INTO inherits VALUES (2, '2', 'n');
INSERT INTO inherits_more VALUES (3, '3', 'n', 'e');
RESET client_min_messages;
SELECT test.outcome($$SELECT id FROM base WHERE ssn IN ('1', '2', '3')$$);
CREATE TABLE as_select AS SELECT * FROM base;
CREATE TABLE as_none AS SELECT ssn, note FROM base WITH NO DATA;
CREATE MATERIALIZED VIEW mat AS SELECT id, ssn FROM base;
SELECT test.outcome($$SELECT id FROM mat WHERE ssn = '2'$$);
REFRESH MATERIALIZED VIEW mat;
CREATE UNIQUE INDEX ON mat (ssn);
REFRESH MATERIALIZED VIEW CONCURRENTLY mat;
SELECT table_name, column_name FROM information_schema.columns AS c JOIN pg_attribute AS a ON attrelid = c.table_name::regclass AND attname = column_name
WHERE table_schema = 'public' AND udt_name = 'encrypted_text' AND atttypmod < 0;
DROP MATERIALIZED VIEW mat;
DROP TABLE like_all, inherits, inherits_more, as_select, as_none;
-- Defaults and checks without a literal.
-- DEFAULT NULL holds no literal.
CREATE TABLE by_default (id int, a fieldcrypt.encrypted_text('person.ssn') DEFAULT NULL, b fieldcrypt.encrypted_text('person.ssn'), CHECK (a <> b), CHECK (a IS NOT NULL));
INSERT INTO by_default VALUES (1, '2', '1'), (2, '3', '1');
SELECT count(DISTINCT b::text), count(DISTINCT b) FROM by_default;
SELECT test.refused($$INSERT INTO by_default (a, b) VALUES ('-1-', '1')$$);
SELECT test.refused($$INSERT INTO by_default (b) VALUES ('2')$$);
-- Any other default is refused: rows of several accounts would share one.
SELECT test.refused($$ALTER TABLE by_default ALTER b SET DEFAULT fieldcrypt.encrypt('1', 'person.ssn')$$) LIKE 'refused: 0A000 %';
DROP TABLE by_default;
-- Adding, altering and dropping.
ALTER TABLE base ADD COLUMN email fieldcrypt.encrypted_text('person.email');
ALTER TABLE base ADD COLUMN nothing fieldcrypt.encrypted_text('person.email') DEFAULT NULL;
UPDATE base SET email = 'a@x';
ALTER TABLE base RENAME COLUMN email TO mail;
SELECT id FROM base WHERE mail = 'A@X';
ALTER TABLE base ALTER COLUMN mail SET NOT NULL;
ALTER TABLE base ALTER COLUMN mail SET STATISTICS 10;
ALTER TABLE base ALTER COLUMN mail TYPE fieldcrypt.encrypted_text('person.email');
-- To another field: only through plain text.
SELECT test.refused($$ALTER TABLE base ALTER COLUMN mail TYPE fieldcrypt.encrypted_text('person.note')$$);
ALTER TABLE base ALTER COLUMN mail TYPE fieldcrypt.encrypted_text('person.note') USING fieldcrypt.decrypt(mail)::fieldcrypt.encrypted_text;
SELECT fieldcrypt.field_of(mail), fieldcrypt.decrypt(mail) FROM base;
-- From plain text and back, in one statement.
CREATE TABLE migrated (v text);
INSERT INTO migrated VALUES ('a'), ('a'), (NULL);
ALTER TABLE migrated ALTER COLUMN v TYPE fieldcrypt.encrypted_text('person.name');
SELECT count(*), count(DISTINCT v::text) FROM migrated WHERE v = 'a';
ALTER TABLE migrated ALTER COLUMN v TYPE text USING fieldcrypt.decrypt(v);
SELECT * FROM migrated ORDER BY v;
DROP TABLE migrated;
ALTER TABLE base DROP COLUMN mail, DROP COLUMN nothing;
-- Types and partitions.
CREATE TYPE kept AS (a int, s fieldcrypt.encrypted_text('person.ssn'));
ALTER TYPE kept ADD ATTRIBUTE n fieldcrypt.encrypted_text('person.note');
DROP TYPE kept;
CREATE TABLE parts (id int, ssn fieldcrypt.encrypted_text('person.ssn')) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 (id int, ssn fieldcrypt.encrypted_text('person.ssn'));
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20);
CREATE TABLE parts_3 (id int, ssn fieldcrypt.encrypted_text('person.email'));
SELECT test.refused($$ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (20) TO (30)$$) LIKE 'refused: %';
INSERT INTO parts VALUES (1, '1'), (11, '1');
CREATE INDEX ON parts (ssn);
SELECT id FROM parts WHERE ssn = '1' ORDER BY id;
ALTER TABLE parts DETACH PARTITION parts_2;
DROP TABLE parts, parts_2, parts_3;
-- Statistics objects, comments, grants, other commands on such a table.
CREATE STATISTICS base_stats ON id, ssn FROM base;
ANALYZE base;
COMMENT ON COLUMN base.ssn IS 'x';
VACUUM base;
CLUSTER base USING base_pkey;
REINDEX TABLE base;
TRUNCATE base;
DROP TABLE base;
-- What would store plain values: expressions that decrypt, themselves or in what they call.
CREATE TABLE kept (id int, ssn fieldcrypt.encrypted_text('person.ssn'), data jsonb);
CREATE FUNCTION by_atomic(fieldcrypt.encrypted_text) RETURNS text LANGUAGE sql IMMUTABLE RETURN fieldcrypt.decrypt($1);
CREATE FUNCTION by_string(fieldcrypt.encrypted_text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN "fieldcrypt" . reveal($1); END';
CREATE FUNCTION by_another(fieldcrypt.encrypted_text) RETURNS text LANGUAGE sql IMMUTABLE RETURN upper(by_atomic($1));
CREATE FUNCTION same(fieldcrypt.encrypted_text, text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN by_string($1) = $2;
CREATE OPERATOR === (LEFTARG = fieldcrypt.encrypted_text, RIGHTARG = text, FUNCTION = same);
SELECT test.refused('CREATE STATISTICS s ON (fieldcrypt.decrypt(ssn)) FROM kept');
SELECT test.refused('CREATE STATISTICS s ON id, (fieldcrypt.reveal(data)) FROM kept');
SELECT test.refused('CREATE INDEX ON kept (by_atomic(ssn))');
SELECT test.refused('CREATE INDEX ON kept (lower(by_another(ssn)))');
SELECT test.refused($$CREATE INDEX ON kept (id) WHERE ssn === 'x'$$);
SELECT test.refused('ALTER TABLE kept ADD EXCLUDE USING btree (by_string(ssn) WITH =)');
SELECT test.refused('ALTER TABLE kept ADD plain text GENERATED ALWAYS AS (by_string(ssn)) STORED');
SELECT test.refused('CREATE TABLE t (ssn fieldcrypt.encrypted_text(''person.ssn''), plain text GENERATED ALWAYS AS (by_another(ssn)) STORED)');
CREATE STATISTICS s ON id, (fieldcrypt.tokens(data)) FROM kept;
CREATE INDEX ON kept USING gin (fieldcrypt.tokens(data));
CREATE VIEW shown AS SELECT id, by_another(ssn) FROM kept;
CREATE MATERIALIZED VIEW stored AS SELECT * FROM shown;
CREATE INDEX ON stored (id);
CREATE MATERIALIZED VIEW sealed AS SELECT * FROM kept;
DROP TABLE kept CASCADE;
DROP OPERATOR === (fieldcrypt.encrypted_text, text);
DROP FUNCTION same, by_another, by_string, by_atomic;
-- Nobody but a superuser can take the event trigger away.
SELECT test.refused('DROP EVENT TRIGGER fieldcrypt_check_definition');
SELECT test.refused('ALTER EVENT TRIGGER fieldcrypt_check_definition DISABLE');
-- A role without any right can define tables.
SET ROLE regress_nobody;
CREATE TABLE nobodys (a fieldcrypt.encrypted_text('person.ssn') UNIQUE, b text);
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text)$$);
DROP TABLE nobodys;
-- Nor does a search path confuse it.
CREATE SCHEMA regress_trap;
CREATE TABLE regress_trap.pg_attribute (x int);
CREATE TABLE regress_trap.pg_type (x int);
SET search_path = regress_trap, pg_catalog, public;
SELECT test.refused($$CREATE TABLE t (a fieldcrypt.encrypted_text)$$);
RESET search_path;
DROP TABLE regress_trap.pg_attribute, regress_trap.pg_type;
DROP SCHEMA regress_trap;
