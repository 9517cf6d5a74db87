// A receiver of webhooks with https: `node receiver.mjs <module with verified()> <PEM file> <secret>`.
// It prints its port, then a line of JSON for each request: what the module and the library of Standard Webhooks say.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , path, file, secret] = process.argv;
const { verified } = await import(pathToFileURL(path).href);
const { Webhook } = createRequire(new URL("../../examples/node/", import.meta.url))("standardwebhooks");
const webhook = new Webhook(secret);
const pem = readFileSync(file);

function outcome(verify) {
  try {
    return { event: verify() };
  } catch (error) {
    return { error: error.message };
  }
}

const server = createServer({ key: pem, cert: pem }, async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const by = {
    document: outcome(() => verified(body, request.headers, secret)),
    library: outcome(() => webhook.verify(body, request.headers)),
  };
  response.writeHead(by.document.event ? 204 : 400).end();
  console.log(JSON.stringify({ headers: request.headers, body: body.toString("base64"), ...by }));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
