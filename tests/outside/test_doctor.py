"""doctor(): each finding comes when there is a reason for it, and goes with its remedy.

The cases are in doctor_cases.
"""

import re
import resource
import socket
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from doctor_cases import CANARY, CASES, PROBLEM
from doctor_cases.case import write_keyring
from expect import refused
from harness import Cluster, Database, account_database
from psycopg import sql

pytestmark = pytest.mark.every_version

ROOT = Path(__file__).parents[2]

DOCTOR = "SELECT severity, subject, finding, remedy FROM fieldcrypt.doctor()"


class Finding(NamedTuple):
    severity: str
    subject: str
    finding: str
    remedy: str


class Well(Database):
    """A database in which doctor() finds nothing, and its server, which the tests break and mend.

    Unless said otherwise doctor() is called by `overseer`, a member of fieldcrypt_auditor and of
    nothing else. What it answers is searched for values and key bytes.
    """

    # to be quick; there is a case about it
    ignored = frozenset(["setting fsync"])

    def __init__(self, cluster, template):
        self.cluster = cluster
        self.settings = cluster.settings
        self.name = cluster.create_database(template=template)
        self.conn = self.connect()
        self.made_roles = []

    def findings(self, user="overseer", **options):
        with self.connect(user, **options) as connection:
            found = [Finding(*row) for row in connection.execute(DOCTOR)]
        text = "\n".join(" ".join(finding) for finding in found)
        keys = [path.read_text() for path in self.cluster.keys_dir.glob("*.key")]
        assert not [secret for secret in (CANARY, *keys) if secret.strip()[:20] in text]
        return [finding for finding in found if finding.subject not in self.ignored]

    def finding(self, subject):
        (found,) = [finding for finding in self.findings() if finding.subject == subject]
        return found

    def role(self, name, options=""):
        """Creates a role that is dropped with the database."""
        self.made_roles.append(name)
        self.execute(f"CREATE ROLE {name} {options}")

    def as_mover(self, statements, table=None):
        """Runs statements as the role `mover`, which has rights on all fields, as no superuser has.

        With a table, as its owner, who may create fields.
        """
        if table:
            self.execute(f"""
                GRANT CREATE ON SCHEMA public TO mover;
                ALTER TABLE {table} OWNER TO mover;
                GRANT fieldcrypt_admin TO mover""")
        self.psql(statements, user="mover")
        if table:
            self.execute(f"""
                ALTER TABLE {table} OWNER TO postgres;
                GRANT ALL ON {table} TO mover;
                REVOKE fieldcrypt_admin FROM mover""")

    def system(self, setting, value):
        """Sets what the configuration says of a setting; None takes it back."""
        value = "DEFAULT" if value is None else sql.Literal(value).as_string(self.conn)
        self.reloading(
            lambda: self.psql(f"ALTER SYSTEM SET {setting} = {value}; SELECT pg_reload_conf();")
        )

    def reload(self):
        self.reloading(lambda: self.execute("SELECT pg_reload_conf()"))

    def reloading(self, work):
        """Does something that reloads the configuration, and waits until that is done."""
        time_of_reload = "SELECT pg_conf_load_time()"
        before = self.value(time_of_reload)
        work()
        deadline = time.monotonic() + 30
        while self.value(time_of_reload) == before:
            assert time.monotonic() < deadline, "the configuration was not reloaded"
            time.sleep(0.01)

    def stopped(self, work):
        self.conn.close()
        self.cluster.stop()
        work()
        self.cluster.port = self.settings.get("port", 5432)
        self.cluster.start()
        self.conn = self.connect()

    def restart(self):
        self.stopped(lambda: None)

    def free_port(self):
        with socket.socket() as probe:
            probe.bind(("", 0))
            return probe.getsockname()[1]

    def restart_with_locked_memory(self, limit):
        """Restarts the server with a limit on locked memory, in bytes."""
        before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, before[1]))
        self.restart()
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)

    def carry_out(self, remedy):
        if "pg_reload_conf" in remedy:
            self.reloading(lambda: self.psql(remedy))
        else:
            self.psql(remedy)

    def drop(self):
        """Drops the database, and what of the cases belongs to all databases."""
        self.conn.close()
        with self.cluster.connect() as connection:
            own_settings = connection.execute("""
                SELECT COALESCE(NULLIF(setrole, 0)::regrole::text, 'ALL') FROM pg_db_role_setting
                WHERE setdatabase = 0""")
            for (role,) in own_settings.fetchall():
                connection.execute(f"ALTER ROLE {role} RESET ALL")
            self.cluster.drop_database(self.name)
            for name in self.made_roles:
                connection.execute(f"DROP ROLE IF EXISTS {name}")


class Server:
    """A server as it should be, with a database to copy; another one after a test has failed."""

    def __init__(self):
        self._started = None

    @contextmanager
    def well(self):
        if self._started is None:
            with ExitStack() as started:
                self._cluster = started.enter_context(Cluster(initdb_args=["--data-checksums"]))
                write_keyring(self._cluster.keys_dir)
                for key in self._cluster.keys_dir.glob("adopt-*.key"):
                    key.unlink()
                self._cluster.create_roles("overseer", "mover")
                template = started.enter_context(account_database(self._cluster))
                fill(template)
                template.conn.close()
                self._template = template.name
                self._started = started.pop_all()
        try:
            well = Well(self._cluster, self._template)
            yield well
            well.drop()
        except BaseException:
            self.remove()
            raise

    def remove(self):
        if self._started is not None:
            self._started.close()
        self._started = None


def fill(database):
    database.execute("""
        GRANT fieldcrypt_auditor TO overseer;
        SELECT fieldcrypt.grant_access(
            'mover', '{encrypt,search,decrypt}', account => '*', field => 'lead.*');
        CREATE TABLE lead (
            id int PRIMARY KEY,
            account_id text NOT NULL,
            ssn fieldcrypt.encrypted_text('lead.ssn'),
            data jsonb);
        SELECT fieldcrypt.protect_table('lead', account_column => 'account_id');
        SELECT fieldcrypt.protect_jsonb(
            'lead', 'data', name => 'lead.data', account_column => 'account_id');
        SELECT fieldcrypt.protect_path('lead.data', '{contact.email}', field => 'lead.email');
        CREATE INDEX ON lead USING hash (ssn);
        CREATE INDEX ON lead USING gin (fieldcrypt.tokens(data));
        CREATE TABLE event (
            at date, account_id text NOT NULL, ssn fieldcrypt.encrypted_text('lead.ssn'))
            PARTITION BY RANGE (at);
        CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        SELECT fieldcrypt.protect_table('event', account_column => 'account_id');
        CREATE VIEW lead_ssn AS SELECT id, fieldcrypt.decrypt(ssn) AS ssn FROM lead;
        GRANT ALL ON lead, event, event_2026 TO app, app_globex, mover""")
    for i, (user, account) in enumerate([("app", "acme"), ("app_globex", "globex")], 1):
        with database.connect(user, options=f"-c fieldcrypt.account={account}") as writer:
            email = f'{{"contact": {{"email": "{CANARY}@example.com"}}}}'
            writer.execute("INSERT INTO lead VALUES (%s, %s, %s, %s)", [i, account, CANARY, email])
            writer.execute("INSERT INTO event VALUES ('2026-02-01', %s, %s)", [account, CANARY])
    database.execute("ANALYZE")


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def well(server):
    with server.well() as well:
        yield well


# What it is


def test_who_may_call(well):
    """Overseers and administrators, who all see the same; nobody else, whatever the privileges."""
    well.execute("ALTER TABLE lead DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    expected = well.findings("postgres")
    assert len(expected) == 1
    members = ["fieldcrypt_auditor", "fieldcrypt_admin", "fieldcrypt_key_admin"]
    for role in [*members, "fieldcrypt_grantor", "fieldcrypt_restore", None]:
        well.execute("REVOKE fieldcrypt_auditor FROM overseer")
        if role:
            well.execute(f"GRANT {role} TO overseer")
        if role in members:
            assert well.findings() == expected
        else:
            with refused("42501", "permission denied for function doctor"):
                well.findings()
            well.execute("GRANT EXECUTE ON FUNCTION fieldcrypt.doctor TO overseer")
            with refused("42501", 'membership in role "fieldcrypt_auditor" is required'):
                well.findings()
            well.execute("REVOKE EXECUTE ON FUNCTION fieldcrypt.doctor FROM overseer")
        if role:
            well.execute(f"REVOKE {role} FROM overseer")
    well.execute("GRANT fieldcrypt_auditor TO overseer")


def test_the_parts_are_for_nobody_else(well):
    """What runs with more rights than the caller has is called by doctor() only."""
    parts = well.execute("""
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'fieldcrypt'::regnamespace AND (
            proname ~ '^findings|^statements?_to_' OR proname IN (
                'keyring_entries', 'lockable_keys', 'count_as_owner',
                'configured_settings', 'role_memberships', 'encrypted_columns'))""")
    parts = [name for (name,) in parts]
    assert len(parts) == 20
    for role in ("overseer", "app", "fieldcrypt_admin"):
        for part in parts:
            query = "SELECT has_function_privilege(%s, %s, 'EXECUTE')"
            assert not well.value(query, [role, part]), part
    well.execute("GRANT EXECUTE ON FUNCTION fieldcrypt.count_as_owner TO overseer")
    with well.connect("overseer") as overseer, refused("42501", "only a superuser"):
        overseer.execute("SELECT fieldcrypt.count_as_owner('lead', 'SELECT ARRAY[1::bigint]')")


def test_it_can_be_queried_as_a_table(well):
    well.execute("ALTER ROLE app SET fieldcrypt.key_lifetime = '1d'")
    well.execute("ALTER TABLE lead DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    with well.connect("overseer") as overseer:
        query = (
            "SELECT count(*), min(severity) FROM fieldcrypt.doctor()"
            " WHERE subject <> 'setting fsync'"
        )
        assert overseer.execute(query).fetchone() == (2, "error")
        severities = "SELECT severity FROM fieldcrypt.doctor(sample => 0)"
        assert overseer.execute(severities).fetchall() == [("error",), ("warning",), ("notice",)]
        overseer.execute("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY")
        assert overseer.execute(query).fetchone() == (2, "error")
        overseer.execute("ROLLBACK")
        with refused("22023", "sample", hint="number of rows"):
            overseer.execute("SELECT * FROM fieldcrypt.doctor(-1)")


def test_settings_of_the_own_session_do_not_count(well):
    """A session that was started otherwise, or has SET something, learns what holds for others."""
    options = "-c fieldcrypt.redact_log=off -c log_statement=all -c fieldcrypt.account=nobody"
    assert well.findings("postgres", options=options) == []
    well.execute("ALTER ROLE overseer SET fieldcrypt.account = 'nobody'")
    (found,) = well.findings()
    assert found.subject == "setting fieldcrypt.account of role overseer"
    well.system("fieldcrypt.key_lifetime", "2h")
    found = well.findings("postgres", options="-c fieldcrypt.key_lifetime=1")
    assert "setting fieldcrypt.key_lifetime" in [f.subject for f in found]
    well.system("fieldcrypt.key_lifetime", None)


def test_settings_that_are_nonsense(well):
    """Settings of a role are not checked while their library is not loaded."""
    well.stopped(lambda: well.settings.update(shared_preload_libraries=""))
    well.execute("ALTER ROLE app SET fieldcrypt.key_lifetime = 'for ever'")
    well.execute("ALTER ROLE app SET fieldcrypt.transparent = 'perhaps'")
    well.stopped(lambda: well.settings.update(shared_preload_libraries="fieldcrypt"))
    assert well.findings() == []


def test_standby(well):
    """It works on a standby, and says what a standby without its keyring is worth."""
    standby = well.cluster.standby({"fieldcrypt.keyring_file": "/nowhere/keyring.toml"})
    try:
        standby.start()
        standby.catch_up(well.cluster)
        with standby.connect("overseer", well.name) as overseer:
            found = [Finding(*row) for row in overseer.execute(DOCTOR)]
        assert [f for f in found if f.subject != "setting fsync"] == [
            Finding(
                "error",
                "keyring",
                "the keyring file does not exist or cannot be reached; after a promotion nothing"
                " can be encrypted or decrypted here",
                "fieldcrypt never makes a key. Put the file back, or correct its path.",
            )
        ]
    finally:
        standby.remove()


def test_keys_are_not_asked_for(well):
    """It works while the root key is away: that is when it is needed."""
    well.cluster.keyring.rename(well.cluster.dir / "away")
    well.restart()
    (found,) = well.findings()
    assert found.subject == "keyring"
    (well.cluster.dir / "away").rename(well.cluster.keyring)
    well.restart()


def test_sample(well):
    """A part of a large table, spread all over it; all of it only if asked for."""
    well.execute("""
        CREATE TABLE visit (id int, account_id text, data jsonb);
        SELECT fieldcrypt.protect_jsonb('visit', 'data', name => 'visit.data',
            account_column => 'account_id');
        CREATE INDEX ON visit USING gin (fieldcrypt.tokens(data));
        INSERT INTO visit SELECT i, 'acme', CASE WHEN i % 10 = 0 OR i = 1
                THEN '{"email": "x"}' ELSE '{}' END::jsonb FROM generate_series(1, 50000) AS i;
        SELECT fieldcrypt.protect_path('visit.data', '{email}', field => 'lead.email')""")

    def counts(sample):
        with well.connect("overseer") as overseer:
            query = (
                "SELECT finding FROM fieldcrypt.doctor(%s)"
                " WHERE subject = 'column data of public.visit'"
            )
            row = overseer.execute(query, [sample]).fetchone()
        return tuple(map(int, re.findall(r"\d+", row[0]))) if row else None

    for analyzed in (False, True):
        if analyzed:
            well.execute("ANALYZE visit")
        plain, rows = counts(1000)
        assert rows <= 1000 and (rows > 500 or not analyzed) and 0 < plain < rows
        plain, rows = counts(20000)
        assert rows <= 20000 and plain < 4000
    assert counts(None) == (5001, 50000)
    assert counts(0) is None
    well.execute("DELETE FROM visit WHERE id > 9; ANALYZE visit")
    assert counts(None) == (1, 9)


def test_code_of_an_owner_runs_with_his_rights(well):
    """The planner runs functions in the indexes of a table: not as a superuser, nor for long."""
    well.role("owner")
    well.execute("""
        CREATE TABLE bait (id int, account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'));
        SELECT fieldcrypt.protect_table('bait', account_column => 'account_id');
        INSERT INTO bait VALUES (1, 'acme', NULL);
        CREATE FUNCTION spy(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM set_config('spy.seen',
                    concat_ws(' ', current_setting('spy.seen', true), current_user), false);
                RETURN i;
            END $$;
        CREATE INDEX ON bait ((spy(1) + id));
        ALTER TABLE bait OWNER TO owner;
        ALTER FUNCTION spy OWNER TO owner""")
    with well.connect() as superuser:
        superuser.execute("SELECT set_config('spy.seen', '', false)")
        superuser.execute(DOCTOR)
        assert set(superuser.execute("SHOW spy.seen").fetchone()[0].split()) == {"owner"}


def test_last_key(well):
    """The names under which flagged values are known."""
    paths = {
        "email": "email",
        "contact.email": "email",
        "phones[*].number": "number",
        "contact.phones[*]": "phones",
        "matrix[*][*]": "matrix",
        '"a.b"': "a.b",
        'c."a \\"b\\" [*]"[*]': 'a "b" [*]',
        "[*]": "",
    }
    for path, key in paths.items():
        assert well.value("SELECT fieldcrypt.last_key(%s)", [path]) == key


def test_encoding(well):
    """Names of other characters than ASCII, in a database that is not UTF-8."""
    with well.cluster.connect() as connection:
        connection.execute("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with well.cluster.connect(dbname="latin1", client_encoding="UTF8") as latin1:
            latin1.execute("""
                CREATE EXTENSION fieldcrypt;
                INSERT INTO fieldcrypt.root_key VALUES ('Schlüssel', sha256('x'))""")
            about_it = DOCTOR + " WHERE subject = 'root key \"Schlüssel\"'"
            (found,) = latin1.execute(about_it).fetchall()
            latin1.execute(found[3])
            assert latin1.execute(about_it).fetchall() == []
    finally:
        well.cluster.drop_database("latin1")


def test_many_tables(well):
    """It stays quick: what it looks at in each table is bounded."""
    well.execute("""
        DO $$ BEGIN
            FOR i IN 1..100 LOOP
                EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, account_id text,'
                    ' ssn fieldcrypt.encrypted_text(''lead.ssn''), info jsonb)', i);
                PERFORM fieldcrypt.protect_table(
                    format('t%s', i)::regclass, account_column => 'account_id');
            END LOOP;
        END $$""")
    start = time.monotonic()
    assert well.findings() == []
    assert time.monotonic() - start < 10


# What is written about it


def findings_in_source():
    source = (ROOT / "sql" / "doctor.sql").read_text()
    found = re.findall(r"'(error|warning|notice)',\s+(?:format\()?'((?:[^']|'')+)'", source)
    return {(severity, text.replace("''", "'").replace("%s", "N")) for severity, text in found}


def test_each_finding_has_a_case():
    cases = {(case.severity, case.finding) for case in CASES}
    assert {case for case in cases if case[1] != PROBLEM} == findings_in_source()


def test_documentation():
    """docs/doctor.md lists what can be found, and nothing else."""
    page = (ROOT / "docs" / "doctor.md").read_text()
    rows = re.findall(r"^\| (error|warning|notice) \| (.+?) \| .+? \| .+? \|$", page, re.MULTILINE)
    assert len(rows) == len(set(rows)) > 50
    assert set(rows) == {(case.severity, case.finding) for case in CASES}


# What it finds


def test_nothing_is_found_where_nothing_is_wrong():
    """On a server that is configured as it should be, not only nearly."""
    server = Server()
    try:
        with server.well() as well:
            well.ignored = ()
            well.system("fsync", "on")
            assert well.findings() == []
    finally:
        server.remove()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES if case.applies])
def test_case(server, case):
    with server.well() as well:
        check(well, case)


def check(well, case):
    assert well.findings() == []
    run = case.run(well)
    expected = Expected(*next(run))
    found = well.findings()
    about = [f for f in found if f.subject == expected.subject and is_of(case, expected, f)]
    assert [(f.severity, f.remedy) for f in about] == [(case.severity, expected.remedy)], found
    assert [f for f in found if f not in about and not is_beside(case, f)] == []
    (expected.carry_out or well.carry_out)(expected.remedy)
    left = well.findings()
    assert [f for f in left if f in about or not is_beside(case, f)] == []
    next(run, None)


class Expected(NamedTuple):
    subject: str
    remedy: str
    carry_out: callable = None
    finding: str = None


def is_beside(case, found):
    return any(re.search(pattern, found.finding) for pattern in case.beside)


def is_of(case, expected, found):
    if expected.finding is not None:
        return found.finding == expected.finding
    return without_numbers(found.finding) == case.finding


def without_numbers(finding):
    """The finding as the cases and the documentation have it: N stands for a number."""
    return re.sub(r"(?<![,\d])\d+(?= (of|rows|accounts|keys|fit|bytes)\b)", "N", finding)
