"""The page of the methods whose chapters are still to be written: its examples run."""

import re

from freshness import ROOT


def test_examples_of_the_page_run(capsys):
    text = (ROOT / "book" / "other_methods.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    assert len(examples) == 4
    exec(compile("\n".join(examples), "other_methods.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.count("trainable params") == 3 and "torch.Size([2, 96, 96])" in printed
