//! Users and their chats. Users are numbered from 0. A few are much more popular than the others, and a few have many
//! more chats.

use std::collections::HashSet;

use fastrand::Rng;

use super::{float, model::Model};

/// The maximum number of chats in which a user has an unread message at midnight.
const UNREAD_AT_MIDNIGHT: usize = 2;

/// The part of a chat's state that decides what its members can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The recipient has not accepted the request.
    Requested,
    /// Both can send messages.
    Open,
    /// One of them has blocked the other.
    Blocked,
}

/// A chat of two users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedChat {
    /// The requester and the recipient of the request.
    pub members: [usize; 2],
    /// Its state.
    pub status: Status,
    /// The numbers of unread messages of both members.
    pub unread: [u64; 2],
}

impl SimulatedChat {
    /// The other member.
    pub fn peer_of(&self, member: usize) -> usize {
        let [requester, recipient] = self.members;
        if member == requester {
            recipient
        } else {
            requester
        }
    }

    /// The number of unread messages of a member.
    pub fn unread_mut(&mut self, member: usize) -> &mut u64 {
        let [of_requester, of_recipient] = &mut self.unread;
        if member == self.members[0] {
            of_requester
        } else {
            of_recipient
        }
    }
}

/// Draws indexes with given probabilities.
pub struct Weights(Vec<f64>);

impl Weights {
    /// Index i gets a probability proportional to the weight i.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self(sums.collect())
    }

    /// Zipf's law: the weight of rank k, from 1 to `count`, is k to the power of minus `exponent`.
    pub fn zipf(count: usize, exponent: f64) -> Self {
        Self::new((1..=count).map(|rank| float(rank).powf(-exponent)))
    }

    /// A random index.
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let sum = self.0.last().copied().unwrap_or_default();
        let target = sum * rng.f64();
        let index = self.0.partition_point(|sum| *sum <= target);
        index.min(self.0.len().saturating_sub(1))
    }
}

/// The users of a simulation and their chats. Every user is active on the day.
pub struct Population {
    /// The chats, in the order in which they were added.
    pub chats: Vec<SimulatedChat>,
    /// The chats of each user.
    pub chats_of: Vec<Vec<usize>>,
    /// The users, the most popular one first.
    pub by_popularity: Vec<usize>,
    popularity: Weights,
    pairs: HashSet<[usize; 2]>,
}

impl Population {
    /// Creates users and chats.
    pub fn new(model: &Model, users: usize, rng: &mut Rng) -> Self {
        let mut by_popularity: Vec<_> = (0..users).collect();
        rng.shuffle(&mut by_popularity);
        let mut population = Self {
            chats: Vec::new(),
            chats_of: vec![Vec::new(); users],
            by_popularity,
            popularity: Weights::zipf(users, model.popularity_exponent),
            pairs: HashSet::new(),
        };
        let max_chats = model.max_requested_chats.min(users / 4).max(1);
        let counts = Weights::zipf(max_chats, model.chats_exponent);
        for user in 0..users {
            for _ in 0..=counts.draw(rng) {
                let peer = population.random_user(rng);
                population.add_chat(user, peer, Status::Open);
            }
        }
        for user in 0..users {
            for _ in 0..UNREAD_AT_MIDNIGHT {
                if let Some(chat) = rng.choice(&population.chats_of[user]) {
                    *population.chats[*chat].unread_mut(user) = 1;
                }
            }
        }
        population
    }

    /// A random user, by popularity.
    pub fn random_user(&self, rng: &mut Rng) -> usize {
        self.by_popularity[self.popularity.draw(rng)]
    }

    /// Adds a chat, unless the two users are the same or have one.
    pub fn add_chat(
        &mut self,
        requester: usize,
        recipient: usize,
        status: Status,
    ) -> Option<usize> {
        let pair = [requester.min(recipient), requester.max(recipient)];
        if requester == recipient || !self.pairs.insert(pair) {
            return None;
        }
        let chat = self.chats.len();
        self.chats.push(SimulatedChat {
            members: [requester, recipient],
            status,
            unread: [0, 0],
        });
        if status == Status::Open {
            self.list(chat);
        }
        Some(chat)
    }

    /// Opens a chat that was requested.
    pub fn accept(&mut self, chat: usize) {
        self.chats[chat].status = Status::Open;
        self.list(chat);
    }

    fn list(&mut self, chat: usize) {
        for member in self.chats[chat].members {
            self.chats_of[member].push(chat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_users_has_at_most_one_chat() {
        let mut rng = Rng::with_seed(1);
        let mut population = Population::new(&Model::DEFAULT, 100, &mut rng);
        let [requester, recipient] = population.chats[0].members;
        assert_eq!(
            population.add_chat(recipient, requester, Status::Open),
            None
        );
        assert_eq!(population.add_chat(7, 7, Status::Open), None);
        let listed: usize = population.chats_of.iter().map(Vec::len).sum();
        assert_eq!(listed, 2 * population.chats.len());
    }

    #[test]
    fn popular_users_have_more_chats() {
        let mut rng = Rng::with_seed(1);
        let population = Population::new(&Model::DEFAULT, 1_000, &mut rng);
        let chats = |users: &[usize]| -> usize {
            users
                .iter()
                .map(|user| population.chats_of[*user].len())
                .sum()
        };
        let (popular, others) = population.by_popularity.split_at(100);
        assert!(chats(popular) > chats(others) / 4);
    }

    #[test]
    fn indexes_are_drawn_in_proportion_to_their_weights() {
        let mut rng = Rng::with_seed(1);
        let weights = Weights::new([0.0, 3.0, 1.0]);
        let mut counts = [0; 3];
        for _ in 0..4_000 {
            counts[weights.draw(&mut rng)] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((2_900..3_100).contains(&counts[1]), "{counts:?}");
    }
}
