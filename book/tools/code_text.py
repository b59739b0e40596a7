"""The part of a source that decides what it does."""

import ast
import io
import tokenize


def code_only(source: str) -> str:
    """Python source without comments, docstrings, blank lines and trailing space.

    Text is cut out rather than unparsed, because `ast.unparse` differs between Python versions and the
    hash must not. What cannot be parsed (a cell with a magic) counts as it stands.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads it
    try:
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError):
        return source
    lines = source.split("\n")  # not splitlines: to Python a form feed ends no line
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    inside_text = _rows_inside_text(tokens)
    for docstring in filter(None, map(_docstring, ast.walk(tree))):
        first, last = docstring.lineno - 1, docstring.end_lineno
        before = lines[first].encode()[: docstring.col_offset]
        after = lines[last - 1].encode()[docstring.end_col_offset :]
        if not before.strip() and not after.strip():
            lines[first:last] = [""] * (last - first)
            inside_text.difference_update(range(docstring.lineno, last))
    return "\n".join(
        line if row in inside_text else line.rstrip()
        for row, line in enumerate(lines, start=1)
        if line.strip() or row in inside_text
    )


def _rows_inside_text(tokens: list[tokenize.TokenInfo]) -> set[int]:
    """Rows that end within a string: their blank lines and trailing spaces are content."""
    rows, begun = set(), []
    for token in tokens:
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            rows.update(range(token.start[0], token.end[0]))
        elif kind == "FSTRING_START":  # from Python 3.12 on, an f-string is several tokens
            begun.append(token.start[0])
        elif kind == "FSTRING_END":
            rows.update(range(begun.pop(), token.end[0]))
    return rows


def _docstring(node: ast.AST) -> ast.Expr | None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        return node.body[0]
    return None
