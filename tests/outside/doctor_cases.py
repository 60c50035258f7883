"""What makes doctor() find something, one case after the other, and how its remedies are carried out.

A case is a generator over a server that is well run. It first breaks something, and yields what
doctor() has to say about it: subject and remedy, and, where the remedy is not SQL for a superuser, a
function that carries it out. What is left when it goes on is put right by the case.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness import VERSION, bin_dir, write_file, write_keyring

# A value that stands in many rows, and that no finding shows.
CANARY = "canary-77-1234"

LIBRARIES = Path(
    subprocess.check_output([bin_dir() / "pg_config", "--pkglibdir"], text=True).strip()
)
HAS_SSL = b"--with-openssl" in subprocess.check_output([bin_dir() / "pg_config", "--configure"])
HAS_STATEMENTS = (LIBRARIES / "pg_stat_statements.so").exists()
HAS_EXPLAIN = (LIBRARIES / "auto_explain.so").exists()


class Case(NamedTuple):
    severity: str
    finding: str  # N stands for a number
    run: callable
    beside: tuple  # other findings that cannot be helped, as patterns
    applies: bool  # on this build of PostgreSQL
    id: str


CASES = []


def case(severity, finding, *, beside=(), applies=True, id=None):
    def add(run):
        CASES.append(Case(severity, finding, run, beside, applies, id or run.__name__))
        return run

    return add


# Settings

UNREDACTED = r"and fieldcrypt\.redact_log is off"  # two of them by PostgreSQL's defaults
REDACT = "is off: statements are logged with the values in them"


@case("error", REDACT, beside=[UNREDACTED])
def redact_log_of_the_server(well):
    well.system("fieldcrypt.redact_log", "off")
    yield (
        "setting fieldcrypt.redact_log",
        "ALTER SYSTEM SET fieldcrypt.redact_log = 'on'; SELECT pg_reload_conf();",
    )
    well.system("fieldcrypt.redact_log", None)


def redact_log_of(target, scope):
    @case("error", REDACT, beside=[UNREDACTED], id=f"redact_log{scope.replace(' ', '_')}")
    def run(well):
        names = {"database": well.name}
        well.execute(f"ALTER {target.format(**names)} SET fieldcrypt.redact_log = false")
        yield (
            "setting fieldcrypt.redact_log" + scope.format(**names),
            f"ALTER {target.format(**names)} RESET fieldcrypt.redact_log;",
        )


redact_log_of("ROLE app", " of role app")
redact_log_of("DATABASE {database}", " of database {database}")
redact_log_of("ROLE app IN DATABASE {database}", " of role app in database {database}")
redact_log_of("ROLE ALL", " of all roles")


def logged(setting, value, safe, what, applies=True, extra=None):
    @case(
        "warning",
        f"logs {what}, and fieldcrypt.redact_log is off",
        beside=[UNREDACTED, re.escape(REDACT)],
        applies=applies,
        id=setting,
    )
    def run(well):
        well.system("fieldcrypt.redact_log", "off")
        for name, as_needed in (extra or {}).items():
            well.system(name, as_needed)
        well.system(setting, value)
        yield (
            f"setting {setting}",
            f"ALTER SYSTEM SET {setting} = '{safe}'; SELECT pg_reload_conf();",
        )
        for name in (setting, "fieldcrypt.redact_log", *(extra or {})):
            well.system(name, None)


EXPLAINING = {"session_preload_libraries": "auto_explain"}
logged("log_statement", "ddl", "none", "statements")
logged("log_min_duration_statement", "250ms", "-1", "slow statements")
logged("log_min_duration_sample", "1s", "-1", "some slow statements")
logged("log_transaction_sample_rate", "0.5", "0", "the statements of some transactions")
logged("log_min_error_statement", "error", "panic", "statements that fail")
logged("log_parameter_max_length", "1kB", "0", "parameters with statements")
logged("log_parameter_max_length_on_error", "-1", "0", "parameters with errors")
logged("log_temp_files", "10MB", "-1", "statements that use temporary files")
logged("log_lock_waits", "on", "off", "statements that wait for locks")
logged("debug_print_parse", "on", "off", "parse trees with their constants")
logged("debug_print_rewritten", "on", "off", "parse trees with their constants")
logged("debug_print_plan", "on", "off", "plans with their constants")
logged(
    "auto_explain.log_min_duration", "1s", "-1", "plans with their statements", HAS_EXPLAIN, EXPLAINING
)
logged(
    "auto_explain.log_parameter_max_length",
    "-1",
    "0",
    "parameters with plans",
    HAS_EXPLAIN and VERSION >= 16,
    EXPLAINING,
)


def unsafe(setting, value, safe, finding, severity="warning"):
    @case(severity, finding, id=setting)
    def run(well):
        well.system(setting, value)
        yield (
            f"setting {setting}",
            f"ALTER SYSTEM SET {setting} = '{safe}'; SELECT pg_reload_conf();",
        )
        well.system(setting, None)


CRASH = "is off: a crash can destroy the wrapped keys, and with them every value"


@case("warning", CRASH)
def fsync(well):
    well.ignored = ()
    yield "setting fsync", "ALTER SYSTEM SET fsync = 'on'; SELECT pg_reload_conf();"
    well.system("fsync", None)


unsafe("full_page_writes", "off", "on", CRASH)
unsafe(
    "fieldcrypt.accept_envelopes",
    "on",
    "off",
    "is on: every role can put in ciphertext that it copied from elsewhere",
)


@case("warning", "switches off the triggers that hold values to their account and seal documents")
def session_replication_role(well):
    well.execute("ALTER ROLE app SET session_replication_role = replica")
    yield (
        "setting session_replication_role of role app",
        "ALTER ROLE app RESET session_replication_role;",
    )


@case("notice", "lets a key that was taken away be used for more than an hour")
def key_lifetime(well):
    well.system("fieldcrypt.key_lifetime", "2h")
    yield (
        "setting fieldcrypt.key_lifetime",
        "ALTER SYSTEM SET fieldcrypt.key_lifetime = 300; SELECT pg_reload_conf();",
    )
    well.system("fieldcrypt.key_lifetime", None)


@case("notice", "lets a key that was taken away be used for more than an hour")
def key_lifetime_of_a_role(well):
    well.execute("ALTER ROLE app SET fieldcrypt.key_lifetime = 3601")
    yield (
        "setting fieldcrypt.key_lifetime of role app",
        "ALTER ROLE app RESET fieldcrypt.key_lifetime;",
    )


@case(
    "warning",
    "keeps the literals of utility statements (DO, CALL, COPY, PREPARE) in pg_stat_statements",
    applies=HAS_STATEMENTS,
)
def pg_stat_statements(well):
    well.settings["shared_preload_libraries"] = "pg_stat_statements, fieldcrypt"
    well.restart()
    yield (
        "setting pg_stat_statements.track_utility",
        "ALTER SYSTEM SET pg_stat_statements.track_utility = 'off'; SELECT pg_reload_conf();",
    )
    well.system("pg_stat_statements.track_utility", None)
    well.settings["shared_preload_libraries"] = "fieldcrypt"
    well.restart()


def not_preloaded(libraries, remedied, applies=True):
    @case(
        "warning",
        "does not name fieldcrypt: a session logs its first statement as it is, and reads the root"
        " keys itself",
        applies=applies,
        id=f"preload_{libraries or 'nothing'}",
    )
    def run(well):
        well.settings["shared_preload_libraries"] = libraries
        well.restart()

        def carry_out(remedy):
            well.psql(remedy)
            well.restart()

        yield (
            "setting shared_preload_libraries",
            f"ALTER SYSTEM SET shared_preload_libraries = {remedied}; -- and restart the server",
            carry_out,
        )
        well.system("shared_preload_libraries", None)
        well.settings["shared_preload_libraries"] = "fieldcrypt"
        well.restart()


not_preloaded("", "'fieldcrypt'")
not_preloaded("pgoutput", "'pgoutput', 'fieldcrypt'")


@case("warning", "is off: plain values travel to other machines as they are", applies=HAS_SSL)
def ssl(well):
    well.settings["listen_addresses"] = "0.0.0.0"
    well.settings["port"] = well.free_port()
    well.restart()

    def carry_out(remedy):
        files = well.cluster.dir / "server.key", well.cluster.dir / "server.crt"
        request = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server")
        out = subprocess.run(
            ["openssl", "req", *request, "-keyout", "-", "-out", "-"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for file, kind in zip(files, ("PRIVATE KEY", "CERTIFICATE"), strict=True):
            pem = re.search(f"-----BEGIN {kind}-.*-----END {kind}-----\n", out, re.DOTALL)
            write_file(file, pem.group(), 0o600)
        well.system("ssl_key_file", str(files[0]))
        well.system("ssl_cert_file", str(files[1]))
        well.reloading(lambda: well.psql(remedy))

    yield (
        "setting ssl",
        "ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf(); -- with ssl_cert_file and"
        " ssl_key_file in place",
        carry_out,
    )
    for name in ("ssl", "ssl_key_file", "ssl_cert_file"):
        well.system(name, None)
    well.settings["listen_addresses"] = ""
    well.settings["port"] = 5432
    well.restart()


@case("notice", "is off: a damaged page is noticed when a value in it no longer opens")
def data_checksums(well):
    def checksums(action):
        well.stopped(
            lambda: well.cluster.run("pg_checksums", action, "-D", well.cluster.data_dir, "--no-sync")
        )

    checksums("--disable")
    yield (
        "setting data_checksums",
        "Stop the server and run pg_checksums --enable.",
        lambda _: checksums("--enable"),
    )


@case(
    "warning",
    "leaves the account of new values open, but not every table settles it",
    beside=["nothing holds them to that of their row"],
)
def account_of_the_row(well):
    well.execute("CREATE TABLE loose (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'))")
    well.execute("ALTER ROLE app SET fieldcrypt.account = '*row*'")
    yield "setting fieldcrypt.account of role app", "ALTER ROLE app RESET fieldcrypt.account;"
    well.execute("DROP TABLE loose")


@case(
    "warning",
    "leaves the account of new values open, but not every table settles it",
    beside=["nothing holds them to that of their row"],
)
def account_of_the_row_everywhere(well):
    well.execute("CREATE TABLE loose (account_id text, ssn fieldcrypt.encrypted_text('lead.ssn'))")
    well.system("fieldcrypt.account", "*row*")
    yield (
        "setting fieldcrypt.account",
        "ALTER SYSTEM RESET fieldcrypt.account; SELECT pg_reload_conf();",
    )
    well.execute("DROP TABLE loose")


@case("notice", "names an account that does not exist")
def account_that_does_not_exist(well):
    well.execute(f"ALTER DATABASE {well.name} SET fieldcrypt.account = 'Acme'")
    yield (
        f"setting fieldcrypt.account of database {well.name}",
        f"ALTER DATABASE {well.name} RESET fieldcrypt.account;",
    )


TRANSPARENT = "shows plain values in what superusers query"


@case("notice", TRANSPARENT)
def transparent_for_a_superuser(well):
    well.execute("ALTER ROLE postgres SET fieldcrypt.transparent = on")
    yield (
        "setting fieldcrypt.transparent of role postgres",
        "ALTER ROLE postgres RESET fieldcrypt.transparent;",
    )


@case("notice", TRANSPARENT)
def transparent_for_everyone(well):
    well.system("fieldcrypt.transparent", "on")
    yield (
        "setting fieldcrypt.transparent",
        "ALTER SYSTEM RESET fieldcrypt.transparent; SELECT pg_reload_conf();",
    )


# The keyring

# What the use of a key would raise; docs/doctor.md describes these together.
PROBLEM = "what using the key raises"
KEEP = "fieldcrypt never makes a key. Put the file back, or correct its path."
MODE = "chmod 0400 the file of a key, and 0600 the keyring file."


def key_file(well):
    return well.cluster.keys_dir / "main.key"


@case("error", PROBLEM)
def keyring_not_set(well):
    well.system("fieldcrypt.keyring_file", "")
    yield (
        "keyring",
        "Name the keyring file in postgresql.conf and reload.",
        lambda _: well.system("fieldcrypt.keyring_file", None),
        "fieldcrypt.keyring_file is not set",
    )


@case("error", PROBLEM)
def keyring_gone(well):
    well.cluster.keyring.rename(well.cluster.dir / "away")
    yield (
        "keyring",
        KEEP,
        lambda _: (well.cluster.dir / "away").rename(well.cluster.keyring),
        "the keyring file does not exist or cannot be reached",
    )


@case("error", PROBLEM)
def keyring_writable_by_others(well):
    well.cluster.keyring.chmod(0o622)
    yield (
        "keyring",
        MODE,
        lambda _: well.cluster.keyring.chmod(0o600),
        "the keyring file can be used by other users",
    )


@case("error", PROBLEM)
def key_gone(well):
    key_file(well).rename(well.cluster.dir / "away")
    yield (
        'root key "main"',
        KEEP,
        lambda _: (well.cluster.dir / "away").rename(key_file(well)),
        'the file of root key "main" does not exist or cannot be reached',
    )


@case("error", PROBLEM)
def key_readable_by_others(well):
    key_file(well).chmod(0o404)
    yield (
        'root key "main"',
        MODE,
        lambda _: key_file(well).chmod(0o400),
        'the file of root key "main" can be used by other users',
    )


@case("error", PROBLEM, applies=os.getuid() == 0)
def key_of_another_user(well):
    owner = key_file(well).stat().st_uid
    os.chown(key_file(well), 65534, -1)
    yield (
        'root key "main"',
        "It has to belong to the user that runs the server, or to root.",
        lambda _: os.chown(key_file(well), owner, -1),
        'the file of root key "main" belongs to another user',
    )


@case("error", PROBLEM)
def key_in_the_data_directory(well):
    inside = well.cluster.data_dir / "main.key"
    key_file(well).rename(inside)
    key_file(well).symlink_to(inside)

    def carry_out(_):
        key_file(well).unlink()
        inside.rename(key_file(well))

    yield (
        'root key "main"',
        "Keep it elsewhere: base backups would carry it.",
        carry_out,
        'the file of root key "main" is in the data directory or a tablespace',
    )


@case("error", PROBLEM)
def key_of_another_database(well):
    right = key_file(well).read_text()
    write_file(key_file(well), right[::-1].strip(), 0o400)
    yield (
        'root key "main"',
        "Put the original root key back into the keyring.",
        lambda _: write_file(key_file(well), right, 0o400),
        'root key "main" is not the one that this database was set up with',
    )


@case("warning", PROBLEM)
def previous_key_gone(well):
    write_keyring(well.cluster.keys_dir, {"main": "current", "old": "previous"})
    (well.cluster.keys_dir / "old.key").unlink()
    yield (
        'root key "old"',
        KEEP,
        lambda _: write_keyring(well.cluster.keys_dir, {"main": "current", "old": "previous"}),
        'the file of root key "old" does not exist or cannot be reached',
    )
    (well.cluster.keys_dir / "old.key").unlink()
    write_keyring(well.cluster.keys_dir)


@case("error", PROBLEM, beside=["is a previous one, but wraps the keys of"])
def previous_key_gone_that_is_used(well):
    """Of a database's own root keys: the one of its accounts, while another is current."""
    write_keyring(well.cluster.keys_dir, {"main": "previous", "new": "current"})
    key_file(well).rename(well.cluster.dir / "away")

    def carry_out(_):
        (well.cluster.dir / "away").rename(key_file(well))
        write_keyring(well.cluster.keys_dir)

    yield (
        'root key "main"',
        KEEP,
        carry_out,
        'the file of root key "main" does not exist or cannot be reached',
    )
    (well.cluster.keys_dir / "new.key").unlink()


@case("notice", "is a previous one, but wraps the keys of N accounts")
def previous_key_in_use(well):
    write_keyring(well.cluster.keys_dir, {"main": "previous", "new": "current"})
    well.reload()
    well.execute("SELECT fieldcrypt.create_account('acme_2026')")

    def carry_out(_):
        for account in ("acme", "globex"):
            well.execute("SELECT fieldcrypt.disable_account(%s)", [account])

    yield (
        'root key "main"',
        "Keep it in the keyring, or move the values to new accounts and SELECT"
        " fieldcrypt.disable_account(...) the old ones.",
        carry_out,
    )
    well.execute("SELECT fieldcrypt.enable_account('acme')")
    well.execute("SELECT fieldcrypt.enable_account('globex')")
    well.execute("""
        DELETE FROM fieldcrypt.account_key WHERE account = 'acme_2026';
        DELETE FROM fieldcrypt.account WHERE account = 'acme_2026';
        DELETE FROM fieldcrypt.root_key WHERE name = 'new'""")
    (well.cluster.keys_dir / "new.key").unlink()
    write_keyring(well.cluster.keys_dir)
    well.reload()


@case("error", "wraps the keys of N accounts, and is not in the keyring")
def key_not_in_the_keyring(well):
    write_keyring(well.cluster.keys_dir, {"new": "current"})
    yield (
        'root key "main"',
        'Name it in the keyring file, with state = "previous", and reload.',
        lambda _: write_keyring(well.cluster.keys_dir, {"main": "current", "new": "previous"}),
    )
    (well.cluster.keys_dir / "new.key").unlink()
    write_keyring(well.cluster.keys_dir)


@case(
    "warning", "is recorded, but not in the keyring: no account can be created under another root key"
)
def recorded_key_not_in_the_keyring(well):
    well.execute("""
        INSERT INTO fieldcrypt.root_key (name, check_value)
        SELECT 'of ''old''', check_value FROM fieldcrypt.root_key""")
    yield (
        "root key \"of 'old'\"",
        "DELETE FROM fieldcrypt.root_key WHERE name = 'of ''old''';",
    )


@case(
    "warning",
    "comes from the environment, which other programs of the same user can read: for development",
)
def key_of_the_environment(well):
    key = key_file(well).read_text().strip()
    write_file(well.cluster.keyring, '[root.main]\nprovider = "env"\nvariable = "ROOT_KEY"\n')
    well.cluster.env = {"ROOT_KEY": key}
    well.restart()

    def carry_out(_):
        write_keyring(well.cluster.keys_dir)
        well.cluster.env = {}
        well.restart()

    yield (
        'root key "main"',
        'In the keyring file: provider = "file", and path = the name of a file of mode 0400 that'
        " holds the key.",
        carry_out,
    )


def in_a_shared_folder(subject, beside):
    @case(
        "warning",
        "is in a folder that another user can write to, and could be replaced",
        beside=[beside],
        id=f"shared_folder_of_{subject[:4]}",
    )
    def run(well):
        well.cluster.keys_dir.chmod(0o702)
        yield (
            subject,
            "chown root and chmod go-w each folder above the file.",
            lambda _: well.cluster.keys_dir.chmod(0o700),
        )


in_a_shared_folder("keyring", "is in a folder")
in_a_shared_folder('root key "main"', "is in a folder")


def old_root(severity, interval, finding):
    @case(severity, finding, beside=["is a previous one"], id=f"root_key_of_{interval.replace(' ', '_')}")
    def run(well):
        well.execute(f"UPDATE fieldcrypt.root_key SET created_at = now() - interval '{interval}'")

        def carry_out(_):
            write_keyring(well.cluster.keys_dir, {"main": "previous", "new": "current"})

        yield (
            'root key "main"',
            "Make a new key, name it in the keyring with state = \"current\", and this one with state"
            ' = "previous", and reload.',
            carry_out,
        )
        (well.cluster.keys_dir / "new.key").unlink()
        write_keyring(well.cluster.keys_dir)
        well.execute("UPDATE fieldcrypt.root_key SET created_at = now()")


YEAR, TWO_YEARS = "has been in use for more than a year", "has been in use for more than two years"
old_root("notice", "13 months", YEAR)
old_root("warning", "25 months", TWO_YEARS)


# Keys


def worn_key(severity, count, finding):
    @case(severity, finding, id=f"key_of_{count}_values")
    def run(well):
        well.execute("SELECT fieldcrypt.create_field('lead.token', suite => 'aes-256-gcm')")
        key = well.value(
            "SELECT key_id FROM fieldcrypt.account_key WHERE account = 'acme' AND purpose = 'data'"
        )
        well.execute(
            "INSERT INTO fieldcrypt.key_use (key_id, field_id, sealed)"
            " SELECT %s, field_id, %s / 4 FROM fieldcrypt.field, generate_series(1, 4)"
            " WHERE name = 'lead.token'",
            [key, count],
        )
        yield (
            f'key {key} of account "acme" in field lead.token',
            "SELECT fieldcrypt.alter_field('lead.token', suite => 'xaes-256-gcm');",
        )
        well.execute("SELECT fieldcrypt.drop_field('lead.token')")
        well.execute("DELETE FROM fieldcrypt.key_use")


worn_key("warning", 2**31, "has sealed more than 2^31 values, and stops at 2^32")
worn_key("error", 2**32, "has sealed 2^32 values, and seals no more")


def old_data_key(severity, interval, finding):
    @case(severity, finding, id=f"data_key_of_{interval.replace(' ', '_')}")
    def run(well):
        well.execute(
            f"UPDATE fieldcrypt.account_key SET created_at = now() - interval '{interval}'"
            " WHERE account = 'globex'"
        )
        yield (
            'data key of account "globex"',
            "Create another account, move the rows there, and then: SELECT"
            " fieldcrypt.disable_account('globex')",
            lambda _: well.execute("SELECT fieldcrypt.disable_account('globex')"),
        )


old_data_key("notice", "13 months", YEAR)
old_data_key("warning", "25 months", TWO_YEARS)


@case("notice", "has been disabled for more than a year")
def disabled_account(well):
    well.execute("SELECT fieldcrypt.disable_account('globex')")
    well.execute(
        "UPDATE fieldcrypt.account SET changed_at = now() - interval '13 months'"
        " WHERE account = 'globex'"
    )
    yield 'account "globex"', "SELECT fieldcrypt.enable_account('globex');"


@case("notice", "lets a session set up N keys, of which only N fit into locked memory")
def locked_memory(well):
    well.execute("SELECT fieldcrypt.create_account('a' || i) FROM generate_series(1, 100) AS i")
    well.restart_with_locked_memory(100_000)
    found = well.finding("setting fieldcrypt.key_cache_size")
    wanted, lockable = map(int, re.findall(r"\d+", found.finding))
    assert wanted == (102 * 2 + 1) * 2 and lockable in range(50, 200), found
    yield (
        "setting fieldcrypt.key_cache_size",
        f"ALTER SYSTEM SET fieldcrypt.key_cache_size = {lockable}; SELECT pg_reload_conf(); -- or"
        " raise ulimit -l",
    )
    well.system("fieldcrypt.key_cache_size", None)
    well.restart()


@case("notice", "lets a session set up N keys, of which only N fit into locked memory")
def no_locked_memory(well):
    well.restart_with_locked_memory(0)
    yield (
        "setting fieldcrypt.key_cache_size",
        "Raise the limit on locked memory (ulimit -l, LimitMEMLOCK of systemd).",
        lambda _: well.restart(),
    )


# Roles and grants

GRANT = "SELECT fieldcrypt.grant_access('{}', '{{{}}}', account => '{}', field => '{}')"


def revoke(role, privileges, account, field):
    return (
        f"SELECT fieldcrypt.revoke_access('{role}', '{{{privileges}}}', account => '{account}',"
        f" field => '{field}');"
    )


def grant(well, role, privileges, account="acme", field="lead.*"):
    # not by grant_access(): it refuses roles that the superuser is in
    well.execute(
        "INSERT INTO fieldcrypt.access_grant (role, account, field, privileges)"
        " VALUES (%s::regrole, %s, %s, %s)",
        [role, account, field, privileges.split(",")],
    )


@case("warning", "is a superuser, and may decrypt")
def superuser_with_decrypt(well):
    grant(well, "postgres", "decrypt")
    yield (
        "role postgres (grant to postgres of field lead.* of account acme)",
        revoke("postgres", "decrypt", "acme", "lead.*"),
    )


@case("warning", "is a superuser, and may decrypt")
def superuser_with_decrypt_by_a_group(well):
    well.role("boss", "SUPERUSER LOGIN")
    well.role("managers")
    well.role("readers")
    grant(well, "readers", "decrypt,mask", "*", "lead.ssn")
    well.execute("GRANT readers TO managers; GRANT managers TO boss")
    yield (
        "role boss (grant to readers of field lead.ssn of account *)",
        "REVOKE managers FROM boss;",
    )


@case("notice", "may decrypt every field of every account")
def decrypts_everything(well):
    well.role("reader", "LOGIN")
    grant(well, "reader", "search,decrypt", "*", "*")
    yield "role reader", revoke("reader", "decrypt", "*", "*")


@case("warning", "grants rights as a member of fieldcrypt_grantor, and may decrypt")
def grantor_who_decrypts(well):
    well.role('"Bob"', "LOGIN")
    well.role("team")
    well.execute('GRANT fieldcrypt_grantor TO team; GRANT team TO "Bob"')
    grant(well, '"Bob"', "decrypt")
    yield 'role "Bob"', 'REVOKE team FROM "Bob";'


@case("warning", "manages keys as a member of fieldcrypt_key_admin, and may decrypt")
def key_admin_who_decrypts(well):
    well.role("keeper", "LOGIN")
    well.role("team", "NOINHERIT")
    well.execute("GRANT fieldcrypt_key_admin TO keeper; GRANT app TO team; GRANT team TO keeper")
    yield "role keeper", "REVOKE fieldcrypt_key_admin FROM keeper;"


@case("notice", "is in several administrative roles: nobody oversees it")
def several_administrative_roles(well):
    well.role("admin", "LOGIN")
    well.execute("GRANT fieldcrypt_key_admin, fieldcrypt_grantor, fieldcrypt_auditor TO admin")
    yield (
        "role admin",
        "REVOKE fieldcrypt_grantor FROM admin; REVOKE fieldcrypt_auditor FROM admin;",
    )


@case("notice", "is in several administrative roles: nobody oversees it")
def roles_that_another_role_has_granted(well):
    """From 16 on a membership is revoked as the one who granted it."""
    well.role("chief", "LOGIN CREATEROLE")
    well.role("admin", "LOGIN")
    well.execute("GRANT fieldcrypt_admin TO chief WITH ADMIN OPTION")
    with well.connect("chief") as chief:
        chief.execute("GRANT fieldcrypt_admin TO admin")
    well.execute("GRANT fieldcrypt_key_admin TO admin")
    by = " GRANTED BY chief" if VERSION >= 16 else ""
    yield "role admin", f"REVOKE fieldcrypt_admin FROM admin{by};"


RESTORE = "puts in ciphertext as it is (fieldcrypt_restore), and "


@case("warning", RESTORE + "has rights on fields: it can read what it copies")
def restorer_with_rights(well):
    well.role("loader", "LOGIN REPLICATION")
    well.execute("GRANT fieldcrypt_restore TO loader")
    grant(well, "loader", "mask")
    yield "role loader", "REVOKE fieldcrypt_restore FROM loader;"


@case("notice", RESTORE + "is not for replication")
def restorer(well):
    well.role("loader", "LOGIN")
    well.role("replicator", "LOGIN REPLICATION")
    well.execute("GRANT fieldcrypt_restore TO loader, replicator")
    yield "role loader", "REVOKE fieldcrypt_restore FROM loader;"


@case("warning", "is to a role whose members are in it for something else")
def grant_to_a_role_of_postgresql(well):
    grant(well, "pg_monitor", "search,mask", "*", "lead.ssn")
    yield (
        "grant to pg_monitor of field lead.ssn of account *",
        revoke("pg_monitor", "search,mask", "*", "lead.ssn"),
    )


@case("warning", "is to a role whose members are in it for something else")
def grant_to_an_administrative_role(well):
    grant(well, "fieldcrypt_auditor", "mask")
    yield (
        "grant to fieldcrypt_auditor of field lead.* of account acme",
        revoke("fieldcrypt_auditor", "mask", "acme", "lead.*"),
    )


@case("notice", "is to a role that everyone who can log in is in")
def grant_to_everyone(well):
    well.role("everyone")
    members = well.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper")
    names = ", ".join(name for (name,) in members)
    well.execute(f"GRANT everyone TO {names}")
    grant(well, "everyone", "mask", "*", "*")
    yield "grant to everyone of field * of account *", revoke("everyone", "mask", "*", "*")


@case("notice", "is for an account that does not exist")
def grant_for_no_account(well):
    grant(well, "outsider", "mask", "acne", "lead.ssn")
    yield (
        "grant to outsider of field lead.ssn of account acne",
        revoke("outsider", "mask", "acne", "lead.ssn"),
    )


@case("notice", "is for a field that does not exist")
def grant_for_no_field(well):
    grant(well, "outsider", "mask", "acme", "leads.*")
    yield (
        "grant to outsider of field leads.* of account acme",
        revoke("outsider", "mask", "acme", "leads.*"),
    )


@case("notice", "is for a field that does not exist")
def grant_for_no_such_field(well):
    grant(well, "outsider", "mask", "acme", "lead.sn")
    yield (
        "grant to outsider of field lead.sn of account acme",
        revoke("outsider", "mask", "acme", "lead.sn"),
    )


@case("notice", "is for a role that does not exist")
def grant_for_no_role(well):
    well.role("gone")
    grant(well, "gone", "mask", "acme", "lead.ssn")
    oid = well.value("SELECT 'gone'::regrole::oid")
    well.execute("DROP ROLE gone")
    yield (
        f"grant to {oid} of field lead.ssn of account acme",
        f"DELETE FROM fieldcrypt.access_grant WHERE role = '{oid}'::regrole;",
    )


OWNER = "belongs to a role that also uses it: it can switch off what holds values to their account"


@case("notice", OWNER)
def owner_who_uses_the_table(well):
    well.execute("ALTER TABLE lead OWNER TO app")
    yield "table public.lead (owner app)", "ALTER TABLE public.lead OWNER TO postgres;"


@case("notice", OWNER)
def owner_whose_member_uses_the_table(well):
    well.role("owners")
    well.execute("ALTER TABLE lead OWNER TO owners; GRANT owners TO app")
    yield "table public.lead (owner owners)", "ALTER TABLE public.lead OWNER TO postgres;"


# Protection

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


@case(
    "error", "does not always run: sessions go on with rights and keys that were taken away"
)
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


LOST_CHECK = (
    "has no CHECK any more: what other triggers put into the document is not looked at"
)


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
        " \"fieldcrypt_D d\" CHECK (fieldcrypt.check_document('odd.d', \"D d\", \"Tenant\"::text,"
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


LOST_TRIGGER = "has the CHECK of a document, but no trigger that seals it: writing flagged values fails"


@case("error", LOST_TRIGGER, beside=["has flagged paths, but no column"])
def trigger_dropped(well):
    well.execute('DROP TRIGGER "000_fieldcrypt_data" ON lead')
    yield (
        "column data of public.lead",
        "SELECT fieldcrypt.add_document_trigger('public.lead',"
        " '{lead.data,data,account_id,\"\",\"\"}');",
    )
    with well.connect("app") as app:
        app.execute("INSERT INTO lead VALUES (92, 'acme', NULL, '{\"contact\": {\"email\": \"x\"}}')")
        assert "fc1:" in str(app.execute("SELECT data FROM lead WHERE id = 92").fetchone())


@case("error", LOST_TRIGGER)
def trigger_of_odd_names_dropped(well):
    odd_names(well)
    well.execute('DROP TRIGGER "000_fieldcrypt_D d" ON "Odd"')
    yield (
        'column "D d" of public."Odd"',
        "SELECT fieldcrypt.add_document_trigger('public.\"Odd\"',"
        " E'{odd.d,\"D d\",Tenant,\"a\\\\\"b\",\"\"}');",
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


@case(
    "warning", "inherits from a protected table, but its own rows are not held to their account"
)
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
        "SELECT fieldcrypt.unprotect_path('visit.data', E'{\"\\\\\"a.b\\\\\"\"}', account => 'acme',"
        " kind => 'web'); SELECT fieldcrypt.unprotect_path('visit.data', '{ip}', account => '*');",
    )


# Copies

KEEPS = "keeps what decrypt() or reveal() gave"
IMMUTABLE = (
    "decrypts, but is IMMUTABLE: plans and indexes keep plain values, also after the right was taken"
    " away"
)
PLAIN = "CREATE FUNCTION plain(v fieldcrypt.encrypted_text) RETURNS text IMMUTABLE "


def keeping(name, statement, subject, remedy, function="LANGUAGE sql RETURN fieldcrypt.reveal(v)"):
    @case("error", KEEPS, beside=["is IMMUTABLE"], id=f"copy_in_{name}")
    def run(well):
        well.execute(PLAIN + function)
        well.execute(statement)
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
    well.execute("CREATE STATISTICS \"Shown\" ON (fieldcrypt.reveal(ssn)), id FROM lead")
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


# Contents


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
        "CREATE TRIGGER zzz_fieldcrypt_hold_account BEFORE INSERT OR UPDATE ON public.contact FOR EACH"
        " ROW EXECUTE FUNCTION fieldcrypt.hold_account('tenant_id', 'refuse'); UPDATE public.contact"
        " SET ssn = ssn WHERE fieldcrypt.account_of(ssn) IS NULL; -- as the role that wrote them",
        carry_out,
        "1 of 2 rows looked at have values whose account was left open (*row*)",
    )
    with well.connect("app") as app:
        assert app.execute("SELECT fieldcrypt.decrypt(ssn) FROM contact").fetchall() == [(CANARY,)] * 2


@case("error", "N of N rows looked at have values whose account was left open (*row*)")
def open_values_in_a_protected_table(well):
    well.execute("ALTER TABLE event DISABLE TRIGGER zzz_fieldcrypt_hold_account")
    with well.connect("app", options="-c fieldcrypt.account=*row*") as app:
        app.execute("INSERT INTO event VALUES ('2026-03-01', 'acme', %s)", [CANARY])
    well.execute("ALTER TABLE event ENABLE TRIGGER zzz_fieldcrypt_hold_account")
    yield (
        "column ssn of public.event_2026",
        "UPDATE public.event_2026 SET ssn = ssn WHERE fieldcrypt.account_of(ssn) IS NULL; -- as the role"
        " that wrote them",
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
        UPDATE lead SET data = jsonb_set(data, '{contact,email}', to_jsonb('fc1:' || repeat('A', 100)))
        WHERE id = 1;
        RESET session_replication_role;
        ALTER TABLE lead ADD CONSTRAINT fieldcrypt_data CHECK (
            fieldcrypt.check_document('lead.data', data, account_id, NULL, false)) NOT VALID""")
    yield (
        "column data of public.lead",
        "Restore these rows, or the missing rows of fieldcrypt.account_key, from a dump.",
        lambda _: well.execute("UPDATE lead SET data = saved.data FROM saved WHERE saved.id = lead.id"),
    )


@case(
    "warning", "N of N rows looked at have plain values where another document has flagged paths"
)
def plain_copy_of_documents(well):
    well.execute(f"""
        CREATE TABLE import (account_id text, doc jsonb, other jsonb);
        INSERT INTO import VALUES ('acme', '{{"contact": {{"email": "{CANARY}"}}}}', '{{"email": 1}}');
        GRANT ALL ON import TO app""")

    def carry_out(remedy):
        protect, update = remedy.split("; ", 1)
        well.psql(protect)
        well.psql(update, user="app")

    yield (
        "column doc of public.import (document lead.data)",
        "SELECT fieldcrypt.protect_jsonb('public.import', 'doc', name => 'lead.data', account_column"
        " => 'account_id'); UPDATE public.import SET doc = doc;",
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


# Search


def searched(well, name, kind, options, values, grants="encrypt,search,decrypt"):
    """A protected table with a column of a new field, filled by the role `mover`."""
    well.execute(f"""
        SELECT fieldcrypt.create_field('{name}.v', {options});
        {GRANT.format("mover", grants, "acme", name + ".*")};
        CREATE TABLE {name} (
            id int, account_id text NOT NULL, v fieldcrypt.encrypted_{kind}('{name}.v'));
        SELECT fieldcrypt.protect_table('{name}', account_column => 'account_id');
        GRANT ALL ON {name} TO mover""")
    with well.connect("mover", options="-c fieldcrypt.account=acme") as mover:
        mover.execute(f"INSERT INTO {name} SELECT i, 'acme', {values} FROM generate_series(1, 2) AS i")


def moved(name, kind, suffix, options, dropped=""):
    """The statements that move the column to another field."""
    new = f"{name}.v{suffix}"
    return (
        f"SELECT fieldcrypt.create_field('{new}', {options}); {dropped}ALTER TABLE public.{name} ALTER"
        f" COLUMN v TYPE fieldcrypt.encrypted_{kind}('{new}') USING"
        f" fieldcrypt.encrypt(fieldcrypt.decrypt(v), '{new}', account_id::text);"
    )


UNSEARCHED = (
    "search => '{{}}', normalizer => 'none', mask => '{mask}', hidden => 'mask', padding => '{padding}',"
    " suite => 'xaes-256-gcm'"
)


@case("warning", "is a boolean that is searched: who knows one value knows all")
def searched_boolean(well):
    searched(well, "consent", "boolean", "search => '{exact}', small_domain => true", "i = 1")
    well.execute("CREATE INDEX ON consent USING hash (v)")
    yield (
        "column v of public.consent (field consent.v)",
        moved(
            "consent",
            "boolean",
            "_unsearched",
            UNSEARCHED.format(mask="none", padding="none"),
            "DROP INDEX public.consent_v_idx; ",
        ),
        lambda remedy: well.as_mover(remedy, "consent"),
    )
    with well.connect("mover") as mover:
        query = "SELECT fieldcrypt.decrypt(v) FROM consent ORDER BY id"
        assert mover.execute(query).fetchall() == [(True,), (False,)]


@case("notice", "has few possible values (small_domain), and is searched: tokens tell which rows are alike")
def searched_small_domain(well):
    options = "search => '{exact}', small_domain => true, mask => 'last4', padding => '32'"
    searched(well, "member", "text", options, "'m'")
    well.execute("ALTER TABLE member ADD UNIQUE (id, v)")
    yield (
        "column v of public.member (field member.v)",
        moved(
            "member",
            "text",
            "_unsearched",
            UNSEARCHED.format(mask="last4", padding="32"),
            "ALTER TABLE public.member DROP CONSTRAINT member_id_v_key; ",
        ),
        lambda remedy: well.as_mover(remedy, "member"),
    )


@case("notice", "has few different values, and is searched: tokens tell which rows are alike")
def searched_few_values(well):
    searched(well, "person", "text", "search => '{exact}'", "'m'")
    few_values(well)
    yield (
        "column v of public.person (field person.v)",
        moved(
            "person",
            "text",
            "_unsearched",
            UNSEARCHED.format(mask="none", padding="none"),
            "DROP INDEX public.person_v_idx; ",
        ),
        lambda remedy: well.as_mover(remedy, "person"),
    )


def few_values(well):
    with well.connect("mover", options="-c fieldcrypt.account=acme") as mover:
        mover.execute(
            "INSERT INTO person SELECT i, 'acme', (ARRAY['m', 'f', 'x'])[i % 3 + 1]"
            " FROM generate_series(1, 1500) AS i"
        )
    well.execute("CREATE INDEX ON person USING hash (v); ANALYZE person")


@case(
    "warning",
    "has few different values: search amounts to decrypt",
    beside=["has few different values, and is searched"],
)
def search_that_amounts_to_decrypt(well):
    searched(well, "person", "text", "search => '{exact}'", "'m'")
    few_values(well)
    well.role("analyst", "LOGIN")
    grant(well, "analyst", "search,mask", "*", "person.*")
    yield (
        "grant to analyst of field person.* of account *, column v of public.person (field person.v)",
        revoke("analyst", "search", "*", "person.*"),
    )


@case("notice", "has tokens across accounts (scope): they tell which accounts have the same value")
def tokens_across_accounts(well):
    options = "search => '{exact}', scope => 'database', normalizer => 'email'"
    searched(well, "login", "text", options, "'x@example.com'")
    yield (
        "column v of public.login (field login.v)",
        moved(
            "login",
            "text",
            "_of_account",
            "search => '{exact}', normalizer => 'email', mask => 'none', hidden => 'mask', padding =>"
            " 'none', suite => 'xaes-256-gcm'",
        ),
        lambda remedy: well.as_mover(remedy, "login"),
    )


@case("notice", "is searched, but has no index: each search reads all rows")
def search_without_an_index(well):
    searched(well, "person", "text", "search => '{exact}'", "i::text")
    with well.connect("mover", options="-c fieldcrypt.account=acme") as mover:
        mover.execute(
            "INSERT INTO person SELECT i, 'acme', i::text FROM generate_series(3, 10000) AS i"
        )
    well.execute("CREATE INDEX ON person (id, v); ANALYZE person")
    yield (
        "column v of public.person (field person.v)",
        "CREATE INDEX ON public.person USING hash (v);",
    )


@case("notice", "has searched paths, but no index on tokens: each search reads all rows")
def document_without_an_index(well):
    well.execute("""
        CREATE TABLE visit (id int, account_id text, data jsonb);
        SELECT fieldcrypt.protect_jsonb('visit', 'data', name => 'visit.data',
            account_column => 'account_id');
        SELECT fieldcrypt.protect_path('visit.data', '{email}', field => 'lead.email');
        INSERT INTO visit SELECT i, 'acme', '{}' FROM generate_series(1, 10000) AS i;
        ANALYZE visit""")
    yield (
        "column data of public.visit",
        "CREATE INDEX ON public.visit USING gin (fieldcrypt.tokens(data));",
    )
    well.execute("DROP TABLE visit; SELECT fieldcrypt.unprotect_path('visit.data', '{email}')")


def long_values(well, search):
    searched(well, "person", "text", f"search => '{{{search}}}'", "repeat(i::text, 1000)")


LONG = "is a btree over long values (N bytes on average): those over 2,600 bytes are refused"


@case("warning", LONG)
def btree_over_long_values(well):
    long_values(well, "exact")
    well.execute("CREATE INDEX long ON person (v); ANALYZE person")
    yield (
        "index public.long",
        "CREATE INDEX ON public.person USING hash (v); DROP INDEX public.long;",
    )


@case("warning", LONG)
def unique_constraint_over_long_values(well):
    long_values(well, "unique")
    well.execute("ALTER TABLE person ADD CONSTRAINT long UNIQUE (v); ANALYZE person")
    yield (
        "index public.long",
        "CREATE UNIQUE INDEX ON public.person (fieldcrypt.token(v)); ALTER TABLE public.person DROP"
        " CONSTRAINT long;",
    )
