"use strict";
/* Faces of a run: the slider, parts of the page that a worker makes, and the keys. The pages work without it. */
(() => {
  const one = (what, from = document) => from.querySelector(what);

  /* A page or a part of one, parsed by the browser without running anything in it. */
  const get = (address, then) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.addEventListener("load", () => { if (request.status === 200 && request.response) then(request.response); });
    request.send();
    return request;
  };
  const exchange = (what, from) => {
    const old = one(what), fresh = one(what, from);
    if (old && fresh) old.replaceWith(document.adoptNode(fresh));
  };

  /* --- on a wide page the tools stand open --- */
  if (matchMedia("(min-width:901px)").matches) for (const tool of document.querySelectorAll(".tool")) tool.open = true;

  /* --- the threshold: its figures at once, the faces when it is let go --- */
  const slider = one("#slider"), field = one("#f-threshold"), odds = one("#f-prevalence"), form = one("#filters"), title = one("#threshold > summary");
  const asked = () => {
    const query = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...query]) if (!value) query.delete(name);
    return query;
  };
  if (slider && form) {
    slider.hidden = false;
    let running = null, waiting = 0;
    const soon = (what, later) => { clearTimeout(waiting); running?.abort(); waiting = setTimeout(what, later); }; // the last word counts
    const figures = () => { running = get(`/explore/figures?${asked()}`, (part) => exchange("#figures", part)); };
    const faces = () => {
      const address = `/explore?${asked()}`;
      running = get(address, (whole) => {
        exchange("#faces", whole);
        exchange("#figures", whole);
        history.replaceState(null, "", address);
      });
    };
    slider.addEventListener("input", () => {
      const p = 1 / (1 + Math.exp(-slider.value));
      field.value = p.toPrecision(6);
      const shown = p > 0.9999 ? p.toFixed(6) : p.toPrecision(4);
      title.textContent = `Threshold: ${shown}`;
      slider.setAttribute("aria-valuetext", shown);
      soon(figures, 40);
    });
    slider.addEventListener("change", () => soon(faces, 150));
    odds.addEventListener("change", faces);
    field.addEventListener("change", () => {
      const p = Math.min(Math.max(field.value === "" ? Number(slider.dataset.own) : Number(field.value), 1e-9), 1 - 1e-9);
      slider.value = Math.log(p / (1 - p));
      faces();
    });
  }

  /* --- what a worker makes: asked for without leaving the page, and again until it is there --- */
  const watch = (section) => {
    const link = one("[data-wait] a", section);
    if (link) setTimeout(() => get(link.href, (whole) => {
      const fresh = one(`#${section.id}`, whole);
      if (!fresh) return;
      section.replaceWith(document.adoptNode(fresh));
      watch(fresh);
    }), 1000);
  };
  for (const id of ["maps", "nearest"]) { const section = one(`#${id}`); if (section) watch(section); }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-work]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const section = link.closest("section");
    get(link.href, (whole) => {
      const fresh = one(`#${section.id}`, whole);
      section.replaceWith(document.adoptNode(fresh));
      watch(fresh);
    });
  });

  /* --- the keys --- */
  for (const line of document.querySelectorAll(".keys")) line.hidden = false;
  const follow = (rel) => { const link = one(`a[rel=${rel}]`); if (link) link.click(); return !!link; };
  const columns = (shots) => shots.filter((shot) => shot.offsetTop === shots[0].offsetTop).length;
  const move = (key) => {
    const shots = [...document.querySelectorAll(".shot")];
    if (!shots.length) return false;
    const at = shots.indexOf(document.activeElement);
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(shots), ArrowDown: columns(shots) }[key];
    if (at < 0 && !(key === "ArrowRight" || key === "ArrowLeft")) return false;
    const next = shots[at < 0 ? 0 : at + by];
    next?.focus();
    return !!next;
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input,select,textarea")) return;
    const picture = !!one("#wrong");
    let done = false;
    if (picture) {
      if (event.key === "ArrowLeft") done = follow("prev");
      else if (event.key === "ArrowRight") done = follow("next");
      else if (event.key === "u") done = follow("up");
      else if (event.key === "w") { one("#wrong").click(); done = true; }
      else if (event.key === "o") { one("#out").click(); done = true; }
      else if (event.key === "a") { one(one("#f-attribute").value ? "#f-value" : "#f-attribute").focus(); done = true; }
    } else if (event.key.startsWith("Arrow")) done = move(event.key);
    else if (event.key === "n") done = follow("next");
    else if (event.key === "p") done = follow("prev");
    if (done) event.preventDefault();
  });
})();
