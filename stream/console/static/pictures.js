// Pictures of a lineage's history, for the console and the report alike. Needs Plotly.
"use strict";

const Pictures = (() => {
  const colours = ["#2f7ed8", "#e0762f", "#3a9d5d", "#a05cc4", "#c2a000", "#d1495b", "#4aa3a2", "#7a6a5a"];
  const kinds = {
    revert: ["#c4242e", "reverted"], fail: ["#c4242e", "failed"], suspect: ["#d08a10", "suspect"],
    promote: ["#2f7ed8", "another champion"], fall_back: ["#8250df", "baseline answers"], return: ["#8250df", "champion answers again"],
    retrain: ["#6b7682", "retrain asked for"], accept_baseline: ["#6b7682", "new baseline"], refresh: ["#3a9d5d", "new holdout"],
    hold: ["#d08a10", "held"], open_breaker: ["#c4242e", "breaker opened"], close_breaker: ["#3a9d5d", "breaker closed"],
    rollout_start: ["#0b8a8a", "roll-out begins"], rollout_step: ["#0b8a8a", "roll-out goes on"], rollout_abort: ["#c4242e", "roll-out taken back"],
    stop_learning: ["#c4242e", "learning stopped"], resume_learning: ["#3a9d5d", "learning again"], replay: ["#6b7682", "replayed"],
    policy_winner: ["#2f7ed8", "earns most"], duel_end: ["#2f7ed8", "duel is over"],
  };
  const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const when = (seconds) => new Date(seconds * 1000);
  // Plotly reads a few tags in texts; what others wrote must stay text
  const plain = (text) => String(text).replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`).slice(0, 300);

  function layout(more) {
    const text = dark() ? "#e6e9ee" : "#1b1f24", line = dark() ? "#333b45" : "#e3e7ec";
    return {
      margin: { l: 56, r: 16, t: 8, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, family: "system-ui, sans-serif", size: 13 }, hovermode: "x unified", showlegend: true,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, uirevision: "same",
      hoverlabel: { bgcolor: dark() ? "#1d2229" : "#fff", font: { color: text } },
      xaxis: { type: "date", gridcolor: line, zeroline: false, nticks: 8, tickangle: 0 }, yaxis: { gridcolor: line, zeroline: false, automargin: true },
      ...more,
    };
  }
  const settings = (name) => ({
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "png", filename: name, scale: 2 },
  });

  function marksOf(marks) {
    const seen = new Map(), shapes = [], places = { x: [], text: [], colour: [] };
    for (const one of marks) {
      const kind = kinds[one.what];
      if (!kind) continue;
      seen.set(one.what, kind);
      if (shapes.length < 200) shapes.push({
        type: "line", x0: when(one.time), x1: when(one.time), yref: "paper", y0: 0, y1: 1, layer: "below",
        line: { color: kind[0], width: one.what === "suspect" ? 0.6 : 1.5, dash: one.entry ? "solid" : "dot" },
      });
      places.x.push(when(one.time));
      places.text.push(plain(`${kind[1]}${one.learner ? ` (${one.learner})` : ""}${one.entry ? `, entry ${one.entry}` : ""}`));
      places.colour.push(kind[0]);
    }
    return { shapes, seen, places };
  }

  // From one snapshot that was not good to the next that was
  function doubts(history) {
    const shapes = [];
    for (const one of Object.values(history.learners)) {
      one.verdicts.forEach((verdict, index) => {
        if (verdict !== "suspect" && verdict !== "fail") return;
        const end = history.times[Math.min(index + 1, history.times.length - 1)], last = shapes[shapes.length - 1];
        if (last && last.kind === verdict && last.to >= history.times[index]) { last.to = end; last.x1 = when(end); return; }
        shapes.push({ kind: verdict, to: end, type: "rect", x0: when(history.times[index]), x1: when(end), yref: "paper", y0: 0, y1: 1, layer: "below",
          line: { width: 0 }, fillcolor: verdict === "fail" ? "rgba(196,36,46,.16)" : "rgba(208,138,16,.16)" });
      });
    }
    return shapes.map(({ kind, to, ...shape }) => shape);
  }

  function quality(element, history, marks, choice) {
    const traces = [], times = history.times.map(when), mode = times.length < 40 ? "lines+markers" : "lines";
    Object.keys(history.learners).forEach((name, index) => {
      const one = history.learners[name], colour = colours[index % colours.length];
      if (choice.of === "baseline") {
        const side = (at) => one.baseline.map((found) => (found ? found[at] : null));
        traces.push({ x: times, y: side(2), mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false });
        traces.push({ x: times, y: side(1), mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: `${colour}33`, hoverinfo: "skip", showlegend: false });
        traces.push({ x: times, y: side(0), mode: "lines", name: plain(name), line: { color: colour, width: 2 } });
        return;
      }
      const values = choice.slice ? one.slices[choice.slice] : one[choice.of][choice.figure];
      if (values) traces.push({ x: times, y: values, mode, name: plain(name), line: { color: colour, width: 2 }, connectgaps: true });
    });
    const { shapes, seen, places } = marksOf(marks);
    const top = Math.max(...traces.flatMap((one) => one.y).filter((one) => one !== null && isFinite(one)), -Infinity);
    if (isFinite(top)) traces.push({
      x: places.x, y: places.x.map(() => top), text: places.text, mode: "markers", showlegend: false, hovertemplate: "%{text}<extra></extra>",
      marker: { color: places.colour, symbol: "triangle-down", size: 9 },
    });
    const title = choice.of === "baseline" ? "loss minus the baseline's" : choice.slice ? `of ${choice.slice}` : choice.figure;
    Plotly.react(element, traces, layout({ shapes: [...doubts(history), ...shapes], yaxis: { ...layout().yaxis, title: { text: plain(title) } } }), settings("holdfast-quality"));
    if (Object.values(history.learners).some((one) => one.verdicts.includes("suspect"))) seen.set("doubt", ["#d08a10", "shaded: suspect"]);
    return seen;
  }

  function stream(element, history) {
    const times = history.times.map(when), rates = history.consumed.map((now, index) => {
      const before = index - 1, seconds = history.times[index] - history.times[before];
      return index && seconds > 0 ? Math.max(0, (now - history.consumed[before]) / seconds) : null;
    });
    const ground = layout();
    Plotly.react(element, [
      { x: times, y: rates, name: "events/s", mode: "lines", line: { color: colours[0], width: 1.5 } },
      { x: times, y: history.freshness, name: "snapshot behind newest event, s", mode: "lines", yaxis: "y2", line: { color: colours[1], width: 1 } },
    ], layout({ yaxis: { ...ground.yaxis, rangemode: "tozero" }, yaxis2: { overlaying: "y", side: "right", showgrid: false, rangemode: "tozero" }, margin: { l: 50, r: 46, t: 8, b: 30 } }), settings("holdfast-stream"));
  }
  return { quality, stream, kinds, plain };
})();
