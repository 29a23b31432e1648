"""The way to PyPI's standardwebhooks: signs or verifies what comes on standard input as JSON. It must not know
Hookfast."""

import json
import sys
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
webhook = Webhook(given["secret"])

if sys.argv[1] == "sign":
    at = datetime.fromtimestamp(given["seconds"], tz=timezone.utc)
    sys.stdout.write(webhook.sign(given["id"], at, given["body"]))
else:
    try:
        webhook.verify(given["body"], given["headers"])
        sys.stdout.write("valid")
    except WebhookVerificationError as error:
        sys.stdout.write(str(error))
