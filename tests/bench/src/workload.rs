//! What is measured: a table of workloads, who runs each, and what is aimed at.

use std::time::Duration;

use crate::image::Layer;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The bandwidth of one function's network interface as AWS documents it; where an aim names a round trip only, this too.
const FUNCTION: u64 = 625_000_000;

/// The longest that an invocation may take, as the module deploys CopyLayers.
const INVOCATION: Duration = Duration::from_mins(15);

/// The network between a client and a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    /// What each answer waits for.
    pub(crate) round_trip: Duration,
    /// The rate each way; as fast as it goes without one.
    pub(crate) bits_per_second: Option<u64>,
}

impl Network {
    /// No shape.
    const LOOPBACK: Self = Self { round_trip: Duration::ZERO, bits_per_second: None };

    const fn far(milliseconds: u64) -> Self {
        Self { round_trip: Duration::from_millis(milliseconds), bits_per_second: Some(FUNCTION) }
    }
}

/// What the targets have before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prior {
    /// An empty repository.
    Nothing,
    /// The image as it was before its last layer changed.
    Older,
    /// The image, tag and all.
    Same,
}

/// The functions in one setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ours {
    pub(crate) name: &'static str,
    /// `UPLOADS`.
    pub(crate) uploads: &'static str,
    /// `MAX_SHARDS`: so many CopyLayers there are for each target, each with an interface of its own.
    pub(crate) shards: usize,
    /// How often it is run, if that is another number than for the rest, then without a warm-up.
    pub(crate) runs: Option<usize>,
}

/// One function streams.
const ONE: Ours = Ours { name: "one function", uploads: "auto", shards: 1, runs: None };

/// As many functions as the plan chooses, at most as many as the module has by default.
const SHARDS: Ours = Ours { name: "functions as planned", uploads: "auto", shards: 4, runs: None };

/// One function sends parts.
const PARTS: Ours = Ours { name: "one function, by parts", uploads: "parts", shards: 1, runs: None };

/// What is aimed at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    /// By which of ours.
    pub(crate) ours: Ours,
    pub(crate) bound: Bound,
}

/// How an aim is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// At most so many times as long as each peer, whose copies to several targets follow one another.
    OfPeer(f64),
    /// At most so many times as long as each peer whose copies to several targets run side by side.
    OfPeerSideBySide(f64),
    /// At least such a share of the limit.
    OfLimit(f64),
    /// At least so many times as fast as another of ours.
    TimesAsFastAs(f64, Ours),
    /// No layer's byte is sent that the target has, and none twice.
    OnlyWhatIsMissing,
    /// Of each layer at most one part is sent twice.
    OnePartTwice,
    /// No process has more than 256 MiB in memory.
    Memory,
}

impl Bound {
    /// Whether it depends on how fast the machine is: what does not is an error when it is missed.
    pub(crate) fn is_of_time(self) -> bool {
        !matches!(self, Self::OnlyWhatIsMissing | Self::OnePartTwice | Self::Memory)
    }
}

/// A workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) title: &'static str,
    /// The sizes of the image's layers.
    pub(crate) layers: Vec<u64>,
    pub(crate) prior: Prior,
    pub(crate) targets: usize,
    pub(crate) network: Network,
    pub(crate) ours: Vec<Ours>,
    pub(crate) peers: bool,
    /// The time of an invocation.
    pub(crate) invocation: Duration,
    /// How often each is run, if that is another number than asked for, then without a warm-up.
    pub(crate) runs: Option<usize>,
    pub(crate) aims: Vec<Aim>,
}

impl Workload {
    /// A workload of one target that is empty, with peers.
    fn new(name: &'static str, title: &'static str, layers: Vec<u64>, network: Network) -> Self {
        Self {
            name,
            title,
            layers,
            prior: Prior::Nothing,
            targets: 1,
            network,
            ours: Vec::new(),
            peers: true,
            invocation: INVOCATION,
            runs: None,
            aims: Vec::new(),
        }
    }

    fn of(mut self, ours: Ours) -> Self {
        self.ours.push(ours);
        self
    }

    /// Another of ours, and what is aimed at with it.
    fn aims(mut self, ours: Ours, bounds: &[Bound]) -> Self {
        self.aims.extend(bounds.iter().map(|&bound| Aim { ours, bound }));
        self.of(ours)
    }

    /// An eighth of it, to see whether everything runs.
    pub(crate) fn quick(mut self) -> Self {
        for size in &mut self.layers {
            *size = (*size / 8).max(KIB);
        }
        if self.invocation < INVOCATION {
            self.invocation /= 4;
        }
        self
    }

    /// The round trips of a copy that nobody can do without.
    ///
    /// Where there is nothing to do: one, that asks for the tag's digest. Otherwise four, each of which waits for the one
    /// before: which blobs are missing; an upload begins; its bytes go with the request that ends it; the manifest with its
    /// tag. Layers, however many, wait side by side, and to sign in is not counted: who comes often has signed in.
    pub(crate) fn round_trips(&self) -> u32 {
        if self.prior == Prior::Same { 1 } else { 4 }
    }

    /// The blobs of `layers`, which stand for the image's, that a run has to send.
    pub(crate) fn missing<'a, T>(&self, layers: &'a [T]) -> &'a [T] {
        match self.prior {
            Prior::Nothing => layers,
            // The layer that changed, and the config.
            Prior::Older => &layers[layers.len().saturating_sub(2)..],
            Prior::Same => &[],
        }
    }

    pub(crate) fn image(&self) -> Vec<Layer> {
        crate::image::layers(&self.layers)
    }
}

/// Every workload, in the order in which they are run.
pub(crate) fn all() -> Vec<Workload> {
    let mixed: Vec<u64> = [320, 224, 160, 112, 80, 48, 32, 24, 12, 8, 3, 1].map(|size| size * MIB).to_vec();
    let one_layer = |name, title, milliseconds| {
        Workload::new(name, title, vec![2 * GIB], Network::far(milliseconds))
            .aims(ONE, &[Bound::OfPeer(1.0), Bound::OfLimit(0.9)])
            // A minute and more of which the median says no more than one run.
            .of(Ours { runs: Some(1), ..PARTS })
    };
    let thirty = |name, title, prior| {
        let workload = Workload::new(name, title, vec![8 * MIB; 30], Network::far(100));
        Workload { prior, ..workload }
    };
    vec![
        Workload::new("cold", "1 GiB, 12 layers of 1 to 320 MiB", mixed.clone(), Network::far(100))
            .aims(ONE, &[Bound::OfPeer(1.0), Bound::OfLimit(0.9)])
            .aims(SHARDS, &[Bound::OfPeer(0.6)]),
        Workload {
            targets: 5,
            ..Workload::new("targets", "the same to 5 targets", mixed, Network::far(100))
                .aims(SHARDS, &[Bound::OfPeer(0.25), Bound::OfPeerSideBySide(1.0)])
        },
        one_layer("layer-100", "one layer of 2 GiB", 100),
        one_layer("layer-220", "one layer of 2 GiB, farther", 220),
        Workload::new("small", "100 layers of 100 KiB", vec![100 * KIB; 100], Network::far(100))
            .aims(SHARDS, &[Bound::OfPeer(0.5)]),
        thirty("nothing", "nothing to do, 30 layers of 8 MiB", Prior::Same).aims(SHARDS, &[Bound::OfPeer(0.3)]),
        thirty("changed", "one of 30 layers of 8 MiB changed", Prior::Older)
            .aims(SHARDS, &[Bound::OfPeer(0.5), Bound::OnlyWhatIsMissing]),
        Workload {
            peers: false,
            ..Workload::new("shards", "4 GiB, 16 layers of 256 MiB", vec![256 * MIB; 16], Network::far(100))
                .of(ONE)
                .aims(SHARDS, &[Bound::TimesAsFastAs(3.0, ONE)])
        },
        Workload::new(
            "loopback",
            "4 GiB, 16 layers of 256 MiB, as fast as it goes",
            vec![256 * MIB; 16],
            Network::LOOPBACK,
        )
        .aims(ONE, &[Bound::Memory])
        .aims(PARTS, &[Bound::Memory]),
        Workload {
            peers: false,
            runs: Some(1),
            ..Workload::new("memory", "one layer of 10 GiB, as fast as it goes", vec![10 * GIB], Network::LOOPBACK)
                .aims(ONE, &[Bound::Memory])
                .aims(PARTS, &[Bound::Memory])
        },
        Workload {
            peers: false,
            runs: Some(1),
            invocation: Duration::from_secs(20),
            ..Workload::new("invocations", "6 GiB, 6 layers, invocations of 20 s", vec![GIB; 6], Network::LOOPBACK)
                .aims(ONE, &[Bound::Memory, Bound::OnePartTwice])
                .aims(PARTS, &[Bound::Memory, Bound::OnePartTwice])
        },
    ]
}
