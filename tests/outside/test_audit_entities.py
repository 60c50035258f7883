"""The audit names the rows that were read, by the primary key of their table."""

import uuid

import pytest
from harness import VERSION, account_database
from test_audit_lifecycle import flushed, reader

TABLES = """
    CREATE DOMAIN secret AS fieldcrypt.encrypted_text('lead.ssn');
    CREATE TABLE person (
        id bigint PRIMARY KEY,
        ssn fieldcrypt.encrypted_text('lead.ssn'),
        born fieldcrypt.encrypted_date('born'),
        other secret);
    CREATE TABLE visit (
        code text PRIMARY KEY,
        person bigint REFERENCES person,
        note fieldcrypt.encrypted_text('lead.email'));
    CREATE TABLE several (a int, b int, ssn fieldcrypt.encrypted_text('lead.ssn'),
        PRIMARY KEY (a, b));
    CREATE TABLE keyless (id int UNIQUE, ssn fieldcrypt.encrypted_text('lead.ssn'));
    CREATE TABLE sealed (ssn fieldcrypt.encrypted_text('lead.ssn') PRIMARY KEY);
    CREATE TABLE parted (id uuid PRIMARY KEY, ssn fieldcrypt.encrypted_text('lead.ssn'))
        PARTITION BY HASH (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE parent (id int PRIMARY KEY, ssn fieldcrypt.encrypted_text('lead.ssn'));
    CREATE TABLE child () INHERITS (parent);
    CREATE TABLE document (id int PRIMARY KEY, account_id text, data jsonb,
        pii fieldcrypt.encrypted_jsonb('document.pii'));
    SELECT fieldcrypt.protect_jsonb('document', 'data', 'document.data', 'account_id',
        blob_column => 'pii');
    SELECT fieldcrypt.protect_path('document.data', '{email}', 'lead.email');
    CREATE TABLE plain_document (id int PRIMARY KEY, account_id text, data jsonb);
    SELECT fieldcrypt.protect_jsonb('plain_document', 'data', 'plain.data', 'account_id');
    SELECT fieldcrypt.protect_path('plain.data', '{email}', 'lead.email');
    SELECT fieldcrypt.create_view('person');
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
"""
KEYS = [uuid.UUID(int=number) for number in range(1, 5)]

# A statement, and the entities that its event names; None if it names none.
CASES = {
    "decrypt": ("SELECT fieldcrypt.decrypt(ssn) FROM person", ["1", "2", "3"]),
    "reveal": ("SELECT fieldcrypt.reveal(ssn) FROM person WHERE id > 1", ["2", "3"]),
    "date": ("SELECT fieldcrypt.decrypt(born) FROM person WHERE id = 2", ["2"]),
    "domain": ("SELECT fieldcrypt.decrypt(other) FROM person WHERE id = 2", ["2"]),
    "its own entity": ("SELECT fieldcrypt.decrypt(ssn, 'lead ' || id) FROM person", "lead"),
    "an entity of any type": ("SELECT fieldcrypt.decrypt(ssn, id + 10) FROM person", "plus"),
    "transparent": ("SELECT ssn FROM person", ["1", "2", "3"]),
    "transparent row": ("SELECT person FROM person WHERE id = 1", ["1"]),
    "transparent, sorted": ("SELECT ssn FROM person ORDER BY ssn DESC", ["1", "2", "3"]),
    "transparent, distinct": ("SELECT DISTINCT ssn FROM person", ["1", "2", "3"]),
    "view": ("SELECT ssn FROM person_plain", ["1", "2", "3"]),
    "sub-select": ("SELECT x FROM (SELECT fieldcrypt.decrypt(ssn) FROM person) AS s (x)", "all"),
    "correlated": (
        "SELECT (SELECT fieldcrypt.decrypt(note) FROM visit WHERE person = person.id LIMIT 1)"
        " FROM person WHERE id = 1",
        ["a"],
    ),
    "common table": (
        "WITH s AS MATERIALIZED (SELECT fieldcrypt.decrypt(ssn) AS x FROM person) SELECT x FROM s",
        "all",
    ),
    "union": (
        "SELECT fieldcrypt.decrypt(ssn) FROM person WHERE id = 1"
        " UNION SELECT fieldcrypt.decrypt(ssn) FROM person WHERE id = 3",
        ["1", "3"],
    ),
    "condition": ("SELECT id FROM person WHERE fieldcrypt.decrypt(ssn) = '102'", "all"),
    "aggregate": ("SELECT count(fieldcrypt.decrypt(ssn)) FROM person", ["1", "2", "3"]),
    "condition of groups": (
        "SELECT count(*) FROM person WHERE fieldcrypt.decrypt(ssn) > '1' GROUP BY id",
        "all",
    ),
    "group": ("SELECT fieldcrypt.decrypt(ssn) FROM person GROUP BY ssn", None),
    "group by plain": ("SELECT fieldcrypt.decrypt(ssn) FROM person GROUP BY 1", None),
    "having": (
        "SELECT count(*) FROM person GROUP BY ssn HAVING fieldcrypt.decrypt(ssn) > '1'",
        None,
    ),
    "window": ("SELECT fieldcrypt.decrypt(ssn), count(*) OVER () FROM person", "all"),
    "join": (
        "SELECT fieldcrypt.decrypt(note) FROM person JOIN visit ON person = id WHERE id = 1",
        ["a", "b"],
    ),
    "outer join": (
        "SELECT fieldcrypt.decrypt(ssn), fieldcrypt.reveal(note) FROM person"
        " LEFT JOIN visit ON person = id WHERE id = 3",
        ["3"],
    ),
    "full join": (
        "SELECT fieldcrypt.decrypt(p.ssn)"
        " FROM person AS p FULL JOIN person AS q ON p.id = q.id + 1",
        "all",
    ),
    "update": ("UPDATE person SET born = born RETURNING fieldcrypt.decrypt(ssn)", "all"),
    "insert": (
        "INSERT INTO person (id, ssn) VALUES (9, '109') RETURNING fieldcrypt.decrypt(ssn)",
        ["9"],
    ),
    "on conflict": (
        "INSERT INTO person (id, ssn) VALUES (1, '110') ON CONFLICT (id)"
        " DO UPDATE SET ssn = EXCLUDED.ssn RETURNING fieldcrypt.decrypt(person.ssn)",
        ["1"],
    ),
    "lateral": (
        "SELECT x FROM visit, LATERAL jsonb_build_array(fieldcrypt.decrypt(note)) AS x",
        ["a", "b", "c"],
    ),
    "text key": ("SELECT fieldcrypt.decrypt(note) FROM visit", ["a", "b", "c"]),
    "two columns": ("SELECT fieldcrypt.decrypt(ssn) FROM several", None),
    "no key": ("SELECT fieldcrypt.decrypt(ssn) FROM keyless", None),
    "encrypted key": ("SELECT fieldcrypt.decrypt(ssn) FROM sealed", None),
    "partitions": ("SELECT fieldcrypt.decrypt(ssn) FROM parted", [str(key) for key in KEYS]),
    "inheritance": ("SELECT fieldcrypt.decrypt(ssn) FROM parent", None),
    "document": ("SELECT fieldcrypt.reveal(data) FROM plain_document", ["1", "2"]),
    "whole document": ("SELECT fieldcrypt.decrypt(data) FROM plain_document", ["1", "2"]),
    "path": ("SELECT fieldcrypt.decrypt(data, 'email') FROM plain_document", ["1", "2"]),
    "document and blob": ("SELECT fieldcrypt.reveal(data, pii) FROM document", ["1", "2"]),
    "transparent document": ("SELECT data FROM document", ["1", "2"]),
    "no document": (
        "SELECT fieldcrypt.reveal(d.data, d.pii) FROM person"
        " LEFT JOIN document AS d ON d.id = person.id AND d.id < 2 WHERE person.id < 3",
        ["1"],
    ),
}
# What the marks among them stand for.
MARKS = {"all": ["1", "2", "3"], "lead": ["lead 1", "lead 2", "lead 3"], "plus": ["11", "12", "13"]}


@pytest.fixture(scope="module")
def tables(cluster):
    with account_database(cluster) as database:
        yield fill(database)


def fill(database):
    database.execute("SELECT fieldcrypt.create_field('born')")
    database.execute("SELECT fieldcrypt.create_field('document.pii')")
    database.execute(TABLES)
    for field in "born", "document.pii":
        database.execute(
            "SELECT fieldcrypt.grant_access('app', '{encrypt,decrypt}', 'acme', %s)", [field]
        )
    with reader(database) as app:
        for number in 1, 2, 3:
            app.execute(
                "INSERT INTO person VALUES (%s, %s, '2000-01-01', '5')", [number, f"10{number}"]
            )
        app.execute("INSERT INTO visit VALUES ('a', 1, 'x'), ('b', 1, 'y'), ('c', 2, 'z')")
        app.execute("INSERT INTO several VALUES (1, 1, '1'), (1, 2, '2')")
        app.execute("INSERT INTO keyless VALUES (1, '1')")
        app.execute("INSERT INTO sealed VALUES ('1')")
        app.cursor().executemany("INSERT INTO parted VALUES (%s, '1')", [[key] for key in KEYS])
        app.execute("INSERT INTO parent VALUES (1, '1')")
        if VERSION < 18:  # from then on it stays as it is inherited
            database.execute("ALTER TABLE child ALTER COLUMN id DROP NOT NULL")
        number = None if VERSION < 18 else 2
        app.execute("INSERT INTO child VALUES (%s, '2')", [number])
        for table in "document", "plain_document":
            email = """'{"email": "ann@example.com"}'"""
            app.execute(
                f"INSERT INTO {table} (id, account_id, data)"
                f" VALUES (1, 'acme', {email}), (2, 'acme', {email})"
            )
    return database


@pytest.mark.every_version
@pytest.mark.parametrize("name", CASES)
def test_entities(tables, name):
    """What is read is the same as by a call that planning does not touch."""
    statement, expected = CASES[name]
    expected = MARKS.get(expected, expected) if isinstance(expected, str) else expected
    before = len(flushed(tables))
    with reader(tables) as app:
        app.execute(f"SET fieldcrypt.transparent = {'transparent' in name}")
        with app.transaction(force_rollback=True):
            rows = app.execute(statement).fetchall()
            plan = app.execute(f"EXPLAIN (VERBOSE, COSTS OFF) {statement}").fetchall()
    assert rows and plan
    shown = [event for event in flushed(tables)[before:] if event[1] == "plain"]
    named = [entity for event in shown for entity in event[8] or ()]
    assert sorted(set(named)) == (expected or [])
    assert sum(event[4] for event in shown) > 0


def test_null_is_not_read(tables):
    with reader(tables) as app:
        row = app.execute(CASES["outer join"][0]).fetchone()
        assert row == ("103", None)
        values = app.execute("SELECT fieldcrypt.decrypt(ssn) FROM parent").fetchall()
        assert sorted(values) == [("1",), ("2",)]


def test_a_path_that_may_be_null(tables):
    """Where that would change what is read, no row is named."""
    with reader(tables) as app:
        for path, found in ("NULL", None), ("NULLIF('a', 'a')", None), ("lower('EMAIL')", 3):
            row = app.execute(f"SELECT fieldcrypt.decrypt(data, {path}) FROM plain_document")
            assert row.fetchone() == (found and "ann@example.com",)


def test_a_key_that_comes_and_goes(tables):
    """Prepared statements follow."""
    with reader(tables, prepare_threshold=None) as app:
        app.execute("SET plan_cache_mode = force_generic_plan")
        app.execute("PREPARE one AS SELECT fieldcrypt.decrypt(ssn) FROM keyless")

        def named():
            before = len(flushed(tables))
            assert app.execute("EXECUTE one").fetchall() == [("1",)]
            return [event[8] for event in flushed(tables)[before:]]

        assert named() == [None]
        tables.execute("ALTER TABLE keyless ADD PRIMARY KEY (id)")
        assert named() == [["1"]]
        tables.execute("ALTER TABLE keyless DROP CONSTRAINT keyless_pkey")
        assert named() == [None]


def test_an_event_names_a_bounded_number(tables):
    with reader(tables) as app, app.transaction(force_rollback=True):
        app.execute(
            "INSERT INTO visit"
            " SELECT repeat('é', 300) || i, 1, 'x' FROM generate_series(1, 100) AS i"
        )
        before = len(flushed(tables))
        assert len(app.execute("SELECT fieldcrypt.decrypt(note) FROM visit").fetchall()) == 103
    (event,) = flushed(tables)[before:]
    assert event[4] == 103
    # keys are cut at 200 bytes, so that all of the long ones look alike
    assert sorted(event[8]) == ["a", "b", "c", "é" * 100]
    with reader(tables) as app:
        before = len(flushed(tables))
        app.execute("SELECT fieldcrypt.decrypt(ssn, i) FROM person, generate_series(1, 100) AS i")
    (event,) = flushed(tables)[before:]
    assert (event[4], len(event[8])) == (300, 32)
