// What everybody needs to use a page: names, labels, headings, contrast. Returns what is wrong, in words.
() => {
  const wrong = [];
  const shown = (node) => node.getClientRects().length > 0 && getComputedStyle(node).visibility === "visible";
  const called = (node) => `<${node.localName} class="${node.getAttribute("class") ?? ""}"> ${node.textContent.slice(0, 40)}`;
  const name = (node) => {
    const by = node.getAttribute("aria-labelledby");
    return (node.getAttribute("aria-label") ?? (by ? document.getElementById(by)?.textContent : "") ?? "").trim();
  };

  for (const node of document.querySelectorAll("input, select, textarea")) {
    if (shown(node) && !name(node) && ![...node.labels].some((label) => label.textContent.trim())) wrong.push(`no label: ${called(node)}`);
  }
  for (const node of document.querySelectorAll("button, a, summary")) {
    if (shown(node) && !name(node) && !node.textContent.trim()) wrong.push(`no name: ${called(node)}`);
  }
  for (const node of document.querySelectorAll("svg[role=img], [role=region], [role=group], progress, nav, dialog")) {
    if (shown(node) && !name(node)) wrong.push(`no name: ${called(node)}`);
  }
  for (const node of document.querySelectorAll("svg")) {
    if (shown(node) && !node.getAttribute("role") && !node.closest("[aria-hidden=true]")) wrong.push(`neither hidden nor named: ${called(node)}`);
  }
  for (const node of document.querySelectorAll("table")) {
    if (!node.querySelector("thead th[scope=col]")) wrong.push(`no headers: ${called(node)}`);
  }
  for (const node of document.querySelectorAll(".scroll")) {
    if (node.tabIndex !== 0) wrong.push(`scrolls, and cannot be reached: ${called(node)}`);
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("there is not one heading of level 1");
  let level = 1;
  for (const node of document.querySelectorAll("h1, h2, h3, h4")) {
    const its = Number(node.localName[1]);
    if (its > level + 1) wrong.push(`a level is left out: ${called(node)}`);
    level = its;
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size !== ids.length) wrong.push("an id is there twice");
  for (const landmark of ["main", "header"]) {
    if (!document.querySelector(landmark)) wrong.push(`no ${landmark}`);
  }
  if (!document.documentElement.lang || !document.title) wrong.push("no language, or no title");

  const channels = (colour) => {
    const found = /rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)/.exec(colour);
    return found ? [...found.slice(1, 4).map(Number), found[4] === undefined ? 1 : Number(found[4])] : null;
  };
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const drawn = at instanceof SVGElement && at !== node ? at.querySelector(":scope > rect.box, :scope > rect:not([class])") : null;
      const found = channels(drawn ? getComputedStyle(drawn).fill : getComputedStyle(at).backgroundColor);
      if (found && found[3] === 1) return found;
    }
    return [255, 255, 255, 1];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const measured = new Set();
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || measured.has(node) || !shown(node) || node.closest(":disabled, title, option, .unseen, .skip")) continue;
    measured.add(node);
    const style = getComputedStyle(node);
    const [one, other] = [luminance(channels(node instanceof SVGElement ? style.fill : style.color)), luminance(behind(node))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) wrong.push(`a contrast of ${contrast.toFixed(2)}: ${called(node)}`);
  }
  if (measured.size < 5) wrong.push("hardly any text is there");
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`it is ${document.documentElement.scrollWidth} wide, of ${innerWidth}`);
  return wrong;
}
