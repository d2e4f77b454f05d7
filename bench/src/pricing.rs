//! Computes what an invocation costs on AWS from measured values.
//!
//! The prices are list prices in dollars for us-east-1, unchanged since November 2024. Free tiers,
//! volume discounts, logs, metrics and data transfer are not included.

use std::time::Duration;

use chat_shared::http::ENDPOINTS;

use crate::{
    cpu_quota::MEGABYTES_PER_CPU,
    dynamodb_proxy::{Cost, ROUND_TRIP},
    format::millis,
};

/// Dollars for a million requests to an HTTP API.
pub const HTTP_API_PER_MILLION: f64 = 1.00;
/// Dollars for a million Lambda invocations.
pub const LAMBDA_PER_MILLION: f64 = 0.20;
/// Dollars for a gigabyte-second of Lambda on arm64.
pub const LAMBDA_PER_GIGABYTE_SECOND: f64 = 0.000_013_333_4;
/// Dollars for a million write units on demand.
pub const WRITE_UNITS_PER_MILLION: f64 = 0.625;
/// Dollars for a million read units on demand.
pub const READ_UNITS_PER_MILLION: f64 = 0.125;
/// Dollars for a million messages of a WebSocket API, in either direction, of at most 32 KB each.
pub const WEBSOCKET_MESSAGES_PER_MILLION: f64 = 1.00;
/// Dollars for a million minutes of connections to a WebSocket API.
pub const CONNECTION_MINUTES_PER_MILLION: f64 = 0.25;
/// Dollars for a gigabyte of log lines.
pub const LOGS_PER_GIGABYTE: f64 = 0.50;

/// The prices, for reports.
pub const PRICES: &str = "The dollar amounts are calculated, not measured. They use the list \
prices for us-east-1 since November 2024: Lambda on arm64 $0.20 per million invocations and $0.0000133334 \
per GB-second, HTTP API $1.00 per million requests, DynamoDB on demand $0.625 per million write units and \
$0.125 per million read units. Free tiers, logs and data transfer are not included. Lambda also bills \
init, but this is left out, because one process handles many invocations.";

/// Whether a function serves requests to the HTTP API. The prices are those of such requests.
pub fn is_priced(function: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.name == function)
}

/// Estimated milliseconds that Lambda bills for an invocation: its round trips, and its CPU time with the
/// share of a CPU that comes with this many megabytes of memory.
pub fn billed_millis(memory: f64, cpu_time: Duration, cost: &Cost) -> f64 {
    let round_trips = f64::from(u32::try_from(cost.round_trips).unwrap_or(u32::MAX));
    let cpu_share = (memory / f64::from(MEGABYTES_PER_CPU)).min(1.0);
    (millis(cpu_time) / cpu_share + round_trips * millis(ROUND_TRIP)).ceil()
}

/// Milliseconds that Lambda bills for an invocation with a measured duration.
pub fn measured_billed_millis(duration: Duration) -> f64 {
    millis(duration).ceil()
}

/// Dollars for a million requests to a function with this many megabytes of memory. The billed duration is
/// estimated from the CPU time.
pub fn dollars_per_million(memory: f64, cpu_time: Duration, cost: &Cost) -> f64 {
    dollars_per_million_billed(memory, billed_millis(memory, cpu_time, cost), cost)
}

/// Dollars for a million requests to a function with this many megabytes of memory, for which Lambda bills
/// this many milliseconds on average.
pub fn dollars_per_million_billed(memory: f64, billed_millis: f64, cost: &Cost) -> f64 {
    let gigabyte_seconds = memory / 1_024.0 * billed_millis / 1_000.0;
    let compute = gigabyte_seconds * 1e6 * LAMBDA_PER_GIGABYTE_SECOND;
    let capacity =
        cost.write_units * WRITE_UNITS_PER_MILLION + cost.read_units * READ_UNITS_PER_MILLION;
    HTTP_API_PER_MILLION + LAMBDA_PER_MILLION + compute + capacity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_billed_for_its_round_trips_and_its_share_of_a_cpu() {
        let cost = Cost {
            requests: 2,
            round_trips: 2,
            write_units: 10.0,
            read_units: 1.0,
        };
        let cpu_time = Duration::from_micros(500);
        // 0.5 ms of CPU time with a fourteenth of a CPU take about 7 ms; two round trips take 10 ms.
        assert!((billed_millis(128.0, cpu_time, &cost) - 17.0).abs() < 1e-9);
        let dollars = dollars_per_million(128.0, cpu_time, &cost);
        let compute = 0.125 * 0.017 * 1e6 * LAMBDA_PER_GIGABYTE_SECOND;
        assert!((dollars - (1.2 + compute + 6.25 + 0.125)).abs() < 1e-9);
    }

    #[test]
    fn a_measured_duration_is_billed_in_whole_milliseconds() {
        for (micros, expected) in [(0, 0.0), (250, 1.0), (8_001, 9.0), (8_999, 9.0)] {
            let billed = measured_billed_millis(Duration::from_micros(micros));
            assert!((billed - expected).abs() < 1e-9, "{micros} µs");
        }
    }

    #[test]
    fn only_requests_to_the_http_api_are_priced() {
        assert!(is_priced("send-message"));
        assert!(!is_priced("push-events"));
    }
}
