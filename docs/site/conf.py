"""How Sphinx builds the site: `make docs`.

Sources are the pages of this repository where they lie, so that they read as well without a site.
A warning is an error: a link that leads nowhere, a page in no menu. Parts that follow from the code
are made while it builds, where a page has `<!-- made at build: NAME -->`: see `reference`.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

from docs.site.reference import PARTS

project = "Everlode"
html_show_copyright = html_show_sphinx = html_copy_source = False
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
source_suffix = {".md": "markdown"}
root_doc = "docs/index"
include_patterns = [
    "README.md", "CHANGELOG.md", "docs/**.md", "findings/*.md", "tests/languages/README.md",
]  # fmt: skip
exclude_patterns = [".*", "build", "dist", "docs/site"]
html_theme = "furo"
html_title = project
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
myst_links_external_new_tab = False
FOLDER = re.compile(r"\[([^]\n]+)\]\((?!https?:)[^)#\s]+/\)")
MARK = re.compile(r"^<!-- made at build: (\w+) -->$", re.M)


def fill(_: Sphinx, __: str, content: list[str]) -> None:
    """Put in what is made; a link to a folder becomes text: the site has pages and files.

    Raises: KeyError: a page asks for what nothing makes.
    """
    text = MARK.sub(lambda found: PARTS[found[1]](), content[0])
    content[0] = FOLDER.sub(r"\1", text)


def setup(app: Sphinx) -> None:
    """See Sphinx."""
    app.connect("source-read", fill)
