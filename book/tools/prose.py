"""What the lint needs to know about a markdown cell: its headings, and its pictures without alt text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"\s*(`{3,}|~{3,}|:{3,})\s*(.*)")
_INLINE_CODE = re.compile(r"(`+)(?!`).+?\1")
_EMPTY_ALT = re.compile(r"!\[\s*\][(\[][^)\]]*[)\]]")
_HTML_PICTURE = re.compile(r"<(?:img|svg)\b[^>]*>", re.I)
_HTML_ALT = re.compile(r"""\b(alt|aria-label|aria-labelledby)=["']?[^"'\s>]|\baria-hidden=["']?true""", re.I)


@dataclass(eq=False)
class Fence:
    """A fenced block of markdown: code, or a directive of MyST."""

    mark: str
    info: str

    @property
    def is_code(self) -> bool:
        """Whether its content is shown as it stands: ```` ```python ```` is, ```` ```{note} ```` is not."""
        return not self.info.startswith("{") or self.info.startswith(("{code", "{math", "{literal"))

    @property
    def is_picture(self) -> bool:
        return self.info.startswith(("{image}", "{figure}"))


def headings(text: str) -> list[tuple[int, str]]:
    """Level and text of every heading, those in fences left out."""
    found, above = [], ""
    for line, fences in _lines(text):
        if fences:
            above = ""
            continue
        if match := re.match(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$", line):
            found.append((len(match[1]), match[2]))
        elif re.fullmatch(r" {0,3}=+\s*", line) and above.strip():
            found.append((1, above.strip()))
        elif match := re.search(r"<h([1-6])\b[^>]*>(.*?)</h", line, re.I):
            found.append((int(match[1]), match[2]))
        above = line
    return found


def pictures_without_alt(text: str) -> list[str]:
    """The pictures that say nothing to a reader who cannot see them, as they are written in the cell."""
    kept, described = [], {}
    for line, fences in _lines(text):
        if any(fence.is_code for fence in fences):
            continue
        kept.append(line)
        if fences and fences[-1].is_picture:
            has_alt = re.match(r"\s*:?alt:\s*\S", line) is not None
            described[fences[-1]] = described.get(fences[-1], False) or has_alt
    plain = _INLINE_CODE.sub("", "\n".join(kept))
    return [
        *(fence.info for fence, has_alt in described.items() if not has_alt),
        *_EMPTY_ALT.findall(plain),
        *(tag for tag in _HTML_PICTURE.findall(plain) if not _HTML_ALT.search(tag)),
    ]


def _lines(text: str) -> Iterator[tuple[str, list[Fence]]]:
    """Every line with the fences around it, outermost first; its own first and last line are inside."""
    stack: list[Fence] = []
    for line in text.splitlines():
        match = _FENCE.match(line)
        if match and stack and not match[2] and match[1].startswith(stack[-1].mark):
            yield line, list(stack)
            stack.pop()
            continue
        if match and not (stack and stack[-1].is_code):
            stack.append(Fence(match[1], match[2]))
        yield line, list(stack)
