SET ROLE crm_acme;
SELECT id, fieldcrypt.decrypt(ssn) AS ssn FROM lead WHERE id = 4711;
