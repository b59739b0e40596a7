// The contrast of every text in a drawing with what lies behind it: [[text, ratio], …].
// Colours are laid over one another on a canvas of one pixel, so that every way to write a colour, and opacity, count.
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const paint = canvas.getContext("2d", { willReadFrequently: true });
  const lay = (colour, opacity = 1) => {
    paint.globalAlpha = opacity;
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
  };
  const luminance = () => {
    const [red, green, blue] = [...paint.getImageData(0, 0, 1, 1).data].map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const opacity = (element) => {
    let product = Number(getComputedStyle(element).fillOpacity);
    for (let up = element; up instanceof SVGElement; up = up.parentElement) product *= getComputedStyle(up).opacity;
    return product;
  };
  const judge = (text) => {
    text.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    const box = text.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const layers = document.elementsFromPoint(x, y).filter((layer) => !text.contains(layer) && !layer.contains(text));
    const behind = [];
    for (let up = text.parentElement; up; up = up.parentElement) if (!(up instanceof SVGElement)) behind.unshift(up);
    const drawn = layers.filter((layer) => layer.ownerSVGElement && layer.ownerSVGElement === text.ownerSVGElement);
    if (drawn.some((layer) => layer.tagName === "image")) return null; // a picture has no one colour
    lay("white");
    for (const element of behind) lay(getComputedStyle(element).backgroundColor);
    for (const shape of drawn.reverse()) {
      const fill = getComputedStyle(shape).fill;
      if (fill !== "none" && !fill.startsWith("url") && shape.tagName !== "text") lay(fill, opacity(shape));
    }
    const background = luminance();
    lay(getComputedStyle(text).fill, opacity(text));
    const ink = luminance();
    return [text.textContent.trim(), (Math.max(ink, background) + 0.05) / (Math.min(ink, background) + 0.05)];
  };
  const hasWords = (text) => [...text.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const found = [...document.querySelectorAll("svg text, svg tspan")]
    .filter((text) => hasWords(text) && !text.closest("[aria-hidden=true], mjx-container"))
    .map(judge);
  scrollTo(0, 0);
  return found.filter(Boolean);
}
