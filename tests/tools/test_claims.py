"""The claims of this book fit its bibliography, its chapters and its results."""

import pytest
import yaml
from freshness import ROOT
from lift import lift
from scorecard import read_papers

from moe_lib.results import load_results

REAL = sorted((ROOT / "book" / "claims").glob("*.yml"))
APPLIED = ("gain", {"above": 0.5}, {"below": 0.1})
CLAIM = {"id": "A1"} | dict(zip(("quantity", "supported", "contradicted"), APPLIED, strict=True))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_claims_lead_to_what_there_is(path):
    paper = yaml.safe_load(path.read_text(encoding="utf-8"))
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert "cite" not in paper or f"{{{paper['cite']}," in bibliography


def test_ids_of_real_claims_are_unique():
    ids = [claim["id"] for paper in read_papers() for claim in paper["claims"]]
    assert ids and len(ids) == len(set(ids))


def chapter_problems(applied, claims, measured):
    """Where a chapter's `thresholds` and the quantities of its committed run do not fit the claims files."""
    committed = {c["id"]: (c["quantity"], c["supported"], c["contradicted"]) for c in claims}
    found = [f"{i} is in no claims file" for i in sorted(set(applied) - set(committed))]
    found += [f"{i} differs" for i in sorted(set(applied) & set(committed)) if applied[i] != committed[i]]
    found += [f"{i}: {entry[0]} was not measured" for i, entry in applied.items() if entry[0] not in measured]
    # A claim may be younger than the run; one that the run measured has to be applied.
    return found + [
        f"{i} is left out" for i in sorted(set(committed) - set(applied)) if committed[i][0] in measured
    ]


@pytest.mark.parametrize("name", sorted({paper["chapter"] for paper in read_papers()}))
def test_a_chapter_applies_the_thresholds_of_its_claims(name):
    path = ROOT / "chapters" / f"{name}.ipynb"
    results = load_results(ROOT / "book" / "results", chapter=name, scale="pocket")
    if not path.exists():
        assert results is None, f"there are results of {name}, but no such chapter"
        return
    try:
        applied = lift(path, "thresholds").thresholds
    except LookupError:  # claims may be committed before the section that applies them
        applied = {}
    claims = [claim for paper in read_papers() if paper["chapter"] == name for claim in paper["claims"]]
    assert chapter_problems(applied, claims, (results or {"quantities": {}})["quantities"]) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"A2": APPLIED}, "A2 is in no claims file"),
        ({"A1": ("gain", {"above": 0.4}, {"below": 0.1})}, "A1 differs"),
        ({"A1": ("gian", {"above": 0.5}, {"below": 0.1})}, "A1: gian was not measured"),
        (None, "A1 is left out"),
    ],
)
def test_negative_control_a_chapter_that_does_not_fit_its_claims_is_noticed(change, problem):
    assert chapter_problems({"A1": APPLIED}, [CLAIM], {"gain"}) == []
    assert chapter_problems({}, [CLAIM], set()) == [], "not run yet"
    applied = {} if change is None else {"A1": APPLIED} | change
    assert problem in chapter_problems(applied, [CLAIM], {"gain"})
