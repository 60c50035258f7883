"""The keyring, root keys, and their files."""

import os

from harness import write_file

from .case import PROBLEM, TWO_YEARS, YEAR, case, write_keyring

KEEP = "fieldcrypt never makes a key. Put the file back, or correct its path."
MODE = "chmod 0400 the file of a key, and 0600 the keyring file."


def key_file(well):
    return well.cluster.keys_dir / "main.key"


@case("error", PROBLEM)
def keyring_not_set(well):
    well.system("fieldcrypt.keyring_file", "")
    yield (
        "keyring",
        "Name the keyring file in postgresql.conf and reload.",
        lambda _: well.system("fieldcrypt.keyring_file", None),
        "fieldcrypt.keyring_file is not set",
    )


@case("error", PROBLEM)
def keyring_gone(well):
    well.cluster.keyring.rename(well.cluster.dir / "away")
    yield (
        "keyring",
        KEEP,
        lambda _: (well.cluster.dir / "away").rename(well.cluster.keyring),
        "the keyring file does not exist or cannot be reached",
    )


@case("error", PROBLEM)
def keyring_writable_by_others(well):
    well.cluster.keyring.chmod(0o622)
    yield (
        "keyring",
        MODE,
        lambda _: well.cluster.keyring.chmod(0o600),
        "the keyring file can be used by other users",
    )


@case("notice", "can be read by every user, and names where the keys are")
def keyring_readable_by_others(well):
    well.cluster.keyring.chmod(0o644)
    yield "keyring", "chmod 0600 it.", lambda _: well.cluster.keyring.chmod(0o600)


@case("error", PROBLEM)
def key_gone(well):
    key_file(well).rename(well.cluster.dir / "away")
    yield (
        'root key "main"',
        KEEP,
        lambda _: (well.cluster.dir / "away").rename(key_file(well)),
        'the file of root key "main" does not exist or cannot be reached',
    )


@case("error", PROBLEM)
def key_readable_by_others(well):
    key_file(well).chmod(0o404)
    yield (
        'root key "main"',
        MODE,
        lambda _: key_file(well).chmod(0o400),
        'the file of root key "main" can be used by other users',
    )


@case("error", PROBLEM, applies=os.getuid() == 0)
def key_of_another_user(well):
    owner = key_file(well).stat().st_uid
    os.chown(key_file(well), 65534, -1)
    yield (
        'root key "main"',
        "It has to belong to the user that runs the server, or to root.",
        lambda _: os.chown(key_file(well), owner, -1),
        'the file of root key "main" belongs to another user',
    )


@case("error", PROBLEM)
def key_in_the_data_directory(well):
    inside = well.cluster.data_dir / "main.key"
    key_file(well).rename(inside)
    key_file(well).symlink_to(inside)

    def carry_out(_):
        key_file(well).unlink()
        inside.rename(key_file(well))

    yield (
        'root key "main"',
        "Keep it elsewhere: base backups would carry it.",
        carry_out,
        'the file of root key "main" is in the data directory or a tablespace',
    )


@case("error", PROBLEM)
def key_of_another_database(well):
    right = key_file(well).read_text()
    write_file(key_file(well), right[::-1].strip(), 0o400)
    yield (
        'root key "main"',
        "Put the original root key back into the keyring.",
        lambda _: write_file(key_file(well), right, 0o400),
        'root key "main" is not the one that this database was set up with',
    )


@case("warning", PROBLEM)
def previous_key_gone(well):
    write_keyring(well.cluster.keys_dir, {"main": "current", "old": "previous"})
    (well.cluster.keys_dir / "old.key").unlink()
    yield (
        'root key "old"',
        KEEP,
        lambda _: write_keyring(well.cluster.keys_dir, {"main": "current", "old": "previous"}),
        'the file of root key "old" does not exist or cannot be reached',
    )
    (well.cluster.keys_dir / "old.key").unlink()
    write_keyring(well.cluster.keys_dir)


@case("error", PROBLEM, beside=["is a previous one, but wraps the keys of"])
def previous_key_gone_that_is_used(well):
    """Of a database's own root keys: the one of its accounts, while another is current."""
    write_keyring(well.cluster.keys_dir, {"main": "previous", "new": "current"})
    key_file(well).rename(well.cluster.dir / "away")

    def carry_out(_):
        (well.cluster.dir / "away").rename(key_file(well))
        write_keyring(well.cluster.keys_dir)

    yield (
        'root key "main"',
        KEEP,
        carry_out,
        'the file of root key "main" does not exist or cannot be reached',
    )
    (well.cluster.keys_dir / "new.key").unlink()


@case("notice", "is a previous one, but wraps the keys of N accounts")
def previous_key_in_use(well):
    write_keyring(well.cluster.keys_dir, {"main": "previous", "new": "current"})
    well.reload()
    well.execute("SELECT fieldcrypt.create_account('acme_2026')")

    yield 'root key "main"', "SELECT fieldcrypt.rotate_root();"
    write_keyring(well.cluster.keys_dir, {"main": "current", "new": "previous"})
    well.reload()
    well.execute("SELECT fieldcrypt.rotate_root()")
    well.execute("""
        DELETE FROM fieldcrypt.account_key WHERE account = 'acme_2026';
        DELETE FROM fieldcrypt.account WHERE account = 'acme_2026';
        DELETE FROM fieldcrypt.root_key WHERE name = 'new'""")
    (well.cluster.keys_dir / "new.key").unlink()
    write_keyring(well.cluster.keys_dir)
    well.reload()


@case("warning", "is a customer's that cannot be had: N accounts are locked")
def withdrawn_key_of_a_customer(well):
    write_keyring(well.cluster.keys_dir, {"main": "current", "theirs": "customer"})
    well.reload()
    well.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
    write_keyring(well.cluster.keys_dir)
    yield (
        'root key "theirs"',
        "The customer gives it back, or has withdrawn it: SELECT * FROM fieldcrypt.status",
        lambda _: write_keyring(well.cluster.keys_dir, {"main": "current", "theirs": "customer"}),
    )
    well.reload()
    well.execute("SELECT fieldcrypt.set_account_root('acme')")
    well.execute("DELETE FROM fieldcrypt.root_key WHERE name = 'theirs'")
    (well.cluster.keys_dir / "theirs.key").unlink()
    write_keyring(well.cluster.keys_dir)
    well.reload()


@case("error", "wraps the keys of N accounts, and is not in the keyring")
def key_not_in_the_keyring(well):
    write_keyring(well.cluster.keys_dir, {"new": "current"})
    yield (
        'root key "main"',
        'Name it in the keyring file, with state = "previous", and reload.',
        lambda _: write_keyring(well.cluster.keys_dir, {"main": "current", "new": "previous"}),
    )
    (well.cluster.keys_dir / "new.key").unlink()
    write_keyring(well.cluster.keys_dir)


@case(
    "warning",
    "is recorded, but not in the keyring: no account can be created under another root key",
)
def recorded_key_not_in_the_keyring(well):
    well.execute("""
        INSERT INTO fieldcrypt.root_key (name, check_value)
        SELECT 'of ''old''', check_value FROM fieldcrypt.root_key""")
    yield (
        "root key \"of 'old'\"",
        "DELETE FROM fieldcrypt.root_key WHERE name = 'of ''old''';",
    )


@case(
    "warning",
    "comes from the environment, which other programs of the same user can read: for development",
)
def key_of_the_environment(well):
    key = key_file(well).read_text().strip()
    write_file(well.cluster.keyring, '[root.main]\nprovider = "env"\nvariable = "ROOT_KEY"\n')
    well.cluster.env = {"ROOT_KEY": key}
    well.restart()

    def carry_out(_):
        write_keyring(well.cluster.keys_dir)
        well.cluster.env = {}
        well.restart()

    yield (
        'root key "main"',
        'In the keyring file: provider = "file", and path = the name of a file of mode 0400 that'
        " holds the key.",
        carry_out,
    )


def in_a_shared_folder(subject, beside):
    @case(
        "warning",
        "is in a folder that another user can write to, and could be replaced",
        beside=[beside],
        id=f"shared_folder_of_{subject[:4]}",
    )
    def run(well):
        well.cluster.keys_dir.chmod(0o702)
        yield (
            subject,
            "chown root and chmod go-w each folder above the file.",
            lambda _: well.cluster.keys_dir.chmod(0o700),
        )


in_a_shared_folder("keyring", "is in a folder")
in_a_shared_folder('root key "main"', "is in a folder")


def old_root(severity, interval, finding):
    @case(
        severity,
        finding,
        beside=["is a previous one"],
        id=f"root_key_of_{interval.replace(' ', '_')}",
    )
    def run(well):
        well.execute(f"UPDATE fieldcrypt.root_key SET created_at = now() - interval '{interval}'")

        def carry_out(_):
            write_keyring(well.cluster.keys_dir, {"main": "previous", "new": "current"})

        yield (
            'root key "main"',
            'Make a new key, name it in the keyring with state = "current", and this one with state'
            ' = "previous", reload, and: SELECT fieldcrypt.rotate_root()',
            carry_out,
        )
        (well.cluster.keys_dir / "new.key").unlink()
        write_keyring(well.cluster.keys_dir)
        well.execute("UPDATE fieldcrypt.root_key SET created_at = now()")


old_root("notice", "13 months", YEAR)
old_root("warning", "25 months", TWO_YEARS)
