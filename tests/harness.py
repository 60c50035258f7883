"""Throwaway PostgreSQL servers with fieldcrypt, for the outside-in tests.

PostgreSQL refuses to run as root. When the tests do, the servers and their programs run as the
user `postgres`, and every file they read is made by that user in a folder of its own under /tmp.
"""

import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

VERSION = int(os.environ.get("FIELDCRYPT_PG_VERSION", "15"))

# Login roles that every cluster has; `account_database` grants them access.
ROLES = ("app", "app_globex", "outsider")

# Keys of other software that every cluster's keyring names, each with its options.
ADOPTION_KEYS = {
    "floh": (bytes(range(32)).hex(), 'encoding = "hex"'),
    "floh_previous": (bytes(range(100, 132)).hex(), 'encoding = "hex"'),
    "leadflip-acme": (bytes(range(40, 72)).hex(), 'encoding = "hex"\naccount = "acme"'),
    "leadflip-globex": (bytes(range(80, 112)).hex(), 'encoding = "hex"\naccount = "globex"'),
    "passphrase": ("passphrase", 'encoding = "text"'),
}

_ENV = Path(__file__).resolve().parent.parent / "scripts" / "env"
_AS_POSTGRES = (
    {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
)
_OWNER = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())


def bin_dir(version=VERSION):
    """The folder with the programs of a version's private installation."""
    command = f'. "{_ENV}" && pg_bin_for {version}'
    return Path(subprocess.check_output(["bash", "-c", command], text=True).strip())


def write_keyring(folder, roots=None, adoption_keys=ADOPTION_KEYS):
    """Writes root keys and a keyring that names them; returns the keyring's path.

    `roots` maps the names of root keys to their states. A key file that exists is kept, so a second
    call with other states rotates the root key. `adoption_keys` maps the names of keys of other
    software to their texts and options.
    """
    folder = Path(folder)
    _make_folder(folder)
    toml = ""
    for name, state in (roots or {"main": "current"}).items():
        key = folder / f"{name}.key"
        if not key.exists():
            write_file(key, secrets.token_hex(32) + "\n", 0o400)
        toml += f'[root.{name}]\nprovider = "file"\npath = "{key}"\nstate = "{state}"\n\n'
    for name, (text, options) in adoption_keys.items():
        key = folder / f"adopt-{name}.key"
        write_file(key, text + "\n", 0o400)
        toml += f'[adopt."{name}"]\nprovider = "file"\npath = "{key}"\n{options}\n\n'
    keyring = folder / "keyring.toml"
    write_file(keyring, toml, 0o600)
    return keyring


def write_file(path, text, mode=0o600):
    """Writes a file that belongs to the servers' user, replacing an older one."""
    new = Path(f"{path}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    _hand_over(new, mode)
    new.rename(path)


def _make_folder(path):
    if not path.exists():
        path.mkdir()
        _hand_over(path, 0o700)


def _hand_over(path, mode):
    os.chown(path, _OWNER.pw_uid, _OWNER.pw_gid)
    path.chmod(mode)


class Cluster:
    """A server with its data, keys, socket and log in one temporary folder.

    `settings` are postgresql.conf settings on top of the defaults below; None removes a default.
    A cluster is made stopped, without roles; `start` it, or use it in a `with` statement.
    """

    def __init__(self, settings=None, version=VERSION, initdb_args=()):
        self._prepare(version)
        self.keyring = write_keyring(self.keys_dir)
        self.settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.dir),
            "fsync": "off",
            "jit": "off",
            "wal_level": "logical",
            "max_prepared_transactions": 4,
            "shared_preload_libraries": "fieldcrypt",
            "fieldcrypt.keyring_file": str(self.keyring),
            **(settings or {}),
        }
        self.run(
            "initdb",
            *("-D", self.data_dir, "--auth=trust", "-U", "postgres", "--no-sync"),
            *("--locale=C.UTF-8", "--encoding=UTF8", *initdb_args),
        )
        with (self.data_dir / "postgresql.conf").open("a") as conf:
            conf.write("include 'harness.conf'\n")

    def _prepare(self, version):
        self.version = version
        self.bin = bin_dir(version)
        self.dir = Path(tempfile.mkdtemp(prefix="fieldcrypt.", dir="/tmp"))
        self.data_dir = self.dir / "data"
        self.keys_dir = self.dir / "keys"
        self.log_file = self.dir / "log"
        self.env = {}  # environment variables of the server, on top of the usual ones
        self.port = 5432  # names the socket, in a folder that no other server uses
        self._server = None
        atexit.register(self.remove)
        _hand_over(self.dir, 0o700)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.remove()

    # Running

    def start(self, timeout=60):
        """Starts the server with the current `settings` and waits until it accepts connections."""
        conf = ""
        for name, value in self.settings.items():
            if value is not None:
                quoted = str(value).replace("'", "''")
                conf += f"{name} = '{quoted}'\n"
        write_file(self.data_dir / "harness.conf", conf)
        # As a child, not through pg_ctl: a killed server then leaves no process behind, and a new
        # one does not take the process id in its lock file for a living server.
        with self.log_file.open("ab") as log:
            self._server = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data_dir],
                **self._process_options(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
            )
        deadline = time.monotonic() + timeout
        while self._status() not in ("ready", "standby"):
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.stop("immediate")
                raise RuntimeError(f"the server did not start:\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def _status(self):
        """What the lock file says about the server, if the file is the server's."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return None
        ours = lines[0] == str(self._server.pid)
        return lines[7].strip() if ours and len(lines) > 7 else None

    @property
    def postmaster(self):
        """The id of the server's first process."""
        return self._server.pid

    @property
    def running(self):
        return self._server is not None and self._server.poll() is None

    def stop(self, mode="fast", timeout=60):
        """Stops the server; `mode` as in pg_ctl."""
        if self.running:
            signals = {
                "smart": signal.SIGTERM,
                "fast": signal.SIGINT,
                "immediate": signal.SIGQUIT,
            }
            self._server.send_signal(signals[mode])
            try:
                self._server.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill9()
                raise
        self._server = None

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def kill9(self):
        """Kills the server and all of its processes, as a power cut would."""
        # The postmaster first and stopped, so that it starts no more processes.
        self._server.send_signal(signal.SIGSTOP)
        processes = [self._server.pid, *_children(self._server.pid)]
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait()
        self._server = None
        while any(_alive(pid) for pid in processes):
            time.sleep(0.01)

    def remove(self):
        """Stops the server and removes all of its files. May be called more than once."""
        atexit.unregister(self.remove)
        try:
            self.stop("immediate", timeout=20)
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        """The text of the server's log."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # Talking to it

    def connect(self, user="postgres", dbname="postgres", autocommit=True, **options):
        return psycopg.connect(
            host=str(self.dir),
            port=self.port,
            user=user,
            dbname=dbname,
            autocommit=autocommit,
            **options,
        )

    def psql(self, statements, user="postgres", dbname="postgres", **options):
        """The output of psql, unaligned and without headers; raises CalledProcessError."""
        arguments = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", dbname)
        return self.run("psql", *arguments, input=statements, **options).stdout

    def run(self, program, *arguments, env=None, **options):
        """Runs one of the version's programs against the server, as the servers' user.

        Returns the CompletedProcess with its output as text. Files that the program writes belong
        into `dir`. `options` are those of subprocess.run; check=False permits failure.
        """
        defaults = {"check": True, "capture_output": True, "text": True}
        options = {**defaults, **self._process_options(env), **options}
        try:
            return subprocess.run([self.bin / program, *map(str, arguments)], **options)
        except subprocess.CalledProcessError as error:
            error.add_note(f"{error.stdout}{error.stderr}")
            raise

    def _process_options(self, env=None):
        return {
            **_AS_POSTGRES,
            "cwd": "/",  # a folder that every user can enter
            "umask": 0o077,
            "env": {
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "HOME": "/",
                "LC_ALL": "C.UTF-8",
                "PGHOST": str(self.dir),
                "PGPORT": str(self.port),
                "PGUSER": "postgres",
                **(env or {}),
            },
        }

    # Databases and roles

    def create_database(self, name=None, template="template0"):
        """Creates an empty database and returns its name."""
        name = name or f"db_{secrets.token_hex(4)}"
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return name

    def drop_database(self, name):
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def create_roles(self, *names):
        """Creates login roles that do not exist yet; roles belong to the whole cluster."""
        with self.connect() as connection:
            for name in names:
                if not connection.execute(
                    "SELECT FROM pg_roles WHERE rolname = %s", [name]
                ).rowcount:
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))

    # Replication

    def standby(self, settings=None):
        """A streaming standby of this server, made by pg_basebackup; returned stopped.

        It has the same settings, except for `settings`, and reads the same keyring.
        """
        standby = Cluster.__new__(Cluster)
        standby._prepare(self.version)
        standby.keyring = self.keyring
        standby.settings = {
            **self.settings,
            "unix_socket_directories": str(standby.dir),
            "primary_conninfo": f"host={self.dir} port={self.port} user=postgres",
            **(settings or {}),
        }
        self.run("pg_basebackup", "-D", standby.data_dir, "--checkpoint=fast", "--no-sync")
        write_file(standby.data_dir / "standby.signal", "")
        return standby

    def catch_up(self, primary, timeout=60):
        """Waits until this standby has replayed all that `primary` has written so far."""
        with primary.connect() as connection:
            (target,) = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        deadline = time.monotonic() + timeout
        with self.connect() as connection:
            while not connection.execute(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [target]
            ).fetchone()[0]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the standby did not reach {target}")
                time.sleep(0.05)

    def promote(self):
        self.run("pg_ctl", "promote", "-w", "-D", self.data_dir)


class Database:
    """A database of a cluster, with an open superuser connection as `conn`.

    It is created, unless `exists`.
    """

    def __init__(self, cluster, name=None, *, exists=False):
        self.cluster = cluster
        self.name = name if exists else cluster.create_database(name)
        self.conn = self.connect()

    def connect(self, user="postgres", **options):
        return self.cluster.connect(user, self.name, **options)

    def execute(self, statement, parameters=None):
        """Runs a statement as the superuser and returns the cursor."""
        return self.conn.execute(statement, parameters)

    def value(self, statement, parameters=None):
        """The only column of the first row."""
        return self.execute(statement, parameters).fetchone()[0]

    def psql(self, statements, user="postgres", **options):
        return self.cluster.psql(statements, user, self.name, **options)

    def drop(self):
        self.conn.close()
        self.cluster.drop_database(self.name)


@contextmanager
def account_database(cluster):
    """A fresh database with the extension, two accounts and two fields.

    `app` may encrypt, search and decrypt the fields of acme, `app_globex` those of globex, and
    `outsider` nothing.
    """
    cluster.create_roles(*ROLES)
    database = Database(cluster)
    try:
        database.execute("""
            CREATE EXTENSION fieldcrypt;
            SELECT fieldcrypt.create_account('acme');
            SELECT fieldcrypt.create_account('globex');
            SELECT fieldcrypt.create_field(
                'lead.ssn', search => '{exact}', normalizer => 'digits', mask => 'last4');
            SELECT fieldcrypt.create_field(
                'lead.email', search => '{exact}', normalizer => 'email', mask => 'email');
            SELECT fieldcrypt.grant_access(
                'app', '{encrypt,search,decrypt}', account => 'acme', field => 'lead.*');
            SELECT fieldcrypt.grant_access(
                'app_globex', '{encrypt,search,decrypt}', account => 'globex', field => 'lead.*');
        """)
        yield database
    finally:
        database.drop()


def _children(pid):
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid:
            yield int(status.parent.name)


def _alive(pid):
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
