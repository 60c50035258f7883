"""What the documentation says of the leak matrix.

docs/limitations.md names what is left in plain where, and is written by hand; docs/leak_matrix.md
shows every place, and is written by the test.
"""

import re
from pathlib import Path

from leak_matrix import ENCRYPTED, MODES, PLAIN
from leak_places import PLACES
from leak_ways import LITERALS, PARAMETERS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "leak_matrix.md"
_NAMED = re.compile(r"<!-- read by tests -->\n\n(.*?)\n\n", re.DOTALL)
_MATRIX = re.compile(r"(?<=<!-- written by tests -->\n).*?(?=<!-- end -->)", re.DOTALL)

# Where values of plain columns are not found, in which ways and modes, and why.
UNSEEN = [
    (
        "pg_stat_statements",
        [way for way in MODES if way not in ("cursor", "DO", "reading")],
        [PARAMETERS, LITERALS],
        "It keeps no parameters, and of literals only those of utility statements.",
    ),
    (
        "pg_stat_statements",
        ["cursor", "reading"],
        [PARAMETERS],
        "It keeps no parameters.",
    ),
    (
        "pg_stat_activity",
        [way for way in MODES if way != "DO"],
        [PARAMETERS],
        "It shows the text of statements, not their parameters or data.",
    ),
    (
        "pgsql_tmp",
        ["logical apply"],
        [PARAMETERS],
        "The worker that applies changes makes no temporary file, by the log.",
    ),
]


def unseen():
    """(place, way, mode) → why a value of a plain column is not found there."""
    return {
        (place, way, mode): why
        for place, ways, modes, why in UNSEEN
        for way in ways
        for mode in modes
        if mode in MODES[way]
    }


def named():
    """(place, way, mode) → why an encrypted value is in plain there, by docs/limitations.md."""
    table = _NAMED.search((DOCS / "limitations.md").read_text())[1]
    leaks = {}
    for line in table.splitlines()[2:]:
        places, ways, which, why = (cell.strip() for cell in line.strip("|").split(" | "))
        modes = {"literals": [LITERALS], "every value": [PARAMETERS, LITERALS]}[which]
        for place in places.replace("`", "").split(", "):
            for way in _ways(ways):
                for mode in modes:
                    if mode in MODES[way]:
                        leaks[place, way, mode] = why
    return leaks


def _ways(text):
    if text.startswith("all but "):
        excluded = text.removeprefix("all but ").split(", ")
        return [way for way in MODES if way not in excluded]
    return text.split(", ")


def in_page():
    return _MATRIX.search(PAGE.read_text())[0]


def write(text):
    PAGE.write_text(_MATRIX.sub(lambda _: text, PAGE.read_text()))


def render(matrix):
    notes = []

    def note(why):
        if why not in notes:
            notes.append(why)
        return f"[^{notes.index(why) + 1}]"

    def cell(kind, reasons, place, way):
        found = [mode for mode in MODES[way] if matrix.is_found(kind, way, mode, place)]
        shown = "0" if not found else "yes" if found == MODES[way] else "literals"
        reason = next(
            (reasons[place, way, m] for m in MODES[way] if (place, way, m) in reasons), None
        )
        return shown + (note(reason) if reason else "")

    parts = []
    for title, kind, reasons in (
        ("Encrypted values", ENCRYPTED, named()),
        ("Plain columns, written in the same ways", PLAIN, unseen()),
    ):
        lines = [["", *MODES], ["---"] * (1 + len(MODES))]
        lines += [[place, *(cell(kind, reasons, place, way) for way in MODES)] for place in PLACES]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {title}\n\n{table}")
    parts.append("\n".join(f"[^{number}]: {why}" for number, why in enumerate(notes, 1)))
    return "\n" + "\n\n".join(parts) + "\n\n"
