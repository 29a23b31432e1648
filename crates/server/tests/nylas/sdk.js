// Owns the way to Nylas's own client for Node: makes the calls that come on standard input as JSON, one after another,
// and prints what came of each. It must not know Hookfast. Names are the client's own on its side, and Nylas's API's on
// the side of the tests.
"use strict";

const fs = require("node:fs");
const { default: Nylas, NylasApiError } = require("nylas");

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const nylas = new Nylas({ apiKey: given.key, apiUri: given.uri, timeout: 60 });

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase());

function renamed(value, rename) {
  if (Array.isArray(value)) return value.map((item) => renamed(item, rename));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [rename(name), renamed(member, rename)]));
}

async function call({ method, id, body }) {
  const parameters = {};
  if (id !== undefined) parameters.webhookId = id;
  if (body !== undefined) parameters.requestBody = renamed(body, camel);
  try {
    const { data, requestId } = await nylas.webhooks[camel(method)](parameters);
    return { data: renamed(data, snake), request_id: requestId };
  } catch (error) {
    return {
      raised: error.constructor.name,
      own: error instanceof NylasApiError,
      type: error.type,
      status: error.statusCode,
      message: error.message,
      request_id: error.requestId,
    };
  }
}

(async () => {
  const results = [];
  for (const each of given.calls) results.push(await call(each));
  process.stdout.write(JSON.stringify(results));
})();
