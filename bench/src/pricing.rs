//! Computes what an invocation costs on AWS from measured values.
//!
//! The prices are list prices in dollars for us-east-1, unchanged since November 2024. Free tiers,
//! volume discounts, logs, metrics and data transfer are not included.

use std::time::Duration;

use crate::{dynamodb_proxy::Cost, format::millis};

/// Dollars for a million requests to an HTTP API.
const HTTP_API_PER_MILLION: f64 = 1.00;
/// Dollars for a million Lambda invocations.
const LAMBDA_PER_MILLION: f64 = 0.20;
/// Dollars for a gigabyte-second of Lambda on arm64.
const LAMBDA_PER_GIGABYTE_SECOND: f64 = 0.000_013_333_4;
/// Dollars for a million write units on demand.
const WRITE_UNITS_PER_MILLION: f64 = 0.625;
/// Dollars for a million read units on demand.
const READ_UNITS_PER_MILLION: f64 = 0.125;
/// Megabytes of memory that come with one whole CPU. Less memory comes with a proportional share.
const MEGABYTES_PER_CPU: f64 = 1_769.0;
/// Assumed milliseconds of a round trip to DynamoDB.
const ROUND_TRIP_MILLIS: f64 = 5.0;

/// The assumptions behind the prices, for reports.
pub const ASSUMPTIONS: &str = "The dollar amounts are calculated, not measured. They use the list \
prices for us-east-1 since November 2024: Lambda on arm64 $0.20 per million invocations and $0.0000133334 \
per GB-second, HTTP API $1.00 per million requests, DynamoDB on demand $0.625 per million write units and \
$0.125 per million read units. Free tiers, logs and data transfer are not included. The billed duration \
of an invocation is the sum of two parts, rounded up to whole milliseconds: an assumed 5 ms per round \
trip, and the measured CPU time divided by the share of a CPU that the memory size includes (1,769 MB \
include a whole CPU). Lambda also bills init, but this is left out, because one process handles many \
invocations.";

/// Milliseconds that Lambda bills for an invocation.
pub fn billed_millis(memory: f64, cpu_time: Duration, cost: &Cost) -> f64 {
    let round_trips = f64::from(u32::try_from(cost.round_trips).unwrap_or(u32::MAX));
    let cpu_share = (memory / MEGABYTES_PER_CPU).min(1.0);
    (millis(cpu_time) / cpu_share + round_trips * ROUND_TRIP_MILLIS).ceil()
}

/// Dollars for a million requests to a function with this many megabytes of memory.
pub fn dollars_per_million(memory: f64, cpu_time: Duration, cost: &Cost) -> f64 {
    let gigabyte_seconds = memory / 1_024.0 * billed_millis(memory, cpu_time, cost) / 1_000.0;
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
}
