// The page: what is wrong first, then the figures, the queues, the generators and what an operator can do.

import { SignIn } from "../playground/signin.js";
import { html, useLayoutEffect, useState } from "../playground/vendor/htm-preact.js";
import { DeadLetters } from "./letters.js";
import { count, duration, size, until } from "./words.js";

const STALE_S = 60; // janitors gather the figures every 15 s
const OLD_S = 600; // a command that waits so long is an alert too, and so is a purge that is late by an hour
const LATE_S = 3600;
const SOON_S = 90; // a purge that is due begins within this time

export function Page({ reader }) {
  const [, draw] = useState(0);
  useLayoutEffect(() => reader.subscribe(() => draw((times) => times + 1)), [reader]);
  const { status, error } = reader;
  return html`
    <header class="top">
      <h1><span class="dot ${mood(reader)}" aria-hidden="true"></span>Darkroom status</h1>
      <nav>
        <a href=".">Playground</a>
        <a href="docs">API</a>
        ${reader.isSignedIn && html`<button class="quiet" onClick=${() => reader.signOut()}>Sign out</button>`}
      </nav>
    </header>
    <main>
      ${error && html`<p class="message alarm" role="alert">${problemText(error)}</p>`}
      ${
        status
          ? html`<${Trouble} status=${status} /><${Tiles} status=${status} />
              <div class="columns">
                <div class="stack"><${Pools} status=${status} /><${Generators} status=${status} /></div>
                <${Queues} status=${status} />
              </div>
              <${DeadLetters} reader=${reader} />
              <div class="columns"><${Failures} status=${status} /><${Upkeep} reader=${reader} /></div>
              <p class="foot">
                Version ${status.version}.
                ${status.age === null ? "" : ` Figures of queues and records are ${duration(status.age)} old.`} The page reads
                again every 3 seconds.
              </p>`
          : !error && !reader.needsToken && html`<p class="message">Reading the status …</p>`
      }
    </main>
    ${reader.needsToken && html`<${SignIn} session=${reader} />`}
  `;
}

function mood({ status, error }) {
  if (error) return "bad";
  if (!status) return "idle";
  return troubles(status)[0]?.[0] ?? "good";
}

function problemText(error) {
  if (error.code === "not_operator") return `You may not see this: ${error.message}.`;
  return `The status cannot be read: ${error.message}. It is tried again.`;
}

/** What an operator should look at, worst first: pairs of a kind and a text. */
function troubles(status) {
  const found = status.parts.flatMap(({ name, ready, reason, warning }) => [
    ...(ready ? [] : [["bad", reason.startsWith(name) ? reason : `${name}: ${reason}`]]),
    ...(warning ? [["warn", `${name}: ${warning}`]] : []),
  ]);
  // without the store nothing is known of generators and figures
  if (isKnown(status)) found.push(...figureTroubles(status), ...fleetTroubles(status));
  return found.sort(([one], [other]) => one.localeCompare(other));
}

const isKnown = (status) => status.age !== null || status.parts.every(({ name, ready }) => name !== "store" || ready);

function* figureTroubles(status) {
  if (status.age === null) yield ["warn", "No janitor has gathered figures yet."];
  else if (status.age > STALE_S) yield ["bad", `The figures are ${duration(status.age)} old: is a janitor running?`];
  for (const { name, oldestAge } of status.queues)
    if (oldestAge > OLD_S) yield ["warn", `Queue ${name}: the oldest command has waited for ${duration(oldestAge)}.`];
  if (status.deadLetters)
    yield ["warn", status.deadLetters === 1 ? "1 dead letter." : `${count(status.deadLetters)} dead letters.`];
  if (lateness(status) > LATE_S)
    yield ["warn", `No purge has succeeded; the next is ${duration(lateness(status))} late.`];
}

const lateness = ({ nextPurge, time }) => (nextPurge ? (Date.parse(time) - Date.parse(nextPurge)) / 1000 : 0);

function* fleetTroubles(status) {
  const lacking = status.pools.some((pool) => pool.ownersWithoutGenerator);
  if (!status.generators.length && !lacking) yield ["bad", "No generator is running: images wait."];
  for (const { pool, backends } of status.generators)
    for (const { name, circuit } of backends)
      if (circuit === "open") yield ["bad", `Pool ${pool}: the back end ${name ?? "of a generator"} is down.`];
  for (const { name, queued, generators, ownersWithoutGenerator } of status.pools)
    if (ownersWithoutGenerator) yield ["bad", `Pool ${name} has no generator: ${waiting(ownersWithoutGenerator)}.`];
    else if (queued && !generators && status.generators.length)
      yield ["bad", `Pool ${name}: ${count(queued)} images are queued and no generator is running.`];
}

const waiting = (owners) => (owners === 1 ? "images of one owner wait" : `images of ${count(owners)} owners wait`);

function Trouble({ status }) {
  const found = troubles(status);
  return html`
    <section aria-label="Health">
      ${
        found.length
          ? html`<ul class="troubles">
              ${found.map(([kind, text]) => html`<li class=${kind}>${text}</li>`)}
            </ul>`
          : html`<p class="message fine">Everything works.</p>`
      }
      <ul class="health">
        ${status.parts.map(
          ({ name, ready }) => html`
            <li><span class="dot ${ready ? "good" : "bad"}" aria-hidden="true"></span>${name} ${ready ? "ready" : "down"}</li>
          `,
        )}
      </ul>
    </section>
  `;
}

function Tiles({ status }) {
  const sum = (field) => (status.age === null ? null : status.pools.reduce((total, pool) => total + pool[field], 0));
  const { storage } = status;
  return html`
    <section class="tiles" aria-label="Figures">
      <${Tile} name="Pictures a minute" value=${status.picturesPerMinute.toFixed(1)}>
        <${Bars} values=${status.pictures} />
      <//>
      <${Tile} name="Running" value=${count(sum("running"))} note="images in work" />
      <${Tile} name="Queued" value=${count(sum("queued"))} note="sent to a pool" />
      <${Tile} name="Waiting" value=${count(status.linedUp)} note="for their turn" />
      <${Tile} name="Storage" value=${storage ? size(storage.bytes) : "–"}
        note=${storage ? `${count(storage.files)} files, ${duration(storage.age)} ago` : "not counted"} />
      <${Tile} name="Next purge" value=${status.age === null ? "–" : until(status.nextPurge, status.time)}
        note=${lateness(status) > SOON_S && `by ${duration(lateness(status))}`} />
    </section>
  `;
}

const Tile = ({ name, value, note, children }) => html`
  <div class="tile">
    <h2>${name}</h2>
    <p class="figure">${value}</p>
    ${note && html`<p class="note">${note}</p>`} ${children}
  </div>
`;

/** The last ten minutes as bars. */
function Bars({ values }) {
  const most = Math.max(1, ...values);
  const bars = values.map((value, index) => {
    const height = value ? Math.max(2, (value / most) * 24) : 1;
    return html`<rect x=${index * 10} y=${24 - height} width="8" height=${height} />`;
  });
  const text = `In each of the last ten minutes: ${values.join(", ")}`;
  return html`<svg class="bars" viewBox="0 0 98 24" role="img" aria-label=${text}>${bars}</svg>`;
}

const Table = ({ name, columns, rows, empty }) => html`
  <section class="card">
    <h2>${name}</h2>
    ${
      rows.length
        ? html`<div class="scroll" tabindex="0" role="region" aria-label=${name}>
            <table>
              <thead>
                <tr>
                  ${columns.map((column, index) => html`<th scope="col" class=${index ? "number" : ""}>${column}</th>`)}
                </tr>
              </thead>
              <tbody>
                ${rows.map(
                  ([first, ...others]) => html`
                    <tr>
                      <th scope="row">${first}</th>
                      ${others.map((cell) => html`<td class="number">${cell}</td>`)}
                    </tr>
                  `,
                )}
              </tbody>
            </table>
          </div>`
        : html`<p class="note">${empty}</p>`
    }
  </section>
`;

function Pools({ status }) {
  const rows = status.pools.map((pool) => [
    pool.name,
    count(pool.generators),
    count(pool.running),
    count(pool.queued),
    count(pool.unsent),
  ]);
  const columns = ["Pool", "Generators", "Running", "Queued", "Unsent"];
  return html`<${Table} name="Pools" columns=${columns} rows=${rows} empty=${isKnown(status) ? "No pool is known yet." : "Not known."} />`;
}

function Queues({ status }) {
  const rows = status.queues.map((queue) => [queue.name, count(queue.messages), duration(queue.oldestAge)]);
  const columns = ["Queue", "Messages", "Oldest"];
  return html`<${Table} name="Queues" columns=${columns} rows=${rows} empty=${isKnown(status) ? "Not gathered yet." : "Not known."} />`;
}

function Failures({ status }) {
  const rows = Object.entries(status.failures).map(([code, number]) => [code, count(number)]);
  const columns = ["Code", "Images"];
  return html`<${Table} name="Failures of the last 10 minutes" columns=${columns} rows=${rows} empty="None." />`;
}

function Generators({ status }) {
  return html`
    <section class="card">
      <h2>Generators</h2>
      ${!status.generators.length && html`<p class="note">${isKnown(status) ? "None is running." : "Not known."}</p>`}
      <ul class="generators">
        ${status.generators.map(
          (generator) => html`
            <li>
              <p><strong>${generator.pool}</strong> <span class="note">version ${generator.version}</span></p>
              <ul>
                ${generator.backends.map(
                  ({ name, dialect, circuit, concurrency }) => html`
                    <li>
                      <span class="dot ${circuit === "open" ? "bad" : "good"}" aria-hidden="true"></span>
                      <span class="name">${name ?? "back end"}</span>
                      <span class="note">
                        ${[dialect, concurrency && `${concurrency} at once`, circuit === "open" ? "down" : "working"]
                          .filter(Boolean)
                          .join(", ")}
                      </span>
                    </li>
                  `,
                )}
              </ul>
            </li>
          `,
        )}
      </ul>
    </section>
  `;
}

function Upkeep({ reader }) {
  const { report } = reader;
  const button = (name, dryRun, text) => html`
    <button
      class="button"
      disabled=${reader.busy}
      onClick=${() => (dryRun || confirm(`${text}: this cannot be undone. Go on?`)) && reader.run(name, dryRun)}
    >
      ${text}
    </button>
  `;
  return html`
    <section class="card">
      <h2>Upkeep</h2>
      <div class="actions">
        ${button("purge", true, "Count what a purge would remove")} ${button("purge", false, "Purge now")}
        ${button("sweep", true, "Compare files and records")} ${button("sweep", false, "Sweep now")}
      </div>
      <p class="note" role="status">${reader.busy ? "Waiting for the answer …" : reader.notice}</p>
      ${report && html`<pre tabindex="0" aria-label="Report">${JSON.stringify(report, null, 2)}</pre>`}
    </section>
  `;
}
