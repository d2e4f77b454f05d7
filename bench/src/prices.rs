//! What AWS asks for a call: list prices of us-east-1 in dollars, which have held since November 2024, without
//! free tiers and volume discounts, and without logs, metrics and traffic. All of it is arithmetic over
//! what was measured.

use std::time::Duration;

use crate::{figures::millis, proxy::Cost};

/// A million calls of an HTTP API.
const HTTP_API: f64 = 1.00;
/// A million invocations.
const LAMBDA_REQUESTS: f64 = 0.20;
/// A gigabyte-second on arm64.
const LAMBDA_GIGABYTE_SECOND: f64 = 0.000_013_333_4;
/// A million write units on demand.
const WRITE_UNITS: f64 = 0.625;
/// A million read units on demand.
const READ_UNITS: f64 = 0.125;
/// Megabytes with which a function has one whole processor; with less it has that part of one.
const MEGABYTES_A_PROCESSOR: f64 = 1_769.0;
/// What a round trip to DynamoDB takes, in milliseconds: an assumption.
const ROUND_TRIP: f64 = 5.0;

/// What the figures rest on.
pub const ASSUMPTIONS: &str = "Dollars are arithmetic: list prices of us-east-1 since November 2024 \
(Lambda arm64 $0.20 a million and $0.0000133334 a GB-second, HTTP API $1.00 a million, DynamoDB on \
demand $0.625 and $0.125 a million write and read units), without free tiers, logs and traffic. A call \
is billed for its round trips at an assumed 5 ms each, and for its processor time as measured here \
divided by the part of a processor that the memory buys (a whole one with 1,769 MB), rounded up to whole \
milliseconds. Initialisation is left out, though Lambda bills it, too: a process answers many calls.";

/// Milliseconds that a call is billed for.
pub fn billed(memory: f64, processor_time: Duration, cost: &Cost) -> f64 {
    let trips = f64::from(u32::try_from(cost.round_trips).unwrap_or(u32::MAX));
    let share = (memory / MEGABYTES_A_PROCESSOR).min(1.0);
    (millis(processor_time) / share + trips * ROUND_TRIP).ceil()
}

/// Dollars for a million calls, of a function with so many megabytes.
pub fn million_calls(memory: f64, processor_time: Duration, cost: &Cost) -> f64 {
    let gigabyte_seconds = memory / 1_024.0 * billed(memory, processor_time, cost) / 1_000.0;
    let compute = gigabyte_seconds * 1e6 * LAMBDA_GIGABYTE_SECOND;
    let units = cost.written * WRITE_UNITS + cost.read * READ_UNITS;
    HTTP_API + LAMBDA_REQUESTS + compute + units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_billed_for_its_waiting_and_for_its_part_of_a_processor() {
        let cost = Cost {
            requests: 2,
            round_trips: 2,
            written: 10.0,
            read: 1.0,
        };
        let time = Duration::from_micros(500);
        // 0.5 ms at a fourteenth of a processor, and 10 ms of waiting.
        assert!((billed(128.0, time, &cost) - 17.0).abs() < 1e-9);
        let dollars = million_calls(128.0, time, &cost);
        let compute = 0.125 * 0.017 * 1e6 * LAMBDA_GIGABYTE_SECOND;
        assert!((dollars - (1.2 + compute + 6.25 + 0.125)).abs() < 1e-9);
    }
}
