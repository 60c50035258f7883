"""The ways around encrypted paths that other systems have left open.

The numbers are those of the list of traps that the design was drawn up against: each has a test of
its name. At the end, a search over a million documents, which must not be a way around either.
"""

import json

import psycopg
import pytest
from canaries import Canaries
from expect import envelope_bytes, envelope_text, refused, texts
from harness import Cluster, Database, account_database
from psycopg.types.json import Jsonb

SCHEMA = """
    CREATE TABLE customer (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        kind text,
        data jsonb);
    SELECT fieldcrypt.protect_jsonb('customer', 'data', 'customer.data', 'account_id');
    SELECT fieldcrypt.protect_path('customer.data', '{ssn,cards[*].number}', 'lead.ssn');
    SELECT fieldcrypt.protect_path('customer.data', '{contact.email}', 'lead.email');
    CREATE INDEX ON customer USING gin (fieldcrypt.tokens(data));
    GRANT ALL ON customer TO app, app_globex, outsider, writer;
    SELECT fieldcrypt.grant_access('writer', '{encrypt}', 'acme', 'lead.*');
"""

SSN = "123-45-6789"
DOCUMENT = {"name": "Ann", "ssn": SSN, "contact": {"email": "ann@example.com"}, "cards": []}


@pytest.fixture
def customers(db):
    """A fresh database with a protected table of customers."""
    db.cluster.create_roles("writer")
    db.execute(SCHEMA)
    return db


@pytest.fixture
def session(customers):
    """Opens connections to it: session("writer")."""
    opened = []

    def open_session(user="app"):
        opened.append(customers.connect(user, prepare_threshold=None))
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def app(session):
    return session()


def insert(connection, document, number=1, account="acme"):
    connection.execute(
        "INSERT INTO customer (id, account_id, data) VALUES (%s, %s, %s)",
        [number, account, Jsonb(document)],
    )


def stored(connection, number=1):
    query = "SELECT data FROM customer WHERE id = %s"
    return connection.execute(query, [number]).fetchone()[0]


def decrypted(connection, number=1):
    query = "SELECT fieldcrypt.decrypt(data) FROM customer WHERE id = %s"
    return connection.execute(query, [number]).fetchone()[0]


def documents_with(text):
    """A text at every kind of place."""
    yield {"ssn": text}
    yield {"contact": {"email": text}}
    yield {"cards": [{"number": "1"}, {"number": text}]}
    yield {"cards": text}
    yield {"ssn": {"in": ["an", {"object": text}]}}
    yield {"name": text}
    yield {"contact": {"list": [1, [text]]}}
    yield [text]
    yield text


LOOK_ALIKES = ["fc1:", "fc1:AAAA", "fc1:not base64", "fc2:AAAA", "fc999:", "fc1:\n", "fc10:fc1:"]


@pytest.mark.parametrize("user", ["app", "writer", "outsider"])
def test_trap_13_is_it_encrypted_by_prefix(customers, app, session, user):
    """What reads as an envelope is neither taken for one nor stored as a value: not a look-alike,
    not a copy of another row's, another account's or a typed column's value."""
    insert(app, DOCUMENT)
    insert(session("app_globex"), DOCUMENT, number=2, account="globex")
    typed = app.execute("SELECT fieldcrypt.encrypt(%s, 'lead.ssn', 'acme')::text", [SSN])
    copied = [stored(app)["ssn"], stored(app, 2)["ssn"], typed.fetchone()[0]]
    connection = session(user)
    insert(connection, {"name": "Bea"}, number=3)
    for text in [*copied, *LOOK_ALIKES]:
        for document in documents_with(text):
            with refused("42501") as caught:
                insert(connection, document, number=4)
            assert text not in texts(caught.value)
            with refused("42501"):
                connection.execute("UPDATE customer SET data = %s WHERE id = 3", [Jsonb(document)])
            with refused("42501"):
                connection.execute(
                    "UPDATE customer SET data = data || %s WHERE id = 3", [Jsonb([text])]
                )
        with refused("42501"):
            with connection.cursor().copy("COPY customer (id, data) FROM STDIN") as copy:
                copy.write_row([4, json.dumps({"ssn": text})])
    assert stored(connection, 3) == {"name": "Bea"}
    assert customers.value("SELECT count(*) FROM customer") == 3


def test_trap_13_what_is_no_envelope_is_a_value(app):
    """The form is reserved, and nothing else is."""
    texts_ = ["fc1", "FC1:AAAA", " fc1:", "fc1 :AAAA", "fc0:", "fc:", "fcx:AAAA", "tink:v1:AAAA"]
    document = {"cards": [{"number": text} for text in texts_], "names": texts_, "fc1:key": 1}
    insert(app, document)
    assert decrypted(app) == document
    assert all(card["number"].startswith("fc1:") for card in stored(app)["cards"])
    assert stored(app)["names"] == texts_


def test_trap_13_envelopes_from_a_restore_are_checked(customers, app, session):
    """Who may put envelopes in still cannot put them where they do not belong."""
    insert(app, DOCUMENT)
    insert(session("app_globex"), DOCUMENT, number=2, account="globex")
    mine, theirs = stored(app), stored(app, 2)
    for document, code in (
        ({"ssn": "fc1:"}, "22P02"),
        ({"ssn": "fc1:AAAA"}, "22P02"),
        ({"ssn": mine["ssn"][:40]}, "22P02"),
        ({"ssn": "fc2:AAAA"}, "22P02"),
        ({"ssn": {"in": mine["ssn"]}}, "42501"),
        ({"ssn": theirs["ssn"]}, "23514"),
    ):
        with refused(code):
            insert(customers, document, number=3)
    # a forged one goes in, as it would into a column, and opens for nobody
    forged = bytearray(envelope_bytes(mine["ssn"]))
    forged[-1] ^= 1
    insert(customers, {"ssn": envelope_text(forged)}, number=3)
    with refused("XX001"):
        decrypted(app, 3)
    # one of another field may be what the path had before: it opens under its own field's rights
    email = mine["contact"]["email"]
    insert(customers, {"ssn": email}, number=6)
    customers.execute("SELECT fieldcrypt.grant_access('writer', '{mask}', 'acme', 'lead.email')")
    assert decrypted(app, 6) == {"ssn": "ann@example.com"}
    query = "SELECT fieldcrypt.reveal(data) FROM customer WHERE id = 6"
    assert session("writer").execute(query).fetchone()[0] == {"ssn": "a****@example.com"}
    # what is plain is encrypted, also on its way through a restore; what is encrypted is not again
    insert(customers, mine, number=4)
    assert stored(app, 4) == mine and decrypted(app, 4) == DOCUMENT
    with refused("42501", "permission denied to encrypt"):
        insert(customers, DOCUMENT, number=5)


def test_trap_13_a_key_that_is_missing_is_an_error(customers, app):
    """Never taken for plain, and encrypted again."""
    insert(app, DOCUMENT)
    before = stored(app)
    customers.execute("SELECT fieldcrypt.disable_account('acme')")
    customers.execute("UPDATE customer SET data = data || '{\"x\": 1}'")
    assert stored(app) == {**before, "x": 1}
    for statement in (
        "SELECT fieldcrypt.decrypt(data) FROM customer",
        "UPDATE customer SET data = '{\"ssn\": 1}'",
    ):
        with refused("55000"):
            app.execute(statement)
    customers.execute("SELECT fieldcrypt.enable_account('acme')")
    assert decrypted(app) == {**DOCUMENT, "x": 1}


# @1 and @2 are canaries.
WRITES = [
    """INSERT INTO customer (id, data)
       VALUES (1, '{"ssn": "@1", "contact": {"email": "@2"}}')""",
    """INSERT INTO customer (id, data)
       VALUES (2, '{"cards": [{"number": "@1"}, {"number": "@2"}]}') RETURNING data""",
    """INSERT INTO customer (id, data) SELECT i, jsonb_build_object('ssn', '@1 ' || i)
       FROM generate_series(100, 400) AS i""",
    """INSERT INTO customer (id, data)
       VALUES (3, jsonb_build_object('ssn', jsonb_build_array('@1', repeat('@2', 5000))))""",
    """INSERT INTO customer (id, data) SELECT 4,
       jsonb_build_object('cards', jsonb_agg(jsonb_build_object('number', '@1 ' || i)))
       FROM generate_series(1, 2000) AS i""",
    """INSERT INTO customer (id, data) VALUES (1, '{"ssn": "@1"}')
       ON CONFLICT (id) DO UPDATE SET data = customer.data || excluded.data""",
    """INSERT INTO customer (id, data) VALUES (1, '{"ssn": "@1"}')
       ON CONFLICT (id) DO NOTHING""",
    """UPDATE customer SET data = data || '{"ssn": "@1"}' WHERE id < 200""",
    """UPDATE customer SET data = jsonb_set(data, '{contact}', '{"email": "@1"}')
       WHERE id = 2""",
    """UPDATE customer SET data['ssn'] = '{"in": "@1"}' WHERE id = 2""",
    """MERGE INTO customer AS c USING (VALUES (1, '@1'), (5, '@2')) AS new (id, ssn)
       ON c.id = new.id
       WHEN MATCHED THEN UPDATE SET data = jsonb_build_object('ssn', new.ssn)
       WHEN NOT MATCHED THEN
           INSERT (id, data) VALUES (new.id, jsonb_build_object('ssn', new.ssn))""",
    """BEGIN; UPDATE customer SET data = data || '{"ssn": "@1"}'; ROLLBACK""",
    """SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', '@1', 'acme')""",
    """DELETE FROM customer WHERE id = 100""",
]

FAILURES = [
    """INSERT INTO customer (id, data) VALUES (1, '{"ssn": "@1"}')""",
    """INSERT INTO customer (id, data) VALUES (NULL, '{"ssn": "@1"}')""",
    """INSERT INTO customer (id, kind, data) VALUES (9, 'forbidden', '{"ssn": "@1"}')""",
    """INSERT INTO customer (id, account_id, data) VALUES (9, 'globex', '{"ssn": "@1"}')""",
    """INSERT INTO customer (id, data) VALUES (9, '{"ssn": "fc1:@1"}')""",
    """UPDATE customer SET data = '{"ssn": "@1"}', id = 7 WHERE id IN (200, 201)""",
    """UPDATE customer SET data = data || '{"ssn": "@1"}', account_id = 'globex'""",
]

COPIES = [
    ("", '6\t{"ssn": "@1"}\n'),
    ("(FORMAT csv, QUOTE '''')", '7,\'{"ssn": "@1"}\'\n'),
]


CANARIES, CONTROLS = Canaries(), Canaries()


def with_canaries(statement):
    return statement.replace("@1", CANARIES.new()).replace("@2", CANARIES.new())


def test_trap_21_plaintext_first_write():
    """Nothing plain is ever written: to heap, TOAST, indexes, statistics or WAL."""
    with (
        Cluster({"wal_compression": "off", "wal_keep_size": "1GB"}) as own,
        account_database(own) as db,
    ):
        own.create_roles("writer")
        db.execute(SCHEMA)
        db.execute("""
            ALTER TABLE customer ADD CHECK (kind <> 'forbidden');
            ALTER TABLE customer REPLICA IDENTITY FULL;
            CREATE STATISTICS customer_statistics (mcv) ON data, kind FROM customer;
            CREATE INDEX ON customer USING hash (data);
            CREATE TABLE plain (value text);
        """)
        with db.connect("app") as app:
            for statement in WRITES:
                app.execute(with_canaries(statement))
            for statement in FAILURES:
                with pytest.raises(psycopg.Error) as caught:
                    app.execute(with_canaries(statement))
                assert not CANARIES.found(texts(caught.value)), statement
            for options, line in COPIES:
                with app.cursor().copy(f"COPY customer (id, data) FROM STDIN {options}") as copy:
                    copy.write(with_canaries(line))
            with app.cursor().copy("COPY customer (id, data) FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", "jsonb"])
                copy.write_row([8, Jsonb({"contact": {"email": CANARIES.new()}})])
            # all of them were canaries, and none of them is lost
            values = app.execute("SELECT fieldcrypt.decrypt(data)::text FROM customer").fetchall()
            assert len(values) > 300 and all(CANARIES.found(value) for (value,) in values)
        # more than one: the header of a page of the WAL may be in the middle of any
        for _ in range(3):
            db.execute("INSERT INTO plain VALUES (%s)", [CONTROLS.new()])
        for statement in "ANALYZE", "VACUUM", "CHECKPOINT":
            db.execute(statement)
        found = CONTROLS.in_files(own.data_dir)
        assert {path.split("/")[0] for path in found} == {"base", "pg_wal"}
        assert CANARIES.in_files(own.data_dir) == {}
        dumped = own.run("pg_dump", "-d", db.name).stdout
        assert CONTROLS.found(dumped) and not CANARIES.found(dumped)


def add_trigger(database, name, when, body):
    """A trigger of the application's own."""
    database.execute(f"""
        CREATE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN {body}; RETURN NEW; END$$;
        CREATE TRIGGER "{name}" {when} ON customer FOR EACH ROW EXECUTE FUNCTION "{name}"();
    """)


PUT_PLAIN = "NEW.data := NEW.data || jsonb_build_object('ssn', '123-45-6789')"


def test_trap_22_update_of_and_trigger_order(customers, app):
    """The trigger fires on every UPDATE, whatever its columns, and first by name; what a later
    trigger puts in plain is caught by the CHECK, which shows no row."""
    insert(app, {"name": "Ann"})
    name, columns, position = customers.execute("""
        SELECT tgname, tgattr::text, row_number() OVER (ORDER BY tgname)
        FROM pg_trigger WHERE tgrelid = 'customer'::regclass AND NOT tgisinternal
    """).fetchone()
    assert (name, columns, position) == ("000_fieldcrypt_data", "", 1)

    # a trigger that runs before: what it puts in is sealed, also where data is not in the UPDATE
    add_trigger(customers, "000_before", "BEFORE INSERT OR UPDATE OF kind", PUT_PLAIN)
    app.execute("UPDATE customer SET kind = 'x'")
    insert(app, {"name": "Bea"}, number=2)
    for number in 1, 2:
        assert stored(app, number)["ssn"].startswith("fc1:")
        assert decrypted(app, number)["ssn"] == SSN
    customers.execute('DROP TRIGGER "000_before" ON customer')

    # one that runs after: whatever it does to flagged paths is refused
    add_trigger(customers, "zzz_after", "BEFORE INSERT OR UPDATE", PUT_PLAIN)
    before = stored(app)
    for statement in (
        "UPDATE customer SET kind = 'y'",
        "UPDATE customer SET data = '{}'",
        "INSERT INTO customer (id, data) VALUES (3, '{}')",
        "INSERT INTO customer (id, data) VALUES (1, '{}') ON CONFLICT (id) DO UPDATE SET kind = ''",
    ):
        with refused("23514", "ssn") as caught:
            app.execute(statement)
        assert SSN not in texts(caught.value) and "Failing row" not in texts(caught.value)
    assert stored(app) == before
    customers.execute("""
        CREATE OR REPLACE FUNCTION zzz_after() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN NEW.data := NEW.data || '{"seen": true}'; RETURN NEW; END$$
    """)
    app.execute("UPDATE customer SET kind = 'z' WHERE id = 1")
    assert stored(app) == {**before, "seen": True}

    # AFTER triggers see what is stored
    customers.execute("CREATE TABLE history (data jsonb); GRANT ALL ON history TO app")
    add_trigger(
        customers, "keep", "AFTER INSERT OR UPDATE", "INSERT INTO history VALUES (NEW.data)"
    )
    insert(app, DOCUMENT, number=4)
    assert app.execute("SELECT data FROM history").fetchall() == [(stored(app, 4),)]


@pytest.mark.parametrize(
    "switch_off",
    [
        "ALTER TABLE customer DISABLE TRIGGER ALL",
        'ALTER TABLE customer DISABLE TRIGGER "000_fieldcrypt_data"',
        'DROP TRIGGER "000_fieldcrypt_data" ON customer',
        'ALTER TABLE customer ENABLE REPLICA TRIGGER "000_fieldcrypt_data"',
    ],
)
def test_trap_22_without_the_trigger(customers, app, switch_off):
    """The CHECK alone: plain values at flagged paths are refused, encrypted ones go in."""
    insert(app, DOCUMENT)
    before = stored(app)
    customers.execute(switch_off)
    for document in (
        {"ssn": SSN},
        {"ssn": 123456789},
        {"ssn": True},
        {"ssn": [SSN]},
        {"ssn": "fc1:"},
        {"cards": [{"number": SSN}]},
        {"cards": {"number": SSN}},
        [{"ssn": SSN}],
    ):
        with refused("23514") as caught:
            insert(app, document, number=2)
        assert SSN not in texts(caught.value) and "Failing row" not in texts(caught.value)
        with refused("23514"):
            app.execute("UPDATE customer SET data = %s", [Jsonb(document)])
    insert(app, before, number=2)
    insert(app, {"ssn": None, "name": "no flagged value"}, number=3)
    app.execute("UPDATE customer SET data = data || '{\"x\": 1}' WHERE id = 1")
    assert stored(app) == {**before, "x": 1}


def test_trap_22_rows_from_before_the_protection(customers, app, session):
    """Flagging does not touch them; the next UPDATE of a row, of whatever column, seals them."""
    insert(app, {"name": "Ann", "plan": "gold"})
    insert(app, {"name": "Bea"}, number=2)
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{plan}', 'lead.email')")
    assert stored(app) == {"name": "Ann", "plan": "gold"}
    assert decrypted(app) == {"name": "Ann", "plan": "gold"}
    with refused("42501", "permission denied to encrypt"):
        session("outsider").execute("UPDATE customer SET kind = 'x'")
    session("outsider").execute("UPDATE customer SET kind = 'x' WHERE id = 2")
    app.execute("UPDATE customer SET kind = 'x' WHERE id = 1")
    assert stored(app)["plan"].startswith("fc1:")
    assert decrypted(app) == {"name": "Ann", "plan": "gold"}


UPSERT = "INSERT INTO customer (id, data) VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET data = "


@pytest.mark.parametrize("user", ["app", "writer"])
def test_trap_23_on_conflict_excluded(customers, app, session, user):
    """EXCLUDED holds what the trigger has sealed already: it is sealed once."""
    connection = session(user)
    for number, (new, expected) in enumerate(
        {
            "excluded.data": lambda i: {"ssn": f"{i}", "cards": [{"number": f"1{i}"}]},
            "customer.data || excluded.data": lambda i: {
                **DOCUMENT,
                "ssn": f"{i}",
                "cards": [{"number": f"1{i}"}],
            },
            "jsonb_set(customer.data, '{ssn}', excluded.data -> 'ssn')": lambda i: {
                **DOCUMENT,
                "ssn": f"{i}",
            },
            "jsonb_set(excluded.data, '{ssn}', customer.data -> 'ssn')": lambda i: {
                "ssn": SSN,
                "cards": [{"number": f"1{i}"}],
            },
            'excluded.data || \'{"ssn": "777"}\'': lambda i: {
                "ssn": "777",
                "cards": [{"number": f"1{i}"}],
            },
        }.items()
    ):
        customers.execute("DELETE FROM customer")
        insert(app, DOCUMENT)
        document = {"ssn": f"{number}", "cards": [{"number": f"1{number}"}]}
        connection.execute(UPSERT + new, [Jsonb(document)])
        assert decrypted(app) == expected(number), new
        connection.execute(UPSERT + new, [Jsonb(document)])
        assert decrypted(app)["ssn"] == expected(number)["ssn"], new
        assert SSN not in json.dumps(stored(app))


def test_trap_23_many_rows_in_one_statement(app, session):
    """What one statement has sealed stays known until its end, however much it is."""
    writer = session("writer")
    upsert = """
        INSERT INTO customer (id, data)
        SELECT i, jsonb_build_object('ssn', i::text, 'cards',
            jsonb_build_array(jsonb_build_object('number', i::text)))
        FROM generate_series(1, 30000) AS i
        ON CONFLICT (id) DO UPDATE SET data = excluded.data
    """
    for _ in range(2):
        writer.execute(upsert)
    differing = """
        SELECT count(*) FROM customer WHERE fieldcrypt.decrypt(data, 'ssn') <> to_jsonb(id::text)
            OR fieldcrypt.decrypt(data, 'cards[*].number') <> jsonb_build_array(id::text)
    """
    assert app.execute(differing).fetchone() == (0,)


def test_trap_23_only_in_the_statement_that_made_it(customers, app, session):
    """An envelope of an earlier statement of the session comes from elsewhere."""
    writer = session("writer")
    with writer.transaction(force_rollback=True):
        insert(writer, {"ssn": "1"})
        envelope = stored(writer)
        with refused("42501"):
            insert(writer, envelope, number=2)
    insert(app, {"ssn": "1"})
    app.execute("SELECT fieldcrypt.encrypt('1', 'lead.ssn', 'acme')")
    with refused("42501"):
        app.execute("INSERT INTO customer (id, data) SELECT 2, data FROM customer")
    # in the same one it may go on
    app.execute("""
        WITH new AS (INSERT INTO customer (id, data) VALUES (3, '{"ssn": "3"}') RETURNING data)
        INSERT INTO customer (id, data) SELECT 4, data FROM new
    """)
    assert stored(app, 3) == stored(app, 4) and decrypted(app, 4) == {"ssn": "3"}


def test_trap_23_rows_that_move_lend_nothing(customers, app, session):
    """A row takes its envelopes along to another partition; no other row gets them on the way."""
    customers.execute("""
        CREATE TABLE visit (id int, account_id text DEFAULT 'acme', day date, data jsonb)
            PARTITION BY RANGE (day);
        CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        SELECT fieldcrypt.protect_jsonb('visit', 'data', 'visit.data', 'account_id');
        SELECT fieldcrypt.protect_path('visit.data', '{ssn}', 'lead.ssn');
        GRANT ALL ON visit TO app, writer;
    """)
    app.execute("""
        INSERT INTO visit (id, day, data)
        VALUES (1, '2026-01-05', '{"ssn": "secret"}'), (2, '2026-01-06', '{"ssn": "mine"}')
    """)
    rows = "SELECT id, day, data FROM visit ORDER BY id"
    before = app.execute(rows).fetchall()
    copy = "INSERT INTO visit (id, day, data) SELECT 3, '2026-01-07', data FROM"
    move = "UPDATE visit SET day = '2026-02-05' WHERE id = 1"
    nowhere = "UPDATE visit SET day = '2030-01-01' WHERE id = 1"
    writer = session("writer")
    for statement in (
        "UPDATE visit SET data = (SELECT data FROM visit WHERE id = 1)",
        f"WITH moved AS (UPDATE visit SET day = day WHERE id = 1 RETURNING data) {copy} moved",
        f"WITH moved AS ({move} RETURNING data) {copy} moved",
        f"{move}; {copy} visit WHERE id = 1",
        f"DO $$BEGIN {move}; {copy} visit WHERE id = 1; END$$",
        f"DO $$BEGIN BEGIN {nowhere}; EXCEPTION WHEN check_violation THEN NULL; END;"
        f" {copy} visit WHERE id = 1; END$$",
    ):
        with refused("42501", "not accepted as input"):
            writer.execute(statement)
        assert app.execute(rows).fetchall() == before, statement
    everything = "SELECT id, data FROM visit ORDER BY id"
    app.execute(
        "INSERT INTO visit (id, day, data) SELECT i, '2026-01-08', jsonb_build_object('ssn', i)"
        " FROM generate_series(4, 2000) AS i"
    )
    before = app.execute(everything).fetchall()
    for statement in (
        move,
        "UPDATE visit SET day = '2026-02-06' WHERE id <> 1",
        "MERGE INTO visit USING generate_series(1, 2000) AS i ON visit.id = i"
        " WHEN MATCHED THEN UPDATE SET day = '2026-01-09'",
    ):
        writer.execute(statement)
        assert app.execute(everything).fetchall() == before


def test_trap_24_session_replication_role_replica(customers, app):
    """Ordinary triggers do not fire there: the CHECK does, and a trigger that is enabled always."""
    insert(app, DOCUMENT)
    sealed = stored(app)
    with customers.connect() as replica:
        replica.execute("SET session_replication_role = replica")
        for user in "postgres", "app":
            replica.execute(f"SET ROLE {user}")
            for statement in (
                'INSERT INTO customer (id, data) VALUES (2, \'{"ssn": "123-45-6789"}\')',
                'UPDATE customer SET data = data || \'{"ssn": "123-45-6789"}\'',
                'INSERT INTO customer (id, data) VALUES (1, \'{"ssn": "123-45-6789"}\')'
                " ON CONFLICT (id) DO UPDATE SET data = excluded.data",
            ):
                with refused("23514", "ssn") as caught:
                    replica.execute(statement)
                assert SSN not in texts(caught.value)
            with refused("23514"):
                with replica.cursor().copy("COPY customer (id, data) FROM STDIN") as copy:
                    copy.write_row([2, json.dumps(DOCUMENT)])
        replica.execute("RESET ROLE")
        insert(replica, sealed, number=2)
        assert stored(app, 2) == sealed

        customers.execute('ALTER TABLE customer ENABLE ALWAYS TRIGGER "000_fieldcrypt_data"')
        replica.execute("SET ROLE app")
        insert(replica, DOCUMENT, number=3)
        replica.execute('UPDATE customer SET data = data || \'{"ssn": "1"}\' WHERE id = 2')
        with refused("42501"):
            insert(replica, sealed, number=4)
        replica.execute("RESET ROLE")
        insert(replica, sealed, number=4)
    assert stored(app, 3)["ssn"].startswith("fc1:") and decrypted(app, 3) == DOCUMENT
    assert decrypted(app, 2) == {**DOCUMENT, "ssn": "1"}
    assert stored(app, 4) == sealed and decrypted(app, 4) == DOCUMENT


@pytest.mark.parametrize("how", [[], ["--disable-triggers"], ["--inserts"]], ids=" ".join)
def test_trap_25_data_only_restore(customers, app, how):
    """The trigger fires again, and lets pass what is encrypted: byte for byte, and decryptable."""
    documents = [{**DOCUMENT, "ssn": str(i), "cards": [{"number": str(i)}]} for i in range(50)]
    for number, document in enumerate(documents):
        insert(app, document, number)
    rows = "SELECT id, data::text FROM customer ORDER BY id"
    before = customers.execute(rows).fetchall()
    dump = ("pg_dump", "-d", customers.name, "-t", "customer", "--data-only")
    data = customers.cluster.run(*dump, *how).stdout
    for _ in range(2):
        customers.execute("TRUNCATE customer")
        customers.psql(data)
        assert customers.execute(rows).fetchall() == before
    assert [decrypted(app, number) for number in range(50)] == documents


def test_trap_25_who_may_restore(customers, app):
    """Members of fieldcrypt_restore; from others the same data is refused."""
    insert(app, DOCUMENT)
    before = stored(app)
    data = customers.cluster.run(
        "pg_dump", "-d", customers.name, "-t", "customer", "--data-only"
    ).stdout
    customers.execute("TRUNCATE customer")
    with pytest.raises(Exception, match="not accepted as input from this role"):
        customers.psql(data, user="writer")
    assert customers.value("SELECT count(*) FROM customer") == 0
    customers.execute("GRANT fieldcrypt_restore TO writer")
    try:
        customers.psql(data, user="writer")
    finally:
        customers.execute("REVOKE fieldcrypt_restore FROM writer")
    assert stored(app) == before and decrypted(app) == DOCUMENT


def test_trap_25_into_a_table_that_is_protected_later(customers, app):
    """Documents that were restored before the flags were: protecting changes nothing in them."""
    insert(app, DOCUMENT)
    target = Database(customers.cluster)
    try:
        for section in "pre-data", "data", "post-data":
            part = customers.cluster.run("pg_dump", "-d", customers.name, f"--section={section}")
            target.psql(part.stdout)
        assert target.execute("SELECT data FROM customer").fetchone() == (stored(app),)
        with target.connect("app") as restored:
            restored.execute("UPDATE customer SET kind = 'x'")
            assert stored(restored) == stored(app) and decrypted(restored) == DOCUMENT
            with refused("23505"):
                insert(restored, DOCUMENT)
            insert(restored, DOCUMENT, number=2)
            assert stored(restored, 2)["ssn"].startswith("fc1:")
    finally:
        target.drop()


def test_search_over_a_million_documents_uses_the_index(customers, app):
    """Equality on a flagged path: a Bitmap Index Scan, and the one document that has the value."""
    customers.execute("DROP INDEX customer_tokens_idx")
    for start in range(1, 1_000_000, 250_000):
        app.execute(
            """
            INSERT INTO customer (id, data)
            SELECT i, jsonb_build_object('name', 'customer ' || i, 'ssn', (1000000000 + i)::text)
            FROM generate_series(%s::int, %s::int) AS i
            """,
            [start, start + 249_999],
        )
    customers.execute(
        "CREATE INDEX customer_tokens ON customer USING gin (fieldcrypt.tokens(data))"
    )
    customers.execute("ANALYZE customer")
    assert customers.value("SELECT count(*) FROM customer") == 1_000_000
    query = "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', %s, 'acme')"
    for mode in "force_custom_plan", "force_generic_plan":
        app.execute(f"SET plan_cache_mode = {mode}")
        plan = "\n".join(line for (line,) in app.execute(f"EXPLAIN {query}", ["1000000007"]))
        assert "Bitmap Index Scan on customer_tokens" in plan and "Seq Scan" not in plan
        for number in 1, 7, 250_000, 250_001, 999_999, 1_000_000:
            found = app.execute(query, [f"{1_000_000_000 + number}"], prepare=True).fetchall()
            assert found == [(number,)]
        assert app.execute(query, ["1"], prepare=True).fetchall() == []
