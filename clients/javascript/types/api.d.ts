// Generated from openapi.yaml and asyncapi.yaml by scripts/generate-types.js. Do not edit.

export interface paths {
    "/chats": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List active chats
         * @description The active chats of the caller, latest activity first, without those with users that the caller has blocked. A chat with new activity moves to the top while a client pages, and does not appear again on later pages.
         */
        get: operations["listActiveChats"];
        put?: never;
        /**
         * Send a chat request
         * @description Sends a chat request to another user. Safe to repeat. If the other user has sent a request to the caller, this accepts it. If the caller has declined a request of the other user, this sends a new request with swapped roles. If a request was withdrawn, this sends a new one.
         */
        post: operations["sendChatRequest"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/pending": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List pending requests
         * @description Unanswered chat requests, latest first: those that the caller has sent, or with `direction=received` those that the caller has received.
         */
        get: operations["listPendingRequests"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/rejected": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List declined requests
         * @description Declined chat requests, latest first: those that the caller has sent, or with `direction=received` those that the caller has declined.
         */
        get: operations["listRejectedRequests"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}/accept": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Accept a request
         * @description The recipient accepts the request. Safe to repeat.
         */
        put: operations["acceptChatRequest"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}/decline": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Decline a request
         * @description The recipient declines the request. Safe to repeat. Afterwards, only the recipient can send a new request.
         */
        put: operations["declineChatRequest"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}/withdraw": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Withdraw a request
         * @description The requester withdraws a request that is still pending. Safe to repeat. The chat leaves all lists and totals. Afterwards, both members can send a new request.
         */
        put: operations["withdrawChatRequest"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a chat
         * @description One chat of the caller, in any status. For opening a chat from a notification, and for a chat that is in no list: a withdrawn one, or one with a user that the caller has blocked.
         */
        get: operations["getChat"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}/messages": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List messages
         * @description The messages of a chat, newest first. With `after`, oldest first, to catch up after a gap: follow `nextCursor` until it is null, and continue later with `after` and the last `seq`.
         */
        get: operations["listMessages"];
        put?: never;
        /**
         * Send a message
         * @description Sends a message to the other member. It must have at least one of the three parts. Send an `Idempotency-Key` with each message, and retry with the same key until you get a response.
         */
        post: operations["sendMessage"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}/messages/read": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Mark messages as read
         * @description Marks messages of the chat as read by the caller: all existing ones, or with a `seq` in the body all up to this one, so that a message that arrives while the user reads stays unread. A `seq` beyond the newest message returns 400. So does one above `readSeq` with more than 1,000 messages after it while the caller has unread messages: mark all messages, or a newer one. Safe to repeat.
         */
        put: operations["markMessagesRead"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/chats/{chatId}/messages/{seq}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete a message
         * @description The sender deletes the content of a message for both members. The message keeps its `seq`. If the recipient has not read it, `unreadCount` and the total of the recipient go down by one. Safe to repeat.
         */
        delete: operations["deleteMessage"];
        options?: never;
        head?: never;
        /**
         * Edit a message
         * @description The sender replaces or removes parts of a message. An absent part stays as it is. At least one part must remain. A message can be edited for 24 hours by default. An edit never makes a message unread and never moves the chat. Safe to repeat: the same edit again changes nothing, also after this time.
         */
        patch: operations["editMessage"];
        trace?: never;
    };
    "/chats/{chatId}/changes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List changed messages
         * @description The messages that were edited or deleted after a `rev` of the chat, each once and as it is now, in the order of the last changes. A client that knows `rev` 7 and sees 9 in the chat lists the changes after 7: follow `nextCursor` until it is null, and then keep the `rev` of the page. Changes are kept for 90 days.
         */
        get: operations["listChanges"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/totals": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get all totals
         * @description Counts for badges: received requests, unread messages and sent requests.
         */
        get: operations["getTotals"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/totals/unread": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get the unread total
         * @description The number of unread messages of the caller. The response is the smallest one for polling.
         */
        get: operations["getUnreadTotal"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/blocks/{userId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Block a user
         * @description Blocks a user, with or without a chat. The blocked user cannot see it. For the caller, the chat leaves all lists and totals, and a pending request of the caller is withdrawn. The blocked user can no longer send and edit messages in the chat, and requests of the blocked user are not shown to the caller. Safe to repeat.
         */
        put: operations["blockUser"];
        post?: never;
        /**
         * Unblock a user
         * @description Ends the block of a user. The chat returns to the lists of the caller, its unread messages to the total, and so does a request that waits. A request that the block has withdrawn stays withdrawn. Safe to repeat.
         */
        delete: operations["unblockUser"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/blocks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List blocked users
         * @description The users that the caller has blocked, in the order of the latest activity in the chat with them.
         */
        get: operations["listBlocks"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/reports": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Report a user or a message
         * @description Reports a user to the operators, or with `seq` a message of this user in the chat with the caller. The report keeps a copy of the message. The reported user cannot see it. With `block`, the user is also blocked. Safe to repeat: each user and message is reported once.
         */
        post: operations["reportUser"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description A user that the caller has blocked. */
        Block: {
            /** @description The blocked user. */
            userId: components["schemas"]["UserId"];
            /** @description The time when the caller blocked the user. */
            blockedAt: components["schemas"]["Timestamp"];
        };
        /** @description A page of the users that the caller has blocked. */
        BlockPage: {
            blocks: components["schemas"]["Block"][];
            nextCursor: components["schemas"]["Cursor"] | null;
        };
        /** @description A page of the messages of a chat that were changed after they were sent. */
        ChangePage: {
            /** @description Each changed message once, as it is now, in the order of the last changes. */
            messages: components["schemas"]["Message"][];
            /** @description The `rev` of the chat. Keep it once `nextCursor` is null, and pass it as `after` later. */
            rev: components["schemas"]["Rev"];
            nextCursor: components["schemas"]["Cursor"] | null;
        };
        /** @description A chat from the perspective of the caller. */
        Chat: {
            chatId: components["schemas"]["ChatId"];
            status: components["schemas"]["ChatStatus"];
            /** @description The user who sent the latest chat request. */
            requesterId: components["schemas"]["UserId"];
            /** @description The user who received the latest chat request. */
            recipientId: components["schemas"]["UserId"];
            /**
             * @description The number of messages from the other member that the caller has not marked as read and that are not
             *     deleted.
             */
            unreadCount: components["schemas"]["Count"];
            /** @description The `seq` up to which the caller has read; 0 at first. */
            readSeq: components["schemas"]["Watermark"];
            /** @description The `seq` up to which the other member has read; 0 at first. */
            peerReadSeq: components["schemas"]["Watermark"];
            /**
             * @description The number of changes (edits and deletions) to messages after they were sent; 0 at first. If it is greater
             *     than the one that a client knows, the client lists the changes.
             */
            rev: components["schemas"]["Rev"];
            lastMessage: components["schemas"]["LastMessage"] | null;
            /** @description Whether the caller has blocked the other member. */
            blocked: boolean;
            createdAt: components["schemas"]["Timestamp"];
            /**
             * @description The time of the latest status change or message. Marking as read, editing, deleting and blocking do not
             *     change it.
             */
            updatedAt: components["schemas"]["Timestamp"];
        };
        /**
         * @description The id of the chat of two users: the smaller user id, `-`, the larger one.
         * @example 17-42
         */
        ChatId: string;
        /** @description A page of chats. */
        ChatPage: {
            chats: components["schemas"]["Chat"][];
            nextCursor: components["schemas"]["Cursor"] | null;
        };
        /**
         * @description `pending`: the recipient can accept or decline the request. `active`: the recipient accepted it.
         *     `declined`: the recipient declined it. `withdrawn`: the requester withdrew it. Known values: `pending`, `active`, `declined`, `withdrawn`. A later version may add values, so accept values that you do not know.
         * @example pending
         */
        ChatStatus: "pending" | "active" | "declined" | "withdrawn" | (string & {});
        /**
         * @description A count.
         * @example 3
         */
        Count: number;
        /** @description The start of a page. It is opaque, and valid only for the same list and the same user. */
        Cursor: string;
        /** @description An error. The service itself always sends all four fields. Errors of API Gateway have only a `message`; then use the status. */
        Error: {
            /**
             * @description Always false.
             * @example false
             */
            success?: boolean;
            code?: components["schemas"]["ErrorCode"];
            /** @description A description of the error for developers. The text may change; programs must use `code`. */
            message: string;
            /** @description Include it when you report a problem. */
            requestId?: components["schemas"]["RequestId"];
        };
        /**
         * @description Machine-readable reason for an error response. Known values: `invalid_request`, `unauthorized`, `not_the_recipient`, `not_the_requester`, `not_the_sender`, `chat_not_found`, `message_not_found`, `method_not_allowed`, `chat_active`, `chat_declined`, `chat_withdrawn`, `chat_not_active`, `message_deleted`, `edit_window_closed`, `delete_window_closed`, `you_blocked`, `peer_unavailable`, `changes_expired`, `body_too_large`, `unsupported_media_type`, `idempotency_key_reused`, `too_many_pending_requests`, `internal`, `unavailable`. A later version may add values, so accept values that you do not know.
         * @example invalid_request
         */
        ErrorCode: "invalid_request" | "unauthorized" | "not_the_recipient" | "not_the_requester" | "not_the_sender" | "chat_not_found" | "message_not_found" | "method_not_allowed" | "chat_active" | "chat_declined" | "chat_withdrawn" | "chat_not_active" | "message_deleted" | "edit_window_closed" | "delete_window_closed" | "you_blocked" | "peer_unavailable" | "changes_expired" | "body_too_large" | "unsupported_media_type" | "idempotency_key_reused" | "too_many_pending_requests" | "internal" | "unavailable" | (string & {});
        /**
         * @description An absolute `https` URL exactly as typed, without a user name or password. The length is in bytes of UTF-8. It contains no white space, no control characters, no characters that are invisible or change the direction of text, and no ASCII characters that RFC 3986 forbids in a URI: double quote, angle brackets, backslash, caret, backtick, braces and bar. Percent-encode them. Letters beyond ASCII are allowed. The service never fetches the URL.
         * @example https://images.example/cat.jpg
         */
        HttpsUrl: string;
        /** @description A preview of the newest message of a chat. */
        LastMessage: {
            seq: components["schemas"]["Seq"];
            senderId: components["schemas"]["UserId"];
            text: components["schemas"]["Preview"] | null;
            createdAt: components["schemas"]["Timestamp"];
            /** @description Whether the message was deleted. */
            deleted: boolean;
        };
        /** @description Which messages are marked as read. */
        MarkAsRead: {
            seq?: components["schemas"]["Seq"] | null;
        };
        /** @description Confirms that the messages are marked as read. */
        MarkedAsRead: {
            /**
             * @description Always true.
             * @example true
             */
            success: boolean;
            /** @description A text for people. */
            message: string;
        };
        /** @description A message. */
        Message: {
            messageId: components["schemas"]["MessageId"];
            chatId: components["schemas"]["ChatId"];
            seq: components["schemas"]["Seq"];
            /** @description The user who sent it. */
            senderId: components["schemas"]["UserId"];
            /** @description Exactly as it was sent or last edited. Null if the message has none or is deleted. */
            text: string | null;
            /** @description Exactly as it was sent or last edited. Null if the message has none or is deleted. */
            imageUrl: string | null;
            /** @description Exactly as it was sent or last edited. Null if the message has none or is deleted. */
            linkPreviewUrl: string | null;
            status: components["schemas"]["MessageStatus"];
            /** @description The time when the service accepted it. It is never earlier than that of the previous message. */
            createdAt: components["schemas"]["Timestamp"];
            editedAt: components["schemas"]["Timestamp"] | null;
            deletedAt: components["schemas"]["Timestamp"] | null;
        };
        /**
         * @description A change of a message. At least one of the three fields is present. An absent field stays as it is, and null
         *     removes it. At least one of the three must remain.
         */
        MessageEdit: {
            text?: components["schemas"]["Text"] | null;
            imageUrl?: components["schemas"]["HttpsUrl"] | null;
            linkPreviewUrl?: components["schemas"]["HttpsUrl"] | null;
        };
        /**
         * @description The id of the chat, `/`, and the `seq` of the message.
         * @example 17-42/9
         */
        MessageId: string;
        /** @description A page of the messages of a chat. */
        MessagePage: {
            /** @description Newest first. Oldest first if the first page was requested with `after`. */
            messages: components["schemas"]["Message"][];
            nextCursor: components["schemas"]["Cursor"] | null;
        };
        /**
         * @description `read` once the recipient has marked the message as read, otherwise `sent`. Known values: `sent`, `read`. A later version may add values, so accept values that you do not know.
         * @example sent
         */
        MessageStatus: "sent" | "read" | (string & {});
        /** @description A chat request. */
        NewChat: {
            /** @description The recipient: any user except the caller. Write it without fraction and exponent: 42, not 42.0. */
            userId: components["schemas"]["UserId"];
        };
        /** @description A message. At least one of the three fields is present and not null. */
        NewMessage: {
            text?: components["schemas"]["Text"] | null;
            imageUrl?: components["schemas"]["HttpsUrl"] | null;
            linkPreviewUrl?: components["schemas"]["HttpsUrl"] | null;
        };
        /** @description A report of a user or of one of their messages. */
        NewReport: {
            /** @description The reported user: any user except the caller. */
            userId: components["schemas"]["UserId"];
            seq?: components["schemas"]["Seq"] | null;
            reason: components["schemas"]["NewReportReason"];
            note?: components["schemas"]["Note"] | null;
            /** @description Whether the caller also blocks the user. Then both happen, or neither. */
            block?: boolean | null;
        };
        /**
         * @description Why the user or the message is reported.
         * @example spam
         * @enum {string}
         */
        NewReportReason: "spam" | "harassment" | "sexual" | "violence" | "self_harm" | "scam" | "other";
        /**
         * @description A text for the operators. The length is in Unicode code points.
         * @example This is the third time.
         */
        Note: string;
        /**
         * @description The start of a text.
         * @example Hello 👋
         */
        Preview: string;
        /** @description A report. Its reporter cannot see what the operators do with it. */
        Report: {
            reportId: components["schemas"]["ReportId"];
            /** @description The reported user. */
            userId: components["schemas"]["UserId"];
            seq: components["schemas"]["Seq"] | null;
            reason: components["schemas"]["ReportReason"];
            createdAt: components["schemas"]["Timestamp"];
        };
        /**
         * @description Identifies a report. It is opaque.
         * @example 17-42/17/0
         */
        ReportId: string;
        /**
         * @description Why the user or the message is reported. Known values: `spam`, `harassment`, `sexual`, `violence`, `self_harm`, `scam`, `other`. A later version may add values, so accept values that you do not know.
         * @example spam
         */
        ReportReason: "spam" | "harassment" | "sexual" | "violence" | "self_harm" | "scam" | "other" | (string & {});
        /**
         * @description Identifies the request in the log of the service.
         * @example 8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e
         */
        RequestId: string;
        /**
         * @description The number of a change to a message after it was sent: 1, 2, 3, … in each chat, without gaps. 0 means none. The `rev` of a chat is that of its last change.
         * @example 2
         */
        Rev: number;
        /**
         * @description The sequence number of a message in its chat: 1, 2, 3, … in the order in which the service accepted the messages, without gaps.
         * @example 9
         */
        Seq: number;
        /**
         * @description Text exactly as typed. The length is in Unicode code points. At least one is visible: not white space, not a control character, not default-ignorable (Unicode property `Default_Ignorable_Code_Point`), not U+2800 and not U+3164.
         * @example Hello 👋
         */
        Text: string;
        /**
         * Format: date-time
         * @description RFC 3339 in UTC with milliseconds, from the clock of the service.
         * @example 2026-01-31T12:00:00.250Z
         */
        Timestamp: string;
        /** @description Counts for badges. */
        Totals: {
            /** @description Open requests that the caller has received, except those of users that the caller has blocked. */
            totalPendingRequest: components["schemas"]["Count"];
            /** @description The sum of `unreadCount` over all chats of the caller, except those with users that the caller has blocked. */
            totalUnreadMessages: components["schemas"]["Count"];
            /** @description Open requests that the caller has sent. */
            totalSentRequest: components["schemas"]["Count"];
            /** @description Grows with each change of the totals; of two totals, the one with the higher version is newer. */
            version: components["schemas"]["Count"];
        };
        /** @description Confirms that the user is not blocked. */
        Unblocked: {
            /**
             * @description Always true.
             * @example true
             */
            success: boolean;
            /** @description A text for people. */
            message: string;
        };
        /** @description The number of unread messages. */
        UnreadTotal: {
            /** @description The sum of `unreadCount` over all chats of the caller, except those with users that the caller has blocked. */
            totalUnreadMessages: components["schemas"]["Count"];
        };
        /**
         * @description The id of a user in the system that this service is part of.
         * @example 42
         */
        UserId: number;
        /**
         * @description A member has read all messages up to this `seq`. 0 means none. It never decreases.
         * @example 6
         */
        Watermark: number;
        /** @description The last frame before the server closes the connection. */
        ByeFrame: {
            /** @enum {integer} */
            v: 1;
            /** @enum {string} */
            type: "bye";
            reason: components["schemas"]["ByeReason"];
        };
        /**
         * @description Why the server closes the connection.
         *
         *     - `token_expired`: the access token expired and was not renewed in time. Connect with a new one.
         *     - `too_many_connections`: the user has opened more than 10 connections, and this was the oldest.
         *     - `behind`: events could not be delivered. Connect again, and fetch what was missed. Known values: `token_expired`, `too_many_connections`, `behind`. A later version may add values, so accept values that you do not know.
         * @example token_expired
         */
        ByeReason: "token_expired" | "too_many_connections" | "behind" | (string & {});
        /** @description A frame of the client was not accepted. The connection stays open. */
        ErrorFrame: {
            /** @enum {integer} */
            v: 1;
            /** @enum {string} */
            type: "error";
            code: components["schemas"]["FrameErrorCode"];
            /** @description A description of the error for developers. The text may change; programs must use `code`. */
            message: string;
        };
        /** @description Something that happened in a chat, from the perspective of the user who receives it. */
        Event: {
            /** @description The same event has the same id on every connection and when it is delivered again. */
            id: string;
            type: components["schemas"]["EventType"];
            chatId: components["schemas"]["ChatId"];
            /** @description When it happened. */
            at: components["schemas"]["Timestamp"];
            message?: components["schemas"]["Message"] | null;
            /**
             * @description The key with which the message was sent. Only with `message.created`, on the connections of its sender, and
             *     only if there was one.
             */
            idempotencyKey?: string | null;
            chat?: components["schemas"]["Chat"] | null;
            totals?: components["schemas"]["Totals"] | null;
            /** @description The user who is typing. Only with `typing`. */
            userId?: components["schemas"]["UserId"];
        };
        /** @description A frame with events, in the order in which they happened in their chats. */
        EventFrame: {
            /** @enum {integer} */
            v: 1;
            events: components["schemas"]["Event"][];
        };
        /**
         * @description What happened.
         *
         *     - `message.created`: a message was sent.
         *     - `message.changed`: a message was edited or deleted.
         *     - `chat.requested`, `chat.accepted`, `chat.declined`, `chat.withdrawn`: the status of the chat changed.
         *     - `chat.read`: a member marked messages as read.
         *     - `chat.changed`: the user blocked or unblocked the other member. Only the user's own connections receive it.
         *     - `typing`: the other member is writing. Known values: `message.created`, `message.changed`, `chat.requested`, `chat.accepted`, `chat.declined`, `chat.withdrawn`, `chat.read`, `chat.changed`, `typing`. A later version may add values, so accept values that you do not know.
         * @example message.created
         */
        EventType: "message.created" | "message.changed" | "chat.requested" | "chat.accepted" | "chat.declined" | "chat.withdrawn" | "chat.read" | "chat.changed" | "typing" | (string & {});
        /**
         * @description Why a frame was not accepted.
         *
         *     - `invalid_frame`: the frame is too long, is not JSON, or has an unknown type or an invalid member.
         *     - `rate_limited`: the client has sent more than one frame a second on average.
         *     - `unauthorized`: the new token is not valid, or belongs to another user. Known values: `invalid_frame`, `rate_limited`, `unauthorized`. A later version may add values, so accept values that you do not know.
         * @example invalid_frame
         */
        FrameErrorCode: "invalid_frame" | "rate_limited" | "unauthorized" | (string & {});
        /** @description Replaces the access token of the connection, before it expires. The response is a `renewed` frame. */
        RenewRequest: {
            /**
             * @description Always `renew`.
             * @enum {string}
             */
            type: "renew";
            /** @description A new access token of the same user. */
            token: string;
        };
        /** @description The response to `renew`. */
        RenewedFrame: {
            /** @enum {integer} */
            v: 1;
            /** @enum {string} */
            type: "renewed";
            /** @description When the new token expires. */
            expiresAt: components["schemas"]["Timestamp"];
        };
        /** @description Asks whether the connection works. The response is a `synced` frame. */
        SyncRequest: {
            /**
             * @description Always `sync`.
             * @enum {string}
             */
            type: "sync";
        };
        /** @description The response to `sync`: the connection works. Fetch what may have been missed. */
        SyncedFrame: {
            /** @enum {integer} */
            v: 1;
            /** @enum {string} */
            type: "synced";
            totals: components["schemas"]["Totals"];
            /** @description The clock of the service. */
            serverTime: components["schemas"]["Timestamp"];
        };
        /**
         * @description The user is writing. The other member's connections receive a `typing` event. There is no response. Send it at
         *     most once in 3 seconds.
         */
        TypingRequest: {
            /**
             * @description Always `typing`.
             * @enum {string}
             */
            type: "typing";
            chatId: components["schemas"]["ChatId"];
        };
    };
    responses: {
        /** @description `body_too_large`: the body is larger than 64 KiB. Above the limits of Lambda and API Gateway (from about 4.7 MB), API Gateway itself sends the response, with only a `message`. */
        body_too_large: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "body_too_large",
                 *       "message": "the body must be at most 64 KiB",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `changes_expired`: the service keeps changes for 90 days and no longer has all changes after this `rev`. Load the chat again. */
        changes_expired: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "changes_expired",
                 *       "message": "changes this old are no longer available; load the messages of the chat again",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `chat_active`: the chat is active, so the request can no longer be declined or withdrawn. */
        chat_active: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_active",
                 *       "message": "the chat is active; the request can no longer be declined or withdrawn",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `chat_active`: the chat is active, so the request can no longer be declined or withdrawn.
         *     - `chat_declined`: the request was declined. Only the member who declined it can send a new request.
         */
        chat_active_or_chat_declined: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_active",
                 *       "message": "the chat is active; the request can no longer be declined or withdrawn",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `chat_active`: the chat is active, so the request can no longer be declined or withdrawn.
         *     - `chat_withdrawn`: the request was withdrawn. Both members can send a new one.
         *     - `you_blocked`: the caller has blocked the other member.
         */
        chat_active_or_chat_withdrawn_or_you_blocked: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_active",
                 *       "message": "the chat is active; the request can no longer be declined or withdrawn",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `chat_declined`: the request was declined. Only the member who declined it can send a new request. */
        chat_declined: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_declined",
                 *       "message": "the request was declined; only the member who declined it can send a new request",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `chat_declined`: the request was declined. Only the member who declined it can send a new request.
         *     - `chat_withdrawn`: the request was withdrawn. Both members can send a new one.
         *     - `you_blocked`: the caller has blocked the other member.
         */
        chat_declined_or_chat_withdrawn_or_you_blocked: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_declined",
                 *       "message": "the request was declined; only the member who declined it can send a new request",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `chat_declined`: the request was declined. Only the member who declined it can send a new request.
         *     - `you_blocked`: the caller has blocked the other member.
         */
        chat_declined_or_you_blocked: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_declined",
                 *       "message": "the request was declined; only the member who declined it can send a new request",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `chat_not_active`: messages can be sent after the request has been accepted. */
        chat_not_active: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_not_active",
                 *       "message": "messages can be sent after the request has been accepted",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `chat_not_active`: messages can be sent after the request has been accepted.
         *     - `you_blocked`: the caller has blocked the other member.
         *     - `peer_unavailable`: the other member cannot receive messages. The response does not tell why.
         */
        chat_not_active_or_you_blocked_or_peer_unavailable: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_not_active",
                 *       "message": "messages can be sent after the request has been accepted",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `chat_not_found`: the id does not name a chat of the caller. The response does not tell whether other users have a chat with this id. */
        chat_not_found: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_not_found",
                 *       "message": "you have no chat with this id",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `chat_not_found`: the id does not name a chat of the caller. The response does not tell whether other users have a chat with this id.
         *     - `message_not_found`: the chat has no message with this `seq`. In a report: or the message is not one of the reported user.
         */
        chat_not_found_or_message_not_found: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_not_found",
                 *       "message": "you have no chat with this id",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `chat_withdrawn`: the request was withdrawn. Both members can send a new one. */
        chat_withdrawn: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "chat_withdrawn",
                 *       "message": "the request was withdrawn; send a new request instead",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `delete_window_closed`: the message was sent too long ago to be deleted. By default there is no limit. */
        delete_window_closed: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "delete_window_closed",
                 *       "message": "the message is too old to be deleted",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `edit_window_closed`: the message was sent too long ago to be edited (more than 24 hours by default). */
        edit_window_closed: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "edit_window_closed",
                 *       "message": "the message is too old to be edited; send a new one instead",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The request line and the headers are larger than 10 KB. API Gateway sends this response. */
        headers_too_large: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "message": "Request Header Fields Too Large"
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `idempotency_key_reused`: another message was sent with this key within 24 hours. */
        idempotency_key_reused: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "idempotency_key_reused",
                 *       "message": "this Idempotency-Key was used for another message; use a new key for each new message",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `internal`: a defect. With only a `message`: API Gateway got no response from the function, and the request may or may not have been applied. */
        internal: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "internal",
                 *       "message": "something went wrong in the service; include the requestId when you report it",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `invalid_request`: the body, a parameter or a header is invalid. The message names it and says what is allowed. */
        invalid_request: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "invalid_request",
                 *       "message": "`limit` must be a whole number from 1 to 100",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `message_deleted`: the message was deleted and can no longer be edited. */
        message_deleted: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "message_deleted",
                 *       "message": "the message was deleted; send a new one instead",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /**
         * @description One of these:
         *
         *     - `message_deleted`: the message was deleted and can no longer be edited.
         *     - `edit_window_closed`: the message was sent too long ago to be edited (more than 24 hours by default).
         *     - `you_blocked`: the caller has blocked the other member.
         *     - `peer_unavailable`: the other member cannot receive messages. The response does not tell why.
         */
        message_deleted_or_edit_window_closed_or_you_blocked_or_peer_unavailable: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "message_deleted",
                 *       "message": "the message was deleted; send a new one instead",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `message_not_found`: the chat has no message with this `seq`. In a report: or the message is not one of the reported user. */
        message_not_found: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "message_not_found",
                 *       "message": "this chat has no message with this seq",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `method_not_allowed`: the path does not support this method. The method is checked before the access token. */
        method_not_allowed: {
            headers: {
                /**
                 * @description The methods that the path supports.
                 * @example GET, POST, HEAD, OPTIONS
                 */
                Allow?: string;
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "method_not_allowed",
                 *       "message": "this path supports only the methods GET, POST, HEAD, OPTIONS",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `not_the_recipient`: only the recipient of a chat request can accept or decline it. */
        not_the_recipient: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "not_the_recipient",
                 *       "message": "only the recipient of a request can answer it",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `not_the_requester`: only the member who sent a chat request can withdraw it. */
        not_the_requester: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "not_the_requester",
                 *       "message": "only the member who sent the request can withdraw it; you can decline it",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `not_the_sender`: only the sender of a message can edit or delete it. */
        not_the_sender: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "not_the_sender",
                 *       "message": "only the sender of a message can edit or delete it",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `peer_unavailable`: the other member cannot receive messages. The response does not tell why. */
        peer_unavailable: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "peer_unavailable",
                 *       "message": "this user cannot receive messages at present",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description The deployment receives more requests per second than it allows. API Gateway sends this response. Wait and retry. */
        throttled: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "message": "Too Many Requests"
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `too_many_pending_requests`: the caller has reached the maximum number of open sent requests (100 by default). With only a `message`: API Gateway throttles. */
        too_many_pending_requests: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "too_many_pending_requests",
                 *       "message": "you have 100 unanswered requests; withdraw one, or wait until one is answered",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `unauthorized`: the access token is missing or not valid. */
        unauthorized: {
            headers: {
                /**
                 * @description The authentication scheme. If API Gateway itself sends the response, the value can contain more.
                 * @example Bearer
                 */
                "WWW-Authenticate"?: string;
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "unauthorized",
                 *       "message": "send a valid access token in the header `Authorization: Bearer <token>`",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `unavailable`: the service is busy. The request was applied completely or not at all. Retry it with the same `Idempotency-Key`. Or the message says that the operation is not enabled yet, because the deployment is being upgraded: retry after the 5 minutes that `Retry-After` names. */
        unavailable: {
            headers: {
                /**
                 * @description Seconds to wait before a retry. Absent if API Gateway itself sends the response.
                 * @example 1
                 */
                "Retry-After"?: number;
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "unavailable",
                 *       "message": "the service is busy; retry the request, with the same Idempotency-Key if it had one",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `unsupported_media_type`: `Content-Type` is not JSON, or `Content-Encoding` is not `identity`. */
        unsupported_media_type: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "unsupported_media_type",
                 *       "message": "send the body as JSON, with the header `Content-Type: application/json`",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
        /** @description `you_blocked`: the caller has blocked the other member. */
        you_blocked: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                /**
                 * @example {
                 *       "code": "you_blocked",
                 *       "message": "you have blocked this user; unblock them first",
                 *       "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
                 *       "success": false
                 *     }
                 */
                "application/json": components["schemas"]["Error"];
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    listActiveChats: {
        parameters: {
            query?: {
                /** @description The maximum number of entries on the page. */
                limit?: number;
                /** @description The `nextCursor` of a page of the same list. Cannot be combined with `skip`. */
                cursor?: components["schemas"]["Cursor"];
                /** @description The number of entries to skip; 0 by default. Cannot be combined with `cursor`. */
                skip?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of chats. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chats": [
                     *         {
                     *           "blocked": false,
                     *           "chatId": "17-42",
                     *           "createdAt": "2026-01-30T08:15:00.000Z",
                     *           "lastMessage": {
                     *             "createdAt": "2026-01-31T12:00:00.250Z",
                     *             "deleted": false,
                     *             "senderId": 42,
                     *             "seq": 9,
                     *             "text": "Hello 👋"
                     *           },
                     *           "peerReadSeq": 9,
                     *           "readSeq": 6,
                     *           "recipientId": 17,
                     *           "requesterId": 42,
                     *           "rev": 2,
                     *           "status": "active",
                     *           "unreadCount": 3,
                     *           "updatedAt": "2026-01-31T12:00:00.250Z"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["ChatPage"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    sendChatRequest: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The recipient. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "userId": 42
                 *     }
                 */
                "application/json": components["schemas"]["NewChat"];
            };
        };
        responses: {
            /** @description The pair already had a chat. Contains its current state, which this request may have changed. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocked": false,
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-30T08:15:00.000Z",
                     *       "lastMessage": {
                     *         "createdAt": "2026-01-31T12:00:00.250Z",
                     *         "deleted": false,
                     *         "senderId": 42,
                     *         "seq": 9,
                     *         "text": "Hello 👋"
                     *       },
                     *       "peerReadSeq": 9,
                     *       "readSeq": 6,
                     *       "recipientId": 17,
                     *       "requesterId": 42,
                     *       "rev": 2,
                     *       "status": "active",
                     *       "unreadCount": 3,
                     *       "updatedAt": "2026-01-31T12:00:00.250Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Chat"];
                };
            };
            /** @description The chat was created. The recipient can accept or decline it. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocked": false,
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-30T08:15:00.000Z",
                     *       "lastMessage": null,
                     *       "peerReadSeq": 0,
                     *       "readSeq": 0,
                     *       "recipientId": 17,
                     *       "requesterId": 42,
                     *       "rev": 0,
                     *       "status": "pending",
                     *       "unreadCount": 0,
                     *       "updatedAt": "2026-01-30T08:15:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Chat"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            409: components["responses"]["chat_declined_or_you_blocked"];
            413: components["responses"]["body_too_large"];
            415: components["responses"]["unsupported_media_type"];
            429: components["responses"]["too_many_pending_requests"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    listPendingRequests: {
        parameters: {
            query?: {
                /** @description Requests that the caller has sent, or that the caller has received. */
                direction?: "sent" | "received";
                /** @description The maximum number of entries on the page. */
                limit?: number;
                /** @description The `nextCursor` of a page of the same list. Cannot be combined with `skip`. */
                cursor?: components["schemas"]["Cursor"];
                /** @description The number of entries to skip; 0 by default. Cannot be combined with `cursor`. */
                skip?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of chats. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chats": [
                     *         {
                     *           "blocked": false,
                     *           "chatId": "17-42",
                     *           "createdAt": "2026-01-30T08:15:00.000Z",
                     *           "lastMessage": null,
                     *           "peerReadSeq": 0,
                     *           "readSeq": 0,
                     *           "recipientId": 17,
                     *           "requesterId": 42,
                     *           "rev": 0,
                     *           "status": "pending",
                     *           "unreadCount": 0,
                     *           "updatedAt": "2026-01-30T08:15:00.000Z"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["ChatPage"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    listRejectedRequests: {
        parameters: {
            query?: {
                /** @description Requests that the caller has sent, or that the caller has received. */
                direction?: "sent" | "received";
                /** @description The maximum number of entries on the page. */
                limit?: number;
                /** @description The `nextCursor` of a page of the same list. Cannot be combined with `skip`. */
                cursor?: components["schemas"]["Cursor"];
                /** @description The number of entries to skip; 0 by default. Cannot be combined with `cursor`. */
                skip?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of chats. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chats": [
                     *         {
                     *           "blocked": false,
                     *           "chatId": "17-42",
                     *           "createdAt": "2026-01-30T08:15:00.000Z",
                     *           "lastMessage": null,
                     *           "peerReadSeq": 0,
                     *           "readSeq": 0,
                     *           "recipientId": 17,
                     *           "requesterId": 42,
                     *           "rev": 0,
                     *           "status": "declined",
                     *           "unreadCount": 0,
                     *           "updatedAt": "2026-01-30T08:15:00.000Z"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["ChatPage"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    acceptChatRequest: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The active chat. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocked": false,
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-30T08:15:00.000Z",
                     *       "lastMessage": {
                     *         "createdAt": "2026-01-31T12:00:00.250Z",
                     *         "deleted": false,
                     *         "senderId": 42,
                     *         "seq": 9,
                     *         "text": "Hello 👋"
                     *       },
                     *       "peerReadSeq": 9,
                     *       "readSeq": 6,
                     *       "recipientId": 17,
                     *       "requesterId": 42,
                     *       "rev": 2,
                     *       "status": "active",
                     *       "unreadCount": 3,
                     *       "updatedAt": "2026-01-31T12:00:00.250Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Chat"];
                };
            };
            401: components["responses"]["unauthorized"];
            403: components["responses"]["not_the_recipient"];
            404: components["responses"]["chat_not_found"];
            409: components["responses"]["chat_declined_or_chat_withdrawn_or_you_blocked"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    declineChatRequest: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The declined chat. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocked": false,
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-30T08:15:00.000Z",
                     *       "lastMessage": null,
                     *       "peerReadSeq": 0,
                     *       "readSeq": 0,
                     *       "recipientId": 17,
                     *       "requesterId": 42,
                     *       "rev": 0,
                     *       "status": "declined",
                     *       "unreadCount": 0,
                     *       "updatedAt": "2026-01-30T08:15:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Chat"];
                };
            };
            401: components["responses"]["unauthorized"];
            403: components["responses"]["not_the_recipient"];
            404: components["responses"]["chat_not_found"];
            409: components["responses"]["chat_active_or_chat_withdrawn_or_you_blocked"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    withdrawChatRequest: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The withdrawn chat. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocked": false,
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-30T08:15:00.000Z",
                     *       "lastMessage": null,
                     *       "peerReadSeq": 0,
                     *       "readSeq": 0,
                     *       "recipientId": 17,
                     *       "requesterId": 42,
                     *       "rev": 0,
                     *       "status": "withdrawn",
                     *       "unreadCount": 0,
                     *       "updatedAt": "2026-01-30T08:15:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Chat"];
                };
            };
            401: components["responses"]["unauthorized"];
            403: components["responses"]["not_the_requester"];
            404: components["responses"]["chat_not_found"];
            409: components["responses"]["chat_active_or_chat_declined"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    getChat: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The chat. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocked": false,
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-30T08:15:00.000Z",
                     *       "lastMessage": {
                     *         "createdAt": "2026-01-31T12:00:00.250Z",
                     *         "deleted": false,
                     *         "senderId": 42,
                     *         "seq": 9,
                     *         "text": "Hello 👋"
                     *       },
                     *       "peerReadSeq": 9,
                     *       "readSeq": 6,
                     *       "recipientId": 17,
                     *       "requesterId": 42,
                     *       "rev": 2,
                     *       "status": "active",
                     *       "unreadCount": 3,
                     *       "updatedAt": "2026-01-31T12:00:00.250Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Chat"];
                };
            };
            401: components["responses"]["unauthorized"];
            404: components["responses"]["chat_not_found"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    listMessages: {
        parameters: {
            query?: {
                /** @description The maximum number of entries on the page. */
                limit?: number;
                /** @description The `nextCursor` of a page of the same list. Cannot be combined with `skip`, `before` and `after`. */
                cursor?: components["schemas"]["Cursor"];
                /** @description The number of entries to skip; 0 by default. Cannot be combined with `cursor`, `before` and `after`. */
                skip?: number;
                /** @description Only messages before this `seq`, newest first. Cannot be combined with `cursor`, `skip` and `after`. */
                before?: number;
                /** @description Only messages after this `seq`, oldest first; 0 starts with the first message. Cannot be combined with `cursor`, `skip` and `before`. */
                after?: number;
            };
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of messages. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "messages": [
                     *         {
                     *           "chatId": "17-42",
                     *           "createdAt": "2026-01-31T12:00:00.250Z",
                     *           "deletedAt": null,
                     *           "editedAt": null,
                     *           "imageUrl": null,
                     *           "linkPreviewUrl": null,
                     *           "messageId": "17-42/9",
                     *           "senderId": 42,
                     *           "seq": 9,
                     *           "status": "sent",
                     *           "text": "Hello 👋"
                     *         }
                     *       ],
                     *       "nextCursor": "MS5tZXNzYWdlcy0xNy00Mi4xNy5iZWZvcmU6OQ"
                     *     }
                     */
                    "application/json": components["schemas"]["MessagePage"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            404: components["responses"]["chat_not_found"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    sendMessage: {
        parameters: {
            query?: never;
            header?: {
                /** @description A key for this message, so that a retry does not send it twice. The client chooses it, for example a random UUID such as `3f0c9a52-7a0b-4a0e-8a51-6f1f5f6f2b11`; visible ASCII characters without commas. It is valid for the caller in this chat, for 24 hours. A request that fails with a 4xx does not use the key. */
                "Idempotency-Key"?: string;
            };
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        /** @description The message. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "text": "Hello 👋"
                 *     }
                 */
                "application/json": components["schemas"]["NewMessage"];
            };
        };
        responses: {
            /** @description The message was accepted earlier, with the same key. Contains its current state. Nothing was sent twice. */
            200: {
                headers: {
                    /**
                     * @description The message was accepted earlier.
                     * @example true
                     */
                    "Idempotent-Replayed"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-31T12:00:00.250Z",
                     *       "deletedAt": null,
                     *       "editedAt": null,
                     *       "imageUrl": null,
                     *       "linkPreviewUrl": null,
                     *       "messageId": "17-42/9",
                     *       "senderId": 42,
                     *       "seq": 9,
                     *       "status": "read",
                     *       "text": "Hello 👋"
                     *     }
                     */
                    "application/json": components["schemas"]["Message"];
                };
            };
            /** @description The message was accepted. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-31T12:00:00.250Z",
                     *       "deletedAt": null,
                     *       "editedAt": null,
                     *       "imageUrl": null,
                     *       "linkPreviewUrl": null,
                     *       "messageId": "17-42/9",
                     *       "senderId": 42,
                     *       "seq": 9,
                     *       "status": "sent",
                     *       "text": "Hello 👋"
                     *     }
                     */
                    "application/json": components["schemas"]["Message"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            404: components["responses"]["chat_not_found"];
            409: components["responses"]["chat_not_active_or_you_blocked_or_peer_unavailable"];
            413: components["responses"]["body_too_large"];
            415: components["responses"]["unsupported_media_type"];
            422: components["responses"]["idempotency_key_reused"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    markMessagesRead: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        /** @description Absent, null, or without a `seq`: all messages. */
        requestBody?: {
            content: {
                /** @example {} */
                "application/json": components["schemas"]["MarkAsRead"];
            };
        };
        responses: {
            /** @description The caller has no unread messages in the chat, or none up to the `seq`. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "All messages have been marked as read.",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["MarkedAsRead"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            404: components["responses"]["chat_not_found"];
            409: components["responses"]["you_blocked"];
            413: components["responses"]["body_too_large"];
            415: components["responses"]["unsupported_media_type"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    deleteMessage: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
                /**
                 * @description The `seq` of a message of the chat. Any other value is a 404.
                 * @example 9
                 */
                seq: components["schemas"]["Seq"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message without its content. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-31T12:00:00.250Z",
                     *       "deletedAt": "2026-01-31T12:05:00.125Z",
                     *       "editedAt": null,
                     *       "imageUrl": null,
                     *       "linkPreviewUrl": null,
                     *       "messageId": "17-42/9",
                     *       "senderId": 42,
                     *       "seq": 9,
                     *       "status": "read",
                     *       "text": null
                     *     }
                     */
                    "application/json": components["schemas"]["Message"];
                };
            };
            401: components["responses"]["unauthorized"];
            403: components["responses"]["not_the_sender"];
            404: components["responses"]["chat_not_found_or_message_not_found"];
            409: components["responses"]["delete_window_closed"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    editMessage: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
                /**
                 * @description The `seq` of a message of the chat. Any other value is a 404.
                 * @example 9
                 */
                seq: components["schemas"]["Seq"];
            };
            cookie?: never;
        };
        /** @description The new parts. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "text": "Hello Ben 👋"
                 *     }
                 */
                "application/json": components["schemas"]["MessageEdit"];
            };
        };
        responses: {
            /** @description The message as it is now. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "chatId": "17-42",
                     *       "createdAt": "2026-01-31T12:00:00.250Z",
                     *       "deletedAt": null,
                     *       "editedAt": "2026-01-31T12:05:00.125Z",
                     *       "imageUrl": null,
                     *       "linkPreviewUrl": null,
                     *       "messageId": "17-42/9",
                     *       "senderId": 42,
                     *       "seq": 9,
                     *       "status": "sent",
                     *       "text": "Hello Ben 👋"
                     *     }
                     */
                    "application/json": components["schemas"]["Message"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            403: components["responses"]["not_the_sender"];
            404: components["responses"]["chat_not_found_or_message_not_found"];
            409: components["responses"]["message_deleted_or_edit_window_closed_or_you_blocked_or_peer_unavailable"];
            413: components["responses"]["body_too_large"];
            415: components["responses"]["unsupported_media_type"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    listChanges: {
        parameters: {
            query?: {
                /** @description The maximum number of entries on the page. */
                limit?: number;
                /** @description The `nextCursor` of a page of the same list. Cannot be combined with `after`. */
                cursor?: components["schemas"]["Cursor"];
                /** @description Only changes after this `rev`; 0 by default. Cannot be combined with `cursor`. */
                after?: number;
            };
            header?: never;
            path: {
                /**
                 * @description The id of a chat of the caller. Any other value is a 404.
                 * @example 17-42
                 */
                chatId: components["schemas"]["ChatId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of changed messages. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "messages": [
                     *         {
                     *           "chatId": "17-42",
                     *           "createdAt": "2026-01-31T12:00:00.250Z",
                     *           "deletedAt": "2026-01-31T12:05:00.125Z",
                     *           "editedAt": null,
                     *           "imageUrl": null,
                     *           "linkPreviewUrl": null,
                     *           "messageId": "17-42/9",
                     *           "senderId": 42,
                     *           "seq": 9,
                     *           "status": "read",
                     *           "text": null
                     *         }
                     *       ],
                     *       "nextCursor": null,
                     *       "rev": 2
                     *     }
                     */
                    "application/json": components["schemas"]["ChangePage"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            404: components["responses"]["chat_not_found"];
            410: components["responses"]["changes_expired"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    getTotals: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The totals. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "totalPendingRequest": 1,
                     *       "totalSentRequest": 2,
                     *       "totalUnreadMessages": 3,
                     *       "version": 41
                     *     }
                     */
                    "application/json": components["schemas"]["Totals"];
                };
            };
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    getUnreadTotal: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The total. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "totalUnreadMessages": 3
                     *     }
                     */
                    "application/json": components["schemas"]["UnreadTotal"];
                };
            };
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    blockUser: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description Any user except the caller. Any other value is a 400.
                 * @example 42
                 */
                userId: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user is blocked. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blockedAt": "2026-01-31T12:05:00.125Z",
                     *       "userId": 42
                     *     }
                     */
                    "application/json": components["schemas"]["Block"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    unblockUser: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description Any user except the caller. Any other value is a 400.
                 * @example 42
                 */
                userId: components["schemas"]["UserId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user is not blocked. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "The user is not blocked.",
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Unblocked"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    listBlocks: {
        parameters: {
            query?: {
                /** @description The maximum number of entries on the page. */
                limit?: number;
                /** @description The `nextCursor` of a page of the same list. Cannot be combined with `skip`. */
                cursor?: components["schemas"]["Cursor"];
                /** @description The number of entries to skip; 0 by default. Cannot be combined with `cursor`. */
                skip?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of blocked users. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "blocks": [
                     *         {
                     *           "blockedAt": "2026-01-31T12:05:00.125Z",
                     *           "userId": 42
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["BlockPage"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            413: components["responses"]["body_too_large"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
    reportUser: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The report. */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "reason": "spam",
                 *       "userId": 42
                 *     }
                 */
                "application/json": components["schemas"]["NewReport"];
            };
        };
        responses: {
            /** @description The caller has reported the same user and `seq` before. Contains the first report, which does not change. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "createdAt": "2026-01-31T12:05:00.125Z",
                     *       "reason": "spam",
                     *       "reportId": "17-42/17/0",
                     *       "seq": null,
                     *       "userId": 42
                     *     }
                     */
                    "application/json": components["schemas"]["Report"];
                };
            };
            /** @description The report was stored. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "createdAt": "2026-01-31T12:05:00.125Z",
                     *       "reason": "spam",
                     *       "reportId": "17-42/17/0",
                     *       "seq": null,
                     *       "userId": 42
                     *     }
                     */
                    "application/json": components["schemas"]["Report"];
                };
            };
            400: components["responses"]["invalid_request"];
            401: components["responses"]["unauthorized"];
            404: components["responses"]["message_not_found"];
            413: components["responses"]["body_too_large"];
            415: components["responses"]["unsupported_media_type"];
            429: components["responses"]["throttled"];
            431: components["responses"]["headers_too_large"];
            500: components["responses"]["internal"];
            503: components["responses"]["unavailable"];
        };
    };
}
