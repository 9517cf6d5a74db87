// Orders a picture by RabbitMQ, and waits for the confirm.
//
//   BUS_URL=amqp://guest:guest@127.0.0.1/ node publish.mjs ada "a lighthouse"
import { randomUUID } from "node:crypto";

import amqp from "amqplib";

const [owner, prompt] = process.argv.slice(2);
const connection = await amqp.connect(process.env.BUS_URL);
const channel = await connection.createConfirmChannel();

const id = randomUUID(); // the id of the image: the same command twice makes one image
const command = {
  specversion: "1.0",
  id,
  source: "newsletter",
  type: "image.generate",
  time: new Date().toISOString(),
  owner,
  data: { prompt, width: 256, height: 256 },
};
let returned = false;
channel.on("return", () => {
  returned = true;
});
channel.publish("image.commands", "generate", Buffer.from(JSON.stringify(command)), {
  contentType: "application/cloudevents+json",
  messageId: id,
  type: command.type,
  appId: command.source,
  persistent: true,
  mandatory: true,
});
await channel.waitForConfirms();
await connection.close();
if (returned) throw new Error("no queue takes orders: is Darkroom running?");
console.log(id);
