CREATE TABLE person (id bigint PRIMARY KEY, account_id text NOT NULL, data jsonb NOT NULL);
SELECT fieldcrypt.protect_jsonb('person', 'data', name => 'person.data', account_column => 'account_id') \g /dev/null
SELECT fieldcrypt.protect_path('person.data', '{contact.email}', field => 'lead.email') \g /dev/null
SELECT fieldcrypt.protect_path('person.data', '{documents[*].ssn}', field => 'lead.ssn') \g /dev/null
CREATE INDEX person_tokens ON person USING gin (fieldcrypt.tokens(data));
SELECT fieldcrypt.grant_access('support', '{encrypt}', 'acme', 'lead.*') \g /dev/null
GRANT SELECT, INSERT, UPDATE ON person TO crm_acme, support;

SET ROLE crm_acme;
SET fieldcrypt.account = 'acme';
INSERT INTO person SELECT i, 'acme', jsonb_build_object('source', 'web', 'score', i * 0.10,
        'contact', jsonb_build_object('email', 'person' || i || '@example.com', 'city', 'Lyon'),
        'documents', jsonb_build_array(jsonb_build_object('type', 'tax', 'ssn', '078-05-' || i)))
    FROM generate_series(1, 20000) AS i;
\echo What is stored: only the flagged paths are encrypted
SELECT regexp_replace(jsonb_pretty(data), '(fc1:.{24})[^"]*', '\1…', 'g') AS stored FROM person WHERE id = 4711;
\echo Look-up by a flagged path, through the index:
SELECT id, fieldcrypt.decrypt(data) AS data FROM person WHERE fieldcrypt.matches(data, 'lead.email', 'PERSON4711@example.com');
\pset format wrapped
\pset columns 110
EXPLAIN (COSTS OFF) SELECT id FROM person WHERE fieldcrypt.matches(data, 'lead.email', 'person4711@example.com');
\pset format aligned
\echo support reads masks, changes what is plain, and writes the whole document back:
SET ROLE support;
UPDATE person SET data = fieldcrypt.reveal(data) || '{"source": "phone"}' WHERE id = 4711
RETURNING fieldcrypt.reveal(data) AS as_support_sees_it;
SET ROLE crm_acme;
SELECT fieldcrypt.decrypt(data) AS nothing_is_lost FROM person WHERE id = 4711;
