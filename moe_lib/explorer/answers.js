({ side, outlines, guesses, titles }, all, name, again) => {
  // Three masks for the click amid a square, in one of several pictures.
  const views = all(".moe-view"), choices = all(".moe-choice");
  let picture = 0;
  const draw = (square) => {
    const borders = outlines[picture][square];
    views.forEach((view, number) => {
      view.querySelector("use").setAttribute("href", `#${name}-${picture}`);
      view.querySelector("path").setAttribute("d", borders[Math.max(number - 1, 0)]);
    });
    const dot = all("circle")[0], size = all("image")[0].getAttribute("width");
    dot.setAttribute("cx", (square % side + 0.5) * size / side);
    dot.setAttribute("cy", (Math.floor(square / side) + 0.5) * size / side);
    const guess = guesses[picture][square].map((value) => value.toFixed(2));
    all(".moe-guess").forEach((text, rank) => { text.textContent = guess[rank]; });
    choices.forEach((choice, number) => { choice.style.fontWeight = number === picture ? 700 : 400; });
    return `${titles[picture]}, guesses ${guess.join(", ")}`;
  };
  const take = (number) => { picture = number % titles.length; };
  choices.forEach((choice, number) => choice.addEventListener("click", () => { take(number); again(); }));
  return { draw, keys: { " ": () => take(picture + 1) } };
}
