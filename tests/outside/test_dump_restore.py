"""pg_dump and pg_restore: a dump is ciphertext, loads where there is no key, and opens with it.

The other server starts without a keyring. Where a test says so, it gets the root key, as a site
would that restores a backup: the dump and the key travel apart.
"""

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from expect import refused, values_found
from harness import Cluster, Database, account_database, write_keyring

CANARY = "canary-7d1c0b"  # in every plain value that the dumped database holds

SCHEMA = """
    SELECT fieldcrypt.create_field('note');
    SELECT fieldcrypt.create_field('phone', search => '{exact}', normalizer => 'phone');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*');
    SELECT fieldcrypt.alter_field('lead.ssn', label => 'Social security number');

    CREATE DOMAIN ssn_domain AS fieldcrypt.encrypted_text('lead.ssn') NOT NULL;
    CREATE TYPE contact AS (kind text, phone fieldcrypt.encrypted_text('phone'));
    CREATE TABLE lead (
        id int PRIMARY KEY,
        account_id text NOT NULL,
        ssn fieldcrypt.encrypted_text('lead.ssn') CONSTRAINT lead_ssn_key UNIQUE,
        email fieldcrypt.encrypted_text('lead.email') CHECK (email IS NOT NULL),
        note fieldcrypt.encrypted_text('note'),
        phones fieldcrypt.encrypted_text('phone')[]);
    CREATE INDEX lead_email ON lead USING hash (email);
    CREATE TABLE visit (
        id int,
        ssn ssn_domain REFERENCES lead (ssn),
        contact contact);
    CREATE TABLE event (ssn fieldcrypt.encrypted_text('lead.ssn'), name text)
        PARTITION BY HASH (ssn);
    CREATE TABLE event_0 PARTITION OF event FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE event_2 PARTITION OF event FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    CREATE TABLE person (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'))
        PARTITION BY LIST (account_id);
    CREATE TABLE person_acme PARTITION OF person FOR VALUES IN ('acme');
    CREATE TABLE person_rest PARTITION OF person DEFAULT;
    SELECT fieldcrypt.protect_table('person', 'account_id');
    CREATE VIEW found AS
        SELECT id, fieldcrypt.reveal(ssn) AS ssn FROM lead WHERE ssn = 'canary-7d1c0b 1';
    CREATE MATERIALIZED VIEW latest AS SELECT id, ssn FROM lead WHERE id > 40;
    CREATE FUNCTION id_of(fieldcrypt.encrypted_text) RETURNS int STABLE
        BEGIN ATOMIC SELECT id FROM lead WHERE ssn = $1; END;
    CREATE POLICY not_this ON visit USING (ssn <> 'canary-7d1c0b 2');
    GRANT ALL ON lead, visit, event, person, found, latest TO app;
"""

ROWS = """
    INSERT INTO lead SELECT i, 'acme', 'canary-7d1c0b ' || i, 'canary-7d1c0b@b.example',
        'canary-7d1c0b note', CASE WHEN i % 2 = 0 THEN
            ARRAY['canary-7d1c0b +44 ' || i, NULL]::fieldcrypt.encrypted_text('phone')[] END
        FROM generate_series(1, 50) AS i;
    INSERT INTO visit SELECT id, ssn, ROW('home', 'canary-7d1c0b +1 555 ' || id)::contact FROM lead;
    INSERT INTO event SELECT ssn, 'seen' FROM lead;
    INSERT INTO person SELECT 'acme', ssn FROM lead;
    REFRESH MATERIALIZED VIEW latest;
"""

# Every envelope, as text, in an order that does not depend on where it is.
ENVELOPES = """
    SELECT 'lead', id, ssn::text, email::text, note::text, phones::text FROM lead
    UNION ALL SELECT 'visit', id, ssn::text, contact::text, NULL, NULL FROM visit
    UNION ALL SELECT tableoid::regclass::text, NULL, ssn::text, name, NULL, NULL FROM event
    UNION ALL SELECT tableoid::regclass::text, NULL, ssn::text, account_id, NULL, NULL FROM person
    UNION ALL SELECT 'latest', id, ssn::text, NULL, NULL, NULL FROM latest
    ORDER BY 1, 2, 3
"""

STATE = {
    "accounts": "SELECT account, state, created_at FROM fieldcrypt.account ORDER BY 1",
    "keys": "SELECT key_id, account, purpose, version, state, wrapped, wrapped_by, check_value"
    " FROM fieldcrypt.account_key ORDER BY 1",
    "roots": "SELECT name, check_value FROM fieldcrypt.root_key",
    "fields": "SELECT * FROM fieldcrypt.field ORDER BY name",
    "grants": "SELECT role::text, account, field, privileges FROM fieldcrypt.access_grant"
    " ORDER BY 1, 2, 3",
    "protected": "SELECT relation::text, account_column, on_mismatch, enabled"
    " FROM fieldcrypt.protected ORDER BY 1",
    "types": "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod)"
    " FROM pg_attribute WHERE attrelid IN ('lead'::regclass, 'visit'::regclass, 'event'::regclass)"
    " AND attnum > 0 ORDER BY 1, 2",
}

pytestmark = pytest.mark.every_version


@pytest.fixture(scope="module")
def source(cluster):
    """A database with values in everything that can hold them. Nobody changes it."""
    with account_database(cluster) as database:
        database.execute(SCHEMA)
        with database.connect("app", options="-c fieldcrypt.account=acme") as app:
            database.execute("ALTER MATERIALIZED VIEW latest OWNER TO app")
            database.execute("GRANT CREATE ON SCHEMA public TO app")
            app.execute(ROWS)
        yield database


@pytest.fixture(scope="module")
def elsewhere(cluster):
    """Another server, without any key, that has the roles of the first."""
    with Cluster({"fieldcrypt.keyring_file": None}) as other:
        shutil.rmtree(other.keys_dir)
        roles = cluster.run("pg_dumpall", "--roles-only").stdout
        other.psql(roles.replace("CREATE ROLE postgres;", ""))
        yield other


@pytest.fixture
def target(elsewhere):
    """An empty database on the server without keys."""
    database = Database(elsewhere)
    yield database
    database.drop()


@contextmanager
def root_key_of(cluster, other):
    """Brings the root keys of `cluster` to the server `other`, and takes them away again."""
    keys = other.dir / "brought"
    keys.mkdir()
    shutil.copystat(cluster.keys_dir, keys)
    shutil.chown(keys, cluster.keys_dir.owner(), cluster.keys_dir.group())
    for key in cluster.keys_dir.glob("*.key"):
        shutil.copy(key, keys)
        shutil.chown(keys / key.name, key.owner(), key.group())
    keyring = write_keyring(keys)
    try:
        configure(other, f"ALTER SYSTEM SET fieldcrypt.keyring_file = '{keyring}'")
        yield
    finally:
        configure(other, "ALTER SYSTEM RESET fieldcrypt.keyring_file")
        shutil.rmtree(keys)


def configure(cluster, statement):
    """Changes a setting and waits until the postmaster, from which sessions inherit, has it."""
    with cluster.connect() as connection:
        before = connection.execute("SELECT pg_conf_load_time()").fetchone()
        connection.execute(statement)
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SELECT pg_conf_load_time()").fetchone() == before:
            pass


def dump(database, *arguments):
    return database.cluster.run("pg_dump", "-d", database.name, *arguments).stdout


def restore(database, text, user="postgres"):
    """Loads a plain dump; any error fails."""
    done = database.cluster.run(
        *("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database.name),
        input=text,
    )
    assert "ERROR" not in done.stderr


def assert_same(source, target):
    for name, query in {**STATE, "envelopes": ENVELOPES}.items():
        assert target.execute(query).fetchall() == source.execute(query).fetchall(), name


def assert_locked(target):
    """Without the root key every use of a key is the same clear error; equality still works."""
    with target.connect("app", options="-c fieldcrypt.account=acme") as app:
        for query in (
            "SELECT fieldcrypt.decrypt(ssn) FROM lead",
            "SELECT fieldcrypt.reveal(ssn) FROM lead",
            "SELECT id FROM lead WHERE ssn = '1'",
            "SELECT * FROM found",
            "INSERT INTO lead VALUES (99, 'acme', '1')",
            "SELECT fieldcrypt.encrypt('x', 'lead.ssn')",
            "SELECT fieldcrypt.blind_index('1', 'lead.ssn')",
        ):
            with refused("F0000", "fieldcrypt.keyring_file is not set", hint="postgresql.conf"):
                app.execute(query)
        query = "SELECT count(*), count(DISTINCT v.ssn) FROM lead JOIN visit AS v USING (ssn)"
        assert app.execute(query).fetchone() == (50, 50)


def assert_opens(target):
    """With the root key everything decrypts and is found, in every place."""
    with target.connect("app", options="-c fieldcrypt.account=acme") as app:
        for query in (
            "SELECT fieldcrypt.decrypt(ssn) FROM lead",
            "SELECT fieldcrypt.decrypt(ssn) FROM visit",
            "SELECT fieldcrypt.decrypt(ssn) FROM event",
            "SELECT fieldcrypt.decrypt(ssn) FROM person",
        ):
            values = sorted(value for (value,) in app.execute(query))
            assert values == sorted(f"{CANARY} {i}" for i in range(1, 51)), query
        assert values_found(app, f"{CANARY} 17") == [f"{CANARY} 17"]
        one = f"{CANARY} 1"
        for query, expected in {
            "SELECT * FROM found": (1, one),
            f"SELECT id_of('{CANARY} 3')": (3,),
            f"SELECT count(*) FROM event WHERE ssn = '{CANARY} 9'": (1,),
            f"SELECT count(*) FROM person WHERE ssn = '{CANARY} 9'": (1,),
            f"SELECT id FROM lead WHERE email = '{CANARY}@B.example' AND id = 3": (3,),
            "SELECT fieldcrypt.decrypt(phones[1]) FROM lead WHERE id = 2": (f"{CANARY} +44 2",),
            "SELECT fieldcrypt.decrypt((contact).phone) FROM visit WHERE id = 4": (
                f"{CANARY} +1 555 4",
            ),
        }.items():
            assert app.execute(query).fetchone() == expected, query
        with refused("23505"):
            app.execute(f"INSERT INTO lead VALUES (99, 'acme', '{one}', 'x@b.example')")
        with refused("23503"):
            app.execute("INSERT INTO visit VALUES (99, '999')")
        app.execute("SET fieldcrypt.account = 'globex'")
        with refused("42501"):
            app.execute("INSERT INTO person VALUES ('acme', '1')")


def test_a_dump_holds_no_plain_value(source):
    text = dump(source)
    assert "fc1:" in text
    assert CANARY not in text


@pytest.mark.parametrize("how", ["plain", "inserts", "custom", "directory"])
def test_whole_database(cluster, source, elsewhere, target, how):
    if how in ("plain", "inserts"):
        restore(target, dump(source, *(["--inserts"] if how == "inserts" else [])))
    else:
        path = cluster.dir / f"{source.name}.{how}"
        dump(source, f"--format={how}", f"--file={path}")
        # The other server has a folder of its own; the servers' user can read both.
        done = elsewhere.run(
            *("pg_restore", "--exit-on-error", "-d", target.name),
            *([] if how == "custom" else ["--jobs=2"]),
            path,
        )
        assert "rror" not in done.stderr
    assert_same(source, target)
    assert_locked(target)
    if how in ("plain", "directory"):
        with root_key_of(cluster, elsewhere):
            assert_opens(target)


def test_schema_first_and_data_later(cluster, source, elsewhere, target):
    restore(target, dump(source, "--schema-only"))
    restore(target, dump(source, "--data-only"))
    target.execute("REFRESH MATERIALIZED VIEW latest")
    assert_same(source, target)
    assert_locked(target)
    with root_key_of(cluster, elsewhere):
        assert_opens(target)


def test_one_table(source, target):
    """A table alone, into a database whose extension does not know the field yet."""
    target.execute("CREATE EXTENSION fieldcrypt")
    target.execute("CREATE DOMAIN ssn_domain AS fieldcrypt.encrypted_text('lead.ssn')")
    restore(target, dump(source, "-t", "lead", "-t", "event*"))
    query = "SELECT ssn::text, note::text, phones::text FROM lead ORDER BY id"
    assert target.execute(query).fetchall() == source.execute(query).fetchall()
    with refused("42704", "key .* does not exist", hint="another database"):
        target.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
    # The second dump prints the bare handles and loads as well.
    text = dump(target, "-t", "lead")
    target.execute("DROP TABLE lead")
    restore(target, text)
    assert target.execute(query).fetchall() == source.execute(query).fetchall()
    target.execute("SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}')")
    assert "ssn fieldcrypt.encrypted_text('lead.ssn')" in dump(target, "-t", "lead")


def test_an_owner_who_is_no_superuser(cluster, source, elsewhere, target):
    """A member of fieldcrypt_restore loads his tables; others may not."""
    target.execute("CREATE EXTENSION fieldcrypt; GRANT CREATE ON SCHEMA public TO app")
    # What belongs to the extension is the superuser's.
    restore(target, dump(source, "--data-only", "-t", "fieldcrypt.*"))
    text = dump(source, "-n", "public", "--no-owner", "--no-acl", "--no-comments")
    text = text.replace("CREATE SCHEMA public;", "")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        restore(target, text, user="app")
    assert "encrypted values are not accepted as input from this role" in caught.value.stderr
    target.execute("DROP OWNED BY app; GRANT CREATE ON SCHEMA public TO app")
    target.execute("GRANT fieldcrypt_restore TO app")
    try:
        restore(target, text, user="app")
    finally:
        target.execute("REVOKE fieldcrypt_restore FROM app")
    assert_same(source, target)
    with root_key_of(cluster, elsewhere):
        assert_opens(target)


def test_a_restored_database_is_dumped_again(source, target):
    """The second dump is the first, byte for byte."""
    text = dump(source)
    restore(target, text)
    assert without_tokens(dump(target)) == without_tokens(text)


def without_tokens(text):
    """A dump without the random words of psql's \\restrict."""
    lines = text.splitlines()
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_the_keys_of_another_installation(cluster, source, elsewhere, target):
    """A root key of the same name but other bytes is refused, for reading and writing."""
    restore(target, dump(source))
    keys = elsewhere.dir / "others"
    keyring = write_keyring(keys)
    try:
        configure(elsewhere, f"ALTER SYSTEM SET fieldcrypt.keyring_file = '{keyring}'")
        for user, query in (
            ("postgres", "SELECT fieldcrypt.create_account('new')"),
            ("app", "SELECT fieldcrypt.encrypt('x', 'lead.ssn', 'acme')"),
            ("app", "SELECT fieldcrypt.decrypt(ssn) FROM lead"),
        ):
            with refused("F0000", 'root key "main" is not the one', hint="original root key"):
                with target.connect(user) as connection:
                    connection.execute(query)
        assert_same(source, target)
    finally:
        configure(elsewhere, "ALTER SYSTEM RESET fieldcrypt.keyring_file")
        shutil.rmtree(keys)


def test_pg_upgrade(source, cluster, make_cluster):
    """pg_upgrade of a server to another of its version keeps values, look-ups and keys."""
    old = make_cluster()
    new = make_cluster({"fieldcrypt.keyring_file": str(old.keyring)})
    old.psql(cluster.run("pg_dumpall", "--roles-only").stdout.replace("CREATE ROLE postgres;", ""))
    shutil.copy(cluster.keys_dir / "main.key", old.keys_dir / "main.key")
    original = Database(old, "original")
    restore(original, dump(source))
    original.conn.close()
    old.stop()
    new.stop()
    work = new.dir / "upgrade"
    work.mkdir()
    shutil.chown(work, new.data_dir.owner(), new.data_dir.group())
    done = new.run(
        *("pg_upgrade", "-b", old.bin, "-B", new.bin, "-d", old.data_dir, "-D", new.data_dir),
        *("--socketdir", new.dir, "-U", "postgres", "--no-sync", "--jobs=2"),
        cwd=work,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + upgrade_logs(new.data_dir)
    new.start()
    with new.connect(dbname="original") as connection:
        for name, query in {**STATE, "envelopes": ENVELOPES}.items():
            assert connection.execute(query).fetchall() == source.execute(query).fetchall(), name
        operators = "SELECT count(*) FROM pg_operator WHERE oprcode::text LIKE 'fieldcrypt.%'"
        dependencies = (
            "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass"
            " AND deptype = 'e' AND refobjid ="
            " (SELECT oid FROM pg_extension WHERE extname = 'fieldcrypt')"
        )
        for query in operators, dependencies:
            assert connection.execute(query).fetchone() == source.execute(query).fetchone()
    upgraded = Database(new, "original", exists=True)
    assert_opens(upgraded)
    upgraded.conn.close()
    with new.connect(dbname="original") as connection:
        connection.execute("DROP EXTENSION fieldcrypt CASCADE")
        assert connection.execute(operators).fetchone() == (0,)


def upgrade_logs(data_dir):
    logs = sorted(data_dir.glob("pg_upgrade_output.d/**/*.log"))
    return "\n".join(log.read_text()[-3000:] for log in logs)
