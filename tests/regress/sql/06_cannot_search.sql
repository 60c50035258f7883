-- Fields without search: every way to search raises. The identity of bytes is kept, since
-- replication and the comparison of whole rows rest on it.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE notes (id int PRIMARY KEY, note fieldcrypt.encrypted_text('person.note'), ssn fieldcrypt.encrypted_text('person.ssn'));
INSERT INTO notes VALUES (1, 'same', '1'), (2, 'same', '2'), (3, 'other', 'n/a'), (4, NULL, NULL);
INSERT INTO notes SELECT 5, note, ssn FROM notes WHERE id = 1;

-- Comparisons
SELECT test.outcome($$SELECT id FROM notes WHERE note = 'same'$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note = 'same'::text$$);
SELECT test.outcome($$SELECT id FROM notes WHERE 'same' = note$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note <> 'same'$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note IN ('same', 'x')$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note NOT IN ('same', 'x')$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note = ANY ('{same}')$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note = ANY ('{same}'::text[])$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note IS DISTINCT FROM 'same'$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note IS NOT DISTINCT FROM 'same'::text$$);
SELECT test.outcome($$SELECT id FROM notes WHERE NULLIF(note, 'same') IS NULL$$);
SELECT test.outcome($$SELECT id FROM notes WHERE CASE note WHEN 'same' THEN true END$$);
SELECT test.outcome($$SELECT id FROM notes WHERE (note, id) = ('same', 1)$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note = note$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note = (SELECT note FROM notes WHERE id = 1)$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note = 'same'::fieldcrypt.encrypted_text('person.note')$$);
-- Joins
SELECT test.outcome($$SELECT a.id FROM notes AS a JOIN notes AS b ON a.note = b.note$$);
SELECT test.outcome($$SELECT a.id FROM notes AS a JOIN notes AS b USING (note)$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note IN (SELECT note FROM notes)$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note NOT IN (SELECT note FROM notes WHERE note IS NOT NULL)$$);
SELECT test.outcome($$SELECT id FROM notes AS a WHERE EXISTS (SELECT FROM notes WHERE note = a.note AND id > a.id)$$);
SELECT test.outcome($$SELECT id FROM notes WHERE note IN (SELECT 'same'::text)$$);
-- Groups
SELECT test.outcome($$SELECT count(*) FROM notes GROUP BY note$$);
SELECT test.outcome($$SELECT count(*) FROM notes GROUP BY GROUPING SETS ((id), (note))$$);
SELECT test.outcome($$SELECT DISTINCT note FROM notes$$);
SELECT test.outcome($$SELECT DISTINCT ON (note) id FROM notes$$);
SELECT test.outcome($$SELECT count(DISTINCT note) FROM notes$$);
SELECT test.outcome($$SELECT array_agg(DISTINCT note) FROM notes$$);
SELECT test.outcome($$SELECT count(*) OVER (PARTITION BY note) FROM notes$$);
SELECT test.outcome($$SELECT id FROM notes ORDER BY note$$);
-- Set operations compare bytes, since they are the way to compare whole rows: each value is its own.
SELECT test.outcome($$SELECT count(*) FROM (SELECT note FROM notes UNION SELECT note FROM notes) AS u$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT note FROM notes WHERE id = 1 INTERSECT SELECT note FROM notes WHERE id = 2) AS u$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT note FROM notes EXCEPT SELECT note FROM notes) AS u$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT id, note FROM notes EXCEPT ALL SELECT id, note FROM notes) AS u$$);
SELECT test.outcome($$WITH RECURSIVE r AS (SELECT note FROM notes UNION SELECT note FROM r) SELECT count(*) FROM r$$);
-- UNION ALL compares nothing.
SELECT test.outcome($$SELECT count(*) FROM (SELECT note FROM notes UNION ALL SELECT note FROM notes) AS u$$);
-- Functions, prepared statements and PL/pgSQL
SELECT test.outcome($$SELECT fieldcrypt.blind_index('same', 'person.note')$$);
PREPARE look(text) AS SELECT id FROM notes WHERE note = $1;
PREPARE look_in(text[]) AS SELECT id FROM notes WHERE note = ANY ($1);
DO $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM notes WHERE id = 1;
    IF r.note = 'same' THEN RAISE NOTICE 'found'; ELSE RAISE NOTICE 'no answer would have been right'; END IF;
END $$;
-- Definitions
SELECT test.refused($$CREATE TABLE u (note fieldcrypt.encrypted_text('person.note') UNIQUE)$$);
SELECT test.refused($$CREATE TABLE u (note fieldcrypt.encrypted_text('person.note') PRIMARY KEY)$$);
SELECT test.refused($$CREATE UNIQUE INDEX u ON notes (note)$$);
SELECT test.refused($$ALTER TABLE notes ADD UNIQUE (id, note)$$);
SELECT test.refused($$CREATE TABLE u (note fieldcrypt.encrypted_text('person.note'), EXCLUDE USING hash (note WITH =))$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$CREATE TABLE u (note fieldcrypt.encrypted_text('person.note')) PARTITION BY HASH (note)$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.note'); CREATE TABLE u (note d UNIQUE)$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$INSERT INTO notes VALUES (9) ON CONFLICT (note) DO NOTHING$$);

-- The identity of bytes: whole rows, and records in triggers.
SELECT test.same('SELECT id FROM (SELECT * FROM notes EXCEPT SELECT * FROM notes WHERE id < 3) AS n', 'VALUES (3), (4), (5)');
SELECT test.same('SELECT a.id FROM notes AS a JOIN notes AS b ON a = b', 'SELECT id FROM notes');
SELECT test.same('SELECT count(*) FROM (SELECT DISTINCT notes FROM notes) AS d', 'VALUES (5)');
-- Spelled out, it asks for each column.
SELECT test.outcome('SELECT a.id FROM notes AS a, notes AS b WHERE ROW(a.*) IS NOT DISTINCT FROM ROW(b.*)');
CREATE FUNCTION noticed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '%: row changed %, note changed %', NEW.id, OLD IS DISTINCT FROM NEW, OLD *<> NEW;
    RETURN NEW;
END
$$;
CREATE TRIGGER noticed BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION noticed();
UPDATE notes SET id = id WHERE id = 1;
UPDATE notes SET note = note WHERE id = 1;
-- The same text sealed again is another value.
UPDATE notes SET note = 'same' WHERE id = 1;
DROP TRIGGER noticed ON notes;
CREATE TRIGGER suppress BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
UPDATE notes SET note = note WHERE id = 1 RETURNING id;
UPDATE notes SET note = 'same' WHERE id = 1 RETURNING id;
DROP TRIGGER suppress ON notes;
-- The WHEN condition of a trigger goes past the planner: byte identity there too.
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'changed: %', NEW.id; RETURN NEW; END $$;
CREATE TRIGGER changed BEFORE UPDATE ON notes FOR EACH ROW WHEN (OLD.note IS DISTINCT FROM NEW.note) EXECUTE FUNCTION changed();
CREATE TRIGGER changed_row BEFORE UPDATE ON notes FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION changed();
UPDATE notes SET id = id, note = note WHERE id IN (1, 4);
UPDATE notes SET note = 'same' WHERE id = 1;
DROP TRIGGER changed ON notes;
DROP TRIGGER changed_row ON notes;
-- With a literal there is no identity to compare: it raises.
SELECT test.refused($$CREATE TRIGGER t BEFORE UPDATE ON notes FOR EACH ROW WHEN (NEW.note = 'same') EXECUTE FUNCTION changed(); UPDATE notes SET id = id$$);
SELECT test.refused($$CREATE TRIGGER t BEFORE UPDATE ON notes FOR EACH ROW WHEN (NEW.note IS NOT DISTINCT FROM 'same') EXECUTE FUNCTION changed(); UPDATE notes SET id = id$$);

-- A value of a searchable field that normalises to nothing has no token.
SELECT test.outcome($$SELECT id FROM notes WHERE ssn = 'n/a'$$);
SELECT test.outcome($$SELECT id FROM notes WHERE ssn IN ('n/a', '1')$$);
SELECT test.outcome($$SELECT id FROM notes WHERE ssn <> 'n/a'$$);
SELECT test.outcome($$SELECT id FROM notes WHERE ssn = ''$$);
SELECT test.same($$SELECT id FROM notes WHERE ssn = '1'$$, 'VALUES (1), (5)');
SELECT test.same($$SELECT id FROM notes WHERE ssn <> '1'$$, 'VALUES (2), (3)');
SELECT id, fieldcrypt.decrypt(ssn) FROM notes WHERE id = 3;
-- It joins with itself only, and counts as a value of its own.
INSERT INTO notes VALUES (6, NULL, 'n/a');
SELECT test.same('SELECT a.id, b.id FROM notes AS a JOIN notes AS b USING (ssn) WHERE a.id IN (3, 6)', 'VALUES (3, 3), (6, 6)');
-- On a unique column it is refused: that it is there once could not be told.
CREATE TABLE uniq (ssn fieldcrypt.encrypted_text('person.ssn') UNIQUE);
SELECT test.refused($$INSERT INTO uniq VALUES ('n/a')$$) LIKE 'refused: 0A000 %';
INSERT INTO uniq VALUES (''), ('1');
SELECT test.refused($$INSERT INTO uniq VALUES ('')$$);
DROP TABLE uniq;

DEALLOCATE ALL;
DROP TABLE notes;
DROP FUNCTION noticed(), changed();
