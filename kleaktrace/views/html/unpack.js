// SPDX-License-Identifier: GPL-2.0-or-later
// Unpacks what kleaktrace/views/html/packed.py has packed, and says how.

/** The header, with `columns` as arrays of numbers by name. */
async function unpack(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let place = 4 + length;
  const columns = {};
  for (const [name, count, width] of header.columns) {
    columns[name] = numbersOf(bytes.subarray(place, place + count * width), count, width);
    place += count * width;
  }
  return { ...header, columns };
}

function bytesOf(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

function numbersOf(bytes, count, width) {
  const numbers = width > 4 ? new Float64Array(count) : new Uint32Array(count);
  let unit = 1;
  for (let byte = 0; byte < width; byte++, unit *= 256) {
    const plane = bytes.subarray(byte * count, (byte + 1) * count);
    for (let i = 0; i < count; i++) numbers[i] += plane[i] * unit;
  }
  return numbers;
}

/** One row of what `differences` made of several, of `length` numbers each. */
function rowOf(packedRows, row, length) {
  const found = new Float64Array(length);
  let level = 0;
  for (let i = 0; i < length; i++) {
    const step = packedRows[row * length + i];
    level += step % 2 ? -(step + 1) / 2 : step / 2;
    found[i] = level;
  }
  return found;
}

/** Where each part begins, given how long they are, and where the last ends. */
function startsOf(lengths) {
  const starts = new Uint32Array(lengths.length + 1);
  for (let i = 0; i < lengths.length; i++) starts[i + 1] = starts[i] + lengths[i];
  return starts;
}
