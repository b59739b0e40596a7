// Pictures and drawings without words for those who do not see them.
() => {
  const words = (element) => element.getAttribute("aria-label") ?? element.querySelector(":scope > title")?.textContent;
  const pictures = [...document.images].filter((image) => !image.alt.trim());
  const drawings = [...document.querySelectorAll("svg[role=img], figure svg")]
    .filter((drawing) => !drawing.closest("[aria-hidden=true]") && !drawing.parentElement.closest("svg"))
    .filter((drawing) => !words(drawing)?.trim());
  return [...pictures, ...drawings].map((element) => element.cloneNode(false).outerHTML.slice(0, 200));
}
