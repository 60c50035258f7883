CREATE VIEW lead_seen AS
SELECT id, account_id, name, fieldcrypt.reveal(ssn) AS ssn, fieldcrypt.reveal(email) AS email
FROM lead WHERE id IN (4711, 50001);
GRANT SELECT ON lead_seen TO PUBLIC;
\echo crm_acme: decrypt on the account acme
SET ROLE crm_acme;
SELECT * FROM lead_seen ORDER BY id;
\echo crm_globex: decrypt on the account globex
SET ROLE crm_globex;
SELECT * FROM lead_seen ORDER BY id;
\echo support: mask on all accounts
SET ROLE support;
SELECT * FROM lead_seen ORDER BY id;
\echo reporter: nothing
SET ROLE reporter;
SELECT * FROM lead_seen ORDER BY id;
\echo postgres: a superuser has only what was granted to him
RESET ROLE;
SELECT * FROM lead_seen ORDER BY id;
SELECT * FROM fieldcrypt.can('postgres', 'decrypt', account => 'acme', field => 'lead.ssn');
