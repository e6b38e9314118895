// Draws the report's pictures from the data that stands in the file.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const choose = document.getElementById("figure");
for (const name of data.figures) choose.append(new Option(name, name, name === data.figure, name === data.figure));
const draw = () => Pictures.quality(document.getElementById("quality"), data.history, data.marks, { of: "recent", figure: choose.value, slice: "" });
choose.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
Pictures.stream(document.getElementById("rate"), data.history);
