"""Every SQL block in the README and in docs/ runs, page by page, in a database of its own."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall(page.read_text())


def test_the_readme_has_sql():
    assert blocks(ROOT / "README.md")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda p: p.stem)
def test_page(cluster, page):
    # roles belong to the cluster: the pages make theirs anew
    name = cluster.create_database()
    try:
        statements = "\n".join(blocks(page))
        roles = re.findall(r"^CREATE ROLE (\w+)", statements, re.MULTILINE)
        dropped = "".join(f"DROP ROLE IF EXISTS {role};\n" for role in roles)
        cluster.psql(f"\\set ON_ERROR_STOP on\n{dropped}{statements}", dbname=name)
    finally:
        cluster.drop_database(name)
