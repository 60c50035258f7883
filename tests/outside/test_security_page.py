"""docs/security.md and the tests cannot drift apart: what the page names is there, and what tests
are named after a threat is on the page, in that threat's row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"

# How many threats there are of each kind: T1 to T9, A1 to A12 and so on.
THREATS = {"T": 9, "A": 12, "B": 13, "C": 10, "D": 13, "E": 7, "F": 6}

# Where tests are: Python's and Rust's by name, SQL's as whole files.
FOLDERS = ("core/src", "core/tests", "document", "pgrx-tests", "src", "tests")

REFERENCE = re.compile(r"`([\w./-]+\.(?:py|rs|sql))(?:::(\w+))?`")
ROW = re.compile(r"^\| ([A-FT]\d+) \|.*\| (.*) \|$", re.MULTILINE)
OF_A_THREAT = re.compile(r"(?:test_)?threat_(?:([a-ft]\d+)_)?")
RUST_TEST = re.compile(r"#\[(?:pg_)?test\]\s+(?:(?:#|//).*\s+)*fn (\w+)")
WITHOUT_A_TEST = ("not claimed", "not built", "not tested", "rows ")


def python_tests(text):
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if function.name.startswith("test_")]


def names_in(path):
    text = path.read_text()
    return python_tests(text) if path.suffix == ".py" else RUST_TEST.findall(text)


def files(suffix):
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob(f"*{suffix}"))
    return sorted(path for path in found if "node_modules" not in path.parts)


# The tests of each file that has any, and the files of SQL.
TESTS = {
    path.relative_to(ROOT): names
    for suffix in (".py", ".rs")
    for path in files(suffix)
    if (names := names_in(path))
}
SCRIPTS = [path.relative_to(ROOT) for path in files(".sql")]

ROWS = ROW.findall(PAGE.read_text())
THREAT_TESTS = {
    name: match.group(1)
    for names in TESTS.values()
    for name in names
    if (match := OF_A_THREAT.match(name))
}


def of_that_name(paths, name):
    """The paths that end in a name: `test_types.py`, `pgrx-tests/mod.rs`."""
    return [path for path in paths if f"/{path}".endswith(f"/{name}")]


def test_each_threat_has_one_row():
    expected = [f"{kind}{n}" for kind, count in THREATS.items() for n in range(1, count + 1)]
    assert [threat for threat, _ in ROWS] == expected


@pytest.mark.parametrize(("threat", "shown_by"), ROWS, ids=[threat for threat, _ in ROWS])
def test_each_row_says_what_shows_it(threat, shown_by):
    assert REFERENCE.search(shown_by) or shown_by.startswith(WITHOUT_A_TEST)


@pytest.mark.parametrize(("file", "function"), sorted(set(REFERENCE.findall(PAGE.read_text()))))
def test_what_the_page_names_is_there(file, function):
    if file.endswith(".sql"):
        assert len(of_that_name(SCRIPTS, file)) == 1 and not function
    elif function:
        (path,) = of_that_name(TESTS, file)
        assert function in TESTS[path]
    else:
        assert of_that_name(TESTS, file)


def test_settings_and_functions_that_the_page_names_are_there():
    sources = [ROOT / "src" / "guc.rs", *(ROOT / "sql").glob("*.sql")]
    there = set(re.findall(r"\bfieldcrypt\.(\w+)", "".join(path.read_text() for path in sources)))
    page = PAGE.read_text()
    named = set(re.findall(r"\bfieldcrypt\.(\w+)", page)) | set(re.findall(r"`(\w+)\(", page))
    assert len(named) > 10 and named - there == set()


@pytest.mark.parametrize("name", THREAT_TESTS)
def test_what_is_named_after_a_threat_is_on_the_page(name):
    threat = THREAT_TESTS[name]
    text = dict(ROWS)[threat.upper()] if threat else PAGE.read_text()
    assert name in [function for _, function in REFERENCE.findall(text)]


@pytest.mark.parametrize("page", ["docs/security.md", "SECURITY.md", "README.md"])
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    assert links and [link for link in links if not (folder / link).exists()] == []


def test_the_readme_leads_here():
    text = (ROOT / "README.md").read_text()
    assert "(docs/security.md)" in text and "(SECURITY.md)" in text
