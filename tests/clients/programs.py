"""How the clients' programs are built and started."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ["FIELDCRYPT_CACHE"])
JARS = "/usr/share/java/postgresql.jar:/usr/share/java/gson.jar"


def command(client):
    match client:
        case "psycopg" | "asyncpg" | "sqlalchemy" | "django":
            return [sys.executable, HERE / "python" / f"{client}_client.py"]
        case "node_postgres" | "drizzle":
            return ["node", HERE / "node" / f"{client}.mjs"]
        case "tokio_postgres" | "sqlx":
            return [rust_programs() / client]
        case "pgjdbc":
            return ["java", "-cp", JARS, HERE / "java" / "Pgjdbc.java"]


@cache
def rust_programs():
    target = CACHE / "target-clients"
    build = ["cargo", "build", "--quiet", "--locked", "--target-dir", target]
    built = subprocess.run(build, cwd=HERE / "rust", capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return target / "debug"
