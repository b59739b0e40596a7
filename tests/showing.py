"""What a figure to point at puts on a page."""

import base64
import json
import re
import zlib
from collections.abc import Callable


def shown(monkeypatch, figure: Callable, *given, **words) -> dict:
    """What a function displays, by its kinds."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    figure(*given, **words)
    return bundles[0]


def packed(page: str) -> dict:
    """What the script of such a page unpacks."""
    data = re.search(r'<script type="text/plain">([^<]*)<', page)[1]
    return json.loads(zlib.decompress(base64.b64decode(data)))
