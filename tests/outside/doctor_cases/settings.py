"""Settings of the server, of roles and of databases."""

import re
import subprocess
from pathlib import Path

from harness import VERSION, bin_dir, write_file

from .case import case

LIBRARIES = Path(
    subprocess.check_output([bin_dir() / "pg_config", "--pkglibdir"], text=True).strip()
)
HAS_SSL = b"--with-openssl" in subprocess.check_output([bin_dir() / "pg_config", "--configure"])
HAS_STATEMENTS = (LIBRARIES / "pg_stat_statements.so").exists()
HAS_EXPLAIN = (LIBRARIES / "auto_explain.so").exists()

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
    @case("error", REDACT, beside=[UNREDACTED], id=f"redact_log_of_{target}")
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
    "auto_explain.log_min_duration",
    "1s",
    "-1",
    "plans with their statements",
    HAS_EXPLAIN,
    EXPLAINING,
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
            lambda: well.cluster.run(
                "pg_checksums", action, "-D", well.cluster.data_dir, "--no-sync"
            )
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
        "ALTER SYSTEM SET fieldcrypt.account = ''; SELECT pg_reload_conf();",
    )
    well.system("fieldcrypt.account", None)


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
    well.settings["fieldcrypt.transparent"] = "on"
    well.restart()
    yield (
        "setting fieldcrypt.transparent",
        "ALTER SYSTEM SET fieldcrypt.transparent = off; SELECT pg_reload_conf();",
    )
    well.system("fieldcrypt.transparent", None)
    well.settings["fieldcrypt.transparent"] = None
    well.restart()
