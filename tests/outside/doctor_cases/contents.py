"""What is in rows."""

from .case import CANARY, GRANT, case


@case(
    "error",
    "N of N rows looked at have values whose account was left open (*row*)",
    beside=["nothing holds them to that of their row"],
)
def open_values(well):
    well.execute("""
        CREATE TABLE contact (id int, tenant_id text, ssn fieldcrypt.encrypted_text('lead.ssn'));
        GRANT ALL ON contact TO app""")
    with well.connect("app", options="-c fieldcrypt.account=*row*") as app:
        app.execute("INSERT INTO contact VALUES (1, 'acme', %s)", [CANARY])
    with well.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute("INSERT INTO contact VALUES (2, 'acme', %s)", [CANARY])

    def carry_out(remedy):
        trigger, update = remedy.split("; ", 1)
        well.psql(trigger)
        well.psql(update, user="app")

    yield (
        "column ssn of public.contact",
        "CREATE TRIGGER zzz_fieldcrypt_hold_account BEFORE INSERT OR UPDATE ON public.contact FOR"
        " EACH ROW EXECUTE FUNCTION fieldcrypt.hold_account('tenant_id', 'refuse'); UPDATE"
        " public.contact SET ssn = ssn WHERE fieldcrypt.account_of(ssn) IS NULL; -- as the"
        " role that wrote them",
        carry_out,
        "1 of 2 rows looked at have values whose account was left open (*row*)",
    )
    with well.connect("app") as app:
        assert (
            app.execute("SELECT fieldcrypt.decrypt(ssn) FROM contact").fetchall() == [(CANARY,)] * 2
        )


@case("error", "N of N rows looked at have values whose account was left open (*row*)")
def open_values_in_a_protected_table(well):
    well.execute("ALTER TABLE event DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    with well.connect("app", options="-c fieldcrypt.account=*row*") as app:
        app.execute("INSERT INTO event VALUES ('2026-03-01', 'acme', %s)", [CANARY])
    well.execute("ALTER TABLE event ENABLE TRIGGER zzz_fieldcrypt_hold_account")
    yield (
        "column ssn of public.event_2026",
        "UPDATE public.event_2026 SET ssn = ssn WHERE fieldcrypt.account_of(ssn) IS NULL; -- as the"
        " role that wrote them",
        lambda remedy: well.psql(remedy, user="app"),
    )


@case(
    "error",
    "N of N rows looked at have values under keys that this database does not have",
    beside=["under keys that this database does not have"],
)
def values_without_keys(well):
    well.execute("""
        CREATE TABLE saved AS SELECT * FROM fieldcrypt.account_key WHERE account = 'globex';
        DELETE FROM fieldcrypt.account_key WHERE account = 'globex'""")
    yield (
        "column ssn of public.event_2026",
        "Restore the missing rows of fieldcrypt.account_key from a dump of the database that the"
        " values come from.",
        lambda _: well.execute("INSERT INTO fieldcrypt.account_key SELECT * FROM saved"),
    )


@case("error", "N of N rows looked at have values of another account than the row's")
def values_of_another_account(well):
    well.execute("""
        SET session_replication_role = replica;
        UPDATE event SET account_id = 'globex' WHERE account_id = 'acme';
        RESET session_replication_role""")
    yield (
        "column ssn of public.event_2026",
        "UPDATE public.event_2026 SET ssn = fieldcrypt.encrypt(fieldcrypt.decrypt(ssn), 'lead.ssn',"
        " account_id::text) WHERE fieldcrypt.account_of(ssn) <> account_id::text; -- as a role with"
        " encrypt and decrypt",
        lambda remedy: well.as_mover(remedy),
    )


@case("error", "N of N rows looked at have values of another account than the row's")
def values_of_another_account_in_a_blob(well):
    well.execute(f"""
        SELECT fieldcrypt.create_field('person.pii');
        CREATE TABLE person (
            account_id text, custom jsonb, pii fieldcrypt.encrypted_jsonb('person.pii'));
        SELECT fieldcrypt.protect_jsonb('person', 'custom', name => 'person.custom',
            account_column => 'account_id', blob_column => 'pii');
        SELECT fieldcrypt.protect_path('person.custom', '{{phone}}', field => 'lead.ssn');
        {GRANT.format("mover", "encrypt,decrypt", "*", "person.pii")};
        GRANT ALL ON person TO mover;
        SET ROLE mover;
        INSERT INTO person VALUES ('acme', '{{"phone": "{CANARY}"}}');
        RESET ROLE;
        SET session_replication_role = replica;
        UPDATE person SET account_id = 'globex';
        RESET session_replication_role""")
    yield (
        "column pii of public.person",
        "UPDATE public.person SET custom = fieldcrypt.decrypt(custom, pii), pii = NULL WHERE"
        " fieldcrypt.account_of(pii) <> account_id::text; -- as a role with encrypt and decrypt",
        lambda remedy: well.as_mover(remedy),
    )
    well.execute("DROP TABLE person; SELECT fieldcrypt.unprotect_path('person.custom', '{phone}')")


@case("error", "N of N rows looked at have plain values at flagged paths")
def plain_values_at_flagged_paths(well):
    with well.connect("app") as app:
        app.execute(
            "INSERT INTO lead (id, account_id, data) VALUES (91, 'acme', %s)",
            [f'{{"phone": "{CANARY}"}}'],
        )
    well.execute("SELECT fieldcrypt.protect_path('lead.data', '{phone}', field => 'lead.ssn')")
    yield (
        "column data of public.lead",
        "UPDATE public.lead SET data = data WHERE fieldcrypt.state_of_document('lead.data', data,"
        " account_id::text, NULL, 'f') = 'plain'; -- as a role with encrypt",
        lambda remedy: well.psql(remedy, user="app"),
        "1 of 3 rows looked at have plain values at flagged paths",
    )
    assert CANARY not in str(well.execute("SELECT data FROM lead").fetchall())


@case("error", "N of N rows looked at have values of another account at flagged paths")
def documents_of_another_account(well):
    well.execute("""
        ALTER TABLE lead DROP CONSTRAINT fieldcrypt_data;
        SET session_replication_role = replica;
        UPDATE lead SET ssn = NULL, account_id = 'globex' WHERE id = 1;
        RESET session_replication_role;
        ALTER TABLE lead ADD CONSTRAINT fieldcrypt_data CHECK (
            fieldcrypt.check_document('lead.data', data, account_id, NULL, false)) NOT VALID""")
    yield (
        "column data of public.lead",
        "UPDATE public.lead SET data = fieldcrypt.decrypt(data) WHERE fieldcrypt.state_of_document("
        "'lead.data', data, account_id::text, NULL, 'f') = 'foreign'; -- as a role with encrypt and"
        " decrypt",
        lambda remedy: well.as_mover(remedy),
    )


@case(
    "error",
    "N of N rows looked at have damaged values at flagged paths, or ones under keys that this"
    " database does not have",
)
def damaged_documents(well):
    well.execute("""
        CREATE TABLE saved AS SELECT id, data FROM lead;
        DROP INDEX lead_tokens_idx;
        ALTER TABLE lead DROP CONSTRAINT fieldcrypt_data;
        SET session_replication_role = replica;
        UPDATE lead SET data =
            jsonb_set(data, '{contact,email}', to_jsonb('fc1:' || repeat('A', 100)))
        WHERE id = 1;
        RESET session_replication_role;
        ALTER TABLE lead ADD CONSTRAINT fieldcrypt_data CHECK (
            fieldcrypt.check_document('lead.data', data, account_id, NULL, false)) NOT VALID""")
    yield (
        "column data of public.lead",
        "Restore these rows, or the missing rows of fieldcrypt.account_key, from a dump.",
        lambda _: well.execute(
            "UPDATE lead SET data = saved.data FROM saved WHERE saved.id = lead.id"
        ),
    )


@case("warning", "N of N rows looked at have plain values where another document has flagged paths")
def plain_copy_of_documents(well):
    well.execute(f"""
        CREATE TABLE import (account_id text, doc jsonb, other jsonb);
        INSERT INTO import VALUES
            ('acme', '{{"contact": {{"email": "{CANARY}"}}}}', '{{"email": 1}}');
        GRANT ALL ON import TO app""")

    def carry_out(remedy):
        protect, update = remedy.split("; ", 1)
        well.psql(protect)
        well.psql(update, user="app")

    yield (
        "column doc of public.import (document lead.data)",
        "SELECT fieldcrypt.protect_jsonb('public.import', 'doc', name => 'lead.data',"
        " account_column => 'account_id'); UPDATE public.import SET doc = doc;",
        carry_out,
        "1 of 1 rows looked at have plain values where another document has flagged paths",
    )


@case("notice", "was not looked at: its owner may not read it")
def table_that_its_owner_may_not_read(well):
    well.role("holder")
    well.execute("""
        CREATE SCHEMA closed;
        CREATE TABLE closed.t (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'));
        SELECT fieldcrypt.protect_table('closed.t', account_column => 'account_id');
        SET ROLE app; SET fieldcrypt.account = 'acme'; RESET ROLE;
        ALTER TABLE closed.t OWNER TO holder;
        INSERT INTO closed.t VALUES ('acme', NULL)""")
    yield (
        "table closed.t",
        "GRANT USAGE ON SCHEMA closed TO holder; GRANT SELECT ON closed.t TO holder;",
    )


@case("notice", "was not looked at, because of an error (SQLSTATE N)")
def locked_table(well):
    with well.connect() as locking:
        locking.execute("BEGIN; LOCK TABLE event_2026")
        yield (
            "table public.event_2026",
            "SELECT * FROM fieldcrypt.doctor(); -- again, when nobody else holds a lock on it",
            lambda _: locking.execute("COMMIT"),
            "was not looked at, because of an error (SQLSTATE 55P03)",
        )
