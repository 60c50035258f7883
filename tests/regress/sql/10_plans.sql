-- Plans and statistics: neither holds plain text.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE plans (id int PRIMARY KEY, ssn fieldcrypt.encrypted_text('person.ssn'), name fieldcrypt.encrypted_text('person.name'), note fieldcrypt.encrypted_text('person.note'));
INSERT INTO plans SELECT i, (i % 100)::text, CASE WHEN i % 4 <> 0 THEN 'name ' || i % 10 END, 'note' FROM generate_series(1, 1000) AS i;
CREATE INDEX plans_name ON plans (name);
CREATE INDEX plans_ssn ON plans USING hash (ssn);
ANALYZE plans;
GRANT SELECT, INSERT, UPDATE ON plans TO PUBLIC;

-- Whether any form of EXPLAIN shows the word.
CREATE FUNCTION shows(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    options text;
    plan text;
BEGIN
    FOREACH options IN ARRAY ARRAY['COSTS', 'VERBOSE', 'ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF', 'VERBOSE, FORMAT JSON', 'VERBOSE, SETTINGS'] LOOP
        plan := test.plan(query, options);
        IF plan ILIKE '%canary%' THEN
            RAISE NOTICE '% shows it', options;
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;
-- It does see what is there.
SELECT shows($$SELECT 'canary'::text$$);
-- Literals, texts, expressions, arrays.
SELECT query, shows(query) FROM unnest(ARRAY[
    $$SELECT id FROM plans WHERE name = 'canary'$$,
    $$SELECT id FROM plans WHERE 'canary' = name$$,
    $$SELECT id FROM plans WHERE name <> 'canary'$$,
    $$SELECT id FROM plans WHERE name = 'canary'::text$$,
    $$SELECT id FROM plans WHERE name = 'canary'::varchar$$,
    $$SELECT id FROM plans WHERE name = 'canary'::varchar(10)$$,
    $$SELECT id FROM plans WHERE name = 'canary'::char(10)$$,
    $$SELECT id FROM plans WHERE name = 'canary'::name$$,
    $$SELECT id FROM plans WHERE name = 'canary'::fieldcrypt.encrypted_text$$,
    $$SELECT id FROM plans WHERE name = 'canary'::fieldcrypt.encrypted_text('person.name')$$,
    $$SELECT id FROM plans WHERE name = lower('CANARY')$$,
    $$SELECT id FROM plans WHERE name = 'can' || 'ary'$$,
    $$SELECT id FROM plans WHERE name = COALESCE(NULL, 'canary'::text)$$,
    $$SELECT id FROM plans WHERE name = CASE WHEN true THEN 'canary'::text END$$,
    $$SELECT id FROM plans WHERE name = ('{"a": "canary"}'::jsonb ->> 'a')$$,
    $$SELECT id FROM plans WHERE name IN ('canary', 'x')$$,
    $$SELECT id FROM plans WHERE name IN ('canary'::text, 'x')$$,
    $$SELECT id FROM plans WHERE name IN ('canary'::varchar, 'x')$$,
    $$SELECT id FROM plans WHERE name IN (lower('CANARY'), 'x')$$,
    $$SELECT id FROM plans WHERE name NOT IN ('canary', 'x')$$,
    $$SELECT id FROM plans WHERE name NOT IN ('canary'::text, 'x'::text)$$,
    $$SELECT id FROM plans WHERE name = ANY ('{canary}')$$,
    $$SELECT id FROM plans WHERE name = ANY ('{canary}'::text[])$$,
    $$SELECT id FROM plans WHERE name = ANY ('{canary}'::varchar[])$$,
    $$SELECT id FROM plans WHERE name = ANY (ARRAY['canary', 'x']::text[])$$,
    $$SELECT id FROM plans WHERE name <> ALL ('{canary}'::text[])$$,
    $$SELECT id FROM plans WHERE name IS DISTINCT FROM 'canary'$$,
    $$SELECT id FROM plans WHERE name IS NOT DISTINCT FROM 'canary'::text$$,
    $$SELECT id FROM plans WHERE NULLIF(name, 'canary'::text) IS NULL$$,
    $$SELECT CASE name WHEN 'canary'::text THEN 1 WHEN 'canary' THEN 2 END FROM plans$$,
    $$SELECT id FROM plans WHERE (name, id) = ('canary', 1)$$,
    $$SELECT name = 'canary'::text FROM plans$$,
    $$SELECT count(*) FILTER (WHERE name = 'canary'::text) FROM plans$$,
    $$SELECT id FROM plans GROUP BY id HAVING name = 'canary'::text$$,
    $$INSERT INTO plans VALUES (1001, '1', 'canary') ON CONFLICT DO NOTHING$$,
    $$INSERT INTO plans VALUES (1001, '1', 'canary'::text) ON CONFLICT DO NOTHING$$,
    $$INSERT INTO plans VALUES (1001, '1', 'canary'), (1002, '1', 'canary') ON CONFLICT DO NOTHING$$,
    $$UPDATE plans SET name = 'canary' WHERE name = 'canary' AND id = 1$$,
    $$UPDATE plans SET name = 'canary'::text WHERE id = 1$$,
    $$DELETE FROM plans WHERE name = 'canary'::text AND id = -1$$,
    $$SELECT 'canary'::fieldcrypt.encrypted_text$$
]) AS query;
-- Parameters of prepared statements, in custom and generic plans.
PREPARE by_text(text) AS SELECT id FROM plans WHERE name = $1;
PREPARE by_type(fieldcrypt.encrypted_text) AS SELECT id FROM plans WHERE name = $1;
PREPARE by_varchar(varchar) AS SELECT id FROM plans WHERE name = $1;
PREPARE by_list(text, text) AS SELECT id FROM plans WHERE name IN ($1, $2);
PREPARE by_array(text[]) AS SELECT id FROM plans WHERE name = ANY ($1);
PREPARE by_varchars(varchar[]) AS SELECT id FROM plans WHERE name = ANY ($1);
PREPARE by_distinct(text) AS SELECT id FROM plans WHERE name IS NOT DISTINCT FROM $1;
PREPARE put(int, text) AS INSERT INTO plans VALUES ($1, '1', $2) ON CONFLICT DO NOTHING;
PREPARE put_typed(int, fieldcrypt.encrypted_text) AS INSERT INTO plans VALUES ($1, '1', $2) ON CONFLICT DO NOTHING;
PREPARE set_text(text) AS UPDATE plans SET name = $1 WHERE id = 1;
CREATE FUNCTION prepared() RETURNS TABLE (query text, shown boolean) LANGUAGE sql AS $$
    SELECT query, shows(query) FROM unnest(ARRAY['EXECUTE by_text(''canary'')', 'EXECUTE by_type(''canary'')', 'EXECUTE by_varchar(''canary'')',
        'EXECUTE by_list(''canary'', ''x'')', 'EXECUTE by_array(''{canary,x}'')', 'EXECUTE by_varchars(''{canary}'')', 'EXECUTE by_distinct(''canary'')',
        'EXECUTE put(1003, ''canary'')', 'EXECUTE put_typed(1004, ''canary'')', 'EXECUTE set_text(''canary'')']) AS query
$$;
SET plan_cache_mode = force_custom_plan;
SELECT * FROM prepared();
SET plan_cache_mode = force_generic_plan;
SELECT * FROM prepared();
RESET plan_cache_mode;
-- EXPLAIN (GENERIC_PLAN), where it exists.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        IF test.plan('SELECT id FROM plans WHERE name = $1', 'GENERIC_PLAN, VERBOSE') NOT LIKE '%plans_name%' THEN
            RAISE NOTICE 'not by index';
        END IF;
        IF test.plan('SELECT id FROM plans WHERE name = ''canary''::text AND ssn = $1', 'GENERIC_PLAN, VERBOSE') LIKE '%canary%' THEN
            RAISE NOTICE 'shows it';
        END IF;
    END IF;
END $$;

-- Planning asks no right and no account: EXPLAIN works for whoever may read the table.
SET ROLE regress_nobody;
RESET fieldcrypt.account;
SELECT query, test.plan(query) <> '' FROM unnest(ARRAY[
    $$SELECT id FROM plans WHERE name = 'x'$$,
    $$SELECT id FROM plans WHERE name = 'x'::text$$,
    $$SELECT id FROM plans WHERE name IS NOT DISTINCT FROM 'x'$$,
    $$SELECT id FROM plans WHERE name <> 'x' AND ssn = '1'$$,
    $$SELECT a.id FROM plans AS a JOIN plans AS b ON a.name = b.name AND b.ssn = '1'$$,
    $$SELECT fieldcrypt.decrypt(name) FROM plans WHERE name = 'x'$$,
    $$INSERT INTO plans VALUES (1, '1', 'x')$$
]) AS query;
-- A list over an indexed column is an array to 18, whose estimate evaluates it.
SELECT query, test.outcome('EXPLAIN ' || query) ~ CASE
    WHEN current_setting('server_version_num')::int >= 180000 THEN '^55000 no account' ELSE 'rows: ' END
FROM unnest(ARRAY[
    $$SELECT id FROM plans WHERE name IN ('x', 'y')$$,
    $$SELECT id FROM plans WHERE name = ANY ('{x,y}'::text[])$$
]) AS query;
-- Executing does ask.
SELECT test.outcome($$EXPLAIN (ANALYZE, COSTS OFF) SELECT id FROM plans WHERE name = 'x'$$);
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';

-- Statistics: counts, and no values.
DELETE FROM plans WHERE id > 1000;
UPDATE plans SET name = 'name 1' WHERE id = 1;
ANALYZE plans;
SELECT attname, round(null_frac::numeric, 2), n_distinct, avg_width BETWEEN 50 AND 200 AS sensible_width, most_common_vals IS NULL, histogram_bounds IS NULL, correlation IS NULL
FROM pg_stats WHERE tablename = 'plans' AND attname IN ('ssn', 'name', 'note') ORDER BY attname;
-- Rows estimated for =, IN, <>, joins and groups are about right.
CREATE FUNCTION rows_estimated(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (FORMAT JSON) %s', query) INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::float;
END
$$;
SELECT query, rows_estimated(query) BETWEEN low AND high AS about_right FROM (VALUES
    ($$SELECT id FROM plans WHERE ssn = '7'$$, 8, 12),
    ($$SELECT id FROM plans WHERE ssn = '7'::text$$, 8, 12),
    ($$SELECT id FROM plans WHERE ssn <> '7'$$, 980, 995),
    ($$SELECT id FROM plans WHERE name = 'name 7'$$, 60, 100),
    ($$SELECT id FROM plans WHERE name IN ('name 7', 'name 8')$$, 120, 200),
    ($$SELECT id FROM plans WHERE ssn = ANY ('{1,2,3}'::text[])$$, 25, 100),
    ($$SELECT id FROM plans WHERE name IS NULL$$, 240, 260),
    ($$SELECT a.id FROM plans AS a JOIN plans AS b ON a.ssn = b.ssn$$, 8000, 12000),
    ($$SELECT FROM plans GROUP BY ssn$$, 90, 110),
    ($$SELECT DISTINCT name FROM plans$$, 9, 12)
) AS v (query, low, high);
-- All different, all NULL, an empty table, and values without a token.
CREATE TABLE stats (v fieldcrypt.encrypted_text('person.ssn'), n fieldcrypt.encrypted_text('person.note'), e fieldcrypt.encrypted_text('person.email'));
ANALYZE stats;
SELECT count(*) FROM pg_stats WHERE tablename = 'stats';
INSERT INTO stats SELECT i::text, 'n', NULL FROM generate_series(1, 500) AS i;
ANALYZE stats;
SELECT attname, null_frac, n_distinct FROM pg_stats WHERE tablename = 'stats' ORDER BY attname;
DROP TABLE stats;
-- Arrays, rows and extended statistics have common values; they are ciphertext.
CREATE DOMAIN name_domain AS fieldcrypt.encrypted_text('person.name');
CREATE TYPE pair AS (name fieldcrypt.encrypted_text('person.name'), n int);
CREATE TABLE holders (id int, d name_domain, list fieldcrypt.encrypted_text('person.name')[], c pair, g int);
INSERT INTO holders SELECT i, 'canary ' || i % 10, ARRAY['canary', 'canary ' || i % 10], NULL, i % 3 FROM generate_series(1, 300) AS i;
UPDATE holders SET c.name = 'canary ' || id % 10, c.n = id % 2;
INSERT INTO holders SELECT * FROM holders;
CREATE STATISTICS holders_stats (mcv, ndistinct, dependencies) ON d, g FROM holders;
ANALYZE holders;
SELECT attname, n_distinct, concat(most_common_vals, histogram_bounds, most_common_elems) LIKE '%canary%' FROM pg_stats WHERE tablename = 'holders' AND attname IN ('d', 'list', 'c') ORDER BY attname;
SELECT count(*) FROM pg_stats_ext WHERE statistics_name = 'holders_stats' AND most_common_vals::text LIKE '%canary%';
DROP TABLE holders;
DROP TYPE pair;
DROP DOMAIN name_domain;
-- Nothing readable is left in the system catalogs.
RESET ROLE;
SELECT count(*) FROM pg_statistic WHERE concat(stavalues1, stavalues2, stavalues3, stavalues4, stavalues5) LIKE '%canary%';

SET ROLE regress_app;
DEALLOCATE ALL;
DROP TABLE plans;
DROP FUNCTION shows(text), prepared(), rows_estimated(text);
