-- reveal(): what each role sees.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset null NULL
SELECT count(fieldcrypt.create_field('m.' || mask, mask => mask)) FROM unnest('{none,last4,first_last,email,pan,year,zero,"null"}'::text[]) AS mask;
SELECT fieldcrypt.create_field('m.shown', mask => 'last4', hidden => 'ciphertext');
SELECT fieldcrypt.create_field('m.padded', mask => 'last4', padding => '256', suite => 'aes-256-gcm');
GRANT CREATE ON SCHEMA public TO regress_app;
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE shown (id int, plain text,
    m_none fieldcrypt.encrypted_text('m.none'), last4 fieldcrypt.encrypted_text('m.last4'),
    first_last fieldcrypt.encrypted_text('m.first_last'), email fieldcrypt.encrypted_text('m.email'),
    pan fieldcrypt.encrypted_text('m.pan'), year fieldcrypt.encrypted_text('m.year'),
    zero fieldcrypt.encrypted_text('m.zero'), m_null fieldcrypt.encrypted_text('m.null'),
    shown fieldcrypt.encrypted_text('m.shown'), padded fieldcrypt.encrypted_text('m.padded'));
INSERT INTO shown SELECT id, v, v, v, v, v, v, v, v, v, v, v
FROM unnest('{123-45-6789,ann@example.com,4111 1111 1111 1111,1990-12-31,abc,"",äöüßäöüß}'::text[]) WITH ORDINALITY AS u (v, id);
INSERT INTO shown (id) VALUES (99);
GRANT SELECT ON shown TO PUBLIC;

-- decrypt: the plain value.
SELECT count(*) FROM shown WHERE plain IS NOT NULL AND (plain, plain, plain, plain) =
    (fieldcrypt.reveal(last4), fieldcrypt.reveal(m_null), fieldcrypt.reveal(shown), fieldcrypt.reveal(padded));
-- NULL stays NULL.
SELECT fieldcrypt.reveal(last4), fieldcrypt.decrypt(last4), fieldcrypt.reveal(zero) FROM shown WHERE id = 99;

-- mask: the field's mask.
SET ROLE regress_masked;
SELECT id, fieldcrypt.reveal(m_none) AS m_none, fieldcrypt.reveal(last4) AS last4, fieldcrypt.reveal(first_last) AS first_last,
    fieldcrypt.reveal(email) AS email, fieldcrypt.reveal(pan) AS pan, fieldcrypt.reveal(year) AS year,
    fieldcrypt.reveal(zero) AS zero, fieldcrypt.reveal(m_null) AS m_null, fieldcrypt.reveal(shown) AS shown, fieldcrypt.reveal(padded) AS padded
FROM shown ORDER BY id;
SELECT test.outcome('SELECT fieldcrypt.decrypt(last4) FROM shown WHERE id = 1');

-- Every form of mask, and the shortest values that it shows a part of.
RESET ROLE;
SELECT count(fieldcrypt.create_field('m.form.' || i, mask => v)) FROM unnest(ARRAY['first(2)', 'last(1)', 'first_last(4, 2)', 'partial(0, "***-**-", 4)', 'partial(1, "***@****.com", 0)', 'partial(0, "*** hidden ***", 0)', 'digits(4)', 'email_domain', 'month']) WITH ORDINALITY AS u (v, i);
CREATE FUNCTION masked(field text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    sealed fieldcrypt.encrypted_text;
    shown text;
BEGIN
    SET LOCAL ROLE regress_app;
    sealed := fieldcrypt.encrypt(value, field, 'acme');
    SET LOCAL ROLE regress_masked;
    shown := fieldcrypt.reveal(sealed);
    RESET ROLE;
    RETURN shown;
END
$$;
SELECT f.mask, value, masked(f.name, value)
FROM (VALUES (1, 'Anna'), (1, 'Ann'), (1, E'Zoe\u0301 B'), (2, 'ab'), (2, 'a'), (2, E'abe\u0301'), (2, 'ab🇩🇪🇫🇷'), (2, '🇩🇪'), (2, 'x👩‍👩‍👧'), (3, 'DE8937040013'), (3, 'DE893704001'), (4, '123-45-6789'), (4, '123456789'), (4, '6789'),
    (5, 'ann@example.org'), (5, 'a'), (6, ''), (6, 'anything'), (7, '+1 (415) 555 01-99'), (7, '555-019'), (7, 'none'), (8, 'ann@example.com'), (8, 'ann'), (8, 'ask @ noon'), (9, '1990-12-31'), (9, '1990-12-31T10:00Z'), (9, '1990-13-31'), (9, 'May 1990'),
    (1, '12    '), (1, E'12\u200B\u200B\u2060')) AS v (form, value)
    JOIN fieldcrypt.fields AS f ON f.name = 'm.form.' || form ORDER BY form, value COLLATE "C";
DROP FUNCTION masked(text, text);

-- No right, or one that shows nothing: the hidden form, which tells no length.
SET ROLE regress_nobody;
SELECT DISTINCT fieldcrypt.reveal(m_none), fieldcrypt.reveal(last4), fieldcrypt.reveal(zero), fieldcrypt.reveal(m_null), fieldcrypt.reveal(padded) FROM shown WHERE id < 99;
SELECT count(*) FROM shown WHERE fieldcrypt.reveal(shown) = shown::text;
SELECT test.outcome('SELECT fieldcrypt.decrypt(shown) FROM shown WHERE id = 1');
SET ROLE regress_writer;
SELECT DISTINCT fieldcrypt.reveal(last4) FROM shown WHERE id < 99;
RESET ROLE;
CREATE ROLE regress_searcher;
SELECT fieldcrypt.grant_access('regress_searcher', '{search,encrypt}', account => '*', field => '*');
SET ROLE regress_searcher;
SELECT DISTINCT fieldcrypt.reveal(last4) FROM shown WHERE id < 99;
RESET ROLE;

-- The strongest grant wins, however it came.
CREATE ROLE regress_both;
GRANT regress_masked TO regress_both;
SELECT fieldcrypt.grant_access('regress_both', '{decrypt}', account => 'acme', field => 'm.last4');
SET ROLE regress_both;
SELECT fieldcrypt.reveal(last4), fieldcrypt.reveal(first_last) FROM shown WHERE id = 1;
RESET ROLE;
SELECT fieldcrypt.revoke_access('regress_both', '{decrypt}', account => 'acme', field => 'm.last4');
SET ROLE regress_both;
SELECT fieldcrypt.reveal(last4), fieldcrypt.reveal(first_last) FROM shown WHERE id = 1;
RESET ROLE;
REVOKE regress_masked FROM regress_both;
SET ROLE regress_both;
SELECT fieldcrypt.reveal(last4), fieldcrypt.reveal(first_last) FROM shown WHERE id = 1;
RESET ROLE;
SELECT fieldcrypt.grant_access('regress_both', '{mask}', account => 'globex', field => '*');
SET ROLE regress_both;
SELECT fieldcrypt.reveal(last4) FROM shown WHERE id = 1;

-- Several accounts in one result.
SET ROLE regress_app;
SET fieldcrypt.account = 'globex';
INSERT INTO shown (id, last4) VALUES (8, '987-65-4321');
SET fieldcrypt.account = 'acme';
SET ROLE regress_both;
SELECT id, fieldcrypt.reveal(last4) FROM shown WHERE id IN (1, 8) ORDER BY id;

-- A disabled account: hidden by reveal(), an error by decrypt(); the field's hidden form.
RESET ROLE;
SELECT fieldcrypt.disable_account('acme');
SET ROLE regress_app;
SELECT id, fieldcrypt.reveal(last4) FROM shown WHERE id IN (1, 8) ORDER BY id;
SELECT fieldcrypt.reveal(shown) = shown::text AS hidden_as_ciphertext FROM shown WHERE id = 1;
SELECT test.outcome('SELECT fieldcrypt.decrypt(last4) FROM shown WHERE id = 1');
SELECT test.outcome('SELECT id FROM shown WHERE id = 1 AND fieldcrypt.account_of(last4) = ''acme''');
SET ROLE regress_masked;
SELECT fieldcrypt.reveal(last4), fieldcrypt.reveal(m_null) FROM shown WHERE id = 1;
RESET ROLE;
SELECT fieldcrypt.enable_account('acme');

-- A changed mask works at once, also in prepared statements.
SET ROLE regress_masked;
PREPARE look AS SELECT fieldcrypt.reveal(last4) FROM shown WHERE id = 1;
EXECUTE look;
RESET ROLE;
SELECT fieldcrypt.alter_field('m.last4', mask => 'zero');
SET ROLE regress_masked;
EXECUTE look;
RESET ROLE;
SELECT fieldcrypt.alter_field('m.last4', mask => 'none', hidden => 'ciphertext');
SET ROLE regress_masked;
SELECT fieldcrypt.reveal(last4) = last4::text FROM shown WHERE id = 1;
RESET ROLE;
SELECT fieldcrypt.alter_field('m.last4', mask => 'last4', hidden => 'mask');

-- A view lends no grant: the rights are those of who asks, however the view is made.
SET ROLE regress_app;
CREATE VIEW v_owner AS SELECT id, fieldcrypt.reveal(last4) AS last4 FROM shown WHERE id = 1;
CREATE VIEW v_invoker WITH (security_invoker) AS SELECT id, fieldcrypt.reveal(last4) AS last4 FROM shown WHERE id = 1;
CREATE VIEW v_barrier WITH (security_barrier) AS SELECT id, fieldcrypt.decrypt(last4) AS last4 FROM shown WHERE id = 1;
CREATE MATERIALIZED VIEW v_stored AS SELECT id, last4 FROM shown WHERE id = 1;
GRANT SELECT ON v_owner, v_invoker, v_barrier, v_stored TO PUBLIC;
SELECT (SELECT last4 FROM v_owner), (SELECT last4 FROM v_invoker), (SELECT last4 FROM v_barrier), (SELECT fieldcrypt.reveal(last4) FROM v_stored);
SET ROLE regress_masked;
SELECT (SELECT last4 FROM v_owner), (SELECT last4 FROM v_invoker), (SELECT fieldcrypt.reveal(last4) FROM v_stored);
SELECT test.outcome('SELECT last4 FROM v_barrier');
SET ROLE regress_nobody;
SELECT (SELECT last4 FROM v_owner), (SELECT last4 FROM v_invoker), (SELECT fieldcrypt.reveal(last4) FROM v_stored);
SELECT test.outcome('SELECT last4 FROM v_barrier');
-- A function of the owner lends them, since it says so (security definer).
SET ROLE regress_app;
CREATE FUNCTION lend(v fieldcrypt.encrypted_text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT fieldcrypt.reveal(v)';
SET ROLE regress_nobody;
SELECT lend(last4), fieldcrypt.reveal(last4) FROM shown WHERE id = 1;
-- A row security policy sees with the rights of who asks.
RESET ROLE;
ALTER TABLE shown ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON shown USING (fieldcrypt.reveal(last4) LIKE '%6789');
SET ROLE regress_masked;
SELECT id FROM shown;
SET ROLE regress_nobody;
SELECT id FROM shown;
RESET ROLE;

-- The error of decrypt() is the same for every value without right, and names no value.
SET ROLE regress_nobody;
SELECT test.outcome('SELECT fieldcrypt.decrypt(last4) FROM v_stored');
RESET ROLE;
-- Damaged values: one message, nothing of the value. A superuser puts them in.
SET ROLE regress_app;
CREATE TABLE damaged (id int, note fieldcrypt.encrypted_text('person.note'));
RESET ROLE;
SET fieldcrypt.accept_envelopes = on;
DO $$
DECLARE
    good text;
    bytes bytea;
BEGIN
    SET LOCAL ROLE regress_app;
    good := fieldcrypt.encrypt('canary', 'person.note')::text;
    bytes := fieldcrypt.encrypted_text_send(fieldcrypt.encrypt('canary', 'person.note'));
    -- one bit of the tag, of the ciphertext, of the nonce
    FOR i IN 0..2 LOOP
        INSERT INTO damaged VALUES (i, ('fc1:' || translate(encode(set_bit(bytes, (octet_length(bytes) - 1 - i * 18) * 8, 1 - get_bit(bytes, (octet_length(bytes) - 1 - i * 18) * 8)), 'base64'), E'+/=\n', '-_'))::fieldcrypt.encrypted_text);
    END LOOP;
END $$;
RESET fieldcrypt.accept_envelopes;
SET ROLE regress_app;
SELECT id, test.outcome(format('SELECT fieldcrypt.decrypt(note) FROM damaged WHERE id = %s', id)), test.outcome(format('SELECT fieldcrypt.reveal(note) FROM damaged WHERE id = %s', id)) FROM damaged ORDER BY id;
SET ROLE regress_nobody;
SELECT count(*) FROM pg_class WHERE relname = 'damaged';

-- Tidy up.
RESET ROLE;
DROP TABLE damaged;
DROP MATERIALIZED VIEW v_stored;
DROP VIEW v_owner, v_invoker, v_barrier;
DROP FUNCTION lend(fieldcrypt.encrypted_text);
DROP TABLE shown;
DELETE FROM fieldcrypt.access_grant WHERE role::text IN ('regress_searcher', 'regress_both');
DROP ROLE regress_searcher, regress_both;
SELECT count(fieldcrypt.drop_field(name)) FROM fieldcrypt.fields WHERE name LIKE 'm.%';
