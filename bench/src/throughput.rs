//! Measures the throughput of one machine: how many requests per second the local stack with release
//! binaries serves to the load generator `wrk`, which runs on the same machine.

use std::{fmt::Write, path::Path, time::Duration};

use chat_local::{
    Stack, dynamodb::client_for_endpoint, lambda::max_instances, realtime::RealtimeOptions,
};
use chat_shared::{domain::Timestamp, store::TableClient};
use serde_json::Value;
use tokio::{process::Command, runtime::Runtime};

use crate::{
    Effort, Result,
    dataset::{access_token, chat_id, short_message, start_chat},
    format::{markdown_table, millis, significant},
    function_process::cpu_time,
    implementations::find_program,
    plot::{Bar, bars},
    report::Report,
    stack::start_stack,
};

/// Pairs of users who have a chat.
const PAIRS: u64 = 100;
/// Messages in each chat.
const MESSAGES: u64 = 20;
/// Seconds of load before the measurement, in which the function processes start.
const WARM_UP_SECONDS: u32 = 2;

/// A kind of request in a scenario.
struct RequestKind {
    /// How often it is sent, in relation to the other kinds of the scenario.
    weight: u32,
    function: &'static str,
    method: &'static str,
    /// The path. `CHAT` stands for the id of the caller's chat.
    path: &'static str,
    body: Option<&'static str>,
}

/// A named mix of requests.
struct Scenario {
    name: &'static str,
    requests: &'static [RequestKind],
}

const fn request(
    weight: u32,
    function: &'static str,
    method: &'static str,
    path: &'static str,
) -> RequestKind {
    RequestKind {
        weight,
        function,
        method,
        path,
        body: None,
    }
}

const GET_TOTALS: RequestKind = request(20, "get-totals", "GET", "/totals");
const SEND_MESSAGE: RequestKind = RequestKind {
    body: Some(r#"{"text":"How are you today? I have been thinking of you."}"#),
    ..request(20, "send-message", "POST", "/chats/CHAT/messages")
};

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "totals",
        requests: &[GET_TOTALS],
    },
    Scenario {
        name: "sends",
        requests: &[SEND_MESSAGE],
    },
    Scenario {
        name: "mixed",
        requests: &[
            request(45, "list-messages", "GET", "/chats/CHAT/messages"),
            GET_TOTALS,
            SEND_MESSAGE,
            request(10, "list-active-chats", "GET", "/chats"),
            request(5, "mark-messages-read", "PUT", "/chats/CHAT/messages/read"),
        ],
    },
];

/// The script for `wrk`. It generates the requests from the tables `users` and `kinds`, and prints
/// the result as one line of JSON.
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
  local user, position = users[math.random(#users)], math.random(total_weight)
  for _, kind in ipairs(kinds) do
    position = position - kind.weight
    if position <= 0 then
      local headers = {authorization = "Bearer " .. user.token, ["content-type"] = kind.body and "application/json"}
      return wrk.format(kind.method, (kind.path:gsub("CHAT", user.chat)), headers, kind.body)
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

/// Measures all scenarios that need no other functions than `functions`, and writes the report.
pub fn run(
    runtime: &Runtime,
    functions: &[String],
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    if find_program("wrk").is_none() {
        return Err("this part needs wrk; install it with: apt-get install wrk".into());
    }
    let is_selected =
        |kind: &RequestKind| functions.iter().any(|function| function == kind.function);
    let scenarios: Vec<_> = SCENARIOS
        .into_iter()
        .filter(|scenario| scenario.requests.iter().all(is_selected))
        .collect();
    if scenarios.is_empty() {
        eprintln!("Skipping throughput: no scenario can run with the selected functions.");
        return Ok(());
    }
    runtime.block_on(measure(&scenarios, effort, report))
}

async fn measure(scenarios: &[Scenario], effort: &Effort, report: &Report) -> Result<()> {
    eprintln!("Building the functions as they are deployed …");
    let kinds = scenarios.iter().flat_map(|scenario| scenario.requests);
    let functions: Vec<_> = kinds.map(|kind| kind.function).collect();
    // Without push: the stream of the embedded DynamoDB slows writes down more and more (see `push.rs`).
    let stack = start_stack(&functions, RealtimeOptions::off()).await?;
    let users = create_users(&stack).await?;
    let script = std::env::temp_dir().join(format!("chat-bench-{}.lua", std::process::id()));
    let (mut rows, mut rates) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        std::fs::write(&script, users.clone() + &lua_kinds(scenario)? + SCRIPT)?;
        eprintln!(
            "Running the scenario {} for {} s …",
            scenario.name, effort.seconds
        );
        run_wrk(&stack, &script, WARM_UP_SECONDS, effort.connections).await?;
        let before = CpuTimes::now(&stack, scenario)?;
        let result = run_wrk(&stack, &script, effort.seconds, effort.connections).await?;
        let after = CpuTimes::now(&stack, scenario)?;
        let number = |field: &str| result[field].as_f64().unwrap_or_default();
        let rate = number("requests") / (number("micros") / 1e6);
        // Processes that started or ended in between would make this wrong. Within a minute, none do.
        let per_request = |before: Duration, after: Duration| {
            let cpu_time = after.saturating_sub(before);
            significant(millis(cpu_time) / number("requests").max(1.0))
        };
        let latencies = ["p50", "p90", "p99", "max"].map(|field| significant(number(field) / 1e3));
        let mut row = vec![scenario.name.to_owned(), significant(rate)];
        row.extend(latencies);
        row.push(per_request(before.stack, after.stack));
        row.push(per_request(before.functions, after.functions));
        row.push(number("failed").to_string());
        rows.push(row);
        rates.push(Bar {
            name: scenario.name.to_owned(),
            parts: vec![rate],
        });
    }
    let _ = std::fs::remove_file(&script);
    stack.stop().await;
    report.plot("throughput", |path| {
        bars(path, "requests per second", &["requests"], &rates)
    })?;
    let header = [
        "scenario",
        "requests per second",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "CPU ms per request: gateway and table",
        "CPU ms per request: function",
        "failed",
    ];
    let text = format!(
        "The whole backend runs on this machine, without push: the gateway and the table (in memory) in one \
         process, and up to {} processes of each function. `wrk` runs on the same machine and sends requests over {} \
         connections for {} s. It picks the user for each request at random from {PAIRS} pairs of users with \
         a chat.{} A request counts as failed if its response is not 2xx or 3xx.\n\n{}\n\
         ![Requests per second](throughput.svg)\n",
        max_instances(),
        effort.connections,
        effort.seconds,
        scenarios.iter().map(describe_mix).collect::<String>(),
        markdown_table(&header, &rows)
    );
    report.section("throughput", "Throughput on one machine", &text)
}

/// CPU times so far.
struct CpuTimes {
    /// This process, which contains the gateway and the table.
    stack: Duration,
    /// The processes of the scenario's functions.
    functions: Duration,
}

impl CpuTimes {
    fn now(stack: &Stack, scenario: &Scenario) -> Result<Self> {
        let kinds = scenario.requests.iter();
        let processes = kinds.flat_map(|kind| stack.instance_pids(kind.function));
        Ok(Self {
            stack: cpu_time(std::process::id())?,
            functions: processes.map(cpu_time).sum::<Result<Duration>>()?,
        })
    }
}

/// A sentence about the requests of a scenario. It is empty if there is only one kind.
fn describe_mix(scenario: &Scenario) -> String {
    if scenario.requests.len() == 1 {
        return String::new();
    }
    let describe = |kind: &RequestKind| format!("{} % `{}`", kind.weight, kind.function);
    let shares: Vec<_> = scenario.requests.iter().map(describe).collect();
    let name = scenario.name;
    format!(" The scenario {name} consists of {}.", shares.join(", "))
}

/// Creates the chats and returns the Lua table of users, with the token and the chat of each.
async fn create_users(stack: &Stack) -> Result<String> {
    let client = client_for_endpoint(stack.dynamodb_endpoint());
    let table = TableClient::new(client, stack.table());
    let mut users = "users = {\n".to_owned();
    for pair in 1..=PAIRS {
        let chat = chat_id(2 * pair, 2 * pair + 1)?;
        let store = table.store_at(Timestamp::now());
        start_chat(&store, chat.low(), chat).await?;
        for _ in 0..MESSAGES {
            store
                .send_message(chat.low(), chat, short_message()?, None)
                .await?;
        }
        for user in [chat.low(), chat.high()] {
            let token = access_token(user)?;
            writeln!(users, "  {{token = \"{token}\", chat = \"{chat}\"}},")?;
        }
    }
    Ok(users + "}\n")
}

/// The Lua table of a scenario's kinds of requests.
fn lua_kinds(scenario: &Scenario) -> Result<String> {
    let total: u32 = scenario.requests.iter().map(|kind| kind.weight).sum();
    let mut lua = format!("total_weight = {total}\nkinds = {{\n");
    for RequestKind {
        weight,
        method,
        path,
        body,
        ..
    } in scenario.requests
    {
        let body = body.map_or("nil".to_owned(), |body| format!("'{body}'"));
        writeln!(
            lua,
            "  {{weight = {weight}, method = \"{method}\", path = \"{path}\", body = {body}}},"
        )?;
    }
    Ok(lua + "}\n")
}

/// Runs `wrk` and returns the JSON that the script prints.
async fn run_wrk(stack: &Stack, script: &Path, seconds: u32, connections: u32) -> Result<Value> {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--duration", &format!("{seconds}s")]);
    wrk.args(["--connections", &connections.to_string(), "--script"]);
    let output = wrk.arg(script).arg(stack.url()).output().await?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let result = stdout.lines().find_map(|line| line.strip_prefix("RESULT "));
    let error = || {
        let stderr = String::from_utf8_lossy(&output.stderr);
        format!("wrk printed no result: {stdout}{stderr}")
    };
    Ok(serde_json::from_str(result.ok_or_else(error)?)?)
}
