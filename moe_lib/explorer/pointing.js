async (name, make) => {
  // Unpacks a figure's data and follows the reader: `make` gives the function that draws a square's answer.
  const figure = document.getElementById(`figure-${name}`);
  const all = (what) => [...figure.querySelectorAll(what)];
  const packed = Uint8Array.from(atob(all("script")[0].textContent), (letter) => letter.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(plain).json(), { side, first } = data;
  let row = Math.floor(first / side), column = first % side;

  const around = all("[role=group]")[0], told = all("[role=status]")[0], field = all(".moe-field")[0];
  const { draw, keys = {} } = make(data, all, name, () => draw(row * side + column));
  const point = (event) => {
    const box = field.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (Math.min(x, y) < 0 || Math.max(x, y) >= 1) return;
    [row, column] = [Math.floor(y * side), Math.floor(x * side)];
    draw(row * side + column);
    told.textContent = "";  // what was said of the keys' last square is true no longer
  };
  around.addEventListener("pointermove", point);
  around.addEventListener("pointerdown", point);

  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  around.addEventListener("keydown", (event) => {
    const inside = (n) => Math.min(side - 1, Math.max(0, n));
    if (event.key in keys) keys[event.key]();
    else if (event.key in moves) [row, column] = [row, column].map((n, axis) => inside(n + moves[event.key][axis]));
    else return;
    event.preventDefault();
    // In words, for who hears the page; a mouse would make it chatter.
    told.textContent = `Row ${row + 1}, column ${column + 1} of ${side}: ${draw(row * side + column)}`;
  });
  draw(first);
}
