"""The part of docs/clients.md that the tests write: what works with each client, and what not."""

import re
from pathlib import Path

from cases import CLIENTS, DIFFERENCES, FAR, MODES, OPERATIONS

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
_PLACE = re.compile(r"(?<=<!-- written by tests/clients -->\n).*?(?=<!-- end -->)", re.DOTALL)


def in_page():
    return _PLACE.search(PAGE.read_text())[0]


def write(text):
    PAGE.write_text(_PLACE.sub(lambda _: text, PAGE.read_text()))


def render(works):
    """`works(client, mode, operation)` says whether an operation did what it should."""
    causes = []

    def note(cause):
        if cause not in causes:
            causes.append(cause)
        return f"[^{causes.index(cause) + 1}]"

    def cell(key, mode, operation):
        cause = CLIENTS[key].gap(mode, operation)
        if cause:
            return "–" + note(cause)
        return "yes" if works(key, mode, operation) else "**no**"

    def limit(client, need):
        return "–" + note(client.lacks[need]) if need in client.lacks else "yes"

    parts = []
    for mode, title in MODES.items():
        rows = [
            [client.title, *(cell(key, mode, operation) for operation in OPERATIONS)]
            + ["recipe" if mode in client.recipe else "nothing"]
            for key, client in CLIENTS.items()
        ]
        parts.append(f"### {title}\n\n{_table(['', *OPERATIONS.values(), 'needs'], rows)}")

    kinds = next(iter(CLIENTS.values())).types
    rows = [[c.title, *(f"`{name}`" for name in c.types.values())] for c in CLIENTS.values()]
    parts.append("### Types that are read\n\n" + _table(["", *kinds], rows))

    rows = [[c.title, *(limit(c, need) for need in FAR)] for c in CLIENTS.values()]
    parts.append("### Values that the types of a client hold\n\n" + _table(["", *FAR], rows))

    rows = [[d.what, d.sqlstate, d.instead] for d in DIFFERENCES]
    head = ["", "SQLSTATE", "instead"]
    parts.append("### What is not like a plain column\n\n" + _table(head, rows))

    parts.append("\n".join(f"[^{number}]: {cause}." for number, cause in enumerate(causes, 1)))
    return "\n" + "\n\n".join(parts) + "\n\n"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
