"use strict";
// The quiz: time from the picture on the screen to the answer, number keys, and what the screen is like. Without it every page still works.
(() => {
  const form = document.querySelector("form[data-timed]");
  const pictures = [...document.querySelectorAll("img.face")];
  let began = null;
  Promise.all(pictures.map((p) => p.decode().catch(() => null))).then(() => requestAnimationFrame((now) => { began = now; }));

  document.addEventListener("submit", (event) => {
    const sent = event.target;
    if (sent.dataset.sent) { event.preventDefault(); return; }
    sent.dataset.sent = "yes"; // one answer, however often somebody clicks
    if (sent === form && began !== null) sent.elements.ms.value = (performance.now() - began).toFixed(1);
  });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // back button: what is asked now

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)
        && event.target.type !== "checkbox") return;
    const wanted = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (wanted) { event.preventDefault(); wanted.focus(); wanted.click(); }
  });

  const screenForm = document.querySelector("form[data-screen]");
  if (!screenForm) return;
  const side = Number(screenForm.dataset.screen), room = document.querySelector(".size"), told = document.querySelector("#size-told");
  const look = () => {
    const zoom = window.visualViewport ? window.visualViewport.scale : 1, wide = Math.round(room.getBoundingClientRect().width);
    for (const [name, value] of Object.entries({ width: window.innerWidth, height: window.innerHeight, ratio: window.devicePixelRatio,
      zoom: zoom, shown: wide })) screenForm.elements[name].value = value;
    const words = [`Faces are shown ${wide} pixels wide here${wide < side ? `; they have ${side}: a wider window would show them in full` : ""}.`];
    if (zoom > 1.01) words.push("The page is zoomed in: zoom out until this line goes away.");
    told.textContent = words.join(" ");
  };
  look();
  window.addEventListener("resize", look);
  if (window.visualViewport) window.visualViewport.addEventListener("resize", look);
})();
