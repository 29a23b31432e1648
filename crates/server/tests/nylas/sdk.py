"""The way to Nylas's own client for Python: makes the calls that come on standard input as JSON, one after another, and
prints what came of each. It must not know Hookfast."""

import dataclasses
import json
import sys

from nylas import Client
from nylas.models.errors import NylasApiError

given = json.load(sys.stdin)
nylas = Client(api_key=given["key"], api_uri=given["uri"], timeout=60)


def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def call(method, id=None, body=None):
    arguments = [each for each in (id, body) if each is not None]
    try:
        answer = getattr(nylas.webhooks, method)(*arguments)
        return {"data": plain(answer.data), "request_id": answer.request_id}
    except Exception as error:
        return {
            "raised": type(error).__name__,
            "own": isinstance(error, NylasApiError),
            "type": getattr(error, "type", None),
            "status": getattr(error, "status_code", None),
            "message": str(error),
            "request_id": getattr(error, "request_id", None),
        }


json.dump([call(**each) for each in given["calls"]], sys.stdout)
