// The client of the REST api: one function for each call, problems as errors, the token if identity is set up.
// This module does not know the page. `Unreachable`: no answer came. `Problem`: the answer is one (RFC 9457).

import * as clock from "./clock.js";
import { recall, remember } from "./memory.js";

const TOKEN = "darkroom.token";
const PATIENCE_MS = 30_000; // no call here waits for a picture
const BUSY = new Set([502, 503, 504]); // from the api, or from a proxy that does not reach it

export class Unreachable extends Error {}

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.code ?? "unknown";
    this.fields = body?.fields ?? {};
    this.images = body?.images ?? (body?.image ? [body.image] : []); // of a request that ended without a picture
    this.retryAfterS = Number(retryAfter) || null;
  }

  get isPassing() {
    return BUSY.has(this.status);
  }
}

export const identity = {
  token: recall(sessionStorage, TOKEN),
  onRefused: () => {},
  use(token) {
    this.token = token;
    remember(sessionStorage, TOKEN, token);
  },
};

/** Relative to the page: a proxy may serve Darkroom below a path of its own. */
export const addressOf = (path) => new URL(path, document.baseURI);

export async function call(method, path, { body, headers, keepalive = false } = {}) {
  const sent = { ...headers };
  if (body) sent["Content-Type"] = "application/json";
  if (identity.token) sent.Authorization = `Bearer ${identity.token}`;
  let response, content;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    response = await fetch(addressOf(path), {
      method,
      headers: sent,
      body: body && JSON.stringify(body),
      keepalive,
      signal,
    });
    clock.compare(response.headers.get("Date"));
    const isJson = response.headers.get("Content-Type")?.includes("json");
    content = isJson ? await response.json() : null;
  } catch (error) {
    throw new Unreachable(`no answer to ${method} ${path}: ${error.message}`);
  }
  if (response.ok) return content;
  if (response.status === 401) identity.onRefused();
  throw new Problem(response.status, content, response.headers.get("Retry-After"));
}

export const offers = () => call("GET", "api/models/");
export const limits = () => call("GET", "api/limits/");

/** Answers at once with the queued images. The same key twice makes them once. */
export async function order(request, key) {
  const headers = { Prefer: "respond-async", "Idempotency-Key": key };
  const answer = await call("POST", "v1/images/generations", { body: request, headers });
  return answer.images ?? [answer];
}

export function history(perPage, cursor, filter = {}) {
  const set = Object.entries({ cursor, ...filter }).filter(([, value]) => value);
  const query = new URLSearchParams({ perPage, ...Object.fromEntries(set) });
  return call("GET", `api/images/history/?${query}`);
}

export const image = (id) => call("GET", `api/images/${id}/`);
export const cancel = (id) => call("POST", `api/images/${id}/cancel/`);
export const cancelBatch = (id) => call("POST", `api/images/${id}/cancel/?batch=true`);
export const pin = (id, pinned) => call("PATCH", `api/images/${id}/`, { body: { pinned } });
export const shares = (id) => call("GET", `api/images/${id}/shares/`);
export const share = (id, expiresIn, showPrompt) =>
  call("POST", `api/images/${id}/shares/`, { body: { expiresIn, showPrompt } });
export const unshare = (id, link) => call("DELETE", `api/images/${id}/shares/${link}/`);
/** The URL of a zip file with these pictures. */
export const archive = (ids) => call("POST", "api/archives/", { body: { ids } });
export const remove = (id, options) => call("DELETE", `api/images/${id}/`, options);

/** The subprotocols of a websocket, because a browser cannot send a header there. Empty without identity. */
export async function ticket() {
  if (!identity.token) return [];
  const { ticket } = await call("POST", "api/ws-tickets/");
  return ["darkroom.v1", `ticket.${ticket}`];
}
