"""What bench/run measures, and how.

Time is CPU time of the one backend that does the work, from /proc/PID/schedstat, per row. The
measures of a group take turns, round after round, so that what disturbs the machine disturbs all of
them; a figure is the median of its rounds, and a ratio is the median of the ratios within each
round. For planning a round is a session of each kind.
"""

import argparse
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psycopg import pq

import audit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from harness import Cluster, Database  # noqa: E402
from profiler import shares_of, shares_table  # noqa: E402
from report import tables, write_between, write_documents  # noqa: E402

import jobs  # noqa: E402

SIZES = {"ssn": 11, "t100": 100, "t1k": 1024}
GROUPS = (
    *("decrypt", "encrypt", "insert", "lookup", "accounts", "documents", "transparent", "jobs"),
    "audit",
)


@dataclass(frozen=True)
class Scale:
    rows: int
    long_rows: int  # of 1 KB, so that everything stays in memory
    slow_rows: int  # for pgp_sym_*, which take 0.1 ms and more
    table_rows: int  # of the table that is searched
    read_rows: int  # of the table that is read as a whole
    lookups: int
    accounts: int
    rounds: int
    sessions: int  # of each kind, in which queries are planned
    job_rounds: int
    rotated_accounts: int  # whose keys are wrapped anew

    def rows_of(self, size):
        return self.long_rows if size == "t1k" else self.rows


FULL = Scale(200_000, 50_000, 500, 1_000_000, 500_000, 20_000, 10_000, 11, 100, 3, 100_000)
QUICK = Scale(20_000, 5_000, 50, 100_000, 50_000, 5_000, 1_000, 5, 20, 2, 10_000)


@dataclass(frozen=True)
class Measure:
    """`statement` does one thing with each of `rows` rows; `before` is not measured."""

    name: str
    statement: str
    rows: int
    before: Callable[[], None] = lambda: None


class Results:
    """The samples of each measure, in nanoseconds per row, round by round."""

    def __init__(self):
        self.samples = {}

    def add(self, group, name, nanoseconds):
        self.samples.setdefault((group, name), []).append(nanoseconds)

    def __contains__(self, key):
        return key in self.samples

    def median(self, group, name):
        return statistics.median(self.samples[group, name])

    def ratio(self, over, under):
        pairs = zip(self.samples[over], self.samples[under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def run(self, group, backend, measures, rounds):
        """Runs each measure once to warm up, and then `rounds` times in turn."""
        for number in range(rounds + 1):
            for measure in measures if number % 2 else reversed(measures):
                measure.before()
                nanoseconds = backend.time(lambda m=measure: backend.execute(m.statement))
                if number:
                    self.add(group, measure.name, nanoseconds / measure.rows)


class Clock:
    """The CPU time of a session's process."""

    def __init__(self, connection):
        process = Path(f"/proc/{connection.info.backend_pid}")
        self._time, self._state = process / "schedstat", process / "stat"

    def time(self, work):
        """The CPU time that the backend spends on `work`, in nanoseconds."""
        start = self._now()
        work()
        return self._now() - start

    def running(self):
        """The CPU time until now of a backend that may be at work, in nanoseconds."""
        return int(self._time.read_text().split()[0])

    def _now(self):
        # of a process that still runs, after its last answer, the time is behind
        while self._state.read_text().rpartition(")")[2].split()[0] == "R":
            pass
        return self.running()


class Backend:
    """A session as the role that was granted access, and the clock of its process."""

    def __init__(self, database, account="acme", settings=()):
        self.connection = database.connect(prepare_threshold=None)
        self.time = Clock(self.connection).time
        for setting in settings:
            self.execute(f"SET {setting}")
        self.execute("SET ROLE bench_app")
        self.execute(f"SET fieldcrypt.account = '{account}'")

    def execute(self, statement, parameters=None):
        return self.connection.execute(statement, parameters)

    def copy(self, table, data):
        with self.connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            copy.write(data)

    def pipeline(self, statement, parameters):
        """Executes a prepared statement once for each parameter, with one sync at the end.

        Returns the first row of each result.
        """
        connection = self.connection.pgconn
        connection.enter_pipeline_mode()
        for parameter in parameters:
            connection.send_query_prepared(statement, [parameter])
        connection.pipeline_sync()
        rows = []
        while (result := connection.get_result()) is None or (
            result.status != pq.ExecStatus.PIPELINE_SYNC
        ):
            if result is not None:
                if result.status != pq.ExecStatus.TUPLES_OK or result.ntuples != 1:
                    raise RuntimeError(f"look-up: {result.ntuples} rows, {result.error_message}")
                rows.append([result.get_value(0, i) for i in range(result.nfields)])
        connection.exit_pipeline_mode()
        return rows

    def close(self):
        self.connection.close()


# The database

PGCRYPTO_KEY = r"'\x" + "07" * 32 + "'::bytea"

SCHEMA = """
    CREATE EXTENSION fieldcrypt;
    CREATE EXTENSION pgcrypto;
    CREATE ROLE bench_app;
    GRANT ALL ON SCHEMA public TO bench_app;
    SELECT fieldcrypt.create_account('acme');
    SELECT fieldcrypt.create_field('ssn', search => '{exact}', normalizer => 'digits');
    SELECT fieldcrypt.create_field('ssn.gcm', search => '{exact}', normalizer => 'digits',
                                   suite => 'aes-256-gcm');
    SELECT fieldcrypt.create_field('text', search => '{exact}');
    SELECT fieldcrypt.create_field('text.gcm', search => '{exact}', suite => 'aes-256-gcm');
    SELECT fieldcrypt.create_field('hidden');
    SELECT fieldcrypt.create_field('hidden.gcm', suite => 'aes-256-gcm');
    SELECT fieldcrypt.grant_access('bench_app', '{encrypt,search,decrypt}', '*', '*');

    CREATE SCHEMA ceiling;
    GRANT USAGE ON SCHEMA ceiling TO bench_app;
    CREATE FUNCTION ceiling.noop(text) RETURNS integer
        AS '{ceiling}', 'noop_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION ceiling.noop(fieldcrypt.encrypted_text) RETURNS integer
        AS '{ceiling}', 'noop_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION ceiling.open_gcm(bytea) RETURNS text
        AS '{ceiling}', 'open_gcm_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION ceiling.open_xaes(bytea) RETURNS text
        AS '{ceiling}', 'open_xaes_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION ceiling.seal_gcm(text) RETURNS bytea
        AS '{ceiling}', 'seal_gcm_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE;
    CREATE FUNCTION ceiling.seal_xaes(text) RETURNS bytea
        AS '{ceiling}', 'seal_xaes_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE;
"""

# Of a number: 11 bytes like 123-45-6789, no two alike up to 10^9; and 100 and 1,024 bytes.
VALUES = {
    "ssn": "regexp_replace(lpad((i * 387420489 % 1000000000)::text, 9, '0'),"
    " '(...)(..)(....)', '\\1-\\2-\\3')",
    "t100": "left(repeat(md5(i::text), 4), 100)",
    "t1k": "repeat(md5(i::text), 32)",
}


def field_of(size):
    return "ssn" if size == "ssn" else "text"


def prepare(cluster):
    library = cluster.dir / "ceiling.so"
    shutil.copy(ROOT / "target" / "release" / "libfieldcrypt_ceiling.so", library)
    library.chmod(0o755)
    database = Database(cluster, "bench")
    database.execute(SCHEMA.replace("{ceiling}", str(library)))
    return database


def load(database, size, rows):
    """One table of each representation of the same values: a scan reads only what it is about."""
    field = field_of(size)
    backend = Backend(database)
    backend.execute(f"""
        CREATE TABLE {size}_plain (v text);
        CREATE TABLE {size}_xaes (v fieldcrypt.encrypted_text('{field}'));
        CREATE TABLE {size}_gcm (v fieldcrypt.encrypted_text('{field}.gcm'));
        CREATE TABLE {size}_bare_xaes (v bytea);
        CREATE TABLE {size}_bare_gcm (v bytea);
        CREATE TABLE {size}_pgcrypto (v bytea, iv bytea);
        CREATE TABLE {size}_pgp (v bytea);
        INSERT INTO {size}_plain SELECT {VALUES[size]} FROM generate_series(1::bigint, {rows}) i;
        INSERT INTO {size}_xaes SELECT v FROM {size}_plain;
        INSERT INTO {size}_gcm SELECT v FROM {size}_plain;
        INSERT INTO {size}_bare_xaes SELECT ceiling.seal_xaes(v) FROM {size}_plain;
        INSERT INTO {size}_bare_gcm SELECT ceiling.seal_gcm(v) FROM {size}_plain;
        INSERT INTO {size}_pgcrypto
            SELECT encrypt_iv(convert_to(v, 'UTF8'), {PGCRYPTO_KEY}, iv, 'aes-cbc'), iv
            FROM (SELECT v, gen_random_bytes(16) AS iv FROM {size}_plain OFFSET 0) AS s;
        INSERT INTO {size}_pgp SELECT pgp_sym_encrypt(v, 'secret') FROM {size}_plain LIMIT 500;
    """)
    for table in ("plain", "xaes", "gcm", "bare_xaes", "bare_gcm", "pgcrypto", "pgp"):
        database.execute(f"VACUUM (FREEZE, ANALYZE) {size}_{table}")
    for decrypted in (
        f"SELECT fieldcrypt.decrypt(v) FROM {size}_xaes",
        f"SELECT fieldcrypt.decrypt(v) FROM {size}_gcm",
        f"SELECT ceiling.open_xaes(v) FROM {size}_bare_xaes",
        f"SELECT ceiling.open_gcm(v) FROM {size}_bare_gcm",
    ):
        differing = backend.execute(
            f"SELECT count(*) FROM ({decrypted} EXCEPT ALL SELECT v FROM {size}_plain) AS s"
        )
        assert differing.fetchone() == (0,), decrypted
    backend.close()


# The groups


def decrypt(database, results, scale, size):
    rows = scale.rows_of(size)
    slow = min(rows, scale.slow_rows)

    def scan(name, function, table):
        return Measure(name, f"SELECT count({function}) FROM {size}_{table}", rows)

    pgcrypto = f"decrypt_iv(v, {PGCRYPTO_KEY}, iv, 'aes-cbc')"
    backend = Backend(database)
    results.run(
        f"decrypt {size}",
        backend,
        [
            scan("scan of the plaintext", "v", "plain"),
            scan("no-op, aes-256-gcm column", "ceiling.noop(v)", "gcm"),
            scan("bare aes-256-gcm", "ceiling.open_gcm(v)", "bare_gcm"),
            scan("decrypt(), aes-256-gcm", "fieldcrypt.decrypt(v)", "gcm"),
            scan("no-op, default suite column", "ceiling.noop(v)", "xaes"),
            scan("bare xaes-256-gcm", "ceiling.open_xaes(v)", "bare_xaes"),
            scan("decrypt(), default suite", "fieldcrypt.decrypt(v)", "xaes"),
            scan("reveal(), default suite", "fieldcrypt.reveal(v)", "xaes"),
            scan("pgcrypto decrypt_iv", pgcrypto, "pgcrypto"),
            scan("pgcrypto decrypt_iv to text", f"convert_from({pgcrypto}, 'UTF8')", "pgcrypto"),
            Measure(
                "pgcrypto pgp_sym_decrypt",
                f"SELECT count(pgp_sym_decrypt(v, 'secret'))"
                f" FROM (SELECT v FROM {size}_pgp LIMIT {slow}) AS s",
                slow,
            ),
        ],
        scale.rounds,
    )
    backend.close()


def encrypt(database, results, scale, size):
    rows = scale.rows_of(size)
    slow = min(rows, scale.slow_rows)
    field = field_of(size)
    values = f"FROM {size}_plain"
    with_iv = f"FROM (SELECT v, gen_random_bytes(16) AS iv FROM {size}_plain OFFSET 0) AS s"
    pgcrypto = f"iv || encrypt_iv(convert_to(v, 'UTF8'), {PGCRYPTO_KEY}, iv, 'aes-cbc')"

    blind_index = f"fieldcrypt.blind_index(v, '{field}')"

    def seal(name, field):
        statement = f"SELECT count(fieldcrypt.encrypt(v, '{field}', 'acme')) {values}"
        return Measure(name, statement, rows)

    backend = Backend(database)
    results.run(
        f"encrypt {size}",
        backend,
        [
            Measure("no-op", f"SELECT count(ceiling.noop(v)) {values}", rows),
            Measure("bare aes-256-gcm", f"SELECT count(ceiling.seal_gcm(v)) {values}", rows),
            seal("encrypt(), aes-256-gcm", "hidden.gcm"),
            seal("encrypt() with token, aes-256-gcm", f"{field}.gcm"),
            Measure("bare xaes-256-gcm", f"SELECT count(ceiling.seal_xaes(v)) {values}", rows),
            seal("encrypt(), default suite", "hidden"),
            seal("encrypt() with token, default suite", field),
            Measure("blind_index()", f"SELECT count({blind_index}) {values}", rows),
            Measure("pgcrypto encrypt_iv, random IV", f"SELECT count({pgcrypto}) {with_iv}", rows),
            Measure(
                "pgcrypto encrypt_iv, random IV, and hmac",
                f"SELECT count({pgcrypto}), count(hmac(v, 'secret', 'sha256')) {with_iv}",
                rows,
            ),
            Measure(
                "pgcrypto pgp_sym_encrypt",
                f"SELECT count(pgp_sym_encrypt(v, 'secret'))"
                f" FROM (SELECT v FROM {size}_plain LIMIT {slow}) AS s",
                slow,
            ),
        ],
        scale.rounds,
    )
    backend.close()


def insert(database, results, scale, size):
    rows = scale.rows_of(size)
    field = field_of(size)
    backend = Backend(database)

    def empty(table):
        # Also writes out what is dirty and recycles the WAL, which the backend would do otherwise.
        backend.execute(f"TRUNCATE {table}")
        database.execute("CHECKPOINT")

    backend.execute(f"""
        CREATE TABLE {size}_into_plain (v text);
        CREATE TABLE {size}_into_token (v fieldcrypt.encrypted_text('{field}'));
        CREATE TABLE {size}_into_token_gcm (v fieldcrypt.encrypted_text('{field}.gcm'));
        CREATE TABLE {size}_into_hidden (v fieldcrypt.encrypted_text('hidden'));
        CREATE TABLE {size}_into_pgcrypto (v bytea, h bytea);
    """)

    def into(name, table, select=f"SELECT v FROM {size}_plain"):
        table = f"{size}_into_{table}"
        statement = f"INSERT INTO {table} {select}"
        return Measure(name, statement, rows, before=lambda: empty(table))

    group = f"insert {size}"
    results.run(
        group,
        backend,
        [
            into("plain text", "plain"),
            into("typed column with token, default suite", "token"),
            into("typed column with token, aes-256-gcm", "token_gcm"),
            into("typed column without token, default suite", "hidden"),
            into(
                "pgcrypto encrypt_iv, random IV, and hmac",
                "pgcrypto",
                f"SELECT iv || encrypt_iv(convert_to(v, 'UTF8'), {PGCRYPTO_KEY}, iv, 'aes-cbc'),"
                f" hmac(v, 'secret', 'sha256')"
                f" FROM (SELECT v, gen_random_bytes(16) AS iv FROM {size}_plain OFFSET 0) AS s",
            ),
        ],
        scale.rounds,
    )
    values = backend.execute(f"SELECT v FROM {size}_plain").fetchall()
    data = "".join(f"{value}\n" for (value,) in values).encode()
    copies = {
        "COPY, plain text": f"{size}_into_plain",
        "COPY, typed column with token, default suite": f"{size}_into_token",
    }
    for number in range(scale.rounds + 1):
        for name, table in copies.items():
            empty(table)
            nanoseconds = backend.time(lambda t=table: backend.copy(t, data))
            if number:
                results.add(group, name, nanoseconds / rows)
    backend.execute(f"""
        DROP TABLE {size}_into_plain, {size}_into_token, {size}_into_token_gcm,
                   {size}_into_hidden, {size}_into_pgcrypto
    """)
    backend.close()


TEXT = 25  # the type's OID


@dataclass(frozen=True)
class Lookup:
    """A statement that finds one row: its id, and the value if it has a second column."""

    statement: str
    # What the client declares the parameter to be: 0 leaves it to the server, which takes it for
    # the column's type.
    oid: int = 0
    parameter: str = "%s"


LOOKUPS = {
    "plaintext, btree": Lookup("SELECT id FROM find_plain WHERE v = $1"),
    "encrypted, hash index": Lookup("SELECT id FROM find_hash WHERE v = $1"),
    "encrypted, hash index, parameter of type text": Lookup(
        "SELECT id FROM find_hash WHERE v = $1", TEXT
    ),
    "encrypted, btree": Lookup("SELECT id FROM find_btree WHERE v = $1"),
    "pgcrypto hmac, btree": Lookup(
        "SELECT id FROM find_pgcrypto WHERE h = hmac($1, 'secret', 'sha256')"
    ),
    "plaintext, btree, and the value": Lookup("SELECT id, v FROM find_plain WHERE v = $1"),
    "encrypted, hash index, and decrypt()": Lookup(
        "SELECT id, fieldcrypt.decrypt(v) FROM find_hash WHERE v = $1"
    ),
    "encrypted, hash index, parameter of type text, and decrypt()": Lookup(
        "SELECT id, fieldcrypt.decrypt(v) FROM find_hash WHERE v = $1", TEXT
    ),
    "encrypted, btree, and decrypt()": Lookup(
        "SELECT id, fieldcrypt.decrypt(v) FROM find_btree WHERE v = $1"
    ),
    "pgcrypto hmac, btree, and decrypt_iv": Lookup(
        f"SELECT id, convert_from(decrypt_iv(v, {PGCRYPTO_KEY}, iv, 'aes-cbc'), 'UTF8')"
        " FROM find_pgcrypto WHERE h = hmac($1, 'secret', 'sha256')"
    ),
}


def lookup(database, results, scale):
    backend = Backend(database)
    backend.execute(f"""
        CREATE TABLE find_plain (id bigint, v text);
        CREATE TABLE find_hash (id bigint, v fieldcrypt.encrypted_text('ssn'));
        CREATE TABLE find_btree (id bigint, v fieldcrypt.encrypted_text('ssn'));
        CREATE TABLE find_pgcrypto (id bigint, h bytea, v bytea, iv bytea);
        INSERT INTO find_plain
            SELECT i, {VALUES["ssn"]} FROM generate_series(1::bigint, {scale.table_rows}) i;
        INSERT INTO find_hash SELECT id, v FROM find_plain;
        INSERT INTO find_btree SELECT id, v FROM find_hash;
        INSERT INTO find_pgcrypto
            SELECT id, hmac(v, 'secret', 'sha256'),
                   encrypt_iv(convert_to(v, 'UTF8'), {PGCRYPTO_KEY}, iv, 'aes-cbc'), iv
            FROM (SELECT id, v, gen_random_bytes(16) AS iv FROM find_plain OFFSET 0) AS s;
        CREATE INDEX ON find_plain (v);
        CREATE INDEX ON find_hash USING hash (v);
        CREATE INDEX ON find_btree (v);
        CREATE INDEX ON find_pgcrypto (h);
    """)
    for table in ("plain", "hash", "btree", "pgcrypto"):
        database.execute(f"VACUUM (FREEZE, ANALYZE) find_{table}")
    rows = backend.execute("SELECT id, v FROM find_plain").fetchall()
    look_up(backend, results, scale, "lookup", LOOKUPS, rows)
    backend.close()


def look_up(backend, results, scale, group, lookups, rows):
    """Each look-up for the same random sample of `rows`, (id, value), in each round."""
    for number, lookup in enumerate(lookups.values()):
        backend.connection.pgconn.prepare(
            f"lookup{number}".encode(), lookup.statement.encode(), [lookup.oid]
        )
    generator = random.Random(1)
    for turn in range(scale.rounds + 1):
        sample = generator.sample(rows, scale.lookups)
        for number, (name, lookup) in enumerate(lookups.items()):
            found = []
            statement = f"lookup{number}".encode()
            parameters = [(lookup.parameter % value).encode() for _, value in sample]

            def work(statement=statement, parameters=parameters, found=found):
                for start in range(0, len(parameters), 1000):
                    found.extend(backend.pipeline(statement, parameters[start : start + 1000]))

            start = time.perf_counter()
            nanoseconds = backend.time(work)
            seconds = time.perf_counter() - start
            expected = [[str(i).encode(), v.encode()][: len(found[0])] for i, v in sample]
            assert found == expected, name
            if turn:
                results.add(group, name, nanoseconds / scale.lookups)
                results.add(f"{group} wall", name, seconds * 1e9 / scale.lookups)
    plans = backend.execute("SELECT name, custom_plans FROM pg_prepared_statements").fetchall()
    assert all(custom <= 5 for _, custom in plans), plans


def accounts(database, results, scale):
    """Values of many accounts in random order, against as many of one account."""
    database.execute(f"""
        SELECT count(fieldcrypt.create_account('account-' || i))
        FROM generate_series(1, {scale.accounts}) i
    """)
    settings = ["fieldcrypt.key_cache_size = 25000"]
    backend = Backend(database, settings=settings)
    backend.execute(f"""
        CREATE TABLE of_one (v fieldcrypt.encrypted_text('ssn'));
        CREATE TABLE of_many (v fieldcrypt.encrypted_text('ssn'));
        CREATE TABLE once_each (v fieldcrypt.encrypted_text('ssn'));
        INSERT INTO of_one SELECT {VALUES["ssn"]} FROM generate_series(1::bigint, {scale.rows}) i;
        INSERT INTO of_many
            SELECT fieldcrypt.encrypt({VALUES["ssn"]}, 'ssn', 'account-' || account)
            FROM (SELECT i, 1 + (hashint8(i)::bigint & 2147483647) % {scale.accounts} AS account
                  FROM generate_series(1::bigint, {scale.rows}) i) AS s;
        INSERT INTO once_each
            SELECT fieldcrypt.encrypt('123-45-6789', 'ssn', 'account-' || i)
            FROM generate_series(1, {scale.accounts}) i ORDER BY hashint4(i);
    """)
    for table in ("of_one", "of_many", "once_each"):
        database.execute(f"VACUUM (FREEZE, ANALYZE) {table}")

    def scan(name, table):
        return Measure(name, f"SELECT count(fieldcrypt.decrypt(v)) FROM {table}", scale.rows)

    measures = [scan("one account", "of_one"), scan("many accounts, warm", "of_many")]
    results.run("accounts", backend, measures, scale.rounds)
    backend.close()

    touches = {
        "first decrypt() of an account": "SELECT count(fieldcrypt.decrypt(v)) FROM once_each",
        "first encrypt() with token of an account": "SELECT count(fieldcrypt.encrypt("
        f"'123-45-6789', 'ssn', 'account-' || i)) FROM generate_series(1, {scale.accounts}) i",
    }
    for _ in range(scale.rounds):
        for name, statement in touches.items():
            backend = Backend(database, settings=settings)
            # what is new in every session, whatever the account
            backend.execute("SELECT fieldcrypt.decrypt(fieldcrypt.encrypt('1', 'ssn'))")
            cold = backend.time(lambda b=backend, s=statement: b.execute(s))
            warm = backend.time(lambda b=backend, s=statement: b.execute(s))
            results.add("accounts", name, (cold - warm) / scale.accounts)
            backend.close()


# Of a number: about 600 bytes as text, with 20 keys. Three values of it are flagged.
DOCUMENT = f"""jsonb_build_object(
    'ssn', {VALUES["ssn"]}, 'name', 'Customer ' || i, 'born', date '1950-01-01' + (i % 20000)::int,
    'contact', jsonb_build_object('email', 'customer.' || i || '@mail.example',
        'phone', '+44 20 ' || lpad(i::text, 8, '0'), 'city', 'Springfield'),
    'status', 'active', 'source', 'web form', 'language', 'en', 'owner', 'sales.team.' || i % 40,
    'created_at', '2026-03-01T09:30:00Z', 'updated_at', '2026-04-15T18:05:12Z', 'score', i % 1000,
    'tags', jsonb_build_array('newsletter', 'spring-campaign'), 'consent', true, 'visits', i % 90,
    'value', (i % 100000) / 100.0, 'referrer', 'https://www.example.com/landing?campaign=' || i,
    'note', 'called twice, wants an offer by the end of the month')"""

FLAGGED = {"ssn": "ssn", "contact.email": "email", "contact.phone": "phone"}  # path: field

# Tables, and the form of the fields' names there.
PROTECTED = {
    "document_token": "{}",
    "document_token_gcm": "{}.gcm",
    "document_hidden": "hidden",
}

DOCUMENTS = """
    SELECT fieldcrypt.create_field('email', search => '{exact}', normalizer => 'email');
    SELECT fieldcrypt.create_field('email.gcm', search => '{exact}', normalizer => 'email',
                                   suite => 'aes-256-gcm');
    SELECT fieldcrypt.create_field('phone', search => '{exact}', normalizer => 'phone');
    SELECT fieldcrypt.create_field('phone.gcm', search => '{exact}', normalizer => 'phone',
                                   suite => 'aes-256-gcm');

    CREATE FUNCTION seal_with_pgcrypto() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        key bytea := {key};
        contact jsonb := NEW.data -> 'contact';
        ssn bytea := convert_to(NEW.data ->> 'ssn', 'UTF8');
        email bytea := convert_to(contact ->> 'email', 'UTF8');
        phone bytea := convert_to(contact ->> 'phone', 'UTF8');
        ssn_iv bytea := gen_random_bytes(16);
        email_iv bytea := gen_random_bytes(16);
        phone_iv bytea := gen_random_bytes(16);
    BEGIN
        NEW.data := NEW.data || jsonb_build_object(
            'ssn', jsonb_build_object(
                'iv', encode(ssn_iv, 'hex'),
                'value', encode(encrypt_iv(ssn, key, ssn_iv, 'aes-cbc'), 'hex'),
                'token', encode(hmac(ssn, 'secret', 'sha256'), 'hex')),
            'contact', contact || jsonb_build_object(
                'email', jsonb_build_object(
                    'iv', encode(email_iv, 'hex'),
                    'value', encode(encrypt_iv(email, key, email_iv, 'aes-cbc'), 'hex'),
                    'token', encode(hmac(email, 'secret', 'sha256'), 'hex')),
                'phone', jsonb_build_object(
                    'iv', encode(phone_iv, 'hex'),
                    'value', encode(encrypt_iv(phone, key, phone_iv, 'aes-cbc'), 'hex'),
                    'token', encode(hmac(phone, 'secret', 'sha256'), 'hex'))));
        RETURN NEW;
    END
    $$;
    CREATE TABLE document_source (id bigint, account_id text, data jsonb);
    CREATE TABLE document_plain (LIKE document_source);
    CREATE TABLE document_pgcrypto (LIKE document_source);
    CREATE TRIGGER seal BEFORE INSERT ON document_pgcrypto
        FOR EACH ROW EXECUTE FUNCTION seal_with_pgcrypto();
"""


def documents(database, results, scale):
    """Documents with three flagged paths: beside plain ones, and beside a trigger with pgcrypto."""
    rows = scale.long_rows
    database.execute(DOCUMENTS.replace("{key}", PGCRYPTO_KEY))
    for table, field in PROTECTED.items():
        protect_documents(database, table, field)
    database.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO bench_app")
    backend = Backend(database)
    backend.execute(
        f"INSERT INTO document_source SELECT i, 'acme', {DOCUMENT}"
        f" FROM generate_series(1::bigint, {rows}) i"
    )

    def into(name, table):
        def empty():
            backend.execute(f"TRUNCATE {table}")
            database.execute("CHECKPOINT")

        statement = f"INSERT INTO {table} SELECT * FROM document_source"
        return Measure(name, statement, rows, before=empty)

    results.run(
        "documents insert",
        backend,
        [
            into("plain documents", "document_plain"),
            into("3 flagged paths with tokens, default suite", "document_token"),
            into("3 flagged paths with tokens, aes-256-gcm", "document_token_gcm"),
            into("3 flagged paths without tokens, default suite", "document_hidden"),
            into("PL/pgSQL trigger with pgcrypto encrypt_iv and hmac", "document_pgcrypto"),
        ],
        scale.rounds,
    )
    tables = ", ".join(("document_source", "document_plain", "document_pgcrypto", *PROTECTED))
    database.execute(f"VACUUM (FREEZE, ANALYZE) {tables}")
    check_documents(backend)

    def scan(name, expressions, table):
        counts = ", ".join(f"count({expression})" for expression in expressions)
        return Measure(name, f"SELECT {counts} FROM {table}", rows)

    with_pgcrypto = [pgcrypto_value(path) for path in FLAGGED]
    paths = [f"fieldcrypt.decrypt(data, '{path}')" for path in FLAGGED]
    results.run(
        "documents read",
        backend,
        [
            scan("plain documents", ["data"], "document_plain"),
            scan("data::text::jsonb of plain documents", ["data::text::jsonb"], "document_plain"),
            scan("reveal(data), default suite", ["fieldcrypt.reveal(data)"], "document_token"),
            scan("reveal(data), aes-256-gcm", ["fieldcrypt.reveal(data)"], "document_token_gcm"),
            scan("decrypt(data), default suite", ["fieldcrypt.decrypt(data)"], "document_token"),
            scan("decrypt(data, path) of the 3 values, default suite", paths, "document_token"),
            scan("pgcrypto decrypt_iv of the 3 values", with_pgcrypto, "document_pgcrypto"),
        ],
        scale.rounds,
    )

    def update(name, change, table):
        def tidy():
            database.execute(f"VACUUM {table}")
            database.execute("CHECKPOINT")

        return Measure(name, f"UPDATE {table} SET {change}", rows, before=tidy)

    value, column = """data = data || '{"visits": 91}'""", "id = id + 1"
    results.run(
        "documents update",
        backend,
        [
            update("an unflagged value, plain documents", value, "document_plain"),
            update("an unflagged value, default suite", value, "document_token"),
            update("another column, plain documents", column, "document_plain"),
            update("another column, default suite", column, "document_token"),
        ],
        scale.rounds,
    )
    check_documents(backend)
    backend.close()
    database.execute(f"DROP TABLE {tables}")
    document_lookup(database, results, scale)


def protect_documents(database, table, field="{}"):
    """A table whose flagged paths are of the fields that FLAGGED names, in some form."""
    database.execute(f"""
        CREATE TABLE {table} (id bigint, account_id text, data jsonb);
        SELECT fieldcrypt.protect_jsonb('{table}', 'data', '{table}.data', 'account_id');
    """)
    for path, name in FLAGGED.items():
        database.execute(
            "SELECT fieldcrypt.protect_path(%s, %s, %s)",
            [f"{table}.data", [path], field.replace("{}", name)],
        )


def pgcrypto_value(path):
    at = path.replace(".", ",")
    value, iv = (f"decode(data #>> '{{{at},{part}}}', 'hex')" for part in ("value", "iv"))
    return f"convert_from(decrypt_iv({value}, {PGCRYPTO_KEY}, {iv}, 'aes-cbc'), 'UTF8')"


def check_documents(backend):
    """Everything decrypts to what is in the table of plain documents, and is sealed."""
    for table in PROTECTED:
        plain = "document_plain" if table == "document_token" else "document_source"
        for problem in (
            f"SELECT count(*) FROM (SELECT fieldcrypt.decrypt(data) FROM {table}"
            f" EXCEPT ALL SELECT data FROM {plain}) AS s",
            f"SELECT count(*) FROM {table} WHERE data ->> 'ssn' NOT LIKE 'fc1:%'",
        ):
            assert backend.execute(problem).fetchone() == (0,), problem
    values = ", ".join(pgcrypto_value(path) for path in FLAGGED)
    plain = ", ".join(f"data #>> '{{{path.replace('.', ',')}}}'" for path in FLAGGED)
    problem = (
        f"SELECT count(*) FROM (SELECT {values} FROM document_pgcrypto"
        f" EXCEPT ALL SELECT {plain} FROM document_source) AS s"
    )
    assert backend.execute(problem).fetchone() == (0,), problem


BY_PATH = '{"ssn": "%s"}'

DOCUMENT_LOOKUPS = {
    "plaintext, GIN jsonb_path_ops": Lookup(
        "SELECT id FROM find_document_plain WHERE data @> $1", parameter=BY_PATH
    ),
    "flagged path, GIN on tokens(data)": Lookup(
        "SELECT id FROM find_document WHERE fieldcrypt.matches(data, 'ssn', $1)"
    ),
    "plaintext, GIN jsonb_path_ops, and the value": Lookup(
        "SELECT id, data ->> 'ssn' FROM find_document_plain WHERE data @> $1", parameter=BY_PATH
    ),
    "flagged path, GIN on tokens(data), and decrypt(data, path)": Lookup(
        "SELECT id, fieldcrypt.decrypt(data, 'ssn') #>> '{}' FROM find_document"
        " WHERE fieldcrypt.matches(data, 'ssn', $1)"
    ),
}


def document_lookup(database, results, scale):
    database.execute("CREATE TABLE find_document_plain (id bigint, account_id text, data jsonb)")
    protect_documents(database, "find_document")
    database.execute("GRANT ALL ON find_document, find_document_plain TO bench_app")
    # Of the array's elements too little is known while planning for the plan to be kept: both
    # statements would be planned anew for each look-up, which takes longer than looking up.
    backend = Backend(database, settings=["plan_cache_mode = force_generic_plan"])
    backend.execute(f"""
        INSERT INTO find_document_plain SELECT i, 'acme', {DOCUMENT}
            FROM generate_series(1::bigint, {scale.table_rows}) i;
        INSERT INTO find_document SELECT * FROM find_document_plain;
    """)
    database.execute("""
        CREATE INDEX ON find_document_plain USING gin (data jsonb_path_ops);
        CREATE INDEX ON find_document USING gin (fieldcrypt.tokens(data));
    """)
    for table in ("find_document_plain", "find_document"):
        database.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
    rows = backend.execute("SELECT id, data ->> 'ssn' FROM find_document_plain").fetchall()
    look_up(backend, results, scale, "documents lookup", DOCUMENT_LOOKUPS, rows)
    backend.close()


# Two tables without anything encrypted, and a query whose planning takes more than its execution.
UNENCRYPTED = """
    CREATE TABLE city (id int PRIMARY KEY, name text, country int);
    CREATE TABLE visit (id int PRIMARY KEY, city int REFERENCES city, at date, guest text);
    CREATE INDEX ON visit (city, at);
    ANALYZE city, visit;
    GRANT SELECT ON city, visit TO PUBLIC;
"""
UNENCRYPTED_QUERY = """
    SELECT c.name, count(*), max(v.at) FROM visit AS v JOIN city AS c ON c.id = v.city
    WHERE v.at BETWEEN '2026-01-01' AND '2026-12-31' AND c.country IN (1, 2, 3) AND v.guest = $1
    GROUP BY c.name ORDER BY count(*) DESC, c.name LIMIT 10
"""


def transparent(database, results, scale):
    """Transparent reads beside explicit ones, and what planning costs with nothing encrypted."""
    rows = scale.read_rows
    backend = Backend(database)
    backend.execute(f"""
        CREATE TABLE reading (id int, v fieldcrypt.encrypted_text('ssn'));
        INSERT INTO reading SELECT i, {VALUES["ssn"]} FROM generate_series(1::bigint, {rows}) i
    """)
    database.execute("VACUUM (FREEZE, ANALYZE) reading")

    def read(name, value, setting):
        def switch():
            backend.execute(f"SET fieldcrypt.transparent = {setting}")

        return Measure(name, f"SELECT id, {value} FROM reading", rows, before=switch)

    results.run(
        "transparent",
        backend,
        [
            read("ciphertext", "v", "off"),
            read("decrypt()", "fieldcrypt.decrypt(v)", "off"),
            read("reveal()", "fieldcrypt.reveal(v)", "off"),
            read("transparent", "v", "on"),
        ],
        scale.rounds,
    )
    backend.close()
    database.execute("DROP TABLE reading")

    with Cluster(without_library(database.cluster.settings)) as cluster:
        plan_unencrypted(cluster, results, scale)


def without_library(settings):
    """The settings of a server that loads the library only in sessions that ask for it."""
    ours = {name: None for name in settings if name.startswith("fieldcrypt.")}
    directory = {"unix_socket_directories"}
    kept = {name: value for name, value in settings.items() if name not in directory}
    return kept | ours | {"shared_preload_libraries": None}


# Short rounds of plannings in one session. What disturbs a session only adds to its time, so that
# the least of the rounds counts.
PLANNING_ROUNDS, PLANNINGS = 50, 5


def plan_unencrypted(cluster, results, scale):
    """What it costs to plan a query in which nothing is encrypted.

    Memory is laid out anew in each server, which alone makes differences of some per cent: so this
    is done in one server, whose sessions load the library or not.
    """
    without, installed = Database(cluster, "without"), Database(cluster, "installed")
    installed.execute("CREATE EXTENSION fieldcrypt")
    for database in without, installed:
        database.execute(UNENCRYPTED)
    load = "LOAD 'fieldcrypt'"
    kinds = {
        "without the extension": (without, []),
        "with the extension": (installed, [load]),
        "with transparent reads on": (installed, [load, "SET fieldcrypt.transparent = on"]),
    }
    turns = random.Random(scale.sessions)
    for _ in range(scale.sessions):
        for name, (database, settings) in turns.sample(list(kinds.items()), len(kinds)):
            for group, nanoseconds in planning(database, settings).items():
                results.add(group, name, nanoseconds)


def planning(database, settings):
    """The time that a new session takes to plan, and to parse and plan, in nanoseconds."""
    query, values = UNENCRYPTED_QUERY.encode(), [b"guest"]
    with database.connect(prepare_threshold=None) as connection:
        for statement in ("SET plan_cache_mode = force_custom_plan", *settings):
            connection.execute(statement)
        connection.pgconn.prepare(b"planned", query)
        works = {
            "planning": partial(connection.pgconn.exec_prepared, b"planned", values),
            "parsing and planning": partial(connection.pgconn.exec_params, query, values),
        }
        clock = Clock(connection)

        def least(work):
            rounds = range(PLANNING_ROUNDS)
            return min(clock.time(lambda: [work() for _ in range(PLANNINGS)]) for _ in rounds)

        return {group: least(work) / PLANNINGS for group, work in works.items()}


def profile(database, scale):
    """Where the time goes, by the functions that are on the processor; needs perf."""
    load(database, "ssn", scale.rows)
    backend = Backend(database)
    backend.execute("CREATE TABLE into_token (v fieldcrypt.encrypted_text('ssn'))")

    def insert():
        backend.execute("TRUNCATE into_token")
        database.execute("CHECKPOINT")  # so that WAL files are used again, not made anew
        backend.execute("INSERT INTO into_token SELECT v FROM ssn_plain")

    works = {
        "decrypt(), aes-256-gcm": "SELECT count(fieldcrypt.decrypt(v)) FROM ssn_gcm",
        "decrypt(), default suite": "SELECT count(fieldcrypt.decrypt(v)) FROM ssn_xaes",
        "encrypt() with token": "SELECT count(fieldcrypt.encrypt(v, 'ssn')) FROM ssn_plain",
        "INSERT, with token": insert,
    }
    shares = {}
    for name, work in works.items():
        progress(f"profile of {name}")
        run = work if callable(work) else lambda w=work: backend.execute(w)
        shares[name] = shares_of(backend.connection.info.backend_pid, run)
    print(shares_table(shares))
    if scale is FULL:
        write_between(ROOT / "docs" / "performance.md", "profile", shares_table(shares))


def main():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=GROUPS)
    parser.add_argument("--installed", action="store_true")  # for bench/run itself
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    groups = options.only or GROUPS

    results = Results()
    # Only the CPU time of the backend counts, so nothing waits for the disk; no checkpoint and no
    # vacuum comes in between.
    settings = {
        "shared_buffers": "4GB",
        "max_parallel_workers_per_gather": 0,
        "synchronize_seqscans": "off",
        "autovacuum": "off",
        "checkpoint_timeout": "1h",
        "min_wal_size": "2GB",
        "max_wal_size": "16GB",
        "wal_level": "replica",
    }
    with Cluster(settings) as cluster:
        database = prepare(cluster)
        if options.profile:
            profile(database, scale)
            return
        per_size = [group for group in (decrypt, encrypt, insert) if group.__name__ in groups]
        for size in SIZES if per_size else ():
            progress(f"loading {scale.rows_of(size):,} values of {SIZES[size]} bytes")
            load(database, size, scale.rows_of(size))
            for group in per_size:
                progress(f"{group.__name__}, {SIZES[size]} bytes")
                group(database, results, scale, size)
        if "lookup" in groups:
            progress(f"look-ups in {scale.table_rows:,} rows")
            lookup(database, results, scale)
        if "accounts" in groups:
            progress(f"{scale.accounts:,} accounts")
            accounts(database, results, scale)
        if "documents" in groups:
            progress(f"{scale.long_rows:,} documents, and look-ups in {scale.table_rows:,}")
            documents(database, results, scale)
        if "transparent" in groups:
            progress(f"transparent reads of {scale.read_rows:,} rows, and planning")
            transparent(database, results, scale)
        if "jobs" in groups:
            progress(f"jobs on {scale.rows:,} rows, {scale.rotated_accounts:,} accounts")
            jobs.measure(database, Backend(database), results, scale, Clock)
    if "audit" in groups:
        progress("the audit: a scan, and look-ups of 16 clients")
        # here the disk is waited for
        with Cluster({**settings, "fsync": "on", "max_wal_size": "4GB"}) as cluster:
            database = prepare(cluster)
            backend = Backend(database)
            audit.measure(database, backend, results, scale, Measure)
    print(tables(results))
    if not options.quick and not options.only:
        write_documents(results, ROOT / "docs")


def progress(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
