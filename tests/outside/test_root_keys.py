"""Which root key wraps an account's keys: rotation of the root key, and root keys of customers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from expect import LEADS, refused
from harness import Cluster, account_database, write_keyring

SSN = "123-45-6789"
ROOTS = "SELECT root_key, count(*) FROM fieldcrypt.keys WHERE purpose = 'wrapping' GROUP BY 1"
WRAPPED = "SELECT key_id, wrapped, wrapped_by FROM fieldcrypt.account_key ORDER BY 1"
VALUES = "SELECT id, ssn::text, email::text FROM lead ORDER BY id"


@pytest.fixture(scope="module")
def server():
    with Cluster() as own:
        yield own


@pytest.fixture
def leads(server):
    """A fresh database with a lead of acme and one of globex, under the root key `main`."""
    name(server, {"main": "current"})
    with account_database(server) as database:
        reload(database)
        database.execute(LEADS)
        for user, account in ("app", "acme"), ("app_globex", "globex"):
            with session(database, user, account) as connection:
                connection.execute(
                    "INSERT INTO lead (account_id, ssn, email) VALUES (%s, %s, 'a@example.com')",
                    [account, SSN],
                )
        yield database
    for key in server.keys_dir.glob("*.key"):
        if key.name != "main.key":
            key.unlink()


def name(cluster, roots):
    write_keyring(cluster.keys_dir, roots)


def reload(database):
    """Reloads the configuration, and waits until the own session has done so."""
    before = database.value("SELECT pg_conf_load_time()")
    database.execute("SELECT pg_reload_conf()")
    while database.value("SELECT pg_conf_load_time()") == before:
        pass


def use(database, **roots):
    """Names these root keys in the keyring, with their states."""
    name(database.cluster, roots)
    reload(database)


def session(database, user="app", account="acme", **options):
    options = {"prepare_threshold": None, **options}
    return database.connect(user, options=f"-c fieldcrypt.account={account}", **options)


def read(connection):
    query = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE ssn = %s"
    return [value for (value,) in connection.execute(query, [SSN])]


def rows(database, query):
    return database.execute(query).fetchall()


def status(database, root):
    query = "SELECT state, accounts, usable, problem FROM fieldcrypt.status WHERE root_key = %s"
    return database.execute(query, [root]).fetchone()


def test_rotation(leads):
    """All accounts come under the new root key, the values stay, and the old root key may go."""
    values = rows(leads, VALUES)
    others = "SELECT * FROM fieldcrypt.account_key WHERE purpose <> 'wrapping' ORDER BY key_id"
    keys = rows(leads, others)
    with session(leads) as before:
        assert read(before) == [SSN]
        use(leads, main="previous", new="current")
        assert status(leads, "main") == ("previous", 3, True, None)
        assert leads.value("SELECT fieldcrypt.rotate_root()") == 3
        assert rows(leads, ROOTS) == [("new", 3)]
        assert read(before) == [SSN]
        assert status(leads, "main") == ("previous", 0, True, None)
        assert leads.value("SELECT fieldcrypt.rotate_root()") == 0
        use(leads, new="current")
        (leads.cluster.keys_dir / "main.key").rename(leads.cluster.dir / "away")
        try:
            assert status(leads, "main") == ("retired", 0, True, None)
            assert status(leads, "new") == ("current", 3, True, None)
            assert read(before) == [SSN]
            with session(leads, "app_globex", "globex") as after:
                assert read(after) == [SSN]
            leads.execute("SELECT fieldcrypt.create_account('initech')")
            assert rows(leads, ROOTS) == [("new", 4)]
        finally:
            (leads.cluster.dir / "away").rename(leads.cluster.keys_dir / "main.key")
    assert rows(leads, VALUES) == values
    assert set(keys) <= set(rows(leads, others))


def test_rotation_back_and_on(leads):
    """A root key that was replaced may become current again; three take turns."""
    names = ["main", "b", "c", "main", "c", "b"]
    for last, current in zip(names, names[1:], strict=False):
        use(leads, **{last: "previous", current: "current"})
        assert leads.value("SELECT fieldcrypt.rotate_root()") == 3
        use(leads, **{current: "current"})
        with session(leads) as app:
            assert read(app) == [SSN]


def test_several_previous_roots(leads):
    """Accounts under different root keys come under the current one together."""
    use(leads, main="previous", b="current")
    leads.execute("SELECT fieldcrypt.create_account('under_b')")
    use(leads, main="previous", b="previous", c="current")
    leads.execute("SELECT fieldcrypt.create_account('under_c')")
    assert sorted(rows(leads, ROOTS)) == [("b", 1), ("c", 1), ("main", 3)]
    assert leads.value("SELECT fieldcrypt.rotate_root()") == 4
    assert rows(leads, ROOTS) == [("c", 5)]


@pytest.mark.parametrize("end", ["ROLLBACK", "error", "savepoint"])
def test_a_rotation_that_is_rolled_back(leads, end):
    """Nothing has changed, for nobody."""
    before = rows(leads, WRAPPED)
    use(leads, main="previous", new="current")
    with leads.connect() as admin, session(leads) as app:
        with admin.transaction(force_rollback=end == "ROLLBACK"):
            if end == "savepoint":
                admin.execute("SAVEPOINT s; SELECT fieldcrypt.rotate_root(); ROLLBACK TO s")
            elif end == "error":
                with refused("22012"), admin.transaction():
                    admin.execute("SELECT fieldcrypt.rotate_root(), 1 / (random() * 0)::int")
            else:
                assert admin.execute("SELECT fieldcrypt.rotate_root()").fetchone() == (3,)
                assert read(app) == [SSN]
        assert read(app) == [SSN]
        assert rows(leads, WRAPPED) == before
        assert status(leads, "new")[:2] == ("current", 0)
    use(leads, main="current")
    with session(leads) as app:
        assert read(app) == [SSN]


@pytest.mark.parametrize("lost", ["current", "previous", "another"])
def test_a_rotation_without_a_root_key(leads, lost):
    """It fails as a whole, and says which key is missing; nothing is written."""
    use(leads, main="previous", new="current")
    before = rows(leads, WRAPPED)
    folder = leads.cluster.keys_dir
    file = folder / ("new.key" if lost == "current" else "main.key")
    away = leads.cluster.dir / "away"
    file.rename(away)
    if lost == "another":
        write_keyring(folder, {"main": "previous", "new": "current"})
    try:
        reload(leads)
        with refused("F0000", f'root key "{file.stem}"'):
            leads.execute("SELECT fieldcrypt.rotate_root()")
    finally:
        file.unlink(missing_ok=True)
        away.rename(file)
    assert rows(leads, WRAPPED) == before
    use(leads, main="previous", new="current")
    assert leads.value("SELECT fieldcrypt.rotate_root()") == 3


def test_a_crash_in_the_middle(make_cluster):
    """Killed when all is written but not committed: all keys are under the old root key."""
    own = make_cluster({"fsync": "on"})
    with account_database(own) as database:
        database.execute(
            "SELECT count(fieldcrypt.create_account('a' || i)) FROM generate_series(1, 3000) AS i"
        )
        before = rows(database, WRAPPED)
        use(database, main="previous", new="current")
        holder, admin = database.connect(), database.connect()
        # the last row that a rotation writes
        holder.execute("BEGIN; SELECT FROM fieldcrypt.root_key FOR UPDATE")
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(admin.execute, "SELECT fieldcrypt.rotate_root()")
            while database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0:
                time.sleep(0.01)
            database.execute("CHECKPOINT")
            own.kill9()
            with pytest.raises(psycopg.OperationalError):
                running.result()
        for connection in holder, admin, database.conn:
            connection.close()
        own.start()
        database.conn = database.connect()
        assert rows(database, WRAPPED) == before
        assert database.value("SELECT fieldcrypt.rotate_root()") == 3003
        own.kill9()
        database.conn.close()
        own.start()
        database.conn = database.connect()
        assert rows(database, ROOTS) == [("new", 3003)]


def test_rotation_beside_readers_writers_and_new_accounts(leads):
    """Nobody gets an error or a wrong value, and no account is left behind."""
    leads.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*')")
    stop = threading.Event()

    def work(number):
        made = 0
        with session(leads) as app, leads.connect() as admin:
            while not stop.is_set():
                assert set(read(app)) == {SSN}
                account = f"w{number}_{made}"
                admin.execute("SELECT fieldcrypt.create_account(%s)", [account])
                app.execute("SELECT set_config('fieldcrypt.account', %s, false)", [account])
                app.execute("INSERT INTO lead (account_id, ssn) VALUES (%s, %s)", [account, SSN])
                assert read(app) == [SSN]
                app.execute("SET fieldcrypt.account = 'acme'")
                made += 1
        return made

    with ThreadPoolExecutor(4) as threads:
        workers = [threads.submit(work, number) for number in range(4)]
        try:
            names = ["main", "b", "c", "main", "c", "b", "main"]
            for last, current in zip(names, names[1:], strict=False):
                use(leads, **{last: "previous", current: "current"})
                leads.execute("SELECT fieldcrypt.rotate_root()")
                time.sleep(0.3)
                # what was created by sessions that had not heard of the new root key yet
                leads.execute("SELECT fieldcrypt.rotate_root()")
                assert {root for root, _ in rows(leads, ROOTS)} == {current}
        finally:
            stop.set()
        made = sum(worker.result() for worker in workers)
    assert made > 10
    assert rows(leads, ROOTS) == [("main", 3 + made)]
    use(leads, main="current")
    with session(leads) as app:
        values = app.execute(
            "SELECT DISTINCT fieldcrypt.decrypt(ssn) FROM lead WHERE account_id <> 'globex'"
        )
        assert values.fetchall() == [(SSN,)]


def test_sessions_with_an_older_keyring(leads):
    """A statement that began before the reload: it reads on, and creates accounts under the new."""
    statement = """
        DO $$ BEGIN
            PERFORM pg_advisory_lock_shared(1);
            PERFORM {};
        END $$"""
    create = statement.format("fieldcrypt.create_account('late')")
    decrypt = statement.format("fieldcrypt.decrypt(ssn) FROM lead WHERE account_id = 'acme'")
    with leads.connect() as admin, session(leads) as app, ThreadPoolExecutor(2) as threads:
        assert read(app) == [SSN]
        admin.execute("SELECT fieldcrypt.create_account('early')")
        leads.execute("SELECT pg_advisory_lock(1)")
        running = [threads.submit(admin.execute, create), threads.submit(app.execute, decrypt)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while leads.value(waiting) < 2:
            time.sleep(0.01)
        use(leads, main="previous", new="current")
        leads.execute("SELECT fieldcrypt.rotate_root()")
        use(leads, new="current")
        leads.execute("SELECT pg_advisory_unlock(1)")
        running[0].result()
        running[1].result()
        assert rows(leads, ROOTS) == [("new", 5)]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_rotation_sees_every_account(leads, level):
    use(leads, main="previous", new="current")
    with leads.connect() as admin, admin.transaction(force_rollback=True):
        admin.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        with refused("25001", hint="READ COMMITTED"):
            admin.execute("SELECT fieldcrypt.rotate_root()")


# root keys of customers


@pytest.fixture
def brought(leads):
    """acme is under a root key of its own."""
    use(leads, main="current", theirs="customer")
    leads.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
    return leads


def test_a_root_key_of_a_customer(brought):
    values = rows(brought, VALUES)
    assert sorted(rows(brought, ROOTS)) == [("main", 2), ("theirs", 1)]
    assert status(brought, "theirs") == ("customer", 1, True, None)
    with session(brought) as app:
        assert read(app) == [SSN]
        # a rotation of the installation's leaves it where it is
        use(brought, main="previous", new="current", theirs="customer")
        assert brought.value("SELECT fieldcrypt.rotate_root()") == 2
        assert sorted(rows(brought, ROOTS)) == [("new", 2), ("theirs", 1)]
        # the customer has a new key
        use(brought, new="current", theirs="customer", theirs2="customer")
        brought.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs2')")
        use(brought, new="current", theirs2="customer")
        assert read(app) == [SSN]
        assert status(brought, "theirs") == ("customer", 0, False, "is not in the keyring")
        # and back
        brought.execute("SELECT fieldcrypt.set_account_root('acme')")
        use(brought, new="current")
        assert read(app) == [SSN]
    assert rows(brought, ROOTS) == [("new", 3)]
    assert rows(brought, VALUES) == values


@pytest.mark.parametrize("how", ["entry", "file", "another key"])
def test_a_withdrawn_root_key(brought, how):
    """After the lifetime of keys the account is locked, and only that; given back, it opens."""
    brought.execute(
        "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'globex', 'lead.*')"
    )
    file = brought.cluster.keys_dir / "theirs.key"
    away = brought.cluster.dir / "away"
    shown = "SELECT account_id, fieldcrypt.reveal(ssn) FROM lead ORDER BY id"
    brought.execute("ALTER ROLE app SET fieldcrypt.key_lifetime = 1")
    with session(brought) as app, session(brought) as cold:
        assert read(app) == [SSN]
        file.rename(away)
        if how == "entry":
            use(brought, main="current")
        elif how == "another key":
            use(brought, main="current", theirs="customer")  # the harness makes a missing file
        try:
            with session(brought) as new:
                assert_locked(new)
                # hidden, not an error; the others' as ever
                assert new.execute(shown).fetchall() == [("acme", "********"), ("globex", SSN)]
                assert new.execute(
                    "SELECT count(*) FROM lead AS a JOIN lead AS b USING (ssn)"
                ).fetchone() == (2,)
                new.execute("SET fieldcrypt.account = 'globex'")
                assert read(new) == [SSN]
            brought.execute("SELECT fieldcrypt.create_account('another')")
            assert status(brought, "theirs")[:3] == ("customer", 1, False)
            with refused("57000", 'account "acme" is locked'):
                brought.execute("SELECT fieldcrypt.set_account_root('acme')")
            # a session that has the key set up loses it when its lifetime is over
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    read(app)
                except psycopg.Error as error:
                    assert error.sqlstate == "57000"
                    break
                time.sleep(0.1)
            else:
                pytest.fail("the account is not locked after the lifetime of its keys")
            assert_locked(cold)
        finally:
            file.unlink(missing_ok=True)
            away.rename(file)
        use(brought, main="current", theirs="customer")
        assert read(app) == [SSN]
        assert read(cold) == [SSN]
    brought.execute("ALTER ROLE app RESET fieldcrypt.key_lifetime")


def assert_locked(connection):
    for statement in (
        "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE account_id = 'acme'",
        "SELECT id FROM lead WHERE ssn = '1'",
        "INSERT INTO lead (ssn) VALUES ('1')",
    ):
        with refused("57000", 'account "acme" is locked: .*root key "theirs"', hint="status"):
            connection.execute(statement)


def test_start_with_a_root_key_missing(make_cluster):
    """The server starts; only the account under the missing root key is locked."""
    own = make_cluster()
    with account_database(own) as database:
        database.execute(LEADS)
        write_keyring(own.keys_dir, {"main": "current", "theirs": "customer"})
        reload(database)
        database.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
        for user, account in ("app", "acme"), ("app_globex", "globex"):
            with session(database, user, account) as connection:
                connection.execute(
                    "INSERT INTO lead (account_id, ssn) VALUES (%s, %s)", [account, SSN]
                )
        database.conn.close()
        (own.keys_dir / "theirs.key").unlink()
        write_keyring(own.keys_dir)
        own.restart()
        database.conn = database.connect()
        assert status(database, "theirs")[2:] == (False, "is not in the keyring")
        with session(database, "app_globex", "globex") as other, session(database) as app:
            assert read(other) == [SSN]
            assert_locked(app)
            assert app.execute("SELECT ssn FROM lead").fetchone()[0].startswith("fc1:")


def test_set_account_root_is_refused(leads):
    use(leads, main="previous", new="current", theirs="customer")
    call = "SELECT fieldcrypt.set_account_root(%s, %s)"
    for arguments, sqlstate, message in [
        (("acme", "nowhere"), "F0000", 'root key "nowhere" is not in the keyring'),
        (("acme", "main"), "22023", 'invalid value for "root"'),
        (("nobody", "theirs"), "42704", 'account "nobody" does not exist'),
        (("*database*", "theirs"), "42602", "invalid account name"),
        ((None, "theirs"), "22004", "must not be NULL"),
    ]:
        with refused(sqlstate, message):
            leads.execute(call, arguments)
    leads.execute(call, ["acme", "theirs"])
    # a customer's root key does not become the installation's
    use(leads, main="previous", new="previous", theirs="current")
    for statement in (
        "SELECT fieldcrypt.create_account('x')",
        "SELECT fieldcrypt.rotate_root()",
    ):
        with refused("F0000", 'root key "theirs" is a customer', hint="current"):
            leads.execute(statement)


def test_the_audit_of_root_keys(leads):
    use(leads, main="previous", new="current", theirs="customer")
    leads.execute("SELECT fieldcrypt.rotate_root()")
    leads.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
    with session(leads) as app:
        with refused("42501"):
            app.execute("SELECT fieldcrypt.rotate_root()")
    leads.execute("SELECT fieldcrypt.flush_audit()")
    events = rows(
        leads,
        "SELECT action, outcome, account, detail FROM fieldcrypt.audit"
        " WHERE action IN ('rotate_root', 'set_account_root') ORDER BY seq",
    )
    assert events == [
        ("rotate_root", "done", None, "root key new"),
        ("set_account_root", "done", "acme", "root key theirs"),
    ]


def test_rotation_costs_little_more_than_an_update(leads):
    """Of as many rows; without a statement for each."""
    leads.execute(
        "SELECT count(fieldcrypt.create_account('a' || i)) FROM generate_series(1, 5000) AS i"
    )
    leads.execute("VACUUM ANALYZE fieldcrypt.account_key")
    plain = "UPDATE fieldcrypt.account_key SET wrapped_by = wrapped_by WHERE purpose = 'wrapping'"
    took = {"update": [], "rotation": []}
    names = ["main", "b", "main", "b"]
    for last, current in zip(names, names[1:], strict=False):
        use(leads, **{last: "previous", current: "current"})
        for what, statement in (
            ("update", plain),
            ("rotation", "SELECT fieldcrypt.rotate_root()"),
        ):
            start = time.monotonic()
            leads.execute(statement)
            took[what].append(time.monotonic() - start)
    assert min(took["rotation"]) < 6 * min(took["update"]), took
