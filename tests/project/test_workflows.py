"""The workflows do what the README promises, and may do no more than that."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"
NAMES = ["links", "nightly", "pages", "tests"]

# What a job may write, by the one action that needs it. Everything else reads.
NEEDS = {"actions/deploy-pages": {"pages", "id-token"}}


def parse(text: str) -> dict:
    """A workflow as a dict. YAML 1.1 reads the bare key `on` as the truth value: put its name back."""
    workflow = yaml.safe_load(text)
    if True in workflow:
        workflow["on"] = workflow.pop(True)
    triggers = workflow["on"]
    if isinstance(triggers, str):
        triggers = [triggers]
    workflow["on"] = triggers if isinstance(triggers, dict) else dict.fromkeys(triggers)
    return workflow


def load(name: str) -> dict:
    return parse((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8"))


def actions(job: dict) -> list[str]:
    """The actions that a job uses, with their tags."""
    return [step["uses"] for step in job.get("steps", []) if "uses" in step]


def commands(job: dict) -> list[str]:
    """The shell commands that a job runs, in order."""
    return [step["run"] for step in job.get("steps", []) if "run" in step]


def strings(value: object) -> Iterator[str]:
    """Every text in a nested structure, keys included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    else:
        yield str(value)


def top_level_rights(workflow: dict) -> list[str]:
    permissions = workflow.get("permissions")
    if permissions is None:
        return ["no permissions at the top: jobs would get the repository's default, which may be to write"]
    if permissions not in ({}, {"contents": "read"}):
        return [f"the top grants {permissions}; it should grant contents: read, jobs ask for more themselves"]
    return []


def job_rights(name: str, job: dict) -> list[str]:
    permissions = job.get("permissions", {})
    if not isinstance(permissions, dict):
        return [f"job {name} has {permissions}; it should name each right that it needs"]
    used = {action.split("@")[0] for action in actions(job)}
    needed = set().union(*(rights for action, rights in NEEDS.items() if action in used))
    writes = {right for right, level in permissions.items() if level == "write"}
    reads = {right for right, level in permissions.items() if level == "read"}
    found = [f"job {name} may write {right} and does not need to" for right in sorted(writes - needed)]
    found += [f"job {name} may read {right} and does not need to" for right in sorted(reads - {"contents"})]
    if writes and (commands(job) or any(action.startswith("actions/checkout@") for action in actions(job))):
        found.append(
            f"job {name} may write and runs code of the repository: do that in a job that only reads"
        )
    return found


def untrusted_input(workflow: dict) -> list[str]:
    """Ways by which somebody else's pull request could act with this repository's rights."""
    found = [
        f"{trigger} runs with this repository's rights on what others wrote"
        for trigger in ("pull_request_target", "workflow_run", "issue_comment")
        if trigger in workflow["on"]
    ]
    texts = list(strings(workflow["jobs"]))
    if any(re.search(r"\bsecrets\b|github\.token", text) for text in [*texts, *strings(workflow.get("env"))]):
        found.append("a secret or token is used")
    for name, job in workflow["jobs"].items():
        if any(re.search(r"\$\{\{[^}]*github\.(event|head_ref)", command) for command in commands(job)):
            found.append(f"job {name} puts text that others wrote into a shell command")
    return found


def too_much(workflow: dict) -> list[str]:
    """Every right that a workflow has and does not need, one sentence each."""
    found = top_level_rights(workflow)
    for name, job in workflow["jobs"].items():
        found += job_rights(name, job)
    return found + untrusted_input(workflow)


def careless(workflow: dict) -> list[str]:
    """What can hang, pile up, change under our feet or leave a token lying about, one sentence each."""
    found = []
    if not isinstance(workflow.get("concurrency"), dict) or "group" not in workflow["concurrency"]:
        found.append("no concurrency group: runs pile up")
    for name, job in workflow["jobs"].items():
        limit = job.get("timeout-minutes")
        if not isinstance(limit, int) or not 0 < limit <= 60:
            found.append(f"job {name} has the time limit {limit}; it should have 1 to 60 minutes")
        for step in job.get("steps", []):
            action = step.get("uses", "actions/none@v1")
            if not re.fullmatch(r"actions/[\w-]+@v\d+", action):
                found.append(f"job {name} uses {action}; it should be one of GitHub's own, by major version")
            if "actions/checkout@" in action and step.get("with", {}).get("persist-credentials") is not False:
                found.append(f"job {name} leaves the token in the checkout: set persist-credentials: false")
    return found


def test_these_are_all_the_workflows():
    assert sorted(path.stem for path in WORKFLOWS.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
class TestEveryWorkflow:
    def test_has_the_least_privilege(self, name):
        assert too_much(load(name)) == []

    def test_is_careful(self, name):
        assert careless(load(name)) == []

    def test_names_only_targets_and_tools_that_exist(self, name):
        root = WORKFLOWS.parents[1]
        makefile = (root / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z][\w-]*(?: [a-z][\w-]*)*)\s*:(?!=)", makefile, flags=re.M))
        targets = {name for line in targets for name in line.split()}
        for command in (line for job in load(name)["jobs"].values() for line in commands(job)):
            assert set(re.findall(r"\bmake ([\w-]+)", command)) <= targets
            assert all((root / tool).is_file() for tool in re.findall(r"book/tools/\w+\.py", command))


def test_tests_run_everything_on_every_supported_python():
    workflow = load("tests")
    assert workflow["on"] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.12", "3.13"],
    }
    assert job["strategy"]["fail-fast"] is False  # one platform's failure must not hide another's
    assert job["runs-on"] == "${{ matrix.os }}"
    setup = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@"))
    assert setup["with"]["python-version"] == "${{ matrix.python }}"
    assert setup["with"]["cache"] == "pip"
    assert setup["with"]["cache-dependency-path"] == "requirements.lock"
    assert any("playwright install --with-deps chromium" in line for line in commands(job))
    assert commands(job)[-1] == "make test"


def test_pages_are_built_without_and_deployed_with_rights():
    workflow = load("pages")
    assert workflow["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}
    assert workflow["concurrency"] == {"group": "pages", "cancel-in-progress": False}
    build, deploy = workflow["jobs"]["build"], workflow["jobs"]["deploy"]
    assert commands(build) == ["make book", "touch _build/html/.nojekyll"]
    upload = build["steps"][-1]
    assert upload["uses"].startswith("actions/upload-pages-artifact@")
    # The action leaves files that begin with a dot behind unless it is told to take them.
    assert upload["with"] == {"path": "_build/html", "include-hidden-files": True}
    assert "permissions" not in build
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    assert deploy["needs"] == "build" and deploy["environment"]["name"] == "github-pages"
    assert deploy["if"] == "github.ref == 'refs/heads/main'"  # a manual run on a branch publishes nothing
    assert [action.split("@")[0] for action in actions(deploy)] == ["actions/deploy-pages"]


def test_nightly_tests_the_newest_torch_on_the_locked_environment():
    workflow = load("nightly")
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    assert re.fullmatch(r"\d+ \d+ \* \* \*", workflow["on"]["schedule"][0]["cron"])
    (job,) = workflow["jobs"].values()
    wanted = [
        "make setup",
        "pip install --upgrade torch",
        "pytest",
        "book/tools/run.py --scale smoke",
    ]
    found = [next(i for i, line in enumerate(commands(job)) if part in line) for part in wanted]
    assert found == sorted(found)  # in this order
    assert commands(job)[found[1]].endswith(" torch")  # nothing here needs torchvision
    # Every target makes sure of the locked versions first, so after the upgrade there must be none.
    assert [line for line in commands(job) if "make" in line] == ["make setup"] == commands(job)[:1]


def test_links_are_checked_weekly():
    workflow = load("links")
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", workflow["on"]["schedule"][0]["cron"])
    checks = commands(workflow["jobs"]["linkcheck"])[-1]
    # Jupyter Book's own `--builder linkcheck` writes into the folder of the HTML.
    assert "--builder custom --custom-builder linkcheck" in checks


HARMLESS = """
on: push
permissions: {contents: read}
concurrency: {group: tests, cancel-in-progress: true}
jobs:
  test:
    runs-on: ubuntu-latest
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@v6
        with: {persist-credentials: false}
      - run: make test
"""


def tampered(old: str, new: str) -> dict:
    """The harmless workflow with one thing changed."""
    assert HARMLESS.count(old) == 1
    return parse(HARMLESS.replace(old, new))


def test_the_harmless_workflow_of_the_controls_is_harmless():
    assert too_much(parse(HARMLESS)) == careless(parse(HARMLESS)) == []


TOP = "permissions: {contents: read}\n"
JOB = "    runs-on: ubuntu-latest\n"
LAST = "      - run: make test\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TOP, "permissions: write-all\n", "the top grants write-all"),
        (TOP, "permissions: read-all\n", "the top grants read-all"),
        (TOP, "permissions: {contents: write}\n", "the top grants {'contents': 'write'}"),
        (TOP, "", "no permissions at the top"),
        (JOB, "    permissions: write-all\n", "job test has write-all"),
        (JOB, "    permissions: {actions: read}\n", "job test may read actions"),
        (JOB, "    secrets: inherit\n", "a secret or token is used"),
        (LAST, "  push:\n    permissions: {contents: write}\n", "job push may write contents"),
        (LAST, LAST + "        env: {TOKEN: '${{ secrets.TOKEN }}'}\n", "a secret or token is used"),
        (LAST, "      - run: echo ${{ github.event.issue.title }}\n", "job test puts text that others wrote"),
        ("on: push", "on: pull_request_target", "pull_request_target runs with"),
        ("on: push", "on: [push, workflow_run]", "workflow_run runs with"),
    ],
)
def test_negative_control_too_much_is_reported(old, new, message):
    found = too_much(tampered(old, new))
    assert len(found) == 1 and message in found[0], found


def test_negative_control_a_deployment_that_runs_code_is_reported():
    workflow = tampered(LAST, LAST + "      - uses: actions/deploy-pages@v5\n")
    workflow["jobs"]["test"]["permissions"] = {"pages": "write", "id-token": "write"}
    assert too_much(workflow) == [
        "job test may write and runs code of the repository: do that in a job that only reads"
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("concurrency: {group: tests, cancel-in-progress: true}\n", "", "no concurrency group"),
        ("    timeout-minutes: 10\n", "", "job test has the time limit None"),
        ("timeout-minutes: 10", "timeout-minutes: 360", "job test has the time limit 360"),
        ("checkout@v6", "checkout@main", "job test uses actions/checkout@main"),
        ("- run: make test", "- uses: someone/thing@v1", "job test uses someone/thing@v1"),
        ("        with: {persist-credentials: false}\n", "", "job test leaves the token in the checkout"),
    ],
)
def test_negative_control_carelessness_is_reported(old, new, message):
    found = careless(tampered(old, new))
    assert len(found) == 1 and message in found[0], found


def test_negative_control_the_key_on_is_not_lost():
    assert True in yaml.safe_load("on: push")  # the trap itself
    assert parse("on: push\njobs: {}")["on"] == {"push": None}
    assert parse("on: [push, pull_request_target]\njobs: {}")["on"].keys() == {"push", "pull_request_target"}
