(() => {
  const search = document.getElementById("search");
  const state = document.getElementById("state");
  const count = document.getElementById("count");
  const cards = [...document.querySelectorAll("#gallery > li")];
  const texts = cards.map((card) => card.textContent.toLowerCase());
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    cards.forEach((card, index) => {
      const fits =
        (!state.value || card.dataset.state === state.value) &&
        words.every((word) => texts[index].includes(word));
      card.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    count.textContent = `${shown} of ${cards.length}`;
  };
  search.addEventListener("input", show);
  state.addEventListener("change", show);
  show();
})();
