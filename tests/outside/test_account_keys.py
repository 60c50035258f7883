"""Data keys of accounts: rotation, by hand and when it is due."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from expect import refused, values_found
from harness import account_database, write_keyring

KEYS = (
    "SELECT version, state FROM fieldcrypt.keys WHERE account = 'acme' AND purpose = 'data'"
    " ORDER BY version"
)
SSN = "123-45-6789"


@pytest.fixture
def lead(app):
    app.execute("INSERT INTO lead (ssn, email) VALUES (%s, 'a@example.com')", [SSN])
    return app


def rotate(database, account="acme"):
    return database.execute("SELECT fieldcrypt.rotate_account_key(%s)", [account]).fetchone()[0]


def keys_of(connection):
    """The ids of the keys that the leads are sealed under."""
    rows = connection.execute("SELECT fieldcrypt.key_of(ssn) FROM lead ORDER BY id")
    return [key for (key,) in rows]


def test_rotation(leads, lead):
    """New values are sealed under the new key; old ones open, and are found beside them."""
    (first,) = keys_of(lead)
    lead.execute("PREPARE insert AS INSERT INTO lead (ssn) VALUES ($1)")
    lead.execute(f"EXECUTE insert ('{SSN}')")
    second = rotate(leads)
    assert second != first
    lead.execute(f"EXECUTE insert ('{SSN}')")
    third = rotate(leads)
    lead.execute(f"EXECUTE insert ('{SSN}')")
    assert keys_of(lead) == [first, first, second, third]
    assert values_found(lead, SSN) == [SSN] * 4
    assert leads.execute(KEYS).fetchall() == [
        (1, "decrypt-only"),
        (2, "decrypt-only"),
        (3, "active"),
    ]
    # what is written anew comes under the newest key
    lead.execute("UPDATE lead SET ssn = fieldcrypt.decrypt(ssn)")
    assert set(keys_of(lead)) == {third}
    assert values_found(lead, SSN) == [SSN] * 4
    # others keep theirs
    others = "SELECT count(*) FROM fieldcrypt.keys WHERE account = 'globex'"
    assert leads.value(others) == 3


def test_a_rotation_that_is_rolled_back(leads, lead):
    """Nothing is sealed under a key that never existed."""
    (first,) = keys_of(lead)
    with leads.connect() as admin:
        admin.execute("GRANT ALL ON lead TO PUBLIC")
        with admin.transaction(force_rollback=True):
            key = rotate(admin)
            admin.execute("SET LOCAL ROLE app; SET LOCAL fieldcrypt.account = 'acme'")
            admin.execute("INSERT INTO lead (ssn) VALUES ('2')")
            assert keys_of(admin) == [first, key]
        admin.execute("BEGIN; SAVEPOINT s")
        rotate(admin)
        admin.execute("SET LOCAL fieldcrypt.account = 'acme'; ROLLBACK TO s")
        admin.execute("SET LOCAL ROLE app; SET LOCAL fieldcrypt.account = 'acme'")
        admin.execute("INSERT INTO lead (ssn) VALUES ('3'); COMMIT")
    assert keys_of(lead) == [first, first]
    assert leads.execute(KEYS).fetchall() == [(1, "active")]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_two_rotations_at_once(leads, end):
    """The second waits for the first; one key is active in the end."""
    with leads.connect() as one, leads.connect() as other, ThreadPoolExecutor(1) as thread:
        one.execute("BEGIN")
        rotate(one)
        second = thread.submit(rotate, other)
        while leads.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0:
            time.sleep(0.01)
        one.execute(end)
        second.result()
    states = [state for _, state in leads.execute(KEYS)]
    assert states == ["decrypt-only"] * (2 if end == "COMMIT" else 1) + ["active"]


def test_rotation_beside_writers(leads, session):
    """Nobody gets an error or a wrong value."""
    stop = threading.Event()

    def write(number):
        connection = session()
        written = []
        while not stop.is_set():
            value = f"{number}{len(written):06}"
            connection.execute("INSERT INTO lead (ssn) VALUES (%s)", [value])
            assert values_found(connection, value) == [value]
            written.append(value)
        return written

    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(write, number) for number in range(1, 4)]
        try:
            for _ in range(20):
                rotate(leads)
                time.sleep(0.05)
        finally:
            stop.set()
        written = {value for writer in writers for value in writer.result()}
    app = session()
    rows = app.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead").fetchall()
    assert {value for (value,) in rows} == written
    assert len(rows) == len(written)
    assert len(set(keys_of(app))) > 5


def test_a_worn_key(leads, session):
    """A key that has sealed all that it may is replaced by a rotation."""
    leads.execute("SELECT fieldcrypt.create_field('lead.token', suite => 'aes-256-gcm')")
    app = session()
    encrypt = "SELECT fieldcrypt.encrypt('x', 'lead.token')"
    app.execute(encrypt)
    leads.execute("""
        INSERT INTO fieldcrypt.key_use (key_id, field_id, sealed)
        SELECT k.key_id, f.field_id, 4294967296 FROM fieldcrypt.keys AS k, fieldcrypt.field AS f
        WHERE k.account = 'acme' AND k.purpose = 'data' AND f.name = 'lead.token'
    """)
    leads.execute("SELECT fieldcrypt.disable_account('globex')")  # sessions set up their keys anew
    with refused("54000", "as many values as it may", hint="rotate_account_key"):
        app.execute(encrypt)
    assert leads.execute("SELECT * FROM fieldcrypt.accounts_due()").fetchall() == [("acme",)]
    leads.execute("CALL fieldcrypt.rotate_due()")
    app.execute(encrypt)
    assert leads.execute("SELECT * FROM fieldcrypt.accounts_due()").fetchall() == []


def age(database, account, interval):
    database.execute(
        "UPDATE fieldcrypt.account_key SET created_at = now() - %s::interval"
        " WHERE account = %s AND purpose = 'data' AND state = 'active'",
        [interval, account],
    )


def versions(database):
    return database.execute(
        "SELECT account, max(version) FROM fieldcrypt.keys"
        " WHERE purpose = 'data' GROUP BY 1 ORDER BY 1"
    ).fetchall()


def test_rotation_that_is_due(leads):
    leads.execute("SELECT fieldcrypt.create_account('unset'), fieldcrypt.create_account('young')")
    leads.execute("SELECT fieldcrypt.create_account('closed')")
    for account in "acme", "globex", "young", "closed":
        leads.execute("SELECT fieldcrypt.set_rotation(%s, '1 year')", [account])
    for account in "acme", "globex", "unset", "closed":
        age(leads, account, "13 months")
    age(leads, "young", "11 months")
    leads.execute("SELECT fieldcrypt.disable_account('closed')")
    leads.execute("CALL fieldcrypt.rotate_due()")
    due = [("acme", 2), ("closed", 1), ("globex", 2), ("unset", 1), ("young", 1)]
    assert versions(leads) == due
    leads.execute("CALL fieldcrypt.rotate_due()")
    assert versions(leads) == due
    leads.execute("SELECT fieldcrypt.set_rotation('young', '1 day')")
    leads.execute("SELECT fieldcrypt.set_rotation('acme', NULL)")
    age(leads, "acme", "10 years")
    leads.execute("CALL fieldcrypt.rotate_due()")
    assert versions(leads)[-1] == ("young", 2) and versions(leads)[0] == ("acme", 2)
    shown = "SELECT account, rotate_after::text FROM fieldcrypt.accounts WHERE account = 'globex'"
    assert leads.execute(shown).fetchone() == ("globex", "1 year")


def test_a_locked_account_does_not_hold_the_others_up(make_cluster):
    own = make_cluster()
    with account_database(own) as database:
        write_keyring(own.keys_dir, {"main": "current", "theirs": "customer"})
        reload(database)
        database.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
        write_keyring(own.keys_dir)
        (own.keys_dir / "theirs.key").unlink()
        reload(database)
        for account in "acme", "globex":
            database.execute("SELECT fieldcrypt.set_rotation(%s, '1 day')", [account])
            age(database, account, "2 days")
        notices = []
        database.conn.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        database.execute("CALL fieldcrypt.rotate_due()")
        assert versions(database) == [("acme", 1), ("globex", 2)]
        (warning,) = notices
        assert warning.startswith('the key of account "acme" was not rotated: account "acme" is')


def reload(database):
    before = database.value("SELECT pg_conf_load_time()")
    database.execute("SELECT pg_reload_conf()")
    while database.value("SELECT pg_conf_load_time()") == before:
        pass


def test_what_was_rotated_stays_when_the_rest_is_cancelled(leads):
    """Each account is a transaction of its own."""
    leads.execute("SELECT fieldcrypt.create_account('a' || i) FROM generate_series(1, 50) AS i")
    leads.execute("""
        SELECT fieldcrypt.set_rotation(account, '1 day') FROM fieldcrypt.accounts
        WHERE account LIKE 'a%'
    """)
    leads.execute("UPDATE fieldcrypt.account_key SET created_at = now() - interval '2 days'")
    with leads.connect() as holder, leads.connect() as caller, ThreadPoolExecutor(1) as thread:
        (last,) = leads.execute("SELECT * FROM fieldcrypt.accounts_due()").fetchall()[-1]
        holder.execute("BEGIN")
        holder.execute("SELECT FROM fieldcrypt.account WHERE account = %s FOR UPDATE", [last])
        running = thread.submit(caller.execute, "CALL fieldcrypt.rotate_due()")
        while leads.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0:
            time.sleep(0.01)
        leads.execute("SELECT pg_cancel_backend(%s)", [caller.info.backend_pid])
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.result()
        holder.rollback()
    due = leads.execute("SELECT * FROM fieldcrypt.accounts_due()").fetchall()
    assert due == [(last,)]
    leads.execute("CALL fieldcrypt.rotate_due()")
    assert leads.execute("SELECT * FROM fieldcrypt.accounts_due()").fetchall() == []


def test_refused(leads, app):
    for statement, sqlstate, message in [
        ("SELECT fieldcrypt.rotate_account_key('nobody')", "42704", "does not exist"),
        ("SELECT fieldcrypt.rotate_account_key('*database*')", "42602", "invalid account name"),
        ("SELECT fieldcrypt.rotate_account_key(NULL)", "22004", "must not be NULL"),
        ("SELECT fieldcrypt.set_rotation('nobody', '1 year')", "42704", "does not exist"),
        ("SELECT fieldcrypt.set_rotation('acme', '-1 year')", "22023", "rotate_after"),
        ("SELECT fieldcrypt.set_rotation('acme', '0')", "22023", "rotate_after"),
        ("SELECT fieldcrypt.set_rotation('acme', '1 year -400 days')", "22023", "rotate_after"),
    ]:
        with refused(sqlstate, message):
            leads.execute(statement)
    for statement in (
        "SELECT fieldcrypt.rotate_account_key('acme')",
        "SELECT fieldcrypt.set_rotation('acme', '1 year')",
        "SELECT * FROM fieldcrypt.accounts_due()",
        "CALL fieldcrypt.rotate_due()",
    ):
        with refused("42501"):
            app.execute(statement)
    assert leads.execute(KEYS).fetchall() == [(1, "active")]


def test_the_audit_of_rotation(leads):
    key = rotate(leads)
    leads.execute("SELECT fieldcrypt.set_rotation('acme', '1 year')")
    leads.execute("SELECT fieldcrypt.flush_audit()")
    events = leads.execute(
        "SELECT action, outcome, account, detail FROM fieldcrypt.audit"
        " WHERE action IN ('rotate_account_key', 'set_rotation') ORDER BY seq"
    ).fetchall()
    assert events == [
        ("rotate_account_key", "done", "acme", f"data key, key {key}"),
        ("set_rotation", "done", "acme", None),
    ]
