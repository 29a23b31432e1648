// Owns the way to npm's standardwebhooks: signs or verifies what comes on standard input as JSON. It must not know
// Hookfast.
"use strict";

const fs = require("node:fs");
const { Webhook } = require("standardwebhooks");

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const webhook = new Webhook(given.secret);

if (process.argv[2] === "sign") {
  process.stdout.write(webhook.sign(given.id, new Date(given.seconds * 1000), given.body));
} else {
  try {
    webhook.verify(given.body, given.headers);
    process.stdout.write("valid");
  } catch (error) {
    process.stdout.write(error.message);
  }
}
