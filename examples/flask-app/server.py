"""A Flask application that receives webhooks, written as people write them: it checks the signature, then does its
slow work inside the request, and sometimes fails. It must not know that Hookfast is in front of it, but for the
secret that Hookfast signs with."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter

from flask import Flask, jsonify, request
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

PORT = int(os.environ.get("PORT", "3000"))
SECRET = os.environ.get("WEBHOOK_SECRET")
EFFECTS_FILE = os.environ.get("EFFECTS_FILE", "effects.jsonl")
# What may go wrong, to see what Hookfast makes of it:
DELAY_MS = int(os.environ.get("DELAY_MS", "0"))  # each webhook takes this long
FAIL_RATE = float(os.environ.get("FAIL_RATE", "0"))  # this share of them fails (0 to 1)
FAIL_STATUS = int(os.environ.get("FAIL_STATUS", "502"))  # with this status
CRASH_AT = int(os.environ.get("CRASH_AT", "0"))  # from the n-th webhook on it dies at one, its work done, unanswered

if not SECRET:
    sys.exit("set WEBHOOK_SECRET to the secret of the destination in Hookfast (whsec_…)")

app = Flask(__name__)
webhook = Webhook(SECRET)
lock = threading.Lock()
deliveries = Counter()  # how often each webhook id came since the start
# What was done, by webhook id. The file is the truth, so that a repeat after a crash is known too. A real
# application writes the id in the same transaction as its work.
effects = Counter()
if os.path.exists(EFFECTS_FILE):
    with open(EFFECTS_FILE, encoding="utf-8") as lines:
        effects.update(json.loads(line)["id"] for line in lines)


def work(webhook_id, event):
    if effects[webhook_id]:
        return  # a repeat: at-least-once delivery means that it will come
    with open(EFFECTS_FILE, "a", encoding="utf-8") as lines:
        lines.write(json.dumps({"id": webhook_id, "type": event["type"]}) + "\n")
    effects[webhook_id] = 1


@app.post("/webhooks/nylas")
def take_webhook():
    body = request.get_data()  # the signature is over the raw bytes
    try:
        event = webhook.verify(body, dict(request.headers))
    except WebhookVerificationError as error:
        return str(error), 401
    webhook_id = request.headers["webhook-id"]
    with lock:
        deliveries[webhook_id] += 1
        number = sum(deliveries.values())

    time.sleep(DELAY_MS / 1000)
    if random.random() < FAIL_RATE:
        return "out of luck", FAIL_STATUS
    with lock:
        work(webhook_id, event)
    if CRASH_AT and number >= CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)
    return "ok"


# How often each webhook took effect (never more than once), and how often it came.
@app.get("/effects")
def show_effects():
    return jsonify({key: count for key, count in effects.items() if count})


@app.get("/deliveries")
def show_deliveries():
    return jsonify(deliveries)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=PORT, threaded=True)
