"""Triggers and checks."""

from harness import VERSION

from .case import case

TRIGGER_OFF = "does not run: what it would refuse or encrypt is stored as it is"


@case("error", TRIGGER_OFF)
def trigger_of_the_account(well):
    well.execute("ALTER TABLE lead DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    yield (
        "trigger zzz_fieldcrypt_hold_account of public.lead",
        "ALTER TABLE public.lead ENABLE TRIGGER zzz_fieldcrypt_hold_account;",
    )


@case("error", TRIGGER_OFF)
def trigger_of_the_document(well):
    well.execute('ALTER TABLE lead ENABLE REPLICA TRIGGER "000_fieldcrypt_data"')
    yield (
        'trigger "000_fieldcrypt_data" of public.lead',
        'ALTER TABLE public.lead ENABLE TRIGGER "000_fieldcrypt_data";',
    )


@case("error", TRIGGER_OFF)
def trigger_of_a_partition(well):
    well.execute("ALTER TABLE event_2026 DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    yield (
        "trigger zzz_fieldcrypt_hold_account of public.event_2026",
        "ALTER TABLE public.event_2026 ENABLE TRIGGER zzz_fieldcrypt_hold_account;",
    )


@case("error", TRIGGER_OFF)
def trigger_of_a_partitioned_table(well):
    well.execute("ALTER TABLE event DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    yield (
        "trigger zzz_fieldcrypt_hold_account of public.event",
        "ALTER TABLE public.event ENABLE TRIGGER zzz_fieldcrypt_hold_account;",
    )


@case("error", "does not always run: sessions go on with rights and keys that were taken away")
def trigger_of_the_catalog(well):
    well.execute("ALTER TABLE fieldcrypt.access_grant ENABLE TRIGGER tell_sessions")
    yield (
        "trigger tell_sessions of fieldcrypt.access_grant",
        "ALTER TABLE fieldcrypt.access_grant ENABLE ALWAYS TRIGGER tell_sessions;",
    )


@case("warning", "is switched off: definitions that cannot work are not refused")
def event_trigger(well):
    well.execute("ALTER EVENT TRIGGER fieldcrypt_check_definition DISABLE")
    yield (
        "event trigger fieldcrypt_check_definition",
        "ALTER EVENT TRIGGER fieldcrypt_check_definition ENABLE;",
    )


def odd_names(well):
    """A document with names that need quotes, in columns of other types than text."""
    well.execute("""
        CREATE TABLE "Odd" (id int PRIMARY KEY, "Tenant" varchar(20), "a""b" uuid, "D d" jsonb);
        SELECT fieldcrypt.protect_jsonb(
            '"Odd"', 'D d', name => 'odd.d', account_column => 'Tenant', kind_column => 'a"b')""")


LOST_CHECK = "has no CHECK any more: what other triggers put into the document is not looked at"


@case("warning", LOST_CHECK)
def check_dropped(well):
    well.execute("ALTER TABLE lead DROP CONSTRAINT fieldcrypt_data")
    yield (
        "column data of public.lead",
        "ALTER TABLE public.lead DROP CONSTRAINT IF EXISTS fieldcrypt_data, ADD CONSTRAINT"
        " fieldcrypt_data CHECK (fieldcrypt.check_document('lead.data', data, account_id::text,"
        " NULL, 'f')) NOT VALID;",
    )


@case("warning", LOST_CHECK)
def check_of_odd_names_dropped(well):
    odd_names(well)
    well.execute('ALTER TABLE "Odd" DROP CONSTRAINT "fieldcrypt_D d"')
    yield (
        'column "D d" of public."Odd"',
        'ALTER TABLE public."Odd" DROP CONSTRAINT IF EXISTS "fieldcrypt_D d", ADD CONSTRAINT'
        ' "fieldcrypt_D d" CHECK (fieldcrypt.check_document(\'odd.d\', "D d", "Tenant"::text,'
        ' "a""b"::text, \'f\')) NOT VALID;',
    )


@case("warning", LOST_CHECK, applies=VERSION >= 18)
def check_not_enforced(well):
    well.execute("""
        ALTER TABLE lead DROP CONSTRAINT fieldcrypt_data, ADD CONSTRAINT fieldcrypt_data CHECK (
            fieldcrypt.check_document('lead.data', data, account_id, NULL, false)) NOT ENFORCED""")
    yield (
        "column data of public.lead",
        "ALTER TABLE public.lead DROP CONSTRAINT IF EXISTS fieldcrypt_data, ADD CONSTRAINT"
        " fieldcrypt_data CHECK (fieldcrypt.check_document('lead.data', data, account_id::text,"
        " NULL, 'f')) NOT VALID;",
    )


LOST_TRIGGER = (
    "has the CHECK of a document, but no trigger that seals it: writing flagged values fails"
)


@case("error", LOST_TRIGGER, beside=["has flagged paths, but no column"])
def trigger_dropped(well):
    well.execute('DROP TRIGGER "000_fieldcrypt_data" ON lead')
    yield (
        "column data of public.lead",
        "SELECT fieldcrypt.add_document_trigger('public.lead',"
        ' \'{lead.data,data,account_id,"",""}\');',
    )
    with well.connect("app") as app:
        app.execute('INSERT INTO lead VALUES (92, \'acme\', NULL, \'{"contact": {"email": "x"}}\')')
        assert "fc1:" in str(app.execute("SELECT data FROM lead WHERE id = 92").fetchone())


@case("error", LOST_TRIGGER)
def trigger_of_odd_names_dropped(well):
    odd_names(well)
    well.execute('DROP TRIGGER "000_fieldcrypt_D d" ON "Odd"')
    yield (
        'column "D d" of public."Odd"',
        "SELECT fieldcrypt.add_document_trigger('public.\"Odd\"',"
        ' E\'{odd.d,"D d",Tenant,"a\\\\"b",""}\');',
    )


@case("error", LOST_TRIGGER, beside=["nothing holds them to that of their row"])
def trigger_of_a_blob_dropped(well):
    well.execute("""
        SELECT fieldcrypt.create_field('person.pii');
        CREATE TABLE person (
            account_id text, custom jsonb, pii fieldcrypt.encrypted_jsonb('person.pii'));
        SELECT fieldcrypt.protect_jsonb('person', 'custom', name => 'person.custom',
            account_column => 'account_id', blob_column => 'pii');
        DROP TRIGGER "000_fieldcrypt_custom" ON person""")
    yield (
        "column custom of public.person",
        "SELECT fieldcrypt.add_document_trigger('public.person',"
        " '{person.custom,custom,account_id,\"\",pii}');",
    )


@case("warning", "inherits from a protected table, but its own rows are not held to their account")
def child(well):
    well.execute("CREATE TABLE lead_old () INHERITS (lead)")
    yield (
        "table public.lead_old",
        "SELECT fieldcrypt.protect_table('public.lead_old', account_column => 'account_id',"
        " on_mismatch => 'refuse');",
    )


@case("warning", "inherits from a table with a document, but its own rows are not sealed")
def child_of_a_document(well):
    well.execute("""
        CREATE TABLE lead_old () INHERITS (lead);
        SELECT fieldcrypt.protect_table('lead_old', account_column => 'account_id');
        DROP TRIGGER "000_fieldcrypt_data" ON lead_old""")
    yield "table public.lead_old", "SELECT fieldcrypt.inherit_documents('public.lead_old');"


UNPROTECTED = (
    "holds encrypted values, of which there are several accounts, and nothing holds them to that of"
    " their row"
)


@case("warning", UNPROTECTED)
def unprotected_table(well):
    well.execute("""
        CREATE DOMAIN ssn AS fieldcrypt.encrypted_text('lead.ssn');
        CREATE TABLE contact (id int, tenant_id text, ssn ssn)""")
    yield (
        "table public.contact",
        "SELECT fieldcrypt.protect_table('public.contact', account_column => 'tenant_id');",
    )


@case("warning", UNPROTECTED)
def unprotected_table_without_account(well):
    well.execute("CREATE TABLE contact (id int, ssn fieldcrypt.encrypted_text('lead.ssn'))")

    def carry_out(remedy):
        well.execute("ALTER TABLE contact ADD COLUMN owner text")
        well.psql(remedy.replace("...", "owner"))

    yield (
        "table public.contact",
        "SELECT fieldcrypt.protect_table('public.contact', account_column => '...');",
        carry_out,
    )


@case(
    "notice",
    "sends whole old rows to subscribers (REPLICA IDENTITY FULL), with what was there before it was"
    " encrypted",
)
def replica_identity(well):
    well.execute("ALTER TABLE lead REPLICA IDENTITY FULL")
    yield "table public.lead", "ALTER TABLE public.lead REPLICA IDENTITY DEFAULT;"


@case("warning", "has flagged paths, but no column is protected by its name")
def document_without_a_table(well):
    well.execute("""
        CREATE TABLE visit (account_id text, kind text, data jsonb);
        SELECT fieldcrypt.protect_jsonb('visit', 'data', name => 'visit.data',
            account_column => 'account_id', kind_column => 'kind');
        SELECT fieldcrypt.protect_path('visit.data', '{ip}', field => 'lead.ssn');
        SELECT fieldcrypt.protect_path(
            'visit.data', '{"\\"a.b\\""}', field => 'lead.ssn', account => 'acme', kind => 'web');
        DROP TABLE visit""")
    yield (
        "document visit.data",
        "SELECT fieldcrypt.unprotect_path('visit.data', E'{\"\\\\\"a.b\\\\\"\"}', account =>"
        " 'acme', kind => 'web'); SELECT fieldcrypt.unprotect_path('visit.data', '{ip}', account"
        " => '*');",
    )
