#!/usr/bin/env python3
"""A second implementation of docs/envelope.md: checks data/vectors.json and data/malformed.json.

It shares no code with fieldcrypt: hashes are Python's, AES is OpenSSL's. Needs the package
`cryptography`. Prints what it checked; exits with 1 if anything differs.
"""

import base64
import hashlib
import hmac
import json
import re
import sys
import unicodedata
import uuid
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA = Path(__file__).parent / "data"


class Refused(Exception):
    """The reason, by its name in malformed.json."""


# framing


def lp(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def label(name):
    return b"fieldcrypt/1/" + name.encode()


def sha256(name, *parts):
    return hashlib.sha256(lp(label(name), *parts)).digest()


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


# section 2: suites


def aes_blocks(key, blocks):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(blocks) + encryptor.finalize()


def xaes(key, nonce):
    """The AES-256-GCM key and nonce of C2SP XAES-256-GCM."""
    doubled = int.from_bytes(aes_blocks(key, bytes(16)), "big") << 1
    if doubled >> 128:
        doubled = doubled & (1 << 128) - 1 ^ 0x87
    derived = b""
    for counter in (1, 2):
        message = bytes([0, counter]) + b"X\0" + nonce[:12]
        block = int.from_bytes(message, "big") ^ doubled
        derived += aes_blocks(key, block.to_bytes(16, "big"))
    return derived, nonce[12:]


class Gcm:
    nonce, tag, key, blocks = 12, 16, 32, False

    @staticmethod
    def inner(key, nonce):
        return key, nonce

    def seal(self, key, nonce, associated, plaintext):
        key, nonce = self.inner(key, nonce)
        return AESGCM(key).encrypt(nonce, plaintext, associated)

    def open(self, key, nonce, associated, sealed):
        key, nonce = self.inner(key, nonce)
        try:
            return AESGCM(key).decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise Refused("OpenError") from None


class Xaes(Gcm):
    nonce = 24
    inner = staticmethod(xaes)


class CbcHs512:
    nonce, tag, key, blocks = 16, 32, 64, True

    def mac(self, key, nonce, associated, ciphertext):
        message = associated + nonce + ciphertext + (len(associated) * 8).to_bytes(8, "big")
        return hmac.new(key[:32], message, hashlib.sha512).digest()[:32]

    def seal(self, key, nonce, associated, plaintext):
        count = 16 - len(plaintext) % 16
        encryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(nonce)).encryptor()
        ciphertext = encryptor.update(plaintext + bytes([count]) * count) + encryptor.finalize()
        return ciphertext + self.mac(key, nonce, associated, ciphertext)

    def open(self, key, nonce, associated, sealed):
        ciphertext, tag = sealed[:-32], sealed[-32:]
        if not hmac.compare_digest(tag, self.mac(key, nonce, associated, ciphertext)):
            raise Refused("OpenError")
        decryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(nonce)).decryptor()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        count = padded[-1]
        if not 1 <= count <= 16 or padded[-count:] != bytes([count]) * count:
            raise Refused("OpenError")
        return padded[:-count]


SUITES = {1: Xaes(), 2: Gcm(), 3: CbcHs512()}


# sections 1 and 3 to 6: what can be read without a key


TEXT, BYTEA, JSON, BIGINT, NUMERIC, DATE, TIMESTAMPTZ, BOOLEAN, UUID = range(1, 10)
PADDED, TRANSIT, TOKEN_ONLY = 0x01, 0x04, 0x08
EXACT, UNIQUE, MEMBER = 1, 2, 7


class Envelope:
    def __init__(self, data):
        if data[:1] not in (b"", b"\xfc"):
            raise Refused("Magic")
        if len(data) < 23:
            raise Refused("Length")
        if data[1] != 1:
            raise Refused("Format")
        if data[2] not in SUITES:
            raise Refused("Suite")
        if not TEXT <= data[3] <= UUID:
            raise Refused("PlaintextType")
        # token only goes with neither of the others
        if data[4] not in (0, PADDED, TRANSIT, PADDED | TRANSIT, TOKEN_ONLY):
            raise Refused("Flags")
        self.suite_number, self.suite = data[2], SUITES[data[2]]
        self.type, flags = data[3], data[4]
        self.padded, self.transit = bool(flags & PADDED), bool(flags & TRANSIT)
        self.token_only = bool(flags & TOKEN_ONLY)
        self.key_id, self.field_id = data[5:13], data[13:21]
        if not valid_key_id(self.key_id):
            raise Refused("KeyId")
        end = 23 + int.from_bytes(data[21:23], "big")
        if self.field_id == bytes(8) and not self.transit or self.transit and end > 23:
            raise Refused("FieldId")
        if len(data) > 512 << 20 or end > 65536 or end > len(data):
            raise Refused("Length")
        self.header, self.sections = data[:end], data[23:end]
        self.tokens = read_sections(self.sections)
        body = len(data) - end - self.suite.nonce - self.suite.tag
        if body < 0 or self.suite.blocks and (body == 0 or body % 16):
            raise Refused("Length")
        self.nonce = data[end : end + self.suite.nonce]
        self.sealed = data[end + self.suite.nonce :]


def valid_key_id(key_id):
    return key_id != bytes(8) and key_id[0] < 0x80


def read_sections(sections):
    """For each section its key id, normalizer, version and groups.

    Groups are {(kind, scope): [token, ...]}.
    """
    found = []
    while sections:
        length = int.from_bytes(sections[:2], "big")
        section, sections = sections[2 : 2 + length], sections[2 + length :]
        if length < 10 or len(section) < length:
            raise Refused("Tokens")
        key_id, normalizer, version, rest = section[:8], section[8], section[9], section[10:]
        # later versions of a normalizer: the tokens mean nothing here, but the value opens
        if not valid_key_id(key_id) or normalizer not in NORMALIZERS or version == 0:
            raise Refused("Tokens")
        groups, last = {}, (0, 0)
        while rest:
            if len(rest) < 5:
                raise Refused("Tokens")
            kind, scope, width, count = *rest[:3], int.from_bytes(rest[3:5], "big")
            tokens, rest = rest[5 : 5 + width * count], rest[5 + width * count :]
            if not EXACT <= kind <= MEMBER or scope > 1 or (kind, scope) <= last:
                raise Refused("Tokens")
            if not 1 <= width <= 32 or count == 0:
                raise Refused("Tokens")
            if kind <= UNIQUE and (width, count) != (16, 1) or len(tokens) != width * count:
                raise Refused("Tokens")
            last = (kind, scope)
            groups[last] = [tokens[at : at + width] for at in range(0, len(tokens), width)]
        found.append((key_id, normalizer, version, groups))
    return found


def from_text(text):
    if not text.startswith("fc1:"):
        raise Refused("NotAnEnvelope")
    encoded = text[4:]
    if not re.fullmatch("[A-Za-z0-9_-]*", encoded, re.ASCII) or len(encoded) % 4 == 1:
        raise Refused("Base64")
    data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if to_text(data) != text:
        raise Refused("Base64")
    return data


def to_text(data):
    return "fc1:" + base64.urlsafe_b64encode(data).decode().rstrip("=")


# section 6: normalizers, version 1. Full case folding is Python's own.

WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def casefold(text):
    """NFKD(fold(NFKD(fold(NFD(text))))): Unicode definition D146."""
    once = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text).casefold())
    return unicodedata.normalize("NFKD", once.casefold())


def digits(text):
    return "".join(re.findall("[0-9]", unicodedata.normalize("NFKC", text)))


def phone(text):
    number = digits(text)
    if unicodedata.normalize("NFKC", text).lstrip(WHITE_SPACE).startswith("+"):
        return "+" + number if number else ""
    if number.startswith("00"):
        return "+" + number[2:] if number[2:] else ""
    return number


NORMALIZERS = {
    0: lambda text: text,
    1: casefold,
    2: digits,
    3: lambda text: casefold(text).strip(WHITE_SPACE),
    4: phone,
}


def normalise(normalizer, text):
    """None if nothing is left of a text that is not empty."""
    normalised = NORMALIZERS[normalizer](text)
    return None if text and not normalised else normalised


# section 3: JSON text


def json_text(value):
    """As jsonb prints it. Numbers are decimals."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{json_text(key)}: {json_text(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value, ensure_ascii=False)


def parse_json(text):
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


# section 3: the canonical bytes of a value's text, and back

NUMERIC_FORM = rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?|NaN|-?Infinity"
LENGTHS = {BIGINT: 8, DATE: 4, TIMESTAMPTZ: 8, BOOLEAN: 1, UUID: 16}
EPOCH = date(2000, 1, 1)
# the calendar repeats after 400 years, which Python's own need not know before the first
CYCLE = 146_097
MICROSECONDS = 86_400_000_000


def infinities(length):
    return {(1 << 8 * length - 1) - 1: "infinity", -(1 << 8 * length - 1): "-infinity"}


def date_and_era(days):
    cycles, rest = divmod(days, CYCLE)
    day = EPOCH + timedelta(rest)
    year = day.year + 400 * cycles
    year, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{year:04}-{day.month:02}-{day.day:02}", era


def days(year, month, day, era):
    cycles, rest = divmod(1 - int(year) if era else int(year), 400)
    in_cycle = date(2000 + rest, int(month), int(day)) - EPOCH
    return (cycles - 5) * CYCLE + in_cycle.days


def to_value(kind, plaintext):
    """The text of canonical bytes."""
    if kind in LENGTHS and len(plaintext) != LENGTHS[kind]:
        raise Refused("OpenError")
    number = int.from_bytes(plaintext, "big", signed=True)
    if kind == BYTEA:
        return "\\x" + plaintext.hex()
    if kind == BIGINT:
        return str(number)
    if kind in (DATE, TIMESTAMPTZ) and number in (ends := infinities(len(plaintext))):
        return ends[number]
    if kind == DATE:
        return "".join(date_and_era(number))
    if kind == TIMESTAMPTZ:
        day, time = divmod(number, MICROSECONDS)
        day, era = date_and_era(day)
        seconds, fraction = divmod(time, 1_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"
        return f"{day} {clock}+00{era}"
    if kind == BOOLEAN:
        if plaintext not in (b"\0", b"\1"):
            raise Refused("OpenError")
        return "true" if plaintext == b"\1" else "false"
    if kind == UUID:
        return str(uuid.UUID(bytes=plaintext))
    if kind == NUMERIC and not re.fullmatch(NUMERIC_FORM, plaintext):
        raise Refused("OpenError")
    try:
        return plaintext.decode()
    except UnicodeDecodeError:
        raise Refused("OpenError") from None


DATE_FORM = r"([0-9]{4,})-([0-9]{2})-([0-9]{2})"
TIME_FORM = r" ([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})\+00"
ERA_FORM = "( BC)?"


def to_canonical(kind, text):
    """The canonical bytes of a text."""
    length = LENGTHS.get(kind)
    if kind == BYTEA:
        return bytes.fromhex(text.removeprefix("\\x"))
    if kind == BOOLEAN:
        return bytes([("false", "true").index(text)])
    if kind == UUID:
        return bytes.fromhex(text.replace("-", ""))
    if length is None:
        return text.encode()
    ends = {text: number for number, text in infinities(length).items()}
    if kind == BIGINT:
        number = int(text)
    elif text in ends:
        number = ends[text]
    elif kind == DATE:
        number = days(*re.fullmatch(DATE_FORM + ERA_FORM, text).groups())
    else:
        parts = re.fullmatch(DATE_FORM + TIME_FORM + ERA_FORM, text).groups()
        hours, minutes, seconds, fraction = map(int, parts[3:7])
        time = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction
        number = days(*parts[:3], parts[7]) * MICROSECONDS + time
    return number.to_bytes(length, "big", signed=True)


# sections 5 and 7: ids and keys


def field_id(name):
    if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", name) or len(name) > 63:
        raise Refused("field name")
    return sha256("field-id", name.encode())[:8]


def account_tag(account):
    return int.from_bytes(sha256("account-tag", account.encode())[:4], "big") >> 1


def field_key(key, purpose, suite, length, field, account):
    extracted = hmac_sha256(bytes(32), key)
    info = lp(
        label("field-key"),
        purpose.encode(),
        bytes([suite]),
        length.to_bytes(2, "big"),
        field,
        account.encode(),
    )
    output = previous = b""
    for counter in range(1, 3):
        previous = hmac_sha256(extracted, previous + info + bytes([counter]))
        output += previous
    return output[:length]


def token(token_key, kind, scope, value, width):
    message = lp(label("token"), bytes([kind]), bytes([scope]), value)
    return hmac_sha256(token_key, message)[:width]


def key_name(account, purpose, version, key_id):
    return account.encode(), purpose.encode(), version.to_bytes(4, "big"), key_id


def wrap_associated(name):
    return lp(label("key-wrap"), b"\x01", *name)


def check_value(key, name):
    return hmac_sha256(key, lp(label("check-value"), *name))


def unwrap(wrapping_key, name, wrapped, check):
    if len(wrapped) != 61 or wrapped[0] != 1:
        raise Refused("Malformed")
    try:
        associated = wrap_associated(name)
        key = AESGCM(wrapping_key).decrypt(wrapped[1:13], wrapped[13:], associated)
    except InvalidTag:
        raise Refused("Tag") from None
    if not hmac.compare_digest(check_value(key, name), check):
        raise Refused("CheckValue")
    return key


# section 8: sealing


def associated_data(header):
    return lp(label("aad"), header)


def open_envelope(key, purpose, account, envelope):
    if purpose != ("transit" if envelope.transit else "data"):
        raise Refused("OpenError")
    suite, number = envelope.suite, envelope.suite_number
    derived = field_key(key, purpose, number, suite.key, envelope.field_id, account)
    associated = associated_data(envelope.header)
    plaintext = suite.open(derived, envelope.nonce, associated, envelope.sealed)
    if envelope.padded:
        plaintext, mark = plaintext.rstrip(b"\0")[:-1], plaintext.rstrip(b"\0")[-1:]
        if mark != b"\x80":
            raise Refused("OpenError")
    if envelope.token_only:
        if plaintext:
            raise Refused("OpenError")
        return ""
    return to_value(envelope.type, plaintext)


# the checks

counts = Counter()
failures = []


def check(what, name, found, expected):
    counts[what] += 1
    if found != expected:
        failures.append(f"{what}, {name}: {found!r} instead of {expected!r}")


def unhex(case, *keys):
    values = [bytes.fromhex(case[key]) for key in keys]
    return values[0] if len(values) == 1 else values


def refusal(function, *arguments):
    try:
        function(*arguments)
    except Refused as reason:
        return str(reason)
    return None


def section(key_id, normalizer, version, groups):
    rest = key_id + bytes([normalizer, version]) + groups
    return len(rest).to_bytes(2, "big") + rest


def check_token(name, item, field, value):
    """The token made again, of a value in a field."""
    index_key, index_key_id = unhex(item, "index_key", "index_key_id")
    token_key = field_key(index_key, "index", 1, 32, field, item["account"])
    check("token key", name, token_key, unhex(item, "token_key"))
    tag = int.from_bytes(index_key_id[:4], "big")
    check("account in the index key id", name, tag, account_tag(item["account"]))
    normalised = normalise(item["normalizer"], value)
    check("normalised value", name, normalised, item["normalised"])
    made = token(token_key, item["kind"], item["scope"], normalised.encode(), 16)
    check("token", name, made, unhex(item, "token"))
    of_database = item["account"] == "*database*"
    check("account of the scope", name, item["scope"], int(of_database))
    return made


def check_members(name, members, document):
    """The section of the tokens of members, made again."""
    key_id = unhex(members[0], "index_key_id")
    head = [members[0][key] for key in ("normalizer", "normalizer_version")]
    scope, tokens = members[0]["scope"], b""
    for item in members:
        check("kind of a member's token", name, item["kind"], EXACT)
        same = [item[key] for key in ("index_key_id", "normalizer", "normalizer_version", "scope")]
        check("section of a member", name, same, [key_id.hex(), *head, scope])
        made = check_token(name, item, field_id(item["field"]), item["value"])[:8]
        check("member token", name, made, unhex(item, "member_token"))
        tokens += made
        if document is not None:
            value = document[item["field"].removeprefix("lead.")]
            # a string under a flagged path is a text
            text = value if isinstance(value, str) else json_text(value)
            check("value of a member", name, text, item["value"])
    group = bytes([MEMBER, scope, 8]) + len(members).to_bytes(2, "big") + tokens
    return section(key_id, *head, group)


def check_stored_tokens(name, case, sections):
    """What is read from the sections is what went into them."""
    expected = []
    for item in case["tokens"]:
        made, key_id = unhex(item, "token", "index_key_id")
        expected.append((key_id, {(item["kind"], item["scope"]): [made]}))
    for members in case["members"]:
        made = [unhex(item, "member_token") for item in members]
        key_id = unhex(members[0], "index_key_id")
        expected.append((key_id, {(MEMBER, members[0]["scope"]): made}))
    found = [(key_id, groups) for key_id, _, _, groups in read_sections(sections)]
    check("stored tokens", name, found, expected)


def check_envelope(case):
    name = case["name"]
    field = field_id(case["field"]) if case["field"] is not None else bytes(8)
    account, suite_number, suite = case["account"], case["suite"], SUITES[case["suite"]]
    key, key_id, nonce = unhex(case, "key", "key_id", "nonce")
    token_only, kind, value = case["token_only"], case["plaintext_type"], case["value"]
    as_text = kind in (TEXT, JSON)
    plaintext = case["plaintext"].encode() if as_text else unhex(case, "plaintext")
    check("field id", name, field, unhex(case, "field_id"))
    check("plaintext", name, plaintext, b"" if token_only else to_canonical(kind, value))
    check("text of a value", name, to_value(kind, to_canonical(kind, value)), value)
    document = None
    if kind == JSON:
        document = parse_json(value)
        check("json text", name, json_text(document), value)

    sections = b""
    for item in case["tokens"]:
        made = check_token(name, item, field, value)
        if kind not in (TEXT, JSON):
            check("normalizer of a type that is no text", name, item["normalizer"], 0)
        groups = bytes([item["kind"], item["scope"], 16, 0, 1]) + made
        if item is case["tokens"][-1]:
            # their tokens are not specified yet
            groups += unhex(case, "reserved_groups")
        index_key_id = unhex(item, "index_key_id")
        sections += section(index_key_id, item["normalizer"], item["normalizer_version"], groups)
    for members in case["members"]:
        sections += check_members(name, members, document)
    if not case["reserved_groups"] and not case["later_sections"]:
        check_stored_tokens(name, case, sections)
    # nor are the tokens of later versions of the normalizers
    sections += unhex(case, "later_sections")
    check("token sections", name, sections, unhex(case, "token_sections"))
    firsts = case["tokens"] + [members[0] for members in case["members"]]
    versions = [item["normalizer_version"] for item in firsts]
    found = [version for _, _, version, _ in read_sections(sections)]
    check("normalizer versions", name, found[: len(versions)], versions)
    later = [version > 1 for version in found[len(versions) :]]
    check("later normalizer versions", name, all(later), True)

    transit = case["purpose"] == "transit"
    if transit:
        expected = r"\*database\*" if case["field"] is None else r"\*row\*/[1-9][0-9]*"
        found = re.fullmatch(expected, account, re.ASCII) is not None
        check("account in transit", name, found, True)
    padded = plaintext
    if case["padding"] != "none":
        padded += b"\x80"
        padded += bytes(-len(padded) % int(case["padding"]))
    check("padded length", name, len(padded), case["padded_length"])
    flags = (case["padding"] != "none") | transit << 2 | token_only << 3
    header = bytes([0xFC, 1, suite_number, kind, flags]) + key_id + field
    header += len(sections).to_bytes(2, "big") + sections
    check("header", name, header, unhex(case, "header"))
    derived = field_key(key, case["purpose"], suite_number, suite.key, field, account)
    check("field key", name, derived, unhex(case, "field_key"))
    associated = associated_data(header)
    check("associated data", name, associated, unhex(case, "associated_data"))
    sealed = suite.seal(derived, nonce, associated, padded)
    check("ciphertext", name, sealed[: -suite.tag], unhex(case, "ciphertext"))
    check("tag", name, sealed[-suite.tag :], unhex(case, "tag"))
    envelope = header + nonce + sealed
    check("envelope", name, envelope, unhex(case, "envelope"))
    check("text form", name, to_text(envelope), case["text"])
    parsed = Envelope(from_text(case["text"]))
    read = parsed.type, parsed.padded, parsed.transit, parsed.token_only
    written = kind, case["padding"] != "none", transit, token_only
    check("type and flags", name, read, written)
    opened = open_envelope(key, case["purpose"], account, parsed)
    check("opened envelope", name, opened, "" if token_only else value)


def check_vectors():
    vectors = json.loads((DATA / "vectors.json").read_text(encoding="utf-8"))
    for case in vectors["envelopes"]:
        check_envelope(case)
    for case in vectors["field_ids"]:
        found = field_id(case["name"])
        check("field id", case["name"], found, unhex(case, "id"))
        modifier = int.from_bytes(found[:4], "big") >> 1
        check("type modifier", case["name"], modifier, case["type_modifier"])
    for case in vectors["account_tags"]:
        check("account tag", case["account"], account_tag(case["account"]), case["tag"])
    for case in vectors["normalised"]:
        found = normalise(case["normalizer"], case["text"])
        check("normalised form", case["text"], found, case["normalised"])
    for case in vectors["wrapped_keys"]:
        name = key_name(case["account"], case["purpose"], case["version"], unhex(case, "key_id"))
        wrapping_key, key, nonce = unhex(case, "wrapping_key", "key", "nonce")
        associated = wrap_associated(name)
        check("wrap associated data", name, associated, unhex(case, "associated_data"))
        wrapped = b"\x01" + nonce + AESGCM(wrapping_key).encrypt(nonce, key, associated)
        check("wrapped key", name, wrapped, unhex(case, "wrapped"))
        check("check value", name, check_value(key, name), unhex(case, "check_value"))
        unwrapped = unwrap(wrapping_key, name, wrapped, check_value(key, name))
        check("unwrapped key", name, unwrapped, key)
    for case in vectors["root_keys"]:
        found = check_value(unhex(case, "key"), key_name("", "root", 0, bytes(8)))
        check("root check value", case["key"], found, unhex(case, "check_value"))


def check_malformed():
    malformed = json.loads((DATA / "malformed.json").read_text(encoding="utf-8"))
    for case in malformed["malformed"]:
        if "hex" in case:
            found = refusal(Envelope, unhex(case, "hex"))
            check("malformed envelope", case["name"], found, case["error"])
        else:
            found = refusal(lambda text: Envelope(from_text(text)), case["text"])
            check("malformed text form", case["name"], found, case["error"])
    for key, what in (
        ("not_authentic", "envelope that is not authentic"),
        ("not_text", "envelope of what is not text"),
        ("not_canonical", "envelope of what is not canonical"),
    ):
        for case in malformed[key]:
            secret, envelope = unhex(case, "key"), Envelope(unhex(case, "hex"))
            found = refusal(open_envelope, secret, case["purpose"], case["account"], envelope)
            check(what, case["name"], found, case["error"])
    for case in malformed["wrapped_keys"]:
        name = key_name(case["account"], case["purpose"], case["version"], unhex(case, "key_id"))
        wrapping_key, wrapped, recorded = unhex(case, "wrapping_key", "wrapped", "check_value")
        found = refusal(unwrap, wrapping_key, name, wrapped, recorded)
        check("malformed wrapped key", case["name"], found, case["error"])


def check_self():
    """This implementation itself, against the suites' own sources."""
    cases = json.loads((DATA / "xaes_256_gcm.json").read_text(encoding="utf-8"))["tests"]
    for case in cases:
        sealed = Xaes().seal(*unhex(case, "K", "N", "aad", "plaintext"))
        check("C2SP XAES-256-GCM", case["K"], sealed, unhex(case, "ciphertext"))
    file = DATA / "rfc7518_b3_a256cbc_hs512.json"
    for case in json.loads(file.read_text(encoding="utf-8"))["tests"]:
        sealed = CbcHs512().seal(*unhex(case, "K", "IV", "A", "P"))
        check("RFC 7518 A256CBC-HS512", "B.3", sealed, unhex(case, "E") + unhex(case, "T"))


def main():
    check_self()
    check_vectors()
    check_malformed()
    for what, count in counts.items():
        print(f"{what}: {count}")
    print(f"{counts.total()} checks, {len(failures)} failures")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
