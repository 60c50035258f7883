"""Root keys and the keyring file: every way to get them wrong is an error of its own.

Nothing is written under a wrong key, no key is ever made, and key bytes appear nowhere.
"""

import base64
import os
import re
import secrets
import shutil

import psycopg
import pytest
from expect import LEADS, refused, texts
from harness import Cluster, account_database, write_file

SSN = "123-45-6789"

USES = {
    "create": "SELECT fieldcrypt.create_account('new')",
    "encrypt": "SELECT fieldcrypt.encrypt('1', 'lead.ssn', 'acme')",
    "insert": "INSERT INTO lead (ssn) VALUES ('1')",
    "decrypt": "SELECT fieldcrypt.decrypt(ssn) FROM lead",
    "reveal": "SELECT fieldcrypt.reveal(ssn) FROM lead",
    "search": f"SELECT id FROM lead WHERE ssn = '{SSN}'",
    "token": "SELECT fieldcrypt.blind_index('1', 'lead.ssn')",
}


@pytest.fixture(scope="module")
def server():
    """A server of its own, whose keyring the tests break and mend, with one lead in a database."""
    with Cluster() as own, account_database(own) as database:
        database.execute(LEADS)
        database.execute("GRANT fieldcrypt_key_admin TO app")
        with database.connect("app", options="-c fieldcrypt.account=acme") as app:
            app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        database.own_key = (own.keys_dir / "main.key").read_text().strip()
        yield database


@pytest.fixture
def folder(server):
    """A folder for another keyring; the server gets its own back at the end."""
    path = server.cluster.dir / f"keys_{secrets.token_hex(4)}"
    make_folder(path, server)
    yield path
    shutil.rmtree(path)
    use(server, server.cluster.keyring)


def make_folder(path, server):
    path.mkdir()
    shutil.copystat(server.cluster.keys_dir, path)
    shutil.chown(path, server.cluster.keys_dir.owner(), server.cluster.keys_dir.group())


def use(server, keyring):
    """Names another keyring file in the configuration and reloads it."""
    server.execute(f"ALTER SYSTEM SET fieldcrypt.keyring_file = '{keyring or ''}'")
    reload(server)


def reload(server):
    """Reloads the configuration, and waits until the own session has done so."""
    before = server.value("SELECT pg_conf_load_time()")
    server.execute("SELECT pg_reload_conf()")
    while server.value("SELECT pg_conf_load_time()") == before:
        pass


def keyring_with(folder, server, key=None, toml=None, mode=0o400):
    """A keyring like the server's own, with another key or another text."""
    write_file(folder / "main.key", server.own_key if key is None else key, mode)
    text = toml or entry("main", folder / "main.key")
    write_file(folder / "keyring.toml", text)
    return folder / "keyring.toml"


def entry(name, path, state="current"):
    return f'[root.{name}]\nprovider = "file"\npath = "{path}"\nstate = "{state}"\n'


def no_keyring(folder, server):
    return None


def keyring_missing(folder, server):
    return folder / "keyring.toml"


def keyring_is_a_folder(folder, server):
    return folder


def keyring_relative(folder, server):
    return "keys/keyring.toml"


def keyring_writable_by_others(folder, server):
    keyring = keyring_with(folder, server)
    keyring.chmod(0o622)
    return keyring


def keyring_writable_by_the_group(folder, server):
    keyring = keyring_with(folder, server)
    keyring.chmod(0o660)
    return keyring


def keyring_in_the_data_directory(folder, server):
    keyring_with(folder, server)
    path = server.cluster.data_dir / "keyring.toml"
    write_file(path, (folder / "keyring.toml").read_text())
    return path


def keyring_not_toml(folder, server):
    return keyring_with(folder, server, toml=f"root main {server.own_key}")


def keyring_of_an_unknown_word(folder, server):
    return keyring_with(
        folder, server, toml=entry("main", folder / "main.key") + f'key = "{server.own_key}"\n'
    )


def keyring_empty(folder, server):
    return keyring_with(folder, server, toml="# nothing\n")


def unknown_provider(folder, server):
    return keyring_with(
        folder, server, toml=f'[root.main]\nprovider = "vault"\npath = "{folder}/main.key"\n'
    )


def unknown_state(folder, server):
    return keyring_with(folder, server, toml=entry("main", folder / "main.key", "old"))


def provider_without_path(folder, server):
    return keyring_with(folder, server, toml='[root.main]\nprovider = "file"\n')


def two_current(folder, server):
    toml = entry("main", folder / "main.key") + entry("other", folder / "main.key")
    return keyring_with(folder, server, toml=toml)


def none_current(folder, server):
    return keyring_with(folder, server, toml=entry("main", folder / "main.key", "previous"))


def key_missing(folder, server):
    keyring = keyring_with(folder, server)
    (folder / "main.key").unlink()
    return keyring


def key_relative(folder, server):
    return keyring_with(folder, server, toml=entry("main", "main.key"))


def key_in_the_data_directory(folder, server):
    path = server.cluster.data_dir / "main.key"
    write_file(path, server.own_key, 0o400)
    return keyring_with(folder, server, toml=entry("main", path))


def key_linked_to_the_data_directory(folder, server):
    path = server.cluster.data_dir / "main.key"
    write_file(path, server.own_key, 0o400)
    (folder / "link").symlink_to(path)
    return keyring_with(folder, server, toml=entry("main", folder / "link"))


def key_in_a_folder_linked_to_the_data_directory(folder, server):
    write_file(server.cluster.data_dir / "main.key", server.own_key, 0o400)
    (folder / "link").symlink_to(server.cluster.data_dir)
    return keyring_with(folder, server, toml=entry("main", folder / "link" / "main.key"))


def key_in_a_tablespace(folder, server):
    space = server.cluster.dir / "space"
    if not space.exists():
        make_folder(space, server)
        server.execute(f"CREATE TABLESPACE space LOCATION '{space}'")
    write_file(space / "main.key", server.own_key, 0o400)
    return keyring_with(folder, server, toml=entry("main", space / "main.key"))


def key_readable_by_the_group(folder, server):
    return keyring_with(folder, server, mode=0o440)


def key_readable_by_others(folder, server):
    return keyring_with(folder, server, mode=0o604)


def key_of_another_user(folder, server):
    keyring = keyring_with(folder, server)
    os.chown(folder / "main.key", 65534, -1)
    (folder / "main.key").chmod(0o604)
    return keyring


def key_is_a_folder(folder, server):
    return keyring_with(folder, server, toml=entry("main", folder))


def key_too_short(folder, server):
    return keyring_with(folder, server, server.own_key[:-2])


def key_too_long(folder, server):
    return keyring_with(folder, server, server.own_key + "00")


def key_empty(folder, server):
    return keyring_with(folder, server, "\n")


def key_huge(folder, server):
    return keyring_with(folder, server, server.own_key * 1000)


def key_neither_hex_nor_base64(folder, server):
    return keyring_with(folder, server, server.own_key[:-1] + "!")


def key_of_zeros(folder, server):
    return keyring_with(folder, server, "0" * 64)


def key_of_one_byte(folder, server):
    return keyring_with(folder, server, "5a" * 32)


def key_of_repeated_bytes(folder, server):
    return keyring_with(folder, server, secrets.token_hex(8) * 4)


def key_unset_in_the_environment(folder, server):
    return keyring_with(
        folder, server, toml='[root.main]\nprovider = "env"\nvariable = "FIELDCRYPT_NO_KEY"\n'
    )


def key_of_another_installation(folder, server):
    return keyring_with(folder, server, secrets.token_hex(32))


def key_renamed(folder, server):
    return keyring_with(folder, server, toml=entry("renamed", folder / "main.key"))


def key_lost_and_another_current(folder, server):
    write_file(folder / "new.key", secrets.token_hex(32), 0o400)
    toml = entry("new", folder / "new.key") + entry("main", folder / "main.key", "previous")
    keyring = keyring_with(folder, server, toml=toml)
    (folder / "main.key").unlink()
    return keyring


MISTAKES = [
    (no_keyring, "fieldcrypt.keyring_file is not set"),
    (keyring_missing, "keyring file does not exist"),
    (keyring_is_a_folder, "keyring file is not a regular file"),
    (keyring_relative, "path of the keyring file is not absolute"),
    (keyring_writable_by_others, "keyring file can be used by other users"),
    (keyring_writable_by_the_group, "keyring file can be used by other users"),
    (keyring_in_the_data_directory, "keyring file is in the data directory"),
    (keyring_not_toml, "keyring file is invalid at line 1"),
    (keyring_of_an_unknown_word, "keyring file is invalid at line"),
    (keyring_empty, "keyring file is invalid|names no current"),
    (unknown_provider, 'describes root key "main" wrongly'),
    (unknown_state, "keyring file is invalid at line 4"),
    (provider_without_path, 'describes root key "main" wrongly'),
    (two_current, "more than one current root key"),
    (none_current, "no current root key"),
    (key_missing, 'file of root key "main" does not exist'),
    (key_relative, 'path of the file of root key "main" is not absolute'),
    (key_in_the_data_directory, 'file of root key "main" is in the data directory'),
    (key_linked_to_the_data_directory, 'file of root key "main" is in the data directory'),
    (key_in_a_folder_linked_to_the_data_directory, "in the data directory"),
    (key_in_a_tablespace, "in the data directory or a tablespace"),
    (key_readable_by_the_group, "can be used by other users"),
    (key_readable_by_others, "can be used by other users"),
    (key_is_a_folder, "is not a regular file"),
    (key_too_short, 'root key "main" has the wrong length'),
    (key_too_long, 'root key "main" has the wrong length'),
    (key_empty, 'root key "main" has the wrong length'),
    (key_huge, 'root key "main" has the wrong length'),
    (key_neither_hex_nor_base64, 'root key "main" is neither hexadecimal nor base64'),
    (key_of_zeros, 'root key "main" is not random'),
    (key_of_one_byte, 'root key "main" is not random'),
    (key_of_repeated_bytes, 'root key "main" is not random'),
    (key_unset_in_the_environment, 'environment variable of root key "main" is not set'),
    (key_of_another_installation, 'root key "main" is not the one'),
    (key_renamed, 'root key "main" is not in the keyring'),
    (key_lost_and_another_current, 'root key "main" is not in the keyring|file of root key "main"'),
]
if os.getuid() == 0:
    MISTAKES.append((key_of_another_user, "belongs to another user"))


def contents(server):
    """Everything that a use of keys could write."""
    return [
        server.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1").fetchall()
        for table in ("fieldcrypt.root_key", "fieldcrypt.account", "fieldcrypt.account_key", "lead")
    ]


@pytest.mark.parametrize(
    ("mistake", "message"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES]
)
def test_threat_d1_mistake(server, folder, mistake, message):
    """Each use of a key fails with the same clear error and a hint; nothing is written or shown."""
    before = contents(server)
    in_data = [server.cluster.data_dir / name for name in ("main.key", "keyring.toml")]
    try:
        keyring = mistake(folder, server)
        files_before = sorted(folder.rglob("*"))
        use(server, keyring)
        errors = {}
        with server.connect("app", options="-c fieldcrypt.account=acme") as app:
            for name, statement in USES.items():
                errors[name] = "no error"
                try:
                    with app.transaction(force_rollback=True):
                        app.execute(statement)
                except psycopg.Error as error:
                    assert error.sqlstate == "F0000", error
                    assert error.diag.message_hint, error
                    assert_no_key(server, texts(error))
                    errors[name] = error.diag.message_primary
            # What needs no key works.
            stored, owner = app.execute(
                "SELECT ssn, fieldcrypt.account_of(ssn) FROM lead"
            ).fetchone()
            assert stored.startswith("fc1:") and owner == "acme"
            joined = "SELECT count(*) FROM lead AS a JOIN lead AS b USING (ssn)"
            assert app.execute(joined).fetchone() == (1,)
    finally:
        for path in in_data:
            path.unlink(missing_ok=True)
    if mistake is key_lost_and_another_current:
        assert errors.pop("create") == "no error"  # under the current root, which is there
    assert {name: text for name, text in errors.items() if not re.search(message, text)} == {}
    assert contents(server) == before
    assert sorted(folder.rglob("*")) == files_before  # no key was made


def assert_no_key(server, text):
    """No key bytes, in any form, not even the half of them."""
    raw = bytes.fromhex(server.own_key)
    for form in server.own_key, server.own_key.upper(), base64.b64encode(raw).decode():
        assert form[:32] not in text and form[-32:] not in text
    assert str(list(raw))[1:20] not in text


@pytest.mark.parametrize("form", ["hex", "HEX", "base64", "unpadded", "newline", "spaces"])
def test_forms_of_a_key(server, folder, form):
    raw = bytes.fromhex(server.own_key)
    text = {
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "base64": base64.b64encode(raw).decode(),
        "unpadded": base64.b64encode(raw).decode().rstrip("="),
        "newline": raw.hex() + "\r\n",
        "spaces": f"  {base64.b64encode(raw).decode()}\n\n",
    }[form]
    use(server, keyring_with(folder, server, text))
    assert decrypted(server) == SSN


def decrypted(server):
    with server.connect("app") as app:
        return app.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead").fetchone()[0]


def test_a_reload_mends_an_open_session(server, folder):
    """Without a restart: the session in which it failed works after the file was put back."""
    keyring = keyring_with(folder, server)
    (folder / "main.key").unlink()
    use(server, keyring)
    with server.connect("app") as app:
        with refused("F0000"):
            app.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
        write_file(folder / "main.key", server.own_key, 0o400)
        load_time = "SELECT pg_conf_load_time()"
        before = app.execute(load_time).fetchone()
        reload(server)
        while app.execute(load_time).fetchone() == before:
            pass
        query = "SELECT fieldcrypt.decrypt(ssn) FROM lead"
        assert app.execute(query).fetchone() == (SSN,)


def test_two_roots(server, folder):
    """Accounts stay under the root that wrapped them while another is current."""
    write_file(folder / "next.key", secrets.token_hex(32), 0o400)
    toml = entry("next", folder / "next.key") + entry("main", folder / "main.key", "previous")
    use(server, keyring_with(folder, server, toml=toml))
    assert decrypted(server) == SSN
    name = f"under_next_{secrets.token_hex(4)}"
    server.execute("SELECT fieldcrypt.create_account(%s)", [name])
    roots = "SELECT root_key FROM fieldcrypt.keys WHERE account = %s AND purpose = 'wrapping'"
    assert server.value(roots, [name]) == "next"
    assert server.value(roots, ["acme"]) == "main"
    # Without its own root an account is locked, the others work.
    use(server, server.cluster.keyring)
    assert decrypted(server) == SSN
    server.execute(
        "SELECT fieldcrypt.grant_access('app', '{encrypt}', account => %s, field => 'lead.ssn')",
        [name],
    )
    with server.connect("app") as app:
        with refused("F0000", 'root key "next" is not in the keyring', hint="previous"):
            app.execute("SELECT fieldcrypt.encrypt('1', 'lead.ssn', %s)", [name])


def test_settings_of_the_keyring(server):
    """The file is the superuser's to name and to know; its name is all that settings show."""
    with server.connect("app") as app:
        with refused("55P02", "cannot be changed now"):
            app.execute("SET fieldcrypt.keyring_file = '/tmp/mine.toml'")
        with refused("42501"):
            app.execute("SHOW fieldcrypt.keyring_file")
        assert app.execute(
            "SELECT count(*) FROM pg_settings WHERE name = 'fieldcrypt.keyring_file'"
        ).fetchone() == (0,)
    rows = server.execute("SELECT s::text FROM pg_settings AS s WHERE name LIKE 'fieldcrypt.%'")
    shown = "\n".join(text for (text,) in rows)
    assert str(server.cluster.keyring) in shown
    assert_no_key(server, shown)


def test_start_without_a_root_key(make_cluster):
    """The server starts, warns, and everything that needs no key works; put back, it opens."""
    own = make_cluster()
    key = own.keys_dir / "main.key"
    with account_database(own) as database:
        database.own_key = key.read_text().strip()
        database.execute(LEADS)
        with database.connect("app", options="-c fieldcrypt.account=acme") as app:
            app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        database.conn.close()
        key.rename(own.keys_dir / "away")
        own.restart()
        assert 'WARNING:  fieldcrypt: the file of root key "main" does not exist' in own.log()
        database.conn = database.connect()
        database.execute("CREATE TABLE plain (v text)")
        database.execute("INSERT INTO plain VALUES ('x')")
        assert database.value("SELECT ssn FROM lead").startswith("fc1:")
        with refused("F0000", 'file of root key "main" does not exist', hint="never makes a key"):
            database.execute("SELECT fieldcrypt.create_account('new')")
        assert not key.exists()
        (own.keys_dir / "away").rename(key)
        reload(database)
        assert decrypted(database) == SSN
        assert_no_key(database, own.log())


def test_provider_env(make_cluster):
    """A root key in the environment of the server, with and without preload."""
    own = make_cluster()
    variable = "FIELDCRYPT_TEST_ROOT"
    raw = secrets.token_bytes(32)
    write_file(own.keyring, f'[root.main]\nprovider = "env"\nvariable = "{variable}"\n')
    (own.keys_dir / "main.key").unlink()
    own.env = {variable: base64.b64encode(raw).decode()}
    own.restart()
    with account_database(own) as database:
        database.execute(LEADS)
        with database.connect("app", options="-c fieldcrypt.account=acme") as app:
            app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
        assert decrypted(database) == SSN
        database.conn.close()
        own.settings["shared_preload_libraries"] = ""
        own.restart()
        database.conn = database.connect()
        assert decrypted(database) == SSN
        database.conn.close()
        own.env = {variable: secrets.token_hex(32)}
        own.restart()
        with refused("F0000", 'root key "main" is not the one'):
            decrypted(database)
        database.own_key = raw.hex()
        database.conn = database.connect()
        assert_no_key(database, own.log())


def test_no_key_in_the_log(server):
    """After all of the above (in its order) the server's log holds no key bytes."""
    assert_no_key(server, server.cluster.log())
