"""A Sphinx extension: two corrections to what Sphinx 7 writes into pages, each found by a test in tests/book.

`_config.yml` names it under `sphinx.local_extensions`; Sphinx calls `setup`.
"""

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", correct)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def correct(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    scripts = context["script_files"]
    scripts[:] = once_each(scripts)  # in place: other extensions add to the same list afterwards
    if "body" in context:
        # ARIA has withdrawn this role, and without it the list of references has no items.
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def once_each(scripts: list) -> list:
    """Scripts without repetitions: Sphinx 7 repeats inline ones added late; a second `const` is an error."""
    first = {}
    for script in scripts:
        first.setdefault((str(script.filename or ""), script.attributes.get("body")), script)
    return list(first.values())
