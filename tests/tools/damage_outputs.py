"""Negative controls: what can go wrong with the outputs of a chapter."""

import sample
from cells import MARKER
from damage import control, shown
from freshness import stamp
from nbformat.v4 import new_output
from sample import FIGURE_MIME, cell_with


@control("fresh", "outputs were edited", stamped_again=False)
def edited_number(nb, root):
    cell_with(nb, "print([square").outputs[0].text = "[0, 1, 4, 8]\n"


@control("fresh", "outputs were edited", stamped_again=False)
def swapped_picture(nb, root):
    shown(nb)["image/png"] = sample.png("white")


@control("fresh", "outputs were edited", stamped_again=False)
def swapped_picture_data(nb, root):
    shown(nb)[FIGURE_MIME]["data"]["axes0/line0"][3][1] = 8.0


@control("fresh", "outputs were edited", stamped_again=False)
def output_of_an_unmarked_cell_deleted(nb, root):
    nb.cells[4].outputs = [sample.text("warming up\n")]


@control("fresh", "stale", stamped_again=False)
def source_edited(nb, root):
    cell_with(nb, "def cube").source = cell_with(nb, "def cube").source.replace("x * square(x)", "x**3")


@control("fresh", "stale", stamped_again=False)
def library_edited(nb, root):
    (root / "moe_lib" / "__init__.py").write_text("ANSWER = 43\n", encoding="utf-8")


@control("fresh", "stale", stamped_again=False)
def weights_edited(nb, root):
    (root / "moe_lib" / "pocket.safetensors").write_bytes(b"other numbers")


@control("fresh", "stale", stamped_again=False)
def lock_edited(nb, root):
    (root / "requirements.lock").write_text("numpy==2.3.5\n", encoding="utf-8")


@control("fresh", "nothing says what produced", stamped_again=False)
def never_stamped(nb, root):
    del nb.metadata["moe"]


@control("fresh", "made at scale 'gpu'", stamped_again=False)
def other_scale(nb, root):
    stamp(nb, scale="gpu", device="cuda", seconds=1.0, root=root)


@control("outputs_present", "outputs missing where marked")
def outputs_stripped(nb, root):
    cell_with(nb, "print([square").outputs = []


@control("outputs_present", "calls moe.show, but its figure is missing")
def figure_stripped(nb, root):
    cell_with(nb, "moe.show").outputs = []


@control("outputs_present", "calls explorer.explore, but its figure is missing")
def figure_that_answers_stripped(nb, root):
    cell = cell_with(nb, "moe.show")
    cell.source, cell.outputs = "explorer.explore(*answers)", []


@control("outputs_present", "calls explorer.attention, but its figure is missing")
def figure_of_attention_stripped(nb, root):
    cell = cell_with(nb, "moe.show")
    cell.source, cell.outputs = "explorer.attention(image, maps)", []


@control("executed_in_order", "execution count 9 where 3 is due")
def executed_out_of_order(nb, root):
    nb.cells[4].execution_count = 9


@control("executed_in_order", "not executed where 6 is due")
def not_executed(nb, root):
    cell_with(nb, "moe.expect").execution_count = None


@control("no_errors", "ends in ZeroDivisionError: division by zero")
def error_output(nb, root):
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])
    cell_with(nb, "def square").outputs = [error]


@control("no_stderr", "noise on stderr (UserWarning: slow path)")
def stderr_noise(nb, root):
    cell_with(nb, "import moe_lib").outputs = [sample.text("UserWarning: slow path\n", name="stderr")]


@control("no_widgets", "a widget")
def widget_output(nb, root):
    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1f"},
        "text/plain": "FloatSlider(value=0.5)",
    }
    cell_with(nb, "import moe_lib").outputs = [new_output("display_data", data=view)]


@control("expectations_marked", "moe.expect in a cell that nbval does not compare")
def unmarked_expectation(nb, root):
    cell = cell_with(nb, "moe.expect")
    cell.source = cell.source.removeprefix(f"{MARKER}\n")


@control("expectations_marked", "moe.expect in a cell")
def unmarked_expectation_in_a_function(nb, root):
    cell = cell_with(nb, "moe.expect")
    cell.source = "promise()"


@control("markers_understood", "nbval is told one thing only")
def misspelt_marker(nb, root):
    cell_with(nb, "print([square").source += "\n# NBVAL_CHECK_OUTPUTS"


@control("markers_understood", "# NBVAL_SKIP")
def cell_kept_from_nbval(nb, root):
    cell_with(nb, "def square").source += "\n# NBVAL_SKIP"


@control("no_absolute_paths", "is a path of one machine")
def path_of_the_repository(nb, root):
    cell_with(nb, "def square").outputs = [sample.text(f"{root}/moe_lib\n")]


@control("figures_described", "a picture without alt text")
def picture_without_moe_show(nb, root):
    cell_with(nb, "def square").outputs = [
        new_output("display_data", data={"image/png": sample.png("black")})
    ]


@control("figures_described", "a picture without alt text")
def svg_picture(nb, root):
    cell_with(nb, "def square").outputs = [new_output("display_data", data={"image/svg+xml": "<svg></svg>"})]


@control("figures_described", "a picture without alt text")
def picture_in_html(nb, root):
    page = {"text/html": '<p><img src="x.png" alt="ok"></p>'}
    cell_with(nb, "def square").outputs = [new_output("execute_result", data=page, execution_count=4)]


@control("figures_described", "is too short")
def alt_text_missing(nb, root):
    shown(nb)[FIGURE_MIME]["alt"] = ""
    shown(nb)["text/html"] = shown(nb)["text/html"].replace(sample.ALT.replace("&", "&amp;"), "")


@control("figures_described", "aria-label of its picture is not its alt text")
def alt_text_of_another_picture(nb, root):
    shown(nb)[FIGURE_MIME]["alt"] = "A bar chart of four squares, the last one highest."


@control("figures_described", "aria-label of its picture is not its alt text")
def aria_label_missing(nb, root):
    shown(nb)["text/html"] = shown(nb)["text/html"].replace("aria-label", "data-label")


@control("figures_described", "has no caption")
def caption_missing(nb, root):
    shown(nb)[FIGURE_MIME]["caption"] = " "


@control("figures_described", "has no data")
def figure_without_data(nb, root):
    shown(nb)[FIGURE_MIME]["data"] = {}


@control("figures_described", "tol is 5")
def tolerance_that_lets_everything_pass(nb, root):
    shown(nb)[FIGURE_MIME]["tol"] = 5


@control("figures_described", "2 figures have this name")
def figure_name_used_twice(nb, root):
    cell_with(nb, "moe.show").outputs.append(sample.figure())
