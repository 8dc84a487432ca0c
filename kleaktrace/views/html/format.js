// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers as people read them: as kleaktrace/views/terminal/units.py writes them.

/** Bytes: 129 B, 4.0 KiB, 1.2 MiB. */
function sizeWords(bytes) {
  let rest = bytes;
  if (Math.round(rest) < 1024) return `${Math.round(rest)} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    rest /= 1024;
    if (Math.round(rest * 10) / 10 < 1024) return `${rest.toFixed(1)} ${unit}`;
  }
  return `${(rest / 1024).toFixed(1)} TiB`;
}

/** 1204 → 1,204. */
function countWords(number) {
  return Math.round(number).toLocaleString("en-US");
}

/** Events per second: 0, 3.2, 12.5k. */
function rateWords(perSecond) {
  if (perSecond >= 10000) return `${(perSecond / 1000).toFixed(1)}k`;
  if (perSecond >= 100) return perSecond.toFixed(0);
  if (perSecond >= 0.05) return perSecond.toFixed(1);
  return perSecond ? perSecond.toPrecision(1) : "0";
}

/** A stretch of time: 20 µs, 3 ms, 1.2 s, 4 min 10 s, 2 h 5 min. */
function timeWords(seconds) {
  if (seconds <= 0) return "0 s";
  if (seconds < 1e-6) return `${Math.max(Math.round(seconds * 1e9), 1)} ns`;
  if (seconds < 0.0005) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 119.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A share as people say it: 100 %, 12 %, 0.4 %. */
function shareWords(share) {
  const percent = share * 100;
  if (percent >= 9.95) return `${percent.toFixed(0)} %`;
  if (percent >= 0.01) return `${Number(percent.toPrecision(2))} %`;
  return percent ? "below 0.01 %" : "0 %";
}

/** A number of things: 1 object, 1,204 objects. */
function plural(number, noun) {
  return `${countWords(number)} ${noun}${number === 1 ? "" : "s"}`;
}
