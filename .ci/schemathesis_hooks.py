"""What openapi.yaml says in words, because OpenAPI has no way to say it: generated calls that are meant to be
right are made so. Calls that are meant to be wrong stay as they are."""

import base64
import re

import schemathesis

CALLER = 17
WAYS_TO_PAGE = ["cursor", "skip", "before", "after"]
MAX_URL_BYTES = 2_048


def is_of_this_list(cursor, case):
    """Whether it is the `nextCursor` of a page of the very list, which a generated one is not."""
    names = {
        "/chats": "active",
        "/chats/pending": f"pending-{case.query.get('direction', 'sent')}",
        "/chats/rejected": f"rejected-{case.query.get('direction', 'sent')}",
        "/chats/{chatId}/messages": f"messages-{(case.path_parameters or {}).get('chatId')}",
    }
    try:
        padded = str(cursor) + "=" * (-len(str(cursor)) % 4)
        place = base64.urlsafe_b64decode(padded).decode()
    except ValueError:
        return False
    return place.startswith(f"1.{names[case.operation.path]}.{CALLER}.")


def with_host(url):
    """The URL with a host that exists in DNS's rules; a pattern cannot tell which do."""
    path = re.fullmatch(r"https://[^/?#]*(.*)", url, re.IGNORECASE | re.DOTALL)[1]
    # Its length is in bytes, that of the document in characters.
    while len(url := f"{url[:8]}images.example{path}".encode()) > MAX_URL_BYTES:
        path = path[:-1]
    return url.decode()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query
    if query:
        # A cursor is of use only in the list that it came from.
        if "cursor" in query and not is_of_this_list(query["cursor"], case):
            del query["cursor"]
        # The ways to page exclude one another.
        for other in [way for way in WAYS_TO_PAGE if way in query][1:]:
            del query[other]
    body = case.body
    if isinstance(body, dict):
        # To JSON Schema 42.0 is an integer, to the API it is not.
        if isinstance(body.get("userId"), float):
            body["userId"] = int(body["userId"])
        # Nobody can ask oneself for a chat.
        if body.get("userId") == CALLER:
            body["userId"] = CALLER + 1
        for field in ["imageUrl", "linkPreviewUrl"]:
            if isinstance(body.get(field), str):
                body[field] = with_host(body[field])
