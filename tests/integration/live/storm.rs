//! A storm: many sockets are cut at once, and their clients come back while no more than [`PER_SECOND`] connections a
//! second are accepted, as API Gateway limits those of an account. Nothing may be lost.
//!
//! The clients wait as long as the rules say, so this takes some seconds. Each handshake runs two real functions, and
//! each client then fetches what it shows: a machine with two cores manages some sixty clients in the time of a
//! normal test. So [`SOCKETS`] are cut by default, and `LIVE_STORM_SOCKETS` sets another number:
//!
//! ```sh
//! LIVE_STORM_SOCKETS=500 cargo test -p chat-functions --test integration live::storm -- --nocapture
//! ```

use std::time::{Duration, Instant};

use super::{
    LiveStack,
    client::{ConnectionLimiter, Device, Timing},
};
use crate::support::{User, env_number};

/// The number of sockets, if `LIVE_STORM_SOCKETS` is not set.
const SOCKETS: u64 = 60;
/// The number of connections in one second.
const PER_SECOND: usize = 50;
/// Devices of each user. A user may have ten connections, and those that were cut may still be counted.
const DEVICES_PER_USER: usize = 5;

/// Two users with a chat, and their devices.
struct Couple {
    users: [User; 2],
    chat: String,
    devices: Vec<Device>,
}

/// Waits until all devices meet a condition. Fails the test when that takes longer than `limit`.
async fn wait_for_all(
    what: &str,
    couples: &[Couple],
    limit: Duration,
    condition: impl Fn(&Device, &Couple) -> bool,
) {
    let missing = || {
        let devices = couples.iter().flat_map(|couple| {
            let devices = couple.devices.iter();
            devices.map(move |device| (device, couple))
        });
        devices
            .filter(|(device, couple)| !condition(device, couple))
            .count()
    };
    let all = async {
        while missing() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_met = tokio::time::timeout(limit, all).await.is_ok();
    assert!(
        is_met,
        "{} devices do not {what} after {limit:?}",
        missing()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_come_back_below_the_limit_on_new_connections_and_miss_nothing() {
    let sockets = usize::try_from(env_number("LIVE_STORM_SOCKETS", SOCKETS)).unwrap();
    let live = LiveStack::start().await;
    let limiter = ConnectionLimiter::new(PER_SECOND);
    let mut couples = Vec::new();
    for _ in 0..sockets.div_ceil(2 * DEVICES_PER_USER) {
        let (ann, ben, chat) = live.api().active_chat().await;
        send_until_accepted(&ann, &chat, "before").await;
        let devices = [&ann, &ben].into_iter().flat_map(|user| {
            let limiter = &limiter;
            (0..DEVICES_PER_USER)
                .map(move |_| Device::start(user, Timing::REAL, Some(limiter.clone())))
        });
        couples.push(Couple {
            devices: devices.collect(),
            users: [ann, ben],
            chat,
        });
    }
    let count = couples.len() * 2 * DEVICES_PER_USER;
    // All devices connect within this time even if every second attempt comes at a bad time and every client fetches.
    let limit = Duration::from_secs(20 + 8 * count.div_ceil(PER_SECOND) as u64);
    wait_for_all("connect", &couples, limit, |device, _| {
        device.times_connected() > 0
    })
    .await;
    let [admitted, refused] = [limiter.admitted(), limiter.refused()];
    assert_eq!(live.stack().connection_ids().len(), count);

    let started = Instant::now();
    live.stack().cut_connections();
    for couple in &couples {
        let [ann, ben] = &couple.users;
        for (sender, text) in [(ann, "during"), (ben, "the storm")] {
            send_until_accepted(sender, &couple.chat, text).await;
        }
    }
    wait_for_all("come back", &couples, limit, |device, _| {
        device.times_connected() > 1
    })
    .await;
    let elapsed = started.elapsed();
    let attempts = limiter.admitted() - admitted + limiter.refused() - refused;
    println!(
        "{count} sockets came back in {elapsed:.1?} with {attempts} attempts, at most {PER_SECOND} a second"
    );
    // The limit was in effect, and the clients did not try all the time.
    if count > PER_SECOND {
        let minimum = Duration::from_secs((count / PER_SECOND) as u64 - 1);
        assert!(elapsed >= minimum, "{elapsed:?} for {count} sockets");
    }
    let waves = count.div_ceil(PER_SECOND).ilog2() as usize + 4;
    assert!(attempts <= count * waves, "{attempts} attempts");

    // Without `sync`, clients fetch the messages that were sent meanwhile, and later messages arrive.
    for couple in &couples {
        let sent = couple.users[0].send(&couple.chat, "after").await;
        sent.expect_status(201);
    }
    let expected = ["before", "during", "the storm", "after"];
    wait_for_all("show all messages", &couples, limit, |device, couple| {
        device.texts(&couple.chat) == expected
    })
    .await;
    for couple in &couples {
        for device in &couple.devices {
            device.wait_until_consistent().await;
        }
    }
}

/// Sends a message, again while the service is busy, as clients do.
async fn send_until_accepted(sender: &User, chat: &str, text: &str) {
    let key = text.replace(' ', "-");
    loop {
        let sent = sender.send_with_key(chat, &key, text).await;
        if sent.status < 300 {
            return;
        }
        sent.expect_retryable();
    }
}
