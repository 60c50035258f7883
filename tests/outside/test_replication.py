"""Standbys decrypt and obey; logical replication carries ciphertext only."""

import time
from pathlib import Path

import pytest
from expect import refused, values_found
from harness import VERSION, Database

CANARY = "canary-52e8d9"

pytestmark = pytest.mark.every_version


def wait_until(connection, query, seconds=30):
    """Waits until a query gives true."""
    deadline = time.monotonic() + seconds
    while not connection.execute(query).fetchone()[0]:
        assert time.monotonic() < deadline, f"never true: {query}"
        time.sleep(0.02)


def test_standby(leads, app):
    """A standby decrypts and searches, and learns of revoked grants and disabled accounts."""
    primary = leads.cluster
    app.execute("INSERT INTO lead (ssn) SELECT i::text FROM generate_series(1, 100) AS i")
    standby = primary.standby()
    try:
        standby.start()
        standby.catch_up(primary)
        with standby.connect("app", leads.name, options="-c fieldcrypt.account=acme") as reader:
            reader.execute("SET plan_cache_mode = force_generic_plan")
            reader.execute("SET enable_seqscan = off")
            assert "Index Scan" in str(
                reader.execute("EXPLAIN SELECT FROM lead WHERE ssn = '42'").fetchall()
            )
            assert values_found(reader, "42") == ["42"]
            everything = "SELECT fieldcrypt.decrypt(ssn)::int FROM lead ORDER BY 1"
            assert reader.execute(everything).fetchall() == [(i,) for i in range(1, 101)]

            # What is new on the primary reaches the session that is open.
            app.execute("INSERT INTO lead (ssn) VALUES ('4711')")
            leads.execute("SELECT fieldcrypt.create_account('new')")
            leads.execute(
                "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'new', '*')"
            )
            app.execute(
                "INSERT INTO lead (account_id, ssn)"
                " VALUES ('new', fieldcrypt.encrypt('4712', 'lead.ssn', 'new'))"
            )
            standby.catch_up(primary)
            assert values_found(reader, "4711") == ["4711"]
            reader.execute("SET fieldcrypt.account = 'new'")
            assert values_found(reader, "4712") == ["4712"]
            reader.execute("SET fieldcrypt.account = 'acme'")

            one = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 7"
            revealed = "SELECT fieldcrypt.reveal(ssn) FROM lead WHERE id = 7"
            for change, undo, code in (
                (
                    "SELECT fieldcrypt.revoke_access('app', '{decrypt}', 'acme', 'lead.*')",
                    "SELECT fieldcrypt.grant_access('app', '{decrypt}', 'acme', 'lead.*')",
                    "42501",
                ),
                (
                    "SELECT fieldcrypt.disable_account('acme')",
                    "SELECT fieldcrypt.enable_account('acme')",
                    "55000",
                ),
            ):
                assert reader.execute(one, prepare=True).fetchone() == ("7",)
                leads.execute(change)
                standby.catch_up(primary)
                with refused(code):
                    reader.execute(one, prepare=True)
                assert reader.execute(revealed, prepare=True).fetchone() == ("********",)
                leads.execute(undo)
                standby.catch_up(primary)
            assert reader.execute(one, prepare=True).fetchone() == ("7",)
            with refused("25006", "read-only transaction"):
                reader.execute("INSERT INTO lead (ssn) VALUES ('1')")
            with refused("25006", "during recovery"):
                standby.connect(dbname=leads.name).execute("SELECT fieldcrypt.create_account('x')")

            standby.promote()
            reader.execute("INSERT INTO lead (id, ssn) VALUES (-1, '4713')")
            assert values_found(reader, "4713") == ["4713"]
        with standby.connect(dbname=leads.name) as connection:
            connection.execute("SELECT fieldcrypt.create_account('after')")
    finally:
        standby.remove()


def test_standby_without_keys(leads, app):
    """A standby that has no keyring replays, and says what it lacks."""
    app.execute("INSERT INTO lead (ssn) VALUES ('42')")
    standby = leads.cluster.standby({"fieldcrypt.keyring_file": None})
    try:
        standby.start()
        standby.catch_up(leads.cluster)
        with standby.connect("app", leads.name, options="-c fieldcrypt.account=acme") as reader:
            with refused("F0000", "keyring_file is not set"):
                reader.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
            copied = reader.execute("SELECT ssn FROM lead").fetchall()
        assert copied == leads.execute("SELECT ssn FROM lead").fetchall()
    finally:
        standby.remove()


@pytest.fixture
def subscriber(make_cluster):
    """Another server, without keys, with the extension and the fields' tables, but no accounts."""
    database = Database(make_cluster({"fieldcrypt.keyring_file": None}))
    database.cluster.create_roles("app")
    database.execute("CREATE EXTENSION fieldcrypt")
    yield database


TABLES = """
    CREATE TABLE lead (
        id int PRIMARY KEY,
        ssn fieldcrypt.encrypted_text('lead.ssn'),
        note fieldcrypt.encrypted_text('note'));
    -- whole rows identify each other: without a token that is by the bytes
    CREATE TABLE visit (
        ssn fieldcrypt.encrypted_text('lead.ssn'),
        note fieldcrypt.encrypted_text('note'),
        seen int);
    ALTER TABLE visit REPLICA IDENTITY FULL;
    CREATE TABLE person (ssn fieldcrypt.encrypted_text('lead.ssn') PRIMARY KEY, name text);
    GRANT ALL ON lead, visit, person TO app;
"""

TABLE_NAMES = ("lead", "visit", "person")


@pytest.mark.parametrize("binary", ["false", "true"])
def test_logical_replication(db, subscriber, binary):
    """The subscriber holds the publisher's envelopes byte for byte and can open none of them."""
    db.execute("SELECT fieldcrypt.create_field('note')")
    db.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', 'note')")
    db.execute(TABLES)
    subscriber.execute(TABLES)
    subscriber.execute("CREATE UNIQUE INDEX ON lead (ssn)")
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute(
            "INSERT INTO lead SELECT i, i::text, 'note ' || i FROM generate_series(1, 50) AS i;"
            "INSERT INTO visit SELECT ssn, note, id FROM lead;"
            "INSERT INTO person SELECT ssn, 'name' FROM lead"
        )
        db.execute("CREATE PUBLICATION all_of_it FOR TABLE lead, visit, person")
        source = db.cluster
        subscriber.execute(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={source.dir} port={source.port}"
            f" user=postgres dbname={db.name}' PUBLICATION all_of_it"
            f" WITH (binary = {binary}, slot_name = 'slot_{db.name}')"
        )
        try:
            wait_until(
                subscriber,
                "SELECT count(*) = 3 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel",
            )
            assert_same(db, subscriber)

            app.execute(
                "INSERT INTO lead VALUES (51, '51', 'note 51');"
                "UPDATE lead SET ssn = '777' WHERE id = 7;"
                "UPDATE lead SET note = NULL WHERE ssn = '8';"
                "DELETE FROM lead WHERE ssn = '9';"
                "UPDATE visit SET seen = -1 WHERE ssn = '10';"
                "UPDATE visit SET ssn = '1111' WHERE ssn = '11';"
                "UPDATE visit SET note = 'changed' WHERE ssn = '12';"
                "DELETE FROM visit WHERE ssn = '13';"
                "UPDATE person SET name = 'other' WHERE ssn = '14';"
                "UPDATE person SET ssn = '1515' WHERE ssn = '15';"
                "DELETE FROM person WHERE ssn = '16'"
            )
            with app.cursor().copy("COPY lead FROM STDIN") as stream:
                stream.write("52\t52\tnote 52\n")
            caught_up(db, subscriber)
            assert_same(db, subscriber)

            with subscriber.connect("app", options="-c fieldcrypt.account=acme") as reader:
                with refused("42704", "key .* does not exist", hint="another database"):
                    reader.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
                joined = "SELECT count(*) FROM lead JOIN visit USING (ssn)"
                assert reader.execute(joined).fetchone() == app.execute(joined).fetchone()
        finally:
            drop_subscription(db, subscriber)


def drop_subscription(db, subscriber):
    subscriber.execute("ALTER SUBSCRIPTION s DISABLE")
    subscriber.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
    subscriber.execute("DROP SUBSCRIPTION s")
    wait_until(
        db,
        f"SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'slot_{db.name}'",
    )
    db.execute(f"SELECT pg_drop_replication_slot('slot_{db.name}')")


def caught_up(db, subscriber):
    target = db.value("SELECT pg_current_wal_insert_lsn()")
    # A subscription reports the last commit that it has applied.
    wait_until(
        db,
        f"SELECT confirmed_flush_lsn >= '{target}' FROM pg_replication_slots"
        f" WHERE slot_name = 'slot_{db.name}'",
    )


def assert_same(db, subscriber):
    for table in TABLE_NAMES:
        query = f"SELECT v::text FROM {table} AS v ORDER BY 1"
        assert subscriber.execute(query).fetchall() == db.execute(query).fetchall(), table


@pytest.mark.skipif(VERSION < 16, reason="subscriptions were superusers' before 16")
def test_logical_replication_applied_as_the_table_owner(db, subscriber):
    """An apply worker may put envelopes in, whoever owns subscription and table."""
    db.execute(TABLES + "CREATE PUBLICATION persons FOR TABLE person")
    subscriber.execute(TABLES)
    subscriber.execute("ALTER TABLE person OWNER TO app; GRANT pg_create_subscription TO app")
    subscriber.execute(f"GRANT CREATE ON DATABASE {subscriber.name} TO app")
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute("INSERT INTO person VALUES ('1', 'one')")
        subscriber.execute(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={db.cluster.dir} port={db.cluster.port}"
            f" user=postgres dbname={db.name}' PUBLICATION persons"
            f" WITH (slot_name = 'slot_{db.name}', password_required = false, enabled = false,"
            f" connect = false)"
        )
        db.execute(f"SELECT pg_create_logical_replication_slot('slot_{db.name}', 'pgoutput')")
        subscriber.execute("ALTER SUBSCRIPTION s OWNER TO app")
        try:
            subscriber.execute("ALTER SUBSCRIPTION s ENABLE")
            subscriber.execute("ALTER SUBSCRIPTION s REFRESH PUBLICATION")
            wait_until(subscriber, "SELECT count(*) = 1 FROM person")
            app.execute("INSERT INTO person VALUES ('2', 'two')")
            wait_until(subscriber, "SELECT count(*) = 2 FROM person")
        finally:
            drop_subscription(db, subscriber)


def test_threat_b5_logical_decoding_shows_ciphertext(db):
    """What a slot gives out holds no plain value, old keys of REPLICA IDENTITY FULL included."""
    db.execute("SELECT fieldcrypt.create_field('note')")
    db.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', 'note')")
    db.execute(TABLES)
    slot = f"slot_{db.name}"
    db.execute("CREATE PUBLICATION visits FOR TABLE visit")
    # not every build has the plugin that shows text
    library = db.cluster.run("pg_config", "--pkglibdir").stdout.strip()
    if Path(library, "test_decoding.so").exists():
        plugin, options, old_key = "test_decoding", {}, "old-key:"
    else:
        options = {"proto_version": "1", "publication_names": "visits"}
        plugin, old_key = "pgoutput", "O"
    db.execute("SELECT pg_create_logical_replication_slot(%s, %s)", [slot, plugin])
    try:
        with db.connect("app", options="-c fieldcrypt.account=acme") as app:
            app.execute(
                f"INSERT INTO visit VALUES ('{CANARY} 1', '{CANARY}', 1);"
                f"UPDATE visit SET ssn = '{CANARY} 2', note = '{CANARY} {CANARY}';"
                f"DELETE FROM visit WHERE ssn = '{CANARY} 2'"
            )
        pairs = "".join(f", '{name}', '{value}'" for name, value in options.items())
        changes = db.value(
            "SELECT string_agg(encode(data, 'escape'), E'\\n')"
            f" FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL{pairs})",
            [slot],
        )
        assert old_key in changes and changes.count("fc1:") >= 6
        assert CANARY not in changes
        end = db.value("SELECT pg_current_wal_insert_lsn()")
        output = db.cluster.run(
            *("pg_recvlogical", "-d", db.name, "--slot", slot, "--start", "-f", "-"),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *("--endpos", end, "--no-loop"),
            timeout=30,
            encoding="latin1",
        ).stdout
        assert output.count("fc1:") >= 6 and CANARY not in output
    finally:
        db.execute("SELECT pg_drop_replication_slot(%s)", [slot])
