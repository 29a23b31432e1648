// Owns an Express application that receives webhooks, written as people write them: it checks the signature, then
// does its slow work inside the request, and sometimes fails. It must not know that Hookfast is in front of it, but
// for the secret that Hookfast signs with.
"use strict";

const fs = require("node:fs");
const express = require("express");
const { Webhook } = require("standardwebhooks");

const port = Number(process.env.PORT || 3000);
const secret = process.env.WEBHOOK_SECRET;
const effectsFile = process.env.EFFECTS_FILE || "effects.jsonl";
// What may go wrong, to see what Hookfast makes of it:
const delayMs = Number(process.env.DELAY_MS || 0); // each webhook takes this long
const failRate = Number(process.env.FAIL_RATE || 0); // this share of them fails (0 to 1)
const failStatus = Number(process.env.FAIL_STATUS || 502); // with this status
const crashAt = Number(process.env.CRASH_AT || 0); // from the n-th webhook on it dies at one, its work done, unanswered

if (!secret) {
  console.error("set WEBHOOK_SECRET to the secret of the destination in Hookfast (whsec_…)");
  process.exit(2);
}

const webhook = new Webhook(secret);
const deliveries = {}; // how often each webhook id came since the start
let received = 0;

// What was done, by webhook id. The file is the truth, so that a repeat after a crash is known too. A real
// application writes the id in the same transaction as its work.
const effects = {};
if (fs.existsSync(effectsFile)) {
  for (const line of fs.readFileSync(effectsFile, "utf8").split("\n").filter(Boolean)) {
    const { id } = JSON.parse(line);
    effects[id] = (effects[id] || 0) + 1;
  }
}

function work(id, event) {
  if (effects[id]) {
    return; // a repeat: at-least-once delivery means that it will come
  }
  fs.appendFileSync(effectsFile, JSON.stringify({ id, type: event.type }) + "\n");
  effects[id] = 1;
}

const app = express();

// The signature is over the raw bytes, so the body must not be parsed before it is checked.
app.post("/webhooks/nylas", express.raw({ type: () => true, limit: "10mb" }), async (request, response) => {
  let event;
  try {
    event = webhook.verify(request.body, request.headers);
  } catch (error) {
    response.status(401).send(error.message);
    return;
  }
  const id = request.get("webhook-id");
  deliveries[id] = (deliveries[id] || 0) + 1;
  received += 1;
  const number = received;

  await new Promise((resolve) => setTimeout(resolve, delayMs));
  if (Math.random() < failRate) {
    response.status(failStatus).send("out of luck");
    return;
  }
  work(id, event);
  if (crashAt && number >= crashAt) {
    process.kill(process.pid, "SIGKILL");
    return;
  }
  response.status(200).send("ok");
});

// How often each webhook took effect (never more than once), and how often it came.
app.get("/effects", (request, response) => response.json(effects));
app.get("/deliveries", (request, response) => response.json(deliveries));

app.listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${port}`));
