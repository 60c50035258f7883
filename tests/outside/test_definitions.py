"""What the installation script makes follows the rules, whatever it finds in the database.

tests/regress/sql/11_surface.sql lists every object; here are the rules that any new one has to
follow too, each with a breach of it that it notices.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from expect import refused
from harness import Database, bin_dir
from pglast import ast, parse_sql
from test_threats import lay_traps

# Functions without a search_path of their own, as pgspot writes them.
WITHOUT_SEARCH_PATH = {
    # The planner puts their bodies in place of them, which a setting would prevent. They are parsed
    # with the script, so that their names are resolved once and for all.
    "fieldcrypt.encrypt(value integer,field text,account text)",
    "fieldcrypt.encrypt(value smallint,field text,account text)",
    "fieldcrypt.matches(document jsonb,field text,value text,account text)",
    "fieldcrypt.matches(blob fieldcrypt.encrypted_jsonb,field text,value text,account text)",
    # The triggers and defaults of the user's table run in the user's search path. pgspot checks
    # that their bodies qualify every name.
    "fieldcrypt.insert_through_view()",
    "fieldcrypt.update_through_view()",
    # Procedures that commit can have no settings.
    "fieldcrypt.run_job(target text,batch_size integer,rate integer)",
    "fieldcrypt.clean_remnants(relation regclass,patience interval)",
    "fieldcrypt.encrypt_existing(document text,batch_size integer,rate integer,account text)",
    "fieldcrypt.decrypt_existing(document text,batch_size integer,rate integer,account text)",
    "fieldcrypt.encrypt_column(relation regclass,column_name name,field text,account_column name,"
    "batch_size integer,rate integer,cut_over boolean)",
    "fieldcrypt.decrypt_column(relation regclass,column_name name,account_column name,"
    "batch_size integer,rate integer,cut_over boolean)",
    "fieldcrypt.reencrypt_existing(document text,batch_size integer,rate integer,account text)",
    "fieldcrypt.reencrypt_column(relation regclass,column_name name,batch_size integer,"
    "rate integer)",
    "fieldcrypt.reencrypt_field(field text,batch_size integer,rate integer)",
    "fieldcrypt.adopt_existing(document text,paths text[],format text,key text,field text,"
    "previous_keys text[],associated_data text,associated_data_template text,plaintext text,"
    "batch_size integer,rate integer,"
    "cut_over boolean)",
    "fieldcrypt.adopt_column(relation regclass,column_name name,field text,account_column name,"
    "format text,key text,previous_keys text[],associated_data text,"
    "associated_data_template text,iv_column name,plaintext text,"
    "plain_type regtype,batch_size integer,rate integer,cut_over boolean)",
    # A procedure with a setting cannot commit.
    "fieldcrypt.rotate_due()",
}

# What everybody may call: it checks the caller's rights itself, or needs none.
PUBLIC_FUNCTIONS = """
    account_of blind_index can can_reason decrypt encrypt field_of flush_audit key_of matches reveal
    search_tokens search_tokens_in_transit set_actor token tokens
    create_view protect_jsonb protect_path protect_table unprotect_jsonb unprotect_path
    unprotect_table
    account_text add_document_trigger audit_events calls_decrypt check_columns check_definition
    check_document check_document_name check_expressions check_type columns_of_view columns_to_show
    default_of
    document_constraint document_gathers documents_of handle_of needs_sealing state_of_document
    has_unique_column hold_account holds_encrypted inherit_documents insert_through_view is_literal
    is_plain_name key_of_view make_view_anew plain_type_of seal_document shape_of_view
    trigger_arguments update_through_view
    holds_retired needs_reencryption open_retired reencrypt seal_existing write_both
    start_job step_job describe_job report_job rest_after name_of_document pause_job cancel_job
    run_job encrypt_existing decrypt_existing reencrypt_existing
    adopt_both adopt_in_document adopt_stored adopt_stored_document holds_foreign
    encrypted_cmp encrypted_eq encrypted_eqsel encrypted_ge encrypted_gt encrypted_hash
    encrypted_hash_extended encrypted_le encrypted_lt encrypted_ne encrypted_neqsel
    encrypted_support encrypted_typanalyze encrypted_types encrypted_typmod_in
    encrypted_typmod_out probe
""".split()
FUNCTIONS_OF_TYPES = [
    f"encrypted_{kind}_{part}"
    for kind in "text bytea jsonb bigint numeric date timestamptz boolean uuid".split()
    for part in "in out recv send coerce from".split()
]

# The tables, as apart from the views, that somebody else than their owner reads.
TABLE_READERS = [
    "account_key fieldcrypt_key_admin",
    "field PUBLIC",
    "root_key fieldcrypt_key_admin",
]

MEMBERS = """
    CREATE TEMP VIEW member AS
        SELECT classid, objid FROM pg_depend
        WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
            AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'fieldcrypt');
    CREATE TEMP VIEW member_function AS
        SELECT * FROM pg_proc
        WHERE oid IN (SELECT objid FROM member WHERE classid = 'pg_proc'::regclass);
    CREATE TEMP VIEW member_relation AS
        SELECT * FROM pg_class
        WHERE oid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass);
    CREATE TEMP VIEW granted AS
        SELECT object, grantee, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END
            AS role, privilege_type, is_grantable
        FROM (SELECT oid::regprocedure::text, proowner, proacl FROM member_function
              UNION ALL SELECT relname::text, relowner, relacl FROM member_relation
              UNION ALL SELECT nspname::text, nspowner, nspacl FROM pg_namespace
              WHERE nspname = 'fieldcrypt') AS o (object, owner, acl), aclexplode(acl)
        WHERE grantee <> owner
"""

DEPENDENCIES = """
    WITH part AS ( -- the rules, constraints, defaults and array types of the members, too
        TABLE member
        UNION ALL
        SELECT classid, objid FROM pg_depend
        WHERE deptype IN ('i', 'a') AND (refclassid, refobjid) IN (TABLE member))
    SELECT DISTINCT pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
    FROM pg_depend AS d JOIN part USING (classid, objid)
    WHERE d.refobjid >= 16384 AND d.deptype = 'n' AND (d.refclassid, d.refobjid) NOT IN (TABLE part)
        AND (d.refclassid, d.refobjid) <> ('pg_namespace'::regclass, 'fieldcrypt'::regnamespace)
"""

# Rule: what breaks it, and a statement that does.
RULES = {
    "with the owner's rights goes exactly this search path": (
        "SELECT oid::regprocedure FROM member_function WHERE prosecdef"
        " AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp']",
        "ALTER FUNCTION fieldcrypt.is_plain_name(text) SET search_path = 'pg_catalog, pg_temp'",
    ),
    # What the first superuser owns has no entry; nobody else owns anything.
    "nobody else owns anything": (
        "SELECT pg_describe_object(classid, objid, 0) FROM pg_shdepend JOIN member USING"
        " (classid, objid) WHERE deptype = 'o'",
        "ALTER FUNCTION fieldcrypt.path_ending_in(text) OWNER TO app",
    ),
    "only the extension's roles are granted anything": (
        "SELECT object FROM granted WHERE role NOT LIKE 'fieldcrypt\\_%' AND grantee <> 0",
        "GRANT EXECUTE ON FUNCTION fieldcrypt.create_account(text) TO app",
    ),
    "nobody passes anything on": (
        "SELECT object FROM granted WHERE is_grantable",
        "GRANT SELECT ON fieldcrypt.access TO fieldcrypt_auditor WITH GRANT OPTION",
    ),
    "who may call a function is written down": (
        "SELECT oid::regprocedure FROM member_function WHERE proacl IS NULL",
        "UPDATE pg_proc SET proacl = NULL WHERE oid = 'fieldcrypt.tokens(jsonb)'::regprocedure",
    ),
    "everybody may call only what checks rights itself": (
        "SELECT oid::regprocedure FROM member_function"
        " WHERE has_function_privilege('outsider', oid, 'EXECUTE')"
        f" AND proname <> ALL ('{{{','.join(PUBLIC_FUNCTIONS + FUNCTIONS_OF_TYPES)}}}')",
        "GRANT EXECUTE ON FUNCTION fieldcrypt.create_account(text) TO PUBLIC",
    ),
    "nothing but the functions writes a relation": (
        "SELECT object FROM granted WHERE object IN (SELECT relname FROM member_relation)"
        " AND privilege_type <> 'SELECT'",
        "GRANT INSERT ON fieldcrypt.access_grant TO fieldcrypt_grantor",
    ),
    "views are read, tables hardly": (
        "SELECT DISTINCT object, role FROM granted JOIN member_relation ON relname = object"
        f" WHERE relkind <> 'v' AND concat_ws(' ', object, role) <> ALL (ARRAY{TABLE_READERS})",
        "GRANT SELECT ON fieldcrypt.access_grant TO fieldcrypt_auditor",
    ),
    "in the schema nobody else creates": (
        "SELECT role FROM granted WHERE object = 'fieldcrypt' AND privilege_type <> 'USAGE'",
        "GRANT CREATE ON SCHEMA fieldcrypt TO fieldcrypt_admin",
    ),
    # They read keys, rights and settings, and give the same for the same row.
    "what opens, seals to compare or coerces is STABLE": (
        "SELECT oid::regprocedure FROM member_function WHERE provolatile <> 's'"
        " AND prosrc ~ '^(decrypt|reveal|probe|search_tokens|blind_index|encrypted_coerce)'",
        "ALTER FUNCTION fieldcrypt.decrypt(jsonb) VOLATILE",
    ),
    # The planner calls leakproof functions before the conditions of a security barrier.
    "nothing is leakproof": (
        "SELECT oid::regprocedure FROM member_function WHERE proleakproof",
        "ALTER FUNCTION fieldcrypt.reveal(jsonb) LEAKPROOF",
    ),
    "nothing depends on what is not PostgreSQL's or the extension's": (
        DEPENDENCIES,
        "CREATE FUNCTION public.other() RETURNS int LANGUAGE sql RETURN 1;"
        " CREATE VIEW fieldcrypt.other AS SELECT public.other();"
        " ALTER EXTENSION fieldcrypt ADD VIEW fieldcrypt.other",
    ),
}


@pytest.fixture
def definitions(db):
    db.execute(MEMBERS)
    return db


@pytest.mark.parametrize("rule", RULES)
def test_rule(definitions, rule):
    query, breach = RULES[rule]
    assert definitions.execute(query).fetchall() == []
    with definitions.conn.transaction(force_rollback=True):
        definitions.execute(breach)
        assert definitions.execute(query).fetchall() != []


# pgspot


def scripts():
    """The installed scripts of the extension: the whole one, and those that upgrade."""
    share = subprocess.check_output([bin_dir() / "pg_config", "--sharedir"], text=True).strip()
    files = Path(share, "extension").glob("fieldcrypt--*.sql")
    return {file.name: file.read_text() for file in files}


def for_pgspot(script):
    """The script with an empty body for each function whose body is SQL of the script itself.

    pgspot expects a body in a string. It checks the other one as a part of the script, whose
    search_path it is indeed parsed under.
    """
    text, end, parts = script.encode(), 0, []
    for statement in parse_sql(script):
        function = statement.stmt
        if isinstance(function, ast.CreateFunctionStmt) and function.sql_body:
            (place,) = [o.location for o in function.options if o.defname == "language"]
            parts += [text[end:place], b"AS '' "]
            end = place
    return b"".join([*parts, text[end:]]).decode()


def pgspot(script, folder):
    """What pgspot says about a script, line by line, without what is known to be right."""
    file = folder / "script.sql"
    file.write_text(for_pgspot(script))
    known = [f"--proc-without-search-path={function}" for function in WITHOUT_SEARCH_PATH]
    done = subprocess.run(
        [sys.executable, "-m", "pgspot", *known, file], capture_output=True, text=True
    )
    assert done.stderr == ""
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def test_scripts_are_of_every_encoding():
    """CREATE EXTENSION reads them in the database's."""
    assert all(script.isascii() for script in scripts().values())


def test_pgspot_finds_nothing(tmp_path):
    for name, script in scripts().items():
        assert pgspot(script, tmp_path) == ["Errors: 0 Warnings: 0 Unknown: 0"], name


def test_pgspot_looks_into_every_body(tmp_path):
    """Without the script's own search_path it finds something in each kind of body."""
    (script,) = [s for s in scripts().values() if "CREATE EVENT TRIGGER" in s]
    path = "SET LOCAL search_path = pg_catalog, pg_temp;"
    assert script.count(path) == 1
    found = "\n".join(pgspot(script.replace(path, ""), tmp_path))
    assert "PS001: Unqualified operator: '||' in e || '[]'" in found  # DO
    assert "PS001: Unqualified operator: '=' in n.name = is_plain_name.name" in found  # ATOMIC
    assert "PS001: Unqualified operator: '=' in NULLIF(p.kind, '')" in found  # a view
    function = "SET search_path = pg_catalog, pg_temp\nAS $$"
    assert function in script
    found = "\n".join(pgspot(script.replace(function, "AS $$"), tmp_path))
    assert "PS005: Function without explicit search_path: fieldcrypt.check_type" in found
    assert "PS016: Unqualified function call: parse_ident" in found  # PL/pgSQL


# What somebody else has prepared before CREATE EXTENSION (CVE-2022-2625 and its like)


@pytest.fixture
def empty(cluster):
    """A database without the extension."""
    cluster.create_roles("app", "outsider")
    database = Database(cluster)
    yield database
    database.drop()


PREPARED = {
    "function": "FUNCTION fieldcrypt.encrypted_types(OUT encrypted regtype, OUT plain regtype)"
    " RETURNS SETOF record LANGUAGE sql RETURN NULL::record",
    "overloaded function": "FUNCTION fieldcrypt.decrypt(text) RETURNS text LANGUAGE sql RETURN $1",
    "trigger function": "FUNCTION fieldcrypt.catalog_changed() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NEW; END $$",
    "table": "TABLE fieldcrypt.access_grant (role regrole, account text, field text)",
    "another table": "TABLE fieldcrypt.mine ()",
    "view": "VIEW fieldcrypt.accounts AS SELECT 'acme'::text AS account",
    "type": "TYPE fieldcrypt.encrypted_text AS ENUM ('plain')",
    "domain": "DOMAIN fieldcrypt.encrypted_text AS text",
    "operator": 'OPERATOR fieldcrypt.= (FUNCTION = chareq, LEFTARG = "char", RIGHTARG = "char")',
    "operator class": "OPERATOR FAMILY fieldcrypt.encrypted_text_ops USING btree",
    "collation": 'COLLATION fieldcrypt."C" FROM "POSIX"',
}


@pytest.mark.parametrize("kind", PREPARED)
def test_a_schema_with_somebodys_objects_is_refused(empty, kind):
    """In a schema of a superuser, in which another role may create."""
    empty.execute("CREATE SCHEMA fieldcrypt; GRANT CREATE, USAGE ON SCHEMA fieldcrypt TO outsider")
    # An operator family needs a superuser.
    with empty.connect("postgres" if kind == "operator class" else "outsider") as outsider:
        outsider.execute(f"CREATE {PREPARED[kind]}")
    with refused("55000", 'schema "fieldcrypt" is not empty', "Drop what is in it first"):
        empty.execute("CREATE EXTENSION fieldcrypt")
    assert empty.value("SELECT count(*) FROM pg_proc WHERE probin LIKE '%fieldcrypt%'") == 0
    assert empty.value("SELECT count(*) FROM pg_event_trigger") == 0


def grants_and_definitions(database):
    """Who may do what, and what the functions and views are."""
    database.execute(f"SET search_path = pg_catalog, pg_temp; {MEMBERS}")
    return [
        database.execute(query).fetchall()
        for query in (
            "SELECT object, role, privilege_type, is_grantable FROM granted ORDER BY granted",
            "SELECT pg_get_functiondef(oid) AS f FROM member_function ORDER BY f",
            "SELECT relname, pg_get_viewdef(oid) FROM member_relation WHERE relkind = 'v'"
            " ORDER BY relname",
        )
    ]


@pytest.fixture(scope="module")
def clean(cluster):
    """What a database is like in which nobody has prepared anything."""
    database = Database(cluster)
    database.execute("CREATE EXTENSION fieldcrypt")
    yield grants_and_definitions(database)
    database.drop()


def test_default_privileges_give_nothing(empty, clean):
    """They apply to what an extension makes too: one that grants all on tables would let its holder
    write grants of access for himself."""
    for kind in "TABLES", "SEQUENCES", "FUNCTIONS", "SCHEMAS":
        empty.execute(f"""
            ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO outsider, fieldcrypt_admin;
            ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO app WITH GRANT OPTION""")
    empty.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    empty.execute("CREATE EXTENSION fieldcrypt")
    # the audit makes a table for each month, when it has something to write
    empty.execute("SELECT fieldcrypt.create_account('acme')")
    empty.execute("SELECT fieldcrypt.flush_audit()")
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'fieldcrypt.audit_batch'::regclass"
    assert empty.value(months) == 1
    assert grants_and_definitions(empty) == clean
    for role in "outsider", "app":
        with empty.connect(role) as connection:
            with refused("42501"):
                connection.execute(
                    "INSERT INTO fieldcrypt.access_grant VALUES (current_user::regrole, '*', '*',"
                    " '{decrypt}')"
                )


def test_grants_on_the_schema_end(empty, clean):
    """Who could create in it could overload what users call."""
    empty.execute("""
        CREATE SCHEMA fieldcrypt;
        GRANT ALL ON SCHEMA fieldcrypt TO PUBLIC;
        GRANT ALL ON SCHEMA fieldcrypt TO app WITH GRANT OPTION;
        SET ROLE app; GRANT ALL ON SCHEMA fieldcrypt TO outsider; RESET ROLE;
        CREATE EXTENSION fieldcrypt""")
    assert grants_and_definitions(empty) == clean
    with empty.connect("outsider") as outsider:
        with refused("42501", "permission denied for schema fieldcrypt"):
            outsider.execute(f"CREATE {PREPARED['overloaded function']}")


def test_traps_on_the_path_of_who_creates_it(empty, clean):
    """Functions, operators and types in public and in an own schema before pg_catalog, and
    temporary tables, under names that the script uses."""
    empty.execute("""
        CREATE SCHEMA evil AUTHORIZATION outsider;
        GRANT ALL ON SCHEMA public TO outsider""")
    with empty.connect("outsider") as outsider:
        lay_traps(outsider, "evil")
        lay_traps(outsider, "public")
    empty.execute("GRANT USAGE ON SCHEMA evil TO PUBLIC")
    for name in "pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_roles", "account", "field":
        empty.execute(f"CREATE TEMP TABLE {name} (trap int)")
    empty.execute(
        "SET search_path = pg_temp, evil, public, pg_catalog; CREATE EXTENSION fieldcrypt"
    )
    assert grants_and_definitions(empty) == clean
    assert empty.execute(DEPENDENCIES).fetchall() == []
