"""Writes values in every way, and searches every place for them.

What is written into encrypted columns is written in the same way into plain ones: that it is found
there shows that the search works.
"""

from collections import defaultdict
from contextlib import contextmanager
from itertools import count

import psycopg
import pytest
from canaries import Canaries, forms
from harness import ROLES, Cluster, Database
from leak_places import PLACES, core_dump
from leak_ways import (
    AROUND_A_TABLE,
    INSERT_SSN,
    KEEP_TEMPORARY_FILES,
    KEEPING_TRIGGERS,
    LITERALS,
    MIGRATED,
    MIGRATIONS,
    PARAMETERS,
    READ,
    ROWS_BEFORE,
    TABLES,
    WAYS,
    Values,
    Writer,
    insert,
    read,
    update,
)
from secret_keys import secret_keys

ENCRYPTED, PLAIN = "encrypted", "plain"
# Of whom the log shows what PostgreSQL logs by itself.
CONTROL = """
    CREATE ROLE control LOGIN SUPERUSER;
    ALTER ROLE control SET fieldcrypt.redact_log = off;
"""
USERS = {ENCRYPTED: "app", PLAIN: "control"}
LEAD = {ENCRYPTED: "lead", PLAIN: "plain_lead"}

ACCOUNT = "acme"
# What is looked for like a key, and may be found: a wrapped one.
WRAPPED = "wrapped key"

MODES = {
    **{way: modes for way, (_, modes) in WAYS.items()},
    # no statement of theirs holds a value
    "logical apply": [PARAMETERS],
    "migration": [PARAMETERS],
    # of what was written with parameters
    "reading": [PARAMETERS, LITERALS],
}


class Matrix:
    """What was written, and what was found of it."""

    def __init__(self, server):
        self.server = server
        self.canaries = Canaries()
        self.ids = count(1)
        # (kind of columns, way, mode) → canaries
        self.written = defaultdict(set)
        # canary → column
        self.columns = {}
        # place → canaries
        self.found = defaultdict(set)
        self.found_after_cleaning = defaultdict(set)
        # place → names of keys, each in whatever form
        self.keys_found = defaultdict(set)

    def is_found(self, kind, way, mode, place):
        return bool(self.written[kind, way, mode] & self.found[place])

    def run(self):
        self._create_tables()
        with self._publisher() as publisher:
            self._keep_temporary_files(LEAD.values())
            self._migrate_and_clean()
            for kind in ENCRYPTED, PLAIN:
                for way, (_, modes) in WAYS.items():
                    for mode in modes:
                        self._write(kind, way, mode)
                self._apply(kind, publisher)
            for kind in ENCRYPTED, PLAIN:
                for mode in MODES["reading"]:
                    self._read(kind, mode)
            self.server.autoanalyze(*LEAD.values())
            self._look_for_keys(self._look_everywhere(self.found))
            self._drop_columns()

    # Tables

    def _create_tables(self):
        database = self.server.database
        database.execute(CONTROL)
        database.execute(TABLES)
        for table in LEAD.values():
            database.execute(AROUND_A_TABLE.format(table))
        database.execute(KEEP_TEMPORARY_FILES.format(self.server.temporary))

    @contextmanager
    def _publisher(self):
        """A server with the same keys and the same tables, still empty, that publishes them."""
        source = self.server.database
        with Cluster({"fieldcrypt.keyring_file": str(source.cluster.keyring)}) as cluster:
            cluster.create_roles(*ROLES)
            publisher = Database(cluster)
            publisher.execute(CONTROL)
            publisher.psql(source.cluster.run("pg_dump", "-d", source.name).stdout)
            for table in LEAD.values():
                publisher.execute(f"CREATE PUBLICATION of_{table} FOR TABLE {table}")
            yield publisher

    def _keep_temporary_files(self, tables):
        for table in tables:
            self.server.database.execute(KEEPING_TRIGGERS.format(table))

    # Ways

    def _new_values(self, kind, way, mode):
        values = Values.new(self.canaries)
        self.written[kind, way, mode] |= values.canaries
        self.columns |= values.columns
        return values

    @contextmanager
    def _session(self, kind, database=None):
        options = f"-c fieldcrypt.account={ACCOUNT} -c work_mem=64kB"
        database = database or self.server.database
        with database.connect(USERS[kind], options=options, prepare_threshold=None) as session:
            yield session

    def _write(self, kind, way, mode):
        write, _ = WAYS[way]
        values = self._new_values(kind, way, mode)
        first, second = next(self.ids), next(self.ids)
        for number in (first, second)[: ROWS_BEFORE.get(way, 0)]:
            self._insert_row(LEAD[kind], number)
        with self._session(kind) as session:
            writer = Writer(session, LEAD[kind], mode == LITERALS)
            self.server.temporary_files()
            write(writer, values.row(first))
            self._look_at_temporary_files(values)
            with pytest.raises(psycopg.errors.UniqueViolation):
                write(writer, values.row(second))
            self._look_at_session(session.info.backend_pid, values)
        self._assert_written(kind, LEAD[kind], first, values)

    def _insert_row(self, table, number):
        self.server.database.execute(f"INSERT INTO {table} (id) VALUES (%s)", [number])

    def _apply(self, kind, publisher):
        """A row that comes with the first copy of a table, and one that comes with a change."""
        table, server, database = LEAD[kind], self.server, self.server.database
        copied, changed = next(self.ids), next(self.ids)
        rows = {
            number: self._new_values(kind, "logical apply", PARAMETERS)
            for number in (copied, changed)
        }
        with self._session(kind, publisher) as session:
            writer = Writer(session, table, literals=False)
            insert(writer, rows[copied].row(copied))
            # the copy fails at first: the value is there already
            taken = rows[copied].row(next(self.ids))
            with self._session(kind) as here:
                Writer(here, table, literals=False).execute(INSERT_SSN, taken)
            with self._subscription(kind, publisher) as name:
                server.wait_for(
                    "SELECT sync_error_count > 0 FROM pg_stat_subscription_stats"
                    f" WHERE subname = '{name}'"
                )
                database.execute(f"DELETE FROM {table} WHERE id = {taken['id']}")
                server.wait_for(
                    "SELECT srsubstate = 'r' FROM pg_subscription_rel"
                    f" JOIN pg_subscription AS s ON s.oid = srsubid WHERE subname = '{name}'"
                )
                session.execute(f"INSERT INTO {table} (id) VALUES ({changed})")
                update(writer, rows[changed].row(changed))
                server.wait_for(f"SELECT count(note) = 1 FROM {table} WHERE id = {changed}")
                worker = database.value(
                    "SELECT pid FROM pg_stat_subscription"
                    f" WHERE subname = '{name}' AND relid IS NULL"
                )
                # no trigger runs that could keep its temporary files: there are none
                assert server.has_logged("pgsql_tmp/pgsql_tmp")
                assert not server.has_logged(f"pgsql_tmp/pgsql_tmp{worker}.")
                for number, values in rows.items():
                    self._look_at_session(worker, values)
                    self._assert_written(kind, table, number, values)

    @contextmanager
    def _subscription(self, kind, publisher):
        name = f"of_{LEAD[kind]}"
        owner = "postgres" if kind == ENCRYPTED else "control"
        with self.server.database.connect(owner) as connection:
            connection.execute(
                f"CREATE SUBSCRIPTION {name} CONNECTION 'host={publisher.cluster.dir}"
                f" user=postgres dbname={publisher.name}' PUBLICATION {name}"
            )
            try:
                yield name
            finally:
                connection.execute(f"DROP SUBSCRIPTION {name}")

    def _migrate_and_clean(self):
        """Tables of plain columns: what is found afterwards is left of the time before."""
        server = self.server
        server.database.execute(MIGRATED)
        rows = {kind: self._new_values(kind, "migration", PARAMETERS) for kind in MIGRATIONS}
        for kind, values in rows.items():
            with self._session(kind) as session:
                table = MIGRATIONS[kind].table
                insert(Writer(session, table, literals=False), values.row(1))
                session.execute(f"ANALYZE {table}")
        tables = [migration.table for migration in MIGRATIONS.values()]
        self._keep_temporary_files(tables)
        server.create_slot()
        for kind, values in rows.items():
            self._migrate(kind, values)
        self._look_everywhere(self.found)
        self._look("dropped columns", server.relation_files(*tables), self.found)
        # what the archive had is purged
        archived = self.found.pop("archived WAL")
        assert all(values.canaries & archived for values in rows.values())
        server.clean(*tables)
        self._look_everywhere(self.found_after_cleaning)
        self._look("dropped columns", server.relation_files(*tables), self.found_after_cleaning)

    def _migrate(self, kind, values):
        migration, execute = MIGRATIONS[kind], self.server.database.execute
        with self._session(kind) as session:
            # a value of the same digits in another row: what makes it unique fails
            duplicate = values.row(2) | {"ssn": values.ssn.upper()}
            Writer(session, migration.table, literals=False).execute(INSERT_SSN, duplicate)
            with pytest.raises(psycopg.errors.UniqueViolation):
                session.execute(migration.fails)
            execute(f"DELETE FROM {migration.table} WHERE id = 2")
            self.server.temporary_files()
            for statement in migration.of_columns:
                session.execute(statement)
            if migration.protects:
                execute(migration.protects)
            session.execute(f"UPDATE {migration.table} SET data = data")
            self._look_at_temporary_files(values)
            self._look_at_session(session.info.backend_pid, values)
        self._assert_written(kind, migration.table, 1, values)

    def _read(self, kind, mode):
        values = self._new_values(kind, "reading", mode)
        number = next(self.ids)
        with self._session(kind) as session:
            insert(Writer(session, LEAD[kind], literals=False), values.row(number))
        with self._session(kind) as session:
            reader = Writer(session, LEAD[kind], mode == LITERALS)
            for _ in read(reader, READ[kind], values.row(number)):
                files = self.server.temporary_files_now()
                self._look("pgsql_tmp", files, self.found, values.canaries)
            self._look_at_session(session.info.backend_pid, values)

    def _assert_written(self, kind, table, number, values):
        with self._session(kind) as session:
            row = session.execute(
                f"SELECT {READ[kind]} FROM {table} WHERE id = %s", [number]
            ).fetchone()
        assert row == (values.ssn, values.data, values.note)

    # Places

    def _look(self, place, chunks, found, canaries=None):
        """Adds what is found in a place; only of these canaries, if any are given."""
        assert place in PLACES
        there = self.canaries.found(b"\n".join(chunks))
        found[place] |= there if canaries is None else there & canaries

    def _look_at_temporary_files(self, values):
        self._look("pgsql_tmp", self.server.temporary_files(), self.found, values.canaries)

    def _look_at_session(self, pid, values):
        self._look("pg_stat_activity", self.server.activity(), self.found, values.canaries)
        self._look("core dump", core_dump(pid), self.found, values.canaries)

    def _look_everywhere(self, found):
        places = self.server.places()
        for place, chunks in places.items():
            self._look(place, chunks, found)
        return places

    def _look_for_keys(self, places):
        database = self.server.database
        keys = secret_keys(database, ACCOUNT)
        keys[WRAPPED] = database.value("SELECT wrapped FROM fieldcrypt.account_key LIMIT 1")
        for place, chunks in places.items():
            data = b"\n".join(chunks)
            self.keys_found[place] = {
                name for name, key in keys.items() if any(form in data for form in set(forms(key)))
            }

    def _drop_columns(self):
        for table in LEAD.values():
            self.server.database.execute(
                f"ALTER TABLE {table} DROP ssn CASCADE, DROP data CASCADE, DROP note CASCADE"
            )
        self._look("dropped columns", self.server.relation_files(*LEAD.values()), self.found)
