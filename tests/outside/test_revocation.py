"""Rights and keys that are taken away stop working at the next statement, in every session.

Session B has prepared its statement and executed it, with a generic plan, before session A, an
administrator, changes something.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from expect import refused, values_found

pytestmark = pytest.mark.every_version

SSN = "123-45-6789"
HIDDEN = "********"

DECRYPT = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 0"
REVEAL = "SELECT fieldcrypt.reveal(ssn) FROM lead WHERE id = 0"
SEARCH = f"SELECT min(id) FROM lead WHERE ssn = '{SSN}'"
INSERT = f"INSERT INTO lead (ssn) VALUES ('{SSN}') RETURNING 1"
ENCRYPT = f"SELECT 1 WHERE fieldcrypt.encrypt('{SSN}', 'lead.ssn') IS NOT NULL"
TOKEN = f"SELECT 1 WHERE fieldcrypt.blind_index('{SSN}', 'lead.ssn') IS NOT NULL"

WORKS = {DECRYPT: SSN, REVEAL: SSN, SEARCH: 0, INSERT: 1, ENCRYPT: 1, TOKEN: 1}

# What session A does, how it takes it back, and with what each statement of B fails in between
# (None: it works on).
CHANGES = {
    "decrypt revoked": (
        "SELECT fieldcrypt.revoke_access('app', '{decrypt}', 'acme', 'lead.*')",
        "SELECT fieldcrypt.grant_access('app', '{decrypt}', 'acme', 'lead.*')",
        {DECRYPT: "42501", REVEAL: HIDDEN},
    ),
    "search revoked": (
        "SELECT fieldcrypt.revoke_access('app', '{search}', 'acme', 'lead.*')",
        "SELECT fieldcrypt.grant_access('app', '{search}', 'acme', 'lead.*')",
        {SEARCH: "42501", TOKEN: "42501"},
    ),
    "encrypt revoked": (
        "SELECT fieldcrypt.revoke_access('app', '{encrypt}', 'acme', 'lead.*')",
        "SELECT fieldcrypt.grant_access('app', '{encrypt}', 'acme', 'lead.*')",
        {INSERT: "42501", ENCRYPT: "42501"},
    ),
    "everything revoked": (
        "SELECT fieldcrypt.revoke_access('app', '{encrypt,search,decrypt}', 'acme', 'lead.*')",
        "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', 'lead.*')",
        {
            **dict.fromkeys([DECRYPT, SEARCH, INSERT, ENCRYPT, TOKEN], "42501"),
            REVEAL: HIDDEN,
        },
    ),
    "replaced by mask": (
        "SELECT fieldcrypt.revoke_access('app', '{decrypt}', 'acme', 'lead.*'),"
        " fieldcrypt.grant_access('app', '{mask}', 'acme', 'lead.*')",
        "SELECT fieldcrypt.grant_access('app', '{decrypt}', 'acme', 'lead.*')",
        {DECRYPT: "42501", REVEAL: "****6789"},
    ),
    "account disabled": (
        "SELECT fieldcrypt.disable_account('acme')",
        "SELECT fieldcrypt.enable_account('acme')",
        {
            **dict.fromkeys([DECRYPT, SEARCH, INSERT, ENCRYPT, TOKEN], "55000"),
            REVEAL: HIDDEN,
        },
    ),
    "data key disabled": (
        "UPDATE fieldcrypt.account_key SET state = 'disabled'"
        " WHERE account = 'acme' AND purpose = 'data'",
        "UPDATE fieldcrypt.account_key SET state = 'active'"
        " WHERE account = 'acme' AND purpose = 'data'",
        {
            **dict.fromkeys([DECRYPT, SEARCH, INSERT, ENCRYPT, TOKEN], "55000"),
            REVEAL: HIDDEN,
        },
    ),
}


@pytest.fixture
def b(leads, app):
    """Session B, with every statement executed once under a generic plan."""
    app.execute("SET plan_cache_mode = force_generic_plan")
    app.execute("INSERT INTO lead (id, ssn) VALUES (0, %s)", [SSN])
    app.prepare_threshold = 0
    for statement, result in WORKS.items():
        assert app.execute(statement).fetchone() == (result,)
    return app


def check(b, expected):
    """Executes every statement of B: it gives what it always gave, or what is expected now."""
    for statement, result in WORKS.items():
        now = expected.get(statement, result)
        if now in ("42501", "55000"):
            with refused(now):
                with b.transaction():
                    b.execute(statement)
        else:
            assert b.execute(statement).fetchone() == (now,), statement


@pytest.mark.parametrize("change", CHANGES)
def test_next_execution_obeys(leads, b, change):
    do, undo, expected = CHANGES[change]
    leads.execute(do)
    check(b, expected)
    leads.execute(undo)
    check(b, {})


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("change", ["everything revoked", "account disabled"])
def test_next_execution_obeys_inside_a_transaction(leads, b, change, isolation):
    """Also inside an open transaction whose snapshot is older than the change."""
    do, undo, expected = CHANGES[change]
    with b.transaction():
        b.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        check(b, {})
        leads.execute(do)
        check(b, expected)
        leads.execute(undo)
        check(b, {})


def test_uncommitted_changes_are_the_own_session_s(leads, b):
    """A revocation counts for others when it commits; rolled back it never was."""
    with leads.conn.transaction(force_rollback=True):
        leads.execute(CHANGES["everything revoked"][0])
        check(b, {})
    check(b, {})


def test_role_membership(leads, session):
    """Rights that a role has through another end with the membership, and with its inheritance."""
    leads.cluster.create_roles("member")
    leads.execute("GRANT ALL ON lead TO member; GRANT app TO member")
    leads.execute("INSERT INTO lead (id) VALUES (0)")
    session().execute("UPDATE lead SET ssn = %s", [SSN])
    b = session("member", prepare_threshold=0)
    b.execute("SET plan_cache_mode = force_generic_plan")
    try:
        assert b.execute(DECRYPT).fetchone() == (SSN,)
        leads.execute("REVOKE app FROM member")
        with refused("42501"):
            b.execute(DECRYPT)
        assert b.execute(REVEAL).fetchone() == (HIDDEN,)
        leads.execute("GRANT app TO member")
        assert b.execute(DECRYPT).fetchone() == (SSN,)
        if leads.cluster.version < 16:
            leads.execute("ALTER ROLE member NOINHERIT")
        else:
            leads.execute("GRANT app TO member WITH INHERIT FALSE")
        with refused("42501"):
            b.execute(DECRYPT)
        b.execute("SET ROLE app")
        assert b.execute(DECRYPT).fetchone() == (SSN,)
        b.execute("RESET ROLE")
        with refused("42501"):
            b.execute(DECRYPT)
    finally:
        leads.execute("ALTER ROLE member INHERIT; REVOKE app FROM member")


def test_a_grant_takes_effect_at_once(leads, session):
    b = session("outsider", prepare_threshold=0)
    session().execute("INSERT INTO lead (id, ssn) VALUES (0, %s)", [SSN])
    assert b.execute(REVEAL).fetchone() == (HIDDEN,)
    with refused("42501"):
        b.execute(DECRYPT)
    leads.execute("SELECT fieldcrypt.grant_access('outsider', '{decrypt}', '*', '*')")
    assert b.execute(DECRYPT).fetchone() == (SSN,)
    leads.execute("SELECT fieldcrypt.revoke_access('outsider', '{decrypt}', '*', '*')")
    with refused("42501"):
        b.execute(DECRYPT)


def test_a_dropped_role_leaves_no_grant_behind(leads, session):
    """A role made later does not get the grants of one that was dropped."""
    leads.cluster.create_roles("temporary")
    leads.execute("SELECT fieldcrypt.grant_access('temporary', '{decrypt}', '*', '*')")
    leads.execute("DROP ROLE temporary")
    leads.cluster.create_roles("temporary")
    try:
        leads.execute("GRANT SELECT ON lead TO temporary")
        session().execute("INSERT INTO lead (id, ssn) VALUES (0, %s)", [SSN])
        with refused("42501"):
            session("temporary").execute(DECRYPT)
    finally:
        leads.execute("DROP OWNED BY temporary; DROP ROLE temporary")


def test_a_changed_field_policy(leads, session):
    leads.execute("SELECT fieldcrypt.grant_access('outsider', '{mask}', 'acme', 'lead.ssn')")
    session().execute("INSERT INTO lead (id, ssn) VALUES (0, %s)", [SSN])
    b = session("outsider", prepare_threshold=0)
    assert b.execute(REVEAL).fetchone() == ("****6789",)
    leads.execute("SELECT fieldcrypt.alter_field('lead.ssn', mask => 'null')")
    assert b.execute(REVEAL).fetchone() == (None,)
    leads.execute("SELECT fieldcrypt.alter_field('lead.ssn', mask => 'none')")
    assert b.execute(REVEAL).fetchone() == (HIDDEN,)
    leads.execute("SELECT fieldcrypt.alter_field('lead.ssn', hidden => 'ciphertext')")
    assert b.execute(REVEAL).fetchone()[0].startswith("fc1:")
    with refused("55000", "in use", hint="lead"):
        leads.execute("SELECT fieldcrypt.drop_field('lead.ssn')")


def test_a_dropped_field(leads, session):
    """The values of a field that is gone cannot be used until it is there again."""
    app = session(prepare_threshold=0)
    app.execute("INSERT INTO lead (id, ssn) VALUES (0, %s)", [SSN])
    app.execute("CREATE TEMP TABLE copied AS SELECT ssn::text FROM lead")
    assert app.execute(DECRYPT).fetchone() == (SSN,)
    leads.execute("ALTER TABLE lead RENAME COLUMN ssn TO old; ALTER TABLE lead DROP COLUMN old")
    leads.execute("SELECT fieldcrypt.drop_field('lead.ssn')")
    leads.execute("CREATE TABLE other (id int, ssn fieldcrypt.encrypted_text('lead.ssn'))")
    leads.execute("GRANT ALL ON other TO app")
    with refused("42704", "field .* does not exist"):
        app.execute("INSERT INTO other VALUES (1, %s)", [SSN])
    with refused("42704", "field .* does not exist"):
        app.execute("SELECT fieldcrypt.encrypt('x', 'lead.ssn')")
    leads.execute("SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}')")
    app.execute("INSERT INTO other VALUES (1, %s)", [SSN])


def test_threat_d3_an_account_that_was_rolled_back_is_not_used(leads):
    """Its keys were in the caches of the session that made it."""
    with leads.connect() as connection:
        connection.execute(
            "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*')"
        )
        connection.execute("SET fieldcrypt.account = 'x'")
        use = (
            "SELECT fieldcrypt.encrypt('1', 'lead.ssn', 'x')",
            "INSERT INTO lead (account_id, ssn) VALUES ('x', '1')",
            "SELECT fieldcrypt.blind_index('1', 'lead.ssn', 'x')",
            "SELECT 1 FROM lead WHERE ssn = '1'",
        )

        def use_it():
            connection.execute("SET LOCAL ROLE app")
            for statement in use:
                connection.execute(statement)
            connection.execute("RESET ROLE")

        def cannot_use_it():
            for statement in use:
                with refused("42704", 'account "x" does not exist', hint="create_account"):
                    with connection.transaction():
                        connection.execute("SET LOCAL ROLE app")
                        connection.execute(statement)

        with connection.transaction(force_rollback=True):
            connection.execute("SELECT fieldcrypt.create_account('x')")
            use_it()
        cannot_use_it()

        with connection.transaction():
            connection.execute("SAVEPOINT s; SELECT fieldcrypt.create_account('x')")
            use_it()
            connection.execute("ROLLBACK TO s")
            cannot_use_it()
        cannot_use_it()
        assert connection.execute("SELECT count(*) FROM lead").fetchone() == (0,)

        # Made again after the savepoint, it is another account with other keys.
        with connection.transaction():
            connection.execute("SAVEPOINT s; SELECT fieldcrypt.create_account('x')")
            use_it()
            connection.execute("ROLLBACK TO s; SELECT fieldcrypt.create_account('x')")
            use_it()
            connection.execute("RELEASE s")
    with leads.connect("app", options="-c fieldcrypt.account=x") as other:
        assert values_found(other, "1") == ["1"]


def test_threat_d3_a_subtransaction_of_plpgsql(leads):
    """The same in a block with an exception handler: keys and rows go together."""
    with refused("42704", 'account "x" does not exist'):
        leads.execute("""
            DO $$
            BEGIN
                BEGIN
                    PERFORM fieldcrypt.create_account('x');
                    PERFORM fieldcrypt.disable_account('x');
                    PERFORM 1 / 0;
                EXCEPTION WHEN division_by_zero THEN NULL;
                END;
                PERFORM fieldcrypt.enable_account('x');
            END
            $$
        """)


@pytest.mark.parametrize("outcome", ["COMMIT", "ROLLBACK"])
def test_threat_d3_an_account_in_a_prepared_transaction(leads, session, outcome):
    """Two-phase commit: nobody uses the account before, and nobody after a rollback."""
    leads.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*')")
    app = session(account="x")
    name = f"{leads.name}_{outcome}"
    with leads.connect() as connection:
        connection.execute("BEGIN; SELECT fieldcrypt.create_account('x')")
        connection.execute("SET fieldcrypt.account = 'x'; SET LOCAL ROLE app")
        connection.execute("INSERT INTO lead (account_id, ssn) VALUES ('x', '1')")
        connection.execute(f"PREPARE TRANSACTION '{name}'")
        for user in app, connection:
            with user.transaction():
                user.execute("SET LOCAL ROLE app")
                with refused("42704", 'account "x" does not exist'):
                    with user.transaction():
                        user.execute("INSERT INTO lead (account_id, ssn) VALUES ('x', '2')")
        leads.execute(f"{outcome} PREPARED '{name}'")
        for user in app, connection:
            with user.transaction():
                user.execute("SET LOCAL ROLE app; SET LOCAL fieldcrypt.account = 'x'")
                if outcome == "COMMIT":
                    assert values_found(user, "1") == ["1"]
                else:
                    with refused("42704", 'account "x" does not exist'):
                        with user.transaction():
                            user.execute("SELECT id FROM lead WHERE ssn = '1'")


@pytest.mark.parametrize("first", ["COMMIT", "ROLLBACK"])
def test_threat_d9_two_sessions_create_one_account(leads, first):
    """The second waits; then it is told that the account exists, or makes it."""
    with leads.connect() as one, leads.connect() as other, ThreadPoolExecutor(1) as thread:
        one.execute("BEGIN; SELECT fieldcrypt.create_account('x')")
        second = thread.submit(other.execute, "SELECT fieldcrypt.create_account('x')")
        wait_for_lock(leads, other)
        one.execute(first)
        if first == "COMMIT":
            with refused("42710", 'account "x" already exists'):
                second.result()
        else:
            second.result()
    keys = "SELECT count(*), count(DISTINCT purpose) FROM fieldcrypt.keys WHERE account = 'x'"
    assert leads.execute(keys).fetchone() == (3, 3)


@pytest.mark.parametrize("first", ["COMMIT", "ROLLBACK"])
def test_threat_d9_the_first_accounts_of_a_database(cluster, db, first):
    """Two sessions make the transit key and record the root key at once: one of each remains."""
    name = cluster.create_database()
    try:
        with (
            cluster.connect(dbname=name) as one,
            cluster.connect(dbname=name) as other,
            ThreadPoolExecutor(1) as thread,
        ):
            one.execute("CREATE EXTENSION fieldcrypt")
            one.execute("BEGIN; SELECT fieldcrypt.create_account('x')")
            second = thread.submit(other.execute, "SELECT fieldcrypt.create_account('y')")
            wait_for_lock(one, other)
            one.execute(first)
            second.result()
            keys = one.execute(
                "SELECT account, count(*) FROM fieldcrypt.keys GROUP BY 1 ORDER BY 1"
            ).fetchall()
            made = [("*database*", 4), ("x", 3), ("y", 3)]
            assert keys == [row for row in made if row[0] != "x" or first == "COMMIT"]
            # Literals use the transit key.
            one.execute("SELECT fieldcrypt.create_field('note')")
            one.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,decrypt}', 'y', 'note')")
            one.execute(
                "CREATE TABLE t (n fieldcrypt.encrypted_text('note')); GRANT ALL ON t TO app"
            )
            for connection in one, other:
                connection.execute("SET fieldcrypt.account = 'y'; SET ROLE app")
                connection.execute("INSERT INTO t VALUES ('a')")
                assert connection.execute("SELECT fieldcrypt.decrypt(n) FROM t").fetchone() == (
                    "a",
                )
    finally:
        cluster.drop_database(name)


def wait_for_lock(watcher, connection):
    """Waits until the session of `connection` waits for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    deadline = time.monotonic() + 10
    while watcher.execute(query, [connection.info.backend_pid]).fetchone() == (0,):
        assert time.monotonic() < deadline, "the session never waited"
        time.sleep(0.01)


def test_key_lifetime(leads, session):
    """After its lifetime a key is unwrapped again, so that what is wrong by then is noticed."""
    app = session(prepare_threshold=0)
    app.execute("INSERT INTO lead (id, ssn) VALUES (0, %s)", [SSN])
    leads.execute(f"ALTER DATABASE {leads.name} SET fieldcrypt.key_lifetime = '1s'")
    # Nobody is told of a change without the triggers.
    leads.execute("ALTER TABLE fieldcrypt.account_key DISABLE TRIGGER tell_sessions")
    app = session(prepare_threshold=0)
    assert app.execute("SHOW fieldcrypt.key_lifetime").fetchone() == ("1s",)
    assert app.execute(DECRYPT).fetchone() == (SSN,)
    used = time.monotonic()
    leads.execute(
        "UPDATE fieldcrypt.account_key SET wrapped = set_byte(wrapped, 20, 255 -"
        " get_byte(wrapped, 20)) WHERE account = 'acme' AND purpose = 'data'"
    )
    if time.monotonic() - used < 0.5:
        assert app.execute(DECRYPT).fetchone() == (SSN,)
    time.sleep(max(0, used + 1.05 - time.monotonic()))
    with refused("XX001", "data key of account", hint="wrapped key"):
        app.execute(DECRYPT)


def test_a_small_key_cache(leads, session):
    """200 accounts with room for 16 keys: values and searches stay right, in any order."""
    leads.execute("SELECT fieldcrypt.create_account('a' || i) FROM generate_series(1, 200) AS i")
    leads.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*')")
    leads.execute(f"ALTER DATABASE {leads.name} SET fieldcrypt.key_cache_size = 16")
    app = session()
    assert app.execute("SHOW fieldcrypt.key_cache_size").fetchone() == ("16",)
    app.execute(
        "INSERT INTO lead (account_id, ssn) SELECT 'a' || i,"
        " fieldcrypt.encrypt((1000 + i)::text, 'lead.ssn', 'a' || i)"
        " FROM generate_series(1, 200) AS i ORDER BY random()"
    )
    rows = app.execute(
        "SELECT account_id, fieldcrypt.decrypt(ssn) FROM lead, generate_series(1, 5)"
        " ORDER BY random()"
    ).fetchall()
    assert len(rows) == 1000
    assert all(ssn == str(1000 + int(account[1:])) for account, ssn in rows)
    chosen = random.Random(1)
    app.prepare_threshold = 0
    for _ in range(200):
        number, other = chosen.randint(1, 200), chosen.randint(1, 200)
        app.execute("SELECT set_config('fieldcrypt.account', %s, false)", [f"a{number}"])
        found = values_found(app, str(1000 + other))
        assert found == ([str(1000 + number)] if number == other else [])


def test_two_administrators_change_one_grant(leads):
    """Both changes count, whatever the order in which they commit."""
    with leads.connect() as one, leads.connect() as other, ThreadPoolExecutor(1) as thread:
        one.execute("BEGIN; SELECT fieldcrypt.grant_access('outsider', '{mask}', 'acme', '*')")
        second = thread.submit(
            other.execute, "SELECT fieldcrypt.grant_access('outsider', '{search}', 'acme', '*')"
        )
        wait_for_lock(leads, other)
        one.execute("COMMIT")
        second.result()
    granted = "SELECT privileges FROM fieldcrypt.access WHERE role::text = 'outsider'"
    assert leads.value(granted) == ["search", "mask"]


def test_the_session_that_fails_goes_on(leads, b):
    """Errors in between leave no half-set-up key behind."""
    for _ in range(3):
        leads.execute("SELECT fieldcrypt.disable_account('acme')")
        for statement in DECRYPT, SEARCH, INSERT:
            with pytest.raises(psycopg.Error):
                b.execute(statement)
        leads.execute("SELECT fieldcrypt.enable_account('acme')")
        check(b, {})
