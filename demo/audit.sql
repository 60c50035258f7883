SET ROLE crm_acme;
BEGIN;
SELECT fieldcrypt.set_actor('u-17', 'Ann Meyer', '203.0.113.7', 'export') \g /dev/null
SELECT count(fieldcrypt.decrypt(ssn)) FROM patient;
ROLLBACK;
SELECT fieldcrypt.reveal(ssn, 'patient:' || id) FROM patient WHERE id = 20001;
SET ROLE support;
SELECT fieldcrypt.reveal(ssn, 'patient:' || id) FROM patient WHERE id = 20001;
RESET ROLE;
SELECT fieldcrypt.flush_audit() \g /dev/null
SELECT action, outcome, field, count, acting_role, actor_name, actor_action, entities
FROM (SELECT * FROM fieldcrypt.audit ORDER BY seq DESC LIMIT 3) AS e ORDER BY seq;
SELECT finding, first_seq, last_seq FROM fieldcrypt.verify_audit();
\echo A superuser deletes the newest events:
BEGIN;
DELETE FROM fieldcrypt.audit_batch WHERE first_seq = (SELECT max(first_seq) FROM fieldcrypt.audit_batch);
SELECT finding, last_seq - first_seq + 1 AS events FROM fieldcrypt.verify_audit();
ROLLBACK;
