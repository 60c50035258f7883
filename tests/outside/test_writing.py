"""Every way in which a client writes a value: it is stored as ciphertext, found, and decrypts."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from expect import envelopes, nonce, refused, values_found
from psycopg.pq import Format
from psycopg.types import TypeInfo
from psycopg.types.string import StrBinaryDumper, StrDumper

SSN = "123-45-6789"


class Sealed(str):
    """A text that is sent as a parameter of the type encrypted_text."""


def send_as_encrypted_text(connection):
    """Makes `connection` send Sealed with the OID of encrypted_text, as text and as binary."""
    info = TypeInfo.fetch(connection, "fieldcrypt.encrypted_text")
    for base in StrDumper, StrBinaryDumper:
        dumper = type("Dumper", (base,), {"oid": info.oid})
        connection.adapters.register_dumper(Sealed, dumper)


def insert_literal(app):
    app.execute(f"INSERT INTO lead (ssn) VALUES ('{SSN}')")


def insert_rows_of_literals(app):
    app.execute(f"INSERT INTO lead (ssn, email) VALUES ('{SSN}', 'a@b.example'), (NULL, NULL)")


def insert_untyped_parameter(app):
    app.execute("INSERT INTO lead (ssn) VALUES (%t)", [SSN])


def insert_text_parameter(app):
    app.execute("INSERT INTO lead (ssn) VALUES (%b)", [SSN])


def insert_varchar(app):
    app.execute("INSERT INTO lead (ssn) VALUES (%t::varchar(20))", [SSN])


def insert_typed_parameter(app):
    send_as_encrypted_text(app)
    app.execute("INSERT INTO lead (ssn) VALUES (%t)", [Sealed(SSN)])


def insert_typed_binary_parameter(app):
    send_as_encrypted_text(app)
    app.execute("INSERT INTO lead (ssn) VALUES (%b)", [Sealed(SSN)])


def insert_cast(app):
    app.execute(f"INSERT INTO lead (ssn) VALUES ('{SSN}'::fieldcrypt.encrypted_text('lead.ssn'))")


def insert_encrypt(app):
    app.execute("INSERT INTO lead (ssn) VALUES (fieldcrypt.encrypt(%s, 'lead.ssn'))", [SSN])


def insert_default_row(app):
    app.execute("INSERT INTO lead DEFAULT VALUES")
    app.execute("UPDATE lead SET ssn = %s WHERE ssn IS NULL", [SSN])


def insert_select_of_text(app):
    app.execute("INSERT INTO lead (ssn) SELECT v FROM (VALUES (%s::text)) AS t (v)", [SSN])


def insert_select_of_another_table(app):
    app.execute("CREATE TEMP TABLE other (ssn fieldcrypt.encrypted_text('lead.ssn'))")
    app.execute("INSERT INTO other VALUES (%s)", [SSN])
    app.execute("INSERT INTO lead (ssn) SELECT ssn FROM other")
    assert envelopes(app) == envelopes(app, table="other")


def insert_record(app):
    app.execute(
        "INSERT INTO lead (ssn) SELECT ssn FROM"
        " jsonb_populate_record(NULL::lead, jsonb_build_object('ssn', %s::text))",
        [SSN],
    )


def insert_from_data_modifying_cte(app):
    app.execute(
        "WITH new AS (INSERT INTO lead (ssn) VALUES (%s) RETURNING id, ssn)"
        " UPDATE lead SET ssn = NULL WHERE ssn IS NULL",
        [SSN],
    )


def insert_on_conflict_update(app):
    for ssn in "111-11-1111", SSN:
        app.execute(
            "INSERT INTO lead (id, ssn) VALUES (1, %s)"
            " ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
            [ssn],
        )


def update_literal(app):
    app.execute("INSERT INTO lead (ssn) VALUES ('111-11-1111')")
    app.execute(f"UPDATE lead SET ssn = '{SSN}' WHERE ssn = '111 11 1111'")


def update_parameter(app):
    app.execute("INSERT INTO lead (ssn) VALUES ('111-11-1111')")
    app.execute("UPDATE lead SET ssn = %s WHERE ssn = %s", [SSN, "111 11 1111"])


def update_row(app):
    app.execute("INSERT INTO lead (ssn) VALUES ('111-11-1111')")
    app.execute("UPDATE lead SET (ssn, email) = (%s, NULL)", [SSN])


def merge_insert(app):
    app.execute(
        "MERGE INTO lead USING (VALUES (7)) AS new (id) ON lead.id = new.id"
        f" WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (new.id, '{SSN}')"
    )


def merge_update(app):
    app.execute("INSERT INTO lead (id, ssn) VALUES (7, '111-11-1111')")
    app.execute(
        "MERGE INTO lead USING (VALUES (7, %s::text)) AS new (id, ssn) ON lead.id = new.id"
        " WHEN MATCHED THEN UPDATE SET ssn = new.ssn",
        [SSN],
    )


def merge_by_encrypted_column(app):
    app.execute("INSERT INTO lead (ssn, email) VALUES (%s, 'old@b.example')", [SSN])
    app.execute("CREATE TEMP TABLE new (ssn fieldcrypt.encrypted_text('lead.ssn'))")
    app.execute("INSERT INTO new VALUES (%s)", [SSN])
    app.execute(
        "MERGE INTO lead USING new ON lead.ssn = new.ssn"
        " WHEN MATCHED THEN UPDATE SET email = 'new@b.example'"
        " WHEN NOT MATCHED THEN INSERT (ssn) VALUES (new.ssn)"
    )
    assert app.execute("SELECT fieldcrypt.decrypt(email) FROM lead").fetchall() == [
        ("new@b.example",)
    ]


def executemany(app):
    with app.cursor() as cursor:
        cursor.executemany("INSERT INTO lead (ssn) VALUES (%s)", [[SSN], ["111-11-1111"]])


def pipeline(app):
    with app.pipeline():
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", ["111-11-1111"])
        found = app.execute("SELECT count(*) FROM lead WHERE ssn = %s", [SSN])
    assert found.fetchone() == (1,)


def prepared_with_a_generic_plan(app):
    app.execute("SET plan_cache_mode = force_generic_plan")
    for ssn in "111-11-1111", SSN:
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [ssn], prepare=True)


def prepared_in_sql(app):
    app.execute("PREPARE new AS INSERT INTO lead (ssn) VALUES ($1)")
    app.execute("EXECUTE new ('111-11-1111')")
    app.execute(f"EXECUTE new ('{SSN}')")


def server_side_cursor_for_update(app):
    app.execute("INSERT INTO lead (ssn) VALUES ('111-11-1111')")
    with app.transaction():
        app.execute("DECLARE each CURSOR FOR SELECT id FROM lead FOR UPDATE")
        app.execute("FETCH each")
        app.execute("UPDATE lead SET ssn = %s WHERE CURRENT OF each", [SSN])


def sql_function(app):
    app.execute(
        "CREATE FUNCTION pg_temp.new(ssn text) RETURNS int"
        " BEGIN ATOMIC INSERT INTO lead (ssn) VALUES (ssn) RETURNING id; END"
    )
    app.execute("SELECT pg_temp.new(%s)", [SSN])


def plpgsql_function(app):
    app.execute(
        "CREATE FUNCTION pg_temp.new(new_ssn fieldcrypt.encrypted_text) RETURNS void"
        " LANGUAGE plpgsql AS 'BEGIN INSERT INTO lead (ssn) VALUES (new_ssn); END'"
    )
    app.execute("SELECT pg_temp.new(%s)", [SSN])


def do_block_with_a_typed_variable(app):
    app.execute(
        "DO $$ DECLARE new fieldcrypt.encrypted_text('lead.ssn') := '"
        + SSN
        + "'; BEGIN INSERT INTO lead (ssn) VALUES (new); END $$"
    )


def dynamic_sql(app):
    app.execute(
        "DO $$ BEGIN EXECUTE 'INSERT INTO lead (ssn) VALUES ($1)' USING '" + SSN + "'; END $$"
    )


def updatable_view(app):
    app.execute("CREATE TEMP VIEW v AS SELECT id, account_id, ssn FROM lead")
    app.execute("INSERT INTO v (ssn) VALUES (%s)", [SSN])


def copy_text(app):
    copy(app, "", f"{SSN}\n\\N\n")


def copy_csv(app):
    copy(app, "(FORMAT csv, HEADER)", f'ssn\n"{SSN}"\n\n')


def copy_rows(app):
    with app.cursor().copy("COPY lead (ssn) FROM STDIN") as stream:
        stream.write_row([SSN])


def copy_binary(app):
    with app.cursor().copy("COPY lead (ssn) FROM STDIN (FORMAT binary)") as stream:
        stream.set_types(["text"])
        stream.write_row([SSN])
        stream.write_row([None])


def copy_freeze(app):
    with app.transaction():
        app.execute("CREATE TEMP TABLE new (ssn fieldcrypt.encrypted_text('lead.ssn'))")
        with app.cursor().copy("COPY new FROM STDIN (FREEZE)") as stream:
            stream.write(f"{SSN}\n")
        app.execute("INSERT INTO lead (ssn) SELECT ssn FROM new")


def copy(connection, options, data, columns="ssn"):
    with connection.cursor().copy(f"COPY lead ({columns}) FROM STDIN {options}") as stream:
        stream.write(data)


WAYS = [
    *(insert_literal, insert_rows_of_literals, insert_untyped_parameter, insert_text_parameter),
    *(insert_varchar, insert_typed_parameter, insert_typed_binary_parameter, insert_cast),
    *(insert_encrypt, insert_default_row, insert_select_of_text, insert_select_of_another_table),
    *(insert_record, insert_from_data_modifying_cte, insert_on_conflict_update, update_literal),
    *(update_parameter, update_row, merge_insert, merge_update, merge_by_encrypted_column),
    *(executemany, pipeline, prepared_with_a_generic_plan, prepared_in_sql),
    *(server_side_cursor_for_update, sql_function, plpgsql_function),
    *(do_block_with_a_typed_variable, dynamic_sql, updatable_view),
    *(copy_text, copy_csv, copy_rows, copy_binary, copy_freeze),
]


@pytest.mark.every_version
def test_each_way_of_writing(session, subtests):
    """What was written is found by equality, decrypts, and is stored as ciphertext."""
    for write in WAYS:
        with subtests.test(write.__name__):
            app = session()
            app.execute("DELETE FROM lead")
            write(app)
            assert values_found(app, "123 45 6789") == [SSN]
            stored = envelopes(app)
            assert stored and all(SSN.encode() not in envelope for envelope in stored)
            app.close()


@pytest.mark.every_version
def test_output_is_always_ciphertext(app):
    """SELECT in text and binary, RETURNING and COPY TO give envelopes, also to who may decrypt."""
    query = "INSERT INTO lead (ssn) VALUES (%s) RETURNING ssn, fieldcrypt.decrypt(ssn)"
    returned, decrypted = app.execute(query, [SSN]).fetchone()
    assert decrypted == SSN
    (envelope,) = envelopes(app)
    assert returned.startswith("fc1:") and returned == text_of(app)
    cursor = app.cursor(binary=True)
    cursor.execute("SELECT ssn FROM lead")
    assert bytes(cursor.pgresult.get_value(0, 0)) == envelope
    assert cursor.pgresult.fformat(0) == Format.BINARY
    for options in "", "(FORMAT csv)":
        assert copy_out(app, options) == returned.encode() + b"\n"
    signature, flags, extension = 11, 4, 4
    fields = struct.pack("!hi", 1, len(envelope)) + envelope + struct.pack("!h", -1)
    assert copy_out(app, "(FORMAT binary)")[signature + flags + extension :] == fields


@pytest.mark.every_version
def test_conversions_to_text_give_ciphertext(app):
    app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
    stored = text_of(app)
    for expression in (
        *("ssn::text", "ssn::varchar", "CAST(ssn AS text)", "format('%s', ssn)", "concat(ssn)"),
        *("to_jsonb(lead) ->> 'ssn'", "row_to_json(lead) ->> 'ssn'", "string_agg(ssn::text, '')"),
        *("(array_agg(ssn))[1]::text", "array_to_string(ARRAY[ssn], '')", "max(ssn::text)"),
        *("split_part(lead::text, ',', 3)", "quote_literal(ssn)::text"),
    ):
        found = app.execute(f"SELECT {expression} FROM lead").fetchone()[0]
        assert found.strip("'") == stored, expression


def test_conversion_to_xml_gives_ciphertext(app):
    app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
    document = "table_to_xml('lead', false, false, '')"
    expression = f"(xpath('//ssn/text()', {document}))[1]::text"
    assert app.execute(f"SELECT {expression}").fetchone()[0] == text_of(app)


def text_of(connection):
    return connection.execute("SELECT ssn FROM lead").fetchone()[0]


def copy_out(connection, options):
    data = io.BytesIO()
    with connection.cursor().copy(f"COPY lead (ssn) TO STDOUT {options}") as stream:
        for block in stream:
            data.write(block)
    return data.getvalue()


@pytest.mark.every_version
def test_on_conflict_by_the_encrypted_column(leads, app):
    leads.execute("CREATE UNIQUE INDEX ON lead (ssn)")
    insert = "INSERT INTO lead (ssn, email) VALUES (%s, %s) ON CONFLICT (ssn)"
    app.execute(f"{insert} DO NOTHING", [SSN, "a@b.example"])
    app.execute(f"{insert} DO NOTHING", ["123 45 6789", "c@b.example"])
    assert emails(app) == ["a@b.example"]
    app.execute(
        f"{insert} DO UPDATE SET email = excluded.email WHERE lead.ssn = %s",
        ["123456789", "c@b.example", SSN],
    )
    assert emails(app) == ["c@b.example"]
    assert values_found(app, SSN) == [SSN]  # the row was kept
    with refused("23505", "duplicate key"):
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", ["123.45.6789"])


def emails(connection):
    rows = connection.execute("SELECT fieldcrypt.decrypt(email) FROM lead ORDER BY id")
    return [email for (email,) in rows]


@pytest.mark.every_version
def test_values_of_every_shape(leads, app):
    """Empty, long, multi-line, non-Latin: what comes back is what went in."""
    leads.execute("SELECT fieldcrypt.create_field('note', search => '{exact}')")
    leads.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', 'note')")
    leads.execute("CREATE TABLE note (id int, body fieldcrypt.encrypted_text('note'))")
    leads.execute("GRANT ALL ON note TO app")
    shapes = [
        *(
            "x",
            " ",
            "O'Hara",
            "line\nbreak\ttab\\",
            "Grüße, 世界 🙂",
            "\u0001\u007f",
            "NULL",
            "\\N",
        ),
        *("fc", "fc1", "fc1 :", "FC1:", "fc0:", "fcx:", "x" * 10_000, "🙂" * 1_000_000),
    ]
    for number, shape in enumerate(shapes):
        app.execute("INSERT INTO note VALUES (%s, %s)", [number, shape])
        found = app.execute(
            "SELECT id, fieldcrypt.decrypt(body) FROM note WHERE body = %s", [shape]
        )
        assert found.fetchall() == [(number, shape)]
    app.execute("INSERT INTO note VALUES (-1, '')")
    query = "SELECT fieldcrypt.decrypt(body) FROM note WHERE id = -1"
    assert app.execute(query).fetchone() == ("",)


@pytest.mark.every_version
def test_an_account_that_changes_between_executions(leads, session):
    """A prepared statement, plan cached, writes and searches under the account of the moment."""
    leads.execute(
        "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'globex', 'lead.*')"
    )
    app = session()
    app.execute("SET plan_cache_mode = force_generic_plan")
    for account in "acme", "globex", "acme":
        app.execute("SELECT set_config('fieldcrypt.account', %s, false)", [account])
        app.execute(
            "INSERT INTO lead (account_id, ssn) VALUES (%s, %s)", [account, SSN], prepare=True
        )
        rows = app.execute(
            "SELECT account_id, fieldcrypt.account_of(ssn) FROM lead WHERE ssn = %s",
            [SSN],
            prepare=True,
        ).fetchall()
        assert set(rows) == {(account, account)}
    app.execute("RESET fieldcrypt.account")
    app.execute("SET fieldcrypt.account = ''")
    with refused("55000", "no account is set", hint="fieldcrypt.account"):
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN], prepare=True)
    with refused("55000", "no account is set"):
        app.execute("SELECT count(*) FROM lead WHERE ssn = %s", [SSN], prepare=True)


@pytest.mark.every_version
def test_rows_settle_the_account(leads, session):
    """fieldcrypt.account = '*row*': one statement writes rows of several accounts."""
    leads.execute("SELECT fieldcrypt.protect_table('lead', 'account_id')")
    leads.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,decrypt}', 'globex', 'lead.*')")
    app = session(account="*row*")
    copy(app, "", f"acme\t{SSN}\nglobex\t{SSN}\n", columns="account_id, ssn")
    app.execute("INSERT INTO lead (account_id, ssn) VALUES ('globex', %s)", ["111-11-1111"])
    rows = app.execute(
        "SELECT account_id, fieldcrypt.account_of(ssn), fieldcrypt.decrypt(ssn) FROM lead"
        " ORDER BY id"
    )
    assert rows.fetchall() == [
        ("acme", "acme", SSN),
        ("globex", "globex", SSN),
        ("globex", "globex", "111-11-1111"),
    ]
    assert values_found(session(), SSN) == [SSN]


@pytest.mark.every_version
def test_threat_a5_one_literal_gets_a_nonce_for_each_row(app):
    """L9: INSERT, UPDATE and prepared UPDATE of one literal: no two rows share an envelope."""
    app.execute(f"INSERT INTO lead (ssn) SELECT '{SSN}' FROM generate_series(1, 1000)")
    seen = {nonce(envelope) for envelope in envelopes(app)}
    app.execute(f"UPDATE lead SET ssn = '{SSN}'")
    seen |= {nonce(envelope) for envelope in envelopes(app)}
    app.execute("PREPARE change AS UPDATE lead SET ssn = $1")
    for _ in range(2):
        app.execute(f"EXECUTE change ('{SSN}')")
        seen |= {nonce(envelope) for envelope in envelopes(app)}
    app.execute("UPDATE lead SET ssn = fieldcrypt.encrypt(%s, 'lead.ssn')", [SSN])
    seen |= {nonce(envelope) for envelope in envelopes(app)}
    assert len(seen) == 5000
    assert len(values_found(app, SSN)) == 1000


@pytest.mark.every_version
def test_threat_a5_encrypt_is_volatile(leads):
    assert (
        leads.value(
            "SELECT provolatile FROM pg_proc WHERE proname = 'encrypt'"
            " AND pronamespace = 'fieldcrypt'::regnamespace"
        )
        == "v"
    )


@pytest.mark.every_version
def test_threat_a4_nonces_survive_fork(leads, session):
    """Sessions forked from one postmaster, with the library preloaded, draw different nonces."""
    assert leads.value("SHOW shared_preload_libraries") == "fieldcrypt"
    connections = [session() for _ in range(8)]

    def write(connection):
        connection.execute(
            "INSERT INTO lead (ssn) SELECT i::text FROM generate_series(1, 2000) AS i"
        )

    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(write, connections))
    stored = envelopes(leads.conn)
    assert len(stored) == 16_000
    assert len({nonce(envelope) for envelope in stored}) == 16_000


def test_failed_writes_leave_the_session_usable(app):
    for wrong in (
        "INSERT INTO lead (id, ssn) VALUES ('x', 'y')",
        "INSERT INTO lead (account_id, ssn) VALUES (NULL, 'y')",
        "SELECT fieldcrypt.encrypt('x', 'no.such.field')",
        "SELECT fieldcrypt.decrypt('x')",
    ):
        with pytest.raises(psycopg.Error):
            app.execute(wrong)
        app.execute("DELETE FROM lead")
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        assert values_found(app, SSN) == [SSN]


def test_a_protected_table_loses_a_column(leads, app):
    leads.execute("SELECT fieldcrypt.protect_table('lead', 'account_id')")
    leads.execute("ALTER TABLE lead DROP COLUMN email")
    app.execute("INSERT INTO lead (ssn) VALUES ('123-45-6789')")
    app.execute("UPDATE lead SET ssn = '987-65-4321'")
    assert values_found(app, "987 65 4321") == ["987-65-4321"]
