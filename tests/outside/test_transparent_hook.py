"""Where transparent reads act and where they never do: `fieldcrypt.transparent`.

What queries return is compared elsewhere (test_transparent_queries.py). Here it is about the edges:
places where plain values would be stored, statements that are planned anew, rights and dumps.
"""

import psycopg
import pytest
from expect import refused
from harness import VERSION, Database

pytestmark = pytest.mark.every_version

ON = "SET fieldcrypt.transparent = on"

SCHEMA = """
    SELECT fieldcrypt.create_field('note');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*');
    CREATE TABLE person (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        ssn fieldcrypt.encrypted_text('lead.ssn'),
        note fieldcrypt.encrypted_text('note'),
        data jsonb);
    SELECT fieldcrypt.protect_jsonb('person', 'data', name => 'person',
        account_column => 'account_id');
    SELECT fieldcrypt.protect_path('person', '{secret}', 'note');
    CREATE VIEW seen AS SELECT id, ssn, data FROM person;
    GRANT ALL ON person, seen TO app, outsider, app_globex;
    GRANT CREATE ON SCHEMA public TO app;
"""

ROWS = """
    INSERT INTO person (id, ssn, note, data)
    SELECT i, '00' || i, 'canary ' || i, jsonb_build_object('secret', 'canary ' || i, 'open', i)
    FROM generate_series(1, 4) AS i
"""


@pytest.fixture
def people(session, leads):
    """A session of `app` with transparent reads, and four rows."""
    leads.execute(SCHEMA)
    app = session()
    app.execute(ROWS)
    app.execute(ON)
    return app


def is_sealed(value):
    return "fc1:" in str(value)


def stored(leads, query):
    """What a superuser without transparent reads finds."""
    return [row[0] for row in leads.execute(query).fetchall()]


NEVER = {
    "create_table_as": (
        "CREATE TABLE kept AS SELECT ssn AS v FROM person",
        "SELECT v::text FROM kept",
    ),
    "select_into": (
        "SELECT ssn AS v INTO kept FROM person",
        "SELECT v::text FROM kept",
    ),
    "document": (
        "CREATE TABLE kept AS SELECT data AS v FROM person",
        "SELECT v->>'secret' FROM kept",
    ),
    "matview": (
        "CREATE MATERIALIZED VIEW kept AS SELECT ssn AS v FROM person",
        "SELECT v::text FROM kept",
    ),
    "explained": (
        "EXPLAIN ANALYZE CREATE TABLE kept AS SELECT ssn AS v FROM person",
        "SELECT v::text FROM kept",
    ),
    "do": (
        "DO $$ BEGIN CREATE TABLE kept AS SELECT ssn AS v FROM person; END $$",
        "SELECT v::text FROM kept",
    ),
    "do_row": (
        (
            "DO $$ DECLARE r text; BEGIN CREATE TABLE kept (v text);"
            " FOR r IN SELECT ssn FROM person LOOP INSERT INTO kept VALUES (r); END LOOP; END $$"
        ),
        "SELECT v FROM kept",
    ),
    "insert": (
        "CREATE TABLE kept (v text); INSERT INTO kept SELECT ssn FROM person",
        "SELECT v FROM kept",
    ),
    "insert_cast": (
        (
            "CREATE TABLE kept (v text); INSERT INTO kept SELECT ssn::text FROM person"
            " WHERE ssn::text LIKE '00%'"
        ),
        "SELECT v FROM kept",
    ),
    "update_cast": (
        (
            "CREATE TABLE kept (id int, v text); INSERT INTO kept SELECT 1, '';"
            " UPDATE kept SET v = (SELECT ssn::text FROM person WHERE id = 1)"
        ),
        "SELECT v FROM kept",
    ),
    "update_from": (
        (
            "CREATE TABLE kept (id int, v text); INSERT INTO kept SELECT 1, '';"
            " UPDATE kept SET v = q.v FROM (SELECT ssn::text AS v FROM person WHERE id = 1) AS q"
        ),
        "SELECT v FROM kept",
    ),
    "common_table": (
        (
            "CREATE TABLE kept (v text); WITH q AS (SELECT ssn::text AS v FROM person),"
            " w AS (INSERT INTO kept SELECT v FROM q RETURNING v) SELECT count(*) FROM w"
        ),
        "SELECT v FROM kept",
    ),
    "common_table_returning": (
        (
            "CREATE TABLE kept (v text); WITH q AS (DELETE FROM person RETURNING ssn::text AS v)"
            " INSERT INTO kept SELECT v FROM q"
        ),
        "SELECT v FROM kept",
    ),
    "json": (
        "CREATE TABLE kept AS SELECT to_jsonb(person) AS v FROM person",
        "SELECT v->>'ssn' FROM kept",
    ),
    "json_insert": (
        (
            "CREATE TABLE kept (v text); INSERT INTO kept SELECT q.v FROM (SELECT"
            " json_build_array(ssn) ->> 0 AS v FROM person) AS q"
        ),
        "SELECT v FROM kept",
    ),
    "json_update": (
        (
            "CREATE TABLE kept (id int, v text); INSERT INTO kept SELECT 1, '';"
            " UPDATE kept SET v = (SELECT json_agg(ssn) FROM person) RETURNING to_json(kept)"
        ),
        "SELECT v FROM kept",
    ),
    "json_common_table": (
        (
            "CREATE TABLE kept (v text); WITH q AS (SELECT to_json(ssn) AS v FROM person),"
            " w AS (INSERT INTO kept SELECT v FROM q RETURNING v) SELECT count(*) FROM w"
        ),
        "SELECT v FROM kept",
    ),
    "json_common_table_returning": (
        (
            "CREATE TABLE kept (v text);"
            " WITH q AS (DELETE FROM person RETURNING to_jsonb(person) ->> 'ssn' AS v)"
            " INSERT INTO kept SELECT v FROM q"
        ),
        "SELECT v FROM kept",
    ),
    "merge": (
        (
            "CREATE TABLE kept (id int, v text); MERGE INTO kept USING (SELECT id, ssn::text AS v"
            " FROM person) AS q ON kept.id = q.id WHEN NOT MATCHED THEN INSERT VALUES (q.id, q.v)"
        ),
        "SELECT v FROM kept",
    ),
    "trigger": (
        (
            "CREATE TABLE kept (v text); CREATE TABLE start (id int);"
            " CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO kept SELECT ssn FROM person; RETURN NEW; END $$;"
            " CREATE CONSTRAINT TRIGGER t AFTER INSERT ON start INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION copy(); INSERT INTO start VALUES (1)"
        ),
        "SELECT v FROM kept",
    ),
    "rule": (
        (
            "CREATE TABLE kept (v text); CREATE TABLE start (id int);"
            " CREATE RULE r AS ON INSERT TO start DO ALSO INSERT INTO kept SELECT ssn FROM person;"
            " INSERT INTO start VALUES (1)"
        ),
        "SELECT v FROM kept",
    ),
}


@pytest.mark.parametrize("case", NEVER)
def test_what_is_stored_stays_sealed(people, leads, case):
    statements, query = NEVER[case]
    people.execute(statements)
    values = stored(leads, query)
    assert values
    assert all(is_sealed(value) for value in values), values


def test_views_and_functions_stay_sealed_inside(people, leads):
    people.execute("""
        CREATE VIEW made AS SELECT ssn, data FROM person;
        CREATE FUNCTION f() RETURNS SETOF fieldcrypt.encrypted_text LANGUAGE sql
            BEGIN ATOMIC SELECT ssn FROM person; END;
        CREATE FUNCTION g() RETURNS text LANGUAGE plpgsql AS
            $$ DECLARE r text; BEGIN SELECT ssn INTO r FROM person WHERE id = 1; RETURN r; END $$;
    """)
    definition = leads.value("SELECT pg_get_viewdef('made') || pg_get_functiondef('f'::regproc)")
    assert "reveal" not in definition
    assert people.execute("SELECT ssn FROM made ORDER BY 1").fetchone() == ("001",)
    assert people.execute("SELECT f FROM f() ORDER BY 1").fetchone() == ("001",)
    assert is_sealed(people.execute("SELECT g()").fetchone()[0])


def test_copy_stays_sealed(people):
    for source in ("person", "(SELECT ssn, note, data FROM person)", "(TABLE seen)"):
        with people.cursor().copy(f"COPY {source} TO STDOUT") as copy:
            text = b"".join(bytes(part) for part in copy)
        assert b"fc1:" in text
        assert b"canary" not in text


def test_a_transparent_statement_cannot_be_stored(people, leads):
    people.execute("PREPARE p AS SELECT ssn FROM person")
    people.execute("PREPARE d AS SELECT data FROM person")
    people.execute("PREPARE s AS SELECT fieldcrypt.reveal(ssn) AS ssn FROM person")
    for name in "pd":
        for prefix in ("", "EXPLAIN ", "EXPLAIN ANALYZE "):
            with refused("0A000", "transparent", hint="transparent off"):
                people.execute(f"{prefix}CREATE TABLE kept AS EXECUTE {name}")
    people.execute("SET fieldcrypt.transparent = off")
    with refused("0A000", "transparent"):
        people.execute("CREATE TABLE kept AS EXECUTE p")
    people.execute("CREATE TABLE asked AS EXECUTE s")
    people.execute("PREPARE sealed AS SELECT ssn FROM person")
    people.execute(ON)
    people.execute("CREATE TABLE kept AS EXECUTE sealed")
    assert all(is_sealed(value) for value in stored(leads, "SELECT ssn::text FROM kept"))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_statements_that_are_planned_anew(people, leads, binary, prepare):
    query = "SELECT ssn, data->>'secret' FROM person WHERE id = %s ORDER BY ssn"
    changes = (
        "ANALYZE person",
        "ALTER TABLE person ADD COLUMN more int",
        "CREATE INDEX ON person (ssn)",
        "SELECT fieldcrypt.create_field('other.field')",
        "ALTER TABLE person ALTER account_id SET DEFAULT 'other'",
    )
    for change in (None, *changes):
        if change:
            leads.execute(change)
        for _ in range(2):
            rows = people.execute(query, [1], prepare=prepare, binary=binary).fetchall()
            assert rows == [("001", "canary 1")], change


def test_execute_keeps_what_was_prepared(people, leads):
    people.execute("PREPARE p(int) AS SELECT ssn FROM person WHERE id = $1")
    people.execute("PREPARE o AS SELECT id FROM person ORDER BY ssn DESC LIMIT 1")
    people.execute("SET fieldcrypt.transparent = off")
    people.execute("PREPARE sealed AS SELECT ssn FROM person")
    for setting in ("off", "on", "off"):
        people.execute(f"SET fieldcrypt.transparent = {setting}")
        for change in ("ANALYZE person", "CREATE INDEX ON person (note)"):
            leads.execute(change)
            assert people.execute("EXECUTE p(1)").fetchall() == [("001",)]
            assert people.execute("EXECUTE o").fetchall() == [(4,)]
            plan = str(people.execute("EXPLAIN (VERBOSE) EXECUTE p(2)").fetchall())
            assert "fieldcrypt.reveal" in plan
            assert is_sealed(people.execute("EXECUTE sealed").fetchone()[0])


def test_execute_after_a_failure(people, leads):
    people.execute("PREPARE p AS SELECT ssn FROM person WHERE id = 1")
    leads.execute("ALTER TABLE person RENAME ssn TO gone")
    with refused("42703"):
        people.execute("EXECUTE p")
    leads.execute("ALTER TABLE person RENAME gone TO ssn")
    assert people.execute("EXECUTE p").fetchall() == [("001",)]


def test_a_failed_statement_leaves_nothing_in_progress(people):
    with pytest.raises(psycopg.Error):
        people.execute("CREATE TABLE kept AS SELECT 1 / (id - id) FROM person")
    with pytest.raises(psycopg.Error):
        people.execute("DO $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    assert people.execute("SELECT ssn FROM person WHERE id = 1").fetchone() == ("001",)


def test_cursors(people):
    people.execute("DECLARE held CURSOR WITH HOLD FOR SELECT ssn FROM person ORDER BY ssn DESC")
    assert people.execute("FETCH 2 FROM held").fetchall() == [("004",), ("003",)]
    people.execute("SET fieldcrypt.transparent = off")
    assert people.execute("FETCH ALL FROM held").fetchall() == [("002",), ("001",)]
    people.execute(ON)
    with people.transaction():
        people.execute("DECLARE c SCROLL CURSOR FOR SELECT ssn FROM person ORDER BY id")
        assert people.execute("FETCH LAST FROM c").fetchone() == ("004",)
        assert people.execute("FETCH FIRST FROM c").fetchone() == ("001",)
        people.execute("DECLARE u CURSOR FOR SELECT ssn FROM person WHERE id = 3 FOR UPDATE")
        assert people.execute("FETCH u").fetchone() == ("003",)
        query = "UPDATE person SET note = 'new' WHERE CURRENT OF u RETURNING note, ssn"
        assert people.execute(query).fetchone() == ("new", "003")
        people.execute("DECLARE _pg_dump_cursor CURSOR FOR SELECT * FROM person")
        assert is_sealed(people.execute("FETCH _pg_dump_cursor").fetchone())
    with people.transaction(), people.cursor("named", binary=True) as cursor:
        assert cursor.execute("SELECT ssn FROM person ORDER BY 1").fetchone() == ("001",)


def test_explain_changes_nothing(people):
    plan = str(
        people.execute("EXPLAIN (VERBOSE) SELECT ssn FROM person WHERE ssn = '1'").fetchall()
    )
    assert "fieldcrypt.reveal(ssn, id)" in plan
    plan = str(people.execute("EXPLAIN (VERBOSE, ANALYZE) TABLE seen").fetchall())
    assert "fieldcrypt.reveal" in plan
    assert "canary" not in plan


def test_several_statements_in_one_string(people):
    cursor = people.execute("SET work_mem = '8MB'; SELECT ssn FROM person WHERE id = 2")
    assert cursor.nextset()
    assert cursor.fetchone() == ("002",)


def test_returning(people):
    query = "INSERT INTO person (id, ssn) VALUES (9, '009') RETURNING ssn, person, ssn::text"
    ssn, person, text = people.execute(query).fetchone()
    assert (ssn, text) == ("009", "009")
    assert not is_sealed(person)
    query = "DELETE FROM person WHERE ssn = '009' RETURNING id, ssn"
    assert people.execute(query).fetchall() == [(9, "009")]
    if VERSION >= 18:
        query = "UPDATE person SET ssn = '7' WHERE id = 1 RETURNING old.ssn, new.ssn, old, new"
        old, new, *rows = people.execute(query).fetchone()
        assert (old, new) == ("001", "7")
        assert not is_sealed(rows)
        query = "INSERT INTO person (id, ssn) VALUES (8, '8') RETURNING old, old.ssn, new.ssn"
        assert people.execute(query).fetchone() == (None, None, "8")
        query = (
            "MERGE INTO person USING (VALUES (8)) AS q (id) ON person.id = q.id"
            " WHEN MATCHED THEN DELETE RETURNING merge_action(), ssn, data"
        )
        assert people.execute(query).fetchone() == ("DELETE", "8", None)


PLAIN_JSON = {
    "SELECT json_agg(ssn ORDER BY ssn DESC) FROM person": ["004", "003", "002", "001"],
    "SELECT jsonb_agg(DISTINCT ssn) FROM person": ["001", "002", "003", "004"],
    "SELECT jsonb_agg(DISTINCT ssn ORDER BY ssn DESC) FROM person": ["004", "003", "002", "001"],
    "SELECT jsonb_agg(DISTINCT note ORDER BY note) FROM person WHERE id < 3": [
        "canary 1",
        "canary 2",
    ],
    "SELECT jsonb_agg(ssn) FILTER (WHERE ssn = '002') FROM person": ["002"],
    "SELECT json_agg(ssn) OVER (ORDER BY id) FROM person LIMIT 1": ["001"],
    "SELECT json_object_agg(ssn, note) FROM person WHERE id = 1": {"001": "canary 1"},
    "SELECT json_build_array(VARIADIC ARRAY[ssn, note]) FROM person WHERE id = 1": [
        "001",
        "canary 1",
    ],
    "SELECT array_to_json(ARRAY[ssn], true) FROM person WHERE id = 1": ["001"],
    "SELECT row_to_json(p, true) FROM (SELECT ssn, data ->> 'open' AS open FROM person) AS p"
    " LIMIT 1": {"ssn": "001", "open": "1"},
    # one within the other, and a column of the query around
    "SELECT q.v FROM person AS p, LATERAL (SELECT json_build_object('s', p.ssn, 'd',"
    " json_build_array(p.data, o.data)) AS v FROM person AS o WHERE o.id = 2) AS q"
    " WHERE p.id = 1": {
        "s": "001",
        "d": [{"secret": "canary 1", "open": 1}, {"secret": "canary 2", "open": 2}],
    },
    "SELECT (SELECT to_json(p) -> 'ssn') FROM person AS p WHERE id = 1": "001",
    # no row is null, and not a row of nulls
    "SELECT json_agg(o.*) FROM person AS p LEFT JOIN (SELECT * FROM person WHERE id = 0) AS o"
    " ON o.id = p.id WHERE p.id = 1": [None],
    # a table, a view, a common table and a join
    "SELECT (to_jsonb(person) - '{id,account_id,note}'::text[]) FROM person WHERE id = 1": {
        "ssn": "001",
        "data": {"secret": "canary 1", "open": 1},
    },
    "SELECT to_jsonb(seen) FROM seen WHERE ssn = '001'": {
        "id": 1,
        "ssn": "001",
        "data": {"secret": "canary 1", "open": 1},
    },
    "WITH q AS (SELECT ssn, id FROM person) SELECT to_json(q) FROM q WHERE id = 1": {
        "ssn": "001",
        "id": 1,
    },
    "SELECT to_json(j) FROM ((SELECT id, ssn FROM person) AS a JOIN"
    " (SELECT id, note FROM person) AS b USING (id)) AS j WHERE id = 1": {
        "id": 1,
        "ssn": "001",
        "note": "canary 1",
    },
    # a sub-select as argument
    "SELECT row_to_json((SELECT e FROM (SELECT p.id, p.ssn) AS e)) FROM person AS p WHERE id = 1": {
        "id": 1,
        "ssn": "001",
    },
    "SELECT to_json((SELECT p FROM person AS p WHERE id = 1)) -> 'ssn'": "001",
    "SELECT to_json(ARRAY(SELECT ROW(id, ssn) FROM person ORDER BY id LIMIT 1))": [
        {"f1": 1, "f2": "001"},
    ],
    # groups, sets, conditions
    "SELECT json_build_object('s', ssn, 'n', count(*)) FROM person WHERE id = 1 GROUP BY ssn": {
        "s": "001",
        "n": 1,
    },
    "SELECT v FROM (SELECT to_jsonb(ssn) AS v FROM person GROUP BY to_jsonb(ssn)) AS q"
    " ORDER BY v LIMIT 1": "001",
    "SELECT v FROM (SELECT json_build_array(ssn, v) AS v FROM (SELECT ssn, to_jsonb(note) AS v"
    " FROM person) AS r GROUP BY ssn, v) AS q WHERE v ->> 0 = '001'": ["001", "canary 1"],
    "SELECT to_jsonb(ssn) FROM person WHERE id = 1 GROUP BY ROLLUP (ssn) ORDER BY 1 LIMIT 1": (
        "001"
    ),
    "SELECT to_jsonb(ssn) FROM person WHERE id = 1 UNION SELECT to_jsonb(ssn) FROM person"
    " WHERE id = 1": "001",
    "SELECT to_json(id) FROM person WHERE to_jsonb(person) ->> 'ssn' LIKE '%1'": 1,
    # what is not written
    "WITH w AS (INSERT INTO person (id) VALUES (7) RETURNING id)"
    " SELECT to_json(ssn) FROM person WHERE id = 1": "001",
    "UPDATE person SET account_id = 'acme' WHERE id = 1"
    " RETURNING json_build_array(ssn, person.data -> 'secret',"
    " (SELECT json_agg(o.ssn) FROM person AS o WHERE o.id = 2))": ["001", "canary 1", ["002"]],
}


@pytest.mark.parametrize("query", PLAIN_JSON)
def test_json_is_made_of_plain_values(people, query):
    assert people.execute(query).fetchone()[0] == PLAIN_JSON[query]


@pytest.mark.skipif(VERSION < 16, reason="the constructors of the standard came in 16")
def test_json_of_the_standard(people):
    query = (
        "SELECT JSON_OBJECT('s': ssn, 'd': data), JSON_ARRAY(ssn, note RETURNING jsonb),"
        " JSON_ARRAYAGG(ssn) OVER (), JSON_OBJECTAGG(ssn: note) OVER (),"
        " JSON_ARRAY(SELECT note FROM person WHERE id = 1) FROM person WHERE id = 1"
    )
    assert people.execute(query).fetchone() == (
        {"s": "001", "d": {"secret": "canary 1", "open": 1}},
        ["001", "canary 1"],
        ["001"],
        {"001": "canary 1"},
        ["canary 1"],
    )


# An encrypted value, or one without a value, that a statement has from one place only.
ORIGINS = """
    CREATE DOMAIN number AS fieldcrypt.encrypted_text('lead.ssn');
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TABLE other (n number, m mood, a fieldcrypt.encrypted_text('lead.ssn')[], d number[]);
    INSERT INTO other
        SELECT ssn, 'glad', ARRAY[ssn], ARRAY[ssn::number] FROM person WHERE id = 1;
    CREATE FUNCTION number_of(i int) RETURNS fieldcrypt.encrypted_text
        LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT ssn FROM person WHERE id = i); END $$;
    CREATE FUNCTION person_of(i int) RETURNS person
        LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT p FROM person AS p WHERE id = i); END $$;
    CREATE FUNCTION any_of(i int) RETURNS SETOF record
        LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT ssn FROM person WHERE id = i; END $$;
    CREATE AGGREGATE first_of(fieldcrypt.encrypted_text)
        (SFUNC = coalesced, STYPE = fieldcrypt.encrypted_text);
    CREATE OPERATOR ### (FUNCTION = number_of, RIGHTARG = int);
    GRANT ALL ON other TO app;
"""
COALESCED = """
    CREATE FUNCTION coalesced(a fieldcrypt.encrypted_text, b fieldcrypt.encrypted_text)
        RETURNS fieldcrypt.encrypted_text LANGUAGE sql AS 'SELECT coalesce(a, b)'
"""


@pytest.mark.parametrize(
    "query",
    [
        "SELECT number_of(1)",
        "SELECT ### 1",
        "SELECT n FROM number_of(1) AS n",
        "SELECT p.ssn FROM person_of(1) AS p",
        "SELECT (person_of(1)).ssn",
        "SELECT (p).ssn FROM (SELECT person_of(1) AS p) AS s",
        "SELECT n FROM any_of(1) AS f(n fieldcrypt.encrypted_text)",
        "SELECT row_to_json(f) ->> 'n' FROM any_of(1) AS f(n fieldcrypt.encrypted_text)",
        "SELECT first_of(ssn) FROM person WHERE id = 1",
        "SELECT first_of(ssn) OVER () FROM person WHERE id = 1",
        "SELECT n FROM other",
        "SELECT n::text FROM other",
        "SELECT max(n::text) FROM other WHERE m = 'glad' GROUP BY m",
        "SELECT a[1] FROM other",
        "SELECT u FROM other, unnest(a) AS u",
        "SELECT (SELECT n FROM other)",
        "SELECT n FROM (VALUES ((SELECT n FROM other))) AS v(n)",
        "WITH c AS (SELECT n FROM other) SELECT * FROM c",
        "SELECT n FROM other UNION SELECT n FROM other",
        "SELECT to_jsonb(o) ->> 'n' FROM other AS o",
        "SELECT CASE WHEN true THEN number_of(1) END",
        "SELECT '001' WHERE number_of(1)::text LIKE '001'",
    ],
)
def test_values_from_one_place(people, leads, query):
    leads.execute(COALESCED)
    leads.execute(ORIGINS)
    assert people.execute(query).fetchall() == [("001",)]


@pytest.mark.parametrize(
    "query, kind",
    [
        ("SELECT NULL::fieldcrypt.encrypted_text", "text"),
        ("SELECT NULL::number", "text"),
        ("SELECT ARRAY[]::fieldcrypt.encrypted_text[]", "text[]"),
        ("SELECT a FROM other", "text[]"),
        ("SELECT d FROM other", "text[]"),
        ("SELECT m FROM other", "mood"),
        ("SELECT person_of(1)", "person"),
    ],
)
def test_types_from_one_place(people, leads, query, kind):
    leads.execute(COALESCED)
    leads.execute(ORIGINS)
    expected = leads.execute("SELECT %s::regtype::oid::int", [kind]).fetchone()[0]
    assert people.execute(query).description[0].type_code == expected


def test_a_parameter_from_the_client(people):
    """It was never stored: as a literal, it is shown as it was given."""
    query = "SELECT $1::fieldcrypt.encrypted_text"
    result = people.pgconn.exec_params(query.encode(), [b"001"])
    assert result.ftype(0) == people.adapters.types["text"].oid
    assert not is_sealed(result.get_value(0, 0))


def test_sub_selects_in_the_select_list(people):
    query = (
        "SELECT (SELECT ROW(id, ssn) FROM person WHERE id = 1)::text,"
        " ARRAY(SELECT ROW(id, ssn) FROM person ORDER BY id LIMIT 1)::text,"
        " (SELECT p.data ->> 'secret'), (SELECT max(o.data ->> 'secret') FROM person AS o),"
        " ARRAY(SELECT data FROM person ORDER BY id LIMIT 1),"
        " (SELECT o FROM (SELECT id, ssn FROM person WHERE id = 2) AS o)::text,"
        " (SELECT data FROM person WHERE id = 2),"
        " (SELECT ROW(p.ssn, 1)) = ROW(p.ssn, 1), ARRAY(SELECT ROW(p.ssn)) = ARRAY[ROW(p.ssn)]"
        " FROM person AS p WHERE id = 1"
    )
    assert people.execute(query).fetchone() == (
        "(1,001)",
        '{"(1,001)"}',
        "canary 1",
        "canary 4",
        [{"secret": "canary 1", "open": 1}],
        "(2,002)",
        {"secret": "canary 2", "open": 2},
        True,
        True,
    )


def test_rights_decide(people, session, leads):
    """Who may not decrypt sees masks or hidden values, and no error."""
    leads.execute("SELECT fieldcrypt.grant_access('app_globex', '{mask}', 'acme', 'lead.*')")
    people.execute("UPDATE person SET ssn = '123-45-6789' WHERE id = 1")
    query = "SELECT ssn, note, data->>'secret' FROM person WHERE id = 1 ORDER BY ssn, note"
    for user, expected in {
        "app": ("123-45-6789", "canary 1", "canary 1"),
        "outsider": ("********", "********", "********"),
    }.items():
        connection = session(user)
        connection.execute(ON)
        assert connection.execute(query).fetchone() == expected
    connection = session("app_globex")
    connection.execute(ON)
    ssn, note, secret = connection.execute(query).fetchone()
    assert ssn.endswith("6789")
    assert ssn != "123-45-6789"
    assert (note, secret) == ("********", "********")


def test_a_blob_that_may_not_be_read(people, leads, session):
    leads.execute("""
        CREATE TABLE gathered (id int, account_id text DEFAULT 'acme', data jsonb,
            blob fieldcrypt.encrypted_jsonb('note'));
        SELECT fieldcrypt.protect_jsonb('gathered', 'data', name => 'gathered',
            account_column => 'account_id', blob_column => 'blob');
        SELECT fieldcrypt.protect_path('gathered', '{secret}', 'note');
        GRANT ALL ON gathered TO app;
        GRANT SELECT (id, data) ON gathered TO outsider;
    """)
    people.execute("""INSERT INTO gathered (id, data) VALUES (1, '{"secret": 1, "open": 2}')""")
    assert people.execute("SELECT data FROM gathered").fetchone()[0] == {
        "secret": 1,
        "open": 2,
    }
    outsider = session("outsider")
    outsider.execute(ON)
    assert outsider.execute("SELECT data FROM gathered").fetchone()[0] == {"open": 2}


def test_role_setting(people, leads):
    leads.execute("ALTER ROLE app SET fieldcrypt.transparent = on")
    try:
        with leads.connect("app") as app:
            assert app.execute("SELECT ssn FROM person WHERE id = 1").fetchone() == ("001",)
    finally:
        leads.execute("ALTER ROLE app RESET fieldcrypt.transparent")


def test_a_database_without_the_extension(cluster):
    name = cluster.create_database()
    try:
        with cluster.connect(dbname=name) as connection:
            connection.execute(ON)
            connection.execute("CREATE DOMAIN d AS jsonb; CREATE TABLE t (a d, b jsonb)")
            query = "SELECT a, b, t, count(*) FROM t GROUP BY a, b, t ORDER BY 1"
            assert connection.execute(query).fetchall() == []
            connection.execute("CREATE EXTENSION fieldcrypt")
            assert connection.execute(query).fetchall() == []
    finally:
        cluster.drop_database(name)


@pytest.mark.parametrize("settings", ["", "force_parallel"])
def test_groups_by_plain_value(people, settings):
    """The groups' other columns come from one of their rows, however they are aggregated."""
    people.execute(
        "INSERT INTO person (id, ssn, note) SELECT i, '5' || i % 40, i % 3 "
        "FROM generate_series(10, 600) AS i"
    )
    query = (
        "SELECT ssn, note, count(*), upper(ssn::text) FROM person WHERE id >= 10"
        " GROUP BY ssn, note HAVING note::text = '1' AND count(*) > 1 ORDER BY ssn DESC, note"
    )
    found = set()
    for sort, hashed in (("on", "off"), ("off", "on")):
        people.execute(f"SET enable_sort = {sort}; SET enable_hashagg = {hashed}")
        if settings:
            name = "debug_parallel_query" if VERSION >= 16 else "force_parallel_mode"
            people.execute(
                f"SET {name} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
                " SET min_parallel_table_scan_size = 0"
            )
        rows = people.execute(query).fetchall()
        assert len(rows) == 40
        assert rows == sorted(rows, reverse=True)
        assert all(note == "1" and ssn == text for ssn, note, _, text in rows)
        found.add(tuple(rows))
    assert len(found) == 1


@pytest.mark.parametrize(
    "inserts", [[], ["--inserts"], ["--column-inserts", "--rows-per-insert=2"]]
)
def test_dump_by_a_transparent_role(people, leads, cluster, inserts):
    """A dump is ciphertext, whoever makes it, and restores."""
    options = {"env": {"PGOPTIONS": "-c fieldcrypt.transparent=on -c fieldcrypt.account=acme"}}
    arguments = ("-d", leads.name, *inserts)
    dumped = cluster.run("pg_dump", *arguments, **options).stdout
    assert "fc1:" in dumped
    assert "canary" not in dumped
    target = Database(cluster)
    try:
        target.psql(f"\\set ON_ERROR_STOP on\n{dumped}")
        with target.connect("app", options="-c fieldcrypt.transparent=on") as app:
            query = "SELECT ssn, note, data->>'secret' FROM person ORDER BY ssn"
            assert app.execute(query).fetchone() == ("001", "canary 1", "canary 1")
    finally:
        target.drop()


def test_errors_of_utility_statements_say_all(people):
    """What other statements say of an error passes through the hook as it is."""
    people.execute("CREATE TABLE u (a int CONSTRAINT pos CHECK (a > 0))")
    people.execute("PREPARE i AS INSERT INTO u VALUES (0)")
    with refused("23514") as caught:
        people.execute("EXECUTE i")
    diag = caught.value.diag
    assert (diag.schema_name, diag.table_name, diag.constraint_name) == ("public", "u", "pos")
    with refused("42704") as caught:
        people.execute("CREATE TABLE wrong (a nosuch)")
    assert caught.value.diag.statement_position
    people.execute("""
        CREATE FUNCTION caught() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            CREATE TABLE u (a int);
        EXCEPTION WHEN duplicate_table THEN NULL; END $$
    """)
    people.execute("SELECT caught()")
    assert people.execute("SELECT ssn FROM person WHERE id = 1").fetchone() == ("001",)
    people.execute("DO $$ BEGIN PERFORM caught(); CREATE TABLE kept AS TABLE person; END $$")
    assert people.execute("SELECT ssn FROM person WHERE id = 1").fetchone() == ("001",)


def test_a_function_does_not_execute_what_the_client_prepared(people):
    people.execute("PREPARE of_client AS SELECT ssn FROM person")
    people.execute("""
        CREATE FUNCTION taken() RETURNS text LANGUAGE plpgsql AS $$
        DECLARE v text;
        BEGIN EXECUTE 'EXECUTE of_client' INTO v; RETURN v; END $$
    """)
    for statement in "SELECT taken()", "CREATE TABLE kept AS SELECT taken() AS v":
        with refused("0A000", "executed by a function"):
            people.execute(statement)
    assert not is_sealed(people.execute("EXECUTE of_client").fetchone()[0])
