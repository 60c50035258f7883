"""The recipe of docs/migration.md for pg_cron, in both ways in which pg_cron runs its tasks."""

import re
import time
from contextlib import ExitStack
from pathlib import Path

from harness import Cluster, account_database

DOCUMENTATION = Path(__file__, "../../../docs/migration.md").resolve()
# pg_cron's tasks begin at the full minute.
LONGEST = 100

SCHEMA = """
    CREATE ROLE crm_owner;
    CREATE ROLE crm_mover LOGIN IN ROLE crm_owner, fieldcrypt_admin;
    CREATE ROLE crm_key_admin LOGIN IN ROLE fieldcrypt_key_admin;
    GRANT CREATE ON SCHEMA public TO crm_owner;
    SELECT fieldcrypt.create_field('customer.phone', search => '{exact}');
    SELECT fieldcrypt.grant_access('crm_owner', '{encrypt}', 'acme', 'customer.*');
    SET ROLE crm_owner;
    CREATE TABLE customer (phone fieldcrypt.encrypted_text('customer.phone'));
    SET fieldcrypt.account = 'acme';
    INSERT INTO customer SELECT i::text FROM generate_series(1, 20000) AS i;
    RESET ROLE;
    SELECT fieldcrypt.rotate_account_key('acme');
    SELECT fieldcrypt.set_rotation('globex', rotate_after => '1 second');
"""
OLDER = "SELECT count(*) FROM customer WHERE fieldcrypt.needs_reencryption(phone)"
VERSION_OF_GLOBEX = """
    SELECT max(version) FROM fieldcrypt.keys WHERE account = 'globex' AND purpose = 'data'
"""
RUNS = """
    SELECT count(*) FROM cron.job_run_details
    WHERE database = current_database() AND status = 'succeeded'
"""


def recipe():
    """Its statements, with every minute for their time."""
    (statements,) = re.findall(
        r"```\n(CREATE EXTENSION pg_cron;.*?)```", DOCUMENTATION.read_text(), re.S
    )
    changed, number = re.subn(r"', '[0-9* ]+', ", "', '* * * * *', ", statements)
    assert number == 2
    return changed


def scheduled(stack, use_background_workers):
    """A database in which pg_cron has the tasks, on a server of its own."""
    cluster = stack.enter_context(Cluster())
    database = stack.enter_context(account_database(cluster))
    database.execute(SCHEMA)
    database.conn.close()
    cluster.stop()
    cluster.settings |= {
        "shared_preload_libraries": "fieldcrypt, pg_cron",
        "cron.database_name": database.name,
        "cron.use_background_workers": use_background_workers,
        "cron.host": cluster.dir,
        "max_worker_processes": 16,
    }
    cluster.start()
    database.conn = database.connect()
    assert database.value(OLDER) == 20000
    database.execute(recipe())
    return database


def test_jobs_and_rotations_on_a_schedule():
    with ExitStack() as stack:
        databases = [scheduled(stack, setting) for setting in ("on", "off")]
        deadline = time.monotonic() + LONGEST
        for database in databases:
            while database.value(RUNS) < 2:
                assert time.monotonic() < deadline, database.cluster.log()[-4000:]
                time.sleep(0.5)
            assert database.value(OLDER) == 0
            assert database.value(VERSION_OF_GLOBEX) > 1
            states = database.execute("SELECT state, rows_changed FROM fieldcrypt.progress")
            assert states.fetchall() == [("done", 20000)]
            database.execute("SELECT cron.unschedule(jobid) FROM cron.job")
