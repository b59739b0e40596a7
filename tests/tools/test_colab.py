"""The repository's address is written once and carried everywhere else; the check notices where it is not."""

import nbformat
import pytest
import sample
from colab import COLAB_TAGS, FILES, colab_cell, main, repository_url, with_colab_cell
from freshness import ROOT, chapters, read

OLD = "https://example.org/books/old-experts"
NEW = "https://example.org/books/experts"


@pytest.fixture
def root(tmp_path):
    """A repository that moved from OLD to NEW: only _config.yml knows it yet."""
    sample.make_repository(tmp_path)
    assert repository_url(tmp_path) == NEW
    nb = sample.make_chapter(tmp_path)
    nb.cells[0].source = nb.cells[0].source.replace(NEW, OLD)
    sample.write(nb, tmp_path)
    bare = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Bare")])
    nbformat.write(bare, tmp_path / "chapters" / "01_bare.ipynb")
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n[project.urls]\nRepository = "{OLD}"\n')
    (tmp_path / "README.md").write_text(
        f"Clone {OLD}.\nIssues: {OLD}/issues, pip: git+{OLD}.git, not {OLD}-2.\n"
    )
    (tmp_path / "CITATION.cff").write_text(f"title: Ä\nrepository-code: {OLD}\n", encoding="utf-8")
    return tmp_path


def everything(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_address_is_carried_everywhere(root, capsys):
    assert main([], root) == 0
    for path in chapters(root):
        cell = read(path).cells[0]
        assert (cell.source, cell.metadata.tags) == (colab_cell(root), COLAB_TAGS)
    assert (root / "README.md").read_text() == (
        f"Clone {NEW}.\nIssues: {NEW}/issues, pip: git+{NEW}.git, not {OLD}-2.\n"
    )
    assert (root / "CITATION.cff").read_text(encoding="utf-8") == f"title: Ä\nrepository-code: {NEW}\n"
    assert f'Repository = "{NEW}"' in (root / "pyproject.toml").read_text()
    changed = ["chapters/01_bare.ipynb", "chapters/99_sample.ipynb", *FILES]
    assert capsys.readouterr().out.splitlines() == [f"{name}: now carries {NEW}" for name in changed]


def test_a_second_run_changes_nothing(root, capsys):
    main([], root)
    before = everything(root)
    capsys.readouterr()
    assert main([], root) == main(["--check"], root) == 0
    assert everything(root) == before
    assert capsys.readouterr().out == ""


def test_the_check_names_what_is_out_of_step_and_writes_nothing(root, capsys):
    before = everything(root)
    assert main(["--check"], root) == 1
    assert everything(root) == before
    out_of_step = ["chapters/01_bare.ipynb", "chapters/99_sample.ipynb", *FILES]
    assert capsys.readouterr().out.splitlines() == [f"{name}: does not carry {NEW}" for name in out_of_step]


@pytest.mark.parametrize("name", ["chapters/01_bare.ipynb", "chapters/99_sample.ipynb", "pyproject.toml"])
def test_control_one_file_out_of_step_is_noticed(root, capsys, name):
    before = (root / name).read_bytes()
    main([], root)
    (root / name).write_bytes(before)
    capsys.readouterr()
    assert main(["--check"], root) == 1
    assert capsys.readouterr().out == f"{name}: does not carry {NEW}\n"


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff"])
def test_a_file_that_lost_the_address_is_named(root, name):
    (root / name).write_text(f"Clone {NEW}-2.\n")
    for arguments in ([], ["--check"]):
        with pytest.raises(SystemExit) as error:
            main(arguments, root)
        assert str(error.value).startswith(f"{name}: does not carry {NEW}, ")


def test_the_rest_of_a_notebook_stays(root):
    path = root / "chapters" / f"{sample.NAME}.ipynb"
    before = read(path)
    main([], root)
    after = read(path)
    assert (after.cells[1:], after.metadata) == (before.cells[1:], before.metadata)
    assert (after.cells[0].id, after.cells[0].execution_count) == (
        before.cells[0].id,
        before.cells[0].execution_count,
    )


def test_the_cell_is_put_first_only_where_there_is_none(root):
    nb = read(root / "chapters" / "01_bare.ipynb")
    for _ in range(2):
        with_colab_cell(nb, root)
        assert [cell.source for cell in nb.cells] == [colab_cell(root), "# Bare"]
    empty = with_colab_cell(nbformat.v4.new_notebook(), root)
    assert [cell.source for cell in empty.cells] == [colab_cell(root)]


def test_the_cell_installs_the_library_and_only_on_colab(root):
    source = colab_cell(root)
    condition, install = source.splitlines()[-2:]
    assert condition.startswith('if "google.colab" in sys.modules:')
    assert install == f'    %pip install -q "moe_lib @ git+{NEW}"'
    assert "torch" not in source and "numpy" not in source and "upgrade" not in source


@pytest.mark.parametrize(
    "config",
    [
        "",
        "repository:\n",
        "title: x\n",
        "repository: {branch: main}\n",
        "repository: {url: }\n",
        "repository: {url: github.com/owner/name}\n",
        "repository: {url: 'https://github.com/owner'}\n",
        "repository: {url: 'http://github.com/owner/name'}\n",
        "repository: {url: 'https://github.com/owner/a b'}\n",
        "repository: {url: 'https://github.com/owner/name\"; rm'}\n",
    ],
)
def test_a_missing_or_odd_address_is_refused_with_an_example(root, config):
    (root / "_config.yml").write_text(config)
    with pytest.raises(
        SystemExit, match=r"_config\.yml: repository\.url is .*https://github.com/owner/name$"
    ):
        main([], root)


def test_a_slash_at_the_end_does_not_matter(root):
    (root / "_config.yml").write_text(f"repository: {{url: '{NEW}/'}}\n")
    assert repository_url(root) == NEW


def test_a_broken_notebook_is_named_in_one_line(root):
    (root / "chapters" / "02_broken.ipynb").write_text("{")
    with pytest.raises(SystemExit, match=r"02_broken\.ipynb: not a valid notebook"):
        main(["--check"], root)


def test_this_repository_is_in_step(capsys):
    assert (main(["--check"]), capsys.readouterr().out) == (0, "")
    assert all((ROOT / name).exists() for name in FILES)
