"""Hooks for Schemathesis: rules of the API that openapi.yaml does not express. Used by scripts/schemathesis.sh.

openapi.yaml states some rules of requests only in descriptions. Requests that are generated to be valid are
corrected here. Requests that are generated to be invalid stay as they are. An optional body may also be null: some
generated clients send it, and others cannot read a document that says so.

openapi.yaml lets clients accept responses of later versions. Responses of this version must have only known values,
and errors must have all fields.
"""

import base64
import re

import schemathesis

CALLER = 17
PAGE_PARAMETERS = ["cursor", "skip", "before", "after"]
MESSAGE_PARTS = ["text", "imageUrl", "linkPreviewUrl"]
MAX_URL_BYTES = 2_048
# Letters that nobody sees.
HANGUL_FILLERS = "\u115f\u1160\u3164\uffa0"
# Parameters and fields that are whole numbers.
NUMBERS = ["userId", "seq"]
# Errors that API Gateway sometimes sends with only a message.
GATEWAY_ERRORS = ["body_too_large", "internal", "too_many_pending_requests", "unauthorized", "unavailable"]


def strict_error(codes, error):
    """Returns the schema of an error with one of these codes. An error without codes comes from API Gateway."""
    only_message = {
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
        "additionalProperties": False,
    }
    if not codes:
        return only_message
    code = {"properties": {"code": {"enum": codes}, "success": {"const": False}}}
    complete = {"allOf": [error, code], "required": ["success", "code", "message", "requestId"]}
    is_from_gateway = any(code in GATEWAY_ERRORS for code in codes)
    return {"anyOf": [complete, only_message]} if is_from_gateway else complete


@schemathesis.hook
def before_load_schema(context, raw_schema):
    components = raw_schema["components"]
    for schema in components["schemas"].values():
        if "x-extensible-enum" in schema:
            schema["enum"] = schema["x-extensible-enum"]
    for response in components["responses"].values():
        content = response["content"]["application/json"]
        content["schema"] = strict_error(response.get("x-error-codes", []), content["schema"])
    for path in raw_schema["paths"].values():
        for operation in path.values():
            body = operation.get("requestBody", {"required": True})
            if not body.get("required", False):
                content = body["content"]["application/json"]
                content["schema"] = {"anyOf": [content["schema"], {"type": "null"}]}


def is_cursor_of_this_list(cursor, case):
    """Returns whether the cursor is a `nextCursor` of the same list. Generated cursors are not."""
    chat = (case.path_parameters or {}).get("chatId")
    names = {
        "/blocks": "blocked",
        "/chats": "active",
        "/chats/pending": f"pending-{case.query.get('direction', 'sent')}",
        "/chats/rejected": f"rejected-{case.query.get('direction', 'sent')}",
        "/chats/{chatId}/changes": f"changes-{chat}",
        "/chats/{chatId}/messages": f"messages-{chat}",
    }
    try:
        padded = str(cursor) + "=" * (-len(str(cursor)) % 4)
        decoded = base64.urlsafe_b64decode(padded).decode()
    except ValueError:
        return False
    return decoded.startswith(f"1.{names[case.operation.path]}.{CALLER}.")


def is_visible(character):
    """Returns whether a character is surely visible. Symbols and combining characters may be, too."""
    return character.isalnum() and character not in HANGUL_FILLERS


def with_visible_character(text):
    """Returns a text of the same length with a visible character. The document cannot express that rule."""
    return text if any(map(is_visible, text)) else f"{text[:-1]}a"


def with_valid_parts(url):
    """Returns the URL with a host name that is valid in DNS and without characters that the API refuses. The
    pattern in the document cannot express either.
    """
    path = re.fullmatch(r"https://[^/?#]*(.*)", url, re.IGNORECASE | re.DOTALL)[1]
    path = "".join(c for c in path if is_visible(c) or c in "-._~:/?#[]@!$&'()*+,;=%")
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
    for values in (case.path_parameters, body):
        if isinstance(values, dict):
            # 42.0 is an integer in JSON Schema, but not for the API.
            for name in NUMBERS:
                if isinstance(values.get(name), float):
                    values[name] = int(values[name])
            # Users cannot send a chat request to themselves, block themselves or report themselves.
            if str(values.get("userId")) == str(CALLER):
                values["userId"] = CALLER + 1
    if isinstance(body, dict):
        if isinstance(body.get("text"), str):
            body["text"] = with_visible_character(body["text"])
        for field in ["imageUrl", "linkPreviewUrl"]:
            if isinstance(body.get(field), str):
                body[field] = with_valid_parts(body[field])
        # At least one part of a message is not null. After an edit, too.
        is_message = case.operation.path in ("/chats/{chatId}/messages", "/chats/{chatId}/messages/{seq}")
        if is_message and not any(body.get(part) for part in MESSAGE_PARTS):
            body["text"] = "a"
