// The values of the settings panel: defaults and stored values, the limits of the model, and the resulting request.

import { recall, remember } from "./memory.js";

const KEPT = "darkroom.settings";
const UNIT = 8; // pixels: the sides of a picture are multiples of it
const MAX_STEPS = 150;
export const MIN_SIDE = 64;
const SEEDS = 2 ** 32;
export const MAX_SIDE = 2048; // an existing picture may be larger than a request may ask for
export const RANDOM_SEED = -1;
export const MAX_SEED = SEEDS - 1;
export const MAX_CFG = 30;
export const NUMBERS = [1, 2, 4, 8]; // pictures of one request
export const MAX_PROMPT = 4000; // characters, as the api counts them

/** The api counts an emoji as one character, a JavaScript string as two. */
export const lengthOf = (text) => [...text.trim()].length;

/** Each is about a megapixel, in exactly the named ratio. */
const RATIOS = [
  ["1:1", 1024, 1024],
  ["3:4", 864, 1152],
  ["4:3", 1152, 864],
  ["9:16", 720, 1280],
  ["16:9", 1280, 720],
];

/** The defaults of the api; those of `GET /api/models/` take precedence. */
const DEFAULTS = {
  prompt: "",
  negativePrompt: "",
  model: "sdxl",
  width: 1024,
  height: 1024,
  steps: 30,
  cfgScale: 7.5,
  sampler: "Euler",
  seed: RANDOM_SEED,
  hiresFix: false,
  numImages: 1,
};
const NAMES = Object.keys(DEFAULTS);

const pick = (values) => Object.fromEntries(NAMES.filter((name) => values?.[name] != null).map((n) => [n, values[n]]));

export function initial(offers) {
  const values = { ...DEFAULTS, ...pick(offers?.defaults), ...pick(recall(localStorage, KEPT)) };
  return fitting({ ...values, numImages: NUMBERS.includes(values.numImages) ? values.numImages : 1 }, offers);
}

export const keep = (values) => remember(localStorage, KEPT, values);

export const offered = (offers, id) => offers?.models.find((model) => model.id === id);

/** The name that the choice of models shows. */
export const modelName = (offers, id) => offered(offers, id)?.name ?? id;

/** The models to choose from, each with its name. While none is known, any may be requested. */
export function models(offers, values) {
  const known = offers?.models.map(({ id, name, live }) => [id, live === false ? `${name} (not running)` : name]) ?? [];
  return known.some(([id]) => id === values.model) ? known : [[values.model, values.model], ...known];
}

export function samplers(offers, values) {
  const known = offered(offers, values.model)?.samplers ?? [];
  return known.includes(values.sampler) ? known : [values.sampler, ...known];
}

/** The nearest side that a request may ask for; null if it is no number. */
export function fittingSide(side, most, multiple) {
  if (!Number.isFinite(side)) return null;
  const [least, largest] = [Math.ceil(MIN_SIDE / multiple) * multiple, Math.floor(most / multiple) * multiple];
  return Math.min(Math.max(Math.round(side / multiple) * multiple, least), largest);
}

export const maxSteps = (model) => model?.maxSteps ?? MAX_STEPS;

/** The values, with those that the model does not support replaced. */
export function fitting(values, offers) {
  if (!offers?.known) return values; // nothing is checked then
  const model = offered(offers, values.model) ?? offers.models[0];
  const samplers = model.samplers;
  const fallback = samplers.includes(offers.defaults.sampler) ? offers.defaults.sampler : samplers[0];
  const isTooLarge = values.width > (model.maxWidth ?? MAX_SIDE) || values.height > (model.maxHeight ?? MAX_SIDE);
  const isOffGrid = values.width % unit(model) || values.height % unit(model);
  const nearest = isTooLarge || isOffGrid ? closest(sizes(model), values) : values;
  return {
    ...values,
    model: model.id,
    sampler: !samplers.length || samplers.includes(values.sampler) ? values.sampler : fallback,
    steps: Math.min(values.steps, maxSteps(model)),
    width: nearest.width,
    height: nearest.height,
  };
}

/** Sides are multiples of it: of our own unit and of the model's. */
export function unit(model) {
  let multiple = UNIT;
  while (multiple % (model?.grid ?? UNIT)) multiple += UNIT;
  return multiple;
}

/** The sizes to choose from, reduced to the limits of the model. */
export function sizes(model) {
  return RATIOS.map(([ratio, width, height]) => {
    const scale = Math.min(1, (model?.maxWidth ?? Infinity) / width, (model?.maxHeight ?? Infinity) / height);
    const fit = (side) => Math.max(1, Math.floor((side * scale) / unit(model))) * unit(model);
    return { ratio, width: fit(width), height: fit(height) };
  });
}

function closest(choices, { width, height }) {
  const distance = (choice) => Math.abs(Math.log(choice.width / choice.height / (width / height)));
  return choices.reduce((best, choice) => (distance(choice) < distance(best) ? choice : best));
}

/** The request; settings that the model does not support are left out. The seed is drawn here, so that no other
 * request has the same settings by chance. */
export function request(values, offers) {
  const model = offered(offers, values.model);
  return {
    ...values,
    prompt: values.prompt.trim(),
    negativePrompt: model?.negativePrompt === false ? "" : values.negativePrompt.trim(),
    hiresFix: model?.hiresFix === false ? false : values.hiresFix,
    seed: values.seed === RANDOM_SEED ? crypto.getRandomValues(new Uint32Array(1))[0] : values.seed,
  };
}

/** The same text for a request and for what `requestOf` makes of its images. */
export const fingerprint = (request) => JSON.stringify(NAMES.map((name) => request[name]));

/** The request that an image comes from. The seeds of a batch count up from that of its first image. */
export function requestOf(image) {
  const settings = settingsOf(image);
  const { index, count } = image.batch ?? { index: 0, count: 1 };
  return { ...settings, seed: (settings.seed - index + SEEDS) % SEEDS, numImages: count };
}

/** Requests for the same images again: one for each row of neighbours in a batch. */
export function requestsFor(images) {
  const requests = [];
  let last = null;
  for (const image of images.toSorted((one, other) => (one.batch?.index ?? 0) - (other.batch?.index ?? 0))) {
    if (last?.batch && image.batch?.id === last.batch.id && image.batch.index === last.batch.index + 1) {
      requests.at(-1).numImages += 1;
    } else requests.push({ ...settingsOf(image), numImages: 1 });
    last = image;
  }
  return requests;
}

/** Settings that come from a file, within the limits of a request; those that are impossible are left out. */
export function usable(settings) {
  const within = (value, least, most) => (value >= least && value <= most ? value : undefined);
  const side = (value) => fittingSide(value, MAX_SIDE, UNIT) ?? undefined;
  const whole = (value) => (Number.isInteger(value) ? value : undefined);
  return pick({
    ...settings,
    width: side(settings.width),
    height: side(settings.height),
    steps: within(whole(settings.steps), 1, MAX_STEPS),
    cfgScale: within(settings.cfgScale, 0, MAX_CFG),
    seed: within(whole(settings.seed), 0, MAX_SEED),
    negativePrompt: settings.negativePrompt ?? "",
  });
}

/** The settings of a picture, including its seed. */
export function settingsOf(image) {
  const { prompt, negativePrompt, modelUsed: model, width, height, parameters } = image;
  return pick({ prompt, negativePrompt, model, width, height, ...parameters });
}
