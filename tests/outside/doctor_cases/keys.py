"""Accounts and their keys."""

import re

from .case import TWO_YEARS, YEAR, case


def worn_key(severity, count, finding):
    @case(severity, finding, id=f"key_of_{count}_values")
    def run(well):
        well.execute("SELECT fieldcrypt.create_field('lead.token', suite => 'aes-256-gcm')")
        key = well.value(
            "SELECT key_id FROM fieldcrypt.account_key"
            " WHERE account = 'acme' AND purpose = 'data' AND state = 'active'"
        )
        well.execute(
            "INSERT INTO fieldcrypt.key_use (key_id, field_id, sealed)"
            " SELECT %s, field_id, %s / 4 FROM fieldcrypt.field, generate_series(1, 4)"
            " WHERE name = 'lead.token'",
            [key, count],
        )
        yield (
            f'key {key} of account "acme" in field lead.token',
            "SELECT fieldcrypt.rotate_account_key('acme');",
        )
        well.execute("SELECT fieldcrypt.drop_field('lead.token')")
        well.execute("DELETE FROM fieldcrypt.key_use")


worn_key("warning", 2**31, "has sealed more than 2^31 values, and stops at 2^32")
worn_key("error", 2**32, "has sealed 2^32 values, and seals no more")


def old_data_key(severity, interval, finding):
    @case(severity, finding, id=f"data_key_of_{interval.replace(' ', '_')}")
    def run(well):
        well.execute(
            f"UPDATE fieldcrypt.account_key SET created_at = now() - interval '{interval}'"
            " WHERE account = 'globex'"
        )
        yield (
            'data key of account "globex"',
            "SELECT fieldcrypt.rotate_account_key('globex');",
        )


old_data_key("notice", "13 months", YEAR)
old_data_key("warning", "25 months", TWO_YEARS)


@case("notice", "has been disabled for more than a year")
def disabled_account(well):
    well.execute("SELECT fieldcrypt.disable_account('globex')")
    well.execute(
        "UPDATE fieldcrypt.account SET changed_at = now() - interval '13 months'"
        " WHERE account = 'globex'"
    )
    yield 'account "globex"', "SELECT fieldcrypt.enable_account('globex');"


@case("notice", "lets a session set up N keys, of which only N fit into locked memory")
def locked_memory(well):
    well.execute("SELECT fieldcrypt.create_account('a' || i) FROM generate_series(1, 100) AS i")
    well.restart_with_locked_memory(100_000)
    found = well.finding("setting fieldcrypt.key_cache_size")
    wanted, lockable = map(int, re.findall(r"\d+", found.finding))
    assert wanted == (102 * 2 + 1) * 2 and lockable in range(50, 200), found
    yield (
        "setting fieldcrypt.key_cache_size",
        f"ALTER SYSTEM SET fieldcrypt.key_cache_size = {lockable}; SELECT pg_reload_conf(); -- or"
        " raise ulimit -l",
    )
    well.system("fieldcrypt.key_cache_size", None)
    well.restart()


@case("notice", "lets a session set up N keys, of which only N fit into locked memory")
def no_locked_memory(well):
    well.restart_with_locked_memory(0)
    yield (
        "setting fieldcrypt.key_cache_size",
        "Raise the limit on locked memory (ulimit -l, LimitMEMLOCK of systemd).",
        lambda _: well.restart(),
    )
