// Checks resources of KEDA, a JSON list on stdin, by its published schemas; prints what is wrong and exits with 1.
import { readFileSync } from "node:fs";

const resources = JSON.parse(readFileSync(0, "utf8"));
let status = 0;
for (const resource of resources) {
  const models = await import(`@kubernetes-models/keda/${resource.apiVersion}`);
  try {
    new models[resource.kind](resource).validate();
  } catch (error) {
    status = 1;
    console.log(`${resource.kind} ${resource.metadata.name}: ${error.message}`);
  }
}
process.exit(status);
