-- protect_table(): each value's account is the row's.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE lead (id int PRIMARY KEY, account_id text, ssn fieldcrypt.encrypted_text('person.ssn'), note fieldcrypt.encrypted_text('person.note'), plain text);
SELECT fieldcrypt.protect_table('lead', account_column => 'account_id');
SELECT relation, account_column, on_mismatch, enabled FROM fieldcrypt.protected;

-- The session's account must be the row's.
INSERT INTO lead VALUES (1, 'acme', '1', 'n');
SELECT test.refused($$INSERT INTO lead VALUES (2, 'globex', '1', 'n')$$);
SELECT test.refused($$INSERT INTO lead VALUES (2, 'globex', NULL, 'n')$$);
SELECT test.refused($$INSERT INTO lead VALUES (2, 'missing', '1', 'n')$$);
SELECT test.refused($$INSERT INTO lead VALUES (2, 'ACME', '1', 'n')$$);
-- Without an account a row holds no value.
SELECT test.refused($$INSERT INTO lead VALUES (2, NULL, '1', NULL)$$);
INSERT INTO lead VALUES (2, NULL, NULL, NULL, 'x'), (3, 'missing', NULL, NULL, 'x');
UPDATE lead SET plain = 'y' WHERE id IN (2, 3);
SELECT test.refused($$UPDATE lead SET note = 'x' WHERE id = 2$$);
-- The account of a row with values changes only together with all of them.
SELECT test.refused($$UPDATE lead SET account_id = 'globex' WHERE id = 1$$);
SELECT test.refused($$UPDATE lead SET account_id = NULL WHERE id = 1$$);
UPDATE lead SET account_id = 'acme', plain = 'z' WHERE id = 1;
SET fieldcrypt.account = 'globex';
SELECT test.refused($$UPDATE lead SET ssn = '2' WHERE id = 1$$);
SELECT test.refused($$UPDATE lead SET account_id = 'globex', ssn = '2' WHERE id = 1$$);
UPDATE lead SET account_id = 'globex', ssn = '2', note = 'm' WHERE id = 1;
SELECT account_id, fieldcrypt.account_of(ssn), fieldcrypt.account_of(note), fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1;
UPDATE lead SET account_id = 'acme', ssn = NULL, note = NULL WHERE id = 1;
INSERT INTO lead VALUES (4, 'globex', '4', 'four');
SET fieldcrypt.account = 'acme';
-- A value of another row does not carry its account along.
SELECT test.refused($$UPDATE lead SET note = (SELECT note FROM lead WHERE id = 4) WHERE id = 1$$);
SELECT test.refused($$INSERT INTO lead SELECT 5, 'acme', ssn, note FROM lead WHERE id = 4$$);
INSERT INTO lead SELECT 5, 'globex', ssn, note FROM lead WHERE id = 4;
-- ON CONFLICT and MERGE.
INSERT INTO lead VALUES (6, 'acme', '6', 'six') ON CONFLICT (id) DO NOTHING;
INSERT INTO lead VALUES (6, 'acme', '66', 'x') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn RETURNING fieldcrypt.decrypt(ssn), fieldcrypt.account_of(ssn);
SELECT test.refused($$INSERT INTO lead VALUES (4, 'acme', '66', 'x') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn$$);
SELECT test.refused($$MERGE INTO lead USING (VALUES (4)) AS v (i) ON id = i WHEN MATCHED THEN UPDATE SET note = 'x'$$);
-- The trigger checks what other triggers made of a row.
CREATE FUNCTION turn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.account_id := 'globex'; RETURN NEW; END $$;
CREATE TRIGGER turn BEFORE INSERT ON lead FOR EACH ROW EXECUTE FUNCTION turn();
SELECT test.refused($$INSERT INTO lead VALUES (7, 'acme', '1', 'n')$$);
DROP TRIGGER turn ON lead;
DROP FUNCTION turn();

-- "*row*": the account is the row's. Bulk loads of many accounts, in every way of writing.
SET fieldcrypt.account = '*row*';
INSERT INTO lead VALUES (10, 'acme', '10', 'a'), (11, 'globex', '11', 'b'), (12, 'acme', NULL, NULL);
INSERT INTO lead SELECT i, CASE i % 2 WHEN 0 THEN 'acme' ELSE 'globex' END, i::text, 'bulk' FROM generate_series(100, 199) AS i;
COPY lead (id, account_id, ssn, note) FROM stdin;
13	acme	13	copied
14	globex	14	copied
\.
PREPARE bulk(int, text, text) AS INSERT INTO lead VALUES ($1, $2, $3, $3);
EXECUTE bulk(15, 'globex', '15');
UPDATE lead SET note = 'updated' WHERE id IN (10, 11);
UPDATE lead SET account_id = 'globex', ssn = '10', note = 'moved' WHERE id = 10;
INSERT INTO lead VALUES (11, 'globex', '11-11', 'c') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn, note = EXCLUDED.note;
MERGE INTO lead USING (VALUES (14, 'globex'), (16, 'acme')) AS v (i, a) ON id = i
    WHEN MATCHED THEN UPDATE SET note = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (i, a, '16', 'merged');
SELECT id, account_id, fieldcrypt.account_of(ssn), fieldcrypt.account_of(note), fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(note) FROM lead WHERE id BETWEEN 10 AND 16 ORDER BY id;
SELECT count(*), count(*) FILTER (WHERE account_id = fieldcrypt.account_of(ssn)), count(DISTINCT note::text) FROM lead WHERE id >= 100;
-- The row decides, and must name an account that exists and that the role may encrypt for.
SELECT test.refused($$INSERT INTO lead VALUES (20, 'missing', '1', 'n')$$);
SELECT test.refused($$INSERT INTO lead VALUES (20, NULL, '1', 'n')$$);
SELECT test.refused($$INSERT INTO lead VALUES (20, '*database*', '1', 'n')$$);
SELECT test.refused($$UPDATE lead SET account_id = 'acme' WHERE id = 11$$);
-- Nothing can be searched without an account.
SELECT test.outcome($$SELECT id FROM lead WHERE ssn = '10'$$);
SET fieldcrypt.account = 'globex';
SELECT id FROM lead WHERE ssn IN ('10', '11', '13', '14', '15') ORDER BY id;
SET fieldcrypt.account = 'acme';
SELECT id FROM lead WHERE ssn IN ('10', '11', '13', '14', '15', '16') ORDER BY id;
-- A role with a grant on one account only.
RESET ROLE;
CREATE ROLE regress_acme;
GRANT SELECT, INSERT, UPDATE ON lead TO regress_acme;
SELECT fieldcrypt.grant_access('regress_acme', '{encrypt}', account => 'acme', field => '*');
SET ROLE regress_acme;
SET fieldcrypt.account = '*row*';
INSERT INTO lead VALUES (30, 'acme', '30', 'n');
SELECT test.refused($$INSERT INTO lead VALUES (31, 'globex', '31', 'n')$$);
-- Reading back what the same statement wrote needs decrypt.
SELECT test.refused($$INSERT INTO lead VALUES (31, 'acme', '31', 'n') RETURNING fieldcrypt.decrypt(ssn)$$);
SET ROLE regress_app;

-- Where nothing settles it, a value stays in transit: it can be read by nobody.
CREATE TABLE unsettled (id int, account_id text, note fieldcrypt.encrypted_text('person.note'), ssn fieldcrypt.encrypted_text('person.ssn'));
INSERT INTO unsettled VALUES (1, 'acme', 'n', '1'), (2, 'acme', 'n', '1');
SELECT fieldcrypt.account_of(note) IS NULL, fieldcrypt.field_of(note) FROM unsettled;
SELECT test.outcome('SELECT fieldcrypt.decrypt(note) FROM unsettled');
SELECT test.outcome('SELECT fieldcrypt.reveal(note) FROM unsettled');
SELECT test.outcome('SELECT count(*) FROM unsettled AS a JOIN unsettled AS b ON a.ssn = b.ssn AND a.id <> b.id');
SELECT test.outcome('SELECT count(DISTINCT ssn) FROM unsettled');
SET fieldcrypt.account = 'acme';
SELECT test.outcome($$SELECT id FROM unsettled WHERE ssn = '1'$$);
SELECT test.refused($$CREATE INDEX ON unsettled (ssn)$$);
-- Such a table is not protected as it is; written anew, its values are settled.
SELECT test.refused($$SELECT fieldcrypt.protect_table('unsettled', 'account_id')$$);
INSERT INTO lead (id, account_id, note, ssn) SELECT 40, account_id, note, ssn FROM unsettled WHERE id = 1;
SELECT fieldcrypt.account_of(note), fieldcrypt.decrypt(note) FROM lead WHERE id = 40 AND ssn = '1';
DROP TABLE unsettled;

-- key_of: one key per account.
SELECT count(DISTINCT fieldcrypt.key_of(note)) = 2, count(DISTINCT fieldcrypt.key_of(ssn)) = 2,
    count(*) FILTER (WHERE fieldcrypt.key_of(ssn) <> fieldcrypt.key_of(note)) FROM lead;
SELECT count(DISTINCT (fieldcrypt.key_of(ssn), fieldcrypt.account_of(ssn))) FROM lead WHERE ssn IS NOT NULL;

-- What is there already must fit.
CREATE TABLE existing (id int, account_id text, note fieldcrypt.encrypted_text('person.note'));
INSERT INTO existing VALUES (1, 'acme', 'n'), (2, 'globex', 'n');
SELECT fieldcrypt.protect_table('existing', 'account_id');
DELETE FROM existing WHERE id = 2;
INSERT INTO existing VALUES (2, NULL, 'n');
SELECT fieldcrypt.protect_table('existing', 'account_id');
DELETE FROM existing WHERE id = 2;
INSERT INTO existing VALUES (2, NULL, NULL);
SELECT fieldcrypt.protect_table('existing', 'account_id');
-- Again, with another setting.
SELECT fieldcrypt.protect_table('existing', 'account_id', on_mismatch => 'rebind');
SELECT relation, account_column, on_mismatch, enabled FROM fieldcrypt.protected WHERE relation = 'existing'::regclass;

-- rebind: a value of another account is encrypted anew. It takes decrypt there and encrypt here.
INSERT INTO existing VALUES (3, 'globex', 'three');
SELECT fieldcrypt.account_of(note), fieldcrypt.decrypt(note) FROM existing WHERE id = 3;
UPDATE existing SET account_id = 'acme' WHERE id = 3;
SELECT fieldcrypt.account_of(note), fieldcrypt.decrypt(note) FROM existing WHERE id = 3;
INSERT INTO existing SELECT 4, 'globex', note FROM existing WHERE id = 3;
SELECT fieldcrypt.account_of(note), fieldcrypt.decrypt(note) FROM existing WHERE id = 4;
SELECT test.refused($$UPDATE existing SET account_id = 'missing' WHERE id = 4$$);
RESET ROLE;
GRANT SELECT, INSERT, UPDATE ON existing TO regress_writer, regress_acme;
SELECT fieldcrypt.grant_access('regress_acme', '{decrypt}', account => 'acme', field => '*');
SET ROLE regress_writer;
SELECT test.refused($$UPDATE existing SET account_id = 'acme' WHERE id = 4$$);
SET ROLE regress_acme;
SELECT test.refused($$UPDATE existing SET account_id = 'acme' WHERE id = 4$$);
SELECT test.refused($$UPDATE existing SET account_id = 'globex' WHERE id = 1$$);
SET ROLE regress_app;
-- A disabled account: nothing is rebound from it or to it.
SET ROLE regress_key_admin;
SELECT fieldcrypt.disable_account('globex');
SET ROLE regress_app;
SELECT test.refused($$UPDATE existing SET account_id = 'acme' WHERE id = 4$$);
SELECT test.refused($$UPDATE existing SET account_id = 'globex' WHERE id = 1$$);
-- Its rows can be kept as they are, and deleted.
UPDATE lead SET plain = 'kept' WHERE id = 11 RETURNING plain;
DELETE FROM lead WHERE id = 11 RETURNING id;
SET ROLE regress_key_admin;
SELECT fieldcrypt.enable_account('globex');
SET ROLE regress_app;
DROP TABLE existing;

-- unprotect_table(), and again.
SELECT fieldcrypt.unprotect_table('lead');
INSERT INTO lead VALUES (50, 'globex', '1', 'n');
SELECT fieldcrypt.unprotect_table('lead');
SELECT fieldcrypt.protect_table('lead', 'account_id');
DELETE FROM lead WHERE id = 50;
SELECT fieldcrypt.protect_table('lead', 'account_id');

-- Arguments.
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead', 'missing')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead', 'ssn')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead', 'ctid')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead', 'account_id', on_mismatch => 'ignore')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_table('missing', 'account_id')$$);
SELECT test.refused($$CREATE TABLE plain_table (account_id text, v text); SELECT fieldcrypt.protect_table('plain_table', 'account_id')$$);
CREATE VIEW lead_view AS SELECT * FROM lead;
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead_view', 'account_id')$$) LIKE 'refused: %';
DROP VIEW lead_view;
SELECT test.refused($$CREATE TABLE with_array (account_id text, ssn fieldcrypt.encrypted_text('person.ssn'), list fieldcrypt.encrypted_text('person.ssn')[]); SELECT fieldcrypt.protect_table('with_array', 'account_id')$$);
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn')[]; CREATE TABLE with_array (account_id text, ssn fieldcrypt.encrypted_text('person.ssn'), list d); SELECT fieldcrypt.protect_table('with_array', 'account_id')$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$CREATE DOMAIN d AS fieldcrypt.encrypted_text('person.ssn'); CREATE TABLE with_array (account_id text, ssn fieldcrypt.encrypted_text('person.ssn'), list d[]); SELECT fieldcrypt.protect_table('with_array', 'account_id')$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$CREATE TYPE c AS (ssn fieldcrypt.encrypted_text('person.ssn')); CREATE TABLE with_row (account_id text, ssn fieldcrypt.encrypted_text('person.ssn'), list c); SELECT fieldcrypt.protect_table('with_row', 'account_id')$$) LIKE 'refused: 0A000 %';
-- Nor does a protected table get such a column later.
SELECT test.refused($$ALTER TABLE lead ADD COLUMN list fieldcrypt.encrypted_text('person.ssn')[]$$) LIKE 'refused: 0A000 %';
-- A column added later is held like the others.
ALTER TABLE lead ADD COLUMN later fieldcrypt.encrypted_text('person.name');
SELECT test.refused($$INSERT INTO lead (id, account_id, later) VALUES (60, 'globex', 'x')$$);
INSERT INTO lead (id, account_id, later) VALUES (60, 'acme', 'x');
-- Where the account column is gone or renamed, nothing is written.
ALTER TABLE lead RENAME COLUMN account_id TO tenant;
SELECT test.refused($$INSERT INTO lead (id, tenant, later) VALUES (61, 'acme', 'x')$$);
SELECT fieldcrypt.protect_table('lead', 'tenant');
INSERT INTO lead (id, tenant, later) VALUES (61, 'acme', 'x');

-- Domains, and account columns of other types.
CREATE DOMAIN ssn_domain AS fieldcrypt.encrypted_text('person.ssn');
CREATE DOMAIN ssn_over AS ssn_domain;
CREATE TABLE domains (account_id varchar(10), a ssn_domain, b ssn_over);
SELECT fieldcrypt.protect_table('domains', 'account_id');
INSERT INTO domains VALUES ('acme', '1', '1');
SELECT test.refused($$INSERT INTO domains VALUES ('globex', '1', NULL)$$);
SELECT test.refused($$INSERT INTO domains VALUES ('globex', NULL, '1')$$);
SELECT fieldcrypt.unprotect_table('domains');
INSERT INTO domains VALUES ('globex', NULL, '1');
SELECT test.refused($$SELECT fieldcrypt.protect_table('domains', 'account_id')$$) LIKE 'refused: 23514 %';
CREATE TABLE only_over (account_id text, b ssn_over);
SELECT fieldcrypt.protect_table('only_over', 'account_id');
DROP TABLE domains, only_over;
DROP DOMAIN ssn_over;
DROP DOMAIN ssn_domain;
SET ROLE regress_key_admin;
SELECT fieldcrypt.create_account('42');
SET ROLE regress_app;
SET fieldcrypt.account = '42';
CREATE TABLE by_number (account_id bigint, note fieldcrypt.encrypted_text('person.note'));
SELECT fieldcrypt.protect_table('by_number', 'account_id');
INSERT INTO by_number VALUES (42, 'x');
SELECT test.refused($$INSERT INTO by_number VALUES (43, 'x')$$);
SET fieldcrypt.account = '*row*';
INSERT INTO by_number VALUES (42, 'y');
SELECT fieldcrypt.account_of(note), fieldcrypt.decrypt(note) FROM by_number;
DROP TABLE by_number;
SET fieldcrypt.account = 'acme';
CREATE TABLE by_char (account_id char(10), note fieldcrypt.encrypted_text('person.note'));
INSERT INTO by_char VALUES ('acme', 'x');
SELECT fieldcrypt.protect_table('by_char', 'account_id');
INSERT INTO by_char VALUES ('acme', 'x');
DROP TABLE by_char;

-- Partitions: rows are checked where they go, also when they move.
CREATE TABLE parted (id int, account_id text, ssn fieldcrypt.encrypted_text('person.ssn')) PARTITION BY LIST (account_id);
CREATE TABLE parted_acme PARTITION OF parted FOR VALUES IN ('acme');
SELECT fieldcrypt.protect_table('parted', 'account_id');
CREATE TABLE parted_globex PARTITION OF parted FOR VALUES IN ('globex');
SELECT relation, account_column, on_mismatch, enabled FROM fieldcrypt.protected WHERE relation::text LIKE 'parted%' ORDER BY relation::text;
INSERT INTO parted VALUES (1, 'acme', '1');
SELECT test.refused($$INSERT INTO parted VALUES (2, 'globex', '2')$$);
SELECT test.refused($$INSERT INTO parted_globex VALUES (2, 'globex', '2')$$);
SELECT test.refused($$UPDATE parted SET account_id = 'globex'$$);
SET fieldcrypt.account = '*row*';
INSERT INTO parted VALUES (3, 'acme', '3'), (4, 'globex', '4');
UPDATE parted SET account_id = 'globex', ssn = '33' WHERE id = 3;
SELECT tableoid::regclass, id, fieldcrypt.account_of(ssn), fieldcrypt.decrypt(ssn) FROM parted ORDER BY id;
COPY parted FROM stdin;
5	globex	5
\.
SET fieldcrypt.account = 'globex';
SELECT id FROM parted WHERE ssn IN ('4', '5', '33') ORDER BY id;
SELECT fieldcrypt.unprotect_table('parted');
SELECT count(*) FROM fieldcrypt.protected WHERE relation::text LIKE 'parted%';
DROP TABLE parted;

-- Who may do it: whoever may create a trigger on the table.
SET ROLE regress_nobody;
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead', 'tenant')$$) LIKE 'refused: 42501 %';
SELECT test.refused($$SELECT fieldcrypt.unprotect_table('lead')$$) LIKE 'refused: 42501 %';
SET ROLE regress_admin;
SELECT test.refused($$SELECT fieldcrypt.protect_table('lead', 'tenant')$$) LIKE 'refused: 42501 %';
-- The trigger function is of no use by itself.
SET ROLE regress_app;
SELECT test.refused($$SELECT fieldcrypt.hold_account()$$);
SELECT test.refused($$CREATE TABLE t (a text, n fieldcrypt.encrypted_text('person.note')); CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account('a', 'refuse'); INSERT INTO t VALUES ('acme', NULL)$$);
SELECT test.refused($$CREATE TABLE t (a text, n fieldcrypt.encrypted_text('person.note')); CREATE TRIGGER x BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION fieldcrypt.hold_account('a', 'refuse'); INSERT INTO t VALUES ('acme', NULL)$$);
SELECT test.refused($$CREATE TABLE t (a text, n fieldcrypt.encrypted_text('person.note')); CREATE TRIGGER x BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account('a', 'refuse'); INSERT INTO t VALUES ('acme', NULL); DELETE FROM t$$);
SELECT test.refused($$CREATE TABLE t (a text, n fieldcrypt.encrypted_text('person.note')); CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account(); INSERT INTO t VALUES ('acme', NULL)$$);
-- A name that could be read as SQL.
SELECT test.refused($$CREATE TABLE "o'Neil"" ; x" ("a'c""c" text, "n'""n" fieldcrypt.encrypted_text('person.note')); INSERT INTO "o'Neil"" ; x" VALUES ('globex', 'x'); SELECT fieldcrypt.protect_table('"o''Neil"" ; x"', 'a''c"c'); INSERT INTO "o'Neil"" ; x" VALUES ('acme', 'x')$$);

-- A restore puts rows back with their values, whatever its session's account.
RESET ROLE;
SET fieldcrypt.account = 'acme';
CREATE TABLE saved AS SELECT id, tenant, ssn::text AS ssn, note::text AS note FROM lead;
TRUNCATE lead;
GRANT SELECT, INSERT ON lead TO regress_restore;
GRANT SELECT ON saved TO regress_restore;
SET ROLE regress_restore;
RESET fieldcrypt.account;
INSERT INTO lead (id, tenant, ssn, note) SELECT * FROM saved;
SELECT count(*) > 100, count(*) = (SELECT count(*) FROM saved) FROM lead;
SELECT test.refused($$INSERT INTO lead (id, tenant, ssn) SELECT -1, 'acme', ssn FROM saved WHERE id = 4$$);
RESET ROLE;
DROP TABLE saved, lead;
SELECT fieldcrypt.revoke_access('regress_acme', '{encrypt,decrypt}', account => 'acme', field => '*');
DROP ROLE regress_acme;
