"""Massachusetts Roads: the road network in aerial pictures."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from convert import Writer, find, pairs
from download import DownloadError, fetch
from record import DataSet, main
from tqdm import tqdm

BASE = "https://www.cs.toronto.edu/~vmnih/data/mass_roads/"
COUNTS = {"train": 1108, "valid": 14, "test": 49}


def convert(sources: list[Path], writer: Writer) -> None:
    for split, official in (("train", "train"), ("val", "valid"), ("test", "test")):
        images = find(sources, f"{official}/sat", f"tiff/{split}")
        masks = find(sources, f"{official}/map", f"tiff/{split}_labels")
        writer.add_all(split, pairs(images, masks))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if tag == "a" and name == "href" and value]


def links(index: str, html: str) -> dict[str, str]:
    """File name → address of the pictures that an index page links to; other links are not followed."""
    parser = _Links()
    parser.feed(html)
    found = {}
    for link in parser.found:
        address = urljoin(index, link)
        name = Path(urlsplit(address).path).name
        if re.fullmatch(r"\d+_15\.tiff?", name) and urlsplit(address).netloc == urlsplit(index).netloc:
            found[name] = address.replace("http://", urlsplit(index).scheme + "://", 1)
    return found


def gather(downloads: Path, fetching: dict, base: str = BASE, counts: dict[str, int] = COUNTS) -> Path:
    """There is no archive: one file after the other, by the index pages; what is already there stays."""
    for split, number in counts.items():
        for kind in ("sat", "map"):
            folder = downloads / split / kind
            page = folder / "index.html"
            page.unlink(missing_ok=True)
            fetch([f"{base}{split}/{kind}/index.html"], page, **(fetching | {"progress": False}))
            found = links(
                f"{base}{split}/{kind}/index.html", page.read_text(encoding="utf-8", errors="replace")
            )
            if len(found) != number:
                raise DownloadError(f"{base}{split}/{kind}/ lists {len(found)} pictures; should be {number}")
            for name, address in tqdm(found.items(), desc=f"{split}/{kind}", disable=None):
                fetch([address], folder / name, **(fetching | {"progress": False, "quiet": True}))
    return downloads


DATA = DataSet(
    name="massachusetts_roads",
    title="Massachusetts Roads: 1,171 aerial pictures of 1500×1500 with the roads drawn in",
    home="https://www.cs.toronto.edu/~vmnih/data/",
    licence="unverified (made public with a thesis; imagery by the State of Massachusetts, roads by "
    "OpenStreetMap)",
    licence_address="https://www.cs.toronto.edu/~vmnih/data/",
    citation="Mnih, Machine learning for aerial image labeling, PhD thesis, University of Toronto 2013",
    classes=("background", "road"),
    splits="train 1,108, val 14, test 49: those of the set",
    parts=(),
    checked="addresses in many public repositories; there are no checksums; size unverified (1,171 "
    "uncompressed pictures would be 8 GB); not fetched by us",
    layout="{train,valid,test}/sat/<n>_15.tiff and map/<n>_15.tif with 0 and 255 (the index pages), or "
    "tiff/{train,val,test} and tiff/…_labels (the Kaggle copy balraj98/massachusetts-roads-dataset)",
    unpacked=8 * 10**9,
    notes="2,342 single files are fetched, about 8 GB; Kaggle's zip file can be given with --file instead",
    convert=convert,
    gather=gather,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
