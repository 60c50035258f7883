SET ROLE crm_globex;
SET fieldcrypt.account = 'acme';
\echo It reads a value of acme:
SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 4711;
\echo It searches in acme:
SELECT id FROM lead WHERE ssn = '078-05-1120';
\echo It puts a value of acme into a lead of its own:
SET fieldcrypt.account = 'globex';
UPDATE lead SET ssn = (SELECT ssn FROM lead WHERE id = 4711) WHERE id = 50001;
\echo The same number in its own account has another token:
SELECT count(*) AS found FROM lead WHERE ssn = '078-05-1120';
