//! How much one machine serves: the local stack with release binaries, asked by `wrk`, which shares the
//! machine with it.

use std::{collections::BTreeMap, fmt::Write, path::Path, sync::Arc, time::Duration};

use chat_local::{
    DEVELOPMENT_SECRET, Database, Options, Stack,
    binaries::executables,
    dynamodb,
    template::{default_path, workspace_root},
};
use chat_shared::{domain::Timestamp, store::Connection};
use serde_json::Value;
use tokio::{process::Command, runtime::Runtime};

use crate::{
    Effort, Result,
    contestants::find,
    figures::{digits, millis, table},
    plot::{Bar, bars},
    process::processor_time,
    report::Report,
    world,
};

/// Pairs of users who have a chat.
const PAIRS: u64 = 100;
/// Messages of each.
const MESSAGES: u64 = 20;
/// Seconds in which processes start, before anything counts.
const WARM_UP: u32 = 2;

/// A call that is made now and then.
struct Call {
    /// How often, beside the others'.
    weight: u32,
    function: &'static str,
    method: &'static str,
    /// `CHAT` is the caller's chat.
    path: &'static str,
    body: Option<&'static str>,
}

const fn call(
    weight: u32,
    function: &'static str,
    method: &'static str,
    path: &'static str,
) -> Call {
    Call {
        weight,
        function,
        method,
        path,
        body: None,
    }
}

const TOTALS: Call = call(20, "get-totals", "GET", "/totals");
const SEND: Call = Call {
    body: Some(r#"{"text":"How are you today? I have been thinking of you."}"#),
    ..call(20, "send-message", "POST", "/chats/CHAT/messages")
};

const SCENARIOS: [(&str, &[Call]); 3] = [
    ("totals", &[TOTALS]),
    ("sends", &[SEND]),
    (
        "mixed",
        &[
            call(45, "list-messages", "GET", "/chats/CHAT/messages"),
            TOTALS,
            SEND,
            call(10, "list-active-chats", "GET", "/chats"),
            call(5, "mark-messages-read", "PUT", "/chats/CHAT/messages/read"),
        ],
    ),
];

/// What `wrk` calls: it makes requests, and tells what came of them in one line.
const SCRIPT: &str = r#"
local threads = 0
function setup(thread)
  thread:set("seed", threads)
  threads = threads + 1
end
function init()
  math.randomseed(seed)
end
function request()
  local user, at = users[math.random(#users)], math.random(weights)
  for _, call in ipairs(calls) do
    at = at - call.weight
    if at <= 0 then
      local headers = {authorization = "Bearer " .. user.token, ["content-type"] = call.body and "application/json"}
      return wrk.format(call.method, (call.path:gsub("CHAT", user.chat)), headers, call.body)
    end
  end
end
function done(summary, latency)
  local errors = summary.errors
  print(string.format('RESULT {"requests":%d,"micros":%d,"failed":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
"#;

/// Measures what the functions among `functions` serve, and reports.
pub fn run(
    runtime: &Runtime,
    functions: &[String],
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    if find("wrk").is_none() {
        return Err("the load comes from wrk, which is not installed: apt-get install wrk".into());
    }
    let known = |call: &Call| functions.iter().any(|it| it == call.function);
    let scenarios = SCENARIOS
        .iter()
        .filter(|(_, calls)| calls.iter().all(known));
    runtime.block_on(measure(&scenarios.collect::<Vec<_>>(), effort, report))
}

async fn measure(scenarios: &[&(&str, &[Call])], effort: &Effort, report: &Report) -> Result<()> {
    eprintln!("Building the functions as they are deployed …");
    let mut arguments = vec!["--release", "--locked", "--package", "chat-functions"];
    let calls = scenarios.iter().flat_map(|(_, calls)| calls.iter());
    arguments.extend(calls.flat_map(|call| ["--bin", call.function]));
    let binaries = executables(&workspace_root(), &arguments).await?;
    let folder = binaries.first().and_then(|it| it.parent());
    let options = Options {
        template: default_path(),
        binaries: folder.ok_or("no functions to ask")?.to_owned(),
        port: 0,
        database: Database::Memory,
        environment: BTreeMap::from([
            ("JWT_SECRET".to_owned(), DEVELOPMENT_SECRET.to_owned()),
            ("LOG_LEVEL".to_owned(), "WARN".to_owned()),
            ("STACK_NAME".to_owned(), String::new()),
        ]),
        log: Arc::new(|_| {}),
    };
    let stack = Stack::start(options).await?;
    let users = fill(&stack).await?;
    let script = std::env::temp_dir().join(format!("chat-bench-{}.lua", std::process::id()));
    let (mut rows, mut rates) = (Vec::new(), Vec::new());
    for (name, calls) in scenarios {
        std::fs::write(&script, users.clone() + &lua(calls)? + SCRIPT)?;
        eprintln!("{name}: {} s …", effort.seconds);
        ask(&stack, &script, WARM_UP, effort.connections).await?;
        let before = processor_times(&stack, calls)?;
        let result = ask(&stack, &script, effort.seconds, effort.connections).await?;
        let after = processor_times(&stack, calls)?;
        let number = |field: &str| result[field].as_f64().unwrap_or_default();
        let rate = number("requests") / (number("micros") / 1e6);
        // An instance that came or went meanwhile would be counted wrongly; none does in a minute.
        let a_call = |at: usize| {
            let took = after[at].saturating_sub(before[at]);
            digits(millis(took) / number("requests").max(1.0))
        };
        let latencies = ["p50", "p90", "p99", "max"].map(|it| digits(number(it) / 1e3));
        let first = [(*name).to_owned(), digits(rate)]
            .into_iter()
            .chain(latencies);
        let last = [a_call(0), a_call(1), number("failed").to_string()];
        rows.push(first.chain(last).collect());
        rates.push(Bar {
            name: (*name).to_owned(),
            parts: vec![rate],
        });
    }
    let _ = std::fs::remove_file(&script);
    stack.stop().await;
    report.plot("load", |path| {
        bars(path, "calls a second", &["calls"], &rates)
    })?;
    let header = [
        "calls",
        "a second",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "slowest ms",
        "gateway and table: processor ms a call",
        "function: processor ms a call",
        "failed",
    ];
    let text = format!(
        "The whole backend in one process beside its functions' processes ({} of each at most), the \
         table in memory; `wrk` asks over {} connections for {} s from the same machine. Users and chats \
         are picked at random among {PAIRS} pairs.{} Failed is whatever was not answered with 2xx or \
         3xx.\n\n{}\n![Calls a second](load.svg)\n",
        chat_local::lambda::max_instances(),
        effort.connections,
        effort.seconds,
        scenarios.iter().map(|it| mix(it)).collect::<String>(),
        table(&header, &rows)
    );
    report.section("load", "Load on one machine", &text)
}

/// Processor time so far of this process, which is gateway and table, and of the functions.
fn processor_times(stack: &Stack, calls: &[Call]) -> Result<[Duration; 2]> {
    let instances = calls.iter().flat_map(|call| stack.instances(call.function));
    let functions = instances.map(processor_time).sum::<Result<_>>()?;
    Ok([processor_time(std::process::id())?, functions])
}

/// What a scenario of several calls is made of.
fn mix((name, calls): &(&str, &[Call])) -> String {
    if calls.len() == 1 {
        return String::new();
    }
    let part = |call: &Call| format!("{} % `{}`", call.weight, call.function);
    let parts: Vec<_> = calls.iter().map(part).collect();
    format!(" The calls of {name} are {}.", parts.join(", "))
}

/// Makes chats; a Lua table of who may call for which.
async fn fill(stack: &Stack) -> Result<String> {
    let client = dynamodb::client(stack.dynamodb_endpoint());
    let connection = Connection::new(client, stack.table());
    let mut users = "users = {\n".to_owned();
    for pair in 1..=PAIRS {
        let chat = world::chat(2 * pair, 2 * pair + 1)?;
        let store = connection.at(Timestamp::now());
        world::befriend(&store, chat.low(), chat).await?;
        for _ in 0..MESSAGES {
            store
                .send_message(chat.low(), chat, world::short()?, None)
                .await?;
        }
        for user in [chat.low(), chat.high()] {
            let token = world::token(user)?;
            writeln!(users, "  {{token = \"{token}\", chat = \"{chat}\"}},")?;
        }
    }
    Ok(users + "}\n")
}

fn lua(calls: &[Call]) -> Result<String> {
    let weights: u32 = calls.iter().map(|call| call.weight).sum();
    let mut lua = format!("weights = {weights}\ncalls = {{\n");
    for call in calls {
        let Call {
            weight,
            method,
            path,
            body,
            ..
        } = call;
        let body = body.map_or("nil".to_owned(), |body| format!("'{body}'"));
        writeln!(
            lua,
            "  {{weight = {weight}, method = \"{method}\", path = \"{path}\", body = {body}}},"
        )?;
    }
    Ok(lua + "}\n")
}

async fn ask(stack: &Stack, script: &Path, seconds: u32, connections: u32) -> Result<Value> {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--duration", &format!("{seconds}s")]);
    wrk.args(["--connections", &connections.to_string(), "--script"]);
    let output = wrk.arg(script).arg(stack.url()).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let result = printed
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "));
    let complaint = || format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(result.ok_or_else(complaint)?)?)
}
