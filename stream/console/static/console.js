// The console: asks what there is each second, shows it, and acts with the token, which stays in this tab's memory only.
"use strict";

const at = (id) => document.getElementById(id);
const state = { name: "", names: [], token: "", status: null, history: null, marks: [], snapshots: [], busy: false };

// Everything that others wrote goes in as text, never as markup.
function made(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((one) => one !== null && one !== undefined));
  return element;
}
const put = (element, ...children) => element.replaceChildren(...children.filter(Boolean));
const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
const figure = (value) => (value === null || value === undefined ? "–" : Number(value).toFixed(4));
const clock = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "–");
function lasting(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

async function get(path, raw = false) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const answer = await fetch(`/api${path}`, { headers, cache: "no-store" });
  if (answer.status === 401 && !state.busy) await askToken("Looking wants a token here (serve.read_token_file).");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `${answer.status}`);
  return raw ? answer : answer.json();
}
const of = (path) => get(`/${encodeURIComponent(state.name)}${path}`);

// Looking ------------------------------------------------------------------------------------------------------------

function span() {
  const until = Date.now() / 1000 + 2;
  return `since=${until - Number(at("span").value)}&until=${until}`;
}

async function lookAt() {
  const width = Math.min(900, Math.max(200, Math.round(at("quality").clientWidth / 2)));
  const [status, history, marks, snapshots, ledger] = await Promise.all([
    of("/status"), of(`/history?${span()}&points=${width}`), of(`/marks?${span()}`), of("/snapshots"), of("/ledger"),
  ]);
  Object.assign(state, { status, history, marks, snapshots });
  show(ledger);
}

function show(ledger) {
  const { status } = state;
  const worst = status.findings.length ? status.findings[0].level : "";
  put(at("state"),
    made("span", { class: `badge ${worst === "bad" ? "fail" : worst === "warn" ? "suspect" : "pass"}` },
      worst === "bad" ? "needs somebody" : worst === "warn" ? "look at it" : "healthy"),
    ` ${status.task}; ${status.champion || "nobody"} answers`, status.rollout.state && ["shadow", "canary", "paused"].includes(status.rollout.state)
      ? `, ${status.rollout.candidate} in ${status.rollout.state} (${status.rollout.share} %)` : "");
  put(at("findings"), ...status.findings.map((one) => made("p", { class: `finding ${one.level}` }, one.what)));
  showNow(); showChoices(); draw(); showStrip(); showLearners(); showStream(); showRollout(); showSlices(); showDecisions(ledger); showData(); showOverview();
}

function showNow() {
  const { status } = state, champion = status.learners[status.champion] || {}, serving = status.serving.find((one) => one.snapshot !== null);
  const tiles = [
    ["answers from", serving ? `snapshot ${serving.snapshot}` : "nothing"],
    ["its age", serving ? lasting(serving.age_seconds) : "–"],
    [`recent ${status.figure}`, figure((champion.recent || {})[status.figure])],
    ["learnt", whole((champion.events || {}).learnt)],
    ["events/s", status.source.rate === null ? "–" : whole(status.source.rate)],
    [`waiting (${status.source.unit})`, status.source.lag === null ? "–" : whole(status.source.lag)],
    ["verdict", champion.verdict || "none yet"],
    ["holdout", status.holdout.version ? `${whole(status.holdout.rows)} rows, ${lasting(status.now - status.holdout.sealed)} old` : "not sealed yet"],
    ["baseline", status.baseline ? `${status.baseline.number ?? ""} ${status.baseline.answers ? "answers" : "stands by"}` : "none"],
    ["label after (median)", status.labels ? lasting(status.labels.delays.p50) : "with the event"],
  ];
  put(at("now"), ...tiles.map(([name, value]) => made("div", {}, made("dt", {}, name), made("dd", {}, String(value)))));
}

function options(select, values, chosen) {
  const wanted = values.map(([value]) => value).join("\u0000");
  if (select.dataset.has === wanted) return;
  const before = select.value || chosen;
  put(select, ...values.map(([value, text]) => made("option", { value }, text)));
  select.dataset.has = wanted;
  select.value = values.some(([value]) => value === before) ? before : chosen;
}

function showChoices() {
  const learners = Object.values(state.history.learners);
  const figures = new Set(learners.flatMap((one) => Object.keys(one.recent)));
  for (const one of ["n", "unpredicted"]) figures.delete(one);
  options(at("figure"), [...figures].sort().map((one) => [one, one]), state.status.figure);
  const slices = [...new Set(learners.flatMap((one) => Object.keys(one.slices)))].sort();
  options(at("slice"), [["", "all events"], ...slices.map((one) => [one, one])], "");
  at("csv").href = `/api/${encodeURIComponent(state.name)}/history.csv?${span()}`;
}

function draw() {
  const choice = { figure: at("figure").value, of: at("span-of").value, slice: at("slice").value };
  const seen = Pictures.quality(at("quality"), state.history, state.marks, choice);
  put(at("legend"), ...[...seen.values()].map(([colour, text]) => {
    const mark = made("span", { "aria-hidden": "true" }, "▼ ");
    mark.style.color = colour;
    return made("li", {}, mark, text);
  }));
  Pictures.stream(at("rate"), state.history);
}

function showStrip() {
  const champion = state.status.champion, rows = state.snapshots.filter((one) => one.learner === champion).slice(0, 200).reverse();
  const key = rows.map((one) => `${one.snapshot}${one.verdict}${one.serving}${one.pinned}`).join();
  if (at("strip").dataset.key === key) return;
  at("strip").dataset.key = key;
  put(at("strip"), ...rows.map((one) => made("button", {
    type: "button", class: `${one.verdict || "none"}${one.serving ? " serving" : ""}${one.pinned ? " pinned" : ""}`,
    title: `snapshot ${one.snapshot}: ${one.verdict || "not judged"}`,
    "aria-label": `snapshot ${one.snapshot}, ${one.verdict || "not judged"}${one.serving ? ", serves" : ""}`,
    onclick: () => openSnapshot(one.snapshot),
  })));
  at("strip").scrollLeft = at("strip").scrollWidth;
}

function table(element, heads, rows) {
  put(element, made("thead", {}, made("tr", {}, ...heads.map((one) => made("th", { scope: "col", class: one.startsWith("#") ? "n" : "" }, one.replace("#", ""))))),
    made("tbody", {}, ...rows.map((row) => made("tr", {}, ...row.map((one, index) => made("td", { class: heads[index].startsWith("#") ? "n" : "" }, one))))));
}

function showLearners() {
  const { status } = state;
  table(at("learners"), ["learner", "role", `#recent ${status.figure}`, "#learnt", "#quarantined", "verdict", ""],
    Object.entries(status.learners).map(([name, one]) => [
      name, one.role, figure((one.recent || {})[status.figure]), whole(one.events.learnt), whole(one.events.quarantined),
      made("span", { class: one.verdict || "none", title: one.why || "" }, one.verdict || "none yet"),
      made("span", { class: "row" }, ...["revert", one.role === "champion" ? null : "promote", one.learning === "stopped" ? "resume" : "stop"].filter(Boolean)
        .map((action) => made("button", { type: "button", onclick: () => openAction(action, { learner: name }) }, action))),
    ]));
}

const classes = [["learnt", "#2f7ed8"], ["held_out", "#3a9d5d"], ["quarantined", "#d08a10"], ["pending", "#4aa3a2"],
  ["timed_out", "#7a6a5a"], ["unlabelled", "#a05cc4"], ["duplicate", "#8b949e"], ["dead_lettered", "#c4242e"]];

function showStream() {
  const { status } = state, champion = status.learners[status.champion];
  if (!champion) return put(at("equation"), made("p", {}, "No event has been learnt yet."));
  const events = champion.events, bar = made("div", { class: "bar", role: "img", "aria-label": "What became of each event" });
  for (const [name, colour] of classes) {
    if (!events[name]) continue;
    const part = made("span", { title: `${name}: ${whole(events[name])}` });
    part.style.flex = `${events[name]} 0 0`;
    part.style.background = colour;
    bar.append(part);
  }
  const parts = classes.filter(([name]) => events[name]).map(([name, colour]) => {
    const dot = made("span", { class: "dot", "aria-hidden": "true" });
    dot.style.color = colour;
    return made("li", {}, dot, ` ${name} ${whole(events[name])}`);
  });
  put(at("equation"), made("p", {}, `${whole(events.consumed)} events consumed ${champion.accounting_difference ? `≠ their classes: ${champion.accounting_difference} are in none` : "= the sum of these:"}`),
    bar, made("ul", { class: "parts" }, ...parts));
  showLetters();
}

let lettersAt = 0;
async function showLetters() {
  const refused = Object.entries(state.status.refused || {}).sort((a, b) => b[1] - a[1]);
  if (!refused.length) return put(at("letters"));
  if (Date.now() - lettersAt < 15000) return;
  lettersAt = Date.now();
  const examples = await of("/letters").catch(() => ({}));
  const rows = made("table", {});
  table(rows, ["dead letters", "#how many", "the newest", ""], refused.map(([reason, count]) => [
    reason, whole(count), (examples[reason] || {}).message || "",
    made("button", { type: "button", onclick: () => openAction("replay-letters", { reason }) }, "replay…"),
  ]));
  put(at("letters"), rows);
}

function showRollout() {
  const found = state.status.rollout;
  if (found.policy && found.policy !== "champion") {
    const rows = made("table", {}), arms = (found.rewards || {}).arms || {};
    table(rows, ["learner", "#share or weight", "earns"], Object.entries(found.weights || {}).map(([name, weight]) => [
      name, `${(100 * weight).toFixed(1)} %`, arms[name] ? `${figure(arms[name].low)} to ${figure(arms[name].high)} (${whole(arms[name].rewards)} rewards)` : ""]));
    return put(at("rollout"), made("p", {}, `routing.policy is ${found.policy}`), rows);
  }
  if (!found.state) return put(at("rollout"), made("p", {}, "None has begun. A learner, a baseline or an older snapshot can be tried on a share of the requests."));
  const active = ["shadow", "canary", "paused"].includes(found.state);
  const rows = made("table", {}), serving = found.serving || {}, loss = found.loss;
  const figures = [["why", found.why], ["since", clock(found.since)]];
  if (serving.errors) figures.push(["errors", `${serving.errors.candidate} of ${serving.predicted.candidate}; limit ${serving.errors.limit}`]);
  if (serving.p99_ms) figures.push(["p99", `${serving.p99_ms.candidate ?? "–"} ms; limit ${serving.p99_ms.limit} ms`]);
  if (serving.prediction_shift) figures.push(["shift", `${figure(serving.prediction_shift.seen)}; limit ${serving.prediction_shift.limit}`]);
  if (loss) figures.push(["loss minus champion's", `${figure(loss.difference)} (${figure(loss.low)} to ${figure(loss.high)}) on ${whole(loss.events)}; limit ${loss.limit}`]);
  table(rows, ["what", "figure"], figures.map(([name, value]) => [name, String(value)]));
  const buttons = active ? ["rollout-step", found.state === "paused" ? "rollout-resume" : "rollout-pause", found.awaits_approval ? "rollout-approve" : null, "rollout-abort"] : ["rollout-start"];
  put(at("rollout"), made("p", {}, made("strong", {}, found.candidate), `: ${found.state}, ${found.share} % of the requests`), rows,
    made("p", {}, ...buttons.filter(Boolean).map((one) => made("button", { type: "button", class: one.endsWith("abort") ? "danger" : "", onclick: () => openAction(one) }, one.replace("rollout-", "")))));
}

function showSlices() {
  const { status } = state, champion = status.learners[status.champion], name = status.figure, worse = name === "mae" ? -1 : 1;
  const rows = Object.entries((champion || {}).slices || {}).filter(([, one]) => one[name] !== null && one[name] !== undefined)
    .sort((a, b) => worse * (a[1][name] - b[1][name])).slice(0, 500);
  if (!rows.length) return put(at("slices"), made("tbody", {}, made("tr", {}, made("td", {}, "event.slices names no feature."))));
  table(at("slices"), ["slice", `#${name}`, "#events"], rows.map(([slice, one]) => [slice, figure(one[name]), whole(one.n)]));
}

const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(value && value < 0.01 ? 2 : 1)} %`);
let dataAt = 0;
async function showData() {
  if (Date.now() - dataAt < 15000 || at("data").getBoundingClientRect().top > 2 * innerHeight) return;
  dataAt = Date.now();
  const name = state.name, found = await of("/data").catch((cause) => ({ features: [], why: cause.message }));
  if (name !== state.name) return;
  at("data-said").textContent = found.why || `${whole(found.rows[1])} newest held-out rows against ${whole(found.rows[0])} rows of ${found.against}${found.since ? ` (${clock(found.since)})` : ""}; a PSI of 0.1 is little, 0.25 is much`;
  table(at("data"), ["feature", "#PSI", "#KS", "#by chance", "#mean then", "#now", "#missing then", "#now", "new values"], found.features.map((one) => [
    one.feature, made("span", { class: one.psi >= 0.25 ? "fail" : one.psi >= 0.1 ? "suspect" : "" }, figure(one.psi)), figure(one.ks),
    one.chance === null || one.chance === undefined ? "–" : one.chance < 1e-4 ? "< 0.0001" : figure(one.chance),
    figure(one.means[0]), figure(one.means[1]), share(one.missing[0]), share(one.missing[1]),
    one.new_values.length ? `${one.new_values.join(", ")} (${share(one.new_share)})` : ""]));
  await showWeights(name);
}

async function showWeights(name) {
  const found = await of("/weights").catch(() => ({}));
  if (name !== state.name) return;
  put(at("weights"), ...Object.entries(found.learners || {}).map(([learner, one]) => {
    const rows = made("table", {});
    table(rows, ["feature", "#weight", `#at snapshot ${one.reference}`, "#moved"], one.weights.slice(0, 40).map(([feature, now, then]) => [feature, figure(now), figure(then), figure(now - then)]));
    return made("details", {}, made("summary", {}, `Weights of ${learner}: snapshot ${one.snapshot} beside its reference`), made("div", { class: "scroll short" }, rows));
  }));
}

let overviewAt = 0;
async function showOverview() {
  if (state.names.length < 2) return put(at("overview"));
  if (Date.now() - overviewAt < 5000) return;
  overviewAt = Date.now();
  const found = await Promise.all(state.names.map((name) => get(`/${encodeURIComponent(name)}/summary`).catch((cause) => ({ name, level: "bad", finding: cause.message }))));
  const rows = made("table", {});
  table(rows, ["lineage", "state", "figure", "#recent", "#learnt", "#events/s", "#answers are", "look at first"], found.map((one) => [
    made("a", { href: `#${encodeURIComponent(one.name)}`, ...(one.name === state.name ? { "aria-current": "page" } : {}) }, one.name),
    made("span", { class: `badge ${one.level === "bad" ? "fail" : one.level === "warn" ? "suspect" : "pass"}` }, one.level === "bad" ? "needs somebody" : one.level === "warn" ? "look at it" : "healthy"),
    one.figure || "–", figure(one.recent), whole(one.learnt), one.rate === null || one.rate === undefined ? "–" : whole(one.rate),
    one.age === null || one.age === undefined ? "–" : `${lasting(one.age)} old`, one.finding || ""]));
  put(at("overview"), made("h2", {}, "Lineages"), made("div", { class: "scroll" }, rows));
}

function showDecisions(ledger) {
  const key = ledger.length ? `${ledger[0].seq}` : "";
  if (at("decisions").dataset.key === key && key) return;
  at("decisions").dataset.key = key;
  if (!ledger.length) return put(at("decisions"), made("tbody", {}, made("tr", {}, made("td", {}, "Nothing has been decided yet."))));
  table(at("decisions"), ["#entry", "when", "what", "about", "by", "why"], ledger.slice(0, 500).map((one) => [
    String(one.seq), clock(one.time), one.action.replaceAll("_", " "),
    [one.learner, one.candidate, one.snapshot !== null && one.snapshot !== undefined ? `snapshot ${one.snapshot}` : "", one.baseline ? `baseline ${one.baseline}` : ""].filter(Boolean).join(", "), one.by, one.why || ""]));
}

async function openSnapshot(number) {
  let found;
  try { found = await of(`/snapshots/${number}`); } catch (cause) { return dialog("Snapshot", made("p", {}, cause.message)); }
  const children = [made("p", {}, `Written ${clock(found.created)}, ${whole(found.counts.consumed)} events consumed, epoch ${found.epoch}.`)];
  for (const [name, one] of Object.entries(found.learners)) {
    const verdict = one.verdict;
    children.push(made("h3", {}, `${name} `, made("span", { class: `badge ${verdict ? verdict.verdict : "none"}` }, verdict ? verdict.verdict : "not judged")));
    if (verdict) children.push(made("p", {}, verdict.why));
    const rows = made("table", {}), details = verdict ? Object.entries(verdict.details) : [];
    if (details.length) {
      const names = ["rows", "loss", "level", "margin", "above", "fresh_events", "difference"].filter((key) => details.some(([, value]) => value[key] !== undefined));
      table(rows, ["slice", ...names.map((key) => `#${key}`)], details.slice(0, 100).map(([slice, value]) => [slice || "(all)", ...names.map((key) => {
        const seen = value[key];
        return typeof seen === "number" ? (Number.isInteger(seen) ? whole(seen) : figure(seen)) : String(seen ?? "–");
      })]));
      children.push(made("div", { class: "scroll short" }, rows));
    }
  }
  children.push(made("div", { class: "row" },
    made("button", { type: "button", onclick: () => openAction("revert", { learner: state.status.champion, snapshot: String(number) }) }, "revert to it…"),
    made("button", { type: "button", onclick: () => openAction("pin", { snapshot: String(number) }) }, "pin…"),
    made("button", { type: "button", onclick: () => openAction("rollout-start", { candidate: `snapshot:${number}` }) }, "roll it out…"),
    made("button", { type: "button", onclick: () => at("dialog").close() }, "close")));
  dialog(`Snapshot ${number}`, ...children);
}

at("at-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const moment = new Date(at("at").value).getTime() / 1000;
  if (!isFinite(moment)) return;
  try {
    const found = await of(`/at?time=${moment}`);
    at("at-said").textContent = `${found.learner ?? "nobody"}${found.snapshot !== null && found.snapshot !== undefined ? `, snapshot ${found.snapshot}` : ""}: ${found.why ?? ""}`;
  } catch (cause) { at("at-said").textContent = cause.message; }
});

// The largest, and the intercept, which is the last
const shortened = (parts) => (parts.length > 9 ? [...parts.slice(0, 8), parts[parts.length - 1]] : parts);

let examples = [], nextExample = 0;
async function anotherExample() {
  if (!examples.length) examples = (await of("/example").catch(() => ({ examples: [] }))).examples.reverse();
  if (!examples.length) return;
  at("question").value = JSON.stringify(examples[nextExample % examples.length], null, 1);
  nextExample += 1;
}
at("another").addEventListener("click", anotherExample);
at("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  put(at("answers"), "…");
  let x;
  try { x = JSON.parse(at("question").value); } catch (cause) { return put(at("answers"), `This is not JSON: ${cause.message}`); }
  const headers = { "Content-Type": "application/json", ...(state.token ? { Authorization: `Bearer ${state.token}` } : {}) };
  const answer = await fetch(`/api/${encodeURIComponent(state.name)}/try`, { method: "POST", headers, body: JSON.stringify({ x }) });
  const found = await answer.json().catch(() => ({}));
  if (!found.answers) return put(at("answers"), found.detail || `${answer.status}`);
  const rows = made("table", {});
  table(rows, ["model", "says", "from", "why"], found.answers.map((one) => [
    `${one.learner} (${one.role})`, one.detail || [String(one.prediction), one.probability !== undefined ? `(${figure(one.probability)})` : ""].join(" "),
    one.snapshot === undefined ? "" : one.role === "baseline" ? "" : `snapshot ${one.snapshot}`,
    shortened(one.contributions || []).map(([name, value]) => `${name} ${value >= 0 ? "+" : ""}${value.toFixed(3)}`).join(", ")]));
  put(at("answers"), rows);
});

// Acting -------------------------------------------------------------------------------------------------------------

const fields = {
  revert: ["learner", "snapshot"], promote: ["learner"], pin: ["snapshot"], unpin: ["snapshot"], stop: ["learner"], resume: ["learner"],
  "rollout-start": ["candidate"], "rollout-step": ["share"], "rollout-pause": [], "rollout-resume": [], "rollout-approve": [], "rollout-abort": [],
  approve: ["baseline"], reject: ["baseline"], refresh: [], retrain: [], replay: ["quarantine", "learner"], drop: ["quarantine", "learner"], "replay-letters": ["reason"],
};
const hints = { snapshot: "empty: the passing one before", share: "percent; empty: the next step", candidate: "a learner, baseline:N or snapshot:N", quarantine: "its id, as holdfast quarantine list shows it" };

function dialog(title, ...children) {
  put(at("dialog"), made("h2", { id: "dialog-title" }, title), ...children);
  if (!at("dialog").open) at("dialog").showModal();
}

function askToken(why) {
  return new Promise((resolve) => {
    state.busy = true;
    const field = made("input", { type: "password", autocomplete: "off", "aria-label": "Token", required: "" });
    dialog("Token", made("form", { onsubmit: (event) => {
      event.preventDefault();
      state.token = field.value.trim();
      at("dialog").close();
      state.busy = false;
      resolve();
    } }, made("p", {}, `${why} It stays in this tab's memory and is forgotten with it.`), made("label", {}, "Token (of the file serve.token_file names)", field),
    made("div", { class: "row" }, made("button", {}, "Go on"))));
    field.focus();
  });
}

async function act(name, body) {
  const answer = await fetch(`/api/${encodeURIComponent(state.name)}/actions/${name}`, {
    method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${state.token}` }, body: JSON.stringify(body),
  });
  const found = await answer.json().catch(() => ({ detail: `${answer.status}` }));
  if (answer.status === 401) { state.token = ""; throw new Error(found.detail); }
  if (!answer.ok && found.says === undefined) throw new Error(found.detail || `${answer.status}`);
  return found;
}

function openAction(name, known = {}) {
  const inputs = Object.fromEntries([...fields[name], "why"].map((one) => {
    const field = one === "learner" || (one === "candidate" && !known.candidate)
      ? made("select", { name: one }, ...Object.keys(state.status.learners).filter((each) => one === "learner" || each !== state.status.champion).map((each) => made("option", { value: each }, each)))
      : made("input", { name: one, type: "text", placeholder: hints[one] || "" });
    if (known[one]) field.value = known[one];
    return [one, field];
  }));
  const said = made("p", { role: "alert" }), title = name.replace("rollout-", "roll-out: ").replaceAll("-", " ");
  dialog(title[0].toUpperCase() + title.slice(1), made("form", { onsubmit: async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(Object.entries(inputs).map(([one, field]) => [one, field.value]));
    if (!state.token) { await askToken("Acting wants the token."); }
    try { confirmed(name, given, await act(name, given)); } catch (cause) { openAction(name, given); at("dialog").querySelector("[role=alert]").textContent = cause.message; }
  } }, ...Object.entries(inputs).map(([one, field]) => made("label", {}, one === "why" ? "why (kept in the ledger)" : one, field)), said,
  made("div", { class: "row" }, made("button", { type: "button", onclick: () => at("dialog").close() }, "Cancel"), made("button", {}, "What would it do?"))));
}

function confirmed(name, given, plan) {
  const said = made("p", { role: "alert" });
  const go = made("button", { type: "button", class: "danger", onclick: async () => {
    go.disabled = true;
    said.textContent = "…";
    try {
      const found = await act(name, { ...given, do: true });
      const rows = made("table", {});
      table(rows, ["#entry", "what", "why"], (found.entries || []).map((one) => [String(one.seq), one.action, one.why || ""]));
      dialog(found.done ? "Done" : "Refused", made("pre", {}, found.detail || ""), found.entries && found.entries.length ? rows : null,
        made("div", { class: "row" }, made("button", { type: "button", onclick: () => at("dialog").close() }, "Close")));
      look();
    } catch (cause) { said.textContent = cause.message; go.disabled = false; }
  } }, "Do it");
  dialog("It would do this", made("p", { class: "says" }, plan.says), made("code", {}, plan.command.join(" ")), said,
    made("div", { class: "row" }, made("button", { type: "button", onclick: () => at("dialog").close() }, "Cancel"), go));
  go.focus();
}

for (const button of document.querySelectorAll("[data-action]")) button.addEventListener("click", () => state.status && openAction(button.dataset.action));
at("more").addEventListener("click", () => state.status && dialog("Actions", made("div", { class: "row" },
  ...Object.keys(fields).map((name) => made("button", { type: "button", onclick: () => openAction(name) }, name)),
  made("button", { type: "button", onclick: () => at("dialog").close() }, "Close"))));

// Beginning ----------------------------------------------------------------------------------------------------------

let timer = 0;
async function look() {
  clearTimeout(timer);
  try {
    if (!state.busy) await lookAt();
    document.body.dataset.ready = "yes";
  } catch (cause) {
    put(at("state"), made("span", { class: "badge fail" }, "not seen"), ` ${cause.message || "the console does not answer"}; asking again`);
  }
  const wide = Number(at("span").value) > 7200;
  timer = setTimeout(look, !at("live").checked || document.hidden ? 5000 : wide ? 3000 : 1000);
}

async function begin() {
  const found = await get("");
  state.names = found.map((one) => one.name);
  options(at("lineage"), found.map((one) => [one.name, one.name]), found[0].name);
  const wanted = decodeURIComponent(location.hash.slice(1));
  if (found.some((one) => one.name === wanted)) at("lineage").value = wanted;
  state.name = at("lineage").value;
  document.title = `${state.name} – Holdfast`;
  await look();
  await anotherExample();
}
function choose(name) {
  if (!state.names.includes(name) || name === state.name) return;
  state.name = at("lineage").value = name;
  document.title = `${name} – Holdfast`;
  lettersAt = dataAt = overviewAt = 0;
  examples = [];
  at("strip").dataset.key = at("decisions").dataset.key = "";
  look().then(anotherExample);
}
at("lineage").addEventListener("change", () => { location.hash = encodeURIComponent(at("lineage").value); });
addEventListener("hashchange", () => choose(decodeURIComponent(location.hash.slice(1))));
for (const id of ["figure", "span-of", "slice"]) at(id).addEventListener("change", draw);
for (const id of ["span", "live"]) at(id).addEventListener("change", look);
document.addEventListener("visibilitychange", () => !document.hidden && look());
begin();
