import com.fasterxml.jackson.core.JsonProcessingException;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.ChatsApi;
import org.openapitools.client.api.MessagesApi;
import org.openapitools.client.api.RequestsApi;
import org.openapitools.client.model.Chat;
import org.openapitools.client.model.Error;
import org.openapitools.client.model.Message;
import org.openapitools.client.model.NewChat;
import org.openapitools.client.model.NewMessage;

/** Tests the Java client that openapi-generator generates: two users chat. */
public final class GeneratedClientTest {
    private interface Request {
        void send() throws ApiException;
    }

    private static final ApiClient ANN = clientOf("ANN", "API_URL");
    private static final ApiClient BEN = clientOf("BEN", "API_URL");

    public static void main(String[] arguments) throws ApiException, JsonProcessingException {
        twoUsersChat();
        aUserIdMayHaveMoreThan32Bits();
        anErrorHasACode();
        responsesOfALaterVersionAreAccepted();
        System.out.println("4 tests passed");
    }

    private static void twoUsersChat() throws ApiException {
        Chat chat = new RequestsApi(ANN).sendChatRequest(new NewChat().userId(42L));
        Chat accepted = new RequestsApi(BEN).acceptChatRequest(chat.getChatId());
        expectEqual(accepted.getStatus(), "active");
        NewMessage message =
            new NewMessage().text("Hello from Java").imageUrl("https://images.example/cat.jpg");
        String key = UUID.randomUUID().toString();
        Message sent = new MessagesApi(ANN).sendMessage(chat.getChatId(), message, key);
        var again = new MessagesApi(ANN).sendMessageWithHttpInfo(chat.getChatId(), message, key);
        expectEqual(again.getStatusCode(), 200);
        expectEqual(again.getData(), sent);
        var page = new MessagesApi(BEN).listMessages(chat.getChatId(), 1L, null, null, null, null);
        expectEqual(page.getMessages(), List.of(sent));
        expectEqual(new MessagesApi(BEN).markMessagesRead(chat.getChatId(), null).getSuccess(), true);
        List<Chat> chats = new ChatsApi(BEN).listActiveChats(null, null, null).getChats();
        expectEqual(chats.stream().anyMatch(each -> each.getChatId().equals(chat.getChatId())), true);
    }

    private static void aUserIdMayHaveMoreThan32Bits() throws ApiException {
        long largest = (1L << 53) - 1;
        Chat chat = new RequestsApi(ANN).sendChatRequest(new NewChat().userId(largest));
        expectEqual(chat.getRecipientId(), largest);
    }

    private static void anErrorHasACode() throws JsonProcessingException {
        ApiException exception =
            expectError(() -> new MessagesApi(ANN).listMessages("1-2", null, null, null, null, null));
        expectEqual(exception.getCode(), 404);
        expectEqual(errorOf(exception).getCode(), "chat_not_found");
    }

    private static void responsesOfALaterVersionAreAccepted()
        throws ApiException, JsonProcessingException {
        ApiClient later = clientOf("ANN", "LATER_API_URL");
        List<Chat> chats = new ChatsApi(later).listActiveChats(null, null, null).getChats();
        expectEqual(chats.get(0).getStatus(), "archived");
        MessagesApi messages = new MessagesApi(later);
        List<Message> page = messages.listMessages("17-42", null, null, null, null, null).getMessages();
        expectEqual(page.get(0).getStatus(), "delivered");
        NewMessage message = new NewMessage().text("Hello");
        ApiException exception = expectError(() -> messages.sendMessage("17-42", message, null));
        expectEqual(errorOf(exception).getCode(), "quiet_hours");
    }

    private static ApiClient clientOf(String tokenVariable, String urlVariable) {
        String authorization = "Bearer " + System.getenv(tokenVariable);
        ApiClient client = new ApiClient();
        client.updateBaseUri(System.getenv(urlVariable));
        client.setRequestInterceptor(request -> request.header("Authorization", authorization));
        return client;
    }

    private static Error errorOf(ApiException exception) throws JsonProcessingException {
        return ANN.getObjectMapper().readValue(exception.getResponseBody(), Error.class);
    }

    private static ApiException expectError(Request request) {
        try {
            request.send();
        } catch (ApiException exception) {
            return exception;
        }
        throw new AssertionError("the request must fail");
    }

    private static void expectEqual(Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError("found " + found + ", expected " + expected);
        }
    }
}
