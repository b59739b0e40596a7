"""Fill the scorecard: claims from `book/claims`, numbers from `book/results`, verdicts by code.

python book/tools/scorecard.py        writes book/_generated/scorecard.md, which the scorecard page includes
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import yaml
from freshness import ROOT
from generated import write_part

from moe_lib.results import load_results
from moe_lib.stats import verdict

SIGNS = {"supported": "✓", "contradicted": "✗", "inconclusive": "○", "not run yet": "–"}
JUDGED_SCALES = ("gpu", "pocket")  # the strongest run that exists decides; smoke runs prove nothing
PAPER_KEYS = {"title", "chapter", "claims"}
CLAIM_KEYS = {"id", "claim", "published", "where", "test", "quantity", "supported", "contradicted"}
RESULT_KEYS = {"quantities", "seeds", "environment"}


class BadClaim(ValueError):
    """A claims file that cannot be judged; the message names the file and what is wrong."""


def read_papers(root: Path = ROOT) -> list[dict]:
    """All claims files, in the order of their chapters."""
    papers = []
    for path in sorted((Path(root) / "book" / "claims").glob("*.yml")):
        try:
            paper = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise BadClaim(f"{path.name}: not YAML ({' '.join(str(error).split())})") from None
        if not isinstance(paper, dict):
            raise BadClaim(f"{path.name}: expected a mapping with {', '.join(sorted(PAPER_KEYS))}")
        _require(PAPER_KEYS, paper, path.name)
        claims = paper["claims"]
        if not isinstance(claims, list) or not all(isinstance(claim, dict) for claim in claims):
            raise BadClaim(f"{path.name}: claims should be a list of mappings")
        for claim in claims:
            where = f"{path.name}, claim {claim.get('id', '?')}"
            _require(CLAIM_KEYS, claim, where)
            _decide({"low": 0, "high": 0}, claim, where)  # bad thresholds are noticed before the first run
        papers.append(paper)
    return sorted(papers, key=lambda paper: paper["chapter"])


def judge(claim: dict, chapter: str, root: Path = ROOT) -> dict:
    """Verdict of one claim: ``{"verdict", "scale", "quantity", "seeds", "environment"}``."""
    for scale in JUDGED_SCALES:
        results = load_results(Path(root) / "book" / "results", chapter=chapter, scale=scale)
        if results is None:
            continue
        where = f"claim {claim['id']}, {scale}.json of {chapter}"
        _require(RESULT_KEYS, results, where)
        quantity = results["quantities"].get(claim["quantity"])
        if quantity is None:
            continue  # the claim is younger than this run
        _require({"estimate", "low", "high"}, quantity, f"{where}, {claim['quantity']}")
        return {**results, "verdict": _decide(quantity, claim, where), "scale": scale, "quantity": quantity}
    return {"verdict": "not run yet", "scale": None}


def _decide(quantity: dict, claim: dict, where: str) -> str:
    thresholds = {side: claim[side] for side in ("supported", "contradicted")}
    try:
        return verdict(quantity["low"], quantity["high"], **thresholds)
    except (TypeError, ValueError) as error:
        raise BadClaim(f"{where}: {error}") from None


def scorecard(root: Path = ROOT) -> str:
    """The whole scorecard as MyST markdown."""
    papers = read_papers(root)
    sections, tally = [], Counter()
    for paper in papers:
        rows = [(claim, judge(claim, paper["chapter"], root)) for claim in paper["claims"]]
        tally.update(judged["verdict"] for _, judged in rows)
        sections.append(_section(paper, rows, root))
    return "\n".join([_summary(tally), *sections])


def _summary(tally: Counter) -> str:
    if not tally:
        return "No claim has been put to a test yet.\n"
    counted = [f"{SIGNS[word]} {word}: {tally[word]}" for word in SIGNS if tally[word]]
    total = sum(tally.values())
    return f"**{total} claim{'' if total == 1 else 's'}.** {' · '.join(counted)}\n"


def _section(paper: dict, rows: list[tuple[dict, dict]], root: Path) -> str:
    cite = f" {{cite}}`{paper['cite']}`" if paper.get("cite") else ""
    written = (Path(root) / "chapters" / f"{paper['chapter']}.ipynb").exists()  # claims come before chapters
    chapter = f"{{doc}}`/chapters/{paper['chapter']}`" if written else paper["chapter"]
    lines = [
        f"## {paper['title']}",
        "",
        f"Tested in {chapter}.{cite}",
        "",
        "| Claim | Verdict | Measured here | Published |",
        "|---|---|---|---|",
        *(_row(claim, judged) for claim, judged in rows),
        "",
    ]
    return "\n".join(lines)


def _row(claim: dict, judged: dict) -> str:
    text = f"**{claim['id']}** {claim['claim']} *Test:* {claim['test']}."
    published = f"{claim['published'] or 'no number'} ({claim['where']})"
    word = f"{SIGNS[judged['verdict']]} **{judged['verdict']}**"
    measured = "–"
    if judged["scale"]:
        word += f" at {judged['scale']} scale"
        measured = f"{_measured(judged['quantity'], judged['seeds'])}, {judged['environment']['device']}"
    cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in (text, word, measured, published))
    return f"| {' | '.join(cells)} |"


def _measured(quantity: dict, seeds: int) -> str:
    if quantity["low"] == quantity["high"]:
        return f"{quantity['estimate']:.3g}, exact"
    return "{estimate:.3g} [{low:.3g}, {high:.3g}]".format(**quantity) + f", {seeds} seeds"


def _require(keys: set[str], mapping: dict, where: str) -> None:
    if missing := keys - set(mapping):
        raise BadClaim(f"{where}: lacks {', '.join(sorted(missing))}")


def write(root: Path = ROOT) -> Path:
    """Write the page's table."""
    return write_part(root, "scorecard", scorecard(root))


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        print(write().relative_to(ROOT))
    except (BadClaim, ValueError) as error:
        sys.exit(f"scorecard: {error}")
