"""python -m moe_lib.worlds.cache: the rendered data sets that are kept; --clear removes them."""

import argparse

from moe_lib.worlds.cache import clear_cache, kept
from moe_lib.worlds.cache.places import cache_folder

parser = argparse.ArgumentParser(prog="python -m moe_lib.worlds.cache", description=__doc__)
parser.add_argument("--clear", action="store_true", help="remove them all")
given = parser.parse_args()
files = clear_cache() if given.clear else kept()
for path, size in files.items():
    print(f"{size / 1e6:8.1f} MB  {path.name}")
verb = "removed from" if given.clear else "kept in"
print(f"{sum(files.values()) / 1e6:8.1f} MB  {verb} {cache_folder()}")
