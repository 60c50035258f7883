"""A server that logs as much as PostgreSQL can be told to, and the reading of its log."""

import secrets
import subprocess
import time
from pathlib import Path

from harness import VERSION, bin_dir

LIBRARIES = Path(
    subprocess.check_output([bin_dir() / "pg_config", "--pkglibdir"], text=True).strip()
)


def has_library(name):
    """Whether this build of PostgreSQL brings a library: 15 brings all of them."""
    found = (LIBRARIES / f"{name}.so").exists()
    assert found or VERSION != 15
    return found


EXPLAINS = has_library("auto_explain")

LOUD = {
    "log_destination": "stderr,csvlog,jsonlog",
    "logging_collector": "on",
    "log_directory": "loud",
    "log_filename": "server",
    "log_min_messages": "debug1",
    "log_statement": "all",
    "log_min_duration_statement": 0,
    "log_min_error_statement": "debug1",
    "log_error_verbosity": "verbose",
    "log_parameter_max_length": -1,
    "log_parameter_max_length_on_error": -1,
    "log_temp_files": 0,
    "log_lock_waits": "on",
}
EXPLAINING = {
    "shared_preload_libraries": "fieldcrypt, auto_explain",
    "auto_explain.log_min_duration": 0,
    "auto_explain.log_analyze": "on",
    "auto_explain.log_verbose": "on",
    "auto_explain.log_nested_statements": "on",
}
if EXPLAINS:
    LOUD |= EXPLAINING


def files(database):
    return sorted((database.cluster.data_dir / "loud").iterdir())


def sizes(database):
    return {file: file.stat().st_size for file in files(database)}


def log_of(database, since=()):
    """What the log's files hold, or what was added since `sizes`."""
    since = dict(since)
    wait_for_log(database)
    logged = [file.read_bytes()[since.get(file, 0) :] for file in files(database)]
    return b"\n".join(logged).decode(errors="replace")


def wait_for_log(database):
    """Other processes write the files: each is complete once it has a statement sent last."""
    marker = f"marker_{secrets.token_hex(8)}"
    database.execute(f"SELECT 1 AS {marker}")
    deadline = time.monotonic() + 60
    while not all(marker.encode() in file.read_bytes() for file in files(database)):
        assert time.monotonic() < deadline, f"{marker} did not reach every file"
        time.sleep(0.01)
