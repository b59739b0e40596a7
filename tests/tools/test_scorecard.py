"""Claims and numbers become verdicts by code; a claim that cannot be judged is named."""

import copy
import json

import pytest
import scorecard
import yaml
from scorecard import BadClaim, judge, read_papers, write

CLAIM = {
    "id": "A1",
    "claim": "It gains.",
    "published": "+2.1",
    "where": "table 3",
    "test": "gain over LoRA",
    "quantity": "gain",
    "supported": {"above": 0.5},
    "contradicted": {"below": 0.1},
}
PAPER = {"title": "A paper", "cite": "key2024paper", "chapter": "04_a", "claims": [CLAIM]}


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path)


class Book:
    """A book with one claim, for tests to fill and to damage."""

    def __init__(self, root):
        self.root = root
        self.paper = copy.deepcopy(PAPER)
        self.claim = self.paper["claims"][0]

    def write(self, relative, text):
        path = self.root / "book" / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def add_claims(self, name="a.yml", **paper):
        self.write(f"claims/{name}", yaml.safe_dump({**self.paper, **paper}, allow_unicode=True))

    def add_results(self, low, high, scale="pocket", chapter="04_a", name="gain", **changes):
        quantity = {"estimate": (low + high) / 2, "low": low, "high": high}
        results = {"scale": scale, "seeds": 10, "quantities": {name: quantity}}
        results["environment"] = {"device": "cpu (x86)"}
        self.write(f"results/{chapter}/{scale}.json", json.dumps(results | changes))

    def add_chapter(self, name):
        (self.root / "chapters").mkdir(exist_ok=True)
        (self.root / "chapters" / f"{name}.ipynb").write_text("{}", encoding="utf-8")

    def table(self):
        """The rows of the scorecard's tables: cells, without the escapes of pipes."""
        rows = [line for line in scorecard.scorecard(self.root).splitlines() if line.startswith("| **")]
        split = [row.replace("\\|", "¦").strip("| ").split(" | ") for row in rows]
        return [[cell.replace("¦", "|") for cell in cells] for cells in split]


def test_an_empty_book_says_so(book):
    assert scorecard.scorecard(book.root) == "No claim has been put to a test yet.\n"
    book.add_claims(claims=[])
    page = scorecard.scorecard(book.root)
    assert page.startswith("No claim has been put to a test yet.\n\n## A paper\n")


def test_a_claim_without_results_is_not_run_yet(book):
    book.add_claims()
    book.add_results(0.6, 0.9, scale="smoke")  # proves nothing
    book.add_results(0.6, 0.9, chapter="05_b")
    [[_, verdict, measured, _]] = book.table()
    assert (measured, verdict) == ("–", "– **not run yet**")
    assert "**1 claim.** – not run yet: 1" in scorecard.scorecard(book.root)


def test_a_claim_can_be_committed_before_its_run_and_its_chapter(book):
    book.add_claims(claims=[CLAIM, {**CLAIM, "id": "A2", "quantity": "younger"}])
    assert "Tested in 04_a. {cite}" in scorecard.scorecard(book.root)
    assert "{doc}" not in scorecard.scorecard(book.root), "a link to a page that is not there breaks the book"
    book.add_results(0.6, 0.9)  # of a run that did not know A2 yet
    book.add_chapter("04_a")
    assert [row[1] for row in book.table()] == ["✓ **supported** at pocket scale", "– **not run yet**"]
    assert "Tested in {doc}`/chapters/04_a`. {cite}" in scorecard.scorecard(book.root)


def test_a_quantity_that_only_the_pocket_run_has_is_judged_by_that(book):
    book.add_results(0.6, 0.9, scale="pocket")
    book.add_results(0.0, 0.05, scale="gpu", name="older")
    judged = judge(CLAIM, "04_a", book.root)
    assert (judged["verdict"], judged["scale"]) == ("supported", "pocket")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.6, 0.9, "✓ **supported**"), (-0.2, 0.05, "✗ **contradicted**"), (0.3, 0.9, "○ **inconclusive**")],
)
def test_a_claim_is_judged_by_its_thresholds_and_told_with_its_scale(book, low, high, verdict):
    book.add_claims()
    book.add_results(low, high)
    [row] = book.table()
    estimate = (low + high) / 2
    assert row == [
        "**A1** It gains. *Test:* gain over LoRA.",
        f"{verdict} at pocket scale",
        f"{estimate:.3g} [{low:.3g}, {high:.3g}], 10 seeds, cpu (x86)",
        "+2.1 (table 3)",
    ]


def test_the_gpu_run_decides_where_there_is_one(book):
    book.add_results(0.6, 0.9, scale="pocket")
    book.add_results(0.0, 0.05, scale="gpu")
    judged = judge(CLAIM, "04_a", book.root)
    assert (judged["verdict"], judged["scale"]) == ("contradicted", "gpu")


def test_verdicts_are_counted(book):
    claims = [{**CLAIM, "id": f"A{i}", "quantity": name} for i, name in enumerate(["gain", "loss", "gain"])]
    book.add_claims(claims=claims)
    quantities = {
        "gain": {"estimate": 1, "low": 1, "high": 1},
        "loss": {"estimate": 0.3, "low": 0.3, "high": 0.3},
    }
    book.add_results(1, 1, quantities=quantities)
    book.add_claims("b.yml", title="B paper", chapter="05_b")
    page = scorecard.scorecard(book.root)
    assert page.startswith("**4 claims.** ✓ supported: 2 · ○ inconclusive: 1 · – not run yet: 1\n")


def test_papers_come_in_the_order_of_their_chapters_and_lead_to_them(book):
    book.add_claims("a.yml", title="Late", chapter="10_late")
    book.add_claims("b.yml", title="Early", chapter="02_early", cite=None)
    book.add_chapter("02_early")
    book.add_chapter("10_late")
    page = scorecard.scorecard(book.root)
    assert page.index("## Early") < page.index("## Late")
    assert "Tested in {doc}`/chapters/02_early`.\n" in page
    assert "Tested in {doc}`/chapters/10_late`. {cite}`key2024paper`\n" in page


def test_a_claim_without_a_number_says_so(book):
    book.claim["published"] = None
    book.add_claims()
    assert book.table()[0][3] == "no number (table 3)"


def test_pipes_and_line_breaks_do_not_break_the_table(book):
    book.claim.update(claim="P(a|b) and\n|x| grow.", where="page 3 | 4")
    book.add_claims()
    [row] = book.table()
    assert len(row) == 4
    assert row[0] == "**A1** P(a|b) and |x| grow. *Test:* gain over LoRA."
    assert row[3] == "+2.1 (page 3 | 4)"


@pytest.mark.parametrize("key", sorted(scorecard.PAPER_KEYS))
def test_a_claims_file_that_lacks_something_is_named(book, key):
    del book.paper[key]
    book.add_claims("zhong.yml")
    with pytest.raises(BadClaim) as error:
        read_papers(book.root)
    assert str(error.value) == f"zhong.yml: lacks {key}"


@pytest.mark.parametrize("key", sorted(scorecard.CLAIM_KEYS))
def test_a_claim_that_lacks_something_is_named(book, key):
    del book.claim[key]
    book.add_claims("zhong.yml")
    with pytest.raises(BadClaim) as error:
        read_papers(book.root)
    assert str(error.value) == f"zhong.yml, claim {'?' if key == 'id' else 'A1'}: lacks {key}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a.yml: expected a mapping with chapter, claims, title"),
        ("- one\n- two\n", "a.yml: expected a mapping"),
        ("title: 'open\n", "a.yml: not YAML .*line 2"),
        ("title: A\nchapter: b\nclaims: none\n", "a.yml: claims should be a list of mappings"),
        ("title: A\nchapter: b\nclaims: [one, two]\n", "a.yml: claims should be a list of mappings"),
    ],
)
def test_what_is_no_claims_file_is_named_in_one_line(book, text, says):
    book.write("claims/a.yml", text)
    with pytest.raises(BadClaim, match=says) as error:
        read_papers(book.root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("supported", "says"),
    [
        ({"above": 0.05}, "thresholds overlap"),
        ({"over": 1}, "a threshold is"),
        (0.5, "got 0.5"),
        ({"above": None}, ""),
    ],
)
def test_bad_thresholds_are_noticed_before_the_first_run(book, supported, says):
    book.claim["supported"] = supported
    book.add_claims()
    with pytest.raises(BadClaim, match=f"a.yml, claim A1: .*{says}"):
        read_papers(book.root)


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ({"quantities": {"gain": {"estimate": 1}}}, "claim A1, pocket.json of 04_a, gain: lacks high, low"),
        ({"low": 2, "high": 1}, "claim A1, pocket.json of 04_a: an interval runs from low to high"),
    ],
)
def test_results_that_do_not_fit_a_claim_are_named(book, results, says):
    book.add_results(**{"low": 0.6, "high": 0.9, **results})
    with pytest.raises(BadClaim, match=says):
        judge(CLAIM, "04_a", book.root)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "pocket.json: not JSON"),
        ("{}", "claim A1, pocket.json of 04_a: lacks environment, quantities, seeds"),
    ],
)
def test_damaged_results_are_named(book, text, says):
    book.write("results/04_a/pocket.json", text)
    with pytest.raises(ValueError, match=says):
        judge(CLAIM, "04_a", book.root)


def test_the_page_is_written_only_when_it_changes(book):
    book.add_claims()
    path = write(book.root)
    assert path == book.root / "book" / "_generated" / "scorecard.md"
    assert path.read_text(encoding="utf-8") == scorecard.scorecard(book.root)
    path.chmod(0o444)
    before = path.stat().st_mtime_ns
    assert write(book.root).stat().st_mtime_ns == before
    path.chmod(0o644)
    book.add_results(0.6, 0.9)
    assert "supported" in write(book.root).read_text(encoding="utf-8")


def test_the_real_scorecard_can_be_made():
    assert scorecard.scorecard().startswith("**")


def test_a_number_without_chance_in_it_is_called_exact_and_has_no_seeds(book):
    book.add_claims()
    book.add_results(0.9, 0.9)
    [row] = book.table()
    assert row[2] == "0.9, exact, cpu (x86)"
