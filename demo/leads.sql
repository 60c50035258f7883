CREATE EXTENSION fieldcrypt;
SELECT fieldcrypt.create_account(account) FROM unnest(ARRAY['acme', 'globex', 'initech']) AS account \g /dev/null
SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}', normalizer => 'digits', mask => 'last4') \g /dev/null
SELECT fieldcrypt.create_field('lead.email', search => '{exact}', normalizer => 'email', mask => 'email') \g /dev/null

-- crm_acme and crm_globex: applications; support: sees masks; reporter: sees nothing
CREATE ROLE crm_acme;
CREATE ROLE crm_globex;
CREATE ROLE crm_initech;
CREATE ROLE support;
CREATE ROLE reporter;
SELECT fieldcrypt.grant_access('crm_' || account, '{encrypt,search,decrypt}', account, 'lead.*')
FROM unnest(ARRAY['acme', 'globex', 'initech']) AS account \g /dev/null
SELECT fieldcrypt.grant_access('support', '{search,mask}', '*', 'lead.*') \g /dev/null

CREATE TABLE lead (
    id bigint PRIMARY KEY,
    account_id text NOT NULL,
    name text NOT NULL,
    ssn fieldcrypt.encrypted_text('lead.ssn'),
    email fieldcrypt.encrypted_text('lead.email'),
    source text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
SELECT fieldcrypt.protect_table('lead', account_column => 'account_id') \g /dev/null
GRANT SELECT, INSERT, UPDATE ON lead TO crm_acme, crm_globex, crm_initech;
GRANT SELECT ON lead TO support, reporter;

CREATE TEMP TABLE given AS SELECT unnest(ARRAY['Ann', 'Bela', 'Chen', 'Dora', 'Emeka', 'Fatima',
    'Goran', 'Hana', 'Ines', 'Jonas', 'Kemal', 'Lucía', 'Mira', 'Noor', 'Olga', 'Pavel']) AS name;
CREATE TEMP TABLE family AS SELECT unnest(ARRAY['Adams', 'Borg', 'Castro', 'Dubois', 'Endo', 'Fischer',
    'Garcia', 'Haddad', 'Ivanova', 'Jensen', 'Kowalski', 'Lindqvist', 'Moreau', 'Nguyen', 'Okafor']) AS name;
SELECT array_agg(name) AS given FROM given \gset
SELECT array_agg(name) AS family FROM family \gset
SELECT setseed(0.42) \g /dev/null

CREATE TEMP TABLE source AS
SELECT i AS id,
    (:'given'::text[])[1 + floor(random() * 16)] AS given,
    (:'family'::text[])[1 + floor(random() * 15)] AS family,
    lpad((100 + floor(random() * 799))::text, 3, '0') || '-' || lpad((1 + floor(random() * 98))::text, 2, '0')
        || '-' || lpad((1 + floor(random() * 9998))::text, 4, '0') AS ssn,
    (ARRAY['web', 'fair', 'partner', 'referral'])[1 + floor(random() * 4)] AS source
FROM generate_series(1, 120000) AS i;
UPDATE source SET ssn = '078-05-1120', given = 'Ann', family = 'Canary' WHERE id = 4711;
GRANT SELECT ON source TO PUBLIC;

-- each application writes the leads of its account, plain values in ordinary SQL
SET ROLE crm_acme;
SET fieldcrypt.account = 'acme';
INSERT INTO lead SELECT id, 'acme', given || ' ' || family, ssn,
    lower(given || '.' || family) || CASE WHEN id = 4711 THEN '' ELSE id::text END || '@example.com', source
FROM source WHERE id <= 50000;
SET ROLE crm_globex;
SET fieldcrypt.account = 'globex';
INSERT INTO lead SELECT id, 'globex', given || ' ' || family, ssn, lower(given || '.' || family) || id || '@example.org', source
FROM source WHERE id > 50000 AND id <= 90000;
SET ROLE crm_initech;
SET fieldcrypt.account = 'initech';
INSERT INTO lead SELECT id, 'initech', given || ' ' || family, ssn, lower(given || '.' || family) || id || '@example.net', source
FROM source WHERE id > 90000;
RESET ROLE;
DROP TABLE source;

CREATE INDEX lead_ssn ON lead USING hash (ssn);
CREATE INDEX lead_email ON lead (email);
ANALYZE lead;
SELECT account_id, count(*) AS leads, count(DISTINCT ssn) AS different_numbers FROM lead GROUP BY account_id ORDER BY 1;
