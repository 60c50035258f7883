-- Fields: creating, altering and dropping them, and the type modifier that names them.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET ROLE regress_admin;

-- Every argument has a default but the name.
SELECT fieldcrypt.create_field('f.plain');
SELECT fieldcrypt.create_field('f.all', search => '{exact}', normalizer => 'phone', mask => 'first_last',
    hidden => 'ciphertext', padding => '64', suite => 'aes-256-gcm', label => 'All of it');
SELECT name, label, suite, search, normalizer, mask, hidden, padding, created_by, changed_by
FROM fieldcrypt.fields WHERE name LIKE 'f.%' ORDER BY name COLLATE "C";

-- Every valid value of every argument.
SELECT count(fieldcrypt.create_field('f.normalizer.' || v, normalizer => v)) FROM unnest('{none,casefold,digits,email,phone}'::text[]) AS v;
SELECT count(fieldcrypt.create_field('f.mask.' || v, mask => v)) FROM unnest('{none,last4,first_last,email,pan,year,zero,"null"}'::text[]) AS v;
SELECT count(fieldcrypt.create_field('f.masks.' || i, mask => v)) FROM unnest(ARRAY['first(2)', 'last(64)', 'first_last( 6 ,4)', 'partial(0, "***-**-", 4)', 'partial(1,"*** (,)",0)', 'digits(4)', 'email_domain', 'month']) WITH ORDINALITY AS u (v, i);
SELECT name, mask FROM fieldcrypt.fields WHERE name LIKE 'f.masks.%' ORDER BY name COLLATE "C";
SELECT count(fieldcrypt.create_field('f.hidden.' || v, hidden => v)) FROM unnest('{mask,ciphertext}'::text[]) AS v;
SELECT count(fieldcrypt.create_field('f.padding.' || v, padding => v)) FROM unnest('{none,32,64,128,256,1024}'::text[]) AS v;
SELECT count(fieldcrypt.create_field('f.suite.' || i, suite => v)) FROM unnest('{xaes-256-gcm,aes-256-gcm,aes-256-cbc-hmac-sha512}'::text[]) WITH ORDINALITY AS u (v, i);
SELECT count(*) FROM fieldcrypt.fields WHERE name ~ '^f\.(normalizer|mask|hidden|padding|suite)\.';
-- NULL takes the default.
SELECT fieldcrypt.create_field('f.nulls', search => NULL, normalizer => NULL, mask => NULL, hidden => NULL, padding => NULL, suite => NULL);
SELECT search, normalizer, mask, hidden, padding, suite FROM fieldcrypt.fields WHERE name = 'f.nulls';

-- Invalid values name the argument, and the hint lists what it can be.
SELECT fieldcrypt.create_field('f.bad', search => '{fuzzy}');
SELECT fieldcrypt.create_field('f.bad', search => '{exact,fuzzy}');
SELECT fieldcrypt.create_field('f.bad', search => '{exact,NULL}');
SELECT fieldcrypt.create_field('f.bad', normalizer => 'lower');
SELECT fieldcrypt.create_field('f.bad', mask => 'last5');
SELECT v, split_part(test.outcome(format('SELECT fieldcrypt.create_field(''f.bad'', mask => %L)', v)), ' | ', 1)
FROM unnest(ARRAY['', ' last4', 'LAST4', 'last4; x', 'last', 'last()', 'last(4', 'last(4) ', 'last(-4)', 'last("4")', 'last(4, 4)', 'last4(4)', 'email(1)', 'first_last(1)', 'partial(1, ''***'', 1)', 'partial(1, "***, 1)',
    'last(0)', 'last(04)', 'last(65)', 'last(99999999999999999999)', 'first_last(1, 0)', 'partial(65, "***", 0)', 'partial(0, "", 4)', 'partial(0, "**-**-", 4)', 'partial(0, "XXX-XX-", 4)', E'partial(0, "***\t", 4)', 'partial(0, "' || repeat('*', 33) || '", 4)']) AS v;
SELECT fieldcrypt.create_field('f.bad', hidden => 'null');
SELECT fieldcrypt.create_field('f.bad', padding => '33');
SELECT fieldcrypt.create_field('f.bad', suite => 'aes-256-cbc');
SELECT fieldcrypt.create_field('f.bad', suite => 'XAES-256-GCM');
SELECT count(*) FROM fieldcrypt.fields WHERE name = 'f.bad';

-- The rule for names.
SELECT fieldcrypt.create_field('a');
SELECT fieldcrypt.create_field('a1_b.2.c_');
SELECT fieldcrypt.create_field('n.' || repeat('x', 61));
SELECT fieldcrypt.create_field('n.' || repeat('x', 62));
SELECT fieldcrypt.create_field('');
SELECT fieldcrypt.create_field(NULL);
SELECT fieldcrypt.create_field('A');
SELECT fieldcrypt.create_field('1a');
SELECT fieldcrypt.create_field('a.');
SELECT fieldcrypt.create_field('.a');
SELECT fieldcrypt.create_field('a..b');
SELECT fieldcrypt.create_field('a-b');
SELECT fieldcrypt.create_field('a b');
SELECT fieldcrypt.create_field('*');
SELECT fieldcrypt.create_field('é');
-- Duplicates.
SELECT fieldcrypt.create_field('f.plain');

-- A kind named twice counts once.
SELECT fieldcrypt.create_field('f.twice', search => '{exact,exact}');
SELECT search FROM fieldcrypt.fields WHERE name = 'f.twice';

-- An empty label is none of the business of the default.
SELECT fieldcrypt.create_field('f.label', label => '');
SELECT label FROM fieldcrypt.fields WHERE name = 'f.label';

-- Altering: only what is safe. NULL leaves as it is.
SELECT fieldcrypt.alter_field('f.plain', mask => 'year', hidden => 'ciphertext', padding => '32', suite => 'aes-256-gcm', label => 'Plain');
SELECT name, label, suite, search, normalizer, mask, hidden, padding, changed_by, changed_at IS NOT NULL AS changed
FROM fieldcrypt.fields WHERE name = 'f.plain';
SELECT fieldcrypt.alter_field('f.plain', mask => 'none');
SELECT label, suite, mask, hidden, padding FROM fieldcrypt.fields WHERE name = 'f.plain';
SELECT fieldcrypt.alter_field('f.plain');
SELECT label, suite, mask, hidden, padding FROM fieldcrypt.fields WHERE name = 'f.plain';
SELECT fieldcrypt.alter_field('f.plain', mask => 'last5');
SELECT fieldcrypt.alter_field('f.plain', hidden => 'secret');
SELECT fieldcrypt.alter_field('f.plain', padding => '1');
SELECT fieldcrypt.alter_field('f.plain', suite => 'none');
SELECT fieldcrypt.alter_field('f.plain', search => '{exact}');
SELECT fieldcrypt.alter_field('f.missing', mask => 'last4');
SELECT fieldcrypt.alter_field(NULL, mask => 'last4');

-- What was stored before a change of suite and padding stays readable, and findable.
RESET ROLE;
SELECT fieldcrypt.create_field('f.change', search => '{exact}');
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE change (id int, v fieldcrypt.encrypted_text('f.change'));
INSERT INTO change VALUES (1, 'x');
SET ROLE regress_admin;
SELECT fieldcrypt.alter_field('f.change', suite => 'aes-256-gcm', padding => '1024');
SET ROLE regress_app;
INSERT INTO change VALUES (2, 'x');
SET ROLE regress_admin;
SELECT fieldcrypt.alter_field('f.change', suite => 'aes-256-cbc-hmac-sha512', padding => 'none');
SET ROLE regress_app;
INSERT INTO change VALUES (3, 'x');
SELECT id, fieldcrypt.decrypt(v), octet_length(v::text) > 1024 AS padded FROM change WHERE v = 'x' ORDER BY id;
SELECT count(DISTINCT v) FROM change;
DROP TABLE change;

-- The type modifier: the field's name, or its number.
SET ROLE regress_app;
CREATE TABLE modifier (a fieldcrypt.encrypted_text('f.plain'), b fieldcrypt.encrypted_text("f.plain"), c fieldcrypt.encrypted_text(7));
SELECT attname, format_type(atttypid, atttypmod), attname < 'c' OR atttypmod = 7 AS right_number
FROM pg_attribute WHERE attrelid = 'modifier'::regclass AND attnum > 0 ORDER BY attnum;
SELECT (SELECT atttypmod FROM pg_attribute WHERE attrelid = 'modifier'::regclass AND attname = 'a')
     = (SELECT atttypmod FROM pg_attribute WHERE attrelid = 'modifier'::regclass AND attname = 'b') AS same;
-- The number of a known field is printed as its name.
DO $$ BEGIN
    EXECUTE format('CREATE TABLE by_number (a fieldcrypt.encrypted_text(%s))',
        (SELECT atttypmod FROM pg_attribute WHERE attrelid = 'modifier'::regclass AND attname = 'a'));
END $$;
SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'by_number'::regclass AND attnum > 0;
-- What format_type prints is read back.
DO $$ DECLARE printed text; BEGIN
    SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ') INTO printed
    FROM pg_attribute WHERE attrelid = 'modifier'::regclass AND attnum > 0;
    EXECUTE format('CREATE TABLE again (%s)', printed);
END $$;
SELECT count(*) FROM pg_attribute AS a JOIN pg_attribute AS b USING (attname, atttypid, atttypmod)
WHERE a.attrelid = 'modifier'::regclass AND b.attrelid = 'again'::regclass AND a.attnum > 0;
-- An unknown name warns, with the nearest one that exists.
SELECT NULL::fieldcrypt.encrypted_text('person.sns') IS NULL AS is_null;
SELECT NULL::fieldcrypt.encrypted_text('nothing.like.it') IS NULL AS is_null;
SET client_min_messages = error;
CREATE TABLE nearest (a fieldcrypt.encrypted_text('nothing.like.it'));
RESET client_min_messages;
-- A value of an unknown field is refused.
SET fieldcrypt.account = 'acme';
INSERT INTO nearest VALUES ('x');
INSERT INTO modifier (c) VALUES ('x');
SELECT count(*) FROM nearest WHERE a = 'x';
-- Malformed modifiers.
CREATE TABLE wrong (a fieldcrypt.encrypted_text('Person.SSN'));
CREATE TABLE wrong (a fieldcrypt.encrypted_text('a', 'b'));
CREATE TABLE wrong (a fieldcrypt.encrypted_text(-1));
CREATE TABLE wrong (a fieldcrypt.encrypted_text(2147483648));
CREATE TABLE wrong (a fieldcrypt.encrypted_text(''));
CREATE TABLE wrong (a fieldcrypt.encrypted_text());
DROP TABLE modifier, by_number, again, nearest;

-- Dropping: refused while anything is of the field.
SET ROLE regress_app;
CREATE TABLE of_column (a fieldcrypt.encrypted_text('f.all'));
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SET ROLE regress_app;
DROP TABLE of_column;
CREATE TABLE of_array (a fieldcrypt.encrypted_text('f.all')[]);
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SET ROLE regress_app;
DROP TABLE of_array;
CREATE DOMAIN of_domain AS fieldcrypt.encrypted_text('f.all');
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SET ROLE regress_app;
DROP DOMAIN of_domain;
CREATE TYPE of_composite AS (a fieldcrypt.encrypted_text('f.all'));
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SET ROLE regress_app;
DROP TYPE of_composite;
CREATE TABLE of_partition (id int, a fieldcrypt.encrypted_text('f.all')) PARTITION BY RANGE (id);
CREATE TABLE of_partition_1 PARTITION OF of_partition FOR VALUES FROM (0) TO (10);
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SET ROLE regress_app;
ALTER TABLE of_partition DETACH PARTITION of_partition_1;
DROP TABLE of_partition;
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SET ROLE regress_app;
-- A dropped column counts no longer.
ALTER TABLE of_partition_1 DROP COLUMN a;
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_nobody', '{mask}', account => 'acme', field => 'f.all');
SELECT fieldcrypt.grant_access('regress_nobody', '{mask}', account => 'acme', field => 'f.*');
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
-- Its grants are gone, those of patterns stay.
SET ROLE regress_grantor;
SELECT role, account, field, privileges FROM fieldcrypt.access WHERE role = 'regress_nobody'::regrole;
SELECT fieldcrypt.revoke_access('regress_nobody', '{mask}', account => 'acme', field => 'f.*');
SET ROLE regress_admin;
SELECT fieldcrypt.drop_field('f.all');
SELECT fieldcrypt.drop_field('missing');
SELECT fieldcrypt.drop_field(NULL);
-- The same name again is the same field.
SELECT fieldcrypt.create_field('f.all');
SELECT fieldcrypt.drop_field('f.all');
RESET ROLE;
DROP TABLE of_partition_1;

-- A view does not hold a field: it stores nothing.
SET ROLE regress_app;
CREATE VIEW of_view AS SELECT fieldcrypt.encrypt('x', 'person.note', 'acme')::fieldcrypt.encrypted_text('person.note') AS v;
RESET ROLE;
DROP VIEW of_view;

-- Who may do it: fieldcrypt_admin, and no other role.
SET ROLE regress_key_admin;
SELECT fieldcrypt.create_field('f.x');
SELECT fieldcrypt.alter_field('f.plain', mask => 'none');
SELECT fieldcrypt.drop_field('f.plain');
SET ROLE regress_app;
SELECT fieldcrypt.create_field('f.x');
-- Not even where somebody has granted the functions to everybody.
RESET ROLE;
BEGIN;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA fieldcrypt TO PUBLIC;
SET LOCAL ROLE regress_nobody;
SAVEPOINT s;
SELECT fieldcrypt.create_field('f.x');
ROLLBACK TO s;
SELECT fieldcrypt.alter_field('f.plain', mask => 'none');
ROLLBACK TO s;
SELECT fieldcrypt.drop_field('f.plain');
ROLLBACK;
-- Everybody can see the fields: the definitions of tables name them anyway.
SET ROLE regress_nobody;
SELECT count(*) > 0 AS sees FROM fieldcrypt.fields;
RESET ROLE;
