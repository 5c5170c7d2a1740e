//! How bad the network is.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

/// What happens to messages. Those between sides of a partition are always lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The shortest and the longest way of a message; it draws one between, so that later ones overtake earlier ones.
    pub delay: (Duration, Duration),
    /// The share of datagrams that are lost, 0 to 1. Connections repeat what is lost and only get slower.
    pub loss: f64,
    /// The share of datagrams that arrive twice, 0 to 1.
    pub duplicates: f64,
}

impl Default for Network {
    /// A local network: 0.2 to 2 ms, nothing lost.
    fn default() -> Self {
        Self {
            delay: (Duration::from_micros(200), Duration::from_millis(2)),
            loss: 0.0,
            duplicates: 0.0,
        }
    }
}

impl Network {
    /// A local network that loses this share of datagrams.
    pub fn losing(loss: f64) -> Self {
        Self {
            loss,
            ..Self::default()
        }
    }

    /// When copies of a datagram arrive: none, one or two.
    pub(super) fn datagram(&self, rng: &mut SmallRng) -> Vec<Duration> {
        let mut copies = Vec::with_capacity(2);
        if rng.random::<f64>() >= self.loss {
            copies.push(self.once(rng));
            if rng.random::<f64>() < self.duplicates {
                copies.push(self.once(rng));
            }
        }
        copies
    }

    /// How long a message over a connection takes: three ways for the handshake and itself, and a retransmission after 200 ms, doubling,
    /// for each loss.
    pub(super) fn stream(&self, rng: &mut SmallRng) -> Duration {
        let mut delay = self.once(rng) + self.once(rng) + self.once(rng);
        let mut wait = Duration::from_millis(200);
        while wait < Duration::from_secs(5) && rng.random::<f64>() < self.loss {
            delay += wait;
            wait *= 2;
        }
        delay
    }

    fn once(&self, rng: &mut SmallRng) -> Duration {
        let (least, most) = self.delay;
        least + (most.saturating_sub(least)).mul_f64(rng.random())
    }
}
