"""The wheel holds the library and its weights, asks for little, and works with only that little installed."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from environments import (
    clean_environment,
    closure,
    installed,
    link,
    make_venv,
    pip_install,
    python_of,
    site_packages,
)
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from wheels import ROOT, build_variant, contents, edit, read_metadata, runtime, tiny_wheel

HOST_BRINGS = ("numpy", "torch")  # Colab and its like: their versions are theirs to choose

# A small use of every public name, by expressions: where one of them needs a package that the library does
# not ask for, it fails in an environment that holds nothing else.
USES = {
    "Adapted": "isinstance(LORA, moe.Method) and isinstance(MODEL[0], moe.Adapted)",
    "Adapter": "moe.Adapter(4).width == 4",
    "BitFit": "moe.BitFit().opened(MODEL) == ['0.base.bias']",
    "ConvLoRA": "moe.ConvLoRA(experts=2).ratios == (1, 2)",
    "ConvLoRALinear": "moe.ConvLoRALinear(MODEL[0].base, moe.ConvLoRA())(torch.ones(1, 2, 2, 2)).ndim == 4",
    "Counts": "isinstance(moe.trainable_parameters(MODEL), moe.Counts)",
    "Fitted": "moe.Fitted().history == []",
    "Full": "len(moe.Full().opened(MODEL)) == 4",
    "AdaRoute": "moe.AdaRoute(4).rank == 4",
    "LPMoE": "moe.LPMoE(planes=8).planes == 8",
    "LoRA": "LORA.rank == 1",
    "MLESAM": "moe.MLESAM(('a', 'b')).sensors == ('a', 'b')",
    "SERA": "moe.SERA(k=2).k == 2",
    "Method": "issubclass(moe.VPT, moe.Method)",
    "Open": "moe.Open('0').opened(MODEL)[0] == '0.A'",
    "Recipe": "moe.Recipe(steps=3).steps == 3",
    "Unexpected": "issubclass(moe.Unexpected, AssertionError)",
    "at_scale": "moe.at_scale('gpu', smoke=1, pocket=2) == 2",
    "backbones": "moe.backbones.sam().sizes.width == 128",
    "VPT": "moe.VPT(2).prompts == 2",
    "balance_loss": "moe.balance_loss(MODEL) == 0",
    "centre_share": "moe.centre_share(torch.eye(3)) < 1",
    "compare": "moe.compare([2.0, 3.0, 5.0], [1.0, 1.0, 1.0])['p'] == 0.25",
    "datasets": "issubclass(moe.datasets.DataError, ValueError)",
    "disable": "hasattr(moe.disable(MODEL), '__enter__')",
    "effective_kernel": "moe.effective_kernel(lambda x: 2 * x, radius=1)[1, 1] == 2",
    "environment": "moe.environment()['moe_lib'] == moe.__version__",
    "evaluate": "moe.evaluate(MODEL, DATA, lambda m, b: {'a': m(b['x'])[:, 0]})['a'] != 0",
    "expect": "moe.expect('a half', 0.5, near=0.5, tol=0) is None",
    "fit": "moe.fit(MODEL, DATA, lambda m, b: m(b['x']).square().mean(), moe.Recipe(steps=1), device='cpu')",
    "heads": "moe.heads.SemanticSam(moe.backbones.sam()).mask_decoder.class_head is None",
    "inject": "moe.inject(torch.nn.Sequential(torch.nn.Linear(2, 2)), moe.Full())",
    "kept_results": "moe.kept_results('00_larger_scale') is None",
    "load_adapter": "moe.load_adapter(MODEL, moe.save_adapter(MODEL, 'kept')) is MODEL",
    "load_results": "moe.load_results('nowhere', chapter='00', scale='smoke') is None",
    "losses": "moe.losses.bce(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)) > 0",
    "mean_interval": "moe.mean_interval([1.0, 2.0, 4.0], resamples=99)['low'] < 2.4",
    "merge": "moe.merge(MODEL) is MODEL",
    "methods": "'LoRA' in moe.methods.__all__",
    "metrics": "moe.metrics.iou(torch.ones(1, 2, 2), torch.ones(1, 2, 2)) == 1",
    "pick_device": "moe.pick_device('cpu').type == 'cpu'",
    "explorer": "'DecompressionStream' in moe.explorer.page.page('', {}, 'answers', name='a', label='')",
    "pictures": "moe.pictures.coloured(torch.zeros(1, 2, 2, dtype=int)).shape == (1, 3, 2, 2)",
    "probability_of_improvement": "moe.probability_of_improvement([1], [0]) == 1",
    "quantity": "moe.quantity([1.0, 2.0, 4.0])['seed 2'] == 4",
    "remove": "moe.remove(moe.inject(torch.nn.Sequential(torch.nn.Linear(2, 2)), LORA))",
    "rms_radius": "moe.rms_radius(torch.ones(3, 3)) > 1",
    "routing": "moe.routing.switch(torch.zeros(1, 2))[0].shape == (1, 2)",
    "save_adapter": "moe.save_adapter(MODEL, 'kept').exists()",
    "save_results": "moe.save_results('results', chapter='00', scale='smoke', seeds=3,"
    " quantities={'q': {'estimate': 1, 'low': 0, 'high': 2}}).exists()",
    "seed_values": "moe.seed_values(moe.quantity([1.0, 2.0, 4.0])) == [1, 2, 4]",
    "show": "moe.show(plt.figure(), name='white', alt='A figure with nothing on it, all white.',"
    " caption='A figure with nothing on it.') is None",
    "sign_flip_p": "moe.sign_flip_p([1, 2]) == 0.5",
    "style": "hasattr(moe.style(), '__enter__')",
    "trainable_parameters": "moe.trainable_parameters(MODEL).all == 10",
    "tried": "moe.tried({'quantities': {'LoRA 0.1': {'estimate': 1}}}, 'LoRA', [0.1])[0] == 0.1",
    "unmerge": "moe.unmerge(MODEL) is MODEL",
    "verdict": "moe.verdict(2, 3, supported={'above': 1}, contradicted={'below': 0}) == 'supported'",
    "watch_routing": "hasattr(moe.watch_routing(MODEL), '__enter__')",
    "worlds": "all(moe.worlds.task(name).batch([0])['image'].shape[1] == 3 for name in moe.worlds.TASKS)",
}
USE_EVERYTHING = f"""
import importlib, pkgutil
import matplotlib.pyplot as plt
import torch
import moe_lib as moe

class DATA:
    def __len__(self):
        return 4

    def batch(self, indices, device):
        return {{"x": torch.ones(len(indices), 2)}}

DATA, LORA = DATA(), moe.LoRA(1, targets="0")
MODEL = moe.inject(torch.nn.Sequential(torch.nn.Linear(2, 2)), LORA)
for module in pkgutil.walk_packages(moe.__path__, "moe_lib."):
    importlib.import_module(module.name)
for name, use in {USES!r}.items():
    assert eval(use), name
print(moe.__file__)
"""


def metadata_problems(wheel: Path) -> list[str]:
    """Where the metadata would get in the way of what a host has installed."""
    found = []
    for requirement in map(Requirement, runtime(wheel)):
        name = canonicalize_name(requirement.name)
        if requirement.url:
            found.append(f"{name} comes from an address")
        operators = {specifier.operator for specifier in requirement.specifier}
        if not operators:
            found.append(f"{name} has no lower bound")
        if operators & {"==", "===", "~="} or (name in HOST_BRINGS and operators - {">="}):
            found.append(f"{name} is held back by '{requirement.specifier}'")
    return found


def test_it_holds_the_library_and_nothing_else(wheel: Path) -> None:
    library = ROOT / "moe_lib"
    in_tree = {p.relative_to(ROOT).as_posix() for p in library.rglob("*") if p.is_file()}
    assert contents(wheel) == {name for name in in_tree if "__pycache__" not in name}
    assert any(name.startswith("moe_lib/weights/") for name in contents(wheel))


def test_a_file_left_out_of_the_wheel_is_noticed(tmp_path: Path, wheel: Path) -> None:
    def without_weights(source: Path) -> None:
        packages = 'packages = ["moe_lib"]'
        edit(source / "pyproject.toml", packages, f'{packages}\nexclude = ["moe_lib/weights"]')

    variant = build_variant(tmp_path, without_weights)
    assert {Path(name).parent.name for name in contents(wheel) - contents(variant)} == {"weights"}


def test_its_metadata_say_what_pyproject_says(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = read_metadata(wheel)
    assert found["Name"] == project["name"]
    assert SpecifierSet(found["Requires-Python"]) == SpecifierSet(project["requires-python"])
    assert set(map(Requirement, runtime(wheel))) == set(map(Requirement, project["dependencies"]))
    assert set(found.get_all("Provides-Extra")) == {"book", "data", "dev"}
    assert found["License-Expression"] == "Apache-2.0"
    assert metadata_problems(wheel) == []


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ("numpy==2.3.4", "numpy is held back by '==2.3.4'"),
        ("numpy>=1.26,<3", "numpy is held back by '<3,>=1.26'"),
        ("numpy!=2.0.0,>=1.26", "numpy is held back by '!=2.0.0,>=1.26'"),
        ("numpy~=2.0", "numpy is held back by '~=2.0'"),
        ("numpy", "numpy has no lower bound"),
    ],
)
def test_a_version_that_is_held_back_is_noticed(tmp_path: Path, held: str, problem: str) -> None:
    wheel = tiny_wheel(tmp_path, "moe_lib", "1.0", ["torch>=2.6", held])
    assert metadata_problems(wheel) == [problem]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Callable[[], Path]:
    """Makes environments that hold the runtime requirements of the wheel, as links, and nothing else."""
    needed = closure(runtime(wheel)).values()

    def make() -> Path:
        folder = tmp_path_factory.mktemp("bare")
        make_venv(folder / "venv")
        link(needed, folder / "venv")
        return folder

    return make


def install_and_use(folder: Path, wheel: Path) -> subprocess.CompletedProcess[str]:
    """Install a wheel with pip, offline, and use the library from an empty folder."""
    python = python_of(folder / "venv")
    done = pip_install(python, wheel, cwd=folder)
    if done.returncode:
        return done
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    command = [python, "-I", "-c", USE_EVERYTHING]
    return subprocess.run(command, cwd=elsewhere, env=clean_environment(), capture_output=True, text=True)


@pytest.mark.slow
def test_it_works_with_its_runtime_requirements_alone(bare: Callable[[], Path], wheel: Path) -> None:
    folder = bare()
    before = installed(folder / "venv")
    assert not {"moe-lib", "nbformat", "papermill", "pip"} & before.keys()
    done = install_and_use(folder, wheel)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(site_packages(folder / "venv"))
    after = installed(folder / "venv")
    assert after.pop("moe-lib") == metadata.version("moe_lib")
    assert after == before


@pytest.mark.slow
def test_an_undeclared_import_is_noticed(bare: Callable[[], Path], tmp_path: Path) -> None:
    def import_nbformat(source: Path) -> None:
        edit(source / "moe_lib" / "__init__.py", "from moe_lib.scale", "import nbformat\nfrom moe_lib.scale")

    done = install_and_use(bare(), build_variant(tmp_path, import_nbformat))
    assert done.returncode != 0
    assert "No module named 'nbformat'" in done.stderr


def test_a_requirement_that_is_not_met_is_noticed(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, "moe_lib", "1.0", ["torch>=2.6"])
    done = pip_install(make_venv(tmp_path / "venv"), wheel, cwd=tmp_path)
    assert done.returncode != 0
    assert "No matching distribution found for torch" in done.stderr


def test_every_public_name_is_used_above() -> None:
    import moe_lib

    assert set(USES) == set(moe_lib.__all__), "write a small use of each new public name into USES"


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Every top-level package that some code imports, and whether it does so inside a function."""

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0], inside
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    yield from visit(ast.parse(source), inside=False)


def undeclared(source: str, project: dict) -> list[str]:
    """Packages that some code imports though `[project]` does not ask for them.

    What the extra `data` brings may be imported inside a function, where a reader of real data needs it.
    """
    asked = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    data = {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"]["data"]}
    provides = metadata.packages_distributions()
    found = []
    for package, inside in imports(source):
        if package in sys.stdlib_module_names or package == "moe_lib":
            continue
        sources = {canonicalize_name(name) for name in provides.get(package, [package])}
        if not sources & (asked | data if inside else asked):
            found.append(package)
    return found


@pytest.fixture
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("path", sorted((ROOT / "moe_lib").rglob("*.py")), ids=lambda path: path.stem)
def test_every_import_of_the_library_is_declared(path: Path, project: dict) -> None:
    assert undeclared(path.read_text(encoding="utf-8"), project) == []


def test_undeclared_imports_are_found_wherever_they_are(project: dict) -> None:
    project["dependencies"] = [line for line in project["dependencies"] if not line.startswith("pillow")]
    source = """
import os, yaml
from PIL import Image
def read():
    import tqdm
    from PIL import Image
    import papermill.execute
"""
    assert undeclared(source, project) == ["yaml", "PIL", "papermill"]
