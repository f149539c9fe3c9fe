"use strict";
// Draws the charts from the page's own data, sorts tables, switches colours, prepares printing. Loads nothing.
(() => {
  const root = document.documentElement;
  const PRINT_WIDTH = 660; // CSS pixels of an A4 page less its margins
  const PRINT_HEIGHT = 0.6; // of the height on a screen, so that two charts and their origins fit on a page
  // Wong's palette (Nature Methods 8, 2011) for light paper; lighter tones of the same hues for dark.
  const PALETTES = {
    light: {
      series: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"],
      text: "#1b1d20", muted: "#5a6068", grid: "#e6e8eb", paper: "#ffffff",
      low: "#6aaed6", middle: "#f7f7f7", high: "#ec9a5e", sparse: "#dcebf5", between: "#3a86b8", crowded: "#0b2a45",
    },
    dark: {
      series: ["#4aa3e0", "#f0803c", "#2fc597", "#e3a0c8", "#f0b63a", "#a5dbf7", "#e8e8e8"],
      text: "#e4e6e9", muted: "#a2a9b2", grid: "#2b3037", paper: "#14171b",
      low: "#1c6aa0", middle: "#22272d", high: "#a34a12", sparse: "#1f3648", between: "#3f8fc4", crowded: "#e2f2fc",
    },
  };
  const FONT = getComputedStyle(document.body).fontFamily;
  const charts = [];
  let printing = false;

  // -- colours ------------------------------------------------------------------------------

  let chosen = null; // what the reader chose; null: as the system says
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => (printing ? "light" : chosen || (systemIsDark.matches ? "dark" : "light"));

  const colour = (token, palette) => {
    const match = /^@(\w+)(?:\/([\d.]+))?$/.exec(token);
    if (!match) return token;
    const hex = /^\d+$/.test(match[1]) ? palette.series[match[1] % palette.series.length] : palette[match[1]];
    if (!hex) return token;
    if (!match[2]) return hex;
    const parts = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
    return `rgba(${parts.join(",")},${match[2]})`;
  };

  // A copy with colour tokens replaced, in keys that hold colours only: a name may look like a token.
  const painted = (value, palette, inside = false) => {
    if (typeof value === "string") return inside ? colour(value, palette) : value;
    if (Array.isArray(value)) return inside || typeof value[0] === "object" ? value.map((v) => painted(v, palette, inside)) : value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, painted(v, palette, /colou?r(scale)?$/.test(key))]));
  };

  const showTheme = () => {
    root.dataset.theme = theme();
    const button = document.getElementById("theme");
    button.setAttribute("aria-pressed", String(theme() === "dark"));
    button.textContent = theme() === "dark" ? "Light colours" : "Dark colours";
  };

  // -- charts -------------------------------------------------------------------------------

  const axisDefaults = (axis, palette) => ({
    gridcolor: palette.grid, linecolor: palette.muted, zerolinecolor: palette.grid, tickcolor: palette.muted,
    ticks: "outside", ticklen: 4, showline: true, automargin: true, ...axis,
    title: axis && axis.title ? { standoff: 10, ...axis.title } : undefined,
  });

  const draw = (chart) => {
    const { element, spec } = chart;
    const view = spec.views[chart.view];
    const palette = PALETTES[theme()];
    const width = printing ? PRINT_WIDTH : Math.max(element.parentElement.clientWidth, Number(element.dataset.minWidth));
    element.style.width = `${width}px`;
    const narrow = width < 520;
    const full = Number(element.dataset.height);
    const layout = painted(view.layout, palette);
    const legendOf = (trace) => trace.legendgroup !== undefined && chart.hidden.has(trace.legendgroup);
    const data = painted(view.data.map((k) => spec.traces[k]), palette).map((trace) => (legendOf(trace) ? { ...trace, visible: false } : trace));
    for (const trace of data) {
      if (trace.colorbar) trace.colorbar = { tickcolor: palette.muted, ...trace.colorbar, thickness: narrow ? 8 : 12 };
    }
    const axes = Object.fromEntries(Object.keys({ xaxis: 1, yaxis: 1, ...layout }).filter((k) => /^[xy]axis\d*$/.test(k))
      .map((k) => [k, axisDefaults(layout[k], palette)]));
    return Plotly.react(element, data, {
      ...layout, ...axes,
      width, height: printing ? Math.round(full * (element.dataset.minWidth > 0 ? 0.85 : PRINT_HEIGHT)) : narrow ? Math.min(full, Math.max(300, Math.round(width * 0.95))) : full, autosize: false,
      margin: { l: narrow ? 46 : 60, r: narrow ? 8 : 16, t: 12, b: narrow ? 44 : 50 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: FONT, size: narrow ? 11 : 13, color: palette.text },
      hoverlabel: { bgcolor: palette.paper, bordercolor: palette.muted, font: { family: FONT, size: narrow ? 11 : 12, color: palette.text }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", showlegend: false,
    }, {
      displaylogo: false, displayModeBar: matchMedia("(hover: none)").matches ? false : "hover", responsive: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: element.closest("figure").id },
    });
  };

  const SHAPES = {
    circle: "M0-4A4 4 0 1 0 0 4A4 4 0 1 0 0-4Z", square: "M-4-4H4V4H-4Z", "triangle-up": "M0-5L5 4H-5Z", diamond: "M0-5L5 0L0 5L-5 0Z",
    "triangle-down": "M0 5L5-4H-5Z", cross: "M-2-5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z", x: "M-5-3L-3-5L0-2L3-5L5-3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z",
  };
  const DASHES = { solid: "", dash: "6 3", dot: "2 2" };

  const sample = (entry) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    for (const [k, v] of Object.entries({ width: 26, height: 12, viewBox: "-13 -6 26 12", "aria-hidden": "true" })) svg.setAttribute(k, v);
    const add = (kind, attributes) => {
      const node = document.createElementNS(space, kind);
      for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
      svg.append(node);
      return node;
    };
    if (entry.dash) add("path", { d: "M-13 0H13", "stroke-width": 2.5, "stroke-dasharray": DASHES[entry.dash] || "", class: "stroke" });
    if (entry.symbol) add("path", { d: SHAPES[entry.symbol] || SHAPES.circle, class: "fill" });
    return svg;
  };

  const paintLegend = (chart) => {
    const palette = PALETTES[theme()];
    for (const { button, entry } of chart.buttons) {
      button.querySelectorAll(".stroke").forEach((n) => n.setAttribute("stroke", colour(entry.colour, palette)));
      button.querySelectorAll(".fill").forEach((n) => n.setAttribute("fill", colour(entry.colour, palette)));
    }
  };

  const buildLegend = (chart, place) => {
    chart.buttons = chart.spec.legend.map((entry) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.append(sample(entry), document.createTextNode(entry.label));
      button.addEventListener("click", () => {
        const shown = chart.hidden.has(entry.group);
        chart.hidden[shown ? "delete" : "add"](entry.group);
        button.setAttribute("aria-pressed", String(shown));
        draw(chart);
      });
      place.append(button);
      return { button, entry };
    });
    place.hidden = !chart.buttons.length;
  };

  const buildControls = (chart, place) => {
    const selects = chart.spec.controls.filter((control) => control.options.length > 1).map((control) => {
      const label = document.createElement("label");
      const select = document.createElement("select");
      control.options.forEach((text, k) => select.add(new Option(text, String(k))));
      label.append(`${control.label} `, select);
      place.append(label);
      return select;
    });
    const change = () => {
      chart.view = selects.reduce((all, select) => all * select.options.length + Number(select.value), 0);
      draw(chart);
    };
    selects.forEach((select) => select.addEventListener("change", change));
    place.hidden = !selects.length;
  };

  const inflate = async (element) => {
    const bytes = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    element.textContent = ""; // two megabytes that nobody needs any more
  };

  const redraw = () => charts.forEach((chart) => { draw(chart); paintLegend(chart); });

  const start = async () => {
    const plots = [...document.querySelectorAll(".plot")];
    if (plots.length) await inflate(document.getElementById("library"));
    for (const element of plots) {
      const figure = element.closest("figure");
      const spec = JSON.parse(figure.querySelector("script.spec").textContent);
      const chart = { element, spec, view: 0, hidden: new Set(), buttons: [] };
      charts.push(chart);
      buildControls(chart, figure.querySelector(".controls"));
      buildLegend(chart, figure.querySelector(".legend"));
      paintLegend(chart);
      await draw(chart);
      await new Promise((next) => setTimeout(next)); // the page stays usable while it is drawn
    }
    document.getElementById("no-charts").remove();
    let width = innerWidth;
    let waiting = 0;
    addEventListener("resize", () => {
      if (innerWidth === width) return; // phones resize when their address bar goes
      width = innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(redraw, 120);
    });
    root.dataset.ready = "true";
  };

  // -- tables -------------------------------------------------------------------------------

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.classList.contains("numeric") ? (cell.dataset.key === undefined ? NaN : Number(cell.dataset.key)) : cell.dataset.key ?? cell.textContent;
  };

  const compare = (a, b, sign) => {
    if (typeof a === "string" || typeof b === "string") return sign * String(a).localeCompare(String(b), "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // what is missing stands last
    return sign * (a - b);
  };

  for (const table of document.querySelectorAll("table")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      rows.sort((a, b) => compare(a[0], b[0], rising ? 1 : -1));
      table.tBodies[0].append(...rows.map((pair) => pair[1]));
    }));
  }

  // -- copy, colours, print -----------------------------------------------------------------

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.previousElementSibling;
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range); // pages opened from a disk may not write to the clipboard: then it is selected
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  const contents = document.querySelector(".contents details");
  if (matchMedia("(max-width: 60rem)").matches) contents.open = false;
  document.getElementById("theme").hidden = false;
  document.getElementById("theme").addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    showTheme();
    redraw();
  });
  systemIsDark.addEventListener("change", () => { showTheme(); redraw(); });
  showTheme();

  let opened = [];
  const print = (on) => {
    if (printing === on) return;
    printing = on;
    root.classList.toggle("printing", on); // so that tables can be measured as they will be on paper
    if (on) opened = [...document.querySelectorAll("details.origin:not([open])")];
    opened.forEach((details) => { details.open = on; });
    for (const table of on ? document.querySelectorAll("table") : []) {
      table.style.setProperty("--shrink", "1");
      table.style.setProperty("--shrink", Math.min(1, PRINT_WIDTH / table.getBoundingClientRect().width).toFixed(3));
    }
    showTheme();
    redraw();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("print").addEventListener("change", (event) => print(event.matches));

  start().catch((error) => {
    document.getElementById("no-charts").append(` (${error.message})`);
    throw error;
  });
})();
