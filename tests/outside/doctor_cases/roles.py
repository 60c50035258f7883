"""Roles, their members, and grants."""

from harness import VERSION

from .case import case, grant, revoke


@case("warning", "is a superuser, and may decrypt")
def superuser_with_decrypt(well):
    grant(well, "postgres", "decrypt")
    yield (
        "role postgres (grant to postgres of field lead.* of account acme)",
        revoke("postgres", "decrypt", "acme", "lead.*"),
    )


@case("warning", "is a superuser, and may decrypt")
def superuser_with_decrypt_by_a_group(well):
    well.role("boss", "SUPERUSER LOGIN")
    well.role("managers")
    well.role("readers")
    grant(well, "readers", "decrypt,mask", "*", "lead.ssn")
    well.execute("GRANT readers TO managers; GRANT managers TO boss")
    yield (
        "role boss (grant to readers of field lead.ssn of account *)",
        "REVOKE managers FROM boss;",
    )


@case("notice", "may decrypt every field of every account")
def decrypts_everything(well):
    well.role("reader", "LOGIN")
    grant(well, "reader", "search,decrypt", "*", "*")
    yield "role reader", revoke("reader", "decrypt", "*", "*")


@case("warning", "grants rights as a member of fieldcrypt_grantor, and may decrypt")
def grantor_who_decrypts(well):
    well.role('"Bob"', "LOGIN")
    well.role("team")
    well.execute('GRANT fieldcrypt_grantor TO team; GRANT team TO "Bob"')
    grant(well, '"Bob"', "decrypt")
    yield 'role "Bob"', 'REVOKE team FROM "Bob";'


@case("warning", "manages keys as a member of fieldcrypt_key_admin, and may decrypt")
def key_admin_who_decrypts(well):
    well.role("keeper", "LOGIN")
    well.role("team", "NOINHERIT")
    well.execute("GRANT fieldcrypt_key_admin TO keeper; GRANT app TO team; GRANT team TO keeper")
    yield "role keeper", "REVOKE fieldcrypt_key_admin FROM keeper;"


@case("notice", "is in several administrative roles: nobody oversees it")
def several_administrative_roles(well):
    well.role("admin", "LOGIN")
    well.execute("GRANT fieldcrypt_key_admin, fieldcrypt_grantor, fieldcrypt_auditor TO admin")
    yield (
        "role admin",
        "REVOKE fieldcrypt_grantor FROM admin; REVOKE fieldcrypt_auditor FROM admin;",
    )


@case("notice", "is in several administrative roles: nobody oversees it")
def roles_that_another_role_has_granted(well):
    """From 16 on a membership is revoked as the one who granted it."""
    well.role("chief", "LOGIN CREATEROLE")
    well.role("admin", "LOGIN")
    well.execute("GRANT fieldcrypt_admin TO chief WITH ADMIN OPTION")
    with well.connect("chief") as chief:
        chief.execute("GRANT fieldcrypt_admin TO admin")
    well.execute("GRANT fieldcrypt_key_admin TO admin")
    by = " GRANTED BY chief" if VERSION >= 16 else ""
    yield "role admin", f"REVOKE fieldcrypt_admin FROM admin{by};"


RESTORE = "puts in ciphertext as it is (fieldcrypt_restore), and "


@case("warning", RESTORE + "has rights on fields: it can read what it copies")
def restorer_with_rights(well):
    well.role("loader", "LOGIN REPLICATION")
    well.execute("GRANT fieldcrypt_restore TO loader")
    grant(well, "loader", "mask")
    yield "role loader", "REVOKE fieldcrypt_restore FROM loader;"


@case("notice", RESTORE + "is not for replication")
def restorer(well):
    well.role("loader", "LOGIN")
    well.role("replicator", "LOGIN REPLICATION")
    well.execute("GRANT fieldcrypt_restore TO loader, replicator")
    yield "role loader", "REVOKE fieldcrypt_restore FROM loader;"


@case("warning", "is to a role whose members are in it for something else")
def grant_to_a_role_of_postgresql(well):
    grant(well, "pg_monitor", "search,mask", "*", "lead.ssn")
    yield (
        "grant to pg_monitor of field lead.ssn of account *",
        revoke("pg_monitor", "search,mask", "*", "lead.ssn"),
    )


@case("warning", "is to a role whose members are in it for something else")
def grant_to_an_administrative_role(well):
    grant(well, "fieldcrypt_auditor", "mask")
    yield (
        "grant to fieldcrypt_auditor of field lead.* of account acme",
        revoke("fieldcrypt_auditor", "mask", "acme", "lead.*"),
    )


@case("notice", "is to a role that everyone who can log in is in")
def grant_to_everyone(well):
    well.role("everyone")
    members = well.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper")
    names = ", ".join(name for (name,) in members)
    well.execute(f"GRANT everyone TO {names}")
    grant(well, "everyone", "mask", "*", "*")
    yield "grant to everyone of field * of account *", revoke("everyone", "mask", "*", "*")


@case("notice", "is for an account that does not exist")
def grant_for_no_account(well):
    grant(well, "outsider", "mask", "acne", "lead.ssn")
    yield (
        "grant to outsider of field lead.ssn of account acne",
        revoke("outsider", "mask", "acne", "lead.ssn"),
    )


@case("notice", "is for a field that does not exist")
def grant_for_no_field(well):
    grant(well, "outsider", "mask", "acme", "leads.*")
    yield (
        "grant to outsider of field leads.* of account acme",
        revoke("outsider", "mask", "acme", "leads.*"),
    )


@case("notice", "is for a field that does not exist")
def grant_for_no_such_field(well):
    grant(well, "outsider", "mask", "acme", "lead.sn")
    yield (
        "grant to outsider of field lead.sn of account acme",
        revoke("outsider", "mask", "acme", "lead.sn"),
    )


@case("notice", "is for a role that does not exist")
def grant_for_no_role(well):
    well.role("gone")
    grant(well, "gone", "mask", "acme", "lead.ssn")
    oid = well.value("SELECT 'gone'::regrole::oid")
    well.execute("DROP ROLE gone")
    yield (
        f"grant to {oid} of field lead.ssn of account acme",
        f"DELETE FROM fieldcrypt.access_grant WHERE role = '{oid}'::regrole;",
    )


OWNER = "belongs to a role that also uses it: it can switch off what holds values to their account"


@case("notice", OWNER)
def owner_who_uses_the_table(well):
    well.execute("ALTER TABLE lead OWNER TO app")
    yield "table public.lead (owner app)", "ALTER TABLE public.lead OWNER TO postgres;"


@case("notice", OWNER)
def owner_whose_member_uses_the_table(well):
    well.role("owners")
    well.execute("ALTER TABLE lead OWNER TO owners; GRANT owners TO app")
    yield "table public.lead (owner owners)", "ALTER TABLE public.lead OWNER TO postgres;"
