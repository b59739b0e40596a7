({ side, head, levels, distances, titles }, all) => {
  // Where the token of a square looks: a map for each block of each model, made as a bitmap of `head` and rows.
  const maps = all(".moe-map"), marks = all(".moe-mark"), start = atob(head), gap = "\0".repeat((4 - side % 4) % 4);
  const bitmap = (digits) => {
    let rows = "";
    for (let row = side - 1; row >= 0; row--) {  // from below
      const line = digits.slice(row * side, (row + 1) * side);
      rows += String.fromCharCode(...[...line].map((digit) => parseInt(digit, 16))) + gap;
    }
    return `data:image/bmp;base64,${btoa(start + rows)}`;
  };
  const draw = (square) => {
    const tokens = side * side;
    maps.forEach((map, number) => {
      map.setAttribute("href", bitmap(levels[number].slice(square * tokens, (square + 1) * tokens)));
    });
    marks.forEach((mark) => {
      mark.setAttribute("x", (square % side) * mark.getAttribute("width"));
      mark.setAttribute("y", Math.floor(square / side) * mark.getAttribute("height"));
    });
    const far = distances.map((blocks) => blocks.map((tokens) => tokens[square].toFixed(1)));
    all(".moe-far").forEach((text, number) => { text.textContent = far.flat()[number]; });
    return `mean distance by block, ${titles.map((title, model) => `${title} ${far[model].join(", ")}`).join("; ")}`;
  };
  return { draw };
}
