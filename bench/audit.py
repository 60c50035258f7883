"""What the audit costs: a scan, and look-ups of many clients at once.

Look-ups are counted by pgbench, for some seconds each, in turns. The scan is measured as elsewhere,
by the CPU time of its backend.
"""

import os
import re
import tempfile
import time
from pathlib import Path

CLIENTS = 16
# Many group commits, and long beside the first statement of each client.
SECONDS = 4

TABLES = """
    CREATE TABLE audited (id bigint PRIMARY KEY, v fieldcrypt.encrypted_text('ssn'));
    CREATE TABLE written (id bigint, at timestamptz DEFAULT now());
    GRANT ALL ON audited, written TO bench_app;
    ALTER ROLE bench_app LOGIN;
"""
LOOK_UP = r"""
\set id random(1, :rows)
SELECT id, fieldcrypt.decrypt(v) FROM audited WHERE id = :id;
"""
INSERT = "INSERT INTO written (id) VALUES (:id);\n"


def set_mode(database, backends, mode):
    """Sets the audit's mode and waits until these sessions have it."""
    database.execute(f"ALTER SYSTEM SET fieldcrypt.audit = {mode}")
    database.execute("SELECT pg_reload_conf()")
    for connection in (database.conn, *backends):
        while connection.execute("SHOW fieldcrypt.audit").fetchone() != (mode,):
            time.sleep(0.01)
    time.sleep(0.2)


def flush_time(cluster):
    """How long it takes to write 8 kB and wait for the disk, in nanoseconds."""
    told = cluster.run("pg_test_fsync", "-s", "1", "-f", cluster.data_dir / "flushed").stdout
    microseconds = re.search(r"fdatasync\s.*?(\d+) usecs/op", told).group(1)
    return int(microseconds) * 1000


def look_ups_per_second(database, script, rows):
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        Path(file.name).chmod(0o644)
        told = database.cluster.run(
            "pgbench",
            *("-n", "-M", "prepared", "-c", CLIENTS, "-j", 2, "-T", SECONDS),
            *("-D", f"rows={rows}", "-f", file.name, "-U", "bench_app", database.name),
            env={"PGOPTIONS": "-c fieldcrypt.account=acme"},
        ).stdout
    return float(re.search(r"tps = ([0-9.]+)", told).group(1))


def measure(database, backend, results, scale, make):
    """Everything, in `rounds` rounds; `make` makes a measure of a name, a statement and rows."""
    rows = scale.read_rows
    database.execute(TABLES)
    backend.execute(
        "INSERT INTO audited SELECT i, lpad(i::text, 11, '0')"
        f" FROM generate_series(1::bigint, {rows}) i"
    )
    database.execute("VACUUM (FREEZE, ANALYZE) audited")
    # what was measured before is on disk, and not written meanwhile
    database.execute("CHECKPOINT")
    os.sync()

    def scan(mode):
        def switch():
            set_mode(database, [backend.connection], mode)

        statement = "SELECT count(fieldcrypt.decrypt(v)) FROM audited"
        return make(f"scan, audit {mode}", statement, rows, before=switch)

    scans = [scan(mode) for mode in ("off", "on", "strict")]
    results.run("audit scan", backend, scans, scale.rounds)

    ways = {
        "look-up, audit off": ("off", LOOK_UP),
        "look-up, audit on": ("on", LOOK_UP),
        "look-up, audit strict": ("strict", LOOK_UP),
        "look-up, audit off, then INSERT and COMMIT": ("off", LOOK_UP + INSERT),
    }
    for number in range(scale.rounds):
        turns = list(ways.items())
        for name, (mode, script) in turns if number % 2 else reversed(turns):
            set_mode(database, [], mode)
            per_second = look_ups_per_second(database, script, rows)
            if number:
                results.add("audit", name, 1e9 / per_second)
        database.execute("TRUNCATE written")
    results.add("audit", "write and flush of 8 kB", flush_time(database.cluster))
    set_mode(database, [], "on")
    database.execute("SELECT fieldcrypt.flush_audit()")
    assert database.execute("SELECT ok FROM fieldcrypt.verify_audit()").fetchall() == [(True,)]
