// One figure of a device over time, by uPlot.
"use strict";

const chosen = document.querySelector("[data-plot]");
const target = document.getElementById("plot");
let chart;

async function draw() {
  const url = `${chosen.dataset.plot}?${new URLSearchParams(new FormData(chosen))}`;
  const answer = await fetch(url, { headers: { accept: "application/json" } });
  if (!answer.ok) return (target.textContent = "The figures can't be had at the moment.");
  const { figure, data } = await answer.json();
  chart?.destroy();
  chart = undefined;
  target.textContent = data[0].length ? "" : `No ${figure} in this time.`;
  target.setAttribute("aria-label", `${figure} over time, ${data[0].length} points`);
  if (!data[0].length) return;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: css("--soft"), grid: { stroke: css("--grid") }, ticks: { stroke: css("--grid") } };
  const faint = { stroke: css("--line"), width: 1, points: { show: false } };
  chart = new uPlot(
    {
      width: target.clientWidth, height: 240, axes: [axis, { ...axis, size: 64 }],
      series: [
        {}, { label: figure, stroke: css("--c0"), width: 2 },
        { ...faint, label: "least" }, { ...faint, label: "greatest" },
      ],
    },
    data, target,
  );
}

chosen?.addEventListener("input", draw);
addEventListener("resize", () => chart?.setSize({ width: target.clientWidth, height: 240 }));
if (chosen) draw();
