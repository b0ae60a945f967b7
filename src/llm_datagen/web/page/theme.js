// The colours: as the system says, or as chosen here. A plain script, so that it runs before anything is painted.
(function () {
  const names = ["auto", "light", "dark"];
  let chosen = "auto";
  try {
    chosen = names.find((name) => name === localStorage.getItem("theme")) ?? "auto";
  } catch { /* storage is switched off */ }

  function apply() {
    document.documentElement.dataset.theme = chosen;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${chosen}`;
  }

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = names[(names.indexOf(chosen) + 1) % names.length];
      try {
        localStorage.setItem("theme", chosen);
      } catch { /* it holds until the page is left */ }
      apply();
    });
  });
})();
