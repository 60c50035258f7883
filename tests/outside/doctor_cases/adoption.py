"""Keys of other software, by which its values are adopted."""

import secrets

from .case import PROBLEM, case, write_keyring

SUBJECT = 'adoption key "lent"'
UNUSED = "is used by no job: who may adopt opens its values"
HEX = 'encoding = "hex"'


def lend(well, text=None, options=HEX):
    """Names a key of other software in the keyring."""
    key = (text or secrets.token_hex(32), options)
    write_keyring(well.cluster.keys_dir, adoption_keys={"lent": key})


def take_back(well):
    """Takes it out again."""
    write_keyring(well.cluster.keys_dir)
    (well.cluster.keys_dir / "adopt-lent.key").unlink(missing_ok=True)


def start_job(well, key="lent"):
    """A job that has stopped in the middle, and needs the key."""
    well.execute("""
        INSERT INTO fieldcrypt.job (target, action, cut_over, state)
        VALUES ('public.lead.old', 'adopt_column', true, 'paused')""")
    well.execute(
        "INSERT INTO fieldcrypt.adoption (target, terms)"
        " VALUES ('public.lead.old', jsonb_build_object('key', %s::text, 'previous_keys',"
        " jsonb_build_array('main_previous')))",
        [key],
    )


@case("notice", UNUSED)
def adoption_key_without_a_job(well):
    lend(well)
    yield (
        SUBJECT,
        "Take it out of the keyring file when nothing is left to adopt, and keep it where backups"
        " need it.",
        lambda _: take_back(well),
    )
    # nor is it said of one that a job uses, by its name or by the account's
    for key in "lent", "le{account}":
        lend(well)
        start_job(well, key)
        assert well.findings() == []
        well.execute("DELETE FROM fieldcrypt.job; DELETE FROM fieldcrypt.adoption")
    take_back(well)


def broken(severity, id, uses_it):
    @case(severity, PROBLEM, beside=[UNUSED], id=id)
    def run(well):
        lend(well)
        (well.cluster.keys_dir / "adopt-lent.key").chmod(0o404)
        if uses_it:
            start_job(well)
        yield (
            SUBJECT,
            "chmod 0400 the file of a key, and 0600 the keyring file.",
            lambda _: take_back(well),
            f"the file of {SUBJECT} can be used by other users",
        )
        well.execute("DELETE FROM fieldcrypt.job; DELETE FROM fieldcrypt.adoption")


broken("warning", "adoption_key_readable_by_others", False)
broken("error", "adoption_key_of_a_job_readable_by_others", True)


@case("warning", PROBLEM, beside=[UNUSED])
def adoption_key_that_repeats(well):
    lend(well, "ab" * 32)
    yield (
        SUBJECT,
        "Values under such a key are open to everyone. If it really is the key, write it as text.",
        lambda _: take_back(well),
        f"{SUBJECT} is not random: its bytes repeat",
    )


@case("warning", PROBLEM, beside=[UNUSED])
def adoption_key_described_wrongly(well):
    lend(well, options='encoding = "hex"\nderive = "scrypt"')
    yield (
        SUBJECT,
        'Use provider = "file" with path, or provider = "env" with variable; encoding; and what'
        " derive asks for: salt and iterations (pbkdf2), salt (scrypt), salt and info (hkdf).",
        lambda _: take_back(well),
        f"the keyring file describes {SUBJECT} wrongly",
    )


@case(
    "warning",
    "is a passphrase that can be guessed, and with it what the other software has left in backups",
    beside=[UNUSED],
)
def short_passphrase(well):
    lend(well, "hunter2", 'encoding = "text"')
    yield (
        SUBJECT,
        "Adopt its values soon, and delete what was encrypted under it.",
        lambda _: take_back(well),
    )
    # a long one, and a key that is written as text, are not said to be weak
    lend(well, "correct horse battery staple", 'encoding = "text"')
    assert {finding.finding for finding in well.findings()} == {UNUSED}
    take_back(well)


@case("notice", 'is for account "N", which does not exist', beside=[UNUSED])
def adoption_key_of_nobody(well):
    lend(well, options=f'{HEX}\naccount = "nobody"')
    yield (
        SUBJECT,
        "Correct it in the keyring file: its values are adopted for no other account.",
        lambda _: take_back(well),
        'is for account "nobody", which does not exist',
    )
