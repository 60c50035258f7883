"""The tables, the targets, and the plot."""

import platform
import subprocess
from dataclasses import dataclass

from plot import Bar, Panel, draw

SIZES = {"ssn": "11 bytes", "t100": "100 bytes", "t1k": "1 KB"}


@dataclass(frozen=True)
class Target:
    """`over` takes at most (or, for a peer, at least) `limit` times as long as `under`."""

    work: str
    over: tuple[str, str]
    under: tuple[str, str]
    limit: float
    at_least: bool = False

    def met(self, results):
        ratio = results.ratio(self.over, self.under)
        return ratio >= self.limit if self.at_least else ratio <= self.limit


def _targets():
    def decrypt(name, size="ssn"):
        return f"decrypt {size}", name

    gcm, default = decrypt("decrypt(), aes-256-gcm"), decrypt("decrypt(), default suite")
    pgcrypto = decrypt("pgcrypto decrypt_iv")
    yield Target(
        "`decrypt()`, aes-256-gcm, over a no-op call",
        gcm,
        decrypt("no-op, aes-256-gcm column"),
        4.5,
    )
    yield Target("pgcrypto `decrypt_iv` over that", pgcrypto, gcm, 3.2, at_least=True)
    yield Target(
        "`decrypt()`, default suite, over a no-op call",
        default,
        decrypt("no-op, default suite column"),
        6,
    )
    yield Target("pgcrypto `decrypt_iv` over that", pgcrypto, default, 2.4, at_least=True)
    sealed = ("encrypt ssn", "encrypt() with token, aes-256-gcm")
    yield Target(
        "`encrypt()` with token, aes-256-gcm, over a no-op call",
        sealed,
        ("encrypt ssn", "no-op"),
        8,
    )
    sealed = ("encrypt ssn", "encrypt() with token, default suite")
    yield Target(
        "`encrypt()` with token, default suite, over a no-op call",
        sealed,
        ("encrypt ssn", "no-op"),
        8,
    )
    yield Target(
        "pgcrypto `encrypt_iv`, random IV, and `hmac` over that",
        ("encrypt ssn", "pgcrypto encrypt_iv, random IV, and hmac"),
        sealed,
        5,
        at_least=True,
    )
    yield Target(
        "INSERT into a typed column with token over plain text",
        ("insert ssn", "typed column with token, default suite"),
        ("insert ssn", "plain text"),
        3.5,
    )
    yield Target(
        "look-up by hash index over plaintext by btree",
        ("lookup", "encrypted, hash index"),
        ("lookup", "plaintext, btree"),
        1.15,
    )
    yield Target(
        "the same with `decrypt()` of what it found",
        ("lookup", "encrypted, hash index, and decrypt()"),
        ("lookup", "plaintext, btree, and the value"),
        1.25,
    )
    yield Target(
        "look-up with a parameter declared as text",
        ("lookup", "encrypted, hash index, parameter of type text"),
        ("lookup", "plaintext, btree"),
        1.15,
    )
    yield Target(
        "the same with `decrypt()` of what it found",
        ("lookup", "encrypted, hash index, parameter of type text, and decrypt()"),
        ("lookup", "plaintext, btree, and the value"),
        1.25,
    )
    inserted, read = "documents insert", "documents read"
    sealed = (inserted, "3 flagged paths with tokens, default suite")
    yield Target(
        "INSERT of documents, 3 flagged paths with tokens, over plain documents",
        sealed,
        (inserted, "plain documents"),
        3.2,
    )
    yield Target(
        "PL/pgSQL trigger with pgcrypto `encrypt_iv` and `hmac` over that",
        (inserted, "PL/pgSQL trigger with pgcrypto encrypt_iv and hmac"),
        sealed,
        3.5,
        at_least=True,
    )
    yield Target(
        "UPDATE of documents that touches no flagged path over plain documents",
        ("documents update", "an unflagged value, default suite"),
        ("documents update", "an unflagged value, plain documents"),
        1.25,
    )
    revealed = (read, "reveal(data), default suite")
    yield Target(
        "`reveal(data)` over `data::text::jsonb` of plain documents",
        revealed,
        (read, "data::text::jsonb of plain documents"),
        1,
    )
    yield Target(
        "pgcrypto `decrypt_iv` of the same 3 values over `reveal(data)`",
        (read, "pgcrypto decrypt_iv of the 3 values"),
        revealed,
        2,
        at_least=True,
    )
    yield Target(
        "look-up on a flagged path by GIN over plaintext by GIN `jsonb_path_ops`",
        ("documents lookup", "flagged path, GIN on tokens(data)"),
        ("documents lookup", "plaintext, GIN jsonb_path_ops"),
        1.15,
    )
    yield Target(
        "transparent SELECT over the same with explicit `decrypt()`",
        ("transparent", "transparent"),
        ("transparent", "decrypt()"),
        1.1,
    )
    yield Target(
        "planning a query without encrypted columns over planning it without the extension",
        ("planning", "with the extension"),
        ("planning", "without the extension"),
        1.05,
    )
    yield Target(
        "decrypting scan with the audit on over the same with it off",
        ("audit scan", "scan, audit on"),
        ("audit scan", "scan, audit off"),
        1.1,
    )
    yield Target(
        "look-ups of 16 clients with the audit on over the same with it off",
        ("audit", "look-up, audit on"),
        ("audit", "look-up, audit off"),
        1.1,
    )
    yield Target(
        "look-ups of 16 clients followed by INSERT and COMMIT over the same with the audit strict",
        ("audit", "look-up, audit off, then INSERT and COMMIT"),
        ("audit", "look-up, audit strict"),
        0.8,
        at_least=True,
    )
    yield Target(
        "scan over 10,000 accounts, warm, over one account",
        ("accounts", "many accounts, warm"),
        ("accounts", "one account"),
        1.3,
    )
    yield Target(
        "`decrypt()` of 1 KB, default suite, over the bare cipher",
        decrypt("decrypt(), default suite", "t1k"),
        decrypt("bare xaes-256-gcm", "t1k"),
        1.25,
    )

    for what in "a column", "a path":
        for name in "encryption", "re-encryption":
            yield Target(
                f"{name} of {what} by a job, over a plain UPDATE of it",
                ("jobs", f"{name} of {what}"),
                ("jobs", f"UPDATE of {what}, before {name}"),
                1.5,
            )
    yield Target(
        "`rotate_root()` over a plain UPDATE of the accounts' keys",
        ("jobs", "rotate_root()"),
        ("jobs", "UPDATE of the accounts' keys"),
        3,
    )
    yield Target(
        "look-ups beside a job over the same without",
        ("reads", "look-up, beside a job"),
        ("reads", "look-up"),
        1.2,
    )


TARGETS = list(_targets())
FIRST_TOUCH = ("accounts", "first decrypt() of an account")
FIRST_TOUCH_LIMIT = 15_000  # ns


def _targets_table(results):
    yield "| Work | Measured | Target | |"
    yield "|---|---:|---:|---|"
    for target in TARGETS:
        if target.over in results and target.under in results:
            ratio = results.ratio(target.over, target.under)
            sign = "≥" if target.at_least else "≤"
            met = "met" if target.met(results) else "**not met**"
            yield f"| {target.work} | {ratio:.2f} × | {sign} {target.limit:g} × | {met} |"
    if FIRST_TOUCH in results:
        time = results.median(*FIRST_TOUCH)
        met = "met" if time <= FIRST_TOUCH_LIMIT else "**not met**"
        limit = FIRST_TOUCH_LIMIT / 1000
        yield f"| first touch of an account | {time / 1000:.1f} µs | ≤ {limit:g} µs | {met} |"
    yield ""


def _size_table(results, group, title, baseline):
    """One row per measure; per size the time, and the ratio to the baseline."""
    names = [name for g, name in results.samples if g == f"{group} ssn"]
    if not names:
        return
    sizes = [size for size in SIZES if (f"{group} {size}", names[0]) in results]
    yield f"### {title}"
    yield ""
    heads = (f" {SIZES[size]}, ns | × {baseline} |" for size in sizes)
    yield "| |" + "".join(heads)
    yield "|---|" + "---:|---:|" * len(sizes)
    for name in names:
        row = f"| {name} |"
        for size in sizes:
            key = (f"{group} {size}", name)
            row += f" {results.median(*key):,.0f} |"
            row += f" {_ratio(results.ratio(key, (key[0], _baseline(group, name))))} |"
        yield row
    yield ""


def _baseline(group, name):
    if group == "decrypt":
        of_gcm = "aes-256-gcm" in name
        return "no-op, aes-256-gcm column" if of_gcm else "no-op, default suite column"
    return {"encrypt": "no-op", "insert": "plain text"}[group]


def _lookup_table(results, group, title, plaintext):
    names = [name for g, name in results.samples if g == group]
    if not names:
        return
    yield f"### {title}"
    yield ""
    yield "| | CPU of the backend, µs | × plaintext | Elapsed, µs | × plaintext |"
    yield "|---|---:|---:|---:|---:|"
    for name in names:
        decrypts = "decrypt" in name or "value" in name
        baseline = f"{plaintext}, and the value" if decrypts else plaintext
        row = f"| {name} |"
        for measured in (group, f"{group} wall"):
            row += f" {results.median(measured, name) / 1000:.2f} |"
            row += f" {results.ratio((measured, name), (measured, baseline)):.2f} |"
        yield row
    yield ""


# How the measures of documents are called, by group.
DOCUMENTS = {
    "documents insert": "INSERT … SELECT",
    "documents update": "UPDATE",
    "documents read": "Scan",
}


def _documents_table(results):
    keys = [key for key in results.samples if key[0] in DOCUMENTS]
    if not keys:
        return
    yield "### Documents of 600 bytes with 20 keys"
    yield ""
    yield "| | µs | × plain |"
    yield "|---|---:|---:|"
    plain = None
    for key in keys:
        group, name = key
        if name.endswith("plain documents") and "::" not in name:
            plain = key
        row = f"| {DOCUMENTS[group]}: {name} | {results.median(*key) / 1000:.2f} |"
        yield f"{row} {_ratio(results.ratio(key, plain))} |"
    yield ""


def _plain_table(results, title, groups, unit):
    """One row per measure, in its own group."""
    keys = [key for key in results.samples if key[0] in groups]
    if not keys:
        return
    yield f"### {title}"
    yield ""
    yield f"| | {unit} |"
    yield "|---|---:|"
    for group, name in keys:
        yield f"| {groups[group]}{name} | {results.median(group, name):,.0f} |"
    yield ""


def _planning_table(results):
    keys = [key for key in results.samples if key[0] in ("planning", "parsing and planning")]
    if not keys:
        return
    yield "### A query without encrypted columns"
    yield ""
    yield "| | µs | × without |"
    yield "|---|---:|---:|"
    for group, name in keys:
        time = results.median(group, name) / 1000
        ratio = results.ratio((group, name), (group, "without the extension"))
        yield f"| {group} {name} | {time:.1f} | {ratio:.3f} |"
    yield ""


def tables(results):
    return "\n".join(_tables(results))


def _tables(results):
    yield from _targets_table(results)
    yield from _size_table(results, "decrypt", "Decrypting: scan of a column", "no-op")
    yield from _size_table(results, "encrypt", "Encrypting", "no-op")
    yield from _size_table(results, "insert", "INSERT … SELECT and COPY", "plain")
    yield from _lookup_table(results, "lookup", "Equality look-ups", "plaintext, btree")
    yield from _documents_table(results)
    yield from _lookup_table(
        results,
        "documents lookup",
        "Equality look-ups on a path of a document",
        "plaintext, GIN jsonb_path_ops",
    )
    yield from _plain_table(
        results, "Reading 500,000 rows of id and value", {"transparent": "SELECT: "}, "ns per row"
    )
    yield from _planning_table(results)
    yield from _plain_table(
        results, "Jobs and rotation of keys", {"jobs": "", "reads": ""}, "ns per row"
    )
    yield from _plain_table(
        results, "The audit", {"audit scan": "CPU of the backend per row: ", "audit": ""}, "ns"
    )
    yield from _plain_table(results, "Many accounts", {"accounts": ""}, "ns")


def _ratio(ratio):
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}"


def _machine():
    cpu = next(
        line.split(":")[1].strip()
        for line in open("/proc/cpuinfo")
        if line.startswith("model name")
    )
    cores = subprocess.check_output(["nproc"], text=True).strip()
    return f"{cpu}, {cores} cores, Linux {platform.release()}"


def write_between(page, name, text):
    """Replaces what stands between a page's two markers of that name."""
    begin, end = f"<!-- {name}: written by bench/run -->", f"<!-- end of {name} -->"
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def write_documents(results, folder):
    text = f"Measured on {_machine()}.\n\n{tables(results)}"
    write_between(folder / "performance.md", "tables", text)
    (folder / "performance.svg").write_text(draw(_panels(results)))


def _panels(results):
    def panel(title, group, baseline, bars):
        return Panel(
            title,
            [
                Bar(label, results.ratio((group, name), (group, baseline(name))), ours)
                for label, name, ours in bars
            ],
        )

    yield panel(
        "Decrypting 11 bytes, × a function call that does nothing",
        "decrypt ssn",
        lambda name: _baseline("decrypt", name),
        [
            ("fieldcrypt, aes-256-gcm", "decrypt(), aes-256-gcm", True),
            ("fieldcrypt, default", "decrypt(), default suite", True),
            ("pgcrypto decrypt_iv", "pgcrypto decrypt_iv", False),
            ("pgcrypto pgp_sym_decrypt", "pgcrypto pgp_sym_decrypt", False),
        ],
    )
    yield panel(
        "Encrypting 11 bytes with search token, × a function call that does nothing",
        "encrypt ssn",
        lambda name: "no-op",
        [
            ("fieldcrypt, aes-256-gcm", "encrypt() with token, aes-256-gcm", True),
            ("fieldcrypt, default", "encrypt() with token, default suite", True),
            (
                "pgcrypto encrypt_iv, hmac",
                "pgcrypto encrypt_iv, random IV, and hmac",
                False,
            ),
            ("pgcrypto pgp_sym_encrypt", "pgcrypto pgp_sym_encrypt", False),
        ],
    )
    yield panel(
        "INSERT … SELECT of 11 bytes with search token, × plain text",
        "insert ssn",
        lambda name: "plain text",
        [
            ("fieldcrypt, aes-256-gcm", "typed column with token, aes-256-gcm", True),
            ("fieldcrypt, default", "typed column with token, default suite", True),
            (
                "pgcrypto encrypt_iv, hmac",
                "pgcrypto encrypt_iv, random IV, and hmac",
                False,
            ),
        ],
    )
    yield panel(
        "Look-up in 1,000,000 rows and decrypting what is found, × plaintext",
        "lookup",
        lambda name: "plaintext, btree, and the value",
        [
            ("fieldcrypt, hash index", "encrypted, hash index, and decrypt()", True),
            ("fieldcrypt, btree", "encrypted, btree, and decrypt()", True),
            (
                "pgcrypto hmac, decrypt_iv",
                "pgcrypto hmac, btree, and decrypt_iv",
                False,
            ),
        ],
    )
    yield panel(
        "INSERT … SELECT of documents with three flagged paths and tokens, × plain documents",
        "documents insert",
        lambda name: "plain documents",
        [
            ("fieldcrypt, aes-256-gcm", "3 flagged paths with tokens, aes-256-gcm", True),
            ("fieldcrypt, default", "3 flagged paths with tokens, default suite", True),
            (
                "pgcrypto in PL/pgSQL",
                "PL/pgSQL trigger with pgcrypto encrypt_iv and hmac",
                False,
            ),
        ],
    )
