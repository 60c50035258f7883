"""A server that keeps all it can, and the places on it where plain values could surface."""

import re
import shutil
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import Cluster, account_database
from loud import LOUD, files, has_library, wait_for_log

PLACES = [
    "server log",
    "CSV and JSON log",
    "pg_stat_statements",
    "pg_stat_activity",
    "pg_statistic",
    "heap",
    "TOAST",
    "indexes",
    "dropped columns",
    "WAL",
    "archived WAL",
    "pgsql_tmp",
    "base backup",
    "pg_dump",
    "logical stream",
    "core dump",
]
# Not every build has the extension.
COUNTS_STATEMENTS = has_library("pg_stat_statements")
DECODES_AS_TEXT = has_library("test_decoding")

SETTINGS = {
    **LOUD,
    "archive_mode": "on",
    "wal_keep_size": "1GB",
    "wal_recycle": "off",
    "shared_buffers": "4MB",
    "autovacuum": "off",
    "autovacuum_naptime": 1,
    "wal_retrieve_retry_interval": "100ms",
    # the statistics of many values, uncompressed: a compressed text is not found
    "allow_system_table_mods": "on",
}
if COUNTS_STATEMENTS:
    SETTINGS |= {
        "shared_preload_libraries": f"pg_stat_statements, {LOUD['shared_preload_libraries']}",
        "pg_stat_statements.track": "all",
    }

MEASURED = [place for place in PLACES if place != "pg_stat_statements" or COUNTS_STATEMENTS]
# Nor this plugin.
if DECODES_AS_TEXT:
    PLUGIN, PLUGIN_OPTIONS = "test_decoding", ""
else:
    PLUGIN, PLUGIN_OPTIONS = "pgoutput", ", 'proto_version', '1', 'publication_names', 'everything'"

RELATIONS = """
    SELECT pg_relation_filenode(c.oid)::text, CASE
        WHEN coalesce(i.indrelid, t.oid, c.oid) IN (SELECT oid FROM pg_class
            WHERE relname ~ '^pg_statistic') THEN 'pg_statistic'
        WHEN c.relkind = 't' OR i.indrelid IN (SELECT oid FROM pg_class WHERE relkind = 't')
            THEN 'TOAST'
        WHEN c.relkind = 'i' THEN 'indexes'
        ELSE 'heap' END
    FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
        LEFT JOIN pg_class AS t ON t.reltoastrelid = c.oid
    WHERE pg_relation_filenode(c.oid) IS NOT NULL
"""


class Server:
    """The server, and its database, with the accounts and fields of `account_database`."""

    def __init__(self, database, archive):
        self.database = database
        self.cluster = database.cluster
        self.archive = archive
        self.temporary = self.cluster.dir / "temporary"
        database.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        if COUNTS_STATEMENTS:
            database.execute("CREATE EXTENSION pg_stat_statements")
        for number in range(1, 6):
            database.execute(
                f"ALTER TABLE pg_statistic ALTER stavalues{number} SET STORAGE EXTERNAL"
            )

    def places(self):
        """Each place but those of one session or of some tables, and the bytes that are there."""
        self.database.execute("CHECKPOINT")
        wait_for_log(self.database)
        on_disk = self._on_disk()
        logs = {file.name: file.read_bytes() for file in files(self.database)}
        places = {
            "server log": [log for name, log in logs.items() if not Path(name).suffix],
            "CSV and JSON log": [log for name, log in logs.items() if Path(name).suffix],
            "pg_statistic": [*on_disk["pg_statistic"], *self._statistics()],
            "heap": on_disk["heap"],
            "TOAST": on_disk["TOAST"],
            "indexes": on_disk["indexes"],
            "WAL": on_disk["WAL"],
            "archived WAL": self._archived(),
            "base backup": self._base_backup(),
            "pg_dump": [self.cluster.run("pg_dump", "-d", self.database.name).stdout.encode()],
            "logical stream": self._logical_stream(),
        }
        if COUNTS_STATEMENTS:
            places["pg_stat_statements"] = [
                *on_disk["pg_stat_statements"],
                *self._texts("SELECT query FROM pg_stat_statements"),
            ]
        return places

    def _statistics(self):
        for view in "pg_stats", "pg_stats_ext", "pg_stats_ext_exprs":
            yield from self._texts(f"SELECT v::text FROM {view} AS v")

    def _texts(self, query):
        return [text.encode() for (text,) in self.database.execute(query)]

    def _on_disk(self):
        """The files of the data directory, by place; what belongs to none of them is heap."""
        relations = dict(self.database.execute(RELATIONS).fetchall())
        oid = self.database.value(
            "SELECT oid::text FROM pg_database WHERE datname = current_database()"
        )
        found = defaultdict(list)
        for path in self.cluster.data_dir.rglob("*"):
            if not path.is_file():
                continue
            match path.relative_to(self.cluster.data_dir).parts:
                case ["base", database, name] if database == oid:
                    place = relations.get(re.match(r"\w*?(?=[._]|$)", name)[0], "heap")
                case ["base", "pgsql_tmp", *_]:
                    place = "pgsql_tmp"
                case ["pg_wal", *_]:
                    place = "WAL"
                case ["pg_stat" | "pg_stat_tmp", *_]:
                    place = "pg_stat_statements"
                case ["loud", *_]:
                    place = "log"
                case _:
                    place = "heap"
            with suppress(FileNotFoundError):
                found[place].append(path.read_bytes())
        return found

    def relation_files(self, *tables):
        """The files of tables, with their TOAST and indexes."""
        self.database.execute("CHECKPOINT")
        rows = self.database.execute(
            """
            SELECT pg_relation_filepath(c.oid) FROM pg_class AS t JOIN pg_class AS c
                ON c.oid IN (t.oid, t.reltoastrelid)
                OR c.oid IN (SELECT indexrelid FROM pg_index
                             WHERE indrelid IN (t.oid, t.reltoastrelid))
            WHERE t.oid = ANY (%s::regclass[])
            """,
            [list(tables)],
        )
        return [(self.cluster.data_dir / path).read_bytes() for (path,) in rows]

    def _archived(self):
        self.switch_wal()
        return [path.read_bytes() for path in self.archive.iterdir()]

    def switch_wal(self):
        """Has the WAL segment archived, and returns the name of the next one."""
        name = self.database.value("SELECT pg_walfile_name(pg_switch_wal())")
        self.wait_for(f"SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver")
        # of a position between two segments PostgreSQL gives the name of the first
        self.database.execute("SELECT txid_current()")
        return self.database.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")

    def _base_backup(self):
        folder = self.cluster.dir / "backup"
        self.cluster.run(
            *("pg_basebackup", "-D", folder, "-X", "none"),
            *("--checkpoint=fast", "--no-sync", "--no-manifest"),
        )
        try:
            # the log has its own place
            return [
                path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file() and path.parent.name != "loud"
            ]
        finally:
            shutil.rmtree(folder)

    def create_slot(self):
        self.database.execute("SELECT pg_create_logical_replication_slot('watched', %s)", [PLUGIN])

    def drop_slot(self):
        self.database.execute("SELECT pg_drop_replication_slot('watched')")

    def _logical_stream(self):
        rows = self.database.conn.cursor(binary=True).execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('watched', NULL, NULL"
            f"{PLUGIN_OPTIONS})"
        )
        return [data for (data,) in rows]

    def clean(self, *tables):
        """What docs/limitations.md advises where plain values have been encrypted."""
        execute = self.database.execute
        # the slot keeps what it could still have to decode, old rows of pg_statistic too
        self.drop_slot()
        execute("ALTER SYSTEM SET wal_keep_size = 0")
        execute("SELECT pg_reload_conf()")
        for table in tables:
            execute(f"SELECT fieldcrypt.note_remnants('{table}')")
        execute("CALL fieldcrypt.clean_remnants()")
        left = {severity for (severity,) in execute("SELECT severity FROM fieldcrypt.remnants()")}
        assert left == {"notice"}
        oldest_kept = self.switch_wal()
        self.cluster.run("pg_archivecleanup", self.archive, oldest_kept)
        execute("ALTER SYSTEM RESET wal_keep_size")
        execute("SELECT pg_reload_conf()")
        self.create_slot()

    def autoanalyze(self, *tables):
        self.database.execute("ALTER SYSTEM SET autovacuum = on")
        self.database.execute("SELECT pg_reload_conf()")
        for table in tables:
            self.wait_for(
                "SELECT n_mod_since_analyze = 0 AND last_autoanalyze IS NOT NULL"
                f" FROM pg_stat_user_tables WHERE relname = '{table}'"
            )

    # While or just after a session writes

    def activity(self):
        return self._texts("SELECT query FROM pg_stat_activity WHERE query IS NOT NULL")

    def temporary_files(self):
        """What `keep_temporary_files` has kept, which is then forgotten."""
        kept = [path.read_bytes() for path in self.temporary.rglob("*") if path.is_file()]
        shutil.rmtree(self.temporary, ignore_errors=True)
        return kept

    def has_logged(self, text):
        wait_for_log(self.database)
        return any(text.encode() in file.read_bytes() for file in files(self.database))

    def temporary_files_now(self):
        return self._on_disk()["pgsql_tmp"]

    def wait_for(self, query, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.database.value(query):
            assert time.monotonic() < deadline, f"never true: {query}"
            time.sleep(0.02)


@contextmanager
def watched_server():
    cluster = Cluster(SETTINGS, initdb_args=["--wal-segsize=1"])
    archive = cluster.dir / "archive"
    cluster.settings["archive_command"] = f"mkdir -p {archive} && cp %p {archive}/%f"
    with cluster, account_database(cluster) as database:
        yield Server(database, archive)


def core_dump(pid):
    """What a core dump of a process holds, as Linux makes it by default (core(5)).

    That is its writable memory, shared memory included, without what has been left out by
    madvise(MADV_DONTDUMP).
    """
    return [data for data, is_left_out in memory(pid) if not is_left_out]


def memory(pid):
    """The writable memory of a process, and whether each part is left out of core dumps."""
    maps = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text())
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for description in maps[1:]:
            start, end, protection = re.match(r"(\w+)-(\w+) (\S+)", description).groups()
            if not protection.startswith("rw"):
                continue
            flags = re.search(r"^VmFlags: (.*)$", description, re.MULTILINE)[1].split()
            file.seek(int(start, 16))
            yield file.read(int(end, 16) - int(start, 16)), "dd" in flags
