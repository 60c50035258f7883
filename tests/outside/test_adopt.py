"""Adoption: what other software encrypted becomes values of a field, inside the server.

The values are those of core/tests/interop, which the other software has made.
"""

import json
import secrets
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from expect import refused, texts
from harness import Cluster, account_database, write_file, write_keyring

INTEROP = Path(__file__).parents[2] / "core/tests/interop"

FORMATS = {
    "node_gcm:iv:tag:ct:hex": "gcm-iv-tag-ciphertext-hex",
    "node_gcm:iv:tag:ct:base64": "gcm-iv-tag-ciphertext-base64",
    "node_gcm:iv:ct:tag:hex": "gcm-iv-ciphertext-tag-hex",
    "node_gcm:enc:v1:base64url": "gcm-enc-v1",
    "node_gcm:json:hex": "gcm-json-hex",
    "gcm_b64:nonce||ct||tag": "gcm-base64",
    "lerian:v1:b64(nonce||ct||tag)": "gcm-base64",
    "lerian:v4:tink:v1": "tink",
    "node_cbc:iv:ct:hex": "cbc-iv-ciphertext-hex",
    "php_openssl:b64(iv||ct)": "cbc-base64",
    "php_openssl:b64(b64ct::iv)": "cbc-base64-colons",
    "laravel:aes-256-cbc:encryptString": "laravel",
    "laravel:aes-256-gcm:encryptString": "laravel",
    "laravel:aes-256-cbc:encrypt(serialized)": "laravel-serialized",
    "rails:ar_encryption:sha256": "rails",
    "rails:ar_encryption:envelope:sha256": "rails",
    "fernet:0x80": "fernet",
    "pgcrypto:encrypt:aes-cbc-zero-iv": "pgcrypto-encrypt",
    "pgcrypto:encrypt_iv:aes-cbc": "pgcrypto-encrypt-iv",
    "pgcrypto:pgp_sym:default": "pgp-symmetric",
    "pgcrypto:pgp_sym:aes256": "pgp-symmetric",
    "pgcrypto:pgp_sym:armored": "pgp-symmetric",
    "gnupg:symmetric:3des": "pgp-symmetric",
    "gnupg:symmetric:cast5": "pgp-symmetric",
    "gnupg:symmetric:blowfish": "pgp-symmetric",
    "gnupg:symmetric:aes256": "pgp-symmetric",
}
HEX = 'encoding = "hex"'
TEXT = 'encoding = "text"'
RAILS = 'encoding = "text"\nderive = "pbkdf2-sha256"\nsalt = "the salt"\niterations = 65536'
KEY = bytes(range(32)).hex()
KEYS = {
    "hex": (KEY, HEX),
    "laravel": ("base64:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 'encoding = "base64"'),
    "fernet": ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 'encoding = "base64"'),
    "rails": ("the primary key", RAILS),
    "passphrase": ("passphrase", TEXT),
    # PHP fills up a short key; of a digest in hexadecimal it takes the first half
    "short-secret": ("short-secret", TEXT),
    "password": ("password", f'{TEXT}\nderive = "sha256-hex"'),
    # pgcrypto takes the first 32 bytes of 40
    "long": ("K" * 40, TEXT),
    "blind-index-secret": ("blind-index-secret", TEXT),
    "hash-secret": ("hash-secret", TEXT),
    "blind-secret": ("blind-secret", TEXT),
    "wrong": (secrets.token_hex(32), HEX),
    "acme-key": (KEY, HEX),
    "of-acme": (KEY, f'{HEX}\naccount = "acme"'),
}
IV = bytes.fromhex("101112131415161718191a1b1c1d1e1f")
VALUE = "acb5f631dfc92effb5e06af4:0d023f659c016851452dc2fa7811d435:416a8dc19e3dc1bc097975"


def fixtures():
    for name in "node", "py", "pgcrypto", "gnupg":
        for case in json.loads((INTEROP / f"{name}.json").read_text())["cases"]:
            name = case["format"].removesuffix(":iv12").removesuffix(":iv16")
            if name in FORMATS:
                yield case, FORMATS[name]


def key_of(case, format):
    if isinstance(case.get("key"), dict):
        return "rails"
    key = case.get("key_hex") or case["key"]
    by_text = {"short-secret": "short-secret", "password": "password", "passphrase": "passphrase"}
    if key == b"short-secret".hex():
        return "short-secret"
    if key == (b"K" * 40).hex():
        return "long"
    if format == "fernet":
        return "fernet"
    return by_text.get(key) or ("laravel" if key.startswith("base64:") else "hex")


def arguments(case, format):
    """The stored value, and what belongs to it."""
    stored = case["value"]
    if format in ("pgcrypto-encrypt", "pgcrypto-encrypt-iv", "pgp-symmetric"):
        stored = bytes.fromhex(stored)
    iv = IV if format == "pgcrypto-encrypt-iv" else None
    return [stored, format, key_of(case, format), case.get("aad"), iv]


@pytest.fixture(scope="module")
def server():
    """A server of its own with all keys. Its superuser may encrypt and decrypt."""
    cluster = Cluster()
    write_keyring(cluster.keys_dir, adoption_keys=KEYS)
    cluster.settings |= {"log_min_duration_statement": 0, "fieldcrypt.redact_log": "off"}
    with cluster, account_database(cluster) as database:
        database.execute("""
            SELECT fieldcrypt.create_field('doc.text');
            CREATE ROLE migrator LOGIN IN ROLE fieldcrypt_admin;
            SELECT fieldcrypt.grant_access('migrator', '{encrypt,search,decrypt}', 'acme', '*');
            CREATE ROLE administrator LOGIN IN ROLE fieldcrypt_admin;
            GRANT CREATE ON SCHEMA public TO migrator;
        """)
        yield database


@pytest.fixture(scope="module")
def migrator(server):
    with server.connect("migrator", options="-c fieldcrypt.account=acme") as connection:
        yield connection


ADOPT = """
    SELECT fieldcrypt.decrypt(fieldcrypt.adopt(%s, %s, %s, 'doc.text', associated_data => %s,
        iv => %s))
"""
CHECK = "SELECT fieldcrypt.adopt_check(%s, %s, %s, associated_data => %s, iv => %s)"


def test_values_of_other_software_are_adopted(migrator):
    counts = {"ok": 0, "error": 0}
    for case, format in fixtures():
        values = arguments(case, format)
        checked = migrator.execute(CHECK, values).fetchone()[0]
        if case["expect"] == "ok":
            assert migrator.execute(ADOPT, values).fetchone()[0] == case["plaintext"], case
            assert checked == f"opens with {values[2]}"
            counts["ok"] += 1
        elif case["expect"] == "error_or_garbage":
            with refused("XX001", "decryption failed"):
                migrator.execute(ADOPT, values)
        else:
            with pytest.raises(psycopg.Error) as caught:
                migrator.execute(ADOPT, values)
            assert caught.value.sqlstate in ("XX001", "22P02"), case
            assert not checked.startswith("opens")
            if case["expect"] == "not_encrypted":
                assert checked == "is not of this format"
            counts["error"] += 1
    assert counts == {"ok": 145, "error": 11}


def test_a_hash_is_not_a_format(migrator):
    with refused("22023", 'invalid value for "format"'):
        migrator.execute("SELECT fieldcrypt.adopt('x', 'hmac-sha256-hex', 'hex', 'doc.text')")


ERRORS = {
    "wrong key": ("XX001", VALUE, "gcm-iv-tag-ciphertext-hex", "wrong"),
    "altered": ("XX001", VALUE[:-1] + "4", "gcm-iv-tag-ciphertext-hex", "hex"),
    "wrong order": ("22P02", VALUE, "gcm-iv-ciphertext-tag-hex", "hex"),
    "plain": ("22P02", "123-45-6789", "gcm-iv-tag-ciphertext-hex", "hex"),
    "no such key": ("F0000", VALUE, "gcm-iv-tag-ciphertext-hex", "none"),
    "a root key": ("F0000", VALUE, "gcm-iv-tag-ciphertext-hex", "main"),
    "key length": ("F0000", VALUE, "gcm-iv-tag-ciphertext-hex", "short-secret"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_errors_tell_no_value(migrator, error):
    sqlstate, stored, format, key = ERRORS[error]
    with refused(sqlstate) as caught:
        migrator.execute(ADOPT, [stored, format, key, None, None])
    diag = caught.value.diag
    said = f"{diag.message_primary} {diag.message_detail} {diag.message_hint} {diag.context}"
    assert diag.message_hint
    assert not any(part in said for part in stored.split(":"))


def test_threat_a7_wrong_padding_and_wrong_key_are_one_error(migrator):
    """Nobody learns from the error which check failed."""
    said = set()
    for last in range(256):
        stored = f"{'42' * 16}:{'42' * 15}{last:02x}{'42' * 16}"
        with refused("XX001") as caught:
            migrator.execute(ADOPT, [stored, "cbc-iv-ciphertext-hex", "hex", None, None])
        said.add((caught.value.diag.message_primary, caught.value.diag.message_hint))
    assert len(said) == 1


def test_keys_before_the_current_one_are_tried(migrator):
    adopt = (
        "SELECT fieldcrypt.decrypt(fieldcrypt.adopt(%s, %s, 'wrong', 'doc.text',"
        " previous_keys => '{fernet,hex}'))"
    )
    values = [VALUE, "gcm-iv-tag-ciphertext-hex"]
    assert migrator.execute(adopt, values).fetchone() == ("123-45-6789",)
    check = "SELECT fieldcrypt.adopt_check(%s, %s, 'wrong', previous_keys => '{fernet,hex}')"
    assert migrator.execute(check, values).fetchone() == ("opens with fernet",)
    # without a tag a wrong key can pass for the right one
    with refused("22023", "previous_keys"):
        migrator.execute(adopt, [VALUE, "cbc-base64"])


def test_the_name_of_a_key_holds_the_account(server, migrator):
    adopt = "SELECT fieldcrypt.adopt(%s, 'gcm-iv-tag-ciphertext-hex', %s, 'doc.text', %s) IS NULL"
    assert migrator.execute(adopt, [VALUE, "{account}-key", "acme"]).fetchone() == (False,)
    assert migrator.execute(adopt, [VALUE, "of-{account}", "acme"]).fetchone() == (False,)
    server.execute("SELECT fieldcrypt.grant_access('migrator', '{encrypt}', 'globex', 'doc.text')")
    with refused("F0000", 'adoption key "globex-key" is not in the keyring'):
        migrator.execute(adopt, [VALUE, "{account}-key", "globex"])
    with refused("F0000", 'adoption key "of-acme" is another account\'s'):
        migrator.execute(adopt, [VALUE, "of-acme", "globex"])


def test_role_and_right_are_both_needed(server):
    adopt = "SELECT fieldcrypt.adopt(%s, 'gcm-iv-tag-ciphertext-hex', 'hex', 'lead.ssn', 'acme')"
    # `app` may encrypt, `administrator` is in the role; neither is the other
    with server.connect("app") as app, refused("42501"):
        app.execute(adopt, [VALUE])
    with server.connect("administrator") as administrator:
        for stored in VALUE, "123-45-6789":
            with refused("42501", "permission denied to encrypt"):
                administrator.execute(adopt, [stored])
        document = (
            "SELECT fieldcrypt.adopt('{\"a\": \"x\"}'::jsonb, '{a}', 'fernet', 'fernet',"
            " 'lead.ssn', 'acme')"
        )
        with refused("42501", "permission denied to encrypt"):
            administrator.execute(document)
    with refused("42501", "permission denied to encrypt"):
        server.execute(adopt, [VALUE])
    # whoever may call the function all the same is asked for the role
    server.execute(
        "GRANT EXECUTE ON FUNCTION fieldcrypt.adopt(text,text,text,text,text,text[],"
        "text,bytea) TO app"
    )
    with server.connect("app") as app, refused("42501", "membership in role"):
        app.execute(adopt, [VALUE])
    server.execute(
        "REVOKE EXECUTE ON FUNCTION fieldcrypt.adopt(text,text,text,text,text,text[],"
        "text,bytea) FROM app"
    )


def test_the_audit_counts_what_was_adopted(server, migrator):
    server.execute("SELECT fieldcrypt.flush_audit()")
    last = server.value("SELECT max(seq) FROM fieldcrypt.audit")
    migrator.execute(
        "SELECT fieldcrypt.adopt(v, 'gcm-iv-tag-ciphertext-hex', 'hex', 'doc.text')"
        " FROM unnest(%s::text[]) AS v",
        [[VALUE] * 3],
    )
    with refused("XX001"):
        migrator.execute(ADOPT, [VALUE, "gcm-iv-tag-ciphertext-hex", "wrong", None, None])
    migrator.execute(CHECK, [VALUE, "gcm-iv-tag-ciphertext-hex", "hex", None, None])
    server.execute("SELECT fieldcrypt.flush_audit()")
    events = server.execute(
        "SELECT outcome, field, account, count, detail, acting_role FROM fieldcrypt.audit"
        " WHERE seq > %s AND action = 'adopt' ORDER BY seq",
        [last],
    ).fetchall()
    detail = 'format gcm-iv-tag-ciphertext-hex, key "{}"'
    assert events == [
        ("done", "doc.text", "acme", 3, detail.format("hex"), "migrator"),
        ("failed", "doc.text", "acme", 1, detail.format("wrong"), "migrator"),
        ("checked", None, None, 1, detail.format("hex"), "migrator"),
    ]


def test_a_column_is_adopted_by_an_update(server, migrator):
    migrator.execute(f"""
        CREATE TABLE person (id int PRIMARY KEY, account_id text NOT NULL, ssn text);
        INSERT INTO person SELECT n, 'acme', '{VALUE}' FROM generate_series(1, 100) AS n
    """)
    migrator.execute("INSERT INTO person VALUES (101, 'acme', NULL), (102, 'acme', '12-3')")
    check = (
        "SELECT * FROM fieldcrypt.adopt_check_column('person', 'ssn',"
        " 'gcm-iv-tag-ciphertext-hex', '{account}-key', account_column => 'account_id')"
    )
    assert migrator.execute(check).fetchall() == [
        ("is not of this format", 1),
        ("opens with acme-key", 100),
        (None, 1),
    ]
    migrator.execute("""
        ALTER TABLE person ADD COLUMN ssn_sealed fieldcrypt.encrypted_text('lead.ssn');
        SELECT fieldcrypt.protect_table('person', account_column => 'account_id');
    """)
    update = (
        "UPDATE person SET ssn_sealed = fieldcrypt.adopt(ssn, 'gcm-iv-tag-ciphertext-hex',"
        " '{account}-key', field => 'lead.ssn', account => account_id)"
    )
    with refused("22P02", "value is not of this format"):
        migrator.execute(update)
    assert migrator.execute("SELECT count(ssn_sealed) FROM person").fetchone() == (0,)
    migrator.execute(f"{update} WHERE id <> 102")
    rows = migrator.execute(
        "SELECT fieldcrypt.decrypt(ssn_sealed), count(*) FROM person GROUP BY 1"
    )
    assert sorted(rows, key=str) == [("123-45-6789", 100), (None, 2)]
    assert migrator.execute("SELECT count(DISTINCT ssn_sealed::text) FROM person").fetchone() == (
        100,
    )
    found = "SELECT count(*) FROM person WHERE ssn_sealed = '123 45 6789'"
    assert migrator.execute(found).fetchone() == (100,)


def test_columns_of_other_types_are_not_checked(migrator):
    check = "SELECT * FROM fieldcrypt.adopt_check_column(%s, %s, 'fernet', 'fernet', %s, %s)"
    with refused("42809", "is not of type text or bytea"):
        migrator.execute(check, ["pg_class", "relkind", None, None])
    with refused("42809"):
        migrator.execute(check, ["pg_class", "no_such_column", None, None])
    with refused("22004"):
        migrator.execute(check, ["pg_class", "relname", "acme", "relname"])


def test_bytes_are_adopted(migrator):
    stored = next(c for c, f in fixtures() if f == "pgp-symmetric" and c["plaintext"])
    value = bytes.fromhex(stored["value"])
    (adopted,) = migrator.execute(
        "SELECT fieldcrypt.decrypt(fieldcrypt.adopt_bytea(%s, 'pgp-symmetric', 'passphrase',"
        " 'doc.text'))",
        [value],
    ).fetchone()
    assert bytes(adopted) == stored["plaintext"].encode()
    # Fernet tokens in a bytea column, as of Django
    token = next(c for c, f in fixtures() if f == "fernet" and c["plaintext"])
    (text,) = migrator.execute(
        ADOPT, [token["value"].encode(), "fernet", "fernet", None, None]
    ).fetchone()
    assert text == token["plaintext"]


def test_documents(migrator):
    document = {
        "ssn": VALUE,
        "name": "Ann",
        "ids": [{"n": VALUE}, {"n": None}],
        "n": 1,
        "as_object": {
            "iv": VALUE.split(":")[0],
            "authTag": VALUE.split(":")[1],
            "encrypted": VALUE.split(":")[2],
        },
    }
    adopt = "SELECT fieldcrypt.adopt(%s::jsonb, %s, %s, 'hex', 'doc.text')"
    paths = ["ssn", "ids[*].n", "missing.path"]
    format = "gcm-iv-tag-ciphertext-hex"
    (adopted,) = migrator.execute(adopt, [json.dumps(document), paths, format]).fetchone()
    assert adopted["ssn"].startswith("fc1:") and adopted["ids"][0]["n"].startswith("fc1:")
    assert adopted["ids"][1] == {"n": None}
    # once more changes nothing: what is adopted stays
    (again,) = migrator.execute(adopt, [json.dumps(adopted), paths, format]).fetchone()
    assert again == adopted
    values = [json.dumps(adopted), ["as_object"], "gcm-json-hex"]
    (whole,) = migrator.execute(adopt, values).fetchone()
    (plain,) = migrator.execute("SELECT fieldcrypt.decrypt(%s::jsonb)", [json.dumps(whole)])
    plain = plain[0]
    assert plain == {
        **document,
        "ssn": "123-45-6789",
        "as_object": "123-45-6789",
        "ids": [{"n": "123-45-6789"}, {"n": None}],
    }
    for path, at in ("n", "n"), ("name", "name"), ("ids", "ids"):
        with refused("22P02", rf"value is not of this format .*\(path {at}\)"):
            migrator.execute(adopt, [json.dumps(document), [path], format])
    with refused("22023"):
        migrator.execute(adopt, [json.dumps(document), ["a..b"], format])


def test_protected_documents_are_adopted_by_an_update(migrator):
    migrator.execute(f"""
        CREATE TABLE lead_document (id int PRIMARY KEY, account_id text NOT NULL, data jsonb);
        INSERT INTO lead_document
        SELECT n, 'acme', jsonb_build_object('ssn', '{VALUE}', 'source', 'web')
        FROM generate_series(1, 20) AS n
    """)
    migrator.execute("""
        SELECT fieldcrypt.protect_jsonb('lead_document', 'data', name => 'adopted.data',
            account_column => 'account_id');
        SELECT fieldcrypt.protect_path('adopted.data', '{ssn}', field => 'lead.ssn');
        UPDATE lead_document SET data = fieldcrypt.adopt(data, '{ssn}',
            'gcm-iv-tag-ciphertext-hex', 'hex', field => 'lead.ssn', account => account_id);
    """)
    rows = migrator.execute("SELECT data, fieldcrypt.decrypt(data) FROM lead_document").fetchall()
    assert len({stored["ssn"] for stored, _ in rows}) == 20
    assert all(plain == {"ssn": "123-45-6789", "source": "web"} for _, plain in rows)


def sealed(document):
    """A document as Node.js applications encrypt one as a whole."""
    iv = secrets.token_bytes(12)
    made = AESGCM(bytes(range(32))).encrypt(iv, json.dumps(document).encode(), None)
    return f"{iv.hex()}:{made[-16:].hex()}:{made[:-16].hex()}"


ADOPT_DOCUMENT = (
    "SELECT fieldcrypt.adopt_document(%s, 'gcm-iv-tag-ciphertext-hex', 'hex', 'whole.data')"
)


@pytest.fixture(scope="module")
def whole(server, migrator):
    """A document whose keys ssn, phones[*].number and address are flagged."""
    migrator.execute("""
        CREATE TABLE whole (id int PRIMARY KEY, account_id text NOT NULL, data jsonb);
        SELECT fieldcrypt.protect_jsonb('whole', 'data', 'whole.data', 'account_id');
        SELECT fieldcrypt.protect_path('whole.data', '{ssn}', 'lead.ssn');
        SELECT fieldcrypt.protect_path('whole.data', '{phones[*].number,address}', 'doc.text');
    """)
    return migrator


def test_a_document_encrypted_as_a_whole_is_taken_apart(whole):
    plain = {
        "ssn": "123-45-6789",
        "phones": [{"number": "1"}, {"number": 2.50}, {}],
        "address": {"city": "Köln", "n": [1, None]},
    }
    (adopted,) = whole.execute(ADOPT_DOCUMENT, [sealed(plain)]).fetchone()
    text = json.dumps(adopted)
    assert text.count("fc1:") == 4 and "123-45" not in text and "K" not in adopted["address"][:3]
    whole.execute(
        "INSERT INTO whole SELECT 1, 'acme', fieldcrypt.adopt_document(%s,"
        " 'gcm-iv-tag-ciphertext-hex', 'hex', 'whole.data') || '{\"source\": \"web\"}'",
        [sealed(plain)],
    )
    found = "SELECT fieldcrypt.decrypt(data) FROM whole WHERE fieldcrypt.tokens(data) &&" + (
        " fieldcrypt.search_tokens('lead.ssn', '123456789')"
    )
    assert whole.execute(found).fetchall() == [({**plain, "source": "web"},)]
    assert whole.execute(ADOPT_DOCUMENT, [sealed({"ssn": None})]).fetchone()[0] == {"ssn": None}


@pytest.mark.parametrize(
    "document",
    [
        {"ssn": "1", "secretkey": "secretvalue"},
        {"phones": [{"number": "1", "secretkey": "secretvalue"}]},
        {"phones": "secretvalue"},
        ["secretvalue"],
        "secretvalue",
        {"secretkey": {}},
    ],
)
def test_what_is_not_flagged_is_not_shown(whole, document):
    with refused("23514", 'value is not flagged .*"whole.data"') as caught:
        whole.execute(ADOPT_DOCUMENT, [sealed(document)])
    assert "secret" not in texts(caught.value)


def test_documents_that_are_none_are_refused(whole, server):
    for document, sqlstate in (
        ({"ssn": "fc1:AAAA"}, "42501"),
        ({"address": {"a": "fc1:AAAA"}}, "42501"),
    ):
        with refused(sqlstate):
            whole.execute(ADOPT_DOCUMENT, [sealed(document)])
    with refused("22P02") as caught:
        whole.execute(ADOPT_DOCUMENT, [VALUE])
    assert "123-45" not in texts(caught.value)
    with refused("42704", 'document "no.such" does not exist'):
        whole.execute(ADOPT_DOCUMENT.replace("whole.data", "no.such"), [VALUE])
    with server.connect("administrator", options="-c fieldcrypt.account=acme") as administrator:
        with refused("42501", "permission denied to encrypt"):
            administrator.execute(ADOPT_DOCUMENT, [VALUE])


def test_the_plain_value_reaches_no_file(server, whole):
    """Neither data, WAL, statistics, temporary files nor the log."""
    canary = secrets.token_hex(16)
    stored = sealed({"ssn": canary, "address": canary})
    text = sealed(canary)  # a JSON string: with quotation marks
    whole.execute("CREATE TABLE quiet (v text, s fieldcrypt.encrypted_text('lead.ssn'), d jsonb)")
    whole.execute("INSERT INTO quiet (v) SELECT %s FROM generate_series(1, 50)", [text])
    adopt = "fieldcrypt.adopt(v, 'gcm-iv-tag-ciphertext-hex', %s, 'lead.ssn')"
    document = ADOPT_DOCUMENT.replace("%s", f"'{stored}'").removeprefix("SELECT ")
    whole.execute(f"UPDATE quiet SET s = {adopt}, d = {document}", ["hex"])
    with refused("XX001"):
        whole.execute(f"UPDATE quiet SET s = {adopt}", ["wrong"])
    with refused("23514"):
        whole.execute(ADOPT_DOCUMENT, [sealed({canary: canary})])
    plan = whole.execute(f"EXPLAIN (VERBOSE, ANALYZE) SELECT {adopt} FROM quiet", ["hex"])
    assert canary not in str(plan.fetchall())
    assert whole.execute("SELECT DISTINCT fieldcrypt.decrypt(s) FROM quiet").fetchall() == [
        (f'"{canary}"',)
    ]
    server.execute("ANALYZE quiet; CHECKPOINT; SELECT fieldcrypt.flush_audit()")
    places = [path for path in server.cluster.dir.rglob("*") if path.is_file()]
    assert len(places) > 500
    assert [path for path in places if canary.encode() in path.read_bytes()] == []
    # what is looked for would be found
    server.execute(f"CREATE TABLE plain AS SELECT '{canary}'::text")
    server.execute("CHECKPOINT")
    assert [path for path in places if canary.encode() in path.read_bytes()] != []


# Keyed hashes

HASHES = {
    "hmac_sha256_hex": ("hmac-sha256-hex", "blind-index-secret", ""),
    "lerian:v1:hash": ("hmac-sha256-hex", "hash-secret", ""),
    "lerian:v4:search_token": (
        "hmac-sha256-base64url",
        "hex",
        "tenant:default:org:0190:field:document:",
    ),
    "pgcrypto:hmac-sha256": ("hmac-sha256-hex", "blind-secret", ""),
}


def test_hashes_of_other_software_are_those_of_the_adopted_values(server, migrator):
    check = "SELECT fieldcrypt.adopt_check_hash(%s, %s, %s, fieldcrypt.encrypt(%s, 'lead.ssn'), %s)"
    count = 0
    for name in "node", "py", "pgcrypto", "gnupg":
        for case in json.loads((INTEROP / f"{name}.json").read_text())["cases"]:
            if case["format"] in HASHES:
                form, key, prefix = HASHES[case["format"]]
                of = [case["value"], form, key, case["plaintext"], prefix]
                assert migrator.execute(check, of).fetchone() == (True,), case
                of[3] += "x"
                assert migrator.execute(check, of).fetchone() == (False,), case
                count += 1
    assert count == 26
    with refused("22023"):
        migrator.execute(check, ["x", "md5", "hex", "x", ""])
    # it needs the role, and the right to search
    server.execute("SELECT fieldcrypt.grant_access('administrator', '{encrypt}', 'acme', '*')")
    options = "-c fieldcrypt.account=acme"
    with server.connect("administrator", options=options) as administrator:
        with refused("42501", "permission denied to search"):
            administrator.execute(check, ["x", "hmac-sha256-hex", "hex", "x", ""])
    server.execute("SELECT fieldcrypt.revoke_access('administrator', '{encrypt}', 'acme', '*')")
    with server.connect("app", options=options) as app, refused("42501"):
        app.execute(check, ["x", "hmac-sha256-hex", "hex", "x", ""])


# The keyring


def with_keyring(server, toml, work):
    """Runs `work` while the server reads a keyring with other adoption keys."""
    keyring = server.cluster.keyring
    own = keyring.read_text()
    try:
        write_file(keyring, own.partition("[adopt")[0] + toml)
        reload(server)
        work()
    finally:
        write_file(keyring, own)
        reload(server)


def reload(server):
    before = server.value("SELECT pg_conf_load_time()")
    server.execute("SELECT pg_reload_conf()")
    while server.value("SELECT pg_conf_load_time()") == before:
        pass


def entry(path, options=HEX):
    return f'[adopt.k]\nprovider = "file"\npath = "{path}"\n{options}\n'


# text of the key, its mode, options, and what is refused
BAD_KEYS = {
    "readable by others": (KEY, 0o444, HEX, "can be used by other users"),
    "empty": ("", 0o400, TEXT, "has the wrong length"),
    "not hexadecimal": ("xyz", 0o400, HEX, "is not of the encoding"),
    "not base64": ("***", 0o400, 'encoding = "base64"', "is not of the encoding"),
    "of zeros": ("00" * 32, 0o400, HEX, "is not random"),
    "too long": ("x" * 1024, 0o400, f'{TEXT}\nderive = "sha256"', None),
    "too much work": (
        "x",
        0o400,
        f'{TEXT}\nderive = "pbkdf2-sha1"\nsalt = "s"\niterations = 99999999',
        "asks for too much work",
    ),
    "no salt": ("x", 0o400, f'{TEXT}\nderive = "scrypt"', 'describes adoption key "k" wrongly'),
    "no encoding": (KEY, 0o400, "", 'describes adoption key "k" wrongly'),
    "unknown derivation": (
        KEY,
        0o400,
        f'{HEX}\nderive = "md5"',
        'describes adoption key "k" wrongly',
    ),
    "wrong length": (KEY[:40], 0o400, HEX, "has a length that the format does not take"),
}


@pytest.mark.parametrize("fault", BAD_KEYS)
def test_threat_d1_bad_adoption_keys_are_refused(server, fault):
    text, mode, options, message = BAD_KEYS[fault]
    path = server.cluster.keys_dir / f"bad-{secrets.token_hex(4)}.key"
    write_file(path, text, mode)

    def adopt():
        with server.connect("migrator", options="-c fieldcrypt.account=acme") as connection:
            # the roots are none the worse for it
            connection.execute("SELECT fieldcrypt.encrypt('1', 'doc.text')")
            with refused("XX001" if message is None else "F0000", message):
                connection.execute(ADOPT, [VALUE, "gcm-iv-tag-ciphertext-hex", "k", None, None])

    with_keyring(server, entry(path, options), adopt)


def test_threat_d1_adoption_keys_are_no_roots_and_roots_no_adoption_keys(server):
    cluster = server.cluster
    root = cluster.keys_dir / "main.key"
    copy = cluster.keys_dir / "copy.key"
    write_file(copy, root.read_text(), 0o400)
    inside = cluster.data_dir / "inside.key"
    write_file(inside, KEY, 0o400)

    def fails_with(message):
        def adopt():
            with server.connect("migrator", options="-c fieldcrypt.account=acme") as connection:
                with refused("F0000", message):
                    connection.execute(ADOPT, [VALUE, "gcm-iv-tag-ciphertext-hex", "k", None, None])

        return adopt

    with_keyring(server, entry(root), fails_with('adoption key "k" is root key "main"'))
    with_keyring(server, entry(copy), fails_with('adoption key "k" is root key "main"'))
    with_keyring(server, entry(inside), fails_with("is in the data directory"))
    with_keyring(server, entry("/nowhere.key"), fails_with("does not exist"))
    inside.unlink()
    # an account is made under the current root key, whatever else the keyring names
    assert server.value("SELECT count(*) FROM fieldcrypt.root_key") == 1
