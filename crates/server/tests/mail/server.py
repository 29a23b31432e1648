"""An SMTP server for the tests of notices: aiosmtpd, set up by the JSON on the command line. It writes what happens as
JSON lines: each login, and each mail as Python's email package reads it. It must not know Hookfast."""

import asyncio
import json
import ssl
import sys
from email import policy
from email.parser import BytesParser

from aiosmtpd.smtp import SMTP, AuthResult

given = json.loads(sys.argv[1])


def record(entry):
    with open(given["record"], "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def reply(to):
    """What this address is to be answered: a test may change it while the server runs."""
    with open(given["replies"], encoding="utf-8") as file:
        return json.load(file).get(to)


def is_encrypted(server):
    return server.transport.get_extra_info("ssl_object") is not None


def authenticate(server, session, envelope, mechanism, login):
    user, password = login.login.decode(), login.password.decode()
    success = user == given["user"] and password == given["password"]
    record({"kind": "login", "mechanism": mechanism, "success": success, "encrypted": is_encrypted(server)})
    # A server that repeats what it was sent, as badly written ones do.
    return AuthResult(success=success, handled=False, message=None if success else f"535 5.7.8 not {password}")


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        refusal = reply("from:" + address)
        if refusal is not None:
            return refusal
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        refusal = reply(address)
        if refusal is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = BytesParser(policy=policy.default).parsebytes(envelope.content)
        bodies = {}
        for kind in ("plain", "html"):
            part = message.get_body(preferencelist=(kind,))
            bodies[kind] = part and part.get_content()
        record(
            {
                "kind": "mail",
                "encrypted": is_encrypted(server),
                "greeted_by": session.host_name,
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "headers": [[name, str(value)] for name, value in message.items()],
                "type": message.get_content_type(),
                "parts": [part.get_content_type() for part in message.iter_parts()],
                "defects": [str(defect) for part in message.walk() for defect in part.defects],
                "raw": envelope.content.decode(),
                **bodies,
            }
        )
        return reply("data:" + envelope.rcpt_tos[0]) or "250 OK"


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given["certificate"], given["key"])
    return context


async def serve():
    security = given["security"]
    loop = asyncio.get_running_loop()

    def connection():
        return SMTP(
            Handler(),
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=tls_context() if security == "starttls" else None,
            require_starttls=security == "starttls",
            auth_required=given["user"] is not None,
            auth_require_tls=security == "starttls",
            auth_exclude_mechanism=given["without"],
            authenticator=authenticate,
            loop=loop,
        )

    context = tls_context() if security == "tls" else None
    server = await loop.create_server(connection, "127.0.0.1", given["port"], ssl=context)
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(serve())
