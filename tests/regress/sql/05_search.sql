-- Search by equality. Each query finds what the same query over plain shadow columns finds, or
-- raises; none answers "no rows" wrongly.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';

-- Column x is encrypted, x_p its plain shadow in normal form. Values repeat, and some are NULL.
CREATE TABLE people (id int PRIMARY KEY, ssn fieldcrypt.encrypted_text('person.ssn'), ssn_p text,
    email fieldcrypt.encrypted_text('person.email'), email_p text,
    name fieldcrypt.encrypted_text('person.name'), name_p text);
INSERT INTO people
SELECT i, ssn, replace(ssn, '-', ''), email, lower(email), name, name
FROM generate_series(1, 200) AS i,
    LATERAL (SELECT CASE WHEN i % 20 <> 0 THEN '123-45-' || (1000 + i % 50) END AS ssn,
        'User' || i % 30 || '@Example.com' AS email, 'Name ' || i % 10 AS name) AS made;
CREATE INDEX people_ssn ON people USING hash (ssn);
CREATE INDEX people_email ON people USING btree (email);
CREATE INDEX people_name ON people USING hash (name);
ANALYZE people;

-- = and <>
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123 45/1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE '123-45-1001' = ssn$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE email = ' USER7@EXAMPLE.COM '$$, $$SELECT id FROM people WHERE email_p = 'user7@example.com'$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE name = 'Name 3'$$, $$SELECT id FROM people WHERE name_p = 'Name 3'$$, 'people_name');
SELECT test.same($$SELECT id FROM people WHERE name = 'name 3'$$, $$SELECT id FROM people WHERE name_p = 'name 3'$$, 'people_name');
SELECT test.same($$SELECT id FROM people WHERE ssn = '999'$$, $$SELECT id FROM people WHERE ssn_p = '999'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn <> '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p <> '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE ssn != '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p <> '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE NOT ssn = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p <> '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE NOT ssn <> '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = NULL$$, $$SELECT id FROM people WHERE ssn_p = NULL$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS NULL$$, $$SELECT id FROM people WHERE ssn_p IS NULL$$);
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001' OR ssn = '123-45-1002'$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001' AND email = 'user1@example.com'$$, $$SELECT id FROM people WHERE ssn_p = '123451001' AND email_p = 'user1@example.com'$$, 'people_ssn');
SELECT test.same($$SELECT count(*) FILTER (WHERE ssn = '123-45-1001'), bool_or(ssn = '123-45-1001') FROM people$$, $$SELECT count(*) FILTER (WHERE ssn_p = '123451001'), bool_or(ssn_p = '123451001') FROM people$$);
SELECT test.same($$SELECT id, ssn = '123-45-1001' AS found FROM people$$, $$SELECT id, ssn_p = '123451001' FROM people$$);
SELECT test.same($$SELECT name_p FROM people GROUP BY name_p HAVING bool_or(ssn = '123-45-1001')$$, $$SELECT name_p FROM people GROUP BY name_p HAVING bool_or(ssn_p = '123451001')$$);

-- The other side in other types and forms.
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'::text$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE '123-45-1001'::text = ssn$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'::varchar$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'::varchar(30)$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE name = 'Name 3'::char(10)$$, $$SELECT id FROM people WHERE name_p = 'Name 3'$$, 'people_name');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'::name$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'::fieldcrypt.encrypted_text$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = '123-45-1001'::fieldcrypt.encrypted_text('person.ssn')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = fieldcrypt.encrypt('123-45-1001', 'person.ssn')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE name = initcap('NAME 3')$$, $$SELECT id FROM people WHERE name_p = 'Name 3'$$, 'people_name');
SELECT test.same($$SELECT id FROM people WHERE email = lower('USER7') || '@example.com'$$, $$SELECT id FROM people WHERE email_p = 'user7@example.com'$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE ssn = concat('123-45-', 1001)$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = ('{"a": "123-45-1001"}'::jsonb ->> 'a')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = COALESCE(NULL, '123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = CASE WHEN id > 0 THEN '123-45-1001' END$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE ssn = (SELECT '123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = (SELECT '123-45-1001'::text)$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = (SELECT ssn FROM people WHERE id = 1)$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = (SELECT ssn_p FROM people WHERE id = 1)$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn = ssn_p$$, $$SELECT id FROM people WHERE ssn_p = ssn_p$$);
SELECT test.same($$SELECT id FROM people WHERE ssn <> ssn_p$$, $$SELECT id FROM people WHERE ssn_p <> ssn_p$$);
SELECT test.outcome($$SELECT id FROM people WHERE COALESCE(ssn, '1') = '123-45-1001'$$);
SELECT test.same($$SELECT id FROM people WHERE COALESCE(ssn, ssn) = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE CASE WHEN id < 100 THEN ssn ELSE ssn END = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.outcome($$SELECT id FROM people WHERE CASE WHEN id < 100 THEN ssn END = '123-45-1001'$$);
SELECT test.same($$SELECT id FROM people WHERE CASE WHEN id < 100 THEN ssn END = '123-45-1001'::fieldcrypt.encrypted_text('person.ssn')$$, $$SELECT id FROM people WHERE id < 100 AND ssn_p = '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE greatest(id, 0) > 0 AND (SELECT ssn) = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);

-- IN, NOT IN, ANY, ALL
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE email IN ('user1@example.com', 'USER2@example.com')$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001', '123451001', '123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001', NULL)$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', NULL)$$, 'people_ssn');
SELECT test.same($$SELECT id, ssn IN ('123-45-1001', NULL) FROM people$$, $$SELECT id, ssn_p IN ('123451001', NULL) FROM people$$);
SELECT test.same($$SELECT id, ssn NOT IN ('123-45-1001', NULL) FROM people$$, $$SELECT id, ssn_p NOT IN ('123451001', NULL) FROM people$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001'::text, '123-45-1002'::text)$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001'::varchar, '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn IN ('123-45-1001'::fieldcrypt.encrypted_text, '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE ssn IN (concat('123-45-', 1001), '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IN (ssn_p, '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN (ssn_p, '123451002')$$);
SELECT test.same($$SELECT id FROM people WHERE '123-45-1001' IN (ssn, ssn)$$, $$SELECT id FROM people WHERE '123451001' IN (ssn_p, ssn_p)$$);
SELECT test.same($$SELECT id FROM people WHERE ssn_p IN (ssn, '1')$$, $$SELECT id FROM people WHERE ssn_p IN (ssn_p, '1')$$);
SELECT test.same(format($$SELECT id FROM people WHERE ssn IN (%s)$$, string_agg(quote_literal('123-45-' || i), ', ')), $$SELECT id FROM people WHERE ssn_p BETWEEN '123451000' AND '123451020'$$, 'people_ssn') FROM generate_series(921, 1020) AS i;
SELECT test.same(format($$SELECT id FROM people WHERE ssn IN (%s)$$, string_agg(quote_literal('123-45-' || i), ', ')), $$SELECT id FROM people WHERE ssn_p BETWEEN '123451000' AND '123451020'$$) FROM generate_series(20, 1020) AS i;
SELECT test.same($$SELECT id FROM people WHERE ssn NOT IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p NOT IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM people WHERE NOT (ssn IN ('123-45-1001', '123-45-1002'))$$, $$SELECT id FROM people WHERE ssn_p NOT IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn NOT IN ('123-45-1001'::text, '123-45-1002'::text)$$, $$SELECT id FROM people WHERE ssn_p NOT IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM people WHERE email = ANY ('{user1@example.com,USER2@example.com}')$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY (ARRAY['user1@example.com', 'USER2@example.com'])$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY (ARRAY['user1@example.com', 'USER2@example.com']::text[])$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY ('{user1@example.com,USER2@example.com}'::text[])$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY ('{user1@example.com,USER2@example.com}'::varchar[])$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY ('{user1@example.com,USER2@example.com}'::fieldcrypt.encrypted_text[])$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY (string_to_array('user1@example.com,USER2@example.com', ','))$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$);
SELECT test.same($$SELECT id FROM people WHERE email = ANY (ARRAY(SELECT email_p FROM people WHERE id IN (1, 2)))$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$, 'people_email');
SELECT test.same($$SELECT id FROM people WHERE email = ANY (ARRAY(SELECT email FROM people WHERE id IN (1, 2)))$$, $$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$$);
SELECT test.same($$SELECT id FROM people WHERE email = ANY ('{}')$$, $$SELECT id FROM people WHERE email_p = ANY ('{}')$$);
SELECT test.same($$SELECT id FROM people WHERE email = ANY (NULL::text[])$$, $$SELECT id FROM people WHERE email_p = ANY (NULL::text[])$$);
SELECT test.same($$SELECT id FROM people WHERE ssn <> ALL ('{123-45-1001,123-45-1002}')$$, $$SELECT id FROM people WHERE ssn_p <> ALL ('{123451001,123451002}')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn <> ALL ('{123-45-1001,NULL}'::text[])$$, $$SELECT id FROM people WHERE ssn_p <> ALL ('{123451001,NULL}')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn <> ANY ('{123-45-1001,123-45-1002}')$$, $$SELECT id FROM people WHERE ssn_p <> ANY ('{123451001,123451002}')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn = ALL ('{123-45-1001,123451001}'::text[])$$, $$SELECT id FROM people WHERE ssn_p = ALL ('{123451001,123451001}')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn = ALL (ARRAY['123-45-1001', '123451001'])$$, $$SELECT id FROM people WHERE ssn_p = ALL ('{123451001,123451001}')$$);
SELECT test.same($$SELECT id FROM people WHERE ssn = ANY (ARRAY[['123-45-1001', '123-45-1002'], ['123-45-1003', '123-45-1004']])$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002', '123451003', '123451004')$$);
SELECT test.same($$SELECT id FROM people WHERE '123-45-1001' = ANY (ARRAY[ssn])$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE ssn = ANY (ARRAY[ssn_p, '123-45-1002'])$$, $$SELECT id FROM people WHERE ssn_p IN (ssn_p, '123451002')$$);
-- 18 makes of it an array while it plans, after the hook: then it raises.
SELECT test.same($$SELECT id FROM people WHERE ssn = SOME (VALUES ('123-45-1001'), ('123-45-1002'))$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$) ~ '^(same: 8 rows|DIFFERENT: got 0A000 )';

-- IS [NOT] DISTINCT FROM, NULLIF, CASE, COALESCE
SELECT test.same($$SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p IS NOT DISTINCT FROM '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS DISTINCT FROM '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p IS DISTINCT FROM '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS DISTINCT FROM '123-45-1001'::text$$, $$SELECT id FROM people WHERE ssn_p IS DISTINCT FROM '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE '123-45-1001' IS NOT DISTINCT FROM ssn$$, $$SELECT id FROM people WHERE ssn_p IS NOT DISTINCT FROM '123451001'$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM NULL$$, $$SELECT id FROM people WHERE ssn_p IS NULL$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS DISTINCT FROM NULL$$, $$SELECT id FROM people WHERE ssn_p IS NOT NULL$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM ssn$$, $$SELECT id FROM people WHERE ssn_p IS NOT DISTINCT FROM ssn_p$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM ssn_p$$, $$SELECT id FROM people$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM NULL::text$$, $$SELECT id FROM people WHERE ssn_p IS NULL$$);
SELECT test.same($$SELECT id FROM people WHERE NULLIF(ssn, '123-45-1001') IS NULL$$, $$SELECT id FROM people WHERE NULLIF(ssn_p, '123451001') IS NULL$$);
SELECT test.same($$SELECT id FROM people WHERE NULLIF(ssn, '123-45-1001'::text) IS NULL$$, $$SELECT id FROM people WHERE NULLIF(ssn_p, '123451001') IS NULL$$);
-- NULLIF returns its first argument, so that one must have a field.
SELECT test.outcome($$SELECT id FROM people WHERE NULLIF('123-45-1001', ssn) IS NULL$$);
SELECT test.same($$SELECT id FROM people WHERE NULLIF('123-45-1001'::fieldcrypt.encrypted_text('person.ssn'), ssn) IS NULL$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id, fieldcrypt.decrypt(NULLIF(ssn, '123-45-1001')) FROM people WHERE id < 3$$, $$VALUES (1, NULL), (2, '123-45-1002')$$);
SELECT test.same($$SELECT id FROM people WHERE NULLIF(ssn, '123-45-1001') = '123-45-1002'$$, $$SELECT id FROM people WHERE ssn_p = '123451002'$$);
SELECT test.same($$SELECT id, CASE ssn WHEN '123-45-1001' THEN 'one' WHEN '123-45-1002' THEN 'two' ELSE 'else' END FROM people$$, $$SELECT id, CASE ssn_p WHEN '123451001' THEN 'one' WHEN '123451002' THEN 'two' ELSE 'else' END FROM people$$);
SELECT test.same($$SELECT id, CASE ssn WHEN '123-45-1001'::text THEN 'one' ELSE 'else' END FROM people$$, $$SELECT id, CASE ssn_p WHEN '123451001' THEN 'one' ELSE 'else' END FROM people$$);
SELECT test.same($$SELECT id, CASE WHEN ssn = '123-45-1001' THEN 'one' WHEN ssn IN ('123-45-1002', '123-45-1003') THEN 'more' END FROM people$$, $$SELECT id, CASE WHEN ssn_p = '123451001' THEN 'one' WHEN ssn_p IN ('123451002', '123451003') THEN 'more' END FROM people$$);
SELECT test.same($$SELECT id, CASE '123-45-1001' WHEN ssn THEN 'one' END FROM people$$, $$SELECT id, CASE '123451001' WHEN ssn_p THEN 'one' END FROM people$$);
SELECT test.same($$SELECT id FROM people WHERE (ssn = '123-45-1001') IS NOT TRUE$$, $$SELECT id FROM people WHERE (ssn_p = '123451001') IS NOT TRUE$$);

-- Rows
SELECT test.same($$SELECT id FROM people WHERE (ssn, email) = ('123-45-1001', 'user1@example.com')$$, $$SELECT id FROM people WHERE (ssn_p, email_p) = ('123451001', 'user1@example.com')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE (ssn, email) <> ('123-45-1001', 'user1@example.com')$$, $$SELECT id FROM people WHERE (ssn_p, email_p) <> ('123451001', 'user1@example.com')$$);
SELECT test.same($$SELECT id FROM people WHERE (ssn, name) IN (('123-45-1001', 'Name 1'), ('123-45-1002', 'Name 2'))$$, $$SELECT id FROM people WHERE (ssn_p, name_p) IN (('123451001', 'Name 1'), ('123451002', 'Name 2'))$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people WHERE (ssn, name) NOT IN (('123-45-1001', 'Name 1'), ('123-45-1002', 'Name 2'))$$, $$SELECT id FROM people WHERE (ssn_p, name_p) NOT IN (('123451001', 'Name 1'), ('123451002', 'Name 2'))$$);
SELECT test.same($$SELECT id FROM people WHERE ROW(ssn, id) IS NOT DISTINCT FROM ROW('123-45-1001', 1)$$, $$SELECT id FROM people WHERE ROW(ssn_p, id) IS NOT DISTINCT FROM ROW('123451001', 1)$$);
SELECT test.same($$SELECT a.id FROM people AS a JOIN people AS b ON (a.ssn, a.id) = (b.ssn, b.id)$$, $$SELECT a.id FROM people AS a JOIN people AS b ON (a.ssn_p, a.id) = (b.ssn_p, b.id)$$);
SELECT test.same($$SELECT id FROM people AS a WHERE (ssn, id) IN (SELECT ssn, id FROM people WHERE id < 10)$$, $$SELECT id FROM people AS a WHERE (ssn_p, id) IN (SELECT ssn_p, id FROM people WHERE id < 10)$$);
SELECT test.same($$SELECT count(*) FROM people AS a JOIN people AS b ON a = b$$, $$SELECT count(*) FROM people$$);
SELECT test.outcome($$SELECT id FROM people WHERE (ssn, id) < ('123-45-1001', 5)$$);
SELECT test.outcome($$SELECT id FROM people WHERE (ssn, id) = ('123-45-1001'::text, 1)$$);

-- Joins: nested loop, hash and merge.
CREATE TABLE other (n int, ssn fieldcrypt.encrypted_text('person.ssn'), ssn_p text);
INSERT INTO other SELECT i, '123 45 ' || (1000 + i), '12345' || (1000 + i) FROM generate_series(-5, 30) AS i;
CREATE FUNCTION joins() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT test.same('SELECT id, n FROM people JOIN other ON people.ssn = other.ssn', 'SELECT id, n FROM people JOIN other ON people.ssn_p = other.ssn_p');
    RETURN NEXT test.same('SELECT id, n FROM people JOIN other USING (ssn)', 'SELECT id, n FROM people JOIN other USING (ssn_p)');
    RETURN NEXT test.same('SELECT id, n FROM people LEFT JOIN other USING (ssn)', 'SELECT id, n FROM people LEFT JOIN other USING (ssn_p)');
    RETURN NEXT test.same('SELECT a.id, b.id FROM people AS a JOIN people AS b ON a.ssn = b.ssn AND a.id < b.id', 'SELECT a.id, b.id FROM people AS a JOIN people AS b ON a.ssn_p = b.ssn_p AND a.id < b.id');
    RETURN NEXT test.same('SELECT id FROM people WHERE ssn IN (SELECT ssn FROM other)', 'SELECT id FROM people WHERE ssn_p IN (SELECT ssn_p FROM other)');
    RETURN NEXT test.same('SELECT id FROM people WHERE EXISTS (SELECT FROM other WHERE ssn = people.ssn)', 'SELECT id FROM people WHERE EXISTS (SELECT FROM other WHERE ssn_p = people.ssn_p)');
    RETURN NEXT test.same('SELECT n FROM other WHERE NOT EXISTS (SELECT FROM people WHERE ssn = other.ssn)', 'SELECT n FROM other WHERE NOT EXISTS (SELECT FROM people WHERE ssn_p = other.ssn_p)');
    RETURN NEXT test.same('SELECT id, n FROM people JOIN other ON people.ssn = other.ssn_p', 'SELECT id, n FROM people JOIN other ON people.ssn_p = other.ssn_p');
END
$$;
SELECT joins();
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT DISTINCT joins() AS line ORDER BY line;
SET enable_mergejoin = on;
SET enable_nestloop = off;
SELECT DISTINCT joins() AS line ORDER BY line;
SELECT test.plan('SELECT id, n FROM people JOIN other USING (ssn)') LIKE '%Merge Join%';
SET enable_mergejoin = off;
SET enable_hashjoin = on;
SELECT DISTINCT joins() AS line ORDER BY line;
SELECT test.plan('SELECT id, n FROM people JOIN other USING (ssn)') LIKE '%Hash Join%';
RESET enable_nestloop;
RESET enable_mergejoin;
SELECT test.same('SELECT id, n FROM people FULL JOIN other USING (ssn)', 'SELECT id, n FROM people FULL JOIN other USING (ssn_p)');
SELECT test.same($$SELECT id, n FROM people FULL JOIN other USING (ssn) WHERE ssn = '123-45-1001'$$, $$SELECT id, n FROM people FULL JOIN other USING (ssn_p) WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id, n FROM people RIGHT JOIN other ON people.ssn = other.ssn AND people.ssn = '123-45-1001'$$, $$SELECT id, n FROM people RIGHT JOIN other ON people.ssn_p = other.ssn_p AND people.ssn_p = '123451001'$$);
SELECT test.same($$SELECT id, n FROM people JOIN other USING (ssn) WHERE other.ssn = '123-45-1001'$$, $$SELECT id, n FROM people JOIN other USING (ssn_p) WHERE other.ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT id FROM people NATURAL JOIN (SELECT ssn FROM other) AS o$$, $$SELECT id FROM people JOIN other USING (ssn_p)$$);
-- A text column on the other side: by index where it is the outer side.
SELECT test.same($$SELECT id FROM (VALUES ('123-45-1001'), ('123-45-1003')) AS v (v) JOIN people ON ssn = v$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451003')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM (VALUES ('123-45-1001'::varchar), ('123-45-1003')) AS v (v) JOIN people ON ssn = v$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451003')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM unnest('{123-45-1001,123-45-1003}'::text[]) AS v JOIN people ON ssn = v$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451003')$$, 'people_ssn');
SELECT test.same($$SELECT id FROM (VALUES ('123-45-1001'::fieldcrypt.encrypted_text), ('123-45-1003')) AS v (v) JOIN people ON ssn = v$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451003')$$, 'people_ssn');
-- Different fields never match: refused.
SELECT test.outcome('SELECT count(*) FROM people WHERE ssn = email');
SELECT test.outcome('SELECT count(*) FROM people WHERE ssn <> email');
SELECT test.outcome('SELECT count(*) FROM people WHERE ssn IS DISTINCT FROM email');
SELECT test.outcome('SELECT count(*) FROM people WHERE ssn IN (email, name)');
SELECT test.outcome('SELECT count(NULLIF(ssn, email)) FROM people');
SELECT test.outcome('SELECT count(*) FROM people AS a JOIN people AS b ON a.ssn = b.name');
SELECT test.outcome('SELECT count(*) FROM people WHERE ssn IN (SELECT email FROM people)');
SELECT test.outcome('SELECT count(*) FROM (SELECT ssn FROM people UNION SELECT email FROM people) AS u') LIKE '0A000 %';
SELECT test.outcome($$SELECT count(*) FROM people WHERE ssn = fieldcrypt.encrypt('x', 'person.name')$$);
SELECT test.outcome($$SELECT count(*) FROM people WHERE ssn = 'x'::fieldcrypt.encrypted_text('person.name')$$);
SELECT test.outcome('SELECT count(*) FROM (SELECT ssn FROM people INTERSECT SELECT email FROM people) AS u') LIKE '0A000 %';
SELECT test.outcome('SELECT count(*) FROM (SELECT ssn FROM people EXCEPT SELECT email FROM people) AS u') LIKE '0A000 %';
SELECT test.outcome('SELECT count(*) FROM (SELECT id, ssn FROM people UNION SELECT id, ssn FROM people UNION SELECT id, email FROM people) AS u') LIKE '0A000 %';
SELECT test.outcome($$SELECT count(DISTINCT v) FROM (SELECT ssn AS v FROM people UNION ALL SELECT email FROM people) AS u$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT ssn AS v FROM people UNION ALL SELECT email FROM people) AS u WHERE v = '123-45-1001'$$);

-- Subqueries, CTEs, lateral
SELECT test.same($$SELECT id FROM people WHERE ssn IN (SELECT ssn FROM people WHERE id < 5)$$, $$SELECT id FROM people WHERE ssn_p IN (SELECT ssn_p FROM people WHERE id < 5)$$);
SELECT test.same($$SELECT id FROM people WHERE ssn NOT IN (SELECT ssn FROM people WHERE id < 5)$$, $$SELECT id FROM people WHERE ssn_p NOT IN (SELECT ssn_p FROM people WHERE id < 5)$$);
SELECT test.same($$SELECT id FROM people WHERE ssn IN (SELECT ssn_p FROM people WHERE id < 5)$$, $$SELECT id FROM people WHERE ssn_p IN (SELECT ssn_p FROM people WHERE id < 5)$$);
SELECT test.same($$SELECT id FROM people WHERE ssn NOT IN (SELECT ssn_p FROM people WHERE id < 5)$$, $$SELECT id FROM people WHERE ssn_p NOT IN (SELECT ssn_p FROM people WHERE id < 5)$$);
-- 18 makes of it an array while it plans, after the hook: then it raises.
SELECT test.same($$SELECT id FROM people WHERE ssn IN (VALUES ('123-45-1001'), ('123-45-1002'))$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$) ~ '^(same: 8 rows|DIFFERENT: got 0A000 )';
SELECT test.same($$SELECT id FROM people WHERE '123-45-1001' IN (SELECT ssn FROM people)$$, $$SELECT id FROM people WHERE '123451001' IN (SELECT ssn_p FROM people)$$);
SELECT test.same($$SELECT id FROM people WHERE id < 9 AND '123-45-1001' NOT IN (SELECT ssn FROM people AS p WHERE p.id = people.id)$$, $$SELECT id FROM people WHERE id < 9 AND '123451001' NOT IN (SELECT ssn_p FROM people AS p WHERE p.id = people.id)$$);
SELECT test.same($$SELECT id FROM people WHERE ssn_p IN (SELECT ssn FROM people WHERE id < 5)$$, $$SELECT id FROM people WHERE ssn_p IN (SELECT ssn_p FROM people WHERE id < 5)$$);
SELECT test.same($$SELECT id FROM (SELECT * FROM people OFFSET 0) AS p WHERE ssn = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT id FROM (SELECT id, ssn AS v FROM people UNION ALL SELECT n, ssn FROM other) AS u WHERE v = '123-45-1001'$$, $$SELECT id FROM (SELECT id, ssn_p AS v FROM people UNION ALL SELECT n, ssn_p FROM other) AS u WHERE v = '123451001'$$, 'people_ssn');
SELECT test.same($$WITH p AS MATERIALIZED (SELECT * FROM people) SELECT id FROM p WHERE ssn = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$WITH p AS NOT MATERIALIZED (SELECT * FROM people) SELECT id FROM p WHERE ssn IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$, 'people_ssn');
SELECT test.same($$WITH v AS (SELECT '123-45-1001' AS v) SELECT id FROM people, v WHERE ssn = v$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$WITH v AS MATERIALIZED (SELECT '123-45-1001'::fieldcrypt.encrypted_text AS v) SELECT id FROM people, v WHERE ssn = v$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$WITH v AS MATERIALIZED (SELECT ssn AS v FROM people WHERE id = 1) SELECT id FROM people, v WHERE ssn = v$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$WITH RECURSIVE walk AS (SELECT id, ssn FROM people WHERE ssn = '123-45-1001' AND id < 50 UNION SELECT p.id, p.ssn FROM people AS p JOIN walk AS w ON p.ssn = w.ssn AND p.id = w.id + 50) SELECT id FROM walk WHERE ssn = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT p.id, l.n FROM people AS p, LATERAL (SELECT count(*) AS n FROM people AS q WHERE q.ssn = p.ssn) AS l$$, $$SELECT p.id, l.n FROM people AS p, LATERAL (SELECT count(*) AS n FROM people AS q WHERE q.ssn_p = p.ssn_p) AS l$$);
SELECT test.same($$SELECT p.id, l.id FROM people AS p, LATERAL (SELECT id FROM people AS q WHERE q.ssn = p.ssn_p AND q.id < 5) AS l$$, $$SELECT p.id, l.id FROM people AS p, LATERAL (SELECT id FROM people AS q WHERE q.ssn_p = p.ssn_p AND q.id < 5) AS l$$);
SELECT test.same($$SELECT id, (SELECT min(n) FROM other WHERE other.ssn = people.ssn) FROM people$$, $$SELECT id, (SELECT min(n) FROM other WHERE other.ssn_p = people.ssn_p) FROM people$$);

-- Set operations
SELECT test.same('SELECT count(*) FROM (SELECT ssn FROM people UNION SELECT ssn FROM other) AS u', 'SELECT count(*) FROM (SELECT ssn_p FROM people UNION SELECT ssn_p FROM other) AS u');
SELECT test.same('SELECT count(*) FROM (SELECT ssn FROM people INTERSECT SELECT ssn FROM other) AS u', 'SELECT count(*) FROM (SELECT ssn_p FROM people INTERSECT SELECT ssn_p FROM other) AS u');
SELECT test.same('SELECT count(*) FROM (SELECT ssn FROM people INTERSECT ALL SELECT ssn FROM other) AS u', 'SELECT count(*) FROM (SELECT ssn_p FROM people INTERSECT ALL SELECT ssn_p FROM other) AS u');
SELECT test.same('SELECT count(*) FROM (SELECT ssn FROM people EXCEPT SELECT ssn FROM other) AS u', 'SELECT count(*) FROM (SELECT ssn_p FROM people EXCEPT SELECT ssn_p FROM other) AS u');
SELECT test.same('SELECT count(*) FROM (SELECT ssn FROM people EXCEPT ALL SELECT ssn FROM other) AS u', 'SELECT count(*) FROM (SELECT ssn_p FROM people EXCEPT ALL SELECT ssn_p FROM other) AS u');
SELECT test.same($$SELECT count(*) FROM (SELECT ssn FROM people UNION SELECT ssn FROM other) AS u WHERE ssn = '123-45-1001'$$, $$SELECT count(*) FROM (SELECT ssn_p FROM people UNION SELECT ssn_p FROM other) AS u WHERE ssn_p = '123451001'$$);
-- A literal as a branch has no field: refused, except where it is told.
SELECT test.outcome($$SELECT count(*) FROM (SELECT ssn FROM people UNION SELECT '123-45-1001') AS u$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT ssn FROM people INTERSECT SELECT '123-45-1001') AS u$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT ssn FROM people EXCEPT SELECT '123-45-1001') AS u$$);
SELECT test.same($$SELECT count(*) FROM (SELECT ssn FROM people INTERSECT SELECT '123-45-1001'::fieldcrypt.encrypted_text('person.ssn')) AS u$$, $$SELECT 1::bigint$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT ssn FROM people UNION ALL SELECT '123-45-1001') AS u WHERE ssn = '123-45-1001'$$);

-- DISTINCT, GROUP BY, windows; by hash and by sort.
CREATE FUNCTION groups() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT test.same('SELECT count(*) FROM (SELECT DISTINCT ssn FROM people) AS d', 'SELECT count(*) FROM (SELECT DISTINCT ssn_p FROM people) AS d');
    RETURN NEXT test.same('SELECT count(*) FROM (SELECT DISTINCT ssn, name FROM people) AS d', 'SELECT count(*) FROM (SELECT DISTINCT ssn_p, name_p FROM people) AS d');
    RETURN NEXT test.same('SELECT min(id), count(*) FROM people GROUP BY ssn', 'SELECT min(id), count(*) FROM people GROUP BY ssn_p');
    RETURN NEXT test.same('SELECT min(id), count(*) FROM people GROUP BY ssn, email', 'SELECT min(id), count(*) FROM people GROUP BY ssn_p, email_p');
    RETURN NEXT test.same('SELECT min(id), count(*) FROM people GROUP BY ssn HAVING ssn = ''123-45-1001''', 'SELECT min(id), count(*) FROM people GROUP BY ssn_p HAVING ssn_p = ''123451001''');
    RETURN NEXT test.same('SELECT min(id), count(*) FROM people GROUP BY GROUPING SETS ((ssn), (name), ())', 'SELECT min(id), count(*) FROM people GROUP BY GROUPING SETS ((ssn_p), (name_p), ())');
    RETURN NEXT test.same('SELECT count(*) FROM (SELECT FROM people GROUP BY ROLLUP (ssn, name)) AS g', 'SELECT count(*) FROM (SELECT FROM people GROUP BY ROLLUP (ssn_p, name_p)) AS g');
    RETURN NEXT test.same('SELECT count(DISTINCT ssn), count(DISTINCT email), count(DISTINCT name) FROM people', 'SELECT count(DISTINCT ssn_p), count(DISTINCT email_p), count(DISTINCT name_p) FROM people');
    RETURN NEXT test.same('SELECT name_p, count(DISTINCT ssn) FROM people GROUP BY name_p', 'SELECT name_p, count(DISTINCT ssn_p) FROM people GROUP BY name_p');
    RETURN NEXT test.same('SELECT cardinality(array_agg(DISTINCT ssn)) FROM people', 'SELECT cardinality(array_agg(DISTINCT ssn_p)) FROM people');
    RETURN NEXT test.same('SELECT id, count(*) OVER (PARTITION BY ssn) FROM people', 'SELECT id, count(*) OVER (PARTITION BY ssn_p) FROM people');
    RETURN NEXT test.same('SELECT id, row_number() OVER (PARTITION BY ssn ORDER BY id) FROM people', 'SELECT id, row_number() OVER (PARTITION BY ssn_p ORDER BY id) FROM people');
    RETURN NEXT test.same('SELECT id, lag(ssn) OVER (ORDER BY id) = ssn FROM people', 'SELECT id, lag(ssn_p) OVER (ORDER BY id) = ssn_p FROM people');
    RETURN NEXT test.same('SELECT id, first_value(ssn) OVER w = ssn FROM people WINDOW w AS (PARTITION BY name ORDER BY id)', 'SELECT id, first_value(ssn_p) OVER w = ssn_p FROM people WINDOW w AS (PARTITION BY name_p ORDER BY id)');
    RETURN NEXT test.same('SELECT id FROM (SELECT DISTINCT ON (ssn) id, ssn FROM people ORDER BY ssn, id) AS d', 'SELECT id FROM (SELECT DISTINCT ON (ssn_p) id, ssn_p FROM people ORDER BY ssn_p, id) AS d');
    RETURN NEXT test.same('SELECT count(*) FROM (SELECT DISTINCT people FROM people) AS d', 'SELECT count(*) FROM people');
END
$$;
SELECT groups();
SET enable_hashagg = off;
SELECT DISTINCT groups() AS line ORDER BY line;
SET enable_hashagg = on;
SET enable_sort = off;
SELECT DISTINCT groups() AS line ORDER BY line;
RESET enable_sort;
SELECT test.same('SELECT fieldcrypt.decrypt(ssn), count(*) FROM people GROUP BY ssn', $$SELECT overlay(overlay(ssn_p PLACING '-' FROM 4 FOR 0) PLACING '-' FROM 7 FOR 0), count(*) FROM people GROUP BY ssn_p$$);
-- What has no field any more cannot be compared with a literal: it raises.
SELECT test.outcome($$SELECT count(*) FROM (SELECT id, lag(ssn) OVER (ORDER BY id) AS v FROM people) AS p WHERE v = '123-45-1001'$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT unnest(array_agg(ssn)) AS v FROM people) AS p WHERE v = '123-45-1001'$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT unnest(array_agg(ssn)) AS v FROM people) AS p WHERE v = '123-45-1001'::text$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT unnest(array_agg(ssn)) AS v FROM people) AS p WHERE v IN ('123-45-1001', '123-45-1002')$$);
SELECT test.outcome($$SELECT count(*) FROM (SELECT unnest(array_agg(ssn)) AS v FROM people) AS p WHERE v IS NOT DISTINCT FROM '123-45-1001'$$);
SELECT test.same($$SELECT count(*) FROM (SELECT unnest(array_agg(ssn)) AS v FROM people) AS p WHERE v::fieldcrypt.encrypted_text('person.ssn') = '123-45-1001'$$, $$SELECT count(*) FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT count(*) FROM (SELECT unnest(array_agg(ssn)) AS v FROM people) AS p WHERE v = '123-45-1001'::fieldcrypt.encrypted_text('person.ssn')$$, $$SELECT count(*) FROM people WHERE ssn_p = '123451001'$$);

-- An order would mean nothing: refused wherever it can be written.
SELECT test.outcome('SELECT id FROM people ORDER BY ssn');
SELECT test.outcome('SELECT ssn FROM people ORDER BY 1');
SELECT test.outcome('SELECT id FROM people ORDER BY name_p, ssn DESC NULLS LAST');
SELECT test.outcome('SELECT id FROM (SELECT id FROM people ORDER BY ssn) AS p');
SELECT test.outcome('WITH p AS (SELECT id FROM people ORDER BY ssn) SELECT * FROM p');
SELECT test.outcome('SELECT ARRAY(SELECT id FROM people ORDER BY ssn)');
SELECT test.outcome('SELECT ssn FROM people UNION SELECT ssn FROM other ORDER BY ssn');
SELECT test.outcome('SELECT DISTINCT ssn FROM people ORDER BY ssn');
SELECT test.outcome('SELECT ssn FROM people GROUP BY ssn ORDER BY ssn');
SELECT test.outcome('SELECT rank() OVER (ORDER BY ssn) FROM people');
SELECT test.outcome('SELECT string_agg(name_p, '','' ORDER BY ssn) FROM people');
SELECT test.outcome('SELECT array_agg(ssn ORDER BY ssn) FROM people');
SELECT test.outcome('SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM people');
SELECT test.outcome('SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM people');
SELECT test.outcome('SELECT id FROM people ORDER BY ssn USING OPERATOR(fieldcrypt.<#)');
SELECT test.outcome('SELECT id FROM people ORDER BY COALESCE(ssn, ssn)');
SELECT test.outcome('DELETE FROM people WHERE id IN (SELECT id FROM people ORDER BY ssn LIMIT 1) RETURNING id');
SELECT test.outcome('SELECT min(ssn) FROM people');
SELECT test.outcome('SELECT count(greatest(ssn, ssn)) FROM people') LIKE '0A000 %';
SELECT test.outcome('SELECT count(least(ssn, ssn, ssn)) FROM people') LIKE '0A000 %';
SELECT test.outcome($$SELECT id FROM people WHERE ssn < '2'$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn BETWEEN '1' AND '2'$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn LIKE '1%'$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn ~ '1'$$);
CREATE VIEW ordered AS SELECT id FROM people ORDER BY ssn;
SELECT test.outcome('SELECT * FROM ordered');
DROP VIEW IF EXISTS ordered;
SELECT test.same('SELECT (array_agg(id ORDER BY id))[1:3] FROM people WHERE ssn IS NULL', 'SELECT (array_agg(id ORDER BY id))[1:3] FROM people WHERE ssn_p IS NULL');
SELECT id FROM people WHERE id IN (1, 2, 20) ORDER BY ssn IS NULL DESC, fieldcrypt.decrypt(ssn);

-- Arrays of the type, domains, composites
CREATE DOMAIN ssn_domain AS fieldcrypt.encrypted_text('person.ssn');
CREATE DOMAIN ssn_required AS ssn_domain CHECK (VALUE IS NOT NULL);
CREATE TYPE contact AS (ssn fieldcrypt.encrypted_text('person.ssn'), n int);
CREATE TABLE forms (id int, ssns fieldcrypt.encrypted_text('person.ssn')[], d ssn_domain, dd ssn_required, c contact, p text);
INSERT INTO forms SELECT i, ARRAY['0', '123-45-' || i], '123-45-' || i, '123-45-' || i, NULL, '12345' || i FROM generate_series(1000, 1020) AS i;
UPDATE forms SET c = ROW('123-45-' || id, id)::contact;
UPDATE forms SET c.n = id;
CREATE INDEX forms_d ON forms (d);
CREATE INDEX forms_dd ON forms USING hash (dd);
ANALYZE forms;
SELECT test.same($$SELECT id FROM forms WHERE d = '123-45-1001'$$, $$SELECT id FROM forms WHERE p = '123451001'$$, 'forms_d');
SELECT test.same($$SELECT id FROM forms WHERE dd = '123-45-1001'$$, $$SELECT id FROM forms WHERE p = '123451001'$$, 'forms_dd');
SELECT test.same($$SELECT id FROM forms WHERE d = '123-45-1001'::text$$, $$SELECT id FROM forms WHERE p = '123451001'$$, 'forms_d');
SELECT test.same($$SELECT id FROM forms WHERE d = '123-45-1001'::varchar$$, $$SELECT id FROM forms WHERE p = '123451001'$$, 'forms_d');
SELECT test.same($$SELECT id FROM forms WHERE d = '123-45-1001'::ssn_domain$$, $$SELECT id FROM forms WHERE p = '123451001'$$, 'forms_d');
SELECT test.same($$SELECT id FROM forms WHERE d <> '123-45-1001'$$, $$SELECT id FROM forms WHERE p <> '123451001'$$);
SELECT test.same($$SELECT id FROM forms WHERE d IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM forms WHERE p IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM forms WHERE dd IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM forms WHERE p IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM forms WHERE dd = ANY ('{123-45-1001}'::text[])$$, $$SELECT id FROM forms WHERE p IN ('123451001')$$);
SELECT test.same($$SELECT id FROM forms WHERE dd IS NOT DISTINCT FROM '123-45-1001'$$, $$SELECT id FROM forms WHERE p IN ('123451001')$$);
SELECT test.same($$SELECT id FROM forms WHERE NULLIF(dd, '123-45-1001') IS NULL$$, $$SELECT id FROM forms WHERE p IN ('123451001')$$);
SELECT test.same($$SELECT forms.id, people.id FROM forms JOIN people ON forms.d = people.ssn$$, $$SELECT forms.id, people.id FROM forms JOIN people ON forms.p = people.ssn_p$$);
SELECT test.same($$SELECT forms.id, people.id FROM forms JOIN people ON forms.dd = people.ssn$$, $$SELECT forms.id, people.id FROM forms JOIN people ON forms.p = people.ssn_p$$);
SELECT test.same($$SELECT count(*) FROM forms AS a JOIN forms AS b ON a.d = b.dd$$, $$SELECT count(*) FROM forms$$);
SELECT test.outcome($$SELECT count(*) FROM forms JOIN people ON forms.d = people.email$$);
SELECT test.same($$SELECT count(DISTINCT d), count(DISTINCT dd) FROM forms$$, $$SELECT count(DISTINCT p), count(DISTINCT p) FROM forms$$);
SELECT test.outcome('SELECT id FROM forms ORDER BY dd');
SELECT test.same($$SELECT id FROM forms WHERE ssns[2] = '123-45-1001'$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.same($$SELECT id FROM forms WHERE ssns[2] IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM forms WHERE p IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM forms WHERE '123-45-1001' = ANY (ssns)$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.same($$SELECT id FROM forms WHERE '123-45-1001'::text = ANY (ssns)$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.same($$SELECT id FROM forms WHERE '123-45-1001' <> ALL (ssns)$$, $$SELECT id FROM forms WHERE p <> '123451001'$$);
SELECT test.same($$SELECT id FROM forms WHERE d = ANY (ssns)$$, $$SELECT id FROM forms$$);
SELECT test.same($$SELECT id FROM forms, unnest(ssns) AS u WHERE u = d$$, $$SELECT id FROM forms$$);
SELECT test.outcome($$SELECT id FROM forms, unnest(ssns) AS u WHERE u = '123-45-1001'$$);
SELECT test.same($$SELECT id FROM forms, unnest(ssns) AS u WHERE u = '123-45-1001'::fieldcrypt.encrypted_text('person.ssn')$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.outcome($$SELECT id FROM forms WHERE ssns = ARRAY['0', '123-45-1001']::fieldcrypt.encrypted_text[]$$);
SELECT test.outcome($$SELECT id FROM forms WHERE ssns = '{0,123-45-1001}'$$);
SELECT test.outcome($$SELECT id FROM forms WHERE ssns @> '{123-45-1001}'$$);
SELECT test.outcome($$SELECT id FROM forms WHERE ssns && '{123-45-1001}'$$);
SELECT test.outcome($$SELECT id FROM forms WHERE array_position(ssns, '123-45-1001') > 0$$);
SELECT test.outcome($$SELECT id FROM forms WHERE array_remove(ssns, '123-45-1001') <> ssns$$);
SELECT test.same($$SELECT a.id FROM forms AS a JOIN forms AS b ON a.ssns = b.ssns$$, $$SELECT id FROM forms$$);
SELECT test.same($$SELECT id FROM forms WHERE ssns @> ARRAY[d::fieldcrypt.encrypted_text]$$, $$SELECT id FROM forms$$);
SELECT test.same($$SELECT id FROM forms WHERE (c).ssn = '123-45-1001'$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.same($$SELECT id FROM forms WHERE (c).ssn IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM forms WHERE p IN ('123451001', '123451002')$$);
SELECT test.outcome($$SELECT id FROM forms WHERE c = ROW('123-45-1001', 1001)::contact$$);
SELECT test.outcome($$SELECT id FROM forms WHERE c = ROW('123-45-1001'::fieldcrypt.encrypted_text, 1001)::contact$$);
SELECT test.same($$SELECT a.id FROM forms AS a JOIN forms AS b ON a.c = b.c$$, $$SELECT id FROM forms$$);
SELECT test.same($$SELECT id FROM forms, jsonb_to_record('{"v": "123-45-1001"}') AS r (v fieldcrypt.encrypted_text('person.ssn')) WHERE d = v$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.same($$SELECT id FROM forms, jsonb_to_record('{"v": "123-45-1001"}') AS r (v fieldcrypt.encrypted_text) WHERE d = v$$, $$SELECT id FROM forms WHERE p = '123451001'$$);
SELECT test.same($$SELECT id FROM forms, jsonb_to_record('{"v": "123-45-1001"}') AS r (v text) WHERE d = v$$, $$SELECT id FROM forms WHERE p = '123451001'$$);

-- Prepared statements: typed, text, varchar and untyped parameters, custom and generic plans.
PREPARE by_text(text) AS SELECT id FROM people WHERE ssn = $1;
PREPARE by_varchar(varchar) AS SELECT id FROM people WHERE ssn = $1;
PREPARE by_type(fieldcrypt.encrypted_text) AS SELECT id FROM people WHERE ssn = $1;
PREPARE by_unknown AS SELECT id FROM people WHERE ssn = $1;
PREPARE by_in(text, text) AS SELECT id FROM people WHERE ssn IN ($1, $2);
PREPARE by_in_unknown AS SELECT id FROM people WHERE ssn IN ($1, $2);
PREPARE by_array(text[]) AS SELECT id FROM people WHERE ssn = ANY ($1);
PREPARE by_array_unknown AS SELECT id FROM people WHERE ssn = ANY ($1);
PREPARE by_array_varchar(varchar[]) AS SELECT id FROM people WHERE ssn = ANY ($1);
PREPARE by_array_type(fieldcrypt.encrypted_text[]) AS SELECT id FROM people WHERE ssn = ANY ($1);
PREPARE by_email(text[]) AS SELECT id FROM people WHERE email = ANY ($1);
PREPARE by_distinct(text) AS SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM $1;
PREPARE by_nullif(text) AS SELECT id FROM people WHERE ssn IS NOT NULL AND NULLIF(ssn, $1) IS NULL;
PREPARE by_case(text) AS SELECT id FROM people WHERE CASE ssn WHEN $1 THEN true END;
CREATE FUNCTION prepared() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    one constant text := $q$SELECT id FROM people WHERE ssn_p = '123451001'$q$;
    two constant text := $q$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$q$;
BEGIN
    RETURN NEXT test.same('EXECUTE by_text(''123-45-1001'')', one, 'people_ssn');
    RETURN NEXT test.same('EXECUTE by_varchar(''123-45-1001'')', one, 'people_ssn');
    RETURN NEXT test.same('EXECUTE by_type(''123-45-1001'')', one, 'people_ssn');
    RETURN NEXT test.same('EXECUTE by_unknown(''123-45-1001'')', one, 'people_ssn');
    RETURN NEXT test.same('EXECUTE by_in(''123-45-1001'', ''123-45-1002'')', two);
    RETURN NEXT test.same('EXECUTE by_in_unknown(''123-45-1001'', ''123-45-1002'')', two);
    RETURN NEXT test.same('EXECUTE by_array(''{123-45-1001,123-45-1002}'')', two);
    RETURN NEXT test.same('EXECUTE by_array_unknown(''{123-45-1001,123-45-1002}'')', two);
    RETURN NEXT test.same('EXECUTE by_array_varchar(''{123-45-1001,123-45-1002}'')', two);
    RETURN NEXT test.same('EXECUTE by_array_type(''{123-45-1001,123-45-1002}'')', two);
    RETURN NEXT test.same('EXECUTE by_email(''{user1@example.com,USER2@example.com}'')', $q$SELECT id FROM people WHERE email_p IN ('user1@example.com', 'user2@example.com')$q$, 'people_email');
    RETURN NEXT test.same('EXECUTE by_distinct(''123-45-1001'')', one);
    RETURN NEXT test.same('EXECUTE by_distinct(NULL)', 'SELECT id FROM people WHERE ssn_p IS NULL');
    RETURN NEXT test.same('EXECUTE by_nullif(''123-45-1001'')', one);
    RETURN NEXT test.same('EXECUTE by_case(''123-45-1001'')', one);
    RETURN NEXT test.same('EXECUTE by_text(NULL)', 'SELECT id FROM people WHERE ssn_p = NULL');
    RETURN NEXT test.same('EXECUTE by_array(''{}'')', 'SELECT id FROM people WHERE ssn_p = NULL');
END
$$;
SET enable_seqscan = off;
SET plan_cache_mode = force_custom_plan;
SELECT prepared();
SET plan_cache_mode = force_generic_plan;
SELECT prepared();
RESET plan_cache_mode;
RESET enable_seqscan;
DEALLOCATE ALL;

-- Functions in SQL: inlined and not, with parameters of text and of the type.
CREATE FUNCTION sql_text(v text) RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT id FROM people WHERE ssn = v';
CREATE FUNCTION sql_type(v fieldcrypt.encrypted_text) RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT id FROM people WHERE ssn = v';
CREATE FUNCTION sql_volatile(v text) RETURNS SETOF int VOLATILE LANGUAGE sql AS 'SELECT id FROM people WHERE ssn = v';
CREATE FUNCTION sql_in(v text, w text) RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT id FROM people WHERE ssn IN (v, w)';
CREATE FUNCTION sql_in_literals() RETURNS SETOF int STABLE LANGUAGE sql AS $$SELECT id FROM people WHERE ssn IN ('123-45-1001', '123-45-1002')$$;
CREATE FUNCTION sql_in_volatile() RETURNS SETOF int VOLATILE LANGUAGE sql AS $$SELECT id FROM people WHERE ssn IN ('123-45-1001', '123-45-1002')$$;
CREATE FUNCTION sql_any(v text[]) RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT id FROM people WHERE ssn = ANY (v)';
CREATE FUNCTION sql_atomic(v text) RETURNS SETOF int STABLE LANGUAGE sql BEGIN ATOMIC SELECT id FROM people WHERE ssn IN (v, '123-45-1002'); END;
CREATE FUNCTION sql_equal(a fieldcrypt.encrypted_text, b fieldcrypt.encrypted_text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT a = b';
CREATE FUNCTION sql_equal_text(a fieldcrypt.encrypted_text, b text) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT a = b';
CREATE FUNCTION sql_distinct(a fieldcrypt.encrypted_text, b fieldcrypt.encrypted_text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT a IS NOT DISTINCT FROM b';
SELECT test.same($$SELECT * FROM sql_text('123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT * FROM sql_type('123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$, 'people_ssn');
SELECT test.same($$SELECT * FROM sql_volatile('123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.same($$SELECT * FROM sql_in_volatile()$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT sql_text(v) FROM (VALUES ('123-45-1001'), ('123-45-1002')) AS v (v)$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$);
-- Where the planner inlines a body, what the hook has not seen finds or raises.
SELECT test.outcome($$SELECT count(*) FROM sql_in('123-45-1001', '123-45-1002')$$);
SELECT test.outcome($$SELECT count(*) FROM sql_in_literals()$$);
SELECT test.outcome($$SELECT count(*) FROM sql_any('{123-45-1001,123-45-1002}')$$);
SELECT test.outcome($$SELECT count(*) FROM sql_atomic('123-45-1001')$$);
SELECT test.outcome($$SELECT count(*) FROM people WHERE sql_equal(ssn, '123-45-1001')$$);
SELECT test.outcome($$SELECT count(*) FROM people WHERE sql_equal_text(ssn, '123-45-1001')$$);
SELECT test.outcome($$SELECT count(*) FROM people WHERE sql_distinct(ssn, '123-45-1001')$$);

-- PL/pgSQL: variables, records, loops, dynamic statements, cursors; custom and generic plans.
CREATE FUNCTION plpgsql_search(way text) RETURNS SETOF int LANGUAGE plpgsql AS $$
DECLARE
    t text := '123-45-1001';
    v varchar := '123-45-1001';
    e fieldcrypt.encrypted_text := '123-45-1001';
    f fieldcrypt.encrypted_text('person.ssn') := '123-45-1001';
    c people.ssn%TYPE := '123-45-1001';
    list text[] := '{123-45-1001,123-45-1001}';
    person people;
    r record;
    cur CURSOR (key text) FOR SELECT id FROM people WHERE ssn = key;
BEGIN
    CASE way
        WHEN 'text' THEN RETURN QUERY SELECT id FROM people WHERE ssn = t;
        WHEN 'varchar' THEN RETURN QUERY SELECT id FROM people WHERE ssn = v;
        WHEN 'type' THEN RETURN QUERY SELECT id FROM people WHERE ssn = e;
        WHEN 'field' THEN RETURN QUERY SELECT id FROM people WHERE ssn = f;
        WHEN '%TYPE' THEN RETURN QUERY SELECT id FROM people WHERE ssn = c;
        WHEN 'in' THEN RETURN QUERY SELECT id FROM people WHERE ssn IN (t, t);
        WHEN 'in type' THEN RETURN QUERY SELECT id FROM people WHERE ssn IN (e, e);
        WHEN 'in field' THEN RETURN QUERY SELECT id FROM people WHERE ssn IN (f, c);
        WHEN 'any' THEN RETURN QUERY SELECT id FROM people WHERE ssn = ANY (list);
        WHEN 'distinct' THEN RETURN QUERY SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM t;
        WHEN 'row' THEN
            SELECT * INTO person FROM people WHERE id = 1;
            RETURN QUERY SELECT id FROM people WHERE ssn = person.ssn;
        WHEN 'record' THEN
            SELECT * INTO r FROM people WHERE id = 1;
            RETURN QUERY SELECT id FROM people WHERE ssn = r.ssn;
        WHEN 'if' THEN
            FOR r IN SELECT * FROM people LOOP
                IF r.ssn = '123-45-1001' THEN RETURN NEXT r.id; END IF;
            END LOOP;
        WHEN 'if text' THEN
            FOR r IN SELECT * FROM people LOOP
                IF r.ssn = t THEN RETURN NEXT r.id; END IF;
            END LOOP;
        WHEN 'if in' THEN
            FOR r IN SELECT * FROM people LOOP
                IF r.ssn IN ('123-45-1001', t) THEN RETURN NEXT r.id; END IF;
            END LOOP;
        WHEN 'if row' THEN
            FOR person IN SELECT * FROM people LOOP
                IF person.ssn = f THEN RETURN NEXT person.id; END IF;
            END LOOP;
        WHEN 'case' THEN
            FOR person IN SELECT * FROM people LOOP
                CASE person.ssn WHEN '123-45-1001' THEN RETURN NEXT person.id; ELSE NULL; END CASE;
            END LOOP;
        WHEN 'using' THEN RETURN QUERY EXECUTE 'SELECT id FROM people WHERE ssn = $1' USING t;
        WHEN 'using type' THEN RETURN QUERY EXECUTE 'SELECT id FROM people WHERE ssn = $1' USING e;
        WHEN 'using field' THEN RETURN QUERY EXECUTE 'SELECT id FROM people WHERE ssn = $1' USING f;
        WHEN 'using array' THEN RETURN QUERY EXECUTE 'SELECT id FROM people WHERE ssn = ANY ($1)' USING list;
        WHEN 'dynamic literal' THEN RETURN QUERY EXECUTE format('SELECT id FROM people WHERE ssn = %L', t);
        WHEN 'cursor' THEN
            FOR r IN cur(t) LOOP RETURN NEXT r.id; END LOOP;
    END CASE;
END
$$;
CREATE FUNCTION plpgsql_all() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT way || ': ' || test.same(format('SELECT plpgsql_search(%L)', way), 'SELECT id FROM people WHERE ssn_p = ''123451001''')
    FROM unnest('{text,varchar,type,field,%TYPE,in,in type,in field,any,distinct,row,record,if,if text,if in,if row,case,using,using type,using field,using array,dynamic literal,cursor}'::text[]) AS way
$$;
SELECT plpgsql_all();
SET plan_cache_mode = force_generic_plan;
SELECT plpgsql_all();
SET plan_cache_mode = force_custom_plan;
SELECT plpgsql_all();
RESET plan_cache_mode;
-- DO, and a variable that is compared with a literal.
DO $$
DECLARE
    f fieldcrypt.encrypted_text('person.ssn') := '123-45-1001';
    n int;
BEGIN
    SELECT count(*) INTO n FROM people WHERE ssn = '123-45-1001';
    RAISE NOTICE 'DO finds %', n;
    RAISE NOTICE 'a variable of a field: %, %', f = '123 45 1001', f <> '123 45 1001'::text;
END $$;
DO $$
DECLARE e fieldcrypt.encrypted_text := '123-45-1001';
BEGIN
    RAISE NOTICE 'a variable of no field: %', e = '123 45 1001';
END $$;

-- Triggers
CREATE TABLE watched (id int PRIMARY KEY, ssn fieldcrypt.encrypted_text('person.ssn'), note text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.note := concat_ws(', ', CASE WHEN NEW.ssn = '123-45-1001' THEN 'is literal' END,
        CASE WHEN NEW.ssn IN ('123-45-1001', '123-45-1002') THEN 'is in list' END,
        CASE WHEN TG_OP = 'UPDATE' THEN format('changed %s %s', NEW.ssn IS DISTINCT FROM OLD.ssn, NEW.ssn <> OLD.ssn) END);
    IF EXISTS (SELECT FROM people WHERE ssn = NEW.ssn) THEN
        NEW.note := concat_ws(', ', NEW.note, 'exists');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch();
INSERT INTO watched VALUES (1, '123-45-1001'), (2, '123-45-1002'), (3, '999'), (4, NULL);
UPDATE watched SET ssn = '123 45 1001' WHERE id <= 2;
SELECT id, note FROM watched ORDER BY id;
DROP TRIGGER watch ON watched;
-- In an expression with a subquery, the row's values are constants of the plan.
CREATE FUNCTION watch_query() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.note := (SELECT 'is literal' WHERE NEW.ssn = '123-45-1001');
    SELECT concat_ws(', ', NEW.note, 'is text') INTO NEW.note WHERE NEW.ssn = '123-45-1001'::text;
    SELECT concat_ws(', ', NEW.note, 'is in list') INTO NEW.note WHERE NEW.ssn IN ('123-45-1001', '123-45-1002');
    RETURN NEW;
END
$$;
CREATE TRIGGER watch_query BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch_query();
INSERT INTO watched VALUES (5, '123-45-1001');
SELECT id, note FROM watched WHERE id >= 5 ORDER BY id;
DROP TRIGGER watch_query ON watched;
-- The WHEN condition of a trigger.
CREATE TRIGGER when_changed BEFORE UPDATE ON watched FOR EACH ROW WHEN (OLD.ssn IS DISTINCT FROM NEW.ssn) EXECUTE FUNCTION suppress_redundant_updates_trigger();
DROP TRIGGER when_changed ON watched;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'when: %', NEW.id; RETURN NULL; END $$;
CREATE TRIGGER when_changed AFTER UPDATE ON watched FOR EACH ROW WHEN (OLD.ssn IS DISTINCT FROM NEW.ssn) EXECUTE FUNCTION noted();
CREATE TRIGGER when_literal AFTER INSERT ON watched FOR EACH ROW WHEN (NEW.ssn = '123-45-1001') EXECUTE FUNCTION noted();
-- The planner hook does not see it: it may raise, but must not be false.
CREATE TRIGGER when_in BEFORE DELETE ON watched FOR EACH ROW WHEN (OLD.ssn IN ('123-45-1001', '1')) EXECUTE FUNCTION noted();
UPDATE watched SET ssn = '123451001' WHERE id = 1;
UPDATE watched SET ssn = '888' WHERE id = 2;
INSERT INTO watched VALUES (6, '123451001'), (7, '1');
SELECT test.outcome('DELETE FROM watched WHERE id = 7 RETURNING id');
DROP TABLE watched;
DROP FUNCTION watch(), watch_query(), noted();

-- Views, rules and policies hold literals; they serve each account with its own.
CREATE VIEW of_literal AS SELECT id FROM people WHERE ssn = '123-45-1001';
CREATE VIEW of_list AS SELECT id FROM people WHERE ssn IN ('123-45-1001', '123-45-1002');
CREATE VIEW of_text AS SELECT id FROM people WHERE ssn = '123-45-1001'::text;
CREATE VIEW of_distinct AS SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM '123-45-1001';
RESET fieldcrypt.account;
CREATE VIEW of_no_account AS SELECT id FROM people WHERE ssn = '123-45-1001';
SET fieldcrypt.account = 'acme';
CREATE FUNCTION of_views() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT v || ': ' || test.outcome(format('SELECT * FROM %I', v)) FROM unnest('{of_literal,of_list,of_text,of_distinct,of_no_account}'::text[]) AS v
$$;
SELECT of_views();
SET fieldcrypt.account = 'globex';
INSERT INTO people (id, ssn, ssn_p) VALUES (1001, '123-45-1001', '123451001');
SELECT of_views();
RESET fieldcrypt.account;
SELECT of_views();
SET fieldcrypt.account = 'acme';
-- A view's definition shows no literal but one that was written as text.
SELECT viewname FROM pg_views WHERE viewname LIKE 'of\_%' AND definition LIKE '%1001%';
DROP FUNCTION of_views();
DROP VIEW of_list, of_distinct, of_no_account, of_literal, of_text;
CREATE TABLE log (id int);
CREATE RULE to_log AS ON UPDATE TO people WHERE OLD.ssn = '123-45-1001' DO ALSO INSERT INTO log VALUES (OLD.id);
CREATE RULE to_log_in AS ON UPDATE TO people WHERE NEW.ssn IN ('123-45-1002', '1') DO ALSO INSERT INTO log VALUES (-NEW.id);
UPDATE people SET name_p = name_p WHERE id IN (1, 2, 3, 51);
SELECT * FROM log ORDER BY id;
DROP RULE to_log ON people;
DROP RULE to_log_in ON people;
DROP TABLE log;
RESET ROLE;
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
ALTER TABLE people FORCE ROW LEVEL SECURITY;
CREATE POLICY of_some ON people USING (ssn = '123-45-1001' OR ssn IN ('123-45-1002', '123-45-1003'));
SET ROLE regress_app;
SELECT test.outcome($$SELECT id FROM people WHERE id < 60$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn = '123-45-1002' AND id < 60$$);
SET fieldcrypt.account = 'globex';
SELECT test.outcome($$SELECT id FROM people$$);
SET fieldcrypt.account = 'acme';
RESET ROLE;
DROP POLICY of_some ON people;
ALTER TABLE people DISABLE ROW LEVEL SECURITY;
ALTER TABLE people NO FORCE ROW LEVEL SECURITY;
SET ROLE regress_app;

-- Two accounts in one table: each finds its own, and their values are never equal.
INSERT INTO people (id, ssn, ssn_p) VALUES (1002, '555', '555');
SET fieldcrypt.account = 'globex';
INSERT INTO people (id, ssn, ssn_p) VALUES (1003, '555', '555');
SELECT test.outcome($$SELECT id FROM people WHERE ssn = '555'$$);
SET fieldcrypt.account = 'acme';
SELECT test.outcome($$SELECT id FROM people WHERE ssn = '555'$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn IN ('555', '666')$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn <> '555' AND id > 1000$$);
SELECT test.outcome($$SELECT a.id, b.id FROM people AS a JOIN people AS b ON a.ssn = b.ssn WHERE a.id > 1000$$);
SELECT test.outcome($$SELECT count(DISTINCT ssn) FROM people WHERE id > 1000$$);
-- A prepared statement follows the account.
SET plan_cache_mode = force_generic_plan;
PREPARE follow AS SELECT id FROM people WHERE ssn = '555';
PREPARE follow_in(text) AS SELECT id FROM people WHERE ssn IN ('555', $1);
EXECUTE follow;
EXECUTE follow_in('666');
SET fieldcrypt.account = 'globex';
EXECUTE follow;
EXECUTE follow_in('666');
RESET fieldcrypt.account;
EXECUTE follow;
EXECUTE follow_in('666');
SET fieldcrypt.account = '*row*';
EXECUTE follow;
SET fieldcrypt.account = 'acme';
RESET plan_cache_mode;
-- The account changes within one statement: what was probed before is not reused.
SELECT i, (SELECT id FROM people WHERE ssn = '555' AND i > 0)
FROM (SELECT i, set_config('fieldcrypt.account', a, true) FROM (VALUES (1, 'acme'), (2, 'globex'), (3, 'acme')) AS v (i, a) OFFSET 0) AS s;
SET fieldcrypt.account = 'acme';
DELETE FROM people WHERE id > 1000;

-- UNIQUE, PRIMARY KEY, ON CONFLICT, foreign keys
CREATE TABLE parent (ssn fieldcrypt.encrypted_text('person.ssn') PRIMARY KEY, email fieldcrypt.encrypted_text('person.email') UNIQUE);
CREATE TABLE child (id int, ssn fieldcrypt.encrypted_text('person.ssn') REFERENCES parent);
CREATE TABLE child_cascade (id int, ssn fieldcrypt.encrypted_text('person.ssn') REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE child_null (id int, email fieldcrypt.encrypted_text('person.email') REFERENCES parent (email) ON DELETE SET NULL);
INSERT INTO parent VALUES ('111', 'a@x'), ('222', 'b@x'), ('333', NULL), ('444', NULL);
\set VERBOSITY terse
INSERT INTO parent VALUES ('1-1-1', 'c@x');
INSERT INTO parent VALUES ('555', ' A@X');
INSERT INTO child VALUES (1, '1-11'), (2, '22-2'), (3, NULL);
INSERT INTO child VALUES (4, '999');
DELETE FROM parent WHERE ssn = '111';
UPDATE parent SET ssn = '112' WHERE ssn = '111';
UPDATE child SET ssn = '999' WHERE id = 1;
-- The same value again is no change of the key.
UPDATE parent SET ssn = '1 1 1' WHERE ssn = '111';
INSERT INTO child_cascade VALUES (1, '333'), (2, '333'), (3, '444');
DELETE FROM parent WHERE ssn = '333';
SELECT id FROM child_cascade;
UPDATE parent SET ssn = '445' WHERE ssn = '444';
SELECT id, fieldcrypt.decrypt(ssn) FROM child_cascade;
INSERT INTO child_null VALUES (1, 'B@X');
DELETE FROM child WHERE ssn = '222';
DELETE FROM parent WHERE ssn = '222';
SELECT id, email IS NULL FROM child_null;
-- Added later: checked against what is there.
CREATE TABLE child_late (ssn fieldcrypt.encrypted_text('person.ssn'));
INSERT INTO child_late VALUES ('111'), ('999');
ALTER TABLE child_late ADD FOREIGN KEY (ssn) REFERENCES parent;
DELETE FROM child_late WHERE ssn = '999';
ALTER TABLE child_late ADD FOREIGN KEY (ssn) REFERENCES parent;
ALTER TABLE child_late ADD UNIQUE (ssn);
INSERT INTO child_late VALUES ('111');
-- Another account's equal value is another value, for both.
SET fieldcrypt.account = 'globex';
INSERT INTO parent VALUES ('111', 'a@x');
SELECT test.outcome($$DELETE FROM parent WHERE ssn = '111' RETURNING 1$$);
INSERT INTO child VALUES (9, '111');
SET fieldcrypt.account = 'acme';
-- Different fields.
CREATE TABLE child_wrong (email fieldcrypt.encrypted_text('person.email') REFERENCES parent (ssn));
CREATE TABLE child_text (ssn text REFERENCES parent);
\set VERBOSITY default
-- ON CONFLICT by unique index.
INSERT INTO parent VALUES ('1.1.1', 'new@x') ON CONFLICT (ssn) DO UPDATE SET email = EXCLUDED.email RETURNING fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(email);
INSERT INTO parent VALUES ('777', 'NEW@x') ON CONFLICT (email) DO UPDATE SET email = 'newer@x' WHERE parent.email = 'new@x' RETURNING fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(email);
INSERT INTO parent VALUES ('111', 'zzz@x') ON CONFLICT DO NOTHING;
INSERT INTO parent VALUES ('888', 'e@x') ON CONFLICT ON CONSTRAINT parent_pkey DO NOTHING RETURNING fieldcrypt.decrypt(ssn);
SELECT test.same($$SELECT fieldcrypt.decrypt(ssn) FROM parent WHERE ssn = '888'$$, $$VALUES ('888')$$, 'parent_pkey');
MERGE INTO parent USING (VALUES ('8-8-8', 'merged@x'), ('999', 'f@x')) AS v (s, e) ON ssn = s
    WHEN MATCHED THEN UPDATE SET email = e WHEN NOT MATCHED THEN INSERT VALUES (s, e);
SELECT test.outcome($$SELECT fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(email) FROM parent WHERE ssn IN ('888', '999')$$);
-- EXCLUDE, and a unique index on more than one column.
CREATE TABLE excluded (ssn fieldcrypt.encrypted_text('person.ssn'), EXCLUDE USING hash (ssn WITH =));
INSERT INTO excluded VALUES ('1'), ('2');
\set VERBOSITY terse
INSERT INTO excluded VALUES ('-1-');
CREATE UNIQUE INDEX ON other (n, ssn);
INSERT INTO other (n, ssn) VALUES (1, '123451001');
\set VERBOSITY default
DROP TABLE excluded, child, child_cascade, child_null, child_late, parent;

-- Partitions: by hash yes, and pruned; by list and range no.
CREATE TABLE parted (id int, ssn fieldcrypt.encrypted_text('person.ssn'), ssn_p text) PARTITION BY HASH (ssn);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES WITH (MODULUS 4, REMAINDER 3);
INSERT INTO parted SELECT id, ssn, ssn_p FROM people;
SELECT count(*) FROM parted;
SELECT test.same($$SELECT id FROM parted WHERE ssn = '123-45-1001'$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
SELECT test.plan($$SELECT id FROM parted WHERE ssn = '123-45-1001'$$) LIKE '%Subplans Removed: 3%';
SELECT test.same($$SELECT id FROM parted WHERE ssn IN ('123-45-1001', '123-45-1002')$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001', '123451002')$$);
SELECT test.same($$SELECT id FROM parted WHERE ssn = ANY ('{123-45-1001}'::text[])$$, $$SELECT id FROM people WHERE ssn_p IN ('123451001')$$);
SELECT test.same($$SELECT parted.id, n FROM parted JOIN other USING (ssn)$$, $$SELECT parted.id, n FROM parted JOIN other USING (ssn_p)$$);
PREPARE pruned(text) AS SELECT id FROM parted WHERE ssn = $1;
SET plan_cache_mode = force_generic_plan;
SELECT test.same($$EXECUTE pruned('123-45-1001')$$, $$SELECT id FROM people WHERE ssn_p = '123451001'$$);
RESET plan_cache_mode;
-- Moving a row to another partition, and a key over the partitions.
UPDATE parted SET ssn = '123-45-1030', ssn_p = '123451030' WHERE ssn = '123-45-1001';
SELECT test.same($$SELECT id FROM parted WHERE ssn = '123-45-1030'$$, $$SELECT id FROM parted WHERE ssn_p = '123451030'$$);
DELETE FROM parted WHERE id > 10;
ALTER TABLE parted ADD UNIQUE (ssn);
INSERT INTO parted VALUES (9999, '123-45-1002') ON CONFLICT (ssn) DO NOTHING;
SELECT count(*) FROM parted;
DEALLOCATE pruned;
DROP TABLE parted;
SELECT test.refused($$CREATE TABLE by_list (ssn fieldcrypt.encrypted_text('person.ssn')) PARTITION BY LIST (ssn)$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$CREATE TABLE by_range (ssn fieldcrypt.encrypted_text('person.ssn')) PARTITION BY RANGE (ssn)$$) LIKE 'refused: 0A000 %';
SELECT test.refused($$CREATE TABLE by_both (id int, d ssn_domain) PARTITION BY RANGE (id, d)$$) LIKE 'refused: 0A000 %';

-- Parallel plans, forced.
DO $$
BEGIN
    PERFORM set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
END $$;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
ALTER TABLE people SET (parallel_workers = 2);
SELECT test.plan($$SELECT id FROM people WHERE ssn = '123-45-1001'$$) LIKE '%Gather%';
SELECT array_agg(id ORDER BY id) FROM people WHERE ssn = '123-45-1001';
SELECT array_agg(id ORDER BY id) FROM people WHERE ssn IN ('123-45-1001', '123-45-1002');
SELECT array_agg(id ORDER BY id) FROM people WHERE ssn = ANY ('{123-45-1001}'::text[]);
SELECT count(DISTINCT fieldcrypt.decrypt(ssn)), count(DISTINCT fieldcrypt.reveal(email)) FROM people;
SELECT count(*) FROM people JOIN other ON people.ssn = other.ssn;
SELECT count(*) FROM (SELECT ssn, count(*) FROM people GROUP BY ssn) AS g;
SELECT count(*) FROM people WHERE fieldcrypt.account_of(ssn) = 'acme' AND fieldcrypt.field_of(ssn) = 'person.ssn';
SET fieldcrypt.account = 'globex';
SELECT count(*) FROM people WHERE ssn = '123-45-1001';
SET fieldcrypt.account = 'acme';
RESET ROLE;
GRANT SELECT ON people TO regress_nobody, regress_masked;
SET ROLE regress_nobody;
SELECT count(*) FROM people WHERE ssn = '123-45-1001';
SELECT DISTINCT fieldcrypt.reveal(ssn) FROM people WHERE ssn IS NOT NULL;
SET ROLE regress_masked;
SELECT count(DISTINCT fieldcrypt.reveal(ssn)) FROM people;
SET ROLE regress_app;
DO $$
BEGIN
    PERFORM set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
END $$;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;
RESET enable_indexscan;
RESET enable_bitmapscan;

-- Without the right to search, every way of searching is an error.
SET ROLE regress_masked;
SELECT test.outcome($$SELECT id FROM people WHERE ssn = '123-45-1001'$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn = '123-45-1001'::text$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn <> '123-45-1001'$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn IN ('123-45-1001', '1')$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn = ANY ('{123-45-1001}'::text[])$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn IS NOT DISTINCT FROM '123-45-1001'$$);
SELECT test.outcome($$SELECT id FROM people WHERE NULLIF(ssn, '123-45-1001') IS NULL$$);
SELECT test.outcome($$SELECT id FROM people WHERE CASE ssn WHEN '123-45-1001' THEN true END$$);
SELECT test.outcome($$SELECT id FROM people WHERE ssn = ssn_p$$);
-- The probe as a function gives nothing that could not be had otherwise.
SELECT test.outcome($$SELECT id FROM people WHERE ssn = fieldcrypt.probe('123-45-1001'::text, (SELECT atttypmod FROM pg_attribute WHERE attrelid = 'people'::regclass AND attname = 'ssn'))$$);
SELECT test.outcome($$SELECT fieldcrypt.probe('123-45-1001'::text, 1)$$);
-- Joins and groups need none: whoever can read the rows can see which are equal.
SELECT test.same('SELECT count(DISTINCT ssn) FROM people', 'SELECT count(DISTINCT ssn_p) FROM people');
SET ROLE regress_app;

-- The operators are found under every search path.
SET search_path = '';
SELECT count(*) FROM public.people WHERE ssn = '123-45-1001';
SELECT count(*) FROM public.people WHERE ssn IN ('123-45-1001', '123-45-1002');
SELECT count(*) FROM public.people WHERE ssn <> '123-45-1001'::text;
SELECT count(*) FROM public.people WHERE ssn IS DISTINCT FROM '123-45-1001';
RESET search_path;

-- What a definition cannot hold: a literal in an index, a generated column.
CREATE INDEX wrong ON people (id) WHERE ssn = '123-45-1001';
CREATE TABLE wrong (ssn fieldcrypt.encrypted_text('person.ssn'), b boolean GENERATED ALWAYS AS (ssn = '1') STORED);
CREATE INDEX wrong ON people (fieldcrypt.decrypt(ssn));
CREATE INDEX wrong ON people (fieldcrypt.reveal(ssn));
CREATE INDEX wrong ON people (fieldcrypt.blind_index(ssn_p, 'person.ssn', 'acme'));

DROP FUNCTION sql_atomic(text);
DROP TABLE people, other, forms;
DROP TYPE contact;
DROP DOMAIN ssn_required, ssn_domain;
DROP FUNCTION IF EXISTS joins(), groups(), prepared(), plpgsql_search(text), plpgsql_all(), sql_text(text), sql_type(fieldcrypt.encrypted_text), sql_volatile(text), sql_in(text, text),
    sql_in_literals(), sql_in_volatile(), sql_any(text[]), sql_equal(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text),
    sql_equal_text(fieldcrypt.encrypted_text, text), sql_distinct(fieldcrypt.encrypted_text, fieldcrypt.encrypted_text);
