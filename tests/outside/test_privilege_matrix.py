"""Every function, called by each of seven roles in each of twelve contexts: how each cell ends.

What is expected follows from the rules in `privileges`, not from a recording. Rights are those of
the current user: SET ROLE changes them, a SECURITY DEFINER function lends its owner's, and a view
lends nothing. A read-only transaction and a standby refuse changes and nothing else. The audit has
an event of what was read and of what was refused.
"""

import json
import re
from collections import Counter

import pytest
from harness import VERSION, Cluster, Database
from privileges import CALLS, KINDS, LENDER, ROLES, events, outcome, statement
from psycopg import pq
from psycopg.rows import dict_row

# Logs in for others: what it may do itself never counts.
SWITCHER = "switcher"

RIGHTS = """
    CREATE EXTENSION fieldcrypt;
    SELECT fieldcrypt.create_account('acme');
    SELECT fieldcrypt.create_field('m.unused');
    SELECT fieldcrypt.create_field('m.blob');
    SELECT fieldcrypt.grant_access('owner', '{manage}', 'acme', '*');
    SELECT fieldcrypt.grant_access('reader', '{decrypt}', 'acme', 'm.*');
    SELECT fieldcrypt.grant_access('masked', '{mask}', 'acme', 'm.*');
    SELECT fieldcrypt.grant_access('writer', '{encrypt,search}', 'acme', 'm.*');
    SELECT fieldcrypt.grant_access('lender', '{encrypt,search,decrypt}', 'acme', 'm.*');
    SELECT fieldcrypt.grant_access('switcher', '{encrypt,search,decrypt}', 'acme', 'm.*');
    GRANT fieldcrypt_key_admin, fieldcrypt_admin, fieldcrypt_grantor, fieldcrypt_auditor
        TO administrator;
    ALTER ROLE boss SUPERUSER;
    ALTER ROLE switcher NOINHERIT;
    GRANT boss, owner, reader, masked, writer, outsider, administrator TO switcher;
"""

TABLES = """
    CREATE SCHEMA m AUTHORIZATION owner;
    GRANT USAGE ON SCHEMA m TO PUBLIC;
    -- with a setting it is not inlined: workers do not run sub-selects
    CREATE FUNCTION m.handle(field text) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
        SET search_path = pg_catalog, pg_temp
        RETURN (SELECT f.handle FROM fieldcrypt.field AS f WHERE f.name = $1);
    -- not true, but it tells which process ran it
    CREATE FUNCTION m.process() RETURNS integer LANGUAGE internal STABLE PARALLEL SAFE
        AS 'pg_backend_pid';

    SET ROLE owner;
    CREATE TABLE m.sample (account_id text NOT NULL DEFAULT 'acme', document jsonb,
        gathered jsonb, blob fieldcrypt.encrypted_jsonb('m.blob'));
    CREATE TABLE m.free (account_id text, document jsonb, v fieldcrypt.encrypted_text('m.text'));
    CREATE TABLE m.held (id int PRIMARY KEY, account_id text DEFAULT 'acme',
        v fieldcrypt.encrypted_text('m.text'));
    CREATE TABLE m.filed (account_id text, document jsonb);
    SELECT fieldcrypt.protect_table('m.held', 'account_id');
    SELECT fieldcrypt.protect_jsonb('m.filed', 'document', 'm.filed', 'account_id');
    SELECT fieldcrypt.create_view('m.held'), fieldcrypt.create_view('m.held', 'm.redrawn');
    SELECT fieldcrypt.protect_jsonb('m.sample', 'document', 'm.document', 'account_id');
    SELECT fieldcrypt.protect_jsonb('m.sample', 'gathered', 'm.gathered', 'account_id',
        blob_column => 'blob');
    CREATE TABLE m.child () INHERITS (m.sample);
    DROP TRIGGER "000_fieldcrypt_document" ON m.child;
    CREATE TABLE m.fired (statement text, result text);
    CREATE FUNCTION m.fire() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE NEW.statement INTO NEW.result; RETURN NEW; END $$;
    CREATE TRIGGER fire BEFORE INSERT ON m.fired FOR EACH ROW EXECUTE FUNCTION m.fire();
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA m TO PUBLIC;
    RESET ROLE;
    SELECT fieldcrypt.protect_path('m.document', '{email}', 'm.text');
    SELECT fieldcrypt.protect_path('m.document', '{age}', 'm.bigint', 'acme');
    SELECT fieldcrypt.protect_path('m.gathered', '{email}', 'm.text');
"""

# What the lender makes.
LENT = """
    CREATE SCHEMA lent AUTHORIZATION lender;
    GRANT USAGE ON SCHEMA lent TO PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE lender IN SCHEMA lent GRANT SELECT ON TABLES TO PUBLIC;
    SET ROLE lender;
    SET fieldcrypt.account = 'acme';
    INSERT INTO m.sample (document, gathered)
        VALUES ('{"email": "value of text"}', '{"email": "value of text"}');
"""


@pytest.fixture(scope="module")
def primary():
    with Cluster({"timezone": "UTC"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def database(primary):
    """The table, and for each call a function and a view of the lender's."""
    primary.create_roles(*(role.name for role in (*ROLES, LENDER)), SWITCHER)
    database = Database(primary)
    database.execute(RIGHTS)
    for kind in KINDS:
        search = "{exact}" if kind.searchable else "{}"
        database.execute(
            f"SELECT fieldcrypt.create_field('{kind.field}', mask => '{kind.mask}',"
            f" search => '{search}'{kind.options})"
        )
    database.execute(TABLES)
    for kind in KINDS:
        column = f"fieldcrypt.{kind.type}('{kind.field}')"
        database.execute(
            f"ALTER TABLE m.sample ADD v_{kind.name} {column}, ADD a_{kind.name} {column}[]"
        )
    database.execute(LENT)
    database.execute(
        "UPDATE m.sample SET "
        + ", ".join(
            f"v_{kind.name} = '{kind.value}', a_{kind.name}[1] = '{kind.value}',"
            f" a_{kind.name}[2] = '{kind.value}'"
            for kind in KINDS
        )
    )
    for number, signature in enumerate(CALLS):
        if not CALLS[signature].unparsable:
            database.execute(defined_function(signature, f"lent.call_{number}"))
            database.execute(defined_view(signature, f"lent.view_{number}"))
    database.execute("RESET ROLE; SELECT fieldcrypt.flush_audit()")
    return database


@pytest.fixture(scope="module")
def standby(primary, database):
    with primary.standby() as standby:
        standby.catch_up(primary)
        yield standby


# The contexts: what is sent to the server for a call.


def defined_function(signature, name):
    return (
        f"CREATE FUNCTION {name}() RETURNS text LANGUAGE sql SECURITY DEFINER"
        f" SET search_path = pg_catalog, pg_temp AS $call${statement(signature)}$call$"
    )


def defined_view(signature, name):
    return f"CREATE VIEW {name} (result) AS {statement(signature)}"


def plain(number, signature):
    return statement(signature)


def definer(number, signature):
    if CALLS[signature].unparsable:
        return defined_function(signature, "pg_temp.call")
    return f"SELECT lent.call_{number}()"


def view(number, signature):
    if CALLS[signature].unparsable:
        return defined_view(signature, "pg_temp.view")
    return f"SELECT result FROM lent.view_{number}"


def cursor(number, signature):
    return f"DECLARE call CURSOR FOR {statement(signature)}; FETCH call"


def prepared(number, signature):
    return f"DEALLOCATE ALL; PREPARE call AS {statement(signature)}; EXECUTE call"


def do(number, signature):
    return (
        "DO $do$ BEGIN PERFORM set_config('m.result',"
        f" COALESCE('=' || ({statement(signature)} LIMIT 1), ''), true); END $do$;"
        " SELECT substr(NULLIF(current_setting('m.result'), ''), 2)"
    )


def copy(number, signature):
    return f"COPY ({statement(signature)}) TO STDOUT"


def trigger(number, signature):
    return (
        f"INSERT INTO m.fired (statement) VALUES ($call${statement(signature)}$call$)"
        " RETURNING result"
    )


def parallel(number, signature):
    return statement(signature).replace(" FROM m.sample AS s", ", m.process() FROM m.sample AS s")


CONTEXTS = {
    "plain": plain,
    "SECURITY DEFINER": definer,
    "view": view,
    "cursor": cursor,
    "prepared": prepared,
    "DO": do,
    "COPY": copy,
    "trigger": trigger,
    "parallel": parallel,
    "read-only": plain,
    "standby": plain,
    "SET ROLE": plain,
}
PARALLEL = (
    f"-c {'debug_parallel_query' if VERSION >= 16 else 'force_parallel_mode'}=on"
    " -c min_parallel_table_scan_size=0 -c parallel_setup_cost=0"
    " -c parallel_leader_participation=off"
)


def run(connection, sql):
    """The SQLSTATE of an error and the last result's first row, as texts."""
    pgconn = connection.pgconn
    result = pgconn.exec_(sql.encode())
    if result.status == pq.ExecStatus.COPY_OUT:
        lines = []
        while (line := pgconn.get_copy_data(0))[0] > 0:
            lines.append(bytes(line[1]).decode().rstrip("\n"))
        result = pgconn.get_result()
        assert pgconn.get_result() is None
        if result.status == pq.ExecStatus.COMMAND_OK:
            line = lines[0] if lines else r"\N"
            return None, [None if line == r"\N" else line.replace("\\\\", "\\")]
    if result.status == pq.ExecStatus.FATAL_ERROR:
        return result.error_field(pq.DiagnosticField.SQLSTATE).decode(), None
    row = (
        [result.get_value(0, column) for column in range(result.nfields)]
        if result.ntuples
        else [None]
    )
    return None, [value if value is None else value.decode() for value in row]


@pytest.fixture(scope="module")
def cells(request, expected_events):
    """The outcomes of the cells that were run, by role and context; printed at the end."""
    counted = {}
    yield counted
    lines = [f"{'cells':14}" + "".join(f"{context.split()[-1]:>10}" for context in CONTEXTS)]
    for role in ROLES:
        counts = [sum(counted.get((role.name, c), Counter()).values()) for c in CONTEXTS]
        lines.append(f"{role.name:14}" + "".join(f"{count:>10}" for count in counts))
    total = sum(counted.values(), Counter())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in total.most_common())
    lines.append(f"{sum(total.values()):,} cells: {kinds}; {len(expected_events):,} events")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("", *lines, sep="\n")


@pytest.fixture(scope="module")
def expected_events():
    """What the audit has to say of the cells that were run: numbers of values, by COLUMNS."""
    return Counter()


# Of the audit's.
COLUMNS = (
    *("application_name", "acting_role", "set_role", "session_role"),
    *("action", "outcome", "field", "account", "entities"),
)

FUNCTIONS = """
    SELECT replace(oid::regprocedure::text, 'fieldcrypt.', '') FROM pg_proc
    WHERE pronamespace = 'fieldcrypt'::regnamespace
"""


def test_every_function_has_a_call(database):
    assert sorted(CALLS) == sorted(name for (name,) in database.execute(FUNCTIONS))


@pytest.fixture(scope="module")
def parallel_safe(database):
    return {name for (name,) in database.execute(f"{FUNCTIONS} AND proparallel = 's'")}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_cells(database, standby, parallel_safe, cells, expected_events, role, context):
    server = standby if context == "standby" else database.cluster
    acting = LENDER if context == "SECURITY DEFINER" else role
    user = SWITCHER if context == "SET ROLE" else role.name
    settings = f"-c fieldcrypt.account=acme {PARALLEL if context == 'parallel' else ''}"
    counted = cells[role.name, context] = Counter()
    wrong = []
    with server.connect(user, database.name, options=settings) as connection:
        if context == "SET ROLE":
            connection.execute(f"SET ROLE {role.name}")
        connection.execute("BEGIN READ ONLY" if context == "read-only" else "BEGIN")
        connection.execute("SAVEPOINT cell")
        for number, (signature, call) in enumerate(CALLS.items()):
            name = f"cell {number} {role.name} {context}"
            sqlstate, row = run(
                connection,
                # the name is set where no rollback takes it back
                f"ROLLBACK TO cell; RELEASE cell; SET application_name = '{name}'; SAVEPOINT cell;"
                + CONTEXTS[context](number, signature),
            )
            expected = outcome(call, acting, context)
            if not expected.is_met_by(sqlstate, row and row[0]):
                wrong.append(f"{signature}: {expected}, not {sqlstate or row[0]!r}")
            elif context == "parallel" and row and len(row) > 1:
                in_worker = int(row[1]) != connection.info.backend_pid
                if in_worker != (signature in parallel_safe):
                    wrong.append(f"{signature}: in a worker is {in_worker}")
            counted[expected.kind] += 1
            for event, count in events(call, acting, context).items():
                expected_events[name, acting.name, role.name, user, *event] = count
        connection.execute("ROLLBACK")
    assert not wrong, "\n".join(wrong)


def test_events(database, standby, expected_events):
    """What the audit's table, and the log of the standby, say is what the rules say, no more."""
    database.execute("SELECT fieldcrypt.flush_audit()")
    rows = database.conn.cursor(row_factory=dict_row).execute("SELECT * FROM fieldcrypt.audit")
    logged = re.findall(r"LOG:  fieldcrypt audit: (.*)", standby.log())
    found = Counter()
    for event in [*rows, *map(json.loads, logged)]:
        if (event["application_name"] or "").startswith("cell "):
            event["entities"] = " ".join(event["entities"] or [])
            found[tuple(event[column] for column in COLUMNS)] += event["count"] or 1
    wrong = [
        f"{event}: {expected_events[event]}, not {found[event]}"
        for event in found | expected_events
        if found[event] != expected_events[event]
    ]
    assert not wrong, f"{len(wrong)} of {len(expected_events)} events:\n" + "\n".join(wrong[:100])
    assert database.execute("SELECT ok FROM fieldcrypt.verify_audit()").fetchall() == [(True,)]
    assert database.value("SELECT count(*) FROM fieldcrypt.audit WHERE action = 'lost'") == 0


def test_what_is_asked_while_sealing_takes_no_transaction_id(database, standby):
    """Standbys and parallel workers cannot have one. Of a value of which the normalizer leaves
    nothing it is asked whether a column of the field is unique."""
    empty = "SELECT fieldcrypt.encrypt(left(account_id, 0), 'm.text', 'acme')::text FROM m.sample"
    for server, settings in (standby, ""), (database.cluster, PARALLEL):
        with server.connect("writer", database.name, options=settings) as connection:
            assert connection.execute(empty).fetchone()[0].startswith("fc1:")
