//! The sample events in `events/`, made ready for a function.
//!
//! A token in a file goes stale, and its 401 then hides whatever else is wrong. The files hold
//! `TOKEN_OF_42` in its place, and the token is made when an event is asked for.

use std::path::Path;

use chat_shared::domain::UserId;

use crate::Error;

const PLACEHOLDER: &str = "TOKEN_OF_";

/// The sample event of a function, by its binary's name, with a fresh token: of `user`, or of whom the
/// file names.
///
/// # Errors
/// When there is no such event, or no token for it.
pub fn ready(
    folder: &Path,
    function: &str,
    user: Option<UserId>,
    token: impl FnOnce(UserId) -> Result<String, Error>,
) -> Result<String, Error> {
    let path = folder.join(format!("{function}.json"));
    let event = std::fs::read_to_string(&path).map_err(|error| {
        let path = path.display();
        Error::new(format!(
            "there is no sample event of {function}: {path}: {error}"
        ))
    })?;
    let named = || {
        let (_, after) = event.split_once(PLACEHOLDER)?;
        let digits = after.find(|c: char| !c.is_ascii_digit())?;
        after[..digits].parse::<UserId>().ok()
    };
    let named = named().ok_or_else(|| {
        let path = path.display();
        Error::new(format!("{path} must name its caller: {PLACEHOLDER}42"))
    })?;
    let token = token(user.unwrap_or(named))?;
    Ok(event.replace(&format!("{PLACEHOLDER}{named}"), &token))
}
