"""Canaries: a plain value, whatever the way it takes in, is nowhere on disk or in what is shown.

Each statement gets a value of its own, so that a hit names the culprit. The server log is not
searched, nor is pg_stat_activity: both show the text of statements, literals included, and the
CONTEXT of a failed COPY is the client's own line of input (docs say: bind parameters).
"""

import secrets

import psycopg
import pytest
from canaries import Canaries
from expect import texts
from harness import Cluster, account_database

CANARIES = Canaries()
# What is meant to be found, in a table of its own: it shows that the search works.
CONTROLS = Canaries()


SCHEMA = """
    SELECT fieldcrypt.create_field('note');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*');
    CREATE TABLE parent (ssn fieldcrypt.encrypted_text('lead.ssn') PRIMARY KEY);
    CREATE TABLE lead (
        id serial PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        ssn fieldcrypt.encrypted_text('lead.ssn') UNIQUE,
        email fieldcrypt.encrypted_text('lead.email'),
        note fieldcrypt.encrypted_text('note'),
        age int CHECK (age > 0));
    CREATE INDEX ON lead USING hash (ssn);
    CREATE INDEX ON lead (email);
    ALTER TABLE lead REPLICA IDENTITY FULL;
    CREATE STATISTICS lead_statistics (ndistinct, dependencies, mcv) ON ssn, email FROM lead;
    CREATE TABLE child (ssn fieldcrypt.encrypted_text('lead.ssn') REFERENCES parent);
    CREATE TABLE part (ssn fieldcrypt.encrypted_text('lead.ssn'), kind int)
        PARTITION BY LIST (kind);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
    CREATE TABLE only_one (
        ssn fieldcrypt.encrypted_text('lead.ssn'), EXCLUDE USING hash (ssn WITH =));
    CREATE TABLE held (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'));
    SELECT fieldcrypt.protect_table('held', 'account_id');
    CREATE DOMAIN short AS fieldcrypt.encrypted_text('lead.ssn')
        CHECK (octet_length(VALUE::text) < 9);
    CREATE TABLE shorts (ssn short);
    CREATE TABLE plain (value text);
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
    GRANT CREATE ON SCHEMA public TO app;

    CREATE FUNCTION add_lead(ssn text, note text) RETURNS void LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO lead (ssn, note) VALUES (ssn, note); END$$;
    CREATE FUNCTION also_child() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO held VALUES ('acme', NEW.ssn); RETURN NEW; END$$;
    CREATE TRIGGER also AFTER INSERT ON lead FOR EACH ROW EXECUTE FUNCTION also_child();
"""


@pytest.fixture(scope="module")
def database():
    """A database on a server of its own, which keeps all of its WAL as it was written."""
    settings = {"wal_compression": "off", "wal_keep_size": "1GB", "fieldcrypt.key_lifetime": "1h"}
    with Cluster(settings) as own, account_database(own) as database:
        database.execute(SCHEMA)
        yield database


@pytest.fixture
def app(database):
    options = "-c fieldcrypt.account=acme"
    with database.connect("app", options=options, prepare_threshold=None) as connection:
        yield connection


# {0} and {1} are canaries as literals, %(a)s and %(b)s as parameters.
WRITES = [
    "INSERT INTO lead (ssn, email, note) VALUES ('{0}', '{1}@b.example', '{1}')",
    "INSERT INTO lead (ssn, note) VALUES (%(a)s, %(b)s) RETURNING ssn, note",
    "INSERT INTO lead (ssn, note) VALUES (%(a)b, %(b)b)",
    "INSERT INTO lead (ssn, note) VALUES (%(a)s::text, (%(b)s::text || repeat('x', 100000)))",
    "INSERT INTO lead (ssn) VALUES ('{0}'::fieldcrypt.encrypted_text('lead.ssn'))",
    "INSERT INTO lead (ssn) VALUES (fieldcrypt.encrypt('{0}', 'lead.ssn'))",
    "INSERT INTO lead (note) SELECT '{0}' FROM generate_series(1, 100)",
    "INSERT INTO lead (ssn) SELECT v FROM (VALUES (%(a)s), (%(b)s)) AS t (v)",
    "INSERT INTO lead (id, ssn) VALUES (-1, '{0}')",
    "INSERT INTO lead (id, ssn) VALUES (-1, '{0}') ON CONFLICT (id) DO UPDATE"
    " SET ssn = excluded.ssn, note = '{1}' WHERE lead.ssn <> '{1}'",
    "INSERT INTO lead (ssn) VALUES ('{0}') ON CONFLICT (ssn) DO NOTHING",
    "UPDATE lead SET ssn = '{0}', note = '{1}' WHERE id = -1",
    "UPDATE lead SET note = %(a)s WHERE ssn <> %(b)s",
    "DELETE FROM lead WHERE ssn = '{0}'",
    "MERGE INTO lead USING (VALUES (-1, '{0}'::text), (-2, '{1}')) AS new (id, ssn)"
    " ON lead.id = new.id WHEN MATCHED THEN UPDATE SET ssn = new.ssn"
    " WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (new.id, new.ssn)",
    "SELECT add_lead(%(a)s, %(b)s)",
    "DO $$BEGIN PERFORM add_lead('{0}', '{1}'); END$$",
    "PREPARE new AS INSERT INTO lead (ssn, note) VALUES ($1, '{0}'); EXECUTE new ('{1}')",
    "BEGIN; DECLARE c CURSOR FOR SELECT id FROM lead WHERE ssn <> '{0}' FOR UPDATE; FETCH c;"
    " UPDATE lead SET note = '{1}' WHERE CURRENT OF c; COMMIT",
    "BEGIN; INSERT INTO lead (ssn) VALUES ('{0}'); SAVEPOINT s;"
    " INSERT INTO lead (ssn) VALUES ('{1}'); ROLLBACK TO s; ROLLBACK",
    "BEGIN; INSERT INTO lead (id, ssn) VALUES (-9, '{0}'); PREPARE TRANSACTION 'canaries'",
    "CREATE TABLE made_{2} AS SELECT '{0}'::fieldcrypt.encrypted_text('lead.ssn') AS ssn",
    "CREATE VIEW v_{2} AS SELECT id FROM lead WHERE ssn = '{0}' OR ssn IN ('{1}', '{0}')",
    "CREATE FUNCTION f_{2}() RETURNS bigint BEGIN ATOMIC"
    " SELECT count(*) FROM lead WHERE ssn = '{0}'; END",
    "CREATE RULE r_{2} AS ON DELETE TO made_rule DO INSTEAD"
    " UPDATE lead SET note = '{0}' WHERE ssn = '{1}'",
    "SELECT * FROM lead WHERE ssn = '{0}' OR ssn = %(b)s OR email IN ('{0}', '{1}@b.example')",
    "SELECT fieldcrypt.decrypt(note) FROM lead WHERE ssn = ANY (ARRAY[%(a)s, %(b)s])",
    "SET work_mem = '64kB'; SELECT ssn FROM lead GROUP BY ssn ORDER BY count(*)",
    "INSERT INTO part VALUES (%(a)s, 1)",
    "INSERT INTO held VALUES ('acme', '{0}')",
    "SET fieldcrypt.account = '*row*'; INSERT INTO held VALUES ('acme', '{0}');"
    " SET fieldcrypt.account = 'acme'",
]

# What fails, after the value went in.
FAILURES = [
    "INSERT INTO lead (id, ssn, note) VALUES (NULL, '{0}', '{1}')",
    "INSERT INTO lead (ssn, account_id) VALUES (%(a)s, NULL)",
    "INSERT INTO lead (ssn, age) VALUES ('{0}', -1)",
    "INSERT INTO lead (ssn, age) VALUES (%(a)s, -1)",
    "INSERT INTO lead (ssn) VALUES ('{0}'), ('{0}')",
    "INSERT INTO lead (ssn) VALUES (%(a)s), (%(a)s) ON CONFLICT (ssn) DO UPDATE SET age = 1",
    "UPDATE lead SET ssn = '{0}' WHERE id IN (SELECT id FROM lead LIMIT 2)",
    "INSERT INTO child VALUES ('{0}')",
    "INSERT INTO child VALUES (%(a)s)",
    "INSERT INTO part VALUES ('{0}', 2)",
    "INSERT INTO only_one VALUES (%(a)s), (%(a)s)",
    "INSERT INTO held VALUES ('globex', '{0}')",
    "INSERT INTO shorts VALUES ('{0}')",
    "MERGE INTO lead USING (VALUES (-1, '{0}'::text), (-1, '{1}')) AS new (id, ssn)"
    " ON lead.id = new.id WHEN MATCHED THEN UPDATE SET ssn = new.ssn",
    "SELECT fieldcrypt.encrypt('{0}', 'no.such.field')",
    "SELECT fieldcrypt.encrypt('{0}', 'lead.ssn', 'nobody')",
    "SELECT fieldcrypt.blind_index('{0}', 'note')",
    "SELECT fieldcrypt.decrypt('{0}')",
    "SELECT '{0}'::fieldcrypt.encrypted_text = '{1}'::fieldcrypt.encrypted_text",
    "SELECT 1 FROM lead WHERE note = '{0}'",
    "SELECT 1 FROM lead WHERE note IN ('{0}', '{1}')",
    "INSERT INTO lead (ssn) VALUES ('fc1:{0}')",
    "INSERT INTO lead (ssn) VALUES (%(c)s)",
    "SELECT 1 FROM lead WHERE ssn = 'fc1:{0}'",
    "SELECT * FROM lead WHERE ssn = '{0}' ORDER BY ssn",
    "SELECT add_lead(%(a)s, %(b)s), add_lead(%(a)s, %(b)s)",
    "SET fieldcrypt.account = ''; INSERT INTO lead (ssn) VALUES ('{0}')",
    "SET fieldcrypt.account = ''; SELECT 1 FROM lead WHERE ssn = '{0}'",
    "SET fieldcrypt.account = 'globex'; INSERT INTO lead (ssn) VALUES ('{0}')",
    "SET fieldcrypt.account = 'globex'; SELECT 1 FROM lead WHERE ssn = '{0}'",
]

COPIES = [
    ("COPY lead (ssn, note) FROM STDIN", "{0}\t{1}\n"),
    ("COPY lead (ssn, note) FROM STDIN (FORMAT csv)", '"{0}","{1}"\n'),
    ("COPY lead (ssn, age) FROM STDIN", "{0}\t-1\n"),
    ("COPY lead (ssn, age) FROM STDIN", "{0}\tx\n"),
    ("COPY lead (ssn, account_id) FROM STDIN", "{0}\t\\N\n"),
    ("COPY lead (ssn) FROM STDIN", "{0}\n{0}\n"),
    ("COPY lead (ssn) FROM STDIN", "fc1:{0}\n"),
    ("COPY lead (ssn) FROM STDIN", "{0}\t{1}\n"),
    ("COPY held (ssn, account_id) FROM STDIN", "{0}\tglobex\n"),
    ("COPY child FROM STDIN", "{0}\n"),
]


def fill(statement):
    """The statement with new canaries, and the parameters if it has any."""
    a, b = CANARIES.new(), CANARIES.new()
    parameters = {"a": a, "b": b, "c": f"fc1:{a}", "l": [a, b]}
    text = statement.format(a, b, secrets.token_hex(4))
    return text, {name: value for name, value in parameters.items() if f"%({name})" in text}


def test_nothing_on_disk_or_in_errors(database, app):
    """Writes, failed writes and searches; then every file of the server, and a dump."""
    database.execute("CREATE TABLE made_rule (); ALTER TABLE made_rule OWNER TO app")
    database.execute("ALTER TABLE lead OWNER TO app")
    slot = "SELECT pg_create_logical_replication_slot('canaries', 'test_decoding')"
    database.execute(slot)
    shown = []
    for statement in WRITES:
        text, parameters = fill(statement)
        app.execute(text, parameters or None)
    for statement in FAILURES:
        text, parameters = fill(statement)
        with pytest.raises(psycopg.Error) as caught:
            app.execute(text, parameters or None)
        shown.append((statement, texts(caught.value)))
        app.execute("SET fieldcrypt.account = 'acme'")
    failed = 0
    for statement, line in COPIES:
        try:
            with app.cursor().copy(statement) as stream:
                stream.write(fill(line)[0])
        except psycopg.Error as error:
            failed += 1
            diag = error.diag
            for part in diag.message_primary, diag.message_detail, diag.message_hint:
                shown.append((statement, part or ""))
    assert failed == 8
    leaks = [(statement, text) for statement, text in shown if CANARIES.found(text)]
    assert leaks == []

    # more than one: the header of a page of the WAL may be in the middle of any
    for _ in range(3):
        database.execute("INSERT INTO plain VALUES (%s)", [CONTROLS.new()])
    for statement in "ANALYZE", "VACUUM", "CHECKPOINT":
        database.execute(statement)
    files = database.cluster.data_dir
    assert {path.split("/")[0] for path in CONTROLS.in_files(files)} == {"base", "pg_wal"}
    assert CANARIES.in_files(files) == {}
    assert list((files / "pg_twophase").iterdir())
    app.execute("ROLLBACK PREPARED 'canaries'")

    dumped = database.cluster.run("pg_dumpall").stdout
    assert CONTROLS.found(dumped) and not CANARIES.found(dumped)
    decoded = database.value(
        "SELECT string_agg(data, '') FROM pg_logical_slot_get_changes('canaries', NULL, NULL)"
    )
    assert CONTROLS.found(decoded) and not CANARIES.found(decoded)
    database.execute("SELECT pg_drop_replication_slot('canaries')")


EXPLAINED = [
    "SELECT id FROM lead WHERE ssn = '{0}'",
    "SELECT id FROM lead WHERE ssn = '{0}'::text",
    "SELECT id FROM lead WHERE '{0}'::varchar = ssn",
    "SELECT id FROM lead WHERE ssn <> '{0}' OR email = '{1}'",
    "SELECT id FROM lead WHERE ssn IN ('{0}', '{1}')",
    "SELECT id FROM lead WHERE ssn NOT IN ('{0}', '{1}')",
    "SELECT id FROM lead WHERE ssn IN ('{0}'::text, '{1}')",
    "SELECT id FROM lead WHERE ssn = ANY ('{{{0},{1}}}')",
    "SELECT id FROM lead WHERE ssn = ANY ('{{{0},{1}}}'::text[])",
    "SELECT id FROM lead WHERE ssn = ANY (ARRAY['{0}', '{1}'])",
    "SELECT id FROM lead WHERE ssn IS DISTINCT FROM '{0}'",
    "SELECT NULLIF(ssn, '{0}') FROM lead",
    "SELECT CASE ssn WHEN '{0}' THEN 1 END FROM lead",
    "SELECT id FROM lead WHERE (ssn, email) = ('{0}', '{1}')",
    "SELECT id FROM lead JOIN (VALUES ('{0}'::fieldcrypt.encrypted_text)) AS v (s) ON ssn = s",
    "SELECT count(*) FILTER (WHERE ssn = '{0}') FROM lead",
    "SELECT id FROM lead WHERE ssn = %(a)s",
    "SELECT id FROM lead WHERE ssn = %(a)b",
    "SELECT id FROM lead WHERE ssn = ANY (%(l)s)",
    "SELECT id FROM lead WHERE ssn = ANY (%(l)s::text[])",
    "INSERT INTO lead (ssn, note) VALUES ('{0}', %(b)s)",
    "INSERT INTO lead (ssn) VALUES ('{0}'), ('{1}')",
    "INSERT INTO lead (note) SELECT '{0}' FROM lead",
    "INSERT INTO lead (ssn) VALUES ('{0}') ON CONFLICT (ssn) DO UPDATE SET note = '{1}'"
    " WHERE lead.ssn <> '{1}'",
    "UPDATE lead SET ssn = '{0}', note = %(b)s WHERE ssn = '{1}'",
    "DELETE FROM lead WHERE ssn = '{0}'",
    "MERGE INTO lead USING (VALUES (-1)) AS new (id) ON lead.id = new.id AND ssn = '{0}'"
    " WHEN MATCHED THEN UPDATE SET ssn = '{1}' WHEN NOT MATCHED THEN INSERT (ssn) VALUES ('{0}')",
]


# The client says that its value is text: as many drivers send every string, and as PL/pgSQL
# passes a text variable on.
EXPLAINED_WRITES_OF_TEXT = [
    "INSERT INTO lead (ssn) VALUES (%(a)b)",
    "INSERT INTO lead (ssn) VALUES ('{0}'::text)",
    "INSERT INTO lead (ssn) SELECT v FROM (VALUES ('{0}'::text)) AS t (v)",
    "UPDATE lead SET ssn = '{0}'::text",
]


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("options", ["VERBOSE", "ANALYZE, VERBOSE"])
def test_threat_b2_nothing_in_explain(app, options, plan_cache_mode):
    """EXPLAIN shows ciphertext where the client sent a plain value for a typed column."""
    app.execute(f"SET plan_cache_mode = {plan_cache_mode}")
    assert leaks_in_explain(app, EXPLAINED, options) == []


def test_threat_b2_nothing_in_explain_of_writes_of_text(database, app):
    database.execute("DELETE FROM lead")
    assert leaks_in_explain(app, EXPLAINED_WRITES_OF_TEXT, "VERBOSE") == []


def leaks_in_explain(app, statements, options):
    leaks = []
    for statement in statements:
        text, parameters = fill(statement)
        with app.transaction(force_rollback=True):
            rows = app.execute(f"EXPLAIN ({options}) {text}", parameters or None).fetchall()
        shown = "\n".join(line for (line,) in rows)
        if CANARIES.found(shown):
            leaks.append((statement, shown))
    return leaks


def test_threat_b3_nothing_in_the_plans_of_auto_explain(database):
    """The plans that it logs, of statements with parameters and of those inside functions."""
    notices = []
    with database.connect(options="-c fieldcrypt.account=acme") as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;"
            " SET auto_explain.log_verbose = on; SET auto_explain.log_level = notice;"
            " SET auto_explain.log_nested_statements = on; SET ROLE app"
        )
        connection.execute("SELECT id FROM lead WHERE ssn = %s", [CANARIES.new()])
        connection.execute("INSERT INTO lead (ssn) VALUES (%s)", [CANARIES.new()])
        connection.execute("SELECT id FROM lead WHERE ssn = %b", [CANARIES.new()])
        connection.execute("SELECT add_lead(%b, %b)", [CANARIES.new(), CANARIES.new()])
    plans = [notice.partition("Query Text:")[2].partition("\n")[2] for notice in notices]
    assert len(plans) >= 5
    # What the client calls a function with is the client's own text.
    leaks = [plan for plan in plans if CANARIES.found(plan) and "Output: add_lead(" not in plan]
    assert leaks == []
