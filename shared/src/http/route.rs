//! The routes, and what a path answers to the methods that are none of its own.
//!
//! Each path has one event for `ANY` method, at the function of its `GET` or else its only method, so
//! that a client that gets the method wrong is told which are right. API Gateway itself would answer 404.
//! That comes before the token is looked at, as a path that is not there does: which methods there are is
//! no secret, and preflight requests, which reach these events, carry no token.

use super::Event;
use crate::Error;

/// The routes: method, and path as the template writes it.
pub const ROUTES: [(&str, &str); 11] = [
    ("GET", "/chats"),
    ("POST", "/chats"),
    ("GET", "/chats/pending"),
    ("GET", "/chats/rejected"),
    ("PUT", "/chats/{chatId}/accept"),
    ("PUT", "/chats/{chatId}/decline"),
    ("GET", "/chats/{chatId}/messages"),
    ("POST", "/chats/{chatId}/messages"),
    ("PUT", "/chats/{chatId}/messages/read"),
    ("GET", "/totals"),
    ("GET", "/totals/unread"),
];

/// What is asked of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// What the function does; for `HEAD` without the body of the answer.
    Call,
    /// Which methods there are.
    Options {
        /// Those, for the `Allow` header.
        allow: String,
    },
}

impl Asked {
    /// # Errors
    /// [`Error::MethodNotAllowed`].
    pub fn of(event: &Event) -> Result<Self, Error> {
        // `ANY /chats` on API Gateway, where `sam local` writes the method that came.
        let (of_route, path) = event.route().split_once(' ').unwrap_or_default();
        let method = Some(event.method()).filter(|method| !method.is_empty());
        let method = method.unwrap_or(of_route);
        if ROUTES.contains(&(method, path)) {
            return Ok(Self::Call);
        }
        let allow = allowed(path);
        match method {
            "HEAD" if allow.contains(&"HEAD") => Ok(Self::Call),
            "OPTIONS" => Ok(Self::Options {
                allow: allow.join(", "),
            }),
            _ => Err(Error::MethodNotAllowed(allow.join(", "))),
        }
    }
}

/// The methods of a path. Whatever has `GET` has `HEAD`.
fn allowed(path: &str) -> Vec<&'static str> {
    let own = ROUTES.iter().filter(|route| route.1 == path);
    let mut methods: Vec<_> = own.map(|route| route.0).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    methods
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(route: &str, method: &str) -> Result<Asked, String> {
        let event = json!({"routeKey": route, "requestContext": {"http": {"method": method}}});
        Asked::of(&serde_json::from_value(event).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_of_ones_own_is_a_call() {
        assert_eq!(asked("GET /chats", "GET"), Ok(Asked::Call));
        assert_eq!(asked("PUT /chats/{chatId}/accept", "PUT"), Ok(Asked::Call));
        assert_eq!(asked("GET /chats", ""), Ok(Asked::Call));
    }

    #[test]
    fn a_path_with_get_takes_head() {
        assert_eq!(asked("ANY /totals", "HEAD"), Ok(Asked::Call));
        let refused = asked("ANY /chats/{chatId}/accept", "HEAD").unwrap_err();
        assert!(refused.ends_with("PUT, OPTIONS"), "{refused}");
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let allow = "GET, POST, HEAD, OPTIONS".to_owned();
        for route in ["ANY /chats", "DELETE /chats"] {
            let refused = asked(route, "DELETE").unwrap_err();
            assert!(refused.ends_with(&allow), "{refused}");
        }
        assert_eq!(asked("ANY /chats", "OPTIONS"), Ok(Asked::Options { allow }));
    }
}
