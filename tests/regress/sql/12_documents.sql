-- Documents: flagged paths of JSONB columns, sealed by a row trigger.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_clerk;
CREATE ROLE regress_finder;
CREATE ROLE regress_manager;
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_clerk', '{encrypt,mask}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_finder', '{encrypt,search}', account => '*', field => '*');
SELECT fieldcrypt.grant_access('regress_manager', '{manage}', account => 'acme', field => 'd.*');
SET ROLE regress_admin;
SELECT fieldcrypt.create_field('d.text', search => '{exact}', mask => 'last4');
SELECT fieldcrypt.create_field('d.email', search => '{exact}', normalizer => 'email', mask => 'email');
SELECT fieldcrypt.create_field('d.plain', mask => 'first_last');
SELECT fieldcrypt.create_field('d.none');
SELECT fieldcrypt.create_field('d.null', mask => 'null');
SELECT fieldcrypt.create_field('d.for_good', reversible => false);
SELECT fieldcrypt.create_field('d.once', search => '{unique}');
SELECT fieldcrypt.create_field('d.pin', search => '{exact}', store => 'token');
SELECT fieldcrypt.create_field('d.login', search => '{exact}', normalizer => 'email', scope => 'database');
SELECT fieldcrypt.create_field('d.pii', mask => 'last4');

-- A document as it is stored, with <sealed> in place of each value.
CREATE FUNCTION shape(document jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$
    SELECT regexp_replace(document::text, '"fc1:[A-Za-z0-9_-]+"', '"<sealed>"', 'g')::jsonb
$$;
-- The same, but a value that is still sealed as it was is <kept>.
CREATE FUNCTION shape(document jsonb, before jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    stored text := document::text;
    value text[];
BEGIN
    FOR value IN SELECT regexp_matches(before::text, '"fc1:[A-Za-z0-9_-]+"', 'g') LOOP
        stored := replace(stored, value[1], '"<kept>"');
    END LOOP;
    RETURN shape(stored::jsonb);
END
$$;

-- protect_jsonb: what it takes.
CREATE TABLE doc (id int PRIMARY KEY, account_id text, kind text, data jsonb, other jsonb, as_json json,
    note fieldcrypt.encrypted_text('d.text'), pii fieldcrypt.encrypted_jsonb('d.pii'), by_kind text GENERATED ALWAYS AS (kind || '!') STORED,
    made jsonb GENERATED ALWAYS AS (other) STORED);
GRANT ALL ON doc TO PUBLIC;
SELECT statement, test.refused(format('SELECT fieldcrypt.protect_jsonb(%s)', statement)) FROM unnest(ARRAY[
    $$'doc', 'data', NULL, 'account_id'$$,
    $$'doc', 'data', 'doc.data', NULL$$,
    $$'missing', 'data', 'doc.data', 'account_id'$$,
    $$'doc', 'missing', 'doc.data', 'account_id'$$,
    $$'doc', 'data', 'doc.data', 'missing'$$,
    $$'doc', 'data', 'doc.data', 'account_id', 'missing'$$,
    $$'doc', 'data', 'doc.data', 'account_id', 'kind', 'missing'$$,
    $$'doc', 'ctid', 'doc.data', 'account_id'$$,
    $$'doc', 'as_json', 'doc.data', 'account_id'$$,
    $$'doc', 'made', 'doc.data', 'account_id'$$,
    $$'doc', 'data', 'doc.data', 'by_kind'$$,
    $$'doc', 'data', 'doc.data', 'account_id', 'by_kind'$$,
    $$'doc', 'data', 'doc.data', 'note'$$,
    $$'doc', 'data', 'doc.data', 'account_id', 'note'$$,
    $$'doc', 'data', 'doc.data', 'account_id', 'kind', 'note'$$,
    $$'doc', 'data', 'doc.data', 'account_id', 'kind', 'other'$$
]) AS statement;
SELECT name, left(test.refused(format($$SELECT fieldcrypt.protect_jsonb('doc', 'data', %L, 'account_id')$$, name)), 14) FROM unnest(ARRAY['', 'Doc Data', 'doc..data', repeat('d', 64)]) AS name;
CREATE VIEW doc_view AS SELECT * FROM doc;
SELECT test.refused($$SELECT fieldcrypt.protect_jsonb('doc_view', 'data', 'doc.data', 'account_id')$$) LIKE 'refused: %';
DROP VIEW doc_view;
SELECT fieldcrypt.protect_jsonb('doc', 'data', 'doc.data', 'account_id', 'kind');
SELECT test.refused($$SELECT fieldcrypt.protect_jsonb('doc', 'data', 'doc.again', 'account_id')$$);
SELECT fieldcrypt.protect_jsonb('doc', 'other', 'doc.other', 'account_id');
SELECT * FROM fieldcrypt.documents ORDER BY column_name;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'doc'::regclass ORDER BY tgname;
SELECT conname, contype, convalidated FROM pg_constraint WHERE conrelid = 'doc'::regclass AND contype = 'c' ORDER BY conname;
SELECT fieldcrypt.unprotect_jsonb('doc', 'other');
SELECT test.refused($$SELECT fieldcrypt.unprotect_jsonb('doc', 'other')$$);
-- Only the table's owner may.
SET ROLE regress_app;
SELECT test.refused($$SELECT fieldcrypt.protect_jsonb('doc', 'other', 'doc.other', 'account_id')$$) LIKE 'refused: 42501 %';
SELECT test.refused($$SELECT fieldcrypt.unprotect_jsonb('doc', 'data')$$) LIKE 'refused: 42501 %';
-- The functions behind it are of no use by themselves.
SELECT test.refused($$SELECT fieldcrypt.seal_document()$$);
SELECT test.refused($$CREATE TABLE t (id int); CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fieldcrypt.seal_document('a'); INSERT INTO t VALUES (1)$$);
SELECT test.refused($$CREATE TABLE t (a text, d jsonb); CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fieldcrypt.seal_document('doc.data', 'd', 'a', '', ''); INSERT INTO t VALUES ('acme', '{}')$$);

-- protect_path: who may, and what.
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{a}', 'd.text')$$);
SELECT test.refused($$SELECT fieldcrypt.unprotect_path('doc.data', '{a}')$$) LIKE 'refused: %';
SELECT test.refused($$SELECT fieldcrypt.keep_plain('{a}')$$);
SET ROLE regress_manager;
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{a}', 'd.text')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{a}', 'd.text', account => 'globex')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{a}', 'person.note', account => 'acme')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{a}', 'd.text', account => 'acme')$$);
SELECT test.refused($$SELECT fieldcrypt.keep_plain('{a}')$$);
SET ROLE regress_admin;
SELECT path, test.refused(format('SELECT fieldcrypt.protect_path(%L, %L, %L)', 'doc.data', ARRAY[path], 'd.text')) FROM unnest(ARRAY[
    'a', 'a.b', 'phones[*].number', '"a.b".c', '[*].ssn', '[*]', 'a[*][*]', 'first name.*', 'größe.$', '"".a', 'a."\"\\"', '"plain"',
    '', '.a', 'a.', 'a..b', 'a[0]', 'a[', '[*]a', 'a"b', '"a', '"a"b', '"\n"', ' a', 'a ', 'a]',
    'created_at', 'a.updated_at', 'source', 'source[*]', '"source"', 'created_at.a'
]) AS path;
SELECT arguments, test.refused(format('SELECT fieldcrypt.protect_path(%s)', arguments)) FROM unnest(ARRAY[
    $$'missing', '{a}', 'd.text'$$,
    $$'doc.data', '{a}', 'd.missing'$$,
    $$'doc.data', '{a}', 'd.text', account => 'missing'$$,
    $$'doc.data', '{a}', 'd.text', account => ''$$,
    $$'doc.data', '{a}', 'd.text', nulls => 'drop'$$,
    $$NULL, '{a}', 'd.text'$$,
    $$'doc.data', NULL, 'd.text'$$,
    $$'doc.data', '{a,NULL}', 'd.text'$$,
    $$'doc.data', '{a}', NULL$$,
    $$'doc.data', '{a}', 'd.text', account => NULL$$,
    $$'doc.data', '{a,b.c,a}', 'd.text'$$,
    $$'doc.data', '{a,a.b}', 'd.text'$$,
    $$'doc.data', '{a.b,a}', 'd.text'$$
]) AS arguments;

-- One path inside another is refused, in either order and across accounts and kinds that meet.
CREATE FUNCTION flag_both(one text, other text) RETURNS text LANGUAGE sql AS $$
    SELECT test.refused(format('SELECT fieldcrypt.protect_path(''doc.data'', %s); SELECT fieldcrypt.protect_path(''doc.data'', %s)', one, other))
$$;
SELECT one, other, flag_both(one, other) FROM (VALUES
    ($$'{a}', 'd.text'$$, $$'{a.b}', 'd.email'$$),
    ($$'{a.b}', 'd.text'$$, $$'{a}', 'd.text'$$),
    ($$'{a}', 'd.text'$$, $$'{a[*].b}', 'd.text'$$),
    ($$'{a[*]}', 'd.text'$$, $$'{a[*].b}', 'd.text'$$),
    ($$'{a[*].b}', 'd.text'$$, $$'{a.b}', 'd.text'$$),
    ($$'{a[*]}', 'd.text'$$, $$'{a}', 'd.text'$$),
    ($$'{[*].a}', 'd.text'$$, $$'{a}', 'd.text'$$),
    ($$'{[*]}', 'd.text'$$, $$'{a}', 'd.text'$$),
    ($$'{a}', 'd.text'$$, $$'{a}', 'd.text'$$),
    ($$'{a}', 'd.text'$$, $$'{a}', 'd.email'$$),
    ($$'{a}', 'd.text'$$, $$'{a}', 'd.email', 'acme'$$),
    ($$'{a}', 'd.text', 'acme'$$, $$'{a}', 'd.email', 'acme', 'k'$$),
    ($$'{a}', 'd.text'$$, $$'{a.b}', 'd.text', 'acme'$$),
    ($$'{a.b}', 'd.text', 'acme'$$, $$'{a}', 'd.text'$$),
    ($$'{a}', 'd.text', '*', 'k'$$, $$'{a.b}', 'd.text', 'acme'$$),
    ($$'{a}', 'd.text', 'acme', 'k'$$, $$'{a.b}', 'd.text', 'acme', 'l'$$),
    ($$'{a}', 'd.text', 'acme'$$, $$'{a.b}', 'd.text', 'globex'$$),
    ($$'{a}', 'd.text'$$, $$'{ab}', 'd.text'$$)
) AS v (one, other);
DROP FUNCTION flag_both(text, text);

-- The view shows what is flagged.
SELECT fieldcrypt.protect_path('doc.data', '{contact.email,"emails[*]"}', 'd.email');
SELECT fieldcrypt.protect_path('doc.data', '{ssn,phones[*].number}', 'd.text', nulls => 'encrypt');
SET ROLE regress_manager;
SELECT fieldcrypt.protect_path('doc.data', '{note}', 'd.plain', account => 'acme', kind => 'lead');
SET ROLE regress_admin;
SELECT document, path, field, account, kind, nulls, state, created_by FROM fieldcrypt.paths ORDER BY path COLLATE "C";
-- A flagged name cannot become a plain one, nor the other way round.
SELECT name FROM fieldcrypt.plain_names ORDER BY name;
SELECT test.refused(format('SELECT fieldcrypt.keep_plain(%L)', ARRAY[name])) FROM unnest('{email,emails,number,note,mail,contact,il}'::text[]) AS name;
SELECT fieldcrypt.keep_plain('{status,source}');
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{a.status}', 'd.text')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{status.a}', 'd.text')$$);
-- unprotect_path.
SELECT arguments, test.refused(format('SELECT fieldcrypt.unprotect_path(%s)', arguments)) FROM unnest(ARRAY[
    $$'doc.data', '{ssn}'$$,
    $$'doc.data', '{ssn,missing}'$$,
    $$'doc.data', '{ssn}', 'acme'$$,
    $$'doc.data', '{ssn}', '*', 'lead'$$,
    $$'doc.data', '{note}'$$,
    $$'doc.data', '{note}', 'acme'$$,
    $$'doc.data', '{note}', 'acme', 'lead'$$,
    $$'doc.data', '{contact}'$$,
    $$'doc.data', '{a..b}'$$,
    $$'missing', '{ssn}'$$,
    $$NULL, '{ssn}'$$
]) AS arguments;
SELECT test.refused($$SELECT fieldcrypt.unprotect_path('doc.data', '{ssn}'); SELECT fieldcrypt.unprotect_path('doc.data', '{ssn}')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{kept}', 'd.for_good'); SELECT fieldcrypt.unprotect_path('doc.data', '{kept}')$$);
SET ROLE regress_manager;
SELECT test.refused($$SELECT fieldcrypt.unprotect_path('doc.data', '{ssn}')$$);
SELECT test.refused($$SELECT fieldcrypt.unprotect_path('doc.data', '{note}', 'acme', 'lead')$$);
SET ROLE regress_admin;
-- A field that is in use stays.
SELECT test.refused($$SELECT fieldcrypt.drop_field('d.plain')$$);
SELECT test.refused($$SELECT fieldcrypt.unprotect_path('doc.data', '{note}', 'acme', 'lead'); SELECT fieldcrypt.drop_field('d.plain')$$);
SELECT test.refused($$SELECT fieldcrypt.drop_field('d.pii')$$);
-- The most specific flag holds: account and kind, account, kind, neither.
CREATE TABLE specific (id int, account_id text, kind text, data jsonb);
GRANT ALL ON specific TO PUBLIC;
SELECT fieldcrypt.protect_jsonb('specific', 'data', 'specific', 'account_id', 'kind');
SELECT fieldcrypt.protect_path('specific', '{v}', 'd.text');
SELECT fieldcrypt.protect_path('specific', '{v}', 'd.email', kind => 'k');
SELECT fieldcrypt.protect_path('specific', '{v}', 'd.plain', account => 'acme');
SELECT fieldcrypt.protect_path('specific', '{v}', 'd.none', account => 'acme', kind => 'k');
SELECT fieldcrypt.protect_path('specific', '{w}', 'd.none', account => 'globex', kind => 'k', nulls => 'encrypt');
RESET ROLE;
-- an envelope's fourth byte is the type of what is in it: 3 is JSON
CREATE FUNCTION field_at(document jsonb, key text) RETURNS text SECURITY DEFINER LANGUAGE sql AS $$
    SELECT CASE WHEN document ->> key LIKE 'fc1:____Aw%' THEN fieldcrypt.field_of((document ->> key)::fieldcrypt.encrypted_jsonb)
        WHEN document ->> key LIKE 'fc1:%' THEN fieldcrypt.field_of((document ->> key)::fieldcrypt.encrypted_text) ELSE document ->> key END
$$;
SET ROLE regress_app;
CREATE FUNCTION try_specific() RETURNS SETOF text SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM specific;
    INSERT INTO specific SELECT row_number() OVER (), account, kind, '{"v": "x", "w": null}'
    FROM unnest('{acme,globex}'::text[]) AS account, unnest('{k,l,NULL}'::text[]) AS kind;
    RETURN QUERY SELECT concat_ws(' ', account_id, COALESCE(kind, 'no kind') || ':', field_at(data, 'v'), field_at(data, 'w')) FROM specific ORDER BY account_id, kind;
END
$$;
SET ROLE regress_admin;
SELECT try_specific();
-- A retired flag gives way to the next one, and is what holds only if it is alone.
SELECT fieldcrypt.unprotect_path('specific', '{v}', 'acme', 'k');
SELECT try_specific();
SELECT fieldcrypt.unprotect_path('specific', '{v}', 'acme');
SELECT fieldcrypt.unprotect_path('specific', '{v}', kind => 'k');
SELECT try_specific();
SELECT fieldcrypt.unprotect_path('specific', '{v}');
SELECT try_specific();
SELECT path, account, kind, field, state FROM fieldcrypt.paths WHERE document = 'specific' ORDER BY path, account, kind;
-- One that is flagged again is active again, also with another field.
SELECT fieldcrypt.protect_path('specific', '{v}', 'd.login');
SELECT try_specific();
SELECT path, account, kind, field, state FROM fieldcrypt.paths WHERE document = 'specific' AND path = 'v' AND account = '*' AND kind IS NULL;
-- What is not reversible stays so, whoever manages an account.
SELECT fieldcrypt.protect_path('specific', '{x}', 'd.for_good');
SET ROLE regress_manager;
SELECT fieldcrypt.protect_path('specific', '{x}', 'd.text', account => 'acme');
SELECT fieldcrypt.unprotect_path('specific', '{x}', account => 'acme');
SET ROLE regress_app;
INSERT INTO specific VALUES (10, 'acme', NULL, '{"x": "for good"}') RETURNING field_at(data, 'x');
UPDATE specific SET data = fieldcrypt.decrypt(data) WHERE id = 10 RETURNING field_at(data, 'x'), fieldcrypt.decrypt(data);
SET ROLE regress_admin;
DROP TABLE specific;

-- Writing: every type of JSON value, at a path of a field that can be searched and one that cannot.
SELECT fieldcrypt.protect_path('doc.data', '{v.*}', 'd.none');
SELECT fieldcrypt.protect_path('doc.data', '{hidden}', 'd.none', nulls => 'encrypt');
SELECT fieldcrypt.protect_path('doc.data', ARRAY['"a.b"."c\"d"', '""', 'größe'], 'd.text');
SET ROLE regress_app;
CREATE TABLE given (id int, data jsonb);
INSERT INTO given VALUES
    (1, '{"ssn": "123-45-6789", "hidden": "x", "name": "plain"}'),
    (2, '{"ssn": 12345678901234567890.1234567890123456789, "hidden": -1e-20}'),
    (3, '{"ssn": 1.50, "hidden": 1E+3}'),
    (4, '{"ssn": 0, "hidden": -0.0}'),
    (5, '{"ssn": true, "hidden": false}'),
    (6, '{"ssn": null, "hidden": null}'),
    (7, '{"ssn": {"a": 1.0, "b": [null]}, "hidden": {}}'),
    (8, '{"ssn": ["x", {"y": 1}], "hidden": []}'),
    (9, '{"ssn": "", "hidden": " "}'),
    (10, '{"ssn": "Zoë 💶 \\ \" \u00e9 \n", "hidden": "null"}'),
    (11, '{"a.b": {"c\"d": "quoted"}, "": "empty", "größe": "umlaut", "a": {"b": "not flagged"}}'),
    (12, '{}'), (13, '[]'), (14, '"text"'), (15, '1.10'), (16, 'null'), (17, NULL),
    (18, '{"v": {"*": "star"}, "phones": [], "contact": {}, "note": "unflagged kind"}');
INSERT INTO given SELECT 19, jsonb_build_object('ssn', repeat('long ', 20000), 'list', jsonb_agg(i), 'phones', jsonb_agg(jsonb_build_object('number', i::text, 'at', i)))
FROM generate_series(1, 300) AS i;
INSERT INTO doc (id, account_id, data) SELECT id, 'acme', data FROM given;
SELECT id, shape(data) FROM doc WHERE id <> 19 ORDER BY id;
-- What is read is what was written, to the last digit.
SELECT count(*), count(*) FILTER (WHERE fieldcrypt.decrypt(doc.data)::text = given.data::text) FROM doc JOIN given USING (id);
SELECT id, given.data, fieldcrypt.decrypt(doc.data) FROM doc JOIN given USING (id) WHERE fieldcrypt.decrypt(doc.data)::text IS DISTINCT FROM given.data::text;
SELECT id, fieldcrypt.decrypt(data) FROM doc WHERE id IN (2, 3, 4) ORDER BY id;
SELECT count(DISTINCT number), length(fieldcrypt.decrypt(data) ->> 'ssn') FROM doc, jsonb_path_query(data, '$.phones[*].number') AS number WHERE id = 19 GROUP BY 2;
-- Each is sealed on its own, under the account that the row names.
SELECT DISTINCT field_at(data, 'ssn'), field_at(data, 'hidden') FROM doc WHERE id < 10;
TRUNCATE doc, given;

-- Documents of an unexpected shape are not stored in plain: keys look into arrays, [*] takes a lone value.
CREATE FUNCTION sealed(document jsonb) RETURNS jsonb LANGUAGE sql AS $$
    DELETE FROM doc WHERE id = 0;
    INSERT INTO doc (id, account_id, data) VALUES (0, 'acme', document);
    SELECT shape(data) FROM doc WHERE id = 0;
$$;
SELECT document, sealed(document) FROM unnest(ARRAY[
    '{"phones": {"number": "lone"}}',
    '{"phones": [{"number": "a"}, [{"number": "b"}], {"number": ["c", 1]}, "d", {"text": "e"}]}',
    '[{"ssn": "a"}, [{"ssn": "b"}], {"contact": [{"email": "c"}]}]',
    '{"emails": "lone"}', '{"emails": {"a": "object"}}', '{"emails": ["a", ["b"], {"c": 1}, null, 2]}', '{"emails": [["a"]]}',
    '{"contact": "text"}', '{"contact": {"email": {"deep": [1]}}}', '{"contact": [[{"email": 1}]]}',
    '{"SSN": "case", "ssn ": "blank", "x": {"ssn": "elsewhere"}}'
]::jsonb[]) AS document;
-- Null: kept as it is, or sealed too.
SELECT document, sealed(document) FROM unnest(ARRAY[
    '{"ssn": null, "contact": {"email": null}, "emails": null, "phones": [{"number": null}, null]}', '{"emails": [null, "a"]}'
]::jsonb[]) AS document;
DROP FUNCTION sealed(jsonb);
-- One that is nested too deep is refused, and a long path cut short.
SELECT left(outcome, 60), length(outcome) < 600 FROM test.refused(format('INSERT INTO doc (id, account_id, data) VALUES (9, ''acme'', %L)', repeat('[', 5000) || repeat(']', 5000))) AS outcome;

-- Whoever may not encrypt, and rows whose account is missing, unknown or closed; no error shows a value.
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "123-45-6789", "name": "Ann", "phones": [{"number": "1"}]}'), (2, 'globex', '{"ssn": "987-65-4321"}');
SELECT statement, test.refused(statement) FROM unnest(ARRAY[
    $$INSERT INTO doc (id, data) VALUES (3, '{"ssn": "canary"}')$$,
    $$INSERT INTO doc (id, data) VALUES (3, '{"name": "no flagged value"}')$$,
    $$INSERT INTO doc (id, data) VALUES (3, NULL)$$,
    $$INSERT INTO doc (id, account_id, data) VALUES (3, 'missing', '{"ssn": "canary"}')$$,
    $$INSERT INTO doc (id, account_id, data) VALUES (3, 'missing', '{"name": "no flagged value"}')$$,
    $$INSERT INTO doc (id, account_id, data) VALUES (3, '', '{"ssn": "canary"}')$$,
    $$INSERT INTO doc (id, account_id, data) VALUES (3, '*', '{"ssn": "canary"}')$$,
    $$UPDATE doc SET account_id = NULL WHERE id = 1$$,
    $$UPDATE doc SET account_id = 'globex' WHERE id = 1$$,
    $$UPDATE doc SET account_id = 'globex', data = '{"ssn": "123-45-6789"}' WHERE id = 1$$,
    $$UPDATE doc SET account_id = 'globex', data = fieldcrypt.decrypt(data) WHERE id = 1$$
]) AS statement;
SET ROLE regress_nobody;
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (3, 'acme', '{"ssn": "canary"}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (3, 'acme', '{"phones": [{}, {"number": "canary"}]}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (3, 'acme', '{"a.b": {"c\"d": "canary"}}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (3, 'acme', '{"ssn": null}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (3, 'acme', '{"name": "no flagged value", "contact": {"email": null}}')$$);
-- What stays as it is needs no right: also beside it may be written.
SELECT test.refused($$UPDATE doc SET data = data || '{"name": "Bea"}'$$);
SELECT test.refused($$UPDATE doc SET kind = 'other'$$);
SELECT test.refused($$UPDATE doc SET data = data - 'ssn'$$);
SELECT test.refused($$UPDATE doc SET data = data || '{"ssn": "canary"}' WHERE id = 1$$);
RESET ROLE;
SELECT fieldcrypt.disable_account('globex');
SET ROLE regress_app;
SELECT test.refused($$UPDATE doc SET data = data || '{"ssn": "canary"}' WHERE id = 2$$);
SELECT test.refused($$UPDATE doc SET data = data || '{"name": "Bea"}' WHERE id = 2$$);
SELECT fieldcrypt.reveal(data) FROM doc WHERE id = 2;
SELECT test.outcome('SELECT fieldcrypt.decrypt(data) FROM doc WHERE id = 2');
RESET ROLE;
SELECT fieldcrypt.enable_account('globex');

-- Equal plain text keeps its ciphertext for whoever could tell anyway; a new value is sealed anew.
SET ROLE regress_admin;
CREATE TABLE last (data jsonb);
GRANT ALL ON last TO PUBLIC;
INSERT INTO last SELECT data FROM doc WHERE id = 1;
-- What is stored when a document is written over row 1, or how it is refused; it is undone.
CREATE FUNCTION rewritten(document jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stored jsonb;
BEGIN
    UPDATE doc SET data = document WHERE id = 1 RETURNING shape(data, (SELECT data FROM last)) INTO stored;
    RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'ZZ000' THEN stored::text ELSE format('refused: %s %s', SQLSTATE, SQLERRM) END;
END
$$;
SET ROLE regress_app;
SELECT rewritten('{"ssn": "123-45-6789", "name": "Bea", "phones": [{"number": "1"}]}');
SELECT rewritten('{"ssn": "987-65-4321", "phones": [{"number": "1"}, {"number": "1"}]}');
SELECT rewritten('{"phones": {"number": "1"}, "hidden": "1"}');
SELECT rewritten('{"ssn": "123456789", "phones": [{"number": 1}]}');
SET ROLE regress_finder;
SELECT rewritten('{"ssn": "123-45-6789", "phones": [{"number": "1"}]}');
SET ROLE regress_writer;
SELECT rewritten('{"ssn": "123-45-6789", "phones": [{"number": "1"}]}');

-- Envelopes are taken only from where they stood, at flagged paths or not, or from a restore.
SET ROLE regress_app;
CREATE TABLE envelope AS SELECT id, data ->> 'ssn' AS ssn, data #>> '{phones,0,number}' AS number FROM doc;
GRANT ALL ON envelope TO PUBLIC;
CREATE FUNCTION put(path text, value text, row_id int DEFAULT 1) RETURNS text LANGUAGE sql AS $$
    SELECT test.refused(format('UPDATE doc SET data = jsonb_set(data, %L, to_jsonb(%L::text)) WHERE id = %L', path, value, row_id))
$$;
CREATE FUNCTION put_each() RETURNS TABLE (target text, outcome text) LANGUAGE sql AS $$
    SELECT 'its place', put('{ssn}', ssn) FROM envelope WHERE id = 1
    UNION ALL SELECT 'another place of the field', put('{phones,0,number}', ssn) FROM envelope WHERE id = 1
    UNION ALL SELECT 'place of another field', put('{hidden}', ssn) FROM envelope WHERE id = 1
    UNION ALL SELECT 'unflagged place', put('{name}', ssn) FROM envelope WHERE id = 1
    UNION ALL SELECT 'row of another account', put('{ssn}', ssn, 2) FROM envelope WHERE id = 1
    UNION ALL SELECT 'from another account', put('{ssn}', ssn) FROM envelope WHERE id = 2
    UNION ALL SELECT 'no envelope', put('{ssn}', 'fc1:AAAA')
    UNION ALL SELECT 'no envelope, unflagged', put('{name}', 'fc1:AAAA')
    UNION ALL SELECT 'other version, unflagged', put('{name}', 'fc2:x')
    UNION ALL SELECT 'looks a little like one', put('{name}', 'fc0:x') || ', ' || put('{name}', 'xfc1:x') || ', ' || put('{name}', 'fc1')
    UNION ALL SELECT 'cut', put('{ssn}', left(ssn, 28)) FROM envelope WHERE id = 1
    UNION ALL SELECT 'inside a flagged object', test.refused(format('UPDATE doc SET data = data || %L WHERE id = 1', jsonb_build_object('hidden', jsonb_build_object('a', number)))) FROM envelope WHERE id = 1
    UNION ALL SELECT 'a key', test.refused(format('UPDATE doc SET data = data || %L WHERE id = 1', jsonb_build_object(number, 'x'))) FROM envelope WHERE id = 1
    UNION ALL SELECT 'a new row', test.refused('INSERT INTO doc (id, account_id, data) SELECT 9, ''acme'', data FROM doc WHERE id = 1')
$$;
SELECT * FROM put_each();
SET ROLE regress_restore;
SELECT * FROM put_each();
RESET ROLE;
SELECT target, left(outcome, 14) FROM put_each();
-- A dump comes back as it was, whatever the session's account.
SET ROLE regress_app;
CREATE TABLE dumped AS SELECT id, account_id, data FROM doc;
GRANT SELECT ON dumped TO regress_restore;
DELETE FROM doc;
SET ROLE regress_restore;
INSERT INTO doc (id, account_id, data) SELECT * FROM dumped;
SELECT count(*), bool_and(doc.data = dumped.data) FROM doc JOIN dumped USING (id);

-- ON CONFLICT and MERGE: what was sealed for the insertion may go into the row that is there.
SET ROLE regress_app;
DROP TABLE dumped, envelope;
DROP FUNCTION put_each(), put(text, text, int);
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "excluded"}') ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data RETURNING shape(data), fieldcrypt.decrypt(data);
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "merged", "phones": [{"number": "2"}]}') ON CONFLICT (id) DO UPDATE SET data = doc.data || EXCLUDED.data RETURNING fieldcrypt.decrypt(doc.data);
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "x"}') ON CONFLICT (id) DO UPDATE SET data = doc.data || '{"ssn": "literal"}' RETURNING fieldcrypt.decrypt(doc.data);
INSERT INTO doc (id, account_id, data) VALUES (1, 'globex', '{"ssn": "x"}') ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data;
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "x"}') ON CONFLICT (id) DO NOTHING RETURNING id;
MERGE INTO doc USING (VALUES (1, '{"ssn": "by merge"}'::jsonb), (3, '{"ssn": "inserted by merge"}')) AS s (id, v) ON s.id = doc.id
    WHEN MATCHED THEN UPDATE SET data = s.v WHEN NOT MATCHED THEN INSERT (id, account_id, data) VALUES (s.id, 'acme', s.v);
SELECT id, shape(data), fieldcrypt.decrypt(data) FROM doc WHERE id IN (1, 3) ORDER BY id;
-- Other ways to write.
UPDATE doc SET (data, kind) = ('{"ssn": "row"}', 'k') WHERE id = 1 RETURNING fieldcrypt.decrypt(data);
UPDATE doc SET data['ssn'] = '"by subscript"' WHERE id = 1 RETURNING shape(data), fieldcrypt.decrypt(data);
UPDATE doc SET data = v FROM (VALUES ('{"ssn": "from"}'::jsonb)) AS s (v) WHERE id = 1 RETURNING fieldcrypt.decrypt(data);
UPDATE doc SET data = NULL WHERE id = 3 RETURNING data IS NULL;
PREPARE put_document(int, jsonb) AS INSERT INTO doc (id, account_id, data) VALUES ($1, 'acme', $2) RETURNING shape(data);
EXECUTE put_document(4, '{"ssn": "prepared"}');
DEALLOCATE put_document;
COPY doc (id, account_id, data) FROM stdin;
5	acme	{"ssn": "copied", "name": "x"}
6	globex	{"ssn": "copied too"}
\.
SELECT id, account_id, shape(data), fieldcrypt.decrypt(data) FROM doc WHERE id IN (5, 6) ORDER BY id;
-- A thousand rows, a thousand envelopes.
INSERT INTO doc (id, account_id, data) SELECT 1000 + i, 'acme', '{"ssn": "same"}' FROM generate_series(1, 1000) AS i;
SELECT count(DISTINCT data) FROM doc WHERE id > 1000;
DELETE FROM doc;

-- A flag holds for what is written after it, whatever was there before.
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"late": "x", "name": "x"}');
SET ROLE regress_admin;
SELECT fieldcrypt.protect_path('doc.data', '{late}', 'd.text');
SET ROLE regress_app;
SELECT data FROM doc;
SELECT fieldcrypt.reveal(data) FROM doc;
UPDATE doc SET data = data || '{"name": "y"}' RETURNING shape(data);
SET ROLE regress_admin;
SELECT fieldcrypt.unprotect_path('doc.data', '{late}');
-- What is sealed stays so and readable; what is new is plain, and so is what is decrypted and written back.
SET ROLE regress_app;
UPDATE doc SET data = data || '{"name": "z"}' RETURNING shape(data), fieldcrypt.decrypt(data);
INSERT INTO doc (id, account_id, data) VALUES (2, 'acme', '{"late": "x"}') RETURNING data;
UPDATE doc SET data = fieldcrypt.decrypt(data) WHERE id = 1 RETURNING data;
-- A field that is no longer the path's stays readable as well.
SET ROLE regress_admin;
SELECT fieldcrypt.protect_path('doc.data', '{late}', 'd.plain');
SET ROLE regress_app;
UPDATE doc SET data = data || '{"late": "1"}' WHERE id = 1 RETURNING field_at(data, 'late');
SET ROLE regress_admin;
SELECT fieldcrypt.unprotect_path('doc.data', '{late}');
SELECT fieldcrypt.protect_path('doc.data', '{late}', 'd.none');
SET ROLE regress_app;
UPDATE doc SET data = data || '{"name": "a"}' WHERE id = 1 RETURNING field_at(data, 'late'), fieldcrypt.decrypt(data);
UPDATE doc SET data = data || '{"late": "1"}' WHERE id = 1 RETURNING field_at(data, 'late'), fieldcrypt.decrypt(data);
-- So does one that was sealed for another kind: the CHECK stands for both, and a restore brings them back.
SET ROLE regress_admin;
CREATE TABLE former (id int, account_id text, kind text, data jsonb);
GRANT ALL ON former TO PUBLIC;
SELECT fieldcrypt.protect_jsonb('former', 'data', 'former', 'account_id', 'kind');
SELECT fieldcrypt.protect_path('former', '{v}', 'd.text');
SELECT fieldcrypt.protect_path('former', '{w}', 'd.text', kind => 'a');
SELECT fieldcrypt.protect_path('former', '{w}', 'd.email', kind => 'b');
SET ROLE regress_app;
INSERT INTO former VALUES (1, 'acme', NULL, '{"v": "x"}'), (2, 'acme', 'a', '{"w": "y"}');
SET ROLE regress_admin;
SELECT fieldcrypt.unprotect_path('former', '{v}');
SELECT fieldcrypt.protect_path('former', '{v}', 'd.plain');
SET ROLE regress_app;
UPDATE former SET kind = 'b' WHERE id = 2 RETURNING field_at(data, 'w');
UPDATE former SET data = data || '{"name": "x"}' RETURNING shape(data), fieldcrypt.decrypt(data);
SET ROLE regress_admin;
ALTER TABLE former VALIDATE CONSTRAINT fieldcrypt_data;
CREATE TABLE dumped AS SELECT * FROM former;
GRANT SELECT ON dumped TO PUBLIC;
TRUNCATE former;
SET ROLE regress_restore;
INSERT INTO former SELECT * FROM dumped;
SET ROLE regress_app;
SELECT id, field_at(data, 'v'), field_at(data, 'w'), fieldcrypt.decrypt(data) FROM former ORDER BY id;
SET ROLE regress_admin;
DROP TABLE former, dumped;

-- Partitions: rows move with their envelopes.
SET ROLE regress_admin;
CREATE TABLE parted (id int, account_id text, data jsonb) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (100);
SELECT fieldcrypt.protect_jsonb('parted', 'data', 'parted', 'account_id');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
SELECT fieldcrypt.protect_path('parted', '{ssn}', 'd.text');
SELECT relation, enabled FROM fieldcrypt.documents WHERE name = 'parted' ORDER BY relation::text;
GRANT ALL ON parted, parted_1, parted_2, last TO PUBLIC;
SET ROLE regress_app;
INSERT INTO parted VALUES (1, 'acme', '{"ssn": "one"}'), (101, 'acme', '{"ssn": "hundred"}');
INSERT INTO parted_2 VALUES (102, 'acme', '{"ssn": "directly"}');
SELECT tableoid::regclass, id, shape(data), fieldcrypt.decrypt(data) FROM parted ORDER BY id;
DELETE FROM last;
INSERT INTO last SELECT data FROM parted WHERE id = 1;
SET ROLE regress_nobody;
UPDATE parted SET id = 103 WHERE id = 1 RETURNING tableoid::regclass, shape(data, (SELECT data FROM last));
UPDATE parted SET id = 2, data = data || '{"name": "x"}' WHERE id = 103 RETURNING tableoid::regclass, shape(data, (SELECT data FROM last));
SELECT test.refused($$UPDATE parted SET id = 104, data = '{"ssn": "new"}' WHERE id = 2$$);
-- They do not get into other rows on the way.
SELECT statement, test.refused(statement) FROM unnest(ARRAY[
    'UPDATE parted SET data = (SELECT data FROM parted WHERE id = 2)',
    'WITH moved AS (UPDATE parted SET id = id WHERE id = 2 RETURNING *) INSERT INTO parted SELECT 3, account_id, data FROM moved',
    'UPDATE parted SET id = 110 WHERE id = 2; INSERT INTO parted SELECT 111, account_id, data FROM parted WHERE id = 110',
    'UPDATE parted SET id = 110 WHERE id = 2; UPDATE parted SET data = (SELECT data FROM parted WHERE id = 110) WHERE id = 101',
    'DO $do$ BEGIN BEGIN UPDATE parted SET id = 999 WHERE id = 2; EXCEPTION WHEN check_violation THEN NULL; END; INSERT INTO parted SELECT 3, account_id, data FROM parted WHERE id = 2; END $do$'
]) AS statement;
SET ROLE regress_app;
UPDATE parted SET id = 104, data = '{"ssn": "new"}' WHERE id = 2 RETURNING tableoid::regclass, shape(data, (SELECT data FROM last)), fieldcrypt.decrypt(data);
-- One that is taken off keeps the CHECK, and what is sealed in it.
SET ROLE regress_admin;
ALTER TABLE parted DETACH PARTITION parted_2;
SET ROLE regress_app;
SELECT test.refused($$INSERT INTO parted_2 VALUES (105, 'acme', '{"ssn": "canary"}')$$) LIKE 'refused: 23514 flagged value is not encrypted (%';
SELECT id, fieldcrypt.decrypt(data) FROM parted_2 ORDER BY id;
SET ROLE regress_admin;
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (100) TO (200);
-- One that is made beforehand has the CHECK of what it is like, and gets the trigger with its place.
CREATE TABLE parted_3 (LIKE parted INCLUDING CONSTRAINTS);
GRANT ALL ON parted_3 TO PUBLIC;
SET ROLE regress_app;
SELECT test.refused($$INSERT INTO parted_3 VALUES (205, 'acme', '{"ssn": "canary"}')$$) LIKE 'refused: 23514 flagged value is not encrypted (%';
SET ROLE regress_admin;
ALTER TABLE parted ATTACH PARTITION parted_3 FOR VALUES FROM (200) TO (300);
SET ROLE regress_app;
INSERT INTO parted VALUES (106, 'acme', '{"ssn": "sealed"}'), (206, 'acme', '{"ssn": "sealed"}') RETURNING tableoid::regclass, shape(data);
SET ROLE regress_admin;
SELECT test.refused($$SELECT fieldcrypt.unprotect_jsonb('parted_1', 'data')$$) LIKE 'refused: %';
SELECT fieldcrypt.unprotect_jsonb('parted', 'data');
SELECT count(*) FROM fieldcrypt.documents WHERE name = 'parted';
DROP TABLE parted;

-- Inheritance: children that are there, and those that come later.
CREATE TABLE parent (id int, account_id text, data jsonb);
CREATE TABLE child_before () INHERITS (parent);
CREATE TABLE grandchild_before () INHERITS (child_before);
SELECT fieldcrypt.protect_jsonb('parent', 'data', 'parent', 'account_id');
CREATE TABLE child_after () INHERITS (parent);
CREATE TABLE grandchild_after () INHERITS (child_after);
CREATE TABLE child_attached (LIKE parent);
SELECT test.refused('ALTER TABLE child_attached INHERIT parent') LIKE 'refused: %'; -- it lacks the CHECK
SELECT fieldcrypt.protect_path('parent', '{ssn}', 'd.text');
SELECT relation, column_name, enabled FROM fieldcrypt.documents WHERE name = 'parent' ORDER BY relation::text;
GRANT ALL ON parent, child_before, grandchild_before, child_after, grandchild_after TO PUBLIC;
SET ROLE regress_app;
SELECT relation, test.refused(format('INSERT INTO %s VALUES (1, NULL, ''{"ssn": "x"}'')', relation)) FROM unnest('{parent,child_before,grandchild_before,child_after,grandchild_after}'::text[]) AS relation;
INSERT INTO grandchild_after VALUES (1, 'acme', '{"ssn": "x"}') RETURNING shape(data);
UPDATE parent SET data = data || '{"ssn": "y"}' RETURNING tableoid::regclass, shape(data), fieldcrypt.decrypt(data);
SET ROLE regress_admin;
SELECT fieldcrypt.unprotect_jsonb('parent', 'data');
SELECT count(*) FROM fieldcrypt.documents WHERE name = 'parent';
SELECT count(*) FROM pg_constraint WHERE conname = 'fieldcrypt_data' AND conrelid IN ('parent'::regclass, 'child_before'::regclass, 'grandchild_after'::regclass);
DROP TABLE parent, child_before, grandchild_before, child_after, grandchild_after, child_attached;

-- What a later trigger puts back in plain, or from elsewhere, is caught by the CHECK, which shows no row.
CREATE TABLE changed (id int, account_id text, kind text, data jsonb);
GRANT ALL ON changed TO PUBLIC;
SELECT fieldcrypt.protect_jsonb('changed', 'data', 'changed', 'account_id', 'kind');
SELECT fieldcrypt.protect_path('changed', '{ssn,list[*].v}', 'd.text');
SELECT fieldcrypt.protect_path('changed', '{hidden}', 'd.none', nulls => 'encrypt');
SELECT fieldcrypt.protect_path('changed', '{w}', 'd.none', kind => 'of another kind');
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.kind
        WHEN 'plain' THEN NEW.data := jsonb_set(NEW.data, '{ssn}', '"canary"');
        WHEN 'plain in an array' THEN NEW.data := jsonb_set(NEW.data, '{list,0,v}', '1');
        WHEN 'JSON null' THEN NEW.data := NEW.data || '{"ssn": null}';
        WHEN 'null that is sealed' THEN NEW.data := NEW.data || '{"hidden": null}';
        WHEN 'unflagged' THEN NEW.data := NEW.data || '{"name": "trigger"}';
        WHEN 'account' THEN NEW.account_id := 'globex';
        WHEN 'no account' THEN NEW.account_id := NULL;
        WHEN 'kind' THEN NEW.kind := 'of another kind';
        WHEN 'another field' THEN NEW.data := NEW.data || '{"hidden": "fc1:AAAA"}';
        WHEN 'decrypted' THEN NEW.data := fieldcrypt.decrypt(NEW.data);
        WHEN 'away' THEN NEW.data := NULL;
        ELSE NULL;
    END CASE;
    RETURN NEW;
END
$$;
CREATE TRIGGER change BEFORE INSERT OR UPDATE ON changed FOR EACH ROW EXECUTE FUNCTION change();
SET ROLE regress_app;
SELECT kind, test.refused(format($$INSERT INTO changed VALUES (1, 'acme', %L, '{"ssn": "x", "list": [{"v": "y"}], "hidden": "z", "w": "of no other kind"}')$$, kind))
FROM unnest('{nothing,plain,plain in an array,JSON null,null that is sealed,unflagged,account,no account,kind,another field,decrypted,away}'::text[]) AS kind;
DO $$
DECLARE detail text;
BEGIN
    INSERT INTO changed VALUES (1, 'acme', 'plain', '{"ssn": "x"}');
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RAISE NOTICE 'detail: "%"', detail;
END $$;
-- So is a row for which the trigger does not run.
SET ROLE regress_admin;
ALTER TABLE changed DISABLE TRIGGER "000_fieldcrypt_data";
SELECT enabled FROM fieldcrypt.documents WHERE name = 'changed';
SET ROLE regress_app;
SELECT test.refused($$INSERT INTO changed VALUES (1, 'acme', NULL, '{"ssn": "canary"}')$$);
SELECT test.refused($$INSERT INTO changed VALUES (1, 'acme', NULL, '{"name": "no flagged value"}')$$);
SET ROLE regress_admin;
ALTER TABLE changed ENABLE TRIGGER "000_fieldcrypt_data";
DROP TRIGGER change ON changed;
DROP FUNCTION change();
-- A column that has been renamed or has another type since: an error, and nothing in plain.
CREATE FUNCTION then_insert(statement text, columns text DEFAULT $$1, 'acme', 'k', '{"ssn": "canary"}'$$) RETURNS text LANGUAGE sql AS $$
    SELECT test.refused(format('%s; SET LOCAL ROLE regress_app; INSERT INTO changed VALUES (%s)', statement, columns))
$$;
SELECT statement, then_insert(statement) FROM unnest(ARRAY[
    'ALTER TABLE changed RENAME COLUMN data TO document',
    'ALTER TABLE changed RENAME COLUMN account_id TO tenant',
    'ALTER TABLE changed RENAME COLUMN kind TO type',
    'ALTER TABLE changed RENAME TO altered; ALTER TABLE altered RENAME TO changed',
    'ALTER TABLE changed ADD COLUMN more text; ALTER TABLE changed DROP COLUMN more',
    'ALTER TABLE changed DROP CONSTRAINT fieldcrypt_data; ALTER TABLE changed ALTER COLUMN data TYPE text',
    'ALTER TABLE changed DROP CONSTRAINT fieldcrypt_data; ALTER TABLE changed ALTER COLUMN data TYPE json',
    'ALTER TABLE changed ALTER COLUMN account_id TYPE varchar(10)'
]) AS statement;
SELECT test.refused($$ALTER TABLE changed ALTER COLUMN data TYPE text$$) LIKE 'refused: %'; -- the CHECK is of jsonb
SELECT then_insert('ALTER TABLE changed DROP COLUMN account_id CASCADE', $$1, 'k', '{"ssn": "canary"}'$$);
SELECT then_insert('ALTER TABLE changed DROP COLUMN data CASCADE', $$1, 'acme', 'k'$$);
DROP FUNCTION then_insert(text, text);
DROP TABLE changed;
-- Names that could be read as SQL.
CREATE TABLE "o'Neil"" ; x" ("a'c""c" bigint, "d'""d" jsonb);
SELECT fieldcrypt.protect_jsonb('"o''Neil"" ; x"', 'd''"d', 'sql', 'a''c"c');
SELECT relation, column_name, account_column FROM fieldcrypt.documents WHERE name = 'sql';
SELECT fieldcrypt.unprotect_jsonb('"o''Neil"" ; x"', 'd''"d');
DROP TABLE "o'Neil"" ; x";

-- Reading: each value as the grants on its field say.
RESET ROLE;
CREATE ROLE regress_reader;
SELECT fieldcrypt.grant_access('regress_reader', '{mask}', account => 'acme', field => 'd.*');
SELECT fieldcrypt.grant_access('regress_reader', '{decrypt}', account => 'acme', field => 'd.email');
SELECT fieldcrypt.create_field('d.shown', hidden => 'ciphertext');
SELECT fieldcrypt.protect_path('doc.data', '{first}', 'd.plain');
SELECT fieldcrypt.protect_path('doc.data', '{shy}', 'd.null');
SELECT fieldcrypt.protect_path('doc.data', '{shown}', 'd.shown');
SET ROLE regress_app;
DELETE FROM doc;
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"name": "Ann", "ssn": "123-45-6789", "contact": {"email": "ann@example.com", "city": "Rome"}, "first": "Annabel Lee",
    "phones": [{"number": "555-1234", "at": "home"}, {"number": 15555678901, "at": "work"}], "emails": ["bea@example.com", "carl@example.org"], "hidden": {"a": [1, "x"]}, "shy": "x", "shown": "y"}');
INSERT INTO doc (id, account_id, data) VALUES (2, 'globex', '{"ssn": "987-65-4321"}'), (3, 'acme', '[{"ssn": "1"}, 2]'), (4, 'acme', NULL), (5, 'acme', '"no flagged value"'),
    (6, 'acme', '{"ssn": {"a": "123456789"}, "first": ["a", "long", "list"], "phones": [{"number": {"b": "12345678"}}]}');
SELECT id, fieldcrypt.reveal(data) = fieldcrypt.decrypt(data), fieldcrypt.decrypt(data) FROM doc ORDER BY id;
SET ROLE regress_masked;
SELECT id, shape(fieldcrypt.reveal(data)) FROM doc ORDER BY id;
SET ROLE regress_reader;
SELECT id, shape(fieldcrypt.reveal(data)) FROM doc ORDER BY id;
SELECT id, left(test.outcome('SELECT fieldcrypt.decrypt(data) FROM doc WHERE id = ' || id), 100) FROM doc ORDER BY id;
SET ROLE regress_nobody;
SELECT id, shape(fieldcrypt.reveal(data)) FROM doc ORDER BY id;
SELECT test.outcome('SELECT fieldcrypt.decrypt(data) FROM doc WHERE id = 3');
SELECT fieldcrypt.decrypt(data) FROM doc WHERE id IN (4, 5) ORDER BY id;

-- decrypt() of a path asks for the rights on what is there, and no more.
SET ROLE regress_app;
SELECT path, fieldcrypt.decrypt(data, path) FROM doc, unnest(ARRAY['ssn', 'name', 'contact.email', 'contact', 'phones[*].number', 'phones.number', 'phones[*].at', 'phones[*].missing', 'phones[*]', 'emails[*]', 'emails',
    'hidden', 'hidden[*]', 'hidden.a', 'hidden.a[*]', 'hidden.missing', 'missing', 'missing.deeper', 'ssn.deeper', 'name.deeper', 'ssn[*]', '[*].ssn', '"ssn"', '[*]']) AS path WHERE id = 1;
SELECT fieldcrypt.decrypt(data, 'ssn'), fieldcrypt.decrypt(data, '[*].ssn'), fieldcrypt.decrypt(data, '[*]') FROM doc WHERE id = 3;
SELECT fieldcrypt.decrypt(data, 'ssn'), fieldcrypt.decrypt(data, NULL) FROM doc WHERE id IN (4, 5);
SELECT test.outcome($$SELECT fieldcrypt.decrypt(data, 'a..b') FROM doc WHERE id = 1$$);
SET ROLE regress_reader;
SELECT fieldcrypt.decrypt(data, 'contact.email'), fieldcrypt.decrypt(data, 'name'), fieldcrypt.decrypt(data, 'contact') FROM doc WHERE id = 1;
SELECT path, split_part(split_part(test.outcome(format('SELECT fieldcrypt.decrypt(data, %L) FROM doc WHERE id = 1', path)), ' | ', 1), ' (path', 1) FROM unnest('{ssn,phones,phones[*],phones[*].at,phones[*].number}'::text[]) AS path;

-- Masks written back by a role without decrypt keep the values behind them, wherever that is certain.
SET ROLE regress_app;
DELETE FROM last;
INSERT INTO last SELECT data FROM doc WHERE id = 1;
SET ROLE regress_clerk;
SELECT shape(fieldcrypt.reveal(data)) FROM doc WHERE id = 1;
SELECT rewritten(fieldcrypt.reveal(data)) FROM doc WHERE id = 1;
SELECT rewritten(fieldcrypt.reveal(data) || '{"name": "Bea", "first": "Beatrice", "new": 1}') FROM doc WHERE id = 1;
-- Scalars: at their own place only.
SELECT change, rewritten(change::jsonb) FROM unnest(ARRAY[
    '{"ssn": "****6789"}', '{"ssn": "new"}', '{"ssn": "****678"}', '{"ssn": "****4321"}', '{"ssn": "********"}', '{"ssn": "x********x"}', '{"ssn": "A****e"}', '{"first": "****6789"}', '{"first": "A****e"}',
    '{"name": "****6789"}', '{"name": "********"}', '{"contact": {"email": "a****@example.com"}}', '{"contact": [{"email": "a****@example.com"}]}',
    '{"shy": null}', '{"shy": "********"}', '{"ssn": null}', '{"first": null}', '{"hidden": "********"}', '{"hidden": {"a": [1, "********"]}}', '{"hidden": {"a": [1, "x"]}}', '{"hidden": ["********"]}', '{"hidden": null}'
]) AS change;
-- Arrays of objects: by what is not flagged in them.
SELECT change, rewritten(jsonb_build_object('phones', change::jsonb)) FROM unnest(ARRAY[
    '[{"number": "****1234", "at": "home"}, {"number": "****8901", "at": "work"}]',
    '[{"number": "****8901", "at": "work"}, {"number": "****1234", "at": "home"}]',
    '[{"number": "****8901", "at": "work"}]',
    '[{"number": "****8901", "at": "home"}]',
    '[{"number": "****8901", "at": "elsewhere"}]',
    '[{"number": "****8901"}]',
    '["****8901"]',
    '[{"number": "555-0000", "at": "new"}, {"number": "****8901", "at": "work"}, {"number": "****1234", "at": "home"}]',
    '[{"number": "555-0000", "at": "home"}, {"number": "****8901", "at": "work"}]',
    '[{"number": "****8901", "at": "work"}, {"number": "****8901", "at": "work"}]',
    '[{"at": "work"}, {"number": "****1234", "at": "home"}]',
    '[[{"number": "****8901", "at": "work"}]]',
    '{"number": "****8901", "at": "work"}',
    '[]'
]) AS change;
-- Arrays of scalars: if all of them are masks, and as many.
SELECT change, rewritten(jsonb_build_object('emails', change::jsonb)) FROM unnest(ARRAY[
    '["b****@example.com", "c****@example.org"]',
    '["c****@example.org", "b****@example.com"]',
    '["b****@example.com"]',
    '["b****@example.com", "c****@example.org", "dora@example.net"]',
    '["b****@example.com", "c****@example.org", "c****@example.org"]',
    '["b****@example.com", "dora@example.net"]',
    '["dora@example.net", "emil@example.net"]',
    '"b****@example.com"',
    '[]'
]) AS change;
-- Two old elements that look the same cannot be told apart.
SET ROLE regress_app;
UPDATE doc SET data = data || '{"phones": [{"number": "111-1234"}, {"number": "222-1234"}, {"number": "333-5678", "at": "work"}]}' WHERE id = 1;
DELETE FROM last;
INSERT INTO last SELECT data FROM doc WHERE id = 1;
SET ROLE regress_clerk;
SELECT rewritten(jsonb_build_object('phones', change::jsonb)) FROM unnest(ARRAY[
    '[{"number": "****1234"}, {"number": "****1234"}, {"number": "****5678", "at": "work"}]',
    '[{"number": "****5678", "at": "work"}]'
]) AS change;
-- A new row has nothing behind a mask; whoever reads no value keeps all of them; whoever decrypts may write anything.
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (9, 'acme', '{"ssn": "********"}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "********"}') ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data$$);
SET ROLE regress_nobody;
SELECT rewritten(fieldcrypt.reveal(data) - 'phones') FROM doc WHERE id = 1;
SET ROLE regress_app;
SELECT rewritten('{"ssn": "********", "first": "A****e"}');
-- Whatever the mask is, what it shows is known when it comes back.
UPDATE doc SET data = data || '{"phones": [{"number": "555-1234", "at": "home"}, {"number": 15555678901, "at": "work"}]}' WHERE id = 1;
DELETE FROM last;
INSERT INTO last SELECT data FROM doc WHERE id = 1;
RESET ROLE;
CREATE FUNCTION under_mask(mask text, change jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    RESET ROLE;
    PERFORM fieldcrypt.alter_field('d.text', mask => under_mask.mask);
    SET LOCAL ROLE regress_clerk;
    SELECT fieldcrypt.reveal(data)->>'ssn' INTO seen FROM doc WHERE id = 1;
    RETURN format('%s: %s', seen, rewritten(change));
END
$$;
SELECT mask, change, under_mask(mask, change::jsonb) FROM (VALUES
    ('partial(0, "***-**-", 4)', '{"ssn": "***-**-6789"}'), ('partial(0, "***-**-", 4)', '{"ssn": "***-**-4321"}'), ('partial(0, "***-**-", 4)', '{"first": "***-**-6789"}'),
    ('digits(4)', '{"ssn": "****6789"}'), ('last4', '{"ssn": "1990-**-**"}'), ('last4', '{"ssn": "1990-12-**"}'), ('last4', '{"ssn": "422222***2222"}'), ('month', '{"ssn": "********"}'),
    ('zero', '{"ssn": "0"}'), ('zero', '{"first": "0"}'), ('zero', '{"phones": [{"number": "0", "at": "work"}, {"number": "0", "at": "home"}]}'),
    ('partial(0, "***", 0)', '{"phones": [{"number": "***", "at": "home"}]}'), ('partial(0, "***", 0)', '{"phones": [{"number": "***", "at": "new"}]}')
) AS v (mask, change);
DROP FUNCTION under_mask(text, jsonb);
SELECT fieldcrypt.alter_field('d.text', mask => 'last4');
-- The same for typed columns of a protected table.
SET ROLE regress_app;
CREATE TABLE typed (id int, account_id text, v fieldcrypt.encrypted_text('d.text'), w fieldcrypt.encrypted_text('d.pin'));
SELECT fieldcrypt.protect_table('typed', 'account_id');
GRANT ALL ON typed TO PUBLIC;
SET fieldcrypt.account = 'acme';
INSERT INTO typed VALUES (1, 'acme', '123-45-6789', '1234'), (2, 'acme', '987-65-4321', NULL);
CREATE TABLE typed_before AS SELECT id, v::text, w::text FROM typed;
GRANT SELECT ON typed_before TO PUBLIC;
SET ROLE regress_clerk;
UPDATE typed SET v = fieldcrypt.reveal(v), w = fieldcrypt.reveal(w);
SELECT id, typed.v::text = b.v, typed.w::text = b.w FROM typed JOIN typed_before AS b USING (id) ORDER BY id;
SELECT test.refused($$UPDATE typed SET v = '****6789' WHERE id = 2$$);
SELECT test.refused($$UPDATE typed SET v = '********' WHERE id = 2$$);
SELECT test.refused($$UPDATE typed SET v = 'new' WHERE id = 2$$);
SET ROLE regress_app;
UPDATE typed SET v = fieldcrypt.reveal(v), w = fieldcrypt.reveal(w) RETURNING id, fieldcrypt.decrypt(v), fieldcrypt.reveal(w);
SELECT id FROM typed WHERE w = '1234';
DROP TABLE typed, typed_before;

-- Searching: the tokens of all values, and what to look for.
RESET fieldcrypt.account;
SET ROLE regress_admin;
SELECT fieldcrypt.protect_path('doc.data', '{code}', 'd.once');
SELECT fieldcrypt.protect_path('doc.data', '{pin}', 'd.pin');
SELECT fieldcrypt.protect_path('doc.data', '{login}', 'd.login');
SET ROLE regress_app;
DELETE FROM doc;
INSERT INTO doc (id, account_id, data) VALUES
    (1, 'acme', '{"ssn": "Ann", "contact": {"email": "Ann@Example.com "}, "phones": [{"number": "1"}, {"number": "2"}, {"number": "1"}]}'),
    (2, 'acme', '{"ssn": "Bea", "contact": {"email": "bea@example.com"}, "phones": [{"number": 2}], "hidden": "Ann"}'),
    (3, 'globex', '{"ssn": "Ann", "contact": {"email": "ann@example.com"}}'),
    (4, 'acme', '{"ssn": 1.50, "phones": [{"number": true}, {"number": "1.5"}]}'),
    (5, 'acme', '{"ssn": {"a": "Ann"}, "emails": [["ann@example.com"]], "contact": {"email": null}, "hidden": null, "first": "Ann"}'),
    (6, 'acme', '{"name": "Ann"}'), (7, 'acme', NULL), (8, 'acme', '{"ssn": "", "contact": {"email": " "}}');
SELECT id, cardinality(fieldcrypt.tokens(data)) FROM doc ORDER BY id;
SELECT fieldcrypt.tokens(data) = ARRAY(SELECT DISTINCT t FROM unnest(fieldcrypt.tokens(data)) AS t ORDER BY t) FROM doc WHERE id = 1;
CREATE FUNCTION found(field text, value text, account text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT test.outcome(format('SELECT id FROM doc WHERE fieldcrypt.matches(data, %L, %L, %L)', field, value, account))
$$;
SELECT field, value, found(field, value, 'acme') FROM (VALUES
    ('d.text', 'Ann'), ('d.text', 'ann'), ('d.text', '1'), ('d.text', '2'), ('d.text', '1.50'), ('d.text', '1.5'), ('d.text', 'true'), ('d.text', 'null'), ('d.text', '{"a": "Ann"}'),
    ('d.email', 'ann@example.com'), ('d.email', ' ANN@EXAMPLE.COM'), ('d.email', 'bea@example.com'), ('d.text', 'bea@example.com'), ('d.text', NULL)
) AS v (field, value);
SELECT found('d.text', 'Ann', 'globex'), found('d.email', 'ann@example.com', 'globex');
-- Without an account it is the session's; fields that cannot be searched, and rights that are missing, are errors.
SELECT found('d.text', 'Ann');
SET fieldcrypt.account = 'globex';
SELECT found('d.text', 'Ann');
SET fieldcrypt.account = 'acme';
SELECT found('d.text', 'Ann');
SELECT field, account, found(field, 'Ann', account) FROM (VALUES ('d.none', 'acme'), ('d.once', 'acme'), ('d.missing', 'acme'), (NULL, 'acme'), ('d.text', 'missing'), ('d.text', ''), ('d.text', '*'), ('d.login', '*')) AS v (field, account);
SET ROLE regress_clerk;
SELECT found('d.text', 'Ann', 'acme'), found('d.text', 'Ann', '*');
SET ROLE regress_finder;
SELECT found('d.text', 'Ann', 'acme');
-- Search tokens are those of what is stored, also of a typed column of the field.
SET ROLE regress_app;
SELECT fieldcrypt.search_tokens('d.text', 'Ann', 'acme') <@ fieldcrypt.tokens(data), fieldcrypt.search_tokens('d.text', 'Ann', 'acme') = fieldcrypt.tokens(fieldcrypt.encrypt('Ann', 'd.text', 'acme')),
    fieldcrypt.search_tokens('d.text', 'Ann') = fieldcrypt.search_tokens('d.text', 'Ann', 'acme'), fieldcrypt.search_tokens('d.text', 'Ann', 'globex') = fieldcrypt.search_tokens('d.text', 'Ann', 'acme'),
    fieldcrypt.search_tokens('d.email', 'ANN@example.com', 'acme') <@ fieldcrypt.tokens(data), cardinality(fieldcrypt.search_tokens('d.text', '', 'acme')), fieldcrypt.search_tokens('d.text', NULL, 'acme') IS NULL FROM doc WHERE id = 1;
SELECT fieldcrypt.tokens('{"a": "no envelope"}'::jsonb), fieldcrypt.tokens(NULL::jsonb), fieldcrypt.tokens(fieldcrypt.encrypt('x', 'd.none', 'acme'));
-- By index, and no plan shows the value.
CREATE TABLE many (id int, account_id text, data jsonb);
GRANT ALL ON many TO PUBLIC;
SELECT fieldcrypt.protect_jsonb('many', 'data', 'many', 'account_id');
SET ROLE regress_admin;
SELECT fieldcrypt.protect_path('many', '{ssn}', 'd.text');
SELECT fieldcrypt.protect_path('many', '{login}', 'd.login');
SET ROLE regress_app;
CREATE INDEX many_tokens ON many USING gin (fieldcrypt.tokens(data));
INSERT INTO many SELECT i, 'acme', jsonb_build_object('ssn', 'canary ' || i % 50) FROM generate_series(1, 500) AS i;
ANALYZE many;
SET enable_seqscan = off;
-- The plan, with <sealed> in place of what the planner has sealed.
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT line FROM regexp_split_to_table(rtrim(regexp_replace(test.plan(query, 'COSTS OFF'), $q$'fc1:[A-Za-z0-9_-]+'$q$, '<sealed>', 'g'), E'\n'), E'\n') AS line
$$;
SELECT plan_of($$SELECT id FROM many WHERE fieldcrypt.matches(data, 'd.text', 'canary 7')$$);
SELECT plan_of($$SELECT id FROM many WHERE fieldcrypt.matches(data, 'd.text', 'canary 7', 'acme')$$);
SELECT plan_of($$SELECT id FROM many WHERE fieldcrypt.tokens(data) && fieldcrypt.search_tokens('d.text', lower('CANARY 7'))$$);
SELECT plan_of($$SELECT id FROM many WHERE fieldcrypt.tokens(data) @> fieldcrypt.search_tokens('d.text', 'canary 7', 'acme')$$);
PREPARE by_value(text) AS SELECT id FROM many WHERE fieldcrypt.matches(data, 'd.text', $1, 'acme');
SET plan_cache_mode = force_custom_plan;
SELECT plan_of($$EXECUTE by_value('canary 7')$$);
SET plan_cache_mode = force_generic_plan;
SELECT plan_of($$EXECUTE by_value('canary 7')$$);
RESET plan_cache_mode;
SELECT count(*), min(id) FROM many WHERE fieldcrypt.matches(data, 'd.text', 'canary 7');
SELECT count(*) FROM many WHERE fieldcrypt.matches(data, 'd.text', 'canary 7') AND fieldcrypt.matches(data, 'd.text', 'canary 8');
SELECT options, test.plan($$SELECT id FROM many WHERE fieldcrypt.matches(data, 'd.text', 'canary 7')$$, options) LIKE '%canary%' FROM unnest(ARRAY['VERBOSE', 'ANALYZE, VERBOSE, COSTS OFF, TIMING OFF', 'FORMAT JSON, VERBOSE']) AS options;
RESET enable_seqscan;
DEALLOCATE by_value;
SET ROLE regress_clerk;
SELECT test.outcome($$SELECT id FROM many WHERE fieldcrypt.matches(data, 'd.text', 'x', 'acme')$$);
SET ROLE regress_app;

-- token(): one value of a field in a document, for unique indexes.
DELETE FROM doc;
SET ROLE regress_admin;
CREATE UNIQUE INDEX doc_code ON doc (account_id, fieldcrypt.token(data, 'd.once'));
CREATE UNIQUE INDEX doc_ssn ON doc (fieldcrypt.token(data, 'd.text'));
SET ROLE regress_app;
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"code": "A1", "ssn": "1"}'), (2, 'acme', '{"code": "A2", "ssn": "2"}'), (3, 'globex', '{"code": "A1", "ssn": "1"}'), (4, 'acme', '{"hidden": "x"}'), (5, 'acme', '{}');
SELECT id, length(fieldcrypt.token(data, 'd.once')), length(fieldcrypt.token(data, 'd.text', 'account')), length(fieldcrypt.token(data, 'd.text', 'database')), fieldcrypt.token(data, 'd.none'), fieldcrypt.token(data, 'd.missing'), cardinality(fieldcrypt.tokens(data)) FROM doc ORDER BY id;
\set VERBOSITY sqlstate
INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"code": "A1"}');
INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"ssn": 2}');
UPDATE doc SET data = data || '{"code": "A2"}' WHERE id = 1;
\set VERBOSITY default
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"ssn": "6", "phones": [{"number": "7"}]}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"ssn": "6", "phones": [{"number": "6"}]}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"code": "A6", "ssn": {"an": "object"}}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"code": {"an": "object"}}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"code": ["A1"]}')$$);
SELECT test.refused($$INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"code": null}')$$);
SELECT test.outcome($$SELECT fieldcrypt.token(data, 'd.text', 'session') FROM doc$$);
SELECT fieldcrypt.token(NULL::jsonb, 'd.text'), fieldcrypt.token(data, NULL), fieldcrypt.token('{"a": "no envelope"}'::jsonb, 'd.text') FROM doc WHERE id = 1;
INSERT INTO doc (id, account_id, data) VALUES (6, 'acme', '{"code": "A1", "name": "upsert"}') ON CONFLICT (account_id, fieldcrypt.token(data, 'd.once')) DO UPDATE SET data = doc.data || EXCLUDED.data RETURNING id, fieldcrypt.decrypt(data);
SET ROLE regress_admin;
DROP INDEX doc_code, doc_ssn;
SET ROLE regress_app;
-- A typed column of a unique field: equal values can be told, but not searched.
CREATE TABLE typed (id int, v fieldcrypt.encrypted_text('d.once') UNIQUE);
INSERT INTO typed VALUES (1, 'A1'), (2, 'A2'), (3, NULL), (4, NULL);
\set VERBOSITY sqlstate
INSERT INTO typed VALUES (5, 'A1');
\set VERBOSITY default
INSERT INTO typed VALUES (5, 'A1') ON CONFLICT (v) DO UPDATE SET id = 11 RETURNING id, fieldcrypt.decrypt(v);
SELECT test.outcome($$SELECT id FROM typed WHERE v = 'A1'$$);
SELECT test.outcome($$SELECT a.id FROM typed AS a JOIN typed AS b ON a.v = b.v$$);
SELECT id, fieldcrypt.decrypt(v), fieldcrypt.tokens(v), length(fieldcrypt.token(v)), fieldcrypt.token(v, 'database') FROM typed ORDER BY id;
DROP TABLE typed;

-- Scope database: unique, and found, across accounts.
DELETE FROM doc;
SET ROLE regress_admin;
CREATE UNIQUE INDEX doc_login ON doc (fieldcrypt.token(data, 'd.login', 'database'));
SET ROLE regress_app;
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"login": "Ann@Example.com"}'), (2, 'globex', '{"login": "bea@example.com"}');
\set VERBOSITY sqlstate
INSERT INTO doc (id, account_id, data) VALUES (3, 'globex', '{"login": "ann@example.com"}');
\set VERBOSITY default
SELECT cardinality(fieldcrypt.tokens(data)), length(fieldcrypt.token(data, 'd.login')), fieldcrypt.token(data, 'd.login') = fieldcrypt.token(data, 'd.login', 'database') FROM doc WHERE id = 1;
SELECT found('d.login', ' ANN@example.com', '*'), found('d.login', 'ann@example.com', 'acme'), found('d.login', 'ann@example.com', 'globex'), found('d.login', 'carl@example.com', '*');
-- It needs search on every account.
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_manager', '{search}', account => 'acme', field => 'd.login');
SET ROLE regress_manager;
SELECT found('d.login', 'ann@example.com', 'acme');
SELECT found('d.login', 'ann@example.com', '*');
SET ROLE regress_grantor;
SELECT fieldcrypt.grant_access('regress_manager', '{search}', account => '*', field => 'd.login');
SET ROLE regress_manager;
SELECT found('d.login', 'ann@example.com', '*');
SET ROLE regress_app;
CREATE TABLE typed (id int, v fieldcrypt.encrypted_text('d.login'));
CREATE UNIQUE INDEX ON typed (fieldcrypt.token(v, 'database'));
SET fieldcrypt.account = 'acme';
INSERT INTO typed VALUES (1, 'ann@example.com');
SET fieldcrypt.account = 'globex';
\set VERBOSITY sqlstate
INSERT INTO typed VALUES (2, 'Ann@example.com');
\set VERBOSITY default
INSERT INTO typed VALUES (2, 'bea@example.com');
SELECT id FROM typed WHERE fieldcrypt.tokens(v) && fieldcrypt.search_tokens('d.login', 'ann@example.com', '*');
SELECT id, fieldcrypt.account_of(v) FROM typed WHERE v = 'bea@example.com';
DROP TABLE typed;
SET ROLE regress_admin;
DROP INDEX doc_login;
SET ROLE regress_app;

-- Only the token is kept: found, and shown to no one.
DELETE FROM doc;
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"pin": "1234", "ssn": "x"}'), (2, 'acme', '{"pin": 1234}'), (3, 'globex', '{"pin": "1234"}');
SELECT found('d.pin', '1234', 'acme'), found('d.pin', '4321', 'acme');
SELECT id, shape(data), fieldcrypt.reveal(data) FROM doc ORDER BY id;
SELECT test.outcome('SELECT fieldcrypt.decrypt(data) FROM doc WHERE id = 1');
SELECT test.outcome($$SELECT fieldcrypt.decrypt(data, 'pin') FROM doc WHERE id = 1$$);
SELECT fieldcrypt.decrypt(data, 'ssn') FROM doc WHERE id = 1;
DELETE FROM last;
INSERT INTO last SELECT data FROM doc WHERE id = 1;
SELECT change, rewritten(change::jsonb) FROM unnest(ARRAY['{"pin": "********", "ssn": "x"}', '{"pin": "1234"}', '{"pin": "4321"}', '{"pin": "x********"}', '{"pin": 1234}', '{"pin": null}', '{"pin": {"a": 1}}', '{"pin": ""}']) AS change;
SET ROLE regress_clerk;
SELECT change, rewritten(change::jsonb) FROM unnest(ARRAY['{"pin": "********"}', '{"pin": "1234"}', '{"pin": "4321"}', '{"pin": "x********"}']) AS change;

-- Blob mode: flagged keys are gathered in a column of their own.
SET ROLE regress_admin;
CREATE TABLE gathered (id int PRIMARY KEY, account_id text, data jsonb, pii fieldcrypt.encrypted_jsonb('d.pii'), other fieldcrypt.encrypted_jsonb('d.pii'), bare jsonb);
GRANT ALL ON gathered TO PUBLIC;
SELECT fieldcrypt.protect_jsonb('gathered', 'data', 'gathered', 'account_id', blob_column => 'pii');
SELECT test.refused($$SELECT fieldcrypt.protect_jsonb('gathered', 'bare', 'again', 'account_id', blob_column => 'pii')$$) LIKE 'refused: 42710 %';
SELECT column_name, name, account_column, kind_column, blob_column FROM fieldcrypt.documents WHERE name = 'gathered';
SELECT test.refused($$SELECT fieldcrypt.protect_path('gathered', '{phones[*].number}', 'd.text')$$);
SELECT test.refused($$SELECT fieldcrypt.protect_path('gathered', '{[*]}', 'd.text')$$);
SELECT fieldcrypt.protect_path('gathered', '{ssn,n.a}', 'd.text');
SELECT fieldcrypt.protect_path('gathered', '{email}', 'd.email', nulls => 'encrypt');
SELECT fieldcrypt.protect_path('gathered', '{hidden}', 'd.none');
SELECT fieldcrypt.protect_path('gathered', '{pin}', 'd.pin');
SET ROLE regress_app;
CREATE FUNCTION whole(data jsonb, pii fieldcrypt.encrypted_jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s + %s = %s', data, CASE WHEN pii IS NULL THEN 'nothing' ELSE left(pii::text, 4) END, fieldcrypt.reveal(data, pii))
$$;
INSERT INTO gathered (id, account_id, data) VALUES
    (1, 'acme', '{"ssn": "123-45-6789", "email": "ann@example.com", "n": {"a": 1.50, "b": true}, "hidden": {"x": [1]}, "name": "Ann"}'),
    (2, 'acme', '{"name": "no flagged value"}'), (3, 'acme', '{"ssn": null, "email": null, "n": null}'), (4, 'acme', NULL), (5, 'globex', '{"ssn": "987-65-4321"}'), (6, 'acme', '{}'), (7, 'acme', '"text"'), (8, 'acme', '{"n": [1]}');
SELECT id, whole(data, pii) FROM gathered ORDER BY id;
SELECT id, fieldcrypt.field_of(pii), fieldcrypt.account_of(pii), fieldcrypt.decrypt(data, pii) = fieldcrypt.reveal(data, pii), fieldcrypt.decrypt(pii) FROM gathered ORDER BY id;
SELECT fieldcrypt.reveal(NULL::jsonb, NULL::fieldcrypt.encrypted_jsonb) IS NULL, fieldcrypt.decrypt('{"a": 1}'::jsonb, NULL::fieldcrypt.encrypted_jsonb), fieldcrypt.decrypt(NULL::jsonb, pii) FROM gathered WHERE id = 5;
-- What cannot be gathered is refused.
SELECT data, test.refused(format('INSERT INTO gathered (id, account_id, data) VALUES (9, ''acme'', %L)', data)) FROM unnest(ARRAY['[{"ssn": "x"}]', '{"n": [{"a": "x"}]}', '{"n": {"a": ["x"]}}']) AS data;
SELECT statement, test.refused(statement) FROM unnest(ARRAY[
    $$INSERT INTO gathered (id, account_id, data, pii) VALUES (9, 'acme', '{}', '{"ssn": "x"}')$$,
    $$INSERT INTO gathered (id, account_id, pii) VALUES (9, 'acme', '{"ssn": "x"}')$$,
    $$UPDATE gathered SET pii = '{"ssn": "x"}' WHERE id = 1$$,
    $$UPDATE gathered SET pii = (SELECT pii FROM gathered WHERE id = 1) WHERE id = 2$$,
    $$UPDATE gathered SET data = data || (fieldcrypt.decrypt(pii)) WHERE id = 1$$,
    $$UPDATE gathered SET account_id = 'globex' WHERE id = 1$$,
    $$UPDATE gathered SET account_id = NULL WHERE id = 1$$,
    $$UPDATE gathered SET account_id = 'globex', data = fieldcrypt.decrypt(data, pii), pii = NULL WHERE id = 1$$
]) AS statement;
-- An UPDATE keeps what it does not name, and takes what it does.
CREATE FUNCTION changed(change text, row_id int DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stored text;
BEGIN
    EXECUTE format('UPDATE gathered SET %s WHERE id = %L RETURNING whole(data, pii)', change, row_id) INTO stored;
    RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'ZZ000' THEN stored ELSE format('refused: %s %s', SQLSTATE, SQLERRM) END;
END
$$;
SELECT change, changed(change) FROM unnest(ARRAY[
    $$data = data || '{"name": "Bea"}'$$, $$data = '{}'$$, $$data = '{"ssn": "new"}'$$, $$data = data || '{"ssn": null}'$$, $$data = data || '{"email": null}'$$,
    $$data = data || '{"n": {"a": 2}}'$$, $$data = data || '{"n": {"b": 3}}'$$, $$data = data || '{"n": {"a": null}}'$$, $$data = data || '{"n": null}'$$, $$data = data || '{"n": 5}'$$, $$data = data || '{"n": []}'$$, $$data = data - 'n'$$,
    $$data = '[]'$$, $$data = '"text"'$$, $$data = data || '{"pin": "1234"}'$$,
    $$pii = NULL$$, $$pii = NULL, data = data || '{"ssn": "only this"}'$$, $$data = fieldcrypt.reveal(data, pii)$$, $$other = '{"a": 1}'$$, $$data = data || '{"ssn": "fc1:AAAA"}'$$
]) AS change;
-- Erasing: all at once, or key by key.
UPDATE gathered SET data = data || '{"ssn": null, "n": {"a": null}, "hidden": null}' WHERE id = 1 RETURNING whole(data, pii);
UPDATE gathered SET pii = NULL WHERE id = 1 RETURNING whole(data, pii);
-- EXCLUDED, with the blob and without.
INSERT INTO gathered (id, account_id, data) VALUES (1, 'acme', '{"ssn": "new", "name": "Bea"}') ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data, pii = EXCLUDED.pii RETURNING whole(gathered.data, gathered.pii);
INSERT INTO gathered (id, account_id, data) VALUES (1, 'acme', '{"ssn": "newer", "name": "Bea"}') ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data;
INSERT INTO gathered (id, account_id, data) VALUES (1, 'acme', '{"name": "nothing gathered"}') ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data RETURNING whole(gathered.data, gathered.pii);
INSERT INTO gathered (id, account_id, data) VALUES (1, 'acme', '{"ssn": "x"}') ON CONFLICT (id) DO UPDATE SET data = '{"ssn": "literal"}' RETURNING whole(gathered.data, gathered.pii);
MERGE INTO gathered USING (VALUES (1, '{"ssn": "merged"}'::jsonb), (10, '{"ssn": "inserted"}')) AS s (id, v) ON s.id = gathered.id
    WHEN MATCHED THEN UPDATE SET data = s.v WHEN NOT MATCHED THEN INSERT (id, account_id, data) VALUES (s.id, 'acme', s.v);
SELECT id, whole(data, pii) FROM gathered WHERE id IN (1, 10) ORDER BY id;
-- Merged reading: each value as the grants on its own field say; the blob alone as those on its field.
UPDATE gathered SET data = '{"ssn": "123-45-6789", "email": "ann@example.com", "n": {"a": "12345678"}, "hidden": "x", "pin": "1234", "name": "Ann"}' WHERE id = 1;
SELECT fieldcrypt.reveal(data, pii), test.outcome('SELECT fieldcrypt.decrypt(data, pii) FROM gathered WHERE id = 1') FROM gathered WHERE id = 1;
SET ROLE regress_masked;
SELECT fieldcrypt.reveal(data, pii), fieldcrypt.reveal(pii), fieldcrypt.reveal(data) FROM gathered WHERE id = 1;
SELECT test.outcome('SELECT fieldcrypt.decrypt(data, pii) FROM gathered WHERE id = 5');
SET ROLE regress_reader;
SELECT fieldcrypt.reveal(data, pii) FROM gathered WHERE id IN (1, 5) ORDER BY id;
SET ROLE regress_nobody;
SELECT fieldcrypt.reveal(data, pii), fieldcrypt.reveal(pii) FROM gathered WHERE id = 1;
SELECT test.outcome('SELECT fieldcrypt.decrypt(pii) FROM gathered WHERE id = 1');
-- Masks written back keep the values behind them.
SET ROLE regress_clerk;
SELECT changed($$data = '{"ssn": "****4321"}'$$), changed($$data = '{"hidden": {"x": "********"}}'$$);
UPDATE gathered SET data = fieldcrypt.reveal(data, pii) || '{"name": "Bea", "email": "bea@example.com"}' WHERE id = 1;
SET ROLE regress_nobody;
UPDATE gathered SET data = fieldcrypt.reveal(data, pii) WHERE id = 1;
SET ROLE regress_app;
UPDATE gathered SET data = fieldcrypt.reveal(data, pii) WHERE id = 1 RETURNING whole(data, pii);
-- Searching in blobs.
SET ROLE regress_admin;
CREATE INDEX gathered_tokens ON gathered USING gin (fieldcrypt.tokens(pii));
SET ROLE regress_app;
SET enable_seqscan = off;
SELECT plan_of($$SELECT id FROM gathered WHERE fieldcrypt.matches(pii, 'd.text', 'canary', 'acme')$$);
SELECT field, value, account, test.outcome(format('SELECT id FROM gathered WHERE fieldcrypt.matches(pii, %L, %L, %L)', field, value, account)) FROM (VALUES
    ('d.text', '123-45-6789', 'acme'), ('d.text', '12345678', 'acme'), ('d.email', 'ANN@example.com', 'acme'), ('d.pin', '1234', 'acme'), ('d.text', '987-65-4321', 'acme'), ('d.text', '987-65-4321', 'globex'), ('d.none', 'x', 'acme'), ('d.pii', 'x', 'acme')
) AS v (field, value, account);
RESET enable_seqscan;
SELECT id, cardinality(fieldcrypt.tokens(pii)) FROM gathered ORDER BY id;
-- After unprotect_path a new plain value takes the place of the gathered one.
SET ROLE regress_admin;
SELECT fieldcrypt.unprotect_path('gathered', '{ssn}');
SET ROLE regress_app;
UPDATE gathered SET data = data || '{"name": "Bea"}' WHERE id = 10 RETURNING whole(data, pii);
UPDATE gathered SET data = data || '{"ssn": "plain now"}' WHERE id = 10 RETURNING whole(data, pii);
-- Partitions: the blob goes with its row, and with no other.
SET ROLE regress_admin;
CREATE TABLE parted (id int, account_id text, data jsonb, pii fieldcrypt.encrypted_jsonb('d.pii')) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
GRANT ALL ON parted TO PUBLIC;
SELECT fieldcrypt.protect_jsonb('parted', 'data', 'gathered', 'account_id', blob_column => 'pii');
SET ROLE regress_app;
INSERT INTO parted VALUES (1, 'acme', '{"email": "ann@example.com", "name": "Ann"}'), (2, 'acme', '{"email": "bea@example.com"}');
SET ROLE regress_nobody;
UPDATE parted SET id = 101 WHERE id = 1;
SELECT test.refused('UPDATE parted SET pii = (SELECT pii FROM parted WHERE id = 101)');
SELECT test.refused('UPDATE parted SET id = 10 WHERE id = 101; INSERT INTO parted SELECT 102, account_id, data, pii FROM parted WHERE id = 10');
SET ROLE regress_app;
UPDATE parted SET id = 10, data = '{"email": "new@example.com"}' WHERE id = 101;
SELECT tableoid::regclass, id, fieldcrypt.decrypt(data, pii) FROM parted ORDER BY id;
-- A restore brings both columns back as they were.
CREATE TABLE dumped AS SELECT id, account_id, data, pii::text FROM gathered;
GRANT SELECT ON dumped TO regress_restore;
CREATE TABLE as_before AS SELECT id, fieldcrypt.reveal(data, pii) AS document FROM gathered;
DELETE FROM gathered;
SET ROLE regress_restore;
INSERT INTO gathered (id, account_id, data, pii) SELECT id, account_id, data, pii::fieldcrypt.encrypted_jsonb FROM dumped;
SELECT count(*), bool_and(gathered.pii::text IS NOT DISTINCT FROM dumped.pii AND gathered.data IS NOT DISTINCT FROM dumped.data) FROM gathered JOIN dumped USING (id);
SET ROLE regress_app;
SELECT count(*) FROM gathered JOIN as_before USING (id) WHERE fieldcrypt.reveal(data, pii) IS NOT DISTINCT FROM document;
DROP TABLE dumped, as_before;
-- Where the columns have changed since, nothing is written.
SET ROLE regress_admin;
DROP TABLE parted;
SELECT test.refused($$ALTER TABLE gathered RENAME COLUMN pii TO sealed; SET LOCAL ROLE regress_app; INSERT INTO gathered (id, account_id, data) VALUES (11, 'acme', '{"email": "x"}')$$);
SELECT test.refused($$ALTER TABLE gathered DROP COLUMN pii; SET LOCAL ROLE regress_app; INSERT INTO gathered (id, account_id, data) VALUES (11, 'acme', '{"email": "x"}')$$);

-- Columns of encrypted_jsonb alone: JSON in, ciphertext out.
SET ROLE regress_app;
SET fieldcrypt.account = 'acme';
CREATE TABLE whole (id int, v fieldcrypt.encrypted_jsonb('d.pii'));
GRANT ALL ON whole TO PUBLIC;
INSERT INTO whole VALUES (1, '{"a": 1.50, "b": [true, null], "a": 2.10}'), (2, '"text"'), (3, '1.10'), (4, 'null'), (5, NULL), (6, '[]');
INSERT INTO whole VALUES (7, '{"a": "jsonb"}'::jsonb), (8, jsonb_build_object('a', 'expression')), (9, '{"a": "cast"}'::fieldcrypt.encrypted_jsonb), (10, '{"a": "cast with field"}'::fieldcrypt.encrypted_jsonb('d.pii')), (11, '{"a": "jsonb cast"}'::jsonb::fieldcrypt.encrypted_jsonb);
INSERT INTO whole SELECT 12, v FROM whole WHERE id = 1;
PREPARE put_jsonb(jsonb) AS INSERT INTO whole VALUES (13, $1);
EXECUTE put_jsonb('{"a": "prepared"}');
PREPARE put_typed(fieldcrypt.encrypted_jsonb) AS INSERT INTO whole VALUES (14, $1);
EXECUTE put_typed('{"a": "prepared typed"}');
DEALLOCATE ALL;
COPY whole FROM stdin;
15	{"a": "copied"}
16	\N
\.
SELECT id, left(v::text, 4), fieldcrypt.decrypt(v), fieldcrypt.field_of(v), fieldcrypt.account_of(v), fieldcrypt.tokens(v) FROM whole ORDER BY id;
UPDATE whole SET v = fieldcrypt.decrypt(v) || '{"b": 1}' WHERE id = 7 RETURNING fieldcrypt.decrypt(v), fieldcrypt.reveal(v);
SELECT fieldcrypt.reveal('{"plain": 1}'::jsonb, v), fieldcrypt.decrypt('{"plain": 1, "a": 0}'::jsonb, v) FROM whole WHERE id = 7;
SET ROLE regress_masked;
SELECT DISTINCT fieldcrypt.reveal(v) FROM whole WHERE id IN (1, 2, 7) ORDER BY 1;
SELECT fieldcrypt.reveal('{"plain": 1}'::jsonb, v) FROM whole WHERE id = 7;
SELECT test.outcome('SELECT fieldcrypt.decrypt(v) FROM whole WHERE id = 7');
SELECT test.refused($$INSERT INTO whole VALUES (20, '{}')$$);
SET ROLE regress_nobody;
SELECT fieldcrypt.reveal(v) FROM whole WHERE id IN (1, 5) ORDER BY id;
-- What is not JSON is refused, and not shown; nor is an envelope taken.
SET ROLE regress_app;
SELECT value, test.refused(format('INSERT INTO whole VALUES (20, %L)', value)) FROM unnest(ARRAY['canary', '{"a": canary}', '', '{"a": "canary"', '{"a": 1} canary', '{"a": "\u0000"}', '1e1000000']) AS value;
SELECT test.refused(format('INSERT INTO whole VALUES (20, %L)', v::text)) FROM whole WHERE id = 1;
SELECT test.refused($$INSERT INTO whole VALUES (20, 'fc1:canary')$$);
SELECT left(test.refused(statement), 14) FROM unnest(ARRAY[
    $$INSERT INTO whole VALUES (20, '"text"'::text)$$, $$INSERT INTO whole VALUES (20, '"text"'::text::fieldcrypt.encrypted_jsonb)$$,
    $$INSERT INTO whole VALUES (20, '{}'::json)$$, $$INSERT INTO whole SELECT 20, fieldcrypt.encrypt('"text"', 'd.pii', 'acme')$$
]) AS statement;
DO $$
DECLARE
    detail text;
    context text;
BEGIN
    EXECUTE 'INSERT INTO whole VALUES (20, $1::fieldcrypt.encrypted_jsonb)' USING '{"a": canary}'::text;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT;
    RAISE NOTICE 'shows it: %', concat(SQLERRM, detail, context) LIKE '%canary%';
END $$;
COPY whole FROM stdin;
20	{"a": canary}
\.
RESET fieldcrypt.account;
SELECT test.refused($$INSERT INTO whole VALUES (20, '{}')$$);
SET fieldcrypt.account = 'acme';
-- Values of different fields, and comparisons: JSON is not searched, and an index holds it by its bytes.
SELECT test.refused($$CREATE TABLE t (v fieldcrypt.encrypted_jsonb('d.none')); INSERT INTO t SELECT v FROM whole WHERE id = 1$$);
SELECT query, left(test.refused(query), 14) FROM unnest('{SELECT v = v FROM whole,SELECT DISTINCT v FROM whole,SELECT v FROM whole ORDER BY v,SELECT v FROM whole GROUP BY v,CREATE INDEX ON whole (v),ALTER TABLE whole ADD UNIQUE (v)}'::text[]) AS query;
SELECT test.refused('SELECT id FROM whole WHERE v ' || comparison)
FROM unnest('{"= ''{}''","= ''{}''::jsonb","<> ''{}''","IN (''{}'', ''null'')","= ANY (ARRAY[''{}''::jsonb])"}'::text[]) AS comparison;
-- An envelope of JSON is none of a text. That of a text is one of JSON too: a string, as in documents.
SELECT v::text AS json, fieldcrypt.encrypt('"text"'::text, 'd.text', 'acme')::text AS text FROM whole WHERE id = 1 \gset
SELECT test.refused(format('SELECT %L::fieldcrypt.encrypted_text', :'json'));
RESET ROLE;
SELECT test.refused(format('SELECT %L::fieldcrypt.encrypted_%s', envelope, type))
FROM (VALUES (:'json', 'text'), (:'text', 'jsonb'), (:'json', 'jsonb'), (:'text', 'text'), (:'text', 'bytea'), (:'json', 'bigint')) AS v (envelope, type);
SET ROLE regress_app;
-- Columns that could not work are refused.
SELECT statement, test.refused(statement) FROM unnest(ARRAY[
    'CREATE TABLE t (v fieldcrypt.encrypted_jsonb)',
    $$CREATE TABLE t (v fieldcrypt.encrypted_jsonb('d.pii') UNIQUE)$$,
    $$CREATE TABLE t (v fieldcrypt.encrypted_jsonb('d.pii') DEFAULT '{}')$$,
    $$CREATE TABLE t (v fieldcrypt.encrypted_jsonb('d.pii') DEFAULT '{}'::jsonb)$$,
    $$CREATE TABLE t (v fieldcrypt.encrypted_jsonb('d.pii') DEFAULT NULL)$$,
    $$ALTER TABLE whole ADD COLUMN w fieldcrypt.encrypted_jsonb('d.pii') DEFAULT '{}'$$,
    $$ALTER TABLE whole ALTER COLUMN v SET DEFAULT '{}'$$,
    $$CREATE DOMAIN d AS fieldcrypt.encrypted_jsonb('d.pii') DEFAULT '{}'$$,
    $$CREATE DOMAIN d AS fieldcrypt.encrypted_jsonb$$,
    $$CREATE DOMAIN d AS fieldcrypt.encrypted_jsonb('d.pii'); CREATE TABLE t (v d); INSERT INTO t VALUES ('{"a": 1}')$$,
    $$CREATE TABLE t (v fieldcrypt.encrypted_jsonb('d.pii')[]); INSERT INTO t VALUES (ARRAY['{"a": 1}'::jsonb::fieldcrypt.encrypted_jsonb])$$
]) AS statement;
-- protect_table holds them to their row's account.
CREATE TABLE held (account_id text, v fieldcrypt.encrypted_jsonb('d.pii'));
SELECT fieldcrypt.protect_table('held', 'account_id');
INSERT INTO held VALUES ('acme', '{"a": 1}');
SELECT test.refused($$INSERT INTO held VALUES ('globex', '{"a": 1}')$$);
DROP TABLE held, whole;

-- unprotect_jsonb: what is sealed stays so and readable, what is new is plain, and flags stay for the next time.
SET ROLE regress_app;
DELETE FROM doc;
INSERT INTO doc (id, account_id, data) VALUES (1, 'acme', '{"ssn": "sealed"}');
SET ROLE regress_admin;
SELECT fieldcrypt.unprotect_jsonb('doc', 'data');
SELECT fieldcrypt.unprotect_jsonb('gathered', 'data');
SELECT name FROM fieldcrypt.documents ORDER BY name;
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('doc'::regclass, 'gathered'::regclass);
SELECT conname FROM pg_constraint WHERE conrelid IN ('doc'::regclass, 'gathered'::regclass) AND contype = 'c';
SET ROLE regress_app;
INSERT INTO doc (id, account_id, data) VALUES (2, 'acme', '{"ssn": "plain"}');
SELECT id, shape(data), fieldcrypt.decrypt(data) FROM doc ORDER BY id;
SELECT fieldcrypt.reveal(data, pii) FROM gathered WHERE id = 5;
SET ROLE regress_admin;
SELECT test.refused($$SELECT fieldcrypt.protect_path('doc.data', '{other}', 'd.text')$$);
SELECT count(*) FROM fieldcrypt.paths WHERE document = 'doc.data' AND path = 'ssn' AND state = 'active';
SELECT fieldcrypt.protect_jsonb('doc', 'data', 'doc.data', 'account_id', 'kind');
SET ROLE regress_app;
UPDATE doc SET kind = 'k' RETURNING id, shape(data);
RESET ROLE;
DROP TABLE doc, given, gathered, many, last;
DROP FUNCTION shape(jsonb), shape(jsonb, jsonb), field_at(jsonb, text), found(text, text, text), plan_of(text), changed(text, int), whole(jsonb, fieldcrypt.encrypted_jsonb), rewritten(jsonb), try_specific();
