"""The family of encrypted types: each takes what its native type takes, and gives it back exactly.

Every rule of the family is written once and runs for each type, over the table KINDS.
"""

import re
from dataclasses import dataclass, field

import psycopg
import pytest
from expect import envelope_bytes, envelope_text, refused, texts
from harness import Database, account_database
from psycopg.pq import DiagnosticField, ExecStatus, Format
from test_dump_restore import dump, restore
from test_replication import caught_up, drop_subscription, subscriber, wait_until

pytestmark = pytest.mark.every_version
__all__ = ["subscriber"]

HIDDEN = "********"


@dataclass(frozen=True)
class Kind:
    """An encrypted type and what it is the encrypted form of."""

    name: str
    values: tuple  # texts that the native type takes
    wrong: tuple  # texts that it refuses
    casts: tuple = ()  # expressions of the types from which there is an assignment cast
    no_casts: tuple = ()  # expressions of types from which there is none
    searchable: bool = False
    fixed: bool = False  # all values take the same number of bytes
    native: str = field(default="")

    def __post_init__(self):
        object.__setattr__(self, "native", self.native or self.name)

    @property
    def type(self):
        return f"fieldcrypt.encrypted_{self.name}"

    @property
    def field(self):
        return f"kind.{self.name}"

    @property
    def column(self):
        return f"{self.type}('{self.field}')"

    def __str__(self):
        return self.name


KINDS = [
    Kind(
        "text",
        values=("x", "", " ", "Grüße, 世界 🙂", "O'Hara", "line\nbreak\ttab\\", "NULL", "x" * 9000),
        wrong=(),
        casts=(
            *("'a'::text", "'a'::varchar(9)", "'a'::char(5)", "'a'::name", "true", "1 = 2"),
            *("7::smallint", "7", "7::bigint", "7.50::numeric", "0.1::real", "0.1::float8"),
            *("DATE '1990-05-17'", "TIMESTAMP '1990-05-17 10:00'", "'{\"a\":  1}'::json"),
            *(
                "TIMESTAMPTZ '1990-05-17 10:00+02'",
                "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
                "'{\"a\":  1}'::jsonb",
            ),
        ),
        no_casts=("'\\x00'::bytea", "ARRAY[1]", "INTERVAL '1 day'"),
        searchable=True,
    ),
    Kind(
        "bytea",
        values=("", "\\x", "\\x00", "\\x00ff0061", "abc", "\\000\\377", "\\x" + "ab" * 20_000),
        wrong=("\\xabc", "\\xzz", "\\9"),
        casts=("'\\xfc01'::bytea",),
        no_casts=("'a'::text", "1"),
    ),
    Kind(
        "jsonb",
        values=(
            *('{"a": {"b": [1, 2.50, null, true, "x"]}}', "[]", "{}", "null", '"text"', "true"),
            *('{"b": 1, "a": 2, "b": 3}', "12345678901234567890.1234567890", "1.10", "1e400"),
            '{"ü": "\\u00fc 🙂 \\" \\\\"}',
        ),
        wrong=("{", "", "nul", '{"a"}', '"\\ud800"', '"\\u0000"'),
        casts=("'{\"a\": 1}'::jsonb", '\'{"a":1, "b":  1.10}\'::json'),
        no_casts=("'{}'::text", "1", "ARRAY[1]"),
    ),
    Kind(
        "bigint",
        values=("0", "1", "-1", "9223372036854775807", "-9223372036854775808", " 42 ", "4711"),
        wrong=("", "x", "1.5", "9223372036854775808", "-9223372036854775809", "1 2"),
        casts=("7::smallint", "(-7)::integer", "7::bigint", "7.5::numeric", "-7.5::numeric"),
        no_casts=("'7'::text", "7.0::double precision", "true", "current_date"),
        searchable=True,
        fixed=True,
    ),
    Kind(
        "numeric",
        values=(
            *("0", "1.10", "1.1", "-0.000", "NaN", "Infinity", "-Infinity", " 42 ", "1e-20"),
            *("9" * 1000, "-" + "1" * 500 + "." + "2" * 500, "1e1000", "0." + "0" * 300 + "1"),
        ),
        wrong=("", "x", "1.1.1", "1e1000000", "--1"),
        casts=(
            *("7::smallint", "7::integer", "7::bigint", "7.50::numeric(9, 2)", "7.25::real"),
            *("7.125::double precision", "'NaN'::real", "'-Infinity'::double precision"),
        ),
        no_casts=("'7'::text", "true", "7::money"),
    ),
    Kind(
        "date",
        values=(
            *("2000-01-01", "1990-05-17", "4713-01-01 BC", "0044-03-15 BC", "5874897-12-31"),
            *("infinity", "-infinity", "J2451187", "20000229", "Jan 8, 1999", "epoch"),
        ),
        wrong=("", "x", "2023-02-29", "2000-13-01", "5874898-01-01", "1 May"),
        casts=(
            *("DATE '1990-05-17'", "TIMESTAMP '1990-05-17 23:59'"),
            *("TIMESTAMPTZ '1990-05-17 23:59+00'", "TIMESTAMP 'infinity'"),
        ),
        no_casts=("'1990-05-17'::text", "1", "TIME '10:00'"),
        searchable=True,
        fixed=True,
    ),
    Kind(
        "timestamptz",
        values=(
            *("2000-01-01 00:00+00", "1990-05-17 10:11:12.123456+02", "2024-02-29 23:59:60Z"),
            *("4713-01-01 00:00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity"),
            *("1990-05-17", "epoch", "1990-05-17 10:00 Europe/Rome"),
        ),
        wrong=("", "x", "2023-02-29 10:00", "2000-01-01 25:00", "294277-01-01", "1 May"),
        casts=(
            *("TIMESTAMPTZ '1990-05-17 10:11:12.5+02'", "TIMESTAMP '1990-05-17 10:11'"),
            *("DATE '1990-05-17'", "DATE 'infinity'", "TIMESTAMPTZ '1999-01-01 +00'"),
        ),
        no_casts=("'1990-05-17'::text", "1", "TIME '10:00'"),
        fixed=True,
    ),
    Kind(
        "boolean",
        values=("true", "false", "t", "no", " ON ", "0"),
        wrong=("", "x", "2", "truefalse"),
        casts=("true", "1 = 2"),
        no_casts=("'true'::text", "1"),
        fixed=True,
    ),
    Kind(
        "uuid",
        values=(
            *("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            *("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a12}"),
        ),
        wrong=("", "x", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "g0eebc999c0b4ef8bb6d6bb9bd380a12"),
        casts=("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",),
        no_casts=("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text", "'\\x00'::bytea"),
        searchable=True,
        fixed=True,
    ),
]
BY_NAME = {kind.name: kind for kind in KINDS}
SEARCHABLE = [kind for kind in KINDS if kind.searchable]
STORE_ONLY = [kind for kind in KINDS if not kind.searchable]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
each_searchable = pytest.mark.parametrize("kind", SEARCHABLE, ids=str)
each_store_only = pytest.mark.parametrize("kind", STORE_ONLY, ids=str)

# Two values of each searchable type, as texts.
PAIRS = {
    "text": ("ann", "bob"),
    "bigint": ("4711", "-9223372036854775808"),
    "date": ("1990-05-17", "infinity"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"),
}


@pytest.fixture(scope="module")
def database(cluster):
    """A database with a field for each type, and with one value of each in the table `held`."""
    with account_database(cluster) as database:
        cluster.create_roles("loader", "masked")
        for kind in KINDS:
            search = "{exact}" if kind.searchable else "{}"
            database.execute(
                "SELECT fieldcrypt.create_field(%s, search => %s)", [kind.field, search]
            )
        database.execute("""
            SELECT fieldcrypt.create_field('any.kind', search => '{exact}');
            SELECT fieldcrypt.create_field('any.stored');
            SELECT fieldcrypt.create_field('small.flag', search => '{exact}', small_domain => true);
            GRANT fieldcrypt_restore TO loader;
        """)
        for role in "app", "loader":
            database.execute(
                f"SELECT fieldcrypt.grant_access('{role}', '{{encrypt,search,decrypt}}', a, '*')"
                " FROM unnest('{acme,globex}'::text[]) AS a"
            )
        database.execute("SELECT fieldcrypt.grant_access('masked', '{mask}', 'acme', 'kind.*')")
        columns = ", ".join(f"v_{kind} {kind.column}" for kind in KINDS)
        for table in "held", "spare":
            database.execute(f"CREATE TABLE {table} (n int, {columns})")
            database.execute(f"GRANT ALL ON {table} TO app, masked, outsider")
        with database.connect("app", options="-c fieldcrypt.account=acme -c TimeZone=UTC") as app:
            values = ", ".join(quoted(kind.values[0]) for kind in KINDS)
            app.execute(f"INSERT INTO held VALUES (1, {values})")
        yield database
        database.execute("REVOKE fieldcrypt_restore FROM loader")


@pytest.fixture
def session(database):
    """Opens connections to it: session("loader")."""
    opened = []

    def open_session(user="app", account="acme"):
        options = f"-c fieldcrypt.account={account} -c TimeZone=UTC"
        opened.append(database.connect(user, prepare_threshold=None, options=options))
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def app(session):
    return session()


def quoted(text):
    return psycopg.sql.Literal(text).as_string(None)


def make(connection, kind, name="v", more=""):
    connection.execute(f"CREATE TEMP TABLE {name} (n int, v {kind.column}{more})")


def native_binary(connection, kind, text):
    """The binary form of a value of the native type."""
    cursor = connection.cursor(binary=True)
    cursor.execute(f"SELECT {quoted(text)}::{kind.native}")
    return cursor.pgresult.get_value(0, 0)


def opened(connection, kind, where="true", function="decrypt", table="v"):
    """What decrypt or reveal gives, in binary, by n."""
    cursor = connection.cursor(binary=True)
    cursor.execute(f"SELECT fieldcrypt.{function}(v), n FROM {table} WHERE {where} ORDER BY n")
    result = cursor.pgresult
    assert result.ftype(0) == native_oid(connection, kind)
    return [result.get_value(row, 0) for row in range(result.ntuples)]


def native_oid(connection, kind):
    return oid(connection, kind.native)


def oid(connection, name):
    return connection.execute("SELECT %s::regtype::oid::int", [name]).fetchone()[0]


def stored(connection, table="v"):
    """The envelopes, by n."""
    rows = connection.execute(f"SELECT v::text FROM {table} ORDER BY n").fetchall()
    return [envelope and envelope_bytes(envelope) for (envelope,) in rows]


def expected(connection, kind, values=None):
    return [native_binary(connection, kind, value) for value in values or kind.values]


# Input and output


@each_kind
def test_text_input(app, kind):
    """Literals, untyped parameters, casts: the value comes back exactly, stored as ciphertext."""
    native = expected(app, kind)
    for number, way in enumerate(
        (
            "{literal}",
            "%t",
            "%t::{column}",
            "{literal}::{column}",
            "CAST(%t AS {type})",
            "fieldcrypt.encrypt(%t::{native}, '{field}')",
        )
    ):
        make(app, kind, f"v{number}")
        for n, value in enumerate(kind.values):
            place = way.format(
                literal=quoted(value).replace("%", "%%"),
                column=kind.column,
                type=kind.type,
                native=kind.native,
                field=kind.field,
            )
            parameters = [n, value] if "%t" in place else [n]
            app.execute(f"INSERT INTO v{number} VALUES (%t, {place})", parameters)
        assert opened(app, kind, table=f"v{number}") == native, way
        assert all(envelope.startswith(b"\xfc\x01") for envelope in stored(app, f"v{number}"))


@each_kind
def test_output_is_the_envelope(app, kind):
    """In text, in binary, in COPY, as text: no way out of the type but decrypt and reveal."""
    make(app, kind)
    app.execute(f"INSERT INTO v VALUES (1, {quoted(kind.values[0])})")
    (envelope,) = stored(app)
    assert app.execute("SELECT v FROM v").fetchone()[0] == envelope_text(envelope)
    cursor = app.cursor(binary=True)
    cursor.execute("SELECT v FROM v")
    assert cursor.pgresult.get_value(0, 0) == envelope
    assert cursor.pgresult.fformat(0) == Format.BINARY
    assert cursor.pgresult.ftype(0) == oid(app, kind.type)
    for expression in "v::varchar", "format('%s', v)", "to_jsonb(v) #>> '{}'", "concat(v)":
        shown = app.execute(f"SELECT {expression} FROM v").fetchone()[0]
        assert shown == envelope_text(envelope), expression
    with app.cursor().copy("COPY v (v) TO STDOUT") as stream:
        assert b"".join(stream) == envelope_text(envelope).encode() + b"\n"
    with app.cursor().copy("COPY v (v) TO STDOUT (FORMAT binary)") as stream:
        assert envelope in b"".join(stream)


@each_kind
def test_binary_input(app, kind):
    """A parameter of the type takes the binary form of the native type."""
    make(app, kind)
    native = expected(app, kind)
    for n, value in enumerate(native):
        assert send(app, f"INSERT INTO v VALUES ({n}, $1)", value, kind.type) is None
    assert opened(app, kind) == native


@each_kind
def test_binary_input_of_native_parameters(app, kind):
    """A parameter of the native type, as most drivers send it, is assigned."""
    make(app, kind)
    native = expected(app, kind)
    for n, value in enumerate(native):
        assert send(app, f"INSERT INTO v VALUES ({n}, $1)", value, kind.native) is None
    assert opened(app, kind) == native


def send(connection, statement, value, type_name, binary=True):
    """Runs a statement with one parameter; returns the error's SQLSTATE and all of its text."""
    kind = oid(connection, type_name)
    result = connection.pgconn.exec_params(
        statement.encode(), [value], [kind], [Format.BINARY if binary else Format.TEXT]
    )
    if result.status != ExecStatus.FATAL_ERROR:
        return None
    told = filter(None, (result.error_field(one) for one in DiagnosticField))
    return result.error_field(DiagnosticField.SQLSTATE), b"\n".join(told)


@each_kind
def test_malformed_binary_input(app, kind):
    """What the native type refuses is refused, with its SQLSTATE and without the bytes."""
    make(app, kind)
    for wrong in b"", b"\x07", b"\x01{", b"\x09\x09\x09", b"\xff\xfe\xfd\xfc\xfb", b"\x00" * 17:
        (native,) = (send(app, "SELECT $1", wrong, kind.native),)
        found = send(app, "INSERT INTO v VALUES (1, $1)", wrong, kind.type)
        assert (native is None) == (found is None), wrong
        if native is not None:
            assert found[0] == native[0], (wrong, found)


@each_kind
def test_nulls(app, kind):
    make(app, kind)
    app.execute("INSERT INTO v VALUES (1, NULL), (2, DEFAULT)")
    app.execute("INSERT INTO v VALUES (3, %t)", [None])
    assert send(app, "INSERT INTO v VALUES (4, $1)", None, kind.type) is None
    app.execute(
        f"INSERT INTO v VALUES (5, fieldcrypt.encrypt(NULL::{kind.native}, '{kind.field}'))"
    )
    for function in "decrypt", "reveal":
        assert opened(app, kind, function=function) == [None] * 5
    assert app.execute("SELECT count(*) FROM v WHERE v IS NULL").fetchone() == (5,)
    for function in "account_of", "field_of", "key_of", "tokens", "token":
        query = f"SELECT count(fieldcrypt.{function}(v)) FROM v"
        assert app.execute(query).fetchone() == (0,), function


@each_kind
def test_assignment_casts(app, kind):
    """A value of each listed type becomes what the native type makes of it."""
    make(app, kind)
    for n, source in enumerate(kind.casts):
        app.execute(f"INSERT INTO v SELECT {n}, {source}")
        app.execute(f"INSERT INTO v SELECT {n}, NULL::{kind.native}")
        app.execute(f"UPDATE v SET v = {source} WHERE n = {n} AND v IS NULL")
        app.execute(f"INSERT INTO v VALUES ({n}, ({source})::{kind.column})")
        cursor = app.cursor(binary=True)
        cursor.execute(f"SELECT ({source})::{kind.native}")
        assert opened(app, kind, f"n = {n}") == [cursor.pgresult.get_value(0, 0)] * 3, source


@each_kind
def test_no_other_casts(app, kind):
    make(app, kind)
    for source in kind.no_casts:
        with refused("42804", "but expression is of type"):
            app.execute(f"INSERT INTO v SELECT 1, {source}")


@pytest.mark.parametrize(
    ("name", "source", "sqlstate"),
    [
        ("bigint", "1e30::numeric", "22003"),
        ("bigint", "'NaN'::numeric", "0A000"),
        ("bigint", "'Infinity'::numeric", "0A000"),
        ("timestamptz", "DATE '5874897-12-31'", "22008"),
    ],
)
def test_casts_out_of_range(app, name, source, sqlstate):
    kind = BY_NAME[name]
    make(app, kind)
    with refused(sqlstate):
        app.execute(f"SELECT ({source})::{kind.native}")
    with refused(sqlstate) as caught:
        app.execute(f"INSERT INTO v SELECT 1, {source}")
    assert "5874897" not in texts(caught.value) and "1e30" not in texts(caught.value)


def test_session_settings_do_not_matter(app, session):
    """What was written under one DateStyle, TimeZone and bytea_output is read under any other."""
    date, moment, data = (BY_NAME[name] for name in ("date", "timestamptz", "bytea"))
    number = BY_NAME["numeric"]
    for kind in date, moment, data, number:
        make(app, kind, f"v_{kind}")
    app.execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kathmandu'")
    app.execute("SET bytea_output = escape; SET extra_float_digits = -10")
    app.execute("INSERT INTO v_date VALUES (1, '17/05/1990'), (2, '01/02/2003')")
    app.execute(
        "INSERT INTO v_timestamptz VALUES (1, '17/05/1990 10:00'), (2, '1990-01-01 00:00Z')"
    )
    app.execute("INSERT INTO v_bytea VALUES (1, '\\000\\377a'), (2, '\\x00')")
    app.execute("INSERT INTO v_numeric SELECT 1, 0.1::double precision")
    app.execute("SET DateStyle = 'Postgres, MDY'; SET TimeZone = 'America/New_York'")
    for style in "ISO, YMD", "German", "SQL, MDY":
        app.execute(f"SET DateStyle = '{style}'")
        assert opened(app, date, table="v_date") == expected(
            app, date, ["1990-05-17", "2003-02-01"]
        )
        assert opened(app, moment, table="v_timestamptz") == expected(
            app, moment, ["1990-05-17 04:15:00+00", "1990-01-01 00:00+00"]
        )
    assert opened(app, data, table="v_bytea") == [b"\x00\xffa", b"\x00"]
    assert opened(app, number, table="v_numeric") == expected(app, number, ["0.1"])
    app.execute("SET DateStyle = 'German'")
    found = "SELECT n FROM v_date WHERE v = '01.02.2003' OR v = DATE '1990-05-17' ORDER BY n"
    assert app.execute(found).fetchall() == [(1,), (2,)]
    shown = "SELECT fieldcrypt.decrypt(v)::text FROM v_date WHERE n = 1"
    assert app.execute(shown).fetchone() == ("17.05.1990",)


@each_kind
def test_the_length_does_not_tell_the_value(app, kind):
    """Envelopes of types of a fixed size are all of one length."""
    make(app, kind)
    for n, value in enumerate(kind.values):
        app.execute("INSERT INTO v VALUES (%t, %t)", [n, value])
    lengths = {len(envelope) for envelope in stored(app)}
    assert (len(lengths) == 1) == kind.fixed
    if kind.fixed:
        # whichever way it came in
        app.execute(f"INSERT INTO v SELECT 99, {kind.casts[0]}")
        assert {len(envelope) for envelope in stored(app)} == lengths


@each_kind
def test_one_literal_gets_a_nonce_for_each_row(app, kind):
    make(app, kind)
    value = quoted(kind.values[0])
    app.execute(f"INSERT INTO v SELECT n, {value} FROM generate_series(1, 50) AS n")
    app.execute(f"INSERT INTO v SELECT n, {kind.casts[0]} FROM generate_series(51, 100) AS n")
    app.execute(f"UPDATE v SET v = {value} WHERE n <= 10")
    assert len(set(stored(app))) == 100


# COPY


@each_kind
def test_copy_of_plain_values(app, kind):
    """Text, CSV and binary: an ordinary role loads plain values of the native type."""
    native = expected(app, kind)
    for options in "", "(FORMAT csv)":
        make(app, kind)
        app.execute("CREATE TEMP TABLE plain (n int, v text)")
        for n, value in enumerate(kind.values):
            app.execute("INSERT INTO plain VALUES (%t, %t)", [n, value])
        with app.cursor().copy(f"COPY plain TO STDOUT {options}") as out:
            data = b"".join(out)
        with app.cursor().copy(f"COPY v FROM STDIN {options}") as stream:
            stream.write(data)
        assert opened(app, kind) == native
        app.execute("DROP TABLE v, plain")
    make(app, kind)
    values = ", ".join(f"({n}, {quoted(value)})" for n, value in enumerate(kind.values))
    query = f"SELECT n, v::{kind.native} FROM (VALUES {values}) AS t (n, v)"
    with app.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as out:
        data = b"".join(out)
    with app.cursor().copy("COPY v FROM STDIN (FORMAT binary)") as stream:
        stream.write(data)
    assert opened(app, kind) == native


@each_kind
def test_copy_of_envelopes(session, kind):
    """Members of fieldcrypt_restore load what COPY gave; others are refused."""
    app = session()
    make(app, kind)
    app.execute("INSERT INTO v VALUES (0, NULL)")
    for n, value in enumerate(kind.values, 1):
        app.execute("INSERT INTO v VALUES (%t, %t)", [n, value])
    before = stored(app)
    for options in "", "(FORMAT csv)", "(FORMAT binary)":
        with app.cursor().copy(f"COPY v TO STDOUT {options}") as out:
            data = b"".join(out)
        loader = session("loader")
        make(loader, kind)
        with loader.cursor().copy(f"COPY v FROM STDIN {options}") as stream:
            stream.write(data)
        assert stored(loader) == before
        assert opened(loader, kind) == opened(app, kind)
        with refused("42501", "not accepted as input"):
            with app.cursor().copy(f"COPY v FROM STDIN {options}") as stream:
                stream.write(data)
    assert stored(app) == before


@each_kind
def test_envelopes_in_statements(session, kind):
    """A colleague's ciphertext cannot be pasted, in text or in binary, only restored."""
    app, loader = session(), session("loader")
    for connection in app, loader:
        make(connection, kind)
    app.execute(f"INSERT INTO v VALUES (1, {quoted(kind.values[0])})")
    (envelope,) = stored(app)
    text = envelope_text(envelope)
    for place in f"'{text}'", f"'{text}'::{kind.column}":
        with refused("42501", "not accepted as input"):
            app.execute(f"INSERT INTO v VALUES (2, {place})")
        loader.execute(f"INSERT INTO v VALUES (2, {place})")
    assert send(app, "INSERT INTO v VALUES (2, $1)", envelope, kind.type)[0] == b"42501"
    assert send(app, "INSERT INTO v VALUES (2, $1)", text.encode(), kind.type, False)[0] == b"42501"
    assert send(loader, "INSERT INTO v VALUES (2, $1)", envelope, kind.type) is None
    for look_alike in "fc1:", "fc1:AAAA", "fc2:x":
        for connection, sqlstate in (app, "42501"), (loader, "22P02"):
            with refused(sqlstate):
                connection.execute("INSERT INTO v VALUES (3, %t)", [look_alike])
    assert set(stored(loader)) == {envelope}


# Bad input


def bad_inputs():
    for kind in KINDS:
        for wrong in kind.wrong:
            yield pytest.param(kind, wrong, id=f"{kind}-{wrong}")


@pytest.mark.parametrize(("kind", "wrong"), list(bad_inputs()))
def test_bad_input(database, app, kind, wrong):
    """The native type's SQLSTATE, and nothing of the value in the error or the server's log."""
    make(app, kind)
    with pytest.raises(psycopg.Error) as native:
        app.execute(f"SELECT {quoted(wrong)}::{kind.native}")
    before = len(database.cluster.log())
    errors = []
    for statement in (
        "INSERT INTO v VALUES (1, %t)",
        f"SELECT %t::{kind.column}",
        f"SELECT %t::{kind.type}",
        "SELECT FROM v WHERE v = %t",
        "UPDATE v SET v = %t",
    ):
        with refused(native.value.sqlstate, f"^invalid input for type {kind.type[11:]}$") as caught:
            app.execute(statement, [wrong])
        errors.append(caught.value)
    found = send(app, "INSERT INTO v VALUES (1, $1)", wrong.encode(), kind.type, binary=False)
    assert found[0].decode() == native.value.sqlstate
    if len(wrong) > 3:  # shorter ones are part of the words
        told = "\n".join(texts(error) for error in errors) + found[1].decode()
        assert wrong not in told
        assert wrong not in database.cluster.log()[before:]


@each_kind
def test_bad_input_in_copy(app, kind):
    """The message holds no value; the line in the CONTEXT is PostgreSQL's own doing."""
    make(app, kind)
    for wrong in kind.wrong[1:]:
        with pytest.raises(psycopg.Error) as caught:
            with app.cursor().copy("COPY v (v) FROM STDIN (FORMAT csv, QUOTE '~')") as stream:
                stream.write(f"~{wrong}~\n")
        diag = caught.value.diag
        assert re.search("^invalid input for type encrypted_", diag.message_primary)
        assert diag.message_detail is None


# One type is not another


@pytest.mark.parametrize("source", KINDS, ids=str)
def test_types_do_not_mix(session, source):
    """A value of one type cannot be put into a column of another, by no role and in no form."""
    app, loader = session(), session("loader")
    for connection in app, loader:
        for kind in KINDS:
            connection.execute(f"CREATE TEMP TABLE any_{kind} (n int, v {kind.type}('any.stored'))")
    app.execute(f"INSERT INTO any_{source} VALUES (1, {quoted(source.values[0])})")
    (envelope,) = stored(app, f"any_{source}")
    with app.cursor().copy(f"COPY any_{source} TO STDOUT (FORMAT binary)") as out:
        data = b"".join(out)
    for kind in KINDS:
        if kind is source:
            continue
        with refused("42804", "but expression is of type"):
            app.execute(f"INSERT INTO any_{kind} SELECT * FROM any_{source}")
        with refused("42846", "cannot cast"):
            app.execute(f"SELECT v::{kind.type} FROM any_{source}")
        with refused("42883", "operator does not exist"):
            app.execute(f"SELECT FROM any_{kind} AS a, any_{source} AS b WHERE a.v = b.v")
        # A text is JSON as well: strings in documents are sealed as texts.
        takers = (app,) if (source.name, kind.name) == ("text", "jsonb") else (app, loader)
        statement = f"INSERT INTO any_{kind} VALUES (1, $1)"
        text = envelope_text(envelope)
        for connection in takers:
            sent = send(connection, statement, text.encode(), kind.type, binary=False)
            assert sent[0] == (b"42501" if connection is app else b"42804"), kind
            sent = send(connection, statement, envelope, kind.type)
            assert sent[0] == (b"42501" if connection is app else b"42804"), kind
            with pytest.raises(psycopg.Error):
                with connection.cursor().copy(
                    f"COPY any_{kind} FROM STDIN (FORMAT binary)"
                ) as stream:
                    stream.write(data)
            assert stored(connection, f"any_{kind}") == []
        if loader in takers:
            with refused("42804", "is of type encrypted_"):
                loader.execute(f"INSERT INTO any_{kind} VALUES (1, '{text}')")
        else:
            loader.execute(f"INSERT INTO any_{kind} VALUES (1, '{text}')")
            shown = loader.execute(f"SELECT fieldcrypt.decrypt(v) FROM any_{kind}")
            assert shown.fetchone() == (source.values[0],)
    app.execute(f"CREATE TEMP TABLE texts AS SELECT v::text FROM any_{source}")
    with refused("42501", "not accepted as input"):
        app.execute("INSERT INTO any_text SELECT 2, v FROM texts")


# Search


def look_ups(kind, value):
    """Conditions that are true for the value, by what they need to be executed."""
    literal = quoted(value)
    for condition in (
        f"v = {literal}",
        f"{literal} = v",
        f"v = {literal}::{kind.native}",
        f"v = {literal}::{kind.column}",
        f"v IN ({literal}, {literal})",
        f"v IN ({literal}::{kind.native})",
        f"v = ANY (ARRAY[{literal}]::{kind.native}[])",
        f"v IS NOT DISTINCT FROM {literal}",
        f"v IS NOT DISTINCT FROM {literal}::{kind.native}",
        f"NOT v <> {literal}",
        f"v IN (SELECT {literal}::{kind.native})",
        f"NULLIF(v, {literal}) IS NULL AND v IS NOT NULL",
    ):
        yield condition, ()
    if kind.name == "text":  # ARRAY['…'] is an array of texts
        yield f"v = ANY (ARRAY[{literal}])", ()
    for condition in "v = %t", f"v = %t::{kind.native}", "v IN (%t, NULL)", "%t = v":
        yield condition, (value,)
    yield f"v = ANY (%t::{kind.native}[])", ([value],)
    yield "v = ANY (%t)", ([value],)


@each_searchable
def test_equality(app, kind, subtests):
    """Every way to look for a value finds its rows and no others."""
    make(app, kind)
    one, other = PAIRS[kind.name]
    for n, value in enumerate((one, other, one, None)):
        app.execute("INSERT INTO v VALUES (%t, %t)", [n, value])
    for condition, parameters in look_ups(kind, one):
        with subtests.test(condition):
            for prepare in False, True:
                query = f"SELECT n FROM v WHERE {condition} ORDER BY n"
                rows = app.execute(query, parameters, prepare=prepare).fetchall()
                assert rows == [(0,), (2,)]
    native = native_binary(app, kind, one)
    for type_name in kind.native, kind.type:
        result = app.pgconn.exec_params(
            b"SELECT n FROM v WHERE v = $1", [native], [oid(app, type_name)], [Format.BINARY]
        )
        assert result.ntuples == 2, type_name
    for condition in f"v <> {quoted(one)}", f"v NOT IN ({quoted(one)})", f"v <> ALL ('{{{one}}}')":
        assert app.execute(f"SELECT n FROM v WHERE {condition}").fetchall() == [(1,)], condition


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("v = 4711", 1),
        ("v = 4711::smallint", 1),
        ("v = 4711::integer", 1),
        ("v IN (4711, 42)", 1),
        ("v = ANY ('{4711}'::int[])", 1),
        ("v = ANY (ARRAY[4711, 42]::smallint[])", 1),
        ("v = -9223372036854775808", 1),
        ("v IN (-1, 9223372036854775807)", 0),
        ("v <> 4711", 1),
        ("4711 = v", 1),
    ],
)
def test_integers_of_every_size_find_a_bigint(app, condition, count):
    kind = BY_NAME["bigint"]
    make(app, kind)
    for n, value in enumerate(PAIRS["bigint"]):
        app.execute("INSERT INTO v VALUES (%t, %t)", [n, value])
    assert app.execute(f"SELECT count(*) FROM v WHERE {condition}").fetchone() == (count,)


@each_searchable
def test_joins_and_groups(app, kind):
    one, other = PAIRS[kind.name]
    for name in "a", "b":
        make(app, kind, name)
        for n, value in enumerate((one, other, one, None)):
            app.execute(f"INSERT INTO {name} VALUES (%t, %t)", [n, value])
    for strategy in "enable_hashjoin", "enable_mergejoin", "enable_nestloop":
        app.execute("SET enable_hashjoin = off; SET enable_mergejoin = off")
        app.execute(f"SET enable_nestloop = off; SET {strategy} = on")
        for query, rows in (
            ("SELECT a.n, b.n FROM a JOIN b USING (v)", [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)]),
            ("SELECT a.n, b.n FROM a JOIN b ON a.v = b.v AND a.n = 1", [(1, 1)]),
            ("SELECT n, 0 FROM a WHERE v IN (SELECT v FROM b WHERE n = 2)", [(0, 0), (2, 0)]),
            ("SELECT count(*), 0 FROM a GROUP BY v", [(1, 0), (1, 0), (2, 0)]),
            ("SELECT count(DISTINCT v), count(v) FROM a", [(2, 3)]),
            ("SELECT count(*), 0 FROM (SELECT DISTINCT v FROM a) AS t", [(3, 0)]),
            ("SELECT count(*), 0 FROM (SELECT v FROM a UNION SELECT v FROM b) AS t", [(3, 0)]),
            ("SELECT n, count(*) OVER (PARTITION BY v) FROM a", [(0, 2), (1, 1), (2, 2), (3, 1)]),
        ):
            assert sorted(app.execute(query).fetchall()) == rows, query


@each_searchable
@pytest.mark.parametrize("method", ["hash", "btree"])
def test_indexes(app, kind, method):
    """Look-ups go by index, with literals and with parameters; the plan shows ciphertext."""
    make(app, kind)
    one, other = PAIRS[kind.name]
    app.execute(f"INSERT INTO v SELECT n, {quoted(other)} FROM generate_series(1, 300) AS n")
    app.execute("INSERT INTO v VALUES (0, %t)", [one])
    app.execute(f"CREATE INDEX ON v USING {method} (v); ANALYZE v; SET enable_seqscan = off")
    app.execute("SET plan_cache_mode = force_generic_plan")
    literal = quoted(one)
    app.execute(f"PREPARE native ({kind.native}) AS SELECT n FROM v WHERE v = $1")
    app.execute("PREPARE untyped AS SELECT n FROM v WHERE v = $1")
    for query in (
        f"SELECT n FROM v WHERE v = {literal}",
        f"SELECT n FROM v WHERE v = {literal}::{kind.native}",
        f"SELECT n FROM v WHERE v IN ({literal}, {literal})",
        f"EXECUTE native ({literal})",
        f"EXECUTE untyped ({literal})",
    ):
        plan = "\n".join(line for (line,) in app.execute(f"EXPLAIN (VERBOSE) {query}"))
        assert re.search("Index .*Scan", plan), plan
        if "native" not in query:
            assert one not in plan
        assert app.execute(query).fetchall() == [(0,)]


@each_searchable
def test_unique(app, kind):
    """Also in an array of ways: constraint, primary key, ON CONFLICT; no value in the message."""
    one, other = PAIRS[kind.name]
    make(app, kind, more=" UNIQUE")
    app.execute("INSERT INTO v VALUES (1, %t), (2, %t), (3, NULL), (4, NULL)", [one, other])
    with refused("23505", "duplicate key") as caught:
        app.execute("INSERT INTO v VALUES (5, %t)", [one])
    assert one not in texts(caught.value)
    app.execute("INSERT INTO v VALUES (6, %t) ON CONFLICT (v) DO UPDATE SET n = -v.n", [one])
    app.execute("INSERT INTO v VALUES (7, %t) ON CONFLICT DO NOTHING", [other])
    assert app.execute("SELECT n FROM v ORDER BY n").fetchall() == [(-1,), (2,), (3,), (4,)]


@each_searchable
def test_foreign_keys(app, kind):
    one, other = PAIRS[kind.name]
    make(app, kind, "parent", " PRIMARY KEY")
    make(app, kind, "child", " REFERENCES parent (v) ON UPDATE CASCADE ON DELETE CASCADE")
    app.execute("INSERT INTO parent VALUES (1, %t)", [one])
    app.execute("INSERT INTO child VALUES (1, %t), (2, NULL)", [one])
    with refused("23503", "violates foreign key") as caught:
        app.execute("INSERT INTO child VALUES (3, %t)", [other])
    assert other not in texts(caught.value)
    app.execute("UPDATE parent SET v = %t", [other])
    assert opened(app, kind, "n = 1", table="child") == expected(app, kind, [other])
    app.execute("DELETE FROM parent")
    assert app.execute("SELECT count(*) FROM child").fetchone() == (1,)


@each_searchable
def test_partitions_by_hash(app, kind):
    one, other = PAIRS[kind.name]
    app.execute(f"CREATE TEMP TABLE v (n int, v {kind.column}) PARTITION BY HASH (v)")
    for part in range(3):
        app.execute(
            f"CREATE TEMP TABLE v{part} PARTITION OF v FOR VALUES WITH"
            f" (MODULUS 3, REMAINDER {part})"
        )
    app.execute("INSERT INTO v VALUES (1, %t), (2, %t), (3, %t)", [one, other, one])
    assert app.execute("SELECT n FROM v WHERE v = %t ORDER BY n", [one]).fetchall() == [(1,), (3,)]


@each_store_only
def test_what_cannot_be_searched(app, kind, subtests):
    """Each look-up is an error that says why, never "no rows"; values keep being comparable."""
    make(app, kind)
    value = kind.values[0]
    app.execute("INSERT INTO v VALUES (1, %t), (2, %t), (3, NULL)", [value, value])
    for condition, parameters in look_ups(kind, value):
        with subtests.test(condition):
            with refused("0A000", hint="."):
                app.execute(f"SELECT n FROM v WHERE {condition}", parameters)
    with refused("0A000", "cannot be searched"):
        app.execute(f"SELECT n FROM v WHERE v = {quoted(value)}")
    for query in (
        "SELECT count(*) FROM v AS a JOIN v AS b USING (v)",
        "SELECT count(DISTINCT v) FROM v",
        "SELECT count(*) FROM v GROUP BY v",
        "SELECT n FROM v WHERE v IN (SELECT v FROM v)",
    ):
        with refused("0A000", "cannot be searched"):
            app.execute(query)
    # whole rows are compared by bytes: each value is like itself alone
    assert app.execute("SELECT count(*) FROM v AS a, v AS b WHERE a = b").fetchone() == (3,)
    (count,) = app.execute("SELECT count(*) FROM (SELECT v FROM v UNION SELECT v FROM v) AS u")
    assert count == (3,)
    with refused("0A000"):
        app.execute(f"SELECT fieldcrypt.blind_index({quoted(value)}, '{kind.field}')")


@pytest.mark.parametrize("name", ["bytea", "numeric", "timestamptz"])
def test_types_that_cannot_be_of_a_searched_field(app, name):
    kind = BY_NAME[name]
    app.execute("CREATE TEMP TABLE other (n int)")
    app.execute(f"CREATE DOMAIN pg_temp.d AS {kind.type}('any.kind')")
    for statement in (
        f"CREATE TEMP TABLE v (v {kind.type}('any.kind'))",
        f"CREATE TEMP TABLE v (v {kind.type}('any.kind')[])",
        "CREATE TEMP TABLE v (v pg_temp.d)",
        f"ALTER TABLE other ADD v {kind.type}('any.kind')",
        f"CREATE TYPE pg_temp.c AS (v {kind.type}('any.kind'))",
    ):
        with refused("0A000", hint="Only text, bigint, date and uuid"):
            app.execute(statement)


def test_json_is_never_searched(app):
    """A JSON column may be of a searched field, as the blob of a document is; look-ups raise."""
    app.execute("CREATE TEMP TABLE v (n int, v fieldcrypt.encrypted_jsonb('any.kind'))")
    app.execute("""INSERT INTO v VALUES (1, '{"a": 1}'), (2, '"x"')""")
    for value in """'{"a": 1}'""", """'"x"'""":
        for condition in f"v = {value}", f"v = {value}::jsonb", f"v IN ({value}, {value})":
            with refused("0A000", "cannot be searched"):
                app.execute(f"SELECT n FROM v WHERE {condition}")


def test_small_domain(app, database):
    """A boolean is searchable if the field was made for that, knowingly."""
    app.execute("CREATE TEMP TABLE v (n int, v fieldcrypt.encrypted_boolean('small.flag'))")
    app.execute("INSERT INTO v VALUES (1, true), (2, 'f'), (3, 1 = 1), (4, NULL)")
    for condition in (
        *("v = true", "v = 't'", "v IN (true)", "v = ANY ('{t}')", "v <> false", "true = v"),
        "v IS NOT DISTINCT FROM true",
    ):
        rows = app.execute(f"SELECT n FROM v WHERE {condition} ORDER BY n").fetchall()
        assert rows == [(1,), (3,)], condition
    assert app.execute("SELECT count(*) FROM v GROUP BY v ORDER BY 1").fetchall() == [
        *((1,), (1,), (2,)),
    ]
    (same,) = app.execute(
        "SELECT bool_and(fieldcrypt.token(v) = fieldcrypt.blind_index('true', 'small.flag'))"
        " FROM v WHERE n IN (1, 3)"
    ).fetchone()
    assert same


def test_booleans_of_other_searchable_fields_are_refused(app):
    """Two tokens for two values would be the values."""
    for statement in (
        "CREATE TEMP TABLE t (v fieldcrypt.encrypted_boolean('any.kind'))",
        "CREATE TEMP TABLE t (v fieldcrypt.encrypted_boolean('any.kind')[])",
        "SELECT fieldcrypt.encrypt(true, 'any.kind')",
        "SELECT 'true'::fieldcrypt.encrypted_boolean('any.kind')",
        "SELECT true::fieldcrypt.encrypted_boolean('any.kind')",
    ):
        with refused("0A000", hint="small_domain"):
            app.execute(statement)
    with app.transaction(force_rollback=True):
        app.execute("CREATE TEMP TABLE t (v boolean)")
        with refused("0A000", hint="small_domain"):
            app.execute("ALTER TABLE t ALTER v TYPE fieldcrypt.encrypted_boolean('any.kind')")
    with refused("0A000", hint="small_domain"):
        app.execute("CREATE TEMP TABLE t (n int)")
        app.execute("ALTER TABLE t ADD v fieldcrypt.encrypted_boolean('any.kind')")


# Functions


@each_kind
def test_functions(app, session, kind):
    """encrypt, decrypt, reveal, account_of, field_of, key_of, tokens and token of each type."""
    value = quoted(kind.values[0])
    native = f"{value}::{kind.native}"
    sealed = f"fieldcrypt.encrypt({native}, '{kind.field}')"
    returned = f"SELECT pg_typeof({sealed})::text, pg_typeof(fieldcrypt.decrypt({sealed}))::text"
    names = app.execute("SELECT %t::regtype::text", [kind.native]).fetchone()
    assert app.execute(returned).fetchone() == (kind.type, *names)
    row = app.execute(
        f"WITH e AS MATERIALIZED (SELECT {sealed} AS v,"
        f" fieldcrypt.encrypt({native}, field => '{kind.field}', account => 'globex') AS g)"
        " SELECT fieldcrypt.account_of(v), fieldcrypt.account_of(g), fieldcrypt.field_of(v),"
        " fieldcrypt.key_of(v) = fieldcrypt.key_of(g),"
        " fieldcrypt.decrypt(v)::text = fieldcrypt.decrypt(g)::text,"
        f" fieldcrypt.reveal(v)::text = ({native})::text,"
        " cardinality(fieldcrypt.tokens(v)), octet_length(fieldcrypt.token(v)) FROM e"
    ).fetchone()
    searchable = (1, 16) if kind.searchable else (0, None)
    assert row[:6] == ("acme", "globex", kind.field, False, True, True)
    assert (row[6] or 0, row[7]) == searchable
    for lost in f"fieldcrypt.encrypt({native}, 'no.such')", f"fieldcrypt.encrypt({native}, NULL)":
        with pytest.raises(psycopg.Error):
            app.execute(f"SELECT {lost}")
    outsider = session("outsider")
    with refused("42501", "permission denied to encrypt"):
        outsider.execute(f"SELECT {sealed}")


def test_encrypt_takes_integers(app):
    for integer in "7", "7::smallint", "7::bigint":
        query = f"SELECT fieldcrypt.decrypt(fieldcrypt.encrypt({integer}, 'kind.bigint'))"
        assert app.execute(query).fetchone() == (7,)


@each_kind
def test_without_rights(session, kind):
    """decrypt is refused, reveal gives the hidden form: NULL, except of text and JSON."""
    outsider = session("outsider")
    hidden = HIDDEN if kind.name in ("text", "jsonb") else None
    query = (
        f"SELECT fieldcrypt.reveal(v_{kind}), fieldcrypt.reveal(ARRAY[v_{kind}, NULL]) FROM held"
    )
    for shown, array in outsider.execute(query):
        assert shown == hidden and array == [hidden, None]
    for value in f"v_{kind}", f"ARRAY[v_{kind}]":
        with refused("42501", "permission denied to decrypt"):
            outsider.execute(f"SELECT fieldcrypt.decrypt({value}) FROM held")


# What a role with the right to the mask sees of the first value of a type: a text for texts and
# JSON strings, a value of the native type where a mask has one, else NULL.
FIRST_JANUARY = {"date": "2000-01-01", "timestamptz": "2000-01-01 00:00:00+00"}
MASKS = ("last4", "first_last", "first(1)", "last(1)", 'partial(0, "***", 0)', "digits(1)")
MASKS += ("email", "email_domain", "pan", "year", "month", "zero", "null", "none")


@pytest.mark.parametrize("kind", [k for k in KINDS if k.name not in ("text", "jsonb")], ids=str)
def test_masks(database, session, kind):
    """year, month and zero give a value of the type; every other mask gives NULL."""
    reader = session("masked")
    query = f"SELECT fieldcrypt.reveal(v_{kind})::text, fieldcrypt.reveal(ARRAY[v_{kind}])::text"
    try:
        for mask in MASKS:
            database.execute("SELECT fieldcrypt.alter_field(%s, mask => %s)", [kind.field, mask])
            expected = None
            if mask in ("year", "month"):
                expected = FIRST_JANUARY.get(kind.name)
            if mask == "zero" and kind.name in ("bigint", "numeric"):
                expected = "0"
            quote = '"' if " " in (expected or "") else ""
            array = f"{{{quote}{expected}{quote}}}" if expected else "{NULL}"
            assert reader.execute(f"{query} FROM held").fetchone() == (expected, array), mask
            with refused("42501"):
                reader.execute(f"SELECT fieldcrypt.decrypt(v_{kind}) FROM held")
    finally:
        database.execute("SELECT fieldcrypt.alter_field(%s, mask => 'none')", [kind.field])


@pytest.mark.parametrize(
    ("name", "value", "mask", "shown"),
    [
        ("date", "1990-05-17", "year", "1990-01-01"),
        ("date", "0044-03-15 BC", "year", "0044-01-01 BC"),
        ("date", "infinity", "year", None),
        ("date", "1990-05-17", "month", "1990-05-01"),
        ("date", "0044-03-15 BC", "month", "0044-03-01 BC"),
        ("date", "4714-11-24 BC", "month", None),
        ("date", "-infinity", "month", None),
        ("timestamptz", "2024-12-31 23:30:00-05", "month", "2025-01-01 00:00:00+00"),
        ("timestamptz", "2024-02-29 12:00:00+00", "month", "2024-02-01 00:00:00+00"),
        ("timestamptz", "2024-12-31 23:30:00-05", "year", "2025-01-01 00:00:00+00"),
        ("timestamptz", "-infinity", "year", None),
        ("numeric", "NaN", "zero", "0"),
        ("bigint", "-9223372036854775808", "zero", "0"),
    ],
)
def test_masks_of_extremes(database, session, name, value, mask, shown):
    kind = BY_NAME[name]
    app, reader = session(), session("masked")
    app.execute("INSERT INTO spare (n) VALUES (1)")
    app.execute(f"UPDATE spare SET v_{kind} = %t", [value])
    try:
        database.execute("SELECT fieldcrypt.alter_field(%s, mask => %s)", [kind.field, mask])
        query = f"SELECT fieldcrypt.reveal(v_{kind})::text FROM spare"
        assert reader.execute(query).fetchone() == (shown,)
    finally:
        database.execute("SELECT fieldcrypt.alter_field(%s, mask => 'none')", [kind.field])
        app.execute("DELETE FROM spare")


@each_searchable
def test_tokens_are_those_of_the_text(app, kind):
    """The token of a value is the blind index of its canonical text under the same field."""
    canonical = {"date": {"1990-05-17": "1990-05-17", "infinity": "infinity"}}
    for value in PAIRS[kind.name]:
        text = canonical.get(kind.name, {}).get(value, value)
        sealed = f"fieldcrypt.encrypt({quoted(value)}::{kind.native}, 'any.kind')"
        query = (
            f"SELECT fieldcrypt.token({sealed})"
            f" = fieldcrypt.blind_index({quoted(text)}, 'any.kind')"
        )
        assert app.execute(query).fetchone() == (True,), value
        typed = (
            f"SELECT fieldcrypt.token(v) = fieldcrypt.blind_index({quoted(text)}, '{kind.field}')"
            f" FROM (SELECT {quoted(value)}::{kind.column} AS v) AS t"
        )
        assert app.execute(typed).fetchone() == (True,), value


# Random values of each type, of which PostgreSQL itself prints the canonical text.
RANDOM = {
    "bigint": "(random() * 2 - 1) * 10.0 ^ (random() * 18)",
    "numeric": "round((random() * 2 - 1)::numeric * 10.0 ^ trunc(random() * 40 - 20)::int,"
    " trunc(random() * 30)::int)",
    "date": "DATE '2000-01-01' + trunc((random() * 2 - 1) * 2.4e6 + CASE WHEN random() < 0.3"
    " THEN 0 ELSE 1e6 * random() END)::int",
    "timestamptz": "TIMESTAMPTZ '2000-01-01 00:00Z' + (random() * 2 - 1) * INTERVAL '2000000 days'"
    " * random() ^ 3",
    "uuid": "gen_random_uuid()",
    "bytea": "decode(repeat(md5(n::text), n % 9), 'hex')",
    "text": "repeat(chr(trunc(random() * 50000 + 1)::int), n % 7)",
    "jsonb": "jsonb_build_object(md5(n::text), random(), 'a', ARRAY[n, n * 2])",
    "boolean": "random() < 0.5",
}


@each_kind
def test_random_values(app, kind):
    """Two thousand values come back as they were; tokens are those of PostgreSQL's own text."""
    app.execute("SET DateStyle = ISO; SELECT setseed(0.4)")
    app.execute(
        f"CREATE TEMP TABLE v AS SELECT n, ({RANDOM[kind.name]})::{kind.native} AS v"
        " FROM generate_series(1, 2000) AS n"
    )
    app.execute(f"CREATE TEMP TABLE w (n int, v {kind.column})")
    app.execute("INSERT INTO w SELECT n, v FROM v")
    different = app.execute(
        "SELECT n, v.v::text, fieldcrypt.decrypt(w.v)::text FROM v JOIN w USING (n)"
        f" WHERE fieldcrypt.decrypt(w.v)::text IS DISTINCT FROM v.v::text"
        f" OR fieldcrypt.decrypt(fieldcrypt.encrypt(v.v, '{kind.field}'))::text <> v.v::text"
    )
    assert different.fetchall() == []
    if kind.searchable:
        tokens = app.execute(
            "SELECT n, v.v FROM v JOIN w USING (n) WHERE fieldcrypt.token(w.v)"
            f" IS DISTINCT FROM fieldcrypt.blind_index(v.v::text, '{kind.field}')"
        )
        assert tokens.fetchall() == []
        assert (
            app.execute("SELECT count(*) FROM v JOIN w ON w.v = v.v").fetchone()
            == app.execute("SELECT count(*) FROM v AS a JOIN v AS b ON a.v = b.v").fetchone()
        )


def test_normalizers_are_for_text_only(app):
    """A field's normalizer does not touch what is no text."""
    app.execute("CREATE TEMP TABLE v (n fieldcrypt.encrypted_bigint('lead.ssn'))")
    app.execute("INSERT INTO v VALUES (-42), (42)")
    assert app.execute("SELECT count(*) FROM v WHERE n = 42").fetchone() == (1,)
    app.execute("CREATE TEMP TABLE w (n fieldcrypt.encrypted_date('lead.ssn'))")
    app.execute(
        "INSERT INTO w VALUES ('infinity'), ('-infinity'), ('0044-03-15 BC'), ('0044-03-15')"
    )
    assert app.execute("SELECT count(*), count(DISTINCT n) FROM w").fetchone() == (4, 4)
    assert app.execute("SELECT count(*) FROM w WHERE n = 'infinity'").fetchone() == (1,)


# Arrays, domains, definitions


@each_kind
def test_arrays(app, kind):
    """Elements are sealed one by one; NULL elements, dimensions and bounds are kept."""
    app.execute(f"CREATE TEMP TABLE v (n int, v {kind.column}[])")
    one, other = (f"{quoted(value)}::{kind.native}" for value in (*kind.values, kind.values[0])[:2])
    arrays = (
        f"ARRAY[{one}, NULL, {other}]",
        f"'{{}}'::{kind.native}[]",
        f"ARRAY[[{one}, {other}], [NULL, {one}]]",
        f"('[0:1]={{NULL,NULL}}'::{kind.native}[])",
        f"ARRAY[NULL]::{kind.native}[]",
        f"NULL::{kind.native}[]",
    )
    cursor = app.cursor(binary=True)
    for n, array in enumerate(arrays):
        # what array_out prints is what array_in takes, of the encrypted type as well
        cursor.execute(f"SELECT {array}")
        native = cursor.pgresult.get_value(0, 0)
        text = app.execute(f"SELECT ({array})::text").fetchone()[0]
        app.execute("INSERT INTO v VALUES (%t, %t)", [n, text])
        app.execute(f"INSERT INTO v SELECT {n}, {array}")
        for function in "decrypt", "reveal":
            cursor.execute(f"SELECT fieldcrypt.{function}(v) FROM v WHERE n = {n}")
            assert cursor.pgresult.ftype(0) == oid(app, f"{kind.native}[]")
            assert [cursor.pgresult.get_value(row, 0) for row in range(2)] == [native] * 2, array
    shown = app.execute("SELECT v::text FROM v WHERE n = 0").fetchall()
    assert all(row.count("fc1:") == 2 for (row,) in shown)
    app.execute("UPDATE v SET v[2] = v[1] WHERE n = 0")
    if kind.searchable:
        first = quoted(kind.values[0])
        for condition in f"v[1] = {first}", f"{first} = ANY (v)":
            query = f"SELECT count(*) FROM v WHERE {condition}"
            assert app.execute(query).fetchone() == (2,) or "ANY" in condition


@each_kind
def test_domains(app, kind):
    app.execute(f"CREATE DOMAIN pg_temp.held AS {kind.column} NOT NULL")
    app.execute("CREATE TEMP TABLE v (n int, v pg_temp.held)")
    for n, value in enumerate(kind.values):
        app.execute("INSERT INTO v VALUES (%t, %t)", [n, value])
    assert opened(app, kind) == expected(app, kind)
    app.execute(f"INSERT INTO v SELECT 99, {kind.casts[0]}")
    with refused("23502"):
        app.execute("INSERT INTO v VALUES (1, NULL)")
    if kind.searchable:
        query = f"SELECT n FROM v WHERE v = {quoted(kind.values[0])} AND n = 0"
        assert app.execute(query).fetchall() == [(0,)]


@each_kind
def test_definitions_that_are_refused(app, kind):
    """No field, a default, a check with a literal: refused for each type as for text."""
    make(app, kind)
    literal = quoted(kind.values[0])
    for definition in (
        f"CREATE TEMP TABLE t (v {kind.type})",
        f"CREATE TEMP TABLE t (v {kind.type}[])",
        f"ALTER TABLE v ADD COLUMN w {kind.type}",
    ):
        with refused("42P16", "has no field"):
            app.execute(definition)
    with refused("42P17", "has no field"):
        app.execute(f"CREATE DOMAIN pg_temp.d AS {kind.type}")
    for definition in (
        f"CREATE TEMP TABLE t (v {kind.column} DEFAULT {literal})",
        f"CREATE TEMP TABLE t (v {kind.column} DEFAULT {kind.casts[0]})",
        f"CREATE TEMP TABLE t (v {kind.column}, CHECK (v <> {literal}))",
        f"CREATE DOMAIN pg_temp.d AS {kind.column} DEFAULT {literal}",
        f"ALTER TABLE v ADD COLUMN w {kind.column} DEFAULT {literal}",
        f"ALTER TABLE v ALTER v SET DEFAULT {literal}",
    ):
        with refused("0A000"):
            app.execute(definition)


@each_kind
def test_columns_of_the_native_type_become_encrypted(app, kind):
    """ALTER TABLE … TYPE encrypts what is there, and a copy of a table keeps what it has."""
    app.execute(f"CREATE TEMP TABLE v (n int, v {kind.native})")
    for n, value in enumerate(kind.values):
        app.execute(f"INSERT INTO v VALUES ({n}, {quoted(value)})")
    app.execute(f"ALTER TABLE v ALTER v TYPE {kind.column}")
    assert opened(app, kind) == expected(app, kind)
    app.execute("CREATE TEMP TABLE w AS SELECT * FROM v")
    assert opened(app, kind, table="w") == expected(app, kind)
    assert stored(app, "w") == stored(app)
    app.execute(f"ALTER TABLE v ALTER v TYPE {kind.native} USING fieldcrypt.decrypt(v)")
    cursor = app.cursor(binary=True)
    cursor.execute("SELECT v FROM v ORDER BY n")
    found = [cursor.pgresult.get_value(row, 0) for row in range(len(kind.values))]
    assert found == expected(app, kind)


@each_kind
def test_order_is_refused(app, kind):
    make(app, kind)
    with refused("0A000", "ORDER BY an encrypted column"):
        app.execute("SELECT n FROM v ORDER BY v")
    for condition in f"v < {quoted(kind.values[0])}", "v > v":
        with refused("42883"):
            app.execute(f"SELECT n FROM v WHERE {condition}")


def test_each_type_has_the_same_surface(database):
    """The same functions and operators, each with a comment, are there for each type."""
    functions = """
        SELECT regexp_replace(p.proname, '(?<=encrypted_)' || %(name)s || '(?=_|$)', 'X')
        FROM pg_proc AS p
        WHERE pronamespace = 'fieldcrypt'::regnamespace
            AND (%(type)s::regtype = ANY (proargtypes) OR prorettype = %(type)s::regtype)
            AND proname IN ('encrypt', 'decrypt', 'reveal', 'account_of', 'field_of', 'key_of',
                'tokens', 'token')
        GROUP BY 1 ORDER BY 1
    """
    names = ["account_of", "decrypt", "encrypt", "field_of", "key_of", "reveal", "token", "tokens"]
    operators = """
        SELECT oprname, oprleft = %(type)s::regtype, oprright = %(type)s::regtype FROM pg_operator
        WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname IN ('=', '<>')
            AND %(type)s::regtype IN (oprleft, oprright) ORDER BY 1, 2, 3
    """
    for kind in KINDS:
        names_of = {"name": kind.name, "type": kind.type}
        assert [name for (name,) in database.execute(functions, names_of)] == names, kind
        assert database.execute(operators, names_of).fetchall() == [
            (name, *sides)
            for name in ("<>", "=")
            for sides in ((False, True), (True, False), (True, True))
        ], kind
        described = "SELECT obj_description(%s::regtype, 'pg_type') IS NOT NULL"
        assert database.value(described, [kind.type]), kind


# Protected tables


def test_protect_table(session, database):
    """Each value's account is the row's, of whatever type; *row* settles all of them."""
    columns = ", ".join(f"v_{kind} {kind.column}" for kind in KINDS)
    database.execute(f"CREATE TABLE guarded (n int, account_id text, {columns})")
    try:
        database.execute("SELECT fieldcrypt.protect_table('guarded', 'account_id')")
        database.execute("GRANT ALL ON guarded TO app")
        app, rows = session(), session(account="*row*")
        values = ", ".join(quoted(kind.values[0]) for kind in KINDS)
        app.execute(f"INSERT INTO guarded VALUES (1, 'acme', {values})")
        with refused("23514", "another account"):
            app.execute(f"INSERT INTO guarded VALUES (2, 'globex', {values})")
        for kind in KINDS:
            value = quoted(kind.values[0])
            with refused("23514", "another account"):
                app.execute(
                    f"INSERT INTO guarded (n, account_id, v_{kind}) VALUES (2, 'globex', {value})"
                )
            with refused("23514", "another account"):
                app.execute(
                    f"UPDATE guarded SET v_{kind} = fieldcrypt.encrypt({value}::{kind.native},"
                    f" '{kind.field}', 'globex')"
                )
        rows.execute(f"INSERT INTO guarded VALUES (3, 'globex', {values}), (4, 'acme', {values})")
        with app.cursor().copy("COPY guarded (n, account_id) FROM STDIN") as stream:
            stream.write("5\tglobex\n")
        for kind in KINDS:
            rows.execute(f"UPDATE guarded SET v_{kind} = %t WHERE n = 5", [kind.values[0]])
        native = ", ".join(f"fieldcrypt.decrypt(v_{kind})" for kind in KINDS)
        shown = rows.execute(f"SELECT {native} FROM guarded WHERE n IN (1, 3, 4, 5)").fetchall()
        assert len(shown) == 4 and all(row == shown[0] for row in shown)
        accounts = ", ".join(f"fieldcrypt.account_of(v_{kind})" for kind in KINDS)
        for account, *found in rows.execute(f"SELECT account_id, {accounts} FROM guarded"):
            assert found == [account] * len(KINDS)
        # without the trigger nothing settles it
        make(rows, BY_NAME["date"])
        rows.execute("INSERT INTO v VALUES (1, '1990-05-17')")
        with refused("55000"):
            rows.execute("SELECT fieldcrypt.decrypt(v) FROM v")
    finally:
        database.execute("DROP TABLE guarded")


# Dumps and replication


def all_kinds(name):
    """A table with a column, an array and values of each type."""
    columns = ", ".join(f"v_{kind} {kind.column}, a_{kind} {kind.column}[]" for kind in KINDS)
    return f"CREATE TABLE {name} (n int, {columns});"


def fill(connection, name):
    for kind in KINDS:
        for n, value in enumerate(kind.values):
            if len(value) > 1000:
                value = kind.values[0]
            connection.execute(
                f"INSERT INTO {name} (n, v_{kind}, a_{kind}) SELECT {n}, v, ARRAY[v, NULL]"
                f" FROM (SELECT {quoted(value)}::{kind.column}) AS t (v)"
            )


FIELDS = "".join(
    f"SELECT fieldcrypt.create_field('{kind.field}', search => '{{exact}}');"
    if kind.searchable
    else f"SELECT fieldcrypt.create_field('{kind.field}');"
    for kind in KINDS
)


def plain(connection, name):
    """Every value, decrypted."""
    columns = ", ".join(
        f"fieldcrypt.decrypt(v_{kind})::text, fieldcrypt.decrypt(a_{kind})::text" for kind in KINDS
    )
    return sorted(connection.execute(f"SELECT n, {columns} FROM {name}").fetchall(), key=repr)


def ciphertext(connection, name):
    rows = connection.execute(f"SELECT t::text FROM {name} AS t").fetchall()
    return sorted(row for (row,) in rows)


@pytest.mark.parametrize("arguments", [[], ["--inserts"], ["--rows-per-insert=3"]])
def test_dump_and_restore(db, cluster, arguments):
    """A dump is ciphertext; restored beside its root key everything opens and is found."""
    db.execute(FIELDS + all_kinds("held"))
    for kind in SEARCHABLE:
        db.execute(f"CREATE INDEX ON held (v_{kind}); CREATE INDEX ON held USING hash (v_{kind})")
    db.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*')")
    db.execute("GRANT ALL ON held TO app")
    options = {"options": "-c fieldcrypt.account=acme -c TimeZone=UTC"}
    with db.connect("app", **options) as app:
        fill(app, "held")
        before = plain(app, "held")
    text = dump(db, *arguments)
    assert text.count("fc1:") > 100 and "a0eebc99" not in text.lower() and "Grüße" not in text
    target = Database(cluster)
    try:
        restore(target, text)
        assert ciphertext(target, "held") == ciphertext(db, "held")
        with target.connect("app", **options) as app:
            assert plain(app, "held") == before
            for kind in SEARCHABLE:
                for value in PAIRS[kind.name]:
                    query = f"SELECT count(*) FROM held WHERE v_{kind} = %s::{kind.native}"
                    with db.connect("app", **options) as source:
                        count = source.execute(query, [value]).fetchone()
                    assert app.execute(query, [value]).fetchone() == count
    finally:
        target.drop()


@pytest.mark.parametrize("binary", ["false", "true"])
def test_logical_replication(db, subscriber, binary):  # noqa: F811
    """Envelopes of each type arrive byte for byte; whole rows identify each other."""
    tables = all_kinds("held") + all_kinds("whole") + "ALTER TABLE whole REPLICA IDENTITY FULL;"
    tables += "ALTER TABLE held ADD PRIMARY KEY (n); GRANT ALL ON held, whole TO app;"
    db.execute(FIELDS + tables)
    subscriber.execute(tables)
    db.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*')")
    db.execute("CREATE PUBLICATION all_of_it FOR TABLE held, whole")
    source = db.cluster
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        fill(app, "whole")
        subscriber.execute(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={source.dir} port={source.port}"
            f" user=postgres dbname={db.name}' PUBLICATION all_of_it"
            f" WITH (binary = {binary}, slot_name = 'slot_{db.name}')"
        )
        try:
            ready = "SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel"
            wait_until(subscriber, ready)
            values = ", ".join(quoted(kind.values[0]) for kind in KINDS)
            columns = ", ".join(f"v_{kind}" for kind in KINDS)
            for n in range(5):
                app.execute(f"INSERT INTO held (n, {columns}) VALUES ({n}, {values})")
            for kind in KINDS:
                value = quoted(kind.values[1])
                app.execute(f"UPDATE held SET v_{kind} = {value} WHERE n = 1")
                app.execute(f"UPDATE whole SET v_{kind} = {value} WHERE v_{kind} IS NOT NULL")
                app.execute(f"UPDATE whole SET a_{kind} = NULL WHERE n = 0")
            app.execute("DELETE FROM held WHERE n = 2; DELETE FROM whole WHERE n = 1")
            app.execute("UPDATE whole SET n = n + 100 WHERE v_jsonb IS NOT NULL")
            caught_up(db, subscriber)
            for table in "held", "whole":
                assert ciphertext(subscriber, table) == ciphertext(db, table)
        finally:
            drop_subscription(db, subscriber)
