"""Negative controls: what can go wrong with the file, the text, the code and the exercises of a chapter."""

from damage import control, recount
from nbformat.v4 import new_code_cell, new_markdown_cell
from sample import cell_with


@control("clean_metadata", "metadata.widgets")
def widgets_metadata(nb, root):
    nb.metadata["widgets"] = {}


@control("clean_metadata", "metadata.papermill")
def papermill_metadata(nb, root):
    nb.metadata["papermill"] = {"duration": 3.1}


@control("clean_metadata", "metadata.execution")
def timestamps(nb, root):
    nb.cells[5].metadata["execution"] = {"iopub.status.idle": "2026-11-20T10:00:00Z"}


@control("clean_metadata", "kernelspec.name is 'my-env'")
def private_kernel(nb, root):
    nb.metadata.kernelspec["name"] = "my-env"


@control("one_title", "should begin with the title")
def no_title(nb, root):
    nb.cells[1].source = "It squares numbers.\n\n```bash\n# not a title\n```"


@control("one_title", "should begin with the title")
def title_after_a_section(nb, root):
    nb.cells[1].source = "## First\n\n# A small chapter"


@control("one_title", "a second title, 'Another'")
def second_title(nb, root):
    nb.cells[2].source += "\n\nAnother\n======="


@control("sections_present", "no heading “Objectives”")
def objectives_missing(nb, root):
    nb.cells[2].source = "## Aims\n\nObjectives"


@control("sections_present", "no heading “Exercises”")
def exercises_heading_missing(nb, root):
    cell_with(nb, "## Exercises").source = "**Exercises**"


@control("colab_cell_first", "run `python book/tools/colab.py`")
def colab_cell_of_another_repository(nb, root):
    nb.cells[0].source = nb.cells[0].source.replace("example.org", "example.com")


@control("colab_cell_first", "should be the Colab cell, with its tags")
def colab_cell_shown(nb, root):
    nb.cells[0].metadata["tags"] = ["colab"]


@control("parameters_cell", "0 code cells are tagged `parameters`")
def parameters_missing(nb, root):
    nb.cells[3].metadata["tags"] = []


@control("parameters_cell", "2 code cells are tagged `parameters`")
def parameters_twice(nb, root):
    nb.cells[5].metadata["tags"] = ["parameters"]


@control("parameters_cell", "parameter scale is 'smoke'")
def committed_at_smoke(nb, root):
    nb.cells[3].source = nb.cells[3].source.replace("pocket", "smoke")


@control("parameters_cell", "parameter seeds is 2.5")
def seeds_not_whole(nb, root):
    nb.cells[3].source = nb.cells[3].source.replace("seeds = 2", "seeds = 2.5")


@control("parameters_cell", "parameter out is missing")
def parameter_missing(nb, root):
    nb.cells[3].source = nb.cells[3].source.replace("out =", "folder =")


@control("parameters_cell", "only assigns literal values")
def computed_parameter(nb, root):
    nb.cells[3].source += "\nthreads = len(out)"


@control("not_injected", "parameters of some run")
def injected_parameters(nb, root):
    nb.cells.insert(4, new_code_cell('scale = "pocket"', metadata={"tags": ["injected-parameters"]}))
    recount(nb)


@control("known_tags", "cannot have tag 'excercise'")
def misspelt_tag(nb, root):
    nb.cells[2].metadata["tags"] = ["excercise"]


@control("known_tags", "cannot have tag 'raises-exception'")
def tag_that_lets_errors_pass(nb, root):
    nb.cells[5].metadata["tags"] = ["raises-exception"]


@control("no_shell", "runs a shell command (!)")
def shell_command(nb, root):
    cell_with(nb, "def square").source += "\n!ls"


@control("no_shell", "runs a shell command (!)")
def shell_command_in_a_function(nb, root):
    cell_with(nb, "def square").source += "\ndef files():\n    names = !ls\n    return names"


@control("no_shell", "runs a shell command (%%bash)")
def shell_cell(nb, root):
    cell_with(nb, "def square").source = "%%bash\nls"


@control("no_installing", "installs something")
def pip_magic(nb, root):
    cell_with(nb, "def square").source += "\n%pip install timm"


@control("no_installing", "installs something")
def pip_as_a_module(nb, root):
    cell_with(nb, "def square").source += '\nrun([sys.executable, "-m", "pip", "install", "timm"])'


@control("no_installing", "installs something")
def conda_magic(nb, root):
    cell_with(nb, "def square").source += "\n%conda env list"


@control("exercises_complete", "followed by a cell tagged `solution`")
def exercise_without_check(nb, root):
    nb.cells[-1].metadata["tags"] = []


@control("exercises_complete", "followed by a cell tagged `solution`")
def second_exercise_without_solution(nb, root):
    exercise = new_markdown_cell("```{exercise} More\n```", metadata={"tags": ["exercise"]})
    nb.cells.append(exercise)


@control("exercises_complete", "should hold a ```{exercise} directive")
def exercise_without_directive(nb, root):
    cell_with(nb, "{exercise}").source = "**Cubes.** Write `cube(x)`."


@control("exercises_complete", "no cell above is tagged `exercise`")
def check_before_the_exercise(nb, root):
    nb.cells[5].metadata["tags"] = ["check"]


@control("solutions_marked", "a solution stands between")
def solution_without_markers(nb, root):
    cell_with(nb, "def cube").source = "def cube(x):\n    return x * square(x)"


@control("solutions_marked", "a solution stands between")
def solution_without_end(nb, root):
    cell_with(nb, "def cube").source = "def cube(x):\n    # BEGIN SOLUTION\n    return x * square(x)"


@control("solutions_marked", "has solution markers, but not the tag")
def markers_outside_a_solution(nb, root):
    cell_with(nb, "def square").source += "\n# BEGIN SOLUTION\n# END SOLUTION"


@control("solutions_folded", "not folded")
def solution_in_the_open(nb, root):
    cell_with(nb, "{solution-start}").source = "A solution:"
    cell_with(nb, "{solution-end}").source = "Checked by:"


@control("solutions_folded", "not folded")
def solution_without_dropdown(nb, root):
    cell_with(nb, "{solution-start}").source = "````{solution-start} ex-cube\n````"


@control("solutions_folded", "the check is folded away")
def fold_never_closed(nb, root):
    cell_with(nb, "{solution-end}").source = "Now check it."
