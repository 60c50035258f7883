"""Root keys that stay in a key service: the provider `command`, with a stand-in for the program."""

import base64
import json
import secrets
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import key_service
import psycopg
import pytest
from expect import LEADS, refused, texts
from harness import Cluster, account_database, write_file, write_keyring

SSN = "123-45-6789"
PROGRAM = Path(key_service.__file__)


class Service:
    """The folder of the program, and what it was asked."""

    def __init__(self, cluster, name="service"):
        self.folder = cluster.dir / name
        self.folder.mkdir()
        shutil.copystat(cluster.keys_dir, self.folder)
        shutil.chown(self.folder, cluster.keys_dir.owner(), cluster.keys_dir.group())
        self.program = self.folder / "program"
        write_file(self.program, f"#!/usr/bin/python3\n{PROGRAM.read_text()}", 0o700)
        write_file(self.folder / "root", secrets.token_hex(32), 0o400)
        self.behave("well")
        self.forget()

    def behave(self, mode):
        write_file(self.folder / "mode", mode)

    def forget(self):
        write_file(self.folder / "calls", "")

    def calls(self, operation="unwrap", account="acme"):
        """The questions about an account."""
        lines = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return [
            context
            for asked, _, context in lines
            if asked == operation and context["account"] == account
        ]

    def entry(self, name, state="current", time_limit=1):
        command = json.dumps([str(self.program), str(self.folder)])
        return (
            f'[root.{name}]\nprovider = "command"\ncommand = {command}\n'
            f'time_limit = {time_limit}\nstate = "{state}"\n'
        )


@pytest.fixture(scope="module")
def server():
    with Cluster() as own:
        own.service = Service(own)
        write_file(own.keyring, own.service.entry("service"))
        own.stop()
        own.start()
        yield own


@contextmanager
def leads_of(server):
    """A fresh database with a lead of acme and one of globex, all under the key service."""
    server.service.behave("well")
    write_file(server.keyring, server.service.entry("service"))
    with server.connect() as superuser:
        reload(superuser)
    with account_database(server) as database:
        fill(database)
        database.service = server.service
        server.service.forget()
        yield database
        server.service.behave("well")


def fill(database):
    database.execute(LEADS)
    for user, account in ("app", "acme"), ("app_globex", "globex"):
        with session(database, user, account) as connection:
            connection.execute("INSERT INTO lead (account_id, ssn) VALUES (%s, %s)", [account, SSN])


def reload(connection):
    load_time = "SELECT pg_conf_load_time()"
    before = connection.execute(load_time).fetchone()
    connection.execute("SELECT pg_reload_conf()")
    while connection.execute(load_time).fetchone() == before:
        pass


def use(database, *entries):
    write_file(database.cluster.keyring, "\n".join(entries))
    reload(database)


def session(database, user="app", account="acme", **options):
    options = {"prepare_threshold": None, **options}
    return database.connect(user, options=f"-c fieldcrypt.account={account}", **options)


def read(connection):
    query = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE ssn = %s"
    return [value for (value,) in connection.execute(query, [SSN])]


def expire(database):
    """Waits until no key is used any more that was unwrapped before, if it lives for a second."""
    time.sleep(1.1)


@pytest.fixture
def leads(server):
    with leads_of(server) as database:
        yield database


@pytest.fixture(scope="module")
def unharmed(server):
    """A database for several tests, each of which leaves it as it was."""
    with leads_of(server) as database:
        set_lifetime(database, 1)
        yield database


@pytest.fixture
def short(leads):
    """Keys live for a second."""
    set_lifetime(leads, 1)
    return leads


def set_lifetime(database, seconds):
    """For sessions to come, and the own."""
    database.execute(f"ALTER DATABASE {database.name} SET fieldcrypt.key_lifetime = {seconds}")
    database.execute(f"SET fieldcrypt.key_lifetime = {seconds}")


def test_what_the_program_is_told(leads):
    """Each question names the account; the associated data is that of the key."""
    leads.execute("SELECT fieldcrypt.create_account('new \"one\"')")
    for operation in "wrap", "unwrap":
        (context,) = leads.service.calls(operation, 'new "one"')
        key = leads.value(
            "SELECT key_id FROM fieldcrypt.keys WHERE account = 'new \"one\"'"
            " AND purpose = 'wrapping'"
        )
        assert context == {
            "account": 'new "one"',
            "purpose": "wrapping",
            "version": "1",
            "key_id": str(key),
        }
    provider = "SELECT provider, accounts, usable FROM fieldcrypt.status WHERE root_key = 'service'"
    assert leads.execute(provider).fetchone() == ("command", 4, True)


def test_what_the_program_inherits(leads):
    """No environment but a path, no open file, no folder of the server's."""
    with session(leads) as app:
        app.execute("CREATE TEMP TABLE t AS SELECT * FROM generate_series(1, 10000)")
        app.execute("SET work_mem = '64kB'; BEGIN; DECLARE c CURSOR FOR SELECT * FROM t ORDER BY 1")
        app.execute("FETCH 10 FROM c")
        assert read(app) == [SSN]
    leads.execute("SELECT fieldcrypt.create_account('x')")
    state = json.loads((leads.service.folder / "state").read_text())
    environment = {name for name in state["environment"] if name not in ("LC_CTYPE", "PWD", "_")}
    assert environment == {"PATH"}
    assert set(state["files"]) <= {0, 1, 2}
    assert state["folder"] == "/"


def test_one_call_for_all_sessions(short):
    """In the lifetime of keys, also if all ask at once, and again in the next."""
    short.service.behave("slow")
    for _ in range(2):
        expire(short)
        short.service.forget()
        start = threading.Barrier(8)

        def work(start):
            with session(short) as app:
                app.execute("SELECT 1")
                start.wait()
                return read(app)

        with ThreadPoolExecutor(8) as threads:
            results = [threads.submit(work, start) for _ in range(8)]
            assert [result.result() for result in results] == [[SSN]] * 8
        assert len(short.service.calls()) == 1


def test_no_key_outlives_its_answer(short):
    """A session that takes a key that another has unwrapped keeps it no longer than that one."""
    expire(short)
    with session(short) as first, session(short) as second:
        assert read(first) == [SSN]
        start = time.monotonic()
        time.sleep(0.7)
        assert read(second) == [SSN]
        short.service.behave("denied")
        with pytest.raises(psycopg.Error) as caught:
            while time.monotonic() < start + 5:
                read(second)
                time.sleep(0.02)
        assert caught.value.sqlstate == "F0000"
        assert time.monotonic() - start < 1.5


FAILURES = {
    "denied": "refused",
    "unavailable": "cannot reach its key service",
    "words": "failed",
    "no JSON": "gave an answer that cannot be understood",
    "nothing": "gave an answer that cannot be understood",
    "short": "gave an answer that cannot be understood",
    "no base64": "gave an answer that cannot be understood",
    "half": "gave an answer that cannot be understood",
    "two": "gave an answer that cannot be understood",
    "long": "gave an answer that cannot be understood",
    "exit": "ended without an answer",
    "hang": "did not answer in time",
    "another": "answered with another key",
}


@pytest.mark.parametrize(("mode", "message"), FAILURES.items(), ids=list(FAILURES))
def test_threat_d8_failures(unharmed, mode, message):
    """Cold: one clear error without a byte of a key, in bounded time; nothing is written. Then it
    works again by itself."""
    with session(unharmed) as app:
        expire(unharmed)
        contents = "SELECT t::text FROM fieldcrypt.{} AS t ORDER BY 1"
        tables = "root_key", "account", "account_key"
        before = [unharmed.execute(contents.format(table)).fetchall() for table in tables]
        unharmed.service.behave(mode)
        log = len(unharmed.cluster.log())
        for statement in (
            "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE account_id = 'acme'",
            "SELECT id FROM lead WHERE ssn = '1'",
            "INSERT INTO lead (ssn) VALUES ('1')",
        ):
            start = time.monotonic()
            with refused(
                "F0000", f'the program of root key "service" {message}', "status"
            ) as error:
                app.execute(statement)
            assert time.monotonic() - start < 4
            assert_no_key(unharmed, texts(error.value))
        start = time.monotonic()
        with refused("F0000", 'root key "service"'):
            unharmed.execute("SELECT fieldcrypt.create_account('new')")
        assert time.monotonic() - start < 4
        assert [unharmed.execute(contents.format(table)).fetchall() for table in tables] == before
        assert_no_key(unharmed, unharmed.cluster.log()[log:])
        if mode == "hang":
            assert_gone(unharmed.service)
        unharmed.service.behave("well")
        expire(unharmed)
        assert read(app) == [SSN]


def assert_no_key(database, text):
    """Nothing that the program has seen or said is in the text."""
    root = (database.service.folder / "root").read_text()
    (wrapped,) = database.execute(
        "SELECT wrapped FROM fieldcrypt.account_key WHERE account = 'acme' AND purpose = 'wrapping'"
    ).fetchone()
    for secret in bytes.fromhex(root), wrapped[1:]:
        assert secret.hex()[:32] not in text
        assert base64.b64encode(secret).decode()[:32] not in text
    assert "no such key" not in text


def assert_gone(service):
    """The program and what it has started have ended."""
    for process in (service.folder / "processes").read_text().split():
        deadline = time.monotonic() + 5
        while is_alive(process) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(process)


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["statement_timeout", "cancel", "terminate"])
def test_threat_d8_an_interrupt_ends_the_program(short, how):
    """While a session waits for the program, and while another waits for that session."""
    write_file(short.cluster.keyring, short.service.entry("service", time_limit=60))
    reload(short)
    with session(short) as app, session(short) as other, ThreadPoolExecutor(2) as threads:
        app.execute("SELECT 1")
        other.execute("SELECT 1")
        expire(short)
        (short.service.folder / "processes").unlink(missing_ok=True)
        short.service.behave("hang")
        if how == "statement_timeout":
            app.execute("SET statement_timeout = 500")
            other.execute("SET statement_timeout = 600")
        start = time.monotonic()
        running = threads.submit(read, app)
        while not (short.service.folder / "processes").exists():
            time.sleep(0.02)
        waiting = threads.submit(read, other)
        time.sleep(0.3)
        if how != "statement_timeout":
            function = "pg_cancel_backend" if how == "cancel" else "pg_terminate_backend"
            for connection in other, app:
                short.execute(f"SELECT {function}(%s)", [connection.info.backend_pid])
        for result in waiting, running:
            with refused("57P01" if how == "terminate" else "57014"):
                result.result()
        assert time.monotonic() - start < 10
        assert_gone(short.service)
        if how != "terminate":
            short.service.behave("well")
            assert read(app) == [SSN]
    # at once: nothing is left that says that somebody asks
    short.service.behave("well")
    if how != "terminate":
        with session(short) as new:
            assert read(new) == [SSN]


def test_threat_d8_failures_are_remembered(short):
    """A service that is down is not asked by every statement; one that flaps is not either."""
    set_lifetime(short, 300)
    short.execute("SELECT fieldcrypt.create_account('cold')")
    short.execute("SELECT fieldcrypt.grant_access('app', '{encrypt}', 'cold', '*')")
    short.service.behave("unavailable")
    short.service.forget()
    encrypt = "SELECT fieldcrypt.encrypt('1', 'lead.ssn', 'cold')"

    def work():
        with session(short) as app:
            for _ in range(10):
                with refused("F0000", "cannot reach"):
                    app.execute(encrypt)

    with ThreadPoolExecutor(4) as threads:
        for result in [threads.submit(work) for _ in range(4)]:
            result.result()
    assert len(short.service.calls(account="cold")) == 1
    short.service.behave("well")
    with session(short) as app:
        deadline = time.monotonic() + 10
        while True:
            try:
                app.execute(encrypt)
                break
            except psycopg.Error:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        # the account whose key is there was not concerned
        assert read(app) == [SSN]
    assert len(short.service.calls(account="cold")) == 2


def test_a_warm_session_goes_on(leads):
    """While the service is down, for the lifetime of keys; so do new sessions."""
    with session(leads) as app:
        assert read(app) == [SSN]
        leads.service.behave("hang")
        assert read(app) == [SSN]
        with session(leads) as new:
            assert read(new) == [SSN]
        # in spite of changes of the catalog, which have sessions set up their keys anew
        leads.execute("SELECT fieldcrypt.disable_account('globex')")
        assert read(app) == [SSN]


def test_rotation_to_a_service_and_back(leads):
    service = leads.service
    values = leads.execute("SELECT * FROM lead").fetchall()
    file = write_keyring(leads.cluster.keys_dir, {"main": "current"}).read_text()
    use(leads, file, service.entry("service", "previous"))
    assert leads.value("SELECT fieldcrypt.rotate_root()") == 3
    use(leads, file)
    service.forget()
    with session(leads) as app:
        assert read(app) == [SSN]
    assert service.calls() == []
    use(leads, file.replace("current", "previous"), service.entry("service"))
    assert leads.value("SELECT fieldcrypt.rotate_root()") == 3
    use(leads, service.entry("service"))
    with session(leads) as app, session(leads, "app_globex", "globex") as other:
        assert read(app) == read(other) == [SSN]
    assert leads.execute("SELECT * FROM lead").fetchall() == values


@pytest.mark.parametrize("mode", ["once", "well"])
def test_a_program_that_ends_after_each_answer(leads, mode):
    """Is started again for the next question."""
    leads.service.behave(mode)
    leads.execute("SELECT fieldcrypt.create_account('new')")
    file = write_keyring(leads.cluster.keys_dir, {"main": "current"}).read_text()
    use(leads, file, leads.service.entry("service", "previous"))
    assert leads.value("SELECT fieldcrypt.rotate_root()") == 4


def test_a_customer_who_refuses(short):
    """His account is locked after the lifetime of keys, and only that."""
    theirs = Service(short.cluster, "theirs_" + secrets.token_hex(4))
    own = short.service.entry("service")
    use(short, own, theirs.entry("theirs", "customer"))
    short.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
    with session(short) as app, session(short, "app_globex", "globex") as other:
        assert read(app) == [SSN]
        theirs.behave("denied")
        expire(short)
        with refused("57000", 'account "acme" is locked: the program of root key "theirs" refused'):
            read(app)
        assert app.execute(
            "SELECT fieldcrypt.reveal(ssn) FROM lead WHERE account_id = 'acme'"
        ).fetchone() == ("********",)
        assert read(other) == [SSN]
        row = "SELECT usable, problem FROM fieldcrypt.status WHERE root_key = 'theirs'"
        assert short.execute(row).fetchone() == (False, 'the program of root key "theirs" refused')
        short.execute("SELECT fieldcrypt.create_account('unconcerned')")
        theirs.behave("well")
        expire(short)
        assert read(app) == [SSN]
    short.execute("SELECT fieldcrypt.set_account_root('acme')")
    use(short, own)


def test_another_key_service_by_the_same_name(leads):
    """Is noticed before anything is written under it."""
    another = Service(leads.cluster, "another_" + secrets.token_hex(4))
    use(leads, another.entry("service"))
    with refused("F0000", 'the program of root key "service" refused'):
        leads.execute("SELECT fieldcrypt.create_account('new')")
    another.behave("another")  # which answers with something in any case
    with refused("F0000", 'root key "service" is not the one'):
        leads.execute("SELECT fieldcrypt.create_account('new')")
    file = write_keyring(leads.cluster.keys_dir, {"service": "current"}).read_text()
    use(leads, file)
    with refused("F0000", 'root key "service" is not the one'):
        leads.execute("SELECT fieldcrypt.create_account('new')")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("time_limit = 1", "time_limit = 0"), "wrongly"),
        (("time_limit = 1", "time_limit = 301"), "wrongly"),
        (("command = [", "variable = 'x'\ncommand = ["), "wrongly"),
        (('"/', '"'), "path of the program of root key .* is not absolute"),
        (("/program", "/missing"), "program of root key .* does not exist"),
    ],
)
def test_a_command_that_is_described_wrongly(leads, change, message):
    use(leads, leads.service.entry("service").replace(*change))
    with refused("F0000", message):
        leads.execute("SELECT fieldcrypt.create_account('new')")


@pytest.mark.parametrize("mode", [0o777, 0o730, 0o600])
def test_a_program_that_cannot_be_trusted_or_run(leads, mode):
    leads.service.program.chmod(mode)
    try:
        reload(leads)
        expected = "could not be started" if mode == 0o600 else "can be used by other users"
        with refused("F0000", expected):
            leads.execute("SELECT fieldcrypt.create_account('new')")
    finally:
        leads.service.program.chmod(0o700)


def test_without_preload(make_cluster):
    """Each session asks for itself, once in the lifetime of keys."""
    own = make_cluster({"shared_preload_libraries": ""})
    service = Service(own)
    write_file(own.keyring, service.entry("service"))
    with account_database(own) as database:
        fill(database)
        service.forget()
        for number in 1, 2:
            with session(database) as app:
                assert read(app) == [SSN] == read(app)
            assert len(service.calls()) == number


def test_keys_in_shared_memory_are_wrapped(leads):
    """What is in the segment is not what the account's keys are."""
    with session(leads) as app:
        assert read(app) == [SSN]
        root = bytes.fromhex((leads.service.folder / "root").read_text())
        key_id, wrapped = leads.execute(
            "SELECT key_id, wrapped FROM fieldcrypt.account_key"
            " WHERE account = 'acme' AND purpose = 'wrapping'"
        ).fetchone()
        key = unwrapped(root, key_id, wrapped[1:])
        segments = 0
        for line in Path(f"/proc/{app.info.backend_pid}/maps").read_text().splitlines():
            addresses, flags = line.split()[:2]
            if not flags.endswith("s") or "r" not in flags:
                continue
            start, end = (int(address, 16) for address in addresses.split("-"))
            with Path(f"/proc/{app.info.backend_pid}/mem").open("rb") as memory:
                memory.seek(start)
                try:
                    content = memory.read(end - start)
                except OSError:
                    continue
            segments += 1
            assert key not in content
        assert segments > 0


def unwrapped(root, key_id, wrapped):
    context = {"account": "acme", "purpose": "wrapping", "version": "1", "key_id": str(key_id)}
    context = json.dumps(context, sort_keys=True).encode()
    nonce, body, seal = wrapped[:16], wrapped[16:48], wrapped[48:]
    assert key_service.seal_of(root, context, nonce, body) == seal
    return key_service.sealed(root, context, nonce, body)
