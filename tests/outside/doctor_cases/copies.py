"""Plain copies of what is encrypted elsewhere."""

from .case import CANARY, case

KEEPS = "keeps what decrypt() or reveal() gave"
IMMUTABLE = (
    "decrypts, but is IMMUTABLE: plans and indexes keep plain values, also after the right was"
    " taken away"
)
PLAIN = "CREATE FUNCTION plain(v fieldcrypt.encrypted_text) RETURNS text IMMUTABLE "


def by_force(well, statement):
    """Event triggers refuse it otherwise."""
    well.execute("SET session_replication_role = replica")
    well.execute(statement)
    well.execute("RESET session_replication_role")


def keeping(name, statement, subject, remedy, function="LANGUAGE sql RETURN fieldcrypt.reveal(v)"):
    @case("error", KEEPS, beside=["is IMMUTABLE"], id=f"copy_in_{name}")
    def run(well):
        well.execute(PLAIN + function)
        by_force(well, statement)
        yield subject, remedy


BODY = "LANGUAGE plpgsql AS 'BEGIN RETURN fieldcrypt.reveal(v); END'"
keeping(
    "index",
    "CREATE INDEX lead_plain ON lead (plain(ssn))",
    "index public.lead_plain",
    "DROP INDEX public.lead_plain;",
)
keeping(
    "index_by_a_body",
    "CREATE INDEX lead_plain ON lead (id) WHERE plain(ssn) <> 'x'",
    "index public.lead_plain",
    "DROP INDEX public.lead_plain;",
    BODY,
)
keeping(
    "generated_column",
    "ALTER TABLE lead ADD COLUMN shown text GENERATED ALWAYS AS (plain(ssn)) STORED",
    "generated column shown of public.lead",
    "ALTER TABLE public.lead DROP COLUMN shown;",
)


@case("error", KEEPS)
def copy_in_statistics(well):
    by_force(well, 'CREATE STATISTICS "Shown" ON (fieldcrypt.reveal(ssn)), id FROM lead')
    yield 'statistics public."Shown"', 'DROP STATISTICS public."Shown";'


@case("error", KEEPS)
def copy_in_a_materialized_view(well):
    well.execute("CREATE MATERIALIZED VIEW kept AS SELECT id, fieldcrypt.reveal(ssn) FROM lead")
    yield "materialized view public.kept", "DROP MATERIALIZED VIEW public.kept;"


@case("error", KEEPS)
def copy_by_way_of_a_view(well):
    well.execute("""
        SELECT fieldcrypt.create_view('lead');
        CREATE VIEW names AS SELECT ssn AS name FROM lead_plain;
        CREATE MATERIALIZED VIEW kept AS SELECT name FROM names""")
    yield "materialized view public.kept", "DROP MATERIALIZED VIEW public.kept;"


@case("warning", IMMUTABLE)
def immutable_function(well):
    well.execute(PLAIN + "LANGUAGE sql RETURN fieldcrypt.reveal(v)")
    yield (
        "function public.plain(fieldcrypt.encrypted_text)",
        "ALTER FUNCTION public.plain(fieldcrypt.encrypted_text) STABLE;",
    )


@case("warning", IMMUTABLE)
def immutable_function_with_a_body(well):
    well.execute(PLAIN + BODY)
    # pgcrypto's is another
    well.execute(
        "CREATE FUNCTION other(v bytea) RETURNS bytea IMMUTABLE LANGUAGE sql"
        " AS 'SELECT v -- decrypt(v)'"
    )
    yield (
        "function public.plain(fieldcrypt.encrypted_text)",
        "ALTER FUNCTION public.plain(fieldcrypt.encrypted_text) STABLE;",
    )


def of_a_path(name, statement, subject, remedy):
    @case(
        "warning",
        "is made of a flagged path: it holds ciphertext, and plain values of rows from before",
        id=f"path_in_{name}",
    )
    def run(well):
        well.execute(statement)
        yield subject, remedy


of_a_path(
    "index",
    "CREATE INDEX by_email ON lead ((data -> 'contact' ->> 'email'))",
    "index public.by_email",
    "DROP INDEX public.by_email;",
)
of_a_path(
    "index_by_path",
    "CREATE INDEX by_email ON lead ((data #>> '{contact,email}'))",
    "index public.by_email",
    "DROP INDEX public.by_email;",
)
of_a_path(
    "predicate",
    "CREATE INDEX by_email ON lead (id) WHERE data @? '$.contact.email'",
    "index public.by_email",
    "DROP INDEX public.by_email;",
)
of_a_path(
    "generated_column",
    "ALTER TABLE lead ADD COLUMN mail text"
    " GENERATED ALWAYS AS (data['contact']['email']::text) STORED",
    "generated column mail of public.lead",
    "ALTER TABLE public.lead DROP COLUMN mail;",
)
of_a_path(
    "statistics",
    "CREATE STATISTICS mails ON (data -> 'contact' ->> 'email'), id FROM lead",
    "statistics public.mails",
    "DROP STATISTICS public.mails;",
)
of_a_path(
    "materialized_view",
    "CREATE MATERIALIZED VIEW mails AS SELECT data -> 'contact' ->> 'email' AS mail FROM lead",
    "materialized view public.mails",
    "DROP MATERIALIZED VIEW public.mails;",
)


def named_alike(name, column, type_of, field, value):
    """A plain column beside an encrypted one, with rows of both accounts."""

    @case(
        "warning",
        "is plain, and named as what is encrypted in the same table",
        id=f"plain_{name}",
    )
    def run(well):
        well.execute(f"""
            ALTER TABLE lead RENAME COLUMN ssn TO ssn_encrypted;
            ALTER TABLE lead ADD COLUMN {column} {type_of};
            UPDATE lead SET {column} = {value} WHERE id <= 2""")
        plain = {"varchar(50)": "::text", "json": "::jsonb", "int": "::bigint"}.get(type_of, "")
        kind = {"json": "jsonb", "int": "bigint"}.get(type_of, "text")
        yield (
            f"column {column} of public.lead",
            f"ALTER TABLE public.lead ALTER COLUMN {column} TYPE fieldcrypt.encrypted_{kind}"
            f"('{field}') USING fieldcrypt.encrypt({column}{plain}, '{field}', account_id::text);",
            lambda remedy: well.as_mover(remedy, "lead"),
        )
        accounts = well.execute(
            f"SELECT account_id = fieldcrypt.account_of({column}) FROM lead WHERE id <= 2"
        )
        assert accounts.fetchall() == [(True,), (True,)]
        well.execute(f"""
            ALTER TABLE lead DROP COLUMN {column};
            ALTER TABLE lead RENAME COLUMN ssn_encrypted TO ssn""")


named_alike("text", "ssn", "text", "lead.ssn", f"'{CANARY}'")
named_alike("varchar", '"SSN"', "varchar(50)", "lead.ssn", f"'{CANARY}'")
named_alike("key_of_a_document", "email", "text", "lead.email", f"'{CANARY}@example.com'")
named_alike("integer", "ssn", "int", "lead.ssn", "771234123")


@case("notice", "is plain, and named as what is encrypted elsewhere")
def plain_column_elsewhere(well):
    well.execute(f"""
        CREATE TABLE import (id int, account text, ssn text, name text);
        INSERT INTO import VALUES (1, 'acme', '{CANARY}', 'x')""")
    yield (
        "column ssn of public.import",
        "ALTER TABLE public.import ALTER COLUMN ssn TYPE fieldcrypt.encrypted_text('lead.ssn')"
        " USING fieldcrypt.encrypt(ssn, 'lead.ssn', account::text);",
        lambda remedy: well.as_mover(
            remedy + "SELECT fieldcrypt.protect_table('import', account_column => 'account');",
            "import",
        ),
    )


@case("notice", "is plain, and named as what is encrypted elsewhere")
def plain_document_elsewhere(well):
    well.execute("CREATE TABLE import (id int, email jsonb); INSERT INTO import VALUES (1, '{}')")
    yield (
        "column email of public.import",
        "ALTER TABLE public.import ALTER COLUMN email TYPE fieldcrypt.encrypted_jsonb('lead.email')"
        " USING fieldcrypt.encrypt(email, 'lead.email');",
        # or the values go
        lambda _: well.execute("UPDATE import SET email = NULL; ANALYZE import"),
    )
