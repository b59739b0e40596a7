// How wide the page is, and the three elements of its content that stick out furthest on the right.
() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const inBox = (element) => {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
      if (scrolls(up) && up.getBoundingClientRect().right <= width + 1) return true;
    }
    return false;
  };
  const name = (element) =>
    element.tagName.toLowerCase() + (element.id ? `#${element.id}` : "") +
    [...element.classList].map((word) => `.${word}`).join("");
  const content = document.querySelector("article") ?? document.body;
  const widest = [...content.querySelectorAll("*")]
    .filter((element) => element.checkVisibility() && !element.closest("mjx-assistive-mml"))
    .map((element) => [element, element.getBoundingClientRect().right])
    .filter(([element, right]) => right > width + 1 && !inBox(element))
    .sort((one, other) => other[1] - one[1])
    .slice(0, 3)
    .map(([element, right]) => [name(element), Math.round(right)]);
  return { width: document.documentElement.scrollWidth, widest };
}
