"""One test, or more, for each threat of the threat table that fieldcrypt claims to stop.

The names carry the ids of that table (docs/security.md, which names the test of each threat, also
of those with a file of their own).
"""

import base64
import re
import secrets
from contextlib import suppress

import psycopg
import pytest
from expect import (
    LEADS,
    envelope_bytes,
    envelope_text,
    envelopes,
    refused,
    texts,
    values_found,
)
from harness import account_database
from psycopg import sql

SSN = "123-45-6789"
HIDDEN = "********"


@pytest.fixture
def filled(leads, session):
    """Leads of two accounts, with the same value in both; returns the database."""
    app, globex = session(), session("app_globex", "globex")
    app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
    globex.execute("INSERT INTO lead (account_id, ssn) VALUES ('globex', %s)", [SSN])
    assert leads.execute("SELECT id FROM lead ORDER BY id").fetchall() == [(1,), (2,)]
    return leads


def envelope_of(database, number, column="ssn"):
    return database.value(f"SELECT {column}::text FROM lead WHERE id = %s", [number])


# A: the format


def test_threat_a1_ciphertext_in_another_row_of_another_account(filled, session):
    """Moved by somebody who may write envelopes: it still is its own account's, and decrypts for
    nobody else; a protected table refuses it."""
    filled.execute("UPDATE lead SET ssn = (SELECT ssn FROM lead WHERE id = 1) WHERE id = 2")
    decrypt = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 2"
    with refused("42501", 'to decrypt field "lead.ssn" of account "acme"'):
        session("app_globex", "globex").execute(decrypt)
    filled.execute("UPDATE lead SET ssn = NULL WHERE id = 2")
    filled.execute("SELECT fieldcrypt.protect_table('lead', 'account_id')")
    moved = envelope_of(filled, 1)
    for statement in (
        f"UPDATE lead SET ssn = '{moved}' WHERE id = 2",
        "UPDATE lead SET ssn = (SELECT ssn FROM lead WHERE id = 1) WHERE id = 2",
        "UPDATE lead SET account_id = 'globex' WHERE id = 1",
        f"INSERT INTO lead (account_id, ssn) VALUES ('globex', '{moved}')",
        "INSERT INTO lead (account_id, ssn) SELECT 'globex', ssn FROM lead WHERE id = 1",
    ):
        with refused("23514", "value belongs to another account"):
            filled.execute(statement)


def test_threat_a1_ciphertext_in_another_field(filled):
    moved = envelope_of(filled, 1)
    for statement in (
        f"UPDATE lead SET email = '{moved}'",
        "UPDATE lead SET email = ssn",
        f"SELECT '{moved}'::fieldcrypt.encrypted_text('lead.email')",
        "INSERT INTO lead (email) SELECT ssn FROM lead",
    ):
        with refused("23514", "belongs to field .*lead.ssn.*, not to field .*lead.email"):
            filled.execute(statement)


def test_threat_a1_every_forged_byte_is_noticed(filled, session):
    """Whatever byte of a stored value is changed: never another value, always an error."""
    original = envelope_bytes(envelope_of(filled, 1))
    decrypted = []
    filled.execute("SELECT fieldcrypt.grant_access('app', '{decrypt}', '*', '*')")
    filled.execute("GRANT fieldcrypt_restore TO app")
    app = session()
    try:
        for position in range(len(original)):
            for flip in 0x01, 0x80:
                forged = bytearray(original)
                forged[position] ^= flip
                try:
                    row = app.execute(
                        "SELECT fieldcrypt.decrypt(%s::fieldcrypt.encrypted_text)",
                        [envelope_text(forged)],
                    ).fetchone()
                    decrypted.append((position, row))
                except psycopg.Error as error:
                    # unsound, of an unknown key or field, in transit, or not authentic
                    assert error.sqlstate in ("22P02", "42704", "55000", "XX001"), error
                    assert SSN not in texts(error)
    finally:
        filled.execute("REVOKE fieldcrypt_restore FROM app")
    assert decrypted == []


def test_threat_a1_parts_of_two_values_do_not_make_a_third(filled, session):
    """Header of one, sealed part of another: of another account, field, or only another value."""
    filled.execute("SELECT fieldcrypt.grant_access('app', '{encrypt,decrypt}', '*', '*')")
    app = session()
    app.execute("INSERT INTO lead (id, ssn, email) VALUES (3, '1', 'a@b.example')")
    parts = []
    for number, column in (1, "ssn"), (2, "ssn"), (3, "ssn"), (3, "email"):
        envelope = envelope_bytes(envelope_of(filled, number, column))
        end = 23 + int.from_bytes(envelope[21:23])
        parts.append((envelope[:end], envelope[end:]))
    filled.execute("GRANT fieldcrypt_restore TO app")
    try:
        for header, _ in parts:
            for other, sealed in parts:
                query = "SELECT fieldcrypt.decrypt(%s::fieldcrypt.encrypted_text)"
                if other is header:
                    app.execute(query, [envelope_text(header + sealed)])
                    continue
                with refused("XX001"):
                    app.execute(query, [envelope_text(header + sealed)])
    finally:
        filled.execute("REVOKE fieldcrypt_restore FROM app")


def test_threat_a7_every_failure_to_open_looks_the_same(filled, session):
    """One text and one SQLSTATE, whatever of nonce, ciphertext or tag is wrong."""
    original = envelope_bytes(envelope_of(filled, 1))
    start = 23 + int.from_bytes(original[21:23])
    filled.execute("GRANT fieldcrypt_restore TO app")
    app = session()
    seen = set()
    try:
        for position in range(start, len(original)):
            forged = bytearray(original)
            forged[position] ^= 1
            with pytest.raises(psycopg.Error) as caught:
                app.execute(
                    "SELECT fieldcrypt.decrypt(%s::fieldcrypt.encrypted_text)",
                    [envelope_text(forged)],
                )
            seen.add((caught.value.sqlstate, texts(caught.value)))
    finally:
        filled.execute("REVOKE fieldcrypt_restore FROM app")
    assert len(seen) == 1


LOOK_ALIKES = ["fc1:", "fc1:AAAA", "fc1:not base64", "fc2:AAAA", "fc999:", "fc1:\n", "fc10:fc1:"]


@pytest.mark.parametrize("user", ["app", "outsider"])
def test_threat_a11_look_alike_input_is_refused(filled, session, user):
    """What reads as an envelope, a real one of a colleague included, is no plain value and is not
    taken over: in every way in."""
    copied = envelope_of(filled, 2)
    filled.execute("CREATE DOMAIN ssn_domain AS fieldcrypt.encrypted_text('lead.ssn')")
    session_ = session(user)
    for text in [copied, envelope_of(filled, 1), *LOOK_ALIKES]:
        literal = sql.quote(text)
        for statement in (
            f"INSERT INTO lead (ssn) VALUES ({literal})",
            f"INSERT INTO lead (ssn) VALUES ({literal}::text)",
            f"INSERT INTO lead (ssn) VALUES ({literal}::fieldcrypt.encrypted_text('lead.ssn'))",
            f"INSERT INTO lead (ssn) VALUES ({literal}::ssn_domain)",
            f"INSERT INTO lead (ssn) SELECT (jsonb_populate_record(NULL::lead,"
            f" jsonb_build_object('ssn', {literal}))).ssn",
            f"SELECT CAST({literal} AS fieldcrypt.encrypted_text)",
            f"SELECT ARRAY[{literal}]::fieldcrypt.encrypted_text[]",
            f"SELECT array_in(array_out(ARRAY[{literal}]),"
            " 'fieldcrypt.encrypted_text'::regtype::oid, -1)",
            f"UPDATE lead SET ssn = {literal}",
            f"SELECT fieldcrypt.decrypt({literal}::fieldcrypt.encrypted_text)",
            f"SELECT fieldcrypt.reveal({literal}::fieldcrypt.encrypted_text)",
            f"SELECT id FROM lead WHERE ssn = {literal}",
        ):
            with refused("42501", "not accepted as input from this role", hint="plain value"):
                session_.execute(statement)
        with refused("42501", "not accepted as input"):
            session_.execute("INSERT INTO lead (ssn) VALUES (%s)", [text])
        for options in "", "(FORMAT csv)", "(FORMAT binary)":
            with refused("42501", "not accepted as input"):
                with session_.cursor().copy(f"COPY lead (ssn) FROM STDIN {options}") as stream:
                    if "binary" in options:
                        stream.set_types(["text"])
                    if "csv" in options:
                        stream.write('"{}"\n'.format(text.replace("\n", "")))
                    else:
                        stream.write_row([text])
    with refused("42501", "not accepted as input"):
        with session_.cursor().copy("COPY lead (ssn) FROM STDIN (FORMAT binary)") as stream:
            stream.set_types(["bytea"])
            stream.write_row([envelope_bytes(copied)])
    assert filled.value("SELECT count(*) FROM lead") == 2


def test_threat_a11_encrypt_always_encrypts(app):
    """A text that happens to look so is a value like any other for encrypt()."""
    for text in LOOK_ALIKES:
        query = "SELECT fieldcrypt.decrypt(fieldcrypt.encrypt(%s, 'lead.ssn'))"
        assert app.execute(query, [text]).fetchone() == (text,)


def test_threat_a11_unsound_envelopes_are_errors(filled):
    """Also from who may write envelopes: never taken for plain text, and never echoed."""
    sound = envelope_of(filled, 1)
    for text in (*LOOK_ALIKES, sound[:40], sound[:5], sound + "=", sound + " "):
        with refused("22P02") as caught:
            filled.execute("INSERT INTO lead (ssn) VALUES (%s)", [text])
        assert sound[4:40] not in texts(caught.value)


# B: where plain values could show


def test_threat_b1_statistics_hold_no_values(filled, session):
    session().execute("INSERT INTO lead (ssn) SELECT %s FROM generate_series(1, 100)", [SSN])
    filled.execute("CREATE STATISTICS s (ndistinct, dependencies) ON ssn, email FROM lead")
    filled.execute("ANALYZE lead")
    row = filled.execute(
        "SELECT null_frac, n_distinct, most_common_vals::text, histogram_bounds::text"
        " FROM pg_stats WHERE tablename = 'lead' AND attname = 'ssn'"
    ).fetchone()
    assert row is not None and row[2:] == (None, None)


@pytest.mark.parametrize("function", ["decrypt", "reveal"])
def test_threat_b1_no_index_or_column_of_plain_values(leads, function):
    """PostgreSQL refuses to store what is not immutable, but for statistics; we refuse these, and
    what is called immutable and is not."""
    leads.execute(f"""
        CREATE FUNCTION plain(fieldcrypt.encrypted_text) RETURNS text LANGUAGE plpgsql IMMUTABLE
            AS 'BEGIN RETURN fieldcrypt.{function}($1); END'
    """)
    for code, message, called in (
        ("42P17", "(?i)immutable", f"fieldcrypt.{function}(ssn)"),
        ("0A000", "would store plain values", "plain(ssn)"),
    ):
        for statement in (
            f"CREATE INDEX ON lead ({called})",
            f"CREATE INDEX ON lead (id) WHERE {called} = 'x'",
            f"ALTER TABLE lead ADD p text GENERATED ALWAYS AS ({called}) STORED",
        ):
            with refused(code, message):
                leads.execute(statement)
        with refused("0A000", "would store plain values"):
            leads.execute(f"CREATE STATISTICS s ON ({called}) FROM lead")


def test_threat_b2_plans_hold_no_plain_values(filled, session):
    """L6 to L8: decrypt() is not folded into a plan, and planning needs no right."""
    app, outsider = session(), session("outsider")
    sealed = "fieldcrypt.encrypt('123-45-6789', 'lead.ssn', 'acme')"
    app.execute(f"CREATE TEMP VIEW v AS SELECT fieldcrypt.decrypt({sealed}) AS plain")
    plan = explain(app, "SELECT id FROM lead WHERE fieldcrypt.decrypt(ssn) = (SELECT plain FROM v)")
    assert "decrypt" in plan
    query = "SELECT id, fieldcrypt.decrypt(ssn) FROM lead WHERE ssn = '123456789'"
    assert "fieldcrypt.decrypt(ssn, id)" in explain(outsider, query)
    with refused("42501"):
        outsider.execute(query)


def explain(connection, query):
    rows = connection.execute(f"EXPLAIN (VERBOSE) {query}").fetchall()
    return "\n".join(line for (line,) in rows)


def test_threat_b5_output_is_ciphertext_for_everyone(filled, session):
    for connection in session(), session("outsider"), filled.conn:
        values = [value for (value,) in connection.execute("SELECT ssn FROM lead")]
        assert all(value.startswith("fc1:") for value in values)


def test_threat_b6_errors_do_not_echo_input(filled, session):
    """Neither what was meant as a value nor what was meant as an envelope."""
    secret = "kept-to-itself-918273"
    app = session()
    for connection in app, filled.conn:
        for statement in (
            f"INSERT INTO lead (ssn) VALUES ('fc1:{secret}')",
            f"SELECT 'fc1:{secret}'::fieldcrypt.encrypted_text('lead.email')",
            f"SELECT fieldcrypt.decrypt('{secret}'::fieldcrypt.encrypted_text)",
            f"SELECT fieldcrypt.encrypt('{secret}', 'unknown.field')",
            f"SELECT id FROM lead WHERE ssn < '{secret}'",
            f"SELECT '{secret}'::fieldcrypt.encrypted_text('lead.ssn', 'lead.email')",
        ):
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(statement)
            assert secret not in texts(caught.value)
    with pytest.raises(psycopg.Error) as caught:
        with app.cursor().copy("COPY lead (ssn) FROM STDIN (FORMAT binary)") as stream:
            stream.set_types(["bytea"])
            stream.write_row([b"kept-to-itself\xff\xfe"])
    shown = (caught.value.diag.message_primary or "") + (caught.value.diag.message_detail or "")
    assert "kept" not in shown and "ff" not in shown.replace("buffer", "").split()


def test_threat_b9_no_panic_or_backtrace_reaches_the_client(make_cluster):
    """With RUST_BACKTRACE=1 in the server's environment."""
    own = make_cluster()
    own.env = {"RUST_BACKTRACE": "full", "RUST_LIB_BACKTRACE": "1"}
    own.restart()
    with account_database(own) as database:
        database.execute(LEADS)
        database.execute("INSERT INTO lead (id) VALUES (1)")
        with database.connect("outsider", options="-c fieldcrypt.account=acme") as outsider:
            for statement in (
                "INSERT INTO lead (ssn) VALUES ('1')",
                "INSERT INTO lead (ssn) VALUES ('fc1:AAAA')",
                "SELECT id FROM lead WHERE ssn = '1'",
                "SELECT id FROM lead WHERE ssn IN ('1', '2')",
                "SELECT id FROM lead ORDER BY ssn",
                "SELECT fieldcrypt.decrypt('x'::fieldcrypt.encrypted_text)",
                "SELECT fieldcrypt.encrypt('x', 'NO SUCH FIELD')",
                "SELECT fieldcrypt.blind_index('x', 'lead.ssn', 'nobody')",
                "SELECT fieldcrypt.create_account('x')",
                "SELECT 'x'::fieldcrypt.encrypted_text('A')",
                "SELECT * FROM fieldcrypt.can('app', 'x', 'acme', 'lead.ssn')",
                "SELECT fieldcrypt.encrypted_text_out(NULL)",
                "SELECT fieldcrypt.protect_table('lead', 'nothing')",
                "SELECT fieldcrypt.probe('x'::text, 5)",
                "SELECT fieldcrypt.hold_account()",
                "SELECT fieldcrypt.encrypted_eq('a'::fieldcrypt.encrypted_text, 'b')",
            ):
                try:
                    outsider.execute(statement)
                except psycopg.Error as error:
                    shown = texts(error)
                    assert not re.search(r"backtrace|panicked|\.rs:|::|0x[0-9a-f]{6}", shown), shown
                    assert error.sqlstate != "XX000", statement


# C: rights


def test_threat_c1_a_search_path_of_traps(filled, session):
    """L13: whatever a user puts before pg_catalog on the path of an administrator, temporary
    tables included, nothing of his is called."""
    outsider = filled.connect()
    filled.execute("CREATE SCHEMA evil AUTHORIZATION outsider")
    outsider.execute("SET ROLE outsider")
    lay_traps(outsider, "evil")
    filled.execute("GRANT ALL ON SCHEMA evil TO PUBLIC")
    with filled.connect() as admin:
        for table in (
            *("account", "account_key", "root_key", "field", "access_grant", "pg_class"),
            *("pg_attribute", "pg_type", "pg_constraint", "pg_index", "pg_trigger", "pg_roles"),
        ):
            admin.execute(f"CREATE TEMP TABLE {table} (trap int)")
        admin.execute("SET search_path = pg_temp, evil, pg_catalog, public")
        admin.execute("SET fieldcrypt.account = 'acme'")
        for statement in CALLS:
            admin.execute(statement)
        admin.execute("SET ROLE app")
        for statement in USES:
            admin.execute(statement)
    outsider.close()
    assert filled.value("SELECT count(*) FROM fieldcrypt.accounts WHERE account = 'new'") == 1


def test_threat_c1_an_administrator_does_not_become_the_owner(leads):
    """What runs as the owner of the extension, a superuser, resolves nothing on the path of who
    calls it: else an administrator of fields would be a superuser."""
    leads.cluster.create_roles("field_admin")
    leads.execute("GRANT fieldcrypt_admin, fieldcrypt_key_admin, fieldcrypt_grantor TO field_admin")
    leads.execute("CREATE SCHEMA evil AUTHORIZATION field_admin")
    leads.execute("CREATE TABLE other (id int); GRANT ALL ON other TO field_admin")
    try:
        with leads.connect("field_admin") as admin:
            lay_traps(admin, "evil")
            admin.execute("SET search_path = evil, pg_catalog, public")
            for statement in CALLS:
                if "protect_table" not in statement and "CREATE" not in statement:
                    admin.execute(statement)
    finally:
        leads.execute("DROP SCHEMA evil CASCADE; DROP OWNED BY field_admin")
        leads.execute("DROP ROLE field_admin")


CALLS = [
    "SELECT fieldcrypt.create_account('new')",
    "SELECT fieldcrypt.create_field('new.field', search => '{exact}', mask => 'last4',"
    " label => 'New')",
    "SELECT fieldcrypt.alter_field('new.field', mask => 'email', hidden => 'mask')",
    "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'new', 'new.*')",
    "SELECT fieldcrypt.grant_access('app', '{mask}', 'new', 'new.*')",
    "SELECT fieldcrypt.revoke_access('app', '{mask}', 'new', 'new.*')",
    "SELECT fieldcrypt.disable_account('new')",
    "SELECT fieldcrypt.enable_account('new')",
    "SELECT fieldcrypt.can_reason('app', 'decrypt', 'acme', 'lead.ssn')",
    "SELECT * FROM fieldcrypt.can('app', 'decrypt', 'acme', 'lead.ssn')",
    "SELECT * FROM fieldcrypt.accounts",
    "SELECT * FROM fieldcrypt.keys",
    "SELECT * FROM fieldcrypt.access",
    "SELECT * FROM fieldcrypt.fields",
    "SELECT * FROM fieldcrypt.protected",
    "SELECT fieldcrypt.protect_table('public.lead', 'account_id')",
    "SELECT fieldcrypt.protect_table('public.lead', 'account_id', 'rebind')",
    "SELECT fieldcrypt.unprotect_table('public.lead')",
    "CREATE TABLE public.made (a fieldcrypt.encrypted_text('new.field') UNIQUE)",
    "CREATE DOMAIN public.d AS fieldcrypt.encrypted_text('new.field')",
    "CREATE TABLE public.child (a fieldcrypt.encrypted_text('new.field')"
    " REFERENCES public.made (a))",
    "DROP TABLE IF EXISTS public.made, public.child",
    "DROP DOMAIN IF EXISTS public.d",
    "SELECT fieldcrypt.create_field('to.drop')",
    "SELECT fieldcrypt.drop_field('to.drop')",
]

USES = [
    "INSERT INTO public.lead (ssn, email) VALUES ('1', 'a@b.example')",
    "SELECT fieldcrypt.decrypt(ssn), fieldcrypt.reveal(ssn), fieldcrypt.account_of(ssn),"
    " fieldcrypt.field_of(ssn), fieldcrypt.key_of(ssn) FROM public.lead"
    " WHERE account_id OPERATOR(pg_catalog.=) 'acme'",
    "SELECT id FROM public.lead WHERE ssn = '1'",
    "SELECT id FROM public.lead WHERE ssn IN ('1', '2')",
    "SELECT id FROM public.lead WHERE ssn IS DISTINCT FROM '1'",
    "UPDATE public.lead SET ssn = '2' WHERE ssn = '1'",
    "SELECT fieldcrypt.encrypt('1', 'lead.ssn'), fieldcrypt.blind_index('1', 'lead.ssn')",
    "SELECT count(DISTINCT ssn) FROM public.lead",
]


def lay_traps(connection, schema):
    """Functions and operators that raise when called, under names that the extension uses."""
    connection.execute(f"""
        CREATE FUNCTION {schema}.trap() RETURNS boolean LANGUAGE plpgsql AS
            $$BEGIN RAISE 'hijacked as % (%)', current_user, session_user; END$$;
        DO $do$
        DECLARE
            kind text;
            name text;
        BEGIN
            FOREACH kind IN ARRAY ARRAY['text', 'name', 'oid', 'integer', 'bigint', 'boolean',
                                        'text[]', '"char"', 'regclass']
            LOOP
                FOREACH name IN ARRAY '{{=,<>,<,>,~~,&&,@>,||}}'::text[] LOOP
                    EXECUTE format('CREATE OR REPLACE FUNCTION {schema}.trap_2(%1$s, %1$s)'
                        ' RETURNS boolean LANGUAGE plpgsql AS'
                        ' $$BEGIN RAISE ''hijacked as %% (%%)'', current_user, session_user; END$$',
                        kind);
                    EXECUTE format('CREATE OPERATOR {schema}.%1$s (FUNCTION = {schema}.trap_2,'
                        ' LEFTARG = %2$s, RIGHTARG = %2$s)', name, kind);
                END LOOP;
            END LOOP;
            FOREACH name IN ARRAY '{{format(text),unnest(text[]),now(),starts_with(text),
                octet_length(bytea),split_part(text),array_agg(name),string_agg(text),
                substr(text),strpos(text),encode(bytea),pg_event_trigger_ddl_commands(),
                current_setting(text),set_config(text),nullif(text),coalesce(text)}}'::text[]
            LOOP
                EXECUTE format('CREATE FUNCTION {schema}.%s RETURNS boolean LANGUAGE plpgsql'
                    ' AS $$BEGIN RAISE ''hijacked as %% (%%)'', current_user, session_user; END$$',
                    name);
            END LOOP;
        END
        $do$;
        CREATE DOMAIN {schema}.text AS pg_catalog.text CHECK ({schema}.trap());
        CREATE DOMAIN {schema}.name AS pg_catalog.name CHECK ({schema}.trap());
        CREATE DOMAIN {schema}.regclass AS pg_catalog.regclass CHECK ({schema}.trap());
        CREATE DOMAIN {schema}.encrypted_text AS pg_catalog.text CHECK ({schema}.trap());
        CREATE VIEW {schema}.pg_class AS SELECT {schema}.trap() AS oid;
        CREATE VIEW {schema}.account AS SELECT {schema}.trap() AS account;
    """)
    # They catch what is not careful.
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL search_path = {schema}, pg_catalog")
        for careless in (
            "SELECT NULLIF('a'::pg_catalog.text, 'b')",
            "SELECT octet_length('a'::bytea)",
        ):
            with refused("P0001", "hijacked"):
                with connection.transaction():
                    connection.execute(careless)


def test_threat_c2_a_setting_never_grants(filled, session):
    """fieldcrypt.account selects; the rights are those of the current user."""
    outsider = session("outsider", account="acme")
    for account in "acme", "globex", "*row*", "*database*", "*", "":
        outsider.execute("SELECT set_config('fieldcrypt.account', %s, false)", [account])
        with refused("42501"):
            outsider.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
        with pytest.raises(psycopg.Error) as caught:
            outsider.execute("SELECT id FROM lead WHERE ssn = %s", [SSN])
        assert caught.value.sqlstate in ("42501", "55000", "42704", "42602")
        assert outsider.execute("SELECT DISTINCT fieldcrypt.reveal(ssn) FROM lead").fetchall() == [
            (HIDDEN,)
        ]
    app = session(account="globex")
    with refused("42501", 'account "globex"'):
        app.execute("INSERT INTO lead (ssn) VALUES ('1')")


def test_threat_c2_the_current_user_counts(filled, session):
    """SET ROLE and SECURITY DEFINER change whose rights count; session_user does not matter."""
    decrypt = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1"
    filled.execute(
        "CREATE FUNCTION as_app() RETURNS text SECURITY DEFINER SET search_path = public, pg_temp"
        " BEGIN ATOMIC SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1; END;"
        "CREATE FUNCTION as_outsider() RETURNS text SECURITY DEFINER"
        " SET search_path = public, pg_temp"
        " BEGIN ATOMIC SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1; END;"
        "ALTER FUNCTION as_app() OWNER TO app; ALTER FUNCTION as_outsider() OWNER TO outsider"
    )
    outsider, app = session("outsider"), session()
    assert outsider.execute("SELECT as_app()").fetchone() == (SSN,)
    with refused("42501"):
        outsider.execute(decrypt)  # nothing is left of the rights inside
    with refused("42501"):
        app.execute("SELECT as_outsider()")
    assert app.execute(decrypt).fetchone() == (SSN,)
    with filled.connect() as superuser:
        with refused("42501"):
            superuser.execute(decrypt)
        superuser.execute("SET ROLE app")
        assert superuser.execute(decrypt).fetchone() == (SSN,)
        superuser.execute("SET ROLE outsider")
        with refused("42501"):
            superuser.execute(decrypt)
        superuser.execute("RESET ROLE")
        with refused("42501"):
            superuser.execute(decrypt)


def test_threat_c3_the_catalog_is_closed(filled):
    """The key table is the key administrators' to read, and nobody's to write."""
    cluster = filled.cluster
    roles = {
        "key_admin": "fieldcrypt_key_admin",
        "admin": "fieldcrypt_admin",
        "grantor": "fieldcrypt_grantor",
        "auditor": "fieldcrypt_auditor",
        "restorer": "fieldcrypt_restore",
    }
    cluster.create_roles(*roles)
    for role, of in roles.items():
        filled.execute(f"GRANT {of} TO {role}")
    tables = ("account", "account_key", "root_key", "field", "access_grant")
    try:
        for role in (*roles, "app", "outsider"):
            with filled.connect(role) as connection:
                for table in tables:
                    readable = table == "field" or (
                        role == "key_admin" and table in ("account_key", "root_key")
                    )
                    query = f"SELECT count(*) FROM fieldcrypt.{table}"
                    if readable:
                        connection.execute(query)
                    else:
                        with refused("42501"):
                            connection.execute(query)
                    for write in (
                        f"DELETE FROM fieldcrypt.{table}",
                        f"INSERT INTO fieldcrypt.{table} SELECT * FROM fieldcrypt.{table}",
                        f"TRUNCATE fieldcrypt.{table} CASCADE",
                        f"ALTER TABLE fieldcrypt.{table} DISABLE TRIGGER ALL",
                    ):
                        with refused("42501"):
                            connection.execute(write)
        with filled.connect("outsider") as outsider:
            for call in CALLS[:8]:
                with refused("42501"):
                    outsider.execute(call)
    finally:
        for role in roles:
            filled.execute(f"DROP ROLE {role}")


def test_threat_c3_no_function_gives_key_bytes(filled):
    """Nothing that returns bytea, text or rows shows a key, wrapped keys excepted."""
    key = (filled.cluster.keys_dir / "main.key").read_text().strip()
    for view in "accounts", "fields", "keys", "access", "protected", "root_key", "account_key":
        rows = filled.execute(f"SELECT v::text FROM fieldcrypt.{view} AS v").fetchall()
        assert key[:16] not in str(rows)
    columns = filled.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'fieldcrypt.keys'::regclass"
        " AND attnum > 0"
    ).fetchall()
    assert not {"wrapped", "check_value"} & {name for (name,) in columns}


def test_threat_c4_maintenance_opens_nothing(filled, session):
    """What runs as the table's owner, whoever starts it: the owner has no right, and none is
    asked for."""
    filled.execute("SELECT fieldcrypt.protect_table('lead', 'account_id')")
    filled.execute("ALTER TABLE lead OWNER TO outsider; GRANT CREATE ON SCHEMA public TO outsider")
    before = filled.execute("SELECT ssn FROM lead ORDER BY id").fetchall()
    with filled.connect("outsider") as owner:
        for statement in (
            "CREATE INDEX lead_by_ssn ON lead (ssn)",
            "CREATE INDEX ON lead USING gin (fieldcrypt.tokens(ssn))",
            "CREATE STATISTICS lead_statistics ON ssn, email FROM lead",
            "ANALYZE lead",
            "CLUSTER lead USING lead_by_ssn",
            "REINDEX TABLE lead",
            "VACUUM (FULL, ANALYZE) lead",
            "CREATE MATERIALIZED VIEW copied AS SELECT ssn FROM lead",
            "REFRESH MATERIALIZED VIEW copied",
        ):
            owner.execute(statement)
    assert filled.execute("SELECT ssn FROM lead ORDER BY id").fetchall() == before
    assert filled.value("SELECT count(*) FROM copied WHERE ssn::text LIKE 'fc1:%'") == 2
    filled.execute("SELECT fieldcrypt.flush_audit()")
    query = "SELECT action FROM fieldcrypt.audit WHERE acting_role = 'outsider'"
    actions = {action for (action,) in filled.execute(query)}
    assert not actions & {"decrypt", "reveal", "search", "encrypt"}


def test_threat_c5_a_view_never_lends(filled, session):
    """L14: through another's view, materialized or not, the own rights count."""
    filled.execute("GRANT CREATE ON SCHEMA public TO app")
    session().execute("""
        CREATE VIEW decrypted AS SELECT id, fieldcrypt.decrypt(ssn) AS ssn FROM lead WHERE id = 1;
        CREATE VIEW revealed AS SELECT id, fieldcrypt.reveal(ssn) AS ssn FROM lead WHERE id = 1;
        CREATE VIEW found AS SELECT id FROM lead WHERE ssn = '123-45-6789';
        GRANT SELECT ON decrypted, revealed, found TO outsider
    """)
    outsider = session("outsider")
    with refused("42501"):
        outsider.execute("SELECT * FROM decrypted")
    assert outsider.execute("SELECT * FROM revealed").fetchone() == (1, HIDDEN)
    with refused("42501", 'to search field "lead.ssn" of account "acme"'):
        outsider.execute("SELECT * FROM found")
    assert session().execute("SELECT * FROM found").fetchall() == [(1,)]


def test_threat_c6_no_oracle_without_a_right(filled, session):
    """encrypt(), blind_index(), searches and probes by themselves: each asks its own privilege."""
    handle = filled.value("SELECT handle FROM fieldcrypt.field WHERE name = 'lead.ssn'")
    encrypting = [
        "SELECT fieldcrypt.encrypt('1', 'lead.ssn')",
        "INSERT INTO lead (ssn) VALUES ('1')",
        "UPDATE lead SET ssn = '1'",
        "SELECT '1'::fieldcrypt.encrypted_text('lead.ssn')",
        "SELECT '1'::text::fieldcrypt.encrypted_text('lead.ssn')",
        f"SELECT fieldcrypt.encrypted_text_coerce('1', {handle}, true)",
        f"SELECT fieldcrypt.encrypted_text_from('1'::text, {handle}, true)",
        f"SELECT fieldcrypt.encrypted_text_in('1', 0, {handle})",
    ]
    searching = [
        "SELECT id FROM lead WHERE ssn = '1'",
        "SELECT id FROM lead WHERE ssn = '1'::text",
        "SELECT id FROM lead WHERE ssn IN ('1', '2')",
        "SELECT id FROM lead WHERE ssn = ANY ('{1,2}')",
        "SELECT id FROM lead WHERE ssn <> '1'",
        "SELECT id FROM lead WHERE ssn IS NOT DISTINCT FROM '1'",
        "SELECT NULLIF(ssn, '1') FROM lead",
        "SELECT fieldcrypt.blind_index('1', 'lead.ssn')",
        f"SELECT fieldcrypt.probe('1'::text, {handle})",
        f"SELECT fieldcrypt.probe('1'::fieldcrypt.encrypted_text, {handle})",
        f"SELECT fieldcrypt.probe(ARRAY['1'], {handle})",
    ]
    decrypting = [
        "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1",
    ]
    for privilege, allowed in (
        (None, []),
        ("encrypt", encrypting),
        ("search", searching),
        ("mask", []),
        ("decrypt", decrypting),
    ):
        if privilege:
            filled.execute(
                f"SELECT fieldcrypt.grant_access('outsider', '{{{privilege}}}', 'acme', '*')"
            )
        outsider = session("outsider")
        for statement in encrypting + searching + decrypting:
            with outsider.transaction(force_rollback=True):
                if statement in allowed:
                    outsider.execute(statement)
                    continue
                with refused("42501", "permission denied to (encrypt|search|decrypt) field"):
                    with outsider.transaction():
                        outsider.execute(statement)
        if privilege:
            filled.execute(
                f"SELECT fieldcrypt.revoke_access('outsider', '{{{privilege}}}', 'acme', '*')"
            )


def test_threat_c7_settings_are_the_superuser_s(filled, session):
    contexts = dict(
        filled.execute("SELECT name, context FROM pg_settings WHERE name LIKE 'fieldcrypt.%'")
    )
    assert contexts == {
        "fieldcrypt.account": "user",
        "fieldcrypt.accept_envelopes": "superuser",
        # what an application claims
        "fieldcrypt.actor_action": "user",
        "fieldcrypt.actor_address": "user",
        "fieldcrypt.actor_id": "user",
        "fieldcrypt.actor_name": "user",
        "fieldcrypt.audit": "sighup",
        "fieldcrypt.audit_buffer": "postmaster",
        "fieldcrypt.audit_databases": "postmaster",
        "fieldcrypt.shared_keys": "postmaster",
        "fieldcrypt.key_cache_size": "superuser",
        "fieldcrypt.key_lifetime": "superuser",
        "fieldcrypt.keyring_file": "sighup",
        "fieldcrypt.redact_log": "superuser",
        "fieldcrypt.transparent": "user",
    }
    app = session()
    for setting, context in contexts.items():
        for statement in (
            f"SET {setting} = 1",
            f"SELECT set_config('{setting}', '1', false)",
            f"ALTER ROLE app SET {setting} = 1",
            f"ALTER SYSTEM SET {setting} = 1",
        ):
            if context == "user" and "SYSTEM" not in statement:
                continue
            # what nobody can set in a session is an error of another kind there
            at_start = context in ("sighup", "postmaster") and "SYSTEM" not in statement
            with refused("55P02" if at_start else "42501"):
                app.execute(statement)
    with refused("42602", "invalid configuration parameter name"):
        app.execute("SET fieldcrypt.invented = 1")
    # A function cannot carry it either.
    filled.execute("GRANT CREATE ON SCHEMA public TO app")
    with refused("42501"):
        app.execute(
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET fieldcrypt.accept_envelopes = on"
            " AS 'SELECT 1'"
        )
        app.execute("SELECT f()")


def test_threat_c9_triggers_off(filled, session):
    """Without triggers a typed column still stores no plain value, and swapped ciphertext still
    decrypts only for its own account."""
    filled.execute("SELECT fieldcrypt.protect_table('lead', 'account_id')")
    with filled.connect(options="-c fieldcrypt.account=acme") as superuser:
        superuser.execute("SET session_replication_role = replica")
        with refused("42501"):
            superuser.execute("INSERT INTO lead (ssn) VALUES ('1')")
        superuser.execute("UPDATE lead SET ssn = (SELECT ssn FROM lead WHERE id = 1) WHERE id = 2")
    with refused("42501", 'account "acme"'):
        session("app_globex", "globex").execute(
            "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 2"
        )


# D: keys


@pytest.mark.every_version
def test_threat_d11_parallel_workers(filled, session):
    """Workers find account, user and keys by themselves: decrypting, searching, writing nothing."""
    app = session()
    app.execute("INSERT INTO lead (ssn) SELECT i::text FROM generate_series(1, 5000) AS i")
    filled.execute("DROP INDEX lead_ssn; ANALYZE lead")
    version = filled.cluster.version
    force = "force_parallel_mode" if version < 16 else "debug_parallel_query"
    settings = (
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
        " SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;"
    )
    queries = {
        "SELECT count(*) FROM lead WHERE fieldcrypt.decrypt(ssn) LIKE '%7' AND account_id = 'acme'"
        " AND length(fieldcrypt.decrypt(ssn)) < 5": 500,
        "SELECT count(*) FROM lead WHERE ssn = '4711'": 1,
        "SELECT count(*) FROM lead WHERE ssn IN ('1', '2', 'x 3')": 3,
        "SELECT sum(length(fieldcrypt.reveal(ssn)))::int FROM lead WHERE id > 2": None,
        "SELECT count(DISTINCT fieldcrypt.blind_index(fieldcrypt.decrypt(ssn), 'lead.ssn'))"
        " FROM lead WHERE account_id = 'acme'": 5001,
    }
    expected = {query: app.execute(query).fetchone() for query in queries}
    for query, count in queries.items():
        assert count is None or expected[query] == (count,)
    filled.execute("GRANT app TO postgres")
    try:
        for user, before in (("app", ""), ("postgres", "SET ROLE app;")):
            connection = session(user)
            connection.execute(settings + before)
            for query in queries:
                assert "Gather" in explain(connection, query)
                assert connection.execute(query).fetchone() == expected[query]
            connection.execute(f"SET {force} = on")
            assert connection.execute(f"SELECT ({next(iter(queries))})").fetchone() == (500,)
    finally:
        filled.execute("REVOKE app FROM postgres")
    outsider = session("outsider")
    outsider.execute(settings)
    for query in list(queries)[:3]:
        with refused("42501"):
            outsider.execute(query)


# F: tokens


def test_threat_f3_tokens_tell_nothing_across_accounts_and_fields(filled, session):
    filled.execute(
        "SELECT fieldcrypt.create_field('other', search => '{exact}', normalizer => 'digits')"
    )
    filled.execute("SELECT fieldcrypt.grant_access('app', '{search}', '*', '*')")
    app = session()
    tokens = {
        app.execute("SELECT fieldcrypt.blind_index(%s, %s, %s)", [SSN, field, account]).fetchone()
        for field in ("lead.ssn", "other")
        for account in ("acme", "globex")
    }
    assert len(tokens) == 4
    joined = "SELECT count(*) FROM lead AS a JOIN lead AS b ON a.ssn = b.ssn AND a.id <> b.id"
    assert app.execute(joined).fetchone() == (0,)
    assert app.execute("SELECT count(DISTINCT ssn) FROM lead").fetchone() == (2,)
    stored = envelopes(filled.conn)
    assert stored[0][23:67][-16:] != stored[1][23:67][-16:]


# T: who attacks


def test_threat_t1_the_files_of_a_server_do_not_open_themselves(make_cluster):
    """The root key is in none of them, and without it all uses of keys fail."""
    own = make_cluster()
    with account_database(own) as database:
        database.execute(LEADS)
        options = {"options": "-c fieldcrypt.account=acme"}
        with database.connect("app", **options) as app:
            app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        database.execute("CHECKPOINT")
        digits = (own.keys_dir / "main.key").read_text().strip()
        key = bytes.fromhex(digits)
        wrapped = database.value(
            "SELECT wrapped FROM fieldcrypt.account_key"
            " WHERE account = 'acme' AND purpose = 'wrapping'"
        )
        own.stop("immediate")
        files = [path.read_bytes() for path in own.data_dir.rglob("*") if path.is_file()]
        assert any(wrapped in content for content in files)
        for form in key, digits.encode(), digits.upper().encode(), base64.b64encode(key)[:42]:
            assert not any(form in content for content in files)

        own.settings["fieldcrypt.keyring_file"] = None
        own.start()
        database.conn = database.connect()
        with database.connect("app", **options) as app:
            for statement in (
                "SELECT fieldcrypt.decrypt(ssn) FROM lead",
                "SELECT fieldcrypt.reveal(ssn) FROM lead",
                f"SELECT id FROM lead WHERE ssn = '{SSN}'",
                "INSERT INTO lead (ssn) VALUES ('1')",
            ):
                with refused("F0000", "keyring_file is not set"):
                    app.execute(statement)


def test_threat_t2_select_without_a_right_shows_ciphertext(filled, session):
    """Every way to read a column without a grant gives ciphertext, the hidden form or an error."""
    outsider = session("outsider")
    for query in (
        "SELECT ssn::text FROM lead",
        "SELECT to_jsonb(lead)::text FROM lead",
        "SELECT fieldcrypt.reveal(ssn) FROM lead",
        "SELECT min(ssn::text) FROM lead",
        "TABLE lead",
    ):
        assert SSN not in str(outsider.execute(query).fetchall())
    for query in (
        "SELECT fieldcrypt.decrypt(ssn) FROM lead",
        "SELECT fieldcrypt.decrypt(ssn) FROM lead LIMIT 1",
        "SELECT count(fieldcrypt.decrypt(ssn)) FROM lead",
        "SELECT 1 FROM lead WHERE fieldcrypt.decrypt(ssn) LIKE '1%%'",
        "SELECT 1 FROM lead ORDER BY fieldcrypt.decrypt(ssn)",
        "CREATE TEMP TABLE t AS SELECT fieldcrypt.decrypt(ssn) FROM lead",
        "DO $$ BEGIN PERFORM fieldcrypt.decrypt(ssn) FROM lead; END $$",
        "DELETE FROM lead RETURNING fieldcrypt.decrypt(ssn)",
        "WITH x AS MATERIALIZED (SELECT fieldcrypt.decrypt(ssn) FROM lead) TABLE x",
    ):
        with refused("42501", "permission denied to decrypt"):
            outsider.execute(query)
    with refused("42501", "permission denied to decrypt"):
        with outsider.cursor().copy(
            "COPY (SELECT fieldcrypt.decrypt(ssn) FROM lead) TO STDOUT"
        ) as stream:
            list(stream)


def test_threat_t3_one_account_cannot_use_another_s(filled, session):
    """A role with all rights on acme, in every way it may try to get at globex."""
    app = session()
    row = "FROM lead WHERE account_id = 'globex'"
    for statement in (
        f"SELECT fieldcrypt.decrypt(ssn) {row}",
        "SELECT fieldcrypt.encrypt('1', 'lead.ssn', 'globex')",
        "SELECT fieldcrypt.encrypt('1', field => 'lead.ssn', account => 'globex')",
        "SELECT fieldcrypt.blind_index('1', 'lead.ssn', 'globex')",
        "SELECT * FROM fieldcrypt.can('app_globex', 'decrypt', 'globex', 'lead.ssn')",
        "SELECT fieldcrypt.grant_access('app', '{decrypt}', 'globex', '*')",
        "SELECT fieldcrypt.revoke_access('app_globex', '{decrypt}', 'globex', 'lead.*')",
        "SELECT fieldcrypt.disable_account('globex')",
        "SET ROLE app_globex",
        "SET SESSION AUTHORIZATION app_globex",
    ):
        with refused("42501"):
            app.execute(statement)
    assert app.execute(f"SELECT fieldcrypt.reveal(ssn) {row}").fetchone() == (HIDDEN,)
    assert values_found(app, SSN) == [SSN]  # its own only

    # The other account's value, as a datum, brought to the own account.
    app.execute(
        "CREATE TEMP TABLE mine (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'))"
    )
    app.execute(f"INSERT INTO mine SELECT 'acme', ssn {row}")
    for statement in (
        "SELECT fieldcrypt.decrypt(ssn) FROM mine",
        "SELECT fieldcrypt.decrypt(ssn::fieldcrypt.encrypted_text('lead.ssn')) FROM mine",
        "SELECT fieldcrypt.decrypt(fieldcrypt.encrypted_text_coerce(ssn, -1, true)) FROM mine",
        "SELECT ssn::text::fieldcrypt.encrypted_text('lead.ssn') FROM mine",
    ):
        with refused("42501"):
            app.execute(statement)
    app.execute(
        "CREATE TRIGGER zzz_fieldcrypt_hold_account BEFORE INSERT OR UPDATE ON mine"
        " FOR EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account('account_id', 'rebind')"
    )
    with refused("42501", 'to decrypt field "lead.ssn" of account "globex"'):
        app.execute("UPDATE mine SET account_id = 'acme'")
    with refused("42501", 'to decrypt field "lead.ssn" of account "globex"'):
        app.execute(f"INSERT INTO mine SELECT 'acme', ssn {row}")

    # With the other account in the session.
    app.execute("SET fieldcrypt.account = 'globex'")
    for statement in (
        f"SELECT id FROM lead WHERE ssn = '{SSN}'",
        f"SELECT id FROM lead WHERE ssn IN ('{SSN}', '1')",
        "INSERT INTO lead (ssn) VALUES ('1')",
        f"UPDATE lead SET ssn = '1' {row.replace('FROM lead ', '')}",
    ):
        with refused("42501", 'account "globex"'):
            app.execute(statement)


def test_threat_t3_values_in_transit_do_not_cross(leads, session):
    """A literal that one account's user left in a view or an unsettled row is nobody's to open."""
    leads.execute("DROP INDEX lead_ssn")
    writer = session(account="*row*")
    writer.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])  # no trigger settles it
    for user, account in ("app_globex", "globex"), ("app", "acme"), ("postgres", "acme"):
        reader = session(user, account)
        for function in "decrypt", "reveal":
            with refused("55000", "in transit"):
                reader.execute(f"SELECT fieldcrypt.{function}(ssn) FROM lead")
    # Nor does a table of his own make it a value of another account.
    globex = session("app_globex", "globex")
    globex.execute(
        "CREATE TEMP TABLE mine (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'));"
        "CREATE TRIGGER settle BEFORE INSERT ON mine FOR EACH ROW"
        " EXECUTE FUNCTION fieldcrypt.hold_account('account_id', 'refuse')"
    )
    stolen = None
    with suppress(psycopg.Error):
        globex.execute("INSERT INTO mine SELECT 'globex', ssn FROM lead")
        stolen = globex.execute("SELECT fieldcrypt.decrypt(ssn) FROM mine").fetchone()
    assert stolen is None, "the value of another user was made readable"


def test_threat_t4_an_owner_reads_nothing_but_may_lay_a_trap(leads, session):
    """His triggers see ciphertext, also those that run before all others, and his rights are none.
    What runs with the rights of another is the other's: a decrypt() in it gives plain values, and
    is in the audit."""
    leads.execute("ALTER TABLE lead OWNER TO outsider; GRANT CREATE ON SCHEMA public TO outsider")
    with leads.connect("outsider") as owner:
        owner.execute("""
            CREATE TABLE caught (value text);
            GRANT INSERT ON caught TO PUBLIC;
            CREATE FUNCTION catch() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN INSERT INTO caught VALUES (NEW.ssn::text); RETURN NEW; END$$;
            CREATE FUNCTION decrypt() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN INSERT INTO caught VALUES (fieldcrypt.decrypt(NEW.ssn)); RETURN NEW; END$$;
            CREATE TRIGGER "!first" BEFORE INSERT ON lead FOR EACH ROW EXECUTE FUNCTION catch();
        """)
        app = session()
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        assert owner.execute("SELECT value FROM caught").fetchone()[0].startswith("fc1:")
        with refused("42501"):
            owner.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")

        owner.execute('DROP TRIGGER "!first" ON lead; TRUNCATE caught')
        owner.execute(
            "CREATE TRIGGER trap AFTER INSERT ON lead FOR EACH ROW EXECUTE FUNCTION decrypt()"
        )
        owner.execute("ALTER FUNCTION decrypt() SECURITY DEFINER")
        with refused("42501"):
            app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        owner.execute("ALTER FUNCTION decrypt() SECURITY INVOKER")
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        assert owner.execute("SELECT value FROM caught").fetchall() == [(SSN,)]
    leads.execute("SELECT fieldcrypt.flush_audit()")
    rows = leads.execute(
        "SELECT acting_role, field, account, count FROM fieldcrypt.audit"
        " WHERE action = 'decrypt' AND outcome = 'plain'"
    )
    assert rows.fetchall() == [("app", "lead.ssn", "acme", 1)]


def test_threat_t5_monitoring_roles_see_no_values(filled):
    """pg_monitor and pg_read_all_data: ciphertext, and wrapped keys at most."""
    filled.cluster.create_roles("monitor")
    filled.execute("GRANT pg_monitor, pg_read_all_data TO monitor; ANALYZE lead")
    try:
        with filled.connect("monitor") as monitor:
            assert SSN not in str(monitor.execute("SELECT s::text FROM pg_stats AS s").fetchall())
            assert SSN not in str(monitor.execute("SELECT lead::text FROM lead").fetchall())
            with refused("42501"):
                monitor.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
    finally:
        filled.execute("DROP ROLE monitor")


def test_threat_t7_a_superuser_has_no_right_by_himself(filled, session):
    """He decrypts with a grant to him or to a role whose rights he inherits, and only then."""
    name = f"super_{secrets.token_hex(3)}"
    filled.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")
    decrypt = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1"
    try:
        superuser = session(name)
        for statement in (
            decrypt,
            f"SELECT id FROM lead WHERE ssn = '{SSN}'",
            "INSERT INTO lead (ssn) VALUES ('1')",
            "SELECT fieldcrypt.encrypt('1', 'lead.ssn')",
            "SELECT fieldcrypt.blind_index('1', 'lead.ssn')",
        ):
            with refused("42501", "permission denied to"):
                superuser.execute(statement)
        assert superuser.execute("SELECT fieldcrypt.reveal(ssn) FROM lead").fetchone() == (HIDDEN,)
        with refused("42501", "grant to a role that you are in"):
            superuser.execute(
                f"SELECT fieldcrypt.grant_access('{name}', '{{decrypt}}', 'acme', '*')"
            )
        filled.execute(f"GRANT app TO {name}")
        assert superuser.execute(decrypt).fetchone() == (SSN,)
        filled.execute(f"REVOKE app FROM {name}")
        with refused("42501"):
            superuser.execute(decrypt)
        filled.execute(
            f"SELECT fieldcrypt.grant_access('{name}', '{{decrypt}}', 'acme', 'lead.ssn')"
        )
        assert superuser.execute(decrypt).fetchone() == (SSN,)
    finally:
        filled.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


# Not threats by id, but values that would be lost or kept in the open without a word


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT fieldcrypt.encrypt('x', NULL)",
        "SELECT fieldcrypt.blind_index('x', NULL)",
        "SELECT fieldcrypt.create_account(NULL)",
        "SELECT fieldcrypt.disable_account(NULL)",
        "SELECT fieldcrypt.drop_field(NULL)",
    ],
)
def test_null_where_a_name_belongs_is_an_error(leads, statement):
    """Else a value becomes NULL, or an account stays enabled, and nobody notices."""
    with pytest.raises(psycopg.Error):
        leads.execute(statement)


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE TABLE t (a fieldcrypt.encrypted_text('lead.ssn') DEFAULT '1')",
        "CREATE TABLE t (a fieldcrypt.encrypted_text('lead.ssn')[] DEFAULT '{1}')",
        "CREATE TABLE t (a fieldcrypt.encrypted_text('lead.ssn') CHECK (a <> '1'))",
        "CREATE TABLE t (a fieldcrypt.encrypted_text('lead.ssn') CHECK (a <> '1'::text))",
        "CREATE TABLE t (a fieldcrypt.encrypted_text('lead.ssn') DEFAULT '1'::text)",
        "CREATE DOMAIN d AS fieldcrypt.encrypted_text('lead.ssn') DEFAULT '1'",
        "CREATE DOMAIN d AS fieldcrypt.encrypted_text('lead.ssn') CHECK (VALUE <> '1')",
    ],
)
def test_literals_that_a_definition_would_keep_are_refused(leads, definition):
    """They would need the root key at every load, and as text they are plain in the catalog."""
    with refused("0A000", "literal|default"):
        leads.execute(definition)
