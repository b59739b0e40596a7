"""What the citation file and the README say about the project is true."""

import copy
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = {
    "cff-version",
    "message",
    "title",
    "authors",
    "version",
    "license",
    "repository-code",
    "references",
}
LICENCES = {"Apache-2.0", "CC-BY-4.0"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def problems(citation: dict, project: dict, address: str) -> list[str]:
    """Everything in the citation file that is missing or contradicts the package, one sentence each."""
    found = [f"CITATION.cff lacks {key}" for key in sorted(REQUIRED - citation.keys())]
    if found:
        return found
    if citation["cff-version"] != "1.2.0":
        found.append(f"cff-version is {citation['cff-version']}, it should be 1.2.0")
    if str(citation["version"]) != project["version"]:
        found.append(f"version is {citation['version']}, pyproject.toml says {project['version']}")
    if [author.get("name") for author in citation["authors"]] != [a["name"] for a in project["authors"]]:
        found.append(f"authors are {citation['authors']}, pyproject.toml says {project['authors']}")
    if set(citation["license"]) != LICENCES:
        found.append(f"licences are {citation['license']}, they should be {sorted(LICENCES)}")
    if citation["repository-code"] != address:
        found.append(f"repository-code is {citation['repository-code']}, _config.yml says {address}")
    for paper in citation["references"]:
        title = paper.get("title", "a paper without title")
        missing = sorted({"type", "title", "authors", "year", "doi"} - paper.keys())
        found += [f"{title}: lacks {key}" for key in missing]
        if not re.fullmatch(r"10\.\d{4,}/\S+", str(paper.get("doi", "10.0000/none"))):
            found.append(f"{title}: {paper['doi']} is not a DOI")
    return found


def licence_problems(readme: str) -> list[str]:
    """The licences that the README does not name, or does not lead to."""
    wanted = {"Apache-2.0": "](LICENSE)", "CC BY 4.0": "](LICENSE-TEXT.md)"}
    found = [f"README.md does not name {name}" for name in wanted if name not in readme]
    return found + [
        f"README.md does not link to {link[2:-1]}" for link in wanted.values() if link not in readme
    ]


@pytest.fixture
def citation() -> dict:
    return yaml.safe_load(read("CITATION.cff"))


@pytest.fixture
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture
def address() -> str:
    return yaml.safe_load(read("_config.yml"))["repository"]["url"]


def test_citation_is_complete_and_agrees_with_the_package(citation, project, address):
    assert problems(citation, project, address) == []


def test_citation_lists_the_papers_of_the_book_as_the_bibliography_does(citation):
    bibliography = read("book/references.bib")
    assert len(citation["references"]) == 5
    for paper in citation["references"]:
        arxiv = paper["doi"].removeprefix("10.48550/arXiv.")
        assert re.search(rf"eprint\s*=\s*\{{{re.escape(arxiv)}\}}", bibliography), paper["title"]


def test_readme_and_files_name_the_two_licences(project):
    assert licence_problems(read("README.md")) == []
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in read("LICENSE") and "Version 2.0, January 2004" in read("LICENSE")
    assert "END OF TERMS AND CONDITIONS" in read("LICENSE")  # the whole text, not its first page
    assert "creativecommons.org/licenses/by/4.0" in read("LICENSE-TEXT.md")


def test_the_examples_in_the_readme_run(capsys):
    examples = re.findall(r"^```python\n(.*?)^```", read("README.md"), flags=re.M | re.S)
    exec(compile("\n".join(examples), "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert len(examples) == 3 and shown.count("✓") == 3
    assert "torch.Size([4, 1, 96, 96]) torch.Size([4, 1, 3])" in shown
    assert "trainable params: 503,616" in shown


def test_links_and_pictures_of_the_readme_exist():
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)", read("README.md"))
    assert targets and [target for target in targets if not (ROOT / target).exists()] == []


def test_negative_control_an_empty_citation_lacks_everything(project, address):
    assert len(problems({}, project, address)) == len(REQUIRED)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("cff-version", "1.0.0", "cff-version is 1.0.0"),
        ("version", "9.9.9", "version is 9.9.9, pyproject.toml says"),
        ("authors", [{"name": "Somebody else"}], "authors are"),
        ("license", ["MIT"], "licences are ['MIT']"),
        ("repository-code", "https://example.org/a/b", "repository-code is https://example.org/a/b"),
        ("references", [{"title": "T", "type": "article", "authors": [], "year": 2024}], "T: lacks doi"),
        (
            "references",
            [{"title": "T", "type": "article", "authors": [], "year": 2024, "doi": "arXiv:1"}],
            "T: arXiv:1 is not a DOI",
        ),
    ],
)
def test_negative_control_a_wrong_citation_is_noticed(citation, project, address, key, value, message):
    changed = copy.deepcopy(citation) | {key: value}
    found = problems(changed, project, address)
    assert len(found) == 1 and message in found[0]


def test_negative_control_a_readme_without_licences_is_noticed():
    assert licence_problems("Code is under MIT.") == [
        "README.md does not name Apache-2.0",
        "README.md does not name CC BY 4.0",
        "README.md does not link to LICENSE",
        "README.md does not link to LICENSE-TEXT.md",
    ]
