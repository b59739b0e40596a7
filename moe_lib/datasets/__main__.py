"""``python -m moe_lib.datasets FOLDER``: what a data folder holds, and what is wrong with it."""

import argparse
import sys

from moe_lib.datasets.verify import verify


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m moe_lib.datasets", description=__doc__)
    parser.add_argument(
        "folder", help="a folder with classes.txt and splits such as train/images, train/masks"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    report = verify(options.folder, progress=not options.quiet)
    if report.counts:
        print(report.table())
    for problem in report.problems:
        print(f"✗ {problem}")
    number = len(report.problems)
    print(f"\n{number} problem{'' if number == 1 else 's'} found" if number else "\n✓ no problem found")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
