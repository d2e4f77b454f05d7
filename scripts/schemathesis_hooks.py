"""Hooks for Schemathesis: make generated requests valid where OpenAPI cannot express a rule of the API.

openapi.yaml states these rules only in descriptions. Requests that are generated to be valid are corrected here.
Requests that are generated to be invalid stay as they are. Used by scripts/schemathesis.sh.
"""

import base64
import re

import schemathesis

CALLER = 17
PAGE_PARAMETERS = ["cursor", "skip", "before", "after"]
MAX_URL_BYTES = 2_048


def is_cursor_of_this_list(cursor, case):
    """Returns whether the cursor is a `nextCursor` of the same list. Generated cursors are not."""
    names = {
        "/chats": "active",
        "/chats/pending": f"pending-{case.query.get('direction', 'sent')}",
        "/chats/rejected": f"rejected-{case.query.get('direction', 'sent')}",
        "/chats/{chatId}/messages": f"messages-{(case.path_parameters or {}).get('chatId')}",
    }
    try:
        padded = str(cursor) + "=" * (-len(str(cursor)) % 4)
        decoded = base64.urlsafe_b64decode(padded).decode()
    except ValueError:
        return False
    return decoded.startswith(f"1.{names[case.operation.path]}.{CALLER}.")


def with_valid_host(url):
    """Returns the URL with a host name that is valid in DNS. The pattern in the document cannot express that."""
    path = re.fullmatch(r"https://[^/?#]*(.*)", url, re.IGNORECASE | re.DOTALL)[1]
    # The API limits the length in bytes, the document in characters.
    while len(url := f"{url[:8]}images.example{path}".encode()) > MAX_URL_BYTES:
        path = path[:-1]
    return url.decode()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query
    if query:
        # A cursor is valid only for the list that returned it.
        if "cursor" in query and not is_cursor_of_this_list(query["cursor"], case):
            del query["cursor"]
        # Only one of these parameters is allowed.
        for other in [name for name in PAGE_PARAMETERS if name in query][1:]:
            del query[other]
    body = case.body
    if isinstance(body, dict):
        # 42.0 is an integer in JSON Schema, but not for the API.
        if isinstance(body.get("userId"), float):
            body["userId"] = int(body["userId"])
        # Users cannot send a chat request to themselves.
        if body.get("userId") == CALLER:
            body["userId"] = CALLER + 1
        for field in ["imageUrl", "linkPreviewUrl"]:
            if isinstance(body.get(field), str):
                body[field] = with_valid_host(body[field])
