"""Tests the Python client that openapi-python-client generates: two users chat.

Usage: openapi_python_client.py FOLDER, the folder that contains the generated package `chat`.
"""

import os
import sys
import unittest
import uuid

sys.path.insert(0, sys.argv.pop(1))

from chat import AuthenticatedClient
from chat.api.chats import list_active_chats
from chat.api.messages import list_messages, mark_messages_read, send_message
from chat.api.requests import accept_chat_request, send_chat_request
from chat.models import Error, NewChat, NewMessage


def client_of(token, url=os.environ["API_URL"]):
    return AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)


ANN = client_of(os.environ["ANN"])
BEN = client_of(os.environ["BEN"])


class GeneratedClient(unittest.TestCase):
    def test_two_users_chat(self):
        chat = send_chat_request.sync(client=ANN, body=NewChat(user_id=42))
        accepted = accept_chat_request.sync(chat.chat_id, client=BEN)
        self.assertEqual(accepted.status, "active")
        message = NewMessage(text="Hello from Python", image_url="https://images.example/cat.jpg")
        key = str(uuid.uuid4())
        sent = send_message.sync(chat.chat_id, client=ANN, body=message, idempotency_key=key)
        again = send_message.sync_detailed(
            chat.chat_id, client=ANN, body=message, idempotency_key=key
        )
        self.assertEqual((again.status_code, again.parsed), (200, sent))
        page = list_messages.sync(chat.chat_id, client=BEN, limit=1)
        self.assertEqual(page.messages, [sent])
        self.assertIs(mark_messages_read.sync(chat.chat_id, client=BEN).success, True)
        chats = list_active_chats.sync(client=BEN).chats
        self.assertIn(chat.chat_id, [chat.chat_id for chat in chats])

    def test_a_user_id_may_have_more_than_32_bits(self):
        largest = 2**53 - 1
        chat = send_chat_request.sync(client=ANN, body=NewChat(user_id=largest))
        self.assertEqual(chat.recipient_id, largest)

    def test_an_error_has_a_code(self):
        error = list_messages.sync("1-2", client=ANN)
        self.assertIsInstance(error, Error)
        self.assertEqual(error.code, "chat_not_found")

    def test_responses_of_a_later_version_are_accepted(self):
        later = client_of(os.environ["ANN"], os.environ["LATER_API_URL"])
        self.assertEqual(list_active_chats.sync(client=later).chats[0].status, "archived")
        messages = list_messages.sync("17-42", client=later).messages
        self.assertEqual(messages[0].status, "delivered")
        error = send_message.sync("17-42", client=later, body=NewMessage(text="Hello"))
        self.assertIsInstance(error, Error)
        self.assertEqual(error.code, "quiet_hours")


if __name__ == "__main__":
    # The clients of the tests stay open until the end, which Python would warn about.
    unittest.main(warnings="ignore")
