"use strict";
// Draws water over the picture: tint, hatch and outline, so that colour is never alone in saying it.

const LEVELS = 65534;
const NO_DATA = 65535;
const TINT = [0, 114, 178];
const PALE = [86, 180, 233];
const EDGE = [240, 228, 66];
const INK = [20, 26, 28];

/** The lowest level that is water; the server counts alike. */
function lowestLevel(threshold) {
  return Math.ceil(threshold * LEVELS);
}

/** Share of the pixels with data that are water, and whether any pixel is without data. */
function countWater(levels, threshold) {
  const lowest = lowestLevel(threshold);
  let water = 0, known = 0;
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i];
    if (level === NO_DATA) continue;
    known++;
    if (level >= lowest) water++;
  }
  return { water, known, share: known ? water / known : 0 };
}

/** Paint the mask into a canvas of the picture's size. */
function paintMask(canvas, levels, { threshold, opacity, hatch, outline }) {
  const width = canvas.width, height = canvas.height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const out = new Uint32Array(picture.data.buffer);
  const lowest = lowestLevel(threshold);
  const alpha = Math.round(255 * opacity);
  const tint = packed(TINT, alpha);
  const pale = packed(PALE, Math.min(255, Math.round(alpha * 1.25)));
  const edge = packed(EDGE, 255), ink = packed(INK, 170);
  const grey = [packed([125, 125, 125], 255), packed([165, 165, 165], 255)];
  const thick = Math.max(1, Math.round(Math.hypot(width, height) / 900));
  const period = 8 * thick;
  const kind = kindsOf(levels, lowest);
  const stripe = Uint8Array.from({ length: period }, (_, k) => (k < 2 * thick ? 1 : 0));
  const paint = [tint, hatch ? pale : tint];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0, k = y % period; x < width; x++, i++, k = k + 1 === period ? 0 : k + 1) {
      if (kind[i] === WATER) out[i] = paint[stripe[k]];
      else if (kind[i] === UNKNOWN) out[i] = grey[k * 2 < period ? 0 : 1];
    }
  }
  if (outline) paintEdges(out, kind, width, height, { thick, edge, ink });
  context.putImageData(picture, 0, 0);
}

const LAND = 0, WATER = 1, UNKNOWN = 2;

function kindsOf(levels, lowest) {
  const kind = new Uint8Array(levels.length);
  for (let i = 0; i < levels.length; i++) {
    kind[i] = levels[i] === NO_DATA ? UNKNOWN : levels[i] >= lowest ? WATER : LAND;
  }
  return kind;
}

/** A bright line in the water along its bank and a dark one beside it, seen on snow and on shadow. */
function paintEdges(out, kind, width, height, { thick, edge, ink }) {
  const draw = (i, step, room) => {
    const [own, other] = kind[i] === WATER ? [edge, ink] : [ink, edge];
    for (let k = 0; k < thick; k++) {
      if (k <= room[0]) out[i - k * step] = own;
      if (k < room[1]) out[i + (k + 1) * step] = other;
    }
  };
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      // Where data ends is no bank: only water beside land, whose kinds add to 1, gets a line.
      if (x + 1 < width && kind[i] + kind[i + 1] === 1) draw(i, 1, [x, width - 1 - x]);
      if (y + 1 < height && kind[i] + kind[i + width] === 1) draw(i, width, [y, height - 1 - y]);
    }
  }
}

function packed([red, green, blue], alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Clicks as discs (water) and crosses (land), and the cross that the arrow keys move. */
function paintMarks(canvas, clicks, cross, { width, scale }) {
  const context = canvas.getContext("2d");
  const factor = canvas.width / width;  // the canvas has the pixels of the display, places those of the picture
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(factor, 0, 0, factor, 0, 0);
  const size = 7 / scale;
  for (const [x, y, label] of clicks) {
    const at = [x + 0.5, y + 0.5];
    if (label === 1) {
      disc(context, at, size + 2 / scale, "#1d2523");
      disc(context, at, size, "#f0e442");
    } else {
      tilted(context, at, size, 6 / scale, "#1d2523");
      tilted(context, at, size, 3 / scale, "#ffffff");
    }
  }
  if (cross) {
    for (const [colour, width] of [["#1d2523", 3.5], ["#ffffff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width / scale;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(cross[0] + 0.5 + (dx * 4) / scale, cross[1] + 0.5 + (dy * 4) / scale);
        context.lineTo(cross[0] + 0.5 + (dx * 18) / scale, cross[1] + 0.5 + (dy * 18) / scale);
      }
      context.stroke();
    }
  }
}

function disc(context, [x, y], radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function tilted(context, [x, y], size, width, colour) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(x - size, y - size);
  context.lineTo(x + size, y + size);
  context.moveTo(x + size, y - size);
  context.lineTo(x - size, y + size);
  context.stroke();
}
