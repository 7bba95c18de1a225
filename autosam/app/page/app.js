"use strict";
// One picture at a time: send it, show its mask, correct it, take it home. Nothing is loaded from elsewhere.

const $ = (id) => document.getElementById(id);
const KEPT = "autosam-picture";
let model = null;      // what /api/model says
let state = null;      // what the server says of the picture
let levels = null;     // Uint16Array, the probability
let cross = null;      // [x, y] of the keyboard's cross, in picture pixels
let busy = 0;
let isPainting = false;

// ---- talking to the server ------------------------------------------------------------------

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The app does not answer. Is it still running in its terminal?");
  }
  if (answer.ok) return answer;
  let words = `The app answered ${answer.status}.`;
  try { words = (await answer.json()).error || words; } catch { /* no JSON: the number must do */ }
  const error = new Error(words);
  error.status = answer.status;
  throw error;
}

function post(path, values) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(values || {}),
  });
}

/** Sends a file and tells how far it is, which fetch cannot. */
function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/pictures");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-File-Name", encodeURIComponent(file.name));
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onload = () => {
      const said = request.response || {};
      if (request.status === 201) resolve(said);
      else reject(new Error(said.error || `The app answered ${request.status}.`));
    };
    request.onerror = () => reject(new Error("The app did not take the picture. Is it still running in its terminal?"));
    request.send(file);
  });
}

async function working(words, work) {
  busy++;
  $("busy-text").textContent = words;
  $("busy").hidden = false;
  document.body.setAttribute("aria-busy", "true");
  refreshControls();
  try {
    return await work();
  } catch (error) {
    showError(error.message);
    if (error.status === 404) closeView();
    return null;
  } finally {
    if (--busy === 0) {
      $("busy").hidden = true;
      document.body.removeAttribute("aria-busy");
    }
    refreshControls();
  }
}

function showError(words) {
  $("error-text").textContent = words;
  $("error").hidden = false;
}

function clearError() {
  $("error").hidden = true;
}

// ---- a picture comes and goes ---------------------------------------------------------------

/** Whether something new may begin, and in words why not: a picture that is dropped must not just vanish. */
function mayBegin() {
  if (busy) showError("The app is still at work. Wait until it has finished, then try again.");
  else clearError();
  return !busy;
}

function open(file) {
  if (!mayBegin()) return;
  if (file.size === 0) return showError(`Picture must not be empty, got 0 bytes (${file.name}). Choose another file.`);
  if (model && file.size > model.largest_upload) {
    return showError(`Picture must have at most ${megabytes(model.largest_upload)}, got ${megabytes(file.size)} (${file.name}). `
      + "Start the app with a larger --max-upload, or mask the file with: autosam map.");
  }
  working("Sending …", async () => {
    const before = state && state.id;
    const found = await send(file, (share) => {
      $("busy-text").textContent = share < 1 ? `Sending … ${Math.round(100 * share)} %` : "Masking …";
    });
    if (before) post(`/api/pictures/${before}/close`).catch(() => {});
    await show(found);
  });
}

function openExample() {
  if (!mayBegin()) return;
  working("Masking …", async () => show(await (await post("/api/example")).json()));
}

async function show(found) {
  const shot = await ask(`/api/pictures/${found.id}/screen.png`);
  const bitmap = await createImageBitmap(await shot.blob());
  state = found;
  sessionStorage.setItem(KEPT, state.id);
  for (const id of ["picture", "mask"]) {
    $(id).width = bitmap.width;
    $(id).height = bitmap.height;
  }
  $("picture").getContext("2d").drawImage(bitmap, 0, 0);
  await fetchLevels();
  cross = null;
  document.body.dataset.state = "shown";
  $("drop").hidden = true;
  $("view").hidden = $("panel").hidden = false;
  $("threshold").value = model.threshold;
  $("hide").checked = false;
  describePicture();
  describeClicks();
  const preferred = state.more_by_tiles && (state.is_shrunk || !state.fits_from_screen) ? "tiles" : "screen";
  document.querySelector(`input[name="of"][value="${preferred}"]`).checked = true;
  fit();
  refresh();
  followTiles();
}

async function fetchLevels() {
  const answer = await ask(`/api/pictures/${state.id}/levels`);
  levels = new Uint16Array(await answer.arrayBuffer());
}

function closeView() {
  if (state) post(`/api/pictures/${state.id}/close`).catch(() => {});
  sessionStorage.removeItem(KEPT);
  state = levels = null;
  document.body.dataset.state = "empty";
  $("drop").hidden = false;
  $("view").hidden = $("panel").hidden = true;
  $("choose").focus();
}

async function begin() {
  await working("Waking the model …", async () => {
    model = await (await ask("/api/model")).json();
    $("model-line").textContent = `${model.name} · ${model.method} on ${model.device}`;
    $("limit").textContent = megabytes(model.largest_upload);
    list($("limits"), model.limits.map(plain));
    $("card-limits").hidden = !model.limits.length;
    $("threshold-own").textContent = `Back to the model's own: ${threeDigits(model.threshold)}`;
  });
  const kept = sessionStorage.getItem(KEPT);
  if (!model || !kept) return;
  try {
    await show(await (await ask(`/api/pictures/${kept}`)).json());
  } catch {
    sessionStorage.removeItem(KEPT);  // the app was started anew: there is nothing to show
  }
}

// ---- words ----------------------------------------------------------------------------------

function describePicture() {
  const [height, width] = state.size, [rows, columns] = state.screen;
  $("name").textContent = state.name;
  $("place").textContent = `${width} × ${height} pixels. ${state.place}`;
  const shrunk = `Large: shown and masked here at ${columns} × ${rows}, shrunk. For all its detail make the mask by tiles below.`;
  list($("notes"), [...(state.is_shrunk ? [shrunk] : []), ...state.notes.map((note) => `Read with: ${note}.`)]);
  $("of").hidden = !state.more_by_tiles;
  $("of-screen").textContent = (state.is_shrunk ? `Seen at ${columns} × ${rows}, drawn at the picture's own size. ` : "") + "Your clicks count.";
  $("of-tiles").textContent = "The model looks at every part at its own pixels. Slower; your clicks do not count.";
  document.querySelector('input[name="of"][value="screen"]').disabled = !state.fits_from_screen;
  $("get-said").textContent = state.has_georeference ? "" : "A GeoTIFF needs a georeference, which this file has not. Polygons are in pixels.";
}

function describeClicks() {
  $("clicks-controls").disabled = !model.takes_clicks;
  const words = model.takes_clicks
    ? model.of_clicks.map((one) => `The model's card: “${plain(one)}”`)
    : [`This model (${model.method}) has no SAM behind it: its masks cannot be corrected by clicks.`];
  $("clicks-said").replaceChildren(...words.map((one) => item(one, "warning")));
  $("clicks-said").hidden = !words.length;
  $("keys-short").hidden = !model.takes_clicks;
  $("marks").classList.toggle("inert", !model.takes_clicks);
}

function describeMask(found) {
  const presence = state.presence;
  let words;
  if (!found.known) words = "This picture has no data at all.";
  else if (found.water) words = `Water: ${percent(found.share)} of the picture`;
  else if (presence !== null && presence < 0.5) words = `No river seen: presence ${presence.toFixed(2)}`;
  else words = `No water at a threshold of ${threeDigits(threshold())}`;
  $("share").textContent = words;
  $("said").replaceChildren(...state.said.map(({ kind, text }) => item(text, kind)));
}

function list(where, lines) {
  where.replaceChildren(...lines.map((line) => item(line)));
  where.hidden = !lines.length;
}

function item(text, kind) {
  const line = document.createElement("li");
  const words = document.createElement("span");
  words.textContent = text;
  if (kind) line.className = kind;
  line.append(words);
  return line;
}

const plain = (text) => text.replaceAll("`", "").replaceAll("**", "");
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;
const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${Math.round(bytes / 1e6)} MB`);
const threeDigits = (value) => Number(value).toFixed(2);

// ---- what is shown --------------------------------------------------------------------------

/** The slider at rest on the model's own threshold means exactly that one, beyond its two digits. */
function threshold() {
  const value = Number($("threshold").value);
  return Math.abs(value - model.threshold) < 0.00501 ? model.threshold : value;
}

/** Paint once for each frame, however often the slider moves. */
function refresh() {
  if (isPainting || !state) return;
  isPainting = true;
  requestAnimationFrame(() => {
    isPainting = false;
    if (!state) return;
    paintMask($("mask"), levels, {
      threshold: threshold(),
      opacity: Number($("opacity").value) / 100,
      hatch: $("hatch").checked,
      outline: $("outline").checked,
    });
    $("mask").hidden = $("hide").checked;
    const found = countWater(levels, threshold());
    describeMask(found);
    $("marks").setAttribute("aria-label", `Picture, ${percent(found.share)} water. Arrow keys move the cross, Enter clicks.`);
    $("threshold-out").textContent = threeDigits(threshold());
    $("threshold-own").hidden = threshold() === model.threshold;
    $("opacity-out").textContent = `${$("opacity").value} %`;
    $("legend-nodata").hidden = found.known === levels.length;
    for (const line of document.querySelectorAll(".legend-clicks")) line.hidden = !state.clicks.length;
    describeTiles();
    paintMarksNow();
    refreshControls();
    document.body.dataset.painted = threeDigits(threshold());
  });
}

function refreshControls() {
  if (!state) return;
  const count = state.clicks.length;
  $("undo").disabled = $("reset").disabled = busy > 0 || !count;
  $("clicks-count").textContent = count ? `${count} click${count > 1 ? "s" : ""}` : "no clicks yet";
  const waits = chosen("of") === "tiles" && (!state.detail || state.detail.state !== "done");
  for (const button of document.querySelectorAll("[data-kind]")) {
    button.disabled = busy > 0 || waits || (button.dataset.kind === "mask.tif" && !state.has_georeference);
  }
}

/** As large as the window allows, in the picture's own proportions. */
function fit() {
  if (!state) return;
  const [height, width] = state.screen;
  const room = $("view").clientWidth, tall = Math.max(260, window.innerHeight * 0.8);
  const shown = Math.min(room, (tall * width) / height);
  $("sheet").style.width = `${shown}px`;
  $("sheet").style.height = `${(shown * height) / width}px`;
  const marks = $("marks"), fine = window.devicePixelRatio || 1;
  marks.width = Math.max(1, Math.round(shown * fine));
  marks.height = Math.max(1, Math.round(((shown * height) / width) * fine));
  paintMarksNow();
}

function paintMarksNow() {
  if (!state) return;
  const width = state.screen[1];
  const isFocused = document.activeElement === $("marks") && cross;
  paintMarks($("marks"), state.clicks, isFocused ? cross : null, { width, scale: $("marks").clientWidth / width });
}

// ---- clicks ---------------------------------------------------------------------------------

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

let clicking = Promise.resolve();

/** Clicks wait for each other; those on a picture that is gone go with it. */
function click(x, y, isOther) {
  if (!state || !model.takes_clicks) return;
  const id = state.id, label = Number(chosen("label"));
  clicking = clicking.then(() => correct(id, { x, y, label: isOther ? 1 - label : label }));
}

async function correct(id, values) {
  if (busy || !state || state.id !== id) return;
  clearError();
  await change("clicks", values, "Correcting …");
}

async function change(what, values, words) {
  await working(words, async () => {
    const id = state.id;
    const found = await (await post(`/api/pictures/${id}/${what}`, values)).json();
    if (!state || state.id !== id) return;
    state = found;
    await fetchLevels();
    refresh();
  });
}

function placeOf(event) {
  const box = $("marks").getBoundingClientRect(), [height, width] = state.screen;
  const x = ((event.clientX - box.left) / box.width) * width - 0.5;
  const y = ((event.clientY - box.top) / box.height) * height - 0.5;
  return [Math.min(width - 1, Math.max(0, x)), Math.min(height - 1, Math.max(0, y))];
}

function moveCross(key, isFine) {
  const [height, width] = state.screen;
  const step = isFine ? 1 : Math.max(1, Math.round(Math.max(height, width) / 60));
  cross = cross || [(width - 1) / 2, (height - 1) / 2];
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  cross = [
    Math.min(width - 1, Math.max(0, cross[0] + dx * step)),
    Math.min(height - 1, Math.max(0, cross[1] + dy * step)),
  ];
  paintMarksNow();
}

// ---- the mask by tiles ----------------------------------------------------------------------

function describeTiles() {
  const detail = state.detail, wanted = chosen("of") === "tiles";
  $("tiles").hidden = !wanted;
  if (!wanted) return;
  const isRunning = detail && detail.state === "running";
  const isStale = detail && detail.state === "done" && Math.abs(detail.threshold - threshold()) > 1e-9;
  $("tiles-make").hidden = Boolean(isRunning || (detail && detail.state === "done" && !isStale));
  $("tiles-make").textContent = isStale ? `Make it anew at ${threeDigits(threshold())}` : "Make the mask by tiles";
  $("tiles-bar").hidden = !isRunning;
  let words = "";
  if (isRunning && detail.tiles === null) words = "Looking at the picture …";
  else if (isRunning) {
    $("tiles-bar").value = detail.tiles ? detail.tiles_done / detail.tiles : 0;
    words = `${detail.tiles_done} of ${detail.tiles} tiles, about ${seconds(detail.seconds)} in all. You may go on working.`;
  } else if (detail && detail.state === "failed") words = `It failed: ${detail.error}`;
  else if (!detail) words = "Downloads wait for it.";
  else words = [`Ready: ${detail.tiles} tiles at a threshold of ${threeDigits(detail.threshold)}${detail.water_share === null ? "" : `, ${percent(detail.water_share)} water`}. The picture shows the mask of the whole.`, ...detail.notes.map((note) => `${note}.`)].join(" ");
  $("tiles-said").textContent = words;
}

const seconds = (count) => (count < 90 ? `${Math.max(1, Math.round(count))} s` : `${Math.round(count / 60)} min`);

async function makeTiles() {
  clearError();
  await working("Beginning …", async () => {
    state = await (await post(`/api/pictures/${state.id}/detail`, { threshold: threshold() })).json();
  });
  refresh();
  followTiles();
}

async function followTiles() {
  const id = state && state.id;
  while (state && state.id === id && state.detail && state.detail.state === "running") {
    await new Promise((later) => setTimeout(later, 500));
    let found;
    try { found = await (await ask(`/api/pictures/${id}`)).json(); } catch (error) {
      if (state && state.id === id) showError(error.message);
      return;
    }
    if (!state || state.id !== id) return;
    state.detail = found.detail;
    describeTiles();
    refreshControls();
  }
}

async function takeHome(kind) {
  clearError();
  await working("Writing …", async () => {
    const query = new URLSearchParams({ threshold: String(threshold()), of: chosen("of") });
    const answer = await ask(`/api/pictures/${state.id}/files/${kind}?${query}`);
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = name ? name[1] : kind;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

// ---- hands on -------------------------------------------------------------------------------

$("choose").addEventListener("click", () => $("file").click());
$("another").addEventListener("click", () => $("file").click());
$("example").addEventListener("click", openExample);
$("file").addEventListener("change", () => {
  if ($("file").files.length) open($("file").files[0]);
  $("file").value = "";
});
$("error-close").addEventListener("click", clearError);
for (const id of ["threshold", "opacity", "hatch", "outline", "hide"]) $(id).addEventListener("input", refresh);
$("threshold-own").addEventListener("click", () => { $("threshold").value = model.threshold; refresh(); });
$("undo").addEventListener("click", () => change("undo", {}, "Going back …"));
$("reset").addEventListener("click", () => change("reset", {}, "Going back …"));
$("tiles-make").addEventListener("click", makeTiles);
for (const radio of document.querySelectorAll('input[name="of"]')) radio.addEventListener("change", refresh);
for (const button of document.querySelectorAll("[data-kind]")) button.addEventListener("click", () => takeHome(button.dataset.kind));

$("marks").addEventListener("click", (event) => click(...placeOf(event), event.shiftKey));
$("marks").addEventListener("contextmenu", (event) => { event.preventDefault(); click(...placeOf(event), true); });
$("marks").addEventListener("focus", paintMarksNow);
$("marks").addEventListener("blur", paintMarksNow);
$("marks").addEventListener("keydown", (event) => {
  if (event.key.startsWith("Arrow")) {
    moveCross(event.key, event.ctrlKey || event.metaKey);
  } else if (event.key === "Enter" || event.key === " ") {
    if (cross) click(cross[0], cross[1], event.shiftKey);
    else moveCross("ArrowRight", true);
  } else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (!state || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "w" || key === "l") document.querySelector(`input[name="label"][value="${key === "w" ? 1 : 0}"]`).checked = true;
  else if (key === "u" && !$("undo").disabled) $("undo").click();
  else if (key === "o") { $("hide").checked = !$("hide").checked; refresh(); }
  else if (key === "-" || key === "+") {
    $("threshold").value = Number($("threshold").value) + (key === "+" ? 0.01 : -0.01);
    refresh();
  } else if (key === "escape") clearError();
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const files = event.dataTransfer.files;
  if (files.length > 1) showError("One picture at a time, please. For a folder: autosam predict PICTURES/ -o MASKS/ --preview.");
  else if (files.length) open(files[0]);
});
window.addEventListener("resize", fit);

begin();
