"use strict";
(() => {
  const tools = document.querySelector(".tools");
  if (!tools) return;
  const words = tools.querySelector("input[type=search]");
  const only = tools.querySelector("input[type=checkbox]");
  const told = tools.querySelector("output");
  const rows = [...document.querySelectorAll(".matrix tbody tr")];
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = (only.checked && row.dataset.told !== "yes") || !wanted.every(word => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    told.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
  };
  words.addEventListener("input", show);
  only.addEventListener("change", show);
  tools.hidden = false;
})();
