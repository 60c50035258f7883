-- No change in the application: plain values in, plain values out, with their own types.
SELECT fieldcrypt.create_field('patient.birthday', search => '{exact}', mask => 'year') \g /dev/null
SELECT fieldcrypt.create_field('patient.balance', mask => 'zero') \g /dev/null
SELECT fieldcrypt.grant_access('crm_acme', '{encrypt,search,decrypt}', 'acme', 'patient.*') \g /dev/null
SELECT fieldcrypt.grant_access('support', '{mask}', 'acme', 'patient.*') \g /dev/null
CREATE TABLE patient (id bigint PRIMARY KEY, account_id text NOT NULL DEFAULT 'acme',
    ssn fieldcrypt.encrypted_text('lead.ssn'),
    birthday fieldcrypt.encrypted_date('patient.birthday'),
    balance fieldcrypt.encrypted_numeric('patient.balance'));
CREATE INDEX ON patient USING hash (birthday);
GRANT SELECT, INSERT, UPDATE ON patient TO crm_acme, support;

SET ROLE crm_acme;
SET fieldcrypt.account = 'acme';
INSERT INTO patient (id, ssn, birthday, balance)
SELECT i, '078-05-' || i, date '1950-01-01' + i, i * 0.10 FROM generate_series(1, 20000) AS i;
SET fieldcrypt.transparent = on; -- in an application: ALTER ROLE crm_acme SET fieldcrypt.transparent = on
SELECT id, ssn, birthday, balance FROM patient WHERE birthday = '1962-11-25';
SELECT id, birthday FROM patient ORDER BY birthday DESC LIMIT 2;
INSERT INTO patient (id, ssn, birthday, balance) VALUES (20001, '078-05-1120', '1970-01-02', 12.50) RETURNING *;
\pset format wrapped
\pset columns 110
EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id, ssn FROM patient WHERE birthday = '1962-11-25';
\pset format aligned
\echo The same statement by support, who has masks only, and what pg_dump and COPY see:
SET ROLE support;
SELECT id, ssn, birthday, balance FROM patient WHERE id = 20001;
COPY (SELECT id, substr(birthday::text, 1, 40) FROM patient WHERE id = 20001) TO STDOUT;
RESET ROLE;
\echo A view, for those who prefer one; it can be written to as well:
SELECT fieldcrypt.create_view('patient') \g /dev/null
GRANT SELECT, UPDATE ON patient_plain TO crm_acme;
SET fieldcrypt.transparent = off;
SET ROLE crm_acme;
UPDATE patient_plain SET balance = balance + 1 WHERE id = 20001 RETURNING *;
