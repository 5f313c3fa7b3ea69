"use strict";
// Shows the rows that stand as JSON at the end of the page. All text from data goes in by textContent alone, so
// it is never markup; the page's Content-Security-Policy allows no other script and no request.

const ROW_HEIGHT = 56;
const MAX_CELLS = 6e6; // of the table that compares two texts word by word
const MIN_COMMON = 0.2; // texts that share fewer words are not marked: all would be
/** A word with the space after it; in scripts that part no words, a letter. */
const WORDS = /(?:[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}_']+|\S|^)\s*/gu;
const $ = (id) => document.getElementById(id);
const FIELDS = ["q", "longer", "gap", "min", "max", "sort"];
const FACETS = {
  table: ["Table", (row) => row.config],
  change: ["Change", (row) => row.change],
  pair: ["Chosen > rejected", (row) => row.pair],
  by: ["Responder", (row) => (row.pair || row.sides.length !== 1 ? null : row.sides[0].responder)],
  split: ["Split", (row) => row.split],
};
const SORTS = {
  "": ["as stored", null],
  gap: ["chosen longer by", (row) => row.gap],
  "-gap": ["rejected longer by", (row) => -row.gap],
  first: ["longest chosen", (row) => row.lengths[0] ?? 0],
  longest: ["longest text", (row) => Math.max(0, ...row.lengths)],
  score: ["highest score", (row) => row.score ?? -Infinity],
  "-score": ["lowest score", (row) => -(row.score ?? Infinity)],
};
const KEPT = "kept";
const state = { row: null, reason: "", marks: true };
let data, rows, shown = [], place = 0, reasons = [], lower, hits = new Map();

document.addEventListener("DOMContentLoaded", () => {
  data = JSON.parse($("data").textContent);
  $("data").remove();
  rows = data.rows.map(readRow);
  data.rows = null;
  readLink();
  buildPage();
  refresh();
  window.addEventListener("hashchange", () => (readLink(), refresh()));
  setTimeout(inLowerCase, 500); // so that the first search need not wait for it
});

// --- rows ------------------------------------------------------------------------------------------------

function readRow([id, config, split, reason, prompt, sides, note, facts, change], index) {
  const row = { index, id, config, split, reason, note, facts, change };
  row.prompt = prompt.map(([role, text]) => ({ role, text }));
  row.sides = sides.map(([label, text, responder, score, measure]) => ({ label, text, responder, score, measure }));
  row.lengths = row.sides.map((side) => (side.text === null ? 0 : data.lengths[side.text]));
  row.isPair = row.sides.length === 2 && row.sides[0].label === "chosen";
  row.gap = row.isPair ? row.lengths[0] - row.lengths[1] : 0;
  const scores = row.sides.map((side) => side.score).filter((score) => score !== null);
  row.score = row.isPair && scores.length === 2 ? scores[0] - scores[1] : scores.length ? Math.max(...scores) : null;
  if (row.score === null && typeof facts.rm_score === "number") row.score = facts.rm_score;
  row.measure = row.sides.find((side) => side.score !== null)?.measure ?? "score";
  const names = row.sides.map((side) => side.responder);
  row.pair = row.isPair && names.every(Boolean) ? names.join(" > ") : null;
  return row;
}

const textOf = (index) => (index === null ? null : data.texts[index]);
/** As it is shown: what would turn the direction of the text or ring a bell is a replacement character. */
const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
/** Whether the dataset, or the newer of two versions, has the row. */
const isIn = (row) => !row.reason || row.change === "gained";
const count = (number) => number.toLocaleString("en");

function plainRow(row) {
  const sides = row.sides.map((side) => ({ ...side, text: textOf(side.text) }));
  const prompt = row.prompt.map((turn) => ({ role: turn.role, content: textOf(turn.text) }));
  const { id, config, split, reason, note, facts, change } = row;
  return { ref: data.title, id, config, split, reason, prompt, sides, note, facts, ...(change && { change }) };
}

// --- which rows are shown ----------------------------------------------------------------------------------

const value = (id) => $(id).value.trim();
const inLowerCase = () => (lower ??= data.texts.map((text) => text.toLowerCase()));
/** Words, and phrases in quotation marks. */
const searched = () => [...value("q").toLowerCase().matchAll(/"([^"]+)"|\S+/g)].map(([word, phrase]) => phrase ?? word);

/** The tests of the filters that are set, by name; facets are counted without their own. */
function tests() {
  const words = searched();
  const number = (id) => (value(id) === "" ? null : Number(value(id)));
  const [gap, min, max] = ["gap", "min", "max"].map(number);
  const longer = value("longer"), active = {};
  if (state.reason) active.reason = (row) => (row.reason ?? KEPT) === state.reason;
  for (const [name, [, read]] of Object.entries(FACETS)) {
    const wanted = $(name)?.value;
    if (wanted) active[name] = (row) => read(row) === wanted;
  }
  if (longer || gap) {
    const difference = { chosen: (row) => row.gap, rejected: (row) => -row.gap, "": (row) => Math.abs(row.gap) }[longer];
    active.longer = (row) => row.isPair && difference(row) >= Math.max(gap ?? 0, longer ? 1 : 0);
  }
  if (min !== null) active.min = (row) => row.score !== null && row.score >= min;
  if (max !== null) active.max = (row) => row.score !== null && row.score <= max;
  if (words.length) {
    inLowerCase();
    // Words that stay while others are typed are not searched again.
    hits = new Map(words.map((word) => [word, hits.get(word) ?? lower.map((text) => text.includes(word))]));
    active.q = (row) => words.every((word) => row.id.includes(word) || has(row, hits.get(word)));
  }
  return active;
}

const has = (row, inText) => row.prompt.some((turn) => inText[turn.text]) || row.sides.some((side) => side.text !== null && inText[side.text]);

/** Filters and sorts the rows, and counts each facet's values among the rows that pass all other filters. */
function select() {
  const active = Object.entries(tests());
  const facets = { reason: (row) => row.reason ?? KEPT, ...Object.fromEntries(Object.entries(FACETS).map(([name, [, read]]) => [name, read])) };
  const counts = Object.fromEntries(Object.keys(facets).map((name) => [name, new Map()]));
  const add = (name, row) => {
    const key = facets[name](row);
    if (key !== null) counts[name].set(key, (counts[name].get(key) ?? 0) + 1);
  };
  shown = [];
  for (const row of rows) {
    const failed = active.filter(([, test]) => !test(row)).map(([name]) => name);
    if (!failed.length) {
      shown.push(row);
      for (const name in facets) add(name, row);
    } else if (failed.length === 1 && facets[failed[0]]) add(failed[0], row);
  }
  const key = SORTS[value("sort")]?.[1];
  if (key) shown.sort((a, b) => key(b) - key(a) || a.index - b.index);
  return counts;
}

// --- the page ----------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, content] of Object.entries(attributes)) {
    if (name === "text") element.textContent = visible(content);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), content);
    else if (content !== null) element.setAttribute(name, content);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function buildPage() {
  $("about").textContent = visible(data.about);
  const inLedger = data.funnel.flatMap((entry) => Object.keys(entry.dropped).concat(entry.failed ? ["failed"] : []));
  const present = new Set(rows.map((row) => row.reason ?? KEPT));
  reasons = [...new Set([KEPT, ...inLedger, ...present])].filter((reason) => reason !== KEPT || present.has(KEPT));
  for (const [name, [label, read]] of Object.entries(FACETS)) {
    const values = [...new Set(rows.map(read))].filter((item) => item !== null).sort();
    if (values.length < 2) continue;
    const options = values.map((item) => make("option", { value: item, text: item }));
    const select = make("select", { id: name, onchange: refresh }, make("option", { value: "", text: "all" }), ...options);
    select.value = state[name] ?? "";
    $("facets").append(make("label", { text: label }, select));
  }
  const hasPairs = rows.some((row) => row.isPair), rated = rows.find((row) => row.score !== null);
  const hasScores = rated !== undefined, measure = rated?.measure ?? "score";
  for (const [name, [label]] of Object.entries(SORTS)) {
    const isUseful = /gap|first/.test(name) ? hasPairs : /score/.test(name) ? hasScores : true;
    if (isUseful) $("sort").append(make("option", { value: name, text: label.replace("score", measure) }));
  }
  $("sort").value = state.sort ?? "";
  $("longer-label").hidden = !hasPairs;
  $("score-label").hidden = !hasScores;
  const title = measure[0].toUpperCase() + measure.slice(1);
  $("score-name").textContent = hasPairs ? `${title}, chosen - rejected` : title;
  $("filters").open = window.innerWidth > 1100;
  for (const id of ["longer", "sort"]) $(id).addEventListener("change", refresh);
  for (const id of ["q", "gap", "min", "max"]) $(id).addEventListener("input", refresh);
  $("list").addEventListener("scroll", () => requestAnimationFrame(drawList));
  window.addEventListener("resize", drawList);
  $("clear").addEventListener("click", clearFilters);
  $("theme").addEventListener("click", switchTheme);
  $("keys").addEventListener("click", () => $("help").showModal());
  for (const [keys, , label] of KEYS) $("bindings").append(make("dt", {}, make("kbd", { text: keys })), make("dd", { text: label }));
  document.addEventListener("keydown", onKey);
}

function refresh() {
  const counts = select();
  drawFunnel(counts.reason);
  for (const name of Object.keys(FACETS)) {
    for (const option of $(name)?.options ?? []) if (option.value) option.textContent = visible(`${option.value} (${count(counts[name].get(option.value) ?? 0)})`);
  }
  const of = shown.length === rows.length ? "" : ` of ${count(rows.length)}`;
  $("count").textContent = `${count(shown.length)}${of} rows`;
  $("filtered").textContent = `${count(shown.length)}${of} rows`;
  $("items").style.height = `${shown.length * ROW_HEIGHT}px`;
  pick(Math.max(0, shown.findIndex((row) => row.id === state.row)));
}

/** The ledger, a line for each reason: rows that are in the page and pass the other filters, by a click alone. */
function drawFunnel(counts) {
  const button = (reason, label, style, sentence, level = null) => {
    const key = reason ? reasons.indexOf(reason) + 1 : 0;
    const n = reason ? counts.get(reason) ?? 0 : [...counts.values()].reduce((sum, part) => sum + part, 0);
    return make("button", { title: visible(sentence), "aria-pressed": String(state.reason === reason), onclick: () => pickReason(reason) },
      make("kbd", { text: key < 10 ? String(key) : "" }), make("span", { class: `name ${style}`, text: label }),
      make("span", { class: "n", text: count(n) }), level);
  };
  const parts = [button("", "all rows", "", "Kept and dropped rows")];
  if (reasons.includes(KEPT)) parts.push(button(KEPT, KEPT, "kept", "Rows that passed every rule"));
  let last = "";
  const listed = new Set([KEPT]);
  const falls = (rule) => [...Object.entries(rule.dropped), ...(rule.failed ? [["failed", rule.failed]] : [])];
  for (const entry of data.funnel) {
    const none = data.funnel.some((rule) => rule.heading === entry.heading && falls(rule).length) ? "" : ", none dropped";
    if (entry.heading !== last) parts.push(make("h3", { text: `${entry.heading}: ${count(entry.in)} in${none}` }));
    last = entry.heading;
    for (const [reason, n] of falls(entry)) {
      const bar = make("span");
      bar.style.width = `${(100 * entry.kept) / Math.max(1, entry.in)}%`;
      const level = make("span", { class: "level" }, bar);
      const sentence = `${entry.sentence} Dropped ${count(n)} of ${count(entry.in)}.`;
      parts.push(button(reason, reason, "drop", sentence, level));
      listed.add(reason);
    }
  }
  parts.push(...reasons.filter((reason) => !listed.has(reason)).map((reason) => button(reason, reason, "drop", data.rules[reason] ?? "")));
  $("funnel").replaceChildren(...parts);
}

function drawList() {
  const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - 5);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW_HEIGHT) + 10);
  $("items").replaceChildren(...shown.slice(first, last).map((row, offset) => {
    const at = first + offset, text = textOf(row.prompt.findLast((turn) => turn.role === "user")?.text ?? null) ?? textOf(row.sides[0]?.text ?? null) ?? row.id;
    const status = row.change ? `${row.change}: ` : row.reason ? "" : KEPT;
    const facts = [row.isPair ? `${row.gap > 0 ? "+" : ""}${count(row.gap)} characters` : null, row.score === null ? null : row.isPair ? `${row.measure} ${row.score > 0 ? "+" : ""}${Number(row.score.toPrecision(3))}` : `${row.measure} ${Number(row.score.toPrecision(3))}`,
      row.pair ?? (row.isPair ? null : row.sides.length > 1 ? `${row.sides.length} texts` : row.sides[0]?.responder)];
    const item = make("div", { class: "item", role: "option", "aria-selected": String(at === place), onclick: () => (pick(at), $("row").scrollIntoView?.({ block: "nearest" })) },
      make("span", { dir: "auto", text: text.slice(0, 200) }),
      make("small", {}, make("span", { class: isIn(row) ? "kept" : "drop", text: status + (row.reason ?? "") }), make("span", { text: ["", ...facts.filter(Boolean)].join(" · ") })));
    item.style.top = `${at * ROW_HEIGHT}px`;
    return item;
  }));
}

/** Shows a row, and scrolls the list to it. */
function pick(at) {
  place = Math.min(Math.max(at, 0), Math.max(0, shown.length - 1));
  const list = $("list"), top = place * ROW_HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
  drawList();
  if (shown.length) {
    state.row = shown[place].id;
    drawRow(shown[place]);
  } else {
    $("row").replaceChildren(make("p", { text: "No row passes these filters." }));
  }
  writeLink();
}

// --- one row -----------------------------------------------------------------------------------------------

function drawRow(row) {
  const step = (label, by) => make("button", { text: label, onclick: () => pick(place + by) });
  const copy = make("button", { id: "copy", text: "Copy as JSON", title: "c", onclick: () => copyText(JSON.stringify(plainRow(row), null, 2), copy) });
  const link = make("button", { text: "Copy link", title: "l", id: "link", onclick: () => copyText(location.href, link) });
  const head = make("div", { class: "head" }, make("h2", { text: `${row.config === "default" ? "" : `${row.config} `}${row.id}` }),
    make("p", { class: "buttons" }, step("Previous (k)", -1), step("Next (j)", 1), copy, link));
  const parts = [head, why(row), row.note ? make("p", { class: "note", text: row.note }) : null];
  const isDialogue = row.prompt.length > 1 || !row.sides.length;
  if (row.prompt.length) {
    parts.push(make("div", {}, ...row.prompt.map((turn) => make("div", { class: "turn" },
      make("b", { text: isDialogue || turn.role !== "user" ? turn.role : "query" }), textBox(textOf(turn.text))))));
  }
  parts.push(...drawSides(row));
  const facts = Object.entries(row.facts).map(([name, item]) => make("tr", {}, make("td", { text: name }), make("td", { text: typeof item === "string" ? item : JSON.stringify(item, (_, part) => (Number.isInteger(part) || typeof part !== "number" ? part : Number(part.toPrecision(4)))) })));
  if (row.split) facts.push(make("tr", {}, make("td", { text: "split" }), make("td", { text: row.split })));
  parts.push(make("table", {}, make("tbody", {}, ...facts)));
  $("row").replaceChildren(...parts.filter(Boolean));
  $("row").scrollTop = 0;
  markHits();
}

/** Why a row is in, or which rule dropped it. */
function why(row) {
  const passed = make("ol", {}, ...data.funnel.map((entry) => make("li", { text: `${entry.filter}: ${entry.sentence}` })));
  if (row.reason) {
    const sentence = data.rules[row.reason] ? `: ${data.rules[row.reason]}` : "";
    const verb = { lost: "Lost: the newer version dropped it, ", gained: "Gained: the older version had dropped it, " }[row.change] ?? "Dropped, ";
    return make("p", { class: `why ${isIn(row) ? "" : "dropped"}`, text: `${verb}${row.reason}${sentence}` });
  }
  const rules = data.funnel.length;
  const title = rules > 1 ? `Kept: it passed all ${rules} rules.` : rules ? "Kept: it passed the rule." : "Kept: there is no rule.";
  return make("details", { class: "why" }, make("summary", { text: title }), passed);
}

function drawSides(row) {
  if (!row.sides.length) return [];
  const texts = row.sides.map((side) => textOf(side.text));
  const words = row.isPair && state.marks && texts.every((text) => text !== null) ? compare(...texts) : null;
  const boxes = row.sides.map((side, at) => {
    const facts = [side.responder !== side.label ? side.responder : null, side.score === null ? null : `${side.measure} ${Number(side.score.toPrecision(4))}`,
      side.text === null ? null : `${count(row.lengths[at])} characters`].filter(Boolean);
    return make("div", { class: `side ${row.isPair ? side.label : ""}` },
      make("div", { class: "by" }, make("b", { text: side.label }), ...facts.map((fact) => make("span", { text: fact }))),
      words?.sides ? markedBox(words.sides[at]) : textBox(texts[at]));
  });
  const toggle = make("button", { text: state.marks ? "Unmark differences (d)" : "Mark differences (d)", onclick: switchMarks });
  const bar = row.isPair ? make("p", { class: "buttons" }, words?.why ? make("span", { class: "absent", text: words.why }) : toggle) : null;
  return [bar, make("div", { class: "sides" }, ...boxes)];
}

const textBox = (text) => (text === null ? make("div", { class: "text absent", text: "The text is not in the store." }) : make("div", { class: "text", dir: "auto", text }));
const markedBox = (pieces) => make("div", { class: "text", dir: "auto" }, ...pieces.map(([text, isCommon]) => (isCommon ? visible(text) : make("mark", { text }))));

/** Splits two texts into pieces that are in both and pieces that are not: the longest common words, in order. */
function compare(a, b) {
  const [left, right] = [a, b].map((text) => text.match(WORDS) ?? []), [keys, others] = [left, right].map((words) => words.map((word) => word.trim()));
  if (left.length * right.length > MAX_CELLS) return { why: "These texts are too long to be compared word by word." };
  const width = right.length + 1, best = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      best[i * width + j] = keys[i] === others[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  const sides = [[], []];
  const push = (side, text, isCommon) => {
    const last = sides[side].at(-1);
    if (last?.[1] === isCommon) last[0] += text;
    else sides[side].push([text, isCommon]);
  };
  let i = 0, j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && keys[i] === others[j]) {
      push(0, left[i++], true);
      push(1, right[j++], true);
    } else if (j >= right.length || (i < left.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) push(0, left[i++], false);
    else push(1, right[j++], false);
  }
  const words = (text) => text.match(/[\p{L}\p{N}]+/gu)?.length ?? 0;
  const common = sides[0].reduce((sum, [text, isCommon]) => sum + (isCommon ? words(text) : 0), 0);
  if (common < MIN_COMMON * Math.min(words(a), words(b))) return { why: "These texts share few words, so none are marked." };
  return { sides: sides.map(joinMarks) };
}

/** A word alone that both texts have, between words that differ, is chance: it is marked with them. */
function joinMarks(pieces) {
  const joined = [];
  pieces.forEach(([text, isCommon], at) => {
    const isChance = isCommon && at > 0 && at < pieces.length - 1 && !/\s\S/.test(text);
    const last = joined.at(-1);
    if (last && last[1] === (isCommon && !isChance)) last[0] += text;
    else joined.push([text, isCommon && !isChance]);
  });
  return joined;
}

/** Highlights the searched words in the row, without a change to its elements. */
function markHits() {
  if (!globalThis.Highlight) return;
  const words = searched(), ranges = [];
  for (const box of $("row").querySelectorAll(".text")) {
    const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode()); ) {
      const text = node.data.toLowerCase();
      if (text.length !== node.length) continue; // a letter whose small form is longer: places would be off
      for (const word of words) {
        for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
          const range = new Range();
          range.setStart(node, at);
          range.setEnd(node, at + word.length);
          ranges.push(range);
        }
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

// --- what the reader does ----------------------------------------------------------------------------------

const KEYS = [
  ["j / k", null, "next, previous row"], ["/", null, "search"], ["1 - 9", null, "a line of the funnel: kept rows, or a reason"], ["0", null, "kept and dropped rows"],
  ["d", switchMarks, "mark the words that differ"], ["c", () => $("copy")?.click(), "copy the row as JSON"], ["l", () => $("link")?.click(), "copy a link to the row"],
  ["t", switchTheme, "light or dark"], ["Esc", clearFilters, "clear the filters"], ["?", () => $("help").showModal(), "these keys"],
];

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (/INPUT|SELECT/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -shown.length, End: shown.length }[event.key];
  const action = KEYS.find(([key, run]) => run && key === (event.key === "Escape" ? "Esc" : event.key))?.[1];
  const isForRow = event.target.id === "row" && event.key.length > 1; // arrows scroll a row that has the focus
  if (step && !isForRow) pick(place + step);
  else if (event.key === "/") ($("filters").open = true), $("q").focus();
  else if (event.key === "0") pickReason("");
  else if (/^[1-9]$/.test(event.key) && reasons[event.key - 1]) pickReason(reasons[event.key - 1]);
  else if (action) action();
  else return;
  event.preventDefault();
}

function pickReason(reason) {
  state.reason = state.reason === reason ? "" : reason;
  refresh();
}

function clearFilters() {
  state.reason = "";
  for (const id of [...FIELDS, ...Object.keys(FACETS)]) if ($(id) && id !== "sort") $(id).value = "";
  refresh();
}

function switchMarks() {
  state.marks = !state.marks;
  pick(place);
}

function switchTheme() {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or no such interface from a file
    const box = make("textarea", {});
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1200);
}

/** Filters and row are in the address after #, so that a link shows the same to whoever has the file. */
function writeLink() {
  const facets = Object.keys(FACETS).filter((name) => $(name));
  const values = { row: state.row, reason: state.reason, ...Object.fromEntries([...FIELDS, ...facets].map((id) => [id, value(id)])) };
  const hash = new URLSearchParams(Object.entries(values).filter(([, item]) => item)).toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
}

function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  state.row = link.get("row");
  state.reason = link.get("reason") ?? "";
  for (const id of [...FIELDS, ...Object.keys(FACETS)]) {
    state[id] = link.get(id) ?? "";
    if ($(id)) $(id).value = state[id];
  }
}
