SET ROLE crm_acme;
SET fieldcrypt.account = 'acme';
SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 4711;
INSERT INTO lead VALUES (0, 'acme', 'Zoe', '111-22-3333', NULL, 'web');
RESET ROLE;
SELECT fieldcrypt.create_account('hooli');
SELECT count(*) AS leads, count(ssn) AS encrypted_values_untouched FROM lead;
