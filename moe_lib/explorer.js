// Answers a reader who points at the picture of explorer.py. NAME is the figure's, SIDE the picture's units.
(async () => {
  const figure = document.getElementById("figure-NAME");
  const all = (what) => [...figure.querySelectorAll(what)];
  const [packed, field, told, views, choices] = [
    all("script")[0].textContent, all("[role=group]")[0], all("[role=status]")[0], all(".view"), all(".choice"),
  ];
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const { side, first, outlines, guesses, titles } = await new Response(plain).json();
  let picture = 0, row = Math.floor(first / side), column = first % side;

  const draw = () => {
    const click = row * side + column, [borders, guess] = [outlines[picture][click], guesses[picture][click]];
    views.forEach((view, number) => {
      view.querySelector("use").setAttribute("href", `#NAME-${picture}`);
      view.querySelector("path").setAttribute("d", borders[Math.max(number - 1, 0)]);
    });
    const dot = views[0].querySelector("circle");
    dot.setAttribute("cx", (column + 0.5) * SIDE / side);
    dot.setAttribute("cy", (row + 0.5) * SIDE / side);
    all(".guess").forEach((text, rank) => { text.textContent = guess[rank].toFixed(2); });
    choices.forEach((choice, number) => { choice.style.fontWeight = number === picture ? 700 : 400; });
  };
  const point = (event) => {
    const box = views[0].querySelector("use").getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (Math.min(x, y) < 0 || Math.max(x, y) >= 1) return;
    [row, column] = [Math.floor(y * side), Math.floor(x * side)];
    draw();
  };
  field.addEventListener("pointermove", point);
  field.addEventListener("pointerdown", point);
  choices.forEach((choice, number) => choice.addEventListener("click", () => { picture = number; draw(); }));

  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  field.addEventListener("keydown", (event) => {
    const inside = (n) => Math.min(side - 1, Math.max(0, n));
    if (event.key === " ") picture = (picture + 1) % titles.length;
    else if (event.key in moves) [row, column] = [row, column].map((n, axis) => inside(n + moves[event.key][axis]));
    else return;
    event.preventDefault();
    draw();
    // In words, for who hears the page; a mouse would make it chatter.
    const guess = guesses[picture][row * side + column].map((value) => value.toFixed(2)).join(", ");
    told.textContent = `${titles[picture]}, row ${row + 1}, column ${column + 1} of ${side}: guesses ${guess}`;
  });
  draw();
})();
