// Orders a picture with a client whose types are made from /openapi.json, and writes it to a file.
//
//   export DARKROOM_URL=http://127.0.0.1:8000
//   npm ci && npm run schema && npm run build && node built/generate.js "a lighthouse" picture.png
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

const [prompt, file] = process.argv.slice(2);
const url = process.env.DARKROOM_URL ?? "http://127.0.0.1:8000";
const token = process.env.DARKROOM_TOKEN;
const client = createClient<paths>({
  baseUrl: url,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});

// The same key makes one image of a request that is sent again after a lost answer.
const headers = { "Idempotency-Key": randomUUID(), Prefer: "wait=20, respond-async" };
let image: components["schemas"]["GenerationAnswer"] | undefined;
while (image === undefined || image.status === "queued" || image.status === "running") {
  const body = { prompt, width: 256, height: 256 };
  const { data, error } = await client.POST("/v1/images/generations", { body, headers });
  if (data === undefined) throw new Error(JSON.stringify(error));
  image = data;
}

// A signed URL needs no token, and may lead to another host, which must not get it.
const picture = await fetch(new URL(image.imageUrl ?? "", url));
if (!picture.ok) throw new Error(`${picture.status}`);
await writeFile(file, Buffer.from(await picture.arrayBuffer()));
console.log(`${image.id} ${image.status} ${file}`);
