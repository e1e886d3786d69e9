//! How long the bytes of one client take: nothing here knows of HTTP.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use tokio::time::Instant;

use crate::guarded::Guarded;

/// What passes at once after a pause.
const BURST: usize = 64 * 1024;
/// Large chunks pass in pieces, so that connections take turns and bytes flow evenly.
const PIECE: usize = 64 * 1024;
/// How late a body may be and still catch up: what timers and a busy machine cost is not the network's.
const CATCH_UP: Duration = Duration::from_millis(50);

/// The network between one client and the regions, as the client's network interface sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// How long each answer is held back before its first byte, beside what the request itself takes.
    pub round_trip: Duration,
    /// The rate of all request bodies together, and also of all response bodies together; `None` is as fast as it goes.
    pub bits_per_second: Option<u64>,
    /// The region that the client is in: what it sends there and gets from there is neither delayed nor limited.
    pub near: Option<String>,
}

/// One direction of a network interface. Each piece is given a slot on it, after the slots that were given before.
#[derive(Debug)]
pub(crate) struct Pacer {
    bits_per_second: NonZeroU64,
    /// The end of the last slot.
    free: Guarded<Instant>,
}

impl Pacer {
    pub(crate) fn new(bits_per_second: NonZeroU64) -> Self {
        Self { bits_per_second, free: Guarded::new(Instant::now()) }
    }

    /// The body, each piece of it at the end of its slot. Nothing is read ahead of the piece that waits.
    pub(crate) fn pace<E>(
        self: Arc<Self>,
        sender: Sender,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> impl Stream<Item = Result<Bytes, E>> + Send
    where
        E: Send,
    {
        let lane = Lane { pacer: self, sender, body: Box::pin(body), rest: Bytes::new(), last: None };
        futures::stream::try_unfold(lane, async |mut lane| Ok(lane.next().await?.map(|piece| (piece, lane))))
    }

    /// The end of the slot of so many bytes. It starts when the last slot ended, but not longer ago than a burst takes, and
    /// `late` on top of it: time in which nobody sent anything is lost.
    fn reserve(&self, bytes: usize, now: Instant, late: Duration) -> Instant {
        let mut free = self.free.lock();
        let earliest = now.checked_sub(self.time(BURST) + late).unwrap_or(now);
        *free = (*free).max(earliest) + self.time(bytes);
        *free
    }

    fn time(&self, bytes: usize) -> Duration {
        let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits_per_second.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The client: while it has nothing to send, its network is idle.
    Client,
    /// This server: how long it reads a file is not the network's.
    Server,
}

/// A body on its way.
struct Lane<S> {
    pacer: Arc<Pacer>,
    sender: Sender,
    body: Pin<Box<S>>,
    rest: Bytes,
    /// The end of this body's last slot.
    last: Option<Instant>,
}

impl<E, S: Stream<Item = Result<Bytes, E>>> Lane<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, E> {
        // Who takes the pieces may be late, as a timer may: the network would have gone on in the meantime.
        let asked = Instant::now();
        while self.rest.is_empty() {
            match self.body.try_next().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        let now = Instant::now();
        let ready = match self.sender {
            Sender::Client => asked,
            Sender::Server => now,
        };
        let late = self.last.map_or(Duration::ZERO, |last| ready.saturating_duration_since(last).min(CATCH_UP));
        let end = self.pacer.reserve(piece.len(), now, late);
        if end > now {
            tokio::time::sleep_until(end).await;
        }
        self.last = Some(end);
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures::StreamExt as _;

    use super::*;

    const MIB: usize = 1024 * 1024;
    /// A MiB in a second.
    const RATE: NonZeroU64 = NonZeroU64::new(8 * MIB as u64).unwrap();

    fn body(chunks: usize, size: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        futures::stream::iter((0..chunks).map(move |_| Ok(Bytes::from(vec![0; size]))))
    }

    async fn read(body: impl Stream<Item = Result<Bytes, Infallible>>) -> usize {
        let mut body = pin!(body);
        let mut length = 0;
        while let Some(Ok(piece)) = body.next().await {
            assert!(piece.len() <= PIECE);
            length += piece.len();
        }
        length
    }

    /// Whether it took as long as so many bytes take, of which a burst may have come at once.
    fn assert_takes(elapsed: Duration, bytes: usize) {
        let (elapsed, exact) = (elapsed.as_millis(), bytes as u128 * 1000 / MIB as u128);
        // A timer's millisecond, and a burst of 62.5 ms.
        assert!((exact - 63..=exact + 2).contains(&elapsed), "{elapsed} ms are not {exact} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_as_long_as_its_bytes() {
        for (chunks, size) in [(10, MIB), (1, 10 * MIB), (2560, 4096)] {
            let pacer = Arc::new(Pacer::new(RATE));
            let started = Instant::now();
            assert_eq!(read(pacer.pace(Sender::Client, body(chunks, size))).await, 10 * MIB);
            assert_takes(started.elapsed(), 10 * MIB);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_rate_evenly() {
        let pacer = Arc::new(Pacer::new(RATE));
        let started = Instant::now();
        let timed = async |size: usize| {
            read(Arc::clone(&pacer).pace(Sender::Client, body(1, size))).await;
            started.elapsed()
        };
        let (small, large) = tokio::join!(timed(MIB), timed(3 * MIB));
        assert_takes(small, 2 * MIB);
        assert_takes(large, 4 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_a_burst() {
        let pacer = Arc::new(Pacer::new(RATE));
        tokio::time::sleep(Duration::from_mins(1)).await;
        let started = Instant::now();
        read(Arc::clone(&pacer).pace(Sender::Client, body(1, BURST))).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        read(pacer.pace(Sender::Client, body(1, MIB))).await;
        assert_takes(started.elapsed(), MIB + BURST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_within_a_body_is_lost_too() {
        let pacer = Arc::new(Pacer::new(RATE));
        let started = Instant::now();
        let late = futures::stream::once(async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(Bytes::from(vec![0; MIB]))
        });
        read(pacer.pace(Sender::Client, body(1, MIB).chain(late))).await;
        assert_takes(started.elapsed(), 10 * MIB + 2 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_file_costs_no_throughput() {
        let pacer = Arc::new(Pacer::new(RATE));
        let started = Instant::now();
        // A chunk takes 250 ms on the network, and another 40 ms until it is read.
        let file = futures::stream::unfold(0, async |chunk| {
            tokio::time::sleep(Duration::from_millis(40)).await;
            (chunk < 40).then(|| (Ok(Bytes::from(vec![0; MIB / 4])), chunk + 1))
        });
        read(pacer.pace(Sender::Server, file)).await;
        // The first chunk and the end are waited for.
        assert_takes(started.elapsed().saturating_sub(Duration::from_millis(80)), 10 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn late_timers_cost_no_throughput() {
        // A slot is shorter than a timer's millisecond, and each piece is fetched some milliseconds late.
        let fast = Pacer::new(RATE.saturating_mul(NonZeroU64::new(100).unwrap()));
        let started = Instant::now();
        let mut body = pin!(Arc::new(fast).pace(Sender::Client, body(1000, MIB)));
        let mut pieces = 0;
        while let Some(Ok(_)) = body.next().await {
            pieces += 1;
            if pieces % 100 == 0 {
                tokio::time::advance(Duration::from_millis(20)).await;
            }
        }
        assert_takes(started.elapsed() / 10, MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_ahead() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let chunks = futures::stream::unfold(receiver, async |mut receiver| {
            let chunk = receiver.recv().await?;
            Some((Ok::<_, Infallible>(chunk), receiver))
        });
        let mut paced = pin!(Arc::new(Pacer::new(RATE)).pace(Sender::Client, chunks));
        sender.send(Bytes::from(vec![0; MIB])).await.unwrap();
        paced.next().await.unwrap().unwrap();
        sender.try_send(Bytes::from(vec![0; MIB])).unwrap();
        // Fifteen pieces of the first chunk are left: the second stays where it is.
        for _ in 0..15 {
            paced.next().await.unwrap().unwrap();
            assert_eq!(sender.capacity(), 0);
        }
    }
}
