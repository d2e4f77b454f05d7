"""Tests the Python client that openapi-generator generates: two users chat.

The client validates requests and responses. Usage: openapi_generator.py FOLDER, the folder of the generated code.
"""

import os
import sys
import unittest
import uuid

sys.path.insert(0, sys.argv.pop(1))

import chat_client
from chat_client.exceptions import ConflictException, NotFoundException


def client_of(token, url=os.environ["API_URL"]):
    return chat_client.ApiClient(chat_client.Configuration(host=url, access_token=token, retries=False))


ANN = client_of(os.environ["ANN"])
BEN = client_of(os.environ["BEN"])


class GeneratedClient(unittest.TestCase):
    def test_two_users_chat(self):
        chat = chat_client.RequestsApi(ANN).send_chat_request(chat_client.NewChat(user_id=42))
        accepted = chat_client.RequestsApi(BEN).accept_chat_request(chat.chat_id)
        self.assertEqual(accepted.status, "active")
        message = chat_client.NewMessage(
            text="Hello from Python", image_url="https://images.example/cat.jpg"
        )
        key = str(uuid.uuid4())
        sent = chat_client.MessagesApi(ANN).send_message(chat.chat_id, message, idempotency_key=key)
        again = chat_client.MessagesApi(ANN).send_message_with_http_info(
            chat.chat_id, message, idempotency_key=key
        )
        self.assertEqual((again.status_code, again.data), (200, sent))
        page = chat_client.MessagesApi(BEN).list_messages(chat.chat_id, limit=1)
        self.assertEqual(page.messages, [sent])
        self.assertIs(chat_client.MessagesApi(BEN).mark_messages_read(chat.chat_id).success, True)
        chats = chat_client.ChatsApi(BEN).list_active_chats().chats
        self.assertIn(chat.chat_id, [chat.chat_id for chat in chats])

    def test_a_user_id_may_have_more_than_32_bits(self):
        largest = 2**53 - 1
        chat = chat_client.RequestsApi(ANN).send_chat_request(chat_client.NewChat(user_id=largest))
        self.assertEqual(chat.recipient_id, largest)

    def test_an_error_has_a_code(self):
        with self.assertRaises(NotFoundException) as raised:
            chat_client.MessagesApi(ANN).list_messages("1-2")
        self.assertEqual(raised.exception.data.code, "chat_not_found")

    def test_responses_of_a_later_version_are_accepted(self):
        later = client_of(os.environ["ANN"], os.environ["LATER_API_URL"])
        self.assertEqual(chat_client.ChatsApi(later).list_active_chats().chats[0].status, "archived")
        messages = chat_client.MessagesApi(later)
        self.assertEqual(messages.list_messages("17-42").messages[0].status, "delivered")
        with self.assertRaises(ConflictException) as raised:
            messages.send_message("17-42", chat_client.NewMessage(text="Hello"))
        self.assertEqual(raised.exception.data.code, "quiet_hours")


if __name__ == "__main__":
    # The clients of the tests stay open until the end, which Python would warn about.
    unittest.main(warnings="ignore")
