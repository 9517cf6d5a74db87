// The settings in the file of a picture, as Darkroom and AUTOMATIC1111 write them; loaded when a picture is dropped.
//
//   PNG: a text chunk `parameters`    JPEG, WEBP: the user comment in EXIF
//
// A file may be anything: what is malformed has no settings. Sources: PNG 3rd edition, 11.3.3; Exif 2.32, 4.6.

const MAX_TEXT = 262_144; // bytes, unpacked
const [EXIF_DIRECTORY, USER_COMMENT] = [0x8769, 0x9286];
const NEGATIVE = "Negative prompt:";
const PAIR = /\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/g; // as A1111 reads its own last line

/** The settings of the file by the names of the form, those that it has; null if there are none. */
export async function settingsIn(file) {
  const view = new DataView(await file.arrayBuffer());
  try {
    const text = await parametersIn(view);
    return text ? settingsOf(text) : null;
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) return null; // a length beyond the end, a broken zlib
    throw error;
  }
}

/** The settings in a text of `parameters`. */
export function settingsOf(text) {
  const lines = text.replaceAll("\r\n", "\n").trimEnd().split("\n");
  const values = new Map([...lines.at(-1).matchAll(PAIR)].map(([, name, value]) => [name, unquoted(value.trim())]));
  if (!values.has("Steps")) return null;
  const body = lines.slice(0, -1);
  const marked = body.findIndex((line) => line.trim().startsWith(NEGATIVE));
  const [, own] = /^(\d+)$/.exec(values.get("Prompt lines") ?? "") ?? [];
  const at = own ? Number(own) : marked < 0 ? body.length : marked;
  const [width, height] = (/^(\d+)x(\d+)$/.exec(values.get("Size") ?? "") ?? []).slice(1).map(Number);
  const found = {
    prompt: body.slice(0, at).join("\n").trim(),
    negativePrompt: body.slice(at).join("\n").trim().replace(NEGATIVE, "").trim(),
    model: values.get("Model"),
    width,
    height,
    steps: number(values.get("Steps")),
    cfgScale: number(values.get("CFG scale")),
    sampler: values.get("Sampler"),
    seed: number(values.get("Seed")),
    hiresFix: values.has("Hires upscale") || values.get("Hires fix") === "True",
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined && value !== ""));
}

function unquoted(value) {
  if (!/^".*"$/.test(value)) return value;
  try {
    return String(JSON.parse(value));
  } catch {
    return value;
  }
}

function number(text) {
  const value = Number.parseFloat(text);
  return Number.isFinite(value) ? value : undefined;
}

async function parametersIn(view) {
  const start = ascii(view, 0, 12);
  if (start.startsWith("\x89PNG")) return ofPng(view);
  if (start.startsWith("RIFF") && start.endsWith("WEBP")) return ofWebp(view);
  return view.getUint16(0) === 0xffd8 ? ofJpeg(view) : null;
}

async function ofPng(view) {
  for (let at = 8; at + 12 <= view.byteLength; ) {
    const [length, kind] = [view.getUint32(at), ascii(view, at + 4, 4)];
    if (["tEXt", "zTXt", "iTXt"].includes(kind)) {
      const data = new Uint8Array(view.buffer, at + 8, length);
      const end = data.indexOf(0);
      if (new TextDecoder().decode(data.subarray(0, end)) === "parameters")
        return pngText(kind, data.subarray(end + 1));
    }
    at += 12 + length;
  }
  return null;
}

/** A text after its keyword. */
async function pngText(kind, data) {
  if (kind === "tEXt") return new TextDecoder("latin1").decode(data);
  if (kind === "zTXt") return new TextDecoder("latin1").decode(await unpacked(data.subarray(1)));
  const language = data.indexOf(0, 2);
  const text = data.subarray(data.indexOf(0, language + 1) + 1);
  return new TextDecoder().decode(data[0] ? await unpacked(text) : text);
}

async function unpacked(data) {
  const chunks = [];
  let size = 0;
  for await (const chunk of readable(new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")))) {
    size += chunk.length;
    if (size > MAX_TEXT) throw new RangeError("the text is too long");
    chunks.push(chunk);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Not every browser can iterate over a stream. */
async function* readable(stream) {
  const reader = stream.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function ofJpeg(view) {
  for (let at = 2; at + 4 <= view.byteLength && view.getUint8(at) === 0xff; ) {
    const [marker, length] = [view.getUint8(at + 1), view.getUint16(at + 2)];
    if (marker === 0xff)
      at += 1; // fill bytes
    else if (marker === 0xda || length < 2) return null;
    else if (marker === 0xe1 && ascii(view, at + 4, 6) === "Exif\0\0") return comment(view, at + 10, length - 8);
    else at += 2 + length;
  }
  return null;
}

function ofWebp(view) {
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const [kind, size] = [ascii(view, at, 4), view.getUint32(at + 4, true)];
    if (kind === "EXIF") {
      const before = ascii(view, at + 8, 6) === "Exif\0\0" ? 6 : 0; // some programs write it here too
      return comment(view, at + 8 + before, size - before);
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

/** The user comment in a TIFF structure. */
function comment(whole, start, length) {
  const view = new DataView(whole.buffer, start, length);
  const isLittle = ascii(view, 0, 2) === "II";
  const entry = (directory, tag) => {
    for (let n = 0; n < view.getUint16(directory, isLittle); n += 1) {
      const at = directory + 2 + 12 * n;
      if (view.getUint16(at, isLittle) === tag) return at;
    }
    return null;
  };
  const pointer = entry(view.getUint32(4, isLittle), EXIF_DIRECTORY);
  const found = pointer === null ? null : entry(view.getUint32(pointer + 8, isLittle), USER_COMMENT);
  if (found === null) return null;
  const [size, at] = [view.getUint32(found + 4, isLittle), view.getUint32(found + 8, isLittle)];
  const data = new Uint8Array(view.buffer, start + at + 8, size - 8);
  if (ascii(view, at, 7) !== "UNICODE") return new TextDecoder().decode(data);
  const zeros = (first) => data.filter((byte, index) => index % 2 === first && byte === 0).length;
  // big-endian in the files of A1111 and ours, whatever the order of the structure
  return new TextDecoder(zeros(1) > zeros(0) ? "utf-16le" : "utf-16be").decode(data);
}

function ascii(view, start, length) {
  const end = Math.max(start, Math.min(start + length, view.byteLength));
  return String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + start, end - start));
}
