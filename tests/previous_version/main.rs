//! Two versions on one table: the function binaries of the previous version beside those of this one, as during a
//! gradual deployment and after a rollback. The rules are in `docs/architecture.md`, section "Changing stored items".
//!
//! `scripts/test-previous-version.sh` builds the binaries of the previous version and runs these tests. The integration
//! test `side_by_side` imitates other versions; these tests use one.
//!
//! | Module | What it checks |
//! |---|---|
//! | `upgrade` | this version works with a table that the previous one has written |
//! | `gradual_deployment` | both at once, while `SAFETY_FEATURES` is off: responses and counts are exact |
//! | `after_the_switch` | the previous version meets edited messages, blocks and withdrawn requests: it loses nothing |
//! | `live` | the previous version meets connections and what push stores, and its changes become events |
//!
//! The tests share these modules:
//!
//! | Module | What it contains |
//! |---|---|
//! | `versions` | one stack with the functions of each version, on one table |
//! | `table` | direct access to the table |
//! | `contract_model`, `invariants` | those of the integration tests |

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod after_the_switch;
#[allow(dead_code, reason = "the integration tests use more of it")]
#[path = "../integration/contract_model.rs"]
mod contract_model;
mod gradual_deployment;
#[path = "../integration/invariants.rs"]
mod invariants;
mod live;
mod table;
mod upgrade;
mod versions;

use chat_local::Stack;

use table::Table;

/// Starts the API that tests share if they do not start their own stacks. Returns its URL, and what must live as long
/// as it is in use.
async fn start_shared_api() -> (String, Stack) {
    let stack = Stack::start(support::stack_options()).await;
    let stack = stack.expect("the stack starts");
    (stack.url().to_owned(), stack)
}
