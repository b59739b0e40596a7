"""Lift a chapter's own functions and classes out of its notebook, without running the rest.

    from lift import lift
    chapter = lift("chapters/00_larger_scale.ipynb", "expert", "measured_kernel")
    chapter.measured_kernel(...)

So a test can hold what the reader sees against the library, for many shapes and seeds. What is executed is
only: the imports, the definitions asked for, and the definitions and constants that these use.
"""

import ast
import linecache
import symtable
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType

from freshness import read
from IPython.core.inputtransformer2 import TransformerManager

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_source(source: str) -> str:
    """A cell as plain Python: magics and shell commands become calls of ``get_ipython()``."""
    return TransformerManager().transform_cell(source)


def lift(path: Path | str, *names: str, compute: Collection[str] = (), **given: object) -> ModuleType:
    """Compile only some functions, classes or constants of a notebook.

    Args:
        path: The notebook.
        names: What to lift. A name that is defined twice means the last definition, as in the notebook.
        compute: Variables that may be lifted although their assignment calls something; it is executed.
        given: Values for variables of the notebook, in the place of those that it has or computes.

    Returns:
        A module that holds the names, the notebook's imports, and what the names use. A constant is what is
        assigned without calling anything; more than that (a model, a batch) has to be given.

    Raises:
        LookupError: The notebook does not define a name, or a name uses a variable that only running the
            notebook could compute. The message lists what there is, or says what to give.
    """
    path = Path(path)
    if not names:
        raise ValueError(f"lift({path.name!r}): name what to lift")
    imports, defined, computed = _survey(path, compute)
    missing = [name for name in names if name not in defined]
    if missing:
        there = ", ".join(defined) or "nothing"
        raise LookupError(f"{path.name} does not define {', '.join(missing)}; it defines: {there}")
    wanted = set(imports)
    queue = list(names)
    while queue:
        name = queue.pop()
        if defined[name] in wanted:
            continue
        wanted.add(defined[name])
        for used in _names_read(defined[name]):
            if used in given:
                continue
            if used in computed:
                raise LookupError(
                    f"{path.name}: {name} uses {used!r}, which only running {computed[used]} computes; "
                    f"give it: lift(…, {used}=…)"
                )
            if used in defined:
                queue.append(used)
    return _execute(path, wanted, given)


def _survey(
    path: Path, compute: Collection[str]
) -> tuple[list[ast.stmt], dict[str, ast.stmt], dict[str, str]]:
    """Imports, what can be lifted (name → statement), and what cannot (name → cell that computes it)."""
    imports, defined, computed = [], {}, {}
    for filename, tree in _cells(path):
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                imports.append(statement)
                continue
            for name in _names_bound(statement):
                # The last binding decides, as it does in the notebook.
                defined.pop(name, None)
                computed.pop(name, None)
                if isinstance(statement, Definition) or name in compute or _is_constant(statement):
                    defined[name] = statement
                else:
                    computed[name] = filename.rsplit(":", 1)[1]
    return imports, defined, computed


def _cells(path: Path) -> Iterator[tuple[str, ast.Module]]:
    """Every code cell as a syntax tree whose nodes remember where they stand (``tree.filename``)."""
    for index, cell in enumerate(read(path).cells):
        if cell.cell_type != "code":
            continue
        filename = f"{path}:cell {index}"
        source = python_source(cell.source)
        try:
            tree = ast.parse(source, filename)
        except SyntaxError as error:
            raise SyntaxError(f"{path.name}: cell {index}: {error.msg} in line {error.lineno}") from None
        for statement in tree.body:
            statement.filename = filename
        # Tracebacks and inspect.getsource then show the lines of the cell.
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        yield filename, tree


def _execute(path: Path, wanted: set[ast.stmt], given: dict[str, object]) -> ModuleType:
    module = ModuleType(f"lifted_{path.stem}", f"Definitions lifted out of {path.name}.")
    vars(module).update(given)
    for statement in sorted(
        wanted, key=lambda s: (int(s.filename.rsplit(" ", 1)[1]), s.lineno, s.col_offset)
    ):
        tree = ast.Module([statement], type_ignores=[])
        exec(compile(tree, statement.filename, "exec", dont_inherit=True), module.__dict__)
    return module


def _names_bound(statement: ast.stmt) -> set[str]:
    """Names that a top-level statement gives a value to, wherever in it this happens."""
    if isinstance(statement, Definition):
        return {statement.name}
    stored = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored - _loop_variables(statement)


def _names_read(statement: ast.stmt) -> set[str]:
    """Names that a statement takes from the notebook: what it reads and does not bind itself."""
    top = symtable.symtable(ast.unparse(statement), "<lift>", "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = top.get_children()
    while tables:
        table = tables.pop()
        tables.extend(table.get_children())
        # In a class, `widths = widths` reads the notebook's before it binds its own.
        is_class = table.get_type() == "class"
        for symbol in table.get_symbols():
            if symbol.is_global() or (is_class and symbol.is_referenced()):
                names.add(symbol.get_name())
    return names - _loop_variables(statement)


def _loop_variables(statement: ast.stmt) -> set[str]:
    """Variables of comprehensions; Python 3.12 and later list them among those of the enclosing scope."""
    if isinstance(statement, Definition):
        return set()
    loops = [node.target for node in ast.walk(statement) if isinstance(node, ast.comprehension)]
    return {n.id for target in loops for n in ast.walk(target) if isinstance(n, ast.Name)}


def _is_constant(statement: ast.stmt) -> bool:
    """An assignment that calls nothing, so that it is cheap and has no side effect."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return False
    calls = ast.Call | ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr
    return not any(isinstance(node, calls) for node in ast.walk(statement.value))
