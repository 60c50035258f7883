SET ROLE crm_acme;
SET fieldcrypt.account = 'acme';
\timing on
SELECT id, name, fieldcrypt.decrypt(ssn) AS ssn, fieldcrypt.decrypt(email) AS email FROM lead WHERE ssn = '078 05 1120';
SELECT id, name FROM lead WHERE email IN ('ANN.CANARY@example.com', 'nobody@example.com');
\timing off
\pset format wrapped
\pset columns 110
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM lead WHERE ssn = '078 05 1120';
PREPARE find(text) AS SELECT id, name FROM lead WHERE email = $1;
EXECUTE find('ann.canary@example.com');
