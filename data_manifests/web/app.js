// What the pages of the app do beyond links and forms. They all work without it.
"use strict";

// Text becomes HTML here and nowhere else: the server's own, which is escaped there. The browser holds to it (trusted-types).
const fakeface = {
  policy: window.trustedTypes ? trustedTypes.createPolicy("fakeface", { createHTML: (html) => html }) : { createHTML: (html) => html },
  insert(place, html) { place.innerHTML = this.policy.createHTML(html); },
  make(tag, text = "", kind = "") {
    const node = document.createElement(tag);
    if (text) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  },
};
window.fakeface = fakeface;
document.documentElement.classList.add("js");

(() => {
  const form = document.getElementById("send");
  if (!form) return;
  const field = document.getElementById("picture"), answers = document.getElementById("answers");
  const part = document.getElementById("answers-part"), status = document.getElementById("status");
  const most = Number(form.dataset.most), AT_ONCE = 3, waiting = [];
  let working = 0, asked = 0, answered = 0;

  function tell(text) { status.textContent = text; }
  const among = (...verdicts) => verdicts.map((v) => answers.querySelectorAll(`article[data-verdict="${v}"]`).length).reduce((a, b) => a + b);
  const counts = () => ["real", "fake", "unsure"].map((v) => `${among(v)} ${v}`).join(", ") + `, ${among("no verdict", "refused")} no verdict.`;
  const progress = () => asked > answered ? `${answered} of ${asked} answered; the rest wait.`
    : `${answered} of ${asked} answered.${asked > 1 ? ` ${counts()}` : ""}`;

  function card(name) {
    const place = fakeface.make("div"), article = fakeface.make("article", "", "card answer");
    const line = fakeface.make("p", "Waiting to be sent.", "soft");
    article.append(fakeface.make("h3", name), line);
    place.append(article);
    answers.append(place);
    part.classList.remove("empty");
    return { place, say: (words) => { line.textContent = words; } };
  }

  function ask(files) {
    const pictures = [...files].filter((f) => f.size || f.name);
    if (!pictures.length) { tell("That holds no picture. Choose, drop or paste image files."); return; }
    for (const file of pictures) {
      asked += 1;
      waiting.push({ file, card: card(file.name || "pasted picture") });
    }
    tell(progress());
    next();
  }

  function next() {
    while (working < AT_ONCE && waiting.length) {
      working += 1;
      const one = waiting.shift();
      answer(one).then((said) => { answered += 1; tell(`${said} ${progress()}`); })
        .catch(() => { answered += 1; one.card.say("The connection was lost. Is the app still running? Try again."); tell(progress()); })
        .finally(() => { working -= 1; next(); });
    }
  }

  const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  async function answer({ file, card }) {
    if (file.size > most) {
      card.say(`Not looked at: it has more than ${Math.round(most / 1e6)} MB.`);
      return `${file.name}: not looked at.`;
    }
    const body = new FormData();
    body.append("picture", file, file.name || "pasted picture");
    body.append("stop", document.getElementById("stop")?.value ?? "");
    card.say("Being sent.");
    for (let tries = 0; ; tries += 1) {
      const response = await fetch("/look", { method: "POST", body, headers: { accept: "application/x-ndjson" } });
      if (response.ok) return follow(response, card, file.name);
      const words = (await response.json().catch(() => ({}))).error || "The app refused it.";
      if (response.status !== 503 || tries === 20) { card.say(words); return `${file.name}: ${words}`; }
      card.say("The queue is full; it is tried again by itself.");
      await pause(Math.min(Number(response.headers.get("retry-after")) || 5, 10));
    }
  }

  async function follow(response, card, name) { // a line of JSON for every change
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "", said = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      for (let end; (end = text.indexOf("\n")) >= 0; text = text.slice(end + 1)) {
        const told = JSON.parse(text.slice(0, end));
        if ("place" in told) card.say(told.place ? `Place ${told.place} in the queue.` : "Being looked at.");
        else { fakeface.insert(card.place, told.html); said = told.said; slide(); }
      }
    }
    if (!said) card.say("No answer came. Try again.");
    return said || `${name}: no answer.`;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(field.files);
    field.value = "";
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    ask(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) { event.preventDefault(); ask(event.clipboardData.files); }
  });
  document.getElementById("clear").addEventListener("click", () => {
    answers.replaceChildren();
    part.classList.add("empty");
    asked = answered = 0;
    tell("The answers are gone.");
    field.focus();
  });

  // The slider reads what it says from the table of all its stops.
  const stop = document.getElementById("stop");
  function slide() {
    if (!stop) return;
    const rows = document.querySelectorAll("#chances tbody tr"), row = rows[stop.value];
    if (!row) return;
    const [share, ...values] = [...row.cells].map((cell) => cell.textContent);
    rows.forEach((r) => r.removeAttribute("aria-current"));
    row.setAttribute("aria-current", "true");
    document.getElementById("share").textContent = share;
    document.getElementById("chance").textContent = row.dataset.text;
    stop.setAttribute("aria-valuetext", share);
    for (const line of document.querySelectorAll(".chance")) {
      line.querySelector(".share").textContent = share;
      line.querySelector(".value").textContent = values[line.dataset.verdict === "real" ? 1 : 0];
    }
  }
  stop?.addEventListener("input", slide);
  slide();
})();
