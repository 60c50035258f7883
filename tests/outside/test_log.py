"""The server's log shows what was done, and no value, whatever the settings and the ways in."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from harness import Cluster, Database, account_database
from loud import EXPLAINS, LOUD, log_of, sizes

pytestmark = pytest.mark.every_version

CANARY = "471-11-0815"


@pytest.fixture(scope="module")
def loud():
    with Cluster(LOUD) as cluster, account_database(cluster) as database:
        database.execute("""
            CREATE TABLE lead (
                id int PRIMARY KEY,
                ssn fieldcrypt.encrypted_text('lead.ssn') NOT NULL,
                note text CHECK (note <> 'refused'));
            GRANT ALL ON lead TO app;
            CREATE FUNCTION into_lead(id int, ssn text) RETURNS void LANGUAGE plpgsql AS $$
                BEGIN INSERT INTO lead VALUES (id, ssn); END $$;
            CREATE FUNCTION dynamic(statement text) RETURNS void LANGUAGE plpgsql AS $$
                BEGIN EXECUTE statement; END $$;
        """)
        yield database


def simple(statement):
    return lambda app: app.execute(statement)


def parameters(statement, *values, **options):
    return lambda app: app.execute(statement, values, **options)


def failing(statement, *values, **options):
    def run(app):
        with pytest.raises(psycopg.Error):
            app.execute(statement, values or None, **options)

    return run


def copy(statement, rows):
    def run(app):
        with app.cursor().copy(statement) as target:
            target.write(rows)

    return run


def failing_copy(statement, rows):
    def run(app):
        with pytest.raises(psycopg.Error), app.cursor().copy(statement) as target:
            target.write(rows)

    return run


WAYS = {
    "literal": simple(f"INSERT INTO lead VALUES (1, '{CANARY}')"),
    "escaped literal": simple(rf"INSERT INTO lead VALUES (2, E'{CANARY}\n')"),
    "dollar-quoted literal": simple(f"INSERT INTO lead VALUES (3, $x${CANARY}$x$)"),
    "comment": simple(f"SELECT 1 /* {CANARY} */ -- {CANARY}"),
    "several statements": simple(f"SELECT 1; INSERT INTO lead VALUES (4, '{CANARY}'); SELECT 2"),
    "parameter": parameters("INSERT INTO lead VALUES (5, %s)", CANARY),
    "binary parameter": parameters("INSERT INTO lead VALUES (6, %b)", CANARY),
    "prepared parameter": parameters("INSERT INTO lead VALUES (7, %s)", CANARY, prepare=True),
    "update": simple(f"UPDATE lead SET ssn = '{CANARY}' WHERE ssn = '{CANARY}'"),
    "merge": simple(
        f"MERGE INTO lead USING (VALUES (1, '{CANARY}')) AS n (id, ssn) ON lead.id = n.id"
        " WHEN MATCHED THEN UPDATE SET ssn = n.ssn"
    ),
    "upsert": simple(
        f"INSERT INTO lead VALUES (1, '{CANARY}') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn"
    ),
    "look-up": simple(f"SELECT id FROM lead WHERE ssn IN ('{CANARY}', 'other')"),
    "function": simple(f"SELECT into_lead(8, '{CANARY}')"),
    "dynamic statement": simple(f"SELECT dynamic($x$INSERT INTO lead VALUES (9, '{CANARY}')$x$)"),
    "block": simple(f"DO $$ BEGIN INSERT INTO lead VALUES (10, '{CANARY}'); END $$"),
    "prepare and execute": simple(
        "PREPARE p (text) AS INSERT INTO lead VALUES (11, $1);"
        f" EXECUTE p ('{CANARY}'); DEALLOCATE p"
    ),
    "cursor": simple(
        f"BEGIN; DECLARE c CURSOR FOR SELECT * FROM lead WHERE ssn = '{CANARY}'; FETCH c; COMMIT"
    ),
    "explain": simple(f"EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM lead WHERE ssn = '{CANARY}'"),
    "transparent": simple(
        f"SET fieldcrypt.transparent = on; SELECT * FROM lead WHERE ssn = '{CANARY}'"
    ),
    "encrypt()": simple(f"SELECT fieldcrypt.encrypt('{CANARY}', 'lead.ssn')"),
    "copy": copy("COPY lead (id, ssn) FROM STDIN", f"12\t{CANARY}\n"),
    "copy from csv": copy("COPY lead (id, ssn) FROM STDIN (FORMAT csv)", f'13,"{CANARY}"\n'),
    "syntax error": failing(f"INSERT INTO lead VALUES (14, '{CANARY}') oops"),
    "unterminated literal": failing(f"INSERT INTO lead VALUES (15, '{CANARY}"),
    "unique key": failing(f"INSERT INTO lead VALUES (1, '{CANARY}')"),
    "check": failing(f"INSERT INTO lead VALUES (16, '{CANARY}', 'refused')"),
    "parameter that fails": failing("INSERT INTO lead VALUES (1, %s)", CANARY),
    "prepared parameter that fails": failing(
        "INSERT INTO lead VALUES (1, %s)", CANARY, prepare=True
    ),
    "function that fails": failing(f"SELECT into_lead(1, '{CANARY}')"),
    "dynamic statement that fails": failing(
        f"SELECT dynamic($x$INSERT INTO lead VALUES (1, '{CANARY}')$x$)"
    ),
    "copy that fails": failing_copy("COPY lead (id, ssn) FROM STDIN", f"1\t{CANARY}\n"),
    "copy of a line that is too long": failing_copy(
        "COPY lead (id, ssn) FROM STDIN", f"17\t{CANARY}\tx\tx\tx\n"
    ),
    "literal continued": failing(rf"SELECT E'a' -- x{chr(10)} 'b\'{CANARY} x', 1/0"),
    "backslash before a quote": failing(
        rf"SET standard_conforming_strings = off; SELECT 'a\'{CANARY}', 1/0"
    ),
    "number in a function": failing(
        f"SELECT dynamic('SELECT {CANARY.replace('-', '')} / (SELECT 0)')"
    ),
    "value of another type": failing(f"SELECT '{CANARY}'::int"),
    "value of another type, decrypted": failing(
        f"SELECT fieldcrypt.decrypt(fieldcrypt.encrypt('{CANARY}', 'lead.ssn'))::date"
    ),
    "value of another type in a function": failing(f"SELECT into_lead('{CANARY}', 'x')"),
    "value of another type in a copy": failing_copy("COPY lead FROM STDIN", f"{CANARY}\tx\tx\n"),
    "value out of range": failing(f"SELECT '{CANARY.replace('-', '')}'::smallint"),
    "value with quotation marks": failing(f"SELECT '\"{CANARY}\"'::uuid"),
    "document that is none": failing(f"SELECT '{{\"ssn\": {CANARY}}}'::jsonb"),
    "json for an encrypted column": failing(
        f'SELECT (\'{{"ssn": "{CANARY}\\u0000"}}\'::json)::fieldcrypt.encrypted_jsonb'
    ),
    "parse trees": simple(
        "SET debug_print_parse = on; SET debug_print_plan = on; CREATE TEMP TABLE tree"
        f" (a text DEFAULT '{CANARY}'); SELECT id FROM lead WHERE note = '{CANARY}'"
    ),
    "sort on disk": simple(
        "SET work_mem = 64; SELECT count(*) FROM (SELECT g FROM generate_series(1, 20000) AS g"
        f" ORDER BY '{CANARY}' || g) AS s"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_threat_b3_no_value_in_the_log(loud, way):
    with loud.connect("app", options="-c fieldcrypt.account=acme") as app:
        before = sizes(loud)
        WAYS[way](app)
        app.execute("SELECT 1 AS and_after")
    logged = log_of(loud, before)
    assert "and_after" in logged
    assert CANARY not in logged and CANARY.replace("-", "") not in logged


@pytest.mark.skipif(not EXPLAINS, reason="this build has no auto_explain")
@pytest.mark.parametrize("form", ["text", "json", "yaml", "xml"])
def test_threat_b3_no_value_in_logged_plans(loud, form):
    before = sizes(loud)
    loud.execute(f"SET auto_explain.log_format = {form}")
    loud.execute(f"SELECT id FROM lead WHERE note = '{CANARY}'")
    loud.execute("RESET auto_explain.log_format")
    logged = log_of(loud, before)
    assert "plan:" in logged
    assert CANARY not in logged


def test_the_log_says_what_was_done(loud):
    """Names, parameters' places and errors stay: what was left out are values."""
    before = sizes(loud)
    with loud.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute("SELECT id AS shape_1 FROM lead WHERE id = 4711 AND note = 'x'")
        app.execute("SELECT id AS shape_2 FROM lead WHERE id = %s", [4711])
        with pytest.raises(psycopg.Error) as caught:
            app.execute("INSERT INTO lead (id, ssn) /* shape_3 */ VALUES (20, NULL)")
    # the client sees all of it
    assert "null value in column" in caught.value.diag.message_primary
    logged = log_of(loud, before)
    assert "SELECT id AS shape_1 FROM lead WHERE id = ? AND note = ?" in logged
    assert "SELECT id AS shape_2 FROM lead WHERE id = $1" in logged
    assert "Statement without its values: INSERT INTO lead (id, ssn)   VALUES (?, NULL)" in logged
    assert "4711" not in logged
    lines = (loud.cluster.data_dir / "loud" / "server.json").read_text().splitlines()
    assert all(json.loads(line) for line in lines)


@pytest.mark.parametrize(
    "statement, message",
    [
        ("SELECT 'a' 'b'", "syntax error at or near \"'b'\""),
        ("SELECT '1-2'::int", 'invalid input syntax for type integer: "1-2"'),
        ("SELECT '99999'::smallint", 'value "99999" is out of range for type smallint'),
    ],
)
def test_the_client_sees_the_whole_message(loud, statement, message):
    """It is logged, once, without what it quotes."""
    before = sizes(loud)
    with loud.connect("app") as app, pytest.raises(psycopg.Error) as caught:
        app.execute(statement)
    assert caught.value.diag.message_primary == message
    start, _, quoted = message.partition('"')
    end = quoted.partition('"')[2]
    logged = log_of(loud, before)
    # in each of the three files, quoted by the rules of each
    assert len(re.findall(f'{start}[\\\\"]+\\?[\\\\"]+{end}', logged)) == 3
    assert message not in logged


def test_the_client_sees_its_own_context(loud):
    with loud.connect("app", options="-c fieldcrypt.account=acme") as app:
        with pytest.raises(psycopg.Error) as caught:
            app.execute(f"SELECT dynamic($x$INSERT INTO lead VALUES (1, '{CANARY}')$x$)")
        assert CANARY in caught.value.diag.context
        with pytest.raises(psycopg.Error) as caught:
            app.execute("SELECT 1 FROM no_such_table WHERE x = 'mine'")
        assert caught.value.diag.message_detail is None


def test_redaction_can_be_switched_off_by_superusers_only(loud):
    with loud.connect("app") as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("SET fieldcrypt.redact_log = off")
    loud.execute("SET fieldcrypt.redact_log = off")
    loud.execute("SELECT 'shown on purpose'")
    loud.execute("RESET fieldcrypt.redact_log")
    loud.execute("SELECT 'hidden again'")
    logged = log_of(loud)
    assert "shown on purpose" in logged
    assert "hidden again" not in logged


def test_databases_without_the_extension_are_left_alone(loud):
    other = Database(loud.cluster, "unencrypted")
    other.execute("SELECT 'first'")
    other.execute("SELECT 'of no concern'")
    assert "of no concern" in log_of(loud)
    other.drop()


def test_threat_b3_no_value_in_deadlock_reports(loud):
    """Which show the statements of every session that takes part."""
    before = sizes(loud)
    options = {"options": "-c fieldcrypt.account=acme", "autocommit": False}
    with loud.connect("app", **options) as one, loud.connect("app", **options) as other:
        one.execute(f"INSERT INTO lead VALUES (101, '{CANARY}'), (102, '{CANARY}')")
        one.commit()
        one.execute("UPDATE lead SET note = 'x' WHERE id = 101")
        other.execute("UPDATE lead SET note = 'x' WHERE id = 102")

        def cross(connection, number):
            try:
                connection.execute(f"UPDATE lead SET ssn = '{CANARY}' WHERE id = {number}")
            except psycopg.errors.DeadlockDetected:
                connection.rollback()
                return 1
            connection.commit()
            return 0

        with ThreadPoolExecutor(2) as threads:
            deadlocks = sum(threads.map(cross, (one, other), (102, 101)))
    assert deadlocks == 1
    logged = log_of(loud, before)
    assert "40P01" in logged
    assert CANARY not in logged
