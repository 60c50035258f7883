"""Fields whose policy is changed while there are values: these follow by jobs.

While they do a search raises, and is never answered wrongly.
"""

import threading

import psycopg
import pytest
from expect import refused
from harness import Database
from test_jobs import state, writing
from test_reencrypt import kill_in_the_middle, running, wait_for

ROLES = ("keeper", "mover")

SCHEMA = """
    GRANT keeper, fieldcrypt_admin TO mover;
    GRANT CREATE ON SCHEMA public TO keeper;
    SELECT fieldcrypt.create_field('person.code');
    SELECT fieldcrypt.grant_access('keeper', '{encrypt}', '*', '*');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*');
    SET ROLE keeper;
    CREATE TABLE person (
        id int PRIMARY KEY, account_id text NOT NULL, n int,
        code fieldcrypt.encrypted_text('person.code'), data jsonb);
    CREATE INDEX person_code ON person USING hash (code);
    CREATE INDEX person_tokens ON person USING gin (fieldcrypt.tokens(data));
    SELECT fieldcrypt.protect_table('person', 'account_id');
    SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id');
    GRANT ALL ON person TO app;
    RESET ROLE;
    SELECT fieldcrypt.protect_path('person.data', '{code}', 'person.code');
"""
COLUMN = "CALL fieldcrypt.reencrypt_column('person', 'code', 100)"
DOCUMENT = "CALL fieldcrypt.reencrypt_existing('person.data', 100)"
FIELD = "CALL fieldcrypt.reencrypt_field('person.code', 100)"
CODE, DATA = "public.person.code", "person.data"
SEARCH_ON = "SELECT fieldcrypt.alter_field('person.code', search => '{exact}')"
BY_COLUMN = "SELECT id FROM person WHERE code = %s ORDER BY id"
BY_DOCUMENT = "SELECT id FROM person WHERE fieldcrypt.matches(data, 'person.code', %s) ORDER BY id"


def fill(db, rows=300):
    """Rows of two accounts, of which acme's have even ids; the codes are like `a-2`."""
    with db.connect("app", options="-c fieldcrypt.account=*row*") as app:
        app.execute(
            "INSERT INTO person SELECT i, (ARRAY['acme','globex'])[1 + mod(i, 2)], i, 'a-' || i,"
            " jsonb_build_object('code', 'a-' || i) FROM generate_series(1, %s) AS i",
            [rows],
        )


@pytest.fixture
def people(db):
    db.cluster.create_roles(*ROLES)
    db.execute(SCHEMA)
    fill(db)
    return db


@pytest.fixture
def mover(people):
    with people.connect("mover") as connection:
        yield connection


@pytest.fixture
def app(people):
    options = "-c fieldcrypt.account=acme -c enable_seqscan=off"
    with people.connect("app", options=options) as connection:
        yield connection


def found(app, value):
    """What both ways to search find, which has to be the same."""
    by_column = app.execute(BY_COLUMN, [value]).fetchall()
    assert by_column == app.execute(BY_DOCUMENT, [value]).fetchall()
    return [row for (row,) in by_column]


def refuses_to_search(app):
    for search in BY_COLUMN, BY_DOCUMENT:
        with refused("0A000", "cannot be searched", "reencrypt_field"):
            app.execute(search, ["a-2"])


def left(people):
    rows = people.execute("SELECT subject FROM fieldcrypt.plan_alter_field('person.code')")
    return sorted(subject for (subject,) in rows)


def searches(people):
    return people.value("SELECT backfilled FROM fieldcrypt.fields WHERE name = 'person.code'")


def of_older(people, table="person", column="code"):
    with people.connect("keeper") as keeper:
        return keeper.execute(
            f"SELECT count(*) FROM {table} WHERE fieldcrypt.needs_reencryption({column})"
        ).fetchone()[0]


@pytest.mark.every_version
def test_search_is_switched_on_and_off(people, mover, app):
    refused_as_before = "was created without search"
    with refused("0A000", hint=refused_as_before):
        app.execute(BY_COLUMN, ["a-2"])
    mover.execute(SEARCH_ON)
    app.execute("INSERT INTO person VALUES (1000, 'acme', 1, 'a-2', '{\"code\": \"a-2\"}')")
    # the new row could be found: the older one not yet
    assert of_older(people) == of_older(people, column="data") == 300
    refuses_to_search(app)
    assert left(people) == [DATA, CODE] and not searches(people)
    mover.execute(COLUMN)
    assert left(people) == [DATA]
    refuses_to_search(app)
    mover.execute(DOCUMENT)
    assert searches(people)
    assert found(app, "a-2") == [2, 1000] and found(app, "a-4") == [4] and found(app, "x") == []
    plan = app.execute("EXPLAIN SELECT id FROM person WHERE code = 'a-2'").fetchall()
    assert any("person_code" in line for (line,) in plan)
    assert app.execute("SELECT count(*) FROM person WHERE code = 'a-3'").fetchone() == (0,)
    assert of_older(people) == of_older(people, column="data") == 0

    mover.execute("SELECT fieldcrypt.alter_field('person.code', search => '{}')")
    assert searches(people)
    with refused("0A000", hint=refused_as_before):
        app.execute(BY_COLUMN, ["a-2"])
    assert of_older(people) == 301
    mover.execute(FIELD)
    tokens = "SELECT count(*) FROM person WHERE fieldcrypt.tokens(code) <> '{}'"
    assert people.value(tokens) == of_older(people) == of_older(people, column="data") == 0
    # what has no tokens any more gets them again
    mover.execute(SEARCH_ON)
    refuses_to_search(app)
    mover.execute(FIELD)
    assert found(app, "a-2") == [2, 1000]
    read = "SELECT count(*) FROM person WHERE id <= 300 AND fieldcrypt.decrypt(code) = 'a-' || id"
    assert app.execute(read).fetchone() == (300,)


@pytest.mark.every_version
def test_another_normalizer(people, mover, app):
    """Tokens change what they say: `A-2` is found as `a-2`, and is not before all are made anew."""
    mover.execute(SEARCH_ON)
    mover.execute(FIELD)
    assert found(app, "A-2") == [] and found(app, "a-2") == [2]
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'casefold')")
    app.execute("INSERT INTO person VALUES (1000, 'acme', 1, 'A-2', '{\"code\": \"A-2\"}')")
    refuses_to_search(app)
    mover.execute(FIELD)
    assert found(app, "A-2") == found(app, "a-2") == [2, 1000]
    # with no normalizer anew nothing is left to do
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'casefold')")
    assert found(app, "A-2") == [2, 1000]
    mover.execute(FIELD)
    assert state(people, CODE) == ("done", "verify", 0)
    # values of which a normalizer leaves nothing have no token, and are not left
    app.execute("UPDATE person SET code = 'none' WHERE id = 1000")
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'digits')")
    mover.execute(FIELD)
    assert searches(people) and of_older(people) == 0
    assert app.execute(BY_COLUMN, ["2"]).fetchall() == [(2,)]
    # and only who may encrypt is told so
    people.execute("SELECT fieldcrypt.revoke_access('app', '{encrypt}', '*', '*')")
    people.execute("SELECT fieldcrypt.revoke_access('app', '{encrypt}', 'acme', 'lead.*')")
    asked = "SELECT fieldcrypt.needs_reencryption(code) FROM person WHERE id = %s"
    assert app.execute(asked, [2]).fetchone() == (False,)
    with refused("42501", "encrypt field"):
        app.execute(asked, [1000])


def test_plans_that_were_made_before(people, mover, app):
    """Prepared statements, joins and grouping among them, raise as well."""
    mover.execute(SEARCH_ON)
    mover.execute(FIELD)
    join = "SELECT count(*) FROM person AS a JOIN person AS b ON a.code = b.code"
    for name, query in ("j", join), ("g", "SELECT count(DISTINCT code) FROM person"):
        app.execute(f"PREPARE {name} AS {query}")
        for _ in range(6):
            assert app.execute(f"EXECUTE {name}").fetchone() == (300,)
    app.execute("PREPARE s (text) AS SELECT id FROM person WHERE code = $1")
    for _ in range(6):
        assert app.execute("EXECUTE s ('a-4')").fetchall() == [(4,)]
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'casefold')")
    for call in "EXECUTE j", "EXECUTE g", "EXECUTE s ('a-4')", "EXECUTE s ('A-4')":
        with refused("0A000", "cannot be searched"):
            app.execute(call)
    mover.execute(FIELD)
    assert app.execute("EXECUTE j").fetchone() == (300,)
    assert app.execute("EXECUTE s ('A-4')").fetchall() == [(4,)]


def test_an_older_snapshot(people, mover, app):
    """It sees rows as they were: of them the tokens of now say nothing."""
    app.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert app.execute("SELECT count(*) FROM person").fetchone() == (300,)
    mover.execute(SEARCH_ON)
    mover.execute(FIELD)
    for search in BY_COLUMN, BY_DOCUMENT:
        with refused("40001", "older than the last change"):
            app.execute("SAVEPOINT s")
            app.execute(search, ["a-2"])
        app.execute("ROLLBACK TO s")
    app.execute("COMMIT")
    assert found(app, "a-2") == [2]
    with app.transaction():
        app.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert found(app, "a-2") == [2]


def test_live_writers(people, mover, app):
    """Readers and writers go on; who searches is right or refused, at every moment."""
    fill_more = "INSERT INTO person SELECT i, 'acme', 0, 'b', '{\"code\": \"b\"}'"
    app.execute(f"{fill_more} FROM generate_series(1001, 3000) AS i")
    count, answers, done = {"right": 0, "refused": 0}, set(), threading.Event()

    def search():
        options = "-c fieldcrypt.account=acme"
        with people.connect("app", options=options) as session:
            while not done.is_set():
                try:
                    answers.add(session.execute(BY_COLUMN, ["a-4"]).fetchall()[0])
                    answers.add(session.execute(BY_DOCUMENT, ["a-4"]).fetchall()[0])
                    count["right"] += 1
                except psycopg.Error as error:
                    answers.add(error.sqlstate)
                    count["refused"] += 1

    value = (
        "UPDATE person SET code = 'w' || %(n)s, data = jsonb_build_object('code', 'w' || %(n)s)"
        " WHERE id = 1001 + (%(n)s %% 1500)"
    )
    other = "UPDATE person SET n = n + 1 WHERE id = 1001 + (%(n)s * 37) %% 1999"
    searcher = threading.Thread(target=search)
    searcher.start()
    try:
        with writing(people, value) as values, writing(people, other) as others:
            for change in "search => '{exact}'", "normalizer => 'casefold'":
                mover.execute(f"SELECT fieldcrypt.alter_field('person.code', {change})")
                mover.execute(FIELD)
        wait_for(lambda: count["right"] > 0)
    finally:
        done.set()
        searcher.join()
    assert values["errors"] == others["errors"] == []
    assert values["count"] > 10 and others["count"] > 10
    assert answers == {(4,), "0A000"}, answers
    assert values["slowest"] < 1 and others["slowest"] < 1
    model = {}
    for number in range(1, values["count"] + 1):
        model[1001 + number % 1500] = f"w{number}"
    with people.connect("app") as session:
        read = "SELECT id, fieldcrypt.decrypt(code) FROM person WHERE id > 1000"
        stored = dict(session.execute(read).fetchall())
    assert stored == {row: model.get(row, "b") for row in range(1001, 3001)}
    last = max(model, key=lambda row: int(model[row][1:]))
    assert found(app, model[last].upper()) == [last]
    assert len(found(app, "B")) == list(stored.values()).count("b")


def test_a_change_in_the_middle_of_a_job(people, mover, app):
    """The job begins anew, and waits for statements of the policy before."""
    mover.execute(SEARCH_ON)
    with running(people, COLUMN.replace("100", "20, 200")):
        wait_for(lambda: (state(people, CODE) or (0, 0, 0))[2] >= 40)
        mover.execute("SELECT fieldcrypt.pause_job(%s)", [CODE])
    assert state(people, CODE)[:2] == ("paused", "backfill")
    app.autocommit = False
    app.execute("INSERT INTO person VALUES (1000, 'acme', 1, 'A-2', '{\"code\": \"A-2\"}')")
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'casefold')")
    assert state(people, CODE)[:2] == ("paused", "prepare")
    with running(people, COLUMN) as thread:
        wait_for(lambda: state(people, CODE)[0] == "running")
        thread.join(0.5)
        assert thread.is_alive() and state(people, CODE)[:2] == ("running", "prepare")
        app.commit()
    app.autocommit = True
    mover.execute(DOCUMENT)
    assert searches(people) and found(app, "a-2") == [2, 1000]
    # each change of the policy counts, also of one that is not searched yet
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'none')")
    mover.execute(COLUMN)
    assert left(people) == [DATA]
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'casefold')")
    assert left(people) == [DATA, CODE]
    mover.execute(FIELD)
    assert found(app, "a-2") == [2, 1000]


@pytest.mark.every_version
def test_suite_and_padding_follow_too(people, mover, app):
    """Nothing is refused meanwhile, and tokens stay."""
    mover.execute(SEARCH_ON)
    mover.execute(FIELD)
    tokens = "SELECT id, fieldcrypt.token(code), fieldcrypt.tokens(data) FROM person ORDER BY id"
    before = people.execute(tokens).fetchall()
    lengths = "SELECT DISTINCT octet_length(code::text) FROM person WHERE id > 9"
    assert people.execute(lengths).rowcount == 2
    for change in (
        "padding => '32'",
        "suite => 'aes-256-cbc-hmac-sha512'",
        "padding => '128'",
        "suite => 'aes-256-gcm', padding => 'none'",
    ):
        mover.execute(f"SELECT fieldcrypt.alter_field('person.code', {change})")
        assert of_older(people) == of_older(people, column="data") == 300, change
        assert found(app, "a-2") == [2]
        mover.execute(FIELD)
        assert state(people, CODE) == state(people, DATA) == ("done", "verify", 300), change
        assert of_older(people) == of_older(people, column="data") == 0, change
        assert people.execute(lengths).rowcount == (2 if "none" in change else 1), change
    assert people.execute(tokens).fetchall() == before
    read = "SELECT count(*) FROM person WHERE fieldcrypt.decrypt(code) = 'a-' || id"
    assert app.execute(read).fetchone() == (300,)


def test_a_blob(people, mover, app):
    """What is gathered in it gets its tokens, and so does the blob."""
    people.execute("""
        SELECT fieldcrypt.create_field('box.pii', search => '{exact}');
        SET ROLE keeper;
        CREATE TABLE box (
            id int, account_id text, data jsonb, pii fieldcrypt.encrypted_jsonb('box.pii'));
        SELECT fieldcrypt.protect_jsonb(
            'box', 'data', 'box.data', 'account_id', blob_column => 'pii');
        GRANT ALL ON box TO app; RESET ROLE;
        SELECT fieldcrypt.protect_path('box.data', '{a,b.c}', 'person.code');
    """)
    app.execute("""INSERT INTO box SELECT i, 'acme',
        jsonb_build_object('n', 1, 'a', 'a-' || i, 'b', '{"c": "c"}'::jsonb)
        FROM generate_series(1, 20) AS i""")
    assert people.value("SELECT count(*) FROM box WHERE fieldcrypt.tokens(pii) <> '{}'") == 0
    mover.execute(SEARCH_ON)
    assert left(people) == ["box.data", DATA, CODE]
    assert of_older(people, "box", "pii") == 20
    mover.execute(FIELD)
    assert of_older(people, "box", "pii") == 0
    search = "SELECT id FROM box WHERE fieldcrypt.matches(pii, 'person.code', %s)"
    assert app.execute(search, ["a-7"]).fetchall() == [(7,)]
    assert app.execute(search, ["c"]).rowcount == 20
    mover.execute("SELECT fieldcrypt.alter_field('person.code', normalizer => 'casefold')")
    with refused("0A000", "cannot be searched"):
        app.execute(search, ["a-7"])
    mover.execute(FIELD)
    assert app.execute(search, ["A-7"]).fetchall() == [(7,)]
    read = "SELECT count(*) FROM box WHERE fieldcrypt.decrypt(data, pii) ->> 'a' = 'a-' || id"
    assert app.execute(read).fetchone() == (20,)


def test_partitions_and_fields_without_places(people, mover, app):
    people.execute("""
        SELECT fieldcrypt.create_field('part.v');
        SET ROLE keeper;
        CREATE TABLE part (id int, account_id text, v fieldcrypt.encrypted_text('part.v'))
            PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
        GRANT ALL ON part TO app; RESET ROLE;
    """)
    pending = "SELECT NOT backfilled FROM fieldcrypt.fields WHERE name = 'part.v'"
    app.execute("INSERT INTO part SELECT i, 'acme', i FROM generate_series(1, 199) AS i")
    mover.execute("SELECT fieldcrypt.alter_field('part.v', search => '{exact}')")
    mover.execute("CALL fieldcrypt.reencrypt_column('part_2', 'v')")
    assert people.value(pending)
    # a table that was none of it when the job ended
    people.execute("SET ROLE keeper; CREATE TABLE part_3 (LIKE part); RESET ROLE")
    mover.execute("CALL fieldcrypt.reencrypt_column('part_1', 'v')")
    assert people.value(pending)
    people.execute("ALTER TABLE part ATTACH PARTITION part_3 FOR VALUES FROM (200) TO (300)")
    jobs = "SELECT relation::text, column_name FROM fieldcrypt.jobs_of_field('part.v')"
    assert people.execute(jobs).fetchall() == [("part", "v")]
    mover.execute("CALL fieldcrypt.reencrypt_field('part.v')")
    assert not people.value(pending)
    assert app.execute("SELECT id FROM part WHERE v = '150'").fetchall() == [(150,)]
    mover.execute("SELECT fieldcrypt.alter_field('part.v', normalizer => 'casefold')")
    people.execute("DROP TABLE part")
    assert people.value(pending)
    mover.execute("CALL fieldcrypt.reencrypt_field('part.v')")
    assert not people.value(pending)
    mover.execute("SELECT fieldcrypt.alter_field('part.v', normalizer => 'digits')")
    assert not people.value(pending)
    with refused("42704"):
        mover.execute("CALL fieldcrypt.reencrypt_field('none')")


OBSTACLES = {
    "unique index": ("CREATE UNIQUE INDEX ON other (v)", "is unique"),
    "primary key": ("ALTER TABLE other ADD PRIMARY KEY (v)", "is unique"),
    "unique tokens": (
        "CREATE UNIQUE INDEX ON other (fieldcrypt.token(v, 'account'))",
        "is unique",
    ),
    "unique tokens of a document": (
        "CREATE UNIQUE INDEX ON person (fieldcrypt.token(data, 'other.v', 'account'))",
        "is unique",
    ),
    "exclusion": ("ALTER TABLE other ADD EXCLUDE USING hash (v WITH =)", "is unique"),
    "partition key": (
        "CREATE TABLE h (v fieldcrypt.encrypted_text('other.v')) PARTITION BY HASH (v)",
        "is a partition key",
    ),
    "materialized view": ("CREATE MATERIALIZED VIEW m AS SELECT v FROM other", "materialized"),
    "temporary table": ("CREATE TEMPORARY TABLE t AS SELECT v FROM other", "temporary"),
    "array": ("CREATE TABLE a (v fieldcrypt.encrypted_text('other.v')[])", "array"),
    "domain": (
        "CREATE DOMAIN d AS fieldcrypt.encrypted_text('other.v'); CREATE TABLE a (v d)",
        "domain",
    ),
    "composite type": (
        "CREATE TYPE c AS (v fieldcrypt.encrypted_text('other.v'))",
        "composite type",
    ),
    "rows": ("CREATE TABLE a (rows other[])", "holds rows"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_obstacles(people, mover, app, obstacle):
    people.execute("SELECT fieldcrypt.create_field('other.v', search => '{exact}')")
    people.execute("CREATE TABLE other (v fieldcrypt.encrypted_text('other.v'), w int)")
    people.execute("SELECT fieldcrypt.protect_path('person.data', '{v}', 'other.v')")
    change = "SELECT fieldcrypt.alter_field('other.v', normalizer => 'casefold')"
    definition, finding = OBSTACLES[obstacle]
    people.execute(definition)
    errors = "SELECT finding FROM fieldcrypt.plan_alter_field('other.v') WHERE severity = 'error'"
    assert any(finding in text for (text,) in mover.execute(errors))
    for policy in change, "SELECT fieldcrypt.alter_field('other.v', search => '{}')":
        with refused("55000", finding):
            mover.execute(policy)
    # what changes no token is not in the way
    mover.execute("SELECT fieldcrypt.alter_field('other.v', padding => '32', mask => 'last4')")


def test_foreign_keys_and_what_cannot_have_tokens(people, mover):
    people.execute("""
        SELECT fieldcrypt.create_field('other.v', search => '{exact}');
        CREATE TABLE a (v fieldcrypt.encrypted_text('other.v') UNIQUE);
        CREATE TABLE b (v fieldcrypt.encrypted_text('other.v') REFERENCES a (v));
        SELECT fieldcrypt.create_field('amount.v');
        CREATE TABLE c (v fieldcrypt.encrypted_numeric('amount.v'));
        SELECT fieldcrypt.create_field('kept.v', search => '{exact}', store => 'token');
        SELECT fieldcrypt.create_field('wide.v', search => '{exact}', scope => 'database');
    """)
    errors = "SELECT subject FROM fieldcrypt.plan_alter_field('other.v') WHERE severity = 'error'"
    assert {"index a_v_key", "foreign key b_v_fkey of b"} <= {
        subject.replace("public.", "") for (subject,) in mover.execute(errors)
    }
    alter = "SELECT fieldcrypt.alter_field(%s, {})"
    with refused("55000", "not searched"):
        mover.execute(alter.format("search => '{exact}'"), ["amount.v"])
    with refused("55000", "kept as tokens only"):
        mover.execute(alter.format("normalizer => 'digits'"), ["kept.v"])
    with refused("22023", "search"):
        mover.execute(alter.format("search => '{}'"), ["wide.v"])
    with refused("22023", "search"):
        mover.execute(alter.format("search => '{prefix}'"), ["amount.v"])
    with refused("22023", "normalizer"):
        mover.execute(alter.format("normalizer => 'rot13'"), ["other.v"])
    # while values are still to follow, none is made unique
    mover.execute(SEARCH_ON)
    with refused("0A000", "cannot be unique", "reencrypt_field"):
        people.execute("CREATE UNIQUE INDEX ON person (code)")
    mover.execute(FIELD)
    people.execute("CREATE UNIQUE INDEX ON person (code)")


def test_unique_tokens(people, mover, app):
    """For constraints only: they can be made once every value has one."""
    mover.execute("SELECT fieldcrypt.alter_field('person.code', search => '{unique}')")
    mover.execute(FIELD)
    people.execute("CREATE UNIQUE INDEX ON person (code)")
    with refused("23505"):
        app.execute("INSERT INTO person VALUES (1000, 'acme', 1, 'a-2')")
    with refused("0A000", hint="constraints only"):
        app.execute(BY_COLUMN, ["a-2"])


def test_rights_and_audit(people, mover, app):
    with refused("42501"):
        app.execute(SEARCH_ON)
    with people.connect("keeper") as keeper:
        for call in (
            SEARCH_ON,
            FIELD,
            "SELECT fieldcrypt.plan_alter_field('person.code')",
            "SELECT fieldcrypt.complete_backfill('person.code')",
        ):
            with refused("42501"):
                keeper.execute(call)
    mover.execute(SEARCH_ON)
    people.execute("SELECT fieldcrypt.revoke_access('keeper', '{encrypt}', '*', '*')")
    with refused("42501", "encrypt field"):
        mover.execute(FIELD)
    assert not searches(people)
    assert mover.execute("SELECT fieldcrypt.complete_backfill('person.code')").fetchone() == (
        False,
    )
    people.execute("SELECT fieldcrypt.grant_access('keeper', '{encrypt}', '*', '*')")
    mover.execute(FIELD)
    people.execute("SELECT fieldcrypt.flush_audit()")
    audited = people.execute(
        "SELECT action, outcome, field, detail FROM fieldcrypt.audit"
        " WHERE field = 'person.code' AND action <> 'create_field' ORDER BY seq"
    ).fetchall()
    assert ("alter_field", "done", "person.code", "search {exact}") in audited
    assert ("complete_backfill", "done", "person.code", None) in audited
    assert people.value("SELECT count(*) FROM fieldcrypt.audit WHERE action = 'decrypt'") == 0


def test_kill_nine(make_cluster):
    """Search stays refused, the procedure called again goes on, and then all are found."""
    cluster = make_cluster()
    cluster.create_roles("app", *ROLES)
    db = Database(cluster)
    db.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT fieldcrypt.create_account('acme');
        SELECT fieldcrypt.create_account('globex');
    """)
    db.execute(SCHEMA)
    fill(db, 800)
    db.execute(SEARCH_ON)
    for target in CODE, DATA:
        kill_in_the_middle(db, FIELD, target)
        assert state(db, target)[:2] == ("running", "backfill") and not searches(db)
        with db.connect("app", options="-c fieldcrypt.account=acme") as app:
            refuses_to_search(app)
    with db.connect("mover") as mover:
        mover.execute(FIELD)
    assert searches(db)
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        for number in range(2, 801, 2):
            assert found(app, f"a-{number}") == [number]
    db.conn.close()
