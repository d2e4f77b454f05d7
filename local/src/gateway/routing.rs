//! Route matching: finds the template's route for a request's method and path.

use axum::http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::template::Route;

/// All routes of the HTTP API, with their paths split into segments.
pub(super) struct RouteTable {
    routes: Vec<(Route, Vec<Segment>)>,
}

impl RouteTable {
    pub fn new(routes: &[Route]) -> Self {
        let routes = routes
            .iter()
            .map(|route| (route.clone(), segments(&route.path)));
        Self {
            routes: routes.collect(),
        }
    }

    /// The route of a request and its decoded path parameters. If several routes match, a fixed
    /// segment takes precedence over a parameter, a parameter over a greedy parameter, and a method
    /// over `ANY`.
    pub fn find(&self, method: &Method, path: &str) -> Option<(&Route, Map<String, Value>)> {
        let matching = self.routes.iter().filter_map(|(route, segments)| {
            let is_any = route.method == "ANY";
            let parameters = match_path(segments, path)?;
            (is_any || route.method == method.as_str())
                .then_some((route, segments, is_any, parameters))
        });
        let best = matching.min_by_key(|(_, segments, is_any, _)| {
            let ranks: Vec<_> = segments.iter().map(Segment::rank).collect();
            (ranks, *is_any)
        });
        best.map(|(route, _, _, parameters)| (route, parameters))
    }
}

/// One segment of a route's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Fixed(String),
    Parameter(String),
    /// `{name+}`: matches the rest of the path.
    Greedy(String),
}

impl Segment {
    fn rank(&self) -> u8 {
        match self {
            Self::Fixed(_) => 0,
            Self::Parameter(_) => 1,
            Self::Greedy(_) => 2,
        }
    }
}

pub(super) fn segments(path: &str) -> Vec<Segment> {
    let segment = |text: &str| {
        let name = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        match name.map(|name| (name, name.strip_suffix('+'))) {
            Some((_, Some(greedy))) => Segment::Greedy(greedy.to_owned()),
            Some((name, None)) => Segment::Parameter(name.to_owned()),
            None => Segment::Fixed(text.to_owned()),
        }
    };
    path.trim_start_matches('/')
        .split('/')
        .map(segment)
        .collect()
}

/// The decoded path parameters, or `None` if the path does not match. The path is split before it is
/// decoded, so an encoded slash does not start a new segment.
pub(super) fn match_path(segments: &[Segment], path: &str) -> Option<Map<String, Value>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let mut parameters = Map::new();
    for segment in segments {
        let part = parts.next()?;
        match segment {
            Segment::Fixed(text) if decode(part) == *text => {}
            Segment::Fixed(_) => return None,
            Segment::Parameter(_) | Segment::Greedy(_) if part.is_empty() => return None,
            Segment::Parameter(name) => {
                parameters.insert(name.clone(), decode(part).into());
            }
            Segment::Greedy(name) => {
                let rest: Vec<_> = [part].into_iter().chain(parts.by_ref()).collect();
                parameters.insert(name.clone(), decode(&rest.join("/")).into());
            }
        }
    }
    parts.next().is_none().then_some(parameters)
}

/// Percent-decodes a path or a part of one.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Template, default_path};

    #[test]
    fn a_path_is_split_into_segments_before_it_is_decoded() {
        let matches = |path: &str| match_path(&segments("/chats/{id}/messages"), path);
        assert_eq!(matches("/chats/1%2F2%20/messages").unwrap()["id"], "1/2 ");
        assert_eq!(matches("/ch%61ts/1/messages").unwrap()["id"], "1");
        for other in [
            "/chats//messages",
            "/chats/1/messages/",
            "/chats/1",
            "chats/1/messages",
            "/",
        ] {
            assert!(matches(other).is_none(), "{other}");
        }
        let greedy = match_path(&segments("/{all+}"), "/a/b%20c").unwrap();
        assert_eq!(greedy["all"], "a/b c");
    }

    #[test]
    fn fixed_segments_take_precedence_over_parameters_and_methods_over_any() {
        let routes = [
            ("ANY", "/chats/{id}"),
            ("GET", "/{all+}"),
            ("GET", "/chats/{id}"),
            ("GET", "/chats/pending"),
        ];
        let routes = routes.map(|(method, path)| Route {
            method: method.to_owned(),
            path: path.to_owned(),
            binary: format!("{method} {path}"),
        });
        let table = RouteTable::new(&routes);
        let found = |method: Method, path: &str| {
            table
                .find(&method, path)
                .map(|(route, _)| route.binary.clone())
        };
        assert_eq!(
            found(Method::GET, "/chats/pending").as_deref(),
            Some("GET /chats/pending")
        );
        assert_eq!(
            found(Method::GET, "/chats/1").as_deref(),
            Some("GET /chats/{id}")
        );
        assert_eq!(
            found(Method::PUT, "/chats/1").as_deref(),
            Some("ANY /chats/{id}")
        );
        assert_eq!(found(Method::GET, "/x/y/z").as_deref(), Some("GET /{all+}"));
        assert_eq!(found(Method::PUT, "/x"), None);
    }

    #[test]
    fn a_fixed_segment_takes_precedence_over_a_parameter_also_for_a_method_that_only_any_has() {
        let template = Template::read(&default_path()).unwrap();
        let table = RouteTable::new(&template.routes);
        for (method, path, expected) in [
            (
                Method::DELETE,
                "/chats/1-2/messages/read",
                "ANY /chats/{chatId}/messages/read",
            ),
            (
                Method::PATCH,
                "/chats/1-2/messages/read",
                "ANY /chats/{chatId}/messages/read",
            ),
            (
                Method::PUT,
                "/chats/1-2/messages/read",
                "PUT /chats/{chatId}/messages/read",
            ),
            (
                Method::DELETE,
                "/chats/1-2/messages/7",
                "DELETE /chats/{chatId}/messages/{seq}",
            ),
            (
                Method::PATCH,
                "/chats/1-2/messages/7",
                "PATCH /chats/{chatId}/messages/{seq}",
            ),
            (
                Method::PUT,
                "/chats/1-2/messages/7",
                "ANY /chats/{chatId}/messages/{seq}",
            ),
            (Method::GET, "/chats/1-2", "GET /chats/{chatId}"),
            (Method::DELETE, "/chats/pending", "ANY /chats/pending"),
            (Method::DELETE, "/blocks/7", "DELETE /blocks/{userId}"),
            (Method::POST, "/blocks/7", "ANY /blocks/{userId}"),
            (Method::DELETE, "/blocks", "ANY /blocks"),
        ] {
            let (route, parameters) = table.find(&method, path).unwrap();
            let key = format!("{} {}", route.method, route.path);
            assert_eq!(key, expected, "{method} {path}");
            assert_eq!(parameters.contains_key("seq"), path.ends_with("messages/7"));
        }
    }
}
