-- Accounts and their keys: who may create, disable and see them.
\set VERBOSITY default
\set SHOW_CONTEXT never

-- Each account has one wrapping, data and index key; the database has a transit key.
SET ROLE regress_key_admin;
SELECT account, purpose, version, state, root_key FROM fieldcrypt.keys ORDER BY account COLLATE "C", purpose COLLATE "C";
SELECT account, state, created_by, created_at IS NOT NULL AS created, changed_at IS NULL AS unchanged
FROM fieldcrypt.accounts ORDER BY account COLLATE "C";

-- Key ids differ, and fit a positive bigint.
SELECT count(DISTINCT key_id) = count(*) AS distinct_ids, min(key_id) > 0 AS positive FROM fieldcrypt.keys;

-- A new account.
SELECT fieldcrypt.create_account('Ünï 1:a.b');
SELECT fieldcrypt.create_account(repeat('x', 200));
-- The name is taken as it is: upper and lower case differ.
SELECT fieldcrypt.create_account('Acme');
-- NULL does nothing.
SELECT fieldcrypt.create_account(NULL);
SELECT count(*) FROM fieldcrypt.accounts;

-- Duplicates.
SELECT fieldcrypt.create_account('acme');
-- Invalid names.
SELECT fieldcrypt.create_account('');
SELECT fieldcrypt.create_account(' acme');
SELECT fieldcrypt.create_account('acme ');
SELECT fieldcrypt.create_account(E'ac\nme');
SELECT fieldcrypt.create_account(repeat('x', 201));
-- Reserved names.
SELECT fieldcrypt.create_account('*');
SELECT fieldcrypt.create_account('*row*');
SELECT fieldcrypt.create_account('*database*');
SELECT fieldcrypt.create_account('*anything');

-- What failed left nothing behind.
SELECT count(*) FROM fieldcrypt.accounts;
SELECT count(*) FROM fieldcrypt.keys WHERE account NOT IN (SELECT account FROM fieldcrypt.accounts);
-- A rolled back account leaves nothing, and can be created afterwards.
BEGIN;
SELECT fieldcrypt.create_account('rolled back');
ROLLBACK;
SELECT count(*) FROM fieldcrypt.keys WHERE account = 'rolled back';
BEGIN;
SAVEPOINT s;
SELECT fieldcrypt.create_account('rolled back');
ROLLBACK TO s;
SELECT fieldcrypt.create_account('rolled back');
COMMIT;
SELECT count(*) FROM fieldcrypt.keys WHERE account = 'rolled back';

-- A key of a rolled back account is not used by the next one of that name.
SET ROLE regress_app;
CREATE TABLE rolled (ssn fieldcrypt.encrypted_text('person.ssn'));
SET ROLE regress_key_admin;
BEGIN;
SELECT fieldcrypt.create_account('ghost');
SET LOCAL ROLE regress_app;
SET LOCAL fieldcrypt.account = 'ghost';
INSERT INTO rolled VALUES ('123-45-6789');
SELECT fieldcrypt.decrypt(ssn) FROM rolled;
ROLLBACK;
SET ROLE regress_app;
SET fieldcrypt.account = 'ghost';
INSERT INTO rolled VALUES ('123-45-6789');
SELECT count(*) FROM rolled;
RESET fieldcrypt.account;
DROP TABLE rolled;

-- Disabling and enabling.
SET ROLE regress_app;
SET fieldcrypt.account = 'globex';
CREATE TABLE closed (ssn fieldcrypt.encrypted_text('person.ssn'), note fieldcrypt.encrypted_text('person.note'));
INSERT INTO closed VALUES ('123-45-6789', 'n');
SET ROLE regress_key_admin;
SELECT fieldcrypt.disable_account('globex');
SELECT account, state, changed_by, changed_at IS NOT NULL AS changed FROM fieldcrypt.accounts WHERE account = 'globex';
-- It takes effect at the next statement: nothing can be read, written or searched.
SET ROLE regress_app;
SELECT fieldcrypt.decrypt(ssn) FROM closed;
SELECT fieldcrypt.decrypt(note) FROM closed;
SELECT count(*) FROM closed WHERE ssn = '123-45-6789';
INSERT INTO closed VALUES ('123-45-6789', 'n');
SELECT fieldcrypt.blind_index('123-45-6789', field => 'person.ssn', account => 'globex');
SELECT fieldcrypt.encrypt('123-45-6789', field => 'person.ssn', account => 'globex') IS NULL;
-- reveal() hides, and is no error.
SELECT fieldcrypt.reveal(ssn), fieldcrypt.reveal(note) FROM closed;
-- Other accounts go on.
SELECT fieldcrypt.decrypt(fieldcrypt.encrypt('1', field => 'person.note', account => 'acme'));
-- Disabling twice is no error, nor is enabling twice.
SET ROLE regress_key_admin;
SELECT fieldcrypt.disable_account('globex');
SELECT fieldcrypt.enable_account('globex');
SELECT fieldcrypt.enable_account('globex');
SET ROLE regress_app;
SELECT fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(note) FROM closed WHERE ssn = '123-45-6789';
-- Prepared statements notice too.
PREPARE look AS SELECT fieldcrypt.decrypt(ssn) FROM closed WHERE ssn = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE look('123-45-6789');
SET ROLE regress_key_admin;
SELECT fieldcrypt.disable_account('globex');
SET ROLE regress_app;
EXECUTE look('123-45-6789');
SET ROLE regress_key_admin;
SELECT fieldcrypt.enable_account('globex');
SET ROLE regress_app;
EXECUTE look('123-45-6789');
RESET plan_cache_mode;
RESET fieldcrypt.account;
DROP TABLE closed;

-- Accounts that do not exist, and the reserved ones.
SET ROLE regress_key_admin;
SELECT fieldcrypt.disable_account('missing');
SELECT fieldcrypt.enable_account('missing');
SELECT fieldcrypt.disable_account('*database*');
SELECT fieldcrypt.enable_account('*database*');
SELECT fieldcrypt.disable_account('*');
-- The database's own account is not for use as an account, even with a grant on everything.
SET ROLE regress_app;
SELECT fieldcrypt.encrypt('x', field => 'person.note', account => '*database*') IS NULL;
SELECT fieldcrypt.encrypt('x', field => 'person.note', account => '*row*') IS NULL;
SELECT fieldcrypt.encrypt('x', field => 'person.note', account => '*') IS NULL;
SELECT fieldcrypt.encrypt('x', field => 'person.note', account => '') IS NULL;
SELECT fieldcrypt.blind_index('x', field => 'person.name', account => '*database*');

-- Who may do it: fieldcrypt_key_admin, and no other role.
SELECT fieldcrypt.create_account('initech');
SET ROLE regress_admin;
SELECT fieldcrypt.create_account('initech');
SELECT fieldcrypt.disable_account('acme');
SET ROLE regress_grantor;
SELECT fieldcrypt.create_account('initech');
SELECT fieldcrypt.enable_account('acme');
SET ROLE regress_auditor;
SELECT fieldcrypt.create_account('initech');
-- Not even where somebody has granted the function to everybody.
RESET ROLE;
BEGIN;
GRANT EXECUTE ON FUNCTION fieldcrypt.create_account(text), fieldcrypt.disable_account(text) TO PUBLIC;
SET LOCAL ROLE regress_nobody;
SAVEPOINT s;
SELECT fieldcrypt.create_account('initech');
ROLLBACK TO s;
SELECT fieldcrypt.disable_account('acme');
ROLLBACK;

-- Who can read what. The wrapped keys: fieldcrypt_key_admin only.
CREATE FUNCTION pg_temp.readable(reader text, OUT relation text, OUT readable boolean, OUT writable boolean)
RETURNS SETOF record LANGUAGE sql AS $$
    SELECT c.relname::text, has_table_privilege(reader, c.oid, 'SELECT') OR has_any_column_privilege(reader, c.oid, 'SELECT'),
        has_table_privilege(reader, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR has_any_column_privilege(reader, c.oid, 'INSERT, UPDATE, REFERENCES')
    FROM pg_class AS c WHERE c.relnamespace = 'fieldcrypt'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
$$;
SELECT relation, string_agg(role, ' ' ORDER BY role) FILTER (WHERE readable) AS readers,
    string_agg(role, ' ' ORDER BY role) FILTER (WHERE writable) AS writers
FROM unnest(ARRAY['regress_key_admin', 'regress_admin', 'regress_grantor', 'regress_auditor',
                  'regress_restore', 'regress_app', 'regress_nobody']) AS role, pg_temp.readable(role)
GROUP BY relation ORDER BY relation COLLATE "C";
SET ROLE regress_admin;
SELECT count(*) FROM fieldcrypt.account_key;
SET ROLE regress_nobody;
SELECT count(*) FROM fieldcrypt.account_key;
SELECT count(*) FROM fieldcrypt.keys;
-- The view of the keys has no bytes.
RESET ROLE;
SELECT attname FROM pg_attribute WHERE attrelid = 'fieldcrypt.keys'::regclass AND attnum > 0
    AND atttypid NOT IN ('text'::regtype, 'int8'::regtype, 'int4'::regtype, 'timestamptz'::regtype, 'name'::regtype);
-- Wrapped keys are as long as their ciphertext, and no plain key.
SELECT DISTINCT octet_length(check_value) AS check_bytes, octet_length(wrapped) > 32 AS longer_than_a_key FROM fieldcrypt.account_key;

-- Tidy up.
RESET ROLE;
