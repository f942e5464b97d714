// The page's one script: the icicle graph, its views, search and keys, and tables that can be sorted. Every text of a
// recording reaches the page through textContent, and no style or handler is ever made from one.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const isDiff = data.kind === "diff";
  // What the verdicts' digits stand for (numabench/report/html/fit.py).
  const VERDICTS = ["no change found", "grown", "shrunk", "appeared", "disappeared", "insufficient", "not comparable"];
  const MARKS = { grown: "▲ ", shrunk: "▼ ", appeared: "+ ", disappeared: "− " };
  // Changes from so many points on have the next stronger colour.
  const STEPS = [0, 1, 3, 10];
  const ROW = 20, NARROWEST = 1.5, LETTERS = 24, POINT = 1e4, WHOLE = 1e6;
  const VIEWS = isDiff
    ? [["diff", "Diff"], ["a", "A"], ["b", "B"], ["only", "Only in one"]]
    : [["a", ""]];

  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // ---- figures in words ----
  const percent = (millionths) => (millionths / POINT).toFixed(2) + " %";
  const points = (millionths) => (millionths < 0 ? "−" : "+") + Math.abs(millionths / POINT).toFixed(2);
  const brief = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3))));
  const amount = (value, unit) => {
    if (unit !== "ns") return brief(value) + " " + unit;
    for (const [name, size] of [["s", 1e9], ["ms", 1e6], ["us", 1e3]]) if (value >= size) return brief(value / size) + " " + name;
    return brief(value) + " ns";
  };

  // ---- a graph: columns as sent, with a root above all and children in order ----
  const open = (sent) => {
    const count = sent.name.length + 1;
    const rooted = (column, root) => (column ? [root, ...column] : null);
    const graph = { ...sent, count, parent: new Int32Array(count), depth: new Int32Array(count), children: [] };
    for (const [key, root] of [["a", WHOLE], ["b", WHOLE], ["selfA", 0], ["selfB", 0], ["delta", 0], ["low", null],
      ["high", null], ["q", null], ["costA", null], ["costB", null]]) graph[key] = rooted(sent[key], root);
    graph.parent[0] = -1;
    for (let node = 0; node < count; node += 1) graph.children.push([]);
    for (let node = 1; node < count; node += 1) {
      const above = sent.parent[node - 1];
      graph.parent[node] = above ? node - above : 0;
      graph.depth[node] = graph.depth[graph.parent[node]] + 1;
      graph.children[graph.parent[node]].push(node);
    }
    const weight = (node) => graph.a[node] + (graph.b ? graph.b[node] : 0);
    for (const children of graph.children) children.sort((one, other) => weight(other) - weight(one));
    graph.nameOf = (node) => (node ? sent.names[sent.name[node - 1]] : "all");
    graph.phaseOf = (node) => (node ? sent.phases[sent.phase[node - 1]] : "");
    graph.verdictOf = (node) => (node && sent.verdict ? VERDICTS[sent.verdict[node - 1]] : VERDICTS[0]);
    // A number below 0 is of what follows the name itself.
    graph.rawOf = (node, raw) => (node && raw && raw[sent.name[node - 1]] || [])
      .map((number) => (number < 0 ? graph.nameOf(node) + sent.names[-1 - number] : sent.names[number]));
    graph.isUser = (node) => node > 0 && sent.kernel !== undefined && sent.kernel[node - 1] === "0";
    graph.isOnly = (node) => graph.b !== null && (graph.a[node] === 0) !== (graph.b[node] === 0);
    return graph;
  };
  const graphs = data.graphs.map(open);
  const state = { graph: graphs[0], view: VIEWS[0][0], zoom: 0, focus: 0, hits: null, frames: [] };

  const weights = () => {
    const { graph, view } = state;
    if (view === "a") return graph.a;
    if (view === "b") return graph.b;
    const found = new Float64Array(graph.count);
    for (let node = graph.count - 1; node >= 0; node -= 1) {
      if (view === "diff") found[node] = (graph.a[node] + graph.b[node]) / 2;
      // A frame that one side alone has stands with its own weight, its callers with what of such is below them.
      else if (graph.isOnly(node)) found[node] = Math.max(graph.a[node], graph.b[node]);
      else for (const child of graph.children[node]) found[node] += found[child];
    }
    return found;
  };

  const path = (node) => {
    const found = [];
    for (let at = node; at >= 0; at = state.graph.parent[at]) found.unshift(at);
    return found;
  };

  // The frames to draw: {node, left, width} as shares of the whole width, and how many are too narrow.
  const place = (wide) => {
    const { graph, zoom } = state;
    const weight = weights();
    const frames = path(zoom).slice(0, -1).map((node) => ({ node, left: 0, width: 1, above: true }));
    const todo = [{ node: zoom, left: 0, width: 1, above: false }];
    let narrow = 0;
    while (todo.length) {
      const frame = todo.pop();
      frames.push(frame);
      const children = graph.children[frame.node];
      const whole = Math.max(weight[frame.node], children.reduce((sum, child) => sum + weight[child], 0));
      let left = frame.left;
      for (const child of children) {
        const width = whole ? (frame.width * weight[child]) / whole : 0;
        if (width * wide >= NARROWEST) todo.push({ node: child, left, width, above: false });
        else if (weight[child]) narrow += 1;
        left += width;
      }
    }
    return { frames, narrow };
  };

  const strength = (delta) => STEPS.filter((step) => Math.abs(delta) / POINT >= step).length;
  const phaseLook = (node) => {
    const phase = state.graph.phaseOf(node);
    if (phase && phase !== "outside migration") return "p-" + phase.replaceAll(" ", "-");
    return state.graph.isUser(node) ? "user" : "p-none";
  };
  const changeLook = (node) => {
    const verdict = state.graph.verdictOf(node), delta = state.graph.delta[node];
    if (verdict === "not comparable") return "unlike";
    if (verdict === "no change found" || (verdict === "insufficient" && !delta)) return "same";
    const way = delta >= 0 ? "grown" : "shrunk";
    return `${way} s${strength(delta)}${verdict === "insufficient" ? " untested" : ""}`;
  };
  const onlyLook = (node) => {
    if (!state.graph.isOnly(node)) return "same";
    const verdict = state.graph.verdictOf(node);
    const sure = verdict === "appeared" || verdict === "disappeared";
    return (state.graph.a[node] ? "shrunk" : "grown") + (sure ? " s4" : " s2 untested");
  };
  const look = (node) => (!node ? "p-none" : state.view === "diff" ? changeLook(node) : state.view === "only" ? onlyLook(node) : phaseLook(node));

  const label = (node) => {
    const { graph, view } = state;
    const mark = view === "diff" || view === "only" ? MARKS[graph.verdictOf(node)] || "" : "";
    return mark + graph.nameOf(node);
  };
  const shares = (node) => {
    const { graph } = state;
    return graph.b ? `A ${percent(graph.a[node])}, B ${percent(graph.b[node])}` : percent(graph.a[node]);
  };

  // ---- drawing ----
  const icicle = $("icicle");
  const draw = () => {
    if (!state.graph) return;
    const { frames, narrow } = place(icicle.clientWidth || 1000);
    state.frames = frames;
    if (!frames.some((frame) => frame.node === state.focus)) state.focus = state.zoom;
    const elements = frames.map(element);
    icicle.replaceChildren(...elements);
    icicle.style.height = (Math.max(...frames.map((frame) => state.graph.depth[frame.node])) + 1) * ROW + "px";
    $("narrow").textContent = narrow ? `${narrow.toLocaleString("en")} frames are too narrow to be drawn here: zoom in to see them.` : "";
    crumbs();
    key();
  };

  const element = ({ node, left, width, above }) => {
    const { graph, hits } = state;
    const dimmed = hits && !hits.has(node) ? " dim" : hits ? " hit" : "";
    const isWide = width * icicle.clientWidth >= LETTERS;
    const found = make("div", `frame ${look(node)}${above ? " above" : ""}${dimmed}`, isWide ? label(node) : "");
    found.style.left = (100 * left).toFixed(4) + "%";
    found.style.width = (100 * width).toFixed(4) + "%";
    found.style.top = graph.depth[node] * ROW + "px";
    found.dataset.node = node;
    found.tabIndex = node === state.focus ? 0 : -1;
    const siblings = node ? graph.children[graph.parent[node]] : [0];
    for (const [name, value] of [["role", "treeitem"], ["aria-level", graph.depth[node] + 1], ["aria-setsize", siblings.length],
      ["aria-posinset", siblings.indexOf(node) + 1], ["aria-selected", node === state.zoom],
      ["aria-label", `${graph.nameOf(node)}: ${shares(node)}${isDiff && node ? ", " + graph.verdictOf(node) : ""}`]]) {
      found.setAttribute(name, value);
    }
    if (graph.children[node].length) found.setAttribute("aria-expanded", "true");
    return found;
  };

  const crumbs = () => {
    const parts = path(state.zoom).map((node) => {
      const button = make("button", "", state.graph.nameOf(node));
      button.type = "button";
      button.disabled = node === state.zoom;
      button.addEventListener("click", () => zoom(node));
      return button;
    });
    $("crumbs").replaceChildren(...parts);
  };

  const keyEntry = (className, text) => {
    const entry = make("li");
    entry.append(make("span", "swatch frame " + className), text);
    return entry;
  };
  const key = () => {
    const entries = [];
    if (state.view === "diff") {
      entries.push(make("li", "", "width: mean of A and B"));
      for (const [way, words, mark] of [["shrunk", "smaller share in B", "▼"], ["grown", "greater share in B", "▲"]]) {
        const entry = make("li");
        for (const step of [1, 2, 3, 4]) entry.append(make("span", `swatch frame ${way} s${step}`));
        entry.append(`${mark} ${words}`);
        entries.push(entry);
      }
      entries.push(make("li", "", "stronger from 1, 3 and 10 points on"));
      entries.push(keyEntry("same", "no change found"), keyEntry("unlike", "not comparable"));
      if (!data.tested) entries.push(keyEntry("grown s2 untested", "striped: not tested, too few recordings"));
      else entries.push(make("li", "", "+ appeared, − disappeared"));
    } else if (state.view === "only") {
      entries.push(make("li", "", "width: share on the one side that has it"));
      entries.push(keyEntry("shrunk s4", "only in A"), keyEntry("grown s4", "only in B"));
      entries.push(keyEntry("grown s2 untested", "striped: may be chance"), keyEntry("same", "caller that both have"));
    } else {
      const there = new Set(state.frames.map((frame) => phaseLook(frame.node)).filter((name) => name.startsWith("p-") && name !== "p-none"));
      for (const phase of state.graph.phases) {
        const name = "p-" + phase.replaceAll(" ", "-");
        if (there.has(name)) entries.push(keyEntry(name, phase));
      }
      entries.push(keyEntry("p-none", "outside of migration, or of several phases"));
      if (state.frames.some((frame) => state.graph.isUser(frame.node))) entries.push(keyEntry("user", "user space"));
    }
    $("key").replaceChildren(...entries);
  };

  // ---- the tooltip, of the frame that has the focus or is pointed at ----
  const tip = $("tip");
  const facts = (node) => {
    const { graph } = state;
    const rows = [];
    const own = (self) => (self ? `, by itself ${percent(self)}` : "");
    if (graph.b) {
      rows.push(["A", percent(graph.a[node]) + own(graph.selfA[node])], ["B", percent(graph.b[node]) + own(graph.selfB[node])]);
      if (node) {
        const interval = graph.low[node] === null ? "no interval" : `95 % interval ${points(graph.low[node])} to ${points(graph.high[node])}`;
        rows.push(["change", `${points(graph.delta[node])} points, ${interval}`]);
        rows.push(["verdict", graph.verdictOf(node) + (graph.q[node] === null ? "" : `, q ${graph.q[node]}`)]);
      }
      if (graph.costA[node] !== null || graph.costB[node] !== null) {
        const cost = (value) => (value === null ? "not known" : amount(value, graph.unit));
        rows.push(["per 2 MB", `A ${cost(graph.costA[node])}, B ${cost(graph.costB[node])}`]);
      }
    } else {
      rows.push(["share", percent(graph.a[node]) + own(graph.selfA[node])]);
      if (graph.per2mb !== null) rows.push(["per 2 MB", amount((graph.per2mb * graph.a[node]) / WHOLE, graph.unit)]);
    }
    if (node) rows.push(["phase", graph.phaseOf(node) || "of several"]);
    for (const [side, raw] of [["name in A", graph.rawA], ["name in B", graph.rawB]]) {
      const names = graph.rawOf(node, raw);
      if (names.length) rows.push([side, names.join(", ")]);
    }
    if (data.guest) rows.push(["note", "a guest's: times are no performance"]);
    return rows;
  };
  // Beside the mouse; for the keyboard in a corner, where it covers no frame that is near.
  const showTip = (frame, isPointed) => {
    const node = Number(frame.dataset.node);
    const list = make("dl");
    for (const [name, value] of facts(node)) list.append(make("dt", "", name), make("dd", "", value));
    tip.replaceChildren(make("strong", "", state.graph.nameOf(node)), list);
    tip.hidden = false;
    frame.setAttribute("aria-describedby", "tip");
    const box = frame.getBoundingClientRect();
    const high = tip.offsetHeight, far = window.innerWidth - tip.offsetWidth - 8, low = window.innerHeight - high - 8;
    const below = box.bottom + 6, above = box.top - high - 6;
    tip.style.left = Math.max(isPointed ? Math.min(box.left, far) : far, 8) + "px";
    tip.style.top = (isPointed ? (below <= low || above < 0 ? below : above) : below <= low ? low : 8) + "px";
  };
  const hideTip = () => { tip.hidden = true; };

  // ---- moving about ----
  const elementOf = (node) => icicle.querySelector(`[data-node="${node}"]`);
  const focus = (node) => {
    const last = elementOf(state.focus);
    if (last) last.tabIndex = -1;
    state.focus = node;
    const found = elementOf(node);
    if (!found) return;
    found.tabIndex = 0;
    found.focus();
  };
  const zoom = (node) => {
    hideTip();
    state.zoom = node;
    state.focus = node;
    draw();
    focus(node);
  };
  const beside = (step) => {
    const depth = state.graph.depth[state.focus];
    const row = state.frames.filter((frame) => state.graph.depth[frame.node] === depth).sort((one, other) => one.left - other.left);
    return row[row.findIndex((frame) => frame.node === state.focus) + step];
  };
  const below = () => state.frames.filter((frame) => state.graph.parent[frame.node] === state.focus)
    .sort((one, other) => other.width - one.width)[0];
  const nextHit = (step) => {
    const hits = state.frames.filter((frame) => state.hits && state.hits.has(frame.node))
      .sort((one, other) => state.graph.depth[one.node] - state.graph.depth[other.node] || one.left - other.left);
    if (!hits.length) return undefined;
    const at = hits.findIndex((frame) => frame.node === state.focus);
    return hits[at < 0 ? 0 : (at + step + hits.length) % hits.length];
  };
  const reset = () => {
    if (!tip.hidden && state.zoom === 0) hideTip();
    zoom(0);
  };
  const KEYS = {
    ArrowUp: () => state.graph.parent[state.focus] >= 0 && focus(state.graph.parent[state.focus]),
    ArrowDown: () => { const frame = below(); if (frame) focus(frame.node); },
    ArrowLeft: () => { const frame = beside(-1); if (frame) focus(frame.node); },
    ArrowRight: () => { const frame = beside(1); if (frame) focus(frame.node); },
    Enter: () => zoom(state.focus),
    " ": () => zoom(state.focus),
    Backspace: () => state.graph.parent[state.zoom] >= 0 && zoom(state.graph.parent[state.zoom]),
    Home: reset,
    Escape: reset,
    n: () => { const frame = nextHit(1); if (frame) focus(frame.node); },
    N: () => { const frame = nextHit(-1); if (frame) focus(frame.node); },
  };

  // ---- search ----
  const search = $("search"), found = $("found");
  const matcher = (text, isRegex) => {
    if (isRegex) {
      const pattern = new RegExp(text, "i");
      return (name) => pattern.test(name);
    }
    const wanted = text.toLowerCase();
    return (name) => name.toLowerCase().includes(wanted);
  };
  const find = () => {
    const text = search.value;
    state.hits = null;
    found.textContent = "";
    search.removeAttribute("aria-invalid");
    if (text && state.graph) {
      try {
        const { graph } = state;
        const matches = matcher(text, $("regex").checked);
        const known = [], functions = new Set(), sums = [0, 0], inside = new Uint8Array(graph.count);
        state.hits = new Set();
        for (let node = 1; node < graph.count; node += 1) {
          const number = graph.name[node - 1];
          if (known[number] === undefined) {
            known[number] = [graph.nameOf(node), ...graph.rawOf(node, graph.rawA), ...graph.rawOf(node, graph.rawB)].some(matches);
          }
          const hit = known[number];
          // What is below a match is in its share already.
          if (hit && !inside[graph.parent[node]]) [graph.a, graph.b].forEach((side, at) => { sums[at] += side ? side[node] : 0; });
          inside[node] = hit || inside[graph.parent[node]];
          if (hit) { state.hits.add(node); functions.add(number); }
        }
        const part = isDiff ? `A ${percent(sums[0])}, B ${percent(sums[1])}` : percent(sums[0]);
        const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
        found.textContent = state.hits.size ? `${many(functions.size, "function")} in ${many(state.hits.size, "frame")}: ${part}` : "nothing found";
      } catch {
        search.setAttribute("aria-invalid", "true");
        found.textContent = "this is no regular expression";
      }
    }
    draw();
  };
  const firstHit = () => {
    let frame = nextHit(0);
    if (!frame && state.hits && state.hits.size) {
      const node = [...state.hits][0];
      zoom(state.graph.parent[node]);
      frame = state.frames.find((one) => one.node === node);
    }
    if (frame) focus(frame.node);
  };

  // ---- tables ----
  const sortable = (table) => {
    const body = table.tBodies[0];
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value;
    };
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent) return;
      const button = make("button", "", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const rows = [...body.rows];
        const isNumber = rows.every((row) => value(row, column) === "" || !Number.isNaN(Number(value(row, column))));
        // Figures begin with the greatest, names with the first.
        const down = head.getAttribute("aria-sort") === (isNumber ? "descending" : "ascending") ? !isNumber : isNumber;
        const order = (one, other) => isNumber
          ? (value(one, column) === "" ? -Infinity : Number(value(one, column))) - (value(other, column) === "" ? -Infinity : Number(value(other, column))) || 0
          : value(one, column).localeCompare(value(other, column));
        rows.sort((one, other) => (down ? order(other, one) : order(one, other)));
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...rows);
      });
    });
  };

  // ---- everything wired up ----
  const wireGraph = () => {
    $("tools").hidden = false;
    graphs.forEach((graph, at) => { const option = make("option", "", graph.title); option.value = at; $("which").append(option); });
    $("which").addEventListener("change", () => {
      Object.assign(state, { graph: graphs[Number($("which").value)], zoom: 0, focus: 0 });
      $("left-out").textContent = state.graph.note;
      find();
    });
    $("which").disabled = graphs.length < 2;
    $("views").hidden = VIEWS.length < 2;
    for (const [view, words] of VIEWS) {
      const button = make("input"), words_ = make("label");
      Object.assign(button, { type: "radio", name: "view", value: view, checked: view === state.view });
      button.addEventListener("change", () => { state.view = view; hideTip(); draw(); });
      words_.append(button, words);
      $("views").append(words_);
    }
    const frameOf = (event) => event.target.closest("[data-node]");
    icicle.addEventListener("click", (event) => { const frame = frameOf(event); if (frame) zoom(Number(frame.dataset.node)); });
    // A mouse that rests while frames are drawn anew below it points at none of them.
    let pointed = "";
    icicle.addEventListener("mousemove", (event) => {
      const frame = frameOf(event), here = `${event.clientX} ${event.clientY}`;
      if (frame && here !== pointed) showTip(frame, true);
      pointed = here;
    });
    icicle.addEventListener("mouseleave", hideTip);
    icicle.addEventListener("focusin", (event) => { const frame = frameOf(event); if (frame) showTip(frame, false); });
    icicle.addEventListener("focusout", hideTip);
    icicle.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
      event.preventDefault();
      KEYS[event.key]();
    });
    let waiting = 0;
    const soon = () => { clearTimeout(waiting); waiting = setTimeout(find, 120); };
    search.addEventListener("input", soon);
    $("regex").addEventListener("change", find);
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { clearTimeout(waiting); find(); firstHit(); }
      if (event.key === "Escape") { search.value = ""; find(); focus(state.focus); }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      event.preventDefault();
      search.focus();
      search.select();
    });
    document.addEventListener("click", (event) => {
      if (!event.target.matches("button.name")) return;
      search.value = event.target.textContent;
      $("regex").checked = false;
      state.zoom = 0;
      find();
      firstHit();
      $("tools").scrollIntoView();
    });
    let width = 0;
    new ResizeObserver(() => { if (icicle.clientWidth !== width) { width = icicle.clientWidth; draw(); } }).observe(icicle);
    $("left-out").textContent = state.graph.note;
  };

  const wire = () => {
    document.querySelectorAll("table.sortable").forEach(sortable);
    if (graphs.length) { wireGraph(); draw(); }
    document.documentElement.dataset.ready = "yes";
  };

  const theme = $("theme");
  const themes = ["as the system", "dark", "light"];
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme || themes[0]) + 1) % 3];
    document.documentElement.dataset.theme = next;
    theme.textContent = `theme: ${next}`;
  });
  // What needs no script is painted first.
  requestAnimationFrame(() => setTimeout(wire));
})();
